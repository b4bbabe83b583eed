//! Stores that come to different things after the same entries: the node that went wrong ends, soon, and says
//! where; the others go on. Once with an application that is not deterministic, in ticks that are counted,
//! and once with real processes and a log that was changed on disk so that its checksum agrees.

mod support;

use raftkv::kv::{Applied, KvStore};
use raftkv::node::{
    Apply, Event, Fault, LogLimits, Node, NodeSettings, OperationOutcome, Rejection, Rim, TurnedAway, Work,
};
use raftkv::raft::{Configuration, Log, Note, RaftState, RoleName, Settings, Start};
use raftkv::storage::{FirstStart, MemoryDisk, Opening, SegmentSizes, Storage, Unsound};
use raftkv::types::{Command, Entry, EntryId, Incarnation, NodeId, Term};
use raftkv::wire::peer::Envelope;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use support::{Cluster, Signal, code, wait_until};

/// Ticks of 10 ms: what a second is.
const SECOND_TICKS: u32 = 100;

/// What a node has done since it was looked at.
#[derive(Default)]
struct Outbox {
    sent: Vec<Envelope>,
    work: Option<Apply<()>>,
}

impl Rim<()> for Outbox {
    fn send(&mut self, envelope: Envelope) {
        self.sent.push(envelope);
    }

    fn work(&mut self, work: Work<()>) {
        match work {
            Work::Apply(apply) => self.work = Some(apply),
            Work::Install(install) => panic!("no log is ever compacted here: {install:?}"),
        }
    }

    fn reject(&mut self, (): (), rejection: Rejection) {
        panic!("nobody is rejected here: {rejection:?}");
    }

    fn settle(&mut self, (): (), outcome: OperationOutcome) {
        panic!("nobody operates here: {outcome:?}");
    }

    fn members(&mut self, _configuration: &Configuration, _is_committed: bool) {}

    fn turn_away(&mut self, why: &TurnedAway) {
        panic!("nobody has another folder here: {why}");
    }

    fn unsound(&mut self, snapshot: EntryId, unsound: &Unsound) {
        panic!("no snapshot is sent here: {snapshot} {unsound:?}");
    }

    fn note(&mut self, _event: u64, _term: Term, _note: &Note) {}
}

/// A node with its application, which may go wrong.
struct Member {
    node: Node<MemoryDisk, ()>,
    store: KvStore,
    hashes: Vec<u64>,
    inbox: Vec<Envelope>,
    goes_wrong: bool,
}

impl Member {
    fn start(id: NodeId, voters: &[NodeId]) -> Member {
        let opening = Opening {
            cluster: "test".to_owned(),
            node: id,
            voters: voters.to_vec(),
            first_start: FirstStart::Bootstrap,
            incarnation: Incarnation(u64::from(id.0)),
            segment_sizes: SegmentSizes::default(),
        };
        let (mut storage, recovered) = Storage::open(MemoryDisk::new(), &opening).expect("a sound disk");
        let boot = storage.raise_boot().expect("a sound disk");
        let start = Start {
            id,
            boot,
            configuration: Configuration::new(voters.iter().copied()),
            may_vote: true,
            hard_state: recovered.hard_state,
            log: Log::new(recovered.base, recovered.entries),
            seed: u64::from(id.0),
        };
        // The server's times, in its ticks of 10 ms.
        let settings = Settings {
            heartbeat_ticks: 5,
            election_timeout_min_ticks: 30,
            election_timeout_max_ticks: 60,
            max_append_entries: 100,
            max_append_bytes: 1 << 20,
            max_in_flight_messages: 8,
            max_in_flight_bytes: 1 << 20,
            max_uncommitted_bytes: 1 << 20,
            max_forwarded_bytes: 1 << 20,
        };
        let limits = NodeSettings {
            request_timeout_ticks: 500,
            max_waiting: 100,
            max_work_bytes: 1 << 20,
            max_chunk_bytes: 1 << 20,
            log_limits: LogLimits { bytes: u64::MAX, entries: u64::MAX },
        };
        let node = Node::new(RaftState::new(start, settings), boot, storage, limits);
        Member { node, store: KvStore::new(), hashes: Vec::new(), inbox: Vec::new(), goes_wrong: false }
    }

    /// One batch, and what the application makes of its work. Returns what is to be sent.
    fn run(&mut self, events: Vec<Event<()>>) -> Result<Vec<Envelope>, Fault> {
        let mut outbox = Outbox::default();
        for envelope in std::mem::take(&mut self.inbox) {
            self.node.take(Event::Peer(envelope), &mut outbox);
        }
        events.into_iter().for_each(|event| self.node.take(event, &mut outbox));
        self.node.finish_batch(&mut outbox)?;
        if let Some(work) = outbox.work.take() {
            for (entry, _) in work.entries {
                self.apply(entry);
            }
            let poll = self.poll();
            self.node.take(poll, &mut outbox);
            self.node.finish_batch(&mut outbox)?;
        }
        Ok(outbox.sent)
    }

    /// The planted fault: what this application stores depends on something that is not in the log.
    fn apply(&mut self, entry: Entry) {
        let text = entry.command.text().replace("right", if self.goes_wrong { "wrong" } else { "right" });
        let entry = Entry { command: Command::from_json(text).expect("JSON"), ..entry };
        assert!(matches!(self.store.apply(&entry), Applied::Done(_)));
        self.hashes.push(self.store.applied_hash());
    }

    fn poll(&mut self) -> Event<()> {
        let applied_hashes = std::mem::take(&mut self.hashes);
        Event::Poll { last_applied: self.store.last_applied(), applied_hashes }
    }
}

/// A cluster whose messages take no time. Nodes that ended are gone from it.
struct Members {
    members: BTreeMap<NodeId, Member>,
    ended: BTreeMap<NodeId, (u32, String)>,
    now_tick: u32,
}

impl Members {
    /// So many nodes, one of which leads, with something in their stores.
    fn start(count: u16) -> Members {
        let voters: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let members = voters.iter().map(|id| (*id, Member::start(*id, &voters))).collect();
        let mut cluster = Members { members, ended: BTreeMap::new(), now_tick: 0 };
        for id in voters {
            let poll = cluster.members.get_mut(&id).expect("it runs").poll();
            cluster.run(id, vec![poll]);
        }
        (0..10 * SECOND_TICKS).for_each(|_| cluster.tick());
        cluster.write("before");
        (0..SECOND_TICKS).for_each(|_| cluster.tick());
        assert!(cluster.ended.is_empty(), "equal stores: {:?}", cluster.ended);
        cluster
    }

    fn leader(&self) -> NodeId {
        let leads = |(_, member): &(&NodeId, &Member)| member.node.raft().role() == RoleName::Leader;
        *self.members.iter().find(leads).expect("a leader").0
    }

    fn followers(&self) -> Vec<NodeId> {
        let leader = self.leader();
        self.members.keys().copied().filter(|id| *id != leader).collect()
    }

    fn write(&mut self, value: &str) {
        let command = format!(r#"{{"op":"set","key":"x","value":"{value}"}}"#);
        let command = Command::from_json(command).expect("JSON");
        self.run(self.leader(), vec![Event::Write { command, ticket: () }]);
    }

    fn tick(&mut self) {
        self.now_tick += 1;
        let ids: Vec<NodeId> = self.members.keys().copied().collect();
        ids.into_iter().for_each(|id| self.run(id, vec![Event::Tick]));
    }

    /// A batch of one node, and all that follows from it.
    fn run(&mut self, id: NodeId, events: Vec<Event<()>>) {
        let Some(member) = self.members.get_mut(&id) else { return };
        match member.run(events) {
            Ok(sent) => {
                for envelope in sent {
                    let to = envelope.message.to;
                    if let Some(peer) = self.members.get_mut(&to) {
                        peer.inbox.push(envelope);
                        self.run(to, Vec::new());
                    }
                }
            }
            Err(fault) => {
                assert!(matches!(fault, Fault::Diverged(_)), "{fault}");
                self.members.remove(&id);
                self.ended.insert(id, (self.now_tick, fault.to_string()));
            }
        }
    }

    /// These nodes' applications go wrong at the next write. Within a second, these nodes have ended, for a
    /// reason that says so, and nobody else ever does.
    fn ends(mut self, wrong: &[NodeId], expected: &[NodeId], says: &str) {
        for id in wrong {
            self.members.get_mut(id).expect("it runs").goes_wrong = true;
        }
        let index = self.members[&self.leader()].store.last_applied().0 + 1;
        self.write("right");
        let began_tick = self.now_tick;
        (0..10 * SECOND_TICKS).for_each(|_| self.tick());
        let ended: Vec<NodeId> = self.ended.keys().copied().collect();
        assert_eq!(ended, expected, "{:?}", self.ended);
        for (end_tick, why) in self.ended.values() {
            assert!(end_tick - began_tick <= SECOND_TICKS, "after {} ticks: {why}", end_tick - began_tick);
            assert!(why.contains(&format!("after the entry at index {index} its applied_hash is ")), "{why}");
            assert!(why.contains(&format!("they last agreed after entry {}@", index - 1)), "{why}");
            assert!(why.contains(says), "{why}");
        }
        if !self.members.is_empty() {
            self.write("after");
            (0..SECOND_TICKS).for_each(|_| self.tick());
            let values = self.members.values().map(|member| member.store.get("x").map(AsRef::as_ref));
            assert!(values.into_iter().all(|value| value == Some(r#""after""#)), "the others go on");
        }
    }
}

#[test]
fn a_follower_whose_application_goes_wrong_ends_within_a_second() {
    for nodes in [3, 4, 5] {
        let cluster = Members::start(nodes);
        let wrong = cluster.followers()[0];
        cluster.ends(&[wrong], &[wrong], "cannot be trusted");
    }
}

#[test]
fn a_leader_whose_application_goes_wrong_ends_within_a_second() {
    for nodes in [3, 4, 5] {
        let cluster = Members::start(nodes);
        let wrong = cluster.leader();
        cluster.ends(&[wrong], &[wrong], "cannot be trusted");
    }
}

#[test]
fn a_minority_that_goes_wrong_in_the_same_way_ends() {
    let cluster = Members::start(5);
    let wrong = [cluster.leader(), cluster.followers()[1]];
    let mut expected = wrong.to_vec();
    expected.sort();
    cluster.ends(&wrong, &expected, "cannot be trusted");
}

#[test]
fn without_a_majority_everybody_who_differs_ends_within_a_second() {
    let cluster = Members::start(2);
    let (leader, follower) = (cluster.leader(), cluster.followers()[0]);
    let mut both = vec![leader, follower];
    both.sort();
    cluster.ends(&[follower], &both, "no majority tells whose store can be trusted");
}

/// Changes a text in the records of a log, and their checksums with it.
fn forge(data_dir: &Path, from: &str, to: &str) -> usize {
    let mut forged = 0;
    for file in fs::read_dir(data_dir).expect("the node's folder").map(|file| file.expect("a file").path()) {
        if !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            continue;
        }
        let mut text = String::new();
        for line in fs::read_to_string(&file).expect("text").lines() {
            // {"crc":"xxxxxxxx" is followed by what it covers, the newline included.
            let changed = line.replace(from, to);
            let crc = crc32fast::hash(format!("{}\n", &changed[17..]).as_bytes());
            if changed != line {
                forged += 1;
                text += &format!("{{\"crc\":\"{crc:08x}\"{}\n", &changed[17..]);
            } else {
                text += &format!("{line}\n");
            }
        }
        fs::write(&file, text).expect("the file");
    }
    forged
}

#[test]
fn a_node_whose_log_was_changed_on_disk_ends_and_the_others_go_on() {
    let mut cluster = Cluster::start(3);
    let (follower, leader) = cluster.follower_and_leader();
    let set = |value: &str| json!({ "op": "set", "key": "x", "value": value });
    let mut line = cluster.connect(leader);
    assert_eq!(code(&line.ask(set("before"))), "ok");
    let index = line.ask(set("blue"))["index"].as_i64().expect("an index");
    wait_until("the follower has it", || {
        let status = cluster.status(follower)?;
        (status["last_applied"].as_i64()? >= index).then_some(())
    });
    cluster.stop(follower, Signal::SIGTERM);
    assert_eq!(forge(&cluster.data_dir(follower), "\"blue\"", "\"grey\""), 1);
    cluster.restart(follower);
    let log = cluster.wait_for_fault(follower);
    let says = format!("n{follower} has diverged: after the entry at index ");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.contains(&says) && last.contains("cannot be trusted"), "its last line says why: {log}");
    assert_eq!(code(&line.ask(set("green"))), "ok");
    cluster.others(follower).into_iter().for_each(|id| assert!(cluster.status(id).is_some(), "n{id} serves"));
}
