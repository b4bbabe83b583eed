//! What must have happened: a verifier that never saw a leader change proves nothing about leader changes.
//! Each run counts; a batch of seeds in which one of these stays at zero has failed.

use crate::checker::Outcome;
use std::collections::BTreeMap;

/// Everything that a large enough batch of seeds must have seen.
const EXPECTED: &[&str] = &[
    "leader changed",
    "leader stepped down without a quorum",
    "pre-vote refused",
    "vote refused: log behind",
    "vote refused: already voted",
    "suffix truncated",
    "append rejected",
    "old-term entry committed by a newer leader",
    "proposal proposed again in a newer term",
    "forward sent again",
    "read forwarded",
    "retry deduplicated",
    "compare-and-set swapped",
    "compare-and-set did not swap",
    "stale read answered",
    "answer: ok",
    "answer: busy",
    "answer: unavailable",
    "answer: timeout",
    "answer: connection lost",
    "torn tail cut",
    "batch of a crash survived",
    "batch of a crash was lost",
    "log has several segments",
    "start failed on a bad disk",
    "damaged disk refused",
    "disk wiped",
    "empty disk refused",
    "node without its data turned away",
    "killed at rest",
    "killed between effects",
    "killed in a save",
    "killed in a start",
    "power lost",
    "power of all lost",
    "disk fault ended a node",
    "node paused",
    "node resumed",
    "sync was slow",
    "application was slow",
    "clock at another speed",
    "partition: symmetric",
    "partition: one way",
    "partition: one hears nobody",
    "partition: nobody hears one",
    "partition: bridge",
    "partition: ring",
    "partition: chain",
    "partition: star",
    "partition: one link",
    "partition: one hangs on a bridge",
    "partition: partial",
    "rolling restart",
    "connection made anew",
    "message dropped",
    "message duplicated",
    "message of an earlier connection arrived",
    "message through the wire format",
    "snapshot taken",
    "snapshot written",
    "snapshot installed",
    "snapshot sent in several pieces",
    "snapshot under way replaced by a newer one",
    "install resumed",
    "install begun anew",
    "log compacted",
    "log compacted while a follower receives a snapshot",
    "store made of a snapshot at a start",
    "snapshot received, and the log began anew at the next start",
    "died while a snapshot was written",
    "damaged snapshot refused",
    "snapshot taken for an operator",
    "change of members begun",
    "change of members refused",
    "change of members lost",
    "learner added",
    "learner named by its incarnation",
    "others named for who joins",
    "learner promoted",
    "node without its data let in again",
    "learner taken back",
    "voter removed",
    "several members replaced at once",
    "joint configuration committed",
    "uncommitted configuration truncated",
    "leader removed itself",
    "a newer leader went on with a change",
    "machine of no member switched off",
    "transfer done",
    "transfer refused",
    "transfer given up",
    "healed: everything",
    "healed: a majority",
    "healed: a majority, with stragglers",
];

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sometimes {
    counts: BTreeMap<&'static str, u64>,
}

impl Sometimes {
    /// It happened.
    pub(super) fn saw(&mut self, what: &'static str) {
        debug_assert!(EXPECTED.contains(&what), "{what} is not in the list");
        *self.counts.entry(what).or_default() += 1;
    }

    /// A client heard this.
    pub(super) fn saw_outcome(&mut self, outcome: &Outcome) {
        use crate::kv::Answer;
        match outcome {
            Outcome::Written(Answer::Swapped { .. }) => self.saw("compare-and-set swapped"),
            Outcome::Written(Answer::NotSwapped { .. }) => self.saw("compare-and-set did not swap"),
            _ => {}
        }
        match outcome {
            Outcome::Written(_) | Outcome::Got { .. } | Outcome::Scanned { .. } => self.saw("answer: ok"),
            Outcome::Busy => self.saw("answer: busy"),
            Outcome::Unavailable => self.saw("answer: unavailable"),
            Outcome::Timeout => self.saw("answer: timeout"),
            Outcome::Lost => self.saw("answer: connection lost"),
            // No simulated client writes a bad line, goes back in its numbers or is forgotten.
            Outcome::BadRequest | Outcome::TooLarge | Outcome::StaleSeq | Outcome::SessionExpired => {}
            Outcome::NotSent => {}
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Sometimes) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    /// Everything expected, with how often it happened.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        EXPECTED.iter().map(|what| (*what, self.counts.get(what).copied().unwrap_or(0)))
    }

    /// What is expected and never happened.
    pub fn missing(&self) -> Vec<&'static str> {
        self.counts().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}
