//! One real core among peers that do what they like within the rules.
//!
//! ```text
//!   bytes ─> choices ─┬─> ticks, proposals, reads, applied, ends of batches, crashes ──> RaftState
//!                     ├─> what the peers do (peers.rs)                                  │   ^
//!                     └─> which message arrives, comes twice, is lost <─── under way <──┘   │
//!                              └──> through wire::peer ─────────────────────────────────────┘
//! ```
//!
//! The core trusts its peers as Raft does: no honest node forges a vote, a leader or a committed entry, and
//! against one that does no consensus helps that counts on a majority. So the peers here keep figure 2's
//! rules. What is no part of those rules may be any lie that the wire lets through ([`World::lie`]): answers
//! to what was never sent, refusals, hints, pre-votes, answers of other terms, numbers of reads and of
//! proposals. Of all that comes the core must make no panic (P13), never go back (P6, P7), say nothing before
//! it is saved (P8), say what passes the wire only, and keep the cluster right (P1 to P5: `Chronicle`).

use super::peers::{Choices, Chronicle, Peer, holds, last_of};
use super::{Seen, Target, assert_plain};
use raftkv::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Body, Conflict, ForwardProposals,
    ForwardProposalsResponse, Message, Proposal, ReadIndexRequest, ReadIndexResponse, ReadRound, RequestVote,
    RequestVoteResponse,
};
use raftkv::raft::{
    Configuration, HardState, Input, Log, Note, Output, RaftState, Refusal, RoleName, Settings, Start,
};
use raftkv::types::{Command, Entry, EntryId, Index, NodeId, RequestId, Term};
use raftkv::wire::peer::{Decoded, Ends, Envelope, PeerLine, decode};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A row of choices.
pub const CORE_INPUTS: Target = Target {
    name: "core_inputs",
    run: core_inputs,
    sometimes: &[
        "led",
        "led one alone",
        "led again after a crash",
        "followed",
        "campaigned",
        "voted",
        "vote refused",
        "committed as leader",
        "committed as follower",
        "committed of an older term",
        "truncated",
        "rejected entries",
        "stepped back",
        "ignored a lie",
        "lie not let through",
        "quorum lost",
        "refused as busy",
        "refused without leader",
        "passed on",
        "took what was passed on",
        "read",
        "crashed before the save",
        "crashed after the save",
        "a new leader after us",
    ],
};

const ME: NodeId = NodeId(1);
const MAX_UNDER_WAY: usize = 100;
const MAX_LOG: usize = 100;

/// What a batch may send beside what answers its inputs: windows are small here.
const MAX_EXTRA_SENDS: usize = 200;

fn core_inputs(bytes: &[u8]) -> Seen {
    let mut choices = Choices::new(bytes);
    let mut world = World::new(&mut choices);
    while let Some(action) = choices.next() {
        world.act(action, &mut choices);
    }
    world.finish_batch(None);
    world.seen
}

/// What survives a crash of the core.
struct Disk {
    hard_state: HardState,
    entries: Vec<Entry>,
    boot: u64,
}

/// Where a batch is cut short.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    BeforeAll,
    BeforeSave,
    BeforeSends,
    AfterSends,
}

/// Proposals that a start of a peer passed on in a term.
#[derive(Default)]
struct PassedOn {
    numbers: BTreeSet<u64>,
    /// It says that it has heard what became of all below this number.
    heard: u64,
}

struct World {
    nodes: Vec<NodeId>,
    settings: Settings,
    seed: u64,
    raft: RaftState,
    output: Output,
    /// How many inputs the batch has had.
    batch_inputs: usize,
    disk: Disk,
    peers: BTreeMap<NodeId, Peer>,
    under_way: VecDeque<Message>,
    chronicle: Chronicle,
    /// What peers passed on, by term, peer and its start.
    passed_on: BTreeMap<(Term, NodeId, u64), PassedOn>,
    next_request: u64,
    next_read: u64,
    reads_ready: u64,
    seen: Seen,
}

impl World {
    fn new(choices: &mut Choices<'_>) -> World {
        let count = choices.one_of(&[3u16, 3, 5, 2, 4, 1]);
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let seed = choices.below(256) as u64;
        let small = choices.flip();
        let settings = Settings {
            heartbeat_ticks: 2,
            election_timeout_min_ticks: 6,
            election_timeout_max_ticks: 12,
            max_append_entries: if small { 1 } else { 8 },
            max_append_bytes: if small { 300 } else { 4000 },
            max_in_flight_messages: if small { 1 } else { 4 },
            max_in_flight_bytes: if small { 400 } else { 8000 },
            max_uncommitted_bytes: if small { 900 } else { 4000 },
            max_forwarded_bytes: if small { 500 } else { 3000 },
        };
        let mut chronicle = Chronicle::default();
        let disks = first_disks(&nodes, choices, &mut chronicle);
        let mut disks = nodes.iter().copied().zip(disks);
        let (_, (hard_state, entries)) = disks.next().expect("there is a first node");
        let peer = |(id, (state, log)): (NodeId, (HardState, Vec<Entry>))| {
            (id, Peer::new(id, &nodes, state.term, state.voted_for, log))
        };
        let peers = disks.map(peer).collect();
        let disk = Disk { hard_state, entries, boot: 1 };
        let raft = start(&disk, &nodes, &settings, seed);
        World {
            nodes,
            settings,
            seed,
            raft,
            output: Output::default(),
            batch_inputs: 0,
            disk,
            peers,
            under_way: VecDeque::new(),
            chronicle,
            passed_on: BTreeMap::new(),
            next_request: 0,
            next_read: 0,
            reads_ready: 0,
            seen: Seen::new(),
        }
    }

    fn act(&mut self, action: u8, choices: &mut Choices<'_>) {
        match action % 32 {
            0 | 1 => (0..=choices.below(8)).for_each(|_| self.step(Input::Tick)),
            2 => (0..13).for_each(|_| self.step(Input::Tick)),
            3..=5 => self.finish_batch(None),
            6 => {
                let crash = [Crash::BeforeAll, Crash::BeforeSave, Crash::BeforeSends, Crash::AfterSends];
                self.finish_batch(Some(choices.one_of(&crash)));
            }
            7..=9 => (0..=choices.below(4)).for_each(|_| self.deliver(0, choices)),
            10 => self.settle(1 + choices.below(4), choices),
            11 => {
                let number = choices.below(self.under_way.len());
                self.deliver(number, choices);
            }
            12 => {
                let number = choices.below(self.under_way.len());
                if let Some(message) = self.under_way.get(number).cloned() {
                    self.put_under_way(message);
                }
            }
            13 => {
                let number = choices.below(self.under_way.len());
                self.under_way.remove(number);
            }
            14 | 15 => (0..=choices.below(6)).for_each(|_| self.propose(choices)),
            16 => {
                self.next_read += 1 + choices.below(2) as u64;
                self.step(Input::Read { number: self.next_read });
            }
            17 => {
                let waiting = self.raft.commit_index().0 - self.raft.last_applied().0;
                let count = choices.below(usize::try_from(waiting).unwrap_or(0) + 1);
                let index = Index(self.raft.last_applied().0 + count as i64);
                self.step(Input::Applied { index });
            }
            18..=25 => self.act_as_peer(action % 32, choices),
            _ => self.lie(choices),
        }
    }

    fn act_as_peer(&mut self, action: u8, choices: &mut Choices<'_>) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = choices.one_of(&ids);
        let to = choices.one_of(&self.nodes);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let sent = match action {
            18 => peer.campaign(choices.below(4) == 1, &mut self.chronicle),
            19 | 20 if peer.log.len() < MAX_LOG => {
                peer.append(None, command(choices), &mut self.chronicle);
                Vec::new()
            }
            21 | 22 => peer.send_append(to, choices).into_iter().collect(),
            23 => self.nodes.iter().filter_map(|to| peer.send_append(*to, choices)).collect(),
            24 => {
                peer.restart();
                Vec::new()
            }
            25 => {
                peer.raise_term(choices.one_of(&[1, 1, 1, 2, 1 << 20]));
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.note_commits_of(id);
        sent.into_iter().filter(|message| message.to != message.from).for_each(|it| self.put_under_way(it));
    }

    fn put_under_way(&mut self, message: Message) {
        if self.under_way.len() >= MAX_UNDER_WAY {
            self.under_way.pop_front();
        }
        self.under_way.push_back(message);
    }

    /// Everything under way arrives, each in a batch of its own, and what comes of it, for some rounds.
    fn settle(&mut self, rounds: usize, choices: &mut Choices<'_>) {
        self.finish_batch(None);
        for _ in 0..rounds {
            for _ in 0..self.under_way.len() {
                self.deliver(0, choices);
                self.finish_batch(None);
            }
        }
    }

    fn deliver(&mut self, number: usize, choices: &mut Choices<'_>) {
        let Some(message) = self.under_way.remove(number) else { return };
        if message.to == ME {
            let arrived = self.through_the_wire(message).expect("a peer that keeps the rules is let through");
            self.step(Input::Message(arrived));
            return;
        }
        let to = message.to;
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let answers = peer.take(message, choices, &mut self.chronicle);
        self.note_commits_of(to);
        answers.into_iter().for_each(|answer| self.put_under_way(answer));
    }

    /// The message as the core gets it, or why it does not.
    fn through_the_wire(&self, message: Message) -> Result<Message, String> {
        let ends = Ends { me: ME, peer: message.from, term: self.raft.term() };
        pass(message, &ends)
    }

    fn step(&mut self, input: Input) {
        if let Input::Message(Message { from, term, body: Body::ForwardProposals(forward), .. }) = &input {
            let known = self.passed_on.entry((*term, *from, forward.boot)).or_default();
            known.numbers.extend(forward.proposals.iter().map(|proposal| proposal.request.number));
            known.heard = known.heard.max(forward.heard);
        }
        let (term, voted_for) = (self.raft.term(), self.raft.voted_for());
        let (commit, applied) = (self.raft.commit_index(), self.raft.last_applied());
        self.raft.step(input, &mut self.output);
        self.batch_inputs += 1;
        let raft = &self.raft;
        let same_vote = raft.term() > term || voted_for.is_none() || raft.voted_for() == voted_for;
        assert!(raft.term() >= term && same_vote, "P6: {raft}: was in {term}, voted for {voted_for:?}");
        assert!(raft.commit_index() >= commit && raft.last_applied() >= applied, "P6: {raft}");
        assert!(raft.last_applied() <= raft.commit_index(), "P7: {raft}");
        assert!(raft.commit_index() <= raft.log().last().index, "P7: {raft}");
        assert_plain(&raft.to_string());
    }

    fn propose(&mut self, choices: &mut Choices<'_>) {
        if self.raft.log().last().index >= Index(MAX_LOG as i64) {
            return;
        }
        let request = RequestId { node: ME, boot: self.disk.boot, number: self.next_request };
        self.next_request += 1;
        self.step(Input::Propose { request, command: command(choices) });
    }

    /// Ends the batch as `Node` does: send what may go, save, send the rest, publish. Or is cut short.
    fn finish_batch(&mut self, crash: Option<Crash>) {
        self.step(Input::BatchEnd);
        let mut output = std::mem::take(&mut self.output);
        let sends = output.now.len() + output.after_save.len();
        assert!(sends <= self.batch_inputs + MAX_EXTRA_SENDS, "P12: {} sends {sends} messages", self.raft);
        self.batch_inputs = 0;
        if crash == Some(Crash::BeforeAll) {
            return self.restart("crashed before the save");
        }
        self.note_role();
        self.send(std::mem::take(&mut output.now));
        if crash == Some(Crash::BeforeSave) {
            return self.restart("crashed before the save");
        }
        let saves = output.needs_save();
        self.save(&output);
        if crash == Some(Crash::BeforeSends) {
            return self.restart("crashed after the save");
        }
        self.send(std::mem::take(&mut output.after_save));
        self.publish(output);
        if saves {
            let saved = Input::Saved { term: self.raft.term(), last: self.raft.log().last() };
            self.step(saved);
            self.step(Input::BatchEnd);
            let mut output = std::mem::take(&mut self.output);
            assert!(!output.needs_save(), "a save leads to no other save");
            self.send(std::mem::take(&mut output.now));
            self.send(std::mem::take(&mut output.after_save));
            self.publish(output);
        }
        self.note_commits();
        if crash == Some(Crash::AfterSends) {
            self.restart("crashed after the save");
        }
    }

    fn restart(&mut self, what: &'static str) {
        self.seen.insert(what);
        self.output = Output::default();
        self.disk.boot += 1;
        (self.next_request, self.next_read, self.reads_ready) = (0, 0, 0);
        self.raft = start(&self.disk, &self.nodes, &self.settings, self.seed + self.disk.boot);
    }

    fn save(&mut self, output: &Output) {
        let disk = &mut self.disk;
        if let Some(next) = output.hard_state {
            let before = disk.hard_state;
            let same_vote = before.voted_for.is_none() || next.voted_for == before.voted_for;
            let follows = next.term > before.term || (next.term == before.term && same_vote);
            assert!(follows, "P6: {next:?} is saved after {before:?}");
            disk.hard_state = next;
        }
        if let Some(from) = output.truncate_from {
            disk.entries.retain(|entry| entry.index < from);
        }
        for entry in &output.entries {
            let before = last_of(&disk.entries);
            assert_eq!(entry.index, before.index.next(), "{} is saved after {before}", entry.id());
            self.chronicle.stands(entry, before);
            disk.entries.push(entry.clone());
        }
        let saved = Log::new(EntryId::NONE, disk.entries.clone());
        assert_eq!(&saved, self.raft.log(), "P8: what is on disk is what the core has");
        let (term, voted_for) = (self.raft.term(), self.raft.voted_for());
        assert_eq!(
            disk.hard_state,
            HardState { term, voted_for },
            "P8: what is on disk is what the core has"
        );
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.speaks_of_what_is_saved(&message);
            if let Body::AppendEntries(append) = &message.body {
                let mut before = append.prev;
                for entry in &append.entries {
                    self.chronicle.stands(entry, before);
                    before = entry.id();
                }
            }
            let peer = self.peers.get(&message.to).unwrap_or_else(|| panic!("to nobody: {message:?}"));
            let ends = Ends { me: message.to, peer: ME, term: peer.term };
            let arrived = pass(message, &ends).unwrap_or_else(|why| panic!("P13: {}: {why}", self.raft));
            self.put_under_way(arrived);
        }
    }

    /// P8. Called in the order of the effects, so the disk is as it is when the message leaves.
    fn speaks_of_what_is_saved(&self, message: &Message) {
        let last = last_of(&self.disk.entries).index;
        if let Some(what) = message.unsaved_claim(self.disk.hard_state, last) {
            panic!("P8: {what}: {message:?}");
        }
    }

    fn publish(&mut self, output: Output) {
        let raft = &self.raft;
        for note in &output.notes {
            assert_plain(&note.to_string());
            self.seen.extend(match note {
                Note::VoteGranted { .. } => Some("voted"),
                Note::VoteRefused { .. } => Some("vote refused"),
                Note::Truncated { .. } => Some("truncated"),
                Note::AppendRejected { .. } => Some("rejected entries"),
                Note::SteppedBack { .. } => Some("stepped back"),
                Note::Ignored { .. } => Some("ignored a lie"),
                Note::Committed { .. } if raft.role() == RoleName::Leader => Some("committed as leader"),
                Note::Committed { .. } => Some("committed as follower"),
                Note::RoleChanged { from: RoleName::Leader, .. } => Some("quorum lost"),
                _ => None,
            });
        }
        for (request, refusal) in &output.refused {
            assert_eq!((request.node, request.boot), (ME, self.disk.boot), "refused: somebody else's");
            self.seen.insert(match refusal {
                Refusal::Busy => "refused as busy",
                Refusal::NoLeader => "refused without leader",
            });
        }
        for ready in &output.reads {
            assert!(ready.number > self.reads_ready && ready.number <= self.next_read, "{ready:?}");
            self.reads_ready = ready.number;
            self.seen.insert("read");
        }
        if !output.proposed.is_empty() && raft.role() == RoleName::Follower {
            self.seen.insert("passed on");
        }
    }

    /// What the core is now, and what must then be true of its log.
    fn note_role(&mut self) {
        let raft = &self.raft;
        match raft.role() {
            RoleName::Leader => {
                self.seen.insert("led");
                if self.nodes.len() == 1 {
                    self.seen.insert("led one alone");
                }
                if self.disk.boot > 1 && self.nodes.len() > 1 {
                    self.seen.insert("led again after a crash");
                }
                self.chronicle.leads(raft.term(), ME, |id| raft.log().contains(id));
                self.requests_stand_once();
            }
            RoleName::Candidate => {
                self.seen.insert("campaigned");
            }
            RoleName::Follower if raft.leader().is_some() => {
                self.seen.insert("followed");
                let led_before = raft.log().after(Index::NONE).iter().rev();
                let leads = |term| self.chronicle.leader_of(term) == Some(ME);
                if led_before.map(|entry| entry.term).find(|term| *term < raft.term()).is_some_and(leads) {
                    self.seen.insert("a new leader after us");
                }
            }
            RoleName::Follower | RoleName::PreCandidate => {}
        }
    }

    /// P9, as far as one leader can see to it: in its term each start of a node has its proposals in order
    /// and none twice; and none of those that were passed on overtakes another, unless that was refused
    /// and its sender knows.
    fn requests_stand_once(&mut self) {
        let mut newest = BTreeMap::new();
        let of_term = self.raft.log().after(Index::NONE).iter().filter(|it| it.term == self.raft.term());
        for RequestId { node, boot, number } in of_term.filter_map(|entry| entry.request) {
            let before = newest.insert((node, boot), number);
            assert!(
                before.is_none_or(|before| before < number),
                "P9: {node}/{boot}/{number} after {before:?}"
            );
            if node != ME {
                let next = before.map_or(0, |before| before + 1);
                let known = self.passed_on.get(&(self.raft.term(), node, boot));
                let is_known = known.is_some_and(|known| known.numbers.contains(&number));
                assert!(is_known, "P9: {node}/{boot}/{number} was not passed on in this term");
                let heard = known.map_or(0, |known| known.heard);
                assert!(number == next || number <= heard, "P9: {node}/{boot}/{number} overtakes {next}");
                self.seen.insert("took what was passed on");
            }
        }
    }

    fn note_commits(&mut self) {
        let raft = &self.raft;
        for entry in raft.log().after(Index::NONE).iter().take_while(|it| it.index <= raft.commit_index()) {
            let is_new = entry.index.0 >= self.chronicle.committed_count() as i64;
            if is_new && entry.term < raft.term() && raft.role() == RoleName::Leader {
                self.seen.insert("committed of an older term");
            }
            let copies = || copies(entry.id(), &self.peers, &self.disk);
            self.chronicle.commits(entry.id(), raft.term(), self.nodes.len(), copies);
        }
    }

    fn note_commits_of(&mut self, id: NodeId) {
        let Some(peer) = self.peers.get(&id) else { return };
        for entry in peer.log.iter().take_while(|entry| entry.index <= peer.commit) {
            let copies = || copies(entry.id(), &self.peers, &self.disk);
            self.chronicle.commits(entry.id(), peer.term, self.nodes.len(), copies);
        }
    }

    /// Something that a peer says against all sense, where the paper's rules do not speak of it.
    fn lie(&mut self, choices: &mut Choices<'_>) {
        let ids: Vec<NodeId> = self.peers.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let from = choices.one_of(&ids);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if choices.below(8) == 1 {
            peer.raise_term(1);
        }
        let back = choices.one_of(&[0, 0, 0, 1, 2, 3]);
        let term = Term(peer.term.0.saturating_sub(back));
        let body = self.lie_of(from, term, choices);
        match self.through_the_wire(Message { from, to: ME, term, body }) {
            Ok(message) => self.step(Input::Message(message)),
            Err(_) => {
                self.seen.insert("lie not let through");
            }
        }
    }

    fn lie_of(&self, from: NodeId, term: Term, choices: &mut Choices<'_>) -> Body {
        let raft = &self.raft;
        let is_old = term < raft.term();
        match choices.below(8) {
            // A vote counts, so it is given by the rules only; anything else may be said of one.
            0 => {
                let (pre_vote, campaign_term) = (choices.flip(), self.any_term(term, choices));
                let granted = choices.flip() && (pre_vote || campaign_term != raft.term());
                Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted })
            }
            1 => {
                let pre_vote = !is_old || choices.flip();
                let campaign_term = if pre_vote { term.next() } else { term };
                let (leadership_transfer, last) = (choices.flip(), self.any_id(choices));
                Body::RequestVote(RequestVote { campaign_term, pre_vote, leadership_transfer, last })
            }
            2 => self.any_append_answer(term, choices),
            // Entries count when they are of this term or a newer one.
            3 if is_old => {
                let prev = self.any_id(choices);
                let index = prev.index.next();
                let entries = (0..choices.below(3))
                    .map(|place| Entry {
                        configuration: None,
                        term,
                        index: Index(index.0 + place as i64),
                        request: None,
                        command: command(choices),
                    })
                    .collect();
                let (number, leader_commit) = (choices.number(), self.any_id(choices).index);
                let read_round = ReadRound { term: self.any_term(term, choices), number: choices.number() };
                Body::AppendEntries(AppendEntries { number, prev, entries, leader_commit, read_round })
            }
            3 | 4 => self.any_forward(from, choices),
            5 => {
                let refused = (0..choices.below(4)).map(|_| {
                    let (boot, number) = (self.any_boot(choices), choices.below(20) as u64);
                    RequestId { node: ME, boot, number }
                });
                Body::ForwardProposalsResponse(ForwardProposalsResponse {
                    refused: refused.collect(),
                    boot: self.any_boot(choices),
                    request_term: self.any_term(term, choices),
                    next_number: choices.number(),
                })
            }
            6 => {
                Body::ReadIndexRequest(ReadIndexRequest { boot: choices.number(), number: choices.number() })
            }
            _ => Body::ReadIndexResponse(ReadIndexResponse {
                boot: self.any_boot(choices),
                number: choices.number(),
                index: self.any_id(choices).index,
            }),
        }
    }

    /// An acceptance counts, unless it is of another term or of what was never sent. All else may be claimed.
    fn any_append_answer(&self, term: Term, choices: &mut Choices<'_>) -> Body {
        let request_term = self.any_term(term, choices);
        let prev = self.any_id(choices);
        let mut number = choices.number();
        let outcome = match choices.below(4) {
            0 => {
                let counts = request_term == self.raft.term();
                let beyond = self.raft.log().last().index.next();
                let match_index = if counts && choices.flip() { beyond } else { prev.index };
                if counts && match_index < beyond {
                    number = 1 << 40;
                }
                AppendOutcome::Accepted { match_index }
            }
            1 => AppendOutcome::Rejected { conflict: Conflict::OldTerm },
            2 => {
                AppendOutcome::Rejected { conflict: Conflict::TooShort { last: self.any_id(choices).index } }
            }
            _ => {
                let EntryId { term, index } = self.any_id(choices);
                AppendOutcome::Rejected { conflict: Conflict::OtherTerm { term, first: index } }
            }
        };
        let read_round = ReadRound { term: self.any_term(term, choices), number: choices.below(4) as u64 };
        Body::AppendEntriesResponse(AppendEntriesResponse { request_term, number, prev, read_round, outcome })
    }

    /// Any stretch of the proposals that a start of a node numbered, in any order and as often as it likes.
    fn any_forward(&self, node: NodeId, choices: &mut Choices<'_>) -> Body {
        let boot = 1 + choices.below(3) as u64;
        // Who says that it has heard of everything may be overtaken by anything, so that is seldom said.
        let (first_number, heard) = (choices.below(6) as u64, choices.one_of(&[0, 0, 0, 0, 0, 1, 2, 7]));
        let room = self.raft.log().last().index < Index(MAX_LOG as i64);
        let count = if room { choices.below(4) as u64 } else { 0 };
        let request = |number| RequestId { node, boot, number };
        let numbers = first_number..first_number + count;
        let proposals =
            numbers.map(|number| Proposal { request: request(number), command: command(choices) });
        let proposals = proposals.collect();
        Body::ForwardProposals(ForwardProposals { boot, first_number, heard, proposals })
    }

    fn any_boot(&self, choices: &mut Choices<'_>) -> u64 {
        if choices.below(4) == 1 { choices.number() } else { self.disk.boot }
    }

    fn any_term(&self, term: Term, choices: &mut Choices<'_>) -> Term {
        match choices.below(4) {
            0 => term,
            1 => Term(term.0.saturating_sub(1)),
            2 => self.raft.term(),
            _ => Term(choices.number()),
        }
    }

    /// An entry's id: one of the core's log, or made up.
    fn any_id(&self, choices: &mut Choices<'_>) -> EntryId {
        let entries = self.raft.log().after(Index::NONE);
        match choices.below(4) {
            0 => EntryId::new(Term(choices.number()), Index(choices.number() as i64)),
            1 => EntryId::NONE,
            _ => entries.get(choices.below(entries.len())).map_or(EntryId::NONE, Entry::id),
        }
    }
}

fn copies(id: EntryId, peers: &BTreeMap<NodeId, Peer>, disk: &Disk) -> usize {
    peers.values().filter(|peer| holds(&peer.log, id)).count() + usize::from(holds(&disk.entries, id))
}

/// Writes a message as a line and reads it as its receiver does.
fn pass(message: Message, ends: &Ends) -> Result<Message, String> {
    let line = PeerLine::Envelope(Envelope { boot: 1, event: 1, applied: BTreeMap::new(), message });
    let mut bytes = Vec::new();
    line.encode(&mut bytes);
    bytes.pop();
    match decode(&bytes, ends) {
        Ok(Decoded::Line(PeerLine::Envelope(arrived))) => {
            assert_eq!(PeerLine::Envelope(arrived.clone()), line);
            Ok(arrived.message)
        }
        other => Err(format!("{other:?}")),
    }
}

fn start(disk: &Disk, nodes: &[NodeId], settings: &Settings, seed: u64) -> RaftState {
    let start = Start {
        id: ME,
        boot: disk.boot,
        configuration: Configuration::new(nodes.iter().copied()),
        may_vote: true,
        hard_state: disk.hard_state,
        log: Log::new(EntryId::NONE, disk.entries.clone()),
        seed,
    };
    RaftState::new(start, settings.clone())
}

fn command(choices: &mut Choices<'_>) -> Command {
    let text = match choices.below(8) {
        0 => format!("{{\"op\":\"set\",\"key\":\"k\",\"value\":\"{}\"}}", "v".repeat(300)),
        number => format!("{{\"op\":\"set\",\"key\":\"k\",\"value\":{number}}}"),
    };
    Command::from_json(text).expect("it is JSON")
}

/// What the nodes have on disk at first: nothing, or each a part of what the last node appended in term 1.
fn first_disks(
    nodes: &[NodeId],
    choices: &mut Choices<'_>,
    chronicle: &mut Chronicle,
) -> Vec<(HardState, Vec<Entry>)> {
    let count = choices.below(8);
    if count == 0 {
        return vec![Default::default(); nodes.len()];
    }
    let leader = *nodes.last().expect("there is a node");
    let index = |place: usize| Index(place as i64);
    let entries: Vec<Entry> = (0..count)
        .map(|place| Entry {
            term: Term(1),
            index: index(place),
            request: None,
            command: Command::noop(),
            configuration: None,
        })
        .collect();
    chronicle.leads(Term(1), leader, |_| true);
    for (place, entry) in entries.iter().enumerate() {
        chronicle.stands(entry, last_of(&entries[..place]));
    }
    let hard_state = HardState { term: Term(1), voted_for: Some(leader) };
    let part = |id: &NodeId| {
        let kept = if *id == leader { count } else { choices.below(count + 1) };
        (hard_state, entries[..kept].to_vec())
    };
    nodes.iter().map(part).collect()
}
