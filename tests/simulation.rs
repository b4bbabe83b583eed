//! The simulator's share of the tests: a thousand clusters, each from a seed, in none of which anything
//! breaks that must hold. When one fails, the message names the command that repeats it, as a timeline, and
//! the one that repeats it made small.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use raftkv::sim::batch::{Totals, run_seeds};
use raftkv::sim::shrink::{Shrunk, shrink};
use raftkv::sim::{Detail, Faults, Overrides, Plan, Violation, run};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

const SEEDS: u64 = 1_000;
const THREADS: usize = 2;
/// In so many runs a failing one is made small, as far as they take it.
const SHRINK_RUNS: u64 = 400;

fn make_small(plan: &Plan, violation: &Violation) -> Shrunk {
    shrink(plan, violation, &mut |runs, _| runs < SHRINK_RUNS)
}

#[test]
fn whatever_breaks_what_must_hold_holds() {
    let totals = run_seeds(1..=SEEDS, &Overrides::default(), THREADS, &|totals| totals.failures.is_empty());
    let failures: Vec<String> = totals
        .failures
        .iter()
        .map(|(plan, violation)| {
            let small = make_small(plan, violation).plan.command();
            format!("{plan}\n  {violation}\n  again: {}\n  made small: {small}", plan.command())
        })
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
    let overrides = Overrides {
        nodes: Some(3),
        faults: Some(Faults::default()),
        run_ms: Some(1_000),
        ..Overrides::default()
    };
    let totals: Totals = run_seeds(5..=9, &overrides, THREADS, &|_| true);
    assert_eq!(totals.runs, 5);
    assert!(totals.simulated_ms >= 5 * 1_000, "{} ms", totals.simulated_ms);
    let missing = totals.sometimes.missing();
    assert!(missing.contains(&"power of all lost"), "without faults there are none: {missing:?}");
}

/// A long batch that is interrupted tells of what it has run by then.
#[test]
fn a_batch_that_is_interrupted_loses_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-sim"));
    command.args(["--seeds", "1..1000000", "--threads", "1", "--nodes", "1", "--run-ms", "1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut first = String::new();
    stderr.read_line(&mut first).expect("it says that it begins");
    assert!(first.starts_with("1000000 seeds begin"), "{first}");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process's number"));
    kill(pid, Signal::SIGINT).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("everything held\nstopped: 1.."), "{said}");
}

// ---- Made small
// --------------------------------------------------------------------------------------------------

/// Runs the simulator's program with these arguments.
fn program(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-sim"));
    command.args(arguments.split_whitespace()).output().expect("the simulator runs")
}

/// The first of these seeds that fails with these faults, and how.
fn first_failure(faults: &str) -> (Plan, Violation) {
    let faults: Faults = faults.parse().expect("kinds of faults");
    let overrides = Overrides { nodes: Some(5), faults: Some(faults), ..Overrides::default() };
    let failure = (1..=20).find_map(|seed| {
        let plan = Plan::with(seed, &overrides);
        run(&plan, Detail::Nothing).violation.map(|violation| (plan, violation))
    });
    failure.expect("one of twenty seeds fails")
}

/// What a run keeps of its seed: nodes, kinds of faults, troubles, turns, milliseconds.
fn sizes(plan: &Plan) -> [u64; 5] {
    let count = |count: usize| u64::try_from(count).expect("a small number");
    let Overrides { troubles, turns, .. } = plan.overrides();
    let troubles = troubles.as_ref().map_or(u64::MAX, |troubles| count(troubles.len()));
    let turns = turns.as_ref().map_or(u64::MAX, |turns| count(turns.len()));
    [plan.nodes.into(), count(plan.faults.0.len()), troubles, turns, plan.run_ms]
}

/// The command that a small run prints must be that run, to the byte: the trace's hash tells.
fn assert_repeats(small: &Shrunk) {
    let command = small.plan.command();
    let arguments = command.strip_prefix("raftkv-sim ").expect("a call of the program");
    let output = program(arguments);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{command}: {said}");
    let hash = run(&small.plan, Detail::Timeline).trace.hash();
    assert!(said.contains(&format!("trace {hash:016x}")), "{command}: {said}");
    assert!(said.contains(&small.violation.to_string()), "{command}: {said}");
}

#[test]
fn a_lying_disk_comes_down_to_one_node_that_loses_power() {
    let (plan, violation) = first_failure("lying-disks,loss,delay,partitions,power-loss,pauses");
    let small = make_small(&plan, &violation);
    assert_eq!(small.violation.property, violation.property);
    assert!(small.is_smallest, "in {} runs", small.runs);
    // All machines lose power at the end of every run, and more is not needed.
    assert_eq!(sizes(&small.plan), [1, 1, 0, 0, 0], "{}", small.plan.command());
    assert_repeats(&small);
}

#[test]
fn a_stale_read_comes_down_to_a_write_and_a_read() {
    let (plan, violation) = first_failure("hasty-reads,loss,delay,partitions,crashes,pauses");
    assert_eq!(violation.property, "P9", "{violation}");
    let small = make_small(&plan, &violation);
    assert_eq!(small.violation.property, "P9");
    assert!(small.is_smallest, "in {} runs", small.runs);
    let [nodes, faults, troubles, turns, run_ms] = sizes(&small.plan);
    assert!((1..=3).contains(&nodes) && faults <= 2 && troubles <= 2, "{}", small.plan.command());
    assert!((2..=4).contains(&turns) && run_ms < 30_000, "{}", small.plan.command());
    assert_repeats(&small);
}
