//! What must hold of the whole cluster, now and ever: asked after every batch of every node. The core asserts
//! what one node can know; this is the rest of the paper's figure 3.

use crate::node::Node;
use crate::snapshot::Snapshot;
use raftkv::raft::{Log, Message, RoleName};
use raftkv::types::{Entry, EntryId, Index, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What was true once and must stay so.
#[derive(Default)]
pub struct History {
    leaders: BTreeMap<Term, NodeId>,
    /// Each committed entry, and the term of the node that first knew of it.
    committed: BTreeMap<Index, (Entry, Term)>,
    applied: BTreeMap<Index, Entry>,
}

type Nodes = BTreeMap<NodeId, Node>;

impl History {
    /// The highest index that was ever known to be committed.
    pub fn committed(&self) -> Index {
        self.committed.last_key_value().map_or(Index::NONE, |(index, _)| *index)
    }

    /// Everything below.
    pub fn check(&mut self, nodes: &Nodes) -> Result<(), String> {
        self.one_leader_a_term(nodes)?;
        logs_match(nodes)?;
        self.committed_entries_stay(nodes)?;
        self.leaders_are_complete(nodes)?;
        self.bases_are_committed(nodes)?;
        requests_are_unique(nodes)?;
        saved_is_on_disk(nodes)
    }

    /// Election Safety (figure 3), over all time and not only now.
    fn one_leader_a_term(&mut self, nodes: &Nodes) -> Result<(), String> {
        for state in nodes.values().filter_map(|node| node.state.as_ref()) {
            if state.role() == RoleName::Leader {
                let first = *self.leaders.entry(state.term()).or_insert(state.id());
                if first != state.id() {
                    return Err(format!("two leaders in term {}: {first} and {}", state.term(), state.id()));
                }
            }
        }
        Ok(())
    }

    /// State Machine Safety's ground: what any node knows to be committed was at that moment on the disks of
    /// a quorum, by the configuration in force on that node, and no other entry ever takes its place.
    fn committed_entries_stay(&mut self, nodes: &Nodes) -> Result<(), String> {
        for state in nodes.values().filter_map(|node| node.state.as_ref()) {
            let from = state.log().first_index().previous();
            let count = usize::try_from(state.commit_index().0 - from.0).unwrap_or(0);
            for entry in &state.log().after(from)[..count] {
                if let Some((known, _)) = self.committed.get(&entry.index) {
                    if known != entry {
                        let (id, known) = (state.id(), known.id());
                        return Err(format!(
                            "{id} committed {}, but {known} was committed there",
                            entry.id()
                        ));
                    }
                    continue;
                }
                let on_disk = |node: &&Node| {
                    node.disk.base.index >= entry.index || node.disk.get(entry.index) == Some(entry)
                };
                let copies: Vec<NodeId> = nodes.values().filter(on_disk).map(|node| node.id).collect();
                if !state.configuration().has_quorum(|id| copies.contains(&id)) {
                    let (id, entry) = (state.id(), entry.id());
                    return Err(format!("{id} committed {entry}, which only {copies:?} have on disk"));
                }
                self.committed.insert(entry.index, (entry.clone(), state.term()));
            }
        }
        Ok(())
    }

    /// Leader Completeness (figure 3): whoever leads a term has all that was committed in earlier terms.
    fn leaders_are_complete(&self, nodes: &Nodes) -> Result<(), String> {
        for state in nodes.values().filter_map(|node| node.state.as_ref()) {
            if state.role() != RoleName::Leader {
                continue;
            }
            let earlier = self.committed.values().filter(|(_, term)| *term < state.term());
            for (entry, _) in earlier {
                if !state.log().contains(entry.id()) {
                    return Err(format!("{state}: leads without the committed entry {}", entry.id()));
                }
            }
        }
        Ok(())
    }

    /// Nothing is forgotten, nor taken from a snapshot, but what is committed.
    fn bases_are_committed(&self, nodes: &Nodes) -> Result<(), String> {
        for state in nodes.values().filter_map(|node| node.state.as_ref()) {
            let base = state.log().base();
            if let Some((known, _)) = self.committed.get(&base.index)
                && known.id() != base
            {
                return Err(format!("{state}: its log begins after {base}, committed was {}", known.id()));
            }
        }
        Ok(())
    }

    /// What the application holds at this index, by all that was ever applied.
    pub fn store_at(&self, index: Index) -> BTreeMap<String, String> {
        let applied = self.applied.range(..=index).map(|(_, entry)| entry);
        applied.filter_map(|entry| crate::show::assignment(&entry.command)).collect()
    }

    /// A node's application takes over what a snapshot says: it comes to what it would have come to by
    /// applying each entry.
    pub fn installed(&self, id: NodeId, snapshot: &Snapshot) -> Result<(), String> {
        let store = self.store_at(snapshot.last.index);
        if snapshot.store != store {
            return Err(format!("{id} installed {:?}, all others have {store:?}", snapshot.store));
        }
        Ok(())
    }

    /// State Machine Safety (figure 3): all nodes apply the same entry at the same place.
    pub fn applied(&mut self, id: NodeId, entry: &Entry) -> Result<(), String> {
        let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
        if first != entry {
            return Err(format!("{id} applied {}, another node {}", entry.id(), first.id()));
        }
        Ok(())
    }
}

/// Log Matching (figure 3): where two logs have the same entry, they are equal up to there. What a log begins
/// after counts as an entry of which only the name is known.
fn logs_match(nodes: &Nodes) -> Result<(), String> {
    let mut logs: Vec<(NodeId, Log)> = Vec::new();
    for node in nodes.values() {
        logs.push((node.id, node.disk.log()));
        logs.extend(node.state.as_ref().map(|state| (node.id, state.log().clone())));
    }
    for (at, (one, ours)) in logs.iter().enumerate() {
        for (other, theirs) in &logs[at + 1..] {
            two_logs_match(ours, theirs).map_err(|why| format!("{one} and {other}: {why}"))?;
        }
    }
    Ok(())
}

fn two_logs_match(ours: &Log, theirs: &Log) -> Result<(), String> {
    let from = ours.base().index.max(theirs.base().index);
    let pairs = ours.after(from).iter().zip(theirs.after(from));
    let mut first_difference = match (ours.term_at(from), theirs.term_at(from)) {
        (Some(our), Some(their)) if our != their => {
            Some((EntryId::new(our, from), EntryId::new(their, from)))
        }
        (_, _) => None,
    };
    for (our, their) in pairs {
        if our != their && first_difference.is_none() {
            first_difference = Some((our.id(), their.id()));
        }
        if let Some((our_first, their_first)) = first_difference
            && our.term == their.term
        {
            return Err(format!("both have {}, but {our_first} and {their_first} before it", our.id()));
        }
    }
    Ok(())
}

/// A client's proposal stands at most once in a log, however it travelled.
fn requests_are_unique(nodes: &Nodes) -> Result<(), String> {
    for state in nodes.values().filter_map(|node| node.state.as_ref()) {
        let from = state.log().first_index().previous();
        let mut seen = BTreeSet::new();
        for request in state.log().after(from).iter().filter_map(|entry| entry.request) {
            if !seen.insert(request) {
                return Err(format!("{request} stands twice in the log of {}", state.id()));
            }
        }
    }
    Ok(())
}

/// What a core takes for saved is on its disk.
fn saved_is_on_disk(nodes: &Nodes) -> Result<(), String> {
    for node in nodes.values() {
        let Some(state) = &node.state else { continue };
        let saved = state.saved_index();
        if state.log().get(saved).is_some_and(|entry| node.disk.get(saved) != Some(entry)) {
            return Err(format!("{state}: saved={saved} is not on its disk"));
        }
    }
    Ok(())
}

/// Nothing leaves before it is on the sender's disk (figure 2: "Updated on stable storage before responding
/// to RPCs"): a vote, a candidate's own vote, an acknowledged entry.
pub fn speaks_of_what_is_saved(sender: &Node, message: &Message) -> Result<(), String> {
    match message.unsaved_claim(sender.disk.hard_state, sender.disk.last().index) {
        Some(what) => Err(what),
        None => Ok(()),
    }
}
