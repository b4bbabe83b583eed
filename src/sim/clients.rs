//! The clients: when they do something, what they ask for, whom they ask, and what they do when they hear
//! nothing. They keep to the contract: a write without a number is sent once; one with `(client, seq)` again,
//! on another node, until there is a definite answer, and after giving up the client takes a new name.

use super::chance::stream;
use super::plan::Plan;
use crate::checker::Outcome;
use crate::types::NodeId;
use crate::wire::client::{Op, Read};
use std::collections::VecDeque;

/// How often a numbered write is tried.
const MAX_ATTEMPTS: u32 = 8;
/// How long the long key is.
const LONG_KEY_BYTES: usize = 700;
/// The most writes that a turn has, and a little more: values are numbered by turn and place in it.
const WRITES_A_TURN: u64 = 8;

/// When a client does something, at the earliest: it waits for the answer to what it did before. What it
/// does is decided then, by chance of the turn's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub number: u32,
    pub client: usize,
    pub at_ms: u64,
}

impl Turn {
    /// All turns of all clients before `end_ms`, in their order and numbered from 1. A later end adds some
    /// after those that there were.
    pub fn draw_all(seed: u64, end_ms: u64) -> Vec<Turn> {
        let mut chance = stream(seed, "clients", (0, 0));
        let (clients, think_max_ms) = (chance.usize(2..=5), chance.u64(80..=600));
        let mut turns = Vec::new();
        for (client, number) in (0..clients).zip(0..) {
            let mut chance = stream(seed, "turns", (number, 0));
            let mut at_ms = 100;
            while at_ms < end_ms {
                turns.push(Turn { number: 0, client, at_ms });
                at_ms += 5 + chance.u64(1..=think_max_ms);
            }
        }
        turns.sort_by_key(|turn| (turn.at_ms, turn.client));
        for (turn, number) in turns.iter_mut().zip(1..) {
            turn.number = number;
        }
        turns
    }

    /// The chance that is this turn's own, at each of its attempts.
    pub fn chance(&self, seed: u64, attempt: u32) -> fastrand::Rng {
        stream(seed, "turn", (self.number.into(), attempt.into()))
    }
}

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
    /// What is still to come, and what is under way.
    pub turns: VecDeque<Turn>,
    pub turn: Turn,
    /// Counts its names.
    generation: u64,
    seq: u64,
    /// What it read last: a key and its value.
    last_read: Option<(String, String)>,
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
    /// All clients of a run, with their turns.
    pub fn of(plan: &Plan) -> Vec<Client> {
        let count = plan.turns.iter().map(|turn| turn.client + 1).max().unwrap_or(0);
        let client = |(number, id): (usize, u64)| {
            let mut chance = stream(plan.seed, "client", (id, 0));
            let home = plan.node_of(chance.u16(..));
            let turns = plan.turns.iter().filter(|turn| turn.client == number).copied().collect();
            let behaviour = if number == 1 { Behaviour::Pipelining } else { Behaviour::Ordinary };
            Client { turns, ..Client::new(behaviour, Some(home).filter(|_| number % 2 == 0)) }
        };
        (0..count).zip(0..).map(client).collect()
    }

    fn new(behaviour: Behaviour, home: Option<NodeId>) -> Client {
        Client {
            behaviour,
            home,
            turns: VecDeque::new(),
            turn: Turn { number: 0, client: 0, at_ms: 0 },
            generation: 0,
            seq: 0,
            last_read: None,
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

    /// When it does something next, as far as it knows.
    pub fn next_turn_ms(&self) -> Option<u64> {
        match self.behaviour {
            Behaviour::Probe => (!self.is_done).then_some(0),
            Behaviour::Ordinary | Behaviour::Pipelining => self.turns.front().map(|turn| turn.at_ms),
        }
    }

    /// The requests of its turn, as lines.
    pub fn next_lines(&mut self, chance: &mut fastrand::Rng) -> Vec<String> {
        let first_value = u64::from(self.turn.number) * WRITES_A_TURN;
        match self.behaviour {
            Behaviour::Probe => self.line.iter().cloned().collect(),
            Behaviour::Ordinary => vec![self.next_line(first_value, chance)],
            Behaviour::Pipelining => {
                let count = chance.u64(1..=4);
                (0..count).map(|place| self.write_line(first_value + place, "", chance)).collect()
            }
        }
    }

    fn next_line(&mut self, value: u64, chance: &mut fastrand::Rng) -> String {
        let key = draw_key(chance);
        match chance.u8(0..100) {
            0..25 => format!(r#"{{"op":"get","key":"{key}"}}"#),
            25..30 => format!(r#"{{"op":"get","key":"{key}","stale":true}}"#),
            30..35 => format!(r#"{{"op":"scan","prefix":"k","limit":{}}}"#, chance.u8(1..=6)),
            35..60 => self.write_line(value, "", chance),
            _ => {
                self.seq += 1;
                let (number, generation, seq) = (self.turn.client, self.generation, self.seq);
                let session = format!(r#","client":"c{number}.{generation}","seq":{seq}"#);
                self.write_line(value, &session, chance)
            }
        }
    }

    /// A write with a value that no other has. Compare-and-set expects what was read last, so that it
    /// succeeds at times.
    fn write_line(&self, value: u64, session: &str, chance: &mut fastrand::Rng) -> String {
        let key = draw_key(chance);
        match chance.u8(0..10) {
            0..6 => format!(r#"{{"op":"set","key":"{key}","value":{value}{session}}}"#),
            6..8 => format!(r#"{{"op":"delete","key":"{key}"{session}}}"#),
            _ => {
                let read = self.last_read.clone().filter(|_| chance.u8(0..4) > 0);
                let (key, expect) = read.unwrap_or((key, "null".to_owned()));
                format!(r#"{{"op":"cas","key":"{key}","expect":{expect},"value":{value}{session}}}"#)
            }
        }
    }

    /// What comes after an attempt that ended so. A write without a number whose fate is open is left alone.
    pub fn after(&mut self, op: &Op, outcome: &Outcome) -> Next {
        if let (Op::Read { read: Read::Get { key }, .. }, Outcome::Got { value, .. }) = (op, outcome) {
            let value = value.as_ref().map_or("null".to_owned(), |value| value.to_string());
            self.last_read = Some((key.to_string(), value));
        }
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
