//! The clients: what they ask for, whom they ask, and what they do when they hear nothing. They keep to the
//! contract: a write without a number is sent once; one with `(client, seq)` again, on another node, until
//! there is a definite answer, and after giving up the client takes a new name.

use crate::checker::Outcome;
use crate::types::NodeId;
use crate::wire::client::Op;

/// How often a numbered write is tried.
const MAX_ATTEMPTS: u32 = 8;
/// How long the long key is.
const LONG_KEY_BYTES: usize = 700;

/// What a client is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Asks, waits for the answer, thinks.
    Ordinary,
    /// Sends several writes at once to one node, without waiting for the answers in between.
    Pipelining,
    /// Asks one thing of one node until it is answered.
    Probe,
}

/// A client.
pub(super) struct Client {
    pub behaviour: Behaviour,
    /// The node that it prefers; without, it picks one each time.
    pub home: Option<NodeId>,
    /// Counts its names.
    generation: u64,
    seq: u64,
    /// Operations without an end.
    pub open: usize,
    pub attempts: u32,
    /// A probe's question, and whether it is answered.
    pub line: Option<String>,
    pub is_done: bool,
    /// Asks for nothing new.
    pub is_quiet: bool,
}

/// What a client does after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The operation has its answer, or will never have one.
    Over,
    /// The same again.
    Again,
}

impl Client {
    pub fn new(behaviour: Behaviour, home: Option<NodeId>) -> Client {
        Client {
            behaviour,
            home,
            generation: 0,
            seq: 0,
            open: 0,
            attempts: 0,
            line: None,
            is_done: false,
            is_quiet: false,
        }
    }

    /// A probe of this node.
    pub fn probe(node: NodeId, line: String) -> Client {
        Client { line: Some(line), ..Client::new(Behaviour::Probe, Some(node)) }
    }

    /// The next requests as lines. `unique` numbers all values of the run.
    pub fn next_lines(&mut self, number: usize, unique: &mut u64, chance: &mut fastrand::Rng) -> Vec<String> {
        match self.behaviour {
            Behaviour::Probe => self.line.iter().cloned().collect(),
            Behaviour::Ordinary => vec![self.next_line(number, unique, chance)],
            Behaviour::Pipelining => {
                let count = chance.usize(1..=4);
                (0..count).map(|_| write_line(unique, "", chance)).collect()
            }
        }
    }

    fn next_line(&mut self, number: usize, unique: &mut u64, chance: &mut fastrand::Rng) -> String {
        let key = draw_key(chance);
        match chance.u8(0..100) {
            0..25 => format!(r#"{{"op":"get","key":"{key}"}}"#),
            25..30 => format!(r#"{{"op":"get","key":"{key}","stale":true}}"#),
            30..35 => format!(r#"{{"op":"scan","prefix":"k","limit":{}}}"#, chance.u8(1..=6)),
            35..60 => write_line(unique, "", chance),
            _ => {
                self.seq += 1;
                let (generation, seq) = (self.generation, self.seq);
                let session = format!(r#","client":"c{number}.{generation}","seq":{seq}"#);
                write_line(unique, &session, chance)
            }
        }
    }

    /// What comes after an attempt that ended so. A write without a number whose fate is open is left alone.
    pub fn after(&mut self, op: &Op, outcome: &Outcome) -> Next {
        let is_numbered = matches!(op, Op::Write(command) if command.text().contains(r#""seq":"#));
        if outcome.is_definite() {
            self.is_done |= self.behaviour == Behaviour::Probe;
            return Next::Over;
        }
        if is_numbered && self.attempts < MAX_ATTEMPTS && !self.is_quiet {
            return Next::Again;
        }
        if is_numbered {
            self.generation += 1;
            self.seq = 0;
        }
        Next::Over
    }
}

/// One of seven keys; the rare one makes an entry that is above the limits of a message, where those are
/// small.
fn draw_key(chance: &mut fastrand::Rng) -> String {
    match chance.u8(0..61) {
        60 => "k".repeat(LONG_KEY_BYTES),
        number => format!("k{}", number % 6),
    }
}

/// A write with a value that no other has. Compare-and-set expects a recent value, so that it succeeds at
/// times.
fn write_line(unique: &mut u64, session: &str, chance: &mut fastrand::Rng) -> String {
    *unique += 1;
    let (key, value) = (draw_key(chance), *unique);
    match chance.u8(0..10) {
        0..6 => format!(r#"{{"op":"set","key":"{key}","value":{value}{session}}}"#),
        6..8 => format!(r#"{{"op":"delete","key":"{key}"{session}}}"#),
        _ => {
            let expect = match chance.u8(0..3) {
                0 => "null".to_owned(),
                _ => value.saturating_sub(chance.u64(1..8)).to_string(),
            };
            format!(r#"{{"op":"cas","key":"{key}","expect":{expect},"value":{value}{session}}}"#)
        }
    }
}
