//! `raftkv-bench`: a load on a cluster, how fast it is answered, and what a fault does to it.
//!
//! ```text
//!   options ──> find who leads ──> check faults, plot ──> prefill ──> warm-up │ measured │ report
//!
//!   clients:  draw a request ──> send ──> receive ──> record     each a thread and a connection, in a loop
//!   faults:   kill the leader ... run a command                  one thread, at their times
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `options.rs` | what the load is like |
//! | `clock.rs` | when a run counts, and when it is over |
//! | `requests.rs` | which kind, which key, which value |
//! | `prefill.rs` | every key once, before |
//! | `load.rs` | the clients |
//! | `record.rs` | what is written down meanwhile: how long requests took, altogether and over time |
//! | `pauses.rs` | when no write went through |
//! | `faults.rs` | what happens to the cluster |
//! | `report.rs`, `plot.rs` | telling it: a table, JSON, a picture |
//!
//! `raftkv-client bench` is the same without faults, JSON and pictures. Nothing here knows the server:
//! whoever speaks its lines could do the same.

mod clock;
mod faults;
mod load;
mod options;
mod pauses;
mod plot;
mod prefill;
mod record;
mod report;
mod requests;

pub use faults::FaultOptions;
pub use options::Options;

use crate::dial::{NodeOptions, Nodes};
use clap::Parser;
use clock::Clock;
use faults::{FaultReport, Script};
use indicatif::{ProgressBar, ProgressStyle};
use load::{Worker, find_leader, nodes_from};
use pauses::Accepted;
use plot::PlotFile;
use prefill::Prefill;
use record::{Series, Shared, Tally};
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Between two looks of the progress bar.
const PROGRESS_STEP: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  raftkv-bench                                     64 clients set values for five seconds
  raftkv-bench --clients 16 --pipeline 8 --seconds 30 --plot load.svg
  raftkv-bench --reads 0.9 --keys 100000 --distribution zipf --prefill
  raftkv-bench --spread --value-size 10-1000 --json | jq .set.p99_ms
  raftkv-bench --seconds 10 --kill-leader-at 5s    how long is nothing written when a leader dies?
  raftkv-bench --seconds 20 --kill-leader-at 5s --fault '12s=scripts/cluster.sh restart $KILLED'

A closed loop: each client asks again when it has its answer. While the cluster pauses nobody asks, so a
pause shows as one slow request a client, in the maximum and not in the percentiles. The pause after a fault
is measured by itself: the longest time in which no write of any client was answered with ok.

To kill a node its process must be known: scripts/cluster.sh writes that down. Other clusters have --fault.

Ctrl-C ends the load and tells what came of it so far.

Exit status: 0 the load ran, 1 no node could be asked, nothing was answered with ok, a fault failed or the
plot could not be written, 2 bad usage, 130 interrupted.";

/// Puts a load on a raftkv cluster and measures how it is answered.
#[derive(Debug, Parser)]
#[command(name = "raftkv-bench", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten, next_help_heading = "Which nodes")]
    nodes: NodeOptions,

    #[command(flatten, next_help_heading = "The load")]
    load: Options,

    #[command(flatten, next_help_heading = "What happens meanwhile")]
    faults: FaultOptions,

    /// Print one JSON object instead of the table: everything in the table, and the series over time
    #[arg(long, help_heading = "The report")]
    json: bool,

    /// Draw throughput and p99 over time into this file
    #[arg(long, value_name = "FILE.svg", help_heading = "The report")]
    plot: Option<PathBuf>,
}

/// What a run came to.
struct Outcome {
    /// Who was asked, in words.
    asked: String,
    interrupted: bool,
    /// How long it counted.
    measured: Duration,
    sets: Tally,
    gets: Tally,
    series: Series,
    faults: Vec<FaultReport>,
}

/// The program: takes the process's arguments and gives its exit status.
pub fn run() -> ExitCode {
    let Arguments { nodes, load, faults, json, plot } = Arguments::parse();
    let prepared = nodes.find().and_then(|nodes| {
        let script = Script::new(faults, &nodes, load.seconds)?;
        if !script.is_empty() && load.reads >= 1.0 {
            return Err("with --reads 1 there is no write to see a fault's pause by".to_owned());
        }
        Ok((nodes, script))
    });
    let (nodes, script) = match prepared {
        Ok(prepared) => prepared,
        Err(why) => return fail(2, &why),
    };
    let plot = match plot.as_deref().map(PlotFile::create).transpose() {
        Ok(plot) => plot,
        Err(why) => return fail(1, &why),
    };
    let interrupted = match handle_signals() {
        Ok(interrupted) => interrupted,
        Err(error) => return fail(1, &format!("cannot handle signals: {error}")),
    };
    let outcome = match measure(&load, &nodes, &script, &interrupted) {
        Ok(outcome) => outcome,
        Err(_) if interrupted.load(Ordering::Relaxed) => {
            return fail(130, "interrupted before the load began");
        }
        Err(why) => return fail(1, &why),
    };
    let text = if json { report::json(&load, &outcome) } else { report::table(&load, &outcome) };
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        // Whoever read it has seen enough.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => return fail(1, &error.to_string()),
        Ok(()) | Err(_) => {}
    }
    let title = format!("{} clients at {}; {load}", load.clients, outcome.asked);
    let plotted = plot.map_or(Ok(()), |plot| plot.write(&plot::svg(&title, &outcome)?));
    match plotted {
        Err(why) => fail(1, &why),
        Ok(()) if outcome.interrupted => ExitCode::from(130),
        Ok(()) if outcome.faults.iter().any(|fault| fault.error.is_some()) => fail(1, "a fault failed"),
        Ok(()) if outcome.sets.times_us.is_empty() && outcome.gets.times_us.is_empty() => {
            fail(1, "no request was answered with ok")
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

/// Measures without faults, and gives the report as text. Fails when no node answers at all.
pub fn table(options: &Options, nodes: &Nodes) -> Result<String, String> {
    let outcome = measure(options, nodes, &Script::empty(), &AtomicBool::new(false))?;
    Ok(report::table(options, &outcome))
}

/// The first signal ends the load, the next one the program.
fn handle_signals() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&interrupted);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })?;
    Ok(interrupted)
}

fn measure(
    options: &Options,
    nodes: &Nodes,
    script: &Script,
    interrupted: &AtomicBool,
) -> Result<Outcome, String> {
    let (leader, statuses) = find_leader(&nodes.addresses, nodes.timeout)?;
    script.check(statuses.iter().flatten())?;
    let first_of = |client: usize| if options.spread { client % nodes.addresses.len() } else { leader };
    if options.prefill {
        prefill(options, nodes, &first_of, interrupted)?;
    }
    let warm_up = Duration::from_secs_f64(options.warmup_seconds);
    let clock = Clock::start(warm_up, Duration::from_secs_f64(options.seconds), interrupted);
    let series = Series::new(options.seconds);
    let width = series.width;
    let (done, accepted) = (AtomicU64::new(0), Accepted::new(&clock));
    let shared = Shared { done, series: Mutex::new(series), accepted };
    let (ended, sets, gets, events) = thread::scope(|scope| {
        let faults = scope.spawn(|| script.carry_out(nodes, &clock));
        let workers: Vec<_> = (0..usize::from(options.clients))
            .map(|client| {
                let addresses = nodes_from(nodes, first_of(client));
                let worker = Worker::new(options, addresses, nodes.timeout, &clock, &shared, width);
                scope.spawn(|| worker.work())
            })
            .collect();
        show_progress(&clock, &shared.done);
        let ended = Instant::now();
        let (mut sets, mut gets) = (Tally::new(), Tally::new());
        for worker in workers {
            let tallies = join(worker)?;
            sets.add(&tallies.0);
            gets.add(&tallies.1);
        }
        Ok::<_, String>((ended, sets, gets, join(faults)?))
    })?;
    let measured = clock.measured(ended);
    let mut series = shared.series.into_inner().unwrap_or_else(PoisonError::into_inner);
    series.fill(measured);
    let gaps = shared.accepted.finish(ended.min(clock.end));
    let asked = match options.spread {
        true => "all nodes".to_owned(),
        false => format!("the leader, {}", nodes.addresses[leader]),
    };
    let faults = report::with_pauses(events, &gaps, clock.begin, clock.count_from);
    Ok(Outcome { asked, interrupted: clock.is_interrupted(), measured, sets, gets, series, faults })
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T, String> {
    thread.join().map_err(|_| "a thread ended in a panic".to_owned())
}

/// Sets every key once, with all clients.
fn prefill(
    options: &Options,
    nodes: &Nodes,
    first_of: &(impl Fn(usize) -> usize + Sync),
    interrupted: &AtomicBool,
) -> Result<(), String> {
    let prefill = Prefill::new(interrupted);
    let bar = progress_bar(options.keys.into(), "{wide_bar} {human_pos} of {human_len} keys");
    thread::scope(|scope| {
        let workers: Vec<_> = (0..usize::from(options.clients))
            .map(|client| {
                let addresses = nodes_from(nodes, first_of(client));
                scope.spawn(|| prefill.work(options, addresses, nodes.timeout))
            })
            .collect();
        while !workers.iter().all(ScopedJoinHandle::is_finished) {
            bar.set_position(prefill.done.load(Ordering::Relaxed).into());
            thread::sleep(PROGRESS_STEP / 10);
        }
        workers.into_iter().try_for_each(|worker| join(worker)?)
    })?;
    bar.finish_and_clear();
    if interrupted.load(Ordering::Relaxed) { Err("interrupted".to_owned()) } else { Ok(()) }
}

/// A bar on standard error, and only when that is a terminal.
fn progress_bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}

/// Until the end, how far the run is and how it goes.
fn show_progress(clock: &Clock<'_>, done: &AtomicU64) {
    let whole = clock.end - clock.begin;
    let bar = progress_bar(whole.as_millis().try_into().unwrap_or(u64::MAX), "{wide_bar} {msg}");
    let mut before = 0;
    while clock.wait_until(Instant::now() + PROGRESS_STEP) {
        let now = done.load(Ordering::Relaxed);
        bar.set_position(clock.begin.elapsed().as_millis().try_into().unwrap_or(u64::MAX));
        bar.set_message(format!("{:>9.0} requests/s", (now - before) as f64 / PROGRESS_STEP.as_secs_f64()));
        before = now;
    }
    bar.finish_and_clear();
}

/// Says why on standard error; there is nobody to tell when that is closed too.
fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "raftkv-bench: {why}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_contradict_neither_each_other_nor_the_help() {
        Arguments::command().debug_assert();
        // Each example that is shown can be typed.
        for line in EXAMPLES.lines().filter(|line| line.starts_with("  raftkv-bench")) {
            let call = line.split('|').next().unwrap_or_default();
            let call = call.trim().split("   ").next().unwrap_or_default();
            let mut words: Vec<String> = Vec::new();
            for (number, part) in call.split('\'').enumerate() {
                match number % 2 {
                    0 => words.extend(part.split_whitespace().map(str::to_owned)),
                    _ => words.push(part.to_owned()),
                }
            }
            let parsed = Arguments::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {parsed:?}");
        }
    }

    #[test]
    fn nodes_are_named_by_a_file_or_by_addresses() {
        assert!(Arguments::try_parse_from(["raftkv-bench", "--config", "a", "--connect", "b:1"]).is_err());
        assert!(Arguments::try_parse_from(["raftkv-bench", "--connect", "nonsense"]).is_err());
        assert!(Arguments::try_parse_from(["raftkv-bench", "--kill-leader-at", "soon"]).is_err());
    }
}
