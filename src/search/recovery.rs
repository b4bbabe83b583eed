//! What a safe cluster can still get wrong: a state from which no leader ever comes (P11, FAULTS row 9).
//! Asked of every state of a search: is there some way on, with few election timeouts and a network that now
//! works, to a leader that commits?

use super::model::{Model, What, node_of};
use crate::raft::RoleName;
use std::collections::VecDeque;

/// So many election timeouts must be enough, if they come at the right nodes.
const MAX_TIMEOUTS: usize = 3;

impl Model {
    /// Whether some node's timeouts, everything sent then being delivered once and in order, bring a leader.
    pub fn recovers(&self, state: &[u32]) -> bool {
        let cores: Vec<u32> = state[..self.nodes()].iter().map(|local| self.core_number(*local)).collect();
        self.some_timeouts_elect(&cores, MAX_TIMEOUTS)
    }

    fn some_timeouts_elect(&self, cores: &[u32], left: usize) -> bool {
        if left == 0 {
            return false;
        }
        let awake = || (0..self.nodes()).filter(|node| self.bounds.is_awake(*node));
        let after: Vec<Vec<u32>> = awake().map(|node| self.time_out(cores, node)).collect();
        after.iter().any(|cores| self.serves(cores))
            || after.iter().any(|cores| self.some_timeouts_elect(cores, left - 1))
    }

    /// The nodes after an election timeout of one of them and all that is said then.
    fn time_out(&self, cores: &[u32], node: usize) -> Vec<u32> {
        let mut cores = cores.to_vec();
        let mut under_way = VecDeque::from([(node, What::Campaign)]);
        while let Some((node, what)) = under_way.pop_front() {
            let Some((core, sent)) = self.outcome_of(cores[node], what) else { continue };
            cores[node] = core;
            for message in sent {
                let to = node_of(self.messages.get(message).to);
                let is_late = self.core_may_be_late(cores[to], message);
                let what = if is_late { What::DeliverLate(message) } else { What::Deliver(message) };
                if self.bounds.is_awake(to) {
                    under_way.push_back((to, what));
                }
            }
        }
        cores
    }

    /// Whether someone leads and has committed an entry of its own term.
    fn serves(&self, cores: &[u32]) -> bool {
        cores.iter().map(|core| &self.cores.get(*core).raft).any(|raft| {
            let is_leader = raft.role() == RoleName::Leader;
            is_leader && raft.log().term_at(raft.commit_index()) == Some(raft.term())
        })
    }
}
