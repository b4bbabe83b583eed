//! What happened and why, as values: the core says it, the rim writes it down. One vocabulary for logs,
//! golden scripts and assertion messages: `n1` is a node, `5@2` is the entry at index 5 of term 2.

use super::Configuration;
use super::role::RoleName;
use crate::types::{EntryId, Index, NodeId, Term};
use std::fmt;

/// An event of the protocol worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A newer term was seen.
    TermChanged {
        /// The term before.
        from: Term,
        /// The term now.
        to: Term,
        /// Why.
        why: TermReason,
    },
    /// The node took another role, or began the same one anew.
    RoleChanged {
        /// The role before.
        from: RoleName,
        /// The role now.
        to: RoleName,
        /// Why.
        why: RoleReason,
    },
    /// A leader of this term made itself known.
    LeaderKnown {
        /// Who leads.
        leader: NodeId,
    },
    /// A vote or pre-vote was granted.
    VoteGranted {
        /// To whom.
        candidate: NodeId,
        /// For which term.
        campaign_term: Term,
        /// Whether it was only a pre-vote.
        pre_vote: bool,
    },
    /// A vote or pre-vote was refused.
    VoteRefused {
        /// To whom.
        candidate: NodeId,
        /// For which term.
        campaign_term: Term,
        /// Whether it was only a pre-vote.
        pre_vote: bool,
        /// Why.
        why: VoteRefusal,
    },
    /// Someone granted or refused this node's campaign.
    VoteReceived {
        /// Who.
        voter: NodeId,
        /// For which term.
        campaign_term: Term,
        /// Whether it was only a pre-vote.
        pre_vote: bool,
        /// Which of the two.
        granted: bool,
    },
    /// Entries that another leader had left were dropped.
    Truncated {
        /// The first entry dropped.
        first: EntryId,
        /// The last entry dropped.
        last: EntryId,
        /// The entry that the leader has in its place.
        replaced_by: EntryId,
        /// Who leads.
        leader: NodeId,
    },
    /// The leader's entries did not fit this node's log.
    AppendRejected {
        /// The entry that should have been there.
        prev: EntryId,
        /// This node's last entry.
        last: EntryId,
        /// Who leads.
        leader: NodeId,
    },
    /// A follower's log departs from the leader's: the leader goes back.
    SteppedBack {
        /// The follower.
        follower: NodeId,
        /// The entry that it did not have.
        prev: EntryId,
        /// What it gets next.
        next_index: Index,
    },
    /// More entries are committed.
    Committed {
        /// Up to here.
        index: Index,
    },
    /// An entry with other members stands in the log: they are in force from now on.
    MembersChanged {
        /// Where it stands.
        index: Index,
        /// Who they are.
        configuration: Configuration,
    },
    /// The lead is being handed over.
    TransferBegun {
        /// To whom.
        heir: NodeId,
    },
    /// It is not: nothing came of it in an election timeout.
    TransferGivenUp {
        /// Who did not take it.
        heir: NodeId,
    },
    /// A snapshot covers the log up to here, and it is forgotten.
    Compacted {
        /// The last entry that is gone.
        last: EntryId,
    },
    /// A leader's snapshot took the place of the log's beginning.
    SnapshotInstalled {
        /// The last entry that it covers.
        last: EntryId,
    },
    /// A message that makes no sense was left alone.
    Ignored {
        /// Who sent it.
        from: NodeId,
        /// Its name.
        message: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why the term changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TermReason {
    /// This node campaigns.
    Campaign,
    /// A message carried a newer term.
    Message {
        /// Who sent it.
        from: NodeId,
        /// Its name.
        name: &'static str,
    },
}

/// Why the role changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleReason {
    /// Nothing was heard from a leader for an election timeout.
    ElectionTimeout,
    /// A quorum would vote for this node.
    PreVotesWon,
    /// A quorum voted for this node.
    VotesWon {
        /// Who.
        by: Vec<NodeId>,
    },
    /// A quorum refused.
    VotesLost,
    /// A newer term was seen.
    NewTerm,
    /// A leader of the same term made itself known.
    LeaderKnown,
    /// The leader wants this node to lead (thesis 3.10).
    TransferAsked {
        /// Who leads.
        leader: NodeId,
    },
    /// This node has no vote any more: it led and has removed itself, and that is committed; or it campaigned
    /// and has installed a snapshot that says so.
    Removed,
    /// No quorum answered for an election timeout (check-quorum, thesis 6.2).
    QuorumLost {
        /// Who did answer.
        heard: Vec<NodeId>,
    },
}

/// Why a vote was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteRefusal {
    /// The campaign's term is over.
    OldTerm {
        /// This node's term.
        ours: Term,
    },
    /// One vote a term.
    AlreadyVoted {
        /// Who has it.
        candidate: NodeId,
    },
    /// The candidate's log is behind (paper 5.4.1).
    LogBehind {
        /// The candidate's last entry.
        theirs: EntryId,
        /// This node's last entry.
        ours: EntryId,
    },
    /// This node has joined, or has lost its data, and its log does not name it yet.
    NotNamed,
    /// A leader was heard of within the shortest election timeout (thesis 4.2.3).
    LeaderAlive {
        /// Who leads.
        leader: NodeId,
    },
}

/// How much a note matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Roles, terms, votes, leaders, truncations: what a reader of the log wants to see.
    Event,
    /// Steps on the way.
    Detail,
}

impl Note {
    /// How much it matters.
    pub fn weight(&self) -> Weight {
        match self {
            Note::TermChanged { .. }
            | Note::RoleChanged { .. }
            | Note::LeaderKnown { .. }
            | Note::VoteGranted { .. }
            | Note::VoteRefused { .. }
            | Note::VoteReceived { .. }
            | Note::Truncated { .. }
            | Note::MembersChanged { .. }
            | Note::TransferBegun { .. }
            | Note::TransferGivenUp { .. }
            | Note::Compacted { .. }
            | Note::SnapshotInstalled { .. }
            | Note::Ignored { .. } => Weight::Event,
            Note::AppendRejected { .. } | Note::SteppedBack { .. } | Note::Committed { .. } => Weight::Detail,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vote = |pre_vote: &bool| if *pre_vote { "pre-vote" } else { "vote" };
        match self {
            Note::TermChanged { from, to, why } => write!(f, "term {from} -> {to}: {why}"),
            Note::RoleChanged { from, to, why } => write!(f, "{from} -> {to}: {why}"),
            Note::LeaderKnown { leader } => write!(f, "leader is {leader}"),
            Note::VoteGranted { candidate, campaign_term, pre_vote } => {
                write!(f, "{} for term {campaign_term} granted to {candidate}", vote(pre_vote))
            }
            Note::VoteRefused { candidate, campaign_term, pre_vote, why } => {
                write!(f, "{} for term {campaign_term} refused to {candidate}: {why}", vote(pre_vote))
            }
            Note::VoteReceived { voter, campaign_term, pre_vote, granted } => {
                let word = if *granted { "granted" } else { "refused" };
                write!(f, "{} for term {campaign_term} {word} by {voter}", vote(pre_vote))
            }
            Note::Truncated { first, last, replaced_by, leader } => {
                write!(f, "dropped {first}..{last}: {leader} has {replaced_by} there")
            }
            Note::AppendRejected { prev, last, leader } => {
                write!(f, "entries of {leader} do not fit: no {prev} here, last is {last}")
            }
            Note::SteppedBack { follower, prev, next_index } => {
                write!(f, "{follower} has no {prev}: going back to {next_index}")
            }
            Note::Committed { index } => write!(f, "committed up to {index}"),
            Note::MembersChanged { index, configuration } => {
                write!(f, "members from index {index} on: {configuration}")
            }
            Note::TransferBegun { heir } => write!(f, "hands the lead over to {heir}"),
            Note::TransferGivenUp { heir } => write!(f, "leads on: {heir} did not take over in time"),
            Note::Compacted { last } => write!(f, "log begins after {last}, which a snapshot covers"),
            Note::SnapshotInstalled { last } => write!(f, "installed a snapshot up to {last}"),
            Note::Ignored { from, message, why } => write!(f, "ignored {message} from {from}: {why}"),
        }
    }
}

impl fmt::Display for TermReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TermReason::Campaign => f.write_str("campaigning"),
            TermReason::Message { from, name } => write!(f, "{name} from {from}"),
        }
    }
}

impl fmt::Display for RoleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoleReason::ElectionTimeout => f.write_str("no leader for an election timeout"),
            RoleReason::PreVotesWon => f.write_str("a quorum would vote for this node"),
            RoleReason::VotesWon { by } => write!(f, "votes of {by:?}"),
            RoleReason::VotesLost => f.write_str("a quorum refused"),
            RoleReason::NewTerm => f.write_str("a newer term was seen"),
            RoleReason::LeaderKnown => f.write_str("a leader of this term made itself known"),
            RoleReason::TransferAsked { leader } => write!(f, "{leader} hands the lead over"),
            RoleReason::Removed => f.write_str("no voter any more"),
            RoleReason::QuorumLost { heard } => {
                write!(f, "no quorum answered for an election timeout, only {heard:?}")
            }
        }
    }
}

impl fmt::Display for VoteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VoteRefusal::OldTerm { ours } => write!(f, "term is over: we are in {ours}"),
            VoteRefusal::AlreadyVoted { candidate } => write!(f, "vote went to {candidate}"),
            VoteRefusal::LogBehind { theirs, ours } => write!(f, "log is behind: {theirs} < {ours}"),
            VoteRefusal::NotNamed => {
                f.write_str("this node is not named in its log yet, and may be another one there")
            }
            VoteRefusal::LeaderAlive { leader } => write!(f, "leader {leader} is alive"),
        }
    }
}
