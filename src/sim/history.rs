//! P9, in linear time: each answer carries the index at which it was true, so the committed log says what
//! each must have been, and no order has to be searched for.
//!
//! - Every answer equals the log's replay at its index.
//! - Real time implies the order of indexes: what was answered before an operation began has an index not
//!   above
//!   that operation's, where it is a read, and below it, where it is a write.
//! - All attempts of one `(client, seq)` are one operation, from the first send to the first definite answer.
//! - What was acknowledged is in the log; what was answered as never carried out is not (the ledger sees to
//!   it,
//!   attempt by attempt, by the request's name).

use super::ledger::Ledger;
use super::model::Model;
use super::sometimes::Sometimes;
use super::{Checked, Violation};
use crate::kv::{Answer, Applied, KvStore, Page};
use crate::types::{Entry, Index};
use crate::wire::client::{Op, Read};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an attempt came to, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Written(Answer),
    Got {
        value: Option<Arc<str>>,
        index: Index,
    },
    Scanned {
        page: Page,
        index: Index,
    },
    Busy,
    Unavailable,
    Timeout,
    /// The connection ended without an answer.
    Lost,
    /// Nobody could be connected to.
    NotSent,
}

impl Outcome {
    /// Whether certainly nothing was done.
    pub fn is_void(&self) -> bool {
        matches!(self, Outcome::Busy | Outcome::Unavailable | Outcome::NotSent)
    }

    fn index(&self) -> Option<Index> {
        match self {
            Outcome::Written(answer) => match answer {
                Answer::Set { index }
                | Answer::Deleted { index, .. }
                | Answer::Swapped { index }
                | Answer::NotSwapped { index, .. } => Some(*index),
                Answer::Noop | Answer::StaleSeq { .. } | Answer::SessionExpired { .. } => None,
            },
            Outcome::Got { index, .. } | Outcome::Scanned { index, .. } => Some(*index),
            Outcome::Busy | Outcome::Unavailable | Outcome::Timeout | Outcome::Lost | Outcome::NotSent => {
                None
            }
        }
    }
}

/// One operation of a client, with all its attempts.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub client: usize,
    pub op: Op,
    /// When it began: the number of an event.
    pub began: u64,
    /// When it was answered for good, and how.
    pub ended: Option<(u64, Outcome)>,
}

/// All operations of a run.
#[derive(Default)]
pub(super) struct History {
    pub operations: Vec<Operation>,
}

impl History {
    /// Holds all answers against the committed log.
    pub fn check(&self, ledger: &Ledger, sometimes: &mut Sometimes) -> Checked {
        self.real_time_order()?;
        let by_index = self.answered_by_index()?;
        let mut model = Model::default();
        let mut store = KvStore::new();
        self.check_at(by_index.get(&Index::NONE), None, &model)?;
        for (offset, (entry, _)) in ledger.committed.iter().enumerate() {
            let answer = model.apply(entry);
            if store.apply(entry) != Applied::Done(answer.clone()) {
                let what = format!("the store answers {} otherwise than the model, {answer:?}", entry.id());
                return Err(Violation::new("P9", what));
            }
            if ledger.hashes.get(offset).is_some_and(|hash| *hash != store.applied_hash()) {
                return Err(Violation::new(
                    "P15",
                    format!("the replay has another hash after {}", entry.id()),
                ));
            }
            self.check_at(by_index.get(&entry.index), Some((entry, &answer)), &model)?;
        }
        let last = ledger.committed.last().map_or(Index::NONE, |(entry, _)| entry.index);
        if let Some((index, operations)) = by_index.range(last.next()..).next() {
            let what = format!(
                "{} is answered at {index}, beyond the committed log's end {last}",
                self.show(operations[0])
            );
            return Err(Violation::new("P10", what));
        }
        (0..model.deduplicated).for_each(|_| sometimes.saw("retry deduplicated"));
        Ok(())
    }

    fn show(&self, number: usize) -> String {
        match self.operations.get(number) {
            Some(Operation { client, op, ended, .. }) => {
                let ended = ended.as_ref().map(|(_, outcome)| outcome);
                format!("operation {number} of client {client}, {op:?} with {ended:?}")
            }
            None => format!("operation {number}"),
        }
    }

    fn answered_by_index(&self) -> Result<BTreeMap<Index, Vec<usize>>, Violation> {
        let mut by_index: BTreeMap<Index, Vec<usize>> = BTreeMap::new();
        for (number, operation) in self.operations.iter().enumerate() {
            let Some((_, outcome)) = &operation.ended else { continue };
            match outcome.index() {
                Some(index) => by_index.entry(index).or_default().push(number),
                None if matches!(outcome, Outcome::Written(_)) => {
                    // No simulated client goes back in its numbers or is forgotten.
                    return Err(Violation::new(
                        "P9",
                        format!("an answer that cannot be: {}", self.show(number)),
                    ));
                }
                None => {}
            }
        }
        Ok(by_index)
    }

    /// The answers at one index against what stands there and what is true there.
    fn check_at(
        &self,
        numbers: Option<&Vec<usize>>,
        at: Option<(&Entry, &Answer)>,
        model: &Model,
    ) -> Checked {
        for number in numbers.into_iter().flatten() {
            let Some(Operation { op, ended: Some((_, outcome)), .. }) = self.operations.get(*number) else {
                continue;
            };
            let is_right = match (op, outcome) {
                (Op::Write(command), Outcome::Written(answer)) => {
                    at.is_some_and(|(entry, replayed)| entry.command == *command && replayed == answer)
                }
                (Op::Read { read: Read::Get { key }, .. }, Outcome::Got { value, .. }) => {
                    let expected = model.values.get(key).map(u64::to_string);
                    expected.as_deref() == value.as_deref()
                }
                (Op::Read { read: Read::Scan { prefix, limit, .. }, .. }, Outcome::Scanned { page, .. }) => {
                    scan_is_right(model, prefix, *limit, page)
                }
                (Op::Write(_) | Op::Read { .. } | Op::Status, _) => false,
            };
            if !is_right {
                let at = at.map(|(entry, answer)| (entry.id(), entry.command.text(), answer));
                let what = format!("{}: the log there says {at:?}", self.show(*number));
                return Err(Violation::new("P9", what));
            }
        }
        Ok(())
    }

    /// One walk over all beginnings and ends in their order, with the highest index answered so far.
    fn real_time_order(&self) -> Checked {
        let mut moments: BTreeMap<u64, (usize, Index, bool)> = BTreeMap::new();
        for (number, operation) in self.operations.iter().enumerate() {
            // A stale read promises no order.
            if matches!(operation.op, Op::Read { stale: true, .. }) {
                continue;
            }
            let Some((ended, index)) = operation.ended.as_ref().and_then(|(at, it)| Some((*at, it.index()?)))
            else {
                continue;
            };
            moments.insert(operation.began, (number, index, false));
            moments.insert(ended, (number, index, true));
        }
        let mut highest: Option<(Index, usize)> = None;
        for (number, index, is_end) in moments.into_values() {
            if is_end {
                highest = highest.max(Some((index, number)));
                continue;
            }
            let Some((answered, earlier)) = highest else { continue };
            let is_read = self.operations.get(number).is_some_and(|it| matches!(it.op, Op::Read { .. }));
            if index < answered || (index == answered && !is_read) {
                let (later, earlier) = (self.show(number), self.show(earlier));
                let what =
                    format!("answered earlier: {earlier}; begun later, yet before it in the log: {later}");
                return Err(Violation::new("P9", what));
            }
        }
        Ok(())
    }
}

fn scan_is_right(model: &Model, prefix: &str, limit: usize, page: &Page) -> bool {
    let all: Vec<(&String, String)> = model
        .values
        .iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .map(|(key, value)| (key, value.to_string()))
        .collect();
    let expected = all.iter().take(limit).map(|(key, value)| (key.as_str(), value.as_str()));
    let found = page.items.iter().map(|item| (item.key.as_ref(), item.value.as_ref()));
    expected.eq(found) && page.more == (all.len() > limit)
}
