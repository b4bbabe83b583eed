//! The simulator's share of the tests: a thousand clusters, each from a seed, in none of which anything
//! breaks that must hold. When one fails, the message names the command that repeats it, as a timeline.

use raftkv::sim::batch::{Totals, run_seeds};
use raftkv::sim::{Detail, Overrides, Plan, run};

const SEEDS: u64 = 1_000;
const THREADS: usize = 2;

#[test]
fn whatever_breaks_what_must_hold_holds() {
    let totals = run_seeds(1..=SEEDS, &Overrides::default(), THREADS, &|totals| totals.failures.is_empty());
    let failures: Vec<String> = totals
        .failures
        .iter()
        .map(|(plan, violation)| format!("{plan}\n  {violation}\n  again: {}", plan.command()))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let missing = totals.sometimes.missing();
    assert!(missing.is_empty(), "never happened in {SEEDS} seeds, so nothing was shown of it: {missing:?}");
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    for seed in (1..=SEEDS).step_by(100) {
        let plan = Plan::of(seed);
        let (one, other) = (run(&plan, Detail::Messages), run(&plan, Detail::Messages));
        assert_eq!(one.trace.lines(), other.trace.lines(), "seed {seed}");
        assert_eq!(one.trace.hash(), other.trace.hash(), "seed {seed}");
        assert_eq!(one.sometimes, other.sometimes, "seed {seed}");
        assert_ne!(one.trace.hash(), run(&Plan::of(seed + 1), Detail::Messages).trace.hash());
    }
}

#[test]
fn what_is_written_down_changes_nothing() {
    for seed in [7, 8, 9] {
        let plan = Plan::of(seed);
        let (silent, loud) = (run(&plan, Detail::Nothing), run(&plan, Detail::Messages));
        assert_eq!(silent.trace.lines(), Vec::<String>::new());
        assert_eq!((silent.events, silent.sometimes), (loud.events, loud.sometimes), "seed {seed}");
    }
}

#[test]
fn a_batch_counts_every_run() {
    let overrides = Overrides { nodes: Some(3), faults: Some(Default::default()), run_ms: Some(1_000) };
    let totals: Totals = run_seeds(5..=9, &overrides, THREADS, &|_| true);
    assert_eq!(totals.runs, 5);
    assert!(totals.simulated_ms >= 5 * 1_000, "{} ms", totals.simulated_ms);
    let missing = totals.sometimes.missing();
    assert!(missing.contains(&"power of all lost"), "without faults there are none: {missing:?}");
}
