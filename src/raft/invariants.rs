//! What must hold after every step, and what may change in one: asserted in release too, because a node that
//! goes on with a broken promise does more harm than one that stops. Constant work a step, no copies of logs.
//!
//! What only a whole cluster can be asked (one leader a term, log matching between nodes) belongs to whoever
//! drives a whole cluster.

use super::role::{Role, RoleName};
use super::state::RaftState;
use crate::types::{EntryId, Index, NodeId, Term};

/// What the checks need to remember from before a step.
pub(super) struct Before {
    term: Term,
    voted_for: Option<NodeId>,
    role: RoleName,
    last: EntryId,
    committed: EntryId,
    last_applied: Index,
}

impl Before {
    /// Of the state as it is now.
    pub fn of(state: &RaftState) -> Before {
        Before {
            term: state.term,
            voted_for: state.voted_for,
            role: state.role(),
            last: state.log.last(),
            committed: state.committed(),
            last_applied: state.last_applied,
        }
    }
}

impl RaftState {
    fn committed(&self) -> EntryId {
        let term = self.log.term_at(self.commit_index);
        EntryId::new(
            term.unwrap_or_else(|| panic!("{self}: nothing stands at commit_index")),
            self.commit_index,
        )
    }

    pub(super) fn check_invariants(&self, before: &Before) {
        self.check_state();
        self.check_role();
        self.check_change(before);
    }

    fn check_state(&self) {
        let last = self.log.last();
        assert!(self.last_applied <= self.commit_index, "{self}: applied what is not committed");
        assert!(self.commit_index <= last.index, "{self}: committed what is not in the log");
        assert!(self.saved_index <= last.index, "{self}: saved {} beyond the log", self.saved_index);
        assert!(last.term <= self.term, "{self}: an entry of a term that has not begun");
    }

    fn check_role(&self) {
        match &self.role {
            Role::Follower(follower) => {
                assert_ne!(follower.leader, Some(self.id), "{self}: follows itself");
            }
            Role::Candidate(candidate) => {
                assert!(self.configuration.is_voter(self.id), "{self}: campaigns without a vote of its own");
                assert!(
                    candidate.pre_vote || self.voted_for == Some(self.id),
                    "{self}: a candidate voted for {:?}",
                    self.voted_for
                );
            }
            Role::Leader(leader) => {
                assert_eq!(self.voted_for, Some(self.id), "{self}: a leader votes for itself");
                let last = self.log.last().index;
                for (id, progress) in &leader.progress {
                    assert!(
                        progress.match_index < progress.next_index && progress.next_index <= last.next(),
                        "{self}: {id} has match={} next={}",
                        progress.match_index,
                        progress.next_index
                    );
                }
            }
        }
    }

    fn check_change(&self, before: &Before) {
        let same_term = self.term == before.term;
        assert!(self.term >= before.term, "{self}: the term fell from {}", before.term);
        assert!(
            !same_term || before.voted_for.is_none() || self.voted_for == before.voted_for,
            "{self}: a second vote in one term, {:?} after {:?}",
            self.voted_for,
            before.voted_for
        );
        assert!(self.commit_index >= before.committed.index, "{self}: commit_index fell");
        assert!(self.last_applied >= before.last_applied, "{self}: last_applied fell");
        assert!(
            self.log.contains(before.committed),
            "{self}: the committed entry {} is gone",
            before.committed
        );
        let role = self.role();
        let led_throughout = same_term && before.role == RoleName::Leader && role == RoleName::Leader;
        assert!(
            !led_throughout || self.log.contains(before.last),
            "{self}: a leader's log only grows, but {} is gone",
            before.last
        );
        let is_legal = match (before.role, role) {
            // A campaign begins with a pre-vote; in a cluster of one it is won within the same step.
            (RoleName::Follower, RoleName::Candidate) => false,
            (RoleName::Follower, RoleName::Leader) => self.term == before.term.next(),
            (RoleName::Leader, RoleName::PreCandidate | RoleName::Candidate) => false,
            (RoleName::PreCandidate, RoleName::Leader) => self.term == before.term.next(),
            (RoleName::Candidate, RoleName::Leader) => same_term,
            (RoleName::Candidate, RoleName::Candidate) => same_term,
            (RoleName::PreCandidate, _) | (_, RoleName::Follower | RoleName::PreCandidate) => true,
            (RoleName::Leader, RoleName::Leader) => same_term,
        };
        assert!(is_legal, "{self}: no way leads here from {}@{}", before.role, before.term);
    }
}
