//! What must hold of the whole cluster, now and ever: asked after every batch of every node. The core asserts
//! what one node can know; this is the rest of the paper's figure 3.

use crate::node::Node;
use raftkv::raft::{Log, Message, RoleName};
use raftkv::types::{Entry, Index, NodeId, Term};
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

    /// State Machine Safety's ground: what any node knows to be committed was on a quorum's disks at that
    /// moment, and no other entry ever takes its place.
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
                if 2 * copies.len() <= nodes.len() {
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

    /// State Machine Safety (figure 3): all nodes apply the same entry at the same place.
    pub fn applied(&mut self, id: NodeId, entry: &Entry) -> Result<(), String> {
        let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
        if first != entry {
            return Err(format!("{id} applied {}, another node {}", entry.id(), first.id()));
        }
        Ok(())
    }
}

/// Log Matching (figure 3): where two logs have the same entry, they are equal up to there.
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
    let from = ours.first_index().max(theirs.first_index()).previous();
    let pairs = ours.after(from).iter().zip(theirs.after(from));
    let mut first_difference = None;
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
