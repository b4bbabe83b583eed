//! `raftkv-nemesis`: real processes under a nemesis. Arguments, then a call.

use clap::Parser;
use raftkv::nemesis::{Fault, Options, run};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs a cluster of real raftkv-server processes, breaks what can be broken, and checks what must hold.
///
/// Prints a timeline as it goes and a report at the end. When something does not hold, logs, data and history
/// are kept, and the command that repeats the run is printed.
///
/// Exit status: 0 all held, 1 something did not, 2 bad usage, 3 the run could not be made.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,

    /// For how long things break; longer if not every fault has come once by then.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,

    /// Where all choices come from [default: a new one].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Which faults, separated by commas [default: all that this machine can do].
    #[arg(long, value_name = "FAULTS", value_parser = Fault::parse_set)]
    faults: Option<BTreeSet<Fault>>,

    /// How many clients ask at the same time.
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,

    /// Keeps logs, data and history in this folder, which must not be there yet, whatever comes of the run.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,

    /// The server's program [default: raftkv-server beside this program].
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    /// Lists the faults, what each needs, and whether it can be had here.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.list {
        list(arguments.nodes);
        return ExitCode::SUCCESS;
    }
    let here = std::env::current_exe().unwrap_or_default();
    let here = here.parent().unwrap_or(Path::new("."));
    let options = Options {
        nodes: arguments.nodes,
        seconds: arguments.seconds,
        seed: arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
        optional_faults: if arguments.faults.is_some() { BTreeSet::new() } else { Fault::all() },
        faults: arguments.faults.unwrap_or_default(),
        clients: arguments.clients.into(),
        server: arguments.server.unwrap_or_else(|| here.join("raftkv-server")),
        parent: here.to_owned(),
        keep: arguments.keep,
    };
    let interrupted = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&interrupted);
    if let Err(error) = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)) {
        eprintln!("raftkv-nemesis: cannot handle signals: {error}");
        return ExitCode::from(3);
    }
    match run(&options, &|line| println!("{line}"), &interrupted) {
        Ok(report) => {
            print!("{report}");
            if report.held() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(failure) => {
            eprintln!("raftkv-nemesis: the run could not be made: {failure}");
            ExitCode::from(3)
        }
    }
}

fn list(nodes: u16) {
    for fault in Fault::all() {
        let can = fault.hindrance(nodes.into()).map_or("yes".to_owned(), |why| format!("no, {why}"));
        let needs = if fault.needs().is_empty() { "nothing" } else { fault.needs() };
        println!("{fault}\n    {}\n    needs {needs}; here: {can}", fault.what());
    }
}
