//! The way of a request: a turn of a client makes operations, an operation attempts, and each attempt hears
//! an answer or nothing. What comes after that is the client's own decision.

use super::clients::{Behaviour, Client, Next};
use super::faults::FaultClass;
use super::process::Ticket;
use super::trace::Detail;
use super::world::{Attempt, Happening, World};
use crate::checker::{Operation, Outcome};
use crate::kv::KvStore;
use crate::node::Event;
use crate::types::NodeId;
use crate::wire::client::{Op, Read, parse};

/// What a client's connection waits longer than the node.
const CONNECTION_EXTRA_MS: u64 = 200;
/// The most that an answer of a scan may hold.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl World {
    pub fn on_turn(&mut self, number: usize) {
        let Some(client) = self.clients.get_mut(number) else { return };
        if client.is_quiet || client.open > 0 || client.is_done {
            return;
        }
        if client.behaviour != Behaviour::Probe {
            let Some(turn) = client.turns.pop_front() else { return };
            self.taken.insert(turn.number);
            client.turn = turn;
        }
        let mut chance = client.turn.chance(self.plan.seed, 0);
        let lines = client.next_lines(&mut chance);
        let any = self.plan.node_of(chance.u16(..));
        let node = client.home.unwrap_or(any);
        client.attempts = 0;
        client.open = lines.len();
        for line in lines {
            let op = parse(line.as_bytes()).expect("a simulated client's line").op;
            self.event += 1;
            let operation = self.history.push(Operation::sent(number, op, self.event));
            self.attempt(operation, 0, node, 1);
        }
    }

    /// Plans a client's next turn, if it has one.
    pub fn next_turn(&mut self, number: usize) {
        let next_ms = self.clients.get(number).and_then(Client::next_turn_ms);
        if let Some(at_ms) = next_ms {
            self.at(at_ms.max(self.now_ms + 1), Happening::Turn { client: number });
        }
    }

    fn attempt(&mut self, operation: usize, place: usize, node: NodeId, delay_ms: u64) {
        self.next_attempt += 1;
        let number = self.next_attempt;
        self.attempts.insert(number, Attempt { operation, place, node, is_over: false });
        self.after(delay_ms, Happening::Request { number });
    }

    /// A request reaches its node, if there is one.
    pub fn on_request(&mut self, number: u64) {
        let Some(Attempt { operation, node, .. }) = self.attempts.get(&number) else { return };
        let (operation, node) = (*operation, *node);
        let Some(Operation { op, client, .. }) = self.history.operations.get(operation) else { return };
        let (op, client) = (op.clone(), *client);
        self.tell(|| format!("client {client} asks {node}: #{number} {}", show(&op)));
        let is_hasty = !self.is_calm && self.plan.has(FaultClass::HastyReads);
        let Some(process) = self.process(node) else {
            self.answer(number, Outcome::NotSent);
            return;
        };
        match op {
            Op::Write(command) => {
                let ticket = Ticket { number, read: None };
                process.clients_inbox.push_back(Event::Write { command, ticket });
            }
            Op::Read { read, stale } if stale || is_hasty => {
                let outcome = serve(&process.store, &read);
                self.sometimes.saw("stale read answered");
                self.answer(number, outcome);
                return;
            }
            Op::Read { read, stale: _ } => {
                let ticket = Ticket { number, read: Some(read) };
                process.clients_inbox.push_back(Event::Read { ticket });
            }
            Op::Status | Op::Operator(_) => return,
        }
        self.wake(node);
        self.after(self.plan.request_timeout_ms + CONNECTION_EXTRA_MS, Happening::Deadline { number });
    }

    /// A client hears of an attempt, for the first time or too late.
    pub fn on_answer(&mut self, number: u64, outcome: Outcome) {
        let Some(attempt) = self.attempts.get_mut(&number).filter(|attempt| !attempt.is_over) else { return };
        attempt.is_over = true;
        let (number_of_operation, place, node) = (attempt.operation, attempt.place, attempt.node);
        let Some(operation) = self.history.operations.get_mut(number_of_operation) else { return };
        let client_number = operation.client;
        let Some(client) = self.clients.get_mut(client_number) else { return };
        self.trace.line(Detail::Timeline, self.now_ms, || {
            format!("client {client_number} hears from {node}: #{number} {outcome:?}")
        });
        self.sometimes.saw_outcome(&outcome);
        client.attempts += 1;
        let next = client.after(&operation.op, &outcome);
        operation.end(place, self.event, outcome);
        match next {
            Next::Again => {
                let mut chance = client.turn.chance(self.plan.seed, client.attempts);
                let other = self.plan.node_of(chance.u16(..));
                let place = operation.send_again(self.event);
                self.attempt(number_of_operation, place, other, chance.u64(5..=100));
            }
            Next::Over => {
                client.open -= 1;
                if client.open == 0 {
                    self.next_turn(client_number);
                }
            }
        }
    }
}

fn show(op: &Op) -> String {
    match op {
        Op::Write(command) => command.text().to_owned(),
        Op::Read { read, stale } => format!("{read:?}{}", if *stale { " stale" } else { "" }),
        Op::Status => "status".to_owned(),
        Op::Operator(op) => format!("{op:?}"),
    }
}

/// What a store answers to a read.
pub(super) fn serve(store: &KvStore, read: &Read) -> Outcome {
    let index = store.last_applied();
    match read {
        Read::Get { key } => Outcome::Got { value: store.get(key).cloned(), index },
        Read::Scan { prefix, after, limit } => {
            let page = store.scan(prefix, after.as_deref(), *limit, MAX_ANSWER_BYTES);
            Outcome::Scanned { page, index }
        }
    }
}
