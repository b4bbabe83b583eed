//! `raftkv-sim`: runs of the deterministic simulator. Arguments, then a call.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv::sim::batch::{Totals, parse_seeds, run_seeds};
use raftkv::sim::shrink::shrink;
use raftkv::sim::{Detail, Overrides, Plan, Violation, report, run};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a failing run is made smaller, at most.
const SHRINK_FOR: Duration = Duration::from_secs(120);

/// Simulates whole clusters, each from a seed, and checks what must hold.
///
/// With --seed, prints a timeline of that run and its verdict. With --seeds, runs many, and shrinks the first
/// that fails of each property.
///
/// Exit status: 0 all held, 1 something did not, 2 bad usage.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Runs this seed and prints what happened.
    #[arg(long, value_name = "N", required_unless_present = "seeds", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Runs these seeds, as FIRST..LAST.
    #[arg(long, value_name = "FIRST..LAST", value_parser = parse_seeds)]
    seeds: Option<RangeInclusive<u64>>,
    #[command(flatten, next_help_heading = "In place of the seed's own choice")]
    overrides: Overrides,
    /// With --seed: prints every message too.
    #[arg(long)]
    messages: bool,
    /// With --seed: makes a run that fails as small as it can be.
    #[arg(long)]
    shrink: bool,
    /// How many threads run seeds [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Ends at the first seed that fails.
    #[arg(long)]
    fail_fast: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the code under test is a finding, which is shown with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let holds = match (&arguments.seeds, arguments.seed) {
        (Some(seeds), _) => run_many(&arguments, seeds.clone()),
        (None, seed) => run_one(&arguments, &Plan::with(seed.unwrap_or_default(), &arguments.overrides)),
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn run_one(arguments: &Arguments, plan: &Plan) -> bool {
    let run = run(plan, if arguments.messages { Detail::Messages } else { Detail::Timeline });
    print!("{}", report::of_run(plan, &run));
    if let Some(violation) = run.violation.as_ref().filter(|_| arguments.shrink) {
        make_small(plan, violation);
    }
    run.violation.is_none()
}

fn run_many(arguments: &Arguments, seeds: RangeInclusive<u64>) -> bool {
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let count = (seeds.end() + 1).saturating_sub(*seeds.start());
    let bar = new_bar(Some(count), "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}");
    let began = Instant::now();
    let progress = |totals: &Totals| {
        let failures = totals.failures.len();
        bar.set_position(totals.runs);
        bar.set_message(format!("{:.1} simulated hours, {failures} failed", totals.simulated_hours()));
        failures == 0 || !arguments.fail_fast
    };
    let totals = run_seeds(seeds, &arguments.overrides, threads.unwrap_or(1).max(1), &progress);
    bar.finish_and_clear();
    print!("{}", report::of_batch(&totals, began.elapsed().as_secs_f64()));
    totals.first_failures().for_each(|(plan, violation)| make_small(plan, violation));
    totals.failures.is_empty()
}

fn make_small(plan: &Plan, violation: &Violation) {
    let bar = new_bar(None, "shrinking: {pos} runs, {per_sec}, {msg}");
    let began = Instant::now();
    let shrunk = shrink(plan, violation, &mut |runs, plan| {
        bar.set_position(runs);
        bar.set_message(plan.to_string());
        began.elapsed() < SHRINK_FOR
    });
    bar.finish_and_clear();
    print!("{}", report::of_shrunk(&shrunk));
}

fn new_bar(length: Option<u64>, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    length.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style)
}
