//! Where the node's decisions go: to peers, to the KV thread, to whoever waits, to the log. Members
//! come and go, and so do the writers to them.

use super::connection::no_outcome;
use super::ending::Endings;
use super::peer_link::{PeerLink, peer_link};
use super::peer_listener::PeerConnections;
use super::peer_sender::PeerSender;
use super::raft_thread::Inbox;
use super::snapshot_thread::SnapshotOrder;
use super::status::StatusBoard;
use super::ticket::Ticket;
use super::waking::WakingSender;
use crate::node::{OperationOutcome, Rejection, Rim, TurnedAway, Work};
use crate::raft::{ChangeRefusal, Note, TransferRefusal, Weight};
use crate::storage::Unsound;
use crate::types::{Configuration, Entry, EntryId, NodeId, Term};
use crate::wire::client::{ErrorCode, Response};
use crate::wire::peer::{Envelope, Hello};
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What every writer to a peer is made of.
pub(super) struct Greeter {
    pub hello: Hello,
    pub inbox: Inbox,
    pub board: Arc<StatusBoard>,
    pub max_line_bytes: usize,
    pub endings: Endings,
}

/// Where the node's decisions go.
pub(super) struct Links {
    greeter: Greeter,
    peers: BTreeMap<NodeId, PeerLink>,
    /// Where nodes can be reached: as the newest configuration says, or else `cluster.toml`, or else they
    /// themselves.
    addresses: BTreeMap<NodeId, String>,
    connections: PeerConnections,
    work: WakingSender<Work<Ticket>>,
    /// The thread that has time.
    leisure: Sender<SnapshotOrder>,
}

impl Links {
    /// To the nodes that have these addresses.
    pub fn new(
        greeter: Greeter,
        addresses: BTreeMap<NodeId, String>,
        connections: PeerConnections,
        work: WakingSender<Work<Ticket>>,
        leisure: Sender<SnapshotOrder>,
    ) -> Links {
        let mut links = Links { greeter, peers: BTreeMap::new(), addresses, connections, work, leisure };
        links.connect();
        links
    }

    /// Has a writer for everyone whose address is known, so that a connection stands before it is needed.
    fn connect(&mut self) {
        for peer in self.addresses.keys().copied().collect::<Vec<NodeId>>() {
            self.link(peer);
        }
    }

    /// A node has connected, and said where it can be reached. That counts where nobody else has said it: it
    /// may look different from here.
    pub fn has_greeted(&mut self, peer: NodeId, address: Option<String>) {
        if let Some(address) = address {
            self.addresses.entry(peer).or_insert(address);
        }
    }

    fn has_address(&mut self, peer: NodeId, address: &str) {
        let known = self.addresses.insert(peer, address.to_owned());
        if known.is_some_and(|known| known != address) {
            // The writer to the old address ends with its link.
            self.peers.remove(&peer);
        }
    }

    /// The link to a peer, and behind it a writer that connects.
    fn link(&mut self, peer: NodeId) -> Option<&mut PeerLink> {
        if !self.peers.contains_key(&peer) {
            let Greeter { hello, inbox, board, max_line_bytes, endings } = &self.greeter;
            let (link, writer) = peer_link();
            let sender = PeerSender {
                hello: Hello { to: peer, ..hello.clone() },
                address: self.addresses.get(&peer)?.clone(),
                link: writer,
                inbox: inbox.clone(),
                board: Arc::clone(board),
                max_line_bytes: *max_line_bytes,
            };
            if let Err(error) = endings.spawn_connection("peer-sender", move || sender.run()) {
                tracing::warn!(%peer, "cannot start a thread for {peer}: {error}");
                return None;
            }
            self.peers.insert(peer, link);
        }
        self.peers.get_mut(&peer)
    }
}

impl Rim<Ticket> for Links {
    fn send(&mut self, envelope: Envelope) {
        let Envelope { boot, event, applied: _, message } = &envelope;
        tracing::trace!(boot, event, to = %message.to, term = %message.term, body = ?message.body, "sends");
        if let Some(link) = self.link(message.to) {
            link.send(envelope);
        }
    }

    fn work(&mut self, work: Work<Ticket>) {
        // The KV thread has one poll outstanding and its queue one place: there is always room. Without the
        // KV thread the process is ending.
        let _ = self.work.try_send(work);
    }

    fn reject(&mut self, ticket: Ticket, rejection: Rejection) {
        ticket.answer(match rejection {
            Rejection::Busy => {
                Response::error(ErrorCode::Busy, "too much is under way: try again a little later")
            }
            Rejection::Unavailable => {
                let message = "not carried out, and never will be: no leader was found in time";
                Response::error(ErrorCode::Unavailable, message)
            }
            Rejection::Timeout => no_outcome(),
        });
    }

    fn settle(&mut self, ticket: Ticket, outcome: OperationOutcome) {
        ticket.answer(answer_to_operator(outcome));
    }

    fn members(&mut self, configuration: &Configuration, is_committed: bool) {
        let own = self.greeter.hello.from;
        for (id, member) in configuration.members.iter().filter(|(id, _)| **id != own) {
            self.has_address(*id, &member.peer);
        }
        if is_committed {
            self.peers.retain(|id, _| configuration.is_member(*id));
            self.addresses.retain(|id, _| configuration.is_member(*id));
        }
        self.connect();
    }

    fn forget(&mut self, entries: Vec<Entry>) {
        // Where there is no room, they are dropped here after all.
        let _ = self.leisure.try_send(SnapshotOrder::Drop(entries));
    }

    fn turn_away(&mut self, why: &TurnedAway) {
        let peer = why.peer();
        tracing::info!(%peer, "{why}");
        self.connections.end(peer);
        // The writer ends with its link, and the next one greets.
        self.peers.remove(&peer);
    }

    fn unsound(&mut self, snapshot: EntryId, unsound: &Unsound) {
        tracing::warn!("what came as the snapshot up to {snapshot} is none: {}", unsound.why);
    }

    fn note(&mut self, event: u64, term: Term, note: &Note) {
        let id = self.greeter.hello.from;
        match note.weight() {
            Weight::Event => tracing::info!(event, "{id}@{term}: {note}"),
            Weight::Detail => tracing::debug!(event, "{id}@{term}: {note}"),
        }
    }
}

fn answer_to_operator(outcome: OperationOutcome) -> Response {
    match outcome {
        OperationOutcome::ChangeBegun(entry) => Response::Changed { index: entry.index },
        OperationOutcome::ChangeRefused(why @ ChangeRefusal::NotLeader { .. }) => {
            Response::error(ErrorCode::NotLeader, why.to_string())
        }
        // A moment later it would do it.
        OperationOutcome::ChangeRefused(why @ (ChangeRefusal::NotReady | ChangeRefusal::Transferring)) => {
            Response::error(ErrorCode::Busy, why.to_string())
        }
        OperationOutcome::ChangeRefused(why) => Response::error(ErrorCode::Refused, why.to_string()),
        OperationOutcome::ChangeTooNew(id) => {
            let message = format!("{id} is not connected, or runs a version that cannot change members yet");
            Response::error(ErrorCode::Refused, message)
        }
        OperationOutcome::ChangeLost => {
            let message = "not carried out, and never will be: another leader's entry took its place";
            Response::error(ErrorCode::Unavailable, message)
        }
        OperationOutcome::Transferred(leader) => Response::Transferred { leader },
        OperationOutcome::TransferRefused(why @ TransferRefusal::NotLeader { .. }) => {
            Response::error(ErrorCode::NotLeader, why.to_string())
        }
        OperationOutcome::TransferRefused(why) => Response::error(ErrorCode::Refused, why.to_string()),
        OperationOutcome::TransferGivenUp => {
            let message = "the other node did not take over within an election timeout; this one leads on";
            Response::error(ErrorCode::Refused, message)
        }
        OperationOutcome::SnapshotTaken(last) => Response::SnapshotTaken { index: last.index },
    }
}
