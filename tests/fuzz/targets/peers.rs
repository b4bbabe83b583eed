//! The other nodes, as the paper has them: figure 2 and nothing more, with all else left to chance.
//!
//! A peer keeps the rules that Raft's safety rests on: one vote a term, given to a log at least as up to
//! date; entries only after a `prev` that it has; committed only what a quorum has in the leader's term.
//! Where a rule says nothing, the bytes choose: when a peer campaigns, whether it grants, from where it
//! sends, how little of a commit it tells, what hint it gives with a rejection, what it says about pre-votes,
//! reads and proposals that were passed on. So any implementation of the paper, however slow, odd or behind,
//! is among them.
//!
//! [`Chronicle`] is what must be true of all nodes together, and is asked after every step of any of them.

use raftkv::raft::Message;
use raftkv::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Body, Conflict, ForwardProposals,
    ForwardProposalsResponse, ReadIndexRequest, ReadIndexResponse, ReadRound, RequestVote,
    RequestVoteResponse,
};
use raftkv::types::{Command, Entry, EntryId, Index, NodeId, RequestId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// The bytes as a row of choices. Once they are used up, every choice is 0.
pub struct Choices<'a> {
    bytes: &'a [u8],
}

impl<'a> Choices<'a> {
    /// The choices that these bytes make.
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices { bytes }
    }

    /// The next byte, if there is one.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// A number below `limit`, or 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let byte = usize::from(self.next().unwrap_or(0));
        if limit == 0 { 0 } else { byte % limit }
    }

    /// Yes or no.
    pub fn flip(&mut self) -> bool {
        self.below(2) == 1
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A number that may be anything, small ones and the largest honest one included.
    pub fn number(&mut self) -> u64 {
        let small = self.below(64) as u64;
        match self.below(8) {
            0 => (1 << 53) - 1 - small,
            1 => small << 20,
            _ => small,
        }
    }
}

/// All that was ever true, of all nodes.
#[derive(Default)]
pub struct Chronicle {
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that ever stood in any log, with its predecessor.
    entries: BTreeMap<EntryId, (Entry, EntryId)>,
    /// The committed log, each entry with the term of the node that first knew.
    committed: Vec<(EntryId, Term)>,
}

impl Chronicle {
    /// P1 and P3: someone leads, with this log.
    pub fn leads(&mut self, term: Term, leader: NodeId, holds: impl Fn(EntryId) -> bool) {
        let first = *self.leaders.entry(term).or_insert(leader);
        assert_eq!(first, leader, "P1: two leaders in term {term}");
        for (id, _) in self.committed.iter().filter(|(_, known_in)| *known_in < term) {
            assert!(holds(*id), "P3: {leader} leads term {term} without the committed {id}");
        }
    }

    /// Who led a term.
    pub fn leader_of(&self, term: Term) -> Option<NodeId> {
        self.leaders.get(&term).copied()
    }

    /// P2: an entry's id has one content and one predecessor.
    pub fn stands(&mut self, entry: &Entry, before: EntryId) {
        let known = self.entries.entry(entry.id()).or_insert_with(|| (entry.clone(), before));
        assert_eq!((&known.0, known.1), (entry, before), "P2: another {} than before", entry.id());
    }

    /// How many entries are committed.
    pub fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// P4 and P5: the entry at this place is committed, says a node of this term. `copies` counts the disks
    /// that hold it.
    pub fn commits(&mut self, id: EntryId, term: Term, nodes: usize, copies: impl FnOnce() -> usize) {
        let place = usize::try_from(id.index.0).expect("what is committed has a place");
        match self.committed.get(place) {
            Some((known, _)) => assert_eq!(*known, id, "P5: another entry was committed at {}", id.index),
            None => {
                assert_eq!(place, self.committed.len(), "committed in order");
                let copies = copies();
                assert!(2 * copies > nodes, "P5: {id} is committed, and only on {copies} disks");
                self.committed.push((id, term));
            }
        }
    }
}

/// What a peer is.
enum Duty {
    Follower,
    Candidate { votes: BTreeSet<NodeId> },
    Leader { matched: BTreeMap<NodeId, Index> },
}

/// One of the others. All but its duty and the commit index is on its disk at once.
pub struct Peer {
    pub id: NodeId,
    nodes: Vec<NodeId>,
    boot: u64,
    pub term: Term,
    voted_for: Option<NodeId>,
    pub log: Vec<Entry>,
    pub commit: Index,
    duty: Duty,
}

/// The index of the last of some entries.
pub fn last_of(log: &[Entry]) -> EntryId {
    log.last().map_or(EntryId::NONE, Entry::id)
}

/// Whether this log holds the entry.
pub fn holds(log: &[Entry], id: EntryId) -> bool {
    id == EntryId::NONE || at(log, id.index).is_some_and(|entry| entry.id() == id)
}

fn at(log: &[Entry], index: Index) -> Option<&Entry> {
    usize::try_from(index.0).ok().and_then(|place| log.get(place))
}

fn place(index: Index) -> usize {
    usize::try_from(index.0).unwrap_or(0)
}

impl Peer {
    /// A peer with this disk.
    pub fn new(id: NodeId, nodes: &[NodeId], term: Term, voted_for: Option<NodeId>, log: Vec<Entry>) -> Peer {
        let nodes = nodes.to_vec();
        Peer { id, nodes, boot: 1, term, voted_for, log, commit: Index::NONE, duty: Duty::Follower }
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        matches!(self.duty, Duty::Leader { .. })
    }

    /// It starts again, from its disk.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.duty = Duty::Follower;
        self.commit = Index::NONE;
    }

    fn say(&self, to: NodeId, body: Body) -> Message {
        Message { from: self.id, to, term: self.term, body }
    }

    fn others(&self) -> Vec<NodeId> {
        self.nodes.iter().copied().filter(|id| *id != self.id).collect()
    }

    fn follow(&mut self, term: Term) {
        if term > self.term {
            self.term = term;
            self.voted_for = None;
            self.duty = Duty::Follower;
        }
    }

    /// It sees a newer term somewhere.
    pub fn raise_term(&mut self, by: u64) {
        self.follow(Term(self.term.0 + by));
    }

    /// It loses patience: a campaign among all, at once and in earnest.
    pub fn campaign(&mut self, transfer: bool, chronicle: &mut Chronicle) -> Vec<Message> {
        self.raise_term(1);
        self.voted_for = Some(self.id);
        self.duty = Duty::Candidate { votes: BTreeSet::from([self.id]) };
        self.count_votes(chronicle);
        let last = last_of(&self.log);
        let (campaign_term, leadership_transfer) = (self.term, transfer);
        let request = RequestVote { campaign_term, pre_vote: false, leadership_transfer, last };
        self.others().into_iter().map(|to| self.say(to, Body::RequestVote(request.clone()))).collect()
    }

    fn count_votes(&mut self, chronicle: &mut Chronicle) {
        let Duty::Candidate { votes } = &self.duty else { return };
        if 2 * votes.len() > self.nodes.len() {
            chronicle.leads(self.term, self.id, |id| holds(&self.log, id));
            self.duty = Duty::Leader { matched: BTreeMap::new() };
            self.append(None, Command::noop(), chronicle);
        }
    }

    /// As leader, appends an entry of its term.
    pub fn append(&mut self, request: Option<RequestId>, command: Command, chronicle: &mut Chronicle) {
        if self.leads() {
            let before = last_of(&self.log);
            let entry =
                Entry { term: self.term, index: before.index.next(), request, command, configuration: None };
            chronicle.stands(&entry, before);
            self.log.push(entry);
        }
    }

    /// As leader, sends entries from anywhere, and tells as much or little of what is committed.
    pub fn send_append(&self, to: NodeId, choices: &mut Choices<'_>) -> Option<Message> {
        if !self.leads() {
            return None;
        }
        let back = choices.below(self.log.len() + 1);
        let prev_place = self.log.len() - back;
        let count = choices.below(back + 1).max(usize::from(choices.flip()) * back);
        let prev = last_of(&self.log[..prev_place]);
        let entries = self.log[prev_place..prev_place + count].to_vec();
        let told = choices.below(3);
        let leader_commit =
            if told == 0 { Index(self.commit.0.min(choices.below(8) as i64 - 1)) } else { self.commit };
        let read_round = ReadRound { term: self.term, number: choices.below(4) as u64 };
        let number = choices.below(200) as u64;
        Some(
            self.say(
                to,
                Body::AppendEntries(AppendEntries { number, prev, entries, leader_commit, read_round }),
            ),
        )
    }

    /// A message arrives. What it answers goes to `out`.
    pub fn take(
        &mut self,
        message: Message,
        choices: &mut Choices<'_>,
        chronicle: &mut Chronicle,
    ) -> Vec<Message> {
        let Message { from, term, body, .. } = message;
        let is_question = matches!(&body, Body::RequestVote(vote) if vote.pre_vote);
        if !is_question {
            self.follow(term);
        }
        let answer = match body {
            Body::RequestVote(request) => Some(self.on_request_vote(from, &request, choices)),
            Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted }) => {
                if let Duty::Candidate { votes } = &mut self.duty
                    && (granted, pre_vote, campaign_term) == (true, false, self.term)
                {
                    votes.insert(from);
                    self.count_votes(chronicle);
                }
                None
            }
            Body::AppendEntries(request) => Some(self.on_append(from, term, request, choices, chronicle)),
            Body::AppendEntriesResponse(response) => {
                self.on_append_response(from, response);
                None
            }
            Body::ForwardProposals(forward) => self.on_forward(term, forward, choices, chronicle),
            Body::ReadIndexRequest(ReadIndexRequest { boot, number }) => self
                .leads()
                .then_some(Body::ReadIndexResponse(ReadIndexResponse { boot, number, index: self.commit })),
            Body::ForwardProposalsResponse(_) | Body::ReadIndexResponse(_) => None,
            // Nobody here compacts a log or hands the lead over.
            Body::InstallSnapshot(_) | Body::InstallSnapshotResponse(_) | Body::TimeoutNow(_) => None,
        };
        answer.map(|body| self.say(from, body)).into_iter().collect()
    }

    fn on_request_vote(&mut self, from: NodeId, request: &RequestVote, choices: &mut Choices<'_>) -> Body {
        let RequestVote { campaign_term, pre_vote, last, .. } = *request;
        let is_free = self.voted_for.is_none_or(|voted_for| voted_for == from);
        let may_grant = campaign_term == self.term && is_free && last >= last_of(&self.log);
        let granted = choices.below(4) != 0 && (pre_vote || may_grant);
        if granted && !pre_vote {
            self.voted_for = Some(from);
        }
        Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted })
    }

    fn on_append(
        &mut self,
        from: NodeId,
        term: Term,
        request: AppendEntries,
        choices: &mut Choices<'_>,
        chronicle: &mut Chronicle,
    ) -> Body {
        let AppendEntries { number, prev, entries, leader_commit, read_round } = request;
        let outcome = if term < self.term {
            AppendOutcome::Rejected { conflict: Conflict::OldTerm }
        } else if !holds(&self.log, prev) {
            AppendOutcome::Rejected { conflict: any_conflict(prev, term, choices) }
        } else {
            assert!(!self.leads(), "P1: {from} sends to the leader of its own term");
            self.duty = Duty::Follower;
            let match_index = entries.last().map_or(prev.index, |entry| entry.index);
            for entry in entries {
                if !holds(&self.log, entry.id()) {
                    self.log.truncate(place(entry.index));
                    chronicle.stands(&entry, last_of(&self.log));
                    self.log.push(entry);
                }
            }
            self.commit = self.commit.max(leader_commit.min(match_index));
            AppendOutcome::Accepted { match_index }
        };
        Body::AppendEntriesResponse(AppendEntriesResponse {
            request_term: term,
            number,
            prev,
            read_round,
            outcome,
        })
    }

    fn on_append_response(&mut self, from: NodeId, response: AppendEntriesResponse) {
        let Duty::Leader { matched } = &mut self.duty else { return };
        if response.request_term != self.term {
            return;
        }
        if let AppendOutcome::Accepted { match_index } = response.outcome {
            let best = matched.entry(from).or_insert(match_index);
            *best = (*best).max(match_index);
        }
        let mut reached: Vec<Index> = self.nodes.iter().filter_map(|id| matched.get(id).copied()).collect();
        reached.push(last_of(&self.log).index);
        reached.sort_unstable_by(|one, other| other.cmp(one));
        let Some(index) = reached.get(self.nodes.len() / 2) else { return };
        let is_ours = at(&self.log, *index).is_some_and(|entry| entry.term == self.term);
        if is_ours {
            self.commit = self.commit.max(*index);
        }
    }

    /// Takes any part of what it is passed on, and says any number of it.
    fn on_forward(
        &mut self,
        term: Term,
        forward: ForwardProposals,
        choices: &mut Choices<'_>,
        chronicle: &mut Chronicle,
    ) -> Option<Body> {
        if !self.leads() || term != self.term {
            return None;
        }
        let ForwardProposals { boot, first_number, proposals, .. } = forward;
        let taken = choices.below(proposals.len() + 1);
        let mut refused = Vec::new();
        for proposal in proposals.into_iter().take(taken) {
            if choices.below(4) == 0 {
                refused.push(proposal.request);
            } else {
                self.append(Some(proposal.request), proposal.command, chronicle);
            }
        }
        let next_number = first_number + taken as u64;
        Some(Body::ForwardProposalsResponse(ForwardProposalsResponse {
            boot,
            request_term: term,
            next_number,
            refused,
        }))
    }
}

/// A hint that helps or does not: anything that the wire lets through.
fn any_conflict(prev: EntryId, term: Term, choices: &mut Choices<'_>) -> Conflict {
    let below = |choices: &mut Choices<'_>, most: i64| {
        Index(choices.below(usize::try_from(most).unwrap_or(0)) as i64)
    };
    if prev.index >= Index(1) && choices.flip() {
        let first = below(choices, prev.index.0 + 1);
        let other = Term(1 + choices.below(term.0.min(200) as usize) as u64);
        Conflict::OtherTerm { term: other, first }
    } else {
        Conflict::TooShort { last: Index(below(choices, prev.index.0 + 1).0 - 1) }
    }
}
