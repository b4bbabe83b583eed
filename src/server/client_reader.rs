//! The reader of a client's connection: it parses each line once, keeps a request's turn, and hands on what
//! one read brought to the raft thread as one event. What is wrong with a line is answered here.
//!
//! Most readers share a thread (`shared_readers.rs`), which must not wait for a single one of them. A reader
//! whose next request has to wait for its turn, or for a disk, gets a thread of its own, and keeps it.

use super::assembly::MAX_CHUNK_BYTES;
use super::client_listener::ClientListener;
use super::connection::{Answers, Connection, Slot, Turn};
use super::kv_thread::StaleRead;
use super::peer_sender::is_timeout;
use super::socket::{Incoming, Wait};
use super::ticket::Ticket;
use crate::node::{Event, Operation};
use crate::storage::{Chunk, ReadableFile, SnapshotFile, StorageError};
use crate::types::EntryId;
use crate::wire::client::{BadRequest, ErrorCode, Op, OperatorOp, Request, RequestKey, Response, parse};
use crate::wire::line::{LineReader, Next};
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From the first byte of a line to its end.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without any request, open or begun.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// What still comes after a line that was too long is thrown away, this long and this much of it, so that the
/// client gets to read why.
const DISCARD_TIME: Duration = Duration::from_secs(1);
const DISCARD_BYTES: usize = 16 * 1024 * 1024;
/// Between looks while discarding.
pub(super) const DISCARD_LOOK: Duration = Duration::from_millis(50);

/// A request, or what is wrong with it.
type Asked = Result<Request, BadRequest>;

/// See the file's header.
pub(super) struct ClientReader {
    listener: ClientListener,
    client: SocketAddr,
    connection: Arc<Connection>,
    lines: LineReader<Incoming>,
    last_heard: Instant,
    /// How long the client was waited for while it owed the rest of a line. Time that passes because this
    /// side is busy does not count, and a byte now and then does not end it.
    owing: Duration,
    /// The request that a thread of its own begins with.
    pending: Option<Asked>,
    /// Requests of one read, on their way to the raft thread.
    batch: Vec<Event<Ticket>>,
    /// Answers to some of them, which need nobody else.
    answers: Answers,
    /// The snapshot that was last asked for.
    snapshot: Option<SnapshotFile<ReadableFile>>,
}

/// Why a reader stops.
pub(super) enum Stop {
    /// The client sends no more.
    Ended,
    /// Nobody takes answers any more, or the process ends.
    Over,
    TooLong,
    Silent(&'static str),
    Failed(io::Error),
}

/// What stands at the front of what has come.
enum Front {
    Request(Asked),
    NeedsMore,
    TooLong,
    End,
}

/// Why a reader does not share its thread any more.
pub(super) enum Parting {
    /// It needs a thread of its own.
    Waits,
    Stops(Stop),
}

impl ClientReader {
    pub fn new(
        listener: ClientListener,
        client: SocketAddr,
        connection: Arc<Connection>,
        stream: TcpStream,
    ) -> ClientReader {
        let source = Incoming { stream, wait: Wait::Sleeps };
        ClientReader {
            lines: LineReader::new(source, listener.max_line_bytes),
            listener,
            client,
            connection,
            last_heard: Instant::now(),
            owing: Duration::ZERO,
            pending: None,
            batch: Vec::new(),
            answers: Answers::default(),
            snapshot: None,
        }
    }

    /// The socket, to be waited for.
    pub fn stream(&self) -> &TcpStream {
        &self.lines.source().stream
    }

    /// The connection that it reads for.
    pub fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    fn front(&mut self) -> Front {
        match self.lines.next_line() {
            Next::Line(line) => {
                let request = parse(line);
                self.owing = Duration::ZERO;
                Front::Request(request)
            }
            Next::NeedsMore => Front::NeedsMore,
            Next::TooLong => Front::TooLong,
            Next::End => Front::End,
        }
    }

    /// Something has come: takes all requests of it that need not wait. What is for the raft thread is added
    /// to `batch`. None as long as the reader can go on so.
    pub fn read_shared(&mut self, batch: &mut Vec<Event<Ticket>>) -> Option<Parting> {
        self.lines.source_mut().wait = Wait::No;
        let parting = match self.lines.fill() {
            Err(error) if !is_timeout(&error) => Some(Parting::Stops(Stop::Failed(error))),
            Err(_) => None,
            Ok(()) => {
                self.last_heard = Instant::now();
                self.take_what_need_not_wait()
            }
        };
        self.answers.send();
        batch.append(&mut self.batch);
        parting
    }

    fn take_what_need_not_wait(&mut self) -> Option<Parting> {
        loop {
            match self.front() {
                Front::Request(request) if self.has_to_wait(&request) => {
                    self.pending = Some(request);
                    return Some(Parting::Waits);
                }
                Front::Request(request) => {
                    if self.take(request).is_none() {
                        return Some(Parting::Stops(Stop::Over));
                    }
                }
                Front::NeedsMore => return None,
                // What still comes is waited for.
                Front::TooLong => return Some(Parting::Waits),
                Front::End => return Some(Parting::Stops(Stop::Ended)),
            }
        }
    }

    /// Whether its thread would wait: for the request's turn, for room, for a disk. What need not wait now
    /// does not have to later, since only this reader opens slots.
    fn has_to_wait(&self, request: &Asked) -> bool {
        let turn = match request {
            Ok(Request { op: Op::Operator(OperatorOp::SnapshotLines { .. }), .. }) => return true,
            Ok(Request { op, .. }) => turn(op),
            Err(_) => Turn::Any,
        };
        !self.connection.may_open(turn)
    }

    /// Time has passed. Says why a reader that shares its thread stops, if it does.
    pub fn look_shared(&mut self, passed: Duration) -> Option<Stop> {
        self.owing =
            if self.lines.unfinished_since().is_some() { self.owing + passed } else { Duration::ZERO };
        self.look()
    }

    fn look(&self) -> Option<Stop> {
        if self.listener.open_clients.is_closing() {
            Some(Stop::Ended)
        } else if self.connection.is_over() {
            Some(Stop::Over)
        } else if self.owing > LINE_TIMEOUT {
            Some(Stop::Silent("it took too long over a line"))
        } else if self.last_heard.elapsed() > IDLE_TIMEOUT && self.connection.is_idle() {
            Some(Stop::Silent("it asked for nothing for a long time"))
        } else {
            None
        }
    }

    /// Reads in a thread of its own until the client's side ends.
    pub fn read_alone(mut self) {
        self.lines.source_mut().wait = Wait::Sleeps;
        let stop = self.read_until_stopped();
        self.stop(&stop);
        if matches!(stop, Stop::TooLong) {
            self.discard();
        }
    }

    /// Sees to it that what is open gets its answers. Says why it ended.
    pub fn stop(&mut self, stop: &Stop) {
        let why = match stop {
            Stop::Ended => "it sends no more".to_owned(),
            Stop::Over => "it takes no more answers".to_owned(),
            Stop::TooLong => {
                self.answer_too_long();
                "its line is too long".to_owned()
            }
            Stop::Silent(why) => (*why).to_owned(),
            Stop::Failed(error) => error.to_string(),
        };
        self.connection.close_after_answers();
        tracing::info!(client = %self.client, "client's connection ends: {why}");
    }

    fn read_until_stopped(&mut self) -> Stop {
        if let Some(request) = self.pending.take()
            && self.take(request).is_none()
        {
            return Stop::Over;
        }
        loop {
            match self.front() {
                Front::Request(request) => {
                    if self.take(request).is_none() {
                        return Stop::Over;
                    }
                    continue;
                }
                Front::TooLong => return self.flush().map_or(Stop::Over, |()| Stop::TooLong),
                Front::End => return self.flush().map_or(Stop::Over, |()| Stop::Ended),
                Front::NeedsMore => {}
            }
            if self.flush().is_none() {
                return Stop::Over;
            }
            if let Some(stop) = self.look() {
                return stop;
            }
            let owes = self.lines.unfinished_since().is_some();
            let asked_at = Instant::now();
            let filled = self.lines.fill();
            self.owing = if owes { self.owing + asked_at.elapsed() } else { Duration::ZERO };
            match filled {
                Ok(()) => self.last_heard = Instant::now(),
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Stop::Failed(error),
            }
        }
    }

    /// Gives a request its slot and sends it on its way. None when the connection is over.
    fn take(&mut self, request: Asked) -> Option<()> {
        let (id, op) = match request {
            Ok(Request { id, op }) => (id, op),
            Err(bad) => {
                let (id, response) = bad.into_response();
                let slot = self.open(&id, Turn::Any)?;
                self.answers.add(&slot, response);
                return Some(());
            }
        };
        let slot = self.open(&id, turn(&op))?;
        match op {
            Op::Write(command) => self.batch.push(Event::Write { command, ticket: Ticket::Write(slot) }),
            Op::Read { read, stale: false } => {
                self.batch.push(Event::Read { ticket: Ticket::Read(slot, read) });
            }
            Op::Read { read, stale: true } => {
                self.listener.stale_reads.send(StaleRead { slot, read }).ok()?;
            }
            Op::Operator(OperatorOp::Members) => {
                self.answers.add(&slot, Response::Members(Box::new(self.listener.board.members())));
            }
            Op::Operator(OperatorOp::Change(change)) => {
                self.operate(slot, Operation::ChangeMembers(change));
            }
            Op::Operator(OperatorOp::Transfer(heir)) => self.operate(slot, Operation::Transfer(heir)),
            Op::Operator(OperatorOp::Snapshot) => self.operate(slot, Operation::Snapshot),
            Op::Operator(OperatorOp::SnapshotLines { snapshot, offset }) => {
                let lines = self.snapshot_lines(snapshot, offset);
                self.answers.add(&slot, lines);
            }
            Op::Status => self.answers.add(&slot, Response::Status(Box::new(self.listener.board.read()))),
        }
        Some(())
    }

    fn operate(&mut self, slot: Slot, operation: Operation) {
        self.batch.push(Event::Operation { operation, ticket: Ticket::Operation(slot) });
    }

    /// Some lines of a snapshot, or why there are none.
    fn snapshot_lines(&mut self, snapshot: Option<EntryId>, offset: u64) -> Response {
        match self.read_snapshot(snapshot, offset) {
            Ok(Some((snapshot, Chunk { lines, is_last }))) => {
                Response::SnapshotLines { snapshot, offset, lines, is_last }
            }
            Ok(None) => {
                let message = "there is no such snapshot, or no line of it begins there: begin anew";
                Response::error(ErrorCode::Refused, message)
            }
            Err(error) => {
                tracing::error!("a snapshot cannot be read: {error}");
                Response::error(ErrorCode::Refused, error.to_string())
            }
        }
    }

    /// Reads here and not on the raft thread, which has better things to do than to wait for a disk. The file
    /// stays open from one request to the next, so that whoever has begun to fetch it on this connection
    /// comes to its end, however many snapshots take its place meanwhile.
    fn read_snapshot(
        &mut self,
        snapshot: Option<EntryId>,
        offset: u64,
    ) -> Result<Option<(EntryId, Chunk)>, StorageError> {
        let at_hand = self.snapshot.take().filter(|file| snapshot == Some(file.last()));
        self.snapshot = match at_hand {
            Some(file) => Some(file),
            None => SnapshotFile::find(&*self.listener.disk, snapshot)?,
        };
        let Some(file) = &self.snapshot else { return Ok(None) };
        let max_bytes = MAX_CHUNK_BYTES.min(self.listener.max_line_bytes);
        Ok(file.read_chunk(offset, max_bytes)?.map(|chunk| (file.last(), chunk)))
    }

    /// Opens a slot, in its turn. What it may have to wait for must be on its way first.
    fn open(&mut self, id: &Option<RequestKey>, turn: Turn) -> Option<Slot> {
        match self.connection.try_open(id, turn) {
            Some(slot) => Some(slot),
            None => {
                self.flush()?;
                self.connection.wait_and_open(id, turn)
            }
        }
    }

    /// Sends what was gathered. A full inbox makes the reader wait, and so its client.
    fn flush(&mut self) -> Option<()> {
        self.answers.send();
        if self.batch.is_empty() {
            return Some(());
        }
        self.listener.inbox.clients.send(std::mem::take(&mut self.batch)).ok()
    }

    fn answer_too_long(&mut self) {
        let limit = self.listener.max_line_bytes;
        if let Some(slot) = self.open(&None, Turn::Any) {
            let message = format!("a line may have {limit} bytes: the connection closes");
            self.answers.add(&slot, Response::error(ErrorCode::TooLarge, message));
            // Here and now: what still comes may be thrown away before the writer gets its turn.
            self.answers.send();
        }
    }

    /// Throws away what still comes, so that closing does not cut off the answers on their way to the client.
    fn discard(&self) {
        let mut stream = self.stream();
        let mut buffer = [0; 16 * 1024];
        let mut discarded = 0;
        let mut over_since = None;
        if stream.set_read_timeout(Some(DISCARD_LOOK)).is_err() {
            return;
        }
        while discarded < DISCARD_BYTES {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => discarded += count,
                Err(error) if is_timeout(&error) => {}
                Err(_) => break,
            }
            if self.connection.is_over() {
                let since = *over_since.get_or_insert_with(Instant::now);
                if since.elapsed() > DISCARD_TIME {
                    break;
                }
            }
        }
        // It may be gone already: then there is nothing to shut down.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// What a request has to wait for on its connection.
fn turn(op: &Op) -> Turn {
    match op {
        Op::Write(_) => Turn::Write,
        Op::Read { stale: false, .. } => Turn::Read,
        Op::Read { stale: true, .. } | Op::Status => Turn::Any,
        Op::Operator(op) => match op {
            OperatorOp::Change(_) | OperatorOp::Transfer(_) | OperatorOp::Snapshot => Turn::Write,
            OperatorOp::SnapshotLines { .. } => Turn::Read,
            OperatorOp::Members => Turn::Any,
        },
    }
}
