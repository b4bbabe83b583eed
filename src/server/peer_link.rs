//! The way to one peer, as two threads share it: the raft thread sends what the socket takes at once, and the
//! peer's writer everything else.
//!
//! ```text
//!   raft thread --+-- the writer has nothing, the message is short ----------> socket
//!                 |                                                              ^
//!                 +-- otherwise: queue --> writer, which may wait for the peer --+
//! ```
//!
//! So a short message needs no other thread to wake, and the raft thread still waits for nobody. Order is
//! kept: what the writer has not sent yet is counted, and as long as there is any, or half a line that the
//! socket did not take, all goes through the queue.

use super::socket::send_what_fits;
use crate::raft::Body;
use crate::raft::message::Proposal;
use crate::types::Entry;
use crate::wire::peer::{Envelope, PeerLine};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages that may wait for the writer of one peer; Raft sends again what does not fit.
const PEER_QUEUE: usize = 1024;
/// Bytes of entries up to which the raft thread sends a message itself. Longer ones take longer to write than
/// a thread takes to wake, and writers do it side by side.
const MAX_SENT_AT_ONCE_BYTES: usize = 64 * 1024;

/// Bytes that the writer sends in one write, about.
const WRITE_BYTES: usize = 1024 * 1024;

/// What the writer is to send.
pub(super) enum ToSend {
    /// A message.
    Message(Envelope),
    /// What the socket did not take of a line.
    Rest(Vec<u8>),
}

/// The raft thread's end.
pub(super) struct PeerLink {
    queue: Sender<ToSend>,
    shared: Arc<Shared>,
    line: Vec<u8>,
}

/// The writer's end.
pub(super) struct WriterLink {
    pub queue: Receiver<ToSend>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared(Mutex<Socket>);

#[derive(Default)]
struct Socket {
    /// A greeted connection.
    stream: Option<Arc<TcpStream>>,
    /// What is left to the writer and not sent yet.
    left_to_writer: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Socket> {
        // A poisoned lock means a thread that panicked, and that ends the process anyway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn peer_link() -> (PeerLink, WriterLink) {
    let (queue_in, queue) = bounded(PEER_QUEUE);
    let shared = Arc::new(Shared::default());
    (
        PeerLink { queue: queue_in, shared: Arc::clone(&shared), line: Vec::new() },
        WriterLink { queue, shared },
    )
}

impl PeerLink {
    /// Sends a message, at once or by the writer. One that finds no connection, or the queue full, may be
    /// lost: Raft sends it again.
    pub fn send(&mut self, envelope: Envelope) {
        let mut socket = self.shared.lock();
        match &socket.stream {
            Some(stream) if socket.left_to_writer == 0 && is_short(&envelope) => {
                self.line.clear();
                PeerLine::Envelope(envelope).encode(&mut self.line);
                let sent = send_what_fits(stream, &self.line);
                if sent < self.line.len() {
                    let rest = ToSend::Rest(self.line.split_off(sent));
                    self.leave(&mut socket, rest);
                }
            }
            _ => self.leave(&mut socket, ToSend::Message(envelope)),
        }
    }

    /// Leaves it to the writer. There is room for the rest of a line, which comes when the queue is empty.
    fn leave(&self, socket: &mut Socket, to_send: ToSend) {
        match self.queue.try_send(to_send) {
            Ok(()) => socket.left_to_writer += 1,
            // Raft sends again, and so does forwarding, under the same numbers.
            Err(TrySendError::Full(ToSend::Message(envelope))) => {
                tracing::debug!(to = %envelope.message.to, "queue is full: a message is dropped");
            }
            Err(TrySendError::Full(ToSend::Rest(_)) | TrySendError::Disconnected(_)) => {}
        }
    }
}

impl WriterLink {
    /// A greeted connection stands: short messages may go to it at once.
    pub fn connected(&self, stream: Arc<TcpStream>) {
        self.shared.lock().stream = Some(stream);
    }

    /// It stands no more. What is queued is for nobody.
    pub fn disconnected(&self) {
        self.shared.lock().stream = None;
    }

    /// Encodes `first`, which was taken from the queue, and what else waits, or a share of it; says how many
    /// that were.
    pub fn take_queued(&self, first: Option<ToSend>, buffer: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        let mut next = first.or_else(|| self.queue.try_recv().ok());
        while let Some(to_send) = next {
            taken += 1;
            match to_send {
                ToSend::Message(envelope) => PeerLine::Envelope(envelope).encode(buffer),
                ToSend::Rest(bytes) => buffer.extend_from_slice(&bytes),
            }
            next = if buffer.len() < WRITE_BYTES { self.queue.try_recv().ok() } else { None };
        }
        taken
    }

    /// From here until [`WriterLink::sent`] nobody else sends.
    pub fn begin(&self) {
        self.shared.lock().left_to_writer += 1;
    }

    /// This many that were taken from the queue, or begun, are sent or thrown away.
    pub fn sent(&self, count: usize) {
        self.shared.lock().left_to_writer -= count;
    }

    /// Throws away what is queued.
    pub fn clear(&self) {
        while self.queue.try_recv().is_ok() {
            self.sent(1);
        }
    }
}

/// Whether to write it takes no longer than to wake another thread.
fn is_short(envelope: &Envelope) -> bool {
    let bytes: usize = match &envelope.message.body {
        Body::AppendEntries(append) => append.entries.iter().map(Entry::size_bytes).sum(),
        Body::ForwardProposals(forward) => forward.proposals.iter().map(Proposal::size_bytes).sum(),
        Body::InstallSnapshot(_) => return false,
        Body::AppendEntriesResponse(_)
        | Body::RequestVote(_)
        | Body::RequestVoteResponse(_)
        | Body::InstallSnapshotResponse(_)
        | Body::TimeoutNow(_)
        | Body::ForwardProposalsResponse(_)
        | Body::ReadIndexRequest(_)
        | Body::ReadIndexResponse(_) => 0,
    };
    bytes <= MAX_SENT_AT_ONCE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::message::{AppendEntries, Message};
    use crate::types::{Command, EntryId, Index, NodeId, Term};
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    fn envelope(event: u64) -> Envelope {
        let text = format!(r#"{{"op":"set","key":"k","value":"{}"}}"#, "x".repeat(20_000));
        let entry = Entry {
            term: Term(1),
            index: Index(0),
            request: None,
            command: Command::from_json(text).expect("JSON"),
            configuration: None,
        };
        let append = AppendEntries {
            number: event,
            prev: EntryId::NONE,
            entries: vec![entry],
            leader_commit: Index::NONE,
            read_round: Default::default(),
        };
        let (from, to) = (NodeId(1), NodeId(2));
        let message = Message { from, to, term: Term(1), body: Body::AppendEntries(append) };
        Envelope { boot: 1, event, applied: BTreeMap::new(), message }
    }

    /// A peer reads nothing until its socket is full, and then everything. Half a line is left to the writer,
    /// and until that is sent nothing overtakes it, although the socket has room again.
    #[test]
    fn whatever_the_socket_takes_lines_stay_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = Arc::new(TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens"));
        let (mut peers, _) = listener.accept().expect("it has connected");
        peers.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
        let (mut link, writer) = peer_link();
        writer.connected(Arc::clone(&ours));
        let mut expected = Vec::new();
        let mut next_event = 0;
        while link.shared.lock().left_to_writer == 0 {
            link.send(envelope(next_event));
            PeerLine::Envelope(envelope(next_event)).encode(&mut expected);
            next_event += 1;
        }
        let first = writer.queue.try_recv().expect("it was left");
        let ToSend::Rest(rest) = &first else { panic!("a whole message was left") };
        assert!(!rest.is_empty());
        let mut heard = vec![0; expected.len() - rest.len()];
        peers.read_exact(&mut heard).expect("the socket has it");

        link.send(envelope(next_event));
        PeerLine::Envelope(envelope(next_event)).encode(&mut expected);
        assert_eq!(link.shared.lock().left_to_writer, 2, "there is room, and half a line to send first");
        writer.begin();
        let mut buffer = Vec::new();
        assert_eq!(writer.take_queued(Some(first), &mut buffer), 2);
        buffer.extend_from_slice(b"a line of the writer's\n");
        expected.extend_from_slice(b"a line of the writer's\n");
        (&*ours).write_all(&buffer).expect("the peer reads");
        writer.sent(3);

        link.send(envelope(next_event + 1));
        PeerLine::Envelope(envelope(next_event + 1)).encode(&mut expected);
        assert_eq!(link.shared.lock().left_to_writer, 0, "the writer has nothing to send");
        writer.disconnected();
        drop(ours);
        peers.read_to_end(&mut heard).expect("it ends with the connection");
        assert!(heard == expected, "{} bytes of {}", heard.len(), expected.len());
    }

    #[test]
    fn without_a_connection_everything_is_queued_and_thrown_away_before_the_next() {
        let (mut link, writer) = peer_link();
        link.send(envelope(0));
        link.send(envelope(1));
        assert_eq!(link.shared.lock().left_to_writer, 2);
        writer.clear();
        assert_eq!(link.shared.lock().left_to_writer, 0);
        for event in 0..2 * PEER_QUEUE as u64 {
            link.send(envelope(event));
        }
        assert_eq!(link.shared.lock().left_to_writer, PEER_QUEUE, "what does not fit is dropped");
    }
}
