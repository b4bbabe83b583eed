//! What clients did: operations, each with its attempts, on one clock that never goes back (nanoseconds of a
//! monotonic clock, or the numbers of a simulation's events).
//!
//! All attempts of one `(client, seq)` are one operation, which may be sent again as long as its client
//! likes. Everything else is sent once: a read that is asked again is another operation. Writes without a
//! seq should carry values that no other has: the more an answer says, the more a checker sees.

use super::Violation;
use crate::kv::command::{self, Reading};
use crate::kv::{Answer, Page};
use crate::types::{Command, Index};
use crate::wire::client::{Op, Read};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an attempt came to, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write has been carried out, and this came of it.
    Written(Answer),
    /// The answer to a `get`.
    Got {
        /// The value's JSON text; none when the key does not exist.
        value: Option<Arc<str>>,
        /// The last applied index that the read saw.
        index: Index,
    },
    /// The answer to a `scan`.
    Scanned {
        /// What was found.
        page: Page,
        /// The last applied index that the read saw.
        index: Index,
    },
    /// The error `busy`: nothing was done.
    Busy,
    /// The error `unavailable`: nothing was done, nor ever will be.
    Unavailable,
    /// The error `bad_request`: nothing was done.
    BadRequest,
    /// The error `too_large`: nothing was done.
    TooLarge,
    /// The error `stale_seq`: this attempt did nothing. It stands in the log.
    StaleSeq,
    /// The error `session_expired`: this attempt did nothing. It stands in the log.
    SessionExpired,
    /// The error `timeout`, or the client's own patience ended: nobody knows.
    Timeout,
    /// The connection ended without an answer: nobody knows.
    Lost,
    /// Nobody could be connected to, or no byte of the request left: nothing was done.
    NotSent,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        match answer {
            Answer::StaleSeq { .. } => Outcome::StaleSeq,
            Answer::SessionExpired { .. } => Outcome::SessionExpired,
            Answer::Noop
            | Answer::Configured { .. }
            | Answer::Set { .. }
            | Answer::Deleted { .. }
            | Answer::Swapped { .. }
            | Answer::NotSwapped { .. } => Outcome::Written(answer),
        }
    }
}

impl Outcome {
    /// Whether the attempt certainly never got into the log.
    pub fn is_void(&self) -> bool {
        matches!(
            self,
            Outcome::Busy | Outcome::Unavailable | Outcome::BadRequest | Outcome::TooLarge | Outcome::NotSent
        )
    }

    /// Whether the attempt may have been carried out, or not, or may yet be.
    pub fn is_open(&self) -> bool {
        matches!(self, Outcome::Timeout | Outcome::Lost)
    }

    /// Whether it is an answer that says what is true, and not an error.
    pub fn is_definite(&self) -> bool {
        matches!(self, Outcome::Written(_) | Outcome::Got { .. } | Outcome::Scanned { .. })
    }

    /// Where in the log the answer was true.
    pub fn index(&self) -> Option<Index> {
        match self {
            Outcome::Written(answer) => match answer {
                Answer::Set { index }
                | Answer::Configured { index }
                | Answer::Deleted { index, .. }
                | Answer::Swapped { index }
                | Answer::NotSwapped { index, .. } => Some(*index),
                Answer::Noop | Answer::StaleSeq { .. } | Answer::SessionExpired { .. } => None,
            },
            Outcome::Got { index, .. } | Outcome::Scanned { index, .. } => Some(*index),
            Outcome::Busy
            | Outcome::Unavailable
            | Outcome::BadRequest
            | Outcome::TooLarge
            | Outcome::StaleSeq
            | Outcome::SessionExpired
            | Outcome::Timeout
            | Outcome::Lost
            | Outcome::NotSent => None,
        }
    }
}

/// One sending of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When it was sent: not later than its first byte left.
    pub sent: u64,
    /// When its client knew the outcome, not earlier than the last byte of the answer came, and the outcome;
    /// none while nothing has come.
    pub ended: Option<(u64, Outcome)>,
}

impl Attempt {
    /// Whether a node may have proposed it, so that it may stand in the log.
    pub fn may_be_in_the_log(&self) -> bool {
        self.ended.as_ref().is_none_or(|(_, outcome)| !outcome.is_void())
    }

    /// Whether nobody knows if it was carried out.
    pub fn is_open(&self) -> bool {
        self.ended.as_ref().is_none_or(|(_, outcome)| outcome.is_open())
    }
}

/// One operation of a client, with all its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked. Only shown: a client's name for `(client, seq)` stands in the op itself.
    pub client: usize,
    /// The connection on which it was sent behind others that had no answer yet, a name of the history's own.
    /// None when its client had waited for all before it: then real time says as much.
    pub pipeline: Option<u64>,
    /// What for: a write or a read.
    pub op: Op,
    /// In the order in which they were sent.
    pub attempts: Vec<Attempt>,
}

impl Operation {
    /// An operation that is first sent at this moment.
    pub fn sent(client: usize, op: Op, at: u64) -> Operation {
        Operation { client, pipeline: None, op, attempts: vec![Attempt { sent: at, ended: None }] }
    }

    /// An operation that is sent on this connection at this moment, whatever else is under way there.
    pub fn pipelined(client: usize, pipeline: u64, op: Op, at: u64) -> Operation {
        Operation { pipeline: Some(pipeline), ..Operation::sent(client, op, at) }
    }

    /// Sends it again. Returns the attempt's place in `attempts`.
    pub fn send_again(&mut self, at: u64) -> usize {
        self.attempts.push(Attempt { sent: at, ended: None });
        self.attempts.len() - 1
    }

    /// An attempt has come to this.
    pub fn end(&mut self, attempt: usize, at: u64, outcome: Outcome) {
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            attempt.ended = Some((at, outcome));
        }
    }

    /// When it was first sent.
    pub fn began(&self) -> u64 {
        self.attempts.iter().map(|attempt| attempt.sent).min().unwrap_or(0)
    }

    /// The first definite answer, and when it came.
    pub fn answered(&self) -> Option<(u64, &Outcome)> {
        self.definite_answers().min_by_key(|(at, _)| *at)
    }

    /// All definite answers, and when they came.
    pub fn definite_answers(&self) -> impl Iterator<Item = (u64, &Outcome)> {
        let ended = self.attempts.iter().filter_map(|attempt| attempt.ended.as_ref());
        ended.filter(|(_, outcome)| outcome.is_definite()).map(|(at, outcome)| (*at, outcome))
    }

    /// Whether it is a write that may have been carried out, or not, or may yet be.
    pub fn is_open_write(&self) -> bool {
        matches!(self.op, Op::Write(_))
            && self.answered().is_none()
            && self.attempts.iter().any(Attempt::is_open)
    }

    /// Whether it is a read that promises no more than that its answer was true once.
    pub fn is_stale_read(&self) -> bool {
        matches!(self.op, Op::Read { stale: true, .. })
    }

    /// The command, when it is a write.
    pub fn command(&self) -> Option<&Command> {
        match &self.op {
            Op::Write(command) => Some(command),
            Op::Read { .. } | Op::Status | Op::Operator(_) => None,
        }
    }

    /// The client's name and the number that its write carries, when it does.
    pub fn client_seq(&self) -> Option<(String, u64)> {
        let Reading::Write(write) = command::read(self.command()?.text()) else { return None };
        write.session.map(|session| (session.client.content.into_owned(), session.seq))
    }

    /// What it asks for, as the line that asks for it.
    pub fn request_text(&self) -> String {
        let json = |text: &str| serde_json::Value::from(text).to_string();
        match &self.op {
            Op::Write(command) => command.text().to_owned(),
            Op::Read { read: Read::Get { key }, stale } => {
                let stale = if *stale { r#","stale":true"# } else { "" };
                format!(r#"{{"op":"get","key":{}{stale}}}"#, json(key))
            }
            Op::Read { read: Read::Scan { prefix, after, limit }, stale } => {
                let after = after.as_ref().map_or(String::new(), |it| format!(r#","after":{}"#, json(it)));
                let stale = if *stale { r#","stale":true"# } else { "" };
                format!(r#"{{"op":"scan","prefix":{},"limit":{limit}{after}{stale}}}"#, json(prefix))
            }
            Op::Status => r#"{"op":"status"}"#.to_owned(),
            Op::Operator(op) => format!("{op:?}"),
        }
    }
}

/// All operations of a run. Every write that was sent to the cluster must be here; reads may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// In any order, but for those of one pipeline, which stand in the order in which they were sent.
    pub operations: Vec<Operation>,
}

impl History {
    /// Adds an operation. Returns its place in `operations`.
    pub fn push(&mut self, operation: Operation) -> usize {
        self.operations.push(operation);
        self.operations.len() - 1
    }

    /// Adds another client's operations.
    pub fn extend(&mut self, other: History) {
        self.operations.extend(other.operations);
    }

    /// Whether this is a history at all. What fails here is a mistake of whoever wrote it down or of a
    /// client, not of the cluster.
    pub(super) fn is_well_formed(&self) -> Result<(), Violation> {
        let mut by_client_seq: BTreeMap<(String, u64), usize> = BTreeMap::new();
        for (number, operation) in self.operations.iter().enumerate() {
            let refuse =
                |what: &str| Err(Violation::new("history", format!("{what}: {}", self.show(number))));
            let backwards = |attempt: &Attempt| matches!(attempt.ended, Some((at, _)) if at < attempt.sent);
            if operation.attempts.iter().any(backwards) {
                return refuse("an attempt ends before it is sent");
            }
            if matches!(operation.op, Op::Status | Op::Operator(_)) {
                return refuse("a status is about one node, and nothing that a history can judge");
            }
            if operation.pipeline.is_some() && operation.attempts.len() != 1 {
                return refuse("what stands in a pipeline is sent once");
            }
            match operation.client_seq() {
                Some(client_seq) => {
                    if by_client_seq.insert(client_seq, number).is_some() {
                        return refuse("a second operation with the client and seq of another");
                    }
                }
                None if operation.attempts.len() == 1 => {}
                None => return refuse("without a seq, an operation is sent once"),
            }
        }
        Ok(())
    }

    /// An operation in words.
    pub fn show(&self, number: usize) -> String {
        let Some(operation) = self.operations.get(number) else { return format!("operation {number}") };
        let mut text =
            format!("operation {number} of client {}, {}", operation.client, operation.request_text());
        if let Some(pipeline) = operation.pipeline {
            text += &format!(", in pipeline {pipeline}");
        }
        for (place, Attempt { sent, ended }) in operation.attempts.iter().enumerate() {
            let again = if place == 0 { "" } else { " again" };
            text += &match ended {
                Some((at, outcome)) => format!(", sent{again} at {sent}, at {at} {outcome:?}"),
                None => format!(", sent{again} at {sent}, no answer"),
            };
        }
        text
    }
}
