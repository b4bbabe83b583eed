//! The power goes, or the disk fails, at each operation of a restore and of a recovery.

use super::folder::{content, entries, hard_state, id, meta, opening};
use raftkv::raft::Output;
use raftkv::storage::{
    Disk, Failure, FirstStart, MemoryDisk, Opening, Recovered, Storage, StorageError, restore,
};
use raftkv::tools::make_cluster_of_one;
use raftkv::types::{Founding, Member, NodeId};

/// What a power cut leaves: the least, the most, or something between that a number settles.
fn cut(disk: &MemoryDisk, way: usize) {
    let mut number = way;
    disk.crash_keeping(&mut |choices| match way {
        0 => 0,
        1 => choices - 1,
        _ => {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (number >> 33) % choices
        }
    });
}

fn copy(disk: &MemoryDisk) -> MemoryDisk {
    let copy = MemoryDisk::new();
    for name in disk.list().expect("names") {
        copy.overwrite(&name, disk.read(&name).expect("a file"));
    }
    copy
}

/// Does something with a copy of the disk, fails at each operation in turn, and cuts the power in several
/// ways.
fn at_every_operation(
    before: &MemoryDisk,
    act: impl Fn(&MemoryDisk) -> Result<(), StorageError>,
    mut judge: impl FnMut(&MemoryDisk, &str),
) {
    for operation in 0.. {
        for way in 0..8 {
            let disk = copy(before);
            disk.fail_after(operation, Failure::InputOutput);
            let outcome = act(&disk);
            if outcome.is_ok() {
                assert!(operation > 5, "it came to its end within {operation} operations");
                return;
            }
            cut(&disk, way);
            judge(&disk, &format!("operation {operation}, way {way}: {}", outcome.unwrap_err()));
        }
    }
}

fn restored(disk: &MemoryDisk) -> Result<(), StorageError> {
    let lines = content().into_iter().map(Ok);
    restore(disk.clone(), &opening(), &meta(id(2, 3)), content().len(), lines)
}

fn start(disk: &MemoryDisk) -> Result<(Storage<MemoryDisk>, Recovered), StorageError> {
    Storage::open(disk.clone(), &Opening { first_start: FirstStart::Refused, ..opening() })
}

#[test]
fn a_restore_that_is_cut_short_leaves_nothing_or_all_or_what_is_refused() {
    let (mut empty, mut whole, mut refused) = (0, 0, 0);
    at_every_operation(&MemoryDisk::new(), restored, |disk, what| match start(disk) {
        Ok((mut storage, recovered)) => {
            assert_eq!((recovered.base, recovered.entries.len()), (id(2, 3), 0), "{what}");
            assert_eq!(recovered.hard_state, hard_state(2, None), "{what}");
            let reader = storage.open_snapshot(id(2, 3)).expect("a disk").expect("it is there");
            let lines: Vec<String> = reader.map(|line| line.expect("a line")).collect();
            assert_eq!(lines, content(), "{what}");
            whole += 1;
        }
        Err(StorageError::Empty { .. }) => {
            restored(disk).unwrap_or_else(|error| panic!("{what}: again: {error}"));
            assert!(start(disk).is_ok(), "{what}");
            empty += 1;
        }
        Err(error @ StorageError::Missing { .. }) => {
            assert!(error.to_string().contains("empty the folder and restore again"), "{what}: {error}");
            let again = restored(disk).expect_err("it is not empty").to_string();
            assert!(again.contains("empty the folder and restore again"), "{what}: {again}");
            refused += 1;
        }
        Err(error) => panic!("{what}: {error}"),
    });
    assert!(empty > 0 && whole > 0 && refused > 0, "{empty} empty, {whole} whole, {refused} refused");
}

/// A node of three that has the entries 0 to 4 of term 2.
fn survivor() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut storage, _) = Storage::open(disk.clone(), &opening()).expect("a folder");
    storage.raise_boot().expect("a disk");
    let hard_state = Some(hard_state(2, Some(3)));
    storage.save(&Output { hard_state, entries: entries(2, 0..5), ..Output::default() }).expect("a disk");
    disk
}

fn recovered(disk: &MemoryDisk) -> Result<(), StorageError> {
    let (mut storage, recovered) = start(disk)?;
    let own = Member::at("h:1", "h:2");
    let made = make_cluster_of_one(&mut storage, disk.clone(), &recovered, own, Founding(7));
    made.map(drop).map_err(|_| StorageError::GivenUp)
}

#[test]
fn a_recovery_that_is_cut_short_is_there_as_a_whole_or_not_at_all() {
    let (mut before, mut after) = (0, 0);
    at_every_operation(&survivor(), recovered, |disk, what| {
        let (_, found) = start(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        match &found.snapshot {
            None => {
                // It may have begun the term already, which binds it to nobody else.
                let states = [hard_state(2, Some(3)), hard_state(3, Some(1))];
                assert!(states.contains(&found.hard_state), "{what}: {:?}", found.hard_state);
                assert_eq!(found.entries, entries(2, 0..5), "{what}");
                before += 1;
            }
            Some(meta) => {
                assert_eq!((meta.last, &found.entries[..]), (id(3, 5), &[][..]), "{what}");
                assert_eq!(meta.configuration.voters, [NodeId(1)].into(), "{what}");
                assert_eq!(found.hard_state, hard_state(3, Some(1)), "{what}");
                after += 1;
            }
        }
        recovered(disk).unwrap_or_else(|error| panic!("{what}: again: {error}"));
        let (mut storage, found) = start(disk).expect("a folder");
        assert_eq!(found.entries, [], "{what}: who joins must not learn of the old members");
        let meta = found.snapshot.expect("a snapshot");
        assert_eq!(meta.configuration.founding, Founding(7), "{what}");
        let reader = storage.open_snapshot(meta.last).expect("a disk").expect("it is there");
        let lines: Vec<String> = reader.map(|line| line.expect("a line")).collect();
        assert_eq!(lines, [r#"{"key":"k","value":4}"#], "{what}");
    });
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}
