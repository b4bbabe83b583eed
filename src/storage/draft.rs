//! A large file that is written piece by piece and gets its name when it is whole.
//!
//! Its bytes are synced as they come, some megabytes at a time: one sync of all of them at the end would hold
//! up the log's own, on the same disk, for as long as it takes.

use super::disk::Disk;
use super::error::DiskFault;

/// How much is written at once.
const PIECE_BYTES: usize = 256 * 1024;

/// How much is written before it is synced.
const SYNC_BYTES: usize = 4 * 1024 * 1024;

/// The file before it has its name.
#[derive(Debug)]
pub(super) struct Draft {
    name: String,
    draft: String,
    buffer: Vec<u8>,
    unsynced_bytes: usize,
    /// With what is in the buffer.
    size_bytes: u64,
}

impl Draft {
    /// Begins the file that is to be called `name`; until then its name has this ending. There must be none
    /// called so.
    pub fn begin<D: Disk>(disk: &mut D, name: String, ending: &str) -> Result<Draft, DiskFault> {
        let draft = format!("{name}{ending}");
        disk.create(&draft)?;
        Ok(Draft { name, draft, buffer: Vec::new(), unsynced_bytes: 0, size_bytes: 0 })
    }

    /// Adds these bytes. They are written when there are enough of them.
    pub fn push<D: Disk>(&mut self, disk: &mut D, bytes: &[u8]) -> Result<(), DiskFault> {
        self.buffer.extend_from_slice(bytes);
        self.size_bytes += bytes.len() as u64;
        if self.buffer.len() < PIECE_BYTES {
            return Ok(());
        }
        self.write(disk)?;
        if self.unsynced_bytes >= SYNC_BYTES {
            disk.sync(&self.draft)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// Gives the file its name; it is whole and durable under it when this returns. Returns its bytes.
    pub fn finish<D: Disk>(mut self, disk: &mut D) -> Result<u64, DiskFault> {
        self.write(disk)?;
        disk.sync(&self.draft)?;
        disk.rename(&self.draft, &self.name)?;
        disk.sync_directory()?;
        Ok(self.size_bytes)
    }

    /// Removes the file: it is not to be finished.
    pub fn discard<D: Disk>(self, disk: &mut D) -> Result<(), DiskFault> {
        disk.remove(&self.draft)
    }

    fn write<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskFault> {
        let written_bytes = self.size_bytes - self.buffer.len() as u64;
        disk.write_at(&self.draft, written_bytes, &self.buffer)?;
        self.unsynced_bytes += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }
}
