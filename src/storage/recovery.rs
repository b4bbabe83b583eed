//! Reads the log back: from the newest segment on that needs nothing before what the snapshot covers, all in
//! order, each up to where the next one says that it counts, the last one up to a torn write if there is one.
//!
//! ```text
//!   snapshot-41-3.jsonl       log-000001  log-000002  log-000003     log-000004  log-000005
//!   the newest one                                    "whole":true               "whole":true
//!                                                     after 38@3                 after 50@3
//!                             |-- nobody needs it --| |--------- read in this order --------|
//! ```
//!
//! Reading changes nothing on the disk, so a start that is refused leaves the folder as it was. What is to be
//! done about the end of the log is `LogFile::resume`'s.

use super::disk::{Disk, OpenFile};
use super::error::StorageError;
use super::identity::{IDENTITY_FILE, Identity};
use super::record::{Content, Flaw};
use super::replay::{LogEnd, Replay, read_batch};
use super::segment::{Previous, SegmentHeader, SegmentName, damaged, line_number};
use super::snapshot::SnapshotName;
use super::tail::{content, judge_tail};
use crate::types::EntryId;
use std::path::PathBuf;

/// More than any header has.
pub(super) const HEADER_LIMIT_BYTES: usize = 64 * 1024;

/// A log that was read.
#[derive(Debug)]
pub(super) struct FoundLog {
    /// What it says.
    pub replay: Replay,
    /// The newest segment.
    pub last: SegmentName,
    /// How far it is certain to be on stable storage.
    pub certain: Mark,
    /// If bytes follow from there on: the records of the one complete batch among them, or none when it is
    /// all torn.
    pub in_doubt: Option<Vec<Content>>,
    /// A line for people about a torn write that does not count.
    pub torn: Option<String>,
    /// The segments that a log can be read from, from the one that this was read from on.
    pub beginnings: Vec<Beginning>,
    /// How many bytes of the segments before the newest one count.
    pub sealed_bytes: u64,
}

/// A segment from which on a log can be read by whoever knows all up to `base`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub sequence: u64,
    pub base: EntryId,
}

/// A place between two batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// The bytes of the segment up to there.
    pub bytes: usize,
    /// The number of the batch that follows.
    pub batch: u64,
    /// What the log ends with there.
    pub end: LogEnd,
}

/// How far the complete batches of a segment go.
struct Replayed {
    /// Before the last of them, but always after the first.
    certain: Mark,
    /// The bytes up to the end of the last.
    counted: usize,
    /// What stands there, if that is not the end.
    flaw: Option<Flaw>,
}

/// A segment in memory.
struct Segment {
    name: SegmentName,
    path: PathBuf,
    file: Vec<u8>,
    header: SegmentHeader,
    /// The number of its first batch.
    batch: u64,
}

/// Reads the segments with these names, in their order, as far as they are needed by a node that has a
/// snapshot up to this entry; `None` when there are none.
pub(super) fn read_log<D: Disk>(
    disk: &D,
    names: &[SegmentName],
    owner: &Identity,
    snapshot: EntryId,
) -> Result<Option<FoundLog>, StorageError> {
    let beginnings = beginnings(disk, names, owner, snapshot)?;
    let first = beginnings.first().map_or(1, |beginning| beginning.sequence);
    let mut replay = None;
    // A segment is replayed when it is known how much of it counts: from the next one, or because there is
    // none.
    let mut waiting: Option<Segment> = None;
    let mut sealed_bytes = 0;
    for (name, sequence) in names.iter().filter(|name| name.sequence >= first).zip(first..) {
        if name.sequence != sequence {
            return Err(missing(disk, sequence, format!("{name} is there")));
        }
        let segment = Segment::read(disk, *name, owner)?;
        let replay = replay.get_or_insert_with(|| segment.nothing_replayed());
        if let Some(before) = waiting {
            sealed_bytes += before.replay_sealed(replay, &segment)?;
        }
        waiting = Some(segment);
    }
    let found = names.last().map_or(0, |name| name.sequence);
    if found < owner.newest_segment {
        let because =
            format!("{IDENTITY_FILE} says that the log has come to segment {}", owner.newest_segment);
        return Err(missing(disk, found + 1, because));
    }
    match waiting.zip(replay) {
        Some((last, replay)) => {
            let found = FoundLog { beginnings, sealed_bytes, ..last.replay_last(replay)? };
            check_snapshot(disk, &found.replay, snapshot)?;
            Ok(Some(found))
        }
        None => Ok(None),
    }
}

/// The segments that the log can be read from: the newest one that begins with what the snapshot covers, and
/// those after it. Older ones are not looked at.
fn beginnings<D: Disk>(
    disk: &D,
    names: &[SegmentName],
    owner: &Identity,
    snapshot: EntryId,
) -> Result<Vec<Beginning>, StorageError> {
    let mut beginnings = Vec::new();
    let mut oldest = None;
    for name in names.iter().rev() {
        let start = disk.open(&name.to_string())?.read_part(0, HEADER_LIMIT_BYTES)?;
        let (header, _) = SegmentHeader::read(&disk.path(&name.to_string()), &start, owner)?;
        if header.is_beginning() {
            beginnings.insert(0, Beginning { sequence: name.sequence, base: header.base });
            if header.base.index <= snapshot.index {
                return Ok(beginnings);
            }
        }
        oldest = Some((name, header));
    }
    match oldest {
        None => Ok(beginnings),
        Some((name, SegmentHeader { base, previous, whole, .. })) => match previous {
            Some(previous) if !whole => {
                let because = format!("the header of {name} names it as the one before");
                Err(StorageError::Missing { path: disk.path(&previous.name), because })
            }
            Some(_) | None => {
                let because = format!("the log begins after {base}, as the header of {name} says");
                Err(StorageError::Missing {
                    path: disk.path(&SnapshotName { last: base }.to_string()),
                    because,
                })
            }
        },
    }
}

/// The log may lack what the snapshot ends with, or have another entry there: then the snapshot has come from
/// another node, and a crash came before the log was begun anew. But not where the log is settled.
fn check_snapshot<D: Disk>(disk: &D, replay: &Replay, snapshot: EntryId) -> Result<(), StorageError> {
    let expected = if snapshot.term > replay.hard_state.term {
        format!("a snapshot up to a term of at most {}, which is the log's", replay.hard_state.term)
    } else if snapshot.index <= replay.settled.index && !replay.contains(snapshot) {
        format!("a snapshot up to an entry of the log, which is settled up to {}", replay.settled)
    } else {
        return Ok(());
    };
    let path = disk.path(&SnapshotName { last: snapshot }.to_string());
    Err(StorageError::Damaged { path, line: 1, expected: format!("{expected}, found one up to {snapshot}") })
}

/// The error for a missing segment, of whose name only the beginning is known.
pub(super) fn missing<D: Disk>(disk: &D, sequence: u64, because: String) -> StorageError {
    StorageError::Missing { path: disk.path(&format!("log-{sequence:06}-from-…")), because }
}

impl Segment {
    fn read<D: Disk>(disk: &D, name: SegmentName, owner: &Identity) -> Result<Segment, StorageError> {
        let path = disk.path(&name.to_string());
        let file = disk.read(&name.to_string())?;
        let (header, batch) = SegmentHeader::read(&path, &file, owner)?;
        Ok(Segment { name, path, file, header, batch })
    }

    /// What is known before this segment is replayed as the first one.
    fn nothing_replayed(&self) -> Replay {
        if self.header.whole {
            Replay::after(self.header.base, self.header.hard_state, self.batch)
        } else {
            Replay::new()
        }
    }

    fn damaged(&self, flaw: Flaw) -> StorageError {
        damaged(&self.path, &self.file, flaw)
    }

    /// Replays a segment that has a next one. All that counts in it was synced before that one was begun, so
    /// any flaw in it is damage. Returns how many bytes of it count.
    fn replay_sealed(&self, replay: &mut Replay, next: &Segment) -> Result<u64, StorageError> {
        let counted = match &next.header.previous {
            Some(Previous { name, bytes }) if *name == self.name.to_string() => *bytes,
            Some(_) | None => {
                return Err(next
                    .damaged(Flaw::new(0, format!("a header that names {} as the one before", self.name))));
            }
        };
        let Some(file) = usize::try_from(counted).ok().and_then(|counted| self.file.get(..counted)) else {
            let found = self.file.len();
            let expected =
                format!("{counted} bytes in all, as the header of {} says, found {found}", next.name);
            return Err(self.damaged(Flaw::new(found, expected)));
        };
        match self.replay(replay, file)?.flaw {
            Some(flaw) => Err(self.damaged(flaw)),
            None => Ok(counted),
        }
    }

    /// Replays the last segment, whose end may be a torn write.
    fn replay_last(&self, mut replay: Replay) -> Result<FoundLog, StorageError> {
        let file = &self.file;
        let Replayed { certain, counted, flaw } = self.replay(&mut replay, file)?;
        let torn = match flaw {
            Some(_) if content(file).len() <= counted => None,
            Some(_) => {
                judge_tail(file, counted, replay.batch).map_err(|flaw| self.damaged(flaw))?;
                Some(format!(
                    "{}, line {}: the last {} bytes are a write that a crash cut short (batch {}): nothing \
                     in it was acknowledged, it does not count",
                    self.path.display(),
                    line_number(file, counted),
                    content(file).len() - counted,
                    replay.batch
                ))
            }
            None => None,
        };
        let in_doubt = self.in_doubt(&certain, counted)?;
        let (beginnings, sealed_bytes) = (Vec::new(), 0);
        Ok(FoundLog { replay, last: self.name, certain, in_doubt, torn, beginnings, sealed_bytes })
    }

    /// What follows the part of the last segment that is certainly on stable storage.
    ///
    /// Every save syncs before the next one writes, and a start goes on only from what is certain. So a batch
    /// with another one behind it is on stable storage, and so is the first one of a segment, which was there
    /// before the segment got its name. Only of the last batch nothing is known: its sync may have failed, or
    /// never have begun. (With a torn write behind it, it was synced; but what looks like one may be filler,
    /// and it is not worth a rule of its own.)
    fn in_doubt(&self, certain: &Mark, counted: usize) -> Result<Option<Vec<Content>>, StorageError> {
        let start = certain.bytes;
        if start == self.file.len() {
            Ok(None)
        } else if start == counted {
            Ok(Some(Vec::new()))
        } else {
            // Read a second time, so that not every batch is kept until it is known not to be the last.
            let batch = read_batch(&self.file, start, certain.batch).map_err(|flaw| self.damaged(flaw))?;
            Ok(Some(batch.contents.into_iter().map(|(_, content)| content).collect()))
        }
    }

    /// Replays the complete batches of these bytes of the segment.
    fn replay(&self, replay: &mut Replay, file: &[u8]) -> Result<Replayed, StorageError> {
        let first = read_batch(file, 0, replay.batch).map_err(|flaw| self.damaged(flaw))?;
        self.check_header(replay).map_err(|expected| self.damaged(Flaw::new(0, expected)))?;
        // The first record is the header; the others, if any, are a batch that was written anew.
        replay.apply_batch(first.contents.into_iter().skip(1)).map_err(|flaw| self.damaged(flaw))?;
        let mut counted = first.end;
        let mut certain = Mark { bytes: counted, batch: replay.batch, end: replay.end() };
        while counted < file.len() {
            match read_batch(file, counted, replay.batch) {
                Ok(batch) => {
                    certain = Mark { bytes: counted, batch: replay.batch, end: replay.end() };
                    counted = batch.end;
                    replay.apply_batch(batch.contents).map_err(|flaw| self.damaged(flaw))?;
                }
                Err(flaw) => return Ok(Replayed { certain, counted, flaw: Some(flaw) }),
            }
        }
        Ok(Replayed { certain, counted, flaw: None })
    }

    /// A segment begins with what the ones before it lead to.
    fn check_header(&self, replay: &mut Replay) -> Result<(), String> {
        let SegmentHeader { base, hard_state, whole, .. } = &self.header;
        if *whole && !replay.contains(*base) {
            return Err(format!("a base in the log, which ends with {}, found {base}", replay.last()));
        }
        if *whole {
            replay.settled = *base;
        }
        let next = if *whole { base.index.next() } else { replay.last().index.next() };
        if *base != replay.settled {
            Err(format!("a log that begins after {}, found {base}", replay.settled))
        } else if *hard_state != replay.hard_state {
            Err(format!("{:?}, as the segments before lead to, found {hard_state:?}", replay.hard_state))
        } else if self.name.first != next {
            Err(format!("a file named for index {next}, which comes next, found {}", self.name))
        } else {
            Ok(())
        }
    }
}
