//! Notices that nodes which applied the same entries came to different things: a store that is not
//! deterministic, memory that flips a bit, a log that was changed on disk so well that its checksums agree.
//!
//! ```text
//!   heartbeat:  leader ---{n1: 41 9f86..., n2: 40 03d1..., n3: 38 77ac...}---> each follower
//!   answer:     follower ---{n2: 40 03d1...}---> leader
//! ```
//!
//! Every node keeps its hash after each of the last 10,000 entries, so that whatever another says of one of
//! these indexes can be compared, however far apart the two are. What another has applied was committed, and
//! what is committed never changes: so a pair is true for good, from whatever term and connection it comes,
//! and only the speaker's start anew takes it back, by a later pair.
//!
//! Who ends ([`Divergence::verdict`]): nobody who agrees with a majority. Else a follower that differs from
//! its leader and from another node, a leader that differs from a majority, and, when for ten heartbeats of
//! one leader no majority could be told from the rest, every node that differs from another. Then a store
//! cannot be trusted and nobody can say whose; going on would answer one question in two ways.
//!
//! Nothing here knows what a hash is made of. Two versions that make it differently must not compare them.

use crate::raft::Configuration;
use crate::types::{AppliedState, EntryId, Index, NodeId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// How many of its hashes a node keeps.
const MAX_HASHES: usize = 10_000;
/// For so many heartbeats of one leader nodes may differ without a majority to tell who is right.
const PATIENCE_HEARTBEATS: u64 = 10;

/// What this node and the others say that they have come to.
pub(super) struct Divergence {
    own: OwnHashes,
    others: BTreeMap<NodeId, Other>,
    /// When each peer was told last, and will be again a heartbeat later.
    told_tick: BTreeMap<NodeId, u64>,
    heartbeat_ticks: u64,
    /// Under whom, and since when, there are differences that nobody has judged.
    unjudged: Option<(NodeId, u64)>,
}

/// This node's hash after each of its newest entries.
struct OwnHashes {
    last: AppliedState,
    /// The hash at `last`, and before it those at the indexes before.
    newest: VecDeque<u64>,
}

/// What is known of another node.
struct Other {
    /// The newest that it said.
    said: AppliedState,
    /// Of what it said, the oldest that this node has not applied yet. It stays until it was compared: a node
    /// that is always a little behind would never get to the newest.
    waiting: Option<AppliedState>,
    /// The newest index at which both had the same.
    agreed: Option<Index>,
    /// The newest comparison, when it found a difference.
    differs: Option<Difference>,
}

/// What two nodes came to after the same entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Difference {
    index: Index,
    ours: u64,
    theirs: u64,
}

/// Why a node must not go on: what it applied and what others applied led to different stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverged {
    /// The node.
    pub node: NodeId,
    /// Where both have applied the same entries and differ.
    pub index: Index,
    /// What this node came to there.
    pub own_hash: u64,
    /// What the others came to there.
    pub other_hash: u64,
    /// All others that differ from this node.
    pub others: Vec<NodeId>,
    /// The last entry after which this node and the others were seen to agree; none if never.
    pub last_agreed: Option<EntryId>,
    /// Whether a majority is against this node, or nobody can say who is right.
    pub has_majority_against: bool,
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Diverged { node, index, own_hash, other_hash, others, .. } = self;
        write!(
            f,
            "{node} has diverged: after the entry at index {index} its applied_hash is {own_hash:016x}"
        )?;
        write!(f, ", and {other_hash:016x} on {others:?}; ")?;
        match self.last_agreed {
            Some(id) => write!(f, "they last agreed after entry {id}")?,
            None => f.write_str("they were never seen to agree")?,
        }
        match self.has_majority_against {
            true => write!(f, ", and the store of {node} cannot be trusted"),
            false => f.write_str(", and no majority tells whose store can be trusted"),
        }
    }
}

impl Divergence {
    /// Of a node whose application has not applied anything yet, under a leader's heartbeats that come every
    /// `heartbeat_ticks`.
    pub fn new(last_applied: Index, heartbeat_ticks: u32) -> Divergence {
        let last = AppliedState { last_applied, applied_hash: 0 };
        Divergence {
            own: OwnHashes { last, newest: VecDeque::new() },
            others: BTreeMap::new(),
            told_tick: BTreeMap::new(),
            heartbeat_ticks: u64::from(heartbeat_ticks),
            unjudged: None,
        }
    }

    /// The application has applied the entries up to `last_applied`, with these hashes after each; or has
    /// begun anew with a snapshot, with the hash at its end.
    pub fn applied(&mut self, last_applied: Index, hashes: Vec<u64>) {
        let count = i64::try_from(hashes.len()).unwrap_or(i64::MAX);
        if last_applied.0 - self.own.last.last_applied.0 != count {
            let last = AppliedState { last_applied: Index(last_applied.0 - count), applied_hash: 0 };
            self.own = OwnHashes { last, newest: VecDeque::new() };
        }
        for hash in hashes {
            self.own.push(hash);
        }
        for other in self.others.values_mut() {
            if let Some(state) =
                other.waiting.take_if(|state| state.last_applied <= self.own.last.last_applied)
            {
                other.compare(state, &self.own);
            }
        }
    }

    /// A node has said what it has come to, itself or through its leader.
    pub fn hear(&mut self, node: NodeId, state: AppliedState) {
        let first = || Other { said: state, waiting: None, agreed: None, differs: None };
        let other = self.others.entry(node).or_insert_with(first);
        if state.last_applied < other.said.last_applied {
            return;
        }
        other.said = state;
        if state.last_applied <= self.own.last.last_applied {
            other.compare(state, &self.own);
        } else if other.waiting.is_none() {
            other.waiting = Some(state);
        }
    }

    /// What to tell this peer now: once a heartbeat what this node has come to, and of a leader also what it
    /// has heard of all others.
    pub fn tell(
        &mut self,
        own_id: NodeId,
        peer: NodeId,
        leads: bool,
        now_tick: u64,
    ) -> BTreeMap<NodeId, AppliedState> {
        let is_due = self.told_tick.get(&peer).is_none_or(|told| now_tick >= told + self.heartbeat_ticks);
        if !is_due || self.own.newest.is_empty() {
            return BTreeMap::new();
        }
        self.told_tick.insert(peer, now_tick);
        let mut states = BTreeMap::from([(own_id, self.own.last)]);
        if leads {
            states.extend(self.others.iter().map(|(id, other)| (*id, other.said)));
            states.remove(&peer);
        }
        states
    }

    /// Whether this node must end, and why. `now_tick` counts only time in which the node was running.
    pub fn verdict(
        &mut self,
        own_id: NodeId,
        leader: Option<NodeId>,
        configuration: &Configuration,
        now_tick: u64,
    ) -> Option<Verdict> {
        let of = |id: &NodeId| self.others.get(id);
        let differing: BTreeSet<NodeId> =
            configuration.voters().filter(|id| of(id).is_some_and(|other| other.differs.is_some())).collect();
        if differing.is_empty() {
            self.unjudged = None;
            return None;
        }
        let agrees = |id: NodeId| {
            let other = of(&id);
            id == own_id || other.is_some_and(|other| other.agreed.is_some() && other.differs.is_none())
        };
        if configuration.has_quorum(agrees) {
            self.unjudged = None;
            return None;
        }
        let is_outvoted = if leader == Some(own_id) {
            configuration.has_quorum(|id| differing.contains(&id))
        } else {
            leader.is_some_and(|leader| differing.contains(&leader)) && differing.len() > 1
        };
        // Without a leader, or under a new one, those who would agree may not have been heard yet.
        let under_leader = leader.map(|leader| match self.unjudged {
            Some((same, since_tick)) if same == leader => (leader, since_tick),
            Some(_) | None => (leader, now_tick),
        });
        self.unjudged = under_leader;
        let patience_ticks = PATIENCE_HEARTBEATS * self.heartbeat_ticks;
        let is_overdue = under_leader.is_some_and(|(_, since_tick)| now_tick - since_tick >= patience_ticks);
        (is_outvoted || is_overdue).then_some(Verdict { differing, is_outvoted })
    }

    /// What the verdict rests on. `entry_at` names the entry at an index.
    pub fn describe(
        &self,
        node: NodeId,
        verdict: &Verdict,
        entry_at: impl Fn(Index) -> Option<EntryId>,
    ) -> Diverged {
        let Verdict { differing, is_outvoted } = verdict;
        let against = || differing.iter().filter_map(|id| self.others.get(id));
        let earliest = against().filter_map(|other| other.differs).min_by_key(|found| found.index);
        let Difference { index, ours, theirs } = earliest.expect("a verdict rests on a difference");
        Diverged {
            node,
            index,
            own_hash: ours,
            other_hash: theirs,
            others: differing.iter().copied().collect(),
            last_agreed: against().filter_map(|other| other.agreed).max().and_then(entry_at),
            has_majority_against: *is_outvoted,
        }
    }
}

/// A node must end: it differs from these.
pub(super) struct Verdict {
    differing: BTreeSet<NodeId>,
    is_outvoted: bool,
}

impl OwnHashes {
    fn push(&mut self, hash: u64) {
        self.last = AppliedState { last_applied: self.last.last_applied.next(), applied_hash: hash };
        self.newest.push_back(hash);
        if self.newest.len() > MAX_HASHES {
            self.newest.pop_front();
        }
    }

    /// The hash after the entry at `index`, if it is still known.
    fn at(&self, index: Index) -> Option<u64> {
        let back = usize::try_from(self.last.last_applied.0 - index.0).ok()?;
        let offset = self.newest.len().checked_sub(back + 1)?;
        self.newest.get(offset).copied()
    }
}

impl Other {
    /// Holds a pair of the other node against this node's hash at that index.
    fn compare(&mut self, state: AppliedState, own: &OwnHashes) {
        let AppliedState { last_applied: index, applied_hash: theirs } = state;
        match own.at(index) {
            Some(ours) if ours == theirs => {
                self.agreed = self.agreed.max(Some(index));
                self.differs = None;
            }
            // The first difference under this node's hand says most; those after it follow from it.
            Some(ours) if self.differs.is_none() => {
                self.differs = Some(Difference { index, ours, theirs });
            }
            Some(_) | None => {}
        }
    }
}

#[cfg(test)]
#[path = "divergence_tests.rs"]
mod tests;
