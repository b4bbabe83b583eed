//! What nodes say of themselves, and what must hold of all they say together, over the whole run: no term has
//! two leaders, no node's term falls, and what was applied up to an index is the same everywhere.

use super::guests::Guest;
use super::run::Run;
use crate::dial::Connection;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a node may take before it counts as not answering.
const PATIENCE: Duration = Duration::from_millis(300);
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two lines on how it goes.
const PROGRESS: Duration = Duration::from_secs(5);

/// The part of a node's status that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    pub node: u16,
    pub role: String,
    pub term: u64,
    pub commit_index: i64,
    pub last_applied: i64,
    pub last_index: i64,
    pub applied_hash: String,
}

/// Asks all nodes how they are, over and over, on connections of its own.
#[derive(Default)]
pub(super) struct Watcher {
    connections: BTreeMap<u16, (Connection, Guest)>,
    leaders: BTreeMap<u64, u16>,
    terms: BTreeMap<u16, u64>,
    hashes: BTreeMap<i64, String>,
    highest_commit: i64,
}

impl Watcher {
    /// Watches until the run is over, and says now and then how it goes.
    pub fn watch(&mut self, run: &Run<'_>) {
        let (mut told, mut told_at) = (0, run.elapsed());
        while !run.is_over() {
            self.look(run);
            std::thread::sleep(PAUSE);
            let since = run.elapsed().saturating_sub(told_at);
            if since < PROGRESS {
                continue;
            }
            let writes = run.tally.all_writes();
            let reads = run.tally.reads.load(std::sync::atomic::Ordering::Relaxed);
            let rate = (writes + reads).saturating_sub(told) as f64 / since.as_secs_f64();
            let leader = run.leader().map_or("nobody leads".to_owned(), |node| {
                format!("n{node} leads term {}", self.terms.get(&node).copied().unwrap_or(0))
            });
            run.say(format_args!("{rate:>6.0} answers/s, {writes} writes and {reads} reads, {leader}"));
            (told, told_at) = (writes + reads, run.elapsed());
        }
    }

    /// Asks each node once.
    pub fn look(&mut self, run: &Run<'_>) {
        for (node, address) in &run.addresses {
            let status = self.ask(run, *node, *address).ok();
            if let Some(status) = &status {
                self.check(run, status);
            }
            run.saw(*node, status);
        }
    }

    fn ask(&mut self, run: &Run<'_>, node: u16, address: SocketAddr) -> io::Result<Status> {
        let (mut connection, guest) = match self.connections.remove(&node) {
            Some(open) => open,
            None => {
                let guest = run.guests.enter(node);
                (Connection::open(&address.to_string(), PATIENCE)?, guest)
            }
        };
        connection.send(b"{\"op\":\"status\"}\n")?;
        let status: Status = serde_json::from_slice(&connection.receive()?)?;
        self.connections.insert(node, (connection, guest));
        Ok(status)
    }

    fn check(&mut self, run: &Run<'_>, status: &Status) {
        let Status { node, term, last_applied, applied_hash, .. } = status;
        if status.role == "leader" {
            let leader = *self.leaders.entry(*term).or_insert(*node);
            if leader != *node {
                run.finding(format_args!("P1: n{leader} and n{node} lead term {term}"));
            }
        }
        let highest = self.terms.entry(*node).or_insert(*term);
        if *highest > *term {
            run.finding(format_args!("P6: n{node} was in term {highest} and is in term {term}"));
        }
        *highest = *term;
        let known = self.hashes.entry(*last_applied).or_insert_with(|| applied_hash.clone());
        if known != applied_hash {
            run.finding(format_args!("P15: two histories up to index {last_applied}: {known}, {status:?}"));
        }
        self.highest_commit = self.highest_commit.max(status.commit_index);
    }

    /// The highest index that any node called committed.
    pub fn highest_commit(&self) -> i64 {
        self.highest_commit
    }

    /// The hash at each index at which a node was seen.
    pub fn hashes(&self) -> &BTreeMap<i64, String> {
        &self.hashes
    }

    /// Who led each term, as far as it was seen.
    pub fn terms_led(&self) -> usize {
        self.leaders.len()
    }
}
