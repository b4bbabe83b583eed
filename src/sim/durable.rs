//! What a disk holds for good: the ledger's own record of it, made of what the node has saved, and held
//! against what `Storage::open` finds at each start.
//!
//! A log that was compacted says of what is gone only where it begins. What stood there is committed, and the
//! ledger keeps that: so a disk's whole log is what is committed up to its base, and then its entries.

use crate::raft::{HardState, RaftState};
use crate::types::{Entry, EntryId, Index};

/// Term and vote, and the log from its base on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Durable {
    pub hard_state: HardState,
    /// The entry before the first one.
    pub base: EntryId,
    pub log: Vec<Entry>,
}

impl Durable {
    pub fn nothing() -> Durable {
        Durable { hard_state: HardState::default(), base: EntryId::NONE, log: Vec::new() }
    }

    pub fn last(&self) -> EntryId {
        self.log.last().map_or(self.base, Entry::id)
    }

    /// Whether this entry is there. Whatever lies before the base is, if it is committed.
    pub fn contains(&self, id: EntryId) -> bool {
        match usize::try_from(id.index.0 - self.base.index.0) {
            Ok(0) => id == self.base,
            Ok(place) => self.log.get(place - 1).is_some_and(|entry| entry.term == id.term),
            Err(_) => true,
        }
    }

    /// The same as a start finds it when a snapshot up to `base` has become durable, and nothing more was
    /// done: of a log that lacks that entry nothing counts.
    pub fn restarted(&self, base: EntryId) -> Durable {
        let place = usize::try_from(base.index.0 - self.base.index.0).unwrap_or(0);
        let log = if self.contains(base) { self.log.get(place..).unwrap_or_default() } else { &[] };
        Durable { hard_state: self.hard_state, base, log: log.to_vec() }
    }

    /// Whether a start may find this where `self` was saved: the same, or with a later snapshot.
    pub fn may_be_found_as(&self, found: &Durable) -> bool {
        found.base.index >= self.base.index && *found == self.restarted(found.base)
    }

    /// Becomes what this core has in memory; says from where on entries are new.
    pub fn follow(&mut self, raft: &RaftState) -> Index {
        self.hard_state = HardState { term: raft.term(), voted_for: raft.voted_for() };
        if raft.log().base() != self.base {
            *self = self.restarted(raft.log().base());
        }
        while self.log.last().is_some_and(|last| raft.log().term_at(last.index) != Some(last.term)) {
            self.log.pop();
        }
        let new_from = self.last().index.next();
        self.log.extend_from_slice(raft.log().after(self.last().index));
        new_from
    }
}
