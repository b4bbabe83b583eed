//! `Node` by itself, over a disk in memory: the order in which decisions are carried out, what a failing disk
//! means, and what becomes of clients that wait.

use raftkv::kv::{Applied, KvStore};
use raftkv::node::{
    Apply, Event, Fault, Greeting, LogLimits, Node, NodeSettings, Operation, OperationOutcome, Rejection,
    Rim, TurnedAway, Work,
};
use raftkv::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, InstallSnapshot, ReadIndexResponse, ReadRound,
    RequestVote, RequestVoteResponse,
};
use raftkv::raft::{
    Body, Configuration, Log, MemberChange, Message, Note, RaftState, RoleName, Settings, Start,
};
use raftkv::storage::{
    Disk, Failure, FirstStart, MemoryDisk, Opening, SegmentSizes, SnapshotMeta, SnapshotWriter, Storage,
    StorageError, Unsound,
};
use raftkv::types::{Command, Entry, EntryId, Incarnation, Index, Member, NodeId, SnapshotLine, Term};
use raftkv::wire::peer::{Envelope, NEWEST_VERSION};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const ELECTION_TIMEOUT_TICKS: u32 = 20;
const REQUEST_TIMEOUT_TICKS: u64 = 100;

/// Who waits, in these tests: a name.
type Ticket = &'static str;

/// Writes down what a node does, and how far its disk was then.
#[derive(Default)]
struct Recorder {
    disk: MemoryDisk,
    sent: Vec<(Message, u64)>,
    work: Vec<Apply<Ticket>>,
    rejected: Vec<(Ticket, Rejection)>,
    to_install: Vec<EntryId>,
    /// The members beside whom nobody is needed any more.
    members: Vec<BTreeSet<NodeId>>,
    turned_away: Vec<TurnedAway>,
}

impl Rim<Ticket> for Recorder {
    fn send(&mut self, envelope: Envelope) {
        self.sent.push((envelope.message, self.disk.operations()));
    }

    fn work(&mut self, work: Work<Ticket>) {
        match work {
            Work::Apply(apply) => self.work.push(apply),
            Work::Install(install) => self.to_install.push(install.meta.last),
        }
    }

    fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        self.rejected.push((ticket, rejection));
    }

    fn settle(&mut self, _ticket: Ticket, outcome: OperationOutcome) {
        panic!("no operation comes to an end here: {outcome:?}");
    }

    fn members(&mut self, configuration: &Configuration, is_committed: bool) {
        if is_committed {
            self.members.push(configuration.members().collect());
        }
    }

    fn turn_away(&mut self, why: &TurnedAway) {
        self.turned_away.push(*why);
    }

    fn unsound(&mut self, snapshot: EntryId, unsound: &Unsound) {
        panic!("a sound snapshot is sent here: {snapshot} {unsound:?}");
    }

    fn note(&mut self, _event: u64, _term: Term, _note: &Note) {}
}

const OWN_INCARNATION: Incarnation = Incarnation(7);

struct Harness {
    node: Node<MemoryDisk, Ticket>,
    rim: Recorder,
    store: KvStore,
    applied_hashes: Vec<u64>,
}

impl Harness {
    /// Node 1 of this many, started on this disk.
    fn start(disk: &MemoryDisk, nodes: u16, max_waiting: usize) -> Harness {
        let configuration = Configuration::new((1..=nodes).map(NodeId));
        Harness::open(disk, FirstStart::Bootstrap, configuration, max_waiting)
    }

    /// Node 1, which joins a cluster that it knows nothing of, or has.
    fn joining(disk: &MemoryDisk) -> Harness {
        Harness::open(disk, FirstStart::Join, Configuration::default(), 100)
    }

    fn open(
        disk: &MemoryDisk,
        first_start: FirstStart,
        configuration: Configuration,
        max_waiting: usize,
    ) -> Harness {
        let opening = Opening {
            cluster: "test".to_owned(),
            node: NodeId(1),
            voters: configuration.voters.iter().copied().collect(),
            first_start,
            incarnation: OWN_INCARNATION,
            segment_sizes: SegmentSizes::default(),
        };
        let (mut storage, recovered) = Storage::open(disk.clone(), &opening).expect("the disk is sound");
        let boot = storage.raise_boot().expect("the disk is sound");
        let start = Start {
            id: NodeId(1),
            boot,
            configuration,
            may_vote: storage.may_vote(),
            hard_state: recovered.hard_state,
            log: Log::new(recovered.base, recovered.entries),
            seed: 1,
        };
        let settings = Settings {
            heartbeat_ticks: 3,
            election_timeout_min_ticks: ELECTION_TIMEOUT_TICKS / 2,
            election_timeout_max_ticks: ELECTION_TIMEOUT_TICKS,
            max_append_entries: 100,
            max_append_bytes: 1 << 20,
            max_in_flight_messages: 8,
            max_in_flight_bytes: 1 << 20,
            max_uncommitted_bytes: 1 << 20,
            max_forwarded_bytes: 1 << 20,
        };
        let node_settings = NodeSettings {
            request_timeout_ticks: REQUEST_TIMEOUT_TICKS,
            max_waiting,
            max_work_bytes: 1 << 20,
            max_chunk_bytes: 1 << 20,
            log_limits: LogLimits { bytes: u64::MAX, entries: u64::MAX },
        };
        let node = Node::new(RaftState::new(start, settings), boot, storage, node_settings);
        let rim = Recorder { disk: disk.clone(), ..Recorder::default() };
        Harness { node, rim, store: KvStore::new(), applied_hashes: Vec::new() }
    }

    fn batch(&mut self, events: impl IntoIterator<Item = Event<Ticket>>) -> Result<(), Fault> {
        for event in events {
            self.node.take(event, &mut self.rim);
        }
        self.node.finish_batch(&mut self.rim)
    }

    fn poll(&mut self) {
        let last_applied = self.store.last_applied();
        let applied_hashes = std::mem::take(&mut self.applied_hashes);
        self.batch([Event::Poll { last_applied, applied_hashes }]).expect("the disk is sound");
    }

    fn tick(&mut self, count: u32) {
        (0..count).for_each(|_| self.batch([Event::Tick]).expect("the disk is sound"));
    }

    fn hear(&mut self, from: u16, term: u64, body: Body) -> Result<(), Fault> {
        let message = Message { from: NodeId(from), to: NodeId(1), term: Term(term), body };
        let applied = BTreeMap::new();
        self.batch([Event::Peer(Envelope { boot: 1, event: 1, applied, message })])
    }

    /// A peer connects, and shows this.
    fn greet(&mut self, peer: u16, incarnation: u64, life: Option<u64>) -> Result<(), TurnedAway> {
        let greeting = Greeting {
            peer: NodeId(peer),
            incarnation: Incarnation(incarnation),
            life,
            newest_version: NEWEST_VERSION,
            address: None,
            has_lost_data: false,
        };
        self.node.greet(&greeting).expect("the disk is sound")
    }

    /// What was sent since the last call, with how many operations the disk had seen by then.
    fn take_sent(&mut self) -> Vec<(Message, u64)> {
        std::mem::take(&mut self.rim.sent)
    }

    /// Applies what was handed out; says who was answered.
    fn apply(&mut self) -> Vec<Ticket> {
        let mut answered = Vec::new();
        for work in std::mem::take(&mut self.rim.work) {
            for (entry, ticket) in work.entries {
                assert!(matches!(self.store.apply(&entry), Applied::Done(_)));
                self.applied_hashes.push(self.store.applied_hash());
                answered.extend(ticket);
            }
            answered.extend(work.reads);
        }
        answered
    }
}

fn set(text: &str, ticket: Ticket) -> Event<Ticket> {
    let command = format!(r#"{{"op":"set","key":"x","value":"{text}"}}"#);
    Event::Write { command: Command::from_json(command).expect("JSON"), ticket }
}

/// A node that leads by itself, its application polling.
fn lone_leader(disk: &MemoryDisk) -> Harness {
    let mut harness = Harness::start(disk, 1, 100);
    harness.tick(ELECTION_TIMEOUT_TICKS);
    assert_eq!(harness.node.raft().role(), RoleName::Leader);
    harness.poll();
    harness.apply();
    harness.poll();
    harness
}

/// Who greets as another than the one that is meant.
fn another(peer: u16, shown: u64, meant: u64) -> Result<(), TurnedAway> {
    let (peer, shown, meant) = (NodeId(peer), Incarnation(shown), Incarnation(meant));
    Err(TurnedAway::Another { peer, shown, meant })
}

/// A follower of node 2 in term 1, of three, its application polling.
fn follower() -> Harness {
    let mut harness = Harness::start(&MemoryDisk::new(), 3, 100);
    harness.hear(2, 1, append(1, EntryId::NONE, vec![noop(1, 0)], 0)).expect("the disk is sound");
    harness.poll();
    harness.apply();
    harness.poll();
    harness.take_sent();
    harness
}

fn append(number: u64, prev: EntryId, entries: Vec<Entry>, leader_commit: i64) -> Body {
    let read_round = ReadRound::default();
    let leader_commit = Index(leader_commit);
    Body::AppendEntries(AppendEntries { number, prev, entries, leader_commit, read_round })
}

fn noop(term: u64, index: i64) -> Entry {
    Entry {
        term: Term(term),
        index: Index(index),
        request: None,
        command: Command::noop(),
        configuration: None,
    }
}

fn id(term: u64, index: i64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

#[test]
fn a_write_is_answered_after_the_save_and_survives_a_crash() {
    let disk = MemoryDisk::new();
    let mut harness = lone_leader(&disk);
    let before = disk.operations();
    harness.batch([set("1", "w1"), set("2", "w2")]).expect("the disk is sound");
    assert_eq!(disk.operations(), before + 2, "two saves are one write and one sync");
    assert_eq!(harness.apply(), ["w1", "w2"]);
    assert_eq!(harness.store.get("x").map(AsRef::as_ref), Some(r#""2""#));

    disk.crash();
    let restarted = Harness::start(&disk, 1, 100);
    assert_eq!(restarted.node.raft().log().last(), harness.node.raft().log().last());
    assert_eq!(restarted.node.raft().commit_index(), Index::NONE, "volatile: figure 2");
}

#[test]
fn a_failing_disk_ends_the_node_and_acknowledges_nothing_after() {
    // The write fails, then the sync: in both cases what may or may not be on the disk is nobody's answer.
    for skip in 0..2 {
        for failure in [Failure::InputOutput, Failure::NoSpace] {
            let disk = MemoryDisk::new();
            let mut harness = lone_leader(&disk);
            disk.fail_after(skip, failure);
            let error = harness.batch([set("1", "w1")]).expect_err("the disk fails");
            assert!(matches!(&error, Fault::Disk(error) if error.is_disk_fault()), "{error}");
            assert!(harness.rim.work.is_empty(), "nothing is handed out: {:?}", harness.rim.work);
            assert!(harness.rim.rejected.is_empty(), "the outcome is not known: {:?}", harness.rim.rejected);
            // Never tried again (FAULTS row 42): whatever comes, there is only the same refusal.
            let again = harness.batch([set("2", "w2")]).expect_err("the disk was given up");
            assert!(matches!(again, Fault::Disk(StorageError::GivenUp)), "{again}");
            assert!(harness.rim.work.is_empty());
        }
    }
}

#[test]
fn a_vote_leaves_after_it_is_saved_and_not_at_all_when_it_cannot_be() {
    let disk = MemoryDisk::new();
    let mut harness = Harness::start(&disk, 3, 100);
    let ask = |term| {
        let last = EntryId::NONE;
        let campaign_term = Term(term);
        Body::RequestVote(RequestVote { campaign_term, pre_vote: false, leadership_transfer: false, last })
    };
    let before = disk.operations();
    harness.hear(2, 1, ask(1)).expect("the disk is sound");
    let sent = harness.take_sent();
    let [(answer, operations)] = &sent[..] else { panic!("one answer: {sent:?}") };
    let granted = RequestVoteResponse { campaign_term: Term(1), pre_vote: false, granted: true };
    assert_eq!(answer.body, Body::RequestVoteResponse(granted));
    assert_eq!(*operations, before + 2, "write and sync came first");

    disk.fail_after(1, Failure::InputOutput);
    harness.hear(3, 2, ask(2)).expect_err("the sync fails");
    assert!(harness.take_sent().is_empty(), "FAULTS row 1: a vote that may be forgotten is not given");

    disk.crash();
    let restarted = Harness::start(&disk, 3, 100);
    assert_eq!(restarted.node.raft().term(), Term(1));
    assert_eq!(restarted.node.raft().voted_for(), Some(NodeId(2)));
}

#[test]
fn a_follower_says_what_it_has_only_after_it_has_it_on_disk() {
    let mut harness = follower();
    let before = harness.rim.disk.operations();
    let body = append(2, id(1, 0), vec![noop(1, 1), noop(1, 2)], 0);
    harness.hear(2, 1, body).expect("the disk is sound");
    let sent = harness.take_sent();
    let [(Message { body: Body::AppendEntriesResponse(response), .. }, operations)] = &sent[..] else {
        panic!("one answer: {sent:?}")
    };
    assert_eq!(response.outcome, AppendOutcome::Accepted { match_index: Index(2) });
    assert_eq!(*operations, before + 2, "write and sync came first");
}

#[test]
fn a_leaders_entries_leave_before_its_own_save_and_count_for_nothing_until_then() {
    let disk = MemoryDisk::new();
    let mut harness = Harness::start(&disk, 3, 100);
    harness.tick(ELECTION_TIMEOUT_TICKS);
    let vote = |pre_vote| {
        let campaign_term = Term(1);
        Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted: true })
    };
    harness.hear(2, 0, vote(true)).expect("the disk is sound");
    harness.take_sent();
    let before = disk.operations();
    harness.hear(2, 1, vote(false)).expect("the disk is sound");
    let sent = harness.take_sent();
    assert_eq!(sent.len(), 2, "the no-op goes to both: {sent:?}");
    assert!(sent.iter().all(|(_, operations)| *operations == before), "before the save (thesis 10.2.1)");
    assert_eq!(harness.node.raft().saved_index(), Index(0), "saved by now");
    assert_eq!(harness.node.raft().commit_index(), Index::NONE, "one of three is no majority");
}

#[test]
fn a_write_without_a_leader_is_unavailable_when_its_time_is_up() {
    let mut harness = Harness::start(&MemoryDisk::new(), 3, 100);
    harness.batch([set("1", "w1"), Event::Read { ticket: "r1" }]).expect("the disk is sound");
    harness.tick(REQUEST_TIMEOUT_TICKS as u32 - 1);
    assert_eq!(harness.rim.rejected, []);
    harness.tick(1);
    assert_eq!(harness.rim.rejected, [("w1", Rejection::Unavailable), ("r1", Rejection::Unavailable)]);
}

#[test]
fn what_a_newer_terms_entry_proves_dead_is_proposed_again_and_in_order() {
    let mut harness = follower();
    harness.batch([set("1", "w1"), set("2", "w2")]).expect("the disk is sound");
    let forwarded = |sent: Vec<(Message, u64)>| -> Vec<(NodeId, usize)> {
        let forwards = sent.into_iter().filter_map(|(message, _)| match message.body {
            Body::ForwardProposals(forward) => Some((message.to, forward.proposals.len())),
            _ => None,
        });
        forwards.collect()
    };
    assert_eq!(forwarded(harness.take_sent()), [(NodeId(2), 2)]);

    // Node 3 leads term 2. Whether it has the two writes is not known yet, and w3 must not overtake them.
    harness.hear(3, 2, append(1, id(1, 0), vec![], 0)).expect("the disk is sound");
    harness.batch([set("3", "w3")]).expect("the disk is sound");
    assert_eq!(forwarded(harness.take_sent()), []);

    // Its first entry is committed and stands where theirs would have been.
    harness.hear(3, 2, append(2, id(1, 0), vec![noop(2, 1)], 1)).expect("the disk is sound");
    harness.apply();
    harness.poll();
    assert_eq!(forwarded(harness.take_sent()), [(NodeId(3), 3)], "all three, to the new leader");
    assert_eq!(harness.rim.rejected, []);
}

#[test]
fn a_full_node_says_busy_and_takes_nothing() {
    let mut harness = Harness::start(&MemoryDisk::new(), 3, 2);
    let read = Event::Read { ticket: "r1" };
    harness.batch([set("1", "w1"), read, set("2", "w2"), Event::Read { ticket: "r2" }]).expect("sound");
    assert_eq!(harness.rim.rejected, [("w2", Rejection::Busy), ("r2", Rejection::Busy)]);
}

#[test]
fn a_read_waits_until_the_application_has_got_there() {
    let mut harness = follower();
    harness.batch([Event::Read { ticket: "r1" }]).expect("the disk is sound");
    let ready = ReadIndexResponse { boot: 1, number: 1, index: Index(1) };
    harness.hear(2, 1, Body::ReadIndexResponse(ready)).expect("the disk is sound");
    assert!(harness.rim.work.is_empty(), "entry 1 is not even here");
    harness.hear(2, 1, append(2, id(1, 0), vec![noop(1, 1)], 1)).expect("the disk is sound");
    assert_eq!(harness.apply(), ["r1"]);
    assert_eq!(harness.store.last_applied(), Index(1));
}

#[test]
fn an_application_gets_more_only_when_it_asks() {
    let mut harness = lone_leader(&MemoryDisk::new());
    harness.batch([set("1", "w1")]).expect("the disk is sound");
    harness.batch([set("2", "w2")]).expect("the disk is sound");
    assert_eq!(harness.rim.work.len(), 1, "it has one poll outstanding, and that is answered");
    assert_eq!(harness.apply(), ["w1"]);
    assert_eq!(harness.node.raft().last_applied(), Index(0), "moves by the application's word alone");
    harness.poll();
    assert_eq!(harness.node.raft().last_applied(), Index(1));
    assert_eq!(harness.apply(), ["w2"]);
}

/// Node 1 of three leads term 1, and has committed its first entry; node 2 knows what a change of members is.
fn leader() -> Harness {
    let mut harness = Harness::start(&MemoryDisk::new(), 3, 100);
    harness.tick(ELECTION_TIMEOUT_TICKS);
    for (term, pre_vote) in [(0, true), (1, false)] {
        let response = RequestVoteResponse { campaign_term: Term(1), pre_vote, granted: true };
        harness.hear(2, term, Body::RequestVoteResponse(response)).expect("the disk is sound");
    }
    let accepted = AppendEntriesResponse {
        request_term: Term(1),
        number: 1,
        prev: EntryId::NONE,
        read_round: ReadRound::default(),
        outcome: AppendOutcome::Accepted { match_index: Index(0) },
    };
    harness.hear(2, 1, Body::AppendEntriesResponse(accepted)).expect("the disk is sound");
    assert_eq!(harness.node.raft().commit_index(), Index(0));
    (2..=3).for_each(|peer| assert_eq!(harness.greet(peer, peer.into(), None), Ok(())));
    harness.poll();
    harness.apply();
    harness.poll();
    harness
}

/// Two nodes of one number must not both be talked to: one may vote for what the other does not know of. Who
/// is met before the log says that it belongs to the cluster was not remembered once.
#[test]
fn a_peer_that_is_met_before_it_belongs_to_the_cluster_is_remembered_when_it_does() {
    let mut harness = follower();
    assert_eq!(harness.greet(4, 40, None), Ok(()));
    let mut added = noop(1, 1);
    added.configuration = Some(Arc::new(Configuration::new((1..=4).map(NodeId))));
    harness.hear(2, 1, append(2, id(1, 0), vec![added], 1)).expect("the disk is sound");
    assert_eq!(harness.greet(4, 41, None), another(4, 41, 40));
    assert_eq!(harness.greet(4, 40, None), Ok(()));

    // It loses its data, and is let in again: the log says as whom.
    let mut named = Configuration::new((1..=4).map(NodeId));
    let member = Member { incarnation: Some(Incarnation(41)), ..Member::at("n4:1", "n4:2") };
    named.members.insert(NodeId(4), member);
    let mut entry = noop(1, 2);
    entry.configuration = Some(Arc::new(named));
    harness.hear(2, 1, append(3, id(1, 1), vec![entry], 2)).expect("the disk is sound");
    assert_eq!(harness.greet(4, 41, None), Ok(()));
    assert_eq!(harness.greet(4, 40, None), another(4, 40, 41));
}

/// Who was away while a node lost its data, and was let in again, turned it away by its old folder: for ever,
/// where that one led, or where nobody could lead without the two. Now it says itself what names it.
#[test]
fn who_came_back_with_another_folder_is_known_by_its_own_word_where_the_log_is_behind() {
    let mut harness = follower();
    let names = |harness: &mut Harness, index: i64, named: Option<(u64, u64)>| {
        let mut configuration = Configuration::new((1..=4).map(NodeId));
        if let Some((incarnation, life)) = named {
            let there = Member::at("n4:1", "n4:2");
            let member = Member { incarnation: Some(Incarnation(incarnation)), life: Some(life), ..there };
            configuration.members.insert(NodeId(4), member);
            configuration.lives = life;
        }
        let mut entry = noop(1, index);
        entry.configuration = Some(Arc::new(configuration));
        let append = append(index.unsigned_abs() + 1, id(1, index - 1), vec![entry], 1);
        harness.hear(2, 1, append).expect("the disk is sound");
    };
    names(&mut harness, 1, None);
    assert_eq!(harness.greet(4, 40, None), Ok(()));
    assert_eq!(harness.greet(4, 41, None), another(4, 41, 40));
    assert_eq!(harness.greet(4, 41, Some(1)), Ok(()));
    assert_eq!(harness.greet(4, 40, None), Ok(()), "it may have been long on its way");
    // Once the log has come to a life, committed or not, that counts, and not what was before it.
    names(&mut harness, 2, Some((42, 2)));
    assert_eq!(harness.greet(4, 41, Some(1)), another(4, 41, 42));
    assert_eq!(harness.greet(4, 43, Some(2)), Ok(()), "one of two with this life is committed: its own");
    assert_eq!(harness.greet(4, 43, None), another(4, 43, 42));
    assert_eq!(harness.greet(4, 42, None), Ok(()));
    assert_eq!(harness.greet(4, 43, Some(3)), Ok(()));
}

/// Who has joined meets others before it can know who they are. Of five, one had lost its data and was
/// wrongly started as a new cluster's, and all turned it away; then another one lost its data, joined again,
/// and took it for the one that the others remember.
#[test]
fn who_has_joined_hears_a_stranger_until_its_log_names_the_one_that_is_meant() {
    let mut harness = Harness::joining(&MemoryDisk::new());
    let mut named = Configuration::new((1..=4).map(NodeId));
    named.incarnations = BTreeMap::from([(NodeId(2), Incarnation(20)), (NodeId(4), Incarnation(40))]);
    let mut entry = noop(1, 0);
    entry.configuration = Some(Arc::new(named));
    for (peer, incarnation) in [(2, 20), (4, 41)] {
        assert_eq!(harness.greet(peer, incarnation, None), Ok(()), "it does not know any better");
    }
    harness.hear(2, 1, append(1, EntryId::NONE, vec![entry], 0)).expect("the disk is sound");
    let (peer, shown, meant) = (NodeId(4), Incarnation(41), Incarnation(40));
    let found_out = TurnedAway::FoundOut { peer, shown, meant };
    assert_eq!(harness.rim.turned_away, [found_out]);
    let newer = |harness: &mut Harness| {
        let prev = id(1, 0);
        harness.hear(4, 9, append(1, prev, vec![], 0)).expect("the disk is sound");
        harness.node.raft().term()
    };
    assert_eq!(newer(&mut harness), Term(1), "it is not heard any more");
    assert_eq!(harness.greet(4, 41, None), another(4, 41, 40));
    assert_eq!(newer(&mut harness), Term(1));
    assert_eq!(harness.greet(4, 40, None), Ok(()));
    assert_eq!(newer(&mut harness), Term(9));
    assert_eq!(harness.rim.turned_away.len(), 1, "nobody else");
}

/// A node says by which life it is known only when what names it is committed: it may yet be replaced.
#[test]
fn a_node_that_has_joined_knows_of_its_life_when_that_is_committed() {
    let disk = MemoryDisk::new();
    let mut harness = Harness::joining(&disk);
    let mut named = Configuration::new((1..=2).map(NodeId));
    let member = Member { incarnation: Some(OWN_INCARNATION), life: Some(3), ..Member::at("n1:1", "n1:2") };
    named.members.insert(NodeId(1), member);
    named.lives = 3;
    let mut entry = noop(1, 0);
    entry.configuration = Some(Arc::new(named));
    harness.hear(2, 1, append(1, EntryId::NONE, vec![entry], -1)).expect("the disk is sound");
    assert_eq!(harness.node.life(), None);
    harness.hear(2, 1, append(2, id(1, 0), vec![], 0)).expect("the disk is sound");
    assert_eq!(harness.node.life(), Some(3));
    drop(harness);
    disk.crash();
    assert_eq!(Harness::joining(&disk).node.life(), Some(3));
}

/// A log's beginning may say less than what there is: a node once forgot the address of the leader that had
/// just sent it a snapshot, since that does not name it, and could not answer any more.
#[test]
fn a_leader_that_the_log_does_not_name_yet_is_not_forgotten() {
    let mut harness = Harness::start(&MemoryDisk::new(), 3, 100);
    let mut old = noop(1, 0);
    old.configuration = Some(Arc::new(Configuration::new((1..=3).map(NodeId))));
    harness.hear(4, 2, append(1, EntryId::NONE, vec![old], 0)).expect("the disk is sound");
    assert_eq!(harness.rim.members, []);
    let mut newer = noop(2, 1);
    newer.configuration = Some(Arc::new(Configuration::new([1, 2, 4].map(NodeId))));
    harness.hear(4, 2, append(2, id(1, 0), vec![newer], 1)).expect("the disk is sound");
    assert_eq!(harness.rim.members, [BTreeSet::from([1, 2, 4].map(NodeId))]);
}

/// FAULTS rows 30 and 63: what waited for an entry that a snapshot has replaced waited for ever, or what the
/// store had from the snapshot was applied to it once more.
#[test]
fn a_snapshot_takes_the_place_of_what_clients_and_operators_wait_for() {
    let mut harness = leader();
    let remove = MemberChange { remove: [NodeId(3)].into(), ..MemberChange::default() };
    let operation = Operation::ChangeMembers(remove);
    harness.batch([set("1", "w1"), Event::Operation { operation, ticket: "c1" }]).expect("the disk is sound");
    assert!(harness.rim.rejected.is_empty(), "nobody else has the entries: {:?}", harness.rim.rejected);

    // Another leader sends what it has come to, and then goes on.
    let last = id(2, 9);
    let meta =
        SnapshotMeta { last, applied_hash: 7, configuration: Configuration::new([NodeId(1), NodeId(2)]) };
    let disk = MemoryDisk::new();
    let writer = SnapshotWriter::begin(disk.clone(), "test", &meta, 0).expect("the disk is sound");
    writer.finish().expect("the disk is sound");
    let text = String::from_utf8(disk.read("snapshot-9-2.jsonl").expect("it is there")).expect("text");
    let line = |line: &str| SnapshotLine::from_json(line.to_owned()).expect("a line of JSON");
    let (lines, read_round) = (text.lines().map(line).collect(), ReadRound::default());
    let install = InstallSnapshot { number: 1, snapshot: last, offset: 0, lines, is_last: true, read_round };
    harness.hear(2, 2, Body::InstallSnapshot(install)).expect("the disk is sound");
    assert_eq!(harness.rim.rejected, [("w1", Rejection::Timeout), ("c1", Rejection::Timeout)]);
    assert_eq!(harness.rim.to_install, [last]);
    harness.hear(2, 2, append(2, last, vec![noop(2, 10)], 10)).expect("the disk is sound");
    assert!(harness.rim.work.is_empty(), "the store is busy");

    let installed = Event::Poll { last_applied: last.index, applied_hashes: vec![meta.applied_hash] };
    harness.batch([installed]).expect("the disk is sound");
    let handed_out = harness.rim.work.iter().flat_map(|work| &work.entries);
    let indexes: Vec<Index> = handed_out.map(|(entry, _)| entry.index).collect();
    assert_eq!(indexes, [Index(10)]);
}
