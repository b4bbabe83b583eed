//! Snapshots beside the node: a view of a store becomes a file, in steps between which everything else goes
//! on, crashes included; and a file becomes a store again.

use super::Checked;
use super::faults::FaultClass;
use super::machine::CLUSTER;
use super::world::{Happening, World};
use crate::kv::{Added, KvStore, StoreBuilder, StoreView};
use crate::node::Event;
use crate::storage::{DiskFault, MemoryDisk, SnapshotMeta, SnapshotWriter, StorageError};
use crate::types::{Configuration, EntryId, NodeId};
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The most lines that one step writes.
const LINES_A_STEP: usize = 8;

/// A snapshot on its way to the disk.
pub(super) enum Writing {
    /// The view is taken.
    Begun { view: StoreView, configuration: Configuration },
    /// The file is there as a draft, and these lines are to come.
    Lines { writer: SnapshotWriter<MemoryDisk>, lines: VecDeque<String>, last: EntryId },
}

/// What a store holds, as far as two stores of the same entries must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Restored {
    pub last: EntryId,
    pub applied_hash: u64,
    /// A hash over all its lines: the running hash only says what it should hold.
    pub digest: u64,
}

impl Restored {
    pub fn of(view: &StoreView) -> Restored {
        let head = view.head();
        let digest = view.lines().fold(0, |hash, line| xxh3_64_with_seed(line.as_bytes(), hash));
        Restored { last: head.last, applied_hash: head.applied_hash, digest }
    }
}

/// Why a snapshot does not become a store.
#[derive(Debug)]
pub(super) enum Unreadable {
    Storage(StorageError),
    Invalid(String),
}

/// The store that a snapshot describes.
pub(super) fn restore(
    meta: &SnapshotMeta,
    lines: impl Iterator<Item = Result<String, StorageError>>,
) -> Result<(KvStore, Restored), Unreadable> {
    let mut builder = StoreBuilder::new(meta.last, meta.applied_hash);
    for line in lines {
        let line = line.map_err(Unreadable::Storage)?;
        if let Added::Invalid { why } = builder.line(&line) {
            return Err(Unreadable::Invalid(why));
        }
    }
    let store = builder.finish();
    let restored = Restored::of(&store.view());
    Ok((store, restored))
}

impl Writing {
    /// The next step; with the last one, what is durable now.
    fn step(self, disk: MemoryDisk, count: usize) -> Result<(Option<Writing>, Option<EntryId>), DiskFault> {
        match self {
            Writing::Begun { view, configuration } => {
                let head = view.head();
                let meta = SnapshotMeta { last: head.last, applied_hash: head.applied_hash, configuration };
                let writer = SnapshotWriter::begin(disk, CLUSTER, &meta, head.lines)?;
                let (lines, last) = (view.lines().collect(), head.last);
                Ok((Some(Writing::Lines { writer, lines, last }), None))
            }
            Writing::Lines { writer, lines, last } if lines.is_empty() => {
                writer.finish()?;
                Ok((None, Some(last)))
            }
            Writing::Lines { mut writer, mut lines, last } => {
                for line in lines.drain(..count.min(lines.len())) {
                    writer.write(&line)?;
                }
                Ok((Some(Writing::Lines { writer, lines, last }), None))
            }
        }
    }
}

impl World {
    /// The application hands out a view of its store, to be written.
    pub fn take_view(&mut self, id: NodeId, configuration: Configuration) -> Checked {
        let Some(machine) = self.machines.get_mut(&id) else { return Ok(()) };
        let life = machine.life;
        let Some(process) = &mut machine.process else { return Ok(()) };
        assert!(process.writing.is_none(), "{id}: two snapshots at once");
        let view = process.store.view();
        let seen = Restored::of(&view);
        process.writing = Some(Writing::Begun { view, configuration });
        self.sometimes.saw("snapshot taken");
        self.ledger.stands_for(id, seen)?;
        self.next_step_of_writing(id, life);
        Ok(())
    }

    fn next_step_of_writing(&mut self, id: NodeId, life: u64) {
        let mut chance = self.pace(id);
        let usual_ms = chance.u64(0..=20);
        let delay_ms = self.weather.strikes(FaultClass::SlowDisk, &[id], &mut chance).unwrap_or(usual_ms);
        self.after(delay_ms, Happening::WriteSnapshot { node: id, life });
    }

    /// The writer takes its next step.
    pub fn on_write_snapshot(&mut self, id: NodeId, life: u64) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else { return };
        if machine.is_paused {
            self.after(20, Happening::WriteSnapshot { node: id, life });
            return;
        }
        let disk = machine.disk.clone();
        let writing = machine.process.as_mut().and_then(|process| process.writing.take());
        let Some(writing) = writing else { return };
        let count = self.pace(id).usize(1..=LINES_A_STEP);
        self.arm_snapshot(id);
        match writing.step(disk, count) {
            Ok((writing @ Some(_), _)) => {
                if let Some(process) = self.process(id) {
                    process.writing = writing;
                }
                self.next_step_of_writing(id, life);
            }
            Ok((None, last)) => {
                self.sometimes.saw("snapshot written");
                if let Some((process, last)) = self.process(id).zip(last) {
                    process.application_inbox.push_back(Event::SnapshotWritten { last });
                    self.tell(|| format!("{id} has written the snapshot up to {last}"));
                }
                self.wake(id);
            }
            Err(fault) => {
                self.sometimes.saw("died while a snapshot was written");
                self.end_by_disk(id, &fault.to_string());
            }
        }
    }
}
