//! The lines between nodes: who is calling (hello, welcome, refused), whether someone is there (ping, pong),
//! and Raft's messages in envelopes.
//!
//! ```text
//!   the one who connects                      the one who accepts
//!   {"hello":{...}}              ----------->
//!                                <-----------  {"welcome":{...}} or {"refused":{"why":...}}, then it closes
//!   {"envelope":{...}}, pings    ----------->
//!                                <-----------  pongs
//! ```
//!
//! Each line is one JSON object whose only member names its kind, and the body of a message is written in the
//! same way; so a command's text is taken over as it stands, which serde's other ways of writing enums cannot
//! do. A field that is not known is ignored and a kind that is not known is [`Decoded::Unknown`], so that
//! nodes of two versions can talk. What was decoded is also checked here: the core may rely on every rule in
//! [`decode`], whoever is at the other end. Nothing here knows sockets or decides whom to welcome.

use super::{check, escape_external, quote_external};
use crate::config::{MAX_CLUSTER_NAME_BYTES, MAX_NODES};
use crate::raft::message::Message;
use crate::types::{AppliedState, Founding, Incarnation, MAX_LIVES, NodeId, Term};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The oldest version of what is said between nodes that this one can talk to: what a hello shows first, and
/// what all versions compare. A later version may add fields and kinds of lines; it says that it knows them
/// by [`NEWEST_VERSION`], and uses them only where they are ignored, or where all nodes know them.
pub const PROTOCOL_VERSION: u32 = 1;

/// The newest version that this node knows. 1: the beginning. 2: entries that change members, snapshots, and
/// handing the lead over.
pub const NEWEST_VERSION: u32 = 2;

/// The version of nodes that say nothing of it.
fn first_version() -> u32 {
    1
}

/// The longest line that a node may send another, where a client's line may have `max_line_bytes`: the text
/// of one command always fits, whatever stands around it.
pub fn max_peer_line_bytes(max_line_bytes: usize) -> usize {
    2 * max_line_bytes + 64 * 1024
}

/// One line from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLine {
    /// The first line of whoever connects.
    Hello(Hello),
    /// The answer of whoever accepts: go on.
    Welcome(Welcome),
    /// The answer of whoever accepts: no, and the connection closes.
    Refused(Refused),
    /// Is someone there?
    Ping(Ping),
    /// Yes: with the ping's number.
    Pong(Ping),
    /// A message of Raft.
    Envelope(Envelope),
}

/// Says who connects to whom, so that nodes of two clusters, or of one cluster with two ideas of it, never
/// exchange a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the sender.
    pub version: u32,
    /// Its [`NEWEST_VERSION`].
    #[serde(default = "first_version")]
    pub newest_version: u32,
    /// The cluster's name.
    pub cluster: String,
    /// The sender.
    pub from: NodeId,
    /// Whom it means to talk to.
    pub to: NodeId,
    /// The sender's start counter.
    pub boot: u64,
    /// The random number that the sender drew when its data directory was made: another one under the same id
    /// means a node that has lost its disk.
    pub incarnation: Incarnation,
    /// The number of the life by which what is committed names the sender by its incarnation, when it knows
    /// of one. Whose log is not that far takes its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<u64>,
    /// The voters of the cluster's first configuration, as the sender has them on disk; none when it has
    /// joined the cluster later.
    pub first_voters: Vec<NodeId>,
    /// The founding of the cluster that the sender belongs to, if it knows of one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding: Option<Founding>,
    /// Where the sender can be reached: so one that has just joined, or was away while members changed, can
    /// answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The sender belongs to the cluster and has lost its data. It wants to be let in again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_lost_data: bool,
}

/// Where a node can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// By other nodes, `HOST:PORT`.
    pub peer: String,
    /// By clients.
    pub client: String,
}

/// Who has accepted a [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The one who accepts.
    pub from: NodeId,
    /// Its start counter.
    pub boot: u64,
    /// Its incarnation, as in [`Hello`].
    pub incarnation: Incarnation,
    /// Its life, as in [`Hello`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life: Option<u64>,
    /// Its [`NEWEST_VERSION`].
    #[serde(default = "first_version")]
    pub newest_version: u32,
    /// Its founding, as in [`Hello`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding: Option<Founding>,
}

/// Why a [`Hello`] was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// For people. Whoever logs it quotes it with [`quote_external`].
    pub why: String,
}

/// A ping or a pong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// The sender's count of its pings on this connection; the pong repeats it.
    pub number: u64,
}

/// A message of Raft and which event of its sender it was: `boot` and `event` order all that a node did, so
/// that the logs of all nodes can be merged by cause and effect without trusting clocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender's start counter.
    pub boot: u64,
    /// The sender's count of its events in that start.
    pub event: u64,
    /// With a heartbeat or the answer to one: what nodes have applied and what they have come to; of a leader
    /// all that it has heard, of a follower its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<NodeId, AppliedState>,
    /// What it says.
    pub message: Message,
}

/// Who is at the two ends of a connection, and what the receiver knows: what a message is checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The receiver.
    pub me: NodeId,
    /// The sender: whom the hello or the welcome named.
    pub peer: NodeId,
    /// The receiver's term, or an older one of it.
    pub term: Term,
}

/// A line that is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// What it says.
    Line(PeerLine),
    /// A kind of line, or a kind of message, that this version does not know: to be logged and dropped.
    Unknown {
        /// Its name, safe to log.
        name: String,
    },
}

/// Why a line was not taken: one line that is safe to log. Whoever sent it has a defect or is not a node, so
/// its connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub(super) String);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl PeerLine {
    /// Appends the line, with its newline, to what is to be sent.
    pub fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, self).expect("memory takes every byte and all keys are text");
        out.push(b'\n');
    }
}

/// Decodes a line before it is known who is at the other end: a hello, or the answer to one. Anything else is
/// invalid here, since nothing may be said before the hello.
pub fn decode_greeting(line: &[u8]) -> Result<Decoded, Invalid> {
    let decoded = parse(line)?;
    match &decoded {
        Decoded::Line(PeerLine::Hello(hello)) => check_hello(hello)?,
        Decoded::Line(PeerLine::Welcome(welcome)) => {
            check::node(welcome.from)?;
            check::number("boot", welcome.boot)?;
            check_life(welcome.life)?;
        }
        Decoded::Line(PeerLine::Refused(_)) | Decoded::Unknown { .. } => {}
        Decoded::Line(PeerLine::Ping(_) | PeerLine::Pong(_) | PeerLine::Envelope(_)) => {
            return Err(Invalid("expected a hello or the answer to one".to_owned()));
        }
    }
    Ok(decoded)
}

/// Decodes a line after the greeting. What is accepted can be stepped into the core: sender and receiver are
/// the connection's, no number is near its type's end, entries follow `prev` without a gap and their terms
/// never fall and never pass the message's, and the message's term is at most 2^32 above `ends.term`, so that
/// one defective node cannot use up the terms.
pub fn decode(line: &[u8], ends: &Ends) -> Result<Decoded, Invalid> {
    let decoded = parse(line)?;
    match &decoded {
        Decoded::Line(PeerLine::Envelope(envelope)) => {
            check::number("boot", envelope.boot)?;
            check::number("event", envelope.event)?;
            check::applied(&envelope.applied)?;
            check::message(&envelope.message, ends)?;
        }
        Decoded::Line(PeerLine::Ping(_) | PeerLine::Pong(_)) | Decoded::Unknown { .. } => {}
        Decoded::Line(PeerLine::Hello(_) | PeerLine::Welcome(_) | PeerLine::Refused(_)) => {
            return Err(Invalid("a second greeting on one connection".to_owned()));
        }
    }
    Ok(decoded)
}

/// The first look takes what is known in one pass; only what it cannot take is looked at for an unknown name.
fn parse(line: &[u8]) -> Result<Decoded, Invalid> {
    // A command keeps its text, and a command's text stands on one line in the log.
    if memchr::memchr(b'\n', line).is_some() {
        return Err(Invalid("more than one line".to_owned()));
    }
    match serde_json::from_slice(line) {
        Ok(known) => Ok(Decoded::Line(known)),
        Err(error) => match unknown_kind(line) {
            Some(name) => Ok(Decoded::Unknown { name: quote_external(name) }),
            None => {
                Err(Invalid(format!("not a peer's line: {}", escape_external(error.to_string().as_bytes()))))
            }
        },
    }
}

/// The name of the line's kind, or of its message's, when it is a well-formed line of a kind not known here.
fn unknown_kind(line: &[u8]) -> Option<String> {
    /// As much of a line of any kind as all versions agree on.
    type AnyKind<T> = BTreeMap<String, T>;
    #[derive(Deserialize)]
    struct AnyEnvelope {
        message: AnyMessage,
    }
    #[derive(Deserialize)]
    struct AnyMessage {
        body: AnyKind<IgnoredAny>,
    }
    const LINES: [&str; 6] = ["hello", "welcome", "refused", "ping", "pong", "envelope"];
    const MESSAGES: [&str; 11] = [
        "RequestVote",
        "RequestVoteResponse",
        "AppendEntries",
        "AppendEntriesResponse",
        "InstallSnapshot",
        "InstallSnapshotResponse",
        "TimeoutNow",
        "ForwardProposals",
        "ForwardProposalsResponse",
        "ReadIndexRequest",
        "ReadIndexResponse",
    ];
    let only = |kinds: Vec<String>, known: &[&str]| match <[String; 1]>::try_from(kinds) {
        Ok([name]) if !known.contains(&name.as_str()) => Some(name),
        _ => None,
    };
    let outer: AnyKind<IgnoredAny> = serde_json::from_slice(line).ok()?;
    if let Some(name) = only(outer.into_keys().collect(), &LINES) {
        return Some(name);
    }
    let mut inner: AnyKind<AnyEnvelope> = serde_json::from_slice(line).ok()?;
    only(inner.remove("envelope")?.message.body.into_keys().collect(), &MESSAGES)
}

fn check_hello(hello: &Hello) -> Result<(), Invalid> {
    check::node(hello.from)?;
    check::node(hello.to)?;
    check::number("boot", hello.boot)?;
    check_life(hello.life)?;
    if hello.from == hello.to {
        return Err(Invalid(format!("a hello of {} to itself", hello.from)));
    }
    if hello.cluster.len() > MAX_CLUSTER_NAME_BYTES {
        return Err(Invalid(format!("the cluster's name {} is too long", quote_external(&hello.cluster))));
    }
    let mut voters = hello.first_voters.clone();
    voters.sort_unstable();
    voters.dedup();
    if voters.len() != hello.first_voters.len() || voters.len() > MAX_NODES {
        let what = format!("first voters: {} ids, expected at most {MAX_NODES}, each once", voters.len());
        return Err(Invalid(what));
    }
    voters.iter().try_for_each(|voter| check::node(*voter))
}

fn check_life(life: Option<u64>) -> Result<(), Invalid> {
    match life {
        Some(life) if life == 0 || life > MAX_LIVES => {
            Err(Invalid(format!("life {life}, expected 1 to {MAX_LIVES}")))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
