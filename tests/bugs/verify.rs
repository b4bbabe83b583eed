//! Runs the copy's test program, with one bug switched on or with none, and looks at who noticed.

use super::copy;
use super::description::{Bug, Seeds};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// After this, a run is taken never to end. No verifier takes a tenth of it on an idle machine.
const DEADLINE: Duration = Duration::from_secs(900);
/// How many seeds must hold without any bug. The test of the simulator runs more of them.
const SEEDS_WITHOUT_BUGS: u64 = 20;
const SEEDS_TEST: &str = "seeds::all_hold";

/// What the verifiers made of a bug.
#[derive(Debug, Default)]
pub struct Finding {
    /// The seed that showed it, and the property that told.
    pub seed: Option<(u64, String)>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What should have caught it and did not.
    pub missed: Vec<String>,
}

/// All verifiers pass when there is nothing to find.
pub fn without_bugs(program: &Path, bugs: &[Bug]) -> Result<(), String> {
    let names: BTreeSet<String> = bugs.iter().flat_map(Bug::test_names).collect();
    let mut arguments: Vec<&str> = names.iter().map(String::as_str).collect();
    arguments.push(SEEDS_TEST);
    let seeds = Seeds { within: SEEDS_WITHOUT_BUGS, ..Seeds::default() };
    let told = run(program, None, &arguments, Some(&seeds))?;
    let passed = |name: &str| told.contains(&format!("test {name} ... ok"));
    match arguments.iter().find(|name| !passed(name)) {
        Some(name) => Err(format!("{name} does not pass, or there is no such test:\n{told}")),
        None => Ok(()),
    }
}

/// What becomes of each bug, in their order.
pub fn all(program: &Path, bugs: &[Bug], is_complete: bool) -> Vec<Finding> {
    let findings: Vec<Mutex<Finding>> = bugs.iter().map(|_| Mutex::default()).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(bug), Some(place)) = (bugs.get(number), findings.get(number)) else { return };
                    let finding = verify(program, bug, is_complete);
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = finding;
                }
            });
        }
    });
    findings.into_iter().map(|finding| finding.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

fn verify(program: &Path, bug: &Bug, is_complete: bool) -> Finding {
    let began = Instant::now();
    let mut finding = Finding::default();
    let names: Vec<String> = bug.test_names().collect();
    if !names.is_empty() {
        let arguments: Vec<&str> = names.iter().map(String::as_str).collect();
        match run(program, Some(bug), &arguments, None) {
            Ok(told) => {
                let is_missed = |name: &&&str| !told.contains(&format!("test {name} ... FAILED"));
                let missed = arguments.iter().filter(is_missed);
                finding.missed.extend(missed.map(|name| format!("{}: {name} does not fail", bug.name)));
            }
            Err(why) => finding.missed.push(format!("{}: {why}", bug.name)),
        }
    }
    if let Some(seeds) = bug.seeds.as_ref().filter(|seeds| is_complete || !seeds.slow) {
        match run(program, Some(bug), &[SEEDS_TEST], Some(seeds)).map(|told| first_failure(&told)) {
            Ok(Some((seed, property))) if seeds.told_by.contains(&property) => {
                finding.seed = Some((seed, property));
            }
            Ok(other) => finding.missed.push(format!(
                "{}: expected by seed {} from {:?}, found {other:?}",
                bug.name, seeds.within, seeds.told_by
            )),
            Err(why) => finding.missed.push(format!("{}: {why}", bug.name)),
        }
    }
    finding.seconds = began.elapsed().as_secs_f64();
    finding
}

/// The seed and the property of a line like `seed 7: P5: what happened`.
fn first_failure(told: &str) -> Option<(u64, String)> {
    told.lines().find_map(|line| {
        let (seed, what) = line.strip_prefix("seed ")?.split_once(": ")?;
        Some((seed.parse().ok()?, what.split(':').next()?.to_owned()))
    })
}

/// Runs these tests of the program; returns all that it says.
fn run(program: &Path, bug: Option<&Bug>, tests: &[&str], seeds: Option<&Seeds>) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--exact").args(tests).arg("--test-threads=1").env("RUST_BACKTRACE", "0");
    for name in ["RAFTKV_BUG", "RAFTKV_SEEDS", "RAFTKV_NODES", "RAFTKV_FAULTS", "UPDATE_GOLDENFILES"] {
        command.env_remove(name);
    }
    if let Some(bug) = bug {
        command.env("RAFTKV_BUG", &bug.name);
    }
    if let Some(Seeds { within, nodes, faults, .. }) = seeds {
        command.env("RAFTKV_SEEDS", within.to_string());
        command.envs(nodes.map(|nodes| ("RAFTKV_NODES", nodes.to_string())));
        command.envs(faults.as_ref().map(|faults| ("RAFTKV_FAULTS", faults)));
    }
    let child = command
        .current_dir(copy::folder())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => {
            let output = output.map_err(|error| error.to_string())?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Err(_) => {
            let killed = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGKILL);
            Err(format!("{tests:?} did not end within {DEADLINE:?}; killed: {killed:?}"))
        }
    }
}
