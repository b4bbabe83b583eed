//! The storage in real folders: what a start refuses and how it says so, what the files look like to a
//! person, and the torn tail once more over a real file system. The exhaustive tests over a disk that fails
//! are beside the code, in `src/storage/tests`.

use raftkv::raft::{HardState, Output};
use raftkv::storage::{
    Disk, FileDisk, FirstStart, Identity, Opening, Recovered, RememberedPeer, SegmentSizes, SnapshotMeta,
    SnapshotWriter, Storage, StorageError,
};
use raftkv::types::{Command, Configuration, Entry, EntryId, Incarnation, Index, NodeId, Term};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const LOG: &str = "log-000001-from-0.jsonl";

fn opening() -> Opening {
    Opening {
        cluster: "demo".to_string(),
        node: NodeId(1),
        voters: vec![NodeId(3), NodeId(1), NodeId(2)],
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(0xabcd),
        segment_sizes: SegmentSizes::default(),
    }
}

/// With segments that are full after so many bytes.
fn small(limit_bytes: u64) -> Opening {
    Opening { segment_sizes: SegmentSizes { limit_bytes, fill_bytes: 0 }, ..opening() }
}

fn open(folder: &Path, opening: &Opening) -> Result<(Storage<FileDisk>, Recovered), StorageError> {
    Storage::open(FileDisk::open(folder)?, opening)
}

fn entries(term: u64, indexes: std::ops::Range<i64>) -> Vec<Entry> {
    indexes
        .map(|index| {
            let command =
                Command::from_json(format!("{{\"op\":\"set\", \"key\":\"ключ\",\"value\":{index}.50}}"))
                    .unwrap();
            Entry { term: Term(term), index: Index(index), request: None, command, configuration: None }
        })
        .collect()
}

fn save(term: u64, truncate_from: Option<i64>, entries: Vec<Entry>) -> Output {
    let hard_state = Some(HardState { term: Term(term), voted_for: None });
    Output { hard_state, truncate_from: truncate_from.map(Index), entries, ..Output::default() }
}

/// A node that has run: its folder with three batches in it.
fn node_that_ran(folder: &Path, opening: &Opening) {
    let (mut storage, _) = open(folder, opening).unwrap();
    storage.raise_boot().unwrap();
    storage.save(&save(1, None, entries(1, 0..3))).unwrap();
    storage.save(&save(2, Some(2), entries(2, 2..4))).unwrap();
    storage.save(&save(2, None, entries(2, 4..6))).unwrap();
}

/// The one line that refuses the start.
fn refusal(folder: &Path, opening: &Opening) -> String {
    let error = open(folder, opening).expect_err("the start is refused");
    assert!(!error.is_disk_fault(), "{error}");
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    assert!(line.contains(folder.to_str().unwrap()), "{line}");
    line
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_node_comes_back_with_what_it_saved() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data/node-1");
    node_that_ran(&folder, &opening());
    let (storage, recovered) =
        open(&folder, &Opening { first_start: FirstStart::Refused, ..opening() }).unwrap();
    assert_eq!(recovered.hard_state, HardState { term: Term(2), voted_for: None });
    assert_eq!(recovered.base, EntryId::NONE);
    assert_eq!(recovered.entries, [entries(1, 0..2), entries(2, 2..6)].concat());
    assert_eq!(recovered.torn, None);
    assert_eq!(storage.identity().voters, [NodeId(1), NodeId(2), NodeId(3)]);
}

#[test]
fn the_folder_and_its_files_are_for_their_owner_only() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data/node-1");
    node_that_ran(&folder, &opening());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for file in files(&folder) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_folder_is_opened_by_one_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let first = open(temp.path(), &opening()).unwrap();
    let line = refusal(temp.path(), &opening());
    assert!(line.contains("another process uses this data folder"), "{line}");
    drop(first);
    open(temp.path(), &opening()).unwrap();
}

#[test]
fn an_empty_folder_is_refused_without_bootstrap_and_stays_empty() {
    let temp = tempfile::tempdir().unwrap();
    let cautious = Opening { first_start: FirstStart::Refused, ..opening() };
    for _ in 0..2 {
        let line = refusal(temp.path(), &cautious);
        assert!(line.contains("NEW cluster needs --bootstrap"), "{line}");
        assert!(line.contains("lost its disk must not use --bootstrap"), "{line}");
        // What an interrupted first start leaves behind counts as nothing.
        fs::write(temp.path().join("identity.json.new"), "{\"crc\":\"12").unwrap();
    }
    open(temp.path(), &opening()).unwrap();
    assert_eq!(files(temp.path()).len(), 2, "the leftovers are gone");
}

#[test]
fn bootstrap_with_data_there_does_nothing() {
    let contents_after_start = |first_start, incarnation| {
        let temp = tempfile::tempdir().unwrap();
        node_that_ran(temp.path(), &opening());
        open(temp.path(), &Opening { first_start, incarnation, ..opening() }).unwrap();
        let contents = |file: &PathBuf| fs::read(file).unwrap();
        files(temp.path()).iter().map(contents).collect::<Vec<Vec<u8>>>()
    };
    let without = contents_after_start(FirstStart::Refused, Incarnation(0xabcd));
    assert_eq!(contents_after_start(FirstStart::Bootstrap, Incarnation(1)), without);
}

#[test]
fn a_start_after_nothing_was_saved_leaves_the_files_as_they_are() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let start = || {
        open(temp.path(), &opening()).unwrap();
        files(temp.path()).iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect::<Vec<_>>()
    };
    let first = start();
    assert_eq!(first.len(), 3, "the last batch is written anew, in a segment of its own");
    assert_eq!(start(), first);
    assert_eq!(start(), first);
}

#[test]
fn another_nodes_folder_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let other_cluster = Opening { cluster: "prod".to_string(), ..opening() };
    assert!(
        refusal(temp.path(), &other_cluster).contains("expected cluster \"prod\", found cluster \"demo\"")
    );
    let other_node = Opening { node: NodeId(2), ..opening() };
    assert!(refusal(temp.path(), &other_node).contains("expected the data of n2, found that of n1"));
    let other_voters = Opening { voters: vec![NodeId(1), NodeId(4)], ..opening() };
    assert!(refusal(temp.path(), &other_voters).contains("made of n1 n2 n3, but cluster.toml names n1 n4"));
}

#[test]
fn a_log_without_its_identity_is_refused_even_with_bootstrap() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    fs::remove_file(temp.path().join("identity.json")).unwrap();
    let line = refusal(temp.path(), &opening());
    assert!(line.contains("identity.json: this file is missing"), "{line}");
}

#[test]
fn an_identity_that_has_run_without_its_log_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    fs::remove_file(temp.path().join(LOG)).unwrap();
    let line = refusal(temp.path(), &opening());
    assert!(line.contains("log-000001-from-…: this file is missing"), "{line}");
}

#[test]
fn a_missing_segment_is_refused() {
    for missing in 0..2 {
        let temp = tempfile::tempdir().unwrap();
        node_that_ran(temp.path(), &small(1));
        let segments: Vec<PathBuf> = files(temp.path()).into_iter().skip(1).collect();
        assert_eq!(segments.len(), 4, "each save begins a segment: {segments:?}");
        fs::remove_file(&segments[missing]).unwrap();
        let line = refusal(temp.path(), &opening());
        assert!(line.contains(&format!("log-00000{}-from-", missing + 1)), "{line}");
        assert!(line.contains("this file is missing"), "{line}");
    }
}

#[test]
fn a_missing_newest_segment_is_refused() {
    for missing in 1..=2 {
        let temp = tempfile::tempdir().unwrap();
        let small = small(1);
        node_that_ran(temp.path(), &small);
        // Segments that were begun after the last start are more than it remembers.
        let (mut storage, _) = open(temp.path(), &small).unwrap();
        storage.raise_boot().unwrap();
        drop(storage);
        let segments: Vec<PathBuf> = files(temp.path()).into_iter().skip(1).collect();
        assert_eq!(segments.len(), 5, "four of the first start, one of the second: {segments:?}");
        for segment in &segments[5 - missing..] {
            fs::remove_file(segment).unwrap();
        }
        let line = refusal(temp.path(), &opening());
        assert!(line.contains(&format!("log-00000{}-from-…: this file is missing", 6 - missing)), "{line}");
    }
}

#[test]
fn the_log_of_an_earlier_life_is_refused() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    node_that_ran(old.path(), &opening());
    open(new.path(), &Opening { incarnation: Incarnation(2), ..opening() }).unwrap();
    fs::copy(old.path().join(LOG), new.path().join(LOG)).unwrap();
    let line = refusal(new.path(), &opening());
    assert!(line.contains("incarnation 0000000000000002, found that of n1"), "{line}");
}

#[test]
fn a_format_of_another_version_is_refused_as_such() {
    let temp = tempfile::tempdir().unwrap();
    open(temp.path(), &opening()).unwrap();
    let path = temp.path().join("identity.json");
    let rest = ",\"format\":2,\"more\":true}\n";
    fs::write(&path, format!("{{\"crc\":\"{:08x}\"{rest}", crc32fast::hash(rest.as_bytes()))).unwrap();
    let line = refusal(temp.path(), &opening());
    assert!(line.contains("expected format 1, found format 2"), "{line}");
}

#[test]
fn a_damaged_line_is_refused_with_file_line_and_remedy() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let path = temp.path().join(LOG);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("\"value\":1.50", "\"value\":9.50", 1)).unwrap();
    let line = refusal(temp.path(), &opening());
    // The header, the hard state, entry 0, entry 1.
    assert!(line.contains(&format!("{LOG}, line 4: damaged: expected checksum")), "{line}");
    assert!(
        line.contains("restore this node's folder") && line.contains("do not edit or delete lines"),
        "{line}"
    );
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (temp.path().join("node-1"), temp.path().join("elsewhere"));
    node_that_ran(&folder, &opening());
    for name in [LOG, "identity.json"] {
        fs::rename(folder.join(name), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.join(name)).unwrap();
        let error = open(&folder, &opening()).unwrap_err();
        assert!(error.to_string().contains("it is not a regular file"), "{error}");
        fs::remove_file(folder.join(name)).unwrap();
        fs::rename(&elsewhere, folder.join(name)).unwrap();
    }
    open(&folder, &opening()).unwrap();
}

#[test]
fn the_start_counter_rises_with_each_start() {
    let temp = tempfile::tempdir().unwrap();
    for boot in 1..4 {
        let (mut storage, _) = open(temp.path(), &opening()).unwrap();
        assert_eq!(storage.raise_boot().unwrap(), boot);
    }
}

#[test]
fn a_peer_that_lost_its_data_is_noticed_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(temp.path(), &opening()).unwrap();
    assert_eq!(storage.remember_peer(NodeId(2), Incarnation(5)).unwrap(), RememberedPeer::Remembered);
    drop(storage);
    let (mut storage, _) = open(temp.path(), &opening()).unwrap();
    assert_eq!(storage.remember_peer(NodeId(2), Incarnation(5)).unwrap(), RememberedPeer::Known);
    let different = RememberedPeer::Different { remembered: Incarnation(5) };
    assert_eq!(storage.remember_peer(NodeId(2), Incarnation(6)).unwrap(), different);
    assert_eq!(storage.remember_peer(NodeId(2), Incarnation(5)).unwrap(), RememberedPeer::Known);
}

/// Whoever has left the cluster may be taken in again later with an empty disk.
#[test]
fn a_peer_that_has_left_is_forgotten_also_after_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(temp.path(), &opening()).unwrap();
    for peer in [2, 3] {
        storage.remember_peer(NodeId(peer), Incarnation(5)).unwrap();
    }
    storage.forget_peers(|peer| peer == NodeId(2)).unwrap();
    drop(storage);
    let (mut storage, _) = open(temp.path(), &opening()).unwrap();
    assert_eq!(storage.remember_peer(NodeId(2), Incarnation(6)).unwrap(), RememberedPeer::Remembered);
    assert_eq!(storage.remember_peer(NodeId(3), Incarnation(5)).unwrap(), RememberedPeer::Known);
}

#[test]
fn every_line_is_json_with_its_checksum_first() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &small(700));
    let mut batches = Vec::new();
    for path in files(temp.path()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.ends_with('\n'));
        for line in text.split_inclusive('\n') {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let crc = format!("{:08x}", crc32fast::hash(&line.as_bytes()[17..]));
            assert!(line.starts_with(&format!("{{\"crc\":\"{crc}\"")), "{line}");
            if let Some(batch) = value.get("batch") {
                assert_eq!(value["len"], line.len());
                batches.push((batch.as_u64().unwrap(), value["left"].as_u64().unwrap()));
            }
        }
    }
    let of_batch = |number: u64, records: u64| (0..records).rev().map(move |left| (number, left));
    // A header, two saves, the second segment's header, the last save.
    let expected: Vec<(u64, u64)> = [(1, 1), (2, 4), (3, 4), (4, 1), (5, 3)]
        .into_iter()
        .flat_map(|(batch, records)| of_batch(batch, records))
        .collect();
    assert_eq!(batches, expected);
    // The command's text is what the client sent, to the byte.
    assert!(
        fs::read_to_string(temp.path().join(LOG))
            .unwrap()
            .contains("{\"op\":\"set\", \"key\":\"ключ\",\"value\":0.50}")
    );
}

#[test]
fn the_identity_shows_who_this_is() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let text = fs::read_to_string(temp.path().join("identity.json")).unwrap();
    let expected = concat!(
        r#""format":1,"cluster":"demo","node":1,"boot":1,"newest_segment":1,"#,
        r#""incarnation":"000000000000abcd","voters":[1,2,3],"peers":{}}"#,
        "\n"
    );
    assert!(text.ends_with(expected), "{text}");
    let (storage, _) = open(temp.path(), &opening()).unwrap();
    let identity: &Identity = storage.identity();
    assert_eq!((identity.boot, identity.incarnation), (1, Incarnation(0xabcd)));
}

#[test]
fn a_torn_tail_is_cut_by_a_new_segment_and_never_comes_back() {
    let temp = tempfile::tempdir().unwrap();
    let origin = temp.path().join("origin");
    node_that_ran(&origin, &opening());
    let file = fs::read(origin.join(LOG)).unwrap();
    let lines: Vec<&[u8]> = file.split_inclusive(|&byte| byte == b'\n').collect();
    let last_batch_at = lines[..lines.len() - 3].concat().len();
    for cut in (last_batch_at + 1..file.len()).step_by(11) {
        let folder = temp.path().join(format!("cut-{cut}"));
        fs::create_dir(&folder).unwrap();
        fs::copy(origin.join("identity.json"), folder.join("identity.json")).unwrap();
        fs::write(folder.join(LOG), &file[..cut]).unwrap();
        let (mut storage, recovered) = open(&folder, &opening()).unwrap();
        let kept = [entries(1, 0..2), entries(2, 2..4)].concat();
        assert_eq!(recovered.entries, kept, "cut at {cut}");
        let torn = recovered.torn.expect("the log says that something was cut");
        assert!(torn.contains(&format!("{LOG}, line {}:", lines.len() - 2)), "{torn}");
        storage.save(&save(3, None, entries(3, 4..5))).unwrap();
        drop(storage);
        let (_, recovered) = open(&folder, &opening()).unwrap();
        assert_eq!(recovered.entries, [kept, entries(3, 4..5)].concat(), "cut at {cut}");
        assert_eq!(recovered.torn, None);
        assert_eq!(fs::read(folder.join(LOG)).unwrap(), file[..cut], "what was written stays as it is");
        // Named for the index before the last whole batch, which it begins with.
        assert!(folder.join("log-000002-from-3.jsonl").exists());
    }
}

#[test]
#[should_panic(expected = "save: entry 7@2 where 6 comes next")]
fn a_save_that_does_not_fit_the_log_is_a_broken_invariant() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let (mut storage, _) = open(temp.path(), &opening()).unwrap();
    let _ = storage.save(&save(2, None, entries(2, 7..8)));
}

/// Writes a snapshot on a thread of its own, through this handle.
fn write_snapshot(disk: FileDisk, last: EntryId, content: Vec<String>) {
    let meta = SnapshotMeta { last, applied_hash: 7, configuration: Configuration::default() };
    let write = move || {
        let mut writer = SnapshotWriter::begin(disk, "demo", &meta, content.len())?;
        content.iter().try_for_each(|line| writer.write(line))?;
        writer.finish()
    };
    std::thread::spawn(write).join().expect("it does not panic").expect("a sound disk");
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_in_a_real_folder() {
    let temp = tempfile::tempdir().unwrap();
    node_that_ran(temp.path(), &opening());
    let disk = FileDisk::open(temp.path()).unwrap();
    let writers_disk = disk.another_handle().unwrap();
    let (mut storage, recovered) = Storage::open(disk, &opening()).unwrap();
    let last = recovered.entries[3].id();
    storage.begin_whole_segment(last, &recovered.entries[4..]).unwrap();
    let content: Vec<String> = (0..5000).map(|number| format!("{{\"key\":\"ключ {number}\"}}")).collect();
    write_snapshot(writers_disk, last, content.clone());
    storage.save(&save(3, None, entries(3, 6..7))).unwrap();
    storage.compact(last).unwrap();
    let names: Vec<PathBuf> = files(temp.path());
    let expected = ["identity.json", "log-000003-from-4.jsonl", "snapshot-3-2.jsonl"];
    assert_eq!(names, expected.map(|name| temp.path().join(name)));
    for name in names {
        assert_eq!(fs::metadata(&name).unwrap().permissions().mode() & 0o777, 0o600, "{}", name.display());
    }

    // Sent in chunks, it is the same file elsewhere.
    let other = tempfile::tempdir().unwrap();
    let joining = Opening { node: NodeId(4), first_start: FirstStart::Join, ..opening() };
    let (mut receiving, _) = open(other.path(), &joining).unwrap();
    receiving.save(&save(3, None, vec![])).unwrap();
    let mut offset = 0;
    while let Some(chunk) = storage.read_chunk(last, offset, 10_000).unwrap() {
        assert!(chunk.size_bytes() <= 10_000);
        offset = receiving.receive_chunk(last, offset, &chunk.lines).unwrap();
    }
    let meta = receiving.finish_receiving(last).unwrap().expect("it is sound");
    receiving.restart_log(last, &[]).unwrap();
    let read = |folder: &Path| fs::read(folder.join("snapshot-3-2.jsonl")).unwrap();
    assert!(read(other.path()) == read(temp.path()));

    // Both come back with it, and a reader reads on when its file is gone from the folder.
    drop((storage, receiving));
    for (folder, opening) in [(temp.path(), opening()), (other.path(), joining)] {
        let (mut storage, recovered) = open(folder, &opening).unwrap();
        assert_eq!((recovered.snapshot.as_ref(), recovered.base), (Some(&meta), last));
        let reader = storage.open_snapshot(last).unwrap().expect("it is the newest one");
        fs::remove_file(folder.join("snapshot-3-2.jsonl")).unwrap();
        let lines: Vec<String> = reader.map(|line| line.unwrap()).collect();
        assert!(lines == content);
    }
}

#[test]
fn a_snapshots_lines_are_json_with_their_checksum_first() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(temp.path()).unwrap();
    let content = vec!["{\"key\":\"ключ\",\"value\":1.50}".to_string()];
    write_snapshot(disk.another_handle().unwrap(), EntryId::new(Term(2), Index(3)), content);
    let text = fs::read_to_string(temp.path().join("snapshot-3-2.jsonl")).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
        let crc = format!("{:08x}", crc32fast::hash(&line.as_bytes()[17..]));
        assert!(line.starts_with(&format!("{{\"crc\":\"{crc}\",")), "{line}");
    }
    let checksum = xxhash_rust::xxh3::xxh3_64([lines[0], lines[1]].concat().as_bytes());
    assert!(lines[2].contains(&format!("\"checksum\":\"{checksum:016x}\"")), "{}", lines[2]);
}

#[test]
fn the_folder_stays_locked_until_the_last_handle_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FileDisk::open(temp.path()).unwrap();
    let handle = disk.another_handle().unwrap();
    drop(disk);
    assert!(matches!(FileDisk::open(temp.path()), Err(StorageError::Locked { .. })));
    drop(handle);
    FileDisk::open(temp.path()).unwrap();
}
