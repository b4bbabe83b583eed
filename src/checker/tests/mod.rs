//! Histories in few words, each with a rule broken by hand, and random ones.
//!
//! A line of a history is (client, sent, ended, request, answer): `(0, 10, 20, "set x 1 c:1", "ok 0")` is a
//! set of `x` to 1 as client `c`'s first write, whose answer names index 0.

mod against_log;
mod lines;
mod random;
mod search;

use super::{Attempt, History, Operation, Outcome};
use crate::kv::{Answer, Item, Page};
use crate::types::{Command, Entry, Index, Term};
use crate::wire::client::{Op, parse};
use std::sync::Arc;

/// One attempt, in words.
type Words<'a> = (usize, u64, u64, &'a str, &'a str);

/// A history of these attempts: those of one client and seq are one operation.
fn history(lines: &[Words<'_>]) -> History {
    let mut history = History::default();
    for (client, sent, ended, request, answer) in lines {
        let op = op(request);
        let outcome = outcome(answer);
        let attempt = Attempt { sent: *sent, ended: outcome.map(|outcome| (*ended, outcome)) };
        let operation = Operation { client: *client, pipeline: None, op, attempts: vec![attempt.clone()] };
        let known = match operation.client_seq() {
            Some(_) => history.operations.iter().position(|it| it.op == operation.op),
            None => None,
        };
        match known {
            Some(place) => history.operations[place].attempts.push(attempt),
            None => history.operations.push(operation),
        }
    }
    history
}

/// The same, where each client has sent all it asks for on one connection without waiting.
fn pipelined(lines: &[Words<'_>]) -> History {
    let mut history = history(lines);
    for operation in &mut history.operations {
        operation.pipeline = Some(operation.client as u64);
    }
    history
}

/// The request as a line.
fn request(words: &str) -> String {
    let mut parts: Vec<&str> = words.split(' ').collect();
    let session = parts.last().and_then(|last| last.split_once(':'));
    let session = match session {
        Some((client, seq)) => {
            parts.pop();
            format!(r#","client":"{client}","seq":{seq}"#)
        }
        None => String::new(),
    };
    let members = match parts.as_slice() {
        ["get", key] => format!(r#""get","key":"{key}""#),
        ["stale", key] => format!(r#""get","key":"{key}","stale":true"#),
        ["set", key, value] => format!(r#""set","key":"{key}","value":{value}"#),
        ["delete", key] => format!(r#""delete","key":"{key}""#),
        ["cas", key, expect, value] => format!(r#""cas","key":"{key}","expect":{expect},"value":{value}"#),
        ["scan", prefix, limit] => format!(r#""scan","prefix":"{prefix}","limit":{limit}"#),
        ["scan", prefix, limit, after] => {
            format!(r#""scan","prefix":"{prefix}","limit":{limit},"after":"{after}""#)
        }
        ["noop"] => r#""noop""#.to_owned(),
        ["status"] => r#""status""#.to_owned(),
        _ => panic!("no request: {words}"),
    };
    format!(r#"{{"op":{members}{session}}}"#)
}

fn op(words: &str) -> Op {
    parse(request(words).as_bytes()).expect("a valid request").op
}

/// The outcome; none while nothing has come.
fn outcome(words: &str) -> Option<Outcome> {
    let parts: Vec<&str> = words.split(' ').collect();
    let at = Index(parts.last().and_then(|index| index.parse().ok()).unwrap_or(-1));
    let value = |text: &str| (text != "null").then(|| Arc::<str>::from(text));
    Some(match parts.as_slice() {
        ["ok", _] => Outcome::Written(Answer::Set { index: at }),
        ["deleted", deleted, _] => {
            Outcome::Written(Answer::Deleted { index: at, deleted: *deleted == "true" })
        }
        ["swapped", _] => Outcome::Written(Answer::Swapped { index: at }),
        ["kept", current, _] => Outcome::Written(Answer::NotSwapped { index: at, current: value(current) }),
        ["got", found, _] => Outcome::Got { value: value(found), index: at },
        ["items", items, more, _] => {
            let item = |text: &str| {
                let (key, value) = text.split_once('=').expect("key=value");
                Item { key: Arc::from(key), value: Arc::from(value) }
            };
            let items = items.split(',').filter(|text| !text.is_empty()).map(item).collect();
            Outcome::Scanned { page: Page { items, more: *more == "more" }, index: at }
        }
        ["busy"] => Outcome::Busy,
        ["unavailable"] => Outcome::Unavailable,
        ["bad_request"] => Outcome::BadRequest,
        ["too_large"] => Outcome::TooLarge,
        ["stale_seq"] => Outcome::StaleSeq,
        ["session_expired"] => Outcome::SessionExpired,
        ["timeout"] => Outcome::Timeout,
        ["lost"] => Outcome::Lost,
        ["not_sent"] => Outcome::NotSent,
        ["nothing"] => return None,
        _ => panic!("no answer: {words}"),
    })
}

/// A log of these writes.
fn log(writes: &[&str]) -> Vec<Entry> {
    let entry = |(place, words): (usize, &&str)| {
        let command = match *words {
            "noop" => Command::noop(),
            "configuration" => Command::configuration(),
            words => match op(words) {
                Op::Write(command) => command,
                other => panic!("no write: {other:?}"),
            },
        };
        let index = Index(i64::try_from(place).expect("a short log"));
        Entry { term: Term(1), index, request: None, command, configuration: None }
    };
    writes.iter().enumerate().map(entry).collect()
}
