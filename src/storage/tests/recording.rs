//! A disk that remembers what was done to it, and every way in which it may look after a power cut.
//!
//! ```text
//!   create A   write A xxxx   sync A   rename A B   sync_directory   write B yyyyyyyy   (power cut)
//!   |---------------------------- durable -----------------------|    ^ at risk: cut anywhere, by sectors
//! ```
//!
//! What may be lost is what the contract of [`Disk`] does not promise: of names, any of the changes since the
//! last directory sync; of bytes, what was written since the file's last sync, or before one that failed: the
//! file may end anywhere in what is new at its end, and each sector may have what it had before, which is
//! zeros where there was nothing.

use crate::storage::tail::SECTOR_BYTES;
use crate::storage::{Disk, DiskFault, MemoryDisk, ReadableMemory};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

/// What is in a folder.
pub(super) type Folder = BTreeMap<String, Vec<u8>>;

/// Something that was done to a disk.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Create(String),
    Write(String, u64, Vec<u8>),
    Sync(String),
    /// Whatever was to be synced can be read and never becomes durable.
    FailedSync(String),
    SyncDirectory,
    Rename(String, String),
    Remove(String),
}

/// A disk that remembers. Its clones share it.
#[derive(Clone, Debug)]
pub(super) struct RecordingDisk {
    cache: MemoryDisk,
    record: Rc<RefCell<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    history: Vec<Operation>,
    /// Changes still to be let through before one fails.
    fails_after: Option<usize>,
}

/// A disk with these files on it, durably.
pub(super) fn disk_of(folder: &Folder) -> MemoryDisk {
    let disk = MemoryDisk::new();
    folder.iter().for_each(|(name, bytes)| disk.overwrite(name, bytes.clone()));
    disk
}

impl RecordingDisk {
    /// A disk with these files on it, durably, to which this was done since.
    pub fn new(folder: &Folder, history: &[Operation]) -> RecordingDisk {
        let record = Record { history: history.to_vec(), fails_after: None };
        let mut disk = RecordingDisk { cache: disk_of(folder), record: Rc::new(RefCell::new(record)) };
        for operation in history {
            disk.carry_out(operation).expect("it was done before");
        }
        disk
    }

    /// Makes the change fail that comes after so many more: a write leaves half of its bytes behind.
    pub fn fail_after(&self, changes: usize) {
        self.record.borrow_mut().fails_after = Some(changes);
    }

    /// All that was done.
    pub fn history(&self) -> Vec<Operation> {
        self.record.borrow().history.clone()
    }

    /// How much was done.
    pub fn length(&self) -> usize {
        self.record.borrow().history.len()
    }

    fn carry_out(&mut self, operation: &Operation) -> Result<(), DiskFault> {
        match operation {
            Operation::Create(name) => self.cache.create(name),
            Operation::Write(name, offset, bytes) => self.cache.write_at(name, *offset, bytes),
            Operation::Sync(name) | Operation::FailedSync(name) => self.cache.sync(name),
            Operation::SyncDirectory => self.cache.sync_directory(),
            Operation::Rename(from, to) => self.cache.rename(from, to),
            Operation::Remove(name) => self.cache.remove(name),
        }
    }

    fn change(&mut self, operation: Operation) -> Result<(), DiskFault> {
        let fails = {
            let mut record = self.record.borrow_mut();
            let fails = record.fails_after == Some(0);
            record.fails_after = record.fails_after.and_then(|changes| changes.checked_sub(1));
            fails
        };
        let done = match operation {
            _ if !fails => Some(operation),
            Operation::Write(name, offset, bytes) => {
                Some(Operation::Write(name, offset, bytes[..bytes.len() / 2].to_vec()))
            }
            Operation::Sync(name) => Some(Operation::FailedSync(name)),
            _ => None,
        };
        if let Some(done) = done {
            self.carry_out(&done)?;
            self.record.borrow_mut().history.push(done);
        }
        let error = io::Error::from_raw_os_error(5);
        if fails { Err(DiskFault { action: "change", path: self.path(""), error }) } else { Ok(()) }
    }
}

impl Disk for RecordingDisk {
    type File = ReadableMemory;

    fn create(&mut self, name: &str) -> Result<(), DiskFault> {
        self.change(Operation::Create(name.to_string()))
    }

    fn write_at(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskFault> {
        self.change(Operation::Write(name.to_string(), offset, bytes.to_vec()))
    }

    fn sync(&mut self, name: &str) -> Result<(), DiskFault> {
        self.change(Operation::Sync(name.to_string()))
    }

    fn sync_directory(&mut self) -> Result<(), DiskFault> {
        self.change(Operation::SyncDirectory)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskFault> {
        self.change(Operation::Rename(from.to_string(), to.to_string()))
    }

    fn remove(&mut self, name: &str) -> Result<(), DiskFault> {
        self.change(Operation::Remove(name.to_string()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, DiskFault> {
        self.cache.read(name)
    }

    fn open(&self, name: &str) -> Result<ReadableMemory, DiskFault> {
        self.cache.open(name)
    }

    fn list(&self) -> Result<Vec<String>, DiskFault> {
        self.cache.list()
    }

    fn another_handle(&self) -> Result<RecordingDisk, DiskFault> {
        Ok(self.clone())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.cache.path(name)
    }
}

type Names = BTreeMap<String, usize>;

/// A disk as the medium has it: what is durable, and what may be.
#[derive(Clone)]
pub(super) struct Medium {
    files: Vec<File>,
    durable_names: Names,
    /// Changes of names since the last directory sync, oldest first.
    names_at_risk: Vec<NameChange>,
    /// The names as a process sees them.
    names: Names,
}

/// A name goes, a file gets one, or both in one step.
#[derive(Clone)]
struct NameChange {
    from: Option<String>,
    to: Option<(String, usize)>,
}

#[derive(Clone, Default)]
struct File {
    /// As a process sees it.
    bytes: Vec<u8>,
    /// As it is when all is lost that may be: with what was synced, and nothing else.
    durable: Vec<u8>,
    unsynced: Vec<Range<usize>>,
    /// What a sync failed for.
    given_up: Vec<Range<usize>>,
}

/// How finely what is at risk is cut.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Cuts {
    /// At every byte, and every subset of up to six sectors.
    All,
    /// At the edges of what is at risk and of its sectors, and every subset of up to three.
    Few,
}

/// What a state shows that was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lost {
    pub names: bool,
    pub end: bool,
    pub sectors: bool,
}

impl Medium {
    /// With these files, to which this was done since.
    pub fn new(folder: &Folder, history: &[Operation]) -> Medium {
        let names: Names = folder.keys().cloned().zip(0..).collect();
        let file = |bytes: &Vec<u8>| File { bytes: bytes.clone(), durable: bytes.clone(), ..File::default() };
        let files = folder.values().map(file).collect();
        let mut medium = Medium { files, durable_names: names.clone(), names_at_risk: Vec::new(), names };
        history.iter().for_each(|operation| medium.play(operation));
        medium
    }

    fn play(&mut self, operation: &Operation) {
        match operation {
            Operation::Create(name) => {
                self.files.push(File::default());
                self.rename(None, Some((name.clone(), self.files.len() - 1)));
            }
            Operation::Write(name, offset, bytes) => {
                let file = self.file(name);
                let range = *offset as usize..*offset as usize + bytes.len();
                put(&mut file.bytes, range.clone(), bytes);
                file.unsynced.push(range);
            }
            Operation::Sync(name) => {
                let file = self.file(name);
                for range in std::mem::take(&mut file.unsynced) {
                    put(&mut file.durable, range.clone(), &file.bytes[range]);
                }
            }
            Operation::FailedSync(name) => {
                let file = self.file(name);
                file.given_up.append(&mut file.unsynced);
            }
            Operation::SyncDirectory => {
                self.durable_names = self.names.clone();
                self.names_at_risk.clear();
            }
            Operation::Rename(from, to) => {
                let number = self.names[from];
                self.rename(Some(from.clone()), Some((to.clone(), number)));
            }
            Operation::Remove(name) => self.rename(Some(name.clone()), None),
        }
    }

    fn file(&mut self, name: &str) -> &mut File {
        let number = self.names[name];
        &mut self.files[number]
    }

    fn rename(&mut self, from: Option<String>, to: Option<(String, usize)>) {
        let change = NameChange { from, to };
        change.apply(&mut self.names);
        self.names_at_risk.push(change);
    }

    /// Shows every state in which a power cut may leave the disk.
    pub fn states(&self, cuts: Cuts, mut show: impl FnMut(&Folder, Lost)) {
        let mut shown: Vec<Names> = Vec::new();
        for kept in 0..1_u32 << self.names_at_risk.len() {
            let mut names = self.durable_names.clone();
            for (place, change) in self.names_at_risk.iter().enumerate() {
                if kept & (1 << place) != 0 {
                    change.apply(&mut names);
                }
            }
            if !shown.contains(&names) {
                let lost = Lost { names: names != self.names, ..Lost::default() };
                let files: Vec<(&String, FileStates)> =
                    names.iter().map(|(name, number)| (name, self.files[*number].states(cuts))).collect();
                combine(&files, &mut Folder::new(), lost, &mut show);
                shown.push(names);
            }
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from {
            names.remove(from);
        }
        if let Some((name, number)) = &self.to {
            names.insert(name.clone(), *number);
        }
    }
}

/// What a file may hold, and what was lost then.
type FileStates = Vec<(Vec<u8>, Lost)>;

/// Every state of the first file with every state of the others.
fn combine(
    files: &[(&String, FileStates)],
    folder: &mut Folder,
    lost: Lost,
    show: &mut impl FnMut(&Folder, Lost),
) {
    let Some(((name, states), others)) = files.split_first() else {
        show(folder, lost);
        return;
    };
    for (bytes, here) in states {
        folder.insert((*name).clone(), bytes.clone());
        let lost =
            Lost { names: lost.names, end: lost.end || here.end, sectors: lost.sectors || here.sectors };
        combine(others, folder, lost, show);
    }
    folder.remove(*name);
}

/// Puts these bytes there; what is missing before them reads as zeros.
fn put(file: &mut Vec<u8>, range: Range<usize>, bytes: &[u8]) {
    file.resize(file.len().max(range.end), 0);
    file[range].copy_from_slice(bytes);
}

impl File {
    fn states(&self, cuts: Cuts) -> FileStates {
        let at_risk: Vec<Range<usize>> = self.given_up.iter().chain(&self.unsynced).cloned().collect();
        let (shortest, length) = (self.durable.len(), self.bytes.len());
        let mut before = self.durable.clone();
        before.resize(length, 0);
        let mut states = Vec::new();
        for size in shortest..=length {
            let at_edge = size == length || size % SECTOR_BYTES == 0;
            let near_edge = size <= shortest + 1 || size + 1 == length;
            if cuts == Cuts::Few && !at_edge && !near_edge {
                continue;
            }
            let sectors = sectors_of(&at_risk, size);
            // Where the cut is inside a sector, the subsets are those of the nearest edge but for its last
            // bytes: none of them, all of them, and the first.
            let subsets = if at_edge { subsets(sectors.len(), cuts) } else { vec![0, 1, u32::MAX] };
            for subset in subsets {
                let mut bytes = self.bytes[..size].to_vec();
                for (place, sector) in sectors.iter().enumerate() {
                    if subset & 1_u32.checked_shl(place as u32).unwrap_or(0) != 0 {
                        bytes[sector.clone()].copy_from_slice(&before[sector.clone()]);
                    }
                }
                let sectors = bytes != self.bytes[..size];
                if subset == 0 || sectors {
                    states.push((bytes, Lost { names: false, end: size < length, sectors }));
                }
            }
        }
        states
    }
}

/// The sectors of the bytes at risk, in so many bytes of the file.
fn sectors_of(at_risk: &[Range<usize>], size: usize) -> Vec<Range<usize>> {
    let clipped = at_risk.iter().map(|range| range.start.min(size)..range.end.min(size));
    clipped.flat_map(|range| super::sectors(range.start, range.end)).collect()
}

/// Which of so many sectors are lost: every subset of a few; of more, none, each, all but each, and all.
fn subsets(count: usize, cuts: Cuts) -> Vec<u32> {
    let few = if cuts == Cuts::All { 6 } else { 3 };
    let all = (1_u32 << count) - 1;
    if count <= few {
        (0..=all).collect()
    } else {
        let each = (0..count).map(|place| 1 << place);
        [0, all].into_iter().chain(each.clone()).chain(each.map(|one| all & !one)).collect()
    }
}
