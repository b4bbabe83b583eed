//! Clients on a few hot keys, and what they write down. Half of them stay with one node, the others roam.
//! Half of them number their writes and send each again, to one node after the other, until it is done; the
//! others send a write once and live with not knowing. No value is written twice. Some of those others send
//! many requests in one piece before they look at any answer: a pipeline, whose order is part of what they
//! write down.

use super::guests::Guest;
use super::run::{Run, SERVE_DEADLINE};
use crate::checker::{History, Operation, Outcome};
use crate::dial::Connection;
use crate::wire::client::{Request, parse};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How many keys are in use at a time.
const HOT_KEYS: usize = 10;
/// For how long, in seconds: then come others, so that no key's story grows without end.
const KEYS_LAST_S: u64 = 10;
/// How long a client waits for an answer: a little longer than a node that can still speak.
const PATIENCE: Duration = Duration::from_millis(super::machines::REQUEST_TIMEOUT_MS + 1_000);
/// The longest pause between two operations, in milliseconds.
const THINK_MAX_MS: u64 = 25;
/// After an answer that is none, a client waits up to so long before it asks again, in milliseconds.
const RETRY_MAX_MS: u64 = 100;
/// Now and then a value is so long, in bytes.
const LONG_VALUE_BYTES: usize = 20_000;
/// So many requests are sent at once, at most.
const PIPELINED_MAX: usize = 16;

/// Whether the client of this number sends many requests at once: of eight, one that stays with its node and
/// one that roams. Neither numbers its writes, which may only be done after the answer to the last.
fn is_pipelining(number: usize) -> bool {
    matches!(number % 8, 3 | 6)
}

/// Whether there is such a client among so many.
pub(super) fn some_are_pipelining(clients: usize) -> bool {
    (0..clients).any(is_pipelining)
}

/// A client, who asks one thing at a time, or many at once and waits for all.
pub(super) struct Client<'a, 'b> {
    run: &'a Run<'b>,
    number: usize,
    /// The node that it stays with, if it does.
    home: Option<u16>,
    /// Its last number, if it numbers its writes.
    seq: Option<u64>,
    chance: fastrand::Rng,
    node: u16,
    /// Its connection, and the node that it leads to.
    visit: Option<Visit>,
    written: u64,
    /// How many connections it has opened.
    visits: u64,
    /// The values that it has last read.
    known: BTreeMap<String, Value>,
    history: History,
}

/// A connection to a node.
struct Visit {
    node: u16,
    /// Its name among all of the run.
    name: u64,
    /// Above the guest, so that it is closed when that one leaves.
    connection: Connection,
    _guest: Guest,
}

impl<'a, 'b> Client<'a, 'b> {
    /// The client of this number, whose choices come from the seed.
    pub fn new(run: &'a Run<'b>, number: usize, seed: u64) -> Client<'a, 'b> {
        let ids: Vec<u16> = run.addresses.keys().copied().collect();
        let home = ids.get(number / 2 % ids.len().max(1)).copied();
        let is_at_home = number.is_multiple_of(2);
        Client {
            run,
            number,
            home: home.filter(|_| is_at_home),
            seq: (number / 2).is_multiple_of(2).then_some(0),
            chance: fastrand::Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            node: home.unwrap_or(1),
            visit: None,
            written: 0,
            visits: 0,
            known: BTreeMap::new(),
            history: History::default(),
        }
    }

    /// A client that stays with this node and numbers its writes.
    pub fn at(run: &'a Run<'b>, node: u16, number: usize, seed: u64) -> Client<'a, 'b> {
        Client { home: Some(node), node, seq: Some(0), ..Client::new(run, number, seed) }
    }

    /// Asks until the run is over; returns what was asked and answered.
    pub fn work(mut self) -> History {
        while !self.run.is_over() {
            if is_pipelining(self.number) {
                self.ask_many();
            } else {
                let request = self.draw_request();
                self.ask(request);
            }
            self.pause(THINK_MAX_MS);
            if self.home.is_none() && self.chance.u8(0..8) == 0 {
                self.roam();
            }
        }
        self.history
    }

    /// A write and a read of it, both of which this node must carry out. It is a finding if it does not.
    pub fn must_be_served(mut self) -> History {
        let (node, key) = (self.node, format!("final-n{}", self.node));
        let began = self.run.elapsed();
        for op in ["set", "get"] {
            let is_done = |outcome: &Outcome| outcome.is_definite();
            loop {
                let mut request = json!({ "op": op, "key": key });
                if op == "set" {
                    request["value"] = self.new_value();
                }
                if self.ask(request).is_some_and(|outcome| is_done(&outcome)) {
                    break;
                }
                if self.run.elapsed() - began > SERVE_DEADLINE {
                    self.run.finding(format_args!("P11: all is well again, and n{node} does no {op}"));
                    return self.history;
                }
                self.pause(RETRY_MAX_MS);
            }
        }
        self.history
    }

    fn pause(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.chance.u64(0..=most_ms)));
    }

    fn roam(&mut self) {
        let ids: Vec<u16> = self.run.addresses.keys().copied().collect();
        self.node = self.chance.choice(&ids).copied().unwrap_or(self.node);
        self.visit = None;
    }

    fn new_value(&mut self) -> Value {
        self.written += 1;
        let name = format!("c{}-{}", self.number, self.written);
        match self.written % 60 {
            0 => json!(format!("{name}{}", "x".repeat(LONG_VALUE_BYTES))),
            1..20 => json!(self.number as u64 * 1_000_000_000 + self.written),
            20..25 => json!({ "by": self.number, "number": self.written }),
            _ => json!(name),
        }
    }

    fn draw_request(&mut self) -> Value {
        let prefix = format!("{}-", self.run.elapsed().as_secs() / KEYS_LAST_S);
        let key = format!("{prefix}{}", self.chance.usize(0..HOT_KEYS));
        match self.chance.u8(0..100) {
            0..28 => json!({ "op": "get", "key": key }),
            28..34 => json!({ "op": "get", "key": key, "stale": true }),
            34..42 => json!({ "op": "scan", "prefix": prefix, "limit": self.chance.usize(1..=HOT_KEYS) }),
            42..46 => json!({ "op": "scan", "prefix": prefix, "stale": true }),
            46..72 => json!({ "op": "set", "key": key, "value": self.new_value() }),
            72..92 => {
                let expect = self.known.get(&key).cloned().unwrap_or(Value::Null);
                json!({ "op": "cas", "key": key, "expect": expect, "value": self.new_value() })
            }
            _ => json!({ "op": "delete", "key": key }),
        }
    }

    /// Asks, and asks again what may be asked again; writes down all of it. Returns the last outcome; none
    /// when nobody could be asked at all.
    fn ask(&mut self, mut request: Value) -> Option<Outcome> {
        let is_write = matches!(request["op"].as_str(), Some("set" | "cas" | "delete"));
        let seq = self.seq.filter(|_| is_write).map(|seq| seq + 1);
        if let Some(seq) = seq {
            request["client"] = json!(format!("nemesis-{}", self.number));
            request["seq"] = json!(seq);
        }
        let line = format!("{request}\n");
        let parsed = parse(request.to_string().as_bytes()).expect("a request as the contract has it");
        let began = self.run.elapsed();
        let mut place = None;
        let outcome = loop {
            let outcome = self.attempt(&line, &parsed, &mut place);
            // A number belongs to its operation until that is done; at the end of a run it may stay open.
            let is_late = self.run.is_over() && self.run.elapsed() - began > SERVE_DEADLINE;
            let is_over = match (&outcome, place, seq) {
                (Some(outcome), _, Some(_)) => !outcome.is_void() && !outcome.is_open(),
                (Some(_), _, None) => true,
                // Nobody was there, and nothing was sent so far.
                (None, None, _) => true,
                (None, Some(_), _) => false,
            };
            if is_over || is_late {
                break outcome;
            }
            self.pause(RETRY_MAX_MS);
            self.roam();
        };
        if place.is_some() && seq.is_some() {
            self.seq = seq;
            // Whoever asks again what is done gets the first answer, from any node.
            if self.chance.u8(0..20) == 0 {
                self.roam();
                self.attempt(&line, &parsed, &mut place);
            }
        }
        self.learn(&request, outcome.as_ref());
        self.node = self.home.unwrap_or(self.node);
        outcome
    }

    /// Sends the request once, and waits for the answer; none when nobody could be asked.
    fn attempt(&mut self, line: &str, request: &Request, place: &mut Option<usize>) -> Option<Outcome> {
        let mut visit = self.visit()?;
        let sent = now(self.run);
        let (number, attempt) = match *place {
            None => (self.history.push(Operation::sent(self.number, request.op.clone(), sent)), 0),
            Some(number) => (number, self.history.operations.get_mut(number)?.send_again(sent)),
        };
        *place = Some(number);
        let answer = visit.connection.send(line.as_bytes()).and_then(|()| visit.connection.receive());
        let outcome = self.outcome(request, answer);
        self.count(visit.node, &outcome);
        self.history.operations.get_mut(number)?.end(attempt, now(self.run), outcome.clone());
        if !outcome.is_open() {
            self.visit = Some(visit);
        }
        if outcome.is_void() || outcome.is_open() {
            self.pause(RETRY_MAX_MS);
        }
        Some(outcome)
    }

    /// The connection to the node where the client is, which may be a new one; none when it can not be had.
    fn visit(&mut self) -> Option<Visit> {
        let node = self.node;
        if let Some(visit) = self.visit.take().filter(|visit| visit.node == node) {
            return Some(visit);
        }
        let address = self.run.addresses.get(&node)?;
        let _guest = self.run.guests.enter(node);
        let Ok(connection) = Connection::open(&address.to_string(), PATIENCE) else {
            self.pause(RETRY_MAX_MS);
            if self.home.is_none() {
                self.roam();
            }
            return None;
        };
        self.visits += 1;
        let name = self.number as u64 * 1_000_000_000 + self.visits;
        Some(Visit { node, name, connection, _guest })
    }

    /// What has come of a request, by its answer.
    fn outcome(&self, request: &Request, answer: io::Result<Vec<u8>>) -> Outcome {
        match answer {
            Ok(answer) => Outcome::of_line(request, &answer).unwrap_or_else(|violation| {
                self.run.finding(violation);
                Outcome::Lost
            }),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Outcome::Timeout
            }
            Err(_) => Outcome::Lost,
        }
    }

    /// Sends some requests in one piece, then takes the answers. Each has an id of its own, so that an answer
    /// in another's place is noticed.
    fn ask_many(&mut self) {
        let Some(mut visit) = self.visit() else { return };
        let mut lines = String::new();
        let mut asked = Vec::new();
        for id in 0..self.chance.u64(2..=PIPELINED_MAX as u64) {
            let mut request = self.draw_request();
            self.expect(&request);
            request["id"] = json!(self.written << 8 | id);
            lines += &format!("{request}\n");
            asked.push(parse(request.to_string().as_bytes()).expect("a request as the contract has it"));
        }
        let sent = now(self.run);
        let operations =
            asked.iter().map(|it| Operation::pipelined(self.number, visit.name, it.op.clone(), sent));
        let first = self.history.operations.len();
        self.history.operations.extend(operations);
        let mut broken = match visit.connection.send(lines.as_bytes()) {
            Ok(()) => None,
            Err(_) => Some(Outcome::Lost),
        };
        for (request, number) in asked.iter().zip(first..) {
            let outcome = broken.clone().unwrap_or_else(|| {
                let answer = visit.connection.receive();
                let has_ended = answer.is_err();
                let outcome = self.outcome(request, answer);
                broken = Some(outcome.clone()).filter(|_| has_ended);
                outcome
            });
            self.count(visit.node, &outcome);
            if broken.is_none() {
                self.run.tally.pipelined.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(operation) = self.history.operations.get_mut(number) {
                operation.end(0, now(self.run), outcome);
            }
        }
        self.known.clear();
        if broken.is_none() {
            self.visit = Some(visit);
        } else {
            self.pause(RETRY_MAX_MS);
        }
        self.node = self.home.unwrap_or(self.node);
    }

    /// Takes a write that is not even sent for done, so that the next `cas` of its pipeline is about it.
    fn expect(&mut self, request: &Value) {
        let Some(key) = request["key"].as_str() else { return };
        match request.get("value") {
            Some(value) => self.known.insert(key.to_owned(), value.clone()),
            None if request["op"] == "delete" => self.known.remove(key),
            None => None,
        };
    }

    fn count(&self, node: u16, outcome: &Outcome) {
        let tally = &self.run.tally;
        match outcome {
            Outcome::Written(_) => {
                tally.writes.get(&node).map(|count| count.fetch_add(1, Ordering::Relaxed));
            }
            Outcome::Got { .. } | Outcome::Scanned { .. } => {
                tally.reads.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
        tally.saw_outcome(match outcome {
            Outcome::Written(_) => "written",
            Outcome::Got { .. } => "got",
            Outcome::Scanned { .. } => "scanned",
            Outcome::Busy => "busy",
            Outcome::Unavailable => "unavailable",
            Outcome::BadRequest => "bad_request",
            Outcome::TooLarge => "too_large",
            Outcome::StaleSeq => "stale_seq",
            Outcome::SessionExpired => "session_expired",
            Outcome::Timeout => "timeout",
            Outcome::Lost => "connection lost",
            Outcome::NotSent => "not sent",
        });
    }

    /// Remembers what a key holds, for the next `cas`.
    fn learn(&mut self, request: &Value, outcome: Option<&Outcome>) {
        let Some(key) = request["key"].as_str().map(str::to_owned) else { return };
        if self.known.len() > 2 * HOT_KEYS {
            self.known.clear();
        }
        match outcome {
            Some(Outcome::Got { value, .. }) => {
                let value = value.as_deref().and_then(|text| serde_json::from_str(text).ok());
                self.known.insert(key, value.unwrap_or(Value::Null));
            }
            Some(Outcome::Written(_)) if request["op"] == "set" => {
                self.known.insert(key, request["value"].clone());
            }
            _ => {
                self.known.remove(&key);
            }
        }
    }
}

fn now(run: &Run<'_>) -> u64 {
    u64::try_from(run.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
