//! Reads a snapshot from its file, piece by piece, and checks every line on the way.
//!
//! Nothing is skipped: who reads to the end without an error has had a whole snapshot. The file stays open
//! meanwhile, so a snapshot can be read to its end while a newer one takes its place in the folder.

use super::disk::{Disk, OpenFile};
use super::error::{DiskFault, StorageError};
use super::file_disk::ReadableFile;
use super::snapshot::{Announced, SnapshotMeta, SnapshotName, Verifier};
use crate::types::EntryId;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The lines of content of a snapshot, each as the JSON object that was given to the writer. After an error
/// there is no more.
#[derive(Debug)]
pub struct SnapshotReader<F> {
    path: PathBuf,
    lines: Lines<F>,
    /// The number of the line that was read last.
    line: usize,
    verifier: Verifier,
    is_over: bool,
}

/// The lines of an open file.
#[derive(Debug)]
struct Lines<F> {
    file: F,
    /// How much of the file was read.
    offset: u64,
    /// What was read and still counts.
    buffer: Vec<u8>,
    /// How much of the buffer was given out.
    taken: usize,
}

impl<F: OpenFile> SnapshotReader<F> {
    /// Opens the snapshot up to this entry, of this cluster.
    pub(super) fn open<D: Disk<File = F>>(
        disk: &D,
        cluster: &str,
        last: EntryId,
    ) -> Result<SnapshotReader<F>, DiskFault> {
        SnapshotReader::open_of(disk, Some(cluster), last)
    }

    /// The same; if the cluster is not known, of any.
    pub(super) fn open_of<D: Disk<File = F>>(
        disk: &D,
        cluster: Option<&str>,
        last: EntryId,
    ) -> Result<SnapshotReader<F>, DiskFault> {
        let name = SnapshotName { last }.to_string();
        let verifier = match cluster {
            Some(cluster) => Verifier::new(cluster, last),
            None => Verifier::of_any_cluster(last),
        };
        Ok(SnapshotReader::over(disk.open(&name)?, disk.path(&name), verifier))
    }

    fn over(file: F, path: PathBuf, verifier: Verifier) -> SnapshotReader<F> {
        let lines = Lines { file, offset: 0, buffer: Vec::new(), taken: 0 };
        SnapshotReader { path, lines, line: 0, verifier, is_over: false }
    }

    /// What the first line said, once that was read.
    pub fn announced(&self) -> Option<&Announced> {
        self.verifier.announced_so_far()
    }

    /// The checksum of all lines so far.
    pub fn checksum(&self) -> u64 {
        self.verifier.checksum()
    }

    /// How far the file was read.
    pub fn read_bytes(&self) -> u64 {
        self.lines.offset
    }

    /// How large the file is.
    pub fn size_bytes(&self) -> Result<u64, DiskFault> {
        self.lines.file.size_bytes()
    }

    /// The error for the line that was read last, when it does not say what it should.
    pub fn damaged(&self, expected: String) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), line: self.line, expected }
    }

    /// Reads to the end. Fails when the snapshot is not sound.
    pub(super) fn verify(mut self) -> Result<SnapshotMeta, StorageError> {
        while self.next_members()?.is_some() {}
        self.verifier.finish().map_err(|flaw| flaw.in_file(&self.path, self.line + 1))
    }

    /// Where the members of the next line of content are in the buffer; none when there are no more lines.
    fn next_members(&mut self) -> Result<Option<Range<usize>>, StorageError> {
        while let Some(line) = self.lines.next()? {
            self.line += 1;
            let taken = self.verifier.take(&self.lines.buffer[line.clone()]);
            if let Some(members) = taken.map_err(|flaw| flaw.in_file(&self.path, self.line))? {
                return Ok(Some(line.end - members.len()..line.end));
            }
        }
        Ok(None)
    }

    fn next_object(&mut self) -> Result<Option<String>, StorageError> {
        let Some(members) = self.next_members()? else {
            self.verifier.finish().map_err(|flaw| flaw.in_file(&self.path, self.line + 1))?;
            return Ok(None);
        };
        let members = str::from_utf8(&self.lines.buffer[members])
            .map_err(|error| self.damaged(format!("JSON text, found what is none: {error}")))?;
        Ok(Some(format!("{{{}", members.trim_end_matches('\n'))))
    }
}

impl SnapshotReader<ReadableFile> {
    /// Opens a snapshot that is in no node's folder: a backup, of whatever cluster and entry.
    pub fn open_backup(path: &Path) -> Result<SnapshotReader<ReadableFile>, DiskFault> {
        let file = ReadableFile::open(path)?;
        Ok(SnapshotReader::over(file, path.to_path_buf(), Verifier::of_any()))
    }
}

impl<F: OpenFile> Iterator for SnapshotReader<F> {
    type Item = Result<String, StorageError>;

    fn next(&mut self) -> Option<Result<String, StorageError>> {
        if self.is_over {
            return None;
        }
        let next = self.next_object().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<F: OpenFile> Lines<F> {
    /// Where the next line is in the buffer, with its newline if it has one.
    fn next(&mut self) -> Result<Option<Range<usize>>, DiskFault> {
        let mut searched = self.taken;
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let line = self.taken..searched + found + 1;
                self.taken = line.end;
                return Ok(Some(line));
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            searched = self.buffer.len();
            let piece = self.file.read_part(self.offset, PIECE_BYTES)?;
            if piece.is_empty() {
                self.taken = searched;
                return Ok((searched > 0).then_some(0..searched));
            }
            self.offset += piece.len() as u64;
            self.buffer.extend(piece);
        }
    }
}
