//! Writes of this node's clients, from their arrival until their fate is known.
//!
//! ```text
//!            oldest stamp: term 3        current term: 4
//!   +--------+--------+--------+--------+--------+
//!   | 3      | 3      | held   | held   | held   |
//!   +--------+--------+--------+--------+--------+
//!     numbers rise ->     ^ next_to_propose
//! ```
//!
//! A write is *held* until a leader is known, then proposed and *stamped* with that leader's term, then gone
//! from here: applied, refused, or out of time while it was held. Stamps never fall from left to right, and
//! everything from `next_to_propose` on is held. Two rules make that so, and keep the writes of a connection
//! in their order:
//!
//! - Writes are proposed in the order of their arrival, and none while an older one still bears the stamp of
//!   an earlier term: that one may yet be applied, or have to be proposed again, and must not be overtaken.
//! - When an entry of a term above a stamp is handed out for applying, what bears that stamp can never be
//!   applied any more (terms never fall along the log, and all that came before was looked at): it is held
//!   again, certainly not carried out so far.
//!
//! What is gone leaves nothing behind, whatever is still there before it: a write whose fate cannot be known
//! without a quorum may stay for as long as there is none.

use crate::types::{Command, Entry, RequestId, Term};
use std::collections::BTreeMap;

/// Bytes of commands that may wait. Twice what a leader may have uncommitted, so that a node with a leader is
/// limited there first, and this is for those that wait for one.
const MAX_WAITING_BYTES: usize = 128 * 1024 * 1024;

/// One waiting write.
struct Write<T> {
    command: Command,
    /// Who waits.
    ticket: T,
    /// None while it is held.
    stamp: Option<Term>,
    deadline_tick: u64,
}

/// All waiting writes of one start of a node.
pub(super) struct Writes<T> {
    /// By their numbers, which are given in the order of arrival.
    waiting: BTreeMap<u64, Write<T>>,
    waiting_bytes: usize,
    next_number: u64,
    next_to_propose: u64,
}

impl<T> Writes<T> {
    pub fn new() -> Writes<T> {
        Writes { waiting: BTreeMap::new(), waiting_bytes: 0, next_number: 0, next_to_propose: 0 }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether what waits is too large for more to wait.
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= MAX_WAITING_BYTES
    }

    /// Takes a new write, held.
    pub fn arrive(&mut self, command: Command, ticket: T, deadline_tick: u64) {
        self.waiting_bytes += command.text().len();
        self.waiting.insert(self.next_number, Write { command, ticket, stamp: None, deadline_tick });
        self.next_number += 1;
    }

    /// Whether writes may be proposed to the leader of `term`.
    pub fn may_propose(&self, term: Term) -> bool {
        self.oldest_stamp().is_none_or(|(_, stamp)| stamp >= term)
    }

    /// The next write to propose, while any [may be](Writes::may_propose).
    pub fn next_to_propose(&mut self) -> Option<(u64, Command)> {
        let (number, write) = self.waiting.range(self.next_to_propose..).next()?;
        self.next_to_propose = number + 1;
        Some((*number, write.command.clone()))
    }

    /// The write went to the leader of `term`.
    pub fn stamp(&mut self, number: u64, term: Term) {
        if let Some(write) = self.waiting.get_mut(&number) {
            write.stamp = Some(term);
        }
    }

    /// The write was not taken for want of a leader: it is held again, and so is all that came after it.
    pub fn hold(&mut self, number: u64) {
        if let Some(write) = self.waiting.get_mut(&number) {
            write.stamp = None;
            self.next_to_propose = self.next_to_propose.min(number);
        }
    }

    /// The write's fate is known. Returns who waits for it.
    pub fn resolve(&mut self, number: u64) -> Option<T> {
        let write = self.waiting.remove(&number)?;
        self.waiting_bytes -= write.command.text().len();
        Some(write.ticket)
    }

    /// An entry is handed out for applying: returns who waits for it, if it is `own`, and holds again what
    /// its term proves dead.
    pub fn hand_out(&mut self, entry: &Entry, own: impl Fn(&RequestId) -> bool) -> Option<T> {
        let ticket = entry.request.filter(own).and_then(|request| self.resolve(request.number));
        if let Some((number, stamp)) = self.oldest_stamp()
            && stamp < entry.term
        {
            self.hold_from(number);
        }
        ticket
    }

    /// A snapshot took the place of entries up to `term`: those that may have been among them, since they
    /// went to a leader of that term or an earlier one. Their answers are lost.
    pub fn overtaken(&mut self, term: Term) -> Vec<T> {
        let proposed = self.waiting.range(..self.next_to_propose);
        let overtaken = proposed.filter(|(_, write)| write.stamp.is_some_and(|stamp| stamp <= term));
        let numbers: Vec<u64> = overtaken.map(|(number, _)| *number).collect();
        numbers.into_iter().filter_map(|number| self.resolve(number)).collect()
    }

    /// Those held writes whose time is up: certainly not carried out.
    pub fn expire(&mut self, now_tick: u64) -> Vec<T> {
        let held = self.waiting.range(self.next_to_propose..);
        let due = held.take_while(|(_, write)| write.deadline_tick <= now_tick).map(|(number, _)| *number);
        let due: Vec<u64> = due.collect();
        due.into_iter().filter_map(|number| self.resolve(number)).collect()
    }

    /// The first write that bears a stamp, and the stamp.
    fn oldest_stamp(&self) -> Option<(u64, Term)> {
        let mut proposed = self.waiting.range(..self.next_to_propose);
        proposed.find_map(|(number, write)| Some((*number, write.stamp?)))
    }

    /// All from `number` on are held: by the first rule nothing after it can bear a newer stamp.
    fn hold_from(&mut self, number: u64) {
        for (_, write) in self.waiting.range_mut(number..) {
            write.stamp = None;
        }
        self.next_to_propose = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Index, NodeId};

    fn writes(count: u64) -> Writes<u64> {
        let mut writes = Writes::new();
        (0..count).for_each(|number| writes.arrive(Command::noop(), number, 100 + number));
        writes
    }

    fn propose_all(writes: &mut Writes<u64>, term: u64) -> Vec<u64> {
        let mut proposed = Vec::new();
        if !writes.may_propose(Term(term)) {
            return proposed;
        }
        while let Some((number, _)) = writes.next_to_propose() {
            writes.stamp(number, Term(term));
            proposed.push(number);
        }
        proposed
    }

    fn entry(term: u64, number: Option<u64>) -> Entry {
        let request = number.map(|number| RequestId { node: NodeId(1), boot: 1, number });
        Entry { term: Term(term), index: Index(0), request, command: Command::noop(), configuration: None }
    }

    #[test]
    fn a_write_is_answered_by_its_own_entry_and_once() {
        let mut writes = writes(3);
        assert_eq!(propose_all(&mut writes, 1), [0, 1, 2]);
        assert_eq!(writes.hand_out(&entry(1, Some(1)), |_| true), Some(1));
        assert_eq!(writes.hand_out(&entry(1, Some(1)), |_| true), None);
        assert_eq!(writes.hand_out(&entry(1, Some(0)), |request| request.boot == 2), None, "another boot's");
        assert_eq!(writes.waiting(), 2);
    }

    #[test]
    fn a_newer_write_waits_until_the_fate_of_an_older_terms_is_known() {
        let mut writes = writes(2);
        propose_all(&mut writes, 1);
        writes.arrive(Command::noop(), 2, 200);
        assert_eq!(propose_all(&mut writes, 2), Vec::<u64>::new(), "0 and 1 may still be applied");
        assert_eq!(writes.hand_out(&entry(1, Some(0)), |_| true), Some(0));
        assert_eq!(propose_all(&mut writes, 2), Vec::<u64>::new(), "1 may still be applied");
        assert_eq!(writes.hand_out(&entry(2, None), |_| true), None);
        assert_eq!(propose_all(&mut writes, 2), [1, 2], "1 is dead: proposed again, and in order");
    }

    #[test]
    fn an_entry_of_the_same_term_proves_nothing_dead() {
        let mut writes = writes(1);
        propose_all(&mut writes, 3);
        writes.hand_out(&entry(3, None), |_| true);
        assert_eq!(propose_all(&mut writes, 3), Vec::<u64>::new());
    }

    #[test]
    fn only_held_writes_expire() {
        let mut writes = writes(2);
        propose_all(&mut writes, 1);
        writes.arrive(Command::noop(), 2, 102);
        writes.arrive(Command::noop(), 3, 103);
        assert_eq!(writes.expire(102), [2], "0 and 1 may be carried out yet, 3 has time");
        assert_eq!(writes.expire(102), Vec::<u64>::new());
        writes.hand_out(&entry(2, None), |_| true);
        assert_eq!(writes.expire(102), [0, 1], "dead, and out of time");
        assert_eq!(propose_all(&mut writes, 2), [3]);
    }

    #[test]
    fn a_write_that_found_no_leader_is_proposed_again_before_what_came_after_it() {
        let mut writes = writes(3);
        assert_eq!(writes.next_to_propose().map(|(number, _)| number), Some(0));
        writes.stamp(0, Term(1));
        assert_eq!(writes.next_to_propose().map(|(number, _)| number), Some(1));
        writes.hold(1);
        assert_eq!(propose_all(&mut writes, 1), [1, 2]);
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind_also_after_a_write_whose_fate_stays_unknown() {
        let mut writes = writes(1);
        propose_all(&mut writes, 1);
        for number in 1..1000 {
            writes.arrive(Command::noop(), number, 100);
        }
        assert_eq!(writes.expire(100).len(), 999);
        assert_eq!((writes.waiting(), writes.waiting_bytes), (1, Command::noop().text().len()));
        assert_eq!(writes.resolve(0), Some(0));
        assert_eq!((writes.waiting(), writes.waiting_bytes), (0, 0));
    }

    #[test]
    fn more_bytes_than_may_wait_are_too_many_and_a_resolved_write_makes_room() {
        let mut writes = writes(0);
        let large =
            || Command::from_json(format!("\"{}\"", "v".repeat(MAX_WAITING_BYTES / 2))).expect("JSON");
        writes.arrive(large(), 0, 100);
        assert!(!writes.is_full());
        writes.arrive(large(), 1, 100);
        assert!(writes.is_full());
        assert_eq!(writes.resolve(0), Some(0));
        assert!(!writes.is_full());
    }
}
