//! The exercise that this project began as, in its own words: several servers; the leader communicates with
//! all of its followers; their AppendEntriesResponses together advance its `commit_index`, which begins at
//! -1; followers advance theirs only when the leader tells them by AppendEntries; `last_applied` never passes
//! `commit_index`; and a `set()` is visible to `get()` only once it is committed and applied.
//!
//! No disk and no network here: an output's save is taken to be done at once, and messages wait in a queue
//! until the test delivers them. The golden scripts are where those go wrong.

use raftkv::raft::{Body, Configuration, HardState, Input, Log, Message, Output, RaftState, RoleName};
use raftkv::raft::{Settings, Start};
use raftkv::types::{Command, EntryId, Index, NodeId, RequestId};
use std::collections::{BTreeMap, VecDeque};

const LEADER: NodeId = NodeId(1);

/// A server of the exercise: the consensus, and a key-value store that applies what is committed.
struct Server {
    raft: RaftState,
    store: BTreeMap<String, String>,
}

impl Server {
    fn get(&self, key: &str) -> Option<&str> {
        self.store.get(key).map(String::as_str)
    }

    fn commit_index(&self) -> i64 {
        self.raft.commit_index().0
    }

    fn last_applied(&self) -> i64 {
        self.raft.last_applied().0
    }
}

struct Cluster {
    servers: BTreeMap<NodeId, Server>,
    under_way: VecDeque<Message>,
    requests: u64,
}

impl Cluster {
    fn new(count: u16) -> Cluster {
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let server = |id: NodeId| {
            let start = Start {
                id,
                boot: 1,
                configuration: Configuration::new(ids.iter().copied()),
                may_vote: true,
                hard_state: HardState::default(),
                log: Log::new(EntryId::NONE, Vec::new()),
                seed: u64::from(id.0),
            };
            Server { raft: RaftState::new(start, settings()), store: BTreeMap::new() }
        };
        let servers = ids.iter().map(|id| (*id, server(*id))).collect();
        Cluster { servers, under_way: VecDeque::new(), requests: 0 }
    }

    /// Servers of which the first leads: its election timeout elapses, and the others vote.
    fn with_a_leader(count: u16) -> Cluster {
        let mut cluster = Cluster::new(count);
        for _ in 0..settings().election_timeout_max_ticks {
            cluster.step(LEADER, Input::Tick);
            cluster.deliver_everything();
        }
        assert_eq!(cluster.server(LEADER).raft.role(), RoleName::Leader);
        cluster
    }

    fn server(&self, id: NodeId) -> &Server {
        &self.servers[&id]
    }

    fn leader(&self) -> &Server {
        self.server(LEADER)
    }

    fn followers(&self) -> impl Iterator<Item = &Server> {
        self.servers.values().filter(|server| server.raft.id() != LEADER)
    }

    fn step(&mut self, id: NodeId, input: Input) {
        let server = self.servers.get_mut(&id).expect("a server of this cluster");
        let mut output = Output::default();
        server.raft.step(input, &mut output);
        server.raft.step(Input::BatchEnd, &mut output);
        let (term, last) = (server.raft.term(), server.raft.log().last());
        server.raft.step(Input::Saved { term, last }, &mut output);
        server.raft.step(Input::BatchEnd, &mut output);
        assert!(server.last_applied() <= server.commit_index(), "last_applied never passes commit_index");
        self.under_way.extend(output.now);
        self.under_way.extend(output.after_save);
    }

    fn set(&mut self, id: NodeId, key: &str, value: &str) {
        let request = RequestId { node: id, boot: 1, number: self.requests };
        self.requests += 1;
        let command = serde_json::json!({"op": "set", "key": key, "value": value}).to_string();
        let command = Command::from_json(command).expect("one line of JSON");
        self.step(id, Input::Propose { request, command });
    }

    /// The application of one server catches up with its `commit_index`.
    fn apply(&mut self, id: NodeId) {
        let server = self.servers.get_mut(&id).expect("a server of this cluster");
        let commit_index = server.raft.commit_index();
        let mut index = server.raft.last_applied();
        while index < commit_index {
            index = index.next();
            let entry = server.raft.log().get(index).expect("what is committed is in the log");
            let command: serde_json::Value = serde_json::from_str(entry.command.text()).expect("JSON");
            if let (Some(key), Some(value)) = (command["key"].as_str(), command["value"].as_str()) {
                server.store.insert(key.to_owned(), value.to_owned());
            }
        }
        self.step(id, Input::Applied { index });
    }

    /// Delivers what is under way now and `is_meant`, but not what comes of it. Says how many that were.
    fn deliver(&mut self, is_meant: impl Fn(&Message) -> bool) -> usize {
        let (meant, others) = std::mem::take(&mut self.under_way).into_iter().partition(is_meant);
        self.under_way = others;
        let meant: VecDeque<Message> = meant;
        let count = meant.len();
        meant.into_iter().for_each(|message| self.step(message.to, Input::Message(message)));
        count
    }

    fn deliver_everything(&mut self) {
        while self.deliver(|_| true) > 0 {}
    }
}

fn settings() -> Settings {
    Settings {
        heartbeat_ticks: 3,
        election_timeout_min_ticks: 10,
        election_timeout_max_ticks: 20,
        max_append_entries: 100,
        max_append_bytes: 1 << 20,
        max_in_flight_messages: 8,
        max_in_flight_bytes: 1 << 20,
        max_uncommitted_bytes: 1 << 20,
        max_forwarded_bytes: 1 << 20,
    }
}

fn is_append_entries(message: &Message) -> bool {
    matches!(message.body, Body::AppendEntries(_))
}

fn is_response_from(id: u16) -> impl Fn(&Message) -> bool {
    move |message| message.from == NodeId(id) && matches!(message.body, Body::AppendEntriesResponse(_))
}

#[test]
fn a_fresh_server_has_committed_and_applied_nothing() {
    for server in Cluster::new(5).servers.values() {
        assert_eq!((server.commit_index(), server.last_applied()), (-1, -1));
        assert_eq!(server.raft.log().last(), EntryId::NONE);
        assert_eq!(server.get("x"), None);
    }
}

#[test]
fn the_leader_communicates_with_all_of_its_followers() {
    let mut cluster = Cluster::with_a_leader(5);
    cluster.set(LEADER, "x", "1");
    let receivers: Vec<u16> = cluster
        .under_way
        .iter()
        .filter(|message| is_append_entries(message) && message.from == LEADER)
        .map(|message| message.to.0)
        .collect();
    assert_eq!(receivers, [2, 3, 4, 5]);
    cluster.deliver(is_append_entries);
    for follower in cluster.followers() {
        assert_eq!(follower.raft.log().last(), cluster.leader().raft.log().last());
    }
}

#[test]
fn the_followers_responses_together_advance_the_leaders_commit_index() {
    let mut cluster = Cluster::with_a_leader(5);
    let before = cluster.leader().commit_index();
    cluster.set(LEADER, "x", "1");
    let index = cluster.leader().raft.log().last().index;
    assert_eq!(cluster.leader().commit_index(), before, "the leader alone is no majority");

    cluster.deliver(is_append_entries);
    assert_eq!(cluster.deliver(is_response_from(4)), 1);
    assert_eq!(cluster.leader().commit_index(), before, "two of five are no majority");
    assert_eq!(cluster.deliver(is_response_from(2)), 1);
    assert_eq!(cluster.leader().raft.commit_index(), index, "three of five are");
}

#[test]
fn followers_advance_only_when_the_leader_tells_them() {
    let mut cluster = Cluster::with_a_leader(5);
    let before = cluster.leader().commit_index();
    cluster.set(LEADER, "x", "1");
    let index = cluster.leader().raft.log().last().index;
    cluster.deliver(is_append_entries);
    (2..=5).for_each(|id| assert_eq!(cluster.deliver(is_response_from(id)), 1));

    assert_eq!(cluster.leader().raft.commit_index(), index);
    for follower in cluster.followers() {
        assert_eq!(
            follower.commit_index(),
            before,
            "every server has the entry, and nobody told the followers"
        );
    }
    cluster.deliver(is_append_entries);
    for follower in cluster.followers() {
        assert_eq!(follower.raft.commit_index(), index);
    }
}

#[test]
fn a_set_is_visible_once_it_is_committed_and_applied() {
    let mut cluster = Cluster::with_a_leader(5);
    cluster.apply(LEADER);
    cluster.set(LEADER, "x", "1");
    cluster.apply(LEADER);
    assert_eq!(cluster.leader().get("x"), None, "appended, not committed");

    cluster.deliver(is_append_entries);
    (2..=5).for_each(|id| assert_eq!(cluster.deliver(is_response_from(id)), 1));
    assert!(cluster.leader().last_applied() < cluster.leader().commit_index());
    assert_eq!(cluster.leader().get("x"), None, "committed, not applied");

    cluster.apply(LEADER);
    assert_eq!(cluster.leader().last_applied(), cluster.leader().commit_index());
    assert_eq!(cluster.leader().get("x"), Some("1"));

    cluster.apply(NodeId(2));
    assert_eq!(
        cluster.server(NodeId(2)).get("x"),
        None,
        "node 2 has the entry and does not know that it counts"
    );
    cluster.deliver_everything();
    cluster.apply(NodeId(2));
    assert_eq!(cluster.server(NodeId(2)).get("x"), Some("1"));
}

#[test]
#[should_panic(expected = "applied what is not committed")]
fn last_applied_never_passes_commit_index() {
    let mut cluster = Cluster::with_a_leader(5);
    cluster.set(LEADER, "x", "1");
    let Index(committed) = cluster.leader().raft.commit_index();
    cluster.step(LEADER, Input::Applied { index: Index(committed + 1) });
}

#[test]
fn every_server_ends_with_the_same_store() {
    let mut cluster = Cluster::with_a_leader(5);
    cluster.set(LEADER, "x", "1");
    cluster.set(NodeId(3), "y", "2");
    cluster.set(LEADER, "x", "3");
    cluster.deliver_everything();
    let ids: Vec<NodeId> = cluster.servers.keys().copied().collect();
    ids.iter().for_each(|id| cluster.apply(*id));
    for server in cluster.servers.values() {
        assert_eq!(server.get("x"), Some("3"));
        assert_eq!(server.get("y"), Some("2"));
        assert_eq!(server.raft.commit_index(), cluster.leader().raft.commit_index());
    }
}
