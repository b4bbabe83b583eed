//! A log that is cut short by snapshots: what is on disk and what a start reads stay bounded, however much is
//! written, and nothing of it is lost.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Cluster, Line, Plan, Signal, code, wait_until};

/// A snapshot is due after so many entries.
const LIMIT: u64 = 500;
/// Overwrites of the same few keys between two looks.
const ROUND: usize = 1_000;
const ROUNDS: usize = 12;
const KEYS: usize = 20;

/// Bytes of all files of a node, and how many there are.
fn on_disk(cluster: &Cluster, node: u16) -> (u64, usize) {
    let files = fs::read_dir(cluster.data_dir(node)).expect("the node's folder");
    // A file may go between the two looks.
    let sizes: Vec<u64> = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).collect();
    (sizes.iter().sum(), sizes.len())
}

/// Writes in one piece, so that it goes quickly: so many overwrites of the same keys.
fn overwrite(line: &mut Line, round: usize) {
    for number in 0..ROUND {
        let value = format!("{round}-{number}-{}", "x".repeat(80));
        line.send(json!({ "op": "set", "key": format!("k{}", number % KEYS), "value": value }));
        // No more than a connection may have under way.
        if number % 100 == 99 {
            (0..100).for_each(|_| assert_eq!(code(&line.answer()), "ok"));
        }
    }
}

fn kept_entries(status: &Value) -> i64 {
    let index = |name: &str| status[name].as_i64().expect("an index");
    index("last_index") - index("first_index") + 1
}

#[test]
fn disk_and_log_stay_bounded_under_overwrites_without_end_and_a_start_has_everything() {
    let plan = Plan { snapshot_after_entries: Some(LIMIT), ..Plan::of(3) };
    let mut cluster = Cluster::of(&plan);
    let mut line = cluster.connect(cluster.leader());
    let mut curve = Vec::new();
    for round in 0..ROUNDS {
        overwrite(&mut line, round);
        curve.push(cluster.ids().into_iter().map(|node| on_disk(&cluster, node)).collect::<Vec<_>>());
    }
    println!("bytes and files of each node, after each {ROUND} overwrites:");
    curve.iter().for_each(|nodes| println!("  {nodes:?}"));
    // A log of the limit, and while a snapshot is written once more as much and what a busy machine adds; an
    // entry takes less than 300 bytes here. Without compaction it would be 12,000 entries.
    let most = curve.iter().flatten().map(|(bytes, _)| *bytes).max().expect("looks");
    assert!(most < 12 * LIMIT * 300, "{most} bytes on a disk: {curve:?}");
    for node in cluster.ids() {
        let kept = wait_until("the log is cut", || {
            let kept = kept_entries(&cluster.status(node)?);
            (kept < 2 * i64::try_from(LIMIT).expect("small")).then_some(kept)
        });
        assert!(kept >= 0, "n{node} keeps {kept} entries");
    }
    starts_have_everything(&mut cluster);
}

/// All stop and start: a start reads the snapshot and what follows it, and comes to the same.
fn starts_have_everything(cluster: &mut Cluster) {
    cluster.wait_for_agreement();
    for node in cluster.ids() {
        cluster.stop(node, Signal::SIGTERM);
    }
    for node in cluster.ids() {
        cluster.restart(node);
        let log = cluster.log(node);
        let started = log.lines().rfind(|line| line.contains("started: ")).expect("it says that it started");
        assert!(!started.contains("applied=-1"), "it begins with its snapshot: {started}");
    }
    cluster.wait_for_agreement();
    for key in 0..KEYS {
        let get = json!({ "op": "get", "key": format!("k{key}") });
        let answer = cluster.connect(cluster.leader()).ask(get);
        // The last write of each key in a round.
        let last = ROUND - KEYS + key;
        let expected = format!("{}-{last}-{}", ROUNDS - 1, "x".repeat(80));
        assert_eq!(answer["value"], json!(expected), "k{key}");
    }
}

#[test]
fn a_retry_across_a_snapshot_and_a_restart_is_done_once() {
    let plan = Plan { snapshot_after_entries: Some(LIMIT), ..Plan::of(1) };
    let mut cluster = Cluster::of(&plan);
    let write = json!({ "op": "cas", "key": "x", "expect": null, "value": 1, "client": "c", "seq": 1 });
    let first = cluster.connect(1).ask(&write);
    assert_eq!(first["swapped"], json!(true));
    let taken = cluster.connect(1).ask(r#"{"op":"snapshot"}"#);
    assert!(taken["index"].as_i64() >= first["index"].as_i64(), "{taken}");
    cluster.kill(1);
    cluster.restart(1);
    let again = wait_until("it leads", || {
        let answer = cluster.connect(1).ask(&write);
        (code(&answer) == "ok").then_some(answer)
    });
    assert_eq!(again, first, "the first answer, from the snapshot");
}
