//! Puts a node together: the core as the disk left it, the store from its snapshot, the threads and the
//! channels between them.

use super::StartError;
use super::client_listener::{ClientListener, OpenClients};
use super::connection::Answers;
use super::ending::Endings;
use super::kv_thread::{KvThread, restore};
use super::links::{Greeter, Links};
use super::peer_listener::{PeerConnections, PeerListener};
use super::raft_thread::{self, Clock, Inbox, RaftThread};
use super::snapshot_thread::SnapshotThread;
use super::standing::Standing;
use super::status::StatusBoard;
use super::waking::Bell;
use crate::config::{Config, NodeConfig};
use crate::kv::KvStore;
use crate::node::{LogLimits, Node, NodeSettings, NodeStatus};
use crate::raft::{Log, RaftState, Settings, Start};
use crate::storage::{Disk, FileDisk, Recovered, SnapshotMeta, Storage, StorageError};
use crate::types::{AppliedState, Configuration, Member, NodeId};
use crate::wire::peer::{Address, Hello, NEWEST_VERSION, PROTOCOL_VERSION};
use crossbeam_channel::bounded;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Milliseconds that are one tick, unless heartbeats need a finer one.
const TICK_MS: u64 = 10;
/// How much longer a connection waits than its node: the node's own verdict is the more exact one.
const VERDICT_GRACE: Duration = Duration::from_millis(100);
/// Requests that may wait in a node at once; beyond that they get `busy`.
const MAX_WAITING: usize = 100_000;
/// Bytes of entries that the KV thread gets at once.
const MAX_WORK_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a snapshot in one message, or in one answer.
pub(super) const MAX_CHUNK_BYTES: usize = 256 * 1024;
/// A leader refuses proposals while more than this is uncommitted, a follower while more is under way to it.
const MAX_UNCOMMITTED_BYTES: usize = 64 * 1024 * 1024;
/// Stale reads that may wait for the KV thread.
const STALE_READS: usize = 1024;

/// What a node starts with, from its disk.
pub(super) struct NodeStart {
    recovered: Recovered,
    store: KvStore,
    /// The first configuration, or that of the snapshot.
    base: Configuration,
}

/// Reads the store from its snapshot, if there is one, and finds out who belongs to the cluster.
pub(super) fn start_of(
    config: &Config,
    storage: &mut Storage<FileDisk>,
    recovered: Recovered,
) -> Result<NodeStart, StartError> {
    let (store, base) = match &recovered.snapshot {
        Some(meta) => (read_store(storage, meta)?, meta.configuration.clone()),
        None => (KvStore::new(), first_configuration(config, &storage.identity().voters)),
    };
    Ok(NodeStart { recovered, store, base })
}

fn read_store(storage: &mut Storage<FileDisk>, meta: &SnapshotMeta) -> Result<KvStore, StartError> {
    let lines = storage.open_snapshot(meta.last)?.ok_or(StorageError::GivenUp)?;
    restore(meta, lines).map_err(|error| StartError::System { what: "read the snapshot", error })
}

/// The voters are those that the cluster was made of; where they can be reached, `cluster.toml` says. A node
/// that has joined knows nobody yet.
fn first_configuration(config: &Config, voters: &[NodeId]) -> Configuration {
    let member = |node: &NodeConfig| (node.id, Member::at(&node.peer, &node.client));
    let members = config.nodes.iter().filter(|node| voters.contains(&node.id)).map(member).collect();
    Configuration { voters: voters.iter().copied().collect(), members, ..Configuration::default() }
}

impl NodeStart {
    /// Where this node is to listen: as `cluster.toml` says, or else as the members that it knows of do.
    pub fn address_of(&self, config: &Config, id: NodeId) -> Option<NodeConfig> {
        let named = self.recovered.entries.iter().rev().find_map(|entry| entry.configuration.as_deref());
        let known = named.unwrap_or(&self.base).members.get(&id);
        let stored =
            known.map(|member| NodeConfig { id, peer: member.peer.clone(), client: member.client.clone() });
        config.node(id).cloned().or(stored)
    }
}

/// All that the threads are made of.
pub(super) struct Parts {
    pub config: Config,
    pub own: NodeConfig,
    pub boot: u64,
    /// A handle of its own to the folder, for those that write and read snapshots.
    pub disk: FileDisk,
    pub storage: Storage<FileDisk>,
    pub start: NodeStart,
    pub peers: TcpListener,
    pub clients: TcpListener,
    pub endings: Endings,
}

/// What main keeps of a node that runs.
pub(super) struct Running {
    pub inbox: Inbox,
    pub clients: OpenClients,
    /// How long each step on the way out may take.
    pub patience: Duration,
}

pub(super) fn start_threads(parts: Parts) -> Result<Running, StartError> {
    let Parts { config, own, boot, disk, storage, start, peers, clients, endings } = parts;
    let clock = clock(&config);
    let hello = hello(&config, &own, boot, &storage);
    let NodeStart { recovered, store, base } = start;
    let raft = start_state(&config, &clock, &hello, recovered, base, storage.may_vote())?;
    tracing::info!(peer = %own.peer, client = %own.client, cluster = %config.cluster, "started: {raft}");
    let (inbox, application_in, outbox) = raft_thread::inbox(Standing::of(&raft, &storage));
    let applied = AppliedState { last_applied: store.last_applied(), applied_hash: store.applied_hash() };
    let board = Arc::new(StatusBoard::new(NodeStatus::of(&raft), applied));
    let max_line_bytes = config.limits.max_line_bytes;

    let readable = Arc::new(disk.another_handle().map_err(StorageError::Disk)?);
    let (orders_in, orders) = bounded(2);
    let bell = Bell::new();
    let (work_in, work) = bell.channel(1);
    let (stale_in, stale_reads) = bell.channel(STALE_READS);
    let kv = KvThread {
        bell,
        store,
        polls: application_in.clone(),
        snapshots: orders_in.clone(),
        work,
        stale_reads,
        board: Arc::clone(&board),
        answers: Answers::default(),
        max_answer_bytes: max_line_bytes,
    };
    endings.spawn_vital("kv", kv, KvThread::run);
    let snapshots = SnapshotThread { cluster: config.cluster.clone(), disk, orders, done: application_in };
    endings.spawn_vital("snapshots", snapshots, SnapshotThread::run);

    let addresses = addresses(&config, &raft, own.id);
    let greeter = Greeter {
        hello: hello.clone(),
        inbox: inbox.clone(),
        board: Arc::clone(&board),
        max_line_bytes,
        endings: endings.clone(),
    };
    let connections = PeerConnections::default();
    let links = Links::new(greeter, addresses, connections.clone(), work_in, orders_in);
    let node = Node::new(raft, boot, storage, node_settings(&config, &clock));
    let raft = RaftThread { node, outbox, links, board: Arc::clone(&board), clock };
    endings.spawn_vital("raft", raft, RaftThread::run);

    let listener = {
        let (own, inbox, endings) = (hello, inbox.clone(), endings.clone());
        PeerListener { own, inbox, max_line_bytes, endings, connections }
    };
    endings.spawn_vital("peer-listener", (), move |()| listener.run(&peers));
    let open_clients = OpenClients::default();
    let listener = ClientListener {
        inbox: inbox.clone(),
        stale_reads: stale_in,
        board,
        max_line_bytes,
        max_clients: config.limits.max_clients,
        request_timeout: Duration::from_millis(config.timing.request_timeout_ms) + VERDICT_GRACE,
        endings: endings.clone(),
        open_clients: open_clients.clone(),
        disk: readable,
    };
    endings.spawn_vital("client-listener", (), move |()| listener.run(&clients));
    let patience = Duration::from_millis(2 * config.timing.election_timeout_ms[1]);
    Ok(Running { inbox, clients: open_clients, patience })
}

/// What this node says of itself to everybody, but for whom it means.
fn hello(config: &Config, own: &NodeConfig, boot: u64, storage: &Storage<FileDisk>) -> Hello {
    Hello {
        version: PROTOCOL_VERSION,
        newest_version: NEWEST_VERSION,
        cluster: config.cluster.clone(),
        from: own.id,
        to: own.id,
        boot,
        incarnation: storage.identity().incarnation,
        first_voters: storage.identity().voters.clone(),
        // What the node is in its cluster is said as it is when this is sent.
        founding: None,
        life: None,
        address: Some(Address { peer: own.peer.clone(), client: own.client.clone() }),
        has_lost_data: false,
    }
}

/// Where the others can be reached, as far as that is known at start.
fn addresses(config: &Config, raft: &RaftState, own: NodeId) -> BTreeMap<NodeId, String> {
    let mut addresses: BTreeMap<NodeId, String> =
        config.nodes.iter().map(|node| (node.id, node.peer.clone())).collect();
    addresses.extend(raft.configuration().members.iter().map(|(id, member)| (*id, member.peer.clone())));
    addresses.remove(&own);
    addresses
}

fn node_settings(config: &Config, clock: &Clock) -> NodeSettings {
    NodeSettings {
        request_timeout_ticks: ticks(clock, config.timing.request_timeout_ms).into(),
        max_waiting: MAX_WAITING,
        max_work_bytes: MAX_WORK_BYTES,
        max_chunk_bytes: MAX_CHUNK_BYTES.min(config.limits.max_line_bytes),
        log_limits: LogLimits {
            bytes: config.log.snapshot_after_bytes,
            entries: config.log.snapshot_after_entries,
        },
    }
}

/// The core as the disk left it.
fn start_state(
    config: &Config,
    clock: &Clock,
    own: &Hello,
    recovered: Recovered,
    configuration: Configuration,
    may_vote: bool,
) -> Result<RaftState, StartError> {
    let seed = getrandom::u64()
        .map_err(|error| StartError::System { what: "draw a random number", error: error.to_string() })?;
    if let Some(torn) = &recovered.torn {
        tracing::warn!("{torn}");
    }
    let start = Start {
        id: own.from,
        boot: own.boot,
        configuration,
        may_vote,
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
