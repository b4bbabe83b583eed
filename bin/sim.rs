//! `raftkv-sim`: runs of the deterministic simulator. Arguments, then a call.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv::sim::batch::{Totals, run_seeds};
use raftkv::sim::{Detail, FaultClass, Overrides, Plan, report, run};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Instant;

/// Simulates whole clusters, each from a seed, and checks what must hold.
///
/// With --seed, prints a timeline of that run and its verdict. With --seeds, runs many.
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

    /// How many nodes, instead of the seed's choice.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,

    /// Which faults, separated by commas, instead of the seed's choice; `none` for none.
    #[arg(long, value_name = "FAULTS", value_parser = FaultClass::parse_set)]
    faults: Option<BTreeSet<FaultClass>>,

    /// For how long things break, in simulated milliseconds.
    #[arg(long, value_name = "MS")]
    run_ms: Option<u64>,

    /// With --seed: prints every message too.
    #[arg(long)]
    messages: bool,

    /// How many threads run seeds [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,

    /// Ends at the first seed that fails.
    #[arg(long)]
    fail_fast: bool,
}

fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once("..").ok_or("expected FIRST..LAST")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    Ok(number(first)?..=number(last)?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic of the code under test is a finding, which is shown with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let overrides =
        Overrides { nodes: arguments.nodes, faults: arguments.faults.clone(), run_ms: arguments.run_ms };
    let holds = match (arguments.seed, &arguments.seeds) {
        (Some(seed), _) => run_one(&Plan::with(seed, &overrides), arguments.messages),
        (None, Some(seeds)) => run_many(&arguments, seeds.clone(), &overrides),
        (None, None) => return ExitCode::from(2),
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn run_one(plan: &Plan, messages: bool) -> bool {
    let run = run(plan, if messages { Detail::Messages } else { Detail::Timeline });
    print!("{}", report::of_run(plan, &run));
    run.violation.is_none()
}

fn run_many(arguments: &Arguments, seeds: RangeInclusive<u64>, overrides: &Overrides) -> bool {
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let count = (seeds.end() + 1).saturating_sub(*seeds.start());
    let template = "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(count).with_style(style);
    let began = Instant::now();
    let progress = |totals: &Totals| {
        let failures = totals.failures.len();
        bar.set_position(totals.runs);
        bar.set_message(format!("{:.1} simulated hours, {failures} failed", totals.simulated_hours()));
        failures == 0 || !arguments.fail_fast
    };
    let totals = run_seeds(seeds, overrides, threads.unwrap_or(1).max(1), &progress);
    bar.finish_and_clear();
    print!("{}", report::of_batch(&totals, began.elapsed().as_secs_f64()));
    totals.failures.is_empty()
}
