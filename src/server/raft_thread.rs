//! The raft thread: the one owner of [`Node`]. It takes what waits in its inbox, in this order and with a
//! share each: peers, the KV thread, clients; so a flood of clients delays no heartbeat and no apply. It
//! blocks on nothing but its inbox and its disk.

use super::founding::OwnFounding;
use super::kv_thread::FromApplication;
use super::links::Links;
use super::status::StatusBoard;
use super::ticket::Ticket;
use crate::node::{Event, Fault, Node};
use crate::raft::RaftState;
use crate::storage::{FileDisk, RememberedPeer};
use crate::types::{Incarnation, Member, NodeId};
use crate::wire::peer::{Address, Envelope};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lines from peers, and events of clients, that one batch takes.
const BATCH_SHARE: usize = 1024;
/// Lines from peers that may wait for this thread; then their readers wait.
const PEERS_INBOX: usize = 4096;
/// Groups of requests that may wait for this thread; then their readers wait.
const CLIENTS_INBOX: usize = 1024;

/// What comes from peers.
pub(super) enum FromPeer {
    /// A message, checked.
    Message(Envelope),
    /// A peer has said who it is: is it who it was?
    Greeting(Greeting, Sender<RememberedPeer>),
}

/// What a peer says of itself, before anything else.
pub(super) struct Greeting {
    pub peer: NodeId,
    pub incarnation: Incarnation,
    pub newest_version: u32,
    /// Where it can be reached, when it has said so.
    pub address: Option<Address>,
    /// It has lost its data, and wants to be let in again.
    pub has_lost_data: bool,
}

/// The ways into the raft thread.
#[derive(Clone)]
pub(super) struct Inbox {
    pub peers: Sender<FromPeer>,
    pub clients: Sender<Vec<Event<Ticket>>>,
    /// This node's term, an older one or the newest, for checking what peers send.
    pub term: Arc<AtomicU64>,
    /// This node's founding, for the same.
    pub founding: OwnFounding,
}

/// The other ends.
pub(super) struct Outbox {
    peers: Receiver<FromPeer>,
    clients: Receiver<Vec<Event<Ticket>>>,
    term: Arc<AtomicU64>,
    founding: OwnFounding,
}

pub(super) fn inbox(raft: &RaftState) -> (Inbox, Outbox) {
    let (peers_in, peers_out) = bounded(PEERS_INBOX);
    let (clients_in, clients_out) = bounded(CLIENTS_INBOX);
    let term = Arc::new(AtomicU64::new(raft.term().0));
    let founding = OwnFounding::of(raft.configuration());
    let inbox =
        Inbox { peers: peers_in, clients: clients_in, term: Arc::clone(&term), founding: founding.clone() };
    (inbox, Outbox { peers: peers_out, clients: clients_out, term, founding })
}

/// How real time becomes ticks.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub tick: Duration,
    /// The most that one look at the clock may count: see [`TickClock::due`].
    pub max_ticks_at_once: u32,
}

/// Everything the thread owns.
pub(super) struct RaftThread {
    pub node: Node<FileDisk, Ticket>,
    pub outbox: Outbox,
    pub application: Receiver<FromApplication>,
    pub links: Links,
    pub board: Arc<StatusBoard>,
    pub clock: Clock,
}

impl RaftThread {
    /// Runs until the node must not go on; says why.
    pub fn run(&mut self) -> String {
        let mut clock = TickClock::new(self.clock.clone());
        loop {
            if let Err(fault) = self.run_batch(&mut clock) {
                return fault.to_string();
            }
            self.outbox.term.store(self.node.raft().term().0, Ordering::Relaxed);
            self.outbox.founding.learn(self.node.raft().configuration());
            self.board.post_node(self.node.status());
        }
    }

    fn run_batch(&mut self, clock: &mut TickClock) -> Result<(), Fault> {
        self.wait(clock.until_next());
        // What has queued up during a stall is taken in before an expired election timer is acted on.
        for _ in 0..BATCH_SHARE {
            match self.outbox.peers.try_recv() {
                Ok(FromPeer::Message(envelope)) => {
                    self.node.take(Event::Peer(envelope), &mut self.links);
                }
                Ok(FromPeer::Greeting(greeting, reply)) => {
                    let Greeting { peer, incarnation, newest_version, address, has_lost_data } = greeting;
                    let remembered = self.node.remember_peer(peer, incarnation)?;
                    if let Some(Address { peer: address, client }) = address.clone().filter(|_| has_lost_data)
                    {
                        let member = Member { incarnation: Some(incarnation), ..Member::at(address, client) };
                        self.node.let_in_again(peer, member);
                    }
                    if !matches!(remembered, RememberedPeer::Different { .. }) {
                        self.node.has_version(peer, newest_version);
                        self.links.has_greeted(peer, address.map(|address| address.peer));
                    }
                    // A greeter that did not wait is gone with its connection.
                    let _ = reply.try_send(remembered);
                }
                Err(_) => break,
            }
        }
        while let Ok(news) = self.application.try_recv() {
            let event = match news {
                FromApplication::Poll { last_applied, applied_hashes } => {
                    Event::Poll { last_applied, applied_hashes }
                }
                FromApplication::SnapshotWritten { last } => Event::SnapshotWritten { last },
            };
            self.node.take(event, &mut self.links);
        }
        let mut taken = 0;
        while taken < BATCH_SHARE {
            let Ok(events) = self.outbox.clients.try_recv() else { break };
            taken += events.len();
            for event in events {
                self.node.take(event, &mut self.links);
            }
        }
        for _ in 0..clock.due() {
            self.node.take(Event::Tick, &mut self.links);
        }
        self.node.finish_batch(&mut self.links)
    }

    /// Waits until something is in the inbox or the next tick is due.
    fn wait(&self, timeout: Duration) {
        let Outbox { peers, clients, .. } = &self.outbox;
        let mut select = crossbeam_channel::Select::new();
        select.recv(peers);
        select.recv(&self.application);
        select.recv(clients);
        // Which one it was does not matter: all are looked at, in order.
        let _ = select.ready_timeout(timeout);
    }
}

/// Turns real time into ticks, without trusting that this thread always ran.
struct TickClock {
    clock: Clock,
    counted_to: Instant,
}

impl TickClock {
    fn new(clock: Clock) -> TickClock {
        TickClock { clock, counted_to: Instant::now() }
    }

    fn until_next(&self) -> Duration {
        (self.counted_to + self.clock.tick).saturating_duration_since(Instant::now())
    }

    /// The ticks that have become due. After a stall (a paused process, a slow sync) no more than
    /// `max_ticks_at_once` count, less than an election timeout: the node was deaf meanwhile, and has to look
    /// into its inbox at least once more before it may say that it heard no leader.
    fn due(&mut self) -> u32 {
        let elapsed = Instant::now().saturating_duration_since(self.counted_to);
        let ticks = elapsed.as_nanos() / self.clock.tick.as_nanos().max(1);
        match u32::try_from(ticks) {
            Ok(ticks) if ticks <= self.clock.max_ticks_at_once => {
                self.counted_to += self.clock.tick * ticks;
                ticks
            }
            _ => {
                self.counted_to = Instant::now();
                self.clock.max_ticks_at_once
            }
        }
    }
}
