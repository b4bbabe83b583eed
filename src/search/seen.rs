//! What a search should have come across: one that never saw a leader change has proven nothing about leader
//! changes. A configuration names what it must have seen.

use crate::raft::{Note, RoleName, RoleReason, VoteRefusal};

/// Everything that can be seen, each a bit.
const THINGS: [&str; 30] = [
    "leader elected",
    "leader stepped down without a quorum",
    "vote granted",
    "vote refused: already voted",
    "vote refused: log is behind",
    "vote refused: term is over",
    "vote refused: leader is alive",
    "suffix truncated",
    "append rejected",
    "leader went back",
    "crash",
    "crash during a save",
    "two leaders at once",
    "leader of an older term heard of a newer one",
    "write committed",
    "entry of an older term committed",
    "write committed after a crash",
    "read released by the leader",
    "read released by a follower",
    "three terms had leaders",
    "vote refused: not named yet",
    "members changed",
    "change committed",
    "snapshot installed",
    "lead handed over",
    "data lost",
    "named by its new folder",
    "vote granted by who had lost its data",
    "voter again",
    "write of a new life committed",
];

/// A set of things seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(u32);

impl Seen {
    /// Adds one of the things that can be seen.
    pub(super) fn add(&mut self, thing: &str) {
        let bit = THINGS.iter().position(|known| *known == thing);
        self.0 |= 1 << bit.unwrap_or_else(|| panic!("{thing} is not in the list"));
    }

    /// Adds all of the other's.
    pub(super) fn join(&mut self, other: Seen) {
        self.0 |= other.0;
    }

    /// As a number.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// Of a number that [`Seen::bits`] gave.
    pub(super) fn from_bits(bits: u32) -> Seen {
        Seen(bits)
    }

    /// The things, in the order of the list.
    pub fn things(self) -> impl Iterator<Item = &'static str> {
        THINGS.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, thing)| *thing)
    }

    /// Whether this was seen.
    pub fn has(self, thing: &str) -> bool {
        self.things().any(|seen| seen == thing)
    }

    pub(super) fn of_notes(notes: &[Note]) -> Seen {
        let mut seen = Seen::default();
        for note in notes {
            match note {
                Note::RoleChanged { to: RoleName::Leader, .. } => seen.add("leader elected"),
                Note::RoleChanged { why: RoleReason::QuorumLost { .. }, .. } => {
                    seen.add("leader stepped down without a quorum");
                }
                Note::RoleChanged { from: RoleName::Leader, why: RoleReason::NewTerm, .. } => {
                    seen.add("leader of an older term heard of a newer one");
                }
                Note::VoteGranted { pre_vote: false, .. } => seen.add("vote granted"),
                Note::VoteRefused { pre_vote: false, why, .. } => seen.add(match why {
                    VoteRefusal::OldTerm { .. } => "vote refused: term is over",
                    VoteRefusal::AlreadyVoted { .. } => "vote refused: already voted",
                    VoteRefusal::LogBehind { .. } => "vote refused: log is behind",
                    VoteRefusal::NotNamed => "vote refused: not named yet",
                    VoteRefusal::LeaderAlive { .. } => "vote refused: leader is alive",
                }),
                Note::Truncated { .. } => seen.add("suffix truncated"),
                Note::AppendRejected { .. } => seen.add("append rejected"),
                Note::SteppedBack { .. } => seen.add("leader went back"),
                Note::MembersChanged { .. } => seen.add("members changed"),
                Note::SnapshotInstalled { .. } => seen.add("snapshot installed"),
                Note::TransferBegun { .. } => seen.add("lead handed over"),
                Note::TransferGivenUp { .. }
                | Note::Compacted { .. }
                | Note::TermChanged { .. }
                | Note::RoleChanged { .. }
                | Note::LeaderKnown { .. }
                | Note::VoteGranted { .. }
                | Note::VoteRefused { .. }
                | Note::VoteReceived { .. }
                | Note::Committed { .. }
                | Note::Ignored { .. } => {}
            }
        }
        seen
    }
}
