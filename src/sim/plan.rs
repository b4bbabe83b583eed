//! What a seed stands for: how many nodes, with which limits, and what is broken in the run, how badly. Most
//! seeds break several things at once, some a single one, a few nothing (a swarm: each run leaves out
//! something, so that no fault hides what another would show).

use crate::node::NodeSettings;
use crate::raft::Settings;
use crate::types::NodeId;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fmt;

/// How long a node's tick is, in milliseconds, as in the server.
pub(super) const TICK_MS: u64 = 10;
/// The longest election timeout, in milliseconds.
pub(super) const ELECTION_TIMEOUT_MS: u64 = 600;
/// How long a run is before everything is healed.
const RUN_MS: u64 = 30_000;

/// A kind of fault that a run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum FaultClass {
    /// Messages vanish.
    Loss,
    /// Messages take their time.
    Delay,
    /// Messages arrive twice.
    Duplicates,
    /// Messages of a connection that is gone arrive late.
    Stale,
    /// Connections break and are made anew.
    Reconnects,
    /// Links are cut: symmetric, one way, bridge, ring, partial.
    Partitions,
    /// A process is killed at any of its effects, or its machine loses power there.
    Crashes,
    /// All machines lose power at once.
    PowerLoss,
    /// An operation of the disk fails.
    DiskFaults,
    /// Syncs take long.
    SlowDisk,
    /// A process stops for a while and goes on with a full inbox.
    Pauses,
    /// One node after the other is restarted.
    RollingRestarts,
    /// Nodes' clocks run at different speeds.
    ClockSkew,
    /// The application takes its time.
    SlowApplication,
    /// All limits are small, so that they are met.
    SmallLimits,
}

impl FaultClass {
    /// Reads kinds of faults separated by commas, or `none`. Fails on a word that is neither.
    pub fn parse_set(text: &str) -> Result<BTreeSet<FaultClass>, String> {
        match text {
            "none" => Ok(BTreeSet::new()),
            _ => text.split(',').map(|word| FaultClass::from_str(word, false)).collect(),
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.to_possible_value().map(|value| value.get_name().to_owned());
        f.write_str(word.as_deref().unwrap_or("hidden"))
    }
}

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// How many nodes.
    pub nodes: Option<u16>,
    /// Which faults.
    pub faults: Option<BTreeSet<FaultClass>>,
    /// How long, in milliseconds, until everything is healed.
    pub run_ms: Option<u64>,
}

/// How often and how badly, drawn whether or not the class is on, so that leaving out a class changes no
/// other.
#[derive(Clone, Debug)]
pub(super) struct Rates {
    pub loss: f64,
    pub duplicate: f64,
    pub stale: f64,
    pub delay_max_ms: u64,
    pub fault_every_ms: u64,
    pub slow_sync: f64,
    pub slow_sync_max_ms: u64,
    pub apply_max_ms: u64,
    pub segment_limit_bytes: u64,
    pub think_max_ms: u64,
}

/// One run, before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where all chance comes from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: u16,
    /// What is broken.
    pub faults: BTreeSet<FaultClass>,
    /// How long it is broken, in milliseconds.
    pub run_ms: u64,
    /// What gets well.
    pub heal: Heal,
    pub(super) clients: usize,
    pub(super) request_timeout_ms: u64,
    pub(super) rates: Rates,
    overrides: Overrides,
}

impl Plan {
    /// What this seed stands for.
    pub fn of(seed: u64) -> Plan {
        Plan::with(seed, &Overrides::default())
    }

    /// What this seed stands for, with some choices replaced.
    pub fn with(seed: u64, overrides: &Overrides) -> Plan {
        let mut chance = fastrand::Rng::with_seed(seed);
        let drawn_nodes = draw_nodes(&mut chance);
        let drawn_faults = draw_faults(&mut chance);
        let rates = draw_rates(&mut chance);
        let heal = match chance.u8(0..10) {
            0..6 => Heal::All,
            6..8 => Heal::Majority,
            _ => Heal::MajorityWithStragglers,
        };
        Plan {
            seed,
            nodes: overrides.nodes.unwrap_or(drawn_nodes).clamp(1, 9),
            faults: overrides.faults.clone().unwrap_or(drawn_faults),
            run_ms: overrides.run_ms.unwrap_or(RUN_MS),
            heal,
            clients: chance.usize(2..=5),
            request_timeout_ms: *chance.choice(&[800, 2_000, 5_000]).unwrap_or(&2_000),
            rates,
            overrides: overrides.clone(),
        }
    }

    /// What was replaced of the seed's own choice.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// The command that repeats this run, and prints it.
    pub fn command(&self) -> String {
        let mut command = format!("raftkv-sim --seed {}", self.seed);
        if let Some(nodes) = self.overrides.nodes {
            command += &format!(" --nodes {nodes}");
        }
        if let Some(faults) = &self.overrides.faults {
            let words: Vec<String> = faults.iter().map(FaultClass::to_string).collect();
            command +=
                &format!(" --faults {}", if words.is_empty() { "none".to_owned() } else { words.join(",") });
        }
        if let Some(run_ms) = self.overrides.run_ms {
            command += &format!(" --run-ms {run_ms}");
        }
        command
    }

    pub(super) fn has(&self, class: FaultClass) -> bool {
        self.faults.contains(&class)
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(NodeId).collect()
    }

    pub(super) fn quorum(&self) -> usize {
        usize::from(self.nodes) / 2 + 1
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
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.faults.iter().map(FaultClass::to_string).collect();
        let faults = if words.is_empty() { "no faults".to_owned() } else { words.join(", ") };
        let Plan { seed, nodes, run_ms, heal, clients, .. } = self;
        write!(f, "seed {seed}: {nodes} nodes, {clients} clients, {run_ms} ms, {faults}; then heals {heal:?}")
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

fn draw_faults(chance: &mut fastrand::Rng) -> BTreeSet<FaultClass> {
    let all = FaultClass::value_variants();
    match chance.u8(0..100) {
        0..3 => BTreeSet::new(),
        3..18 => chance.choice(all).copied().into_iter().collect(),
        _ => all.iter().copied().filter(|_| chance.f64() < 0.4).collect(),
    }
}

fn draw_rates(chance: &mut fastrand::Rng) -> Rates {
    Rates {
        loss: chance.f64() * chance.f64() * 0.3,
        duplicate: chance.f64() * 0.1,
        stale: 0.2 + chance.f64() * 0.8,
        delay_max_ms: chance.u64(10..=250),
        fault_every_ms: chance.u64(300..=4_000),
        slow_sync: chance.f64() * 0.2,
        slow_sync_max_ms: *chance.choice(&[20, 100, 1_500]).unwrap_or(&100),
        apply_max_ms: chance.u64(20..=400),
        segment_limit_bytes: chance.u64(2_000..=60_000),
        think_max_ms: chance.u64(50..=600),
    }
}
