//! Real processes that nothing happens to: what clients can rely on, through any node. What happens when
//! nodes die, stall and come back is in `crashes.rs`.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::{Cluster, Line, Load, Signal, Writer, code};

/// An answer without what differs from run to run.
fn without_index(mut answer: Value) -> Value {
    let index = answer.as_object_mut().and_then(|members| members.remove("index"));
    assert!(
        answer["ok"] == false || answer["role"].is_string() || index.is_some_and(|it| it.is_i64()),
        "{answer}"
    );
    if let Some(message) = answer.pointer_mut("/error/message") {
        assert!(message.as_str().is_some_and(|text| !text.is_empty()));
        *message = json!("…");
    }
    answer
}

#[test]
fn a_file_of_lines_piped_through_any_node_does_what_it_says() {
    let cluster = Cluster::start(3);
    // As `nc -N` does: all of it at once, the last line without a newline, then the end of the sending side.
    let file = concat!(
        r#"{"op":"set","key":"x","value":1,"id":1}"#,
        "\n",
        r#"{"op":"get","key":"x","id":"two"}"#,
        "\n",
        r#"{"op":"cas","key":"x","expect":1.0,"value":{"b":[1.50]}}"#,
        "\n",
        r#"{"op":"get","key":"x"}"#,
        "\r\n",
        r#"{"op":"cas","key":"x","expect":1,"value":2}"#,
        "\n",
        "no request\n",
        r#"{"op":"get","key":"absent","id":7.50}"#,
        "\n",
        r#"{"op":"set","key":"y","value":null,"id":8}"#,
        "\n",
        r#"{"op":"set","key":"y","value":"why"}"#,
        "\n",
        r#"{"op":"scan","prefix":"","limit":1}"#,
        "\n",
        r#"{"op":"delete","key":"x"}"#,
        "\n",
        r#"{"op":"delete","key":"x"}"#,
        "\n",
        r#"{"op":"scan","prefix":"","id":"last"}"#,
    );
    let expected = [
        r#"{"id":1,"ok":true}"#,
        r#"{"id":"two","ok":true,"value":1}"#,
        r#"{"ok":true,"swapped":true}"#,
        r#"{"ok":true,"value":{"b":[1.50]}}"#,
        r#"{"ok":true,"swapped":false,"value":{"b":[1.50]}}"#,
        r#"{"ok":false,"error":{"code":"bad_request","message":"…"}}"#,
        r#"{"id":7.50,"ok":true,"value":null}"#,
        r#"{"id":8,"ok":false,"error":{"code":"bad_request","message":"…"}}"#,
        r#"{"ok":true}"#,
        r#"{"ok":true,"items":[{"key":"x","value":{"b":[1.50]}}],"more":true}"#,
        r#"{"ok":true,"deleted":true}"#,
        r#"{"ok":true,"deleted":false}"#,
        r#"{"id":"last","ok":true,"items":[{"key":"y","value":"why"}],"more":false}"#,
    ];
    let expected = expected.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    for node in cluster.ids() {
        let mut line = cluster.connect(node);
        line.send_bytes(file);
        line.end_sending();
        let answers: Vec<Value> = line.answers_to_the_end().into_iter().map(without_index).collect();
        assert_eq!(answers, expected, "through n{node}");
        assert_eq!(cluster.connect(node).ask(r#"{"op":"delete","key":"y"}"#)["deleted"], true);
    }
    cluster.wait_for_agreement();
}

#[test]
fn an_id_comes_back_as_it_was_written_and_first() {
    let cluster = Cluster::start(1);
    let mut line = cluster.connect(1);
    line.send_bytes(
        "{\"id\":1e400,\"op\":\"get\",\"key\":\"k\"}\n{\"key\":\"k\",\"op\":\"get\",\"id\":\"\\u0061\"}\n",
    );
    line.end_sending();
    let answers = line.rest();
    let answers: Vec<&str> = answers.lines().collect();
    assert!(answers[0].starts_with("{\"id\":1e400,\"ok\":true,\"value\":null,"), "{answers:?}");
    assert!(answers[1].starts_with("{\"id\":\"\\u0061\",\"ok\":true,\"value\":null,"), "{answers:?}");
    assert_eq!(answers.len(), 2);
}

#[test]
fn each_of_many_pipelined_requests_sees_what_its_connection_did_before() {
    const ROUNDS: usize = 1000;
    let cluster = Cluster::start(3);
    let (follower, leader) = cluster.follower_and_leader();
    for node in [leader, follower] {
        let mut line = cluster.connect(node);
        let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
        let sender = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                let key = format!("k{}", round % 3);
                writing.send(json!({ "op": "set", "key": key, "value": round, "id": 2 * round }));
                writing.send(json!({ "op": "get", "key": key, "id": 2 * round + 1 }));
            }
            writing.end_sending();
        });
        let mut last_index = -1;
        for round in 0..ROUNDS {
            let (set, get) = (line.answer(), line.answer());
            assert_eq!((&set["id"], &get["id"]), (&json!(2 * round), &json!(2 * round + 1)));
            assert_eq!(get["value"], json!(round), "through n{node}: {get}");
            let index = set["index"].as_i64().expect("an index");
            assert!(index > last_index, "writes of one connection are applied in their order");
            assert!(get["index"].as_i64() >= Some(index), "{get} after {set}");
            last_index = index;
        }
        sender.join().expect("everything was sent");
        assert_eq!(line.answers_to_the_end(), Vec::<Value>::new());
    }
}

#[test]
fn a_read_through_any_node_sees_what_was_acknowledged_before_it_through_any_other() {
    let cluster = Cluster::start(3);
    let mut lines: BTreeMap<u16, Line> =
        cluster.ids().into_iter().map(|id| (id, cluster.connect(id))).collect();
    let mut count = 0;
    for _ in 0..30 {
        for writer in cluster.ids() {
            count += 1;
            let set = json!({ "op": "set", "key": "x", "value": count });
            let written = lines.get_mut(&writer).expect("a line").ask(set);
            assert_eq!(code(&written), "ok", "{written}");
            for (reader, line) in &mut lines {
                let get = line.ask(r#"{"op":"get","key":"x"}"#);
                assert_eq!(get["value"], count, "set through n{writer}, read through n{reader}");
                let scan = line.ask(r#"{"op":"scan","prefix":"x"}"#);
                assert_eq!(scan["items"][0]["value"], count, "set through n{writer}, read through n{reader}");
            }
        }
    }
}

#[test]
fn a_numbered_write_is_applied_once_and_each_node_gives_its_first_answer() {
    let cluster = Cluster::start(3);
    let ask = |node: u16, request: &Value| cluster.connect(node).ask(request);
    let cas = json!({ "op": "cas", "key": "x", "expect": null, "value": 1, "client": "c", "seq": 1 });
    let first = ask(1, &cas);
    assert_eq!(first["swapped"], true, "{first}");
    for node in cluster.ids() {
        assert_eq!(ask(node, &cas), first, "through n{node}");
    }
    let delete = json!({ "op": "delete", "key": "x", "client": "c", "seq": 2 });
    let deleted = ask(2, &delete);
    assert_eq!(deleted["deleted"], true, "{deleted}");
    for node in cluster.ids() {
        assert_eq!(ask(node, &delete), deleted, "through n{node}");
        assert_eq!(code(&ask(node, &cas)), "stale_seq");
        let stranger = json!({ "op": "delete", "key": "x", "client": "d", "seq": 2 });
        assert_eq!(code(&ask(node, &stranger)), "session_expired");
        assert_eq!(ask(node, &json!({ "op": "get", "key": "x" }))["value"], Value::Null);
    }
    cluster.wait_for_agreement();
}

#[test]
fn a_numbered_write_that_all_nodes_get_at_once_is_applied_once() {
    let cluster = Cluster::start(3);
    let mut lines: Vec<Line> = cluster.ids().into_iter().map(|id| cluster.connect(id)).collect();
    for round in 0..100 {
        let expect = if round == 0 { Value::Null } else { json!(round) };
        let mut cas = json!({ "op": "cas", "key": "x", "expect": expect, "value": round + 1 });
        cas["client"] = json!("c");
        cas["seq"] = json!(round + 1);
        lines.iter_mut().for_each(|line| line.send(&cas));
        let answers: Vec<Value> = lines.iter_mut().map(Line::answer).collect();
        assert_eq!(answers[0]["swapped"], true, "{}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
}

#[test]
fn a_cluster_of_one_serves() {
    let cluster = Cluster::start(1);
    let mut line = cluster.connect(1);
    let written = line.ask(r#"{"op":"set","key":"x","value":1}"#);
    assert_eq!(code(&written), "ok", "{written}");
    let status = line.ask(r#"{"op":"status"}"#);
    assert_eq!((&status["role"], &status["leader"]), (&json!("leader"), &json!(1)));
    assert_eq!((&status["first_index"], &status["peers"]), (&json!(0), &json!([])));
    assert_eq!(status["commit_index"], written["index"]);
    assert_eq!(status["last_applied"], written["index"]);
}

#[test]
fn the_leaders_status_shows_how_far_each_peer_is() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    Writer::new("w", vec![cluster.address(leader)]).write(json!({ "op": "set", "key": "x", "value": 1 }));
    cluster.wait_for_agreement();
    let status = support::wait_until("the leader knows how far the others are", || {
        let status = cluster.status(leader)?;
        let peers = status["peers"].as_array()?;
        peers.iter().all(|peer| peer["match_index"] == status["last_index"]).then(|| status.clone())
    });
    let next = status["last_index"].as_i64().expect("an index") + 1;
    let peers: Vec<Value> = cluster
        .others(leader)
        .into_iter()
        .map(|id| json!({ "id": id, "match_index": next - 1, "next_index": next, "connected": true }))
        .collect();
    assert_eq!(status["peers"], json!(peers));
}

#[test]
fn nodes_that_are_asked_to_stop_exit_with_0_and_lose_nothing() {
    let mut cluster = Cluster::start(3);
    let load = Load::start("rolling", 3, &cluster.addresses());
    for (node, signal) in [(1, Signal::SIGTERM), (2, Signal::SIGINT), (3, Signal::SIGTERM)] {
        load.wait_for_more(20);
        cluster.stop(node, signal);
        assert!(cluster.log(node).contains("stops: it was asked to"));
        load.wait_for_more(20);
        cluster.restart(node);
        cluster.leader();
    }
    load.wait_for_more(20);
    let promises = load.stop();
    cluster.ids().into_iter().for_each(|node| promises.check(&cluster, node));
    cluster.wait_for_agreement();
}
