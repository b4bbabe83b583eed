//! Short lives of a node, and what it knows in them: between them they have all that a node does to its disk.
//!
//! A life is recorded once, with what each call did to the disk. `states.rs` tries what a power cut makes of
//! every part of it.

use super::recording::{Cuts, Folder, Lost, Medium, Operation, RecordingDisk, disk_of};
use super::*;
use std::fmt;

/// Something asked of a node's storage.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Open,
    RaiseBoot,
    Remember(u16),
    Save(Box<Output>),
    /// A segment that is whole after this entry, with what was saved of those after it.
    BeginWhole(EntryId),
    /// The snapshot up to this entry is begun, and goes on beside the calls that follow.
    BeginSnapshot(EntryId),
    FinishSnapshot(EntryId),
    Compact(EntryId),
    /// A snapshot of another node comes, all of it.
    Receive(EntryId),
    FinishReceiving(EntryId),
    /// The log begins after it, with what was saved of the entries after it.
    RestartLog(EntryId),
}

/// What a node knows; nothing at all before it exists.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Known(pub Option<(u64, Vec<NodeId>, Model)>);

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((boot, peers, Model { hard_state, base, entries })) = &self.0 else {
            return write!(f, "nothing");
        };
        let HardState { term, voted_for } = hard_state;
        write!(f, "[boot {boot}, {peers:?}, term {term}, vote {voted_for:?}, after {base}:")?;
        entries.iter().try_for_each(|entry| write!(f, " {} of {}", entry.id(), entry.size_bytes()))?;
        write!(f, "]")
    }
}

impl Known {
    pub fn after(&self, call: &Call) -> Known {
        let (mut boot, mut peers, mut model) = self.0.clone().unwrap_or_default();
        match call {
            Call::Open
            | Call::BeginWhole(_)
            | Call::BeginSnapshot(_)
            | Call::Compact(_)
            | Call::Receive(_)
            | Call::RestartLog(_) => {}
            Call::FinishSnapshot(last) | Call::FinishReceiving(last) => model.begin_after(*last),
            Call::RaiseBoot => boot += 1,
            Call::Remember(peer) => peers.push(NodeId(*peer)),
            Call::Save(output) => model.save(output),
        }
        Known(Some((boot, peers, model)))
    }

    /// The entries after this one.
    fn entries_after(&self, id: EntryId) -> Vec<Entry> {
        let entries = self.0.iter().flat_map(|(_, _, model)| &model.entries);
        entries.filter(|entry| entry.index > id.index).cloned().collect()
    }

    /// What the storage knows that was opened with this.
    pub fn of(storage: &mut Storage<impl Disk>, recovered: Recovered) -> Known {
        if let Some(found) = &recovered.snapshot {
            assert_eq!(*found, meta(found.last));
            assert_eq!(read_snapshot(storage, found.last), content(found.last));
        }
        let Identity { boot, peers, .. } = storage.identity();
        Known(Some((*boot, peers.keys().copied().collect(), Model::from(recovered))))
    }
}

/// Calls and what was done to the disk for each.
pub(super) struct Life {
    pub name: &'static str,
    /// What was on the disk before.
    pub folder: Folder,
    pub sizes: SegmentSizes,
    pub history: Vec<Operation>,
    pub spans: Vec<Span>,
}

pub(super) fn opening_for(sizes: SegmentSizes, first_start: FirstStart) -> Opening {
    Opening { first_start, ..opening_with(sizes) }
}

/// A call's changes, from where to where in the history (nowhere, if it failed), and what is known before and
/// after it.
#[derive(Clone)]
pub(super) struct Span {
    pub start: usize,
    pub end: Option<usize>,
    pub before: Known,
    pub after: Known,
}

/// What may be known after a power cut when so much was done: what was acknowledged, or what was under way
/// too.
pub(super) fn allowed(spans: &[Span], done: usize) -> Vec<Known> {
    match spans.iter().rfind(|span| span.start < done) {
        Some(Span { end: Some(end), after, .. }) if *end <= done => vec![after.clone()],
        Some(Span { before, after, .. }) => vec![before.clone(), after.clone()],
        None => vec![spans[0].before.clone()],
    }
}

/// Lives through these calls until the end or until a change fails.
pub(super) fn live(sizes: SegmentSizes, disk: &RecordingDisk, known: Known, calls: &[Call]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut storage = None;
    let mut writer = None;
    let mut before = known;
    for call in calls {
        let start = disk.length();
        let mut after = before.after(call);
        let outcome = match (&mut storage, call) {
            (slot, Call::Open) => {
                let opened = Storage::open(disk.clone(), &opening_for(sizes, FirstStart::Bootstrap));
                writer = None;
                opened.map(|(mut opened, recovered)| {
                    // What a start returns counts from then on.
                    after = Known::of(&mut opened, recovered);
                    *slot = Some(opened);
                })
            }
            (Some(storage), Call::RaiseBoot) => storage.raise_boot().map(drop),
            (Some(storage), Call::Remember(peer)) => {
                storage.remember_peer(NodeId(*peer), Incarnation(u64::from(*peer))).map(drop)
            }
            (Some(storage), Call::Save(output)) => storage.save(output),
            (Some(storage), Call::BeginWhole(after)) => {
                storage.begin_whole_segment(*after, &before.entries_after(*after))
            }
            (Some(_), Call::BeginSnapshot(last)) => begin_snapshot(disk, *last).map(|begun| {
                writer = Some(begun);
            }),
            (Some(_), Call::FinishSnapshot(_)) => {
                writer.take().expect("it was begun").finish().map(drop).map_err(StorageError::from)
            }
            (Some(storage), Call::Compact(last)) => storage.compact(*last),
            (Some(storage), Call::Receive(last)) => {
                storage.receive_chunk(*last, 0, &snapshot_lines(*last)).map(drop)
            }
            (Some(storage), Call::FinishReceiving(last)) => storage.finish_receiving(*last).map(|received| {
                assert_eq!(received, Ok(meta(*last)));
            }),
            (Some(storage), Call::RestartLog(last)) => {
                storage.restart_log(*last, &before.entries_after(*last))
            }
            (None, _) => panic!("a life begins with a start"),
        };
        let end = outcome.is_ok().then(|| disk.length());
        spans.push(Span { start, end, before, after: after.clone() });
        if let Err(error) = outcome {
            assert!(error.is_disk_fault(), "{call:?}: {error}");
            break;
        }
        before = after;
    }
    spans
}

fn begin_snapshot(
    disk: &RecordingDisk,
    last: EntryId,
) -> Result<SnapshotWriter<RecordingDisk>, StorageError> {
    let content = content(last);
    let mut writer = SnapshotWriter::begin(disk.clone(), "demo", &meta(last), content.len())?;
    content.iter().try_for_each(|line| writer.write(line))?;
    Ok(writer)
}

impl Life {
    pub fn new(name: &'static str, folder: Folder, sizes: SegmentSizes, calls: &[Call]) -> Life {
        let mut life = Life { name, folder, sizes, history: Vec::new(), spans: Vec::new() };
        let disk = RecordingDisk::new(&life.folder, &[]);
        let known = observe(&life, &life.folder).expect("a life begins on a sound disk");
        life.spans = live(sizes, &disk, known, calls);
        life.history = disk.history();
        assert!(life.history.len() <= 25, "{name}: {} changes are too many to try all", life.history.len());
        life
    }
}

/// Starts on a copy of these files and says what is known; without `--bootstrap`, so that an empty folder is
/// nothing.
pub(super) fn observe(life: &Life, folder: &Folder) -> Result<Known, StorageError> {
    match Storage::open(disk_of(folder), &opening_for(life.sizes, FirstStart::Refused)) {
        Ok((mut storage, recovered)) => Ok(Known::of(&mut storage, recovered)),
        Err(StorageError::Empty { .. }) => Ok(Known::default()),
        Err(error) => Err(error),
    }
}

/// The files that a life leaves when all goes well.
pub(super) fn files_after(life: &Life) -> Folder {
    let mut files = Folder::new();
    Medium::new(&life.folder, &life.history).states(Cuts::Few, |folder, lost| {
        if lost == Lost::default() {
            files = folder.clone();
        }
    });
    files
}

/// Segments that no life fills up, and that are not filled ahead.
pub(super) const LARGE: SegmentSizes = SegmentSizes { limit_bytes: 1 << 20, fill_bytes: 0 };

/// Segments that fill up after so many bytes.
const fn small(limit_bytes: u64) -> SegmentSizes {
    SegmentSizes { limit_bytes, fill_bytes: 0 }
}

/// Segments that are filled ahead from their first batch on.
const FILLED: SegmentSizes = SegmentSizes { limit_bytes: 1 << 20, fill_bytes: 300 };

/// What the lives below begin with: a node that has run and saved some entries.
fn folder_of(outputs: &[Output]) -> Folder {
    let mut calls = vec![Call::Open, Call::RaiseBoot];
    calls.extend(outputs.iter().cloned().map(|output| Call::Save(Box::new(output))));
    let mut life =
        Life { name: "before", folder: Folder::new(), sizes: LARGE, history: vec![], spans: vec![] };
    let disk = RecordingDisk::new(&life.folder, &[]);
    live(LARGE, &disk, Known::default(), &calls);
    life.history = disk.history();
    files_after(&life)
}

/// And what was never finished.
fn with_drafts(before: &Folder) -> Folder {
    let mut drafts = before.clone();
    drafts.insert(format!("{LOG}.new"), b"{\"crc\"".to_vec());
    drafts.insert(format!("{IDENTITY_FILE}.new"), Vec::new());
    drafts.insert("log-000002-from-4.jsonl.new".to_string(), vec![0; 600]);
    drafts
}

/// Lives of at most some twenty changes each, which have between them all that a node does to its disk.
pub(super) fn lives() -> Vec<(Life, Vec<Call>)> {
    let save = |term: Option<u64>, from: Option<i64>, entries: Vec<Entry>| {
        Call::Save(Box::new(output(term.map(|term| hard_state(term, Some(2))), from, entries)))
    };
    let first =
        vec![Call::Open, Call::RaiseBoot, Call::Remember(2), save(Some(1), None, entries(1, 0..1, 5))];
    let running = vec![
        Call::Open,
        Call::RaiseBoot,
        save(None, None, entries(2, 4..6, 250)),
        save(Some(3), Some(2), entries(3, 2..3, 40)),
        save(None, None, entries(3, 3..5, 700)),
        save(Some(4), None, vec![]),
    ];
    let filled = vec![
        Call::Open,
        // The first is written together with what the segment is filled with, the second over that, the third
        // over it and beyond, and the last over what the third was filled with.
        save(None, None, entries(2, 4..5, 30)),
        save(Some(3), Some(2), entries(3, 2..3, 20)),
        save(None, None, entries(3, 3..5, 600)),
        save(Some(4), None, vec![]),
        Call::Open,
        save(None, None, entries(4, 5..6, 30)),
    ];
    let truncating = vec![
        Call::Open,
        save(Some(3), Some(1), vec![]),
        save(None, None, entries(3, 1..4, 60)),
        save(Some(5), Some(1), entries(4, 1..2, 10)),
        save(None, Some(0), vec![]),
        save(None, None, entries(5, 0..2, 300)),
    ];
    let growing = vec![
        Call::Open,
        save(None, None, entries(2, 4..5, 900)),
        save(Some(3), Some(4), entries(3, 4..6, 100)),
        save(None, None, entries(3, 6..7, 900)),
    ];
    let before = folder_of(&earlier_outputs());
    let mut torn = folder_of(&with_last(&output(None, None, entries(2, 4..6, 600))));
    let log = torn.get_mut(LOG).expect("a log");
    log.truncate(log.len() - 300);
    let after_torn = vec![Call::Open, Call::RaiseBoot, save(None, None, entries(2, 4..5, 30))];
    let life = |name, folder: &Folder, limit, calls: Vec<Call>| {
        (Life::new(name, folder.clone(), limit, &calls), calls)
    };
    let mut lives = vec![
        life("a first start", &Folder::new(), LARGE, first),
        life("a node that runs", &before, LARGE, running),
        life("a log that is filled ahead", &before, FILLED, filled),
        life("a log that is truncated", &before, LARGE, truncating),
        life("a log that grows", &before, small(600), growing),
        life("a start after a torn write", &torn, LARGE, after_torn.clone()),
        life("a start with drafts left", &with_drafts(&before), LARGE, after_torn),
    ];
    for (name, sizes, from, calls) in lives_with_snapshots(save) {
        let folder = match from {
            From::Before => before.clone(),
            From::Life(earlier) => {
                let (life, _) = lives.iter().find(|(life, _)| life.name == earlier).expect("it is earlier");
                files_after(life)
            }
        };
        lives.push((Life::new(name, folder, sizes, &calls), calls));
    }
    lives
}

/// What a life begins with.
enum From {
    /// A node that has run.
    Before,
    /// What this other life has left.
    Life(&'static str),
}

/// Lives with snapshots of the node's own, whose log is 0 to 3 of term 1 and an entry that came later, and of
/// others: within that log, in conflict with it, and after it.
fn lives_with_snapshots(
    save: impl Fn(Option<u64>, Option<i64>, Vec<Entry>) -> Call,
) -> Vec<(&'static str, SegmentSizes, From, Vec<Call>)> {
    let own = |last: EntryId| [Call::BeginSnapshot(last), Call::FinishSnapshot(last), Call::Compact(last)];
    let others = |last: EntryId| [Call::Receive(last), Call::FinishReceiving(last), Call::RestartLog(last)];
    let beside_saves = vec![
        Call::Open,
        Call::BeginWhole(id(1, 2)),
        Call::BeginSnapshot(id(1, 2)),
        save(Some(3), Some(3), entries(3, 3..4, 60)),
        Call::FinishSnapshot(id(1, 2)),
        save(None, None, entries(3, 4..5, 30)),
        Call::Compact(id(1, 2)),
    ];
    let mut second = vec![Call::Open, Call::BeginWhole(id(3, 3))];
    second.extend(own(id(3, 3)));
    second.push(save(None, None, entries(3, 5..6, 20)));
    let mut growing = vec![Call::Open, Call::BeginWhole(id(1, 2)), save(None, None, entries(2, 4..5, 40))];
    growing.extend(own(id(1, 2)));
    let mut contained = vec![Call::Open];
    contained.extend(others(id(1, 2)));
    contained.push(save(None, None, entries(2, 4..5, 20)));
    let mut conflicting = vec![Call::Open, Call::Receive(id(1, 2))];
    conflicting.extend(others(id(2, 2)));
    conflicting.push(save(None, None, entries(2, 3..4, 20)));
    let mut beyond = vec![Call::Open, save(None, None, entries(3, 5..6, 20))];
    beyond.extend(others(id(3, 9)));
    beyond.push(save(Some(4), None, entries(4, 10..11, 20)));
    vec![
        ("a snapshot beside saves", LARGE, From::Before, beside_saves),
        ("a second snapshot", LARGE, From::Life("a snapshot beside saves"), second),
        ("a snapshot of a log that grows", small(300), From::Before, growing),
        ("another's snapshot that the log contains", LARGE, From::Before, contained),
        ("another's snapshot in conflict with the log", LARGE, From::Before, conflicting),
        ("another's snapshot beyond the log", LARGE, From::Life("a snapshot beside saves"), beyond),
    ]
}
