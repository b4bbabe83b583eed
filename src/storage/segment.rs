//! Segments: what a log file is called, and what its first line says.
//!
//! ```text
//! log-000001-from-0.jsonl     segment 1, whose first entry, if it gets one, has index 0
//! log-000002-from-14.jsonl    its header says how many bytes of segment 1 count
//! log-000003-from-9.jsonl     its header says `"whole":true`: with a snapshot up to 8, a start needs nothing
//!                             before this segment
//! ```
//!
//! A segment appears under its name with its first batch in it and synced: the header, and what the start
//! that began it had to write anew. So one without an intact first batch is damaged. Numbers rise by one and
//! a name is never used again.

use super::FORMAT;
use super::error::StorageError;
use super::identity::Identity;
use super::record::{Content, Flaw, read_record};
use crate::raft::HardState;
use crate::types::{EntryId, Incarnation, Index, MAX_NUMBER, NodeId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// How large segments become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSizes {
    /// A new segment is begun when one has so many bytes that count.
    pub limit_bytes: u64,
    /// A segment that has so many is filled with as many newlines whenever a batch comes to its end: with
    /// none, files grow batch by batch.
    pub fill_bytes: u64,
}

impl Default for SegmentSizes {
    /// 64 MiB, filled by the MiB: few segments, and few syncs that make a file longer.
    fn default() -> SegmentSizes {
        SegmentSizes { limit_bytes: 64 * 1024 * 1024, fill_bytes: 1024 * 1024 }
    }
}

/// The name of a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    /// Counts the segments, from 1.
    pub sequence: u64,
    /// The index that the next entry had when the segment was begun.
    pub first: Index,
}

impl SegmentName {
    /// Reads a name; `None` when it is not that of a segment.
    pub fn parse(name: &str) -> Option<SegmentName> {
        let (sequence, first) = name.strip_prefix("log-")?.strip_suffix(".jsonl")?.split_once("-from-")?;
        let parsed = SegmentName { sequence: sequence.parse().ok()?, first: Index(first.parse().ok()?) };
        // Only the one spelling: a second name for the same number would make two segments of one. And no
        // number that could not be counted on from.
        let is_ours = parsed.to_string() == name && parsed.sequence <= MAX_NUMBER;
        is_ours.then_some(parsed)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log-{:06}-from-{}.jsonl", self.sequence, self.first)
    }
}

/// What the first line of a segment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentHeader {
    /// The version of the format.
    pub format: u64,
    /// The cluster that the log belongs to.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// The node's incarnation: a log cannot pass from one life of a node id into another.
    pub incarnation: Incarnation,
    /// Nothing up to here is ever truncated any more; at first, what stands before every log.
    pub base: EntryId,
    /// This segment and those after it tell all that comes after `base`: its first batch has the entries from
    /// there on anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// Term and vote when the segment was begun.
    pub hard_state: HardState,
    /// The segment before this one.
    pub previous: Option<Previous>,
}

/// What a segment says of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Previous {
    /// Its name.
    pub name: String,
    /// How many of its bytes count. What follows in it is a torn write, or stands in this segment too.
    pub bytes: u64,
}

/// The one member that every version's header has.
#[derive(Deserialize)]
struct FormatOf {
    format: u64,
}

impl SegmentHeader {
    /// Whether a log can be read from this segment on.
    pub fn is_beginning(&self) -> bool {
        self.whole || self.previous.is_none()
    }

    /// Reads the header of the segment in this file, which must be this node's, and the number of the batch
    /// that it belongs to.
    pub fn read(path: &Path, file: &[u8], owner: &Identity) -> Result<(SegmentHeader, u64), StorageError> {
        let damaged = |expected: String| damaged(path, file, Flaw::new(0, expected));
        let record =
            read_record(file, 0).map_err(|flaw| damaged(format!("a segment's header: {}", flaw.expected)))?;
        let Content::Segment(text) = record.content else {
            return Err(damaged("a segment's header, found another record".to_string()));
        };
        match serde_json::from_str::<FormatOf>(text.get()) {
            Ok(FormatOf { format: FORMAT }) => {}
            Ok(other) => {
                return Err(StorageError::UnknownFormat { path: path.to_path_buf(), found: other.format });
            }
            Err(error) => return Err(damaged(format!("a segment's header: {error}"))),
        }
        let header: SegmentHeader = serde_json::from_str(text.get())
            .map_err(|error| damaged(format!("a segment's header: {error}")))?;
        if (&header.cluster, header.node, header.incarnation)
            != (&owner.cluster, owner.node, owner.incarnation)
        {
            return Err(damaged(format!(
                "the log of {} of cluster {:?} with incarnation {}, found that of {} of cluster {:?} with \
                 incarnation {}",
                owner.node, owner.cluster, owner.incarnation, header.node, header.cluster, header.incarnation
            )));
        }
        let SegmentHeader { base, hard_state, .. } = header;
        let largest = base.index.0.unsigned_abs().max(hard_state.term.0).max(record.head.batch);
        if largest > MAX_NUMBER || base.index < Index::NONE || base.term > hard_state.term {
            return Err(damaged(format!(
                "a base of no later term than {hard_state:?}, and numbers of at most {MAX_NUMBER}, found \
                 base {base} in batch {}",
                record.head.batch
            )));
        }
        Ok((header, record.head.batch))
    }
}

/// The error for a flaw in this file, with the number of its line.
pub(super) fn damaged(path: &Path, file: &[u8], flaw: Flaw) -> StorageError {
    StorageError::Damaged {
        path: path.to_path_buf(),
        line: line_number(file, flaw.at),
        expected: flaw.expected,
    }
}

/// The number of the line, from 1, that this byte belongs to.
pub(super) fn line_number(file: &[u8], at: usize) -> usize {
    1 + file.iter().take(at).filter(|&&byte| byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: the start counts on from the first segment's number, and panicked after the last.
    #[test]
    fn a_number_that_could_not_rise_is_no_segments() {
        assert!(SegmentName::parse("log-9007199254740991-from-0.jsonl").is_some());
        for number in ["9007199254740992", "18446744073709551615"] {
            assert_eq!(SegmentName::parse(&format!("log-{number}-from-0.jsonl")), None);
        }
    }

    #[test]
    fn a_segments_name_has_one_spelling() {
        let name = SegmentName { sequence: 1, first: Index(0) };
        assert_eq!(name.to_string(), "log-000001-from-0.jsonl");
        assert_eq!(SegmentName::parse("log-000001-from-0.jsonl"), Some(name));
        let big = SegmentName { sequence: 12_345_678, first: Index(99) };
        assert_eq!(SegmentName::parse(&big.to_string()), Some(big));
        for other in
            ["log-1-from-0.jsonl", "log-000001-from-00.jsonl", "log-000001-from-0.jsonl.new", "identity.json"]
        {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}
