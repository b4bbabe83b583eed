//! Linearizable reads without the log: ReadIndex (thesis 6.4, paper section 8).
//!
//! A read may be served from a store that has applied at least what was committed when the read arrived. The
//! leader knows what is committed once it has committed an entry of its own term; that it still leads, it
//! learns from one round of AppendEntries that begins after the read arrived and that a quorum answers.
//!
//! A node's reads carry rising numbers, and every answer is cumulative: "all reads up to number n may be
//! served from index i on". That is sound for any of them, however late or repeated the answer: a read with
//! a number up to n had arrived before n was asked for, and the leader confirmed itself after that.

use crate::types::{Index, NodeId};
use std::collections::{BTreeMap, VecDeque};

/// This node's own reads, whatever its role.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct LocalReads {
    /// The newest read that arrived here; numbers start at 1.
    pub newest: u64,
    /// The newest read that may be served.
    pub ready: u64,
}

/// Who waits for a confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reader {
    /// The leader's own clients, up to this number.
    Local { number: u64 },
    /// A follower's clients.
    Peer { id: NodeId, boot: u64, number: u64 },
}

/// A leader's reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(super) struct ReadRounds {
    /// The newest round that was started.
    pub started: u64,
    /// The newest of the leader's own reads that has a round.
    local_assigned: u64,
    /// What followers asked for and has no round yet: the newest of each.
    pub unassigned: BTreeMap<NodeId, (u64, u64)>,
    /// Rounds that wait for a quorum, oldest first.
    pub waiting: VecDeque<WaitingRead>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct WaitingRead {
    round: u64,
    index: Index,
    /// Who waits.
    pub reader: Reader,
}

/// Rounds that may be open at once. Beyond that, new reads wait for the next, and share it.
const MAX_WAITING: usize = 1024;

impl ReadRounds {
    /// Of a leader whose own reads up to `local_ready` are served already.
    pub fn new(local_ready: u64) -> ReadRounds {
        ReadRounds { local_assigned: local_ready, ..ReadRounds::default() }
    }

    /// A follower asks for its reads up to (boot, number).
    pub fn ask(&mut self, from: NodeId, boot: u64, number: u64) {
        let newest = self.unassigned.entry(from).or_insert((boot, number));
        *newest = (*newest).max((boot, number));
    }

    /// Starts one round for all reads that have none, if there are any: they may be served from
    /// `commit_index` on, once the round is confirmed.
    pub fn start_round(&mut self, local_newest: u64, commit_index: Index) {
        let local = local_newest > self.local_assigned;
        if (!local && self.unassigned.is_empty()) || self.waiting.len() >= MAX_WAITING {
            return;
        }
        self.started += 1;
        let round = self.started;
        if local {
            self.local_assigned = local_newest;
            let reader = Reader::Local { number: local_newest };
            self.waiting.push_back(WaitingRead { round, index: commit_index, reader });
        }
        for (id, (boot, number)) in std::mem::take(&mut self.unassigned) {
            let reader = Reader::Peer { id, boot, number };
            self.waiting.push_back(WaitingRead { round, index: commit_index, reader });
        }
    }

    /// The reads that round `confirmed` and those before it confirm, each with its index.
    pub fn release(&mut self, confirmed: u64) -> Vec<(Reader, Index)> {
        let count = self.waiting.iter().take_while(|read| read.round <= confirmed).count();
        self.waiting.drain(..count).map(|read| (read.reader, read.index)).collect()
    }
}
