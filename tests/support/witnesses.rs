//! Clients on the same few keys, which write down what they ask and what they are told; then it is judged
//! whether all of it can be true of one store that does one thing after the other.
//!
//! They number their writes and send each again, to one node after the other, until it is done. A write that
//! is lost, or done twice, leaves an answer that no order explains.

use super::client::Line;
use raftkv::checker::{DEFAULT_BUDGET_STEPS, History, Operation, Outcome, Verdict, check_by_search};
use raftkv::wire::client::{Request, parse};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Keys in use at a time.
const KEYS: usize = 4;
/// After so many of its operations a client goes on to other keys, so that no key's story grows without end.
const KEYS_LAST: usize = 100;
/// How long a client waits for one node.
const PATIENCE: Duration = Duration::from_secs(5);

/// The clients. They end when this is dropped, also when a test fails.
pub struct Witnesses {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<History>>,
}

impl Witnesses {
    /// Starts some, each of which begins with another node of these.
    pub fn start(name: &str, count: usize, addresses: &[String]) -> Witnesses {
        let stop = Arc::new(AtomicBool::new(false));
        let clock = Instant::now();
        let threads = (0..count).map(|number| {
            let witness = Witness {
                number,
                name: format!("{name}-{number}"),
                addresses: addresses.to_vec(),
                node: number % addresses.len(),
                line: None,
                clock,
                stop: Arc::clone(&stop),
                history: History::default(),
            };
            thread::spawn(move || witness.work())
        });
        Witnesses { threads: threads.collect(), stop }
    }

    /// Ends them and judges what they were told.
    pub fn judge(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for thread in self.threads.drain(..) {
            history.extend(thread.join().expect("a witness without trouble"));
        }
        let answered = history.operations.iter().filter(|operation| operation.answered().is_some()).count();
        assert!(answered > 100, "there is little to judge: {answered} answers");
        match check_by_search(&history, DEFAULT_BUDGET_STEPS) {
            Ok(Verdict::Linearizable { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Witness {
    number: usize,
    name: String,
    addresses: Vec<String>,
    node: usize,
    line: Option<Line>,
    clock: Instant,
    stop: Arc<AtomicBool>,
    history: History,
}

impl Witness {
    fn work(mut self) -> History {
        let mut chance = fastrand::Rng::with_seed(self.number as u64);
        let (mut seq, mut asked) = (0, 0);
        let mut last = Value::Null;
        while !self.stop.load(Ordering::Relaxed) {
            asked += 1;
            let key = format!("hot-{}-{}", asked / KEYS_LAST, chance.usize(0..KEYS));
            let value = json!(format!("{}-{asked}", self.name));
            let mut request = match chance.u8(0..10) {
                0..4 => json!({ "op": "get", "key": key }),
                4..7 => json!({ "op": "set", "key": key, "value": value }),
                7..9 => json!({ "op": "cas", "key": key, "expect": last, "value": value }),
                _ => json!({ "op": "delete", "key": key }),
            };
            let is_write = request["op"] != "get";
            if is_write {
                seq += 1;
                request["client"] = json!(self.name);
                request["seq"] = json!(seq);
            }
            let answer = self.ask(&request, is_write);
            last = answer.map_or(Value::Null, |answer| answer["value"].clone());
        }
        self.history
    }

    /// A write is asked for until it is done or everything is over; a read once.
    fn ask(&mut self, request: &Value, is_write: bool) -> Option<Value> {
        let parsed = parse(request.to_string().as_bytes()).expect("a request as the contract has it");
        let mut place = None;
        loop {
            let answer = self.attempt(request, &parsed, &mut place);
            if answer.is_some() {
                return answer;
            }
            self.line = None;
            self.node = (self.node + 1) % self.addresses.len();
            if !is_write || self.stop.load(Ordering::Relaxed) {
                return None;
            }
            // All of them may be down: then the others get their turn.
            thread::yield_now();
        }
    }

    /// None when the answer does not tell what is true.
    fn attempt(&mut self, request: &Value, parsed: &Request, place: &mut Option<usize>) -> Option<Value> {
        if self.line.is_none() {
            self.line = Line::try_open(&self.addresses[self.node], PATIENCE).ok();
        }
        let line = self.line.as_mut()?;
        let sent = now(self.clock);
        let operations = &mut self.history.operations;
        let (number, attempt) = match *place {
            Some(number) => (number, operations[number].send_again(sent)),
            None => {
                operations.push(Operation::sent(self.number, parsed.op.clone(), sent));
                (operations.len() - 1, 0)
            }
        };
        *place = Some(number);
        let answer = line.try_send_bytes(format!("{request}\n")).and_then(|()| line.try_answer());
        let (outcome, answer) = match answer {
            Ok(Some(answer)) => {
                let outcome = Outcome::of_line(parsed, answer.to_string().as_bytes());
                (outcome.unwrap_or_else(|violation| panic!("{violation}")), Some(answer))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                (Outcome::Timeout, None)
            }
            Ok(None) | Err(_) => (Outcome::Lost, None),
        };
        let is_definite = outcome.is_definite();
        self.history.operations[number].end(attempt, now(self.clock), outcome);
        if !is_definite {
            self.line = None;
        }
        answer.filter(|_| is_definite)
    }
}

fn now(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).expect("a test of less than centuries")
}
