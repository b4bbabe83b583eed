//! The kinds of trouble there are, what each needs from the machine, and in which order they come.

use super::tools;
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::fmt;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// kill -9 of one node or of a minority, and restart.
    Kill,
    /// A node is killed as it enters a system call: a sync, a write, a send.
    KillInCall,
    /// A node is killed as it enters a system call of its start, the very first start of a node included.
    KillInStart,
    /// kill -9 of all nodes at once, and restart.
    KillAll,
    /// SIGSTOP for a while, then SIGCONT: what a paused virtual machine looks like.
    Pause,
    /// The leader is paused until others have elected one of theirs, and goes on cut off from all: it must
    /// not take itself for what it was.
    LoneReturn,
    /// One node after the other gets SIGTERM, must end with 0, and is started again.
    RollingRestart,
    /// All nodes' disks lose what was not synced, and all nodes are killed.
    PowerLoss,
    /// The same for one node.
    PowerLossOfOne,
    /// A node's disk is full: it must end, with status 1, and refuse to start as long as there is no room.
    FullDisk,
    /// A node's sync fails: it must end, with status 1.
    FailedSync,
    /// A node's syncs take long.
    SlowDisk,
    /// The leader is cut off from all others.
    CutLeader,
    /// A minority is cut off from the majority.
    CutMinority,
    /// A node does not get through to others, or does not hear them.
    CutOneWay,
    /// Only the link between the leader and one follower is cut.
    CutOneLink,
    /// Two halves, and only one node hears both.
    Bridge,
    /// The leader still hears one node of the majority that it lost, and one node hears nobody.
    StrandedLeader,
    /// What nodes send takes its time.
    Delay,
    /// Links carry few bytes a second.
    SlowLinks,
    /// Connections between nodes are reset.
    Resets,
    /// Thousands of connections to a node: idle ones, lines that never end, garbage.
    Flood,
}

/// Who carries a fault out: two things may go on at once, but not two of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Track {
    /// What is done to processes and their disks.
    Processes,
    /// What is done to the links between nodes, and to their ports.
    Network,
}

impl Fault {
    /// All of them.
    pub fn all() -> BTreeSet<Fault> {
        Fault::value_variants().iter().copied().collect()
    }

    /// Reads kinds of faults separated by commas. Fails on a word that is none.
    pub fn parse_set(text: &str) -> Result<BTreeSet<Fault>, String> {
        text.split(',').map(|word| Fault::from_str(word, false)).collect()
    }

    /// What it does, in a line.
    pub fn what(self) -> String {
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// What it needs beside a cluster, in words; empty when nothing.
    pub fn needs(self) -> &'static str {
        match self {
            Fault::PowerLoss | Fault::PowerLossOfOne => "root, mkfs.ext4, loop mounts, python3",
            Fault::FullDisk => "root, mkfs.ext4, loop mounts; or prlimit, then files only may not grow",
            Fault::FailedSync | Fault::SlowDisk | Fault::KillInCall | Fault::KillInStart => {
                "strace, allowed to attach"
            }
            Fault::Bridge | Fault::StrandedLeader => "five nodes",
            Fault::Kill
            | Fault::KillAll
            | Fault::Pause
            | Fault::LoneReturn
            | Fault::RollingRestart
            | Fault::CutLeader
            | Fault::CutMinority
            | Fault::CutOneWay
            | Fault::CutOneLink
            | Fault::Delay
            | Fault::SlowLinks
            | Fault::Resets
            | Fault::Flood => "",
        }
    }

    /// Why it can not be had on this machine with so many nodes; none when it can, as far as one can tell
    /// before.
    pub fn hindrance(self, nodes: usize) -> Option<String> {
        let too_few = |least: usize| (nodes < least).then(|| format!("there are fewer than {least} nodes"));
        match self {
            Fault::PowerLoss | Fault::PowerLossOfOne => {
                tools::why_no_disks().or_else(|| tools::missing(&["python3"]))
            }
            Fault::FullDisk => tools::why_no_disks().and_then(|_| tools::missing(&["prlimit"])),
            Fault::FailedSync | Fault::SlowDisk | Fault::KillInCall | Fault::KillInStart => {
                tools::missing(&["strace"]).or_else(tools::why_strace_may_not_attach)
            }
            Fault::Bridge | Fault::StrandedLeader => too_few(5),
            Fault::LoneReturn
            | Fault::CutLeader
            | Fault::CutMinority
            | Fault::CutOneWay
            | Fault::CutOneLink => too_few(3),
            Fault::Delay | Fault::SlowLinks | Fault::Resets => too_few(2),
            Fault::Kill | Fault::KillAll | Fault::Pause | Fault::RollingRestart | Fault::Flood => None,
        }
    }

    pub(super) fn track(self) -> Track {
        match self {
            Fault::Kill
            | Fault::KillInCall
            | Fault::KillInStart
            | Fault::KillAll
            | Fault::Pause
            | Fault::LoneReturn
            | Fault::RollingRestart
            | Fault::PowerLoss
            | Fault::PowerLossOfOne
            | Fault::FullDisk
            | Fault::FailedSync
            | Fault::SlowDisk => Track::Processes,
            Fault::CutLeader
            | Fault::CutMinority
            | Fault::CutOneWay
            | Fault::CutOneLink
            | Fault::Bridge
            | Fault::StrandedLeader
            | Fault::Delay
            | Fault::SlowLinks
            | Fault::Resets
            | Fault::Flood => Track::Network,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.to_possible_value().map(|value| value.get_name().to_owned());
        f.write_str(word.as_deref().unwrap_or("hidden"))
    }
}

/// Faults in a drawn order, each once before any comes again: so all of them are met in a run that is long
/// enough.
#[derive(Debug)]
pub(super) struct Deck {
    all: Vec<Fault>,
    left: Vec<Fault>,
    rounds: usize,
}

impl Deck {
    /// The faults of this track.
    pub fn of(faults: &BTreeSet<Fault>, track: Track) -> Deck {
        let all = faults.iter().copied().filter(|fault| fault.track() == track).collect();
        Deck { all, left: Vec::new(), rounds: 0 }
    }

    /// The next one; none when there are none at all.
    pub fn draw(&mut self, chance: &mut fastrand::Rng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            chance.shuffle(&mut self.left);
            self.rounds += 1;
        }
        self.left.pop()
    }

    /// Whether each was drawn at least once.
    pub fn was_through(&self) -> bool {
        self.all.is_empty() || self.rounds > 1 || (self.rounds == 1 && self.left.is_empty())
    }

    /// Whether this is the first time that these faults come.
    pub fn is_first_round(&self) -> bool {
        self.rounds <= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_once_before_any_comes_again() {
        let mut deck = Deck::of(&Fault::all(), Track::Network);
        let mut chance = fastrand::Rng::with_seed(7);
        let count = deck.all.len();
        let first: BTreeSet<Fault> = (0..count).filter_map(|_| deck.draw(&mut chance)).collect();
        assert_eq!(first.len(), count);
        assert!(deck.was_through());
        let second: BTreeSet<Fault> = (0..count).filter_map(|_| deck.draw(&mut chance)).collect();
        assert_eq!(second, first);
        let mut other = Deck::of(&Fault::all(), Track::Processes);
        assert!(!other.was_through());
        assert!(other.draw(&mut chance).is_some_and(|fault| !first.contains(&fault)));
        assert!(!other.was_through());
    }

    #[test]
    fn each_fault_is_called_by_its_name_and_says_what_it_does() {
        for fault in Fault::all() {
            assert_eq!(Fault::parse_set(&fault.to_string()), Ok(BTreeSet::from([fault])));
            assert!(!fault.what().is_empty(), "{fault}");
        }
        assert!(Fault::parse_set("kill,").is_err());
        let two = BTreeSet::from([Fault::Kill, Fault::CutOneWay]);
        assert_eq!(Fault::parse_set("kill,cut-one-way"), Ok(two));
    }
}
