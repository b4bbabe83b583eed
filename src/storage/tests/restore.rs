//! A folder that is made from a snapshot of elsewhere is a node's, and is made where nothing was.
//! (tests/tools/crashes.rs cuts it short.)

use super::*;

const LAST: EntryId = EntryId { term: Term(3), index: Index(41) };

fn restore_to(disk: &MemoryDisk) -> Result<(), StorageError> {
    let lines = content(LAST);
    restore(disk.clone(), &opening(), &meta(LAST), lines.len(), lines.into_iter().map(Ok))
}

/// What a start finds after it.
fn restored() -> Model {
    Model { hard_state: hard_state(3, None), base: LAST, entries: Vec::new() }
}

fn start(disk: &MemoryDisk) -> Result<(Storage<MemoryDisk>, Recovered), StorageError> {
    Storage::open(disk.clone(), &Opening { first_start: FirstStart::Refused, ..opening() })
}

#[test]
fn a_restored_folder_is_one_that_a_node_goes_on_from() {
    let disk = MemoryDisk::new();
    restore_to(&disk).unwrap();
    assert_eq!(disk.list().unwrap(), ["identity.json", "log-000001-from-42.jsonl", "snapshot-41-3.jsonl"]);
    let (mut storage, recovered) = start(&disk).unwrap();
    assert_eq!(recovered.snapshot, Some(meta(LAST)));
    assert_eq!(read_snapshot(&mut storage, LAST), content(LAST));
    assert!(storage.may_vote());
    drop(storage);
    goes_on_from(&disk, &restored(), "restored");
}

#[test]
fn a_folder_that_is_not_empty_is_not_touched() {
    for name in ["notes.txt", "snapshot-2-1.jsonl", "log-000001-from-0.jsonl", "identity.json"] {
        let disk = MemoryDisk::new();
        disk.overwrite(name, b"text".to_vec());
        let error = restore_to(&disk).unwrap_err();
        assert!(!error.is_disk_fault(), "{error}");
        assert!(error.to_string().contains(&format!("expected an empty folder, found {name}")), "{error}");
        assert_eq!(disk.list().unwrap(), [name]);
        assert_eq!(disk.read(name).unwrap(), b"text");
    }
}
