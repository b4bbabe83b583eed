//! What `status` answers from: a board on which the raft thread posts after each batch, the KV thread after
//! each application and before it answers anyone, and which every connection reads. So a node answers for
//! itself also when it has no quorum, and when its disk or its inbox is busy.

use crate::node::NodeStatus;
use crate::types::{AppliedState, Index, NodeId};
use crate::wire::client::{Members, PeerStatus, Status};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The board.
pub(super) struct StatusBoard {
    posted: Mutex<Posted>,
    started: Instant,
    /// Whether this node's own connection to each peer stands.
    connected: Mutex<BTreeSet<NodeId>>,
}

#[derive(Clone)]
struct Posted {
    node: NodeStatus,
    applied: AppliedState,
}

impl StatusBoard {
    pub fn new(node: NodeStatus, applied: AppliedState) -> StatusBoard {
        StatusBoard {
            posted: Mutex::new(Posted { node, applied }),
            started: Instant::now(),
            connected: Mutex::default(),
        }
    }

    /// The raft thread's news.
    pub fn post_node(&self, node: NodeStatus) {
        self.lock().node = node;
    }

    /// The KV thread's news.
    pub fn post_applied(&self, applied: AppliedState) {
        self.lock().applied = applied;
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        // A poisoned lock means a thread that panicked, and that ends the process anyway.
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_connected(&self, peer: NodeId, connected: bool) {
        let mut peers = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if connected {
            peers.insert(peer);
        } else {
            peers.remove(&peer);
        }
    }

    /// Who belongs to the cluster, where that stands in the log, and who leads.
    pub fn members(&self) -> Members {
        let Posted { node, .. } = self.lock().clone();
        let index = node.configuration_index;
        Members {
            node: node.id,
            leader: node.leader,
            index,
            is_committed: index <= node.commit_index,
            configuration: node.configuration,
        }
    }

    /// The answer to `status`. A node that does not lead knows nothing of the others' logs: -1 and 0 there.
    pub fn read(&self) -> Status {
        let Posted { node, applied: AppliedState { last_applied, applied_hash } } = self.lock().clone();
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others: BTreeSet<NodeId> =
            node.configuration.members().filter(|member| *member != node.id).collect();
        let peers = others.into_iter().map(|id| {
            let progress = node.progress.iter().find(|progress| progress.id == id);
            PeerStatus {
                id,
                match_index: progress.map_or(Index::NONE, |progress| progress.match_index),
                next_index: progress.map_or(Index(0), |progress| progress.next_index),
                connected: connected.contains(&id),
            }
        });
        Status {
            node: node.id,
            role: node.role.word(),
            term: node.term,
            leader: node.leader,
            // The two threads post each in its time; what is applied is committed and in the log.
            commit_index: node.commit_index.max(last_applied),
            last_applied,
            first_index: node.first_index,
            last_index: node.last_index.max(last_applied),
            peers: peers.collect(),
            applied_hash,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}
