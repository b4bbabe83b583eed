//! What a leader knows of one follower's log (figure 2: `nextIndex`, `matchIndex`), and how fast it may send.
//!
//! ```text
//!            rejected: next goes back to the hint
//!        +-------------------------------------------+
//!        v                                           |
//!   Probe: one message at a time     Pipeline: next_index moves on sending,
//!        |                                as far as the window allows
//!        +-------------------------------------------^
//!            accepted: next = match + 1
//!
//!   what it needs next is gone from the log: Snapshot, one piece at a time, then Pipeline again
//! ```

use crate::types::{EntryId, Index};
use std::collections::VecDeque;

/// A leader's view of one follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Progress {
    /// Up to here the follower's log, on its disk, equals the leader's. Never falls within a term.
    pub match_index: Index,
    /// The next entry to send. Always above `match_index`.
    pub next_index: Index,
    /// Whether the place where the logs meet is known.
    pub pace: Pace,
    /// The number of the last AppendEntries sent.
    pub last_number: u64,
    /// Rejections of messages up to this number are answered already: they were sent before the leader went
    /// back, and say nothing of what it sends now (FAULTS rows 16 and 19).
    pub ignore_rejections_to: u64,
    /// What the follower knows to be committed once it accepts what was sent.
    pub commit_sent: Index,
    /// The newest read round sent.
    pub round_sent: u64,
    /// The newest read round that the follower answered.
    pub round_confirmed: u64,
    /// A heartbeat is due at the end of this batch.
    pub heartbeat_due: bool,
    /// Ticks since the follower answered anything in this term.
    pub silent_ticks: u32,
}

/// How a leader sends to a follower.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pace {
    /// The logs' common part is not known: one message, then wait for its answer.
    Probe {
        /// That message is under way.
        waiting: bool,
    },
    /// It is known: messages follow each other without waiting, within limits.
    Pipeline {
        /// Messages with entries that are not answered yet.
        in_flight: VecDeque<InFlight>,
    },
    /// It needs what is gone from the log, and gets a snapshot first.
    Snapshot {
        /// Which: the entry that the log begins after.
        snapshot: EntryId,
        /// How many bytes of it the follower has.
        offset: u64,
        /// The message with the next piece, while it is under way.
        waits_for: Option<u64>,
    },
}

/// An unanswered message with entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct InFlight {
    /// Its number.
    pub number: u64,
    /// The size of its entries.
    pub bytes: usize,
}

impl Progress {
    /// Of a follower about which nothing is known: figure 2 starts `nextIndex` after the leader's last entry.
    pub fn new(leader_last: Index) -> Progress {
        Progress {
            match_index: Index::NONE,
            next_index: leader_last.next(),
            pace: Pace::Probe { waiting: false },
            last_number: 0,
            ignore_rejections_to: 0,
            commit_sent: Index::NONE,
            round_sent: 0,
            round_confirmed: 0,
            heartbeat_due: true,
            silent_ticks: 0,
        }
    }

    /// Whether entries may go out now.
    pub fn may_send_entries(&self, max_messages: usize, max_bytes: usize) -> bool {
        match &self.pace {
            Pace::Probe { waiting } => !waiting,
            Pace::Pipeline { in_flight } => {
                let bytes: usize = in_flight.iter().map(|message| message.bytes).sum();
                in_flight.len() < max_messages && bytes < max_bytes
            }
            Pace::Snapshot { .. } => false,
        }
    }

    /// Takes note of an AppendEntries that goes out: entries up to `last` of `bytes` in all.
    pub fn sent(&mut self, last: Index, bytes: usize) {
        let has_entries = bytes > 0;
        match &mut self.pace {
            Pace::Probe { waiting } => *waiting = true,
            Pace::Pipeline { in_flight } if has_entries => {
                in_flight.push_back(InFlight { number: self.last_number, bytes });
                self.next_index = last.next();
            }
            Pace::Pipeline { .. } => {}
            Pace::Snapshot { .. } => panic!("entries are sent after a snapshot, and not before"),
        }
    }

    /// Everything up to here is durable at the follower, from a snapshot or from before.
    pub fn installed(&mut self, index: Index) {
        self.match_index = self.match_index.max(index);
        self.next_index = self.next_index.max(self.match_index.next());
        if matches!(self.pace, Pace::Snapshot { .. }) {
            self.pace = Pace::Pipeline { in_flight: VecDeque::new() };
        }
    }

    /// The follower's log equals the leader's up to `match_index`, says the answer to message `number`.
    /// True for good within the term, however late it comes: a follower never drops what its leader sent.
    pub fn accepted(&mut self, number: u64, match_index: Index) {
        self.match_index = self.match_index.max(match_index);
        match &mut self.pace {
            // An answer from before: what it needs is gone all the same, and under way.
            Pace::Snapshot { snapshot, .. } if self.match_index < snapshot.index => {
                self.next_index = self.match_index.next();
            }
            Pace::Probe { .. } | Pace::Snapshot { .. } => {
                self.next_index = self.match_index.next();
                self.pace = Pace::Pipeline { in_flight: VecDeque::new() };
            }
            Pace::Pipeline { in_flight } => {
                in_flight.retain(|message| message.number > number);
                self.next_index = self.next_index.max(self.match_index.next());
            }
        }
    }

    /// Whether the rejection of message `number`, sent after `prev`, says something new.
    pub fn is_news(&self, number: u64, prev: EntryId) -> bool {
        let has_place = !matches!(self.pace, Pace::Snapshot { .. });
        has_place && number > self.ignore_rejections_to && prev.index > self.match_index
    }

    /// The follower has no `prev`: goes back to `hint`, but never to what is known to match nor forward.
    pub fn rejected(&mut self, prev: EntryId, hint: Index) {
        self.next_index = hint.min(prev.index).max(self.match_index.next());
        self.pace = Pace::Probe { waiting: false };
        self.ignore_rejections_to = self.last_number;
        self.commit_sent = self.commit_sent.min(self.next_index.previous());
    }
}
