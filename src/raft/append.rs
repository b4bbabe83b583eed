//! The receiver's side of AppendEntries (figure 2, paper 5.3): the consistency check, dropping what another
//! leader left, and following the leader's `commit_index`.

use super::message::{AppendEntries, AppendEntriesResponse, AppendOutcome, Body, Conflict};
use super::note::{Note, RoleReason};
use super::output::Output;
use super::role::Role;
use super::state::RaftState;
use crate::types::{Entry, EntryId, Index, NodeId, Term};

impl RaftState {
    pub(super) fn on_append_entries(
        &mut self,
        from: NodeId,
        term: Term,
        request: AppendEntries,
        output: &mut Output,
    ) {
        let AppendEntries { number, prev, entries, leader_commit, read_round } = request;
        // "Reply false if term < currentTerm" (figure 2); our term in the answer deposes the sender.
        let outcome = if term < self.term {
            AppendOutcome::Rejected { conflict: Conflict::OldTerm }
        } else {
            self.hear_leader(from, output);
            self.append_from_leader(from, prev, entries, leader_commit, output)
        };
        let response = AppendEntriesResponse { request_term: term, number, prev, read_round, outcome };
        output.after_save.push(self.message(from, Body::AppendEntriesResponse(response)));
    }

    /// Whoever sends AppendEntries in our term leads it: a candidate gives up, a follower starts its election
    /// timer again (paper 5.2).
    pub(super) fn hear_leader(&mut self, from: NodeId, output: &mut Output) {
        match &mut self.role {
            Role::Follower(follower) if follower.leader == Some(from) => follower.elapsed_ticks = 0,
            Role::Follower(follower) => {
                let known = follower.leader;
                assert_eq!(known, None, "{self}: two leaders in one term, {known:?} and {from}");
                self.become_follower(self.term, Some(from), None, RoleReason::LeaderKnown, output);
            }
            Role::Candidate(_) => {
                self.become_follower(self.term, Some(from), None, RoleReason::LeaderKnown, output);
            }
            Role::Leader(_) => panic!("{self}: two leaders in one term, this node and {from}"),
        }
    }

    fn append_from_leader(
        &mut self,
        leader: NodeId,
        prev: EntryId,
        entries: Vec<Entry>,
        leader_commit: Index,
        output: &mut Output,
    ) -> AppendOutcome {
        // "Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm".
        if !self.log.contains(prev) {
            let last = self.log.last();
            output.notes.push(Note::AppendRejected { prev, last, leader });
            return AppendOutcome::Rejected { conflict: self.conflict_at(prev.index) };
        }
        // What this message vouches for: `prev` and its own entries, and nothing that we may have after them,
        // which can be another leader's (FAULTS rows 13 and 17).
        let match_index = entries.last().map_or(prev.index, |entry| entry.index);
        for entry in entries {
            self.append_if_new(leader, entry, output);
        }
        // "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)".
        self.commit_up_to(leader_commit.min(match_index), output);
        AppendOutcome::Accepted { match_index }
    }

    /// "If an existing entry conflicts with a new one (same index but different terms), delete the existing
    /// entry and all that follow it; append any new entries not already in the log." Only a conflict deletes:
    /// an old or repeated message must not cut off what came after it (FAULTS row 15).
    fn append_if_new(&mut self, leader: NodeId, entry: Entry, output: &mut Output) {
        if self.log.contains(entry.id()) {
            return;
        }
        if entry.index <= self.log.last().index {
            self.truncate(leader, entry.id(), output);
        }
        self.note_configuration(&entry, output);
        self.log.append(entry.clone());
        output.save_entry(entry);
    }

    fn truncate(&mut self, leader: NodeId, replaced_by: EntryId, output: &mut Output) {
        let from = replaced_by.index;
        assert!(
            from > self.commit_index,
            "{self}: {leader} would replace a committed entry by {replaced_by}"
        );
        let first = EntryId::new(self.log.term_at(from).expect("it conflicts, so it is there"), from);
        output.notes.push(Note::Truncated { first, last: self.log.last(), replaced_by, leader });
        self.log.truncate(from);
        self.configurations.truncate(from);
        self.saved_index = self.saved_index.min(from.previous());
        output.save_truncation(from);
    }

    /// Where our log departs from the leader's, so that it finds the place in one round trip a term (5.3).
    fn conflict_at(&self, index: Index) -> Conflict {
        match self.log.term_at(index) {
            Some(term) => Conflict::OtherTerm { term, first: self.log.first_index_of_term(term) },
            None => Conflict::TooShort { last: self.log.last().index },
        }
    }

    /// Raises `commit_index`, never lowers it: an older message may know less than we do.
    pub(super) fn commit_up_to(&mut self, index: Index, output: &mut Output) {
        if index > self.commit_index {
            self.commit_index = index;
            output.notes.push(Note::Committed { index });
        }
    }
}
