//! One node as a process: threads, sockets, channels and the real clock around [`Node`].
//!
//! ```text
//!   thread             owns                          is fed by               feeds
//!   raft               Node (core, disk, waiters)    three inbox channels    peers' queues, work, slots
//!   kv                 KvStore                       work, stale reads       polls, slots
//!   peer-sender xN     its connection out            its queue               the peer's socket
//!   peer-reader xN     its connection in             the socket              raft's inbox
//!   client-reader      its connection's turn         the socket              raft's inbox, slots
//!   client-writer      its connection's answers      slots                   the socket
//!   main               the end of the process        every thread            exit
//! ```
//!
//! All channels are bounded. Whoever may wait (a reader) waits, and its client or peer feels it; the raft
//! thread never does: what it sends either fits or may be lost. No thread holds a lock while it waits for
//! another, but for a connection's own slots.

mod accept;
mod client_listener;
mod connection;
mod ending;
mod kv_thread;
mod logging;
mod peer_listener;
mod peer_sender;
mod raft_thread;
mod status;
mod ticket;

pub use ending::Ending;
pub use logging::LogFormat;

use crate::config::{Config, ConfigError, NodeConfig};
use crate::kv::KvStore;
use crate::node::{Node, NodeSettings, NodeStatus};
use crate::raft::{Configuration, Log, RaftState, Settings, Start};
use crate::storage::{FileDisk, FirstStart, Opening, Recovered, SEGMENT_LIMIT_BYTES, Storage, StorageError};
use crate::types::{AppliedState, Incarnation, NodeId};
use crate::wire::peer::{Hello, PROTOCOL_VERSION};
use client_listener::ClientListener;
use crossbeam_channel::bounded;
use ending::Endings;
use kv_thread::KvThread;
use peer_listener::PeerListener;
use peer_sender::PeerSender;
use raft_thread::{Clock, Inbox, Links, RaftThread};
use status::StatusBoard;
use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The path of `cluster.toml`.
    pub config: PathBuf,
    /// Which of its nodes this is.
    pub id: u16,
    /// The folder of this node's files, when it is not `data_dir/node-ID`.
    pub data_dir: Option<PathBuf>,
    /// This is the node's first start in a new cluster.
    pub bootstrap: bool,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Why a server did not start: exit status 2. `Display` is one line.
#[derive(Debug)]
pub enum StartError {
    /// `cluster.toml` cannot be read or is not valid.
    Config(ConfigError),
    /// `cluster.toml` has no node of this id.
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

/// Milliseconds that are one tick, unless heartbeats need a finer one.
const TICK_MS: u64 = 10;
/// How much longer a connection waits than its node: the node's own verdict is the more exact one.
const VERDICT_GRACE: Duration = Duration::from_millis(100);
/// Requests that may wait in a node at once; beyond that they get `busy`.
const MAX_WAITING: usize = 100_000;
/// Bytes of entries that the KV thread gets at once.
const MAX_WORK_BYTES: usize = 4 * 1024 * 1024;
/// A leader refuses proposals while more than this is uncommitted, a follower while more is under way to it.
const MAX_UNCOMMITTED_BYTES: usize = 64 * 1024 * 1024;
/// Stale reads that may wait for the KV thread.
const STALE_READS: usize = 1024;

/// Runs a node until it is asked to stop or must not go on. Fails when it cannot start.
pub fn run(options: &Options) -> Result<Ending, StartError> {
    let config = Config::load(&options.config).map_err(StartError::Config)?;
    let id = NodeId(options.id);
    let node = config.node(id).cloned().ok_or_else(|| StartError::UnknownNode {
        config: options.config.clone(),
        id: options.id,
        known: config.node_ids(),
    })?;
    let (mut storage, recovered) = open_storage(options, &config, id)?;
    let boot = storage.raise_boot()?;
    let peers = listen("peers", &node.peer)?;
    let clients = listen("clients", &node.client)?;
    let guard = logging::start(options.log_format);
    let span = tracing::info_span!("node", id = %id, boot);
    let entered = span.clone().entered();
    raise_file_limit(&config);
    let (endings, ending) = Endings::channel(span);
    let asked = endings.clone();
    ctrlc::set_handler(move || asked.report(Ending::Asked))
        .map_err(|error| StartError::System { what: "handle signals", error: error.to_string() })?;
    start_threads(Parts { config, node, boot, storage, recovered, peers, clients, endings })?;
    let ending = ending.recv().unwrap_or_else(|_| Ending::Fault("no thread is left".to_owned()));
    match &ending {
        Ending::Asked => tracing::info!("stops: it was asked to"),
        Ending::Fault(why) => tracing::error!("stops: {why}"),
    }
    drop(entered);
    drop(guard);
    Ok(ending)
}

fn open_storage(
    options: &Options,
    config: &Config,
    node: NodeId,
) -> Result<(Storage<FileDisk>, Recovered), StartError> {
    let folder = options.data_dir.clone().unwrap_or_else(|| config.data_dir_of(node));
    let incarnation = getrandom::u64()
        .map_err(|error| StartError::System { what: "draw a random number", error: error.to_string() })?;
    let opening = Opening {
        cluster: config.cluster.clone(),
        node,
        voters: config.node_ids(),
        first_start: if options.bootstrap { FirstStart::Bootstrap } else { FirstStart::Refused },
        incarnation: Incarnation(incarnation),
        segment_limit_bytes: SEGMENT_LIMIT_BYTES,
    };
    Ok(Storage::open(FileDisk::open(&folder)?, &opening)?)
}

fn listen(what: &'static str, address: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).map_err(|error| StartError::Bind { what, address: address.to_owned(), error })
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

/// All that the threads are made of.
struct Parts {
    config: Config,
    node: NodeConfig,
    boot: u64,
    storage: Storage<FileDisk>,
    recovered: Recovered,
    peers: TcpListener,
    clients: TcpListener,
    endings: Endings,
}

fn start_threads(parts: Parts) -> Result<(), StartError> {
    let Parts { config, node, boot, storage, recovered, peers, clients, endings } = parts;
    let clock = clock(&config);
    let hello = Hello {
        version: PROTOCOL_VERSION,
        cluster: config.cluster.clone(),
        from: node.id,
        to: node.id,
        boot,
        incarnation: storage.identity().incarnation,
        first_voters: storage.identity().voters.clone(),
    };
    let raft = start_state(&config, &clock, &hello, recovered)?;
    tracing::info!(peer = %node.peer, client = %node.client, cluster = %config.cluster, "started: {raft}");

    let settings = NodeSettings {
        request_timeout_ticks: ticks(&clock, config.timing.request_timeout_ms).into(),
        max_waiting: MAX_WAITING,
        max_work_bytes: MAX_WORK_BYTES,
    };
    let (inbox, outbox) = raft_thread::inbox(raft.term());
    let store = KvStore::new();
    let applied = AppliedState { last_applied: store.last_applied(), applied_hash: store.applied_hash() };
    let others: Vec<&NodeConfig> = config.nodes.iter().filter(|other| other.id != node.id).collect();
    let board =
        Arc::new(StatusBoard::new(NodeStatus::of(&raft), applied, others.iter().map(|other| other.id)));
    let raft_node = Node::new(raft, boot, storage, settings);
    let peer_queues =
        start_peer_senders(&others, &hello, &inbox, &board, config.limits.max_line_bytes, &endings);
    let (polls_in, polls) = bounded(1);
    let (work_in, work) = bounded(1);
    let (stale_in, stale_reads) = bounded(STALE_READS);
    let max_answer_bytes = config.limits.max_line_bytes;
    let kv =
        KvThread { store, polls: polls_in, work, stale_reads, board: Arc::clone(&board), max_answer_bytes };
    endings.spawn_vital("kv", kv, KvThread::run);
    let links = Links { id: node.id, peers: peer_queues, work: work_in };
    let raft = RaftThread { node: raft_node, outbox, polls, links, board: Arc::clone(&board), clock };
    endings.spawn_vital("raft", raft, RaftThread::run);

    let listener = PeerListener {
        own: hello,
        inbox: inbox.clone(),
        max_line_bytes: config.limits.max_line_bytes,
        endings: endings.clone(),
    };
    endings.spawn_vital("peer-listener", (), move |()| listener.run(&peers));
    let listener = ClientListener {
        inbox,
        stale_reads: stale_in,
        board,
        max_line_bytes: config.limits.max_line_bytes,
        max_clients: config.limits.max_clients,
        request_timeout: Duration::from_millis(config.timing.request_timeout_ms) + VERDICT_GRACE,
        endings: endings.clone(),
    };
    endings.spawn_vital("client-listener", (), move |()| listener.run(&clients));
    Ok(())
}

fn start_peer_senders(
    others: &[&NodeConfig],
    hello: &Hello,
    inbox: &Inbox,
    board: &Arc<StatusBoard>,
    max_line_bytes: usize,
    endings: &Endings,
) -> BTreeMap<NodeId, crossbeam_channel::Sender<crate::wire::peer::Envelope>> {
    let mut queues = BTreeMap::new();
    for other in others {
        let (queue_in, queue) = raft_thread::peer_queue();
        let sender = PeerSender {
            hello: Hello { to: other.id, ..hello.clone() },
            address: other.peer.clone(),
            queue,
            inbox: inbox.clone(),
            board: Arc::clone(board),
            max_line_bytes,
        };
        endings.spawn_vital("peer-sender", (), move |()| sender.run());
        queues.insert(other.id, queue_in);
    }
    queues
}

/// The core as the disk left it.
fn start_state(
    config: &Config,
    clock: &Clock,
    own: &Hello,
    recovered: Recovered,
) -> Result<RaftState, StartError> {
    let seed = getrandom::u64()
        .map_err(|error| StartError::System { what: "draw a random number", error: error.to_string() })?;
    if let Some(torn) = &recovered.torn {
        tracing::warn!("{torn}");
    }
    let start = Start {
        id: own.from,
        boot: own.boot,
        configuration: Configuration::new(own.first_voters.iter().copied()),
        hard_state: recovered.hard_state,
        log: Log::new(recovered.base, recovered.entries),
        seed,
    };
    let [shortest, longest] = config.timing.election_timeout_ms;
    let max_line_bytes = config.limits.max_line_bytes;
    let settings = Settings {
        heartbeat_ticks: ticks(clock, config.timing.heartbeat_ms),
        election_timeout_min_ticks: ticks(clock, shortest),
        election_timeout_max_ticks: ticks(clock, longest),
        max_append_entries: 8192,
        // A line between nodes may be twice as long and more: room for what stands around the entries.
        max_append_bytes: max_line_bytes,
        max_in_flight_messages: 64,
        max_in_flight_bytes: max_line_bytes.saturating_mul(8),
        max_uncommitted_bytes: MAX_UNCOMMITTED_BYTES,
        max_forwarded_bytes: MAX_UNCOMMITTED_BYTES,
    };
    Ok(RaftState::new(start, settings))
}

/// A tick is at most a fifth of a heartbeat, so that rounding does not matter.
fn clock(config: &Config) -> Clock {
    let tick_ms = (config.timing.heartbeat_ms / 5).clamp(1, TICK_MS);
    let clock = Clock { tick: Duration::from_millis(tick_ms), max_ticks_at_once: 1 };
    let max_ticks_at_once = (ticks(&clock, config.timing.election_timeout_ms[0]) / 2).max(1);
    Clock { max_ticks_at_once, ..clock }
}

fn ticks(clock: &Clock, time_ms: u64) -> u32 {
    let ticks = Duration::from_millis(time_ms).as_nanos() / clock.tick.as_nanos();
    u32::try_from(ticks).unwrap_or(u32::MAX).max(1)
}
