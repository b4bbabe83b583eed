//! Reads of this node's clients: first they wait for the leader's word on the index from which they may be
//! served, then for the application to get there.

use crate::raft::ReadReady;
use crate::types::Index;
use std::collections::VecDeque;

/// All waiting reads of one start of a node.
pub(super) struct Reads<T> {
    /// Without an index yet, by rising number.
    asked: VecDeque<Asked<T>>,
    /// With one.
    confirmed: VecDeque<(Index, T)>,
    newest_number: u64,
    /// Some of `asked` have not been told to the core yet.
    has_news: bool,
}

struct Asked<T> {
    number: u64,
    ticket: T,
    deadline_tick: u64,
}

impl<T> Reads<T> {
    pub fn new() -> Reads<T> {
        Reads { asked: VecDeque::new(), confirmed: VecDeque::new(), newest_number: 0, has_news: false }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.asked.len() + self.confirmed.len()
    }

    /// Takes a new read. All of a batch share one number: they have all arrived before it is asked for.
    pub fn arrive(&mut self, ticket: T, deadline_tick: u64) {
        if !self.has_news {
            self.has_news = true;
            self.newest_number += 1;
        }
        self.asked.push_back(Asked { number: self.newest_number, ticket, deadline_tick });
    }

    /// The number to ask the core for, once a batch.
    pub fn take_news(&mut self) -> Option<u64> {
        std::mem::take(&mut self.has_news).then_some(self.newest_number)
    }

    /// All reads up to the number may be served once the index is applied.
    pub fn confirm(&mut self, ready: ReadReady) {
        let count = self.asked.iter().take_while(|read| read.number <= ready.number).count();
        self.confirmed.extend(self.asked.drain(..count).map(|read| (ready.index, read.ticket)));
    }

    /// Whether [`Reads::take_servable`] has any.
    pub fn has_servable(&self, applied: Index) -> bool {
        self.confirmed.front().is_some_and(|(index, _)| *index <= applied)
    }

    /// The reads that may be served by a store that has applied this much.
    pub fn take_servable(&mut self, applied: Index) -> Vec<T> {
        let count = self.confirmed.iter().take_while(|(index, _)| *index <= applied).count();
        self.confirmed.drain(..count).map(|(_, ticket)| ticket).collect()
    }

    /// Those without an index whose time is up.
    pub fn expire(&mut self, now_tick: u64) -> Vec<T> {
        let count = self.asked.iter().take_while(|read| read.deadline_tick <= now_tick).count();
        self.asked.drain(..count).map(|read| read.ticket).collect()
    }
}
