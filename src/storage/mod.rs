//! Log, term, vote and snapshots on disk: what a node must still know after `kill -9` or a power cut.
//!
//! ```text
//!   Storage ── Identity    identity.json             who this is; replaced as a whole, rarely
//!      ├────── LogFile     log-000003-from-9.jsonl   entries, truncations, term and vote; never rewritten
//!      │                   log-000004-from-14.jsonl
//!      └────── snapshot    snapshot-8-2.jsonl        what the application had come to with entry 8 of term 2
//!   open:  list ─> Identity ─> SnapshotReader ─> recovery (segments ─> batches ─> Replay) ─> LogFile
//!                                                └── tail: torn or damaged?
//!   save:  Output ─> one batch of records ─> one write ─> one sync
//!   a snapshot of this node:     begin_whole_segment; SnapshotWriter, on a thread of its own; compact
//!   one of another node:         receive_chunk, …; finish_receiving; restart_log
//!   all of it over `Disk`: `FileDisk` is a folder, `MemoryDisk` one that forgets and fails on demand
//! ```
//!
//! Two rules carry everything. What [`Storage::save`] returned `Ok` for is on stable storage. And what is
//! read back is exactly what was saved, without the end of a last write that was cut short: everything else
//! that does not check out refuses the start with a line that says where, because a node that guesses can
//! vote twice or forget what it acknowledged. Nothing here decides what is saved, tries a failed sync again,
//! or repairs anything.

mod disk;
mod draft;
mod error;
mod file_disk;
mod identity;
mod inspection;
mod log_file;
mod memory_disk;
mod record;
mod recovery;
mod replay;
mod restore;
mod segment;
mod snapshot;
mod snapshot_reader;
mod snapshot_writer;
mod tail;
#[cfg(test)]
mod tests;
mod transfer;

pub use disk::{Disk, OpenFile};
pub use error::{DiskFault, StorageError};
pub use file_disk::{FileDisk, ReadableFile};
pub use identity::{Identity, RememberedPeer};
pub use inspection::{FileRole, InspectedFile, InspectedLog, InspectedMembers, Inspection, inspect};
pub use memory_disk::{Failure, MemoryDisk, ReadableMemory};
pub use restore::restore;
pub use segment::SegmentSizes;
pub use snapshot::{Announced, SnapshotCheck, SnapshotMeta, Unsound};
pub use snapshot_reader::SnapshotReader;
pub use snapshot_writer::SnapshotWriter;
pub use transfer::{Chunk, SnapshotFile};

use crate::raft::{HardState, Output};
use crate::types::{Entry, EntryId, Incarnation, NodeId, STARTS_A_LIFE, SnapshotLine};
use identity::IDENTITY_FILE;
use log_file::LogFile;
use segment::SegmentName;
use snapshot::SnapshotName;
use transfer::Receiver;

/// The version of the format of all files of a node.
const FORMAT: u64 = 1;

/// What is known of a node before its folder is looked at.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The cluster's name, from `cluster.toml`.
    pub cluster: String,
    /// The node that is started.
    pub node: NodeId,
    /// The nodes that `cluster.toml` names, in any order.
    pub voters: Vec<NodeId>,
    /// What the start does if there is no node in the folder yet.
    pub first_start: FirstStart,
    /// A fresh random number, which becomes the node's incarnation if this is its first start.
    pub incarnation: Incarnation,
    /// How large the log's segments become: small in tests.
    pub segment_sizes: SegmentSizes,
}

/// What a start does in an empty folder. With a node's data there, none of it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstStart {
    /// It is refused: there should be data.
    Refused,
    /// The node is one of a new cluster, whose voters are those of `cluster.toml`.
    Bootstrap,
    /// The node is to be added to a cluster that exists: it learns from the others who votes, and must not
    /// vote until [`Storage::allow_vote`].
    Join,
    /// The node is to come back to a cluster that it belongs to, and has lost its data: as with `Join`, and
    /// it says so.
    Rejoin,
}

impl Opening {
    fn sorted_voters(&self) -> Vec<NodeId> {
        let mut voters = self.voters.clone();
        voters.sort();
        voters.dedup();
        voters
    }
}

/// What a node knows when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest snapshot, every line of which was checked; [`Storage::open_snapshot`] reads it.
    pub snapshot: Option<SnapshotMeta>,
    /// The entry before the log's first one: the last one of the snapshot, if there is one.
    pub base: EntryId,
    /// The log.
    pub entries: Vec<Entry>,
    /// Something for the operator's log: the last write was cut short by a crash, and was dropped.
    pub torn: Option<String>,
}

/// A node's storage, open. Every error is final: after one, all calls fail with [`StorageError::GivenUp`] and
/// nothing is written any more, because a failed sync may have dropped what it could not write.
#[derive(Debug)]
pub struct Storage<D: Disk> {
    disk: D,
    identity: Identity,
    log: LogFile,
    /// The newest durable snapshot.
    snapshot: Option<EntryId>,
    receiver: Option<Receiver>,
    given_up: bool,
}

impl<D: Disk> Storage<D> {
    /// Opens a node's folder and reads back what was saved. If `opening.first_start` allows it, an empty
    /// folder becomes a new node's, at once and whole: after a crash at any point it counts as empty or as
    /// made. A folder with data in it is opened in the same way whatever that says.
    ///
    /// All that is returned is on stable storage. Fails with every kind of [`StorageError`] but `GivenUp`;
    /// all of them refuse the start.
    pub fn open(mut disk: D, opening: &Opening) -> Result<(Storage<D>, Recovered), StorageError> {
        let names = disk.list()?;
        let found = find(&disk, &names, opening)?;
        // From here on the start is not refused any more, and the folder may change.
        remove_drafts(&mut disk, &names)?;
        let (identity, snapshot, log) = match found {
            Some(Found { identity, snapshot, log }) => {
                if log.is_none() {
                    // The start that gave the identity its name may have been cut short before the name was
                    // durable. A log must not be there without it.
                    disk.sync_directory()?;
                }
                (identity, snapshot, log)
            }
            None => (Identity::create(&mut disk, opening)?, None, None),
        };
        let (log, recovered) = open_log(&mut disk, &identity, snapshot, log, opening.segment_sizes)?;
        let snapshot = recovered.snapshot.as_ref().map(|meta| meta.last);
        let mut storage = Storage { disk, identity, log, snapshot, receiver: None, given_up: false };
        storage.tidy()?;
        Ok((storage, recovered))
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Raises the start counter and returns it, from 1. It is durable when this returns, so no two starts
    /// share one. To be called once, before a port opens. From here on a log without the segments that it has
    /// now refuses the start.
    pub fn raise_boot(&mut self) -> Result<u64, StorageError> {
        self.do_or_give_up(|storage| {
            storage.identity.raise_boot(&mut storage.disk, storage.log.newest_segment())
        })
    }

    /// Compares a peer's incarnation with the one it has shown first, or remembers it as that one: durably,
    /// when this returns.
    pub fn remember_peer(
        &mut self,
        peer: NodeId,
        incarnation: Incarnation,
    ) -> Result<RememberedPeer, StorageError> {
        self.do_or_give_up(|storage| storage.identity.remember_peer(&mut storage.disk, peer, incarnation))
    }

    /// Forgets the incarnations of the peers that this picks out: durably, when this returns. Each may show
    /// another one then.
    pub fn forget_peers(&mut self, picks: impl Fn(NodeId) -> bool) -> Result<(), StorageError> {
        self.do_or_give_up(|storage| storage.identity.forget_peers(&mut storage.disk, picks))
    }

    /// Saves an output's `hard_state`, `truncate_from` and `entries` as one batch, which survives a power cut
    /// when this returns `Ok`, and otherwise counts as a whole or not at all. Costs one write and one sync,
    /// and nothing when there is nothing to save.
    ///
    /// # Panics
    /// When the output does not fit what was saved before: a broken invariant of the core.
    pub fn save(&mut self, output: &Output) -> Result<(), StorageError> {
        if output.needs_save() {
            self.do_or_give_up(|storage| storage.log.save(&mut storage.disk, output))
        } else if self.given_up {
            Err(StorageError::GivenUp)
        } else {
            Ok(())
        }
    }

    /// Whether the node may vote and campaign, as far as its disk knows: one that has joined, or has lost its
    /// data, not before [`Storage::allow_vote`].
    pub fn may_vote(&self) -> bool {
        !self.identity.must_not_vote
    }

    /// Whether it was a voter that has lost its data, and was not let in again yet by what is committed: an
    /// entry that names it may still be replaced by another.
    pub fn has_lost_data(&self) -> bool {
        self.identity.has_lost_data && self.identity.has_no_life
    }

    /// Says that a node that has joined, or has lost its data, may vote; durable when this returns.
    pub fn allow_vote(&mut self) -> Result<(), StorageError> {
        self.do_or_give_up(|storage| storage.identity.allow_vote(&mut storage.disk))
    }

    /// The start counter by which this node's requests are told apart from all that any node of its number
    /// made: none before [`Storage::begin_life`] in a folder that has joined.
    pub fn request_boot(&self) -> Option<u64> {
        (!self.identity.has_no_life).then_some(self.identity.boot)
    }

    /// Says by the number of which life the log names this node, which has joined, and returns the start
    /// counter by which its requests are told apart from now on: beyond those of all earlier lives. Durable
    /// when this returns.
    pub fn begin_life(&mut self, life: u64) -> Result<u64, StorageError> {
        self.do_or_give_up(|storage| storage.identity.begin_life(&mut storage.disk, life))
    }

    /// The number of the life that this folder began when what is committed named it first: none in a folder
    /// of the cluster's first nodes, or when that is not known yet.
    pub fn life(&self) -> Option<u64> {
        Some(self.identity.boot / STARTS_A_LIFE).filter(|life| *life > 0)
    }

    /// How many bytes of log a start would read, if all snapshots that were begun are done by then: what a
    /// limit is compared with.
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Begins a segment of the log that needs nothing before this entry, which is settled: it will not be
    /// truncated any more. To be called when a snapshot up to it is begun; [`Storage::compact`] can remove
    /// all older segments then. `entries` are those that follow it, all that were saved. Durable when this
    /// returns, and changes nothing that a start would find.
    ///
    /// # Panics
    /// When these are not the entries that follow.
    pub fn begin_whole_segment(&mut self, after: EntryId, entries: &[Entry]) -> Result<(), StorageError> {
        let (end, next) = (self.log.end().next, entries.last().map_or(after, Entry::id).index.next());
        assert!(end == next, "a log that ends before {end} goes on to before {next}");
        self.do_or_give_up(|storage| storage.log.begin_whole(&mut storage.disk, after, entries))
    }

    /// To be called when the snapshot up to this entry is durable, as [`SnapshotWriter::finish`] says:
    /// removes what is not needed any more with it, of the log and of older snapshots.
    ///
    /// # Panics
    /// When there is no such snapshot.
    pub fn compact(&mut self, last: EntryId) -> Result<(), StorageError> {
        self.do_or_give_up(|storage| {
            let name = SnapshotName { last }.to_string();
            assert!(storage.disk.list()?.contains(&name), "compact: {name} is not there");
            if storage.snapshot.is_none_or(|newest| newest.index < last.index) {
                storage.snapshot = Some(last);
            }
            storage.tidy()
        })
    }

    /// The lines of content of the snapshot up to this entry; `None` when another one has taken its place. It
    /// can be read on another thread, and to its end also when that happens meanwhile.
    pub fn open_snapshot(&mut self, last: EntryId) -> Result<Option<SnapshotReader<D::File>>, StorageError> {
        self.do_or_give_up(|storage| {
            if storage.snapshot != Some(last) {
                return Ok(None);
            }
            SnapshotReader::open(&storage.disk, &storage.identity.cluster, last).map(Some)
        })
    }

    /// A part of a snapshot to be sent to another node: the lines that begin at this byte of its file, at
    /// most so many bytes of them, but at least one. `None` when another snapshot has taken its place, or no
    /// line begins there: the other node has to begin anew, or has all.
    pub fn read_chunk(
        &mut self,
        snapshot: EntryId,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Option<Chunk>, StorageError> {
        self.do_or_give_up(|storage| {
            if storage.snapshot != Some(snapshot) {
                return Ok(None);
            }
            SnapshotFile::open(&storage.disk, snapshot)?.read_chunk(offset, max_bytes)
        })
    }

    /// Takes a part of a snapshot of another node: lines that begin at this byte of its file. Returns how
    /// many bytes of that snapshot have come so far. A part that does not begin there changes nothing, but
    /// one that begins at 0 begins anew, whatever had come before of this snapshot or another one.
    pub fn receive_chunk(
        &mut self,
        snapshot: EntryId,
        offset: u64,
        lines: &[SnapshotLine],
    ) -> Result<u64, StorageError> {
        self.do_or_give_up(|storage| {
            let Storage { disk, identity, receiver, .. } = storage;
            transfer::receive(disk, receiver, &identity.cluster, snapshot, offset, lines)
        })
    }

    /// Ends the receiving of a snapshot. If it is sound, it is durable when this returns, and a start would
    /// use it; [`Storage::restart_log`] is to follow at once. Otherwise nothing is left of it, and why is
    /// returned.
    ///
    /// # Panics
    /// When a later term was not saved yet than the snapshot's: its sender's.
    pub fn finish_receiving(
        &mut self,
        snapshot: EntryId,
    ) -> Result<Result<SnapshotMeta, Unsound>, StorageError> {
        let hard_state = self.log.end().hard_state;
        assert!(snapshot.term <= hard_state.term, "a snapshot up to {snapshot} in {hard_state:?}");
        self.do_or_give_up(|storage| {
            let Storage { disk, receiver, snapshot: newest, .. } = storage;
            let received = transfer::finish(disk, receiver, snapshot, *newest)?;
            if received.is_ok() {
                storage.snapshot = Some(snapshot);
            }
            Ok::<_, DiskFault>(received)
        })
    }

    /// Lets the log begin after the snapshot that was received last. `entries` are those that follow it: all,
    /// if it was in the log, otherwise none. Removes what is not needed any more. Durable when this returns.
    ///
    /// # Panics
    /// When there is no such snapshot, or the entries do not follow it.
    pub fn restart_log(&mut self, after: EntryId, entries: &[Entry]) -> Result<(), StorageError> {
        assert!(self.snapshot == Some(after), "the log begins after {after}, with {:?}", self.snapshot);
        self.do_or_give_up(|storage| {
            storage.log.begin_whole(&mut storage.disk, after, entries)?;
            storage.tidy()
        })
    }

    /// Removes what is not needed with the newest snapshot. A crash in between leaves files that nobody looks
    /// at.
    fn tidy(&mut self) -> Result<(), DiskFault> {
        let Some(newest) = self.snapshot else { return Ok(()) };
        let needed_from = self.log.needed_from(newest);
        let mut removed = false;
        for name in self.disk.list()? {
            let old_snapshot = SnapshotName::parse(&name).is_some_and(|name| name.last.index < newest.index);
            let old_segment = SegmentName::parse(&name).is_some_and(|name| name.sequence < needed_from);
            if old_snapshot || old_segment {
                self.disk.remove(&name)?;
                removed = true;
            }
        }
        if removed { self.disk.sync_directory() } else { Ok(()) }
    }

    /// Does something to the disk; after the first failure, nothing any more.
    fn do_or_give_up<T, E: Into<StorageError>>(
        &mut self,
        operation: impl FnOnce(&mut Storage<D>) -> Result<T, E>,
    ) -> Result<T, StorageError> {
        if self.given_up {
            return Err(StorageError::GivenUp);
        }
        let outcome = operation(self);
        self.given_up = outcome.is_err();
        outcome.map_err(Into::into)
    }
}

/// What a folder has that is a node's.
struct Found {
    identity: Identity,
    snapshot: Option<SnapshotMeta>,
    log: Option<recovery::FoundLog>,
}

/// Reads what is in the folder; `None` when it is empty and may become a node's.
fn find<D: Disk>(disk: &D, names: &[String], opening: &Opening) -> Result<Option<Found>, StorageError> {
    let segments = segment_names(names);
    let newest = SnapshotName::all(names).last().copied();
    let data = segments.first().map(SegmentName::to_string).or(newest.map(|name| name.to_string()));
    if names.iter().any(|name| name == IDENTITY_FILE) {
        let identity = Identity::read(disk, opening)?;
        let snapshot = match newest {
            Some(name) => Some(SnapshotReader::open(disk, &identity.cluster, name.last)?.verify()?),
            None => None,
        };
        let last = newest.map_or(EntryId::NONE, |name| name.last);
        let log = recovery::read_log(disk, &segments, &identity, last)?;
        if let (Some(name), None) = (newest, &log) {
            return Err(recovery::missing(disk, 1, format!("{name} is there")));
        }
        Ok(Some(Found { identity, snapshot, log }))
    } else if let Some(data) = data {
        let because = format!(
            "{data} is there, so this is no new node (when a restore was cut short here, empty the folder \
             and restore again)"
        );
        Err(StorageError::Missing { path: disk.path(IDENTITY_FILE), because })
    } else if opening.first_start == FirstStart::Refused {
        Err(StorageError::Empty { folder: disk.path("") })
    } else {
        Ok(None)
    }
}

/// The segments among these names, in their order.
fn segment_names(names: &[String]) -> Vec<SegmentName> {
    let mut segments: Vec<SegmentName> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort();
    segments
}

/// Removes what was being written when an earlier start or run was cut short, and never got its final name.
fn remove_drafts<D: Disk>(disk: &mut D, names: &[String]) -> Result<(), DiskFault> {
    names.iter().filter(|name| is_draft(name)).try_for_each(|name| disk.remove(name))
}

/// Whether this is the name of a file of ours that has not got its final name.
fn is_draft(name: &str) -> bool {
    let ours = [disk::DRAFT_ENDING, transfer::PART_ENDING].iter().find_map(|end| name.strip_suffix(end));
    ours.is_some_and(|ours| {
        ours == IDENTITY_FILE || SegmentName::parse(ours).is_some() || SnapshotName::parse(ours).is_some()
    })
}

/// Goes on with the log that was read, or begins one: then the first start was cut short before it did.
fn open_log<D: Disk>(
    disk: &mut D,
    identity: &Identity,
    snapshot: Option<SnapshotMeta>,
    found: Option<recovery::FoundLog>,
    sizes: SegmentSizes,
) -> Result<(LogFile, Recovered), DiskFault> {
    let Some(found) = found else {
        let log = LogFile::create(disk, identity, sizes)?;
        let (hard_state, base) = (HardState::default(), EntryId::NONE);
        return Ok((log, Recovered { hard_state, snapshot, base, entries: Vec::new(), torn: None }));
    };
    let mut log = LogFile::resume(disk, identity, &found, sizes)?;
    let recovery::FoundLog { mut replay, torn, .. } = found;
    if let Some(SnapshotMeta { last, .. }) = snapshot {
        if !replay.contains(last) {
            // It was received, and a crash came before the log was begun anew.
            log.begin_whole(disk, last, &[])?;
        }
        replay.begin_after(last);
    }
    let replay::Replay { base, hard_state, entries, .. } = replay;
    Ok((log, Recovered { hard_state, snapshot, base, entries, torn }))
}
