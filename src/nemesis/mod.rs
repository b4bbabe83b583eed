//! Real processes under a nemesis: a cluster of servers, clients on hot keys, and everything that a machine
//! or a network can do to them; then two checkers on what the clients were told, and the nodes' own files.
//!
//! ```text
//!   clients ──────> n1   n2   n3 ...  real processes      processes: kill, pause, restart, power, disks
//!    History         └─links─┘        every link is ours  network:   cuts, delay, resets, floods
//!   watcher ──────> status of each                        (one of each kind may be at work at a time)
//!
//!   start, warm-up │ faults, drawn from the seed │ heal │ every node must serve │ stop │ verdict
//! ```
//!
//! The verdict: each answer against the committed log as the nodes' files have it, and a search for an order
//! that explains all answers (P9, P10); equal files and equal hashes (P4, P5, P15); one leader a term, no
//! term that falls (P1, P6); a connected majority serves (P11); no process takes more threads, descriptors or
//! memory than it is asked to hold, and it gives them back (P12); nobody ends or panics unasked (P13), and a
//! node whose disk fails does end. A fault that was asked for and never had an effect fails the run.
//!
//! Chance comes from the seed, time does not: the same seed draws the same faults, and meets other moments.
//!
//! | file | what it is about |
//! |---|---|
//! | `fault.rs` | the kinds of trouble, what each needs, their order |
//! | `run.rs` | what all threads share: time, timeline, findings, counts |
//! | `machines.rs`, `process.rs`, `disks.rs` | the nodes: files, processes, disks that lose power |
//! | `proxy.rs` | the links |
//! | `process_faults.rs`, `network_faults.rs`, `flood.rs` | breaking things |
//! | `clients.rs`, `status.rs` | asking things, and writing down the answers |
//! | `guests.rs`, `ceilings.rs` | who is connected where, and what a node may take of its machine for it |
//! | `verdict.rs`, `report.rs` | whether it held, and telling so |
//! | `tools.rs` | other programs: strace, mount, prlimit |

mod ceilings;
mod clients;
mod disks;
mod fault;
mod flood;
mod guests;
mod machines;
mod network_faults;
mod process;
mod process_faults;
mod proxy;
mod report;
mod run;
mod status;
mod tools;
mod verdict;

pub use fault::Fault;
pub use report::Report;
pub use run::Say;
pub use tools::Strace;

use crate::checker::History;
use ceilings::Ceilings;
use clients::Client;
use fault::{Deck, Track};
use machines::{Layout, Machines};
use run::Run;
use status::Watcher;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Acknowledged writes before anything breaks.
const WARM_UP_WRITES: u64 = 50;
/// So many files can be open at a time, if the system allows it.
const OPEN_FILES: u64 = 8_192;
/// How long all nodes may take to have applied the same when nobody asks any more.
const AGREEMENT_DEADLINE: Duration = Duration::from_secs(60);

/// What a run is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes, 1 to 9.
    pub nodes: u16,
    /// For how long things break. A run goes on until each fault has come once.
    pub seconds: u64,
    /// Where all choices come from.
    pub seed: u64,
    /// What breaks. A run for which this machine can not do all of it is not made.
    pub faults: BTreeSet<Fault>,
    /// What breaks too, if this machine can do it. What it can not is told and left out.
    pub optional_faults: BTreeSet<Fault>,
    /// How many clients ask at the same time.
    pub clients: usize,
    /// The server's program.
    pub server: PathBuf,
    /// Where the run's own folder is made, which goes away if everything holds. Not in memory: there a sync
    /// means nothing.
    pub parent: PathBuf,
    /// The run's folder, which stays in any case. It must not be there yet.
    pub keep: Option<PathBuf>,
}

/// Something that is needed for a run and can not be had: nothing is said of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarnessFailure(pub String);

impl fmt::Display for HarnessFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HarnessFailure {}

type Done = Result<(), HarnessFailure>;

/// The faults of a run, and those that can not be had, with why.
struct Choice {
    faults: BTreeSet<Fault>,
    left_out: Vec<(Fault, String)>,
}

/// Runs a cluster under the nemesis. Each line of the timeline goes to `say`; when `interrupted` becomes
/// true the run is put in order and ends. Fails when the run could not be made.
pub fn run(options: &Options, say: Say<'_>, interrupted: &AtomicBool) -> Result<Report, HarnessFailure> {
    let mut choice = choose(options)?;
    // A flood of connections takes file descriptors here, too. With fewer it is a smaller flood.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    let folder = Folder::make(options)?;
    let layout = Layout::make(options.nodes, folder.path())?;
    let mut machines = prepare(options, &layout, &mut choice)?;
    let run = Run::begin(layout.clients.clone(), Duration::from_secs(options.seconds), say, interrupted);
    for (fault, why) in &choice.left_out {
        run.say(format_args!("not available: {fault} ({why})"));
    }
    let mut watchers = Watchers { statuses: Watcher::default(), ceilings: Ceilings::of(&machines) };
    let history = torment(options, &run, &layout, &mut machines, &choice.faults, &mut watchers)?;
    let agreed = settle(&run, &mut machines, &mut watchers)?;
    let Watchers { statuses, ceilings } = watchers;
    let counts = verdict::judge(&run, &machines, &history, &statuses, agreed);
    demand_all(options, &run, &choice.faults, &ceilings);
    let report = Report::of(options, &run, &choice, &statuses, &ceilings, counts);
    folder.finish(report, &history, machines)
}

fn choose(options: &Options) -> Result<Choice, HarnessFailure> {
    if !options.server.is_file() {
        return Err(HarnessFailure(format!("{}: there is no such program", options.server.display())));
    }
    let mut choice = Choice { faults: BTreeSet::new(), left_out: Vec::new() };
    for fault in options.faults.union(&options.optional_faults).copied() {
        match fault.hindrance(options.nodes.into()) {
            None => {
                choice.faults.insert(fault);
            }
            Some(why) if options.faults.contains(&fault) => {
                return Err(HarnessFailure(format!("{fault} can not be had: {why}")));
            }
            Some(why) => choice.left_out.push((fault, why)),
        }
    }
    Ok(choice)
}

/// The machines, with disks of their own if these are to lose power or to be full. That mounts are allowed
/// shows only when it is tried.
fn prepare(options: &Options, layout: &Layout, choice: &mut Choice) -> Result<Machines, HarnessFailure> {
    let power = BTreeSet::from([Fault::PowerLoss, Fault::PowerLossOfOne]);
    let is_for_disks = !choice.faults.is_disjoint(&power) || choice.faults.contains(&Fault::FullDisk);
    if !is_for_disks || tools::why_no_disks().is_some() {
        return layout.machines(&options.server, false);
    }
    match layout.machines(&options.server, true) {
        // A full disk can be had in another way.
        Err(HarnessFailure(why)) if options.faults.is_disjoint(&power) => {
            let gone: Vec<Fault> = power.intersection(&choice.faults).copied().collect();
            for fault in gone {
                choice.faults.remove(&fault);
                choice.left_out.push((fault, why.clone()));
            }
            layout.machines(&options.server, false)
        }
        made => made,
    }
}

/// Whoever looks on.
struct Watchers {
    statuses: Watcher,
    ceilings: Ceilings,
}

/// Ends everyone who works until the run is over, also when something here fails.
struct EndOnDrop<'a, 'b>(&'a Run<'b>);

impl Drop for EndOnDrop<'_, '_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// From the start of the nodes to the last answer.
fn torment(
    options: &Options,
    run: &Run<'_>,
    layout: &Layout,
    machines: &mut Machines,
    faults: &BTreeSet<Fault>,
    watchers: &mut Watchers,
) -> Result<History, HarnessFailure> {
    let all = machines.ids();
    let mut chance = fastrand::Rng::with_seed(options.seed);
    if faults.contains(&Fault::KillInStart) {
        let victim = chance.choice(&all).copied().unwrap_or(1);
        process_faults::kill_in_start(run, machines, &mut chance, victim)?;
    }
    run.say(format_args!("{} nodes start", all.len()));
    machines.start(run, &all)?;
    let mut network_chance = chance.fork();
    thread::scope(|scope| {
        let over = EndOnDrop(run);
        let Watchers { statuses, ceilings } = watchers;
        scope.spawn(|| statuses.watch(run));
        scope.spawn(|| ceilings.watch(run));
        let clients: Vec<_> = (0..options.clients)
            .map(|number| scope.spawn(move || Client::new(run, number, options.seed).work()))
            .collect();
        run.must_serve(WARM_UP_WRITES, None, "nothing is broken yet");
        if !run.is_cut_short() {
            run.say("the cluster serves: the nemesis begins");
        }
        let network = scope.spawn(|| {
            let deck = Deck::of(faults, Track::Network);
            let broken = network_faults::break_network(run, &layout.network, deck, &mut network_chance);
            run.give_up_if_failed(broken)
        });
        let deck = Deck::of(faults, Track::Processes);
        let broken = process_faults::break_processes(run, machines, &layout.network, deck, &mut chance);
        let broken = run.give_up_if_failed(broken);
        joined(network.join())??;
        broken?;
        let mut history = heal(options, run, layout, machines)?;
        drop(over);
        for client in clients {
            history.extend(joined(client.join())?);
        }
        Ok(history)
    })
}

fn joined<T>(joined: thread::Result<T>) -> Result<T, HarnessFailure> {
    joined.map_err(|_| HarnessFailure("a thread of the nemesis panicked".to_owned()))
}

/// All is put in order, and each node must serve.
fn heal(
    options: &Options,
    run: &Run<'_>,
    layout: &Layout,
    machines: &mut Machines,
) -> Result<History, HarnessFailure> {
    layout.network.heal();
    run.say("all is put in order: every node must serve");
    let mut history = History::default();
    let began = run.elapsed();
    for (id, number) in machines.ids().into_iter().zip(options.clients..) {
        machines.look_after(run)?;
        if run.is_cut_short() {
            return Ok(history);
        }
        history.extend(Client::at(run, id, number, options.seed).must_be_served());
    }
    run.say(format_args!("every node serves after {} ms", (run.elapsed() - began).as_millis()));
    Ok(history)
}

/// Nobody asks any more: all nodes come to the same, give back what they took for others, and stop when they
/// are asked to. Says whether they came to the same.
fn settle(run: &Run<'_>, machines: &mut Machines, watchers: &mut Watchers) -> Result<bool, HarnessFailure> {
    let count = run.addresses.len();
    let agree = || {
        watchers.statuses.look(run);
        let seen = run.seen();
        let leader = seen.values().find(|status| status.role == "leader")?;
        let (last, hash) = (leader.last_index, &leader.applied_hash);
        let is_there = seen.values().all(|status| {
            [status.last_index, status.commit_index, status.last_applied] == [last; 3]
                && status.applied_hash == *hash
        });
        (is_there && seen.len() == count).then_some(last)
    };
    let agreed = run.wait_for(AGREEMENT_DEADLINE, agree);
    match agreed {
        Some(last) => run.say(format_args!("all nodes have applied the same, up to index {last}")),
        None if run.is_cut_short() => {}
        None => run.finding(format_args!("P15: nodes do not come to the same: {:?}", run.seen())),
    }
    watchers.ceilings.must_come_down(run);
    for id in machines.ids() {
        if machines.process(id).is_ok() {
            machines.stop(run, id)?;
        }
    }
    Ok(agreed.is_some())
}

/// A fault that never came shows nothing, and neither does a pipeline or a ceiling that was none.
fn demand_all(options: &Options, run: &Run<'_>, faults: &BTreeSet<Fault>, ceilings: &Ceilings) {
    if run.is_cut_short() {
        return;
    }
    let came = run::lock(&run.tally.faults).clone();
    for fault in faults.iter().filter(|fault| !came.contains_key(fault)) {
        run.finding(format_args!("{fault} was asked for, and never had an effect"));
    }
    let pipelined = run.tally.pipelined.load(Ordering::Relaxed);
    if clients::some_are_pipelining(options.clients) && pipelined == 0 {
        run.finding("no answer came to whoever sends many requests at once");
    }
    for id in ceilings.unseen() {
        run.finding(format_args!("P12: nobody could look at what n{id} takes of its machine"));
    }
}

/// The folder of a run.
enum Folder {
    Kept(PathBuf),
    Passing(TempDir),
}

impl Folder {
    fn make(options: &Options) -> Result<Folder, HarnessFailure> {
        let failure = |path: &Path, error| HarnessFailure(format!("{}: {error}", path.display()));
        match &options.keep {
            Some(path) => {
                std::fs::create_dir_all(path.parent().unwrap_or(path))
                    .and_then(|()| std::fs::create_dir(path))
                    .map_err(|error| failure(path, error))?;
                let path = path.canonicalize().map_err(|error| failure(path, error))?;
                Ok(Folder::Kept(path))
            }
            None => tempfile::Builder::new()
                .prefix("nemesis-")
                .tempdir_in(&options.parent)
                .map(Folder::Passing)
                .map_err(|error| failure(&options.parent, error)),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Passing(folder) => folder.path(),
        }
    }

    /// Keeps what a person may want to look at, if there is something, and says where.
    fn finish(
        self,
        mut report: Report,
        history: &History,
        machines: Machines,
    ) -> Result<Report, HarnessFailure> {
        let path = match self {
            Folder::Passing(_) if report.findings.is_empty() => {
                // A folder in which disks are mounted can not go away.
                drop(machines);
                return Ok(report);
            }
            Folder::Passing(folder) => folder.keep(),
            Folder::Kept(path) => path,
        };
        report::keep(&path, &report, history, &machines)
            .map_err(|error| HarnessFailure(format!("{}: {error}", path.display())))?;
        report.kept = Some(path);
        Ok(report)
    }
}
