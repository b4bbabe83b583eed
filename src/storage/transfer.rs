//! Snapshots on their way from node to node, in chunks of whole lines.
//!
//! ```text
//!   leader                                            follower
//!   snapshot-41-3.jsonl ── read_chunk(offset) ── lines ──> receive_chunk ──> snapshot-41-3.jsonl.part
//!                                                          each line checked, written, now and then synced
//!                                                          finish_receiving ──> snapshot-41-3.jsonl
//! ```
//!
//! The lines travel as they stand in the file, so both files are the same to the byte, and an offset means
//! the same in both.

use super::disk::{Disk, OpenFile};
use super::draft::Draft;
use super::error::{DiskFault, StorageError};
use super::record::checked_members;
use super::snapshot::{SnapshotFlaw, SnapshotMeta, SnapshotName, Unsound, Verifier};
use crate::types::{EntryId, SnapshotLine};
use std::io::ErrorKind;
use std::path::PathBuf;

/// How much is read at once where a line is longer than a chunk.
const PIECE_BYTES: usize = 256 * 1024;

/// What the name of a snapshot's file ends with while it is received.
pub(super) const PART_ENDING: &str = ".part";

/// Some lines of a snapshot, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The lines; at least one.
    pub lines: Vec<SnapshotLine>,
    /// Whether the snapshot ends with them.
    pub is_last: bool,
}

impl Chunk {
    /// How many bytes of the file these are.
    pub fn size_bytes(&self) -> u64 {
        self.lines.iter().map(SnapshotLine::size_bytes).sum()
    }
}

/// The file of a durable snapshot, to be read in parts. It stays open, so that it can be read to its end also
/// when another snapshot takes its place. Needs nothing of [`super::Storage`] but the folder.
#[derive(Debug)]
pub struct SnapshotFile<F> {
    last: EntryId,
    path: PathBuf,
    file: F,
}

impl<F: OpenFile> SnapshotFile<F> {
    /// Opens the one up to this entry, which is there.
    pub(super) fn open<D: Disk<File = F>>(disk: &D, last: EntryId) -> Result<SnapshotFile<F>, DiskFault> {
        let name = SnapshotName { last }.to_string();
        Ok(SnapshotFile { last, path: disk.path(&name), file: disk.open(&name)? })
    }

    /// Opens the one up to this entry, or the newest; `None` when there is none, or not any more.
    pub fn find<D: Disk<File = F>>(
        disk: &D,
        last: Option<EntryId>,
    ) -> Result<Option<SnapshotFile<F>>, DiskFault> {
        let newest = || Ok(SnapshotName::all(&disk.list()?).last().map(|name| name.last));
        let Some(last) = last.map_or_else(newest, |last| Ok(Some(last)))? else { return Ok(None) };
        match SnapshotFile::open(disk, last) {
            Ok(file) => Ok(Some(file)),
            Err(fault) if fault.error.kind() == ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// The last entry that it covers.
    pub fn last(&self) -> EntryId {
        self.last
    }

    /// Reads the lines that begin at this byte, at most so many bytes of them, but at least one line; `None`
    /// when no line begins there.
    pub fn read_chunk(&self, offset: u64, max_bytes: usize) -> Result<Option<Chunk>, StorageError> {
        let size_bytes = self.file.size_bytes()?;
        if offset >= size_bytes || (offset > 0 && self.file.read_part(offset - 1, 1)? != b"\n") {
            return Ok(None);
        }
        let bytes = whole_lines(&self.file, offset, max_bytes)?;
        let mut lines = Vec::new();
        for (line, place) in bytes.split_inclusive(|byte| *byte == b'\n').zip(1..) {
            match sent_line(line) {
                Ok(line) => lines.push(line),
                Err(expected) => {
                    let line = lines_before(&self.file, offset)? + place;
                    return Err(StorageError::Damaged { path: self.path.clone(), line, expected });
                }
            }
        }
        Ok(Some(Chunk { lines, is_last: offset + bytes.len() as u64 == size_bytes }))
    }
}

/// The line to be sent, when it is intact: otherwise the one that receives it would only find out later.
fn sent_line(line: &[u8]) -> Result<SnapshotLine, String> {
    checked_members(line)?;
    let text = str::from_utf8(line.strip_suffix(b"\n").unwrap_or(line)).map_err(|error| error.to_string())?;
    SnapshotLine::from_json(text.to_string()).map_err(|error| error.to_string())
}

/// The lines that end within so many bytes, or the first one, however long; or what is left of the file.
fn whole_lines(file: &impl OpenFile, offset: u64, max_bytes: usize) -> Result<Vec<u8>, DiskFault> {
    let mut bytes = file.read_part(offset, max_bytes)?;
    if let Some(newline) = memchr::memrchr(b'\n', &bytes) {
        bytes.truncate(newline + 1);
        return Ok(bytes);
    }
    loop {
        let more = file.read_part(offset + bytes.len() as u64, PIECE_BYTES)?;
        match memchr::memchr(b'\n', &more) {
            Some(newline) => {
                bytes.extend_from_slice(&more[..=newline]);
                return Ok(bytes);
            }
            None if more.is_empty() => return Ok(bytes),
            None => bytes.extend(more),
        }
    }
}

/// How many lines end before this byte.
fn lines_before(file: &impl OpenFile, offset: u64) -> Result<usize, DiskFault> {
    let mut lines = 0;
    let mut at = 0;
    while at < offset {
        let piece =
            file.read_part(at, PIECE_BYTES.min(usize::try_from(offset - at).unwrap_or(PIECE_BYTES)))?;
        if piece.is_empty() {
            break;
        }
        lines += memchr::memchr_iter(b'\n', &piece).count();
        at += piece.len() as u64;
    }
    Ok(lines)
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Receiver {
    snapshot: EntryId,
    /// What has come so far: where the next chunk begins.
    received_bytes: u64,
    draft: Draft,
    verifier: Verifier,
    /// What was wrong first. What comes after that is not written any more.
    flaw: Option<SnapshotFlaw>,
}

/// Takes lines that begin at this byte of a snapshot of this cluster, and returns how many bytes of it have
/// come so far. See `Storage::receive_chunk`.
pub(super) fn receive<D: Disk>(
    disk: &mut D,
    receiver: &mut Option<Receiver>,
    cluster: &str,
    snapshot: EntryId,
    offset: u64,
    lines: &[SnapshotLine],
) -> Result<u64, DiskFault> {
    if offset == 0 {
        if let Some(earlier) = receiver.take() {
            earlier.draft.discard(disk)?;
        }
        *receiver = Some(Receiver::begin(disk, cluster, snapshot)?);
    }
    match receiver {
        Some(receiver) if receiver.snapshot == snapshot => {
            if receiver.received_bytes == offset {
                receiver.take(disk, lines)?;
            }
            Ok(receiver.received_bytes)
        }
        Some(_) | None => Ok(0),
    }
}

/// Ends the receiving of a snapshot, which must cover more than the newest one that is there. See
/// `Storage::finish_receiving`.
pub(super) fn finish<D: Disk>(
    disk: &mut D,
    receiver: &mut Option<Receiver>,
    snapshot: EntryId,
    newest: Option<EntryId>,
) -> Result<Result<SnapshotMeta, Unsound>, DiskFault> {
    let Some(receiver) = receiver.take_if(|receiver| receiver.snapshot == snapshot) else {
        return Ok(Err(Unsound { why: "nothing of it has come".to_string() }));
    };
    let outcome = match (receiver.flaw, newest) {
        (Some(flaw), _) => Err(flaw.to_string()),
        (None, Some(newest)) if newest.index >= snapshot.index => {
            Err(format!("expected a snapshot up to a later entry than {newest}"))
        }
        (None, _) => receiver.verifier.finish().map_err(|flaw| flaw.to_string()),
    };
    match outcome {
        Ok(meta) => receiver.draft.finish(disk).map(|_| Ok(meta)),
        Err(why) => receiver.draft.discard(disk).map(|()| Err(Unsound { why })),
    }
}

impl Receiver {
    fn begin<D: Disk>(disk: &mut D, cluster: &str, snapshot: EntryId) -> Result<Receiver, DiskFault> {
        let draft = Draft::begin(disk, SnapshotName { last: snapshot }.to_string(), PART_ENDING)?;
        let verifier = Verifier::new(cluster, snapshot);
        Ok(Receiver { snapshot, received_bytes: 0, draft, verifier, flaw: None })
    }

    fn take<D: Disk>(&mut self, disk: &mut D, lines: &[SnapshotLine]) -> Result<(), DiskFault> {
        for line in lines {
            self.received_bytes += line.size_bytes();
            if self.flaw.is_none() {
                let bytes = [line.text().as_bytes(), b"\n"].concat();
                match self.verifier.take(&bytes) {
                    Ok(_) => self.draft.push(disk, &bytes)?,
                    Err(flaw) => self.flaw = Some(flaw),
                }
            }
        }
        Ok(())
    }
}
