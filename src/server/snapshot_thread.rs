//! The thread that writes snapshots: a view of the store, which costs the KV thread next to nothing, becomes
//! a file beside the log. No save and no answer waits for it.

use super::kv_thread::FromApplication;
use super::waking::WakingSender;
use crate::kv::StoreView;
use crate::storage::{Disk, FileDisk, SnapshotMeta, SnapshotWriter};
use crate::types::{Configuration, Entry, EntryId};
use crossbeam_channel::Receiver;
use std::time::Instant;

/// What is to be done.
pub(super) enum SnapshotOrder {
    /// This is to be written.
    Write {
        view: Box<StoreView>,
        /// Who belonged to the cluster at the view's last entry.
        configuration: Configuration,
    },
    /// Nobody needs these any more, and to drop many takes longer than anybody should wait.
    Drop(Vec<Entry>),
}

/// Everything the thread owns.
pub(super) struct SnapshotThread {
    pub cluster: String,
    /// A handle of its own to the node's folder, opened anew for each snapshot.
    pub disk: FileDisk,
    pub orders: Receiver<SnapshotOrder>,
    pub done: WakingSender<FromApplication>,
}

impl SnapshotThread {
    /// Runs until a snapshot cannot be written, or the KV thread is gone; says so.
    pub fn run(&mut self) -> String {
        while let Ok(order) = self.orders.recv() {
            let (view, configuration) = match order {
                SnapshotOrder::Write { view, configuration } => (view, configuration),
                SnapshotOrder::Drop(entries) => {
                    drop(entries);
                    continue;
                }
            };
            match self.write(&view, configuration) {
                Ok(last) => {
                    if self.done.send(FromApplication::SnapshotWritten { last }).is_err() {
                        return "the raft thread is gone".to_owned();
                    }
                }
                Err(fault) => return fault,
            }
        }
        "the kv thread is gone".to_owned()
    }

    fn write(&mut self, view: &StoreView, configuration: Configuration) -> Result<EntryId, String> {
        let begun = Instant::now();
        let head = view.head();
        let meta = SnapshotMeta { last: head.last, applied_hash: head.applied_hash, configuration };
        let write = || {
            let disk = self.disk.another_handle()?;
            let mut writer = SnapshotWriter::begin(disk, &self.cluster, &meta, head.lines)?;
            view.lines().try_for_each(|line| writer.write(&line))?;
            writer.finish()
        };
        let bytes = write().map_err(|fault: crate::storage::DiskFault| fault.to_string())?;
        let took_ms = begun.elapsed().as_millis();
        tracing::info!(bytes, lines = head.lines, took_ms, "snapshot up to {} is durable", head.last);
        Ok(head.last)
    }
}
