//! Histories by chance: what really happened passes, one altered answer does not, and the search agrees with
//! an oracle that tries every order.

use super::{Words, history, log};
use crate::checker::{DEFAULT_BUDGET_STEPS, History, Operation, Outcome, Verdict};
use crate::checker::{check_against_log, check_by_search};
use crate::kv::Answer;
use crate::types::{Entry, Index};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An execution: one thing after the other happens to a map, and whoever asked for it began some time before
/// and heard of it some time after.
struct Execution {
    history: History,
    writes: Vec<String>,
}

/// Of 100 writes, so many have no answer, and as many never happened.
fn execution(seed: u64, operations: u64, keys: u64, clients: u64, open_percent: u64) -> Execution {
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut lines: Vec<(usize, u64, u64, String, String)> = Vec::new();
    let mut writes: Vec<String> = Vec::new();
    for number in 0..operations {
        let at = (number + clients) * 100;
        let began = at - chance.u64(0..clients * 50);
        let ended = at + chance.u64(0..clients * 50);
        let key = format!("k{}", chance.u64(0..keys));
        let current = values.get(&key).cloned().unwrap_or_else(|| "null".to_owned());
        let index = writes.len();
        let last = index as i64 - 1;
        let is_void = chance.u64(0..100) < open_percent;
        let (request, answer) = match chance.u8(0..10) {
            0..4 => (format!("get {key}"), format!("got {current} {last}")),
            4..7 => (format!("set {key} {number}"), format!("ok {index}")),
            7 => (format!("delete {key}"), format!("deleted {} {index}", current != "null")),
            8 => (format!("cas {key} {current} {number}"), format!("swapped {index}")),
            _ => (format!("cas {key} -1 {number}"), format!("kept {current} {index}")),
        };
        let client = number as usize;
        if !request.starts_with("get") {
            if is_void {
                let never = ["lost", "timeout", "busy", "unavailable"];
                lines.push((client, began, ended, request, never[chance.usize(0..4)].to_owned()));
                continue;
            }
            if request.starts_with("set") || answer.starts_with("swapped") {
                values.insert(key, number.to_string());
            } else if request.starts_with("delete") {
                values.remove(&key);
            }
            writes.push(request.clone());
        }
        let is_open = chance.u64(0..100) < open_percent;
        lines.push((client, began, ended, request, if is_open { "lost".to_owned() } else { answer }));
    }
    let words: Vec<_> = lines
        .iter()
        .map(|(client, began, ended, request, answer)| {
            (*client, *began, *ended, request.as_str(), answer.as_str())
        })
        .collect();
    Execution { history: history(&words), writes }
}

fn entries(execution: &Execution) -> Vec<Entry> {
    log(&execution.writes.iter().map(String::as_str).collect::<Vec<_>>())
}

fn search(history: &History) -> Verdict {
    check_by_search(history, DEFAULT_BUDGET_STEPS).expect("a history")
}

#[test]
fn what_happened_passes_both_checkers() {
    for seed in 0..50 {
        for (keys, clients, open_percent) in [(1, 8, 10), (3, 8, 0), (3, 30, 20)] {
            let execution = execution(seed, 200, keys, clients, open_percent);
            let replay = check_against_log(&execution.history, &entries(&execution));
            assert!(replay.is_ok(), "seed {seed}: {replay:?}");
            let verdict = search(&execution.history);
            assert!(matches!(verdict, Verdict::Linearizable { .. }), "seed {seed}: {verdict:?}");
        }
    }
}

/// The answer as it must not be. The flag: no order of operations can explain it.
fn altered(outcome: &Outcome, chance: &mut fastrand::Rng) -> (Outcome, bool) {
    let never: Option<Arc<str>> = Some(Arc::from("\"never\""));
    match outcome.clone() {
        Outcome::Got { index, .. } => (Outcome::Got { value: never, index }, true),
        Outcome::Written(Answer::Deleted { index, deleted }) => {
            (Outcome::Written(Answer::Deleted { index, deleted: !deleted }), false)
        }
        Outcome::Written(Answer::Swapped { index }) => {
            (Outcome::Written(Answer::NotSwapped { index, current: never }), true)
        }
        // These expect what was never there.
        Outcome::Written(Answer::NotSwapped { index, .. }) => {
            (Outcome::Written(Answer::Swapped { index }), true)
        }
        Outcome::Written(Answer::Set { index }) => {
            let index = if chance.bool() { index.next() } else { index.previous() };
            (Outcome::Written(Answer::Set { index }), false)
        }
        other => panic!("no answer of an execution: {other:?}"),
    }
}

#[test]
fn one_altered_answer_passes_neither_when_it_shows() {
    let mut seen_by_search = [0; 2];
    for seed in 0..300 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut execution = execution(seed, 60, 2, 8, 10);
        let answered = |place: &usize| execution.history.operations[*place].answered().is_some();
        let places: Vec<usize> = (0..execution.history.operations.len()).filter(answered).collect();
        let place = places[chance.usize(0..places.len())];
        let attempt = &mut execution.history.operations[place].attempts[0];
        let Some((_, outcome)) = &mut attempt.ended else { panic!("it is answered") };
        if *outcome == Outcome::Written(Answer::Set { index: Index(0) }) {
            continue;
        }
        let (other, shows) = altered(outcome, &mut chance);
        *outcome = other;
        let replay = check_against_log(&execution.history, &entries(&execution));
        assert!(replay.is_err(), "seed {seed}: {}", execution.history.show(place));
        let verdict = search(&execution.history);
        assert!(!matches!(verdict, Verdict::Inconclusive { .. }), "seed {seed}: {verdict:?}");
        let is_violation = matches!(verdict, Verdict::Violation(_));
        assert!(is_violation || !shows, "seed {seed}: {}", execution.history.show(place));
        seen_by_search[usize::from(is_violation)] += 1;
    }
    assert!(seen_by_search.into_iter().all(|count| count > 50), "{seen_by_search:?}");
}

/// An operation on the one key of a small history. Values are 1 and 2, and 0 for none.
#[derive(Clone, Copy, Debug)]
enum Small {
    Get(u8),
    Set(u8),
    Delete(bool),
    Swapped(u8, u8),
    Kept(u8, u8),
    OpenSet(u8),
    OpenDelete,
    OpenCas(u8, u8),
}

impl Small {
    fn by_chance(chance: &mut fastrand::Rng) -> Small {
        let (any, new) = (chance.u8(0..3), chance.u8(1..3));
        match chance.u8(0..12) {
            0..4 => Small::Get(any),
            4..6 => Small::Set(new),
            6 => Small::Delete(chance.bool()),
            7 => Small::Swapped(any, new),
            8 => Small::Kept(any, chance.u8(0..3)),
            9 => Small::OpenSet(new),
            10 => Small::OpenDelete,
            _ => Small::OpenCas(any, new),
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Small::OpenSet(_) | Small::OpenDelete | Small::OpenCas(..))
    }

    /// The value after it; none when it cannot be so.
    fn after(self, value: u8) -> Option<u8> {
        match self {
            Small::Get(found) => (value == found).then_some(value),
            Small::Set(new) | Small::OpenSet(new) => Some(new),
            Small::Delete(deleted) => ((value != 0) == deleted).then_some(0),
            Small::OpenDelete => Some(0),
            Small::Swapped(expect, new) => (value == expect).then_some(new),
            Small::Kept(expect, current) => (value == current && value != expect).then_some(value),
            Small::OpenCas(expect, new) => Some(if value == expect { new } else { value }),
        }
    }

    fn words(self) -> (String, String) {
        let text = |value: u8| if value == 0 { "null".to_owned() } else { value.to_string() };
        let cas = |expect, new| format!("cas x {} {new}", text(expect));
        match self {
            Small::Get(found) => ("get x".to_owned(), format!("got {} 0", text(found))),
            Small::Set(new) => (format!("set x {new}"), "ok 0".to_owned()),
            Small::Delete(deleted) => ("delete x".to_owned(), format!("deleted {deleted} 0")),
            Small::Swapped(expect, new) => (cas(expect, new), "swapped 0".to_owned()),
            Small::Kept(expect, current) => (cas(expect, 9), format!("kept {} 0", text(current))),
            Small::OpenSet(new) => (format!("set x {new}"), "lost".to_owned()),
            Small::OpenDelete => ("delete x".to_owned(), "timeout".to_owned()),
            Small::OpenCas(expect, new) => (cas(expect, new), "nothing".to_owned()),
        }
    }
}

/// Tries every order, and every choice of open writes.
fn some_order_explains(left: &[(u64, u64, Small)], value: u8) -> bool {
    if left.iter().all(|(_, _, it)| it.is_open()) {
        return true;
    }
    let least_end = left.iter().filter(|(_, _, it)| !it.is_open()).map(|(_, ended, _)| *ended).min();
    (0..left.len()).filter(|place| Some(left[*place].0) <= least_end).any(|place| {
        let mut rest = left.to_vec();
        let (_, _, next) = rest.remove(place);
        next.after(value).is_some_and(|value| some_order_explains(&rest, value))
    })
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let mut verdicts = [0; 2];
    for seed in 0..20_000 {
        let mut chance = fastrand::Rng::with_seed(seed);
        let count = chance.usize(2..=7);
        let small: Vec<(u64, u64, Small)> = (0..count)
            .map(|_| {
                let began = chance.u64(0..20);
                (began, began + chance.u64(0..12), Small::by_chance(&mut chance))
            })
            .collect();
        let words: Vec<(String, String)> = small.iter().map(|(_, _, it)| it.words()).collect();
        let lines: Vec<Words<'_>> = small
            .iter()
            .zip(&words)
            .map(|((began, ended, _), (request, answer))| {
                (0, *began, *ended, request.as_str(), answer.as_str())
            })
            .collect();
        let expected = some_order_explains(&small, 0);
        let verdict = search(&history(&lines));
        assert_eq!(
            matches!(verdict, Verdict::Linearizable { .. }),
            expected,
            "seed {seed}: {small:?} {verdict:?}"
        );
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.into_iter().all(|count| count > 2_000), "{verdicts:?}");
}

#[test]
fn a_hundred_thousand_operations_take_few_steps_each() {
    for (operations, keys, clients, open_percent) in
        [(100_000, 10, 10, 1), (20_000, 1, 10, 1), (5_000, 1, 10, 10)]
    {
        let execution = execution(1, operations, keys, clients, open_percent);
        match search(&execution.history) {
            Verdict::Linearizable { steps } => assert!(steps < 15 * operations as usize, "{steps} steps"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_violation_among_many_operations_is_found() {
    let mut execution = execution(2, 10_000, 1, 10, 2);
    let is_read = |it: &&mut Operation| matches!(it.answered(), Some((_, Outcome::Got { .. })));
    let read = execution.history.operations.iter_mut().filter(is_read).nth(3_000).expect("many reads");
    let Some((_, Outcome::Got { value, .. })) = &mut read.attempts[0].ended else { panic!("it is answered") };
    *value = Some(Arc::from("\"never\""));
    let verdict = check_by_search(&execution.history, 200_000).expect("a history");
    assert!(matches!(verdict, Verdict::Violation(_)), "{verdict:?}");
}
