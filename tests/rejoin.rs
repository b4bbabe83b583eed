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

/// Five nodes, one of which is down, while another one loses its data and becomes a voter again: the two.
fn with_one_away_and_one_that_came_back() -> (Cluster, u16, u16) {
    let mut cluster = Cluster::start(5);
    let (away, leader) = cluster.follower_and_leader();
    let lost = cluster.others(away).into_iter().find(|node| *node != leader).expect("five nodes");
    set(&cluster, leader, 1);
    cluster.wait_for_agreement();
    cluster.kill(away);
    lose_data(&mut cluster, lost);
    cluster.restart_with(lost, &["--rejoin"]);
    wait_until("its new folder is a voter's", || {
        let members = cluster.connect(lost).ask(r#"{"op":"members"}"#);
        let is_back = members["voters"] == json!([1, 2, 3, 4, 5]) && members["outgoing"] == json!([]);
        (is_back && members["index"].as_i64() > Some(1) && members["committed"] == json!(true)).then_some(())
    });
    (cluster, away, lost)
}

fn set(cluster: &Cluster, node: u16, value: i64) {
    let answer = cluster.connect(node).ask(json!({ "op": "set", "key": "x", "value": value }));
    assert_eq!(code(&answer), "ok", "{answer}");
}

/// Who was away meanwhile turned such a leader away by its old folder, for as long as it led.
#[test]
fn who_was_away_while_the_leader_came_back_with_another_folder_follows_it() {
    let (mut cluster, away, lost) = with_one_away_and_one_that_came_back();
    wait_until("it leads", || {
        let leader = cluster.leader();
        if leader != lost {
            cluster.connect(leader).ask(json!({ "op": "transfer", "to": lost }));
        }
        (leader == lost).then_some(())
    });
    set(&cluster, lost, 2);
    cluster.restart(away);
    assert_eq!(value_once("it hears the leader", &cluster, away, "x"), json!(2));
    assert_eq!(cluster.leader(), lost);
}

/// And where nobody led, and only the two together with a third made a majority, there was no leader for
/// ever: only who came back with another folder had all that was committed, and could tell what names it.
#[test]
fn who_was_away_votes_for_whoever_came_back_with_another_folder() {
    let (mut cluster, away, lost) = with_one_away_and_one_that_came_back();
    let mut others: Vec<u16> = cluster.awake().into_iter().filter(|node| *node != lost).collect();
    let behind = others.pop().expect("three nodes");
    cluster.kill(behind);
    // Once more, if the leader was that one.
    wait_until("the other three go on", || {
        let answer = cluster.connect(lost).ask(r#"{"op":"set","key":"x","value":3}"#);
        (code(&answer) == "ok").then_some(())
    });
    cluster.wait_for_agreement();
    others.into_iter().for_each(|node| cluster.kill(node));
    cluster.restart(away);
    cluster.restart(behind);
    assert_eq!(value_once("it is voted for", &cluster, behind, "x"), json!(3));
    assert_eq!(cluster.leader(), lost);
}

/// One had lost its data, and somebody said of it that it is a new cluster's: all turned it away. Another one
/// lost its data, came back with `--rejoin`, had never met anybody, and took it for the one that the others
/// remember.
#[test]
fn who_comes_back_turns_those_away_whom_the_others_do() {
    let mut cluster = Cluster::start(5);
    let (wrong, leader) = cluster.follower_and_leader();
    let lost = cluster.others(wrong).into_iter().find(|node| *node != leader).expect("five nodes");
    set(&cluster, leader, 1);
    cluster.wait_for_agreement();
    lose_data(&mut cluster, wrong);
    lose_data(&mut cluster, lost);
    cluster.restart_with(wrong, &["--bootstrap"]);
    cluster.restart_with(lost, &["--rejoin"]);
    wait_until("it is a voter again, and knows a stranger", || {
        let members = cluster.connect(lost).ask(r#"{"op":"members"}"#);
        let is_back = members["voters"] == json!([1, 2, 3, 4, 5]) && members["outgoing"] == json!([]);
        let turns_away = cluster.log(lost).contains(&format!("n{wrong} has the incarnation"));
        (is_back && members["index"].as_i64() > Some(1) && turns_away).then_some(())
    });
    let answer = cluster.connect(wrong).ask(r#"{"op":"get","key":"x"}"#);
    assert_eq!(code(&answer), "unavailable", "{answer}");
    assert_eq!(value_once("the cluster serves", &cluster, lost, "x"), json!(1));
}
