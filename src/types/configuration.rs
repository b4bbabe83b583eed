//! Who belongs to a cluster: a value, because a change of members is an entry of the log like any other. What
//! a majority of it is, `src/raft/configuration.rs` says.

use super::{Incarnation, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
}

/// Where a member can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Its address for other nodes, `HOST:PORT`.
    pub peer: String,
    /// Its address for clients.
    pub client: String,
    /// It has lost its data, and is the same member only with this incarnation from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
}

impl Configuration {
    /// It as JSON text, the same on every node.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a configuration can always be written as JSON")
    }

    /// About how many bytes it takes in an entry, never less.
    pub fn size_bytes(&self) -> usize {
        self.json().len() + ",\"configuration\":".len()
    }
}
