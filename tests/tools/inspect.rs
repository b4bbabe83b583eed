//! `inspect`: all that it says is true, nothing damaged escapes it, and it leaves no trace.

use super::folder::{Folder, entries, hard_state, save};
use super::support::{Plan, Process, free_ports, wait_until};
use super::{IN_USE, Said, tool, tool_once};
use serde_json::{Value, json};
use std::fs;

fn inspect(folder: &Folder) -> Said {
    tool(&["inspect", &folder.text()])
}

#[test]
fn inspect_tells_what_a_node_has_and_changes_nothing() {
    let folder = Folder::of_two_snapshots();
    for draft in ["log-000004-from-10.jsonl.new", "snapshot-9-3.jsonl.part", "identity.json.new"] {
        folder.write(draft, b"half a li");
    }
    folder.write("notes.txt", b"of somebody");
    let before = folder.files();
    let said = inspect(&folder);
    said.says(
        0,
        &[
            "n1 of cluster \"test\", incarnation 0000000000000011, start counter 2",
            "made       in a cluster of n1 n2 n3",
            "peers      n2 of incarnation 0000000000000022",
            "term       3, voted for n2",
            "snapshot   up to 6@3, applied_hash 0000000000000abc; voters n1 n2 n3; 2 keys, 3 sessions",
            "log        3 entries, 7 to 9; last 9@3",
            "members    voters n1 n2 n3\n",
            "every checksum of every file is right",
        ],
    );
    assert_eq!(said.err, "");
    let role = |name: &str, role: &str| {
        let line = said.out.lines().find(|line| line.contains(&format!("{name} "))).expect(name);
        assert!(line.ends_with(role), "{line}");
    };
    role("log-000001-from-0.jsonl", "not needed any more");
    role("log-000002-from-4.jsonl", "not needed any more");
    role("log-000003-from-7.jsonl", "log");
    role("snapshot-3-2.jsonl", "not needed any more");
    role("snapshot-6-3.jsonl", "snapshot");
    role("log-000004-from-10.jsonl.new", "does not count");
    role("notes.txt", "not of raftkv");
    let said = tool(&["inspect", "--json", &folder.text()]);
    let summary: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(summary["hard_state"], json!({ "term": 3, "voted_for": 2 }));
    assert_eq!(summary["snapshot"]["content"], json!({ "keys": 2, "sessions": 3 }));
    assert_eq!(summary["log"]["last"], json!({ "term": 3, "index": 9 }));
    assert_eq!(summary["damage"], json!([]));
    assert_eq!(folder.files(), before, "what was looked at has changed");
}

#[test]
fn the_folder_above_will_do_when_it_has_one_node() {
    let folder = Folder::of_two_snapshots();
    let data = folder.site().join("data");
    let data = data.to_str().expect("UTF-8");
    tool(&["inspect", data]).says(0, &["data/node-1\n", "n1 of cluster"]);
    fs::create_dir(folder.site().join("data/node-2")).expect("a folder");
    tool(&["inspect", data]).warns(2, &["expected the folder of a node", "identity.json"]);
}

#[test]
fn entries_come_as_they_stand_in_the_log() {
    let folder = Folder::new();
    let mut storage = folder.open();
    save(&mut storage, Some(hard_state(1, None)), entries(1, 0..4));
    drop(storage);
    let log = fs::read_to_string(folder.path().join("log-000001-from-0.jsonl")).expect("the log");
    let all: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("\"entry\":").map(|(_, entry)| &entry[..entry.len() - 1]))
        .collect();
    assert_eq!(all.len(), 4);
    for (range, expected) in [
        ("1..2", &all[1..3]),
        ("2..", &all[2..]),
        ("..1", &all[..2]),
        ("3", &all[3..]),
        ("..", &all[..]),
        ("9..", &[]),
    ] {
        let said = tool(&["inspect", &folder.text(), "--entries", range]);
        said.says(0, &[]);
        assert_eq!(said.out.lines().collect::<Vec<&str>>(), expected, "{range}");
    }
    for wrong in ["2..1", "x", "-1..2"] {
        tool(&["inspect", &folder.text(), &format!("--entries={wrong}")]).says(2, &[]);
    }
    let folder = Folder::of_two_snapshots();
    let said = tool(&["inspect", &folder.text(), "--entries", "5..8"]);
    said.warns(0, &["the log begins with entry 7"]);
    assert_eq!(said.out.lines().count(), 2);
}

#[test]
fn damage_in_any_line_of_any_file_is_told_with_its_place() {
    let folder = Folder::of_two_snapshots();
    let files = folder.files();
    assert_eq!(files.len(), 6, "{files:?}");
    for (name, bytes) in &files {
        let mut start = 0;
        for (number, line) in (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let mut damaged = bytes.clone();
            damaged[start + line.len() / 2] ^= 1;
            folder.write(name, &damaged);
            let said = inspect(&folder);
            said.warns(1, &[name, &format!("line {number}: damaged: expected")]);
            said.says(1, &["DAMAGED"]);
            start += line.len();
        }
        folder.write(name, bytes);
    }
    inspect(&folder).says(0, &[]);
}

#[test]
fn files_that_are_damaged_at_once_are_told_at_once() {
    let folder = Folder::of_two_snapshots();
    let files = folder.files();
    for (name, bytes) in &files {
        folder.write(name, &bytes[..bytes.len() - 1]);
    }
    let said = inspect(&folder);
    // The last segment's end is what a crash leaves of a write that was cut short.
    for (name, _) in files.iter().filter(|(name, _)| name != "log-000003-from-7.jsonl") {
        said.warns(1, &[name, "damaged: expected"]);
    }
}

#[test]
fn a_file_that_is_missing_is_told_with_how_that_is_known() {
    let folder = Folder::of_two_snapshots();
    for (name, bytes) in folder.files() {
        let is_needed = ["identity.json", "log-000003-from-7.jsonl"].contains(&name.as_str());
        folder.remove(&name);
        match is_needed {
            true => inspect(&folder).warns(1, &["missing", "because"]),
            // The log's next oldest beginning goes with the older snapshot; and the rest is not needed.
            false => inspect(&folder).says(0, &[]),
        }
        folder.write(&name, &bytes);
    }
    // Without any snapshot, a log that begins later is no whole one.
    folder.remove("log-000001-from-0.jsonl");
    folder.remove("snapshot-3-2.jsonl");
    folder.remove("snapshot-6-3.jsonl");
    inspect(&folder).warns(1, &["snapshot-3-2.jsonl", "missing", "because the log begins after 3@2"]);
}

#[test]
fn a_snapshot_with_what_no_store_would_write_is_told_with_its_line() {
    let folder = Folder::new();
    let mut storage = folder.open();
    save(&mut storage, Some(hard_state(1, None)), entries(1, 0..4));
    drop(storage);
    let last = super::folder::id(1, 3);
    let disk = raftkv::storage::FileDisk::open(&folder.path()).expect("a folder");
    let meta = super::folder::meta(last);
    let mut writer = raftkv::storage::SnapshotWriter::begin(disk, "test", &meta, 2).expect("a disk");
    writer.write(r#"{"key":"b","value":1}"#).expect("a disk");
    writer.write(r#"{"key":"a","value":1}"#).expect("a disk");
    writer.finish().expect("a disk");
    inspect(&folder).warns(1, &["snapshot-3-1.jsonl, line 3: damaged", "the key `a` after `b`"]);
}

#[test]
fn a_torn_write_is_told_and_is_no_damage() {
    let folder = Folder::of_two_snapshots();
    let name = "log-000003-from-7.jsonl";
    let log = fs::read(folder.path().join(name)).expect("the log");
    folder.write(name, &log[..log.len() - 30]);
    inspect(&folder).says(0, &["last 7@3", "torn       ", "a write that a crash cut short (batch "]);
}

#[test]
fn what_is_no_nodes_folder_is_refused() {
    let folder = Folder::new();
    let site = folder.site().to_str().expect("UTF-8").to_owned();
    tool(&["inspect", &site]).warns(2, &["expected the folder of a node"]);
    tool(&["inspect", &folder.text()]).warns(2, &["cannot open the folder", "data/node-1"]);
    assert!(!folder.path().exists(), "a folder was made");
    fs::write(folder.site().join("file"), "text").expect("a file");
    tool(&["inspect", &format!("{site}/file")]).warns(2, &["cannot list the folder"]);
    tool(&["inspect"]).says(2, &[]);
    tool(&["inspect", "--id", "1", &site]).says(2, &[]);
}

#[test]
fn the_folder_of_a_node_that_runs_is_refused_and_can_be_read_when_it_is_stopped() {
    let folder = Folder::new();
    let config = folder.site().join("cluster.toml");
    fs::write(&config, Plan::of(1).config(&free_ports(2))).expect("a file");
    let start = ["--config", config.to_str().expect("UTF-8"), "--id", "1", "--bootstrap"];
    let node = Process::start(&start, &folder.site().join("log"));
    wait_until("the node has voted", || {
        let log = fs::read_to_string(folder.path().join("log-000001-from-0.jsonl")).ok()?;
        log.contains("\"voted_for\":1").then_some(())
    });
    tool_once(&["inspect", &folder.text()]).warns(2, &[IN_USE]);
    node.kill();
    let said = tool(&["inspect", &folder.text()]);
    said.says(0, &["n1 of cluster \"test\"", "voted for n1", "members    voters n1"]);
}
