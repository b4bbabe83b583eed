//! A history as a file, so that a run that failed can be judged again: JSON lines, one an attempt, the
//! attempts of an operation one after the other.
//!
//! ```text
//! {"client":3,"sent":1200,"request":{"op":"get","key":"x"},"ended":1900,"answer":{"ok":true,…}}
//! {"client":4,"sent":1250,"request":{"op":"delete","key":"x"},"ended":1800,"answer":"lost"}
//! {"client":5,"pipeline":9,"sent":1300,"request":{"op":"set","key":"x","value":1}}
//! ```
//!
//! `answer` is the server's line without its id; `"lost"`: the connection ended; `"not_sent"`: nothing left
//! the client. Without `ended` and `answer` nothing has come yet.

use super::answer_line::error_outcomes;
use super::history::{Attempt, History, Operation, Outcome};
use crate::wire::client::{Request, Response, parse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

const LOST: &str = "\"lost\"";
const NOT_SENT: &str = "\"not_sent\"";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    client: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipeline: Option<u64>,
    sent: u64,
    request: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Box<RawValue>>,
}

impl History {
    /// Writes it as JSON lines.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for operation in &self.operations {
            for Attempt { sent, ended } in &operation.attempts {
                let line = Line {
                    client: operation.client,
                    pipeline: operation.pipeline,
                    sent: *sent,
                    request: RawValue::from_string(operation.request_text())?,
                    ended: ended.as_ref().map(|(at, _)| *at),
                    answer: ended.as_ref().map(|(_, it)| RawValue::from_string(text_of(it))).transpose()?,
                };
                serde_json::to_writer(&mut *out, &line)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// Reads what [`History::write`] has written. Fails on a line that is none of those, and names it.
    pub fn read(input: impl BufRead) -> io::Result<History> {
        let mut history = History::default();
        let mut numbered: BTreeMap<String, usize> = BTreeMap::new();
        for (number, text) in input.lines().enumerate() {
            let text = text?;
            let line_number = number + 1;
            let refuse = |why: String| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line {line_number} of the history: {why}"),
                )
            };
            let line: Line = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
            let request = parse(line.request.get().as_bytes()).map_err(|bad| refuse(bad.message))?;
            let ended = match (line.ended, &line.answer) {
                (Some(at), Some(answer)) => Some((at, outcome_of(&request, answer).map_err(refuse)?)),
                (None, None) => None,
                _ => return Err(refuse("`ended` and `answer` come together or not at all".to_owned())),
            };
            let attempt = Attempt { sent: line.sent, ended };
            let (client, pipeline) = (line.client, line.pipeline);
            let operation = Operation { client, pipeline, op: request.op, attempts: Vec::new() };
            let place = match operation.client_seq() {
                None => history.push(operation),
                Some(_) => {
                    *numbered.entry(operation.request_text()).or_insert_with(|| history.push(operation))
                }
            };
            history.operations[place].attempts.push(attempt);
        }
        Ok(history)
    }
}

fn outcome_of(request: &Request, answer: &RawValue) -> Result<Outcome, String> {
    match answer.get() {
        LOST => Ok(Outcome::Lost),
        NOT_SENT => Ok(Outcome::NotSent),
        line => {
            let request = Request { id: None, op: request.op.clone() };
            Outcome::of_line(&request, line.as_bytes()).map_err(|violation| violation.to_string())
        }
    }
}

/// What stands in the file for an outcome: the answer's line, or a word.
fn text_of(outcome: &Outcome) -> String {
    let response = match outcome {
        Outcome::Lost => return LOST.to_owned(),
        Outcome::NotSent => return NOT_SENT.to_owned(),
        Outcome::Written(answer) => Response::Written(answer.clone()),
        Outcome::Got { value, index } => Response::Got { value: value.clone(), index: *index },
        Outcome::Scanned { page, index } => Response::Scanned { page: page.clone(), index: *index },
        Outcome::Busy
        | Outcome::Unavailable
        | Outcome::BadRequest
        | Outcome::TooLarge
        | Outcome::StaleSeq
        | Outcome::SessionExpired
        | Outcome::Timeout => {
            let code = error_outcomes().into_iter().find(|(_, it)| it == outcome).map(|(code, _)| code);
            let code = code.expect("all errors are in the table");
            Response::error(code, code.name())
        }
    };
    let mut line = Vec::new();
    response.render(None, &mut line);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}
