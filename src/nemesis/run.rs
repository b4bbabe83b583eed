//! What all threads of a run share: its clock, its timeline, what was found, what happened how often, and
//! what was last seen of each node.

use super::HarnessFailure;
use super::fault::Fault;
use super::guests::Guests;
use super::process::LOOK;
use super::status::Status;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a connected majority may take to serve again before that is a finding. The property says ten
/// election timeouts, six seconds here; the rest is for a machine that has other things to do, too: beside
/// twenty builds it took seventeen.
pub(super) const SERVE_DEADLINE: Duration = Duration::from_secs(60);

/// Values may be long, and stand in findings.
const MAX_FINDING_CHARS: usize = 2_000;

/// Where the lines of the timeline go.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// A run of the nemesis.
pub(super) struct Run<'a> {
    /// Where clients reach each node.
    pub addresses: BTreeMap<u16, SocketAddr>,
    /// What happened how often.
    pub tally: Tally,
    /// Who is connected where.
    pub guests: Arc<Guests>,
    /// The process of each node that runs.
    pub processes: Mutex<BTreeMap<u16, u32>>,
    began: Instant,
    faults_end: Instant,
    say: Say<'a>,
    interrupted: &'a AtomicBool,
    /// The run itself can not go on.
    has_given_up: AtomicBool,
    /// Clients and the watcher work until this is set.
    is_over: AtomicBool,
    findings: Mutex<Vec<String>>,
    /// Held by whoever wants nothing else to break at the same time.
    turn: Mutex<()>,
    /// Held by whoever gives the links their rules. Taken after `turn`, if both are.
    links: Mutex<()>,
    seen: Mutex<BTreeMap<u16, Status>>,
}

/// Counters that everybody raises.
#[derive(Default)]
pub(super) struct Tally {
    /// Writes that were acknowledged, by the node that did.
    pub writes: BTreeMap<u16, AtomicU64>,
    /// Answers to reads.
    pub reads: AtomicU64,
    /// Answers to requests that were sent together with others.
    pub pipelined: AtomicU64,
    /// Attempts by what came of them.
    pub outcomes: Mutex<BTreeMap<&'static str, u64>>,
    /// Faults by how often they were seen to work.
    pub faults: Mutex<BTreeMap<Fault, u64>>,
    /// How many of the full disks were file systems without a free block.
    pub full_file_systems: AtomicU64,
    /// The longest that a connected majority took to serve.
    pub slowest_recovery: Mutex<Duration>,
    /// How often it was looked whether a connected majority serves while something was broken.
    pub served_meanwhile: AtomicU64,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tally {
    /// All writes that were acknowledged so far.
    pub fn all_writes(&self) -> u64 {
        self.writes.values().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Those that this node acknowledged.
    pub fn writes_by(&self, node: u16) -> u64 {
        self.writes.get(&node).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub fn saw_outcome(&self, outcome: &'static str) {
        *lock(&self.outcomes).entry(outcome).or_default() += 1;
    }

    pub fn saw_fault(&self, fault: Fault) {
        *lock(&self.faults).entry(fault).or_default() += 1;
    }
}

impl<'a> Run<'a> {
    /// A run that begins now, of nodes at these addresses.
    pub fn begin(
        addresses: BTreeMap<u16, SocketAddr>,
        faults_last: Duration,
        say: Say<'a>,
        interrupted: &'a AtomicBool,
    ) -> Run<'a> {
        let writes = addresses.keys().map(|node| (*node, AtomicU64::new(0))).collect();
        let began = Instant::now();
        Run {
            addresses,
            tally: Tally { writes, ..Tally::default() },
            guests: Arc::default(),
            processes: Mutex::default(),
            began,
            faults_end: began + faults_last,
            say,
            interrupted,
            has_given_up: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            findings: Mutex::default(),
            turn: Mutex::default(),
            links: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// The time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Adds a line to the timeline.
    pub fn say(&self, line: impl Display) {
        (self.say)(&format!("{:>8.2} s  {line}", self.elapsed().as_secs_f64()));
    }

    /// Notes that something does not hold. The run ends with it, as soon as everything is put in order.
    pub fn finding(&self, what: impl Display) {
        let mut what = what.to_string();
        if let Some((end, _)) = what.char_indices().nth(MAX_FINDING_CHARS) {
            what.truncate(end);
            what.push_str(" … (the history has all of it)");
        }
        self.say(format_args!("FINDING  {what}"));
        lock(&self.findings).push(what);
    }

    pub fn findings(&self) -> Vec<String> {
        lock(&self.findings).clone()
    }

    /// Whether the run is cut short: something was found, the user asked for it, or it can not go on.
    pub fn is_cut_short(&self) -> bool {
        self.is_interrupted() || self.has_given_up.load(Ordering::Relaxed) || !lock(&self.findings).is_empty()
    }

    /// Cuts the run short because it can not go on, if that is what came of something.
    pub fn give_up_if_failed<T>(&self, outcome: Result<T, HarnessFailure>) -> Result<T, HarnessFailure> {
        if outcome.is_err() {
            self.has_given_up.store(true, Ordering::Relaxed);
        }
        outcome
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Whether it is still time for faults.
    pub fn is_time_for_faults(&self) -> bool {
        Instant::now() < self.faults_end
    }

    /// Ends the clients and the watcher.
    pub fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Sees to it that nothing else is broken as long as the guard lives.
    pub fn alone(&self) -> MutexGuard<'_, ()> {
        lock(&self.turn)
    }

    /// Sees to it that nobody else gives the links their rules as long as the guard lives.
    pub fn links(&self) -> MutexGuard<'_, ()> {
        lock(&self.links)
    }

    /// Does nothing for so long, or until the run is cut short.
    pub fn nap(&self, length: Duration) {
        let until = Instant::now() + length;
        while Instant::now() < until && !self.is_cut_short() {
            thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }

    /// Looks until there is something to see; none when the time is over or the run is cut short.
    pub fn wait_for<T>(&self, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            let seen = look();
            if seen.is_some() || Instant::now() >= deadline || self.is_cut_short() {
                return seen;
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until so many more writes are acknowledged, by this node or by any: it is a finding when they
    /// are not in time, although `while_what`.
    pub fn must_serve(&self, more: u64, by: Option<u16>, while_what: &str) {
        let count = || by.map_or_else(|| self.tally.all_writes(), |node| self.tally.writes_by(node));
        let (began, goal) = (Instant::now(), count() + more);
        match self.wait_for(SERVE_DEADLINE, || (count() >= goal).then_some(())) {
            Some(()) => {
                let mut slowest = lock(&self.tally.slowest_recovery);
                *slowest = (*slowest).max(began.elapsed());
            }
            None if self.is_cut_short() => {}
            None => {
                let got = count() + more - goal;
                let seconds = SERVE_DEADLINE.as_secs();
                self.finding(format_args!(
                    "P11: {got} writes acknowledged within {seconds} s, expected {more}: {while_what}"
                ));
            }
        }
    }

    /// Remembers what a node says of itself; nothing when it does not answer.
    pub fn saw(&self, node: u16, status: Option<Status>) {
        let mut seen = lock(&self.seen);
        match status {
            Some(status) => seen.insert(node, status),
            None => seen.remove(&node),
        };
    }

    /// What each node that answers has last said.
    pub fn seen(&self) -> BTreeMap<u16, Status> {
        lock(&self.seen).clone()
    }

    /// The node that leads, by the nodes' own words: of several the one with the highest term.
    pub fn leader(&self) -> Option<u16> {
        let seen = lock(&self.seen);
        let leaders = seen.values().filter(|status| status.role == "leader");
        leaders.max_by_key(|status| status.term).map(|status| status.node)
    }

    /// A node, the leader half of the time.
    pub fn draw_node(&self, chance: &mut fastrand::Rng) -> u16 {
        let ids: Vec<u16> = self.addresses.keys().copied().collect();
        let any = chance.choice(&ids).copied().unwrap_or(1);
        let wants_leader = chance.bool();
        self.leader().filter(|_| wants_leader).unwrap_or(any)
    }

    /// A node's name, with what it is if it leads.
    pub fn name(&self, node: u16) -> String {
        if self.leader() == Some(node) { format!("n{node} (the leader)") } else { format!("n{node}") }
    }
}
