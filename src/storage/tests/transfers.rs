//! Snapshots on their way to another node: chunks, what is refused of them, and the log that begins anew.

use super::*;

/// The node that sends: its snapshot up to this entry has this in it.
fn sender(last: EntryId, content: &[String]) -> (MemoryDisk, Storage<MemoryDisk>) {
    let disk = MemoryDisk::new();
    let (mut storage, _) = open(&disk).unwrap();
    let log = entries(last.term.0, 0..last.index.0 + 3, 10);
    storage.save(&output(Some(hard_state(last.term.0, None)), None, log.clone())).unwrap();
    storage.begin_whole_segment(last, &log[log.len() - 2..]).unwrap();
    write_snapshot(&disk, "demo", last, content);
    storage.compact(last).unwrap();
    (disk, storage)
}

/// The node that receives: with the log of the other tests, and the term of the sender.
fn receiver(outputs: &[Output]) -> (MemoryDisk, Storage<MemoryDisk>) {
    let disk = disk_with(outputs);
    let (storage, _) = open(&disk).unwrap();
    (disk, storage)
}

/// All chunks of a snapshot, with the byte that each begins at.
fn chunks(storage: &mut Storage<MemoryDisk>, snapshot: EntryId, max_bytes: usize) -> Vec<(u64, Chunk)> {
    let mut chunks = Vec::new();
    let mut offset = 0;
    while let Some(chunk) = storage.read_chunk(snapshot, offset, max_bytes).unwrap() {
        let size_bytes = chunk.size_bytes();
        chunks.push((offset, chunk));
        offset += size_bytes;
    }
    chunks
}

/// Everything arrives; the answer of the end.
fn transfer(
    storage: &mut Storage<MemoryDisk>,
    snapshot: EntryId,
    chunks: &[(u64, Chunk)],
) -> Result<SnapshotMeta, Unsound> {
    for (offset, chunk) in chunks {
        let so_far = storage.receive_chunk(snapshot, *offset, &chunk.lines).unwrap();
        assert_eq!(so_far, offset + chunk.size_bytes());
    }
    storage.finish_receiving(snapshot).unwrap()
}

#[test]
fn a_snapshot_goes_from_node_to_node_in_chunks_of_any_size() {
    let (last, content) = (id(2, 9), content(id(2, 9)));
    let (source, mut sending) = sender(last, &content);
    let file = source.read("snapshot-9-2.jsonl").unwrap();
    for max_bytes in (0..file.len() + 2).step_by(7) {
        let chunks = chunks(&mut sending, last, max_bytes);
        let lines: usize = chunks.iter().map(|(_, chunk)| chunk.lines.len()).sum();
        assert_eq!(lines, 4);
        for (position, (_, chunk)) in chunks.iter().enumerate() {
            assert!(
                chunk.lines.len() == 1 || chunk.size_bytes() <= max_bytes as u64,
                "{max_bytes}: {chunk:?}"
            );
            assert_eq!(chunk.is_last, position + 1 == chunks.len());
        }
        let (disk, mut receiving) = receiver(&earlier_outputs());
        assert_eq!(transfer(&mut receiving, last, &chunks), Ok(meta(last)));
        assert_eq!(disk.read("snapshot-9-2.jsonl").unwrap(), file);
        receiving.restart_log(last, &[]).unwrap();
        assert_eq!(read_snapshot(&mut receiving, last), content);
        drop(receiving);
        let mut model = Model::of(&earlier_outputs());
        model.begin_after(last);
        assert_eq!(model.entries, []);
        goes_on_from(&disk, &model, "received");
    }
}

#[test]
fn a_chunk_begins_where_a_line_does_and_otherwise_there_is_none() {
    let last = id(2, 9);
    let (source, mut sending) = sender(last, &content(last));
    let file = source.read("snapshot-9-2.jsonl").unwrap();
    for offset in 0..file.len() + 3 {
        let begins = offset < file.len() && (offset == 0 || file[offset - 1] == b'\n');
        let chunk = sending.read_chunk(last, offset as u64, 1).unwrap();
        assert_eq!(chunk.is_some(), begins, "byte {offset}");
    }
    assert_eq!(sending.read_chunk(last, u64::MAX, 1).unwrap(), None);
    assert_eq!(sending.read_chunk(id(2, 8), 0, 1).unwrap(), None, "no such snapshot");
}

#[test]
fn a_line_longer_than_any_piece_is_a_chunk_of_its_own() {
    let last = id(2, 9);
    let long = vec![format!("{{\"value\":\"{}\"}}", "v".repeat(1 << 20)), "{\"short\":1}".to_string()];
    let (_, mut sending) = sender(last, &long);
    let chunks = chunks(&mut sending, last, 1000);
    let lines: Vec<usize> = chunks.iter().map(|(_, chunk)| chunk.lines.len()).collect();
    assert_eq!(lines, [1, 1, 2]);
    let (_, mut receiving) = receiver(&earlier_outputs());
    assert!(transfer(&mut receiving, last, &chunks).is_ok());
    assert_eq!(read_snapshot(&mut receiving, last), long);
}

#[test]
fn a_snapshot_that_rots_is_not_sent() {
    let last = id(2, 9);
    let (source, mut sending) = sender(last, &content(last));
    let lines: Vec<u64> = chunks(&mut sending, last, 1).iter().map(|(offset, _)| *offset).collect();
    source.flip("snapshot-9-2.jsonl", lines[2] as usize + 30, 1);
    assert!(sending.read_chunk(last, lines[1], 1).unwrap().is_some());
    let error = sending.read_chunk(last, lines[1], 1000).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { line: 3, .. }), "{error}");
    assert!(matches!(sending.read_chunk(last, 0, 1), Err(StorageError::GivenUp)));
}

#[test]
fn a_chunk_that_does_not_begin_where_the_last_one_ended_changes_nothing() {
    let last = id(2, 9);
    let (source, mut sending) = sender(last, &content(last));
    let chunks = chunks(&mut sending, last, 1);
    let (disk, mut receiving) = receiver(&earlier_outputs());
    let mut receive = |place: usize| {
        let (offset, chunk) = &chunks[place];
        receiving.receive_chunk(last, *offset, &chunk.lines).unwrap()
    };
    assert_eq!(receive(1), 0, "nothing has begun");
    // Twice, too early, and once more from the beginning.
    let ends: Vec<u64> = chunks.iter().map(|(offset, chunk)| offset + chunk.size_bytes()).collect();
    let arrivals = [
        (0, 0),
        (1, 1),
        (1, 1),
        (3, 1),
        (0, 0),
        (2, 0),
        (1, 1),
        (2, 2),
        (0, 0),
        (1, 1),
        (2, 2),
        (3, 3),
        (3, 3),
    ];
    for (place, up_to) in arrivals {
        assert_eq!(receive(place), ends[up_to], "chunk {place}");
    }
    assert_eq!(receiving.receive_chunk(id(2, 8), 10, &chunks[1].1.lines).unwrap(), 0, "another snapshot");
    assert_eq!(receiving.finish_receiving(last).unwrap(), Ok(meta(last)));
    assert_eq!(disk.read("snapshot-9-2.jsonl").unwrap(), source.read("snapshot-9-2.jsonl").unwrap());
}

#[test]
fn what_is_no_sound_snapshot_of_this_cluster_is_dropped() {
    let last = id(2, 9);
    let (source, mut sending) = sender(last, &content(last));
    let sound = chunks(&mut sending, last, 1);
    write_snapshot(&source, "prod", id(2, 8), &content(last));
    source.overwrite("snapshot-9-2.jsonl", source.read("snapshot-8-2.jsonl").unwrap());
    let of_others = chunks(&mut sending, last, 1);
    let changed = |place: usize, text: &str| {
        let mut changed = sound.clone();
        changed[place].1.lines = vec![SnapshotLine::from_json(text.to_string()).unwrap()];
        changed
    };
    let text = sound[1].1.lines[0].text().replace("k0", "k9");
    let cases: Vec<(Vec<(u64, Chunk)>, &str)> = vec![
        (vec![], "nothing of it has come"),
        (sound[..3].to_vec(), "expected the end of the snapshot, found the end of the file"),
        (changed(1, &text), "expected checksum "),
        (changed(1, sound[2].1.lines[0].text()), "expected checksum "),
        (vec![(0, sound[1].1.clone())], "expected a snapshot's first line: "),
        (of_others, "expected a snapshot of cluster \"demo\", found one of cluster \"prod\""),
    ];
    for (chunks, expected) in cases {
        let (disk, mut receiving) = receiver(&earlier_outputs());
        let names = disk.list().unwrap();
        let unsound = transfer(&mut receiving, last, &chunks).unwrap_err();
        assert!(unsound.why.contains(expected), "{}, expected {expected}", unsound.why);
        assert_eq!(disk.list().unwrap(), names, "nothing is left of it");
        // The next attempt gets through.
        assert_eq!(transfer(&mut receiving, last, &sound), Ok(meta(last)));
    }
}

#[test]
fn a_line_with_a_newline_in_it_is_dropped() {
    // It would be two lines in the file, and the next start would be refused.
    let (_, mut receiving) = receiver(&earlier_outputs());
    let lines: Vec<SnapshotLine> = serde_json::from_str("[{\"crc\":\"00000000\",\n\"x\":1}]").unwrap();
    receiving.receive_chunk(id(2, 9), 0, &lines).unwrap();
    let unsound = receiving.finish_receiving(id(2, 9)).unwrap().unwrap_err();
    assert!(unsound.why.contains("a whole line"), "{}", unsound.why);
    assert!(SnapshotLine::from_json("{\n}".to_string()).is_err());
}

#[test]
fn a_snapshot_that_covers_no_more_than_the_newest_one_is_dropped() {
    let last = id(2, 9);
    let (_, mut sending) = sender(last, &content(last));
    let sound = chunks(&mut sending, last, 100);
    let (disk, mut receiving) = receiver(&earlier_outputs());
    transfer(&mut receiving, last, &sound).unwrap();
    receiving.restart_log(last, &[]).unwrap();
    let unsound = transfer(&mut receiving, last, &sound).unwrap_err();
    assert!(unsound.why.contains("a later entry than 9@2"), "{}", unsound.why);
    assert!(disk.list().unwrap().contains(&"snapshot-9-2.jsonl".to_string()));
}

#[test]
fn the_log_keeps_what_follows_a_snapshot_that_it_contains_and_nothing_else() {
    // The log of the receiver, 0 to 3 of term 1, contains the first of these, conflicts with the second, and
    // ends before the third.
    for (last, kept) in [(id(1, 2), 3..4), (id(2, 2), 0..0), (id(1, 7), 0..0)] {
        for restarted in [true, false] {
            let (_, mut sending) = sender(last, &content(last));
            let (disk, mut receiving) = receiver(&earlier_outputs());
            let chunks = chunks(&mut sending, last, 100);
            assert_eq!(transfer(&mut receiving, last, &chunks), Ok(meta(last)));
            let kept = entries(1, kept.clone(), 300);
            if restarted {
                receiving.restart_log(last, &kept).unwrap();
                assert_eq!(disk.list().unwrap().len(), 3, "{:?}", disk.list());
            }
            drop(receiving);
            let mut model = Model::of(&earlier_outputs());
            model.begin_after(last);
            assert_eq!(model.entries, kept);
            goes_on_from(&disk, &model, &format!("{last}, restarted: {restarted}"));
            // Without the restart, the log that contains it stays until the next snapshot.
            let from_zero = disk.list().unwrap().contains(&LOG.to_string());
            assert_eq!(from_zero, !restarted && !kept.is_empty(), "{:?}", disk.list());
        }
    }
}

#[test]
#[should_panic(expected = "the log begins after 9@2, with None")]
fn a_log_that_begins_after_a_snapshot_that_is_not_there_is_a_broken_invariant() {
    let _ = receiver(&earlier_outputs()).1.restart_log(id(2, 9), &[]);
}

#[test]
#[should_panic(expected = "a snapshot up to 9@3 in HardState { term: 2")]
fn a_snapshot_of_a_term_that_was_not_saved_is_a_broken_invariant() {
    let _ = receiver(&earlier_outputs()).1.finish_receiving(id(3, 9));
}
