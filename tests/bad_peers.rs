//! What nobody but a peer may say, said by a stranger, and what not even a peer may say: another cluster's
//! hello, someone else's name, a torn or senseless message. Such a connection is refused or closed, with a
//! line in the log; nobody's term changes, and the cluster goes on. (What clients must not do is in
//! `bad_input.rs`.)
//!
//! The lines are written out here by hand, as someone would write them who has never seen the server's code.

mod support;

use serde_json::{Value, json};
use std::fs;
use support::{Cluster, Line, Plan, Signal, code, wait_until};

/// A term that no honest node here comes near, and whose message a node would accept from a peer.
const MARKED_TERM: u64 = 1_000_000;

/// What node `from` of the cluster would say to node `to`.
fn hello(cluster: &Cluster, from: u16, to: u16) -> Value {
    let identity = fs::read(cluster.data_dir(from).join("identity.json")).expect("the identity");
    let identity: Value = serde_json::from_slice(&identity).expect("JSON");
    json!({ "hello": { "version": 1, "cluster": "test", "from": from, "to": to, "boot": identity["boot"],
        "incarnation": identity["incarnation"], "first_voters": identity["voters"] } })
}

/// The same with one member changed.
fn hello_but(cluster: &Cluster, member: &str, value: Value) -> Value {
    let mut hello = hello(cluster, 2, 1);
    assert!(hello["hello"].get(member).is_some(), "a hello has no {member}");
    hello["hello"][member] = value;
    hello
}

fn envelope(from: u16, to: u16, term: u64, body: Value) -> Value {
    let message = json!({ "from": from, "to": to, "term": term, "body": body });
    json!({ "envelope": { "boot": 1, "event": 1, "message": message } })
}

fn vote_request(from: u16, to: u16, term: u64) -> Value {
    envelope(
        from,
        to,
        term,
        json!({ "RequestVote": { "campaign_term": term, "pre_vote": false,
        "leadership_transfer": true, "last": { "term": term, "index": 1_000_000 } } }),
    )
}

fn append(from: u16, to: u16, term: u64, prev: Value, entries: Value) -> Value {
    envelope(
        from,
        to,
        term,
        json!({ "AppendEntries": { "number": 1, "prev": prev, "entries": entries,
        "leader_commit": 1000, "read_round": { "term": 0, "number": 0 } } }),
    )
}

/// That the cluster serves through each node, and that nobody has heard of the marked term.
#[track_caller]
fn assert_unharmed(cluster: &mut Cluster) {
    cluster.assert_all_alive();
    for node in cluster.ids() {
        let written = cluster.connect(node).ask(r#"{"op":"set","key":"healthy","value":1}"#);
        assert_eq!(code(&written), "ok", "{written}");
        let term = cluster.status(node).expect("a status")["term"].as_u64();
        assert!(term < Some(MARKED_TERM), "n{node} has taken over the term of a stranger: {term:?}");
    }
    cluster.wait_for_agreement();
}

/// Connects as a peer that is welcome.
fn welcomed(cluster: &Cluster, from: u16, to: u16) -> Line {
    let mut line = Line::open(&cluster.peer_address(to));
    let answer = line.ask(hello(cluster, from, to));
    assert_eq!(answer["welcome"]["from"], to, "{answer}");
    line
}

#[test]
fn a_hello_that_does_not_fit_is_refused_with_the_reason_and_nothing_after_it_is_heard() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_agreement();
    for (member, value, why) in [
        ("version", json!(2), "it speaks version 2, and n1 1"),
        ("cluster", json!("other"), "it belongs to the cluster \"other\", and n1 to \"test\""),
        ("cluster", json!("x\nFORGED\u{1b}[31m"), r#"it belongs to the cluster "x\nFORGED\u{1b}[31m", and"#),
        ("from", json!(4), "n4 is not one of [n1, n2, n3]"),
        ("from", json!(65535), "n65535 is not one of"),
        ("to", json!(3), "it looks for n3, and this is n1"),
        ("first_voters", json!([1, 2]), "started in a cluster of [n1, n2]"),
        ("first_voters", json!([1, 2, 3, 4, 5]), "started in a cluster of [n1, n2, n3, n4, n5]"),
        ("incarnation", json!("0123456789abcdef"), "it lost its data directory"),
        ("from", json!(3), "n3 has the incarnation"),
    ] {
        let mut line = Line::open(&cluster.peer_address(1));
        let hello = hello_but(&cluster, member, value);
        // What comes after the hello comes with it, before the answer.
        line.send_bytes(format!("{hello}\n{}\n", vote_request(2, 1, MARKED_TERM)));
        let answers = line.rest();
        let refused: Value = serde_json::from_str(&answers).expect("one line");
        let said = refused["refused"]["why"].as_str().unwrap_or_else(|| panic!("not refused: {refused}"));
        assert!(said.contains(why), "{why:?} is not in {said:?}");
        wait_until("the log tells", || cluster.log(1).contains(why).then_some(()));
    }
    assert_unharmed(&mut cluster);
    assert_no_forgery(&mut cluster);
}

#[test]
fn what_is_no_hello_is_not_answered_but_closed() {
    let mut cluster = Cluster::start(3);
    let long = format!(r#"{{"hello":"{}"#, "x".repeat(3_000_000));
    for bad in [
        "garbage\n".to_owned(),
        "\n".to_owned(),
        "{}\n".to_owned(),
        "{\"op\":\"set\",\"key\":\"x\",\"value\":1}\n".to_owned(),
        "{\"op\":\"status\"}\n".to_owned(),
        format!("{}\n", vote_request(2, 1, MARKED_TERM)),
        format!("{}\n", json!({ "ping": { "number": 1 } })),
        format!("{}\n", json!({ "welcome": { "from": 2, "boot": 1, "incarnation": "0123456789abcdef" } })),
        format!("{}\n", json!({ "\nFORGED\u{1b}[31m": {} })),
        format!("{}\n", hello_but(&cluster, "from", json!(0))),
        format!("{}\n", hello_but(&cluster, "from", json!(1))),
        format!("{}\n", hello_but(&cluster, "from", json!(65536))),
        format!("{}\n", hello_but(&cluster, "from", json!("2"))),
        format!("{}\n", hello_but(&cluster, "boot", json!(u64::MAX))),
        format!("{}\n", hello_but(&cluster, "incarnation", json!("zz"))),
        format!("{}\n", hello_but(&cluster, "first_voters", json!(vec![1; 100_000]))),
        format!("{}\n", hello_but(&cluster, "cluster", json!("x".repeat(10_000)))),
        long,
    ] {
        let mut line = Line::open(&cluster.peer_address(1));
        let shown: String = bad.chars().take(80).collect();
        // The server may have closed before it was all sent.
        let sent = line.try_send_bytes(&bad);
        assert_eq!(line.rest(), "", "{shown} ({sent:?})");
    }
    // Half a hello, and nothing at all: they may not keep their place for long.
    let mut half = Line::open(&cluster.peer_address(1));
    half.send_bytes(&hello(&cluster, 2, 1).to_string()[..40]);
    let mut silent = Line::open(&cluster.peer_address(1));
    assert_eq!((half.rest(), silent.rest()), (String::new(), String::new()));
    assert_unharmed(&mut cluster);
    assert_no_forgery(&mut cluster);
}

#[test]
fn a_peer_that_is_welcome_and_then_talks_nonsense_is_closed_and_its_nonsense_is_not_heard() {
    let mut cluster = Cluster::start(3);
    cluster.wait_for_agreement();
    let none = || json!({ "term": 0, "index": -1 });
    let entry = |term: u64, index: i64| {
        let command = json!({ "op": "set", "key": "forged", "value": 1 });
        json!({ "term": term, "index": index, "command": command })
    };
    let huge = 1u64 << 33;
    let marked = MARKED_TERM;
    let lines = [
        ("garbage", "garbage".to_owned()),
        ("a second hello", hello(&cluster, 2, 1).to_string()),
        ("a client's request", r#"{"op":"set","key":"forged","value":1}"#.to_owned()),
        ("another sender", vote_request(3, 1, marked).to_string()),
        ("itself as the sender", vote_request(1, 1, marked).to_string()),
        ("another receiver", vote_request(2, 3, marked).to_string()),
        ("a term that jumps too far", vote_request(2, 1, huge).to_string()),
        ("the last of all terms", vote_request(2, 1, u64::MAX).to_string()),
        ("a negative term", vote_request(2, 1, marked).to_string().replace("1000000", "-1")),
        ("a term that is no number", vote_request(2, 1, marked).to_string().replace("1000000", "1e6")),
        ("an index below -1", append(2, 1, marked, json!({ "term": 0, "index": -2 }), json!([])).to_string()),
        (
            "an index beyond all",
            append(2, 1, marked, json!({ "term": 1, "index": i64::MAX }), json!([])).to_string(),
        ),
        (
            "an index without a term",
            append(2, 1, marked, json!({ "term": 0, "index": 7 }), json!([])).to_string(),
        ),
        ("an entry after a gap", append(2, 1, marked, none(), json!([entry(1, 1)])).to_string()),
        (
            "entries whose terms fall",
            append(2, 1, marked, none(), json!([entry(2, 0), entry(1, 1)])).to_string(),
        ),
        ("an entry of a later term", append(2, 1, marked, none(), json!([entry(marked + 1, 0)])).to_string()),
        (
            "a prev of a later term",
            append(2, 1, marked, json!({ "term": marked + 1, "index": 1 }), json!([])).to_string(),
        ),
        ("a message cut off", vote_request(2, 1, marked).to_string()[..80].to_owned()),
        ("two messages in a line", vote_request(2, 1, marked).to_string().repeat(2)),
        ("a line that is too long", "x".repeat(3 * 1024 * 1024)),
    ];
    let mut lines = lines.map(|(what, line)| (what, line.into_bytes())).to_vec();
    let mut torn = append(2, 1, marked, none(), json!([entry(1, 0)])).to_string().into_bytes();
    let at = torn.windows(6).position(|part| part == b"forged").expect("a key");
    torn[at] = 0xff;
    lines.push(("bytes that are not UTF-8", torn));
    for (what, bad) in lines {
        let mut line = welcomed(&cluster, 2, 1);
        let sent = line.try_send_bytes([&bad, b"\n".as_slice()].concat());
        assert_eq!(line.rest(), "", "{what} ({sent:?})");
    }
    wait_until("the log tells", || {
        let log = cluster.log(1);
        let reasons = ["a message of n3 from n2", "more than 4294967296 above", "a gap", "too long"];
        reasons.iter().all(|reason| log.contains(reason)).then_some(())
    });
    assert_unharmed(&mut cluster);
    assert_eq!(cluster.connect(1).ask(r#"{"op":"get","key":"forged"}"#)["value"], Value::Null);
    assert_no_forgery(&mut cluster);
}

/// The counterpart of the tests above: what they look for can be seen.
#[test]
fn a_term_that_a_peer_may_say_is_taken_over() {
    let cluster = Cluster::start(3);
    cluster.wait_for_agreement();
    welcomed(&cluster, 2, 1).send(vote_request(2, 1, MARKED_TERM));
    wait_until("the term is everywhere", || {
        let term = |node| cluster.status(node).and_then(|status| status["term"].as_u64());
        cluster.ids().into_iter().all(|node| term(node) >= Some(MARKED_TERM)).then_some(())
    });
    let leader = cluster.leader();
    let written = cluster.connect(leader).ask(r#"{"op":"set","key":"x","value":1}"#);
    assert_eq!(code(&written), "ok", "{written}");
}

#[test]
fn kinds_of_lines_and_messages_that_are_not_known_are_passed_over() {
    let mut cluster = Cluster::start(3);
    let mut line = welcomed(&cluster, 2, 1);
    line.send(json!({ "gossip": { "about": "n3" } }));
    line.send(json!({ "FORGED\nFORGED\u{1b}[31m": 1 }));
    line.send(envelope(2, 1, MARKED_TERM, json!({ "TeaTime": {} })));
    assert_eq!(
        line.ask(json!({ "ping": { "number": 7, "weather": "fine" } })),
        json!({ "pong": { "number": 7 } })
    );
    drop(line);
    assert_unharmed(&mut cluster);
    assert_no_forgery(&mut cluster);
}

#[test]
fn strangers_that_hold_connections_to_the_peers_port_keep_no_peer_away() {
    let mut cluster = Cluster::start(3);
    let (follower, _) = cluster.follower_and_leader();
    let held: Vec<Line> = (0..200).map(|_| Line::open(&cluster.peer_address(follower))).collect();
    // Peers that have to connect anew, while the strangers say nothing.
    for node in cluster.others(follower) {
        cluster.kill(node);
        cluster.restart(node);
    }
    assert_unharmed(&mut cluster);
    drop(held);
}

#[test]
fn a_node_of_another_cluster_that_has_the_wrong_addresses_is_kept_out_by_both_sides() {
    let mut ours = Cluster::start(3);
    // A cluster of the same shape, whose node 3 was given the address of our node 3.
    let mut theirs = Cluster::of(&Plan { cluster: "other", ..Plan::of(3) });
    ours.wait_for_agreement();
    theirs.kill(1);
    let config = fs::read_to_string(theirs.config()).expect("cluster.toml");
    fs::write(theirs.config(), config.replace(&theirs.peer_address(3), &ours.peer_address(3)))
        .expect("a file");
    theirs.restart(1);
    wait_until("both sides tell", || {
        let refused = ours.log(3).contains("it belongs to the cluster \"other\", and n3 to \"test\"");
        let told = theirs.log(1).contains("it refused: \"it belongs to the cluster");
        (refused && told).then_some(())
    });
    for cluster in [&mut ours, &mut theirs] {
        let leader = cluster.leader();
        let written = cluster.connect(leader).ask(r#"{"op":"set","key":"x","value":1}"#);
        assert_eq!(code(&written), "ok", "{written}");
    }
    assert_unharmed(&mut ours);
}

/// That no line in any log is one that a stranger wrote. Stops the cluster, so that all is written.
fn assert_no_forgery(cluster: &mut Cluster) {
    for node in cluster.ids() {
        cluster.stop(node, Signal::SIGTERM);
        let log = cluster.log(node);
        assert_eq!(
            log.lines().find(|line| line.starts_with("FORGED")),
            None,
            "a forged line in n{node}'s log"
        );
        assert!(!log.contains('\u{1b}'), "an escape sequence in n{node}'s log");
    }
}
