//! A process of a node: the server's `Node`, with inboxes and the application beside it, and what it did in a
//! batch. It goes as processes do; its disk is the machine's.

use super::snapshots::Writing;
use crate::kv::KvStore;
use crate::node::{Event, Greeting, Node, OperationOutcome, Rejection, Rim, TurnedAway, Work};
use crate::raft::{Body, Configuration, HardState, Note};
use crate::storage::{MemoryDisk, StorageError, Unsound};
use crate::types::{EntryId, Incarnation, Index, NodeId, RequestId, Term};
use crate::wire::client::Read;
use crate::wire::peer::Envelope;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What waits for an answer: the attempt's number, and for a read what is asked.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub number: u64,
    pub read: Option<Read>,
}

/// Something that a batch made the node do, in the order in which it did it.
#[derive(Debug)]
pub(super) enum Effect {
    Send(Envelope),
    Work(Work<Ticket>),
    Reject(Ticket, Rejection),
    Settle(Ticket, OperationOutcome),
}

/// A line for the log.
#[derive(Debug)]
pub(super) struct Noted {
    pub term: Term,
    pub note: Note,
}

/// Writes down what a node does, and how often its log was synced by then.
#[derive(Default)]
pub(super) struct Recorder {
    pub disk: MemoryDisk,
    pub effects: Vec<(Effect, u64)>,
    pub notes: Vec<Noted>,
    /// Whose connections are to be ended.
    pub turned_away: Vec<NodeId>,
}

impl Recorder {
    fn record(&mut self, effect: Effect) {
        self.effects.push((effect, log_syncs(&self.disk)));
    }
}

pub(super) fn log_syncs(disk: &MemoryDisk) -> u64 {
    disk.syncs_of("log")
}

impl Rim<Ticket> for Recorder {
    fn send(&mut self, envelope: Envelope) {
        self.record(Effect::Send(envelope));
    }

    fn work(&mut self, work: Work<Ticket>) {
        self.record(Effect::Work(work));
    }

    fn settle(&mut self, ticket: Ticket, outcome: OperationOutcome) {
        self.record(Effect::Settle(ticket, outcome));
    }

    fn members(&mut self, _configuration: &Configuration, _is_committed: bool) {}

    fn turn_away(&mut self, why: &TurnedAway) {
        self.turned_away.push(why.peer());
    }

    fn unsound(&mut self, snapshot: EntryId, unsound: &Unsound) {
        panic!("what came as the snapshot of {snapshot} is none: {}", unsound.why);
    }

    fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        self.record(Effect::Reject(ticket, rejection));
    }

    fn note(&mut self, _event: u64, term: Term, note: &Note) {
        self.notes.push(Noted { term, note: note.clone() });
    }
}

/// What a batch came to.
pub(super) struct Batch {
    /// What the node did before its save, and so without it.
    pub before_save: Vec<Effect>,
    /// What it did after it.
    pub after_save: Vec<Effect>,
    pub notes: Vec<Noted>,
    /// What was durable before the batch.
    pub hard_state_before: HardState,
    pub last_before: EntryId,
    /// The configuration that was in force, and where it stood in the log.
    pub configuration_before: (Arc<Configuration>, Index),
    /// How much time has passed for the node, in ticks.
    pub ticks: u64,
    /// From which index on the log has new entries.
    pub new_from: Index,
    /// How many events there were.
    pub events: usize,
    /// Whether the log was written.
    pub has_saved: bool,
    /// The disk's error, which ends the node.
    pub error: Option<String>,
}

/// A node's process.
pub(super) struct Process {
    pub node: Node<MemoryDisk, Ticket>,
    pub peers_inbox: VecDeque<FromPeer>,
    /// Who was heard in this start, and with which incarnation: whose connections stand.
    heard: BTreeMap<NodeId, Incarnation>,
    /// What the application and the writer of snapshots have said.
    pub application_inbox: VecDeque<Event<Ticket>>,
    pub clients_inbox: VecDeque<Event<Ticket>>,
    pub ticks_due: u64,
    /// The application's store, and what it works on.
    pub store: KvStore,
    pub work: Option<Work<Ticket>>,
    /// The snapshot that is being written.
    pub writing: Option<Writing>,
    /// A look into the inbox is planned.
    pub wakes: bool,
    /// Effects that wait for a slow sync; the process does nothing else meanwhile.
    pub syncing: Option<Vec<Effect>>,
    /// Who waits in the node, and the name of each write there.
    pub waiting: BTreeMap<u64, Option<RequestId>>,
    writes_taken: u64,
    /// What the ledger has looked at.
    pub committed: Index,
    pub led_term: Option<Term>,
    /// For how many of its ticks it has been handing the lead over.
    pub transferring_ticks: u64,
}

/// What comes from a peer, which has said this of itself when it connected.
#[derive(Debug)]
pub(super) enum FromPeer {
    Message(Envelope, Greeting),
    /// It has lost its data, and wants to be let in again.
    Knock(Greeting),
}

/// No node's start counter: of a request of a node that may not ask for anything yet.
const NO_BOOT_YET: u64 = 0;

impl Process {
    pub fn new(node: Node<MemoryDisk, Ticket>, store: KvStore) -> Process {
        let last_applied = store.last_applied();
        let applied_hashes =
            if last_applied == Index::NONE { Vec::new() } else { vec![store.applied_hash()] };
        Process {
            committed: node.raft().commit_index(),
            node,
            peers_inbox: VecDeque::new(),
            heard: BTreeMap::new(),
            application_inbox: VecDeque::from([Event::Poll { last_applied, applied_hashes }]),
            clients_inbox: VecDeque::new(),
            ticks_due: 0,
            store,
            work: None,
            writing: None,
            wakes: false,
            syncing: None,
            waiting: BTreeMap::new(),
            writes_taken: 0,
            led_term: None,
            transferring_ticks: 0,
        }
    }

    /// Peers first, then the application, then clients, then time, as the server does.
    pub fn take_all(&mut self, recorder: &mut Recorder) -> Result<(), StorageError> {
        while let Some(news) = self.peers_inbox.pop_front() {
            match news {
                FromPeer::Message(envelope, greeting) => {
                    // What was under way over a connection that stood arrives, whoever came after its sender.
                    let peer = &greeting.peer;
                    let stands = self.heard.contains_key(peer) && self.node.raft().met().contains_key(peer);
                    if stands || self.hears(&greeting)? {
                        self.node.take(Event::Peer(envelope), recorder);
                    }
                }
                FromPeer::Knock(greeting) => {
                    self.greet(&greeting)?;
                }
            }
        }
        while let Some(event) = self.application_inbox.pop_front() {
            self.node.take(event, recorder);
        }
        while let Some(event) = self.clients_inbox.pop_front() {
            self.take_request(event, recorder);
        }
        for _ in 0..std::mem::take(&mut self.ticks_due) {
            self.node.take(Event::Tick, recorder);
        }
        Ok(())
    }

    /// Whether a peer is heard: one whose connection stands does not greet again.
    pub fn hears(&mut self, greeting: &Greeting) -> Result<bool, StorageError> {
        let Greeting { peer, incarnation, .. } = greeting;
        let stands = [&self.heard, self.node.raft().met()].iter().all(|it| it.get(peer) == Some(incarnation));
        if stands { Ok(true) } else { self.greet(greeting) }
    }

    /// The connections of a peer end: it has to greet again.
    pub fn turn_away(&mut self, peer: NodeId) {
        self.heard.remove(&peer);
    }

    fn greet(&mut self, greeting: &Greeting) -> Result<bool, StorageError> {
        let is_heard = self.node.greet(greeting)?.is_ok();
        if is_heard {
            self.heard.insert(greeting.peer, greeting.incarnation);
        }
        Ok(is_heard)
    }

    /// Whether its next batch receives the end of a snapshot or compacts the log, or a snapshot is written.
    pub fn does_something_with_a_snapshot(&self) -> bool {
        let is_end = |news: &FromPeer| match news {
            FromPeer::Message(Envelope { message, .. }, _) => {
                matches!(&message.body, Body::InstallSnapshot(request) if request.is_last)
            }
            FromPeer::Knock(_) => false,
        };
        let is_written = |event: &Event<Ticket>| matches!(event, Event::SnapshotWritten { .. });
        self.writing.is_some()
            || self.peers_inbox.iter().any(is_end)
            || self.application_inbox.iter().any(is_written)
    }

    /// The node numbers the writes that it takes from 0: so each attempt's name in the log is known.
    fn take_request(&mut self, event: Event<Ticket>, recorder: &mut Recorder) {
        let (number, is_write) = match &event {
            Event::Operation { .. } => return self.node.take(event, recorder),
            Event::Write { ticket, .. } => (ticket.number, true),
            Event::Read { ticket } => (ticket.number, false),
            Event::Tick | Event::Peer(_) | Event::SnapshotWritten { .. } | Event::Poll { .. } => {
                panic!("no client's event")
            }
        };
        let effects_before = recorder.effects.len();
        self.node.take(event, recorder);
        let is_taken = recorder.effects.len() == effects_before;
        let request = (is_write && is_taken).then(|| {
            let boot = self.node.request_boot().unwrap_or(NO_BOOT_YET);
            let request = RequestId { node: self.node.raft().id(), boot, number: self.writes_taken };
            self.writes_taken += 1;
            request
        });
        self.waiting.insert(number, request);
    }

    /// The names of what waits, once it is known by which start counter the node asks for it.
    pub fn name_requests(&mut self) {
        let Some(boot) = self.node.request_boot() else { return };
        let waiting = self.waiting.values_mut().flatten();
        waiting.filter(|request| request.boot == NO_BOOT_YET).for_each(|request| request.boot = boot);
    }
}
