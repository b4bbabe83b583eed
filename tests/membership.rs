//! A cluster whose members change while it works, as real processes and with the words that an operator
//! types: it grows and shrinks, all its nodes are replaced, nodes die in the middle of it. Logs are kept
//! short, so that new nodes begin with a snapshot.

#![cfg(unix)]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use support::{Cluster, Load, Plan, Signal, Witnesses};
use support::{client_command, code, operate, scratch_folder, try_operate, wait_until};

/// So short that the first writes already leave a log that begins with a snapshot.
const LOG_ENTRIES: u64 = 100;

fn plan(nodes: u16) -> Plan {
    Plan { request_timeout_ms: 2000, snapshot_after_entries: Some(LOG_ENTRIES), ..Plan::of(nodes) }
}

/// `ID PEER CLIENT`, as `add` has it.
fn place_of(cluster: &Cluster, id: u16) -> String {
    format!("{id} {} {}", cluster.peer_address(id), cluster.address(id))
}

fn addresses_of(cluster: &Cluster, ids: &[u16]) -> Vec<String> {
    ids.iter().map(|id| cluster.address(*id)).collect()
}

fn assert_voters(members: &Value, ids: &[u16]) {
    assert_eq!(members["voters"], json!(ids), "{members}");
    for name in ["outgoing", "learners", "next_voters"] {
        assert_eq!(members[name], json!([]), "{members}");
    }
    assert_eq!(members["committed"], true, "{members}");
}

/// Writers and witnesses that go round these nodes, whether they run yet or not.
struct Crowd(Load, Witnesses);

impl Crowd {
    fn start(cluster: &Cluster, ids: &[u16]) -> Crowd {
        let addresses = addresses_of(cluster, ids);
        let crowd = Crowd(Load::start("w", 2, &addresses), Witnesses::start("h", 3, &addresses));
        // The log has begun anew by then.
        crowd.0.wait_for_more(2 * LOG_ENTRIES as usize);
        crowd
    }

    /// Waits until they got on.
    fn goes_on(&self) {
        self.0.wait_for_more(40);
    }

    /// What they were promised is there, through each of these nodes, and can be true.
    fn judge(self, cluster: &Cluster) {
        self.goes_on();
        let Crowd(load, witnesses) = self;
        let promises = load.stop();
        witnesses.judge();
        cluster.wait_for_agreement();
        for id in cluster.ids() {
            promises.check(cluster, id);
        }
    }
}

/// The first index that a node's log still has.
fn first_index(cluster: &Cluster, id: u16) -> i64 {
    cluster.status(id).and_then(|status| status["first_index"].as_i64()).expect("an index")
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_back_under_load() {
    let mut cluster = Cluster::of(&plan(1));
    (2..=5).for_each(|id| cluster.reserve(id));
    let crowd = Crowd::start(&cluster, &[1, 2, 3, 4, 5]);
    let known = addresses_of(&cluster, &[1]);
    for id in [2, 3] {
        cluster.start_new(id);
        assert_voters(
            &operate(&known, &format!("add {}", place_of(&cluster, id))),
            &(1..=id).collect::<Vec<_>>(),
        );
        crowd.goes_on();
    }
    cluster.start_new(4);
    cluster.start_new(5);
    let words = format!("add {} {}", place_of(&cluster, 4), place_of(&cluster, 5));
    assert_voters(&operate(&known, &words), &[1, 2, 3, 4, 5]);
    crowd.goes_on();
    assert!(first_index(&cluster, 5) > 0, "n5 has begun with a snapshot");

    assert_voters(&operate(&known, "remove 1"), &[2, 3, 4, 5]);
    cluster.retire(1);
    crowd.goes_on();
    // Nobody knows the node any more that the client was told of first; any other will do.
    let known = addresses_of(&cluster, &[5]);
    assert_voters(&operate(&known, "remove 2 3"), &[4, 5]);
    assert_voters(&operate(&known, "remove 4"), &[5]);
    (2..=4).for_each(|id| cluster.retire(id));
    crowd.judge(&cluster);
}

#[test]
fn every_node_of_three_is_replaced_one_by_one_and_then_all_at_once() {
    let mut cluster = Cluster::of(&plan(3));
    (4..=9).for_each(|id| cluster.reserve(id));
    let crowd = Crowd::start(&cluster, &(1..=9).collect::<Vec<u16>>());
    for old in 1..=3 {
        let new = old + 3;
        cluster.start_new(new);
        let known = addresses_of(&cluster, &[old]);
        let members = operate(&known, &format!("replace {old} {}", place_of(&cluster, new)));
        assert_voters(&members, &(old + 1..=new).collect::<Vec<u16>>());
        cluster.retire(old);
        crowd.goes_on();
    }
    let mut words = "replace".to_owned();
    for old in 4..=6 {
        cluster.start_new(old + 3);
        words += &format!(" {old} {}", place_of(&cluster, old + 3));
    }
    assert_voters(&operate(&addresses_of(&cluster, &[4]), &words), &[7, 8, 9]);
    (4..=6).for_each(|id| cluster.retire(id));
    crowd.judge(&cluster);
}

/// A node that has joined is started again from `cluster.toml`, which does not name it; and what its disk
/// says is what the others have.
#[test]
fn nodes_die_in_the_middle_of_a_change_and_it_is_finished_all_the_same() {
    let mut cluster = Cluster::of(&plan(3));
    (4..=5).for_each(|id| cluster.reserve(id));
    let crowd = Crowd::start(&cluster, &[1, 2, 3, 4, 5]);
    let known = addresses_of(&cluster, &[1, 2, 3]);

    // The first step: learners that are not there yet. The leader dies; whoever leads then goes on.
    let words = format!("add {} {}", place_of(&cluster, 4), place_of(&cluster, 5));
    let adding = {
        let known = known.clone();
        thread::spawn(move || operate(&known, &words))
    };
    let members_at = |cluster: &Cluster, id: u16| cluster.connect(id).ask(r#"{"op":"members"}"#);
    let leader = wait_until("the new nodes are learners", || {
        let leader = cluster.leader();
        (members_at(&cluster, leader)["learners"] == json!([4, 5])).then_some(leader)
    });
    cluster.kill(leader);
    crowd.goes_on();
    // A new node dies while it is caught up, or as soon as it is.
    cluster.start_new(4);
    wait_until("n4 has begun to catch up", || (cluster.status(4)?["last_index"] != -1).then_some(()));
    cluster.kill(4);
    cluster.restart(4);
    cluster.restart(leader);
    cluster.start_new(5);
    assert_voters(&adding.join().expect("the change is finished"), &[1, 2, 3, 4, 5]);
    crowd.goes_on();

    // The last steps: the leader dies as soon as it is seen that they have begun.
    let leader = cluster.leader();
    let going = cluster.others(leader)[0];
    let removing = {
        let known = cluster.addresses();
        thread::spawn(move || operate(&known, &format!("remove {leader} {going}")))
    };
    let mut asked = cluster.connect(leader);
    wait_until("both are to leave", || {
        let voters = asked.ask(r#"{"op":"members"}"#)["voters"].clone();
        (!voters.as_array()?.contains(&json!(going))).then_some(())
    });
    cluster.kill(leader);
    let staying: Vec<u16> = cluster.others(leader).into_iter().filter(|id| *id != going).collect();
    assert_voters(&removing.join().expect("the change is finished"), &staying);
    // It has missed its own leave, and disturbs nobody when it comes back.
    cluster.restart(leader);
    crowd.goes_on();
    cluster.retire(going);
    cluster.retire(leader);
    crowd.judge(&cluster);
}

#[test]
fn a_change_that_does_not_get_on_is_told_and_can_be_taken_back() {
    let mut cluster = Cluster::of(&plan(1));
    cluster.reserve(2);
    let known = cluster.addresses();
    let words = format!("--timeout-ms 200 add {}", place_of(&cluster, 2));
    let (status, answer, _) = try_operate(&known, &words);
    assert_eq!((status, code(&answer)), (Some(1), "unfinished"), "{answer}");
    let message = answer["error"]["message"].as_str().expect("words");
    assert!(message.contains("node 2 is not there") && message.contains("remove 2"), "{message}");
    let (status, answer, _) = try_operate(&known, &format!("add {}", place_of(&cluster, 2)));
    assert_eq!((status, code(&answer)), (Some(1), "refused"), "{answer}");
    assert_voters(&operate(&known, "remove 2"), &[1]);
    let (status, answer, _) = try_operate(&known, "remove 7");
    assert_eq!((status, code(&answer)), (Some(1), "refused"), "{answer}");
    let (status, _, told) = try_operate(&known, "remove all");
    assert_eq!(status, Some(2), "{told}");
}

/// Once the leader wanted to hear from every member that it knows what a change of members is, also from
/// those that are to leave: after a restart of the others, a dead node could not be replaced, nor a new one
/// that never came be taken back.
#[test]
fn a_dead_node_is_replaced_by_a_leader_that_has_never_met_it() {
    let mut cluster = Cluster::of(&plan(3));
    cluster.kill(3);
    for id in [1, 2] {
        cluster.kill(id);
    }
    for id in [1, 2] {
        cluster.restart(id);
    }
    cluster.leader();
    cluster.start_new(4);
    let words = format!("replace 3 {}", place_of(&cluster, 4));
    // The two may not have met yet.
    wait_until("n3 is replaced", || {
        let (_, answer, _) = try_operate(&addresses_of(&cluster, &[1, 2]), &words);
        (answer["voters"] == json!([1, 2, 4])).then_some(())
    });
}

#[test]
fn a_node_that_was_down_past_the_beginning_of_the_log_catches_up_by_a_snapshot() {
    let mut cluster = Cluster::of(&plan(3));
    let (down, leader) = cluster.follower_and_leader();
    cluster.kill(down);
    let crowd = Crowd::start(&cluster, &cluster.others(down));
    crowd.0.wait_for_more(2 * LOG_ENTRIES as usize);
    let others_begin = first_index(&cluster, leader);
    cluster.restart(down);
    wait_until("it has caught up", || (first_index(&cluster, down) >= others_begin).then_some(()));
    assert!(cluster.log(down).contains("snapshot"), "{}", cluster.log(down));
    crowd.judge(&cluster);
}

#[test]
fn the_lead_goes_from_node_to_node_under_load() {
    let cluster = Cluster::of(&plan(3));
    let crowd = Crowd::start(&cluster, &[1, 2, 3]);
    let known = cluster.addresses();
    for heir in [1, 2, 3, 1] {
        if cluster.leader() == heir {
            assert_eq!(code(&try_operate(&known, &format!("transfer {heir}")).1), "refused");
        } else {
            // Under load an heir may need longer than an election timeout; then the old leader goes on.
            wait_until("the lead is handed over", || {
                let (_, answer, _) = try_operate(&known, &format!("transfer {heir}"));
                (answer["leader"] == heir).then_some(())
            });
        }
        crowd.goes_on();
    }
    let before = cluster.leader();
    let (_, answer, _) = try_operate(&known, "transfer");
    assert!(code(&answer) == "refused" || answer["leader"] != before, "{answer}");
    crowd.judge(&cluster);
}

/// A client of the common kind, one request after the other, has each answered well: no request is lost or
/// refused because its node was stopped, or did not lead any more.
#[test]
fn a_rolling_restart_fails_no_request() {
    let mut cluster = Cluster::of(&plan(3));
    let mut command = client_command(&cluster.addresses());
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the client runs");
    let mut requests = client.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let mut asked = 0;
    let mut ask = |count: usize| {
        for _ in 0..count {
            asked += 1;
            writeln!(requests, "set key-{} {asked}", asked % 10).expect("the client takes it");
            let answer = answers.next().expect("an answer").expect("text");
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            assert_eq!(code(&answer), "ok", "request {asked}: {answer}");
        }
    };
    ask(50);
    for id in cluster.ids() {
        cluster.process(id).signal(Signal::SIGTERM);
        wait_until("the node has stopped", || {
            ask(1);
            cluster.process(id).ended()
        });
        cluster.stopped(id);
        ask(20);
        cluster.restart(id);
        wait_until("the node has caught up", || {
            ask(1);
            let status = cluster.status(id)?;
            (status["last_applied"].as_i64()? + 5 >= asked_index(&cluster, id)?).then_some(())
        });
    }
    ask(50);
    drop(requests);
    assert!(client.wait().expect("a child of ours").success());
}

/// The last index that any other node has committed.
fn asked_index(cluster: &Cluster, id: u16) -> Option<i64> {
    let others = cluster.others(id);
    others.iter().filter_map(|id| cluster.status(*id)?["commit_index"].as_i64()).max()
}

/// The keys of a backup, and what its last line says.
fn read_backup(file: &Path) -> (Vec<String>, Value) {
    let text = std::fs::read_to_string(file).expect("a backup");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let keys = lines.iter().filter_map(|line| line["key"].as_str().map(str::to_owned)).collect();
    (keys, lines.last().expect("lines")["end"].clone())
}

#[test]
fn a_backup_has_everything_that_was_written_before_it() {
    let cluster = Cluster::of(&plan(3));
    let crowd = Crowd::start(&cluster, &[1, 2, 3]);
    let folder = scratch_folder();
    for round in 0..3 {
        let mut line = cluster.connect(1);
        for number in 0..20 {
            let key = format!("mine-{round}-{number}");
            assert_eq!(
                code(&line.ask(json!({ "op": "set", "key": key, "value": "x".repeat(30_000) }))),
                "ok"
            );
        }
        let file = folder.path().join(format!("{round}.jsonl"));
        let answer = operate(&cluster.addresses(), &format!("backup {}", file.display()));
        let (keys, end) = read_backup(&file);
        assert_eq!(end["lines"], answer["lines"], "{answer}");
        assert_eq!(std::fs::metadata(&file).expect("a file").len(), answer["bytes"], "{answer}");
        for (round, number) in (0..=round).flat_map(|round| (0..20).map(move |number| (round, number))) {
            let key = format!("mine-{round}-{number}");
            assert!(keys.contains(&key), "{key} is not in the backup of round {round}");
        }
        let (status, _, told) = try_operate(&cluster.addresses(), &format!("backup {}", file.display()));
        assert!(status == Some(1) && told.contains("is there already"), "{told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 3, "no draft is left");
    crowd.judge(&cluster);
}
