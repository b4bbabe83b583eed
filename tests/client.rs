//! The client against servers of the tests' own, which answer, close, or keep silent as they are told: what
//! it repeats and what it does not, what it prints, and how it exits.

use raftkv::client::connection::{Cluster, Failure};
use raftkv::client::words::{self, Command, Request};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// Long enough for every machine, short enough to end a test that hangs.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a fake server does with a line.
enum Reply {
    Answer(&'static str),
    Close,
    AnswerAndClose(&'static str),
    Silence,
}

use Reply::{Answer, AnswerAndClose, Close, Silence};

/// A server that does with each line what it is told, and reports the line when it has done so.
struct FakeServer {
    address: String,
    lines: Receiver<String>,
}

impl FakeServer {
    /// A server that asks `reply` with the number of the line (over all connections, from 0) and the line.
    fn start(reply: impl Fn(usize, &str) -> Reply + Send + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut number = 0;
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                    let line = std::mem::take(&mut line).trim_end().to_owned();
                    let reply = reply(number, &line);
                    number += 1;
                    let close = matches!(reply, Close | AnswerAndClose(_));
                    if let Answer(answer) | AnswerAndClose(answer) = reply {
                        let _ = reader.get_mut().write_all(format!("{answer}\n").as_bytes());
                    } else if matches!(reply, Silence) {
                        silent.push(reader);
                        let _ = sender.send(line);
                        break;
                    }
                    if close {
                        // Dropping it alone would not end it while a child process that another test is just
                        // starting still holds a copy of the descriptor, between its fork and its exec.
                        let _ = reader.get_ref().shutdown(Shutdown::Both);
                        let _ = sender.send(line);
                        break;
                    }
                    let _ = sender.send(line);
                }
            }
        });
        FakeServer { address, lines }
    }

    /// The next line that came.
    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("a line")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
}

/// The address of a node that is down.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn cluster(addresses: &[&str]) -> Cluster {
    Cluster::new(addresses.iter().map(|address| (*address).to_owned()).collect(), TIMEOUT)
}

fn request(line: &str) -> Request {
    match words::parse_line(line) {
        Ok(Some(Command::Ask(request))) => request,
        other => panic!("{other:?}"),
    }
}

const OK: &str = r#"{"ok":true,"index":1}"#;
const UNAVAILABLE: &str = r#"{"ok":false,"error":{"code":"unavailable","message":"no leader"}}"#;

#[test]
fn the_next_node_is_asked_when_one_is_down() {
    let server = FakeServer::start(|_, _| Answer(OK));
    let mut cluster = cluster(&[&nobody(), &nobody(), &server.address]);
    for line in ["get x", r#"{"op":"status"}"#, "set x 1"] {
        assert_eq!(cluster.ask(&request(line)), Ok(OK.to_owned()));
    }
    assert_eq!(server.line(), r#"{"op":"get","key":"x"}"#);
}

#[test]
fn when_all_are_down_nothing_was_sent_and_each_is_named() {
    let (one, other) = (nobody(), nobody());
    let failure = cluster(&[&one, &other]).ask(&request("set x 1")).unwrap_err();
    let Failure::Unreachable(message) = failure else { panic!("{failure:?}") };
    assert!(message.contains(&one) && message.contains(&other), "{message}");
}

#[test]
fn a_read_is_asked_again_when_its_connection_breaks() {
    let breaking = FakeServer::start(|_, _| Close);
    let server = FakeServer::start(|_, _| Answer(OK));
    assert_eq!(cluster(&[&breaking.address, &server.address]).ask(&request("get x")), Ok(OK.to_owned()));
    assert_eq!(breaking.line(), server.line());
}

#[test]
fn a_write_is_repeated_under_the_same_name_and_number() {
    let breaking = FakeServer::start(|_, _| Close);
    let server = FakeServer::start(|_, _| Answer(OK));
    let mut cluster = cluster(&[&breaking.address, &server.address]);
    assert_eq!(cluster.ask(&request("set x 1")), Ok(OK.to_owned()));
    let first = breaking.json();
    assert_eq!(first, server.json());
    assert_eq!(first["seq"], 1);
    assert!(first["client"].as_str().is_some_and(|name| !name.is_empty()), "{first}");
}

#[test]
fn a_node_that_does_not_answer_in_time_is_given_up() {
    let silent = FakeServer::start(|_, _| Silence);
    let server = FakeServer::start(|_, _| Answer(OK));
    let addresses = vec![silent.address.clone(), server.address.clone()];
    let mut cluster = Cluster::new(addresses, Duration::from_millis(50));
    assert_eq!(cluster.ask(&request("delete x")), Ok(OK.to_owned()));
    assert_eq!(silent.line(), server.line());
}

#[test]
fn writes_count_on_after_ok_and_begin_anew_after_anything_else() {
    let server = FakeServer::start(|number, _| Answer(if number == 2 { UNAVAILABLE } else { OK }));
    let mut cluster = cluster(&[&server.address]);
    for line in ["set x 1", "cas x 1 2", "delete x", "set x 3", "set x 4"] {
        cluster.ask(&request(line)).unwrap();
    }
    let sent: Vec<Value> = (0..5).map(|_| server.json()).collect();
    let numbers: Vec<&Value> = sent.iter().map(|line| &line["seq"]).collect();
    assert_eq!(numbers, [1, 2, 3, 1, 2]);
    assert_eq!(sent[0]["client"], sent[2]["client"]);
    assert_ne!(sent[2]["client"], sent[3]["client"]);
    assert_eq!(sent[3]["client"], sent[4]["client"]);
}

#[test]
fn two_runs_have_two_names() {
    let server = FakeServer::start(|_, _| AnswerAndClose(OK));
    cluster(&[&server.address]).ask(&request("set x 1")).unwrap();
    cluster(&[&server.address]).ask(&request("set x 1")).unwrap();
    assert_ne!(server.json()["client"], server.json()["client"]);
}

#[test]
fn a_line_of_the_users_own_is_sent_once_and_its_outcome_is_unknown() {
    let breaking = FakeServer::start(|_, _| Close);
    let server = FakeServer::start(|_, _| Answer(OK));
    let line = request(r#"{"id":"é","op":"set","key":"x","value":1}"#);
    let failure = cluster(&[&breaking.address, &server.address]).ask(&line).unwrap_err();
    assert!(matches!(failure, Failure::Lost(_)), "{failure:?}");
    let answer: Value = serde_json::from_str(&failure.answer(&line)).unwrap();
    assert_eq!(answer["id"], "é");
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["error"]["code"], "connection_lost");
    assert_eq!(breaking.line(), r#"{"id":"é","op":"set","key":"x","value":1}"#);
    assert!(server.lines.try_recv().is_err(), "it was sent twice");
}

#[test]
fn a_refused_repeat_does_not_claim_that_nothing_was_done() {
    let breaking = FakeServer::start(|_, _| Close);
    let refusing = FakeServer::start(|_, _| Answer(UNAVAILABLE));
    let failure = cluster(&[&breaking.address, &refusing.address]).ask(&request("set x 1")).unwrap_err();
    assert!(matches!(&failure, Failure::Lost(why) if why.contains("unavailable")), "{failure:?}");
    // Asked once, the refusal is the whole truth; and a read changes nothing either way.
    assert_eq!(cluster(&[&refusing.address]).ask(&request("set x 1")), Ok(UNAVAILABLE.to_owned()));
    let mut both = cluster(&[&breaking.address, &refusing.address]);
    assert_eq!(both.ask(&request("get x")), Ok(UNAVAILABLE.to_owned()));
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    let other_program = FakeServer::start(|_, _| Answer("220 mail.example ESMTP\u{1b}[31m"));
    let failure = cluster(&[&other_program.address]).ask(&request("get x")).unwrap_err();
    let message = failure.message();
    assert!(message.contains("no answer of a node") && !message.contains('\u{1b}'), "{message}");
}

// ---- The program ----------------------------------------------------------------------------------------

/// Runs the client with arguments and a text on standard input.
fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = spawn(arguments);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn spawn(arguments: &[&str]) -> Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_raftkv-client"))
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn one_request_prints_the_answer_and_exits_by_it() {
    let server = FakeServer::start(|_, line| Answer(if line.contains("get") { OK } else { UNAVAILABLE }));
    let good = run(&["--connect", &server.address, "get", "x"], "");
    assert_eq!((good.status.code(), text(&good.stdout)), (Some(0), format!("{OK}\n").as_str()));
    let bad = run(&["--connect", &server.address, r#"{"op":"set","key":"x","value":1}"#], "");
    assert_eq!((bad.status.code(), text(&bad.stdout)), (Some(1), format!("{UNAVAILABLE}\n").as_str()));
    assert_eq!(text(&good.stderr), "");
}

#[test]
fn no_node_is_one_line_on_standard_error_and_exit_1() {
    let output = run(&["--connect", &nobody(), "get", "x"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("no node could be reached"));
    assert_eq!(text(&output.stderr).lines().count(), 1);
}

#[test]
fn bad_usage_exits_2_and_asks_nobody() {
    let nobody = nobody();
    for arguments in [
        &["--connect", &nobody, "set", "x"][..],
        &["--connect", &nobody, "frobnicate"],
        &["--connect", "nonsense", "get", "x"],
        &["--config", "/nowhere/cluster.toml", "get", "x"],
        &["--frobnicate"],
        &["bench", "--clients", "0"],
    ] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(run(&["help"], "").status.code(), Some(0));
    assert_eq!(run(&["--help"], "").status.code(), Some(0));
}

#[test]
fn the_addresses_come_from_the_file() {
    let server = FakeServer::start(|_, _| Answer(OK));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cluster.toml");
    let node = format!("[[node]]\nid = 1\npeer = \"127.0.0.1:{}\"\nclient = \"{}\"\n", 1, server.address);
    std::fs::write(&file, format!("cluster = \"test\"\ndata_dir = \"data\"\n{node}")).unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "status"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), format!("{OK}\n").as_str()));
    std::fs::write(&file, "cluster = 7\n").unwrap();
    let output = run(&["--config", file.to_str().unwrap(), "status"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cluster.toml:1: "), "{}", text(&output.stderr));
}

#[test]
fn in_a_pipe_each_line_gets_one_line_in_order() {
    let server = FakeServer::start(|_, line| {
        Answer(if line.contains("get") { r#"{"ok":true,"value":1,"index":1}"# } else { OK })
    });
    let input = "set x 1\n\nget x\nsett x 1\n{\"op\":\"delete\",\"key\":\"x\"}\nhelp\nget x";
    let output = run(&["--connect", &server.address, "--summary"], input);
    assert_eq!(output.status.code(), Some(0));
    let summary = text(&output.stderr);
    assert!(summary.starts_with("4 requests, 4 ok, 0 unanswered, slowest "), "{summary}");
    let answers: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary: Vec<String> = answers
        .iter()
        .map(|answer| match &answer["error"]["code"] {
            Value::String(code) => code.clone(),
            _ => if answer.get("value").is_some() { "value" } else { "index" }.to_owned(),
        })
        .collect();
    assert_eq!(summary, ["index", "value", "bad_request", "index", "bad_request", "value"]);
}

#[test]
fn in_a_pipe_an_answer_is_there_before_the_next_line_is_asked_for() {
    let server = FakeServer::start(|_, _| Answer(OK));
    let mut child = spawn(&["--connect", &server.address]);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(b"get x\n").unwrap();
        let mut answer = String::new();
        stdout.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("{OK}\n"));
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn in_a_pipe_a_node_that_is_gone_is_an_answer_too() {
    let output = run(&["--connect", &nobody()], "get x\n{\"id\":7,\"op\":\"status\"}\n");
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with(r#"{"ok":false,"error":{"code":"unreachable""#), "{}", lines[0]);
    assert!(lines[1].starts_with(r#"{"id":7,"ok":false,"#), "{}", lines[1]);
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let server = FakeServer::start(|_, _| Answer(OK));
    let mut child = spawn(&["--connect", &server.address]);
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(b"get x\nget x\nget x\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn bench_counts_answers_and_errors() {
    /// A server for any number of clients: every set but each tenth is ok, and it leads.
    fn serve(stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut stream = stream;
        let mut number = 0;
        while let Some(Ok(line)) = lines.next() {
            number += 1;
            let answer = if line.contains("status") {
                r#"{"ok":true,"node":1,"role":"leader","term":1}"#
            } else if number % 10 == 0 {
                r#"{"ok":false,"error":{"code":"busy","message":"a queue is full"}}"#
            } else {
                OK
            };
            if stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
                return;
            }
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    let addresses = format!("{},{address}", nobody());
    let times = ["--seconds", "0.3", "--warmup-seconds", "0", "--pipeline", "4"];
    let output = run(
        &[&["--connect", &addresses, "bench", "--clients", "3", "--reads", "0.5"][..], &times].concat(),
        "",
    );
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let report = text(&output.stdout);
    assert!(report.contains(&format!("3 clients at the leader, {address}")), "{report}");
    for name in ["set", "get"] {
        let row = report.lines().find(|line| line.starts_with(&format!("{name}  "))).expect(report);
        let rate: f64 = row.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert!(rate > 0.0, "{report}");
        assert!(report.contains(&format!("{name} errors: busy ")), "{report}");
    }
    let output = run(&["--connect", &nobody(), "bench"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no node could be reached"));
}

#[test]
fn bench_goes_on_when_its_node_goes_down() {
    let leader = FakeServer::start(|number, _| match number {
        0 => Answer(r#"{"ok":true,"role":"leader","term":1}"#),
        _ => Close,
    });
    let other = FakeServer::start(|number, _| match number {
        0 => Answer(r#"{"ok":true,"role":"follower","term":1}"#),
        _ => Answer(OK),
    });
    let addresses = format!("{},{}", leader.address, other.address);
    let times = ["--seconds", "0.2", "--warmup-seconds", "0"];
    let output = run(&[&["--connect", &addresses, "bench", "--clients", "1"][..], &times].concat(), "");
    assert_eq!(output.status.code(), Some(0));
    let report = text(&output.stdout);
    assert!(report.contains("set errors: connection_lost 1\n"), "{report}");
    let row = report.lines().find(|line| line.starts_with("set  ")).expect(report);
    assert!(!row.starts_with("set               0.0"), "{report}");
    assert_eq!(leader.line(), r#"{"op":"status"}"#);
}

#[test]
fn standard_error_stays_empty_when_it_is_no_terminal() {
    let server = FakeServer::start(|_, _| AnswerAndClose(OK));
    let mut child = spawn(&["--connect", &server.address]);
    child.stdin.take().unwrap().write_all(b"set x 1\n").unwrap();
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}

/// What the node `node` says of a cluster of these voters that node 2 leads, which is at `leader`.
fn members(node: u16, voters: &[u16], leader: &str) -> &'static str {
    let addresses = format!(r#"[{{"id":2,"peer":"127.0.0.1:1","client":"{leader}"}}]"#);
    let line = format!(
        r#"{{"ok":true,"node":{node},"leader":2,"index":7,"committed":true,"voters":{voters:?},"outgoing":[],
        "learners":[],"next_voters":[],"addresses":{addresses}}}"#
    );
    line.replace('\n', " ").leak()
}

const MEMBERS: &str = r#"{"op":"members"}"#;

#[test]
fn an_operator_need_not_know_who_leads() {
    const DONE: &str = r#"{"ok":true,"leader":3}"#;
    const NOT_LEADER: &str = r#"{"ok":false,"error":{"code":"not_leader","message":"node 2 leads"}}"#;
    let leader = FakeServer::start(|number, line| match (line, number) {
        // It has just begun to lead and knows it, and the first time it does not.
        (MEMBERS, _) => Answer(members(2, &[1, 2, 3], "127.0.0.1:9")),
        (_, 1) => Answer(NOT_LEADER),
        _ => Answer(DONE),
    });
    let follower = {
        let line = members(1, &[1, 2, 3], &leader.address);
        FakeServer::start(move |_, _| Answer(line))
    };
    let mut cluster = cluster(&[&follower.address]);
    assert_eq!(cluster.ask(&request("transfer 3")), Ok(DONE.to_owned()));
    assert_eq!(follower.line(), MEMBERS);
    for line in [MEMBERS, r#"{"op":"transfer","to":3}"#, MEMBERS, r#"{"op":"transfer","to":3}"#] {
        assert_eq!(leader.line(), line);
    }
}

/// A change may be carried out although its answer is lost; asked for again, it would be refused, as if it
/// had not been.
#[test]
fn a_change_whose_answer_is_lost_is_looked_for_before_it_is_asked_for_again() {
    let leader = FakeServer::start(|number, line| match (line, number) {
        (MEMBERS, 0) => Answer(members(2, &[1, 2], "127.0.0.1:9")),
        (MEMBERS, _) => Answer(members(2, &[1, 2, 4], "127.0.0.1:9")),
        _ => Close,
    });
    let mut cluster = cluster(&[&leader.address]);
    let answer = cluster.ask(&request("add 4 127.0.0.1:7 127.0.0.1:8")).expect("an answer");
    assert_eq!(answer, members(2, &[1, 2, 4], "127.0.0.1:9"));
    let change =
        r#"{"op":"change","add":[{"id":4,"peer":"127.0.0.1:7","client":"127.0.0.1:8"}],"remove":[]}"#;
    for line in [MEMBERS, change, MEMBERS] {
        assert_eq!(leader.line(), line);
    }
    assert!(leader.lines.try_recv().is_err(), "the change was asked for again");
}
