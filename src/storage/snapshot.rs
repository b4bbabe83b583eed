//! A snapshot's file: what it is called, what its lines are, and how they are checked.
//!
//! ```text
//! snapshot-41-3.jsonl      what the application had come to with entry 41, which is of term 3
//!
//! {"crc":"…","snapshot":{"format":1,"cluster":"demo","last":{"term":3,"index":41},…,"lines":2}}
//! {"crc":"…","key":"x","value":1}            as many lines as the first one says; what they say is the
//! {"crc":"…","client":"c","seq":3,…}         application's
//! {"crc":"…","end":{"lines":2,"checksum":"9f86d081884c7d65"}}          of all bytes before this line
//! ```
//!
//! It names no node, so that it can be sent to another one as it is.

use super::FORMAT;
use super::error::StorageError;
use super::record::{checked_members, read_checked_object, write_checked_object};
use crate::types::{Configuration, EntryId, Index, MAX_NUMBER, Term, hex_digits};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that it covers.
    pub last: EntryId,
    /// The application's running hash up to there.
    pub applied_hash: u64,
    /// The configuration that the log had led to there.
    pub configuration: Configuration,
}

/// The name of a snapshot's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotName {
    /// The last entry that it covers.
    pub last: EntryId,
}

impl SnapshotName {
    /// Reads a name; `None` when it is not that of a snapshot.
    pub fn parse(name: &str) -> Option<SnapshotName> {
        let (index, term) = name.strip_prefix("snapshot-")?.strip_suffix(".jsonl")?.split_once('-')?;
        let last = EntryId::new(Term(term.parse().ok()?), Index(index.parse().ok()?));
        let parsed = SnapshotName { last };
        // Only the one spelling, as with segments.
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The names of snapshots among these, the one that covers most last.
    pub fn all(names: &[String]) -> Vec<SnapshotName> {
        let mut all: Vec<SnapshotName> = names.iter().filter_map(|name| SnapshotName::parse(name)).collect();
        all.sort_by_key(|name| (name.last.index, name.last.term));
        all
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot-{}-{}.jsonl", self.last.index, self.last.term)
    }
}

#[derive(Serialize, Deserialize)]
struct FirstLine<S> {
    snapshot: S,
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u64,
    cluster: String,
    last: EntryId,
    #[serde(with = "hex_digits")]
    applied_hash: u64,
    configuration: Configuration,
    lines: u64,
}

/// The one member that every version's first line has.
#[derive(Deserialize)]
struct FormatOf {
    format: u64,
}

#[derive(Serialize, Deserialize)]
struct EndLine {
    end: End,
}

#[derive(Serialize, Deserialize)]
struct End {
    lines: u64,
    #[serde(with = "hex_digits")]
    checksum: u64,
}

/// Makes the first line.
pub(super) fn first_line(cluster: &str, meta: &SnapshotMeta, lines: u64) -> Vec<u8> {
    let SnapshotMeta { last, applied_hash, configuration } = meta.clone();
    let cluster = cluster.to_string();
    let snapshot = Header { format: FORMAT, cluster, last, applied_hash, configuration, lines };
    let object = serde_json::to_vec(&FirstLine { snapshot }).expect("plain values can be written as JSON");
    write_checked_object(&object)
}

/// Makes the last line of a snapshot whose other lines have this checksum.
pub(super) fn end_line(lines: u64, checksum: u64) -> Vec<u8> {
    let end = EndLine { end: End { lines, checksum } };
    write_checked_object(&serde_json::to_vec(&end).expect("plain values can be written as JSON"))
}

/// The checksum of the lines so far.
#[derive(Default)]
pub(super) struct RunningChecksum(Box<Xxh3>);

impl RunningChecksum {
    pub fn update(&mut self, line: &[u8]) {
        self.0.update(line);
    }

    pub fn value(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Debug for RunningChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.value())
    }
}

/// Why lines are no sound snapshot of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SnapshotFlaw {
    /// What should stand there, and what does.
    Damaged(String),
    /// A version with this format wrote it.
    UnknownFormat(u64),
    /// It is of this cluster.
    OtherCluster { found: String, expected: String },
}

impl SnapshotFlaw {
    /// The error for this flaw in a line of this node's own file.
    pub fn in_file(self, path: &Path, line: usize) -> StorageError {
        let path = path.to_path_buf();
        match self {
            SnapshotFlaw::Damaged(expected) => StorageError::Damaged { path, line, expected },
            SnapshotFlaw::UnknownFormat(found) => StorageError::UnknownFormat { path, found },
            SnapshotFlaw::OtherCluster { found, expected } => {
                StorageError::OtherCluster { path, found, expected }
            }
        }
    }
}

impl fmt::Display for SnapshotFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotFlaw::Damaged(expected) => write!(f, "expected {expected}"),
            SnapshotFlaw::UnknownFormat(found) => write!(f, "expected format {FORMAT}, found format {found}"),
            SnapshotFlaw::OtherCluster { found, expected } => {
                write!(f, "expected a snapshot of cluster {expected:?}, found one of cluster {found:?}")
            }
        }
    }
}

/// Why what was received is no sound snapshot of this cluster: a text for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsound {
    /// What was expected, and what came.
    pub why: String,
}

impl From<SnapshotFlaw> for Unsound {
    fn from(flaw: SnapshotFlaw) -> Unsound {
        Unsound { why: flaw.to_string() }
    }
}

impl From<String> for SnapshotFlaw {
    fn from(expected: String) -> SnapshotFlaw {
        SnapshotFlaw::Damaged(expected)
    }
}

/// Checks a snapshot line by line, each when it comes: also before the next one is there.
#[derive(Debug)]
pub(super) struct Verifier {
    /// Whose snapshot it must be; none for anybody's.
    cluster: Option<String>,
    /// The last entry that it must cover; none for any.
    last: Option<EntryId>,
    /// What the first line said.
    header: Option<Announced>,
    /// The lines of content so far.
    lines: u64,
    /// Over all lines so far.
    checksum: RunningChecksum,
    is_complete: bool,
}

/// What a snapshot's first line says.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The cluster whose snapshot it is.
    pub cluster: String,
    /// What it covers.
    pub meta: SnapshotMeta,
    /// How many lines of content follow.
    pub lines: u64,
}

impl Verifier {
    /// For the snapshot up to this entry, of this cluster.
    pub fn new(cluster: &str, last: EntryId) -> Verifier {
        Verifier { cluster: Some(cluster.to_string()), ..Verifier::of_any_cluster(last) }
    }

    /// For the snapshot up to this entry, whose cluster does not matter.
    pub fn of_any_cluster(last: EntryId) -> Verifier {
        Verifier { last: Some(last), ..Verifier::of_any() }
    }

    /// For any snapshot.
    pub fn of_any() -> Verifier {
        let checksum = RunningChecksum::default();
        Verifier { cluster: None, last: None, header: None, lines: 0, checksum, is_complete: false }
    }

    /// Takes the next line, its newline included; if it is one of the content, returns its members: what
    /// follows the checksum.
    pub fn take<'a>(&mut self, line: &'a [u8]) -> Result<Option<&'a [u8]>, SnapshotFlaw> {
        if self.is_complete {
            return Err("nothing after the end of the snapshot, found more".to_string().into());
        }
        if memchr::memchr(b'\n', line) != Some(line.len().wrapping_sub(1)) {
            return Err("a whole line, found one without its newline".to_string().into());
        }
        let members = checked_members(line)?;
        let content = match &self.header {
            None => {
                self.header = Some(self.read_first(line)?);
                None
            }
            Some(announced) if self.lines < announced.lines => {
                self.lines += 1;
                Some(members)
            }
            Some(_) => {
                self.check_end(line)?;
                self.is_complete = true;
                None
            }
        };
        self.checksum.update(line);
        Ok(content)
    }

    /// What the snapshot says of itself, when it is complete.
    pub fn finish(&self) -> Result<SnapshotMeta, SnapshotFlaw> {
        self.announced().map(|announced| announced.meta.clone())
    }

    /// What its first line said, when it is complete.
    pub fn announced(&self) -> Result<&Announced, SnapshotFlaw> {
        match &self.header {
            Some(announced) if self.is_complete => Ok(announced),
            Some(_) | None => Err("the end of the snapshot, found the end of the file".to_string().into()),
        }
    }

    /// What its first line said, once that was read.
    pub fn announced_so_far(&self) -> Option<&Announced> {
        self.header.as_ref()
    }

    /// The checksum of all lines so far.
    pub fn checksum(&self) -> u64 {
        self.checksum.value()
    }

    fn read_first(&self, line: &[u8]) -> Result<Announced, SnapshotFlaw> {
        let damaged = |error| SnapshotFlaw::Damaged(format!("a snapshot's first line: {error}"));
        let object = read_checked_object(line)?;
        let FirstLine::<Box<RawValue>> { snapshot } = serde_json::from_slice(&object).map_err(damaged)?;
        let FormatOf { format } = serde_json::from_str(snapshot.get()).map_err(damaged)?;
        if format != FORMAT {
            return Err(SnapshotFlaw::UnknownFormat(format));
        }
        let header: Header = serde_json::from_str(snapshot.get()).map_err(damaged)?;
        let Header { format: _, cluster, last, applied_hash, configuration, lines } = header;
        let index = u64::try_from(last.index.0).unwrap_or(u64::MAX);
        if let Some(expected) = self.cluster.clone().filter(|expected| *expected != cluster) {
            return Err(SnapshotFlaw::OtherCluster { found: cluster, expected });
        }
        if let Some(expected) = self.last.filter(|expected| *expected != last) {
            return Err(format!("a snapshot up to {expected}, found one up to {last}").into());
        }
        if index.max(last.term.0) > MAX_NUMBER {
            return Err(format!("an entry of at most {MAX_NUMBER}, found {last}").into());
        }
        Ok(Announced { cluster, meta: SnapshotMeta { last, applied_hash, configuration }, lines })
    }

    fn check_end(&self, line: &[u8]) -> Result<(), SnapshotFlaw> {
        let EndLine { end: End { lines, checksum } } = serde_json::from_slice(&read_checked_object(line)?)
            .map_err(|error| format!("the end after {} lines: {error}", self.lines))?;
        let counted = self.checksum.value();
        if lines != self.lines {
            Err(SnapshotFlaw::Damaged(format!("an end of {} lines, found one of {lines}", self.lines)))
        } else if checksum != counted {
            let expected =
                format!("checksum {counted:016x} for the lines before, found checksum {checksum:016x}");
            Err(SnapshotFlaw::Damaged(expected))
        } else {
            Ok(())
        }
    }
}

/// Checks a snapshot that comes line by line from elsewhere, of whatever cluster.
#[derive(Debug)]
pub struct SnapshotCheck(Verifier);

impl SnapshotCheck {
    /// For the snapshot up to this entry.
    pub fn new(last: EntryId) -> SnapshotCheck {
        SnapshotCheck(Verifier::of_any_cluster(last))
    }

    /// Takes the next line, its newline included. Fails when it is not what should come next.
    pub fn take(&mut self, line: &[u8]) -> Result<(), Unsound> {
        self.0.take(line).map(drop).map_err(Unsound::from)
    }

    /// How many lines of content it is to have, once its first line has come.
    pub fn announced_lines(&self) -> u64 {
        self.0.header.as_ref().map_or(0, |announced| announced.lines)
    }

    /// What it says of itself. Fails when it has not come to its end.
    pub fn finish(&self) -> Result<SnapshotMeta, Unsound> {
        self.0.finish().map_err(Unsound::from)
    }
}
