//! One key as a register: what its operations did to it, as far as their answers tell, without indexes.
//!
//! Scans and stale reads are left out: the first speak of many keys, the second of no moment. What certainly
//! did nothing is left out too, and so is a read without an answer.

use super::history::{History, Outcome};
use crate::json;
use crate::kv::Answer;
use crate::kv::command::{self, Reading};
use crate::wire::client::{Op, Read};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A value by its text's number: texts are compared once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Value(u32);

impl Value {
    /// The key does not exist.
    pub const ABSENT: Value = Value(0);
    /// Stands for all values that neither an answer nor an `expect` names.
    pub const UNNAMED: Value = Value(u32::MAX);
}

/// An operation with an answer: what it did, by that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    Got(Value),
    Set(Value),
    Deleted { was_there: bool },
    Swapped { expect: &'a str, value: Value },
    NotSwapped { expect: &'a str, current: Value },
}

/// An operation with an answer, and the span of time in which it took effect.
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    /// Which of the history.
    pub number: usize,
    pub began: u64,
    pub ended: u64,
    pub action: Action<'a>,
    /// The connection on which it has an order with others, see [`super::Operation::pipeline`].
    pub pipeline: Option<u64>,
}

/// A write of which nobody knows whether it took effect, or will.
#[derive(Clone, Debug)]
pub(super) struct OpenWrite<'a> {
    pub number: usize,
    pub began: u64,
    /// What the key must mean for it to do anything; none: it always does.
    pub expect: Option<&'a str>,
    /// What it leaves behind.
    pub leaves: Value,
    /// Open writes of one kind, but for those with an `expect`, can stand in for each other.
    pub kind: Value,
}

/// What must be true of the value for an answer to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish<'a> {
    Exactly(Value),
    /// As JSON, `null` for absent.
    Meaning(&'a str),
    Present,
}

/// All operations on a key.
pub(super) struct Register<'a> {
    texts: Vec<&'a str>,
    numbers: HashMap<&'a str, Value>,
    /// By their beginning.
    pub calls: Vec<Call<'a>>,
    /// By their beginning.
    pub open: Vec<OpenWrite<'a>>,
    /// An operation whose answer is none to what it asked, or not the one that it had before.
    pub nonsense: Option<usize>,
}

impl<'a> Register<'a> {
    /// The history's keys, each with its operations.
    pub fn all(history: &'a History) -> BTreeMap<String, Register<'a>> {
        let mut registers: BTreeMap<String, Register<'a>> = BTreeMap::new();
        for (number, operation) in history.operations.iter().enumerate() {
            if let Some(key) = key_of(&operation.op).filter(|_| !operation.is_stale_read()) {
                registers.entry(key).or_insert_with(Register::new).add(history, number);
            }
        }
        for register in registers.values_mut() {
            register.calls.sort_by_key(|call| (call.began, call.ended));
            register.open.sort_by_key(|write| write.began);
            register.find_kinds();
        }
        registers
    }

    fn new() -> Register<'a> {
        let (texts, numbers) = (vec!["null"], HashMap::from([("null", Value::ABSENT)]));
        Register { texts, numbers, calls: Vec::new(), open: Vec::new(), nonsense: None }
    }

    fn add(&mut self, history: &'a History, number: usize) {
        let Some(operation) = history.operations.get(number) else { return };
        let began = operation.began();
        let Some((ended, outcome)) = operation.answered() else {
            if operation.is_open_write() {
                let write = self.open_write(number, began, &operation.op);
                self.open.extend(write);
            }
            return;
        };
        let action = self.action(&operation.op, outcome);
        let mut answers = operation.definite_answers();
        let Some(action) =
            action.filter(|first| answers.all(|(_, it)| self.action(&operation.op, it) == Some(*first)))
        else {
            self.nonsense.get_or_insert(number);
            return;
        };
        self.calls.push(Call { number, began, ended, action, pipeline: operation.pipeline });
    }

    fn value(&mut self, text: &'a str) -> Value {
        let next = Value(u32::try_from(self.texts.len()).expect("fewer values than fit into memory"));
        let value = *self.numbers.entry(text).or_insert(next);
        if value == next {
            self.texts.push(text);
        }
        value
    }

    fn maybe(&mut self, text: Option<&'a str>) -> Value {
        text.map_or(Value::ABSENT, |text| self.value(text))
    }

    fn action(&mut self, op: &'a Op, outcome: &'a Outcome) -> Option<Action<'a>> {
        match (op, outcome) {
            (Op::Read { read: Read::Get { .. }, .. }, Outcome::Got { value, .. }) => {
                Some(Action::Got(self.maybe(value.as_deref())))
            }
            (Op::Write(command), Outcome::Written(answer)) => {
                let Reading::Write(write) = command::read(command.text()) else { return None };
                match (write.operation, answer) {
                    (command::Operation::Set { value, .. }, Answer::Set { .. }) => {
                        Some(Action::Set(self.value(value)))
                    }
                    (command::Operation::Delete { .. }, Answer::Deleted { deleted, .. }) => {
                        Some(Action::Deleted { was_there: *deleted })
                    }
                    (command::Operation::Cas { expect, value, .. }, Answer::Swapped { .. }) => {
                        Some(Action::Swapped { expect, value: self.value(value) })
                    }
                    (command::Operation::Cas { expect, .. }, Answer::NotSwapped { current, .. }) => {
                        Some(Action::NotSwapped { expect, current: self.maybe(current.as_deref()) })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn open_write(&mut self, number: usize, began: u64, op: &'a Op) -> Option<OpenWrite<'a>> {
        let Op::Write(command) = op else { return None };
        let Reading::Write(write) = command::read(command.text()) else { return None };
        let (expect, leaves) = match write.operation {
            command::Operation::Set { value, .. } => (None, self.value(value)),
            command::Operation::Delete { .. } => (None, Value::ABSENT),
            command::Operation::Cas { expect, value, .. } => (Some(expect), self.value(value)),
        };
        Some(OpenWrite { number, began, expect, leaves, kind: leaves })
    }

    /// Which values of open writes nobody ever names.
    fn find_kinds(&mut self) {
        let mut named = BTreeSet::from([Value::ABSENT]);
        let mut expects: BTreeSet<&str> = self.open.iter().filter_map(|write| write.expect).collect();
        for call in &self.calls {
            match call.action {
                Action::Got(value) => {
                    named.insert(value);
                }
                Action::Swapped { expect, .. } => {
                    expects.insert(expect);
                }
                Action::NotSwapped { expect, current } => {
                    expects.insert(expect);
                    named.insert(current);
                }
                Action::Set(_) | Action::Deleted { .. } => {}
            }
        }
        for place in 0..self.open.len() {
            let leaves = self.open[place].leaves;
            let is_named = named.contains(&leaves) || expects.iter().any(|it| self.means(leaves, it));
            if !is_named {
                self.open[place].kind = Value::UNNAMED;
            }
        }
    }

    /// The value's JSON text, `null` when there is none.
    pub fn text(&self, value: Value) -> &'a str {
        self.texts.get(value.0 as usize).copied().unwrap_or("a value")
    }

    /// Whether the value is what `expect` says.
    pub fn means(&self, value: Value, expect: &str) -> bool {
        json::equal(self.text(value), expect)
    }

    /// The value after this was done to that one; none when the answer would have been another.
    pub fn after(&self, value: Value, action: &Action<'_>) -> Option<Value> {
        match *action {
            Action::Got(found) => (value == found).then_some(value),
            Action::Set(new) => Some(new),
            Action::Deleted { was_there } => ((value != Value::ABSENT) == was_there).then_some(Value::ABSENT),
            Action::Swapped { expect, value: new } => self.means(value, expect).then_some(new),
            Action::NotSwapped { expect, current } => {
                (value == current && !self.means(value, expect)).then_some(value)
            }
        }
    }

    /// Whether the value is as it is wished for.
    pub fn fulfils(&self, value: Value, wish: Wish<'_>) -> bool {
        match wish {
            Wish::Exactly(wished) => value == wished,
            Wish::Meaning(expect) => self.means(value, expect),
            Wish::Present => value != Value::ABSENT,
        }
    }
}

impl OpenWrite<'_> {
    /// Whether it sets a value that nobody names.
    pub fn is_unnamed_set(&self) -> bool {
        self.expect.is_none() && self.kind == Value::UNNAMED
    }
}

impl Call<'_> {
    /// Whether its connection promises that this one's effect is seen by that later one. Only two reads may
    /// be served in any order.
    pub fn must_come_before(&self, later: &Call<'_>) -> bool {
        let are_reads = matches!((self.action, later.action), (Action::Got(_), Action::Got(_)));
        self.pipeline.is_some() && self.pipeline == later.pipeline && !are_reads
    }
}

impl<'a> Action<'a> {
    /// Whether it certainly changed nothing.
    pub fn only_looks(&self) -> bool {
        match self {
            Action::Got(_) | Action::NotSwapped { .. } | Action::Deleted { was_there: false } => true,
            Action::Set(_) | Action::Swapped { .. } | Action::Deleted { was_there: true } => false,
        }
    }

    /// The value that it has left behind, when it has given the key one.
    pub fn leaves(&self) -> Option<Value> {
        match *self {
            Action::Set(value) | Action::Swapped { value, .. } => Some(value),
            Action::Got(_) | Action::NotSwapped { .. } | Action::Deleted { .. } => None,
        }
    }

    /// What the value must be for the answer to be right; none when any will do.
    pub fn wish(&self) -> Option<Wish<'a>> {
        match *self {
            Action::Got(value) | Action::NotSwapped { current: value, .. } => Some(Wish::Exactly(value)),
            Action::Deleted { was_there: false } => Some(Wish::Exactly(Value::ABSENT)),
            Action::Deleted { was_there: true } => Some(Wish::Present),
            Action::Swapped { expect, .. } => Some(Wish::Meaning(expect)),
            Action::Set(_) => None,
        }
    }
}

fn key_of(op: &Op) -> Option<String> {
    match op {
        Op::Read { read: Read::Get { key }, .. } => Some(key.clone()),
        Op::Read { read: Read::Scan { .. }, .. } | Op::Status | Op::Operator(_) => None,
        Op::Write(command) => match command::read(command.text()) {
            Reading::Write(write) => match write.operation {
                command::Operation::Set { key, .. }
                | command::Operation::Delete { key }
                | command::Operation::Cas { key, .. } => Some(key.content.into_owned()),
            },
            Reading::Noop | Reading::Configuration | Reading::Unknown { .. } | Reading::Invalid(_) => None,
        },
    }
}
