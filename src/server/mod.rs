//! One node as a process: threads, sockets, channels and the real clock around [`Node`](crate::node::Node).
//!
//! ```text
//!   thread             owns                          is fed by               feeds
//!   raft               Node (core, disk, waiters)    three inbox channels    peers' sockets and queues, work
//!   kv                 KvStore                       work, stale reads       polls, views, clients' sockets
//!   snapshots          a view of the store           views                   snapshot files, raft's inbox
//!   peer-sender xN     its connection out            its queue, time         the peer's socket
//!   peer-reader xN     its connection in             the socket              raft's inbox
//!   client-readers     readers that need not wait    clients' sockets        raft's inbox, the sockets
//!   client-reader      the turn of one that must     the socket              raft's inbox, the socket
//!   client-writer      what the socket did not take  slots, deadlines        the socket
//!   main               the end of the process        every thread            exit
//! ```
//!
//! All channels are bounded. Whoever may wait (a reader) waits, and its client or peer feels it; the raft
//! thread never does: what it sends either fits or may be lost. No thread holds a lock while it waits for
//! another, but for a connection's own slots. Who has just had something to do lingers before it sleeps
//! (`linger.rs`).

mod accept;
mod assembly;
mod client_listener;
mod client_reader;
mod connection;
mod ending;
mod kv_thread;
mod linger;
mod links;
mod logging;
mod peer_link;
mod peer_listener;
mod peer_sender;
mod raft_thread;
mod shared_readers;
mod snapshot_thread;
mod socket;
mod standing;
mod status;
mod ticket;
mod waking;

pub use ending::Ending;
pub use logging::LogFormat;

pub use crate::storage::FirstStart;

use crate::config::{Config, ConfigError};
use crate::node::{Event, Operation};
use crate::storage::{FileDisk, Opening, Recovered, SegmentSizes, Storage, StorageError};
use crate::types::{Incarnation, NodeId};
use assembly::{Parts, Running};
use crossbeam_channel::bounded;
use ending::Endings;
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use ticket::Ticket;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of `cluster.toml`.
    pub config: PathBuf,
    /// Which of its nodes this is.
    pub id: u16,
    /// The folder of this node's files, when it is not `data_dir/node-ID`.
    pub data_dir: Option<PathBuf>,
    /// What the start does if the folder is empty.
    pub first_start: FirstStart,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why a server did not start: exit status 2. `Display` is one line.
#[derive(Debug)]
pub enum StartError {
    /// `cluster.toml` cannot be read or is not valid.
    Config(ConfigError),
    /// `cluster.toml` has no node of this id, and the members that the node knows of do not name it.
    UnknownNode {
        /// The file.
        config: PathBuf,
        /// The id asked for.
        id: u16,
        /// The ids that it has.
        known: Vec<NodeId>,
    },
    /// The data directory cannot be used.
    Storage(StorageError),
    /// A port cannot be opened.
    Bind {
        /// Which of the two.
        what: &'static str,
        /// Its address.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The system gives something else not.
    System {
        /// What.
        what: &'static str,
        /// What it said.
        error: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => fmt::Display::fmt(error, f),
            StartError::UnknownNode { config, id, known } => {
                write!(f, "{}: there is no node with id {id}, only {known:?}", config.display())
            }
            StartError::Storage(error) => fmt::Display::fmt(error, f),
            StartError::Bind { what, address, error } => {
                write!(f, "cannot listen for {what} on {address}: {error}")
            }
            StartError::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> StartError {
        StartError::Storage(error)
    }
}

/// Runs a node until it is asked to stop or must not go on. Fails when it cannot start.
pub fn run(options: &Options) -> Result<Ending, StartError> {
    let config = Config::load(&options.config).map_err(StartError::Config)?;
    let id = NodeId(options.id);
    let (disk, mut storage, recovered) = open_storage(options, &config, id)?;
    let start = assembly::start_of(&config, &mut storage, recovered)?;
    let unknown = || StartError::UnknownNode {
        config: options.config.clone(),
        id: options.id,
        known: config.node_ids(),
    };
    let own = start.address_of(&config, id).ok_or_else(unknown)?;
    let boot = storage.raise_boot()?;
    let peers = listen("peers", &own.peer)?;
    let clients = listen("clients", &own.client)?;
    let guard = logging::start(options.log_format);
    let span = tracing::info_span!("node", id = %id, boot);
    let entered = span.clone().entered();
    raise_file_limit(&config);
    let (endings, ending) = Endings::channel(span);
    let asked = endings.clone();
    ctrlc::set_handler(move || asked.report(Ending::Asked))
        .map_err(|error| StartError::System { what: "handle signals", error: error.to_string() })?;
    let parts = Parts { config, own, boot, disk, storage, start, peers, clients, endings };
    let running = assembly::start_threads(parts)?;
    let mut why = ending.recv().unwrap_or_else(|_| Ending::Fault("no thread is left".to_owned()));
    if why == Ending::Asked {
        tracing::info!("asked to stop");
        say_farewell(&running);
        // Whatever goes wrong on the way out is worth more than that somebody asked.
        why = ending.try_recv().unwrap_or(why);
    }
    match &why {
        Ending::Asked => tracing::info!("stops: it was asked to"),
        Ending::Fault(why) => tracing::error!("stops: {why}"),
    }
    drop(entered);
    drop(guard);
    Ok(why)
}

/// Hands the lead over, if this node has it, and lets those who wait have their answers, so that nobody
/// notices more of a restart than a connection that closes.
fn say_farewell(running: &Running) {
    let Running { inbox, clients, patience } = running;
    let (done, is_done) = bounded(1);
    let operation = Operation::Transfer(None);
    let event = Event::Operation { operation, ticket: Ticket::Farewell(done) };
    if inbox.clients.send_timeout(vec![event], *patience).is_ok() {
        let _ = is_done.recv_timeout(*patience);
    }
    clients.close_after_answers(*patience);
}

fn open_storage(
    options: &Options,
    config: &Config,
    node: NodeId,
) -> Result<(FileDisk, Storage<FileDisk>, Recovered), StartError> {
    let folder = options.data_dir.clone().unwrap_or_else(|| config.data_dir_of(node));
    if config.node(node).is_none() && !folder.exists() {
        let (config, known) = (options.config.clone(), config.node_ids());
        return Err(StartError::UnknownNode { config, id: options.id, known });
    }
    let incarnation = getrandom::u64()
        .map_err(|error| StartError::System { what: "draw a random number", error: error.to_string() })?;
    let opening = Opening {
        cluster: config.cluster.clone(),
        node,
        voters: config.node_ids(),
        first_start: options.first_start,
        incarnation: Incarnation(incarnation),
        segment_sizes: SegmentSizes::default(),
    };
    let disk = FileDisk::open(&folder)?;
    let another = crate::storage::Disk::another_handle(&disk).map_err(StorageError::Disk)?;
    let (storage, recovered) = Storage::open(disk, &opening)?;
    Ok((another, storage, recovered))
}

fn listen(what: &'static str, address: &str) -> Result<TcpListener, StartError> {
    socket::bind(address).map_err(|error| StartError::Bind { what, address: address.to_owned(), error })
}

/// Every client and every peer needs a file descriptor. Without them the node works, for fewer clients.
fn raise_file_limit(config: &Config) {
    let wanted =
        u64::try_from(config.limits.max_clients).unwrap_or(u64::MAX).saturating_mul(2).saturating_add(512);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!("only {limit} open files are allowed, {wanted} would serve max_clients"),
        Err(error) => tracing::warn!("cannot raise the limit of open files: {error}"),
    }
}
