//! What `raftkv-server inspect` says: one value, shown to people as lines and to programs as JSON.

use super::content::Content;
use crate::raft::HardState;
use crate::storage::{Disk, FileDisk, FileRole, InspectedFile, InspectedLog, InspectedMembers, Inspection};
use crate::types::{Configuration, Entry, EntryId, Founding, Incarnation, Index, NodeId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// All that is told of a folder. What is not known is `None`: then damage says why.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    folder: String,
    node: Option<Node>,
    hard_state: Option<HardState>,
    snapshot: Option<Snapshot>,
    log: Option<Log>,
    /// The configuration in force, which is the newest one, committed or not.
    members: Option<InspectedMembers>,
    /// What was being written when the node ended, and does not count.
    torn: Option<String>,
    files: Vec<File>,
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Node {
    id: NodeId,
    cluster: String,
    incarnation: Incarnation,
    boot: u64,
    first_voters: Vec<NodeId>,
    peers: BTreeMap<NodeId, Incarnation>,
    must_not_vote: bool,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    last: EntryId,
    applied_hash: String,
    content: Option<Content>,
    configuration: Configuration,
}

#[derive(Debug, Serialize)]
struct Log {
    /// The index of its first entry, if it has one.
    first_index: Index,
    /// Its last entry, or what stands before its first.
    last: EntryId,
    entries: usize,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    role: &'static str,
    size_bytes: Option<u64>,
}

impl Summary {
    pub fn of(disk: &FileDisk, inspection: &Inspection, content: Option<Content>) -> Summary {
        let Inspection { identity, snapshot, log, files, damage } = inspection;
        let node = identity.as_ref().map(|identity| Node {
            id: identity.node,
            cluster: identity.cluster.clone(),
            incarnation: identity.incarnation,
            boot: identity.boot,
            first_voters: identity.voters.clone(),
            peers: identity.peers.clone(),
            must_not_vote: identity.must_not_vote,
        });
        let snapshot = snapshot.as_ref().map(|meta| Snapshot {
            last: meta.last,
            applied_hash: format!("{:016x}", meta.applied_hash),
            content,
            configuration: meta.configuration.clone(),
        });
        Summary {
            folder: disk.path("").display().to_string(),
            node,
            hard_state: log.as_ref().map(|log| log.hard_state),
            snapshot,
            log: log.as_ref().map(Log::of),
            members: inspection.members(),
            torn: log.as_ref().and_then(|log| log.torn.clone()),
            files: files.iter().map(File::of).collect(),
            damage: damage.iter().map(ToString::to_string).collect(),
        }
    }

    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("plain values can be written as JSON")
    }
}

impl Log {
    fn of(log: &InspectedLog) -> Log {
        let last = log.entries.last().map_or(log.base, Entry::id);
        Log { first_index: log.base.index.next(), last, entries: log.entries.len() }
    }
}

impl File {
    fn of(file: &InspectedFile) -> File {
        let role = match file.role {
            FileRole::Identity => "identity",
            FileRole::Segment => "log",
            FileRole::Snapshot => "snapshot",
            FileRole::NotNeeded => "not needed any more",
            FileRole::Draft => "not finished, does not count",
            FileRole::Foreign => "not of raftkv",
        };
        File { name: file.name.clone(), role, size_bytes: file.size_bytes }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.folder)?;
        match &self.node {
            Some(node) => write!(f, "{node}")?,
            None => writeln!(f, "  node       cannot be read")?,
        }
        if let Some(HardState { term, voted_for }) = self.hard_state {
            let vote = voted_for.map_or("no vote given".to_string(), |id| format!("voted for {id}"));
            writeln!(f, "  term       {term}, {vote}")?;
        }
        if let Some(snapshot) = &self.snapshot {
            write!(f, "{snapshot}")?;
        }
        match &self.log {
            Some(Log { first_index, last, entries }) if *entries > 0 => {
                writeln!(f, "  log        {entries} entries, {first_index} to {}; last {last}", last.index)?;
            }
            Some(Log { last, .. }) => writeln!(f, "  log        no entries; last {last}")?,
            None => writeln!(f, "  log        none that can be read")?,
        }
        if let Some(members) = &self.members {
            write!(f, "{}", InForce(members))?;
        }
        if let Some(torn) = &self.torn {
            writeln!(f, "  torn       {torn}")?;
        }
        let name_width = self.files.iter().map(|file| file.name.len()).max().unwrap_or_default();
        for (number, File { name, role, size_bytes }) in self.files.iter().enumerate() {
            let heading = if number == 0 { "files" } else { "" };
            let size = size_bytes.map_or("-".to_string(), |bytes| bytes.to_string());
            writeln!(f, "  {heading:<10} {name:<name_width$} {size:>12} bytes  {role}")?;
        }
        match self.damage.len() {
            0 => writeln!(f, "  sound      every checksum of every file is right"),
            1 => writeln!(f, "  DAMAGED    see the line on stderr"),
            count => writeln!(f, "  DAMAGED    in {count} places: see the lines on stderr"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Node { id, cluster, incarnation, boot, first_voters, peers, must_not_vote } = self;
        writeln!(
            f,
            "  node       {id} of cluster {cluster:?}, incarnation {incarnation}, start counter {boot}"
        )?;
        match first_voters.is_empty() {
            true => writeln!(f, "  made       empty, to join a cluster")?,
            false => writeln!(f, "  made       in a cluster of {}", names(first_voters))?,
        }
        if *must_not_vote {
            writeln!(f, "  vote       must not vote: it has lost its data")?;
        }
        for (number, (peer, incarnation)) in peers.iter().enumerate() {
            let heading = if number == 0 { "peers" } else { "" };
            writeln!(f, "  {heading:<10} {peer} of incarnation {incarnation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { last, applied_hash, content, configuration } = self;
        write!(f, "  snapshot   up to {last}, applied_hash {applied_hash}; {configuration}")?;
        match content {
            Some(Content { keys, sessions }) => writeln!(f, "; {keys} keys, {sessions} sessions"),
            None => writeln!(f),
        }
    }
}

/// The configuration in force, with the entry that carries it.
struct InForce<'a>(&'a InspectedMembers);

impl fmt::Display for InForce<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InspectedMembers { index, configuration } = self.0;
        if configuration.founding != Founding::FIRST {
            writeln!(f, "  founding   {}: restored or recovered", configuration.founding)?;
        }
        match index {
            Some(index) => writeln!(f, "  members    {configuration} (entry {index})")?,
            None => writeln!(f, "  members    {configuration}")?,
        }
        for (id, member) in &configuration.members {
            writeln!(f, "             {id} peer {} client {}", member.peer, member.client)?;
        }
        Ok(())
    }
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<String>>().join(" ")
}
