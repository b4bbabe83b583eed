//! The KV thread: the one owner of [`KvStore`]. It polls what is committed, applies it, answers the clients
//! that asked on this node, and polls again with its new `last_applied`. It has one poll outstanding, so that
//! the answer always has room, and never applies what it was not given.

use super::connection::{Answers, Slot};
use super::snapshot_thread::SnapshotOrder;
use super::status::StatusBoard;
use super::ticket::Ticket;
use super::waking::{Bell, WakingSender};
use crate::kv::{Added, Applied, KvStore, StoreBuilder};
use crate::node::{Apply, Install, Work};
use crate::storage::{SnapshotMeta, StorageError};
use crate::types::{AppliedState, EntryId, Index};
use crate::wire::client::{Read, Response};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::sync::Arc;

/// Bytes of answers to stale reads before the thread looks whether entries wait.
const STALE_READS_SHARE_BYTES: usize = 64 * 1024;

/// What the raft thread hears of the application.
pub(super) enum FromApplication {
    /// What is applied so far, and that more is wanted.
    Poll {
        last_applied: Index,
        /// The hash after each entry since the last poll; of a snapshot only the one at its end.
        applied_hashes: Vec<u64>,
    },
    /// A snapshot is durable.
    SnapshotWritten { last: EntryId },
}

/// A read that its client wants at once, however old the answer.
pub(super) struct StaleRead {
    pub slot: Slot,
    pub read: Read,
}

/// Everything the thread owns.
pub(super) struct KvThread {
    pub bell: Bell,
    pub store: KvStore,
    pub polls: WakingSender<FromApplication>,
    pub snapshots: Sender<SnapshotOrder>,
    pub work: Receiver<Work<Ticket>>,
    pub stale_reads: Receiver<StaleRead>,
    pub board: Arc<StatusBoard>,
    pub answers: Answers,
    /// The most that the items of one answer may take.
    pub max_answer_bytes: usize,
}

impl KvThread {
    /// Runs until an entry cannot be applied, or the raft thread is gone; says so.
    pub fn run(&mut self) -> String {
        let first_hashes = match self.store.last_applied() {
            Index::NONE => Vec::new(),
            _ => vec![self.store.applied_hash()],
        };
        if self.poll(first_hashes).is_err() {
            return "the raft thread is gone".to_owned();
        }
        loop {
            self.bell.wait_until(None, || !(self.work.is_empty() && self.stale_reads.is_empty()));
            match self.work.try_recv() {
                Ok(work) => {
                    if let Err(fault) = self.do_work(work) {
                        return fault;
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return "the raft thread is gone".to_owned(),
            }
            self.serve_stale_reads();
        }
    }

    fn do_work(&mut self, work: Work<Ticket>) -> Result<(), String> {
        match work {
            Work::Apply(apply) => self.apply(apply),
            Work::Install(install) => self.install(install),
        }
    }

    fn apply(&mut self, apply: Apply<Ticket>) -> Result<(), String> {
        let Apply { entries, reads, snapshot } = apply;
        let mut answers = Vec::new();
        let mut applied_hashes = Vec::with_capacity(entries.len());
        for (entry, ticket) in entries {
            match self.store.apply(&entry) {
                Applied::Done(answer) => {
                    applied_hashes.push(self.store.applied_hash());
                    answers.extend(ticket.map(|ticket| (ticket, answer)));
                }
                // Applying it differently from the others would be worse than stopping here.
                Applied::Unknown { op } => {
                    let id = entry.id();
                    return Err(format!("entry {id} has the unknown op {op}: a newer version must run here"));
                }
            }
        }
        self.board.post_applied(self.applied());
        let order = snapshot
            .map(|configuration| SnapshotOrder::Write { view: Box::new(self.store.view()), configuration });
        self.poll(applied_hashes)?;
        // Not before the poll: the raft thread hears of the view before it can hear that it is written.
        if let Some(order) = order {
            self.snapshots.send(order).map_err(|_| "the thread for snapshots is gone".to_owned())?;
        }
        for (ticket, answer) in answers {
            match ticket {
                Ticket::Write(slot) => self.answers.add(&slot, Response::Written(answer)),
                Ticket::Read(..) | Ticket::Operation(_) | Ticket::Farewell(_) => {
                    panic!("only writes wait for entries")
                }
            }
        }
        for ticket in reads {
            match ticket {
                Ticket::Read(slot, read) => self.serve(&slot, &read),
                Ticket::Write(_) | Ticket::Operation(_) | Ticket::Farewell(_) => {
                    panic!("only reads are served from the store")
                }
            }
        }
        self.answers.send();
        Ok(())
    }

    /// Takes a snapshot in place of everything that was applied.
    fn install(&mut self, install: Install) -> Result<(), String> {
        let Install { meta, lines } = install;
        self.store = restore(&meta, lines)?;
        tracing::info!("applied: a snapshot up to {}", meta.last);
        self.board.post_applied(self.applied());
        self.poll(vec![self.store.applied_hash()])
    }

    fn applied(&self) -> AppliedState {
        AppliedState { last_applied: self.store.last_applied(), applied_hash: self.store.applied_hash() }
    }

    fn poll(&self, applied_hashes: Vec<u64>) -> Result<(), String> {
        let polled = FromApplication::Poll { last_applied: self.store.last_applied(), applied_hashes };
        self.polls.send(polled).map_err(|_| "the raft thread is gone".to_owned())
    }

    /// Serves a share of those that wait, and sends the answers.
    fn serve_stale_reads(&mut self) {
        while self.answers.bytes() < STALE_READS_SHARE_BYTES {
            let Ok(StaleRead { slot, read }) = self.stale_reads.try_recv() else { break };
            self.serve(&slot, &read);
        }
        self.answers.send();
    }

    fn serve(&mut self, slot: &Slot, read: &Read) {
        let index = self.store.last_applied();
        let response = match read {
            Read::Get { key } => Response::Got { value: self.store.get(key).cloned(), index },
            Read::Scan { prefix, after, limit } => {
                let page = self.store.scan(prefix, after.as_deref(), *limit, self.max_answer_bytes);
                Response::Scanned { page, index }
            }
        };
        self.answers.add(slot, response);
    }
}

/// The store that a snapshot describes. Fails when it cannot be read or does not say what a store can be.
pub(super) fn restore(
    meta: &SnapshotMeta,
    lines: impl Iterator<Item = Result<String, StorageError>>,
) -> Result<KvStore, String> {
    let mut builder = StoreBuilder::new(meta.last, meta.applied_hash);
    for line in lines {
        let line = line.map_err(|error| error.to_string())?;
        if let Added::Invalid { why } = builder.line(&line) {
            return Err(format!("the snapshot up to {} holds what no store can: {why}", meta.last));
        }
    }
    Ok(builder.finish())
}
