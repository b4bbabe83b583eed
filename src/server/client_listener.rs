//! The readers of clients' connections: they parse each line once, keep a request's turn, and hand all that
//! one read brought to the raft thread as one event. What is wrong with a line is answered here.

use super::accept::accept_all;
use super::assembly::MAX_CHUNK_BYTES;
use super::connection::{Answers, Connection, Slot, Turn};
use super::ending::Endings;
use super::kv_thread::StaleRead;
use super::peer_sender::is_timeout;
use super::raft_thread::Inbox;
use super::status::StatusBoard;
use super::ticket::Ticket;
use super::waking::WakingSender;
use crate::node::{Event, Operation};
use crate::storage::{Chunk, FileDisk, ReadableFile, SnapshotFile, StorageError};
use crate::types::EntryId;
use crate::wire::client::{BadRequest, ErrorCode, Op, OperatorOp, Request, RequestKey, Response, parse};
use crate::wire::line::{LineReader, Next};
use std::io::{self, Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often a reader that waits for its client looks at the times below.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// From the first byte of a line to its end.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Without any request, open or begun.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a client may take none of its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// What still comes after a line that was too long is thrown away, this long and this much of it, so that the
/// client gets to read why.
const DISCARD_TIME: Duration = Duration::from_secs(1);
const DISCARD_BYTES: usize = 16 * 1024 * 1024;
/// Between looks while discarding.
const DISCARD_LOOK: Duration = Duration::from_millis(50);

/// What every reader knows.
#[derive(Clone)]
pub(super) struct ClientListener {
    pub inbox: Inbox,
    pub stale_reads: WakingSender<StaleRead>,
    pub board: Arc<StatusBoard>,
    pub max_line_bytes: usize,
    pub max_clients: usize,
    /// How long a request waits on its connection for its outcome.
    pub request_timeout: Duration,
    pub endings: Endings,
    pub open_clients: OpenClients,
    /// The node's folder, where its snapshots are.
    pub disk: Arc<FileDisk>,
}

/// The connections that are open, and whether they are to end.
#[derive(Clone, Default)]
pub(super) struct OpenClients {
    count: Arc<AtomicUsize>,
    is_closing: Arc<AtomicBool>,
}

impl OpenClients {
    /// No more requests are read; what is open gets its answers, then its connection ends. Waits for that,
    /// but no longer than `patience`, and as long as readers need to notice.
    pub fn close_after_answers(&self, patience: Duration) {
        self.is_closing.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience + LOOK_INTERVAL;
        while self.count.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            std::thread::sleep(DISCARD_LOOK);
        }
    }
}

impl ClientListener {
    /// Accepts for ever.
    pub fn run(self, listener: &TcpListener) -> ! {
        let open = Arc::clone(&self.open_clients.count);
        accept_all(listener, "client", |stream, address| {
            if open.load(Ordering::Relaxed) >= self.max_clients {
                refuse(&stream, "this node has as many clients as it may; try another, or again later");
                tracing::info!(client = %address, "too many clients: one is refused");
                return;
            }
            if let Err(error) = self.serve(stream, address, Place::taken_of(&open)) {
                tracing::warn!(client = %address, "cannot serve a client: {error}");
            }
        })
    }

    fn serve(&self, stream: TcpStream, client: SocketAddr, place: Place) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_INTERVAL))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let reading = stream.try_clone()?;
        let connection = Connection::new(stream, client, self.request_timeout);
        let writing = Arc::clone(&connection);
        self.endings.spawn_connection("client-writer", move || {
            writing.run_writer();
            drop(place);
        })?;
        tracing::info!(%client, "client connected");
        let mut reader = ClientReader {
            listener: self.clone(),
            connection: Arc::clone(&connection),
            batch: Vec::new(),
            answers: Answers::default(),
            snapshot: None,
        };
        let started = self.endings.spawn_connection("client-reader", move || {
            let why = reader.read_requests(reading);
            tracing::info!(%client, "client's connection ends: {why}");
        });
        if started.is_err() {
            connection.close_after_answers();
        }
        started
    }
}

/// A place among the clients that may be connected at once, given back when the last answer is sent.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn taken_of(open: &Arc<AtomicUsize>) -> Place {
        open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(open))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One line of refusal to whom there is no place for. The socket's own buffer takes it.
fn refuse(stream: &TcpStream, why: &'static str) {
    let mut line = Vec::new();
    Response::error(ErrorCode::Busy, why).render(None, &mut line);
    // Whoever does not take it has learnt as much from the end of the connection.
    let _ = stream.set_write_timeout(Some(DISCARD_LOOK)).and_then(|()| (&*stream).write_all(&line));
}

struct ClientReader {
    listener: ClientListener,
    connection: Arc<Connection>,
    /// Requests of one read, on their way to the raft thread.
    batch: Vec<Event<Ticket>>,
    /// Answers to some of them, which need nobody else.
    answers: Answers,
    /// The snapshot that was last asked for.
    snapshot: Option<SnapshotFile<ReadableFile>>,
}

/// Why a reader stops.
enum Stop {
    /// The client sends no more.
    Ended,
    /// Nobody takes answers any more, or the process ends.
    Over,
    TooLong,
    Silent(&'static str),
    Failed(io::Error),
}

impl ClientReader {
    /// Reads requests until the client's side ends, and sees to it that what is open gets its answers. Says
    /// why it ended.
    fn read_requests(&mut self, stream: TcpStream) -> String {
        let mut lines = LineReader::new(stream, self.listener.max_line_bytes);
        let stop = self.read_until_stopped(&mut lines);
        let why = match &stop {
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
        if matches!(stop, Stop::TooLong) {
            self.discard(lines.source());
        }
        why
    }

    fn read_until_stopped(&mut self, lines: &mut LineReader<TcpStream>) -> Stop {
        let mut last_heard = Instant::now();
        // How long the client was waited for while it owed the rest of a line. Time that passes because this
        // side is busy does not count, and a byte now and then does not end it.
        let mut owing = Duration::ZERO;
        loop {
            match lines.next_line() {
                Next::Line(line) => {
                    owing = Duration::ZERO;
                    let request = parse(line);
                    if self.take(request).is_none() {
                        return Stop::Over;
                    }
                    continue;
                }
                Next::TooLong => return self.flush().map_or(Stop::Over, |()| Stop::TooLong),
                Next::End => return self.flush().map_or(Stop::Over, |()| Stop::Ended),
                Next::NeedsMore => {}
            }
            if self.flush().is_none() {
                return Stop::Over;
            }
            if self.listener.open_clients.is_closing.load(Ordering::Relaxed) {
                return Stop::Ended;
            }
            if owing > LINE_TIMEOUT {
                return Stop::Silent("it took too long over a line");
            }
            let owes = lines.unfinished_since().is_some();
            let asked_at = Instant::now();
            let filled = lines.fill();
            owing = if owes { owing + asked_at.elapsed() } else { Duration::ZERO };
            match filled {
                Ok(()) => last_heard = Instant::now(),
                Err(error) if is_timeout(&error) => {
                    if last_heard.elapsed() > IDLE_TIMEOUT && self.connection.is_idle() {
                        return Stop::Silent("it asked for nothing for a long time");
                    }
                    if self.connection.is_over() {
                        return Stop::Over;
                    }
                }
                Err(error) => return Stop::Failed(error),
            }
        }
    }

    /// Gives a request its slot and sends it on its way. None when the connection is over.
    fn take(&mut self, request: Result<Request, BadRequest>) -> Option<()> {
        match request {
            Ok(Request { id, op }) => match op {
                Op::Write(command) => {
                    let slot = self.open(&id, Turn::Write)?;
                    self.batch.push(Event::Write { command, ticket: Ticket::Write(slot) });
                }
                Op::Read { read, stale: false } => {
                    let slot = self.open(&id, Turn::Read)?;
                    self.batch.push(Event::Read { ticket: Ticket::Read(slot, read) });
                }
                Op::Read { read, stale: true } => {
                    let slot = self.open(&id, Turn::Any)?;
                    self.listener.stale_reads.send(StaleRead { slot, read }).ok()?;
                }
                Op::Operator(OperatorOp::Members) => {
                    let slot = self.open(&id, Turn::Any)?;
                    self.answers.add(&slot, Response::Members(Box::new(self.listener.board.members())));
                }
                Op::Operator(OperatorOp::Change(change)) => {
                    self.operate(&id, Operation::ChangeMembers(change))?;
                }
                Op::Operator(OperatorOp::Transfer(heir)) => self.operate(&id, Operation::Transfer(heir))?,
                Op::Operator(OperatorOp::Snapshot) => self.operate(&id, Operation::Snapshot)?,
                Op::Operator(OperatorOp::SnapshotLines { snapshot, offset }) => {
                    let slot = self.open(&id, Turn::Read)?;
                    let lines = self.snapshot_lines(snapshot, offset);
                    self.answers.add(&slot, lines);
                }
                Op::Status => {
                    let slot = self.open(&id, Turn::Any)?;
                    self.answers.add(&slot, Response::Status(Box::new(self.listener.board.read())));
                }
            },
            Err(bad) => {
                let (id, response) = bad.into_response();
                let slot = self.open(&id, Turn::Any)?;
                self.answers.add(&slot, response);
            }
        }
        Some(())
    }

    /// An operator's wish takes its turn like a write.
    fn operate(&mut self, id: &Option<RequestKey>, operation: Operation) -> Option<()> {
        let ticket = Ticket::Operation(self.open(id, Turn::Write)?);
        self.batch.push(Event::Operation { operation, ticket });
        Some(())
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
    fn discard(&self, mut stream: &TcpStream) {
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
