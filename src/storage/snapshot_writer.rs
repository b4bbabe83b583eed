//! Writes a snapshot of this node beside its log, on a thread of its own: through a disk handle of its own,
//! so that no save waits for it.
//!
//! It needs nothing of `Storage` and tells it nothing. Whoever has seen [`SnapshotWriter::finish`] return
//! asks for `Storage::compact`; until then the file is one more that a start may find and use, or a draft
//! that it removes.

use super::disk::{DRAFT_ENDING, Disk};
use super::draft::Draft;
use super::error::DiskFault;
use super::record::write_checked_object;
use super::snapshot::{RunningChecksum, SnapshotMeta, SnapshotName, end_line, first_line};

/// A snapshot that is being written. A node writes one at a time.
#[derive(Debug)]
pub struct SnapshotWriter<D: Disk> {
    disk: D,
    draft: Draft,
    /// The lines of content so far, and how many the first line has announced.
    written: u64,
    announced: u64,
    checksum: RunningChecksum,
}

impl<D: Disk> SnapshotWriter<D> {
    /// Begins the snapshot that says this of itself and is to have so many lines of content. Removes what an
    /// earlier attempt has left.
    pub fn begin(
        mut disk: D,
        cluster: &str,
        meta: &SnapshotMeta,
        lines: usize,
    ) -> Result<SnapshotWriter<D>, DiskFault> {
        for name in disk.list()? {
            if name.strip_suffix(DRAFT_ENDING).is_some_and(|name| SnapshotName::parse(name).is_some()) {
                disk.remove(&name)?;
            }
        }
        let name = SnapshotName { last: meta.last }.to_string();
        let draft = Draft::begin(&mut disk, name, DRAFT_ENDING)?;
        let announced = lines as u64;
        let mut writer =
            SnapshotWriter { disk, draft, written: 0, announced, checksum: RunningChecksum::default() };
        writer.push(&first_line(cluster, meta, announced))?;
        Ok(writer)
    }

    /// Adds a line of content: a JSON object with members, on one line.
    ///
    /// # Panics
    /// When it has a newline.
    pub fn write(&mut self, object: &str) -> Result<(), DiskFault> {
        assert!(!object.contains('\n'), "a line of a snapshot has no newline");
        self.written += 1;
        self.push(&write_checked_object(object.as_bytes()))
    }

    /// Ends the snapshot. It is durable under its name when this returns. Returns its size in bytes.
    ///
    /// # Panics
    /// When there are more or fewer lines than announced: nobody could read it.
    pub fn finish(mut self) -> Result<u64, DiskFault> {
        assert_eq!(self.written, self.announced, "a snapshot has the lines that it announces");
        let end = end_line(self.written, self.checksum.value());
        self.push(&end)?;
        self.draft.finish(&mut self.disk)
    }

    fn push(&mut self, line: &[u8]) -> Result<(), DiskFault> {
        self.checksum.update(line);
        self.draft.push(&mut self.disk, line)
    }
}
