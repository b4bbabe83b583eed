//! What a seed stands for: how many nodes, with which limits, what breaks in the run and when, and when which
//! client does something. Most seeds break several things, some a single one, a few nothing (a swarm: each
//! run leaves out something, so that no fault hides what another would show). Whoever repeats a run may leave
//! out more: nodes, kinds of faults, troubles and turns by their numbers, the end of the run.

use super::chance::stream;
use super::clients::Turn;
use super::faults::{FaultClass, Faults, Trouble};
use super::numbers::Numbers;
use super::operator::draw_spares;
use crate::node::{LogLimits, NodeSettings};
use crate::raft::Settings;
use crate::storage::SegmentSizes;
use crate::types::NodeId;
use clap::Args;
use std::fmt;

/// How long a node's tick is, in milliseconds, as in the server.
pub(super) const TICK_MS: u64 = 10;
/// The longest election timeout, in milliseconds.
pub(super) const ELECTION_TIMEOUT_MS: u64 = 600;
/// How long a run is before everything is healed.
const RUN_MS: u64 = 30_000;

/// A log as long as may be.
const NO_LIMITS: LogLimits = LogLimits { bytes: u64::MAX, entries: u64::MAX };

/// What gets well at the end of a run, before liveness is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    /// Everything.
    All,
    /// A majority; the others stay down or cut off.
    Majority,
    /// A majority; the others stay connected to some of it, in one direction or both.
    MajorityWithStragglers,
}

/// What replaces the seed's own choice.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// How many nodes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: Option<u16>,
    /// How many machines beside them that may become members, where members change.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=4))]
    pub spares: Option<u16>,
    /// Which kinds of faults, as in `loss,crashes`, or `none`.
    #[arg(long, value_name = "FAULTS")]
    pub faults: Option<Faults>,
    /// How long things break, in simulated milliseconds, until everything is healed.
    #[arg(long, value_name = "MS")]
    pub run_ms: Option<u64>,
    /// Which of the troubles, as in `3,7-12`, or `none`: all others are left out.
    #[arg(long, value_name = "NUMBERS")]
    pub troubles: Option<Numbers>,
    /// Which of the clients' turns: all others are left out.
    #[arg(long, value_name = "NUMBERS")]
    pub turns: Option<Numbers>,
}

/// One run, before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many nodes the cluster is made of.
    pub nodes: u16,
    /// How many machines may become members.
    pub spares: u16,
    /// What is broken.
    pub faults: Faults,
    /// How long it is broken, in milliseconds.
    pub run_ms: u64,
    /// What gets well.
    pub heal: Heal,
    pub(super) troubles: Vec<Trouble>,
    pub(super) turns: Vec<Turn>,
    pub(super) request_timeout_ms: u64,
    pub(super) segment_sizes: SegmentSizes,
    /// When a log is too long, where logs are short, and how much of a snapshot goes in one message.
    log_limits: LogLimits,
    chunk_bytes: usize,
    overrides: Overrides,
}

impl Plan {
    /// What this seed stands for.
    pub fn of(seed: u64) -> Plan {
        Plan::with(seed, &Overrides::default())
    }

    /// What this seed stands for, with some choices replaced.
    pub fn with(seed: u64, overrides: &Overrides) -> Plan {
        let mut chance = stream(seed, "plan", (0, 0));
        let drawn_nodes = draw_nodes(&mut chance);
        let drawn_faults = draw_faults(&mut chance);
        let heal = match chance.u8(0..10) {
            0..6 => Heal::All,
            6..8 => Heal::Majority,
            _ => Heal::MajorityWithStragglers,
        };
        let request_timeout_ms = *chance.choice(&[800, 2_000, 5_000]).unwrap_or(&2_000);
        let limit_bytes = chance.u64(2_000..=60_000);
        let fill_bytes = *stream(seed, "fill", (0, 0)).choice(&[0, 300, 3_000]).unwrap_or(&0);
        let segment_sizes = SegmentSizes { limit_bytes, fill_bytes };
        let (log_limits, chunk_bytes) = draw_snapshots(&mut stream(seed, "snapshots", (0, 0)));
        let faults = overrides.faults.clone().unwrap_or(drawn_faults);
        let spares = overrides.spares.unwrap_or_else(|| draw_spares(seed));
        let run_ms = overrides.run_ms.unwrap_or(RUN_MS);
        let mut troubles = Trouble::draw_all(seed, run_ms);
        let kept = |numbers: &Option<Numbers>, number| {
            numbers.as_ref().is_none_or(|numbers| numbers.contains(number))
        };
        troubles.retain(|it| faults.0.contains(&it.class) && kept(&overrides.troubles, it.number));
        let mut turns = Turn::draw_all(seed, run_ms);
        turns.retain(|it| kept(&overrides.turns, it.number));
        Plan {
            seed,
            nodes: overrides.nodes.unwrap_or(drawn_nodes).clamp(1, 9),
            spares: if faults.0.contains(&FaultClass::MemberChanges) { spares.min(4) } else { 0 },
            faults,
            run_ms,
            heal,
            troubles,
            turns,
            request_timeout_ms,
            segment_sizes,
            log_limits,
            chunk_bytes,
            overrides: overrides.clone(),
        }
    }

    /// What was replaced of the seed's own choice.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// The command that repeats this run, and prints it.
    pub fn command(&self) -> String {
        let Overrides { nodes, spares, faults, run_ms, troubles, turns } = &self.overrides;
        let options = [
            ("nodes", nodes.map(|nodes| nodes.to_string())),
            ("spares", spares.map(|spares| spares.to_string())),
            ("faults", faults.as_ref().map(Faults::to_string)),
            ("run-ms", run_ms.map(|run_ms| run_ms.to_string())),
            ("troubles", troubles.as_ref().map(Numbers::to_string)),
            ("turns", turns.as_ref().map(Numbers::to_string)),
        ];
        let mut command = format!("raftkv-sim --seed {}", self.seed);
        for (name, value) in options {
            command.extend(value.map(|value| format!(" --{name} {value}")));
        }
        command
    }

    pub(super) fn has(&self, class: FaultClass) -> bool {
        self.faults.0.contains(&class)
    }

    /// All machines.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        (1..=self.nodes + self.spares).map(NodeId).collect()
    }

    /// Those that the cluster is made of.
    pub(super) fn first_voters(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(NodeId).collect()
    }

    /// The machine that stands for this number, however many there are.
    pub(super) fn node_of(&self, number: u16) -> NodeId {
        NodeId(1 + number % (self.nodes + self.spares))
    }

    /// The core's settings: the server's times, and limits that are small enough to be met.
    pub(super) fn settings(&self) -> Settings {
        let small = self.has(FaultClass::SmallLimits);
        let ticks = |ms: u64| u32::try_from(ms / TICK_MS).unwrap_or(u32::MAX);
        Settings {
            heartbeat_ticks: ticks(50),
            election_timeout_min_ticks: ticks(ELECTION_TIMEOUT_MS / 2),
            election_timeout_max_ticks: ticks(ELECTION_TIMEOUT_MS),
            max_append_entries: if small { 2 } else { 16 },
            max_append_bytes: if small { 600 } else { 16 * 1024 },
            max_in_flight_messages: if small { 2 } else { 8 },
            max_in_flight_bytes: if small { 1_000 } else { 64 * 1024 },
            max_uncommitted_bytes: if small { 1_200 } else { 256 * 1024 },
            max_forwarded_bytes: if small { 500 } else { 256 * 1024 },
        }
    }

    pub(super) fn node_settings(&self) -> NodeSettings {
        let small = self.has(FaultClass::SmallLimits);
        NodeSettings {
            request_timeout_ticks: self.request_timeout_ms / TICK_MS,
            max_waiting: if small { 3 } else { 1_000 },
            max_work_bytes: if small { 500 } else { 64 * 1024 },
            max_chunk_bytes: self.chunk_bytes,
            log_limits: if self.has(FaultClass::ShortLogs) { self.log_limits } else { NO_LIMITS },
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, nodes, spares, run_ms, heal, faults, .. } = self;
        let (troubles, turns) = (self.troubles.len(), self.turns.len());
        write!(
            f,
            "seed {seed}: {nodes} nodes and {spares} more machines, {turns} turns of clients, {troubles} \
             troubles in {run_ms} ms"
        )?;
        write!(f, "; faults: {faults}; then heals {heal:?}")
    }
}

fn draw_nodes(chance: &mut fastrand::Rng) -> u16 {
    match chance.u8(0..100) {
        0..6 => 1,
        6..12 => 2,
        12..60 => 3,
        60..68 => 4,
        _ => 5,
    }
}

fn draw_snapshots(chance: &mut fastrand::Rng) -> (LogLimits, usize) {
    let limits = match chance.u8(0..4) {
        0 => LogLimits { bytes: chance.u64(1_000..=10_000), ..NO_LIMITS },
        1 => LogLimits { entries: chance.u64(3..=10), ..NO_LIMITS },
        _ => LogLimits { entries: chance.u64(10..=50), ..NO_LIMITS },
    };
    (limits, *chance.choice(&[150, 600, 16 * 1024]).unwrap_or(&600))
}

fn draw_faults(chance: &mut fastrand::Rng) -> Faults {
    let all: Vec<FaultClass> = FaultClass::drawn().collect();
    match chance.u8(0..100) {
        0..3 => Faults::default(),
        3..18 => Faults(chance.choice(&all).copied().into_iter().collect()),
        _ => Faults(all.into_iter().filter(|class| chance.f64() < class.frequency()).collect()),
    }
}
