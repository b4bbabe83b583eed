//! Exhaustive search: every state that a few nodes can reach within bounds, whatever arrives when, whoever
//! crashes at whatever moment, and the properties asked of each of them.
//!
//! ```text
//!   configurations.rs      which nodes, which bounds, from where: by name (changes.rs: where members change,
//!        |                 rejoins.rs: where a node loses its data)
//!        |   script.rs     leads real nodes to where the interesting begins
//!        v
//!   explore.rs  --state-->  model.rs  --event-->  core.rs: the real RaftState, driven as Node drives it
//!   every state once        what can happen       P6, P8, its own invariants
//!        |                       |      lives.rs: what Node does for one that lost its data
//!        | symmetry.rs           +-- history.rs: P1 to P5, P7, reads
//!        v
//!   a violation, as the shortest way to it (trace.rs); or: exhausted
//! ```
//!
//! Small questions of this kind have large answers. What keeps them in reach: the network forgets nothing and
//! forces nothing (`model.rs`), time has no state (`raft/symmetry.rs`), what a node does is worked out once
//! (`table.rs`), and names do not count (`symmetry.rs`).
//!
//! P7 and the rest of P6 are asserted by the core after each step; a panic is a violation like any other.

mod arrivals;
mod changes;
mod configurations;
mod core;
mod explore;
mod history;
mod lives;
mod model;
mod recovery;
mod rejoins;
mod report;
mod script;
mod seen;
mod sets;
mod symmetry;
mod table;
mod trace;

pub use configurations::{CONFIGURATIONS, Configuration};
pub use seen::Seen;

use explore::{Explored, Explorer};
use model::Model;
use script::Script;
use std::fmt;
use std::time::Instant;

/// What is bounded. What is not named here is not bounded: messages may be lost, late, repeated and in any
/// order as they like, and timers may fire whenever they like.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them, the last ones, know nothing at first and do not belong to the cluster.
    pub joining: usize,
    /// How many of them, the first ones, do anything; the others are down, all the time.
    pub awake: usize,
    /// Who campaigns. For the others, no time passes without news of a leader.
    pub candidates: &'static [u16],
    /// Election timeouts, if they are bounded otherwise than by terms.
    pub campaigns: Option<u8>,
    /// From every state there must be a way to a leader; see `recovery.rs`.
    pub must_recover: bool,
    /// No campaign for a higher term.
    pub max_term: u64,
    /// No more entries than these in a log: no write, and no leader that would begin with one more.
    pub max_log: usize,
    /// Writes, at nodes that lead.
    pub proposals: u8,
    /// Reads, at nodes that lead.
    pub reads: u8,
    /// Writes and reads also at followers that know a leader.
    pub followers_take_requests: bool,
    /// Crashes, each followed by a restart. What is being saved may be on disk, or not, or in part.
    pub crashes: u8,
    /// Who may lose all that is on its disk, each once, and then starts with `--rejoin`; see `lives.rs`.
    pub wiped: &'static [u16],
    /// They start with `--join` instead, as somebody new whom an operator has to add.
    pub wiped_join: bool,
    /// Changes of members, each asked for at most once, of nodes that lead.
    pub changes: &'static [Change],
    /// Wishes that a leader hand the lead over, to any voter.
    pub transfers: u8,
    /// How often a node makes a snapshot of all that it knows to be committed.
    pub compactions: u8,
    /// Ticks of leaders. What is sent without them arrives as often as it likes anyway.
    pub heartbeats: u8,
    /// AppendEntries of one leader to one follower. An old acceptance and a refusal in turns, each again and
    /// again, can make a leader send for ever.
    pub max_appends: u64,
    /// Entries in one AppendEntries.
    pub max_append_entries: usize,
    /// Whether pre-votes travel. Otherwise every campaign finds that it would succeed, which lets more nodes
    /// campaign than really do; what is lost is that a node hears of a newer term in the answer to one.
    pub pre_votes: bool,
    /// Whether refused votes travel, and the answers to AppendEntries of older terms. All they do is end a
    /// campaign or a leadership that is in vain; without them it goes on, and that is looked at.
    pub refusals: bool,
}

/// A change of members.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Who is to vote.
    pub add: &'static [u16],
    /// Who is to leave.
    pub remove: &'static [u16],
}

impl Bounds {
    fn is_awake(&self, node: usize) -> bool {
        node < self.awake
    }
}

/// When a search ends although it is not exhausted, and what it may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// States.
    pub max_states: u64,
    /// Memory in use, where the system tells.
    pub max_bytes: u64,
    /// Threads.
    pub threads: usize,
}

/// How far a search is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// States so far.
    pub states: u64,
    /// Steps from the start.
    pub depth: usize,
    /// Since it began.
    pub seconds: f64,
}

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its name in `docs/verification.md`, or `invariant` for one that the core asserts itself.
    pub property: &'static str,
    /// What is wrong.
    pub what: String,
}

impl Fault {
    fn new(property: &'static str, what: impl Into<String>) -> Fault {
        Fault { property, what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// A fault, and a shortest way to it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What does not hold.
    pub fault: Fault,
    /// From the first state to it, a few lines an event.
    pub trace: Vec<String>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The configuration's name.
    pub name: &'static str,
    /// Different states, but for the nodes' names.
    pub states: u64,
    /// Events that led from one to another, or to one that was known.
    pub transitions: u64,
    /// Events on the longest of all shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub seconds: f64,
    /// Different cores that were stepped, and different messages.
    pub cores: usize,
    /// See `cores`.
    pub messages: usize,
    /// Whether every state within the bounds was visited.
    pub exhausted: bool,
    /// Memory in use at the end, when it was most; 0 where the system does not tell.
    pub bytes: u64,
    /// What it came across.
    pub seen: Seen,
    /// What does not hold, if so.
    pub violation: Option<Violation>,
}

/// Runs the configuration of this name, if there is one.
pub fn run(name: &str, limits: &Limits) -> Option<Report> {
    let configuration = CONFIGURATIONS.iter().find(|configuration| configuration.name == name)?;
    Some(run_configuration(configuration, limits, &|_| {}))
}

/// Runs a configuration and tells how far it is now and then, from any thread.
pub fn run_configuration(
    configuration: &Configuration,
    limits: &Limits,
    progress: &(dyn Fn(&Progress) + Sync),
) -> Report {
    let began = Instant::now();
    let model = Model::new(configuration.bounds);
    let mut script = Script::new(&model);
    (configuration.prefix)(&mut script);
    let (first, prefix, fault) = script.end();
    let mut violation = fault.map(|fault| Violation { fault, trace: prefix.clone() });
    let nothing = Explored {
        states: 0,
        transitions: 0,
        depth: 0,
        exhausted: false,
        seen: Seen::default(),
        found: None,
        bytes: 0,
    };
    let explored = match violation {
        Some(_) => nothing,
        None => Explorer::new(&model, limits).run(&first, progress),
    };
    if let Some((way, fault)) = &explored.found {
        let (lines, fault) = model.lines(&first, way, fault);
        let trace = prefix.into_iter().chain(lines).collect();
        violation = Some(Violation { fault, trace });
    }
    Report {
        name: configuration.name,
        states: explored.states,
        transitions: explored.transitions,
        depth: explored.depth,
        seconds: began.elapsed().as_secs_f64(),
        cores: model.cores.len(),
        messages: model.messages.len(),
        exhausted: explored.exhausted,
        bytes: explored.bytes,
        seen: explored.seen,
        violation,
    }
}
