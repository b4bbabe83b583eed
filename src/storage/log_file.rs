//! The log on disk: one append-only stream of batches, cut into segments.
//!
//! Nothing that counts is ever overwritten or truncated. A new segment is begun when one has grown to its
//! limit, and by a start that cannot be certain of the last one's end: the header says how many bytes of the
//! one before count, and what of the rest is to count is written anew behind it, in the same batch. So the
//! two versions of a log change places in one step, with the segment's name.
//!
//! ```text
//! log-000001-from-0.jsonl   | header | batch 2 | batch 3 | batch 4 | torn |
//!                           |<------ bytes: 812 -------->|
//! log-000002-from-9.jsonl   | header, "bytes":812; what was batch 4 | batch 5 | batch 6 |
//!                           |<------------ batch 4 --------------->|
//! ```
//!
//! A third reason for a new segment is a snapshot, of this node or of another one: it says that it is whole
//! after the entry that the snapshot ends with, and has all from there on anew. Nothing before it is needed
//! then, see [`LogFile::needed_from`].
//!
//! A segment that has become large is filled with newlines ahead of what is written, so that a save finds its
//! place on the disk and a sync need not write the file's size, which takes the file system longer than the
//! batch (`SegmentSizes`). Empty lines say nothing; small segments have none, for those who read them.

use super::FORMAT;
use super::disk::{Disk, write_whole};
use super::error::DiskFault;
use super::identity::Identity;
use super::record::{BatchWriter, Content};
use super::recovery::{Beginning, FoundLog, Mark};
use super::replay::{LogEnd, Replay, may_follow};
use super::segment::{Previous, SegmentHeader, SegmentName, SegmentSizes};
use crate::raft::{HardState, Output};
use crate::types::{Entry, EntryId, Index};

/// The log, open for saving.
#[derive(Debug)]
pub(super) struct LogFile {
    /// A header that fits this log; a new segment gets a copy with what has changed.
    header: SegmentHeader,
    segment: SegmentName,
    /// How many bytes of it count: where the next batch goes.
    segment_bytes: u64,
    /// How many it has, with those that it is filled with.
    filled_bytes: u64,
    sizes: SegmentSizes,
    /// What counts of the segments before this one, from the newest one that is whole.
    sealed_bytes: u64,
    /// The segments that the log can be read from, oldest first; there is one.
    beginnings: Vec<Beginning>,
    /// The number of the next batch.
    batch: u64,
    end: LogEnd,
    writer: BatchWriter,
}

impl LogFile {
    /// Begins the log of a node that has none.
    pub fn create<D: Disk>(
        disk: &mut D,
        owner: &Identity,
        sizes: SegmentSizes,
    ) -> Result<LogFile, DiskFault> {
        LogFile::begin(disk, owner, &Replay::new(), sizes)
    }

    /// Begins the log of a node that has none, but a snapshot up to this entry.
    pub fn create_after<D: Disk>(
        disk: &mut D,
        owner: &Identity,
        last: EntryId,
        sizes: SegmentSizes,
    ) -> Result<LogFile, DiskFault> {
        let hard_state = HardState { term: last.term, voted_for: None };
        LogFile::begin(disk, owner, &Replay::after(last, hard_state, 1), sizes)
    }

    fn begin<D: Disk>(
        disk: &mut D,
        owner: &Identity,
        replay: &Replay,
        sizes: SegmentSizes,
    ) -> Result<LogFile, DiskFault> {
        let base = replay.base;
        let first = SegmentName { sequence: 1, first: base.index.next() };
        let nothing = Mark { bytes: 0, batch: replay.batch, end: replay.end() };
        let mut log = LogFile::new(owner, first, nothing, sizes);
        log.begin_segment(disk, first, None, base != EntryId::NONE, &[])?;
        log.beginnings.push(Beginning { sequence: first.sequence, base });
        Ok(log)
    }

    /// Goes on with a log that was read, all of which is on stable storage when this returns.
    ///
    /// What was written last may be there to read and yet not be on the disk, and if its sync has failed, no
    /// other sync brings it there. So the log is cut before it, and what counts of it is written anew. A
    /// segment that ends with its first batch needs none of this, so that a node that starts again and again
    /// makes no files.
    pub fn resume<D: Disk>(
        disk: &mut D,
        owner: &Identity,
        found: &FoundLog,
        sizes: SegmentSizes,
    ) -> Result<LogFile, DiskFault> {
        let mut log = LogFile::new(owner, found.last, found.certain, sizes);
        log.beginnings = found.beginnings.clone();
        log.sealed_bytes = found.sealed_bytes;
        match &found.in_doubt {
            Some(contents) => {
                log.begin_next_segment(disk, contents)?;
                log.end = found.replay.end();
            }
            // The start that gave the segment its name may have been cut short before the name was durable.
            None => disk.sync_directory()?,
        }
        Ok(log)
    }

    fn new(owner: &Identity, segment: SegmentName, mark: Mark, sizes: SegmentSizes) -> LogFile {
        let Mark { bytes, batch, end } = mark;
        let header = SegmentHeader {
            format: FORMAT,
            cluster: owner.cluster.clone(),
            node: owner.node,
            incarnation: owner.incarnation,
            base: end.base,
            whole: false,
            hard_state: end.hard_state,
            previous: None,
        };
        LogFile {
            header,
            segment,
            segment_bytes: bytes as u64,
            filled_bytes: bytes as u64,
            sizes,
            sealed_bytes: 0,
            beginnings: Vec::new(),
            batch,
            end,
            writer: BatchWriter::default(),
        }
    }

    /// The sequence number of the newest segment.
    pub fn newest_segment(&self) -> u64 {
        self.segment.sequence
    }

    /// How many bytes count of the segments from the newest one on that is whole.
    pub fn bytes(&self) -> u64 {
        self.sealed_bytes + self.segment_bytes
    }

    /// What the log ends with.
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// Saves what the output asks for, as one batch: one write, one sync. Durable when this returns `Ok`;
    /// after an error the log must not be used any more.
    ///
    /// # Panics
    /// When the output does not fit the log (a gap, a falling term, a changed vote): the core is broken, and
    /// a log that could not be opened again is the last thing to write.
    pub fn save<D: Disk>(&mut self, disk: &mut D, output: &Output) -> Result<(), DiskFault> {
        let end = self.end.after(output);
        if self.segment_bytes >= self.sizes.limit_bytes {
            self.begin_next_segment(disk, &[])?;
        }
        let truncations = usize::from(output.truncate_from.is_some());
        let mut left = usize::from(output.hard_state.is_some()) + truncations + output.entries.len();
        self.writer.clear();
        if let Some(hard_state) = &output.hard_state {
            left -= 1;
            self.writer.push(self.batch, left, "hard_state", hard_state);
        }
        if let Some(from) = &output.truncate_from {
            left -= 1;
            self.writer.push(self.batch, left, "truncate_from", from);
        }
        for entry in &output.entries {
            left -= 1;
            self.writer.push(self.batch, left, "entry", entry);
        }
        self.write_batch(disk)?;
        self.batch += 1;
        self.end = end;
        Ok(())
    }

    /// Writes what the writer has behind what counts, with newlines if that comes to the file's end, and
    /// syncs it.
    fn write_batch<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskFault> {
        let batch_bytes = self.writer.bytes().len() as u64;
        let SegmentSizes { fill_bytes, .. } = self.sizes;
        if self.segment_bytes + batch_bytes > self.filled_bytes && self.segment_bytes >= fill_bytes {
            self.writer.fill(fill_bytes);
        }
        let name = self.segment.to_string();
        disk.write_at(&name, self.segment_bytes, self.writer.bytes())?;
        disk.sync(&name)?;
        let written_to = self.segment_bytes + self.writer.bytes().len() as u64;
        self.filled_bytes = self.filled_bytes.max(written_to);
        self.segment_bytes += batch_bytes;
        Ok(())
    }

    /// Begins a segment that goes on from the log's end and brings these records with it.
    fn begin_next_segment<D: Disk>(&mut self, disk: &mut D, contents: &[Content]) -> Result<(), DiskFault> {
        let sealed_bytes = self.sealed_bytes + self.segment_bytes;
        let (segment, previous) = self.next_segment(self.end.next);
        self.begin_segment(disk, segment, Some(previous), false, contents)?;
        self.sealed_bytes = sealed_bytes;
        Ok(())
    }

    /// Begins a segment that is whole after this entry: what the log says from now on is that these entries
    /// follow it.
    ///
    /// # Panics
    /// When the entries do not follow it, or their term was not saved.
    pub fn begin_whole<D: Disk>(
        &mut self,
        disk: &mut D,
        after: EntryId,
        entries: &[Entry],
    ) -> Result<(), DiskFault> {
        let mut end = LogEnd { base: after, next: after.index.next(), hard_state: self.end.hard_state };
        assert!(after.term <= end.hard_state.term, "log: {after} in {:?}", end.hard_state);
        let anew = Output { entries: entries.to_vec(), ..Output::default() };
        end = end.after(&anew);
        let mut contents = vec![Content::TruncateFrom(after.index.next())];
        contents.extend(anew.entries.into_iter().map(Content::Entry));
        self.header.base = after;
        let (segment, previous) = self.next_segment(after.index.next());
        self.begin_segment(disk, segment, Some(previous), true, &contents)?;
        self.sealed_bytes = 0;
        self.beginnings.push(Beginning { sequence: segment.sequence, base: after });
        self.end = end;
        Ok(())
    }

    /// The name of the next segment, whose first entry has this index, and what it says of this one.
    fn next_segment(&self, first: Index) -> (SegmentName, Previous) {
        let previous = Previous { name: self.segment.to_string(), bytes: self.segment_bytes };
        (SegmentName { sequence: self.segment.sequence + 1, first }, previous)
    }

    fn begin_segment<D: Disk>(
        &mut self,
        disk: &mut D,
        segment: SegmentName,
        previous: Option<Previous>,
        whole: bool,
        contents: &[Content],
    ) -> Result<(), DiskFault> {
        self.header.hard_state = self.end.hard_state;
        self.header.previous = previous;
        self.header.whole = whole;
        self.writer.clear();
        self.writer.push(self.batch, contents.len(), "segment", &self.header);
        for (content, left) in contents.iter().zip((0..contents.len()).rev()) {
            self.writer.push_content(self.batch, left, content);
        }
        write_whole(disk, &segment.to_string(), self.writer.bytes())?;
        self.segment = segment;
        self.segment_bytes = self.writer.bytes().len() as u64;
        self.filled_bytes = self.segment_bytes;
        self.batch += 1;
        Ok(())
    }

    /// Forgets the beginnings that are older than the newest one that a snapshot up to this entry goes with,
    /// and returns the number of that one's segment: those before it are not needed any more.
    pub fn needed_from(&mut self, snapshot: EntryId) -> u64 {
        let newest = self.beginnings.iter().rposition(|beginning| beginning.base.index <= snapshot.index);
        self.beginnings.drain(..newest.unwrap_or_default());
        self.beginnings.first().map_or(1, |beginning| beginning.sequence)
    }
}

impl LogEnd {
    /// The log's end after this output is saved. Panics when it does not fit.
    fn after(&self, output: &Output) -> LogEnd {
        let mut end = *self;
        if let Some(hard_state) = output.hard_state {
            let before = end.hard_state;
            assert!(may_follow(hard_state, before), "save: {hard_state:?} after {before:?}");
            end.hard_state = hard_state;
        }
        if let Some(from) = output.truncate_from {
            let LogEnd { base, next, .. } = end;
            assert!(
                base.index < from && from <= next,
                "save: truncation from {from} of a log {base} to before {next}"
            );
            end.next = from;
        }
        let mut previous = self.base.term;
        for entry in &output.entries {
            assert!(entry.index == end.next, "save: entry {} where {} comes next", entry.id(), end.next);
            assert!(entry.term >= previous, "save: entry {} after term {previous}", entry.id());
            assert!(entry.term <= end.hard_state.term, "save: entry {} in {:?}", entry.id(), end.hard_state);
            previous = entry.term;
            end.next = entry.index.next();
        }
        end
    }
}
