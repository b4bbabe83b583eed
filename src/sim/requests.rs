//! The way of a request: a turn of a client makes operations, an operation attempts, and each attempt hears
//! an answer or nothing. What comes after that is the client's own decision.

use super::clients::{Behaviour, Next};
use super::machine::Ticket;
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
        let lines = client.next_lines(number, &mut self.unique, &mut self.chance);
        let home = client.home;
        client.attempts = 0;
        client.open = lines.len();
        let node = self.pick_node(home);
        for line in lines {
            let op = parse(line.as_bytes()).expect("a simulated client's line").op;
            self.event += 1;
            let operation = self.history.push(Operation::sent(number, op, self.event));
            self.attempt(operation, 0, node, 1);
        }
    }

    /// Mostly the client's own node, else any.
    fn pick_node(&mut self, home: Option<NodeId>) -> NodeId {
        let ids = self.plan.ids();
        home.or_else(|| self.chance.choice(&ids).copied()).unwrap_or(NodeId(1))
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
        let Some(process) = self.process(node) else {
            self.answer(number, Outcome::NotSent);
            return;
        };
        match op {
            Op::Write(command) => {
                let ticket = Ticket { number, read: None };
                process.clients_inbox.push_back(Event::Write { command, ticket });
            }
            Op::Read { read, stale: true } => {
                let outcome = serve(&process.store, &read);
                self.sometimes.saw("stale read answered");
                self.answer(number, outcome);
                return;
            }
            Op::Read { read, stale: false } => {
                let ticket = Ticket { number, read: Some(read) };
                process.clients_inbox.push_back(Event::Read { ticket });
            }
            Op::Status => return,
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
                let ids = self.plan.ids();
                let other = self.chance.choice(&ids).copied().unwrap_or(node);
                let delay_ms = self.chance.u64(5..=100);
                let place = operation.send_again(self.event);
                self.attempt(number_of_operation, place, other, delay_ms);
            }
            Next::Over => {
                client.open -= 1;
                let most =
                    if client.behaviour == Behaviour::Probe { 100 } else { self.plan.rates.think_max_ms };
                let think_ms = self.chance.u64(1..=most);
                self.after(think_ms, Happening::Turn { client: client_number });
            }
        }
    }
}

fn show(op: &Op) -> String {
    match op {
        Op::Write(command) => command.text().to_owned(),
        Op::Read { read, stale } => format!("{read:?}{}", if *stale { " stale" } else { "" }),
        Op::Status => "status".to_owned(),
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
