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
