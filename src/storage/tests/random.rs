//! Random lives: saves, snapshots, power cuts, failures and kills in any order, against the plain model.

use super::*;
use proptest::prelude::*;

/// A stream of choices that is the same for the same seed.
pub(super) fn chooser(seed: u64) -> Box<dyn FnMut(usize) -> usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    Box::new(move |below| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    })
}

/// Something that changes what a node knows.
#[derive(Clone, Debug)]
enum Change {
    /// A save that fits, made from these choices.
    Save(u64),
    /// A snapshot of its own up to one of its entries, which this chooses.
    Snapshot(usize),
    /// A snapshot of another node up to so many entries before or after the end of the log; before it, of an
    /// entry that the log contains.
    Install(i64),
}

#[derive(Clone, Debug)]
enum Step {
    Change(Change),
    /// A clean stop and a start.
    Restart,
    /// The power goes, and the disk keeps what these choices say.
    Crash(u64),
    /// The disk fails at the operation with this number, in a change or in the start after it. If `keep` says
    /// what the disk keeps then, the power goes; otherwise only the process ends.
    Fail {
        change: Change,
        operation: u64,
        keep: Option<u64>,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        8 => any::<u64>().prop_map(Change::Save),
        1 => any::<usize>().prop_map(Change::Snapshot),
        1 => (-3..4i64).prop_map(Change::Install),
    ];
    let step = prop_oneof![
        6 => change.clone().prop_map(Step::Change),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Crash),
        4 => (change, 0..24u64, any::<Option<u64>>())
            .prop_map(|(change, operation, keep)| Step::Fail { change, operation, keep }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A node on its disk, and what it should know.
struct Node {
    disk: MemoryDisk,
    storage: Storage<MemoryDisk>,
    model: Model,
    /// A snapshot up to here was begun: no truncation reaches it any more.
    settled: Index,
}

impl Node {
    /// Makes a change, or fails; what is known afterwards if it does not.
    fn change(&mut self, change: &Change) -> (Model, Result<(), StorageError>) {
        let mut after = self.model.clone();
        let outcome = match change {
            Change::Save(seed) => {
                let output = some_output(&self.model, self.settled(), *seed);
                after.save(&output);
                self.storage.save(&output)
            }
            Change::Snapshot(place) => {
                match self.model.entries.get(place % self.model.entries.len().max(1)) {
                    Some(entry) => {
                        let last = entry.id();
                        after.begin_after(last);
                        self.settled = last.index.max(self.settled);
                        self.take_snapshot(last, &after.entries)
                    }
                    None => Ok(()),
                }
            }
            Change::Install(beyond) => {
                let end = self.model.entries.last().map_or(self.model.base, Entry::id);
                let index = Index(end.index.0 + beyond);
                let contained = self.model.entries.iter().find(|entry| entry.index == index);
                let last = contained.map_or(EntryId::new(self.model.hard_state.term, index), Entry::id);
                if index <= self.settled() || (contained.is_none() && index <= end.index) {
                    return (after, Ok(()));
                }
                after.begin_after(last);
                self.install(last, &after.entries)
            }
        };
        (after, outcome)
    }

    fn settled(&self) -> Index {
        self.settled.max(self.model.base.index)
    }

    fn take_snapshot(&mut self, last: EntryId, kept: &[Entry]) -> Result<(), StorageError> {
        self.storage.begin_whole_segment(last, kept)?;
        let content = content(last);
        let mut writer = SnapshotWriter::begin(self.disk.clone(), "demo", &meta(last), content.len())?;
        content.iter().try_for_each(|line| writer.write(line))?;
        writer.finish()?;
        self.storage.compact(last)
    }

    fn install(&mut self, last: EntryId, kept: &[Entry]) -> Result<(), StorageError> {
        self.storage.receive_chunk(last, 0, &snapshot_lines(last))?;
        assert_eq!(self.storage.finish_receiving(last)?, Ok(meta(last)));
        self.storage.restart_log(last, kept)
    }

    /// Starts again; returns what the node knows. A failure that has not come until then does not come.
    fn restart(&mut self) -> Model {
        let (storage, found) = start(&self.disk);
        self.storage = storage;
        self.disk.disarm();
        if found.base != EntryId::NONE {
            assert_eq!(read_snapshot(&mut self.storage, found.base), content(found.base));
        }
        found
    }
}

/// An output that fits the model: a new term or a first vote, a truncation, some entries, or any of them.
fn some_output(model: &Model, settled: Index, seed: u64) -> Output {
    let mut choose = chooser(seed);
    let mut made = Output::default();
    let HardState { term, voted_for } = model.hard_state;
    match choose(4) {
        0 => made.hard_state = Some(hard_state(term.0 + 1 + choose(3) as u64, None)),
        1 if voted_for.is_none() => made.hard_state = Some(hard_state(term.0, Some(2))),
        _ => {}
    }
    let term = made.hard_state.unwrap_or(model.hard_state).term.0;
    let mut next = model.next().0;
    let loose = usize::try_from(next - 1 - settled.0).unwrap();
    if loose > 0 && choose(4) == 0 {
        next -= 1 + choose(loose) as i64;
        made.truncate_from = Some(Index(next));
    }
    for _ in 0..choose(5) {
        made.entries.push(entry(term, next, choose(900)));
        next += 1;
    }
    made
}

fn start(disk: &MemoryDisk) -> (Storage<MemoryDisk>, Model) {
    let small = opening_with(SegmentSizes { limit_bytes: 2000, fill_bytes: 700 });
    // A failure that is still to come may end the first attempt; there is never more than one.
    let attempt = || {
        let (mut storage, recovered) = Storage::open(disk.clone(), &small)?;
        storage.raise_boot()?;
        Ok::<_, StorageError>((storage, recovered))
    };
    let (storage, recovered) = attempt().or_else(|_| attempt()).unwrap();
    (storage, Model::from(recovered))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_life_recovers_what_was_acknowledged_and_invents_nothing(steps in steps()) {
        let disk = MemoryDisk::new();
        let (storage, model) = start(&disk);
        let mut node = Node { disk: disk.clone(), storage, model, settled: Index::NONE };
        for step in steps {
            match step {
                Step::Change(change) => {
                    let (after, outcome) = node.change(&change);
                    outcome.unwrap();
                    node.model = after;
                }
                Step::Restart => {
                    let recovered = node.restart();
                    prop_assert_eq!(&recovered, &node.model);
                }
                Step::Crash(keep) => {
                    disk.crash_keeping(&mut chooser(keep));
                    let recovered = node.restart();
                    prop_assert_eq!(&recovered, &node.model);
                }
                Step::Fail { change, operation, keep } => {
                    disk.fail_after(operation, Failure::InputOutput);
                    let (after, outcome) = node.change(&change);
                    if let Some(keep) = keep {
                        disk.crash_keeping(&mut chooser(keep));
                    }
                    let recovered = node.restart();
                    let is_gone = outcome.is_err() && recovered == node.model;
                    prop_assert!(recovered == after || is_gone, "{:?}", recovered);
                    node.model = recovered;
                }
            }
        }
    }
}
