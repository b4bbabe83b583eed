//! `raftkv-search`: exhaustive searches of the consensus core. Arguments, then a call.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use raftkv::search::{CONFIGURATIONS, Configuration, Limits, Progress, Report, run_configuration};
use std::process::ExitCode;
use std::time::Duration;

/// Visits every state that a few nodes can reach within bounds, and checks what must hold.
///
/// Exit status: 0 all held and every state was visited, 1 something did not hold, 2 bad usage, 3 a limit was
/// reached before the end.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which searches, by name [default: all].
    #[arg(value_parser = find)]
    names: Vec<&'static Configuration>,

    /// Says which there are.
    #[arg(long)]
    list: bool,

    /// Ends a search at this many states.
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    max_states: u64,

    /// Ends a search when the process has so many GB of memory in use (Linux only).
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    max_gb: u64,

    /// How many threads search [default: one a processor].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

fn find(name: &str) -> Result<&'static Configuration, String> {
    let found = CONFIGURATIONS.iter().find(|configuration| configuration.name == name);
    found.ok_or_else(|| {
        format!("there is no search of this name: --list says which there are, `{name}` is none")
    })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        for Configuration { name, about, .. } in CONFIGURATIONS {
            println!("{name:<20} {about}");
        }
        return ExitCode::SUCCESS;
    }
    // A panic of the code under test is a finding, which is shown with the way to it.
    std::panic::set_hook(Box::new(|_| {}));
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let limits = Limits {
        max_states: arguments.max_states,
        max_bytes: arguments.max_gb.saturating_mul(1_000_000_000),
        threads: threads.unwrap_or(1).max(1),
    };
    let chosen = if arguments.names.is_empty() { CONFIGURATIONS.iter().collect() } else { arguments.names };
    let (mut broken, mut cut_short) = (false, false);
    for configuration in chosen {
        let report = search(configuration, &limits);
        print!("{report}");
        broken |= report.violation.is_some();
        cut_short |= !report.exhausted;
    }
    match (broken, cut_short) {
        (true, _) => ExitCode::from(1),
        (false, true) => ExitCode::from(3),
        (false, false) => ExitCode::SUCCESS,
    }
}

fn search(configuration: &'static Configuration, limits: &Limits) -> Report {
    let style = ProgressStyle::with_template("{spinner} {prefix}: {msg}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_prefix(configuration.name);
    bar.enable_steady_tick(Duration::from_millis(200));
    let report = run_configuration(configuration, limits, &|Progress { states, depth, seconds }| {
        let rate = *states as f64 / seconds.max(0.001);
        bar.set_message(format!(
            "{states} states, {depth} steps deep, {seconds:.0} s, {rate:.0} states a second"
        ));
    });
    bar.finish_and_clear();
    report
}
