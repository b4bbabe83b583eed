//! What an operator has asked of this node and waits for: a change of members, a transfer of the lead.

use crate::raft::{ChangeOutcome, ChangeRefusal, TransferRefusal};
use crate::types::{EntryId, Index, NodeId};
use std::collections::BTreeMap;

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nodes are to come or go.
    ChangeMembers(crate::raft::MemberChange),
    /// Another node is to lead: this one, or whichever is furthest.
    Transfer(Option<NodeId>),
    /// A snapshot, now.
    Snapshot,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperationOutcome {
    /// The first step of the change of members is committed, as this entry; whoever leads does the rest.
    ChangeBegun(EntryId),
    /// It was not begun.
    ChangeRefused(ChangeRefusal),
    /// It was not begun: this member runs a version that does not know such changes, or was not heard of
    /// since this node started.
    ChangeTooNew(NodeId),
    /// Its first step was replaced by another leader's entry: it never was.
    ChangeLost,
    /// Another node leads.
    Transferred(NodeId),
    /// The lead is not handed over.
    TransferRefused(TransferRefusal),
    /// The other node did not take over in time. This one leads on.
    TransferGivenUp,
    /// A snapshot covers the log up to here.
    SnapshotTaken(EntryId),
}

/// Operators that wait.
pub(super) struct Operations<T> {
    next_number: u64,
    /// Not yet told to the core, or without its word.
    asked: BTreeMap<u64, T>,
    /// With an entry that may be committed.
    appended: Vec<(EntryId, T)>,
    transfer: Option<T>,
}

impl<T> Operations<T> {
    pub fn new() -> Operations<T> {
        Operations { next_number: 0, asked: BTreeMap::new(), appended: Vec::new(), transfer: None }
    }

    /// Takes a wish for a change of members; its number goes to the core.
    pub fn ask(&mut self, ticket: T) -> u64 {
        self.next_number += 1;
        self.asked.insert(self.next_number, ticket);
        self.next_number
    }

    /// The core's word on a change of members. Returns who has the answer already.
    pub fn told(&mut self, number: u64, outcome: ChangeOutcome) -> Option<(T, OperationOutcome)> {
        let ticket = self.asked.remove(&number)?;
        match outcome {
            ChangeOutcome::Appended(entry) => {
                self.appended.push((entry, ticket));
                None
            }
            ChangeOutcome::Refused(why) => Some((ticket, OperationOutcome::ChangeRefused(why))),
        }
    }

    /// Those whose entry is committed, or never will be. `fate` says whether the entry stands in the
    /// committed part of the log (true), another one does (false), or neither yet.
    pub fn settled(&mut self, fate: impl Fn(EntryId) -> Option<bool>) -> Vec<(T, OperationOutcome)> {
        let mut settled = Vec::new();
        for (entry, ticket) in std::mem::take(&mut self.appended) {
            match fate(entry) {
                Some(true) => settled.push((ticket, OperationOutcome::ChangeBegun(entry))),
                Some(false) => settled.push((ticket, OperationOutcome::ChangeLost)),
                None => self.appended.push((entry, ticket)),
            }
        }
        settled
    }

    /// A snapshot took the place of all entries up to here: those that wait for one of them, of which no one
    /// can say any more whether it was committed.
    pub fn overtaken(&mut self, last: Index) -> Vec<T> {
        let waiting = std::mem::take(&mut self.appended).into_iter();
        let (gone, left): (Vec<_>, Vec<_>) = waiting.partition(|(entry, _)| entry.index <= last);
        self.appended = left;
        gone.into_iter().map(|(_, ticket)| ticket).collect()
    }

    /// Takes a wish for a transfer. Returns who waited for one so far.
    pub fn ask_transfer(&mut self, ticket: T) -> Option<T> {
        self.transfer.replace(ticket)
    }

    /// The transfer came to an end.
    pub fn take_transfer(&mut self) -> Option<T> {
        self.transfer.take()
    }
}
