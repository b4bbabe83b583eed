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
                assert!(self.may_campaign(), "{self}: campaigns without a vote of its own");
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
        let led = same_term && before.role == RoleName::Leader;
        assert!(
            !led || self.log.contains(before.last),
            "{self}: a leader's log only grows, but {} is gone",
            before.last
        );
        let is_legal = match (before.role, self.role()) {
            (_, RoleName::Follower) => true,
            (RoleName::Follower | RoleName::PreCandidate | RoleName::Candidate, RoleName::PreCandidate) => {
                same_term
            }
            (RoleName::Candidate, RoleName::Candidate | RoleName::Leader) => same_term,
            (RoleName::Leader, RoleName::Leader) => same_term,
            // In earnest a campaign raises the term. A cluster of one wins both of its votes within a step,
            // and a follower that the leader asks to campaign needs no pre-votes.
            (RoleName::PreCandidate, RoleName::Candidate)
            | (RoleName::Follower, RoleName::Candidate | RoleName::Leader) => self.term == before.term.next(),
            (RoleName::PreCandidate, RoleName::Leader) => false,
            (RoleName::Leader, RoleName::PreCandidate | RoleName::Candidate) => false,
        };
        assert!(is_legal, "{self}: no way leads here from {}@{}", before.role, before.term);
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::Configurations;
    use super::super::role::{Candidate, Follower, Leader};
    use super::super::state::tests::SETTINGS;
    use super::super::{Configuration, HardState, Log, Start};
    use super::*;
    use crate::types::{Command, Entry};
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn log(terms: &[u64]) -> Log {
        let entry = |(index, term): (i64, &u64)| Entry {
            configuration: None,
            term: Term(*term),
            index: Index(index),
            request: None,
            command: Command::noop(),
        };
        Log::new(EntryId::NONE, (0..).zip(terms).map(entry).collect())
    }

    /// Node 1 of three, in term 5, which it voted for itself in; two entries of three are committed.
    fn follower() -> RaftState {
        let start = Start {
            id: NodeId(1),
            boot: 1,
            configuration: Configuration::new([1, 2, 3].map(NodeId)),
            hard_state: HardState { term: Term(5), voted_for: Some(NodeId(1)) },
            log: log(&[1, 1, 2]),
            may_vote: true,
            seed: 1,
        };
        let mut state = RaftState::new(start, SETTINGS);
        (state.commit_index, state.last_applied) = (Index(1), Index(1));
        state
    }

    fn leader() -> RaftState {
        let mut state = follower();
        state.role = Role::Leader(Leader::new(&state));
        state
    }

    fn candidate(pre_vote: bool) -> RaftState {
        let (granted, refused) = (BTreeSet::new(), BTreeSet::new());
        let (leadership_transfer, elapsed_ticks, timeout_ticks) = (false, 0, 10);
        let role =
            Candidate { pre_vote, leadership_transfer, granted, refused, elapsed_ticks, timeout_ticks };
        let mut state = follower();
        state.role = Role::Candidate(role);
        state
    }

    /// What the checks say of a step from `before` to what `change` makes of it; nothing when all is well.
    fn violation(before: &RaftState, change: impl FnOnce(&mut RaftState)) -> String {
        let mut after = before.clone();
        change(&mut after);
        let check = || after.check_invariants(&Before::of(before));
        match catch_unwind(AssertUnwindSafe(check)) {
            Ok(()) => String::new(),
            Err(panic) => *panic.downcast::<String>().expect("a message with values in it"),
        }
    }

    #[track_caller]
    fn refused(before: &RaftState, change: impl FnOnce(&mut RaftState), why: &str) {
        let found = violation(before, change);
        assert!(found.contains(why), "expected \"{why}\", found \"{found}\"");
    }

    fn progress_of_2(state: &mut RaftState) -> &mut crate::raft::progress::Progress {
        let Role::Leader(leader) = &mut state.role else { panic!("it leads") };
        leader.progress.get_mut(&NodeId(2)).expect("a peer")
    }

    #[test]
    fn a_state_that_can_not_be_is_refused() {
        let state = follower();
        refused(&state, |state| state.last_applied = Index(2), "applied what is not committed");
        refused(&state, |state| state.commit_index = Index(3), "committed what is not in the log");
        refused(&state, |state| state.saved_index = Index(3), "saved 3 beyond the log");
        refused(&state, |state| state.term = Term(1), "an entry of a term that has not begun");
        let follows_itself = Role::Follower(Follower::new(Some(NodeId(1)), 0, 10));
        refused(&state, |state| state.role = follows_itself, "follows itself");
    }

    #[test]
    fn who_campaigns_or_leads_has_its_own_vote() {
        let without_a_vote = Configuration::new([2, 3].map(NodeId));
        let configurations = Configurations::of(without_a_vote, &log(&[]));
        let leaves = |state: &mut RaftState| state.configurations = configurations.clone();
        refused(&candidate(true), leaves, "campaigns without a vote of its own");
        let without_its_vote = |mut state: RaftState| {
            state.voted_for = None;
            state
        };
        refused(&without_its_vote(candidate(false)), |_| (), "a candidate voted for");
        refused(&without_its_vote(leader()), |_| (), "a leader votes for itself");
        assert_eq!(violation(&without_its_vote(candidate(true)), |_| ()), "", "it has not voted yet");
    }

    #[test]
    fn a_followers_next_entry_is_one_that_it_may_lack() {
        refused(&leader(), |state| progress_of_2(state).match_index = Index(3), "n2 has match=3 next=3");
        refused(&leader(), |state| progress_of_2(state).next_index = Index(4), "n2 has match=-1 next=4");
        assert_eq!(violation(&leader(), |state| progress_of_2(state).match_index = Index(2)), "");
    }

    #[test]
    fn nothing_goes_back() {
        let state = follower();
        refused(&state, |state| state.term = Term(4), "the term fell from 5");
        refused(&state, |state| state.voted_for = Some(NodeId(2)), "a second vote in one term");
        refused(&state, |state| state.voted_for = None, "a second vote in one term");
        refused(&state, |state| state.last_applied = Index(0), "last_applied fell");
        refused(&state, |state| state.log = log(&[1, 2, 2]), "the committed entry 1@1 is gone");
        let commit_fell = |state: &mut RaftState| {
            (state.commit_index, state.last_applied) = (Index(0), Index(0));
        };
        refused(&state, commit_fell, "commit_index fell");
        let newer = |state: &mut RaftState| (state.term, state.voted_for) = (Term(6), Some(NodeId(2)));
        assert_eq!(violation(&state, newer), "", "a new term has a new vote");
        assert_eq!(violation(&state, |state| state.log = log(&[1, 1, 5])), "", "another leader's entry");
    }

    #[test]
    fn a_leaders_log_only_grows() {
        let replaced = |state: &mut RaftState| state.log = log(&[1, 1, 5]);
        refused(&leader(), replaced, "a leader's log only grows, but 2@2 is gone");
        let deposed = |state: &mut RaftState| {
            (state.term, state.role) = (Term(6), follower().role);
            replaced(state);
        };
        assert_eq!(violation(&leader(), deposed), "", "it leads no more");
    }

    #[test]
    fn roles_follow_each_other_as_in_the_paper() {
        let states = [follower(), candidate(true), candidate(false), leader()];
        // By first letters: from role to role within a term, and into the next one.
        let in_same_term = ["ff fp", "pf pp", "cf cp cc cl", "lf ll"];
        let in_next_term = ["ff fc fl", "pf pc", "cf", "lf"];
        for (before, (same, next)) in states.iter().zip(in_same_term.into_iter().zip(in_next_term)) {
            for after in &states {
                for (term, legal) in [(Term(5), same), (Term(6), next)] {
                    let word = |state: &RaftState| state.role().word().get(..1).expect("a letter").to_owned();
                    let way = word(before) + &word(after);
                    let changed = |state: &mut RaftState| {
                        *state = after.clone();
                        state.term = term;
                    };
                    let found = violation(before, changed);
                    assert_eq!(legal.contains(&way), found.is_empty(), "{way} to {term}: {found}");
                }
            }
        }
    }
}
