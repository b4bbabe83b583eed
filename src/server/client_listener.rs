//! Whoever connects as a client gets a writer of its own and a reader, as long as there is room.

use super::accept::accept_all;
use super::client_reader::{ClientReader, DISCARD_LOOK};
use super::connection::Connection;
use super::ending::Endings;
use super::kv_thread::StaleRead;
use super::raft_thread::Inbox;
use super::shared_readers::SharedReaders;
use super::status::StatusBoard;
use super::waking::WakingSender;
use crate::storage::FileDisk;
use crate::wire::client::{ErrorCode, Response};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often a reader that waits for its client looks at the times below.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client may take none of its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// Whether no more requests are to be read.
    pub fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

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
        let readers = SharedReaders::start(&self);
        accept_all(listener, "client", |stream, address| {
            if open.load(Ordering::Relaxed) >= self.max_clients {
                refuse(&stream, "this node has as many clients as it may; try another, or again later");
                tracing::info!(client = %address, "too many clients: one is refused");
                return;
            }
            if let Err(error) = self.serve(stream, address, Place::taken_of(&open), &readers) {
                tracing::warn!(client = %address, "cannot serve a client: {error}");
            }
        })
    }

    fn serve(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        place: Place,
        readers: &SharedReaders,
    ) -> io::Result<()> {
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
        let reader = ClientReader::new(self.clone(), client, Arc::clone(&connection), reading);
        let started = readers.take(reader);
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
