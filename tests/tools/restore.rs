//! `restore`: a new cluster goes on from a backup, and from nothing but a whole one.

use super::folder::{Folder, content, id};
use super::support::{Cluster, Plan, code, free_ports, operate, wait_until};
use super::{Said, tool};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Restores a node whose folder is where `cluster.toml` says.
fn restore(file: &Path, config: &Path, node: u16) -> Said {
    let (file, config) = (file.to_str().expect("UTF-8"), config.to_str().expect("UTF-8"));
    tool(&["restore", file, "--config", config, "--id", &node.to_string()])
}

/// A backup with what [`content`] says, in a folder of its own, and a `cluster.toml` of three nodes beside
/// it.
struct Site {
    folder: TempDir,
    backup: PathBuf,
    config: PathBuf,
}

impl Site {
    fn new() -> Site {
        let node = Folder::new();
        drop(node.open());
        node.add_snapshot(id(2, 3));
        let folder = super::support::scratch_folder();
        let (backup, config) = (folder.path().join("backup.jsonl"), folder.path().join("cluster.toml"));
        fs::copy(node.path().join("snapshot-3-2.jsonl"), &backup).expect("a copy");
        fs::write(&config, Plan { cluster: "new", ..Plan::of(3) }.config(&free_ports(6))).expect("a file");
        Site { folder, backup, config }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn restore(&self, node: u16) -> Said {
        restore(&self.backup, &self.config, node)
    }
}

#[test]
fn a_new_cluster_goes_on_from_a_backup() {
    let site = super::support::scratch_folder();
    let backup = site.path().join("backup.jsonl");
    let old = Cluster::start(1);
    let mut line = old.connect(1);
    for number in 0..20 {
        let set = json!({ "op": "set", "key": format!("k{number}"), "value": number });
        assert_eq!(code(&line.ask(set)), "ok");
    }
    let counted = json!({ "op": "cas", "key": "n", "expect": null, "value": 1, "client": "c", "seq": 1 });
    let first_answer = line.ask(&counted);
    assert_eq!(first_answer["swapped"], true);
    operate(&old.addresses(), &format!("backup {}", backup.to_str().expect("UTF-8")));
    assert_eq!(code(&line.ask(json!({ "op": "set", "key": "k0", "value": "later" }))), "ok");

    let plan = Plan { cluster: "new", ..Plan::of(3) };
    let new = Cluster::restored(&plan, |config| {
        // It may have been tried before, with ports that somebody else took.
        let _ = fs::remove_dir_all(config.with_file_name("data"));
        for node in 1..=3 {
            let said = restore(&backup, config, node);
            said.says(0, &["21 keys and 1 sessions", "cluster \"test\"", "cluster \"new\""]);
        }
    });
    new.wait_for_agreement();
    let mut line = new.connect(2);
    let mut value = |key: &str| line.ask(json!({ "op": "get", "key": key }))["value"].clone();
    assert_eq!(value("k0"), 0, "what came after the backup is not in it");
    assert_eq!(value("k19"), 19);
    assert_eq!(line.ask(&counted), first_answer, "a write that was done is done again");
    assert_eq!(code(&line.ask(json!({ "op": "set", "key": "k0", "value": 1 }))), "ok");
    new.wait_for_agreement();
}

#[test]
fn nodes_from_two_backups_have_nothing_to_say_to_each_other() {
    let one = Site::new();
    let other = Folder::new();
    drop(other.open());
    other.add_snapshot(id(2, 9));
    let plan = Plan { cluster: "new", ..Plan::of(3) };
    let cluster = Cluster::restored(&plan, |config| {
        let _ = fs::remove_dir_all(config.with_file_name("data"));
        restore(&one.backup, config, 1).says(0, &[]);
        restore(&one.backup, config, 2).says(0, &[]);
        restore(&other.path().join("snapshot-9-2.jsonl"), config, 3).says(0, &[]);
    });
    for (node, peer) in [(1, 3), (3, 1)] {
        wait_until("they refuse each other", || {
            let refused = format!("cannot connect to n{peer}: it refused: ");
            let is_refused = |line: &str| line.contains(&refused) && line.contains("belongs to the founding");
            cluster.log(node).lines().any(is_refused).then_some(())
        });
    }
    assert_eq!(cluster.status(3).expect("a status")["last_applied"], 9);
}

#[test]
fn the_restored_folder_is_a_nodes_that_has_not_started_yet() {
    let site = Site::new();
    let said = site.restore(2);
    said.says(
        0,
        &[
            "data/node-2: restored: 2 keys and 3 sessions, up to entry 3@2 of cluster \"test\"",
            "It is n2 of the new cluster \"new\", voters n1 n2 n3",
            "restore each other node of it from this same file",
        ],
    );
    assert!(!said.out.contains("same name"), "{}", said.out);
    let folder = site.data().join("node-2");
    tool(&["inspect", folder.to_str().expect("UTF-8")]).says(
        0,
        &[
            "start counter 0",
            "in a cluster of n1 n2 n3",
            "term       2, no vote given",
            "no entries; last 3@2",
            "snapshot   up to 3@2, applied_hash 0000000000000abc",
            "2 keys, 3 sessions",
            "restored or recovered",
        ],
    );
    let founding = |said: &Said| said.out.split("founding").nth(1).expect("one")[..17].to_owned();
    assert_eq!(founding(&site.restore(3)), founding(&said), "one file, two foundings");
    // The content is the backup's, to the byte.
    let lines = |path: &Path| -> Vec<String> {
        let text = fs::read_to_string(path).expect("a snapshot");
        text.lines().skip(1).take(content().len()).map(str::to_owned).collect()
    };
    assert_eq!(lines(&folder.join("snapshot-3-2.jsonl")), lines(&site.backup));
    // The old cluster's name may be the new one's, but it takes care.
    fs::write(&site.config, Plan::of(3).config(&free_ports(6))).expect("a file");
    site.restore(1).says(0, &["The old cluster has the same name"]);
}

#[test]
fn a_backup_that_is_not_whole_is_refused_with_its_line_before_anything_is_made() {
    let site = Site::new();
    let whole = fs::read(&site.backup).expect("the backup");
    let mut start = 0;
    for (number, line) in (1..).zip(whole.split_inclusive(|byte| *byte == b'\n')) {
        let mut damaged = whole.clone();
        damaged[start + line.len() / 2] ^= 1;
        fs::write(&site.backup, damaged).expect("a file");
        let place = format!("line {number}: damaged");
        site.restore(1).warns(2, &["backup.jsonl", &place, "nothing was restored"]);
        fs::write(&site.backup, &whole[..start]).expect("a file");
        site.restore(1).warns(2, &["backup.jsonl", &place, "the end of the file"]);
        start += line.len();
    }
    fs::write(&site.backup, [&whole[..], b"{}\n"].concat()).expect("a file");
    site.restore(1).warns(2, &["backup.jsonl", "nothing after the end"]);
    fs::remove_file(&site.backup).expect("it was there");
    site.restore(1).warns(2, &["cannot open", "backup.jsonl"]);
    assert!(!site.data().exists(), "a refused restore has made a folder");
}

#[test]
fn what_is_no_place_for_a_new_node_is_refused() {
    let site = Site::new();
    site.restore(4).warns(2, &["no node with id 4"]);
    let backup = site.backup.to_str().expect("UTF-8");
    tool(&["restore", backup, "--config", "/nowhere.toml", "--id", "1"])
        .warns(2, &["/nowhere.toml", "cannot be read"]);
    tool(&["restore", backup]).says(2, &[]);
    site.restore(1).says(0, &[]);
    let again = "empty the folder and restore again";
    site.restore(1).warns(2, &["data/node-1: expected an empty folder", again]);
    // What a restore that was cut short has left, before anything had its name, does not count.
    fs::create_dir_all(site.data().join("node-2")).expect("a folder");
    fs::write(site.data().join("node-2/snapshot-3-2.jsonl.new"), "{").expect("a file");
    site.restore(2).says(0, &[]);
    // And when it had: neither a start nor another restore.
    fs::remove_file(site.data().join("node-2/identity.json")).expect("it was there");
    site.restore(2).warns(2, &["expected an empty folder", again]);
    let config = site.config.to_str().expect("UTF-8");
    tool(&["--config", config, "--id", "2", "--bootstrap"])
        .warns(2, &["identity.json: this file is missing", again]);
}

#[test]
fn a_data_dir_of_its_own_is_taken() {
    let site = Site::new();
    let folder = site.folder.path().join("elsewhere");
    let [backup, config, data_dir] =
        [&site.backup, &site.config, &folder].map(|path| path.to_str().expect("UTF-8"));
    let said = tool(&["restore", backup, "--config", config, "--id", "1", "--data-dir", data_dir]);
    said.says(0, &["elsewhere"]);
    assert!(folder.join("identity.json").exists());
    assert!(!site.data().exists());
}
