//! Real processes that are killed, paused, cut down to a minority, held up by their disks, robbed of the end
//! of their log or of all of it: what was acknowledged is there afterwards, once, and nobody is told anything
//! that is not so.

mod support;

use raftkv::nemesis::{Fault, Strace};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use support::{Cluster, Line, Load, Plan, Process, Writer, code, wait_until};

#[test]
fn what_five_nodes_acknowledged_is_there_once_after_each_and_all_of_them_were_killed() {
    let mut cluster = Cluster::start(5);
    let load = Load::start("load", 4, &cluster.addresses());
    load.wait_for_more(100);
    let leader = cluster.leader();
    cluster.kill(leader);
    load.wait_for_more(100);
    let (follower, _) = cluster.follower_and_leader();
    cluster.kill(follower);
    load.wait_for_more(100);
    cluster.restart(leader);
    cluster.restart(follower);
    load.wait_for_more(100);
    // All at once, with writes under way. The writers go on with the same numbers when the nodes are back.
    cluster.ids().into_iter().for_each(|node| cluster.kill(node));
    cluster.ids().into_iter().for_each(|node| cluster.restart(node));
    load.wait_for_more(100);
    let promises = load.stop();
    cluster.ids().into_iter().for_each(|node| cluster.kill(node));
    cluster.ids().into_iter().for_each(|node| cluster.restart(node));
    cluster.leader();
    cluster.ids().into_iter().for_each(|node| promises.check(&cluster, node));
    cluster.wait_for_agreement();
}

#[test]
fn a_node_that_is_killed_again_and_again_keeps_what_it_acknowledged() {
    let mut cluster = Cluster::start(1);
    let mut promised = 0;
    for round in 0..5 {
        // It is killed in the middle of a stream of writes that nobody waits for in between.
        let mut line = cluster.connect(1);
        let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
        let sender = std::thread::spawn(move || {
            for number in promised.. {
                let set = json!({ "op": "set", "key": format!("k{number}"), "value": number });
                if writing.try_send_bytes(format!("{set}\n")).is_err() {
                    return;
                }
            }
        });
        for _ in 0..100 {
            assert_eq!(code(&line.answer()), "ok");
            promised += 1;
        }
        cluster.kill(1);
        while let Ok(Some(answer)) = line.try_answer() {
            assert_eq!(code(&answer), "ok");
            promised += 1;
        }
        sender.join().expect("the sender finds the connection closed");
        cluster.restart(1);
        cluster.leader();
        let mut line = cluster.connect(1);
        for number in 0..promised {
            let get = line.ask(json!({ "op": "get", "key": format!("k{number}") }));
            assert_eq!(get["value"], number, "in round {round}");
        }
    }
}

#[test]
fn a_follower_that_was_away_for_ten_thousand_entries_catches_up() {
    const ENTRIES: usize = 10_000;
    let mut cluster = Cluster::start(3);
    let (follower, leader) = cluster.follower_and_leader();
    cluster.kill(follower);
    let mut line = cluster.connect(leader);
    let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
    let sender = std::thread::spawn(move || {
        for number in 0..ENTRIES {
            writing.send(json!({ "op": "set", "key": format!("k{}", number % 500), "value": number }));
        }
    });
    for _ in 0..ENTRIES {
        assert_eq!(code(&line.answer()), "ok");
    }
    sender.join().expect("everything was sent");
    cluster.restart(follower);
    cluster.wait_for_agreement();
    let get = cluster.connect(follower).ask(r#"{"op":"get","key":"k499","stale":true}"#);
    assert_eq!(get["value"], ENTRIES - 1);
    // And once more from nothing but its own disk.
    cluster.kill(follower);
    cluster.restart(follower);
    cluster.wait_for_agreement();
}

#[test]
fn a_minority_refuses_or_does_not_know_and_goes_on_when_the_others_are_back() {
    for leader_survives in [true, false] {
        let mut cluster = Cluster::of(&Plan { request_timeout_ms: 1000, ..Plan::of(3) });
        let mut writer = Writer::new("w", cluster.addresses());
        writer.write(json!({ "op": "set", "key": "x", "value": "before" }));
        cluster.wait_for_agreement();
        let (follower, leader) = cluster.follower_and_leader();
        let survivor = if leader_survives { leader } else { follower };
        cluster.others(survivor).into_iter().for_each(|node| cluster.kill(node));

        // Right away it may still believe in a leader, and then cannot know what becomes of a write.
        let mut line = cluster.connect(survivor);
        let unknown = line.ask(r#"{"op":"set","key":"x","value":"unknown"}"#);
        assert!(["timeout", "unavailable"].contains(&code(&unknown)), "{unknown}");
        wait_until("the survivor knows that nobody leads", || {
            let status = cluster.status(survivor)?;
            (status["leader"].is_null() && status["role"] != "leader").then_some(())
        });
        // A connection of its own: on the first one, a write may have to wait for its elders.
        let mut line = cluster.connect(survivor);
        let refused = line.ask(r#"{"op":"set","key":"refused","value":1}"#);
        assert_eq!(code(&refused), "unavailable", "{refused}");
        let read = line.ask(r#"{"op":"get","key":"x"}"#);
        assert_eq!(code(&read), "unavailable", "{read}");
        let stale = line.ask(r#"{"op":"get","key":"x","stale":true}"#);
        assert_eq!(stale["value"], "before", "{stale}");
        let scan = line.ask(r#"{"op":"scan","prefix":"x","stale":true}"#);
        assert_eq!(scan["items"][0]["value"], "before", "{scan}");
        assert_eq!(code(&line.ask(r#"{"op":"status"}"#)), "ok");

        // What waits when the others come back is done, and what was refused has not happened.
        let back = cluster.others(survivor)[0];
        cluster.restart(back);
        writer.write(json!({ "op": "set", "key": "y", "value": "after" }));
        let x = writer.read(&json!({ "op": "get", "key": "x" }));
        assert!(x["value"] == "before" || (code(&unknown) == "timeout" && x["value"] == "unknown"), "{x}");
        assert_eq!(writer.read(&json!({ "op": "get", "key": "refused" }))["value"], Value::Null);
        let last = cluster.others(survivor)[1];
        cluster.restart(last);
        cluster.wait_for_agreement();
    }
}

#[test]
fn status_and_stale_reads_are_answered_beside_a_write_that_waits() {
    let mut cluster = Cluster::start(3);
    let (follower, _) = cluster.follower_and_leader();
    cluster.wait_for_agreement();
    cluster.others(follower).into_iter().for_each(|node| cluster.kill(node));
    let mut waiting = cluster.connect(follower);
    waiting.send(r#"{"op":"set","key":"x","value":1}"#);
    let mut line = cluster.connect(follower);
    for _ in 0..100 {
        assert_eq!(code(&line.ask(r#"{"op":"status"}"#)), "ok");
        assert_eq!(code(&line.ask(r#"{"op":"get","key":"x","stale":true}"#)), "ok");
    }
    let answer = waiting.answer();
    assert!(["timeout", "unavailable"].contains(&code(&answer)), "{answer}");
}

#[test]
fn a_leader_that_was_paused_serves_no_old_value_and_loses_nothing() {
    let mut cluster = Cluster::start(3);
    let mut writer = Writer::new("w", cluster.addresses());
    for round in 0..4 {
        writer.write(json!({ "op": "set", "key": "x", "value": format!("old {round}") }));
        let old_leader = cluster.leader();
        let mut line = cluster.connect(old_leader);
        assert_eq!(line.ask(r#"{"op":"get","key":"x"}"#)["value"], format!("old {round}"));
        cluster.pause(old_leader);
        let new_leader = cluster.leader();
        assert_ne!(new_leader, old_leader);
        let awake: Vec<String> = cluster.awake().into_iter().map(|node| cluster.address(node)).collect();
        let new = format!("new {round}");
        Writer::new(format!("w{round}"), awake).write(json!({ "op": "set", "key": "x", "value": new }));
        // The requests lie in its socket when it wakes up and takes itself for the leader.
        for _ in 0..20 {
            line.send(r#"{"op":"get","key":"x"}"#);
        }
        cluster.resume(old_leader);
        for _ in 0..20 {
            let get = line.answer();
            match code(&get) {
                "ok" => assert_eq!(get["value"], new, "a stale read from n{old_leader}"),
                "timeout" | "unavailable" => {}
                other => panic!("{other}: {get}"),
            }
        }
        wait_until("the old leader follows and serves", || {
            let get = line.ask(r#"{"op":"get","key":"x"}"#);
            assert!(get["ok"] == false || get["value"] == new, "a stale read from n{old_leader}: {get}");
            (get["ok"] == true).then_some(())
        });
    }
    cluster.wait_for_agreement();
}

#[test]
fn a_connections_requests_keep_their_order_when_the_leader_changes_in_their_midst() {
    const PAIRS: usize = 200;
    let mut cluster = Cluster::start(3);
    for round in 0..5 {
        let (follower, leader) = cluster.follower_and_leader();
        let mut line = cluster.connect(follower);
        let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
        let (middle_sent, middle) = std::sync::mpsc::channel();
        let sender = std::thread::spawn(move || {
            for number in 0..PAIRS {
                writing.send(json!({ "op": "set", "key": "x", "value": [round, number] }));
                writing.send(r#"{"op":"get","key":"x"}"#);
                if number == PAIRS / 2 {
                    middle_sent.send(()).expect("the test waits");
                }
            }
            writing.end_sending();
        });
        // Without a leader they wait on this node, the one after the other. Nobody but they writes the key.
        middle.recv().expect("half of them are sent");
        cluster.kill(leader);
        for number in 0..PAIRS {
            let (set, get) = (line.answer(), line.answer());
            if code(&set) == "ok" && code(&get) == "ok" {
                assert_eq!(get["value"], json!([round, number]), "{set}, {get}");
            }
        }
        assert_eq!(line.answers_to_the_end(), Vec::<Value>::new());
        sender.join().expect("everything was sent");
        cluster.restart(leader);
        cluster.wait_for_agreement();
    }
}

#[test]
fn writes_go_on_while_one_node_after_the_other_is_paused() {
    let mut cluster = Cluster::start(3);
    let load = Load::start("pauses", 3, &cluster.addresses());
    load.wait_for_more(20);
    for _ in 0..3 {
        let leader = cluster.leader();
        cluster.pause(leader);
        assert_ne!(cluster.leader(), leader);
        load.wait_for_more(20);
        cluster.resume(leader);
        let (follower, _) = cluster.follower_and_leader();
        cluster.pause(follower);
        load.wait_for_more(20);
        cluster.resume(follower);
    }
    let promises = load.stop();
    cluster.ids().into_iter().for_each(|node| promises.check(&cluster, node));
    cluster.wait_for_agreement();
}

#[test]
fn a_paused_follower_that_takes_no_bytes_holds_nobody_up() {
    const WRITES: usize = 80;
    // Under way at a time: far less than a leader may have uncommitted, or a slow one rightly says `busy`.
    const WINDOW: usize = 16;
    let mut cluster = Cluster::start(3);
    let (follower, leader) = cluster.follower_and_leader();
    cluster.pause(follower);
    // Far more than the buffers of a socket take.
    let value = "v".repeat(1_000_000);
    let mut line = cluster.connect(leader);
    for number in 0..WRITES + WINDOW {
        if number < WRITES {
            line.send(json!({ "op": "set", "key": format!("k{}", number % 3), "value": value }));
        }
        if number >= WINDOW {
            let answer = line.answer();
            assert_eq!(code(&answer), "ok", "{answer}");
        }
    }
    cluster.resume(follower);
    cluster.wait_for_agreement();
}

/// Every sync of this node takes so long, from now until this is dropped. None, and said so, where it cannot
/// be had.
fn slow_syncs(cluster: &mut Cluster, node: u16, each_ms: u64) -> Option<Strace> {
    if let Some(hindrance) = Fault::SlowDisk.hindrance(cluster.ids().len()) {
        eprintln!("no slow syncs here: {hindrance}");
        return None;
    }
    let inject = format!("fdatasync:delay_enter={}", each_ms * 1000);
    Some(Strace::attach(cluster.process(node).pid(), &inject).unwrap_or_else(|error| panic!("{error}")))
}

/// Row 49 of the map of faults: a leader that cannot save must not keep the others quiet.
#[test]
fn a_leader_whose_disk_stands_still_is_replaced() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_agreement();
    let old_leader = cluster.leader();
    let Some(slow) = slow_syncs(&mut cluster, old_leader, 3000) else { return };
    let mut line = cluster.connect(old_leader);
    line.send(json!({ "op": "set", "key": "held up", "value": 1 }));
    wait_until("others elect one of theirs", || (cluster.leader() != old_leader).then_some(()));
    let others = cluster.others(old_leader).into_iter().map(|node| cluster.address(node)).collect();
    Writer::new("w", others).write(json!({ "op": "set", "key": "x", "value": 1 }));
    drop(slow);
    cluster.wait_for_agreement();
    // It may have reached the others, or not: but nobody is told that it is done unless it is.
    let (answer, get) = (line.answer(), json!({ "op": "get", "key": "held up" }));
    let value = &cluster.connect(old_leader).ask(get)["value"];
    let agrees = match code(&answer) {
        "ok" => *value == 1,
        "unavailable" => value.is_null(),
        _ => true,
    };
    assert!(agrees, "{answer}, and the value is {value}");
}

/// Row 50: a follower's own slow syncs are not silence of its leader.
#[test]
fn a_follower_whose_disk_is_slower_than_an_election_timeout_unsettles_nobody() {
    let mut cluster = Cluster::of(&Plan { election_timeout_ms: [1000, 1200], ..Plan::of(3) });
    cluster.wait_for_agreement();
    let (follower, leader) = cluster.follower_and_leader();
    let term = cluster.status(leader).expect("it runs")["term"].clone();
    let log_start = cluster.process(follower).log().len();
    let Some(slow) = slow_syncs(&mut cluster, follower, 2500) else { return };
    let mut line = cluster.connect(leader);
    for number in 0..50 {
        let answer = line.ask(json!({ "op": "set", "key": format!("k{number}"), "value": number }));
        assert_eq!(code(&answer), "ok", "{answer}");
    }
    // It has all of it only after some of its syncs.
    cluster.wait_for_agreement();
    drop(slow);
    let status = cluster.status(leader).expect("it runs");
    assert_eq!((&status["role"], &status["term"]), (&json!("leader"), &term), "{status}");
    let log = cluster.process(follower).log();
    let since = &log[log_start..];
    assert!(!since.contains("pre-candidate"), "it heard its leader all the time, and campaigned: {since}");
}

/// Row 56: whoever lost its connection comes back at once, and all the others too.
#[test]
fn two_hundred_clients_that_come_back_at_once_keep_no_cluster_down() {
    const CLIENTS: usize = 200;
    let mut cluster = Cluster::start(3);
    let load = Load::start("storm", CLIENTS, &cluster.addresses());
    load.wait_for_more(2 * CLIENTS);
    cluster.ids().into_iter().for_each(|node| cluster.kill(node));
    cluster.ids().into_iter().for_each(|node| cluster.restart(node));
    load.wait_for_more(2 * CLIENTS);
    let promises = load.stop();
    cluster.ids().into_iter().for_each(|node| promises.check(&cluster, node));
    cluster.wait_for_agreement();
}

/// The newest part of a node's log.
fn newest_segment(cluster: &Cluster, node: u16) -> PathBuf {
    let files = fs::read_dir(cluster.data_dir(node)).expect("the data folder");
    let paths = files.map(|file| file.expect("a file").path());
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jsonl");
    paths.filter(is_segment).max().expect("a segment")
}

/// A torn write was never acknowledged. Here it was, so all nodes stop: a leader that went on would rightly
/// count on what this node has told it. The others have it still, and the next leader finds out who lacks it.
#[test]
fn a_node_whose_last_write_was_torn_says_so_and_catches_up() {
    let mut cluster = Cluster::start(3);
    for (round, cut) in [1, 2, 40, 300].into_iter().enumerate() {
        let (torn, leader) = cluster.follower_and_leader();
        // One long write, so that all that is cut off belongs to it.
        let set = json!({ "op": "set", "key": format!("k{round}"), "value": "v".repeat(500) });
        assert_eq!(code(&cluster.connect(leader).ask(set)), "ok");
        cluster.wait_for_agreement();
        cluster.ids().into_iter().for_each(|node| cluster.kill(node));
        let file = OpenOptions::new().write(true).open(newest_segment(&cluster, torn)).expect("the segment");
        let length = file.metadata().expect("its size").len();
        file.set_len(length - cut).expect("a shorter file");
        cluster.ids().into_iter().for_each(|node| cluster.restart(node));
        let said = cluster.process(torn).log();
        assert!(said.contains("a write that a crash cut short"), "{said}");
        cluster.wait_for_agreement();
        let get = json!({ "op": "get", "key": format!("k{round}"), "stale": true });
        assert_eq!(cluster.connect(torn).ask(get)["value"], "v".repeat(500));
        // What was said once is mended: the next start has nothing to say.
        cluster.kill(torn);
        cluster.restart(torn);
        let said = cluster.process(torn).log();
        assert!(!said.contains("cut short"), "{said}");
        cluster.wait_for_agreement();
    }
}

#[test]
fn a_voter_that_lost_its_disk_is_not_let_in_and_has_no_vote() {
    let mut cluster = Cluster::of(&Plan { request_timeout_ms: 2000, ..Plan::of(3) });
    let mut writer = Writer::new("w", cluster.addresses());
    writer.write(json!({ "op": "set", "key": "x", "value": 1 }));
    cluster.wait_for_agreement();
    let (wiped, leader) = cluster.follower_and_leader();
    let [other] = cluster.others(wiped).into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..] else {
        panic!("three nodes")
    };
    cluster.kill(wiped);
    fs::remove_dir_all(cluster.data_dir(wiped)).expect("the disk is gone");

    let config = cluster.config();
    let arguments = ["--config", config.to_str().expect("UTF-8"), "--id", &wiped.to_string()];
    let mut refused = Process::start(&arguments, &config.with_file_name("refused.log"));
    assert_eq!(refused.wait_for_end().code(), Some(2));
    assert!(refused.log().contains("needs --bootstrap"), "{}", refused.log());

    // And if someone does start it as if it were new, the others know that it is not the one it was.
    cluster.restart_with(wiped, &["--bootstrap"]);
    for node in [leader, other] {
        wait_until("the others say why they do not talk to it", || {
            cluster.log(node).contains("it lost its data directory").then_some(())
        });
    }
    writer.write(json!({ "op": "set", "key": "x", "value": 2 }));
    let status = cluster.status(wiped).expect("it runs");
    assert_eq!((&status["leader"], &status["last_applied"]), (&Value::Null, &json!(-1)), "{status}");

    // Without it, one of two is no majority: with its vote, one that forgot what it acknowledged would
    // decide.
    cluster.kill(leader);
    wait_until("the last one knows that nobody leads", || {
        cluster.status(other).is_some_and(|status| status["leader"].is_null()).then_some(())
    });
    let refused = cluster.connect(other).ask(r#"{"op":"set","key":"x","value":3}"#);
    assert_eq!(code(&refused), "unavailable", "{refused}");
    cluster.restart(leader);
    assert_eq!(writer.read(&json!({ "op": "get", "key": "x" }))["value"], 2);
}
