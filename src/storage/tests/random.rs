//! Random lives: saves, power cuts, failures and kills in any order, against the plain model.

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

#[derive(Clone, Debug)]
enum Step {
    /// A save that fits, made from these choices.
    Save(u64),
    /// A clean stop and a start.
    Restart,
    /// The power goes, and the disk keeps what these choices say.
    Crash(u64),
    /// The disk fails at the operation with this number, in a save or in the start after it. If `keep` says
    /// what the disk keeps then, the power goes; otherwise only the process ends.
    FailWhileSaving { save: u64, operation: u64, keep: Option<u64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<u64>().prop_map(Step::Save),
        1 => Just(Step::Restart),
        1 => any::<u64>().prop_map(Step::Crash),
        4 => (any::<u64>(), 0..16u64, any::<Option<u64>>())
            .prop_map(|(save, operation, keep)| Step::FailWhileSaving { save, operation, keep }),
    ];
    proptest::collection::vec(step, 1..40)
}

/// An output that fits the model: a new term or a first vote, a truncation, some entries, or any of them.
fn some_output(model: &Model, seed: u64) -> Output {
    let mut choose = chooser(seed);
    let mut made = Output::default();
    let HardState { term, voted_for } = model.hard_state;
    match choose(4) {
        0 => made.hard_state = Some(hard_state(term.0 + 1 + choose(3) as u64, None)),
        1 if voted_for.is_none() => made.hard_state = Some(hard_state(term.0, Some(2))),
        _ => {}
    }
    let term = made.hard_state.unwrap_or(model.hard_state).term.0;
    let mut next = model.entries.len() as i64;
    if next > 0 && choose(4) == 0 {
        next = choose(next as usize) as i64;
        made.truncate_from = Some(Index(next));
    }
    for _ in 0..choose(5) {
        made.entries.push(entry(term, next, choose(900)));
        next += 1;
    }
    made
}

fn start(disk: &MemoryDisk) -> (Storage<MemoryDisk>, Model) {
    let small = Opening { segment_limit_bytes: 2000, ..opening() };
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
        let (mut storage, mut model) = start(&disk);
        for step in steps {
            match step {
                Step::Save(seed) => {
                    let output = some_output(&model, seed);
                    storage.save(&output).unwrap();
                    model.save(&output);
                }
                Step::Restart => {
                    let recovered;
                    (storage, recovered) = start(&disk);
                    prop_assert_eq!(&recovered, &model);
                }
                Step::Crash(keep) => {
                    disk.crash_keeping(&mut chooser(keep));
                    let recovered;
                    (storage, recovered) = start(&disk);
                    prop_assert_eq!(&recovered, &model);
                }
                Step::FailWhileSaving { save, operation, keep } => {
                    let output = some_output(&model, save);
                    disk.fail_after(operation, Failure::InputOutput);
                    let saved = storage.save(&output).is_ok();
                    if let Some(keep) = keep {
                        disk.crash_keeping(&mut chooser(keep));
                    }
                    let recovered;
                    (storage, recovered) = start(&disk);
                    disk.disarm();
                    let mut after = model.clone();
                    after.save(&output);
                    prop_assert!(recovered == after || (!saved && recovered == model), "{:?}", recovered);
                    model = recovered;
                }
            }
        }
    }
}
