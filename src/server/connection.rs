//! One client's connection: it owns the order of its requests. Each request has a slot with a deadline; the
//! first to fill a slot wins, a later one is dropped; answers leave in the order of the slots.
//!
//! ```text
//!   reader --open--> [ 7: answered ][ 8: waits ][ 9: answered ][ 10: waits ] --front answered--> writer
//!                                      ^ fill: kv thread, raft thread, or the writer at its deadline
//! ```
//!
//! The writer fills a slot whose time is up with `timeout` itself, so that no stalled thread can silence a
//! connection. A request sees the effects of those before it: a read opens only when no write of this
//! connection is open, and the other way round (`Turn`). What is waited for here is bounded in number and in
//! bytes; beyond that the reader stops reading, and the client feels it in its socket.

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
/// Answers that go out in one write, about.
const WRITE_BYTES: usize = 256 * 1024;

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

/// A client's connection, without its socket, which belongs to the two threads that serve it: a request whose
/// fate is not known yet may keep this long after they are gone, and must not keep a file descriptor.
pub(super) struct Connection {
    client: SocketAddr,
    request_timeout: Duration,
    state: Mutex<State>,
    /// The writer waits here for answers.
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
    slots: VecDeque<OpenSlot>,
    first_number: u64,
    open_writes: usize,
    open_reads: usize,
    answer_bytes: usize,
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
    pub fn new(client: SocketAddr, request_timeout: Duration) -> Arc<Connection> {
        Arc::new(Connection {
            client,
            request_timeout,
            state: Mutex::new(State {
                slots: VecDeque::new(),
                first_number: 0,
                open_writes: 0,
                open_reads: 0,
                answer_bytes: 0,
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

    /// The writer's work: sends answers in order until the last one, or until the client takes none within
    /// the socket's write timeout. Then shuts down the sending side.
    pub fn send_answers(&self, mut stream: TcpStream) {
        let mut answers = Vec::new();
        let mut buffer = Vec::new();
        while self.wait_for_answers(&mut answers) {
            for (id, response) in answers.drain(..) {
                response.render(id.as_ref(), &mut buffer);
            }
            if let Err(error) = stream.write_all(&buffer) {
                tracing::debug!(client = %self.client, "client does not take its answers: {error}");
                break;
            }
            buffer.clear();
            // A large answer must not be paid for as long as the connection lasts.
            buffer.shrink_to(2 * WRITE_BYTES);
        }
        self.lock().is_over = true;
        self.freed.notify_all();
        // It may be gone already: then there is nothing to shut down.
        let _ = stream.shutdown(Shutdown::Write);
    }

    /// Waits for answers at the front and moves them into `answers`. False when there will be none any more.
    fn wait_for_answers(&self, answers: &mut Vec<Answered>) -> bool {
        let mut state = self.lock();
        loop {
            state.take_answers(answers);
            if !answers.is_empty() {
                if state.reader_waits {
                    self.freed.notify_one();
                }
                return true;
            }
            let now = Instant::now();
            let wait = match state.slots.front() {
                None if state.is_last => return false,
                // Whatever opens meanwhile has a deadline that is later than this.
                None => self.request_timeout,
                Some(front) => front.deadline.saturating_duration_since(now),
            };
            if wait.is_zero() {
                let number = state.first_number;
                state.fill(number, no_outcome());
                continue;
            }
            state = self.answered.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
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

    fn take_answers(&mut self, answers: &mut Vec<Answered>) {
        let mut taken_bytes = 0;
        while taken_bytes < WRITE_BYTES {
            let Some(response) = self.slots.front_mut().and_then(|slot| slot.answer.take()) else { return };
            let size_bytes = size_bytes(&response);
            taken_bytes += size_bytes;
            self.answer_bytes -= size_bytes;
            answers.push((self.slots.pop_front().and_then(|slot| slot.id), response));
            self.first_number += 1;
        }
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
    /// Answers the request, unless it was answered before.
    pub fn answer(&self, response: Response) {
        let mut state = self.connection.lock();
        state.fill(self.number, response);
        let is_front = self.number == state.first_number;
        let reader_waits = state.reader_waits;
        drop(state);
        if is_front {
            self.connection.answered.notify_one();
        }
        if reader_waits {
            self.connection.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
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
        let connection = Connection::new(address, Duration::from_millis(1));
        let slot = connection.try_open(&None, Turn::Write).expect("there is room");
        let writing = Arc::clone(&connection);
        let writer = thread::spawn(move || writing.send_answers(server));
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
}
