//! P9 and P10 in linear time: each answer carries the index at which it was true, so the committed log says
//! what each must have been, and no order has to be searched for.
//!
//! - Every answer, of every attempt, equals the log's replay at its index; so a `(client, seq)` takes effect
//!   once, and a retry's answer is the first one.
//! - Real time implies the order of indexes: what was answered before an operation began has an index not
//!   above that operation's, where it is a read, and below it, where it is a write. Of stale reads nothing
//!   of the kind is promised.
//! - On one connection, requests that were sent without waiting keep their order: a read is not before a
//!   write that was sent before it, a write is behind all.
//! - What was acknowledged is in the log, and no two writes at one place.
//! - What stands in the log was asked for, and no more often than was sent and may have been carried out.

use super::Violation;
use super::history::{Attempt, History, Operation, Outcome};
use super::model::Model;
use crate::kv::command::{self, Reading};
use crate::kv::{Answer, Applied, KvStore, Page};
use crate::types::{Command, Entry, EntryId, Index};
use crate::wire::client::{Op, Read};
use std::collections::{BTreeMap, BTreeSet};

/// A page may end before its limit only when it has at least so many bytes, the next item included: the
/// least `max_line_bytes` of a configuration.
const LEAST_FULL_PAGE_BYTES: usize = 4096;

type Checked = Result<(), Violation>;

/// What the committed log came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The store's `applied_hash` after each index, from 0.
    pub hashes: Vec<u64>,
    /// How many retries were not carried out again.
    pub deduplicated: u64,
}

/// Holds all answers against the committed log, which begins at index 0.
pub fn check_against_log<'a>(
    history: &History,
    log: impl IntoIterator<Item = &'a Entry>,
) -> Result<Replay, Violation> {
    history.is_well_formed()?;
    real_time_order(history)?;
    pipeline_order(history)?;
    let by_index = answers_by_index(history)?;
    let mut account = Account::of(history);
    let mut model = Model::default();
    let mut store = KvStore::new();
    let mut replay = Replay::default();
    let mut last = EntryId::NONE;
    check_at(history, by_index.get(&Index::NONE), None, &model)?;
    for entry in log {
        follows(last, entry)?;
        last = entry.id();
        account.take(history, entry)?;
        let answer = model.apply(entry);
        let Applied::Done(stored) = store.apply(entry) else {
            return Err(Violation::new("P4", format!("{entry:?} cannot be applied")));
        };
        let Some(answer) = answer.filter(|answer| *answer == stored) else {
            let what = format!("the store answers {entry:?} with {stored:?}, which the model does not");
            return Err(Violation::new("P9", what));
        };
        replay.hashes.push(store.applied_hash());
        check_at(history, by_index.get(&entry.index), Some((entry, &answer)), &model)?;
        account.note_refusal(entry, &answer);
    }
    if let Some((index, numbers)) = by_index.range(last.index.next()..).next() {
        let shown = numbers.first().map_or(String::new(), |(number, _)| history.show(*number));
        let what = format!("{shown}: an answer at {index}, beyond the committed log's end {}", last.index);
        return Err(Violation::new("P10", what));
    }
    account.refusals_are_true(history)?;
    replay.deduplicated = model.deduplicated;
    Ok(replay)
}

/// That it is a log, so that whoever brings another learns it in words.
fn follows(last: EntryId, entry: &Entry) -> Checked {
    if entry.index != last.index.next() || entry.term < last.term {
        return Err(Violation::new("P2", format!("{} stands after {last} in the log", entry.id())));
    }
    match command::read(entry.command.text()) {
        Reading::Write(_) | Reading::Noop | Reading::Configuration => Ok(()),
        Reading::Unknown { .. } | Reading::Invalid(_) => {
            Err(Violation::new("P4", format!("{entry:?} cannot be applied")))
        }
    }
}

/// One walk over all beginnings and ends in their order, with the highest index answered so far. What ends
/// at the moment in which another begins is not before it.
fn real_time_order(history: &History) -> Checked {
    let mut moments: Vec<(u64, bool, usize, Index)> = Vec::new();
    for (number, operation) in history.operations.iter().enumerate() {
        if operation.is_stale_read() {
            continue;
        }
        let Some((ended, index)) = operation.answered().and_then(|(at, it)| Some((at, it.index()?))) else {
            continue;
        };
        moments.push((operation.began(), false, number, index));
        moments.push((ended, true, number, index));
    }
    moments.sort_unstable();
    let mut highest: Option<(Index, usize)> = None;
    for (_, is_end, number, index) in moments {
        if is_end {
            highest = highest.max(Some((index, number)));
            continue;
        }
        let Some((answered, earlier)) = highest else { continue };
        let is_read = history.operations.get(number).is_some_and(|it| it.command().is_none());
        if index < answered || (index == answered && !is_read) {
            let (later, earlier) = (history.show(number), history.show(earlier));
            let what = format!("answered earlier: {earlier}; begun later, yet before it in the log: {later}");
            return Err(Violation::new("P9", what));
        }
    }
    Ok(())
}

/// What a pipeline has been told so far: the highest index, with whose it is, of its writes, and of all.
type Told = (Option<(Index, usize)>, Option<(Index, usize)>);

/// A request sees the effects of those sent before it on its connection. Two reads may be served in any
/// order.
fn pipeline_order(history: &History) -> Checked {
    let mut told: BTreeMap<u64, Told> = BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate() {
        let Some(pipeline) = operation.pipeline.filter(|_| !operation.is_stale_read()) else { continue };
        let Some(index) = operation.answered().and_then(|(_, outcome)| outcome.index()) else { continue };
        let (by_writes, by_all) = told.entry(pipeline).or_default();
        let is_write = operation.command().is_some();
        let before = if is_write { *by_all } else { *by_writes };
        if let Some((earlier_index, earlier)) = before
            && (index < earlier_index || (index == earlier_index && is_write))
        {
            let (earlier, later) = (history.show(earlier), history.show(number));
            let what = format!("sent earlier: {earlier}; sent behind it, yet before it in the log: {later}");
            return Err(Violation::new("P9", what));
        }
        *by_all = (*by_all).max(Some((index, number)));
        if is_write {
            *by_writes = (*by_writes).max(Some((index, number)));
        }
    }
    Ok(())
}

/// The definite answers at each index: the operation's number and the answer.
type ByIndex<'a> = BTreeMap<Index, Vec<(usize, &'a Outcome)>>;

fn answers_by_index(history: &History) -> Result<ByIndex<'_>, Violation> {
    let mut by_index: ByIndex<'_> = BTreeMap::new();
    for (number, operation) in history.operations.iter().enumerate() {
        for (_, outcome) in operation.definite_answers() {
            let Some(index) = outcome.index() else {
                let what = format!("an answer that cannot be: {}", history.show(number));
                return Err(Violation::new("P9", what));
            };
            by_index.entry(index).or_default().push((number, outcome));
        }
    }
    Ok(by_index)
}

/// The answers at one index against what stands there and what is true there.
fn check_at(
    history: &History,
    answers: Option<&Vec<(usize, &Outcome)>>,
    at: Option<(&Entry, &Answer)>,
    model: &Model,
) -> Checked {
    let mut writer: Option<usize> = None;
    for (number, outcome) in answers.into_iter().flatten() {
        let Some(Operation { op, .. }) = history.operations.get(*number) else { continue };
        let is_right = match (op, outcome) {
            (Op::Write(command), Outcome::Written(answer)) => {
                if let Some(other) = writer.replace(*number).filter(|other| other != number) {
                    let (one, other) = (history.show(other), history.show(*number));
                    let what = format!("two writes at one index: {one}; {other}");
                    return Err(Violation::new("P9", what));
                }
                at.is_some_and(|(entry, replayed)| entry.command == *command && replayed == answer)
            }
            (Op::Read { read: Read::Get { key }, .. }, Outcome::Got { value, .. }) => {
                model.values.get(key) == value.as_ref()
            }
            (Op::Read { read: Read::Scan { prefix, after, limit }, .. }, Outcome::Scanned { page, .. }) => {
                scan_is_right(model, prefix, after.as_deref(), *limit, page)
            }
            (Op::Write(_) | Op::Read { .. } | Op::Status | Op::Operator(_), _) => false,
        };
        if !is_right {
            let at = at.map(|(entry, answer)| (entry.id(), entry.command.text(), answer));
            let what = format!("{}: the log there says {at:?}", history.show(*number));
            return Err(Violation::new("P9", what));
        }
    }
    Ok(())
}

fn scan_is_right(model: &Model, prefix: &str, after: Option<&str>, limit: usize, page: &Page) -> bool {
    let is_asked_for = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
    let mut expected = model.values.iter().filter(|(key, _)| is_asked_for(key));
    if page.items.len() > limit {
        return false;
    }
    let mut bytes = 0;
    for item in &page.items {
        if expected.next() != Some((&item.key.to_string(), &item.value)) {
            return false;
        }
        bytes += item.key.len() + item.value.len();
    }
    let Some((key, value)) = expected.next() else { return !page.more };
    let is_full = page.items.len() == limit || bytes + key.len() + value.len() >= LEAST_FULL_PAGE_BYTES;
    page.more && is_full
}

/// Which writes may stand in the log, and how often: as often as they were sent and not refused for good.
struct Account<'a> {
    left: BTreeMap<&'a str, usize>,
    /// Whose attempts the replay refused with `stale_seq`, or with `session_expired`.
    refused: BTreeSet<(String, &'static str)>,
}

impl<'a> Account<'a> {
    fn of(history: &'a History) -> Account<'a> {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for operation in &history.operations {
            let Some(command) = operation.command() else { continue };
            let attempts = operation.attempts.iter().filter(|attempt| attempt.may_be_in_the_log()).count();
            *left.entry(command.text()).or_default() += attempts;
        }
        Account { left, refused: BTreeSet::new() }
    }

    /// An entry of the log is one of these.
    fn take(&mut self, history: &History, entry: &Entry) -> Checked {
        if [Command::noop(), Command::configuration()].contains(&entry.command) {
            return Ok(());
        }
        if let Some(left) = self.left.get_mut(entry.command.text()).filter(|left| **left > 0) {
            *left -= 1;
            return Ok(());
        }
        let asked = history.operations.iter().position(|it| it.command() == Some(&entry.command));
        let what = match asked {
            Some(number) => format!("{entry:?} stands in the log, more often than {}", history.show(number)),
            None => format!("{entry:?} stands in the log, and nobody asked for it"),
        };
        Err(Violation::new("P10", what))
    }

    fn note_refusal(&mut self, entry: &Entry, answer: &Answer) {
        if let Some(name) = refusal(&Outcome::from(answer.clone())) {
            self.refused.insert((entry.command.text().to_owned(), name));
        }
    }

    /// What was answered as refused by its session was refused by it.
    fn refusals_are_true(&self, history: &History) -> Checked {
        for (number, operation) in history.operations.iter().enumerate() {
            let Some(command) = operation.command() else { continue };
            for Attempt { ended, .. } in &operation.attempts {
                let Some(name) = ended.as_ref().and_then(|(_, outcome)| refusal(outcome)) else { continue };
                if !self.refused.contains(&(command.text().to_owned(), name)) {
                    let what = format!("{}: the log says nothing of {name}", history.show(number));
                    return Err(Violation::new("P9", what));
                }
            }
        }
        Ok(())
    }
}

fn refusal(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::StaleSeq => Some("stale_seq"),
        Outcome::SessionExpired => Some("session_expired"),
        _ => None,
    }
}
