//! What clients must not do, done to real processes: lines that are no requests, too long, unfinished, in
//! floods; clients that never read, never finish, or are too many. Each costs its own connection at most: the
//! cluster serves everyone else, no process dies, memory stays bounded, and the log shows nothing forged.
//! (What peers must not do is in `bad_peers.rs`.)

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::Read;
use std::net::Shutdown;
use support::{Cluster, Line, Plan, Signal, code, wait_until};

/// That the cluster serves, through this node.
#[track_caller]
fn assert_serves(cluster: &Cluster, node: u16) {
    let mut line = cluster.connect(node);
    let written = line.ask(r#"{"op":"set","key":"healthy","value":1}"#);
    assert_eq!(code(&written), "ok", "{written}");
    assert_eq!(line.ask(r#"{"op":"get","key":"healthy"}"#)["value"], 1);
}

/// The memory of a node's process, in MiB.
fn memory_mib(cluster: &mut Cluster, node: u16) -> usize {
    let status = format!("/proc/{}/status", cluster.process(node).pid());
    let status = fs::read_to_string(status).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    let kib: usize = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    kib / 1024
}

#[test]
fn a_line_that_is_no_request_is_answered_and_the_connection_goes_on() {
    let mut cluster = Cluster::start(1);
    let deep = format!(r#"{{"op":"set","key":"x","value":{}1{}}}"#, "[".repeat(65), "]".repeat(65));
    let deeper = "[".repeat(500_000);
    let many_members = format!("{{{}}}", r#""a":1,"#.repeat(100_000));
    let nul: &[u8] = b"{\"op\":\"get\",\"key\":\"x\0\"}";
    let mut line = cluster.connect(1);
    for bad in [
        b"garbage".as_slice(),
        b"",
        b"\xff\xfe\xfd",
        b"{\"op\":\"get\",\"key\":\"\xc3\x28\"}",
        b"\0\0\0\0",
        nul,
        b"GET / HTTP/1.1\r",
        br#"{"op":"get","key":"x"}{"op":"get","key":"x"}"#,
        br#"{"op":"get","key":"x","key":"y"}"#,
        br#"{"op":"set","key":"x","value":"\ud800"}"#,
        br#"{"op":"set","key":"x","value":1e}"#,
        br#"{"op":"set","key":"x","value":1,"client":"c","seq":0}"#,
        br#"{"op":"set","key":"x","value":1,"client":"c","seq":99999999999999999999}"#,
        br#"{"op":"scan","prefix":"","limit":1000000000000}"#,
        deep.as_bytes(),
        deeper.as_bytes(),
        many_members.as_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&bad[..bad.len().min(60)]).into_owned();
        line.send_bytes(bad);
        line.send_bytes("\n");
        let answer = line.answer();
        assert_eq!(code(&answer), "bad_request", "{shown}: {answer}");
        assert!(answer.to_string().len() < 1000, "{shown}: a long answer: {answer}");
        assert_eq!(line.ask(r#"{"op":"get","key":"x"}"#)["value"], Value::Null, "after {shown}");
    }
    // As deep as it may be, it is a value like any other.
    let deepest = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    assert_eq!(code(&line.ask(format!(r#"{{"op":"set","key":"x","value":{deepest}}}"#))), "ok");
    let get = line.ask(r#"{"op":"get","key":"x"}"#);
    assert_eq!(get["value"], serde_json::from_str::<Value>(&deepest).expect("JSON"));
    cluster.assert_all_alive();
}

#[test]
fn half_a_line_and_a_connection_that_is_gone_harm_nobody() {
    let mut cluster = Cluster::start(1);
    let request = r#"{"op":"set","key":"half","value":1}"#;
    for cut in 0..request.len() {
        let mut line = cluster.connect(1);
        line.send_bytes(&request[..cut]);
        match cut % 3 {
            // In order, abruptly (what is not read makes it a reset), and by just going.
            0 => line.end_sending(),
            1 => line.stream().shutdown(Shutdown::Both).expect("it is open"),
            _ => {}
        }
    }
    // Whole requests whose client does not wait for the answers.
    for _ in 0..100 {
        let mut line = cluster.connect(1);
        line.send_bytes(format!("{}\n", r#"{"op":"get","key":"half"}"#).repeat(50));
    }
    // None of the halves was taken for a request that it was not.
    assert_eq!(cluster.connect(1).ask(r#"{"op":"get","key":"half"}"#)["value"], Value::Null);
    assert_serves(&cluster, 1);
    cluster.assert_all_alive();
}

#[test]
fn a_line_may_be_as_long_as_the_limit_says_and_not_a_byte_longer() {
    const LIMIT: usize = 4096;
    let cluster = Cluster::of(&Plan { max_line_bytes: LIMIT, ..Plan::of(1) });
    let set_of = |length: usize| {
        let frame = json!({ "op": "set", "key": "x", "value": "" }).to_string().len();
        json!({ "op": "set", "key": "x", "value": "v".repeat(length - frame) }).to_string()
    };
    for length in [LIMIT - 1, LIMIT] {
        let set = set_of(length);
        assert_eq!(set.len(), length);
        assert_eq!(code(&cluster.connect(1).ask(set)), "ok", "{length} bytes");
    }
    // Everything before it is answered, then this, then the connection ends; what comes after is not done.
    for end in ["\n", ""] {
        let mut line = cluster.connect(1);
        for id in 0..50 {
            line.send(json!({ "id": id, "op": "set", "key": "before", "value": id }));
        }
        line.send_bytes(set_of(LIMIT + 1));
        line.send_bytes(end);
        line.send_bytes("\n");
        line.send(r#"{"op":"set","key":"after","value":1}"#);
        for id in 0..50 {
            let answer = line.answer();
            assert_eq!((&answer["id"], code(&answer)), (&json!(id), "ok"));
        }
        assert_eq!(code(&line.answer()), "too_large");
        assert_eq!(line.rest(), "");
        assert_eq!(cluster.connect(1).ask(r#"{"op":"get","key":"before"}"#)["value"], 49);
        assert_eq!(cluster.connect(1).ask(r#"{"op":"get","key":"after"}"#)["value"], Value::Null);
    }
}

#[test]
fn a_line_without_an_end_is_answered_while_it_still_comes() {
    let mut cluster = Cluster::start(1);
    let mut line = cluster.connect(1);
    let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
    let sender = std::thread::spawn(move || {
        let piece = "x".repeat(1024 * 1024);
        // Until the server has had enough of it.
        while writing.try_send_bytes(&piece).is_ok() {}
    });
    assert_eq!(code(&line.answer()), "too_large");
    line.rest();
    sender.join().expect("the sender finds the connection closed");
    assert!(memory_mib(&mut cluster, 1) < 100);
    assert_serves(&cluster, 1);
}

#[test]
fn a_hundred_thousand_lines_of_a_client_that_reads_late_are_all_answered_in_order() {
    const LINES: usize = 100_000;
    let mut cluster = Cluster::start(3);
    let (follower, _) = cluster.follower_and_leader();
    let mut line = cluster.connect(follower);
    let mut writing = Line::of(line.stream().try_clone().expect("a second handle"));
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&sent);
    let sender = std::thread::spawn(move || {
        let mut some = String::new();
        for id in 0..LINES {
            // Mostly what costs little, so that it is the client that is slow.
            let request = match id % 10 {
                0 => json!({ "id": id, "op": "set", "key": format!("k{}", id % 7), "value": id }),
                1 => json!({ "id": id, "op": "get", "key": "k0" }),
                2 => json!({ "id": id, "op": "bad" }),
                3 => json!({ "id": id, "op": "status" }),
                _ => json!({ "id": id, "op": "scan", "prefix": "k", "stale": true }),
            };
            // Spaces, so that the lines are more than the system's buffers on the way: else it may take all
            // of them itself, and whether the server has stopped to read does not show.
            some += &format!("{request}{:400}\n", "");
            if id % 100 == 99 {
                writing.send_bytes(&some);
                some.clear();
                count.store(id + 1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        writing.end_sending();
    });
    // It reads nothing until it can send nothing more: the server has stopped taking what it cannot answer.
    let mut before = usize::MAX;
    let mut same = 0;
    wait_until("the server stops reading", || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        (same == 100).then_some(())
    });
    assert!(before < LINES, "the server has read everything of a client that reads nothing");
    assert!(memory_mib(&mut cluster, follower) < 200);
    assert_serves(&cluster, follower);
    for id in 0..LINES {
        let answer = line.answer();
        assert_eq!(answer["id"], id);
        let expected = if id % 10 == 2 { "bad_request" } else { "ok" };
        assert_eq!(code(&answer), expected, "{answer}");
    }
    assert_eq!(line.answers_to_the_end(), Vec::<Value>::new());
    sender.join().expect("everything was sent");
    cluster.wait_for_agreement();
}

#[test]
fn clients_that_never_read_are_closed_and_cost_little_memory() {
    let mut cluster = Cluster::start(1);
    let value = "v".repeat(1_000_000);
    assert_eq!(code(&cluster.connect(1).ask(json!({ "op": "set", "key": "x", "value": value }))), "ok");
    let requests = format!("{}\n", json!({ "op": "get", "key": "x" })).repeat(300);
    let mut lines: Vec<Line> = (0..10)
        .map(|_| {
            let mut line = cluster.connect(1);
            line.send_bytes(&requests);
            line
        })
        .collect();
    let mut most = 0;
    wait_until("they are closed", || {
        most = most.max(memory_mib(&mut cluster, 1));
        // Whoever still sends learns of it by an error.
        lines.retain_mut(|line| line.try_send_bytes("\n").is_ok());
        lines.is_empty().then_some(())
    });
    assert!(most < 400, "{most} MiB for ten clients that do not read");
    assert_serves(&cluster, 1);
}

#[test]
fn large_writes_that_wait_for_a_leader_are_refused_before_they_fill_the_memory() {
    let mut cluster = Cluster::start(3);
    let (survivor, _) = cluster.follower_and_leader();
    cluster.others(survivor).into_iter().for_each(|node| cluster.kill(node));
    wait_until("nobody leads", || {
        cluster.status(survivor).is_some_and(|status| status["leader"].is_null()).then_some(())
    });
    let set = format!("{}\n", json!({ "op": "set", "key": "x", "value": "v".repeat(1_000_000) }));
    // More than a gigabyte, each connection from a thread of its own and within what it may have open.
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut line = cluster.connect(survivor);
            let set = set.clone();
            std::thread::spawn(move || {
                (0..150).for_each(|_| line.send_bytes(&set));
                line.end_sending();
                line.answers_to_the_end()
            })
        })
        .collect();
    let mut most = 0;
    wait_until("all are answered", || {
        most = most.max(memory_mib(&mut cluster, survivor));
        clients.iter().all(|client| client.is_finished()).then_some(())
    });
    let answers: Vec<Value> =
        clients.into_iter().flat_map(|client| client.join().expect("a client without trouble")).collect();
    assert_eq!(answers.len(), 8 * 150);
    assert!(answers.iter().all(|answer| ["busy", "unavailable"].contains(&code(answer))));
    assert!(answers.iter().any(|answer| code(answer) == "busy"), "all of a gigabyte was kept waiting");
    assert!(most < 500, "{most} MiB for writes that wait for a leader");
    cluster.others(survivor).into_iter().for_each(|node| cluster.restart(node));
    cluster.leader();
    assert_eq!(cluster.connect(survivor).ask(r#"{"op":"get","key":"x"}"#)["value"], Value::Null);
}

/// Readers share a thread, in which nobody may wait for one client's turn.
#[test]
fn a_client_that_has_to_wait_for_its_turn_does_not_hold_up_others() {
    let mut cluster = Cluster::start(3);
    let (survivor, _) = cluster.follower_and_leader();
    cluster.others(survivor).into_iter().for_each(|node| cluster.kill(node));
    let mut waiting = cluster.connect(survivor);
    // Without a leader the write waits until its time is up, and the read for the write.
    waiting.send(r#"{"op":"set","key":"x","value":1,"id":1}"#);
    waiting.send(r#"{"op":"get","key":"x","id":2}"#);
    waiting.send(r#"{"op":"status","id":3}"#);
    let first = std::thread::spawn(move || {
        let write = waiting.answer();
        (write, waiting)
    });
    for _ in 0..2 {
        let mut other = cluster.connect(survivor);
        for _ in 0..3 {
            assert_eq!(code(&other.ask(r#"{"op":"get","key":"x","stale":true}"#)), "ok");
        }
    }
    assert!(!first.is_finished(), "others waited until the write had its answer");
    let (write, mut waiting) = first.join().expect("an answer");
    let ids = [&write, &waiting.answer(), &waiting.answer()].map(|answer| answer["id"].clone());
    assert_eq!(ids, [1, 2, 3].map(Value::from));
}

#[test]
fn five_hundred_idle_and_dripping_connections_leave_the_others_served() {
    let mut cluster = Cluster::start(3);
    let (follower, _) = cluster.follower_and_leader();
    let mut held: Vec<Line> = (0..500).map(|_| cluster.connect(follower)).collect();
    for (number, line) in held.iter_mut().enumerate() {
        // Some never say anything, some begin a line.
        if number % 2 == 0 {
            line.send_bytes(r#"{"op":"se"#);
        }
    }
    for _ in 0..50 {
        assert_serves(&cluster, follower);
    }
    assert!(memory_mib(&mut cluster, follower) < 200);
    // They are clients like others: an idle one is served when it asks.
    assert_eq!(held[1].ask(r#"{"op":"get","key":"healthy"}"#)["value"], 1);
    drop(held);
    assert_serves(&cluster, follower);
}

#[test]
fn a_line_that_drips_in_is_given_up_however_steadily_it_drips() {
    let cluster = Cluster::start(1);
    let mut line = cluster.connect(1);
    // One letter at each look: it never falls silent, and it never ends.
    wait_until("the server closes the connection", || line.try_send_bytes("x").is_err().then_some(()));
    assert_serves(&cluster, 1);
}

#[test]
fn one_client_too_many_is_told_so_and_there_is_room_again_when_one_goes() {
    let cluster = Cluster::of(&Plan { max_clients: 3, ..Plan::of(1) });
    // The harness asks for the status on a connection that counts too.
    let mut held: Vec<Line> = (0..2).map(|_| cluster.connect(1)).collect();
    for line in &mut held {
        assert_eq!(code(&line.ask(r#"{"op":"get","key":"x"}"#)), "ok");
    }
    let mut refused = cluster.connect(1);
    assert_eq!(code(&refused.answer()), "busy");
    assert_eq!(refused.rest(), "");
    assert_eq!(code(&held[0].ask(r#"{"op":"get","key":"x"}"#)), "ok");
    held.pop();
    wait_until("there is room again", || {
        let mut line = cluster.connect(1);
        line.send_bytes("{\"op\":\"get\",\"key\":\"x\"}\n");
        matches!(line.try_answer(), Ok(Some(answer)) if code(&answer) == "ok").then_some(())
    });
}

#[test]
fn what_a_client_says_cannot_forge_a_line_of_the_log() {
    const FORGED: &str = "\nFORGED  INFO n1@9 leader: all is well\u{1b}[31m\r\u{2028}";
    let mut cluster = Cluster::start(1);
    let mut line = cluster.connect(1);
    for request in [
        json!({ "op": FORGED, "id": FORGED }),
        json!({ "op": "get", "key": FORGED, "id": FORGED }),
        json!({ "op": "set", "key": FORGED, "value": FORGED, "client": FORGED, "seq": 1 }),
        json!({ "op": "get", "key": "x", FORGED: 1 }),
        json!({ "op": "scan", "prefix": FORGED, "after": FORGED }),
    ] {
        line.ask(request);
    }
    // Unescaped, too.
    line.send_bytes(FORGED);
    line.send_bytes("\n");
    line.end_sending();
    line.answers_to_the_end();
    cluster.stop(1, Signal::SIGTERM);
    assert_no_forgery(&cluster.log(1));
}

fn assert_no_forgery(log: &str) {
    let forged = log.lines().find(|line| line.trim_start().starts_with("FORGED"));
    assert_eq!(forged, None, "a forged line");
    assert!(!log.contains('\u{1b}') && !log.contains('\r'), "control characters in the log");
}

#[test]
fn a_peers_hello_on_the_clients_port_is_no_request() {
    let cluster = Cluster::start(3);
    let mut line = cluster.connect(1);
    let hello = json!({ "hello": { "version": 1, "cluster": "test", "from": 2, "to": 1, "boot": 1,
        "incarnation": "0000000000000000", "first_voters": [1, 2, 3] } });
    let vote = json!({ "envelope": { "boot": 1, "event": 1, "message": { "from": 2, "to": 1, "term": 1000,
        "body": { "RequestVote": { "campaign_term": 1000, "pre_vote": false, "leadership_transfer": true,
        "last": { "term": 999, "index": 999 } } } } } });
    for request in [hello, vote, json!({ "ping": { "number": 1 } })] {
        assert_eq!(code(&line.ask(request)), "bad_request");
    }
    let term = line.ask(r#"{"op":"status"}"#)["term"].as_u64();
    assert!(term < Some(1000), "a client has changed the term to {term:?}");
}

/// A byte that comes is at least no end.
#[test]
fn bytes_of_every_kind_in_floods_end_no_process() {
    let mut cluster = Cluster::start(3);
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    println!("seed {state:#x}");
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let whole = concat!(
        r#"{"op":"cas","key":"x","expect":{"a":[1,2.5e3,"\u0041"]},"#,
        r#""value":[true],"client":"c","seq":1,"id":7}"#
    );
    for round in 0..60 {
        let node = cluster.ids()[round % 3];
        for address in [cluster.address(node), cluster.peer_address(node)] {
            let mut line = Line::open(&address);
            let mut bytes = Vec::new();
            for _ in 0..40 {
                // Half of it noise, half of it a request with a few bytes changed.
                if random() % 2 == 0 {
                    bytes.extend((0..random() % 200).map(|_| (random() >> 32) as u8));
                } else {
                    let mut request = whole.as_bytes().to_vec();
                    for _ in 0..random() % 4 {
                        let at = random() as usize % request.len();
                        request[at] = (random() >> 32) as u8;
                    }
                    bytes.extend(request);
                }
                bytes.push(b'\n');
            }
            // The peers' port closes at the first line, perhaps while this is still being sent.
            if line.try_send_bytes(&bytes).is_ok() && line.stream().shutdown(Shutdown::Write).is_ok() {
                let _ = line.stream().take(10_000_000).read_to_end(&mut Vec::new());
            }
        }
    }
    cluster.assert_all_alive();
    cluster.ids().into_iter().for_each(|node| assert_serves(&cluster, node));
    cluster.wait_for_agreement();
}
