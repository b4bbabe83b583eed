//! What an operator wants, carried out: the node that leads is found, whichever nodes are known at first, and
//! a change of members is followed until it is finished.
//!
//! ```text
//!   add 4 ...   find who leads ──> change ──> learner catches up ──> joint ──> done
//!                    ^                │               │                │
//!                    └── not_leader, or no answer ────┴── members, again and again
//! ```
//!
//! The leader does all of it by itself once the first step is in its log; whoever waits here only looks.

use super::backup;
use super::connection::{Cluster, Failure, local_answer};
use super::operator_words::{Change, Wish};
use crate::dial::Answer;
use indicatif::ProgressBar;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// After so many of a request's timeouts without a step forward, a change counts as stuck.
const PATIENCE: u32 = 8;

const MEMBERS: &str = r#"{"op":"members"}"#;

/// Carries out a wish, and gives one line of answer.
pub(super) fn grant(cluster: &mut Cluster, wish: &Wish) -> Result<String, Failure> {
    match wish {
        Wish::Members => {
            let line = cluster.ask_any(MEMBERS)?;
            Members::read(&line).iter().for_each(|members| members.teach(cluster));
            Ok(line)
        }
        Wish::Snapshot => cluster.ask_any(r#"{"op":"snapshot"}"#),
        Wish::Transfer(heir) => {
            let to = heir.map_or_else(String::new, |heir| format!(",\"to\":{heir}"));
            ask_leader(cluster, &format!("{{\"op\":\"transfer\"{to}}}"))
        }
        Wish::Change(change) => change_members(cluster, change),
        Wish::Backup(file) => backup::backup(cluster, file),
    }
}

/// As much of the answer to `members` as is needed here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Members {
    node: u16,
    leader: Option<u16>,
    index: i64,
    committed: bool,
    voters: BTreeSet<u16>,
    outgoing: BTreeSet<u16>,
    learners: BTreeSet<u16>,
    next_voters: BTreeSet<u16>,
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Address {
    id: u16,
    client: String,
}

impl Members {
    /// None when it is no such answer.
    fn read(line: &str) -> Option<Members> {
        serde_json::from_str(line).ok()
    }

    /// The client learns where the members are: `cluster.toml` names those of the first day.
    fn teach(&self, cluster: &mut Cluster) {
        for Address { client, .. } in &self.addresses {
            cluster.learn(client);
        }
    }

    fn address_of_leader(&self) -> Option<&String> {
        let is_leader = |address: &&Address| Some(address.id) == self.leader;
        self.addresses.iter().find(is_leader).map(|address| &address.client)
    }

    /// How far this change is.
    fn stage_of(&self, change: &Change) -> Stage {
        let is_going_on = !self.outgoing.is_empty() || !self.next_voters.is_empty();
        let voters = if self.next_voters.is_empty() { &self.voters } else { &self.next_voters };
        let is_wanted = change.add.iter().all(|member| voters.contains(&member.id))
            && change.remove.iter().all(|id| !voters.contains(id));
        match (is_wanted, is_going_on) {
            (false, _) => Stage::Absent,
            (true, true) => Stage::UnderWay,
            (true, false) if change.remove.iter().any(|id| self.learners.contains(id)) => Stage::Absent,
            (true, false) if !self.committed => Stage::UnderWay,
            (true, false) => Stage::Done,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Absent,
    UnderWay,
    Done,
}

/// Finds the node that leads, by its own word, and where it is. Learns on the way who belongs to the cluster.
/// An election under way is waited for, as long as for a request.
fn find_leader(cluster: &mut Cluster) -> Result<(String, String, Members), Failure> {
    let deadline = Instant::now() + cluster.timeout();
    loop {
        let mut to_ask = cluster.addresses_in_turn();
        let mut asked = BTreeSet::new();
        let mut silent = Vec::new();
        while let Some(address) = to_ask.pop_front() {
            if !asked.insert(address.clone()) {
                continue;
            }
            let line = match cluster.ask_at(&address, MEMBERS) {
                Ok((line, _)) => line,
                Err(failure) => {
                    silent.push(failure.message().to_owned());
                    continue;
                }
            };
            let Some(members) = Members::read(&line) else { continue };
            members.teach(cluster);
            if members.leader == Some(members.node) {
                return Ok((address, line, members));
            }
            to_ask.extend(members.addresses.iter().map(|address| address.client.clone()));
            if let Some(leader) = members.address_of_leader() {
                to_ask.push_front(leader.clone());
            }
        }
        if Instant::now() >= deadline {
            let silent = if silent.is_empty() { String::new() } else { format!(": {}", silent.join(", ")) };
            return Err(Failure::Unreachable(format!("no node leads that could be asked{silent}")));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a node that answered so has done nothing and would do it, or another one would, a moment later.
fn is_worth_another_try(answer: &Answer) -> bool {
    matches!(answer.code(), "not_leader" | "busy" | "unavailable")
}

/// Asks whoever leads. What may have been done is not asked for again.
fn ask_leader(cluster: &mut Cluster, line: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + cluster.timeout();
    loop {
        let (address, _, _) = find_leader(cluster)?;
        match cluster.ask_at(&address, line) {
            Ok((_, answer)) if is_worth_another_try(&answer) && Instant::now() < deadline => {}
            Ok((line, _)) => return Ok(line),
            Err(Failure::Unreachable(_)) if Instant::now() < deadline => {}
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether the cluster has taken a change up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    No,
    /// It was asked to, and its answer was lost.
    Perhaps,
    Yes,
}

/// Asks for a change until it is begun, and waits until it is finished. The answer is the leader's word on
/// who belongs to the cluster then.
fn change_members(cluster: &mut Cluster, change: &Change) -> Result<String, Failure> {
    let request = format!("{{\"op\":\"change\",{}", &change.json()[1..]);
    let mut begun = Begun::No;
    let mut watch = Watch::begin(cluster.timeout() * PATIENCE);
    loop {
        let found = find_leader(cluster);
        let (address, line, members) = match found {
            Ok(found) => found,
            Err(failure) if begun == Begun::No => return Err(failure),
            // The cluster may be between two leaders for longer than a request waits.
            Err(failure) if watch.is_stuck() => return Ok(watch.unfinished(change, failure.message())),
            Err(_) => continue,
        };
        match (begun, members.stage_of(change)) {
            (Begun::Yes | Begun::Perhaps, Stage::Done) => return Ok(line),
            (Begun::Yes | Begun::Perhaps, Stage::UnderWay) => {
                begun = Begun::Yes;
                let progress = progress_at(cluster, &address);
                watch.look(change, &members, &progress);
                if watch.is_stuck() {
                    return Ok(watch.unfinished(change, &watch.last));
                }
            }
            (Begun::Yes, Stage::Absent) => {
                let why = "the change was begun, and another one has taken it back";
                return Ok(local_answer(None, "unfinished", why));
            }
            (Begun::No, _) | (Begun::Perhaps, Stage::Absent) => match cluster.ask_at(&address, &request) {
                Ok((_, answer)) if answer.ok => begun = Begun::Yes,
                Ok((_, answer)) if answer.code() == "timeout" => begun = Begun::Perhaps,
                Ok((_, answer)) if is_worth_another_try(&answer) && !watch.is_stuck() => {}
                Ok((line, _)) => return Ok(line),
                Err(Failure::Lost(_)) => begun = Begun::Perhaps,
                Err(_) if !watch.is_stuck() => {}
                Err(failure) => return Err(failure),
            },
        }
        std::thread::sleep(PAUSE);
    }
}

impl Change {
    fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text")
    }
}

/// What a leader says of the others' logs, and whether it has a connection to them.
#[derive(Debug, Default, Deserialize)]
struct Progress {
    last_index: i64,
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    id: u16,
    match_index: i64,
    connected: bool,
}

/// Nothing of it is needed: who leads may have changed again.
fn progress_at(cluster: &mut Cluster, address: &str) -> Progress {
    let answered = cluster.ask_at(address, r#"{"op":"status"}"#);
    answered.ok().and_then(|(line, _)| serde_json::from_str(&line).ok()).unwrap_or_default()
}

/// Shows how a change gets on, on standard error if that is a terminal, and notices when it does not.
struct Watch {
    bar: ProgressBar,
    patience: Duration,
    /// What was seen last, in words, and what in it counts as a step forward, since when.
    last: String,
    steps: (i64, BTreeMap<u16, i64>),
    since: Instant,
    is_joint: bool,
}

impl Watch {
    fn begin(patience: Duration) -> Watch {
        let (bar, since) = (ProgressBar::new_spinner(), Instant::now());
        let last = "nothing was heard of it since".to_owned();
        Watch { bar, patience, last, steps: (-1, BTreeMap::new()), since, is_joint: false }
    }

    fn look(&mut self, change: &Change, members: &Members, progress: &Progress) {
        let is_new = |peer: &&Peer| change.add.iter().any(|member| member.id == peer.id);
        let new: Vec<&Peer> = progress.peers.iter().filter(is_new).collect();
        let steps = (members.index, new.iter().map(|peer| (peer.id, peer.match_index)).collect());
        if steps != self.steps {
            (self.steps, self.since) = (steps, Instant::now());
        }
        self.is_joint = !members.outgoing.is_empty();
        self.last = if self.is_joint {
            "the old voters and the new ones decide together".to_owned()
        } else {
            let of = |peer: &&Peer| match peer.connected {
                true => {
                    format!("node {} has {} of {}", peer.id, peer.match_index + 1, progress.last_index + 1)
                }
                false => format!("node {} is not there", peer.id),
            };
            new.iter().map(of).collect::<Vec<String>>().join(", ")
        };
        self.bar.set_message(self.last.clone());
        self.bar.tick();
    }

    fn is_stuck(&self) -> bool {
        self.since.elapsed() >= self.patience
    }

    fn unfinished(&self, change: &Change, why: &str) -> String {
        let ids: Vec<String> = change.add.iter().map(|member| member.id.to_string()).collect();
        let way_back = match (self.is_joint, ids.as_slice()) {
            (true, _) | (_, []) => "it goes on by itself once a majority of them is there".to_owned(),
            (false, ids) => {
                format!("it goes on once they are there; to take it back: remove {}", ids.join(" "))
            }
        };
        let seconds = self.patience.as_secs_f64();
        let why = format!("the change is begun, and has not got on for {seconds} s: {why}; {way_back}");
        local_answer(None, "unfinished", &why)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::operator_words::NewMember;

    fn members(voters: &[u16], outgoing: &[u16], learners: &[u16], next_voters: &[u16]) -> Members {
        let set = |ids: &[u16]| ids.iter().copied().collect();
        Members {
            node: 1,
            leader: Some(1),
            index: 7,
            committed: true,
            voters: set(voters),
            outgoing: set(outgoing),
            learners: set(learners),
            next_voters: set(next_voters),
            addresses: Vec::new(),
        }
    }

    #[test]
    fn a_change_is_finished_when_its_last_step_is_committed() {
        let four = NewMember { id: 4, peer: "h:1".to_owned(), client: "h:2".to_owned() };
        let change = Change { add: vec![four], remove: vec![3] };
        for (members, expected) in [
            (members(&[1, 2, 3], &[], &[], &[]), Stage::Absent),
            (members(&[1, 2, 3], &[], &[4], &[1, 2, 4]), Stage::UnderWay),
            (members(&[1, 2, 4], &[1, 2, 3], &[], &[]), Stage::UnderWay),
            (Members { committed: false, ..members(&[1, 2, 4], &[], &[], &[]) }, Stage::UnderWay),
            (members(&[1, 2, 4], &[], &[], &[]), Stage::Done),
            // Another change is under way.
            (members(&[1, 2, 3], &[], &[5], &[1, 2, 3, 5]), Stage::Absent),
        ] {
            assert_eq!(members.stage_of(&change), expected, "{members:?}");
        }
    }

    #[test]
    fn a_change_that_takes_a_learner_back_is_finished_when_it_is_gone() {
        let change = Change { add: Vec::new(), remove: vec![4] };
        assert_eq!(members(&[1, 2, 3], &[], &[4], &[1, 2, 3, 4]).stage_of(&change), Stage::Absent);
        assert_eq!(members(&[1, 2, 3], &[], &[4], &[]).stage_of(&change), Stage::Absent);
        assert_eq!(members(&[1, 2, 3], &[], &[], &[]).stage_of(&change), Stage::Done);
    }
}
