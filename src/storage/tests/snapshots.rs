//! Snapshots of the node itself: what compaction leaves, and every flaw for which a start is refused.

use super::*;

const SNAPSHOT: &str = "snapshot-2-1.jsonl";

/// A node with a log of three batches, some of which a snapshot up to entry 2 covers; compacted or not.
fn node_with_snapshot(compacted: bool) -> (MemoryDisk, Storage<MemoryDisk>) {
    let disk = disk_with(&earlier_outputs());
    let (mut storage, recovered) = open(&disk).unwrap();
    storage.raise_boot().unwrap();
    storage.begin_whole_segment(id(1, 2), &recovered.entries[3..]).unwrap();
    write_snapshot(&disk, "demo", id(1, 2), &content(id(1, 2)));
    if compacted {
        storage.compact(id(1, 2)).unwrap();
    }
    (disk, storage)
}

fn expected_model() -> Model {
    let mut model = Model::of(&earlier_outputs());
    model.begin_after(id(1, 2));
    model
}

/// The line that refuses the start.
fn refusal(disk: &MemoryDisk) -> String {
    let before = disk.list().unwrap();
    let error = open(disk).expect_err("the start is refused");
    assert!(!error.is_disk_fault(), "{error}");
    assert_eq!(disk.list().unwrap(), before, "a start that is refused changes nothing");
    error.to_string()
}

/// A snapshot's file with these lines, each with its right checksum.
fn file_of(objects: &[String]) -> Vec<u8> {
    objects.iter().flat_map(|object| record::write_checked_object(object.as_bytes())).collect()
}

/// The objects of a sound snapshot.
fn objects() -> Vec<String> {
    let (disk, _) = node_with_snapshot(true);
    let file = disk.read(SNAPSHOT).unwrap();
    let object = |line: &[u8]| String::from_utf8(record::read_checked_object(line).unwrap()).unwrap();
    file.split_inclusive(|byte| *byte == b'\n').map(|line| object(line).trim_end().to_string()).collect()
}

#[test]
fn a_snapshot_is_lines_that_a_person_can_read() {
    let (disk, _) = node_with_snapshot(true);
    let text = String::from_utf8(disk.read(SNAPSHOT).unwrap()).unwrap();
    let expected = concat!(
        r#"{"crc":"83fdf9b7","snapshot":{"format":1,"cluster":"demo","last":{"term":1,"index":2},"#,
        r#""applied_hash":"0000000012340002","configuration":{"voters":[1,2,3]},"lines":2}}"#,
        "\n",
        r#"{"crc":"3f746e2d","key":"k0","value":"2@1"}"#,
        "\n",
        r#"{"crc":"d026d8cc","key":"k1","value":"2@1"}"#,
        "\n",
        r#"{"crc":"2d7b3217","end":{"lines":2,"checksum":"1fa661e9f357aaf8"}}"#,
        "\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn a_node_comes_back_with_its_snapshot_and_the_log_after_it() {
    for compacted in [true, false] {
        let (disk, storage) = node_with_snapshot(compacted);
        drop(storage);
        let (mut storage, recovered) = open(&disk).unwrap();
        assert_eq!(recovered.snapshot, Some(meta(id(1, 2))));
        assert_eq!((recovered.base, &recovered.entries[..]), (id(1, 2), &entries(1, 3..4, 300)[..]));
        assert_eq!(read_snapshot(&mut storage, id(1, 2)), content(id(1, 2)));
        drop(storage);
        let names = ["identity.json", "log-000003-from-3.jsonl", SNAPSHOT];
        assert_eq!(disk.list().unwrap(), names, "compacted: {compacted}");
        goes_on_from(&disk, &expected_model(), "with a snapshot");
    }
}

#[test]
fn the_header_of_a_segment_says_that_it_is_whole() {
    let (disk, _) = node_with_snapshot(true);
    let text = String::from_utf8(disk.read("log-000003-from-3.jsonl").unwrap()).unwrap();
    assert!(text.contains(r#""base":{"term":1,"index":2},"whole":true,"hard_state""#), "{text}");
    // The log that was there before is written as it always was.
    let text = String::from_utf8(disk_with(&[]).read(LOG).unwrap()).unwrap();
    assert!(text.contains(r#""base":{"term":0,"index":-1},"hard_state""#), "{text}");
}

#[test]
fn a_snapshot_that_was_begun_and_not_finished_is_as_if_it_had_not_been() {
    let disk = disk_with(&earlier_outputs());
    let (mut storage, recovered) = open(&disk).unwrap();
    storage.begin_whole_segment(id(1, 2), &recovered.entries[3..]).unwrap();
    let mut writer = SnapshotWriter::begin(disk.clone(), "demo", &meta(id(1, 2)), 9).unwrap();
    writer.write("{\"key\":\"k\"}").unwrap();
    drop((writer, storage));
    let draft = format!("{SNAPSHOT}.new");
    assert!(disk.list().unwrap().contains(&draft));
    goes_on_from(&disk, &Model::of(&earlier_outputs()), "no snapshot");
    assert!(!disk.list().unwrap().contains(&draft));
}

#[test]
fn a_snapshot_may_cover_less_than_one_that_was_begun_and_not_finished() {
    // Found by random lives: a node applies its log anew after a start, and may begin a snapshot before it
    // has come to where it was when it began the last one. It was taken for a broken invariant.
    let disk = disk_with(&earlier_outputs());
    let (mut storage, recovered) = open(&disk).unwrap();
    storage.begin_whole_segment(id(1, 2), &recovered.entries[3..]).unwrap();
    drop(storage);
    let (mut storage, recovered) = open(&disk).unwrap();
    storage.begin_whole_segment(id(1, 1), &recovered.entries[2..]).unwrap();
    write_snapshot(&disk, "demo", id(1, 1), &content(id(1, 1)));
    let uncompacted = copy(&disk);
    storage.compact(id(1, 1)).unwrap();
    assert_eq!(disk.list().unwrap(), ["identity.json", "log-000004-from-2.jsonl", "snapshot-1-1.jsonl"]);
    drop(storage);
    let mut model = Model::of(&earlier_outputs());
    model.begin_after(id(1, 1));
    goes_on_from(&disk, &model, "compacted");
    goes_on_from(&uncompacted, &model, "uncompacted");
}

#[test]
fn a_later_snapshot_takes_the_place_of_an_earlier_one_and_of_the_log_before_it() {
    let (disk, mut storage) = node_with_snapshot(true);
    let mut model = expected_model();
    for round in 0..20 {
        let next = model.base.index.0 + 1 + model.entries.len() as i64;
        let more = output(None, None, entries(2, next..next + 5, 200));
        storage.save(&more).unwrap();
        model.save(&more);
        let last = model.entries[model.entries.len() - 2].id();
        let bytes = storage.log_bytes();
        storage.begin_whole_segment(last, &model.entries[model.entries.len() - 1..]).unwrap();
        assert!(storage.log_bytes() < bytes, "it counts from the segment that is whole on");
        write_snapshot(&disk, "demo", last, &content(last));
        storage.compact(last).unwrap();
        model.begin_after(last);
        assert_eq!(disk.list().unwrap().len(), 3, "round {round}: {:?}", disk.list());
        assert_eq!(read_snapshot(&mut storage, last), content(last));
        assert!(storage.open_snapshot(id(1, 2)).unwrap().is_none(), "another has taken its place");
    }
    drop(storage);
    goes_on_from(&disk, &model, "after many snapshots");
}

#[test]
fn segments_that_fill_up_after_a_snapshot_belong_to_it() {
    let disk = MemoryDisk::new();
    let small = opening_with(SegmentSizes { limit_bytes: 600, fill_bytes: 0 });
    let (mut storage, _) = Storage::open(disk.clone(), &small).unwrap();
    earlier_outputs().iter().for_each(|output| storage.save(output).unwrap());
    storage.begin_whole_segment(id(1, 2), &entries(1, 3..4, 300)).unwrap();
    let mut model = Model::of(&earlier_outputs());
    for index in 4..8 {
        let more = output(None, None, entries(2, index..index + 1, 700));
        storage.save(&more).unwrap();
        model.save(&more);
    }
    let sizes = |disk: &MemoryDisk| -> u64 {
        let names = disk.list().unwrap();
        let logs = names.iter().filter(|name| name.starts_with("log-"));
        logs.map(|name| disk.read(name).unwrap().len() as u64).sum()
    };
    let (all, counted) = (sizes(&disk), storage.log_bytes());
    // Without the snapshot a start reads all there is, and with it, what was counted.
    let (without, recovered) = Storage::open(copy(&disk), &small).unwrap();
    assert_eq!(Model::from(recovered), model);
    assert!(without.log_bytes() >= all, "{} of {all}", without.log_bytes());
    write_snapshot(&disk, "demo", id(1, 2), &content(id(1, 2)));
    storage.compact(id(1, 2)).unwrap();
    assert_eq!((sizes(&disk), storage.log_bytes()), (counted, counted));
    model.begin_after(id(1, 2));
    drop(storage);
    goes_on_from(&disk, &model, "many segments");
}

#[test]
fn a_flipped_bit_anywhere_in_a_snapshot_is_refused_with_its_line() {
    let (disk, _) = node_with_snapshot(true);
    let file = disk.read(SNAPSHOT).unwrap();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        disk.overwrite(SNAPSHOT, flipped);
        let line = 1 + file[..bit / 8].iter().filter(|byte| **byte == b'\n').count();
        let message = refusal(&disk);
        let place = format!("memory/{SNAPSHOT}, line {line}: damaged: expected ");
        assert!(message.starts_with(&place), "bit {bit}: {message}");
    }
}

#[test]
fn a_snapshot_cut_at_any_byte_or_with_more_behind_it_is_refused() {
    let (disk, _) = node_with_snapshot(true);
    let file = disk.read(SNAPSHOT).unwrap();
    for end in 0..file.len() {
        disk.overwrite(SNAPSHOT, file[..end].to_vec());
        assert!(refusal(&disk).contains(&format!("{SNAPSHOT}, line ")), "cut at {end}");
    }
    let without_end =
        file[..file[..file.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1].to_vec();
    disk.overwrite(SNAPSHOT, without_end);
    assert!(
        refusal(&disk)
            .contains("line 4: damaged: expected the end of the snapshot, found the end of the file")
    );
    disk.overwrite(SNAPSHOT, [&file[..], &file[..]].concat());
    assert!(refusal(&disk).contains("line 5: damaged: expected nothing after the end of the snapshot"));
}

#[test]
fn a_snapshot_whose_lines_are_sound_and_do_not_belong_together_is_refused() {
    let (disk, _) = node_with_snapshot(true);
    let objects = objects();
    let refused = |objects: &[String], expected: &str| {
        disk.overwrite(SNAPSHOT, file_of(objects));
        let message = refusal(&disk);
        assert!(message.contains(expected), "{message}, expected {expected}");
    };
    let changed = |from: &str, to: &str| {
        let changed: Vec<String> = objects.iter().map(|object| object.replacen(from, to, 1)).collect();
        assert_ne!(changed, objects, "{from}");
        changed
    };
    let missing = [&objects[..1], &objects[2..]].concat();
    refused(&missing, "line 4: damaged: expected the end of the snapshot, found the end of the file");
    let twice = [&objects[..2], &objects[1..]].concat();
    refused(&twice, "line 4: damaged: expected the end after 2 lines: ");
    let exchanged = [&objects[..1], &objects[2..3], &objects[1..2], &objects[3..]].concat();
    refused(&exchanged, "line 4: damaged: expected checksum ");
    refused(&changed("\"value\":\"2@1\"", "\"value\":9"), "line 4: damaged: expected checksum ");
    refused(
        &changed("{\"end\":{\"lines\":2", "{\"end\":{\"lines\":3"),
        "line 4: damaged: expected an end of 2 lines, found one of 3",
    );
    refused(&changed("\"lines\":2}}", "\"lines\":1}}"), "line 3: damaged: expected the end after 1 lines: ");
    refused(
        &changed("\"cluster\":\"demo\"", "\"cluster\":\"prod\""),
        "expected cluster \"demo\", found cluster \"prod\"",
    );
    refused(&changed("\"format\":1", "\"format\":2"), "expected format 1, found format 2");
    refused(
        &changed("\"index\":2", "\"index\":3"),
        "line 1: damaged: expected a snapshot up to 2@1, found one up to 3@1",
    );
    refused(&changed("\"snapshot\"", "\"recipe\""), "line 1: damaged: expected a snapshot's first line: ");
    disk.overwrite(SNAPSHOT, file_of(&objects));
    open(&disk).unwrap();
}

#[test]
fn a_log_that_begins_after_what_the_snapshots_cover_is_refused() {
    let (disk, _) = node_with_snapshot(true);
    disk.remove_durably(SNAPSHOT);
    let message = refusal(&disk);
    let because = "the log begins after 2@1, as the header of log-000003-from-3.jsonl says";
    assert!(message.contains(&format!("{SNAPSHOT}: this file is missing, because {because}")), "{message}");
    // An older one is no substitute.
    write_snapshot(&disk, "demo", id(1, 1), &content(id(1, 1)));
    let message = refusal(&disk);
    assert!(message.contains(&format!("{SNAPSHOT}: this file is missing")), "{message}");
    // As long as the older log is there, nothing is missing.
    let (disk, _) = node_with_snapshot(false);
    disk.remove_durably(SNAPSHOT);
    goes_on_from(&disk, &Model::of(&earlier_outputs()), "the whole log");
}

#[test]
fn a_snapshot_that_cannot_be_of_this_log_is_refused() {
    // Nothing that this node knows of is of so late a term.
    let disk = disk_with(&earlier_outputs());
    write_snapshot(&disk, "demo", id(9, 2), &content(id(9, 2)));
    let message = refusal(&disk);
    assert!(
        message.contains("expected a snapshot up to a term of at most 2, which is the log's"),
        "{message}"
    );
    // What the log has settled is another entry.
    let (disk, _) = node_with_snapshot(true);
    write_snapshot(&disk, "demo", id(2, 2), &content(id(2, 2)));
    let message = refusal(&disk);
    assert!(
        message.contains("snapshot-2-2.jsonl, line 1: damaged: expected a snapshot up to an entry"),
        "{message}"
    );
}

#[test]
fn a_snapshot_alone_is_refused() {
    let (disk, _) = node_with_snapshot(true);
    disk.remove_durably("log-000003-from-3.jsonl");
    let message = refusal(&disk);
    assert!(message.contains("log-000001-from-…: this file is missing"), "{message}");
    disk.remove_durably(IDENTITY_FILE);
    let message = refusal(&disk);
    assert!(
        message.contains(&format!("{IDENTITY_FILE}: this file is missing, because {SNAPSHOT} is there")),
        "{message}"
    );
}

#[test]
fn a_missing_segment_after_a_snapshot_is_refused() {
    let (disk, mut storage) = node_with_snapshot(true);
    storage.raise_boot().unwrap();
    drop(storage);
    disk.remove_durably("log-000003-from-3.jsonl");
    let message = refusal(&disk);
    assert!(message.contains("log-000001-from-…: this file is missing"), "{message}");
}

#[test]
fn what_nobody_needs_is_not_looked_at_and_goes_with_the_next_start() {
    let (disk, _) = node_with_snapshot(false);
    // An older segment and an older snapshot that are no good any more.
    disk.overwrite("log-000002-from-1.jsonl", b"nothing".to_vec());
    disk.overwrite("snapshot-0-1.jsonl", b"nothing".to_vec());
    disk.overwrite("snapshot-9-9.jsonl.part", b"nothing".to_vec());
    disk.overwrite("snapshot-9-9.jsonl.new", b"nothing".to_vec());
    disk.overwrite("snapshot-of-mine.jsonl", b"somebody's".to_vec());
    goes_on_from(&disk, &expected_model(), "with leftovers");
    let names = disk.list().unwrap();
    let left: Vec<&String> = names.iter().filter(|name| name.starts_with("snapshot")).collect();
    assert_eq!(left, [SNAPSHOT, "snapshot-of-mine.jsonl"]);
    assert!(!names.contains(&"log-000001-from-0.jsonl".to_string()), "{names:?}");
}

#[test]
fn a_large_snapshot_is_written_and_synced_in_pieces_and_read_in_pieces_while_it_is_removed() {
    let disk = disk_with(&earlier_outputs());
    let (mut storage, recovered) = open(&disk).unwrap();
    storage.begin_whole_segment(id(1, 2), &recovered.entries[3..]).unwrap();
    // A line longer than a piece is among them.
    let lengths = (0..9000).map(|number| if number == 4500 { 700_000 } else { 1000 });
    let content: Vec<String> =
        lengths.map(|length| format!("{{\"value\":\"{}\"}}", "v".repeat(length))).collect();
    let before = disk.operations();
    let size_bytes = write_snapshot(&disk, "demo", id(1, 2), &content);
    assert_eq!(size_bytes, disk.read(SNAPSHOT).unwrap().len() as u64);
    let operations = disk.operations() - before;
    assert!((30..60).contains(&operations), "{operations} operations for {size_bytes} bytes");
    storage.compact(id(1, 2)).unwrap();
    let reader = storage.open_snapshot(id(1, 2)).unwrap().unwrap();
    let mut read = Vec::new();
    for line in reader {
        if read.len() == 10 {
            disk.remove_durably(SNAPSHOT);
        }
        read.push(line.unwrap());
    }
    assert!(read == content);
}

#[test]
fn a_snapshot_that_rots_while_the_node_runs_is_noticed_where_it_is_read() {
    let (disk, mut storage) = node_with_snapshot(true);
    disk.flip(SNAPSHOT, disk.read(SNAPSHOT).unwrap().len() - 30, 1);
    let lines: Vec<_> = storage.open_snapshot(id(1, 2)).unwrap().unwrap().collect();
    assert_eq!(lines.len(), 3);
    assert!(matches!(lines[2], Err(StorageError::Damaged { line: 4, .. })), "{lines:?}");
}

#[test]
#[should_panic(expected = "compact: snapshot-2-1.jsonl is not there")]
fn compaction_without_the_snapshot_is_a_broken_invariant() {
    let disk = disk_with(&earlier_outputs());
    let _ = open(&disk).unwrap().0.compact(id(1, 2));
}

#[test]
#[should_panic(expected = "a log that ends before 4 goes on to before 3")]
fn a_whole_segment_that_lacks_entries_is_a_broken_invariant() {
    let disk = disk_with(&earlier_outputs());
    let _ = open(&disk).unwrap().0.begin_whole_segment(id(1, 2), &[]);
}

#[test]
#[should_panic(expected = "save: truncation from 2 of a log 2@1 to before 4")]
fn a_truncation_of_what_a_snapshot_covers_is_a_broken_invariant() {
    let (_, mut storage) = node_with_snapshot(false);
    let _ = storage.save(&output(None, Some(2), vec![]));
}

#[test]
#[should_panic(expected = "a snapshot has the lines that it announces")]
fn a_snapshot_with_fewer_lines_than_announced_is_a_broken_invariant() {
    let _ = SnapshotWriter::begin(MemoryDisk::new(), "demo", &meta(id(1, 2)), 1).unwrap().finish();
}

#[test]
fn a_node_that_joins_or_lost_its_data_learns_who_votes_and_must_not_vote_until_it_is_told() {
    for (first_start, has_lost_data) in [(FirstStart::Join, false), (FirstStart::Rejoin, true)] {
        let disk = MemoryDisk::new();
        let opening = Opening { first_start, ..opening() };
        let (mut storage, recovered) = Storage::open(disk.clone(), &opening).unwrap();
        assert_eq!(Model::from(recovered), Model::default());
        assert_eq!(storage.identity().voters, []);
        assert!(!storage.may_vote());
        assert_eq!(storage.has_lost_data(), has_lost_data);
        storage.raise_boot().unwrap();
        drop(storage);
        // Later starts take the voters of `cluster.toml` as they are, and what is known to the disk stays.
        let voters = vec![NodeId(7)];
        let later = Opening { first_start: FirstStart::Bootstrap, voters, ..opening };
        let (mut storage, _) = Storage::open(disk.clone(), &later).unwrap();
        assert_eq!((storage.identity().boot, storage.may_vote()), (1, false));
        assert_eq!(storage.has_lost_data(), has_lost_data);
        storage.allow_vote().unwrap();
        assert!(storage.may_vote());
        drop(storage);
        disk.crash();
        let (mut storage, _) = Storage::open(disk.clone(), &later).unwrap();
        assert!(storage.may_vote());
        // What gave it the vote is not committed yet: should it be replaced, the node asks again.
        assert_eq!(storage.has_lost_data(), has_lost_data);

        // What a node of its number asked for in an earlier life is never taken for its own.
        assert_eq!(storage.request_boot(), None);
        let first = storage.begin_life(3).unwrap();
        assert!(first > 3 << 32 && first < 4 << 32, "{first}");
        assert_eq!(storage.request_boot(), Some(first));
        assert!(!storage.has_lost_data(), "what names it is committed");
        drop(storage);
        disk.crash();
        let (mut storage, _) = Storage::open(disk.clone(), &later).unwrap();
        assert_eq!(storage.raise_boot().unwrap(), first + 1);
        assert_eq!(storage.request_boot(), Some(first + 1));
    }
}
