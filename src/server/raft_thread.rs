//! The raft thread: the one owner of [`Node`]. It takes what waits in its inbox, in this order and with a
//! share each: peers, the KV thread, clients; so a flood of clients delays no heartbeat and no apply. It
//! blocks on nothing but its inbox and its disk.

use super::kv_thread::FromApplication;
use super::links::Links;
use super::standing::Standing;
use super::status::StatusBoard;
use super::ticket::Ticket;
use super::waking::{Bell, WakingSender};
use crate::node::{Event, Fault, Greeting, Node, TurnedAway};
use crate::storage::FileDisk;
use crate::wire::peer::Envelope;
use crossbeam_channel::{Receiver, Sender};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Lines from peers, and events of clients, that one batch takes.
const BATCH_SHARE: usize = 1024;
/// Lines from peers that may wait for this thread; then their readers wait.
const PEERS_INBOX: usize = 4096;
/// The KV thread's poll, and word of a snapshot.
const APPLICATION_INBOX: usize = 2;
/// Groups of requests that may wait for this thread; then their readers wait.
const CLIENTS_INBOX: usize = 1024;

/// What comes from peers.
pub(super) enum FromPeer {
    /// A message, checked.
    Message(Envelope),
    /// A peer has said who it is: is it heard, or why not?
    Greeting(Greeting, Sender<Result<(), TurnedAway>>),
}

/// The ways into the raft thread.
#[derive(Clone)]
pub(super) struct Inbox {
    pub peers: WakingSender<FromPeer>,
    pub clients: WakingSender<Vec<Event<Ticket>>>,
    pub standing: Standing,
}

/// The other ends.
pub(super) struct Outbox {
    bell: Bell,
    peers: Receiver<FromPeer>,
    clients: Receiver<Vec<Event<Ticket>>>,
    application: Receiver<FromApplication>,
    standing: Standing,
}

/// The ways in, and the application's own.
pub(super) fn inbox(standing: Standing) -> (Inbox, WakingSender<FromApplication>, Outbox) {
    let bell = Bell::new();
    let (peers_in, peers) = bell.channel(PEERS_INBOX);
    let (clients_in, clients) = bell.channel(CLIENTS_INBOX);
    let (application_in, application) = bell.channel(APPLICATION_INBOX);
    let inbox = Inbox { peers: peers_in, clients: clients_in, standing: standing.clone() };
    let outbox = Outbox { bell, peers, clients, application, standing };
    (inbox, application_in, outbox)
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
            self.outbox.standing.learn(&self.node);
            self.board.post_node(self.node.status());
        }
    }

    fn run_batch(&mut self, clock: &mut TickClock) -> Result<(), Fault> {
        self.wait(clock.next());
        // What has queued up during a stall is taken in before an expired election timer is acted on.
        for _ in 0..BATCH_SHARE {
            match self.outbox.peers.try_recv() {
                Ok(FromPeer::Message(envelope)) => {
                    self.node.take(Event::Peer(envelope), &mut self.links);
                }
                Ok(FromPeer::Greeting(greeting, reply)) => {
                    let verdict = self.greet(greeting)?;
                    // A greeter that did not wait is gone with its connection.
                    let _ = reply.try_send(verdict);
                }
                Err(_) => break,
            }
        }
        while let Ok(news) = self.outbox.application.try_recv() {
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

    /// Whether whoever greets is heard, or why not.
    fn greet(&mut self, greeting: Greeting) -> Result<Result<(), TurnedAway>, Fault> {
        let verdict = self.node.greet(&greeting)?;
        if verdict.is_ok() {
            self.links.has_greeted(greeting.peer, greeting.address.map(|address| address.peer));
        }
        Ok(verdict)
    }

    /// Waits until something is in the inbox or the next tick is due.
    fn wait(&self, next_tick: Instant) {
        let Outbox { bell, peers, clients, application, .. } = &self.outbox;
        // Which one it was does not matter: all are looked at, in order.
        bell.wait_until(Some(next_tick), || {
            !(peers.is_empty() && clients.is_empty() && application.is_empty())
        });
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

    fn next(&self) -> Instant {
        self.counted_to + self.clock.tick
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
