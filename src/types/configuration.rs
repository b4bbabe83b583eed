//! Who belongs to a cluster: a value, because a change of members is an entry of the log like any other. What
//! a majority of it is, `src/raft/configuration.rs` says.

use super::{Incarnation, MAX_NUMBER, NodeId, hex_digits};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The members of a cluster, and on the way from one set of voters to another, both (paper section 6).
///
/// Invariants: there is a voter, unless nothing is known yet (a node that joins a cluster); nobody is a
/// learner and a voter, new or old; `outgoing` is empty but in a joint configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// Who votes; in a joint configuration the new voters.
    pub voters: BTreeSet<NodeId>,
    /// In a joint configuration the old voters: until the new ones are in force by themselves, nothing is
    /// decided without a majority of these too.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub outgoing: BTreeSet<NodeId>,
    /// Who gets the log and has no vote.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub learners: BTreeSet<NodeId>,
    /// A change of voters is under way: these are to vote once those among them that are learners now have
    /// caught up. Whoever leads then goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_voters: Option<BTreeSet<NodeId>>,
    /// Where members can be reached, as far as that was said; of the others `cluster.toml` knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<NodeId, Member>,
    /// By which incarnations those are known whom `members` does not name so, as far as whoever led knew when
    /// somebody joined: that one has met nobody before, and could not tell them from others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incarnations: BTreeMap<NodeId, Incarnation>,
    /// How often a node was named by its incarnation so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lives: u64,
    /// Where the history of this cluster comes from: nodes of two foundings have nothing to say to each
    /// other.
    #[serde(default, skip_serializing_if = "Founding::is_first")]
    pub founding: Founding,
}

/// A cluster is founded once. But when it is made anew from a backup, or from the one node that is left, its
/// history goes on from there, and whatever else a node of before may remember is not of it. So that is
/// another founding, with a number that no other has. Shown as 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Founding(#[serde(with = "hex_digits")] pub u64);

impl Founding {
    /// Of a cluster whose history is whole.
    pub const FIRST: Founding = Founding(0);

    fn is_first(&self) -> bool {
        *self == Founding::FIRST
    }
}

impl fmt::Display for Founding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where a member can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its address for other nodes, `HOST:PORT`.
    pub peer: String,
    /// Its address for clients.
    pub client: String,
    /// By which it is told from others that had or may get its number. Whoever came with the cluster's first
    /// configuration has none here, but in [`Configuration::incarnations`] once somebody has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The number of the life that it began when it was named so: no other node that the cluster ever named
    /// has it. What it asks for is told by that from what others asked for that had its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// More starts than any node has in its life: at one a second, 136 years.
pub const STARTS_A_LIFE: u64 = 1 << 32;

/// The most lives that there is room for: two million.
pub const MAX_LIVES: u64 = MAX_NUMBER / STARTS_A_LIFE - 1;

impl Member {
    /// Somebody who can be reached there and whom the log does not name yet.
    pub fn at(peer: impl Into<String>, client: impl Into<String>) -> Member {
        Member { peer: peer.into(), client: client.into(), incarnation: None, life: None }
    }
}

impl Configuration {
    /// By which incarnation a member is named.
    pub fn incarnation_of(&self, id: NodeId) -> Option<Incarnation> {
        let named = self.members.get(&id).and_then(|member| member.incarnation);
        named.or_else(|| self.incarnations.get(&id).copied())
    }

    /// It as JSON text, the same on every node.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a configuration can always be written as JSON")
    }

    /// About how many bytes it takes in an entry, never less.
    pub fn size_bytes(&self) -> usize {
        self.json().len() + ",\"configuration\":".len()
    }
}
