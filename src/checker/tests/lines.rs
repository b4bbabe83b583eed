//! Answers' lines, and histories as files.

use super::{Words, history, outcome, request};
use crate::checker::{History, Outcome};
use crate::wire::client::parse;

fn of_line(words: &str, line: &str) -> Result<Outcome, String> {
    let request = parse(request(words).as_bytes()).expect("a valid request");
    Outcome::of_line(&request, line.as_bytes()).map_err(|violation| violation.to_string())
}

#[test]
fn the_answers_of_the_contract_are_read() {
    for (words, line, expected) in [
        ("set x 1", r#"{"ok":true,"index":7}"#, "ok 7"),
        ("get x", r#"{"ok":true,"value":[1, 2.0],"index":7}"#, "got [1,_2.0] 7"),
        ("get x", r#"{"ok":true,"value":null,"index":-1}"#, "got null -1"),
        ("stale x", r#"{"index":3,"value":1,"ok":true}"#, "got 1 3"),
        ("delete x", r#"{"ok":true,"index":7,"deleted":true}"#, "deleted true 7"),
        ("cas x 1 2", r#"{"ok":true,"index":7,"swapped":true}"#, "swapped 7"),
        ("cas x 1 2", r#"{"ok":true,"index":7,"swapped":false,"value":3}"#, "kept 3 7"),
        ("cas x 1 2", r#"{"ok":true,"index":7,"swapped":false,"value":null}"#, "kept null 7"),
        (
            "scan a 2",
            r#"{"ok":true,"items":[{"key":"a","value":1},{"key":"b","value":2}],"more":true,"index":7}"#,
            "items a=1,b=2 more 7",
        ),
        ("set x 1", r#"{"ok":false,"error":{"code":"busy","message":"later"}}"#, "busy"),
        ("set x 1", r#"{"ok":false,"error":{"code":"unavailable","message":"no"}}"#, "unavailable"),
        ("get x", r#"{"ok":false,"error":{"code":"timeout","message":"no"}}"#, "timeout"),
        ("get x", r#"{"ok":false,"error":{"code":"bad_request","message":"no"}}"#, "bad_request"),
        ("get x", r#"{"ok":false,"error":{"code":"too_large","message":"no"}}"#, "too_large"),
        ("set x 1 c:1", r#"{"ok":false,"error":{"code":"stale_seq","message":"no"}}"#, "stale_seq"),
        (
            "set x 1 c:2",
            r#"{"ok":false,"error":{"code":"session_expired","message":"no"}}"#,
            "session_expired",
        ),
    ] {
        let expected = expected.replace("[1,_2.0]", "VALUE");
        let expected = match outcome(&expected) {
            Some(Outcome::Got { value: Some(_), index }) if line.contains("[1, 2.0]") => {
                Outcome::Got { value: Some("[1, 2.0]".into()), index }
            }
            other => other.expect("an outcome"),
        };
        assert_eq!(of_line(words, line), Ok(expected), "{line}");
    }
}

#[test]
fn an_id_must_come_back_as_it_was_sent() {
    let request = parse(br#"{"op":"get","key":"x","id":"a"}"#).expect("a valid request");
    let read = |line: &str| Outcome::of_line(&request, line.as_bytes()).map_err(|it| it.what);
    assert_eq!(read(r#"{"id":"a","ok":true,"value":1,"index":0}"#), Ok(outcome("got 1 0").unwrap()));
    for line in [
        r#"{"ok":true,"value":1,"index":0}"#,
        r#"{"id":"b","ok":true,"value":1,"index":0}"#,
        r#"{"id":null,"ok":true,"value":1,"index":0}"#,
    ] {
        assert!(read(line).expect_err("another id").starts_with("another id: "), "{line}");
    }
    assert!(of_line("get x", r#"{"id":1,"ok":true,"value":1,"index":0}"#).is_err());
}

#[test]
fn what_the_contract_does_not_allow_is_a_violation_of_its_own() {
    for (words, line) in [
        ("get x", ""),
        ("get x", "{"),
        ("get x", "[]"),
        ("get x", r#"{"ok":true,"value":1,"index":0} "x""#),
        ("get x", r#"{"ok":true,"value":1}"#),
        ("get x", r#"{"ok":true,"index":0}"#),
        ("get x", r#"{"value":1,"index":0}"#),
        ("get x", r#"{"ok":false,"value":1,"index":0}"#),
        ("get x", r#"{"ok":true,"value":1,"index":"0"}"#),
        ("get x", r#"{"ok":true,"value":1,"index":0.5}"#),
        ("get x", r#"{"ok":true,"value":1,"index":-2}"#),
        ("get x", r#"{"ok":true,"value":1,"index":0,"ttl":1}"#),
        ("get x", r#"{"ok":true,"value":1,"value":1,"index":0}"#),
        ("get x", r#"{"ok":true,"value":{"a":1,"a":2},"index":0}"#),
        ("get x", r#"{"ok":true,"value":1,"index":0,"deleted":true}"#),
        ("get x", r#"{"ok":true,"items":[],"more":false,"index":0}"#),
        ("set x 1", r#"{"ok":true,"value":1,"index":0}"#),
        ("set x 1", r#"{"ok":true,"index":-1}"#),
        ("set x 1", r#"{"ok":true,"index":0,"swapped":true}"#),
        ("set x 1", r#"{"ok":true,"items":[],"more":false,"index":0}"#),
        ("delete x", r#"{"ok":true,"index":0}"#),
        ("cas x 1 2", r#"{"ok":true,"index":0,"swapped":true,"value":2}"#),
        ("cas x 1 2", r#"{"ok":true,"index":0,"swapped":false}"#),
        ("scan x 1", r#"{"ok":true,"items":[],"index":0}"#),
        ("scan x 1", r#"{"ok":true,"items":[{"key":"x"}],"more":false,"index":0}"#),
        ("scan x 1", r#"{"ok":true,"items":[{"key":"x","value":1,"a":1}],"more":false,"index":0}"#),
        ("set x 1", r#"{"ok":false}"#),
        ("set x 1", r#"{"ok":false,"error":{"code":"busy","message":"x"},"index":0}"#),
        ("set x 1", r#"{"ok":true,"error":{"code":"busy","message":"x"}}"#),
        ("set x 1", r#"{"ok":false,"error":{"code":"busy","message":""}}"#),
        ("set x 1", r#"{"ok":false,"error":{"code":"busy"}}"#),
        ("set x 1", r#"{"ok":false,"error":{"code":"tired","message":"x"}}"#),
        ("set x 1", r#"{"ok":false,"error":{"code":"stale_seq","message":"x"}}"#),
        ("get x", r#"{"ok":false,"error":{"code":"session_expired","message":"x"}}"#),
        ("status", r#"{"ok":true,"index":0}"#),
    ] {
        let violation = of_line(words, line).expect_err(line);
        assert!(violation.starts_with("contract: "), "{violation}");
    }
}

const EVERYTHING: [Words<'static>; 14] = [
    (0, 10, 20, "set x 1", "ok 1"),
    (1, 25, 60, "get x", "got 1 1"),
    (2, 30, 40, "cas x 1 2 c:1", "lost"),
    (2, 45, 50, "cas x 1 2 c:1", "busy"),
    (2, 55, 70, "cas x 1 2 c:1", "swapped 2"),
    (2, 55, 70, "cas x 1 2", "kept 2 3"),
    (3, 80, 100, "scan x 10 a", "items x=2 all 3"),
    (0, 110, 120, "delete x", "deleted true 5"),
    (1, 110, 130, "set x 3 d:1", "timeout"),
    (1, 150, 160, "set x 3 d:1", "stale_seq"),
    (3, 110, 130, "set x 8", "unavailable"),
    (3, 110, 130, "set x 9", "not_sent"),
    (0, 200, 210, "stale x", "got null -1"),
    (0, 210, 220, "set y 4", "nothing"),
];

#[test]
fn a_history_is_read_as_it_was_written() {
    let mut history = history(&EVERYTHING);
    history.operations.last_mut().expect("there are some").pipeline = Some(7);
    let mut file = Vec::new();
    history.write(&mut file).expect("memory takes every write");
    assert_eq!(History::read(file.as_slice()).expect("what was written"), history);
    let text = String::from_utf8(file).expect("JSON");
    assert_eq!(text.lines().count(), EVERYTHING.len());
    let first = r#"{"client":0,"sent":10,"request":{"op":"set","key":"x","value":1},"ended":20,"#.to_owned()
        + r#""answer":{"ok":true,"index":1}}"#;
    assert_eq!(text.lines().next(), Some(first.as_str()));
    assert!(text.lines().last().is_some_and(|line| line.starts_with(r#"{"client":0,"pipeline":7,"sent""#)));
}

#[test]
fn a_line_that_is_none_of_a_history_is_named() {
    for (line, why) in [
        ("{}", "missing field `client`"),
        (r#"{"client":0,"sent":1,"request":{"op":"rename"}}"#, "unknown op `rename`"),
        (r#"{"client":0,"sent":1,"request":{"op":"get","key":"x"},"ended":2}"#, "come together"),
        (r#"{"client":0,"sent":1,"request":{"op":"get","key":"x"},"ended":2,"answer":"gone"}"#, "contract: "),
        (
            r#"{"client":0,"sent":1,"request":{"op":"get","key":"x"},"ended":2,"answer":{"ok":true}}"#,
            "contract: ",
        ),
    ] {
        let good = r#"{"client":0,"sent":1,"request":{"op":"get","key":"x"}}"#;
        let error = History::read(format!("{good}\n{line}\n").as_bytes()).expect_err(line).to_string();
        assert!(error.starts_with("line 2 of the history: ") && error.contains(why), "{error}");
    }
}
