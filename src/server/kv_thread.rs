//! The KV thread: the one owner of [`KvStore`]. It polls what is committed, applies it, answers the clients
//! that asked on this node, and polls again with its new `last_applied`. It has one poll outstanding, so that
//! the answer always has room, and never applies what it was not given.

use super::connection::Slot;
use super::status::StatusBoard;
use super::ticket::Ticket;
use crate::kv::{Applied, KvStore};
use crate::node::Work;
use crate::types::{AppliedState, Index};
use crate::wire::client::{Read, Response};
use crossbeam_channel::{Receiver, Sender, select};
use std::sync::Arc;

/// A poll: what is applied so far, and that more is wanted.
pub(super) struct Polled {
    pub last_applied: Index,
    /// The hash after each entry since the last poll.
    pub applied_hashes: Vec<u64>,
}

/// A read that its client wants at once, however old the answer.
pub(super) struct StaleRead {
    pub slot: Slot,
    pub read: Read,
}

/// Everything the thread owns.
pub(super) struct KvThread {
    pub store: KvStore,
    pub polls: Sender<Polled>,
    pub work: Receiver<Work<Ticket>>,
    pub stale_reads: Receiver<StaleRead>,
    pub board: Arc<StatusBoard>,
    /// The most that the items of one answer may take.
    pub max_answer_bytes: usize,
}

impl KvThread {
    /// Runs until an entry cannot be applied, or the raft thread is gone; says so.
    pub fn run(&mut self) -> String {
        if self.poll(Vec::new()).is_err() {
            return "the raft thread is gone".to_owned();
        }
        loop {
            select! {
                recv(self.work) -> work => {
                    let Ok(work) = work else { return "the raft thread is gone".to_owned() };
                    if let Err(fault) = self.do_work(work) {
                        return fault;
                    }
                }
                recv(self.stale_reads) -> stale => match stale {
                    Ok(StaleRead { slot, read }) => self.serve(&slot, &read),
                    Err(_) => return "no client can connect any more".to_owned(),
                },
            }
        }
    }

    fn do_work(&mut self, work: Work<Ticket>) -> Result<(), String> {
        let mut answers = Vec::new();
        let mut applied_hashes = Vec::with_capacity(work.entries.len());
        for (entry, ticket) in work.entries {
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
        self.poll(applied_hashes)?;
        for (ticket, answer) in answers {
            ticket.slot().answer(Response::Written(answer));
        }
        for ticket in work.reads {
            match ticket {
                Ticket::Read(slot, read) => self.serve(&slot, &read),
                Ticket::Write(_) => panic!("a write is answered with its entry, and never as a read"),
            }
        }
        Ok(())
    }

    fn applied(&self) -> AppliedState {
        AppliedState { last_applied: self.store.last_applied(), applied_hash: self.store.applied_hash() }
    }

    fn poll(&self, applied_hashes: Vec<u64>) -> Result<(), String> {
        let polled = Polled { last_applied: self.store.last_applied(), applied_hashes };
        self.polls.send(polled).map_err(|_| "the raft thread is gone".to_owned())
    }

    fn serve(&self, slot: &Slot, read: &Read) {
        let index = self.store.last_applied();
        let response = match read {
            Read::Get { key } => Response::Got { value: self.store.get(key).cloned(), index },
            Read::Scan { prefix, after, limit } => {
                let page = self.store.scan(prefix, after.as_deref(), *limit, self.max_answer_bytes);
                Response::Scanned { page, index }
            }
        };
        slot.answer(response);
    }
}
