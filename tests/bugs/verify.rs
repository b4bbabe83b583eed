//! Runs the copy's test program, with one bug switched on or with none, and looks at who noticed.

use super::copy;
use super::description::{Bug, Fuzz, Search, Seeds};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// After this, a run is taken never to end. No verifier takes a tenth of it on an idle machine.
const DEADLINE: Duration = Duration::from_secs(900);
const SEEDS_TEST: &str = "seeds::all_hold";
const SEARCHES_TEST: &str = "searches::all_hold";
const FUZZING_TEST: &str = "fuzzing::all_hold";
/// How many seeds, states of each search, and inputs of each target must hold without any bug. Their own
/// tests go further.
const WITHOUT_BUGS: [(&str, &str); 3] =
    [("RAFTKV_SEEDS", "20"), ("RAFTKV_STATES", "10000"), ("RAFTKV_INPUTS", "1000")];

/// What the verifiers made of a bug.
#[derive(Debug, Default)]
pub struct Finding {
    /// The seed that showed it, and the property that told.
    pub seed: Option<(u64, String)>,
    /// The number of states after which the search showed it, and the property that told.
    pub states: Option<(u64, String)>,
    /// The number of the input by which fuzzing showed it.
    pub input: Option<u64>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What should have caught it and did not.
    pub missed: Vec<String>,
}

type Environment = Vec<(&'static str, String)>;

/// All verifiers pass when there is nothing to find.
pub fn without_bugs(program: &Path, bugs: &[Bug]) -> Result<(), String> {
    let names: BTreeSet<String> = bugs.iter().flat_map(Bug::test_names).collect();
    let mut tests: Vec<&str> = names.iter().map(String::as_str).collect();
    tests.extend([SEEDS_TEST, SEARCHES_TEST, FUZZING_TEST]);
    let environment = WITHOUT_BUGS.map(|(name, value)| (name, value.to_owned())).to_vec();
    let told = run(program, &tests, environment)?;
    let passed = |name: &str| told.contains(&format!("test {name} ... ok"));
    match tests.iter().find(|name| !passed(name)) {
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
    let mut missed = Vec::new();
    missed.extend(tests_that_pass(program, bug).err());
    if let Some(seeds) = bug.seeds.as_ref().filter(|seeds| is_complete || !seeds.slow) {
        let Seeds { within, told_by, nodes, faults, slow: _ } = seeds;
        let mut environment = vec![("RAFTKV_SEEDS", within.to_string())];
        environment.extend(nodes.map(|nodes| ("RAFTKV_NODES", nodes.to_string())));
        environment.extend(faults.clone().map(|faults| ("RAFTKV_FAULTS", faults)));
        match told(first_failure(program, bug, SEEDS_TEST, environment), told_by) {
            Ok(seed) => finding.seed = Some(seed),
            Err(why) => missed.push(format!("by seed {within}: {why}")),
        }
    }
    if let Some(Search { name, within, told_by }) = &bug.search {
        let environment = vec![("RAFTKV_SEARCH", name.clone()), ("RAFTKV_STATES", within.to_string())];
        match told(first_failure(program, bug, SEARCHES_TEST, environment), told_by) {
            Ok(states) => finding.states = Some(states),
            Err(why) => missed.push(format!("in {within} states of {name}: {why}")),
        }
    }
    if let Some(Fuzz { target, within, says, .. }) =
        bug.fuzz.as_ref().filter(|fuzz| is_complete || !fuzz.slow)
    {
        let environment = vec![("RAFTKV_TARGET", target.clone()), ("RAFTKV_INPUTS", within.to_string())];
        match first_failure(program, bug, FUZZING_TEST, environment) {
            Ok(Some((number, what))) if what.contains(says) => finding.input = Some(number),
            other => {
                missed.push(format!("by input {within} of {target}: expected {says:?}, found {other:?}"))
            }
        }
    }
    finding.missed = missed.into_iter().map(|why| format!("{}: {why}", bug.name)).collect();
    finding.seconds = began.elapsed().as_secs_f64();
    finding
}

/// Of the tests that must fail, those that do not.
fn tests_that_pass(program: &Path, bug: &Bug) -> Result<(), String> {
    let names: Vec<String> = bug.test_names().collect();
    let tests: Vec<&str> = names.iter().map(String::as_str).collect();
    if tests.is_empty() {
        return Ok(());
    }
    let told = run(program, &tests, vec![("RAFTKV_BUG", bug.name.clone())])?;
    let passes = |name: &&str| !told.contains(&format!("test {name} ... FAILED"));
    let passing: Vec<&str> = tests.into_iter().filter(passes).collect();
    if passing.is_empty() { Ok(()) } else { Err(format!("{passing:?} do not fail")) }
}

/// Where the test fails with this bug, if it does: its line `number 7: what happened`.
fn first_failure(
    program: &Path,
    bug: &Bug,
    test: &str,
    mut environment: Environment,
) -> Result<Option<(u64, String)>, String> {
    environment.push(("RAFTKV_BUG", bug.name.clone()));
    let told = run(program, &[test], environment)?;
    Ok(told.lines().find_map(|line| {
        let (number, what) = line.strip_prefix("number ")?.split_once(": ")?;
        Some((number.parse().ok()?, what.to_owned()))
    }))
}

/// The number and the property of a failure, which begins with it and must be one of these.
fn told(failure: Result<Option<(u64, String)>, String>, told_by: &[String]) -> Result<(u64, String), String> {
    let failure = failure?;
    let property = failure.as_ref().and_then(|(_, what)| what.split(':').next());
    match (&failure, told_by.iter().find(|expected| Some(expected.as_str()) == property)) {
        (Some((number, _)), Some(property)) => Ok((*number, property.clone())),
        _ => Err(format!("expected {told_by:?}, found {failure:?}")),
    }
}

/// Runs these tests of the program; returns all that it says.
fn run(program: &Path, tests: &[&str], environment: Environment) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--exact").args(tests).arg("--test-threads=1");
    for name in ["RAFTKV_BUG", "UPDATE_GOLDENFILES"] {
        command.env_remove(name);
    }
    let child = command
        .env("RUST_BACKTRACE", "0")
        .env("RAFTKV_CORPUS", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/corpus"))
        .envs(environment)
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
