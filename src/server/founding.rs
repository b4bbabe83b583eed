//! Which founding of the cluster this node belongs to: told when nodes greet each other, and compared for
//! each line that comes. Without it a member of before a `recover` or a `restore`, which knows another
//! history under the same name, could talk this cluster out of its own.

use crate::types::{Configuration, Founding, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// No founding has this number: the node has not learned yet who belongs to the cluster.
const UNKNOWN: u64 = u64::MAX;

/// What this node knows, as the raft thread said last.
#[derive(Clone)]
pub(super) struct OwnFounding(Arc<AtomicU64>);

impl OwnFounding {
    pub fn of(configuration: &Configuration) -> OwnFounding {
        let own = OwnFounding(Arc::new(AtomicU64::new(UNKNOWN)));
        own.learn(configuration);
        own
    }

    /// This configuration is in force.
    pub fn learn(&self, configuration: &Configuration) {
        if !configuration.voters.is_empty() {
            self.0.store(configuration.founding.0, Ordering::Relaxed);
        }
    }

    pub fn get(&self) -> Option<Founding> {
        Some(self.0.load(Ordering::Relaxed)).filter(|number| *number != UNKNOWN).map(Founding)
    }

    /// Fails when the peer belongs to another founding. Who knows of none yet may belong to any.
    pub fn check(&self, peer: NodeId, theirs: Option<Founding>) -> Result<(), String> {
        match (self.get(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(format!(
                "{peer} belongs to the founding {theirs} of this cluster, and this node to {ours}: one of \
                 them is from before a restore or a recover, and its folder must be emptied before it joins \
                 again"
            )),
            (_, _) => Ok(()),
        }
    }
}
