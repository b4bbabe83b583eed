//! A crash or a failing disk at every single operation: what was acknowledged is there afterwards.

use super::*;

/// A life of a node: starts, a peer met, saves of all kinds, segments that fill up.
fn small_segments() -> Opening {
    opening_with(SegmentSizes { limit_bytes: 1200, fill_bytes: 600 })
}

fn saves() -> Vec<Output> {
    let mut outputs = with_last(&output(Some(hard_state(3, Some(2))), Some(2), entries(3, 2..5, 400)));
    outputs.push(output(None, None, entries(3, 5..9, 100)));
    outputs.push(output(Some(hard_state(4, None)), Some(8), vec![]));
    outputs.push(output(None, None, entries(4, 8..9, 1300)));
    outputs.push(output(Some(hard_state(5, Some(3))), None, vec![]));
    outputs
}

/// How far a life got: what its calls returned `Ok` for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Acknowledged {
    opened: bool,
    boot: u64,
    peer: bool,
    saves: usize,
}

/// Lives until the end or until the disk fails, and then tries to go on, which must not touch the disk.
fn live(disk: &MemoryDisk, outputs: &[Output]) -> (Acknowledged, Option<StorageError>) {
    let mut acknowledged = Acknowledged::default();
    let mut storage = match Storage::open(disk.clone(), &small_segments()) {
        Ok((storage, _)) => storage,
        Err(error) => return (acknowledged, Some(error)),
    };
    acknowledged.opened = true;
    let outcome = live_on(&mut storage, outputs, &mut acknowledged);
    if outcome.is_err() {
        let operations = disk.operations();
        let next = Model::of(&outputs[..acknowledged.saves]).continuation();
        assert!(matches!(storage.save(&next), Err(StorageError::GivenUp)));
        assert!(matches!(storage.save(&Output::default()), Err(StorageError::GivenUp)));
        assert!(matches!(storage.raise_boot(), Err(StorageError::GivenUp)));
        let remembered = storage.remember_peer(NodeId(3), Incarnation(3));
        assert!(matches!(remembered, Err(StorageError::GivenUp)));
        assert!(matches!(storage.allow_vote(), Err(StorageError::GivenUp)));
        assert!(matches!(storage.compact(id(1, 0)), Err(StorageError::GivenUp)));
        assert!(matches!(storage.receive_chunk(id(1, 0), 0, &[]), Err(StorageError::GivenUp)));
        assert!(matches!(storage.read_chunk(id(1, 0), 0, 1), Err(StorageError::GivenUp)));
        assert_eq!(disk.operations(), operations, "nothing is tried again");
    }
    (acknowledged, outcome.err())
}

fn live_on(
    storage: &mut Storage<MemoryDisk>,
    outputs: &[Output],
    acknowledged: &mut Acknowledged,
) -> Result<(), StorageError> {
    acknowledged.boot = storage.raise_boot()?;
    storage.remember_peer(NodeId(2), Incarnation(2))?;
    acknowledged.peer = true;
    for output in outputs {
        storage.save(output)?;
        acknowledged.saves += 1;
    }
    Ok(())
}

/// What is there after a crash: all that was acknowledged, at most the one thing more that was under way, and
/// the same at the next start.
fn check(disk: &MemoryDisk, outputs: &[Output], acknowledged: &Acknowledged, what: &str) {
    let (storage, recovered) = Storage::open(disk.clone(), &small_segments())
        .unwrap_or_else(|error| panic!("{what}: {acknowledged:?}: {error}"));
    let identity = storage.identity().clone();
    assert!(
        identity.boot >= acknowledged.boot && identity.boot <= acknowledged.boot + 1,
        "{what}: {identity:?}"
    );
    let peer = identity.peers.get(&NodeId(2));
    assert!(peer == Some(&Incarnation(2)) || (peer.is_none() && !acknowledged.peer), "{what}: {identity:?}");
    let model = Model::from(recovered);
    let least = Model::of(&outputs[..acknowledged.saves]);
    let most = Model::of(&outputs[..(acknowledged.saves + 1).min(outputs.len())]);
    assert!(model == least || model == most, "{what}: {acknowledged:?}: {model:?}");
    drop(storage);
    disk.crash();
    let (storage, recovered) = Storage::open(disk.clone(), &small_segments()).unwrap();
    assert_eq!(storage.identity(), &identity, "{what}: second start");
    assert_eq!(recovered.torn, None, "{what}: second start");
    assert_eq!(Model::from(recovered), model, "{what}: second start");
}

/// The ways in which a disk may come back after its power went: from the least to all of what was not synced,
/// and some mixtures, each the same in every run.
fn choices() -> Vec<Box<dyn FnMut(usize) -> usize>> {
    let mut choices: Vec<Box<dyn FnMut(usize) -> usize>> = vec![Box::new(|_| 0), Box::new(|below| below - 1)];
    for seed in 1..9 {
        choices.push(super::random::chooser(seed));
    }
    choices
}

#[test]
fn what_was_acknowledged_survives_a_failure_or_a_power_cut_at_any_operation() {
    let outputs = saves();
    let whole = MemoryDisk::new();
    assert!(live(&whole, &outputs).1.is_none());
    assert!(whole.list().unwrap().len() >= 4, "segments were begun: {:?}", whole.list());
    for operation in 0..whole.operations() - 1 {
        for (number, mut choose) in choices().into_iter().enumerate() {
            let failure = if number % 2 == 0 { Failure::InputOutput } else { Failure::NoSpace };
            let what = format!("operation {operation}, choice {number}");
            let disk = MemoryDisk::new();
            disk.fail_after(operation, failure);
            let (acknowledged, error) = live(&disk, &outputs);
            assert!(matches!(error, Some(StorageError::Disk(_))), "{what}: {error:?}");
            disk.crash_keeping(&mut choose);
            check(&disk, &outputs, &acknowledged, &what);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_operation_and_a_power_cut_after_the_next_start() {
    let outputs = saves();
    let whole = MemoryDisk::new();
    assert!(live(&whole, &outputs).1.is_none());
    for operation in 0..whole.operations() - 1 {
        // No power cut: the next start sees what was written and not synced, and must not rely on it before
        // it is. Where a sync failed, another sync of the same bytes is no way to get there.
        let disk = MemoryDisk::new();
        disk.fail_after(operation, Failure::InputOutput);
        let (acknowledged, _) = live(&disk, &outputs);
        check(&disk, &outputs, &acknowledged, &format!("operation {operation}"));
    }
}

#[test]
fn a_crash_at_any_operation_of_a_recovery_changes_nothing() {
    for (shape, last) in last_outputs() {
        let torn = disk_with(&with_last(&last));
        let (start, end) = extent_of(&last);
        torn.overwrite(LOG, torn.read(LOG).unwrap()[..start + (end - start) / 2].to_vec());
        for operation in 0.. {
            let mut finished = false;
            for mut choose in choices() {
                let disk = copy(&torn);
                disk.fail_after(operation, Failure::InputOutput);
                finished = open(&disk).is_ok();
                disk.crash_keeping(&mut choose);
                goes_on_from(
                    &disk,
                    &Model::of(&earlier_outputs()),
                    &format!("{shape}, operation {operation}"),
                );
            }
            if finished {
                assert!(operation > 5, "a recovery begins a segment");
                break;
            }
        }
    }
}

/// A disk on which the last save's sync failed, which ended the process, and the power stayed on.
fn disk_with_failed_sync(last: &Output) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut storage, _) = open(&disk).unwrap();
    storage.raise_boot().unwrap();
    earlier_outputs().iter().for_each(|output| storage.save(output).unwrap());
    disk.fail_after(1, Failure::InputOutput);
    assert!(matches!(storage.save(last), Err(StorageError::Disk(DiskFault { action: "sync", .. }))));
    disk
}

#[test]
fn a_batch_whose_sync_failed_is_on_stable_storage_before_a_later_start_counts_it() {
    // The kernel takes the pages of a failed sync for written: the next start can read them, and a sync of
    // that file succeeds, but they are on no disk.
    for (shape, last) in last_outputs() {
        let disk = disk_with_failed_sync(&last);
        goes_on_from(&disk, &Model::of(&with_last(&last)), shape);
    }
}

#[test]
fn a_batch_whose_sync_failed_is_there_or_not_wherever_the_next_start_is_cut_short() {
    for (shape, last) in last_outputs() {
        let (without, with) = (Model::of(&earlier_outputs()), Model::of(&with_last(&last)));
        for operation in 0.. {
            let killed = disk_with_failed_sync(&last);
            killed.fail_after(operation, Failure::InputOutput);
            let finished = open(&killed).is_ok();
            killed.disarm();
            goes_on_from(&killed, &with, &format!("{shape}, killed at operation {operation}"));
            for mut choose in choices() {
                let disk = disk_with_failed_sync(&last);
                disk.fail_after(operation, Failure::InputOutput);
                let counted = open(&disk).is_ok();
                disk.crash_keeping(&mut choose);
                let what = format!("{shape}, power cut at operation {operation}");
                // A copy, so that what is found is checked from its first start on.
                let found = Model::from(open(&copy(&disk)).unwrap().1);
                assert!(found == with || (found == without && !counted), "{what}: {found:?}");
                goes_on_from(&disk, &found, &what);
            }
            if finished {
                assert!(operation > 5, "a start begins a segment");
                break;
            }
        }
    }
}

#[test]
fn a_first_start_is_whole_or_never_happened() {
    let whole = MemoryDisk::new();
    open(&whole).unwrap();
    let cautious = Opening { first_start: FirstStart::Refused, ..opening() };
    let (mut empty, mut made) = (0, 0);
    for operation in 0..whole.operations() {
        for mut choose in choices() {
            let disk = MemoryDisk::new();
            disk.fail_after(operation, Failure::NoSpace);
            assert!(matches!(open(&disk), Err(StorageError::Disk(_))));
            disk.crash_keeping(&mut choose);
            match Storage::open(disk.clone(), &cautious) {
                Ok((storage, _)) => {
                    made += 1;
                    assert_eq!(storage.identity().incarnation, opening().incarnation);
                }
                Err(StorageError::Empty { .. }) => empty += 1,
                Err(error) => panic!("operation {operation}: {error}"),
            }
            // With or without leftovers, the next attempt gets through and makes a node that can run.
            let second = Opening { incarnation: Incarnation(7), ..opening() };
            let (mut storage, _) = Storage::open(disk.clone(), &second).unwrap();
            assert_eq!(storage.raise_boot().unwrap(), 1);
            drop(storage);
            goes_on_from(&disk, &Model::default(), &format!("operation {operation}"));
        }
    }
    assert!(empty > 0 && made > 0, "both outcomes were seen: {empty} empty, {made} made");
}
