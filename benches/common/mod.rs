//! What the benchmarks share: entries as a client of `raftkv-bench` makes them, and how long to measure.

#![allow(dead_code, reason = "each file of benchmarks uses its part of this")]

use criterion::Criterion;
use raftkv::types::{Command, Entry, Index, NodeId, RequestId, Term};
use std::time::Duration;

/// The values are a JSON string of so many letters.
pub const VALUE_BYTES: usize = 100;

/// Short, so that all of them together take a few minutes: they are there to show what became slower by
/// half, not by a hundredth.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().without_plots();
    criterion
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
}

/// The line that sets a key.
pub fn set_line(key: u64) -> String {
    format!(r#"{{"op":"set","key":"bench-{key}","value":"{}"}}"#, "x".repeat(VALUE_BYTES))
}

pub fn set_command(key: u64) -> Command {
    Command::from_json(set_line(key)).expect("one line of JSON")
}

/// A name for a request of node 1.
pub fn request(number: u64) -> RequestId {
    RequestId { node: NodeId(1), boot: 1, number }
}

/// An entry of term 1 that sets a key.
pub fn entry(index: i64, key: u64) -> Entry {
    let request = Some(request(index.unsigned_abs()));
    Entry { term: Term(1), index: Index(index), request, command: set_command(key), configuration: None }
}

/// So many entries, from this index on.
pub fn entries(first: i64, count: usize) -> Vec<Entry> {
    (first..).take(count).map(|index| entry(index, index.unsigned_abs())).collect()
}
