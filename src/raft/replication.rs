//! A leader's work (figure 2 "Leaders", paper 5.3 and 5.4.2): appending, sending to each follower what it
//! lacks, hearing how far each got, and deciding what is committed.

use super::message::{AppendEntries, AppendEntriesResponse, AppendOutcome, Body, Conflict, ReadRound};
use super::note::Note;
use super::output::Output;
use super::progress::Progress;
use super::reads::ReadRounds;
use super::role::{Leader, Role};
use super::state::RaftState;
use crate::types::{Command, Entry, EntryId, Index, NodeId, RequestId, Term};

impl Leader {
    /// Of the current term, about to append its first entry.
    pub fn new(state: &RaftState) -> Leader {
        let last = state.log.last().index;
        Leader {
            first_index: last.next(),
            progress: state.recipients().into_iter().map(|id| (id, Progress::new(last))).collect(),
            heartbeat_ticks: 0,
            uncommitted_bytes: 0,
            forwarded: Default::default(),
            reads: ReadRounds::new(state.reads.ready),
            catch_up: Default::default(),
            transfer: None,
        }
    }
}

impl RaftState {
    pub(super) fn tick_leader(&mut self, output: &mut Output) {
        let heartbeat_ticks = self.settings.heartbeat_ticks;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.heartbeat_ticks += 1;
        let heartbeat_due = leader.heartbeat_ticks >= heartbeat_ticks;
        if heartbeat_due {
            leader.heartbeat_ticks = 0;
        }
        for progress in leader.progress.values_mut() {
            progress.silent_ticks = progress.silent_ticks.saturating_add(1);
            progress.heartbeat_due |= heartbeat_due;
        }
        self.tick_transfer(heartbeat_due, output);
        self.advance_members(output);
        self.step_down_without_quorum(output);
    }

    /// Appends an entry of this term. It counts for the commit rule only once it is saved.
    pub(super) fn append_as_leader(
        &mut self,
        request: Option<RequestId>,
        command: Command,
        output: &mut Output,
    ) {
        let entry = self.log.next_entry(self.term, request, command);
        self.append_entry_as_leader(entry, output);
    }

    pub(super) fn append_entry_as_leader(&mut self, entry: Entry, output: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { panic!("{self}: only a leader appends") };
        leader.uncommitted_bytes += entry.size_bytes();
        self.note_configuration(&entry, output);
        self.log.append(entry.clone());
        output.save_entry(entry);
    }

    /// What was saved is this node's own share of a majority. Only a sync raises it, also in a cluster of one
    /// (FAULTS row 23).
    pub(super) fn on_saved(&mut self, term: Term, last: EntryId, output: &mut Output) {
        if term != self.term || !self.log.contains(last) {
            return;
        }
        self.saved_index = self.saved_index.max(last.index);
        self.advance_commit(output);
    }

    pub(super) fn on_append_entries_response(
        &mut self,
        from: NodeId,
        response: AppendEntriesResponse,
        output: &mut Output,
    ) {
        let AppendEntriesResponse { request_term, number, prev, read_round, outcome } = response;
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        // An answer to an earlier term's request: its numbers and places are not ours (FAULTS row 27).
        if request_term != self.term {
            return;
        }
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        // All that was sent in this term followed a `prev` of this log, and a leader's log only grows. A
        // forged `prev` beyond its end would otherwise carry `next_index` there too.
        let was_sent = number <= progress.last_number
            && read_round.number <= progress.round_sent
            && self.log.contains(prev);
        if !was_sent {
            let why = "it answers what was never sent";
            output.notes.push(Note::Ignored { from, message: "AppendEntriesResponse", why });
            return;
        }
        progress.silent_ticks = 0;
        if read_round.term == self.term {
            progress.round_confirmed = progress.round_confirmed.max(read_round.number);
        }
        match outcome {
            AppendOutcome::Accepted { match_index } if match_index <= last => {
                progress.accepted(number, match_index);
                self.advance_commit(output);
            }
            AppendOutcome::Accepted { .. } => {
                let why = "it accepts what was never sent";
                output.notes.push(Note::Ignored { from, message: "AppendEntriesResponse", why });
            }
            AppendOutcome::Rejected { conflict } => {
                if progress.is_news(number, prev) {
                    let hint = next_index_after(&self.log, &conflict);
                    progress.rejected(prev, hint);
                    let next_index = progress.next_index;
                    output.notes.push(Note::SteppedBack { follower: from, prev, next_index });
                }
            }
        }
    }

    /// "If there exists an N such that N > commitIndex, a majority of `matchIndex[i]` >= N, and `log[N].term`
    /// == currentTerm: set commitIndex = N" (figure 2). The term matters: an older leader's entry on a
    /// majority can still be replaced (paper 5.4.2, figure 8; FAULTS row 12).
    pub(super) fn advance_commit(&mut self, output: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let own = self.saved_index;
        let matched = |id: NodeId| match leader.progress.get(&id) {
            Some(progress) => progress.match_index,
            None if id == self.id => own,
            None => Index::NONE,
        };
        let index = self.configurations.current().quorum_index(matched);
        if index <= self.commit_index || self.log.term_at(index) != Some(self.term) {
            return;
        }
        // What other leaders left was never counted.
        let counted_after = self.commit_index.max(leader.first_index.previous());
        let committed_bytes = committed_size(&self.log, counted_after, index);
        self.commit_up_to(index, output);
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes -= committed_bytes;
        }
    }

    /// Sends each follower what it lacks: entries as far as its window allows, and without entries the newest
    /// `commit_index`, the newest read round or a heartbeat when those are due.
    pub(super) fn replicate(&mut self, output: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { return };
        let round = ReadRound { term: self.term, number: leader.reads.started };
        for (peer, progress) in &mut leader.progress {
            if progress.next_index <= self.log.base().index {
                if let Some((request, wants_lines)) = progress.next_chunk(self.log.base(), round) {
                    let body = Body::InstallSnapshot(request);
                    let message = super::Message { from: self.id, to: *peer, term: self.term, body };
                    if wants_lines { &mut output.chunks_to_send } else { &mut output.now }.push(message);
                }
                continue;
            }
            while let Some(request) =
                next_append(progress, &self.log, self.commit_index, round, &self.settings)
            {
                let body = Body::AppendEntries(request);
                output.now.push(super::Message { from: self.id, to: *peer, term: self.term, body });
            }
        }
    }
}

/// The next AppendEntries for a follower, or none when it lacks nothing that may be sent now.
fn next_append(
    progress: &mut Progress,
    log: &super::Log,
    commit_index: Index,
    round: ReadRound,
    settings: &super::Settings,
) -> Option<AppendEntries> {
    let may_send = progress.may_send_entries(settings.max_in_flight_messages, settings.max_in_flight_bytes);
    let entries = if may_send {
        log.batch(progress.next_index, settings.max_append_entries, settings.max_append_bytes)
    } else {
        &[]
    };
    let prev_index = progress.next_index.previous();
    // A follower's commit_index goes no further than what it accepts. Before the logs are known to meet,
    // nothing can be said of that, and the probe's answer comes first.
    let knows_place = matches!(progress.pace, super::progress::Pace::Pipeline { .. });
    let commit_is_news = knows_place && commit_index.min(prev_index) > progress.commit_sent;
    let round_is_news = round.number > progress.round_sent;
    if entries.is_empty() && !progress.heartbeat_due && !commit_is_news && !round_is_news {
        return None;
    }
    let prev_term = log.term_at(prev_index).expect("a follower gets nothing from before the log's base");
    let last = entries.last().map_or(prev_index, |entry| entry.index);
    let request = AppendEntries {
        number: progress.last_number + 1,
        prev: EntryId::new(prev_term, prev_index),
        entries: entries.to_vec(),
        leader_commit: commit_index,
        read_round: round,
    };
    progress.last_number = request.number;
    progress.heartbeat_due = false;
    progress.round_sent = round.number;
    progress.commit_sent = progress.commit_sent.max(commit_index.min(last));
    progress.sent(last, size_bytes(&request.entries));
    Some(request)
}

/// Where the logs can meet at most, by a follower's hint (paper 5.3): after its last entry; or, where it has
/// another term, after our own last entry up to that term, but not before the term's first in its log.
fn next_index_after(log: &super::Log, conflict: &Conflict) -> Index {
    match conflict {
        Conflict::TooShort { last } => last.next(),
        Conflict::OtherTerm { term, first } => {
            let ours = log.last_up_to_term(*term);
            if ours.term == *term { ours.index.next() } else { *first }
        }
        // The answer's term is newer than ours: it has deposed this node before it got here.
        Conflict::OldTerm => log.last().index.next(),
    }
}

fn committed_size(log: &super::Log, from: Index, to: Index) -> usize {
    let count = usize::try_from(to.0 - from.0).expect("a commit moves forward");
    size_bytes(&log.after(from)[..count])
}

fn size_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(Entry::size_bytes).sum()
}
