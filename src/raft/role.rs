//! What a node is in its current term (paper 5.1), and what it must remember only as long as it is that. A
//! role's data ends with the role: nobody can meet a stale vote count or a stale `next_index`.

use super::forwarding::ForwardedFrom;
use super::membership::CatchUp;
use super::progress::Progress;
use super::reads::ReadRounds;
use super::transfer::Transfer;
use crate::types::{Index, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The node's role, with what only that role needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Listens to a leader, or waits for one.
    Follower(Follower),
    /// Campaigns: asks for pre-votes, then for votes.
    Candidate(Candidate),
    /// Leads its term.
    Leader(Leader),
}

/// See [`Role::Follower`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// Who leads this term, once it made itself known.
    pub leader: Option<NodeId>,
    /// Ticks since that leader was heard of, or a vote was granted, or the role began.
    pub elapsed_ticks: u32,
    /// When to campaign: drawn anew with each role.
    pub timeout_ticks: u32,
    /// The newest of this node's reads for which the leader was asked.
    pub reads_asked: u64,
    /// Ticks since it was asked.
    pub reads_asked_ticks: u32,
}

/// See [`Role::Candidate`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    /// Still asking whether a campaign would succeed (thesis 9.6): the term is not raised yet.
    pub pre_vote: bool,
    /// The leader asked for it (thesis 3.10).
    pub leadership_transfer: bool,
    /// Who granted, this node included.
    pub granted: BTreeSet<NodeId>,
    /// Who refused.
    pub refused: BTreeSet<NodeId>,
    /// Ticks since the campaign began.
    pub elapsed_ticks: u32,
    /// When to begin again.
    pub timeout_ticks: u32,
}

/// See [`Role::Leader`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    /// The no-op that began this term: only once it is committed does the leader know what is (paper 8).
    pub first_index: Index,
    /// What is known of each other member.
    pub progress: BTreeMap<NodeId, Progress>,
    /// Ticks since the last heartbeat.
    pub heartbeat_ticks: u32,
    /// Bytes of entries of this term that are not committed. Not of those that were there before: after a
    /// restart, which knows of no commit, that would be the whole log.
    pub uncommitted_bytes: usize,
    /// How far the proposals of each follower's clients are taken.
    pub forwarded: BTreeMap<NodeId, ForwardedFrom>,
    /// Reads that wait for a confirmation of this leadership.
    pub reads: ReadRounds,
    /// The learners that are to vote, and how far each is on its way.
    pub catch_up: BTreeMap<NodeId, CatchUp>,
    /// The lead is being handed over.
    pub transfer: Option<Transfer>,
}

/// A role without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoleName {
    /// Listens to a leader, or waits for one.
    Follower,
    /// Asks whether a campaign would succeed.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads its term.
    Leader,
}

impl Role {
    pub fn name(&self) -> RoleName {
        match self {
            Role::Follower(_) => RoleName::Follower,
            Role::Candidate(Candidate { pre_vote: true, .. }) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }
}

impl RoleName {
    /// The word for it, in logs and in the answer to `status`.
    pub fn word(self) -> &'static str {
        match self {
            RoleName::Follower => "follower",
            RoleName::PreCandidate => "pre-candidate",
            RoleName::Candidate => "candidate",
            RoleName::Leader => "leader",
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
