//! A disk in memory that behaves as badly as a real one may: what was not synced can vanish at a crash, in
//! whole or by the sector, names as well as bytes, and any operation can be made to fail. What a sync failed
//! for stays there to read, but no later sync puts it on stable storage: Linux takes such pages for written.
//!
//! It is for tests and for the simulator. It holds no randomness and no clock: whoever crashes it says what
//! survives. Cloning shares the disk, so that a test keeps a hand on what a `Storage` writes to.

use super::disk::{Disk, OpenFile};
use super::error::DiskFault;
use super::tail::SECTOR_BYTES;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How an operation is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// EIO: the medium failed.
    InputOutput,
    /// ENOSPC: the disk is full.
    NoSpace,
}

impl Failure {
    fn error(self) -> io::Error {
        match self {
            Failure::InputOutput => io::Error::from_raw_os_error(5),
            Failure::NoSpace => io::Error::from_raw_os_error(28),
        }
    }
}

/// A disk in memory, shared by its clones.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

/// Names lead to files by number, so that a name and the bytes behind it become durable separately.
type Names = BTreeMap<String, usize>;

#[derive(Debug, Default)]
struct State {
    files: Vec<MemoryFile>,
    /// The names as the process sees them.
    names: Names,
    /// What the names were after the last directory sync and after each change since, the newest last.
    unsynced_names: Vec<Names>,
    /// The names that a power cut cannot take.
    synced_names: Names,
    /// How many operations there were, failed ones included.
    operations: u64,
    /// How often files of each kind were synced.
    syncs: BTreeMap<String, u64>,
    /// Which operation is to fail, and how.
    failure: Option<(u64, Failure)>,
    /// Syncs of files do nothing.
    is_lying: bool,
}

#[derive(Debug, Default)]
struct MemoryFile {
    /// As the process sees it.
    bytes: Vec<u8>,
    /// As it is on stable storage.
    durable: Vec<u8>,
    /// What was written since the last sync, in the order of the writes.
    unsynced: Vec<Range<usize>>,
    /// What a sync failed for.
    given_up: Vec<Range<usize>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// How many operations this disk has seen, reads and failures included.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How often files of a kind were synced: of one beginning of their names, up to the first hyphen.
    pub fn syncs_of(&self, kind: &str) -> u64 {
        self.state().syncs.get(kind).copied().unwrap_or(0)
    }

    /// Makes the operation fail that comes after `skip` more. It fails once; a failing write leaves half of
    /// its bytes behind, a failing sync gives up for good what it should have written, all others do nothing.
    pub fn fail_after(&self, skip: u64, failure: Failure) {
        let mut state = self.state();
        state.failure = Some((state.operations + skip, failure));
    }

    /// While a disk lies, a file's sync says that it is done, and does nothing.
    pub fn lie(&self, lies: bool) {
        self.state().is_lying = lies;
    }

    /// Forgets a failure that has not come yet.
    pub fn disarm(&self) {
        self.state().failure = None;
    }

    /// A power cut that takes all that is not synced. An armed failure is forgotten.
    pub fn crash(&self) {
        self.crash_keeping(&mut |_| 0);
    }

    /// A power cut after which `choose` says what survives: `choose(n)` must give a number below `n`, and 0
    /// always means the least. It is asked how many of the unsynced changes of names survive (in their
    /// order); for each file, how many of its unsynced bytes at the end the size covers; and for each sector
    /// of unsynced bytes, whether they are there or what was there before, which is zeros where there was
    /// nothing.
    pub fn crash_keeping(&self, choose: &mut dyn FnMut(usize) -> usize) {
        let mut state = self.state();
        state.failure = None;
        let surviving = choose(state.unsynced_names.len() + 1);
        if surviving > 0 {
            state.synced_names = state.unsynced_names[surviving - 1].clone();
        }
        state.names = state.synced_names.clone();
        state.unsynced_names.clear();
        for file in &mut state.files {
            file.tear(choose);
        }
    }

    /// Puts these bytes there, durably, as a person or a rotting medium would.
    pub fn overwrite(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let number = state.files.len();
        state.files.push(MemoryFile { durable: bytes.clone(), bytes, ..MemoryFile::default() });
        state.names.insert(name.to_string(), number);
        state.synced_names.insert(name.to_string(), number);
        for names in &mut state.unsynced_names {
            names.insert(name.to_string(), number);
        }
    }

    /// Takes this file away, durably, as a person would.
    pub fn remove_durably(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.synced_names.remove(name);
        for names in &mut state.unsynced_names {
            names.remove(name);
        }
    }

    /// Turns bits of a byte over, as a rotting medium does; nothing where there is no such byte.
    pub fn flip(&self, name: &str, at: usize, mask: u8) {
        if let Some(file) = self.state().file(name) {
            for byte in [file.bytes.get_mut(at), file.durable.get_mut(at)].into_iter().flatten() {
                *byte ^= mask;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an operation and finds out whether it is the one that fails.
    fn begin(&self, action: &'static str, name: &str) -> Result<MutexGuard<'_, State>, DiskFault> {
        let mut state = self.state();
        state.operations += 1;
        match state.failure {
            Some((number, failure)) if number + 1 == state.operations => {
                state.failure = None;
                Err(self.fault(action, name, failure.error()))
            }
            Some(_) | None => Ok(state),
        }
    }

    fn fault(&self, action: &'static str, name: &str, error: io::Error) -> DiskFault {
        DiskFault { action, path: self.path(name), error }
    }

    fn not_found(&self, action: &'static str, name: &str) -> DiskFault {
        self.fault(action, name, ErrorKind::NotFound.into())
    }
}

impl State {
    fn file(&mut self, name: &str) -> Option<&mut MemoryFile> {
        let number = *self.names.get(name)?;
        self.files.get_mut(number)
    }

    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        change(&mut self.names);
        self.unsynced_names.push(self.names.clone());
    }
}

impl MemoryFile {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let range = offset..offset + bytes.len();
        write_over(&mut self.bytes, offset, bytes);
        match self.unsynced.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => self.unsynced.push(range),
        }
    }

    fn sync(&mut self) {
        for range in std::mem::take(&mut self.unsynced) {
            write_over(&mut self.durable, range.start, &self.bytes[range]);
        }
    }

    /// What a power cut makes of the bytes that are not on stable storage.
    fn tear(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let MemoryFile { bytes, durable, unsynced, given_up } = self;
        if durable.len() < bytes.len() {
            bytes.truncate(durable.len() + choose(bytes.len() - durable.len() + 1));
        }
        durable.resize(bytes.len(), 0);
        for range in given_up.drain(..).chain(unsynced.drain(..)) {
            let range_end = range.end.min(bytes.len());
            let mut start = range.start;
            while start < range_end {
                let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(range_end);
                if choose(2) == 0 {
                    bytes[start..end].copy_from_slice(&durable[start..end]);
                }
                start = end;
            }
        }
        durable.clone_from(bytes);
    }
}

/// Writes into a file from this byte on; what is missing before it reads as zeros.
fn write_over(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

/// A file of a [`MemoryDisk`], open for reading.
#[derive(Debug)]
pub struct ReadableMemory {
    disk: MemoryDisk,
    name: String,
    number: usize,
}

impl OpenFile for ReadableMemory {
    fn size_bytes(&self) -> Result<u64, DiskFault> {
        let state = self.disk.begin("read", &self.name)?;
        Ok(state.files[self.number].bytes.len() as u64)
    }

    fn read_part(&self, offset: u64, max_bytes: usize) -> Result<Vec<u8>, DiskFault> {
        let state = self.disk.begin("read", &self.name)?;
        let bytes = &state.files[self.number].bytes;
        let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        Ok(bytes[start..bytes.len().min(start.saturating_add(max_bytes))].to_vec())
    }
}

impl Disk for MemoryDisk {
    type File = ReadableMemory;

    fn create(&mut self, name: &str) -> Result<(), DiskFault> {
        let mut state = self.begin("create", name)?;
        if state.names.contains_key(name) {
            return Err(self.fault("create", name, ErrorKind::AlreadyExists.into()));
        }
        let number = state.files.len();
        state.files.push(MemoryFile::default());
        state.change_names(|names| {
            names.insert(name.to_string(), number);
        });
        Ok(())
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        let (written, outcome) = match self.begin("write to", name) {
            Ok(_) => (bytes, Ok(())),
            Err(fault) => (&bytes[..bytes.len() / 2], Err(fault)),
        };
        let mut state = self.state();
        let file = state.file(name).ok_or_else(|| self.not_found("write to", name))?;
        let offset = usize::try_from(offset).ok().filter(|offset| *offset <= file.bytes.len());
        let offset = offset.ok_or_else(|| self.fault("write to", name, ErrorKind::InvalidInput.into()))?;
        file.write(offset, written);
        outcome
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskFault> {
        let outcome = self.begin("sync", name).map(drop);
        let mut state = self.state();
        if outcome.is_ok() {
            let kind = name.find('-').map_or(name, |hyphen| &name[..hyphen]);
            *state.syncs.entry(kind.to_string()).or_default() += 1;
        }
        if state.is_lying {
            return outcome;
        }
        let file = state.file(name).ok_or_else(|| self.not_found("sync", name))?;
        match outcome {
            Ok(()) => file.sync(),
            Err(_) => file.given_up.append(&mut file.unsynced),
        }
        outcome
    }

    fn sync_directory(&mut self) -> Result<(), DiskFault> {
        let mut state = self.begin("sync the folder", "")?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskFault> {
        let mut state = self.begin("rename to its final name", from)?;
        let number = *state.names.get(from).ok_or_else(|| self.not_found("rename", from))?;
        state.change_names(|names| {
            names.remove(from);
            names.insert(to.to_string(), number);
        });
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskFault> {
        let mut state = self.begin("remove", name)?;
        if !state.names.contains_key(name) {
            return Err(self.not_found("remove", name));
        }
        state.change_names(|names| {
            names.remove(name);
        });
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, DiskFault> {
        let mut state = self.begin("read", name)?;
        let file = state.file(name).ok_or_else(|| self.not_found("read", name))?;
        Ok(file.bytes.clone())
    }

    fn open(&self, name: &str) -> Result<ReadableMemory, DiskFault> {
        let state = self.begin("open", name)?;
        let number = *state.names.get(name).ok_or_else(|| self.not_found("open", name))?;
        Ok(ReadableMemory { disk: self.clone(), name: name.to_string(), number })
    }

    fn list(&self) -> Result<Vec<String>, DiskFault> {
        let state = self.begin("list the folder", "")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn another_handle(&self) -> Result<MemoryDisk, DiskFault> {
        Ok(self.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}
