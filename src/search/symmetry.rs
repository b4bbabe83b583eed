//! Of all states that differ in nothing but the names of their nodes, one stands for all.
//!
//! A node's colour is a hash of what does not depend on names. Nodes are put in the order of their colours;
//! where colours are equal, every order is tried, and the one whose numbers are the least is taken. The
//! numbers of `table.rs` depend on what was seen first, but within a search they are fixed, so the choice is
//! always the same. A colour that told less would cost time, not correctness.

use super::model::{Model, State, node_id, node_of};
use super::sets::Sets;
use super::table::Memo;
use crate::raft::RaftState;
use crate::types::NodeId;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;

/// Renamed things already known, by (number, names).
pub(super) struct Renamings {
    locals: Memo,
    cores: Memo,
    sets: Memo,
    histories: Memo,
}

impl Renamings {
    pub fn new() -> Renamings {
        Renamings { locals: Memo::new(), cores: Memo::new(), sets: Memo::new(), histories: Memo::new() }
    }
}

/// New places for nodes: the node at place `i` goes to `names[i]`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Names {
    new: [u8; Names::MAX],
}

impl Names {
    const MAX: usize = 9;

    fn unchanged() -> Names {
        Names { new: std::array::from_fn(|node| node as u8) }
    }

    fn of(&self, node: usize) -> usize {
        usize::from(self.new[node])
    }

    /// As a number: four bits a node would do for sixteen.
    fn code(&self) -> u32 {
        self.new.iter().take(8).fold(0, |code, name| code << 4 | u32::from(*name))
    }
}

/// See the head of this file.
pub(super) fn colour(raft: &RaftState, messages: usize) -> u64 {
    let is_self = |id: Option<NodeId>| id.map(|id| id == raft.id());
    let entries: Vec<_> =
        raft.log().after(raft.log().first_index().previous()).iter().map(|entry| entry.id()).collect();
    let votes = (raft.term(), is_self(raft.voted_for()), is_self(raft.leader()), raft.role());
    FxBuildHasher.hash_one((votes, entries, raft.commit_index(), raft.saved_index(), messages))
}

impl Model {
    /// The state that stands for all that differ from this one in names. Nodes that sleep keep theirs, and
    /// those that campaign take each other's, since the bounds name them; and where members change all keep
    /// theirs, since operators name them too, or who loses its data.
    pub fn canonical(&self, state: &[u32], best: &mut State) {
        if !self.bounds.changes.is_empty() || !self.bounds.wiped.is_empty() {
            best.clear();
            best.extend_from_slice(state);
            return;
        }
        let campaigns = |node: usize| self.bounds.candidates.contains(&node_id(node).0);
        let mut places: Vec<usize> = (0..self.nodes()).filter(|node| self.bounds.is_awake(*node)).collect();
        places.sort_by_key(|node| campaigns(*node));
        let colour = |node: usize| (campaigns(node), self.locals.get(state[node]).colour);
        let mut order = places.clone();
        order.sort_by_key(|node| colour(*node));
        best.clear();
        self.try_orders(state, &places, &mut order, 0, &colour, best);
    }

    /// Tries all orders of the nodes from `from` on in which colours still rise.
    fn try_orders(
        &self,
        state: &[u32],
        places: &[usize],
        order: &mut Vec<usize>,
        from: usize,
        colour: &impl Fn(usize) -> (bool, u64),
        best: &mut State,
    ) {
        if from == order.len() {
            let mut names = Names::unchanged();
            for (place, node) in places.iter().zip(order.iter()) {
                names.new[*node] = *place as u8;
            }
            let candidate = self.renamed(state, names);
            if best.is_empty() || candidate < *best {
                *best = candidate;
            }
            return;
        }
        for at in from..order.len() {
            if colour(order[at]) == colour(order[from]) {
                order.swap(from, at);
                self.try_orders(state, places, order, from + 1, colour, best);
                order.swap(from, at);
            }
        }
    }

    fn renamed(&self, state: &[u32], names: Names) -> State {
        if names == Names::unchanged() {
            return state.to_vec();
        }
        let new = |id: NodeId| node_id(names.of(node_of(id)));
        let mut renamed = state.to_vec();
        for (node, local) in state[..self.nodes()].iter().enumerate() {
            renamed[names.of(node)] = self.renamed_local(*local, names);
        }
        let history = state[self.nodes()];
        renamed[self.nodes()] = self.renamings.histories.get((history, names.code()), || {
            self.histories.number(self.histories.get(history).renamed(&new))
        });
        renamed
    }

    fn renamed_local(&self, local: u32, names: Names) -> u32 {
        let new = |id: NodeId| node_id(names.of(node_of(id)));
        let code = names.code();
        self.renamings.locals.get((local, code), || {
            let number = self.core_number(local);
            let core = self
                .renamings
                .cores
                .get((number, code), || self.cores.number(self.cores.get(number).renamed(&new)));
            let mut sent = vec![Sets::EMPTY; self.nodes()];
            for (to, set) in self.sent(local).iter().enumerate() {
                sent[names.of(to)] = self.renamings.sets.get((*set, code), || {
                    let messages = self.sets.get(*set).iter().map(|message| self.messages.get(*message));
                    self.sets
                        .number(messages.map(|message| self.messages.number(message.renamed(&new))).collect())
                });
            }
            self.local(core, sent)
        })
    }
}
