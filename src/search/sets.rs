//! Sets of messages, a number each: what a node has sent to another is one number. Few sets stand for all
//! that is ever sent, and what two of them come to together is found out once.

use super::table::{Memo, Table};

/// All sets that a search has come across.
pub(super) struct Sets {
    /// The messages' numbers, in rising order.
    sets: Table<Vec<u32>>,
    unions: Memo,
}

impl Sets {
    /// The set with nothing in it.
    pub const EMPTY: u32 = 0;
    /// In place of what a node has sent to one that has lost its data since, and that it has not met again:
    /// whatever it says, nothing of it arrives.
    pub const CUT: u32 = 1;

    pub fn new() -> Sets {
        let sets = Table::new();
        assert_eq!(sets.number(Vec::new()), Sets::EMPTY, "the first number is 0");
        assert_eq!(sets.number(vec![u32::MAX]), Sets::CUT, "no message has this number");
        Sets { sets, unions: Memo::new() }
    }

    /// The set of these messages.
    pub fn number(&self, mut messages: Vec<u32>) -> u32 {
        messages.sort_unstable();
        messages.dedup();
        self.sets.number(messages)
    }

    /// The messages of a set, in the order of their numbers.
    pub fn get(&self, set: u32) -> &[u32] {
        self.sets.get(set)
    }

    /// All that is in one of two sets, or in both.
    pub fn union(&self, one: u32, other: u32) -> u32 {
        if other == Sets::EMPTY || one == other || one == Sets::CUT {
            return one;
        }
        self.unions.get((one, other), || self.number([self.get(one), self.get(other)].concat()))
    }
}
