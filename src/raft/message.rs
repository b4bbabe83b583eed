//! What nodes say to each other: the four messages of the paper's figure 2, and two pairs of our own for a
//! proposal or a read that was asked of a node that does not lead.
//!
//! Every answer says what it answers (the request's term and number), so that a late or repeated answer can
//! not be taken for one to a newer request.

use super::output::HardState;
use crate::types::{Command, Entry, EntryId, Index, NodeId, RequestId, SnapshotLine, Term};
use serde::{Deserialize, Serialize};

/// A message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
    /// The sender's current term when it sent this, also in answers and pre-votes (where the term that the
    /// sender would campaign for stands in the body).
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Asks for a vote, or with `pre_vote` whether there would be one.
    RequestVote(RequestVote),
    /// Grants or refuses it.
    RequestVoteResponse(RequestVoteResponse),
    /// Entries to append; without entries, a heartbeat.
    AppendEntries(AppendEntries),
    /// Whether they fitted.
    AppendEntriesResponse(AppendEntriesResponse),
    /// A piece of a snapshot, for who needs what is gone from the leader's log.
    InstallSnapshot(InstallSnapshot),
    /// How much of it is there.
    InstallSnapshotResponse(InstallSnapshotResponse),
    /// The leader wants the receiver to lead: campaign at once (thesis 3.10).
    TimeoutNow(TimeoutNow),
    /// Proposals of a follower's clients, for the leader of exactly this message's term.
    ForwardProposals(ForwardProposals),
    /// How far the leader has taken them.
    ForwardProposalsResponse(ForwardProposalsResponse),
    /// A follower asks from which index on its clients' reads may be served.
    ReadIndexRequest(ReadIndexRequest),
    /// The leader's word on it.
    ReadIndexResponse(ReadIndexResponse),
}

/// RequestVote RPC, figure 2; with `pre_vote`, thesis 9.6.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVote {
    /// The term campaigned for: the sender's term, or in a pre-vote the one after it.
    pub campaign_term: Term,
    /// A question without consequences: nobody's term or vote changes.
    pub pre_vote: bool,
    /// The campaign was asked for by the leader (thesis 3.10): a lease does not stand in its way.
    pub leadership_transfer: bool,
    /// The candidate's last entry (`lastLogIndex`, `lastLogTerm`).
    pub last: EntryId,
}

/// The answer to [`RequestVote`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVoteResponse {
    /// Echo: which campaign this answers.
    pub campaign_term: Term,
    /// Echo: which kind of campaign.
    pub pre_vote: bool,
    /// Whether the vote is granted.
    pub granted: bool,
}

/// Names one round of confirming a leader's leadership for reads (thesis 6.4). The term belongs to the name,
/// because a leader of two terms counts anew in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ReadRound {
    /// The leader's term.
    pub term: Term,
    /// Counts the rounds of that term, from 1; 0 before the first.
    pub number: u64,
}

/// AppendEntries RPC, figure 2.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntries {
    /// Counts this leader's AppendEntries to this follower in this term, from 1.
    pub number: u64,
    /// The entry just before the new ones (`prevLogIndex`, `prevLogTerm`).
    pub prev: EntryId,
    /// The entries, without a gap after `prev`.
    pub entries: Vec<Entry>,
    /// The leader's `commit_index`.
    pub leader_commit: Index,
    /// The newest read round: answering this message confirms it and all before it.
    pub read_round: ReadRound,
}

/// The answer to [`AppendEntries`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendEntriesResponse {
    /// Echo: the term of the request answered.
    pub request_term: Term,
    /// Echo: its number.
    pub number: u64,
    /// Echo: its `prev`.
    pub prev: EntryId,
    /// Echo: its read round, also in a rejection, since that too speaks of who leads.
    pub read_round: ReadRound,
    /// Whether the entries fitted.
    pub outcome: AppendOutcome,
}

/// Whether AppendEntries fitted the follower's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The follower's log equals the leader's up to here: `prev` and the entries of this request, never the
    /// follower's own last index, which may be another leader's.
    Accepted {
        /// The last index vouched for.
        match_index: Index,
    },
    /// The follower has another entry at `prev`, or none.
    Rejected {
        /// Where the follower's log departs, for the leader to find the place in few round trips.
        conflict: Conflict,
    },
}

/// Why a follower's log has no `prev` (paper section 5.3, last paragraphs).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Conflict {
    /// The follower's log ends before `prev`.
    TooShort {
        /// The follower's last index.
        last: Index,
    },
    /// At `prev.index` the follower has an entry of another term.
    OtherTerm {
        /// That entry's term.
        term: Term,
        /// The first index of that term in the follower's log.
        first: Index,
    },
    /// The request is of an older term; the answer's own term says so.
    OldTerm,
}

/// InstallSnapshot RPC, figure 13. Without lines it is only a sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshot {
    /// Counts on with the leader's AppendEntries to this follower.
    pub number: u64,
    /// The last entry that the snapshot covers (`lastIncludedIndex`, `lastIncludedTerm`): its name.
    pub snapshot: EntryId,
    /// Where the lines begin in the snapshot's file, in bytes.
    pub offset: u64,
    /// Whole lines, as they stand in the file.
    pub lines: Vec<SnapshotLine>,
    /// Whether they are the last.
    pub is_last: bool,
    /// As in [`AppendEntries`].
    pub read_round: ReadRound,
}

/// The answer to [`InstallSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstallSnapshotResponse {
    /// Echo: the term of the request answered.
    pub request_term: Term,
    /// Echo: its number.
    pub number: u64,
    /// Echo: which snapshot.
    pub snapshot: EntryId,
    /// Echo: its read round.
    pub read_round: ReadRound,
    /// How much is there.
    pub received: Received,
}

/// How much of a snapshot a follower has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Received {
    /// So many bytes, and it waits for what follows.
    Bytes(u64),
    /// Everything that the snapshot covers is durable here, from the snapshot or from before.
    All,
}

/// TimeoutNow RPC, thesis 3.10. It says nothing but its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeoutNow {}

/// One proposal under way to the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// Who waits for it.
    pub request: RequestId,
    /// What is to be appended.
    pub command: Command,
}

impl Proposal {
    /// About how many bytes it takes in a message: never less than the JSON object.
    pub fn size_bytes(&self) -> usize {
        // {"request":{"node":N,"boot":N,"number":N},"command":} with 20-digit numbers.
        const FRAME_BYTES: usize = 120;
        FRAME_BYTES + self.command.text().len()
    }
}

/// Proposals of a follower's clients. They carry gapless numbers per (sender, boot, term), so that the
/// leader can take each at most once and in order, however often a line is lost or repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForwardProposals {
    /// The sender's start counter.
    pub boot: u64,
    /// The number of the first of these proposals; the others follow without a gap. From 0 in each term.
    pub first_number: u64,
    /// The leader's word on everything below this number was heard.
    #[serde(default)]
    pub heard: u64,
    /// The proposals.
    pub proposals: Vec<Proposal>,
}

/// How far the leader has taken a follower's proposals.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForwardProposalsResponse {
    /// Echo: the follower's start counter.
    pub boot: u64,
    /// Echo: the term of the request.
    pub request_term: Term,
    /// The next number that the leader will take: everything below is appended or refused.
    pub next_number: u64,
    /// Refused because the leader is at its limit, and not yet known to be heard; certainly not appended.
    pub refused: Vec<RequestId>,
}

/// Asks the leader from which index on reads may be served.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadIndexRequest {
    /// The asking node's start counter.
    pub boot: u64,
    /// The newest of the asking node's waiting reads: an answer serves it and all before it.
    pub number: u64,
}

/// The leader's answer to [`ReadIndexRequest`], after it confirmed its leadership.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadIndexResponse {
    /// Echo: the asking node's start counter.
    pub boot: u64,
    /// Echo: the newest read that this serves.
    pub number: u64,
    /// The reads may be served once the asking node has applied up to here.
    pub index: Index,
}

impl Message {
    /// What this message says is on its sender's disk, and is not, where the disk has this hard state and a
    /// log that ends with this index: a term, a vote, a candidate's own vote, an acknowledged entry (figure
    /// 2: "Updated on stable storage before responding to RPCs").
    pub fn unsaved_claim(&self, saved: HardState, last: Index) -> Option<String> {
        let Message { from, to, term, body } = self;
        if saved.term < *term {
            return Some(format!("{from} speaks of term {term}, and has term {} on disk", saved.term));
        }
        let vote = match body {
            Body::RequestVote(RequestVote { pre_vote: false, campaign_term, .. }) => {
                Some((*campaign_term, *from))
            }
            Body::RequestVoteResponse(response) if response.granted && !response.pre_vote => {
                Some((response.campaign_term, *to))
            }
            Body::RequestVote(_) | Body::RequestVoteResponse(_) => None,
            Body::AppendEntriesResponse(_) | Body::InstallSnapshotResponse(_) => None,
            Body::AppendEntries(_) | Body::InstallSnapshot(_) | Body::TimeoutNow(_) => None,
            Body::ForwardProposals(_) | Body::ForwardProposalsResponse(_) => None,
            Body::ReadIndexRequest(_) | Body::ReadIndexResponse(_) => None,
        };
        // Of an earlier term nothing can be said: the vote is gone, and another leader may have had the
        // entries dropped, in the same batch.
        if let Some((campaign_term, candidate)) = vote
            && campaign_term == saved.term
            && saved.voted_for != Some(candidate)
        {
            let voted_for = saved.voted_for;
            return Some(format!("{from} votes for {candidate} in term {term}, its disk says {voted_for:?}"));
        }
        let acknowledged = self.acknowledged().filter(|index| *term == saved.term && *index > last)?;
        Some(format!("{from} acknowledges index {acknowledged}, and has {last} on disk"))
    }

    /// Up to where it says that the sender has the log of the leader of its term.
    fn acknowledged(&self) -> Option<Index> {
        match &self.body {
            Body::AppendEntriesResponse(response) => match response.outcome {
                AppendOutcome::Accepted { match_index } => Some(match_index),
                AppendOutcome::Rejected { .. } => None,
            },
            Body::InstallSnapshotResponse(response) => match response.received {
                Received::All => Some(response.snapshot.index),
                Received::Bytes(_) => None,
            },
            Body::RequestVote(_) | Body::RequestVoteResponse(_) | Body::AppendEntries(_) => None,
            Body::InstallSnapshot(_) | Body::TimeoutNow(_) => None,
            Body::ForwardProposals(_) | Body::ForwardProposalsResponse(_) => None,
            Body::ReadIndexRequest(_) | Body::ReadIndexResponse(_) => None,
        }
    }
}

impl Body {
    /// The message's name, as the paper and the logs write it.
    pub fn name(&self) -> &'static str {
        match self {
            Body::RequestVote(_) => "RequestVote",
            Body::RequestVoteResponse(_) => "RequestVoteResponse",
            Body::AppendEntries(_) => "AppendEntries",
            Body::AppendEntriesResponse(_) => "AppendEntriesResponse",
            Body::InstallSnapshot(_) => "InstallSnapshot",
            Body::InstallSnapshotResponse(_) => "InstallSnapshotResponse",
            Body::TimeoutNow(_) => "TimeoutNow",
            Body::ForwardProposals(_) => "ForwardProposals",
            Body::ForwardProposalsResponse(_) => "ForwardProposalsResponse",
            Body::ReadIndexRequest(_) => "ReadIndexRequest",
            Body::ReadIndexResponse(_) => "ReadIndexResponse",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether node 1 claims what its disk does not have, when it says this in that term: there are term 3,
    /// its vote for 2 and a log up to index 5.
    fn is_told(to: u16, term: u64, body: Body) -> bool {
        let saved = HardState { term: Term(3), voted_for: Some(NodeId(2)) };
        let message = Message { from: NodeId(1), to: NodeId(to), term: Term(term), body };
        message.unsaved_claim(saved, Index(5)).is_some()
    }

    fn word_to_campaign() -> Body {
        Body::TimeoutNow(TimeoutNow {})
    }

    fn asks_for_vote(campaign_term: u64, pre_vote: bool) -> Body {
        let (campaign_term, last) = (Term(campaign_term), EntryId::NONE);
        Body::RequestVote(RequestVote { campaign_term, pre_vote, leadership_transfer: false, last })
    }

    fn answers_vote(campaign_term: u64, pre_vote: bool, granted: bool) -> Body {
        let campaign_term = Term(campaign_term);
        Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted })
    }

    fn answers_append(outcome: AppendOutcome) -> Body {
        Body::AppendEntriesResponse(AppendEntriesResponse {
            request_term: Term(3),
            number: 1,
            prev: EntryId::NONE,
            read_round: ReadRound::default(),
            outcome,
        })
    }

    fn accepts(match_index: i64) -> Body {
        answers_append(AppendOutcome::Accepted { match_index: Index(match_index) })
    }

    fn has_of_snapshot(index: i64, received: Received) -> Body {
        Body::InstallSnapshotResponse(InstallSnapshotResponse {
            request_term: Term(3),
            number: 1,
            snapshot: EntryId::new(Term(3), Index(index)),
            read_round: ReadRound::default(),
            received,
        })
    }

    /// The simulator and the golden scripts ask this of every message of every node: without it, a core that
    /// answers before it has saved would look like one that does not.
    #[test]
    fn what_is_said_and_not_saved_is_told() {
        for (to, term, body) in [
            (2, 4, word_to_campaign()),
            (2, 4, accepts(5)),
            // Its own vote is a vote, and that went to 2; and so is one for 3.
            (2, 3, asks_for_vote(3, false)),
            (3, 3, answers_vote(3, false, true)),
            (2, 3, accepts(6)),
            (2, 3, has_of_snapshot(6, Received::All)),
        ] {
            assert!(is_told(to, term, body.clone()), "{body:?} in term {term}, to {to}");
        }
    }

    #[test]
    fn what_is_saved_or_claims_nothing_is_not_told() {
        let conflict = Conflict::TooShort { last: Index(9) };
        for (to, term, body) in [
            (2, 3, word_to_campaign()),
            (2, 2, word_to_campaign()),
            (2, 3, answers_vote(3, false, true)),
            // Neither a pre-vote nor a refusal is a vote.
            (2, 3, asks_for_vote(3, true)),
            (2, 3, asks_for_vote(4, true)),
            (3, 3, answers_vote(3, true, true)),
            (3, 3, answers_vote(4, true, true)),
            (3, 3, answers_vote(3, false, false)),
            // What an earlier term's vote was, the disk does not say any more, nor what its leader's log had.
            (3, 3, answers_vote(2, false, true)),
            (2, 2, accepts(6)),
            (2, 2, has_of_snapshot(6, Received::All)),
            (2, 3, accepts(5)),
            (2, 3, has_of_snapshot(5, Received::All)),
            (2, 3, answers_append(AppendOutcome::Rejected { conflict })),
            (2, 3, has_of_snapshot(6, Received::Bytes(9))),
        ] {
            assert!(!is_told(to, term, body.clone()), "{body:?} in term {term}, to {to}");
        }
    }
}
