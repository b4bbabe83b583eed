//! What this node is in its cluster, as its raft thread said last: for the threads of peers' connections,
//! which say it when they greet and hold against it what they hear.
//!
//! Its founding is compared with that of a peer for each line that comes. Without it a member of before a
//! `recover` or a `restore`, which knows another history under the same name, could talk this cluster out of
//! its own.

use super::ticket::Ticket;
use crate::node::Node;
use crate::raft::RaftState;
use crate::storage::{FileDisk, Storage};
use crate::types::{Configuration, Founding, NodeId, Term};
use crate::wire::peer::Hello;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// No founding has this number: the node has not learned yet who belongs to the cluster.
const UNKNOWN_FOUNDING: u64 = u64::MAX;
/// No life has this number: nothing that is committed names the node.
const NO_LIFE: u64 = 0;

/// The raft thread writes, all others read. Each part is right by itself, now or a moment ago.
#[derive(Clone)]
pub(super) struct Standing(Arc<Parts>);

struct Parts {
    term: AtomicU64,
    founding: AtomicU64,
    life: AtomicU64,
    has_lost_data: AtomicBool,
}

impl Standing {
    /// Of a node that starts.
    pub fn of(raft: &RaftState, storage: &Storage<FileDisk>) -> Standing {
        let standing = Standing(Arc::new(Parts {
            term: AtomicU64::new(raft.term().0),
            founding: AtomicU64::new(UNKNOWN_FOUNDING),
            life: AtomicU64::new(storage.life().unwrap_or(NO_LIFE)),
            has_lost_data: AtomicBool::new(storage.has_lost_data()),
        }));
        standing.learn_founding(raft.configuration());
        standing
    }

    /// A batch has ended.
    pub fn learn(&self, node: &Node<FileDisk, Ticket>) {
        self.learn_founding(node.raft().configuration());
        let Standing(parts) = self;
        parts.term.store(node.raft().term().0, Ordering::Relaxed);
        parts.life.store(node.life().unwrap_or(NO_LIFE), Ordering::Relaxed);
        parts.has_lost_data.store(node.has_lost_data(), Ordering::Relaxed);
    }

    fn learn_founding(&self, configuration: &Configuration) {
        if !configuration.voters.is_empty() {
            self.0.founding.store(configuration.founding.0, Ordering::Relaxed);
        }
    }

    /// Its term, an older one or the newest.
    pub fn term(&self) -> Term {
        Term(self.0.term.load(Ordering::Relaxed))
    }

    /// The founding of the cluster that it belongs to.
    pub fn founding(&self) -> Option<Founding> {
        let number = Some(self.0.founding.load(Ordering::Relaxed));
        number.filter(|number| *number != UNKNOWN_FOUNDING).map(Founding)
    }

    /// The number of the life by which what is committed names it.
    pub fn life(&self) -> Option<u64> {
        Some(self.0.life.load(Ordering::Relaxed)).filter(|life| *life != NO_LIFE)
    }

    /// What it says when it greets now.
    pub fn hello(&self, hello: &Hello) -> Hello {
        let has_lost_data = self.0.has_lost_data.load(Ordering::Relaxed);
        Hello { founding: self.founding(), life: self.life(), has_lost_data, ..hello.clone() }
    }

    /// Fails when the peer belongs to another founding. Who knows of none yet may belong to any.
    pub fn check_founding(&self, peer: NodeId, theirs: Option<Founding>) -> Result<(), String> {
        match (self.founding(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(format!(
                "{peer} belongs to the founding {theirs} of this cluster, and this node to {ours}: one of \
                 them is from before a restore or a recover, and its folder must be emptied before it joins \
                 again"
            )),
            (_, _) => Ok(()),
        }
    }
}
