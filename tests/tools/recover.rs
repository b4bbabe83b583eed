//! `recover`: one node goes on alone, asked for in earnest only; others join it, and what comes back from
//! before is not heard.

use super::folder::{Files, Folder};
use super::support::{Cluster, Plan, Writer, free_ports, operate, wait_until};
use super::{IN_USE, Said, tool, tool_once};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn recover(config: &Path, node: u16, more: &[&str]) -> Said {
    let (config, node) = (config.to_str().expect("UTF-8"), node.to_string());
    tool(&[&["recover", "--config", config, "--id", &node], more].concat())
}

const DO_IT: [&str; 2] = ["--force", "--yes-i-may-lose-writes"];

/// A folder of node 1 and a `cluster.toml` of three beside it.
fn config_beside(folder: &Folder) -> PathBuf {
    let config = folder.site().join("cluster.toml");
    fs::write(&config, Plan::of(3).config(&free_ports(6))).expect("a file");
    config
}

#[test]
fn a_node_that_is_left_goes_on_alone_and_others_join_it_but_none_of_before() {
    // So short a log that it begins with a snapshot, which names the old members.
    let mut cluster = Cluster::of(&Plan { snapshot_after_entries: Some(5), ..Plan::of(3) });
    let mut writer = Writer::new("w", cluster.addresses());
    for number in 0..10 {
        writer.write(json!({ "op": "set", "key": format!("k{number}"), "value": number }));
    }
    cluster.wait_for_agreement();
    for node in cluster.ids() {
        cluster.kill(node);
    }
    let said = recover(&cluster.config(), 1, &DO_IT);
    said.says(0, &["n1 is a cluster of one now, by entry ", "start it with --join"]);
    let inspected = tool(&["inspect", cluster.data_dir(1).to_str().expect("UTF-8")]);
    inspected.says(0, &["voted for n1", "members    voters n1\n", "n1 peer 127.0.0.1:", "founding"]);

    cluster.restart(1);
    assert_eq!(cluster.leader(), 1);
    let alone = vec![cluster.address(1)];
    let mut alone_writer = Writer::new("x", alone.clone());
    assert_eq!(alone_writer.read(&json!({ "op": "get", "key": "k9" }))["value"], 9);
    alone_writer.write(json!({ "op": "set", "key": "k9", "value": "after" }));

    // A member of before comes back with its data.
    cluster.restart(3);
    let is_refused_by = |cluster: &Cluster, node: u16| {
        let refused = format!("cannot connect to n{node}: it refused: ");
        wait_until("the old member is refused", || {
            let is_refusal = |line: &str| line.contains(&refused) && line.contains("belongs to the founding");
            cluster.log(3).lines().any(is_refusal).then_some(())
        });
    };
    is_refused_by(&cluster, 1);
    // One joins as new, also while that one is there.
    fs::remove_dir_all(cluster.data_dir(2)).expect("it was there");
    cluster.restart_with(2, &["--join"]);
    operate(&alone, &format!("add 2 {} {}", cluster.peer_address(2), cluster.address(2)));
    let voters = |cluster: &Cluster| operate(&[cluster.address(1)], "members")["voters"].clone();
    wait_until("it votes", || (voters(&cluster) == json!([1, 2])).then_some(()));
    is_refused_by(&cluster, 2);
    alone_writer.write(json!({ "op": "set", "key": "k8", "value": "after" }));
    let status = |node| -> Value { cluster.status(node).expect("a status") };
    wait_until("n1 and n2 have applied the same", || {
        (status(1)["last_applied"] == status(2)["last_applied"]).then_some(())
    });
    assert_eq!(status(1)["applied_hash"], status(2)["applied_hash"]);
    assert_eq!(status(3)["leader"], Value::Null);
    // With an empty folder it is as welcome as the other.
    cluster.kill(3);
    fs::remove_dir_all(cluster.data_dir(3)).expect("it was there");
    cluster.restart_with(3, &["--join"]);
    operate(&alone, &format!("add 3 {} {}", cluster.peer_address(3), cluster.address(3)));
    wait_until("all vote", || (voters(&cluster) == json!([1, 2, 3])).then_some(()));
    cluster.wait_for_agreement();
}

#[test]
fn nothing_is_done_unless_it_is_asked_for_in_earnest() {
    let folder = Folder::of_two_snapshots();
    let config = config_beside(&folder);
    let before: Files = folder.files();
    let said = recover(&config, 1, &[]);
    said.warns(2, &["nothing was done: it takes --force"]);
    said.says(
        2,
        &[
            "n1 of cluster \"test\", term 3, last entry 9@3",
            "index 9 of term 3",
            "Members by its log: voters n1 n2 n3",
            "LOST is every write",
            "have had some after index 9",
            "KEPT is all of this log",
            "Empty their folders",
        ],
    );
    recover(&config, 1, &["--force"])
        .warns(2, &["nothing was done", "no terminal", "--yes-i-may-lose-writes"]);
    recover(&config, 1, &["--yes-i-may-lose-writes"]).says(2, &[]);
    assert_eq!(folder.files(), before, "a recovery that was not asked for changed something");
    recover(&config, 1, &DO_IT).says(0, &["by entry 10@4"]);
    // Once more does no harm.
    recover(&config, 1, &DO_IT).says(0, &["by entry 11@5"]);
}

#[test]
fn what_cannot_be_recovered_from_is_refused() {
    let folder = Folder::of_two_snapshots();
    let config = config_beside(&folder);
    recover(&config, 2, &DO_IT).warns(2, &["data/node-2"]);
    assert!(!folder.site().join("data/node-2").exists(), "a folder was made");
    let text = folder.text();
    let elsewhere = ["--data-dir", text.as_str(), "--force", "--yes-i-may-lose-writes"];
    recover(&config, 2, &elsewhere).warns(2, &["expected n2 of cluster \"test\", found n1"]);
    let other = fs::read_to_string(&config).expect("the file").replace("\"test\"", "\"other\"");
    fs::write(folder.site().join("other.toml"), other).expect("a file");
    recover(&folder.site().join("other.toml"), 1, &DO_IT)
        .warns(2, &["cluster \"other\", found n1 of cluster \"test\""]);
    let held = folder.open();
    let path = config.to_str().expect("UTF-8");
    tool_once(&[&["recover", "--config", path, "--id", "1"], &DO_IT[..]].concat()).warns(2, &[IN_USE]);
    drop(held);
    let files = folder.files();
    let (name, bytes) = files.iter().find(|(name, _)| name.starts_with("log-")).expect("a log");
    let mut damaged = bytes.clone();
    damaged[40] ^= 1;
    folder.write(name, &damaged);
    recover(&config, 1, &DO_IT).warns(2, &[name, "line 1: damaged", "recover another node"]);
    // A node that knows nothing.
    let empty = Folder::new();
    let config = config_beside(&empty);
    drop(empty.open());
    recover(&config, 1, &DO_IT).warns(2, &["this node knows of nothing"]);
}
