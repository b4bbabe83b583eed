//! Behaviour of the storage on a disk that loses, tears and fails: exhaustively where that is possible.

mod crashes;
mod damage;
mod lives;
mod random;
mod recording;
mod restore;
mod snapshots;
mod states;
mod torn;
mod transfers;

use super::*;
use crate::types::{Command, Configuration, Index, Term};

pub(super) const LOG: &str = "log-000001-from-0.jsonl";

pub(super) fn opening() -> Opening {
    Opening {
        cluster: "demo".to_string(),
        node: NodeId(1),
        voters: vec![NodeId(3), NodeId(1), NodeId(2)],
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(0x9f86_d081_884c_7d65),
        segment_sizes: SegmentSizes::default(),
    }
}

pub(super) fn opening_with(segment_sizes: SegmentSizes) -> Opening {
    Opening { segment_sizes, ..opening() }
}

/// An entry whose command is some text of this length.
pub(super) fn entry(term: u64, index: i64, text_bytes: usize) -> Entry {
    let command = Command::from_json(format!("{{\"set\":\"{}\"}}", "x".repeat(text_bytes))).unwrap();
    Entry { term: Term(term), index: Index(index), request: None, command, configuration: None }
}

pub(super) fn entries(term: u64, indexes: std::ops::Range<i64>, text_bytes: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, text_bytes)).collect()
}

pub(super) fn hard_state(term: u64, voted_for: Option<u16>) -> HardState {
    HardState { term: Term(term), voted_for: voted_for.map(NodeId) }
}

pub(super) fn output(
    hard_state: Option<HardState>,
    truncate_from: Option<i64>,
    entries: Vec<Entry>,
) -> Output {
    Output { hard_state, truncate_from: truncate_from.map(Index), entries, ..Output::default() }
}

/// What should be recovered, kept the plain way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub hard_state: HardState,
    /// What the snapshot covers, if there is one.
    pub base: EntryId,
    pub entries: Vec<Entry>,
}

impl Model {
    pub fn save(&mut self, output: &Output) {
        self.hard_state = output.hard_state.unwrap_or(self.hard_state);
        if let Some(from) = output.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(output.entries.iter().cloned());
    }

    /// A snapshot up to here is durable: what it covers is gone from the log, and if the log does not contain
    /// what it ends with, all is.
    pub fn begin_after(&mut self, base: EntryId) {
        let contains = self.entries.iter().any(|entry| entry.id() == base);
        self.entries.retain(|entry| contains && entry.index > base.index);
        self.base = base;
    }

    /// What the outputs lead to.
    pub fn of(outputs: &[Output]) -> Model {
        let mut model = Model::default();
        outputs.iter().for_each(|output| model.save(output));
        model
    }

    /// An output that fits any model: it begins a term and appends an entry.
    pub fn continuation(&self) -> Output {
        let term = self.hard_state.term.0 + 1;
        output(Some(hard_state(term, None)), None, vec![entry(term, self.next().0, 9)])
    }

    /// The index that comes next.
    pub fn next(&self) -> Index {
        self.entries.last().map_or(self.base, Entry::id).index.next()
    }
}

impl From<Recovered> for Model {
    fn from(recovered: Recovered) -> Model {
        let covered = recovered.snapshot.map_or(EntryId::NONE, |meta| meta.last);
        assert_eq!(recovered.base, covered);
        Model { hard_state: recovered.hard_state, base: covered, entries: recovered.entries }
    }
}

pub(super) fn id(term: u64, index: i64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

/// What a snapshot up to this entry says of itself.
pub(super) fn meta(last: EntryId) -> SnapshotMeta {
    let voters = [1, 2, 3].map(NodeId).into();
    let configuration = Configuration { voters, ..Configuration::default() };
    SnapshotMeta { last, applied_hash: 0x1234_0000 + last.index.0 as u64, configuration }
}

/// What a snapshot up to this entry has in it.
pub(super) fn content(last: EntryId) -> Vec<String> {
    (0..2).map(|number| format!("{{\"key\":\"k{number}\",\"value\":\"{last}\"}}")).collect()
}

/// Writes the snapshot up to this entry.
pub(super) fn write_snapshot(disk: &MemoryDisk, cluster: &str, last: EntryId, content: &[String]) -> u64 {
    let mut writer = SnapshotWriter::begin(disk.clone(), cluster, &meta(last), content.len()).unwrap();
    content.iter().for_each(|line| writer.write(line).unwrap());
    writer.finish().unwrap()
}

/// The lines of the snapshot up to this entry, as another node sends them.
pub(super) fn snapshot_lines(last: EntryId) -> Vec<SnapshotLine> {
    let disk = MemoryDisk::new();
    write_snapshot(&disk, "demo", last, &content(last));
    let file = String::from_utf8(disk.read(&SnapshotName { last }.to_string()).unwrap()).unwrap();
    file.lines().map(|line| SnapshotLine::from_json(line.to_string()).unwrap()).collect()
}

/// What is in the snapshot up to this entry.
pub(super) fn read_snapshot<D: Disk>(storage: &mut Storage<D>, last: EntryId) -> Vec<String> {
    let reader = storage.open_snapshot(last).unwrap().expect("it is the newest one");
    reader.map(|line| line.unwrap()).collect()
}

pub(super) fn open(disk: &MemoryDisk) -> Result<(Storage<MemoryDisk>, Recovered), StorageError> {
    Storage::open(disk.clone(), &opening())
}

/// A disk on which these outputs were saved.
pub(super) fn disk_with(outputs: &[Output]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut storage, _) = open(&disk).unwrap();
    storage.raise_boot().unwrap();
    outputs.iter().for_each(|output| storage.save(output).unwrap());
    disk
}

/// The same files on another disk.
pub(super) fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::new();
    for name in disk.list().unwrap() {
        copy.overwrite(&name, disk.read(&name).unwrap());
    }
    copy
}

/// The node goes on from here: what it recovers is `expected`, again at the next start, and after another
/// save it is that and what was saved.
pub(super) fn goes_on_from(disk: &MemoryDisk, expected: &Model, what: &str) {
    let (_, recovered) = open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(&Model::from(recovered), expected, "{what}: first start");
    disk.crash();
    let (mut storage, recovered) = open(disk).unwrap_or_else(|error| panic!("{what}: second start: {error}"));
    assert_eq!(recovered.torn, None, "{what}: the first start has cut off what was torn");
    assert_eq!(&Model::from(recovered), expected, "{what}: second start");
    let next = expected.continuation();
    storage.save(&next).unwrap();
    disk.crash();
    let mut after = expected.clone();
    after.save(&next);
    let (_, recovered) = open(disk).unwrap_or_else(|error| panic!("{what}: after a save: {error}"));
    assert_eq!(Model::from(recovered), after, "{what}: after a save");
}

/// A log with a few batches: what each of the tests below goes on from.
pub(super) fn earlier_outputs() -> Vec<Output> {
    vec![
        output(Some(hard_state(1, Some(1))), None, entries(1, 0..1, 5)),
        output(None, None, entries(1, 1..4, 300)),
        output(Some(hard_state(2, None)), None, vec![]),
    ]
}

/// Last batches of several shapes.
pub(super) fn last_outputs() -> Vec<(&'static str, Output)> {
    let mut shapes = vec![
        ("a hard state", output(Some(hard_state(3, Some(2))), None, vec![])),
        ("one small entry", output(None, None, entries(2, 4..5, 3))),
        ("many small entries", output(None, None, entries(2, 4..24, 20))),
        ("entries of many sectors", output(None, None, entries(2, 4..6, 2500))),
        ("all kinds", output(Some(hard_state(3, None)), Some(2), entries(3, 2..5, 400))),
        ("a truncation", output(None, Some(1), vec![])),
    ];
    // The places where a record's edge is alone in a sector.
    let (start, end) = extent_of(&output(None, None, entries(2, 4..5, 600)));
    let newline_alone = 600 + (512 + 1 - end % 512) % 512;
    shapes.push(("a newline alone in its sector", output(None, None, entries(2, 4..5, newline_alone))));
    assert_eq!(extent_of(&shapes.last().unwrap().1).1 % 512, 1);
    let newline_first = 600 + (512 * 4 - end % 512) % 512;
    shapes.push(("an end with its sector", output(None, None, entries(2, 4..5, newline_first))));
    assert_eq!(extent_of(&shapes.last().unwrap().1).1 % 512, 0);
    shapes.push(("its last two bytes alone", output(None, None, entries(2, 4..5, newline_alone + 1))));
    assert_eq!(extent_of(&shapes.last().unwrap().1).1 % 512, 2);
    assert!(start > 512, "the last batch shares no sector with the header");
    shapes
}

/// Where a last batch begins and ends in the file.
pub(super) fn extent_of(last: &Output) -> (usize, usize) {
    let start = disk_with(&earlier_outputs()).read(LOG).unwrap().len();
    let end = disk_with(&with_last(last)).read(LOG).unwrap().len();
    (start, end)
}

pub(super) fn with_last(last: &Output) -> Vec<Output> {
    let mut outputs = earlier_outputs();
    outputs.push(last.clone());
    outputs
}

/// The sectors of these bytes, the first and the last clipped.
pub(super) fn sectors(start: usize, end: usize) -> Vec<std::ops::Range<usize>> {
    let mut sectors = Vec::new();
    let mut at = start;
    while at < end {
        let next = ((at / 512 + 1) * 512).min(end);
        sectors.push(at..next);
        at = next;
    }
    sectors
}
