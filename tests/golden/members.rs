//! What operators ask of a script's nodes: changes of members, transfers of the lead, and snapshots, taken
//! and received.

use crate::cluster::Cluster;
use crate::network::Filter;
use crate::show;
use crate::snapshot::Snapshot;
use raftkv::raft::{Input, MemberChange};
use raftkv::types::{EntryId, Incarnation, Index, Member, NodeId};

impl Cluster {
    /// An operator of this node wants members changed.
    pub fn change(&mut self, id: NodeId, add: &[NodeId], remove: &[NodeId]) -> Result<(), String> {
        let member = |id: &NodeId| (*id, Member::at(format!("{id}:7001"), format!("{id}:7002")));
        let change =
            MemberChange { add: add.iter().map(member).collect(), remove: remove.iter().copied().collect() };
        let node = self.node(id)?;
        node.changes += 1;
        let request = node.changes;
        let what = format!("change {request} adds {add:?} removes {remove:?}");
        self.batch(id, &what, vec![Input::ChangeMembers { request, change }])
    }

    /// A peer has shown this node by which incarnation it is told from others of its number.
    pub fn meet(&mut self, id: NodeId, peer: NodeId) -> Result<(), String> {
        let incarnation = Incarnation(u64::from(peer.0));
        self.batch(id, &format!("{peer} shows itself"), vec![Input::Met { peer, incarnation }])
    }

    /// Somebody wants this node to hand over the lead.
    pub fn transfer(&mut self, id: NodeId, heir: Option<NodeId>) -> Result<(), String> {
        let what = match heir {
            Some(heir) => format!("transfer to {heir}"),
            None => "transfer".to_owned(),
        };
        self.batch(id, &what, vec![Input::Transfer { heir }])
    }

    /// This node's application has made a snapshot durable, of what it was at `to`.
    pub fn compact(&mut self, id: NodeId, to: Option<Index>) -> Result<(), String> {
        let node = &self.nodes[&id];
        let state = node.state.as_ref().ok_or(format!("{id} is down"))?;
        let index = to.unwrap_or(node.app.last_applied);
        let term = state.log().term_at(index).ok_or(format!("{id} has no entry {index}"))?;
        if !node.unsaved.is_empty() {
            return Err(format!("{id}: a snapshot of what is not saved"));
        }
        let last = EntryId::new(term, index);
        let configuration = state.configuration_at(index).clone();
        let store = self.history.store_at(index);
        self.node(id)?.disk.compact(Snapshot { last, configuration, store });
        self.batch(id, &format!("snapshot {last} is durable"), vec![Input::Compacted { last }])
    }

    /// A snapshot that is wholly received is read, unless the script wants to say when.
    pub fn verify_received(&mut self, id: NodeId) -> Result<(), String> {
        let node = self.node(id)?;
        if node.state.is_none() || node.installs_held || node.disk.whole.is_none() {
            return Ok(());
        }
        self.install(id, false)
    }

    /// The snapshot that is wholly received is sound, and durable: says so in a batch of its own, or in one
    /// with all messages that are under way to the node.
    pub fn install(&mut self, id: NodeId, after_messages: bool) -> Result<(), String> {
        let node = self.node(id)?;
        let draft = node.disk.whole.take().ok_or(format!("{id} has received no snapshot"))?;
        let snapshot = draft.read().map_err(|why| format!("{id}: {why}"))?;
        let (last, configuration) = (snapshot.last, snapshot.configuration.clone());
        node.disk.received = Some(snapshot);
        let filter = Filter {
            to: Some(id),
            max: Some(if after_messages { usize::MAX } else { 0 }),
            ..Filter::default()
        };
        let messages = self.network.take(&filter);
        let mut what: Vec<String> = messages.iter().map(show::received).collect();
        what.push(format!("snapshot {last} is received"));
        let mut inputs: Vec<Input> = messages.into_iter().map(Input::Message).collect();
        inputs.push(Input::SnapshotReceived { last, configuration });
        self.batch(id, &what.join(", "), inputs)
    }

    /// What was received is damaged.
    pub fn refuse(&mut self, id: NodeId) -> Result<(), String> {
        let draft = self.node(id)?.disk.whole.take();
        draft.ok_or(format!("{id} has received no snapshot"))?;
        self.batch(id, "the received snapshot is damaged", vec![Input::SnapshotRefused])
    }
}
