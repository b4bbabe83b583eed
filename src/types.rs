//! The words that every room speaks: who (`NodeId`, `Incarnation`), when (`Term`), where in the log (`Index`,
//! `EntryId`), who asked (`RequestId`) and what is to be done (`Command`, `Entry`).
//!
//! Nothing here decides anything. The types carry their invariants: an `Index` is never below -1, a
//! `Command` is valid JSON text on one line, and an `EntryId` orders by term first, which makes the election
//! restriction of the paper's section 5.4.1 a plain comparison.

mod configuration;

pub use configuration::{Configuration, Founding, MAX_LIVES, Member, STARTS_A_LIFE};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The largest counter of any kind, 2^53 - 1: the largest number that every JSON reader keeps exactly. No
/// honest counter gets there, so what is read from outside is refused above it, and counting on from what is
/// below cannot overflow.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// A member of the cluster, 1 to 65535, as `cluster.toml` names it. Shown as `n1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A random number that a node's folder gets when it is made. Two folders never share one, so that a wiped
/// node which comes back under its old id is noticed. Shown as 16 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(#[serde(with = "hex_digits")] pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number as 16 hex digits: a JSON number of 64 bits would lose some of them in many a reader.
pub(crate) mod hex_digits {
    use super::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u64::from_str_radix(&text, 16) {
            Ok(number) if format!("{number:016x}") == text => Ok(number),
            Ok(_) | Err(_) => Err(serde::de::Error::custom("expected 16 lowercase hex digits")),
        }
    }
}

/// A term of the paper's section 5.1: a stretch of time with at most one leader. Starts at 0, never falls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The term that a candidate of this term campaigns for.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A place in the log. The first entry has index 0; [`Index::NONE`] (-1) stands before it, so that
/// `commit_index` and `last_applied` of a fresh node are -1, as in the exercise that this began as.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(pub i64);

impl Index {
    /// Before the first entry: the predecessor of 0.
    pub const NONE: Index = Index(-1);

    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The index before this one; [`Index::NONE`] has none and stays.
    pub fn previous(self) -> Index {
        Index((self.0 - 1).max(Index::NONE.0))
    }
}

impl Default for Index {
    fn default() -> Index {
        Index::NONE
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An entry's identity: by the Log Matching Property (paper 5.3) two logs that hold the same `EntryId` are
/// equal up to there. Orders by term, then by index, which is exactly "more up to date" of section 5.4.1.
/// Shown as `5@2`: index 5 of term 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct EntryId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl EntryId {
    /// What stands before the first entry of every log: term 0, index -1.
    pub const NONE: EntryId = EntryId { term: Term(0), index: Index::NONE };

    /// The entry of this term at this index.
    pub fn new(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names one request of one node for all time: `boot` is that node's durable start counter, `number` counts
/// within the start. It travels in the entry, so that whoever waits is answered by name and never by place
/// (another leader's entry may come to stand at the same index). Shown as `n1/3/17`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// The node that the client talked to.
    pub node: NodeId,
    /// That node's start counter.
    pub boot: u64,
    /// Counts that start's requests, from 0.
    pub number: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.node, self.boot, self.number)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What an entry asks the application to do: JSON text, one object without a line break, kept as it was
/// received and never rendered again. The core and the log carry it unread; only `src/kv` looks inside.
/// Cloning shares the text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(Arc<RawValue>);

impl Command {
    /// The command of this text. Fails when the text is not one JSON value on a line of its own.
    pub fn from_json(text: String) -> Result<Command, serde_json::Error> {
        one_line(text).map(Command)
    }

    /// The entry that a leader appends when its term starts, which changes nothing (paper section 8).
    pub fn noop() -> Command {
        Command::of_leader("noop")
    }

    /// The entry that carries a change of members, which changes nothing in the application.
    pub fn configuration() -> Command {
        Command::of_leader("configuration")
    }

    fn of_leader(op: &'static str) -> Command {
        Command(Arc::from(serde_json::value::to_raw_value(&OnlyOp { op }).expect("plain text")))
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

#[derive(Serialize)]
struct OnlyOp {
    op: &'static str,
}

impl PartialEq for Command {
    fn eq(&self, other: &Command) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Command {}

impl std::hash::Hash for Command {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A line of a snapshot on its way from one node's file into another's: one JSON object with its checksum,
/// kept as it stands in the file, so that a message carries it unread. Cloning shares the text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotLine(Arc<RawValue>);

impl SnapshotLine {
    /// The line with this text. Fails when it is not one JSON value on a line of its own.
    pub fn from_json(text: String) -> Result<SnapshotLine, serde_json::Error> {
        one_line(text).map(SnapshotLine)
    }

    /// The JSON text, without the newline.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// How many bytes the line takes in the file, its newline included.
    pub fn size_bytes(&self) -> u64 {
        self.text().len() as u64 + 1
    }
}

impl PartialEq for SnapshotLine {
    fn eq(&self, other: &SnapshotLine) -> bool {
        self.text() == other.text()
    }
}

impl Eq for SnapshotLine {}

impl std::hash::Hash for SnapshotLine {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl fmt::Debug for SnapshotLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// One JSON value that stands on one line.
fn one_line(text: String) -> Result<Arc<RawValue>, serde_json::Error> {
    if text.contains('\n') {
        return Err(serde::de::Error::custom("it stands on one line"));
    }
    RawValue::from_string(text).map(Arc::from)
}

/// How far an application is and what it has come to: index and hash belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedState {
    /// The last entry that was applied.
    pub last_applied: Index,
    /// The running hash over all that was applied up to there. On the wire 16 hex digits.
    #[serde(with = "hex_digits")]
    pub applied_hash: u64,
}

/// One entry of the log: where it stands, who asked for it, what it says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
    /// Whose client waits for it; none for a leader's own entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// What it does.
    pub command: Command,
    /// Who belongs to the cluster from this entry on: in force as soon as it stands in a log, committed or
    /// not (paper section 6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Arc<Configuration>>,
}

impl Entry {
    /// Term and index: the entry's identity.
    pub fn id(&self) -> EntryId {
        EntryId::new(self.term, self.index)
    }

    /// About how many bytes the entry takes as a line, in the log file or in a message: limits in bytes are
    /// counted in this measure. Never less than the real size of the JSON object.
    pub fn size_bytes(&self) -> usize {
        // {"term":N,"index":N,"request":{"node":N,"boot":N,"number":N},"command":} with 20-digit numbers.
        const FRAME_BYTES: usize = 168;
        let configuration = self.configuration.as_ref().map_or(0, |configuration| configuration.size_bytes());
        FRAME_BYTES + self.command.text().len() + configuration
    }
}
