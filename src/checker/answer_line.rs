//! A server's line as an [`Outcome`]. What the contract does not allow is a violation of its own, whatever it
//! may have meant: an unknown member, another op's answer, an id that was not sent, an error that the request
//! cannot have earned.

use super::Violation;
use super::history::Outcome;
use crate::json;
use crate::kv::command::{self, Reading};
use crate::kv::{Answer, Item, Page};
use crate::types::Index;
use crate::wire::client::{ErrorCode, Op, Read, Request};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::sync::Arc;

/// All members that an answer to a read or a write can have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    id: Option<&'a RawValue>,
    ok: bool,
    index: Option<i64>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    value: Option<&'a RawValue>,
    deleted: Option<bool>,
    swapped: Option<bool>,
    #[serde(borrow)]
    items: Option<Vec<LineItem<'a>>>,
    more: Option<bool>,
    error: Option<LineError>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineItem<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineError {
    code: String,
    message: String,
}

/// A member that is there, be it `null`.
fn even_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Outcome {
    /// What a line answers to a request, which must be a read or a write. The line comes without its end.
    pub fn of_line(request: &Request, line: &[u8]) -> Result<Outcome, Violation> {
        let text = String::from_utf8_lossy(line);
        let refuse = |why: &str| {
            let (text, op) = (json::shown(&text), &request.op);
            Err(Violation::new("contract", format!("{why}: the answer {text} to {op:?}")))
        };
        if let Err(problem) = json::check(&text) {
            return refuse(&problem.to_string());
        }
        let line: Line<'_> = match serde_json::from_str(&text) {
            Ok(line) => line,
            Err(error) => return refuse(&error.to_string()),
        };
        if line.id.map(RawValue::get) != request.id.as_ref().map(|id| id.text()) {
            return refuse("another id");
        }
        match read(&request.op, line) {
            Ok(outcome) => Ok(outcome),
            Err(why) => refuse(why),
        }
    }
}

fn read(op: &Op, line: Line<'_>) -> Result<Outcome, &'static str> {
    const OTHER: &str = "not an answer to this";
    let index = line.index.map(Index);
    if index < Some(Index::NONE) && index.is_some() {
        return Err("an index below -1");
    }
    let Line { ok, value, deleted, swapped, items, more, error, .. } = line;
    if let (false, None, None, None, None, None, None, Some(error)) =
        (ok, index, value, deleted, swapped, &items, more, &error)
    {
        return error_of(op, error);
    }
    if !ok || error.is_some() {
        return Err(OTHER);
    }
    let Some(index) = index else { return Err(OTHER) };
    match op {
        Op::Write(command) => {
            if index == Index::NONE || items.is_some() || more.is_some() {
                return Err(OTHER);
            }
            let Reading::Write(write) = command::read(command.text()) else { return Err(OTHER) };
            let value = value.map(nullable);
            let answer = match (write.operation, deleted, swapped, value) {
                (command::Operation::Set { .. }, None, None, None) => Answer::Set { index },
                (command::Operation::Delete { .. }, Some(deleted), None, None) => {
                    Answer::Deleted { index, deleted }
                }
                (command::Operation::Cas { .. }, None, Some(true), None) => Answer::Swapped { index },
                (command::Operation::Cas { .. }, None, Some(false), Some(current)) => {
                    Answer::NotSwapped { index, current }
                }
                _ => return Err(OTHER),
            };
            Ok(Outcome::Written(answer))
        }
        Op::Read { read: Read::Get { .. }, .. } => match (value, deleted, swapped, items, more) {
            (Some(value), None, None, None, None) => Ok(Outcome::Got { value: nullable(value), index }),
            _ => Err(OTHER),
        },
        Op::Read { read: Read::Scan { .. }, .. } => match (value, deleted, swapped, items, more) {
            (None, None, None, Some(items), Some(more)) => {
                let item = |it: LineItem<'_>| Item { key: it.key.into(), value: it.value.get().into() };
                let page = Page { items: items.into_iter().map(item).collect(), more };
                Ok(Outcome::Scanned { page, index })
            }
            _ => Err(OTHER),
        },
        Op::Status | Op::Operator(_) => Err("a status is judged by nobody"),
    }
}

fn nullable(value: &RawValue) -> Option<Arc<str>> {
    (value.get() != "null").then(|| Arc::from(value.get()))
}

/// What each error says of an attempt.
pub(super) fn error_outcomes() -> [(ErrorCode, Outcome); 7] {
    [
        (ErrorCode::Busy, Outcome::Busy),
        (ErrorCode::Unavailable, Outcome::Unavailable),
        (ErrorCode::BadRequest, Outcome::BadRequest),
        (ErrorCode::TooLarge, Outcome::TooLarge),
        (ErrorCode::StaleSeq, Outcome::StaleSeq),
        (ErrorCode::SessionExpired, Outcome::SessionExpired),
        (ErrorCode::Timeout, Outcome::Timeout),
    ]
}

fn error_of(op: &Op, error: &LineError) -> Result<Outcome, &'static str> {
    if error.message.is_empty() {
        return Err("an error without words");
    }
    let has_seq = || match op {
        Op::Write(command) => {
            matches!(command::read(command.text()), Reading::Write(write) if write.session.is_some())
        }
        Op::Read { .. } | Op::Status | Op::Operator(_) => false,
    };
    match error_outcomes().into_iter().find(|(code, _)| code.name() == error.code) {
        Some((_, Outcome::StaleSeq | Outcome::SessionExpired)) if !has_seq() => {
            Err("an error about a seq that was not sent")
        }
        Some((_, outcome)) => Ok(outcome),
        None => Err("an error with an unknown code"),
    }
}
