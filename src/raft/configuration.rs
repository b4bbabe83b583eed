//! Who votes. A value, so that a change of members can later be an entry of the log, and the one place where
//! "a majority" is spelled out: votes, pre-votes, commits, reads and the leader's own check all ask here.

use crate::types::{Index, NodeId};
use std::collections::BTreeSet;

/// The members of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    voters: BTreeSet<NodeId>,
}

impl Configuration {
    /// The configuration with these voters, at least one.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        let voters: BTreeSet<NodeId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a configuration has at least one voter");
        Configuration { voters }
    }

    /// The voters, in order of their ids.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().copied()
    }

    /// Whether this node votes.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id)
    }

    /// Whether the voters of whom `agrees` is true are a majority: more than half of all voters, so that any
    /// two quorums share a node.
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let agreeing = self.voters.iter().filter(|id| agrees(**id)).count();
        2 * agreeing > self.voters.len()
    }

    /// The highest index that a quorum has reached, given how far each voter got.
    ///
    /// Only an index that some voter reported can be the answer, so asking [`Configuration::has_quorum`] for
    /// each of them is complete; and it stays right however a quorum may come to be defined.
    pub fn quorum_index(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        self.voters
            .iter()
            .map(|id| reached(*id))
            .filter(|index| self.has_quorum(|id| reached(id) >= *index))
            .max()
            .unwrap_or(Index::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(count: u16) -> Configuration {
        Configuration::new((1..=count).map(NodeId))
    }

    #[test]
    fn a_quorum_is_more_than_half() {
        for (voters, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4), (8, 5), (9, 5)] {
            let configuration = of(voters);
            assert!(configuration.has_quorum(|id| id.0 <= needed), "{needed} of {voters} are a quorum");
            assert!(!configuration.has_quorum(|id| id.0 < needed), "{} of {voters} are none", needed - 1);
        }
    }

    #[test]
    fn strangers_do_not_count() {
        assert!(!of(3).has_quorum(|id| id.0 >= 3), "only n3 agrees, however many others say so too");
    }

    proptest! {
        /// FAULTS row 18: a clever quorum structure that loses its order commits without a quorum. The oracle
        /// is the plain one: sort, take the median.
        #[test]
        fn quorum_index_is_the_median(reached in proptest::collection::vec(-1i64..40, 1..10)) {
            let configuration = of(reached.len() as u16);
            let mut sorted = reached.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let median = sorted[reached.len() / 2];
            let answer = configuration.quorum_index(|id| Index(reached[usize::from(id.0) - 1]));
            prop_assert_eq!(answer, Index(median));
        }
    }
}
