//! One client's connection: it owns the order of its requests. Each request has a slot with a deadline; the
//! first to fill a slot wins, a later one is dropped; answers leave in the order of the slots.
//!
//! ```text
//!   reader --open--> [ 7: answered ][ 8: waits ][ 9: answered ][ 10: waits ] --front answered--> socket
//!                                      ^ fill: kv thread, raft thread, reader, or the writer at its deadline
//! ```
//!
//! The KV thread and the reader send what is answered at the front themselves, a share of it and as far as
//! the socket takes it at once: no other thread has to wake for an answer. What is left goes by the writer,
//! which waits for the socket, and everything after it too until that is gone. One thread at a time sends,
//! and looks again when it has sent, so that nobody needs to wait for it. The raft thread leaves all to the
//! writer: behind an answer of its own there may be any number that waited for it.
//!
//! The writer also fills a slot whose time is up with `timeout`, so that no stalled thread can silence a
//! connection. A request sees the effects of those before it: a read opens only when no write of this
//! connection is open, and the other way round (`Turn`). What is waited for here is bounded in number and in
//! bytes; beyond that the reader stops reading, and the client feels it in its socket.

use super::socket::send_what_fits;
use crate::kv::Answer;
use crate::wire::client::{ErrorCode, RequestKey, Response};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests of one connection that may be open at once.
const MAX_OPEN_REQUESTS: usize = 256;
/// Bytes of answers that may wait to be sent before more requests are read. The answers to what was read
/// before may come to more; values among them are shared with the store, and become bytes only when they are
/// sent.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of answers that the writer sends in one write, about.
const WRITE_BYTES: usize = 256 * 1024;
/// Bytes of answers to one connection that a thread which has other things to do sends at once, about. A
/// single one may be longer.
const SHARE_BYTES: usize = 64 * 1024;

/// What a request must wait for on its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Every earlier read must have its answer.
    Write,
    /// Every earlier write must have its answer.
    Read,
    /// Nothing but its place in the order of answers.
    Any,
}

/// A client's connection. A request whose fate is not known yet may keep this long after the threads that
/// serve it are gone.
pub(super) struct Connection {
    client: SocketAddr,
    request_timeout: Duration,
    state: Mutex<State>,
    /// The writer waits here for what others could not send.
    answered: Condvar,
    /// The reader waits here for its turn and for room.
    freed: Condvar,
}

/// One request's place in its connection.
#[derive(Clone)]
pub(super) struct Slot {
    connection: Arc<Connection>,
    number: u64,
}

struct State {
    /// Where answers go. None when the connection is over: who keeps a slot must not keep a file descriptor.
    stream: Option<Arc<TcpStream>>,
    slots: VecDeque<OpenSlot>,
    first_number: u64,
    open_writes: usize,
    open_reads: usize,
    answer_bytes: usize,
    /// What the socket did not take at once. It goes before everything else, by the writer.
    unsent: Vec<u8>,
    /// A thread sends, without the lock. It looks for more when it has sent.
    is_sending: bool,
    /// A thread has gathered answers here and will send them.
    is_gathered: bool,
    /// The reader has opened its last slot.
    is_last: bool,
    /// Every answer is sent, or nobody takes answers any more.
    is_over: bool,
    reader_waits: bool,
}

struct OpenSlot {
    id: Option<RequestKey>,
    turn: Turn,
    deadline: Instant,
    answer: Option<Response>,
}

impl Connection {
    /// Without requests yet. `request_timeout` is how long a request waits for its outcome here; the node's
    /// own verdict comes a little earlier, and is more exact.
    pub fn new(stream: TcpStream, client: SocketAddr, request_timeout: Duration) -> Arc<Connection> {
        Arc::new(Connection {
            client,
            request_timeout,
            state: Mutex::new(State {
                stream: Some(Arc::new(stream)),
                slots: VecDeque::new(),
                first_number: 0,
                open_writes: 0,
                open_reads: 0,
                answer_bytes: 0,
                unsent: Vec::new(),
                is_sending: false,
                is_gathered: false,
                is_last: false,
                is_over: false,
                reader_waits: false,
            }),
            answered: Condvar::new(),
            freed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock means a thread that panicked, and that ends the process anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request could open its slot now.
    pub fn may_open(&self, turn: Turn) -> bool {
        self.lock().may_open(turn)
    }

    /// Opens the next slot if it is the request's turn and there is room; none otherwise.
    pub fn try_open(self: &Arc<Connection>, id: &Option<RequestKey>, turn: Turn) -> Option<Slot> {
        let mut state = self.lock();
        state.may_open(turn).then(|| self.open(&mut state, id, turn))
    }

    /// Waits for the request's turn and for room, and opens its slot. None when the connection is over.
    pub fn wait_and_open(self: &Arc<Connection>, id: &Option<RequestKey>, turn: Turn) -> Option<Slot> {
        let mut state = self.lock();
        while !state.may_open(turn) {
            if state.is_over {
                return None;
            }
            state.reader_waits = true;
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.reader_waits = false;
        Some(self.open(&mut state, id, turn))
    }

    fn open(self: &Arc<Connection>, state: &mut State, id: &Option<RequestKey>, turn: Turn) -> Slot {
        let number = state.first_number + state.slots.len() as u64;
        match turn {
            Turn::Write => state.open_writes += 1,
            Turn::Read => state.open_reads += 1,
            Turn::Any => {}
        }
        let deadline = Instant::now() + self.request_timeout;
        state.slots.push_back(OpenSlot { id: id.clone(), turn, deadline, answer: None });
        Slot { connection: Arc::clone(self), number }
    }

    /// No more requests come: what is open gets its answers, then the writer ends.
    pub fn close_after_answers(&self) {
        self.lock().is_last = true;
        self.answered.notify_one();
    }

    /// Whether any request is open.
    pub fn is_idle(&self) -> bool {
        self.lock().slots.is_empty()
    }

    /// Whether every answer is sent, or nobody takes answers any more.
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Sends a share of what is answered at the front, as far as the socket takes it at once, and leaves the
    /// rest to the writer. Waits for nothing.
    fn send_now(&self, room: &mut Room) {
        let mut state = self.lock();
        state.is_gathered = false;
        if state.is_sending || !state.unsent.is_empty() {
            return;
        }
        let Some(stream) = state.stream.clone() else { return };
        let mut share = SHARE_BYTES;
        while share > 0 {
            share = share.saturating_sub(state.take_answers(&mut room.answers, share));
            if room.answers.is_empty() {
                break;
            }
            state.is_sending = true;
            let reader_waits = state.reader_waits;
            drop(state);
            if reader_waits {
                self.freed.notify_one();
            }
            room.render();
            let sent = send_what_fits(&stream, &room.bytes);
            state = self.lock();
            state.is_sending = false;
            state.unsent.extend_from_slice(&room.bytes[sent..]);
            room.clear();
            if !state.unsent.is_empty() {
                break;
            }
        }
        let is_more_answered = state.slots.front().is_some_and(|slot| slot.answer.is_some());
        let is_done = state.is_last && state.slots.is_empty();
        let needs_writer = !state.unsent.is_empty() || is_more_answered || is_done;
        drop(state);
        if needs_writer {
            self.answered.notify_one();
        }
    }

    /// The writer's work: answers requests whose time is up, and sends what others could not, until the last
    /// answer, or until the client takes none within the socket's write timeout. Then shuts down the sending
    /// side.
    pub fn run_writer(&self) {
        let Some(stream) = self.lock().stream.clone() else { return };
        let mut room = Room::default();
        while self.wait_for_bytes(&mut room) {
            if let Err(error) = (&*stream).write_all(&room.bytes) {
                tracing::debug!(client = %self.client, "client does not take its answers: {error}");
                break;
            }
            room.clear();
            self.lock().is_sending = false;
        }
        let mut state = self.lock();
        state.is_over = true;
        state.stream = None;
        drop(state);
        self.freed.notify_all();
        // It may be gone already: then there is nothing to shut down.
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// Waits for bytes that only the writer can send, and for answers that nobody sends. False when there
    /// will be none any more.
    fn wait_for_bytes(&self, room: &mut Room) -> bool {
        let mut state = self.lock();
        loop {
            // Who sends looks again, and leaves here what it cannot send.
            if !state.is_sending {
                room.bytes = std::mem::take(&mut state.unsent);
                state.take_answers(&mut room.answers, WRITE_BYTES);
                if !room.bytes.is_empty() || !room.answers.is_empty() {
                    state.is_sending = true;
                    if state.reader_waits {
                        self.freed.notify_one();
                    }
                    drop(state);
                    room.render();
                    return true;
                }
                if state.slots.is_empty() && state.is_last {
                    return false;
                }
            }
            // Those before it are answered, and being sent.
            let first_open = (state.first_number..).zip(&state.slots).find(|(_, slot)| slot.answer.is_none());
            let (number, wait) = match first_open {
                Some((number, slot)) => (number, slot.deadline.saturating_duration_since(Instant::now())),
                // Whatever opens meanwhile has a deadline that is later than this.
                None => (0, self.request_timeout),
            };
            if wait.is_zero() {
                state.fill(number, no_outcome());
                continue;
            }
            state = self.answered.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Where answers become bytes; kept from one time to the next.
#[derive(Default)]
struct Room {
    answers: Vec<Answered>,
    bytes: Vec<u8>,
}

impl Room {
    fn render(&mut self) {
        for (id, response) in self.answers.drain(..) {
            response.render(id.as_ref(), &mut self.bytes);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        // A large answer must not be paid for as long as this lasts.
        self.bytes.shrink_to(2 * WRITE_BYTES);
    }
}

impl State {
    fn may_open(&self, turn: Turn) -> bool {
        let has_room = self.slots.len() < MAX_OPEN_REQUESTS && self.answer_bytes < MAX_ANSWER_BYTES;
        let has_turn = match turn {
            Turn::Write => self.open_reads == 0,
            Turn::Read => self.open_writes == 0,
            Turn::Any => true,
        };
        has_room && has_turn
    }

    /// Fills a slot unless it is filled already, or gone.
    fn fill(&mut self, number: u64, response: Response) {
        let offset = number.checked_sub(self.first_number).and_then(|offset| usize::try_from(offset).ok());
        let Some(slot) = offset.and_then(|offset| self.slots.get_mut(offset)) else { return };
        if slot.answer.is_some() {
            return;
        }
        self.answer_bytes += size_bytes(&response);
        slot.answer = Some(response);
        match slot.turn {
            Turn::Write => self.open_writes -= 1,
            Turn::Read => self.open_reads -= 1,
            Turn::Any => {}
        }
    }

    /// Takes what is answered at the front, about as many bytes as asked for, and says how many.
    fn take_answers(&mut self, answers: &mut Vec<Answered>, max_bytes: usize) -> usize {
        let mut taken_bytes = 0;
        while taken_bytes < max_bytes {
            let Some(response) = self.slots.front_mut().and_then(|slot| slot.answer.take()) else { break };
            let size_bytes = size_bytes(&response);
            taken_bytes += size_bytes;
            self.answer_bytes -= size_bytes;
            answers.push((self.slots.pop_front().and_then(|slot| slot.id), response));
            self.first_number += 1;
        }
        taken_bytes
    }
}

/// An answer and the id that goes with it.
type Answered = (Option<RequestKey>, Response);

/// About how long an answer's line will be. The same for the same answer.
fn size_bytes(response: &Response) -> usize {
    /// Everything but values and keys.
    const FRAME_BYTES: usize = 128;
    let long_part = match response {
        Response::Got { value, .. } => value.as_ref().map_or(0, |value| value.len()),
        Response::Written(Answer::NotSwapped { current, .. }) => {
            current.as_ref().map_or(0, |value| value.len())
        }
        Response::Written(
            Answer::Noop
            | Answer::Configured { .. }
            | Answer::Set { .. }
            | Answer::Deleted { .. }
            | Answer::Swapped { .. }
            | Answer::StaleSeq { .. }
            | Answer::SessionExpired { .. },
        ) => 0,
        Response::Scanned { page, .. } => {
            page.items.iter().map(|item| FRAME_BYTES + item.key.len() + item.value.len()).sum()
        }
        Response::Status(status) => FRAME_BYTES * (2 + status.peers.len()),
        Response::Members(members) => members.configuration.size_bytes(),
        Response::SnapshotLines { lines, .. } => lines.iter().map(|line| line.text().len() + 1).sum(),
        Response::Changed { .. } | Response::Transferred { .. } | Response::SnapshotTaken { .. } => 0,
        Response::Error { message, .. } => message.len(),
    };
    FRAME_BYTES + long_part
}

/// What a client hears when its request's time is over and its fate is not known.
pub(super) fn no_outcome() -> Response {
    Response::error(ErrorCode::Timeout, "no outcome in time: it may have happened, or may happen yet")
}

impl Slot {
    /// Answers the request, unless it was answered before. The writer sends it.
    pub fn answer(&self, response: Response) {
        if self.fill(response, |_| true) {
            self.connection.answered.notify_one();
        }
    }

    /// Whether it is to be sent: it is at the front (what waits for an earlier answer leaves with that), and
    /// this says so of its connection.
    fn fill(&self, response: Response, is_mine: impl Fn(&mut State) -> bool) -> bool {
        let mut state = self.connection.lock();
        state.fill(self.number, response);
        let is_to_be_sent = self.number == state.first_number && is_mine(&mut state);
        let reader_waits = state.reader_waits;
        drop(state);
        if reader_waits {
            self.connection.freed.notify_one();
        }
        is_to_be_sent
    }
}

/// Answers that are given together: each connection gets its own in one write.
#[derive(Default)]
pub(super) struct Answers {
    /// Those that have something to send.
    connections: Vec<Arc<Connection>>,
    bytes: usize,
    room: Room,
}

impl Answers {
    /// Answers a request, unless it was answered before. It leaves with [`Answers::send`].
    pub fn add(&mut self, slot: &Slot, response: Response) {
        self.bytes += size_bytes(&response);
        let is_new = |state: &mut State| !std::mem::replace(&mut state.is_gathered, true);
        if slot.fill(response, is_new) {
            self.connections.push(Arc::clone(&slot.connection));
        }
    }

    /// About how many bytes have come together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sends them, as far as sockets take them at once; what they do not take is left to their writers.
    pub fn send(&mut self) {
        for connection in self.connections.drain(..) {
            connection.send_now(&mut self.room);
        }
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Index;
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::thread;

    /// A client's end of a socket, with as much patience as a test may have, and the server's end.
    fn sockets() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
        let (server, address) = listener.accept().expect("it has connected");
        (client, server, address)
    }

    #[test]
    fn a_request_that_outlives_its_connection_does_not_keep_the_socket() {
        let (mut client, server, address) = sockets();
        let connection = Connection::new(server, address, Duration::from_millis(1));
        let slot = connection.try_open(&None, Turn::Write).expect("there is room");
        let writing = Arc::clone(&connection);
        let writer = thread::spawn(move || writing.run_writer());
        connection.close_after_answers();
        writer.join().expect("it ends");
        let mut answers = String::new();
        client.read_to_string(&mut answers).expect("the socket ends");
        assert!(answers.contains("timeout"), "{answers}");
        // Both ends are closed only when the next bytes find nobody: a half-closed socket would take them.
        let refused = (0..1000).any(|_| client.write_all(b"x").is_err());
        assert!(refused, "the server's end is still open, by a slot that waits");
        slot.answer(no_outcome());
    }

    /// The client reads only when its socket is full: some it took at once, and the writer has the rest.
    #[test]
    fn what_the_socket_does_not_take_at_once_comes_later_and_in_order() {
        const ANSWERS: u64 = 200;
        let (client, server, address) = sockets();
        let connection = Connection::new(server, address, Duration::from_secs(60));
        let writing = Arc::clone(&connection);
        let writer = thread::spawn(move || writing.run_writer());
        let value: Arc<str> = format!("\"{}\"", "x".repeat(100_000)).into();
        let expected: Vec<Index> = (0..ANSWERS).map(|number| Index(number as i64)).collect();
        let mut answers = Answers::default();
        let mut slots = VecDeque::new();
        let mut left = expected.iter();
        let (full_in, full) = crossbeam_channel::bounded(1);
        let reading = thread::spawn(move || {
            full.recv().expect("answers fill the socket");
            let lines = BufReader::new(client).lines();
            lines.map(|line| line.expect("it comes whole")).collect::<Vec<String>>()
        });
        for turn in 0..ANSWERS {
            slots.push_back(connection.wait_and_open(&None, Turn::Read).expect("it is not over"));
            // The later of two first, then together: the order is that of the requests.
            if turn % 2 == 1 {
                let two = slots.drain(..).zip(left.by_ref().take(2)).collect::<Vec<_>>();
                for (slot, index) in two.into_iter().rev() {
                    let value = Some(Arc::clone(&value));
                    answers.add(&slot, Response::Got { value, index: *index });
                }
                answers.send();
                let state = connection.lock();
                if state.is_sending || !state.unsent.is_empty() {
                    // Once is enough.
                    let _ = full_in.try_send(());
                }
            }
        }
        drop(full_in);
        connection.close_after_answers();
        let lines = reading.join().expect("it reads to the end");
        writer.join().expect("it ends");
        let indexes = lines.iter().map(|line| {
            let (_, index) = line.rsplit_once(":").expect("it ends with the index");
            Index(index.trim_end_matches('}').parse().expect("a number"))
        });
        assert_eq!(indexes.collect::<Vec<Index>>(), expected);
    }
}
