//! The few operations that storage needs of a disk. Everything above is written against this trait, so that
//! the simulator can put a disk under it that forgets, tears and fails.
//!
//! The contract is that of a POSIX file system at its least helpful: bytes are durable only after `sync`, and
//! names (new, renamed, removed) only after `sync_directory`. A failed operation may have been carried out in
//! part. Nothing here decides what is written.

use super::error::DiskFault;
use std::fmt::Debug;
use std::path::PathBuf;

/// One node's folder. Names are plain file names in it.
pub trait Disk: Sized {
    /// A file that is open for reading.
    type File: OpenFile;

    /// Makes a new empty file. Fails if the name exists.
    fn create(&mut self, name: &str) -> Result<(), DiskFault>;

    /// Writes into an existing file from `offset` on, which is not behind its end: over what is there, and
    /// on behind it. After a failure some of the bytes may be there. What is not synced yet may be lost by
    /// the sector: then what was there before is there again, or zeros where there was nothing.
    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskFault>;

    /// Puts a file's bytes and size on stable storage (`fdatasync`). After a failure they may be gone, and
    /// trying again proves nothing: Linux takes the pages for written, so that the bytes can be read, also by
    /// the next process, and a sync of them succeeds, and still they are on no disk.
    fn sync(&mut self, name: &str) -> Result<(), DiskFault>;

    /// Puts the folder's names on stable storage. A later success covers also the names that an earlier call
    /// failed for: a file system that cannot write its journal takes no changes any more until it is mounted
    /// again, and then shows what is on the disk.
    fn sync_directory(&mut self) -> Result<(), DiskFault>;

    /// Gives a file the name `to`, in one step, and replaces what had that name.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskFault>;

    /// Removes a file.
    fn remove(&mut self, name: &str) -> Result<(), DiskFault>;

    /// A whole file.
    fn read(&self, name: &str) -> Result<Vec<u8>, DiskFault>;

    /// Opens a file to be read in parts.
    fn open(&self, name: &str) -> Result<Self::File, DiskFault>;

    /// The names in the folder, sorted.
    fn list(&self) -> Result<Vec<String>, DiskFault>;

    /// The same folder once more, for another thread: what one handle does, the other sees. No two of them
    /// write to the same file.
    fn another_handle(&self) -> Result<Self, DiskFault>;

    /// Where a file is, or with an empty name the folder: for messages to people.
    fn path(&self, name: &str) -> PathBuf;
}

/// A file that is open for reading. It can be read to its end also when its name is removed meanwhile.
pub trait OpenFile: Debug {
    /// How many bytes it has.
    fn size_bytes(&self) -> Result<u64, DiskFault>;

    /// The bytes from `offset` on, at most so many: fewer only at the file's end, none behind it.
    fn read_part(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>, DiskFault>;
}

/// What the name of a file ends with until it is whole and gets its final name.
pub(super) const DRAFT_ENDING: &str = ".new";

/// Gives `name` this content, durably and at once: at every moment, also after a power cut, there is either
/// the old file (or none) or the whole new one. What an interrupted attempt left behind must have been
/// removed.
pub(super) fn write_whole<D: Disk>(disk: &mut D, name: &str, bytes: &[u8]) -> Result<(), DiskFault> {
    let draft = format!("{name}{DRAFT_ENDING}");
    disk.create(&draft)?;
    disk.write_at(&draft, 0, bytes)?;
    disk.sync(&draft)?;
    disk.rename(&draft, name)?;
    disk.sync_directory()
}
