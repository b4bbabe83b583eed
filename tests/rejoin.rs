//! A voter that lost its data comes back under its old name: as somebody new, who gets the log before it
//! votes.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Cluster, code, wait_until};

/// All data of a node is gone, its process too.
fn lose_data(cluster: &mut Cluster, node: u16) {
    cluster.kill(node);
    fs::remove_dir_all(cluster.data_dir(node)).expect("the folder of a node that is down");
}

/// The value of a key, asked of this node until it answers: `what` is waited for.
fn value_once(what: &str, cluster: &Cluster, node: u16, key: &str) -> Value {
    wait_until(what, || {
        let answer = cluster.connect(node).ask(json!({ "op": "get", "key": key }));
        (code(&answer) == "ok").then(|| answer["value"].clone())
    })
}

#[test]
fn a_voter_that_lost_its_data_comes_back_without_a_vote_and_then_votes_again() {
    let mut cluster = Cluster::start(3);
    let (lost, leader) = cluster.follower_and_leader();
    let other = cluster.others(lost).into_iter().find(|node| *node != leader).expect("three nodes");
    for number in 0..100 {
        let set = json!({ "op": "set", "key": format!("k{number}"), "value": number });
        assert_eq!(code(&cluster.connect(leader).ask(set)), "ok");
    }
    lose_data(&mut cluster, lost);
    cluster.restart_with(lost, &["--rejoin"]);
    wait_until("its new folder is a voter's", || {
        let members = cluster.connect(leader).ask(r#"{"op":"members"}"#);
        let is_settled = members["voters"] == json!([1, 2, 3]) && members["outgoing"] == json!([]);
        (is_settled && members["index"].as_i64() > Some(100) && members["committed"] == json!(true))
            .then_some(())
    });
    cluster.wait_for_agreement();
    // With the other one down, nothing is decided without it.
    cluster.kill(other);
    let answer = cluster.connect(leader).ask(r#"{"op":"set","key":"needs both","value":1}"#);
    assert_eq!(code(&answer), "ok", "{answer}");
    // And it elects: of two, each needs the other's vote.
    cluster.kill(leader);
    cluster.restart(leader);
    assert_eq!(value_once("two of three serve", &cluster, lost, "k99"), json!(99));
}

#[test]
fn while_it_has_lost_its_data_a_voter_gives_no_vote() {
    let mut cluster = Cluster::start(3);
    let (lost, leader) = cluster.follower_and_leader();
    let other = cluster.others(lost).into_iter().find(|node| *node != leader).expect("three nodes");
    assert_eq!(code(&cluster.connect(leader).ask(r#"{"op":"set","key":"x","value":1}"#)), "ok");
    cluster.kill(leader);
    lose_data(&mut cluster, lost);
    cluster.restart_with(lost, &["--rejoin"]);
    // The one that is left campaigns, and gets no vote: nobody leads, and nothing is forgotten.
    wait_until("the vote is refused, or the folder", || {
        let log = cluster.log(other);
        log.contains("lost its data").then_some(())
    });
    let answer = cluster.connect(other).ask(r#"{"op":"get","key":"x"}"#);
    assert_eq!(code(&answer), "unavailable", "{answer}");
    cluster.restart(leader);
    assert_eq!(value_once("a majority serves, and lets it in", &cluster, lost, "x"), json!(1));
}

/// Who was away meanwhile turned such a leader away by its old folder, for as long as it led.
#[test]
fn who_was_away_while_the_leader_came_back_with_another_folder_follows_it() {
    let mut cluster = Cluster::start(5);
    let (away, leader) = cluster.follower_and_leader();
    let lost = cluster.others(away).into_iter().find(|node| *node != leader).expect("five nodes");
    assert_eq!(code(&cluster.connect(leader).ask(r#"{"op":"set","key":"x","value":1}"#)), "ok");
    cluster.wait_for_agreement();
    cluster.kill(away);
    lose_data(&mut cluster, lost);
    cluster.restart_with(lost, &["--rejoin"]);
    wait_until("it leads, with its new folder", || {
        let leader = cluster.leader();
        let members = cluster.connect(leader).ask(r#"{"op":"members"}"#);
        let is_back = members["voters"] == json!([1, 2, 3, 4, 5]) && members["outgoing"] == json!([]);
        if is_back && members["index"].as_i64() > Some(1) && leader != lost {
            cluster.connect(leader).ask(json!({ "op": "transfer", "to": lost }));
        }
        (leader == lost).then_some(())
    });
    let answer = cluster.connect(lost).ask(r#"{"op":"set","key":"x","value":2}"#);
    assert_eq!(code(&answer), "ok", "{answer}");
    cluster.restart(away);
    assert_eq!(value_once("it hears the leader", &cluster, away, "x"), json!(2));
    assert_eq!(cluster.leader(), lost);
}
