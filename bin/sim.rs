//! `raftkv-sim`: runs of the deterministic simulator. Arguments, then a call.

#[path = "sim/teller.rs"]
mod teller;
#[path = "sim/terminal.rs"]
mod terminal;

use clap::Parser;
use raftkv::sim::batch::{Totals, parse_seeds, run_seeds};
use raftkv::sim::{Detail, Overrides, Plan, report, run};
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;
use teller::{Teller, make_small};
use terminal::{say, stop_when_asked};

/// Simulates whole clusters, each from a seed, and checks what must hold.
///
/// With --seed, prints a timeline of that run and its verdict. With --seeds, runs many, and shrinks the first
/// that fails of each property; Ctrl-C lets the runs end that are under way, and tells of those that ran.
///
/// Exit status: 0 all held, 1 something did not, 2 bad usage, 130 stopped before the last seed, and all held.
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
    match (&arguments.seeds, arguments.seed) {
        (Some(seeds), _) => run_many(&arguments, seeds.clone()),
        (None, seed) => run_one(&arguments, &Plan::with(seed.unwrap_or_default(), &arguments.overrides)),
    }
}

fn run_one(arguments: &Arguments, plan: &Plan) -> ExitCode {
    let run = run(plan, if arguments.messages { Detail::Messages } else { Detail::Timeline });
    say(&report::of_run(plan, &run));
    if let Some(violation) = run.violation.as_ref().filter(|_| arguments.shrink) {
        make_small(plan, violation, &|| true);
    }
    if run.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn run_many(arguments: &Arguments, seeds: RangeInclusive<u64>) -> ExitCode {
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let count = (seeds.end() + 1).saturating_sub(*seeds.start());
    let is_stopped = stop_when_asked();
    let teller = Teller::new(count);
    let began = Instant::now();
    let progress = |totals: &Totals| {
        teller.tell(totals);
        let goes_on = totals.failures.is_empty() || !arguments.fail_fast;
        goes_on && !is_stopped.load(Ordering::Relaxed)
    };
    let totals = run_seeds(seeds.clone(), &arguments.overrides, threads.unwrap_or(1).max(1), &progress);
    teller.bar.finish_and_clear();
    say(&report::of_batch(&totals, began.elapsed().as_secs_f64()));
    let goes_on = || !is_stopped.load(Ordering::Relaxed);
    let is_cut_short = !goes_on() && totals.runs < count;
    if is_cut_short {
        // Each seed that was begun has ended, and none was left out before it.
        say(&format!("stopped: {}..{} ran of {count}\n", seeds.start(), seeds.start() + totals.runs - 1));
    }
    for (plan, violation) in totals.first_failures().take_while(|_| goes_on()) {
        make_small(plan, violation, &goes_on);
    }
    match (totals.failures.is_empty(), is_cut_short) {
        (false, _) => ExitCode::from(1),
        (true, true) => ExitCode::from(130),
        (true, false) => ExitCode::SUCCESS,
    }
}
