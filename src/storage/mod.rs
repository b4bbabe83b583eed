//! Log, term and vote on disk: what a node must still know after `kill -9` or a power cut.
//!
//! ```text
//!   Storage ── Identity    identity.json             who this is; replaced as a whole, rarely
//!      │
//!      └────── LogFile     log-000001-from-0.jsonl   entries, truncations, term and vote; only appended to
//!                          log-000002-from-14.jsonl
//!   open:  list ─> Identity ─> recovery (segments ─> batches ─> records ─> Replay) ─> LogFile
//!                               └── tail: torn or damaged?
//!   save:  Output ─> one batch of records ─> one append ─> one sync
//!   all of it over `Disk`: `FileDisk` is a folder, `MemoryDisk` one that forgets and fails on demand
//! ```
//!
//! Two rules carry everything. What [`Storage::save`] returned `Ok` for is on stable storage. And what is
//! read back is exactly what was saved, without the end of a last write that was cut short: everything else
//! that does not check out refuses the start with a line that says where, because a node that guesses can
//! vote twice or forget what it acknowledged. Nothing here decides what is saved, tries a failed sync again,
//! or repairs anything.

mod disk;
mod error;
mod file_disk;
mod identity;
mod log_file;
mod memory_disk;
mod record;
mod recovery;
mod replay;
mod segment;
mod tail;
#[cfg(test)]
mod tests;

pub use disk::Disk;
pub use error::{DiskFault, StorageError};
pub use file_disk::FileDisk;
pub use identity::{Identity, RememberedPeer};
pub use memory_disk::{Failure, MemoryDisk};

use crate::raft::{HardState, Output};
use crate::types::{Entry, EntryId, Incarnation, NodeId};
use identity::IDENTITY_FILE;
use log_file::LogFile;
use segment::SegmentName;

/// The version of the format of all files of a node.
const FORMAT: u64 = 1;

/// A segment that has grown to this gets a next one.
pub const SEGMENT_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// What is known of a node before its folder is looked at.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The cluster's name, from `cluster.toml`.
    pub cluster: String,
    /// The node that is started.
    pub node: NodeId,
    /// The nodes that `cluster.toml` names, in any order.
    pub voters: Vec<NodeId>,
    /// Whether this may be the first start of a node of a new cluster.
    pub bootstrap: bool,
    /// A fresh random number, which becomes the node's incarnation if this is its first start.
    pub incarnation: Incarnation,
    /// A new segment is begun when one has so many bytes: [`SEGMENT_LIMIT_BYTES`], less in tests.
    pub segment_limit_bytes: u64,
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
    /// The entry before the log's first one.
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
    given_up: bool,
}

impl<D: Disk> Storage<D> {
    /// Opens a node's folder and reads back what was saved. With `opening.bootstrap` an empty folder becomes
    /// a new node's, at once and whole: after a crash at any point it counts as empty or as made. A folder
    /// with data in it is opened the same way with `bootstrap` and without.
    ///
    /// All that is returned is on stable storage. Fails with every kind of [`StorageError`] but `GivenUp`;
    /// all of them refuse the start.
    pub fn open(mut disk: D, opening: &Opening) -> Result<(Storage<D>, Recovered), StorageError> {
        let names = disk.list()?;
        let segments = segment_names(&names);
        let known = names.iter().any(|name| name == IDENTITY_FILE);
        let found = if known {
            let identity = Identity::read(&disk, opening)?;
            let log = recovery::read_log(&disk, &segments, &identity)?;
            Some((identity, log))
        } else if let Some(segment) = segments.first() {
            let because = format!("{segment} is there, so this is no new node");
            return Err(StorageError::Missing { path: disk.path(IDENTITY_FILE), because });
        } else if opening.bootstrap {
            None
        } else {
            return Err(StorageError::Empty { folder: disk.path("") });
        };

        // From here on the start is not refused any more, and the folder may change.
        remove_drafts(&mut disk, &names)?;
        let (identity, log) = match found {
            Some((identity, None)) => {
                // The start that gave the identity its name may have been cut short before the name was
                // durable. A log must not be there without it.
                disk.sync_directory()?;
                (identity, None)
            }
            Some((identity, log)) => (identity, log),
            None => (Identity::bootstrap(&mut disk, opening)?, None),
        };
        let (log, recovered) = open_log(&mut disk, &identity, log, opening.segment_limit_bytes)?;
        Ok((Storage { disk, identity, log, given_up: false }, recovered))
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

    /// Does something to the disk; after the first failure, nothing any more.
    fn do_or_give_up<T>(
        &mut self,
        operation: impl FnOnce(&mut Storage<D>) -> Result<T, DiskFault>,
    ) -> Result<T, StorageError> {
        if self.given_up {
            return Err(StorageError::GivenUp);
        }
        let outcome = operation(self);
        self.given_up = outcome.is_err();
        outcome.map_err(StorageError::Disk)
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
    for name in names {
        let Some(ours) = name.strip_suffix(disk::DRAFT_ENDING) else { continue };
        if ours == IDENTITY_FILE || SegmentName::parse(ours).is_some() {
            disk.remove(name)?;
        }
    }
    Ok(())
}

/// Goes on with the log that was read, or begins one: then the first start was cut short before it did.
fn open_log<D: Disk>(
    disk: &mut D,
    identity: &Identity,
    found: Option<recovery::FoundLog>,
    limit_bytes: u64,
) -> Result<(LogFile, Recovered), DiskFault> {
    match found {
        Some(found) => {
            let log = LogFile::resume(disk, identity, &found, limit_bytes)?;
            let replay::Replay { base, hard_state, entries, batch: _ } = found.replay;
            Ok((log, Recovered { hard_state, base, entries, torn: found.torn }))
        }
        None => {
            let log = LogFile::create(disk, identity, limit_bytes)?;
            let (hard_state, base) = (HardState::default(), EntryId::NONE);
            Ok((log, Recovered { hard_state, base, entries: Vec::new(), torn: None }))
        }
    }
}
