//! What must happen after a batch of steps: decisions as values. The core fills an [`Output`], `Node` carries
//! it out in one fixed order (save, send, publish). Outputs of a batch merge into one, so that a batch costs
//! one write and one sync.

use super::membership::ChangeRefusal;
use super::message::Message;
use super::note::Note;
use crate::types::{Entry, EntryId, Index, NodeId, RequestId, SnapshotLine, Term};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What figure 2 calls persistent state beside the log: must be on stable storage before any message that
/// follows from it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub voted_for: Option<NodeId>,
}

/// Why a proposal was refused. In every case it is certainly not in any log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No leader is known, or it is handing the lead over. Try again when there is one.
    NoLeader,
    /// The leader has too much uncommitted, or this node too much under way to it.
    Busy,
}

/// What became of a change of members that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// Its first step stands in the leader's log, as this entry. When that is committed, whoever leads goes
    /// on with the change.
    Appended(EntryId),
    /// It was not begun.
    Refused(ChangeRefusal),
}

/// Why the lead is not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferRefusal {
    /// This node does not lead.
    NotLeader {
        /// Who does, if that is known.
        leader: Option<NodeId>,
    },
    /// It is being handed over already.
    UnderWay,
    /// The one who is to lead does.
    LeadsAlready,
    /// Only a voter can lead.
    NoVoter {
        /// Who has no vote.
        id: NodeId,
    },
    /// There is no other voter.
    NobodyElse,
}

impl fmt::Display for TransferRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferRefusal::NotLeader { leader: Some(leader) } => {
                write!(f, "only the leader hands the lead over, and that is {leader}")
            }
            TransferRefusal::NotLeader { leader: None } => {
                f.write_str("only a leader hands the lead over, and none is known")
            }
            TransferRefusal::UnderWay => f.write_str("the lead is being handed over already"),
            TransferRefusal::LeadsAlready => f.write_str("this node leads already"),
            TransferRefusal::NoVoter { id } => write!(f, "{id} has no vote, and only a voter can lead"),
            TransferRefusal::NobodyElse => f.write_str("there is no other voter"),
        }
    }
}

/// A piece of a snapshot that was received and follows what was received before: to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedChunk {
    /// The last entry that the snapshot covers: its name.
    pub snapshot: EntryId,
    /// Where the lines begin in the file.
    pub offset: u64,
    /// The lines.
    pub lines: Vec<SnapshotLine>,
    /// The snapshot is whole: verify it, make it durable, and report that
    /// ([`Input::SnapshotReceived`](super::Input::SnapshotReceived)) or its opposite.
    pub is_last: bool,
}

/// What must happen, in this order: `now`, then save, then `after_save`, then publish the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Messages that need not wait for the save: a leader's AppendEntries (thesis 10.2.1).
    pub now: Vec<Message>,
    /// Save: the new term and vote, when they changed.
    pub hard_state: Option<HardState>,
    /// Send as `now`, each with a piece of its snapshot: the lines from its offset on, and whether they are
    /// the last.
    pub chunks_to_send: Vec<Message>,
    /// Save: the log begins after this entry, whose snapshot is durable, and goes on with `entries`. Of what
    /// was there before, nothing stays: what follows the entry is among them. Only ever the answer to a
    /// snapshot that was received.
    pub installed: Option<EntryId>,
    /// Save: pieces of a snapshot. They need not be durable before it is whole.
    pub chunks: Vec<ReceivedChunk>,
    /// Save: all entries from here on are void, before `entries` are appended.
    pub truncate_from: Option<Index>,
    /// Save: entries to append.
    pub entries: Vec<Entry>,
    /// Messages that speak of what is saved: votes, vote requests, followers' answers and all else.
    pub after_save: Vec<Message>,
    /// Publish: proposals that were appended here or passed on, with the term of the leader they went to.
    pub proposed: Vec<(RequestId, Term)>,
    /// Publish: proposals that were not taken.
    pub refused: Vec<(RequestId, Refusal)>,
    /// Publish: what became of changes of members, by the numbers they were asked for with.
    pub changes: Vec<(u64, ChangeOutcome)>,
    /// Publish: entries that the log has forgotten. To drop many takes time, so not where anybody waits.
    pub forgotten: Vec<Entry>,
    /// Publish: the lead is not handed over.
    pub transfer_refused: Option<TransferRefusal>,
    /// Publish: all reads up to this number may be served from this index on.
    pub reads: Vec<ReadReady>,
    /// Publish: what happened and why, for the log.
    pub notes: Vec<Note>,
}

/// Reads that may be served: every one with a number up to `number`, by a store that has applied `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadReady {
    /// The newest read that this serves.
    pub number: u64,
    /// What must be applied first.
    pub index: Index,
}

impl Output {
    /// Whether there is something to write to the disk.
    pub fn needs_save(&self) -> bool {
        let log_changes =
            self.installed.is_some() || self.truncate_from.is_some() || !self.entries.is_empty();
        self.hard_state.is_some() || log_changes
    }

    /// Records that the log begins after `base` and goes on with `entries`, whatever this batch was to save
    /// of it so far.
    pub(super) fn save_restart(&mut self, base: EntryId, entries: &[Entry]) {
        self.installed = Some(base);
        self.truncate_from = None;
        self.entries = entries.to_vec();
    }

    /// Records that entry `entry` is to be appended.
    pub(super) fn save_entry(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Records that everything from `from` on is void. Entries of this batch that were never written simply
    /// vanish; what may stand in the file needs a truncation.
    pub(super) fn save_truncation(&mut self, from: Index) {
        let batch_starts_at = self.entries.first().map(|entry| entry.index);
        self.entries.retain(|entry| entry.index < from);
        let all_in_this_batch = batch_starts_at.is_some_and(|first| first <= from);
        if !all_in_this_batch {
            let earliest = self.truncate_from.map_or(from, |earlier| earlier.min(from));
            self.truncate_from = Some(earliest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Command;

    /// An operator reads these.
    #[test]
    fn a_lead_that_is_not_handed_over_says_why() {
        for (refusal, text) in [
            (
                TransferRefusal::NotLeader { leader: Some(NodeId(2)) },
                "only the leader hands the lead over, and that is n2",
            ),
            (
                TransferRefusal::NotLeader { leader: None },
                "only a leader hands the lead over, and none is known",
            ),
            (TransferRefusal::UnderWay, "the lead is being handed over already"),
            (TransferRefusal::LeadsAlready, "this node leads already"),
            (TransferRefusal::NoVoter { id: NodeId(4) }, "n4 has no vote, and only a voter can lead"),
            (TransferRefusal::NobodyElse, "there is no other voter"),
        ] {
            assert_eq!(refusal.to_string(), text);
        }
    }

    /// Each alone: what is not saved must not be spoken of (figure 2).
    #[test]
    fn whatever_changes_term_vote_or_log_needs_a_save() {
        let entry = Entry {
            term: Term(1),
            index: Index(0),
            request: None,
            command: Command::noop(),
            configuration: None,
        };
        for output in [
            Output { hard_state: Some(HardState::default()), ..Output::default() },
            Output { installed: Some(EntryId::NONE), ..Output::default() },
            Output { truncate_from: Some(Index(1)), ..Output::default() },
            Output { entries: vec![entry], ..Output::default() },
        ] {
            assert!(output.needs_save(), "{output:?}");
        }
        assert!(!Output::default().needs_save());
    }
}
