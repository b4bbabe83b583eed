//! `RaftState`: figure 2's "State", the rules for all servers, and the only places where a role begins.

use super::configuration::Configuration;
use super::forwarding::Forwarding;
use super::invariants::Before;
use super::log::Log;
use super::membership::{Configurations, MemberChange};
use super::message::{Body, Message};
use super::note::{Note, RoleReason, TermReason};
use super::output::{HardState, Output};
use super::random::Random;
use super::reads::LocalReads;
use super::role::{Candidate, Follower, Leader, Role, RoleName};
use super::snapshot::Incoming;
use crate::types::{Command, EntryId, Incarnation, Index, NodeId, RequestId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A unit of time has passed.
    Tick,
    /// A peer's message arrived.
    Message(Message),
    /// A client of this node wants this appended.
    Propose {
        /// Who waits for it.
        request: RequestId,
        /// What to append.
        command: Command,
    },
    /// Clients of this node want to read. Numbers rise from 1; the answer to a number speaks for all before.
    Read {
        /// The newest read's number.
        number: u64,
    },
    /// An operator of this node wants members changed. The answer carries the number.
    ChangeMembers {
        /// Which of this node's requests it is.
        request: u64,
        /// What is wanted.
        change: MemberChange,
    },
    /// The lead is to be handed over.
    Transfer {
        /// To whom; otherwise to whoever is furthest.
        heir: Option<NodeId>,
    },
    /// A snapshot of this node's application is durable.
    Compacted {
        /// The last entry that it covers.
        last: EntryId,
    },
    /// A whole snapshot of the leader is there ([`Output::chunks`]), verified and durable.
    SnapshotReceived {
        /// The last entry that it covers.
        last: EntryId,
        /// The configuration that was in force there.
        configuration: Configuration,
    },
    /// What was received as a whole snapshot is none.
    SnapshotRefused,
    /// A node that has joined, or has lost its data, belongs to the cluster: its log says so.
    AllowVote,
    /// This node has joined, and asked for nothing so far; from now on it may, and this is the start counter
    /// by which its requests are told apart.
    BeginLife {
        /// Of a life that no other node has.
        boot: u64,
    },
    /// It is certain that a peer has left, which was known by this number: another may come under its name.
    Left {
        /// The peer.
        peer: NodeId,
        /// What it has shown.
        incarnation: Incarnation,
    },
    /// The random number of a peer's folder is on this node's disk, and what it is told by from now on; or
    /// this is the node's own.
    Remembered {
        /// Which.
        peer: NodeId,
        /// The number of its folder.
        incarnation: Incarnation,
    },
    /// This node has met another, and knows by which random number it can be told from others of its name.
    Met {
        /// Which.
        peer: NodeId,
        /// The number of its folder.
        incarnation: Incarnation,
    },
    /// The application has applied everything up to here.
    Applied {
        /// Its `last_applied`.
        index: Index,
    },
    /// Everything in the outputs so far is on stable storage.
    Saved {
        /// This node's term at the time of the save. An older one is ignored: what it saved may have been
        /// replaced since (FAULTS row 46).
        term: Term,
        /// The last entry of the log then.
        last: EntryId,
    },
    /// The batch ends: send what there is to send. Comes after every batch of other inputs.
    BatchEnd,
}

/// Limits and times.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// An election timeout is drawn from here to `election_timeout_max_ticks`.
    pub election_timeout_min_ticks: u32,
    /// The longest election timeout; also how long a leader goes without a quorum's answers.
    pub election_timeout_max_ticks: u32,
    /// Entries in one AppendEntries.
    pub max_append_entries: usize,
    /// Bytes in one AppendEntries or ForwardProposals, unless a single entry is larger.
    pub max_append_bytes: usize,
    /// Unanswered AppendEntries with entries to one follower.
    pub max_in_flight_messages: usize,
    /// Bytes in them.
    pub max_in_flight_bytes: usize,
    /// A leader refuses proposals with more than this uncommitted.
    pub max_uncommitted_bytes: usize,
    /// A follower refuses proposals with more than this under way to the leader.
    pub max_forwarded_bytes: usize,
}

/// What a node starts with: from its disk, or empty.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who it is.
    pub id: NodeId,
    /// Its durable start counter.
    pub boot: u64,
    /// Who belonged to the cluster where the log begins.
    pub configuration: Configuration,
    /// The saved term and vote.
    pub hard_state: HardState,
    /// The saved log.
    pub log: Log,
    /// Whether it may vote: not when it has joined, or has lost its data, and no entry of its log has named
    /// it as the one that it is: what its log says so far of who votes may speak of another under its number.
    pub may_vote: bool,
    /// Where the election timeouts come from.
    pub seed: u64,
}

/// One node's part in the consensus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RaftState {
    pub(super) id: NodeId,
    pub(super) boot: u64,
    pub(super) configurations: Configurations,
    /// See [`Start::may_vote`].
    pub(super) may_vote: bool,
    /// The incarnation that each peer has shown last.
    pub(super) met: BTreeMap<NodeId, Incarnation>,
    /// The incarnation that each peer has shown first since it last left the cluster, in this start or an
    /// earlier one; and this node's own.
    pub(super) remembered: BTreeMap<NodeId, Incarnation>,
    pub(super) settings: Settings,
    pub(super) random: Random,
    /// `currentTerm` of figure 2. Changes only together with `voted_for`, in `become_*`.
    pub(super) term: Term,
    /// `votedFor` of figure 2.
    pub(super) voted_for: Option<NodeId>,
    pub(super) role: Role,
    pub(super) log: Log,
    /// The log's entries up to here are on this node's disk.
    pub(super) saved_index: Index,
    pub(super) commit_index: Index,
    pub(super) last_applied: Index,
    /// Proposals under way to the leader of this term. Belongs to the term and not to the role: their numbers
    /// go on when a follower becomes a pre-candidate and a follower again, of the same leader.
    pub(super) forwarding: Forwarding,
    pub(super) reads: LocalReads,
    /// A snapshot that a leader is sending.
    pub(super) incoming: Option<Incoming>,
}

/// What a leader knows of a follower, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// The follower.
    pub id: NodeId,
    /// Its log equals the leader's up to here.
    pub match_index: Index,
    /// What it gets next.
    pub next_index: Index,
}

impl RaftState {
    /// A node as it comes up: a follower that knows no leader. `commit_index` and `last_applied` are volatile
    /// (figure 2) and start at the log's base.
    pub fn new(start: Start, settings: Settings) -> RaftState {
        let base = start.log.first_index().previous();
        let mut random = Random::new(start.seed);
        let follower = Follower::new(None, 0, draw_timeout(&mut random, &settings));
        RaftState {
            id: start.id,
            boot: start.boot,
            configurations: Configurations::of(start.configuration, &start.log),
            may_vote: start.may_vote,
            met: BTreeMap::new(),
            remembered: BTreeMap::new(),
            settings,
            random,
            term: start.hard_state.term,
            voted_for: start.hard_state.voted_for,
            role: Role::Follower(follower),
            saved_index: start.log.last().index,
            log: start.log,
            commit_index: base,
            last_applied: base,
            forwarding: Forwarding::default(),
            reads: LocalReads::default(),
            incoming: None,
        }
    }

    /// Takes one input and adds to `output` what must happen. The caller ends each batch with
    /// [`Input::BatchEnd`], carries the output out, and only then goes on.
    pub fn step(&mut self, input: Input, output: &mut Output) {
        let before = Before::of(self);
        match input {
            Input::Tick => self.on_tick(output),
            Input::Message(message) => self.on_message(message, output),
            Input::Propose { request, command } => self.on_propose(request, command, output),
            Input::Read { number } => self.reads.newest = self.reads.newest.max(number),
            Input::ChangeMembers { request, change } => self.on_change_members(request, change, output),
            Input::Transfer { heir } => self.on_transfer(heir, output),
            Input::Compacted { last } => self.on_compacted(last, output),
            Input::SnapshotReceived { last, configuration } => {
                self.on_snapshot_received(last, configuration, output);
            }
            Input::SnapshotRefused => self.on_snapshot_refused(),
            Input::AllowVote => self.may_vote = true,
            Input::BeginLife { boot } => self.boot = boot,
            Input::Remembered { peer, incarnation } => {
                self.remembered.insert(peer, incarnation);
            }
            Input::Met { peer, incarnation } => {
                self.met.insert(peer, incarnation);
            }
            Input::Left { peer, incarnation } => {
                self.met.retain(|id, met| *id != peer || *met != incarnation);
                self.remembered.remove(&peer);
            }
            Input::Applied { index } => self.last_applied = index,
            Input::Saved { term, last } => self.on_saved(term, last, output),
            Input::BatchEnd => self.on_batch_end(output),
        }
        self.check_invariants(&before);
    }

    fn on_tick(&mut self, output: &mut Output) {
        match &mut self.role {
            Role::Follower(_) => self.tick_follower(output),
            Role::Candidate(_) => self.tick_candidate(output),
            Role::Leader(_) => self.tick_leader(output),
        }
    }

    fn on_batch_end(&mut self, output: &mut Output) {
        match &mut self.role {
            Role::Follower(_) => {
                self.forward(output);
                self.ask_for_reads(output);
            }
            // A candidate's vote requests left with its campaign; it has nothing else to say.
            Role::Candidate(_) => {}
            Role::Leader(_) => {
                self.start_read_round();
                self.release_reads(output);
                // The only voter leads in the batch of its campaign. What it appends goes before the save,
                // and must not go before its term is saved: after a crash it would lead that term once more,
                // with other entries of the same ids. The batch end after the save sends it.
                if output.hard_state.is_none() {
                    self.replicate(output);
                }
                self.tell_heir(output);
            }
        }
    }

    fn on_message(&mut self, message: Message, output: &mut Output) {
        self.follow_newer_term(&message, output);
        let Message { from, term, body, .. } = message;
        match body {
            Body::RequestVote(request) => self.on_request_vote(from, request, output),
            Body::RequestVoteResponse(response) => self.on_request_vote_response(from, response, output),
            Body::AppendEntries(request) => self.on_append_entries(from, term, request, output),
            Body::AppendEntriesResponse(response) => self.on_append_entries_response(from, response, output),
            Body::InstallSnapshot(request) => self.on_install_snapshot(from, term, request, output),
            Body::InstallSnapshotResponse(response) => {
                self.on_install_snapshot_response(from, response, output);
            }
            Body::TimeoutNow(_) => self.on_timeout_now(from, term, output),
            Body::ForwardProposals(request) => self.on_forward_proposals(from, term, request, output),
            Body::ForwardProposalsResponse(response) => self.on_forward_response(response, output),
            Body::ReadIndexRequest(request) => self.on_read_index_request(from, request),
            Body::ReadIndexResponse(response) => self.on_read_index_response(response, output),
        }
    }

    /// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower"
    /// (figure 2), in this one place for every message and every role, with two exceptions, both of vote
    /// requests: a pre-vote is a question without consequences (thesis 9.6), and a candidate does not depose
    /// a leader that is alive (thesis 4.2.3), unless that leader asked for it.
    fn follow_newer_term(&mut self, message: &Message, output: &mut Output) {
        if message.term <= self.term {
            return;
        }
        if let Body::RequestVote(request) = &message.body {
            let leader_stays = self.live_leader().is_some() && !request.leadership_transfer;
            if request.pre_vote || leader_stays {
                return;
            }
        }
        let reason = TermReason::Message { from: message.from, name: message.body.name() };
        self.become_follower(message.term, None, Some(reason), RoleReason::NewTerm, output);
    }

    /// Becomes a follower of `term`: this one, or a newer one with a reason. In the same term the vote stays
    /// what it is (FAULTS row 6b). The election timer goes on where it was, unless a leader made itself known
    /// or this node led: a term alone is no reason to wait longer (paper 5.2).
    pub(super) fn become_follower(
        &mut self,
        term: Term,
        leader: Option<NodeId>,
        term_reason: Option<TermReason>,
        reason: RoleReason,
        output: &mut Output,
    ) {
        if let Some(why) = term_reason {
            output.notes.push(Note::TermChanged { from: self.term, to: term, why });
            self.set_term(term, None, output);
        }
        let elapsed_ticks = match &self.role {
            Role::Follower(follower) if leader.is_none() => follower.elapsed_ticks,
            Role::Candidate(candidate) if leader.is_none() => candidate.elapsed_ticks,
            Role::Follower(_) | Role::Candidate(_) | Role::Leader(_) => 0,
        };
        let timeout_ticks = draw_timeout(&mut self.random, &self.settings);
        self.note_role(RoleName::Follower, reason, output);
        if let Some(leader) = leader {
            output.notes.push(Note::LeaderKnown { leader });
        }
        self.role = Role::Follower(Follower::new(leader, elapsed_ticks, timeout_ticks));
    }

    /// Begins a campaign. A pre-vote changes neither term nor vote; in earnest, the node raises its term and
    /// votes for itself (paper 5.2).
    pub(super) fn become_candidate(&mut self, pre_vote: bool, reason: RoleReason, output: &mut Output) {
        let to = if pre_vote { RoleName::PreCandidate } else { RoleName::Candidate };
        if !pre_vote {
            let (from, to) = (self.term, self.term.next());
            output.notes.push(Note::TermChanged { from, to, why: TermReason::Campaign });
            self.set_term(to, Some(self.id), output);
        }
        self.note_role(to, reason, output);
        self.role = Role::Candidate(Candidate {
            pre_vote,
            leadership_transfer: false,
            granted: BTreeSet::from([self.id]),
            refused: BTreeSet::new(),
            elapsed_ticks: 0,
            timeout_ticks: draw_timeout(&mut self.random, &self.settings),
        });
    }

    /// Takes the lead of the current term and appends the no-op with which it learns what is committed
    /// (paper section 8).
    pub(super) fn become_leader(&mut self, output: &mut Output) {
        let Role::Candidate(candidate) = &self.role else {
            panic!("{self}: only a candidate can become leader");
        };
        let by = candidate.granted.iter().copied().collect();
        self.note_role(RoleName::Leader, RoleReason::VotesWon { by }, output);
        self.role = Role::Leader(Leader::new(self));
        self.append_as_leader(None, Command::noop(), output);
    }

    fn set_term(&mut self, term: Term, voted_for: Option<NodeId>, output: &mut Output) {
        assert!(term > self.term, "{self}: a term only rises, not to {term}");
        self.term = term;
        self.voted_for = voted_for;
        self.forwarding = Forwarding::default();
        self.save_hard_state(output);
    }

    pub(super) fn save_hard_state(&self, output: &mut Output) {
        output.hard_state = Some(HardState { term: self.term, voted_for: self.voted_for });
    }

    fn note_role(&self, to: RoleName, why: RoleReason, output: &mut Output) {
        let from = self.role.name();
        let restarted_campaign = to == RoleName::PreCandidate;
        if from != to || restarted_campaign {
            output.notes.push(Note::RoleChanged { from, to, why });
        }
    }

    /// Messages to everyone else carry who sends and in which term.
    pub(super) fn message(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id, to, term: self.term, body }
    }

    /// The other voters.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.configurations.current().voters().filter(|id| *id != self.id)
    }

    /// The leader that this node has reason to believe alive: itself, or one heard of within the shortest
    /// election timeout. Judged by time and not by a remembered name (FAULTS row 10): a campaigning node has
    /// given up on its leader.
    pub(super) fn live_leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => {
                follower.leader.filter(|_| follower.elapsed_ticks < self.settings.election_timeout_min_ticks)
            }
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.id),
        }
    }

    /// Who this node is.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The newest term this node has seen.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom it voted for in that term.
    pub fn voted_for(&self) -> Option<NodeId> {
        self.voted_for
    }

    /// What it is in that term.
    pub fn role(&self) -> RoleName {
        self.role.name()
    }

    /// Who leads the current term, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.id),
        }
    }

    /// The highest index known to be committed; -1 before the first.
    pub fn commit_index(&self) -> Index {
        self.commit_index
    }

    /// The highest index that the application says it has applied; never above `commit_index`.
    pub fn last_applied(&self) -> Index {
        self.last_applied
    }

    /// The entries up to here are on this node's disk.
    pub fn saved_index(&self) -> Index {
        self.saved_index
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Limits and times.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who belongs to the cluster, by the newest entry of this node's log that says so, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.configurations.current()
    }

    /// The same, shared.
    pub fn shared_configuration(&self) -> Arc<Configuration> {
        self.configurations.shared()
    }

    /// The newest configuration that is committed, as far as this node knows.
    pub fn committed_configuration(&self) -> &Configuration {
        self.configurations.at(self.commit_index)
    }

    /// The peers that this node has met in this start, and by which incarnation each can be told.
    pub fn met(&self) -> &BTreeMap<NodeId, Incarnation> {
        &self.met
    }

    /// Whether a follower is being sent a snapshot.
    pub fn is_sending_snapshot(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let patience_ticks = self.settings.election_timeout_max_ticks;
        leader.progress.values().any(|progress| {
            let is_behind = matches!(progress.pace, super::progress::Pace::Snapshot { .. });
            is_behind && progress.silent_ticks < patience_ticks
        })
    }

    /// Where that entry stands; none when the log begins under this configuration.
    pub fn configuration_index(&self) -> Index {
        self.configurations.current_index()
    }

    /// Who belonged to the cluster at an index that the log has or begins after.
    pub fn configuration_at(&self, index: Index) -> &Configuration {
        self.configurations.at(index)
    }

    /// What a leader knows of the others, in order of their ids; empty when this node does not lead.
    pub fn progress(&self) -> Vec<PeerProgress> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let view = |(id, progress): (&NodeId, &super::progress::Progress)| PeerProgress {
            id: *id,
            match_index: progress.match_index,
            next_index: progress.next_index,
        };
        leader.progress.iter().map(view).collect()
    }
}

fn draw_timeout(random: &mut Random, settings: &Settings) -> u32 {
    random.between(settings.election_timeout_min_ticks, settings.election_timeout_max_ticks)
}

impl fmt::Display for RaftState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RaftState { id, term, commit_index, last_applied, .. } = self;
        write!(f, "{id}@{term} {} last={}", self.role(), self.log.last())?;
        write!(f, " commit={commit_index} applied={last_applied}")
    }
}

/// Nodes for the tests of the core's modules, and tests of what a state tells of itself.
#[cfg(test)]
pub(super) mod tests {
    use super::super::message::{AppendEntriesResponse, AppendOutcome, RequestVoteResponse};
    use super::super::progress::Pace;
    use super::*;

    /// Times of a few ticks, and limits that no test meets by chance.
    pub const SETTINGS: Settings = Settings {
        heartbeat_ticks: 3,
        election_timeout_min_ticks: 10,
        election_timeout_max_ticks: 20,
        max_append_entries: 100,
        max_append_bytes: 1 << 20,
        max_in_flight_messages: 8,
        max_in_flight_bytes: 1 << 20,
        max_uncommitted_bytes: 1 << 20,
        max_forwarded_bytes: 1 << 20,
    };

    /// Node 1 with these voters, which has just started for the seventh time.
    pub fn started(voters: &[u16], may_vote: bool) -> RaftState {
        let start = Start {
            id: NodeId(1),
            boot: 7,
            configuration: Configuration::new(voters.iter().copied().map(NodeId)),
            may_vote,
            hard_state: HardState::default(),
            log: Log::new(EntryId::NONE, Vec::new()),
            seed: 1,
        };
        RaftState::new(start, SETTINGS)
    }

    /// A batch of this one input, saved.
    pub fn step(state: &mut RaftState, input: Input) -> Output {
        let mut output = Output::default();
        state.step(input, &mut output);
        let (term, last) = (state.term(), state.log().last());
        state.step(Input::Saved { term, last }, &mut output);
        state.step(Input::BatchEnd, &mut output);
        output
    }

    /// A message arrives, of this node's term, in a batch of its own.
    pub fn hear(state: &mut RaftState, from: u16, body: Body) -> Output {
        let message = Message { from: NodeId(from), to: state.id(), term: state.term(), body };
        step(state, Input::Message(message))
    }

    /// Another grants what this candidate asks for, or refuses it.
    pub fn hear_vote(state: &mut RaftState, from: u16, pre_vote: bool, granted: bool) -> Output {
        let campaign_term = if pre_vote { state.term().next() } else { state.term() };
        hear(state, from, Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted }))
    }

    /// A follower has all of this leader's log.
    pub fn hear_match(state: &mut RaftState, from: u16) -> Output {
        let last = state.log().last();
        let Role::Leader(leader) = &state.role else { panic!("{state} does not lead") };
        let progress = &leader.progress[&NodeId(from)];
        let response = AppendEntriesResponse {
            request_term: state.term(),
            number: progress.last_number,
            prev: last,
            read_round: Default::default(),
            outcome: AppendOutcome::Accepted { match_index: last.index },
        };
        hear(state, from, Body::AppendEntriesResponse(response))
    }

    /// Node 1 of three, which has not heard of a leader for so long that it asks for pre-votes.
    pub fn campaigning() -> RaftState {
        let mut state = started(&[1, 2, 3], true);
        while state.role() == RoleName::Follower {
            step(&mut state, Input::Tick);
        }
        state
    }

    /// Node 1 of three, which leads with the vote of 2, and whose first entry is committed.
    pub fn leading() -> RaftState {
        let mut state = campaigning();
        hear_vote(&mut state, 2, true, true);
        hear_vote(&mut state, 2, false, true);
        hear_match(&mut state, 2);
        state
    }

    #[test]
    fn a_configuration_is_shared_as_it_is() {
        let state = leading();
        assert_eq!(*state.shared_configuration(), *state.configuration());
    }

    /// As long as it is, the snapshot that it begins with is needed, and the next one has to wait.
    #[test]
    fn a_snapshot_is_being_sent_while_its_follower_is_heard() {
        let is_sending = |is_behind: bool, silent_ticks: u32| {
            let mut state = leading();
            let Role::Leader(leader) = &mut state.role else { panic!("{state} does not lead") };
            leader.progress.values_mut().for_each(|progress| progress.silent_ticks = silent_ticks);
            if is_behind {
                let pace = Pace::Snapshot { snapshot: EntryId::NONE, offset: 0, waits_for: None };
                leader.progress.get_mut(&NodeId(3)).expect("a voter").pace = pace;
            }
            state.is_sending_snapshot()
        };
        assert!(is_sending(true, 0) && is_sending(true, 19));
        assert!(!is_sending(true, 20), "it was not heard for an election timeout");
        assert!(!is_sending(false, 0), "it gets entries");
        assert!(!started(&[1, 2, 3], true).is_sending_snapshot());
    }
}
