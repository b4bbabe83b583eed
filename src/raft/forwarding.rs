//! Proposals asked of a node that does not lead: how a follower passes them on, and how the leader takes each
//! at most once and in order.
//!
//! A follower numbers its proposals without gaps, per (node, boot, term). It keeps each until the leader says
//! that it was taken, and sends again from the oldest when nothing was heard for a while. The leader of
//! exactly that term takes number n only after n - 1 and never twice. So a line that is lost, repeated or
//! late neither loses, doubles nor reorders a proposal. What the leader refused it says in each answer until
//! it knows that it was heard, since an answer may be lost like any other line. The leader's table is
//! volatile, which is enough: a node that restarts never leads that term again.

use super::message::Proposal;
use crate::types::RequestId;
use std::collections::{BTreeMap, VecDeque};

/// A node's proposals under way to the leader of the current term. A new term begins with a new one; a change
/// of role within the term does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct Forwarding {
    /// Not yet taken by the leader, oldest first. The first has the number `first_number`.
    pub waiting: VecDeque<Proposal>,
    first_number: u64,
    /// How many of `waiting` have been sent since the last progress or resend.
    sent: usize,
    waiting_bytes: usize,
    /// Ticks since the leader took anything or everything was sent again.
    pub stalled_ticks: u32,
}

impl Forwarding {
    /// Whether another proposal of this size may wait, under a limit in bytes.
    pub fn has_room(&self, max_bytes: usize) -> bool {
        self.waiting_bytes < max_bytes
    }

    /// Takes a proposal to be sent at the end of the batch.
    pub fn push(&mut self, proposal: Proposal) {
        self.waiting_bytes += proposal.size_bytes();
        self.waiting.push_back(proposal);
    }

    /// What to send now: the number of the first and the proposals, as many as fit `max_bytes` and at least
    /// one. None when all is sent.
    pub fn next_batch(&mut self, max_bytes: usize) -> Option<(u64, Vec<Proposal>)> {
        let mut bytes = 0;
        let fitting = self
            .waiting
            .iter()
            .skip(self.sent)
            .take_while(|proposal| {
                bytes += proposal.size_bytes();
                bytes <= max_bytes
            })
            .count();
        let unsent = self.waiting.len() - self.sent;
        let count = fitting.max(1).min(unsent);
        let first_number = self.first_number + self.sent as u64;
        let proposals: Vec<Proposal> = self.waiting.iter().skip(self.sent).take(count).cloned().collect();
        self.sent += count;
        (count > 0).then_some((first_number, proposals))
    }

    /// The leader has dealt with everything below `next_number`. Says what that speaks of for the first time:
    /// nothing, when the leader's word comes again.
    pub fn taken(&mut self, next_number: u64) -> Vec<RequestId> {
        let news = usize::try_from(next_number.saturating_sub(self.first_number)).unwrap_or(usize::MAX);
        let count = news.min(self.waiting.len());
        let taken: Vec<Proposal> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= taken.iter().map(Proposal::size_bytes).sum::<usize>();
        self.first_number += count as u64;
        self.sent = self.sent.saturating_sub(count);
        if count > 0 {
            self.stalled_ticks = 0;
        }
        taken.into_iter().map(|proposal| proposal.request).collect()
    }

    /// The leader's word on everything below this number was heard.
    pub fn heard(&self) -> u64 {
        self.first_number
    }

    /// Time passes. When nothing was taken for `resend_ticks`, everything is sent again, under its number.
    pub fn tick(&mut self, resend_ticks: u32) {
        if self.waiting.is_empty() {
            self.stalled_ticks = 0;
            return;
        }
        self.stalled_ticks += 1;
        if self.stalled_ticks >= resend_ticks {
            self.stalled_ticks = 0;
            self.sent = 0;
        }
    }
}

/// Refusals that one answer tells. A peer's line has room for them also where lines are short.
const MAX_REFUSALS_TOLD: usize = 500;

/// How far a leader has taken one follower's proposals, in its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct ForwardedFrom {
    /// The follower's start counter.
    pub boot: u64,
    /// The next number to take.
    pub next_number: u64,
    /// What was refused, by number, until the follower has heard of it. No more than what a follower may have
    /// under way.
    pub refused: BTreeMap<u64, RequestId>,
}

impl ForwardedFrom {
    /// That start of the follower has heard what became of everything below `number`.
    pub fn heard(&mut self, boot: u64, number: u64) {
        if boot == self.boot {
            self.refused = self.refused.split_off(&number);
        }
    }

    /// What the follower is to be told: everything below the number is appended, or among the refused, or was
    /// heard of. With more refused than one answer has room for, the number stays below the next of them, and
    /// the follower asks again.
    pub fn report(&self) -> (u64, Vec<RequestId>) {
        let told = self.refused.values().take(MAX_REFUSALS_TOLD).copied().collect();
        let next_refused = self.refused.keys().nth(MAX_REFUSALS_TOLD).copied();
        (next_refused.unwrap_or(self.next_number), told)
    }

    /// Of `proposals`, numbered from `first_number`, those that are to be dealt with now, in order and with
    /// their numbers: none that was before, nothing after a gap, nothing of an earlier start of that node.
    pub fn take(&mut self, boot: u64, first_number: u64, proposals: Vec<Proposal>) -> Vec<(u64, Proposal)> {
        if boot < self.boot {
            return Vec::new();
        }
        if boot > self.boot {
            *self = ForwardedFrom { boot, ..ForwardedFrom::default() };
        }
        if first_number > self.next_number {
            return Vec::new();
        }
        let seen = usize::try_from(self.next_number - first_number).unwrap_or(usize::MAX);
        let fresh: Vec<(u64, Proposal)> = (first_number..).zip(proposals).skip(seen).collect();
        self.next_number += fresh.len() as u64;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, NodeId};

    fn proposal(number: u64) -> Proposal {
        Proposal { request: RequestId { node: NodeId(2), boot: 1, number }, command: Command::noop() }
    }

    fn numbers(proposals: &[Proposal]) -> Vec<u64> {
        proposals.iter().map(|proposal| proposal.request.number).collect()
    }

    #[test]
    fn the_leader_takes_each_number_once_and_in_order() {
        let mut table = ForwardedFrom::default();
        let taken =
            |taken: Vec<(u64, Proposal)>| taken.into_iter().map(|(number, _)| number).collect::<Vec<_>>();
        let batch = |from: u64, to: u64| (from..to).map(proposal).collect::<Vec<_>>();
        assert_eq!(taken(table.take(1, 0, batch(0, 3))), [0, 1, 2]);
        assert_eq!(taken(table.take(1, 0, batch(0, 3))), Vec::<u64>::new(), "repeated");
        assert_eq!(taken(table.take(1, 4, batch(4, 6))), Vec::<u64>::new(), "3 is missing");
        assert_eq!(taken(table.take(1, 2, batch(2, 5))), [3, 4], "overlaps");
        assert_eq!(taken(table.take(2, 0, batch(0, 1))), [0], "the node started again");
        assert_eq!(taken(table.take(1, 5, batch(5, 6))), Vec::<u64>::new(), "a line of its earlier start");
        assert_eq!(table, ForwardedFrom { boot: 2, next_number: 1, ..ForwardedFrom::default() });
    }

    #[test]
    fn an_answer_tells_no_more_refusals_than_a_line_has_room_for_and_none_is_left_out() {
        let all = MAX_REFUSALS_TOLD as u64 + 2;
        let mut table = ForwardedFrom::default();
        let taken = table.take(1, 0, (0..all).map(proposal).collect());
        table.refused.extend(taken.into_iter().map(|(number, proposal)| (number, proposal.request)));
        let (next_number, told) = table.report();
        assert_eq!((next_number, told.len() as u64), (all - 2, all - 2));
        table.heard(1, next_number);
        assert_eq!(table.report(), (all, vec![proposal(all - 2).request, proposal(all - 1).request]));
        table.heard(1, all);
        assert_eq!(table.report(), (all, vec![]));
    }

    #[test]
    fn what_was_not_taken_is_sent_again_under_its_number() {
        let mut forwarding = Forwarding::default();
        (0..3).for_each(|number| forwarding.push(proposal(number)));
        let (first, sent) = forwarding.next_batch(usize::MAX).expect("three wait");
        assert_eq!((first, numbers(&sent)), (0, vec![0, 1, 2]));
        assert_eq!(forwarding.next_batch(usize::MAX), None);
        assert_eq!(forwarding.taken(1), [proposal(0).request]);
        assert_eq!(forwarding.taken(1), [], "repeated");
        forwarding.tick(2);
        assert_eq!(forwarding.next_batch(usize::MAX), None, "not yet");
        forwarding.tick(2);
        let (first, sent) = forwarding.next_batch(usize::MAX).expect("two were not taken");
        assert_eq!((first, numbers(&sent)), (1, vec![1, 2]));
    }

    #[test]
    fn only_progress_puts_the_next_try_off() {
        let mut forwarding = Forwarding::default();
        (0..2).for_each(|number| forwarding.push(proposal(number)));
        forwarding.next_batch(usize::MAX).expect("two wait");
        forwarding.tick(3);
        forwarding.tick(3);
        assert_eq!(forwarding.taken(1), [proposal(0).request]);
        forwarding.tick(3);
        forwarding.tick(3);
        assert_eq!(forwarding.next_batch(usize::MAX), None, "one was taken two ticks ago");
        assert_eq!(forwarding.taken(1), [], "no progress");
        forwarding.tick(3);
        assert_eq!(forwarding.next_batch(usize::MAX), Some((1, vec![proposal(1)])));
    }

    #[test]
    fn a_batch_respects_its_limit_and_carries_at_least_one() {
        let mut forwarding = Forwarding::default();
        (0..3).for_each(|number| forwarding.push(proposal(number)));
        let two = 2 * proposal(0).size_bytes();
        assert_eq!(forwarding.next_batch(two).map(|(first, sent)| (first, sent.len())), Some((0, 2)));
        assert_eq!(forwarding.next_batch(0).map(|(first, sent)| (first, sent.len())), Some((2, 1)));
        assert_eq!(forwarding.next_batch(two), None);
    }

    #[test]
    fn room_is_counted_in_bytes_and_comes_back() {
        let mut forwarding = Forwarding::default();
        assert!(forwarding.has_room(1));
        forwarding.push(proposal(0));
        let used = proposal(0).size_bytes();
        assert!(!forwarding.has_room(used) && forwarding.has_room(used + 1));
        assert_eq!(forwarding.taken(1), [proposal(0).request]);
        assert!(forwarding.has_room(1));
    }
}
