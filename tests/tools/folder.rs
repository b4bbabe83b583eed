//! Folders of nodes, made with the storage that nodes have.

use super::support::{scratch_folder, wait_until};
use raftkv::raft::{Configuration, HardState, Output};
use raftkv::storage::{FileDisk, FirstStart, Opening, SegmentSizes, SnapshotMeta, SnapshotWriter, Storage};
use raftkv::types::{Command, Entry, EntryId, Incarnation, Index, NodeId, Term};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// `data/node-1` in a folder of its own.
pub struct Folder {
    site: TempDir,
}

/// All files of a folder and what they hold.
pub type Files = Vec<(String, Vec<u8>)>;

impl Folder {
    pub fn new() -> Folder {
        Folder { site: scratch_folder() }
    }

    pub fn site(&self) -> &Path {
        self.site.path()
    }

    /// The folder of node 1.
    pub fn path(&self) -> PathBuf {
        self.site.path().join("data/node-1")
    }

    pub fn text(&self) -> String {
        self.path().to_str().expect("UTF-8").to_owned()
    }

    /// The folder, locked. A program that another test starts at this moment may hold the lock for as long as
    /// it takes from `fork` to `exec`.
    fn disk(&self) -> FileDisk {
        wait_until("the folder is free", || FileDisk::open(&self.path()).ok())
    }

    /// Opens it as a start does.
    pub fn open(&self) -> Storage<FileDisk> {
        let disk = self.disk();
        Storage::open(disk, &opening()).expect("a folder that is sound").0
    }

    pub fn files(&self) -> Files {
        let entries = fs::read_dir(self.path()).expect("a folder").map(|entry| entry.expect("a file"));
        let mut files: Files = entries
            .map(|entry| {
                let name = entry.file_name().into_string().expect("UTF-8");
                (name, fs::read(entry.path()).expect("a file"))
            })
            .collect();
        files.sort();
        files
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).expect("a file");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).expect("it was there");
    }

    /// A node whose log goes from 0 to 9, with snapshots up to 3 and up to 6, neither of which the log was
    /// compacted with: a crash came before.
    pub fn of_two_snapshots() -> Folder {
        let folder = Folder::new();
        let mut storage = folder.open();
        storage.raise_boot().expect("a disk");
        storage.remember_peer(NodeId(2), Incarnation(0x22)).expect("a disk");
        save(&mut storage, Some(hard_state(2, Some(1))), entries(2, 0..5));
        storage.begin_whole_segment(id(2, 3), &entries(2, 4..5)).expect("a disk");
        save(&mut storage, Some(hard_state(3, Some(2))), entries(3, 5..8));
        storage.begin_whole_segment(id(3, 6), &entries(3, 7..8)).expect("a disk");
        save(&mut storage, None, entries(3, 8..10));
        // So that it is known how far the log has come.
        storage.raise_boot().expect("a disk");
        drop(storage);
        folder.add_snapshot(id(2, 3));
        folder.add_snapshot(id(3, 6));
        folder
    }

    /// Writes the snapshot up to this entry.
    pub fn add_snapshot(&self, last: EntryId) {
        let disk = self.disk();
        let content = content();
        let mut writer = SnapshotWriter::begin(disk, "test", &meta(last), content.len()).expect("a disk");
        content.iter().for_each(|line| writer.write(line).expect("a disk"));
        writer.finish().expect("a disk");
    }
}

pub fn opening() -> Opening {
    Opening {
        cluster: "test".to_string(),
        node: NodeId(1),
        voters: [1, 2, 3].map(NodeId).to_vec(),
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(0x11),
        segment_sizes: SegmentSizes::default(),
    }
}

pub fn id(term: u64, index: i64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

pub fn hard_state(term: u64, voted_for: Option<u16>) -> HardState {
    HardState { term: Term(term), voted_for: voted_for.map(NodeId) }
}

/// Entries that set `k` to their index.
pub fn entries(term: u64, indexes: Range<i64>) -> Vec<Entry> {
    let entry = |index| Entry {
        term: Term(term),
        index: Index(index),
        request: None,
        command: Command::from_json(format!(r#"{{"op":"set","key":"k","value":{index}}}"#)).expect("JSON"),
        configuration: None,
    };
    indexes.map(entry).collect()
}

pub fn save(storage: &mut Storage<FileDisk>, hard_state: Option<HardState>, entries: Vec<Entry>) {
    storage.save(&Output { hard_state, entries, ..Output::default() }).expect("a disk");
}

pub fn meta(last: EntryId) -> SnapshotMeta {
    let configuration = Configuration::new([1, 2, 3].map(NodeId));
    SnapshotMeta { last, applied_hash: 0xabc, configuration }
}

/// What each snapshot has in it: two keys and three clients, so that neither number is another's, nor 0 or 1.
pub fn content() -> Vec<String> {
    [
        r#"{"key":"a","value":1.50}"#,
        r#"{"key":"k","value":3}"#,
        r#"{"client":"d","seq":1,"used":1,"answer":{"deleted":{"index":1,"deleted":false}}}"#,
        r#"{"client":"e","seq":1,"used":2,"answer":{"swapped":{"index":2}}}"#,
        r#"{"client":"c","seq":2,"used":3,"answer":{"set":{"index":3}}}"#,
    ]
    .map(str::to_owned)
    .to_vec()
}
