//! The kinds of faults, and the troubles of a run: each has a number, a kind, a beginning and a length. They
//! are drawn before the run, each kind for itself, so that leaving one out changes no other.

use super::chance::stream;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

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
    /// Links are cut, in one of the shapes of `partitions.rs`.
    Partitions,
    /// A process is killed at any of its effects, those of its start included, or its machine loses power
    /// there.
    Crashes,
    /// All machines lose power at once.
    PowerLoss,
    /// An operation of a disk fails, and for a while whatever the next starts do with it.
    DiskFaults,
    /// A bit of a disk's files turns over while the machine is off.
    BitFlips,
    /// A machine loses all its data and comes back under its old id.
    Wipes,
    /// Syncs take long.
    SlowDisk,
    /// A process stops for a while and goes on with a full inbox.
    Pauses,
    /// One node after the other is restarted.
    RollingRestarts,
    /// A node's clock runs at another speed, half as fast to twice as fast.
    ClockSkew,
    /// The application takes its time.
    SlowApplication,
    /// All limits are small, so that they are met.
    SmallLimits,
    /// A log of a few entries is too long: there are snapshots, and whoever is behind gets one.
    ShortLogs,
    /// Syncs say that they are done and do nothing. Nobody survives that when the power goes: no seed draws
    /// it, it is there to see a run fail.
    LyingDisks,
    /// Nodes answer every read from their own store, as if nobody else could lead. That is a bug: no seed
    /// draws it either.
    HastyReads,
}

impl FaultClass {
    /// All that a seed may draw.
    pub(super) fn drawn() -> impl Iterator<Item = FaultClass> {
        let planted = [FaultClass::LyingDisks, FaultClass::HastyReads];
        FaultClass::value_variants().iter().copied().filter(move |class| !planted.contains(class))
    }

    /// In how many of the seeds that break several things this is one of them.
    pub(super) fn frequency(self) -> f64 {
        if self == FaultClass::ShortLogs { 0.6 } else { 0.4 }
    }

    /// How many milliseconds pass from the end of one trouble to the beginning of the next, at most, in a
    /// seed whose rhythm this is; and how long one lasts, at most. None: this kind is there all the time.
    fn rhythm(self, chance: &mut fastrand::Rng) -> Option<(u64, u64)> {
        let mut one_of = |choices: &[u64]| chance.choice(choices).copied().unwrap_or(0);
        match self {
            FaultClass::Loss
            | FaultClass::Delay
            | FaultClass::Duplicates
            | FaultClass::Stale
            | FaultClass::SlowDisk
            | FaultClass::SlowApplication => Some((one_of(&[1, 1_000, 6_000]), 5_000)),
            FaultClass::ClockSkew => Some((one_of(&[1, 1_000, 6_000]), 15_000)),
            FaultClass::Reconnects => Some((one_of(&[500, 2_000, 8_000]), 1)),
            FaultClass::Partitions => Some((one_of(&[500, 3_000, 12_000]), 6_000)),
            FaultClass::Crashes => Some((one_of(&[500, 1_500, 8_000]), 3_000)),
            FaultClass::PowerLoss => Some((one_of(&[5_000, 20_000]), 3_000)),
            FaultClass::DiskFaults => Some((one_of(&[1_000, 3_000, 10_000]), 1_500)),
            FaultClass::BitFlips => Some((one_of(&[4_000, 12_000]), 3_000)),
            FaultClass::Wipes => Some((20_000, 3_000)),
            FaultClass::Pauses => Some((one_of(&[1_000, 4_000, 12_000]), 4_000)),
            FaultClass::RollingRestarts => Some((15_000, 5_000)),
            FaultClass::SmallLimits
            | FaultClass::ShortLogs
            | FaultClass::LyingDisks
            | FaultClass::HastyReads => None,
        }
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.to_possible_value().map(|value| value.get_name().to_owned());
        f.write_str(word.as_deref().unwrap_or("hidden"))
    }
}

/// The kinds of faults of a run, as a person writes them: `loss,crashes`, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(pub BTreeSet<FaultClass>);

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "none" => Ok(Faults::default()),
            _ => text
                .split(',')
                .map(|word| <FaultClass as ValueEnum>::from_str(word, false))
                .collect::<Result<_, _>>()
                .map(Faults),
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(FaultClass::to_string).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

/// Something that breaks: once, or for a while. How badly, and whom it meets, is decided when it begins, by
/// chance of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub number: u32,
    pub class: FaultClass,
    pub at_ms: u64,
    pub for_ms: u64,
}

impl Trouble {
    /// The chance that is this trouble's own.
    pub fn chance(&self, seed: u64) -> fastrand::Rng {
        stream(seed, "trouble", (self.number.into(), 0))
    }

    /// All troubles of all kinds before `end_ms`, in their order and numbered from 1. A later end adds some
    /// after those that there were.
    pub fn draw_all(seed: u64, end_ms: u64) -> Vec<Trouble> {
        let mut troubles = Vec::new();
        for (class, kind) in FaultClass::drawn().zip(0..) {
            let mut chance = stream(seed, "rhythm", (kind, 0));
            let Some((gap_max_ms, length_max_ms)) = class.rhythm(&mut chance) else { continue };
            // A process may be killed in its very first start.
            let mut at_ms = if chance.bool() { 0 } else { chance.u64(100..=2_000) };
            while at_ms < end_ms {
                let for_ms = if chance.u8(0..3) == 0 {
                    chance.u64(1..=50.min(length_max_ms))
                } else {
                    chance.u64(1..=length_max_ms)
                };
                troubles.push(Trouble { number: 0, class, at_ms, for_ms });
                at_ms += for_ms + chance.u64(1..=gap_max_ms);
            }
        }
        troubles.sort_by_key(|trouble| (trouble.at_ms, trouble.class));
        for (trouble, number) in troubles.iter_mut().zip(1..) {
            trouble.number = number;
        }
        troubles
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trouble {} ({})", self.number, self.class)
    }
}
