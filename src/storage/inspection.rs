//! Looks at a folder as a start would, and closer: every checksum of every file, also of those that a start
//! would not read any more. Changes nothing, and goes on after the first thing that is wrong.
//!
//! What a start finds is read by what a start reads with: `Identity`, `SnapshotReader`, `recovery`. The
//! segments of which that says nothing, because they are not needed or because the log cannot be read, are
//! checked batch by batch, each by itself.

use super::disk::{Disk, OpenFile};
use super::error::{DiskFault, StorageError};
use super::identity::{IDENTITY_FILE, Identity};
use super::is_draft;
use super::record::{Content, read_record};
use super::recovery::{self, FoundLog};
use super::replay::read_batch;
use super::segment::{SegmentHeader, SegmentName, damaged};
use super::snapshot::{SnapshotMeta, SnapshotName};
use super::snapshot_reader::SnapshotReader;
use super::tail::judge_tail;
use crate::raft::HardState;
use crate::types::{Configuration, Entry, EntryId, Index};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is in a node's folder.
#[derive(Debug)]
pub struct Inspection {
    /// Who it belongs to, if that can be read.
    pub identity: Option<Identity>,
    /// The newest snapshot, if there is one and it is sound.
    pub snapshot: Option<SnapshotMeta>,
    /// The log, if there is one and it can be read.
    pub log: Option<InspectedLog>,
    /// All names in the folder, sorted.
    pub files: Vec<InspectedFile>,
    /// What is wrong, each with its file and line.
    pub damage: Vec<StorageError>,
}

/// The log as it stands in the folder.
#[derive(Debug)]
pub struct InspectedLog {
    /// Term and vote.
    pub hard_state: HardState,
    /// The entry before the first one.
    pub base: EntryId,
    /// All entries: also those that the snapshot covers, as long as they are there.
    pub entries: Vec<Entry>,
    /// The last write was cut short, and does not count.
    pub torn: Option<String>,
}

/// Who belongs to the cluster, as the node knows it.
#[derive(Clone, Debug, Serialize)]
pub struct InspectedMembers {
    /// The entry that says so; none when the log begins under it.
    pub index: Option<Index>,
    /// The members.
    pub configuration: Configuration,
}

/// A name in a node's folder.
#[derive(Debug)]
pub struct InspectedFile {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: FileRole,
    /// Its size; none when it is not the node's.
    pub size_bytes: Option<u64>,
}

/// What a file of a node's folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    /// Who the folder belongs to.
    Identity,
    /// A segment of the log.
    Segment,
    /// The newest snapshot.
    Snapshot,
    /// A segment or a snapshot that is not needed any more: a start removes it.
    NotNeeded,
    /// What was not finished, and never got its name: a start removes it.
    Draft,
    /// Nothing of the node's.
    Foreign,
}

/// Reads everything in the folder. Fails when it cannot be listed, or nothing in it is a node's; what is
/// wrong with its files is told in the outcome.
pub fn inspect<D: Disk>(disk: &D) -> Result<Inspection, StorageError> {
    let names = disk.list()?;
    let segments = super::segment_names(&names);
    let snapshots = SnapshotName::all(&names);
    let has_identity = names.iter().any(|name| name == IDENTITY_FILE);
    if !has_identity && segments.is_empty() && snapshots.is_empty() {
        return Err(StorageError::NoNode { folder: disk.path("") });
    }
    let mut damage = Vec::new();
    let identity = match has_identity {
        true => noted(Identity::read_any(disk), &mut damage),
        false => {
            let because = "other files of a node are there".to_string();
            damage.push(StorageError::Missing { path: disk.path(IDENTITY_FILE), because });
            None
        }
    };
    let snapshot = read_snapshots(disk, &snapshots, identity.as_ref(), &mut damage);
    let newest = snapshots.last().map_or(EntryId::NONE, |name| name.last);
    let log = match &identity {
        Some(owner) => noted(read_log(disk, &segments, owner, newest), &mut damage).flatten(),
        None => None,
    };
    let needed_from = match &log {
        Some(log) => log.beginnings.first().map_or(1, |beginning| beginning.sequence),
        None => u64::MAX,
    };
    check_segments(disk, &segments, needed_from, &mut damage);
    let files = files(disk, names, newest, log.as_ref().map_or(0, |_| needed_from))?;
    Ok(Inspection { identity, snapshot, log: log.map(InspectedLog::from), files, damage })
}

impl From<FoundLog> for InspectedLog {
    fn from(found: FoundLog) -> InspectedLog {
        let FoundLog { replay, torn, .. } = found;
        let super::replay::Replay { base, hard_state, entries, .. } = replay;
        InspectedLog { hard_state, base, entries, torn }
    }
}

impl Inspection {
    /// The configuration in force, which is the newest one in the log, committed or not, or else that of the
    /// snapshot, or else the first one. `None` when the log cannot be read.
    pub fn members(&self) -> Option<InspectedMembers> {
        let mut entries = self.log.as_ref()?.entries.iter().rev();
        let named = entries.find_map(|entry| Some((entry.index, entry.configuration.as_ref()?)));
        let first = |identity: &Identity| Configuration {
            voters: identity.voters.iter().copied().collect(),
            ..Configuration::default()
        };
        let (index, configuration) = match named {
            Some((index, named)) => (Some(index), Configuration::clone(named)),
            None => match &self.snapshot {
                Some(meta) => (None, meta.configuration.clone()),
                None => (None, self.identity.as_ref().map(first)?),
            },
        };
        Some(InspectedMembers { index, configuration })
    }

    /// The lines of content of the newest snapshot.
    pub fn open_snapshot<D: Disk>(&self, disk: &D) -> Result<Option<SnapshotReader<D::File>>, DiskFault> {
        match (&self.identity, &self.snapshot) {
            (Some(identity), Some(meta)) => {
                SnapshotReader::open(disk, &identity.cluster, meta.last).map(Some)
            }
            (_, _) => Ok(None),
        }
    }
}

fn noted<T>(outcome: Result<T, StorageError>, damage: &mut Vec<StorageError>) -> Option<T> {
    outcome.map_err(|error| damage.push(error)).ok()
}

/// Verifies all snapshots, and returns what the newest says of itself.
fn read_snapshots<D: Disk>(
    disk: &D,
    names: &[SnapshotName],
    owner: Option<&Identity>,
    damage: &mut Vec<StorageError>,
) -> Option<SnapshotMeta> {
    let mut newest = None;
    for name in names {
        let verified = SnapshotReader::open_of(disk, owner.map(|owner| owner.cluster.as_str()), name.last)
            .map_err(StorageError::Disk)
            .and_then(SnapshotReader::verify);
        newest = noted(verified, damage);
    }
    newest
}

/// As a start does it.
fn read_log<D: Disk>(
    disk: &D,
    names: &[SegmentName],
    owner: &Identity,
    snapshot: EntryId,
) -> Result<Option<FoundLog>, StorageError> {
    let log = recovery::read_log(disk, names, owner, snapshot)?;
    if log.is_none() && snapshot != EntryId::NONE {
        let because = format!("{} is there", SnapshotName { last: snapshot });
        return Err(recovery::missing(disk, 1, because));
    }
    Ok(log)
}

/// Checks the records of the segments before this one. A file that something was found in already is left
/// out.
fn check_segments<D: Disk>(
    disk: &D,
    names: &[SegmentName],
    needed_from: u64,
    damage: &mut Vec<StorageError>,
) {
    let known: BTreeSet<PathBuf> = damage.iter().filter_map(StorageError::path).collect();
    let following = names.iter().skip(1).map(Some).chain([None]);
    for (name, next) in names.iter().zip(following).filter(|(name, _)| name.sequence < needed_from) {
        if !known.contains(&disk.path(&name.to_string())) {
            noted(check_segment(disk, name, next), damage);
        }
    }
}

/// Checks the records of a segment by themselves, as far as the next one says that they count. Without a
/// next one, or when that says nothing, the end may be a torn write.
fn check_segment<D: Disk>(
    disk: &D,
    name: &SegmentName,
    next: Option<&SegmentName>,
) -> Result<(), StorageError> {
    let (path, mut file) = (disk.path(&name.to_string()), disk.read(&name.to_string())?);
    let header = read_record(&file, 0).map_err(|flaw| damaged(&path, &file, flaw))?;
    let mut batch = header.head.batch;
    let counted = next.and_then(|next| counted_bytes(disk, next, name));
    if let Some(counted) = counted.and_then(|counted| usize::try_from(counted).ok()) {
        file.truncate(counted);
    }
    let mut at = 0;
    while at < file.len() {
        match read_batch(&file, at, batch) {
            Ok(read) => (at, batch) = (read.end, batch + 1),
            Err(flaw) if counted.is_some() => return Err(damaged(&path, &file, flaw)),
            Err(_) => return judge_tail(&file, at, batch).map_err(|flaw| damaged(&path, &file, flaw)),
        }
    }
    Ok(())
}

/// How much of a segment counts, as the next one's header says.
fn counted_bytes<D: Disk>(disk: &D, next: &SegmentName, name: &SegmentName) -> Option<u64> {
    let start = disk.open(&next.to_string()).ok()?.read_part(0, recovery::HEADER_LIMIT_BYTES).ok()?;
    let Content::Segment(text) = read_record(&start, 0).ok()?.content else { return None };
    let header: SegmentHeader = serde_json::from_str(text.get()).ok()?;
    header.previous.filter(|previous| previous.name == name.to_string()).map(|previous| previous.bytes)
}

fn files<D: Disk>(
    disk: &D,
    names: Vec<String>,
    newest: EntryId,
    needed_from: u64,
) -> Result<Vec<InspectedFile>, DiskFault> {
    let of_name = |name: String| {
        let role = role(&name, newest, needed_from);
        let size_bytes = match role {
            FileRole::Foreign => None,
            _ => Some(disk.open(&name)?.size_bytes()?),
        };
        Ok(InspectedFile { name, role, size_bytes })
    };
    names.into_iter().map(of_name).collect()
}

fn role(name: &str, newest: EntryId, needed_from: u64) -> FileRole {
    if let Some(segment) = SegmentName::parse(name) {
        return if segment.sequence < needed_from { FileRole::NotNeeded } else { FileRole::Segment };
    }
    if let Some(snapshot) = SnapshotName::parse(name) {
        return if snapshot.last == newest { FileRole::Snapshot } else { FileRole::NotNeeded };
    }
    match name {
        IDENTITY_FILE => FileRole::Identity,
        _ if is_draft(name) => FileRole::Draft,
        _ => FileRole::Foreign,
    }
}
