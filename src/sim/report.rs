//! What `raftkv-sim` says of a run or of many, in words. Prints nothing itself.

use super::batch::Totals;
use super::shrink::Shrunk;
use super::{Detail, Plan, Run, run};
use std::fmt::Write;

/// A run: its timeline, as far as it was kept, and its verdict.
pub fn of_run(plan: &Plan, run: &Run) -> String {
    let mut text = String::new();
    let verdict = match &run.violation {
        None => format!("seed {}: everything held", plan.seed),
        Some(violation) => format!("seed {}: FAILED {violation}\nagain: {}", plan.seed, plan.command()),
    };
    run.trace.lines().iter().for_each(|line| push(&mut text, line));
    let simulated_s = run.simulated_ms / 1000;
    let trace = run.trace.hash();
    push(&mut text, &format!("{} events in {simulated_s} simulated seconds, trace {trace:016x}", run.events));
    push(&mut text, &verdict);
    text
}

/// A run that was made small: how small, and what it is like.
pub fn of_shrunk(shrunk: &Shrunk) -> String {
    let Shrunk { plan, runs, is_smallest, .. } = shrunk;
    let limit = if *is_smallest { "" } else { ", when its time was up" };
    let mut text = format!("shrunk in {runs} runs{limit} to this:\n\n");
    text += &of_run(plan, &run(plan, Detail::Timeline));
    text
}

/// Many runs, which took this long: how often what happened, how fast it was, and what failed.
pub fn of_batch(totals: &Totals, seconds: f64) -> String {
    let mut text = String::new();
    for (what, count) in totals.sometimes.counts() {
        push(&mut text, &format!("{count:>10}  {what}"));
    }
    let Totals { runs, events, .. } = totals;
    let (per_second, hours) = (*runs as f64 / seconds, totals.simulated_hours());
    let speed = format!("{runs} seeds in {seconds:.1} s ({per_second:.1} a second)");
    push(&mut text, &format!("{speed}, {hours:.1} simulated hours, {events} events"));
    for (plan, violation) in &totals.failures {
        push(&mut text, &format!("FAILED {plan}\n       {violation}\n       again: {}", plan.command()));
    }
    if totals.failures.is_empty() {
        push(&mut text, "everything held");
    }
    text
}

fn push(text: &mut String, line: &str) {
    // Memory takes every line.
    let _ = writeln!(text, "{line}");
}
