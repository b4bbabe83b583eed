//! The clients: threads, each with a connection of its own, that ask for as long as the run lasts.
//!
//! A closed loop: every client sends, waits for the answer, sends again (with `--pipeline N`, keeps N on the
//! way), so the load follows what the cluster can do and the time of a request is not the time of a queue of
//! our own making. What that hides: while the cluster pauses, nobody asks, so a pause of a second is in the
//! percentiles as one slow request a client and not as all those that would have come meanwhile. Look at the
//! pause itself ([`super::pauses`]). The writes carry no name and are never repeated.

use super::clock::Clock;
use super::options::Options;
use super::record::{Recorder, Shared, Tally};
use super::requests::{Kind, Requests};
use crate::dial::{Answer, Connection, Nodes};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

/// How long a client that reaches no node waits before it tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// As much of a node's word on itself as is needed here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    /// Its id; every server of ours says it.
    pub node: Option<u16>,
    role: String,
    term: u64,
}

impl Status {
    pub fn leads(&self) -> bool {
        self.role == "leader"
    }
}

/// What a node at this address says of itself.
fn ask_for_status(address: &str, timeout: Duration) -> io::Result<Status> {
    let mut connection = Connection::open(address, timeout)?;
    connection.send(b"{\"op\":\"status\"}\n")?;
    Ok(serde_json::from_slice(&connection.receive()?)?)
}

/// What the nodes say of themselves, in the order of their addresses; and the place of the leader, by the
/// nodes' own word, or of the first that answers when there is none. Fails when no node answers at all.
pub(super) fn find_leader(
    addresses: &[String],
    timeout: Duration,
) -> Result<(usize, Vec<Option<Status>>), String> {
    let answers: Vec<_> = addresses.iter().map(|address| ask_for_status(address, timeout)).collect();
    let answered = answers.iter().enumerate().filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?)));
    // A leader that was cut off may still believe in an older term.
    let best = answered.max_by_key(|(at, status)| (status.leads(), status.term, Reverse(*at)));
    match best.map(|(at, _)| at) {
        Some(at) => Ok((at, answers.into_iter().map(Result::ok).collect())),
        None => {
            let why: Vec<String> = answers
                .iter()
                .zip(addresses)
                .filter_map(|(answer, address)| Some(format!("{address} ({})", answer.as_ref().err()?)))
                .collect();
            Err(format!("no node could be reached: {}", why.join(", ")))
        }
    }
}

/// The nodes in the order in which this client goes to them, when it begins with the one at `first`.
pub(super) fn nodes_from(nodes: &Nodes, first: usize) -> Vec<String> {
    let mut addresses = nodes.addresses.clone();
    addresses.rotate_left(first);
    addresses
}

/// The first of these nodes that takes a connection.
pub(super) fn connect(nodes: &[String], timeout: Duration) -> Option<Connection> {
    nodes.iter().find_map(|address| Connection::open(address, timeout).ok())
}

/// One client: a thread with a connection.
pub(super) struct Worker<'a> {
    pipeline: usize,
    /// The node to ask, and behind it those to go to when it is down.
    nodes: Vec<String>,
    timeout: Duration,
    clock: &'a Clock<'a>,
    requests: Requests,
    recorder: Recorder<'a>,
    /// What waits for an answer, and since when.
    under_way: VecDeque<(Kind, Instant)>,
}

impl<'a> Worker<'a> {
    pub fn new(
        options: &Options,
        nodes: Vec<String>,
        timeout: Duration,
        clock: &'a Clock<'a>,
        shared: &'a Shared,
        width: Duration,
    ) -> Worker<'a> {
        Worker {
            pipeline: usize::from(options.pipeline),
            nodes,
            timeout,
            clock,
            requests: Requests::new(options),
            recorder: Recorder::new(clock, shared, width),
            under_way: VecDeque::new(),
        }
    }

    /// Asks until the run is over. Returns what came of the sets and the gets.
    pub fn work(mut self) -> (Tally, Tally) {
        while !self.clock.is_over() {
            let Some(mut connection) = connect(&self.nodes, self.timeout) else {
                self.recorder.error(Kind::Set, "unreachable");
                std::thread::sleep(RETRY_PAUSE);
                continue;
            };
            if self.use_connection(&mut connection).is_err() {
                for (kind, _) in std::mem::take(&mut self.under_way) {
                    self.recorder.error(kind, "connection_lost");
                }
                // A node that hangs takes connections still, so the next one gets its turn.
                self.nodes.rotate_left(1);
            }
        }
        self.recorder.finish()
    }

    /// Asks until the run is over or the connection fails.
    fn use_connection(&mut self, connection: &mut Connection) -> io::Result<()> {
        let mut lines = String::new();
        while !self.clock.is_over() {
            lines.clear();
            while self.under_way.len() < self.pipeline {
                let kind = self.requests.push_next(&mut lines);
                self.under_way.push_back((kind, Instant::now()));
            }
            connection.send(lines.as_bytes())?;
            // All answers that are here, so that as many requests go out with the next write.
            let mut next = Some(connection.receive()?);
            while let Some(answer) = next {
                let answer = Answer::parse(&answer)?;
                if let Some((kind, since)) = self.under_way.pop_front() {
                    match answer.ok {
                        true => self.recorder.ok(kind, since.elapsed()),
                        false => self.recorder.error(kind, answer.code()),
                    }
                }
                next = if self.under_way.is_empty() { None } else { connection.received()? };
            }
        }
        Ok(())
    }
}
