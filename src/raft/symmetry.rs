//! What an exhaustive search needs of the core: when two states are the same for its purpose.
//!
//! Two things tell states apart without making them behave differently: what time it is, and what the nodes
//! are called. [`RaftState::forget_time`] maps a state to the one that stands for all that differ from it
//! in time alone; `renamed` gives nodes other names, here and in all that speaks of them. Nothing in a server
//! calls this.

use super::forwarding::{ForwardedFrom, Forwarding};
use super::log::Log;
use super::membership::CatchUp;
use super::message::{Body, ForwardProposals, ForwardProposalsResponse, Message, Proposal};
use super::progress::Progress;
use super::random::Random;
use super::reads::{ReadRounds, Reader};
use super::requests::RESEND_AFTER_HEARTBEATS;
use super::role::{Candidate, Follower, Leader, Role};
use super::state::RaftState;
use super::transfer::Transfer;
use crate::types::{Entry, EntryId, NodeId, RequestId, Term};
use std::collections::BTreeMap;
use std::sync::Arc;

/// New names for nodes, each for one.
pub type Renaming<'a> = &'a dyn Fn(NodeId) -> NodeId;

impl RaftState {
    /// Forgets what time it is. Whoever drives the core decides when time passes, and nothing but ticks waits
    /// for these counters, so the state that comes of it can do whatever this one can:
    ///
    /// - An election timeout is always the longest, and the chance behind it starts anew. A shorter one lets
    ///   a node do nothing that the longest does not, after more ticks in which it only waits.
    /// - A timer stands where time has done the least: a follower has just heard of its leader, and so holds
    ///   it for alive; a leader has just heard everyone. [`RaftState::let_time_pass`] goes on from there.
    /// - A timer that only leads to a campaign stands just before it; what is sent again after a while, and
    ///   heartbeats, are due with the next tick.
    pub fn forget_time(&mut self) {
        let heartbeat_ticks = self.settings.heartbeat_ticks;
        let longest = self.settings.election_timeout_max_ticks;
        self.random = Random::new(0);
        match &mut self.role {
            Role::Follower(follower) => {
                follower.elapsed_ticks = if follower.leader.is_some() { 0 } else { longest - 1 };
                follower.timeout_ticks = longest;
                follower.reads_asked_ticks = heartbeat_ticks - 1;
            }
            Role::Candidate(candidate) => {
                candidate.elapsed_ticks = longest - 1;
                candidate.timeout_ticks = longest;
            }
            Role::Leader(leader) => {
                leader.heartbeat_ticks = heartbeat_ticks - 1;
                leader.progress.values_mut().for_each(|progress| progress.silent_ticks = 0);
                leader.catch_up.values_mut().for_each(|round| round.ticks = 0);
                if let Some(transfer) = &mut leader.transfer {
                    transfer.ticks = 0;
                }
            }
        }
        let resend_ticks = RESEND_AFTER_HEARTBEATS * heartbeat_ticks;
        let waits = !self.forwarding.waiting.is_empty();
        self.forwarding.stalled_ticks = if waits { resend_ticks - 1 } else { 0 };
    }

    /// Time passes without news, up to just before something comes of it: a follower does not hold its leader
    /// for alive any more, and campaigns at the next tick; a leader has heard nobody, and steps down.
    pub fn let_time_pass(&mut self) {
        let longest = self.settings.election_timeout_max_ticks;
        match &mut self.role {
            Role::Follower(follower) => follower.elapsed_ticks = longest - 1,
            Role::Candidate(candidate) => candidate.elapsed_ticks = longest - 1,
            Role::Leader(leader) => {
                leader.progress.values_mut().for_each(|progress| progress.silent_ticks = longest);
            }
        }
    }

    /// The start counter that this node was given.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The newest read that was asked of this node since it started.
    pub fn newest_read(&self) -> u64 {
        self.reads.newest
    }

    /// For a leader: how many rounds of confirmation for reads it has begun in its term.
    pub fn read_rounds(&self) -> u64 {
        match &self.role {
            Role::Follower(_) | Role::Candidate(_) => 0,
            Role::Leader(leader) => leader.reads.started,
        }
    }

    /// For a leader: how many AppendEntries it has sent in its term to the follower that got the most.
    pub fn appends_sent(&self) -> u64 {
        match &self.role {
            Role::Follower(_) | Role::Candidate(_) => 0,
            Role::Leader(leader) => leader.progress.values().map(|peer| peer.last_number).max().unwrap_or(0),
        }
    }

    /// The same node in a cluster whose nodes have other names.
    pub fn renamed(&self, new: Renaming) -> RaftState {
        let RaftState { id, boot, settings, random, term, voted_for, role, .. } = self;
        RaftState {
            id: new(*id),
            boot: *boot,
            configurations: self.configurations.renamed(new),
            may_vote: self.may_vote,
            met: renamed_keys(&self.met, new, |incarnation| *incarnation),
            remembered: renamed_keys(&self.remembered, new, |incarnation| *incarnation),
            settings: settings.clone(),
            random: random.clone(),
            term: *term,
            voted_for: voted_for.map(new),
            role: renamed_role(role, new),
            log: self.log.renamed(new),
            saved_index: self.saved_index,
            commit_index: self.commit_index,
            last_applied: self.last_applied,
            forwarding: renamed_forwarding(&self.forwarding, new),
            reads: self.reads.clone(),
            incoming: self.incoming.clone(),
        }
    }
}

fn renamed_role(role: &Role, new: Renaming) -> Role {
    match role {
        Role::Follower(follower) => {
            Role::Follower(Follower { leader: follower.leader.map(new), ..follower.clone() })
        }
        Role::Candidate(candidate) => Role::Candidate(Candidate {
            granted: candidate.granted.iter().copied().map(new).collect(),
            refused: candidate.refused.iter().copied().map(new).collect(),
            ..candidate.clone()
        }),
        Role::Leader(leader) => Role::Leader(Leader {
            progress: renamed_keys(&leader.progress, new, Progress::clone),
            forwarded: renamed_keys(&leader.forwarded, new, |from| ForwardedFrom {
                refused: from
                    .refused
                    .iter()
                    .map(|(number, request)| (*number, request.renamed(new)))
                    .collect(),
                ..from.clone()
            }),
            reads: renamed_reads(&leader.reads, new),
            catch_up: renamed_keys(&leader.catch_up, new, CatchUp::clone),
            transfer: leader
                .transfer
                .as_ref()
                .map(|transfer| Transfer { heir: new(transfer.heir), ..transfer.clone() }),
            ..leader.clone()
        }),
    }
}

fn renamed_forwarding(forwarding: &Forwarding, new: Renaming) -> Forwarding {
    let mut renamed = forwarding.clone();
    renamed.waiting = forwarding.waiting.iter().map(|proposal| proposal.renamed(new)).collect();
    renamed
}

fn renamed_reads(reads: &ReadRounds, new: Renaming) -> ReadRounds {
    let mut renamed = reads.clone();
    renamed.unassigned = renamed_keys(&reads.unassigned, new, |asked| *asked);
    for read in &mut renamed.waiting {
        match &mut read.reader {
            Reader::Local { .. } => {}
            Reader::Peer { id, .. } => *id = new(*id),
        }
    }
    renamed
}

fn renamed_keys<T>(map: &BTreeMap<NodeId, T>, new: Renaming, value: impl Fn(&T) -> T) -> BTreeMap<NodeId, T> {
    map.iter().map(|(id, old)| (new(*id), value(old))).collect()
}

impl Log {
    /// The same log with other names for those who asked for its entries.
    pub fn renamed(&self, new: Renaming) -> Log {
        let base = self.first_index().previous();
        let base_id = EntryId::new(self.term_at(base).unwrap_or(Term(0)), base);
        Log::new(base_id, self.after(base).iter().map(|entry| entry.renamed(new)).collect())
    }
}

impl Entry {
    /// The same entry with another name for who asked for it.
    pub fn renamed(&self, new: Renaming) -> Entry {
        Entry {
            request: self.request.map(|request| request.renamed(new)),
            configuration: self.configuration.as_ref().map(|members| Arc::new(members.renamed(new))),
            ..self.clone()
        }
    }
}

impl RequestId {
    /// The same request of a node with another name.
    pub fn renamed(self, new: Renaming) -> RequestId {
        RequestId { node: new(self.node), ..self }
    }
}

impl Proposal {
    fn renamed(&self, new: Renaming) -> Proposal {
        Proposal { request: self.request.renamed(new), ..self.clone() }
    }
}

impl Message {
    /// The same message between nodes that have other names.
    pub fn renamed(&self, new: Renaming) -> Message {
        let mut body = self.body.clone();
        match &mut body {
            Body::AppendEntries(request) => {
                request.entries = request.entries.iter().map(|entry| entry.renamed(new)).collect();
            }
            Body::ForwardProposals(ForwardProposals { proposals, .. }) => {
                *proposals = proposals.iter().map(|proposal| proposal.renamed(new)).collect();
            }
            Body::ForwardProposalsResponse(ForwardProposalsResponse { refused, .. }) => {
                *refused = refused.iter().map(|request| request.renamed(new)).collect();
            }
            Body::RequestVote(_)
            | Body::RequestVoteResponse(_)
            | Body::AppendEntriesResponse(_)
            | Body::InstallSnapshot(_)
            | Body::InstallSnapshotResponse(_)
            | Body::TimeoutNow(_)
            | Body::ReadIndexRequest(_)
            | Body::ReadIndexResponse(_) => {}
        }
        Message { from: new(self.from), to: new(self.to), term: self.term, body }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{AppendEntries, InstallSnapshot, ReadIndexRequest, ReadRound};
    use super::super::state::tests::{campaigning, hear, hear_match, hear_vote, leading, started, step};
    use super::super::{Configuration, Input, MemberChange, Output, RoleName};
    use super::*;
    use crate::types::{Command, Founding, Incarnation, Index, Member};
    use std::fmt;

    /// A proposal of a client of this node.
    fn proposal(node: u16, number: u64) -> Proposal {
        Proposal { request: RequestId { node: NodeId(node), boot: 7, number }, command: Command::noop() }
    }

    fn propose(number: u64) -> Input {
        let Proposal { request, command } = proposal(1, number);
        Input::Propose { request, command }
    }

    /// Node 1, which follows 2 and waits for it: with a proposal, a read, and a snapshot that has begun to
    /// arrive.
    fn following() -> RaftState {
        let mut state = started(&[1, 2, 3], true);
        let heartbeat = AppendEntries {
            number: 1,
            prev: EntryId::NONE,
            entries: Vec::new(),
            leader_commit: Index::NONE,
            read_round: ReadRound::default(),
        };
        let (from, to, body) = (NodeId(2), NodeId(1), Body::AppendEntries(heartbeat));
        step(&mut state, Input::Message(Message { from, to, term: Term(1), body }));
        let beginning = InstallSnapshot {
            number: 2,
            snapshot: EntryId::new(Term(1), Index(9)),
            offset: 0,
            lines: Vec::new(),
            is_last: false,
            read_round: ReadRound::default(),
        };
        hear(&mut state, 2, Body::InstallSnapshot(beginning));
        step(&mut state, propose(1));
        step(&mut state, Input::Read { number: 3 });
        assert!(!state.forwarding.waiting.is_empty() && state.incoming.is_some());
        state
    }

    fn member() -> Member {
        Member { incarnation: Some(Incarnation(4)), life: Some(1), ..Member::at("host:1", "host:2") }
    }

    /// Node 1, which leads and has everything under way that a leader can have: 4 is to take the place of 3,
    /// a proposal of 2 was refused, reads of 2 and 3 wait, and 2 is to lead. Also what it said last.
    fn leading_with_all_under_way() -> (RaftState, Vec<Message>) {
        let mut state = leading();
        step(&mut state, Input::Met { peer: NodeId(3), incarnation: Incarnation(3) });
        let change = MemberChange {
            add: BTreeMap::from([(NodeId(4), member())]),
            remove: [NodeId(3)].into_iter().collect(),
        };
        let appended = step(&mut state, Input::ChangeMembers { request: 1, change });
        hear_match(&mut state, 2);
        step(&mut state, Input::Tick);
        let proposed = step(&mut state, propose(1));
        hear(&mut state, 2, Body::ReadIndexRequest(ReadIndexRequest { boot: 7, number: 1 }));
        state.settings.max_uncommitted_bytes = 0;
        let (heard, proposals) = (0, vec![proposal(2, 1)]);
        let forwarded = ForwardProposals { boot: 7, first_number: 0, heard, proposals };
        let refused = hear(&mut state, 2, Body::ForwardProposals(forwarded));
        step(&mut state, Input::Transfer { heir: Some(NodeId(2)) });
        let Role::Leader(leader) = &mut state.role else { panic!("{state} does not lead") };
        leader.reads.ask(NodeId(3), 7, 1);
        assert!(!leader.catch_up.is_empty() && leader.transfer.is_some());
        assert!(!leader.reads.unassigned.is_empty() && !leader.reads.waiting.is_empty());
        assert!(!leader.forwarded[&NodeId(2)].refused.is_empty());
        let outputs = [appended, proposed, refused].into_iter();
        (state, outputs.flat_map(|output| [output.now, output.after_save]).flatten().collect())
    }

    /// The names of nodes in what Debug shows, of those from 1 to 9.
    fn old_names(what: &impl fmt::Debug) -> Vec<String> {
        let text = format!("{what:?}");
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        let is_old =
            |word: &&str| word.len() == 2 && word.starts_with('n') && word.ends_with(char::is_numeric);
        words.filter(is_old).map(str::to_owned).collect()
    }

    /// With other names for all nodes, nothing speaks of the old ones; with the old names again, it is what
    /// it was.
    fn check_renamed<T: fmt::Debug + PartialEq>(what: &T, renamed: impl Fn(&T, Renaming) -> T) {
        assert_ne!(old_names(what), [""; 0], "{what:?}");
        let other = renamed(what, &|id| NodeId(id.0 + 100));
        assert_eq!(old_names(&other), [""; 0], "{other:?}");
        assert_eq!(&renamed(&other, &|id| NodeId(id.0 - 100)), what);
    }

    /// An exhaustive search takes two states for one when they differ only in names: a name that was left, or
    /// something that was lost with the names, would have it skip states that are not the same.
    #[test]
    fn a_node_with_another_name_speaks_of_no_old_one() {
        let mut candidate = campaigning();
        hear_vote(&mut candidate, 2, true, true);
        hear_vote(&mut candidate, 3, false, false);
        let Role::Candidate(Candidate { granted, refused, .. }) = &candidate.role else { panic!() };
        assert!(!granted.is_empty() && !refused.is_empty() && candidate.voted_for.is_some());
        let (leader, messages) = leading_with_all_under_way();
        for state in [following(), candidate, leader] {
            check_renamed(&state, RaftState::renamed);
        }
        let names: Vec<&str> = messages.iter().map(|message| message.body.name()).collect();
        assert!(names.contains(&"AppendEntries") && names.contains(&"ForwardProposalsResponse"), "{names:?}");
        messages.iter().for_each(|message| check_renamed(message, Message::renamed));
    }

    #[test]
    fn a_configuration_with_other_names_speaks_of_no_old_one() {
        let ids = |ids: &[u16]| ids.iter().copied().map(NodeId).collect();
        let configuration = Configuration {
            voters: ids(&[1, 2]),
            outgoing: ids(&[2, 3]),
            learners: ids(&[4]),
            next_voters: Some(ids(&[1, 4])),
            members: BTreeMap::from([(NodeId(4), member())]),
            incarnations: [(NodeId(2), Incarnation(1))].into(),
            lives: 1,
            founding: Founding(5),
        };
        check_renamed(&configuration, Configuration::renamed);
    }

    #[test]
    fn states_that_differ_in_time_alone_become_one() {
        for mut state in [following(), campaigning(), leading_with_all_under_way().0] {
            let mut later = state.clone();
            later.random = Random::new(2);
            later.step(Input::Tick, &mut Output::default());
            assert_ne!(later, state);
            state.forget_time();
            later.forget_time();
            assert_eq!(later, state);
        }
    }

    /// Which messages were sent.
    fn sent(output: &Output) -> Vec<&'static str> {
        let mut names: Vec<&str> =
            output.now.iter().chain(&output.after_save).map(|message| message.body.name()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// In a search, time passes when nothing else is left to happen, and a tick in which nothing comes of it
    /// leads nowhere: whatever was lost would never be said again.
    #[test]
    fn what_is_said_again_after_a_while_is_due_with_the_next_tick() {
        for (mut state, expected) in [
            (following(), vec!["ForwardProposals", "ReadIndexRequest"]),
            (campaigning(), vec!["RequestVote"]),
            (leading(), vec!["AppendEntries"]),
        ] {
            assert_eq!(sent(&step(&mut state.clone(), Input::Tick)), [""; 0], "{state}");
            state.forget_time();
            assert_eq!(sent(&step(&mut state, Input::Tick)), expected, "{state}");
        }
        let mut idle = started(&[1, 2, 3], true);
        idle.forget_time();
        assert_eq!(idle.forwarding.stalled_ticks, 0, "it has nothing to send");
        assert_eq!(sent(&step(&mut idle, Input::Tick)), ["RequestVote"], "nothing but a campaign is to come");
    }

    #[test]
    fn when_time_has_passed_the_next_tick_ends_what_waits_for_news() {
        for (mut state, expected) in [
            (following(), RoleName::PreCandidate),
            (campaigning(), RoleName::PreCandidate),
            (leading(), RoleName::Follower),
        ] {
            let role = state.role();
            state.forget_time();
            state.let_time_pass();
            assert!(state.live_leader().is_none() || role == RoleName::Leader, "{state}");
            assert_eq!(state.role(), role, "nothing has happened yet");
            let output = step(&mut state, Input::Tick);
            assert_eq!(state.role(), expected, "{state}");
            assert_eq!(sent(&output).contains(&"RequestVote"), expected == RoleName::PreCandidate, "{state}");
        }
    }

    /// A search bounds its states by these.
    #[test]
    fn a_node_tells_how_often_it_has_started_read_and_sent() {
        let mut state = started(&[1, 2, 3], true);
        step(&mut state, Input::Read { number: 3 });
        assert_eq!((state.boot(), state.newest_read()), (7, 3));
        assert_eq!((state.read_rounds(), state.appends_sent()), (0, 0), "it does not lead");
        let mut state = leading();
        assert_eq!((state.read_rounds(), state.appends_sent()), (0, 2), "2 got an entry, and its commit");
        step(&mut state, Input::Read { number: 1 });
        step(&mut state, Input::Read { number: 2 });
        assert_eq!((state.read_rounds(), state.appends_sent()), (2, 4));
    }
}
