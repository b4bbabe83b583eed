//! What a majority is. A configuration is a value (`src/types/configuration.rs`), and this is the one place
//! where "a majority" is spelled out: votes, pre-votes, commits, reads and the leader's own check all ask
//! here, so a joint configuration (paper section 6) changes nothing else.

pub use crate::types::Configuration;
use crate::types::{Index, NodeId};
use std::collections::BTreeSet;

impl Configuration {
    /// The configuration with these voters, at least one, and nobody else.
    pub fn new(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        let voters: BTreeSet<NodeId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a configuration has at least one voter");
        Configuration { voters, ..Configuration::default() }
    }

    /// All that vote, the old voters of a joint configuration included, in order of their ids.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.union(&self.outgoing).copied()
    }

    /// Whether this node votes.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// All that get the log: voters, old and new, and learners.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters().chain(self.learners.iter().copied())
    }

    /// Whether this node gets the log.
    pub fn is_member(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Whether it is on the way from one set of voters to another.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the voters of whom `agrees` is true are a quorum: more than half of all voters, so that any
    /// two quorums share a node; in a joint configuration more than half of the new and of the old ones, so
    /// that any two share a node with those of the configuration before and of the one after (paper 6).
    pub fn has_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        let is_majority = |voters: &BTreeSet<NodeId>| {
            let agreeing = voters.iter().filter(|id| agrees(**id)).count();
            2 * agreeing > voters.len()
        };
        is_majority(&self.voters) && (self.outgoing.is_empty() || is_majority(&self.outgoing))
    }

    /// The highest index that a quorum has reached, given how far each voter got.
    ///
    /// Only an index that some voter reported can be the answer, so asking [`Configuration::has_quorum`] for
    /// each of them is complete; and it stays right however a quorum may come to be defined.
    pub fn quorum_index(&self, reached: impl Fn(NodeId) -> Index) -> Index {
        self.voters()
            .map(&reached)
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
