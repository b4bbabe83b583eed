//! Writes of this node's clients, from their arrival until their fate is known.
//!
//! ```text
//!            oldest stamp: term 3                 current term: 4
//!   +--------+--------+--------+--------+--------+--------+--------+
//!   | gone   | 3      | gone   | 3      | held   | held   | held   |
//!   +--------+--------+--------+--------+--------+--------+--------+
//!     numbers rise ->                     ^ next_to_propose
//! ```
//!
//! A write is *held* until a leader is known, then proposed and *stamped* with that leader's term, then
//! *gone*: applied, or refused. Stamps never fall from left to right, and everything from `next_to_propose`
//! on is held or gone. Two rules make that so, and keep the writes of a connection in their order:
//!
//! - Writes are proposed in the order of their arrival, and none while an older one still bears the stamp of
//!   an earlier term: that one may yet be applied, or have to be proposed again, and must not be overtaken.
//! - When an entry of a term above a stamp is handed out for applying, what bears that stamp can never be
//!   applied any more (terms never fall along the log, and all that came before was looked at): it is held
//!   again, certainly not carried out so far.

use crate::types::{Command, Entry, RequestId, Term};
use std::collections::VecDeque;

/// One waiting write.
struct Write<T> {
    command: Command,
    /// Who waits; none once it is gone.
    ticket: Option<T>,
    /// None while it is held.
    stamp: Option<Term>,
    deadline_tick: u64,
}

/// All waiting writes of one start of a node.
pub(super) struct Writes<T> {
    queue: VecDeque<Write<T>>,
    /// The number of the queue's first write.
    first_number: u64,
    next_to_propose: u64,
    waiting: usize,
}

impl<T> Writes<T> {
    pub fn new() -> Writes<T> {
        Writes { queue: VecDeque::new(), first_number: 0, next_to_propose: 0, waiting: 0 }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a new write, held.
    pub fn arrive(&mut self, command: Command, ticket: T, deadline_tick: u64) {
        self.waiting += 1;
        self.queue.push_back(Write { command, ticket: Some(ticket), stamp: None, deadline_tick });
    }

    /// The next write to propose to the leader of `term`, if one may be.
    pub fn next_to_propose(&mut self, term: Term) -> Option<(u64, Command)> {
        if self.oldest_stamp().is_some_and(|stamp| stamp < term) {
            return None;
        }
        loop {
            let number = self.next_to_propose;
            let write = self.queue.get(self.offset(number)?)?;
            self.next_to_propose += 1;
            if write.ticket.is_some() {
                return Some((number, write.command.clone()));
            }
        }
    }

    /// The write went to the leader of `term`.
    pub fn stamp(&mut self, number: u64, term: Term) {
        if let Some(write) = self.get_mut(number) {
            write.stamp = Some(term);
        }
    }

    /// The write was not taken for want of a leader: it is held again, and so is all that came after it.
    pub fn hold(&mut self, number: u64) {
        if let Some(write) = self.get_mut(number) {
            write.stamp = None;
            self.next_to_propose = self.next_to_propose.min(number);
        }
    }

    /// The write's fate is known. Returns who waits for it.
    pub fn resolve(&mut self, number: u64) -> Option<T> {
        let ticket = self.get_mut(number)?.ticket.take()?;
        self.waiting -= 1;
        self.forget_gone();
        Some(ticket)
    }

    /// An entry is handed out for applying: returns who waits for it, if it is `own`, and holds again what its
    /// term proves dead.
    pub fn hand_out(&mut self, entry: &Entry, own: impl Fn(&RequestId) -> bool) -> Option<T> {
        let ticket = entry.request.filter(own).and_then(|request| self.resolve(request.number));
        if let Some(number) = self.dead_before(entry.term) {
            self.hold_from(number);
        }
        ticket
    }

    /// Those held writes whose time is up: certainly not carried out.
    pub fn expire(&mut self, now_tick: u64) -> Vec<T> {
        let mut expired = Vec::new();
        let from = self.offset(self.next_to_propose).unwrap_or(0).min(self.queue.len());
        for write in self.queue.range_mut(from..) {
            if write.deadline_tick > now_tick {
                break;
            }
            expired.extend(write.ticket.take());
        }
        self.waiting -= expired.len();
        self.forget_gone();
        expired
    }

    fn oldest_stamp(&self) -> Option<Term> {
        let proposed = self.offset(self.next_to_propose).unwrap_or(0);
        let mut oldest = self.queue.iter().take(proposed).filter(|write| write.ticket.is_some());
        oldest.find_map(|write| write.stamp)
    }

    fn dead_before(&self, term: Term) -> Option<u64> {
        self.oldest_stamp().filter(|stamp| *stamp < term)?;
        let offset = self.queue.iter().position(|write| write.ticket.is_some() && write.stamp.is_some())?;
        Some(self.first_number + offset as u64)
    }

    /// All from `number` on are held: by the first rule nothing after it can bear a newer stamp.
    fn hold_from(&mut self, number: u64) {
        let from = self.offset(number).unwrap_or(0);
        for write in self.queue.range_mut(from..) {
            write.stamp = None;
        }
        self.next_to_propose = number;
    }

    /// Gone writes at the front make room; their numbers are never used again.
    fn forget_gone(&mut self) {
        while self.queue.front().is_some_and(|write| write.ticket.is_none()) {
            self.queue.pop_front();
            self.first_number += 1;
        }
        self.next_to_propose = self.next_to_propose.max(self.first_number);
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Write<T>> {
        let offset = self.offset(number)?;
        self.queue.get_mut(offset)
    }

    fn offset(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first_number)?).ok()
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
        while let Some((number, _)) = writes.next_to_propose(Term(term)) {
            writes.stamp(number, Term(term));
            proposed.push(number);
        }
        proposed
    }

    fn entry(term: u64, number: Option<u64>) -> Entry {
        let request = number.map(|number| RequestId { node: NodeId(1), boot: 1, number });
        Entry { term: Term(term), index: Index(0), request, command: Command::noop() }
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
        assert_eq!(writes.next_to_propose(Term(1)).map(|(number, _)| number), Some(0));
        writes.stamp(0, Term(1));
        assert_eq!(writes.next_to_propose(Term(1)).map(|(number, _)| number), Some(1));
        writes.hold(1);
        assert_eq!(propose_all(&mut writes, 1), [1, 2]);
    }
}
