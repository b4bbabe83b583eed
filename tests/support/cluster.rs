//! Clusters of real server processes. Whatever happens to the test, the processes end with it.

use super::client::Line;
use super::process::Process;
use super::waiting::wait_until;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a node may take over its status before it counts as not answering.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Lines of each node's log that a failed test shows.
const SHOWN_LINES: usize = 30;

/// What a cluster is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cluster: &'static str,
    pub nodes: u16,
    pub election_timeout_ms: [u64; 2],
    pub request_timeout_ms: u64,
    pub max_line_bytes: usize,
    pub max_clients: usize,
    /// After so many entries a node takes a snapshot, when it is not the contract's default.
    pub snapshot_after_entries: Option<u64>,
}

impl Plan {
    /// So many nodes, and the defaults of the contract.
    pub fn of(nodes: u16) -> Plan {
        Plan {
            cluster: "test",
            nodes,
            election_timeout_ms: [300, 600],
            request_timeout_ms: 5000,
            max_line_bytes: 1024 * 1024,
            max_clients: 4096,
            snapshot_after_entries: None,
        }
    }

    /// The `cluster.toml`, with two ports for each node.
    pub fn config(&self, ports: &[u16]) -> String {
        self.config_of((1..=self.nodes).zip(ports.chunks(2)))
    }

    /// A file that names these nodes, with their two ports.
    fn config_of<'a>(&self, nodes: impl Iterator<Item = (u16, &'a [u16])>) -> String {
        let mut text = format!("cluster = \"{}\"\ndata_dir = \"data\"\n", self.cluster);
        for (id, ports) in nodes {
            let (peer, client) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
            let _ = write!(text, "\n[[node]]\nid = {id}\npeer = \"{peer}\"\nclient = \"{client}\"\n");
        }
        let Plan { election_timeout_ms, request_timeout_ms, max_line_bytes, max_clients, .. } = self;
        let _ = write!(
            text,
            "\n[timing]\nelection_timeout_ms = {election_timeout_ms:?}\n\
             request_timeout_ms = {request_timeout_ms}\n\
             \n[limits]\nmax_line_bytes = {max_line_bytes}\nmax_clients = {max_clients}\n"
        );
        if let Some(entries) = self.snapshot_after_entries {
            let _ = write!(text, "\n[log]\nsnapshot_after_entries = {entries}\n");
        }
        text
    }
}

/// A folder of a test's own, on the disk of the build's folder (a temporary one may be in memory, where a
/// sync means nothing).
pub fn scratch_folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// Ports of 127.0.0.1 that were free a moment ago, all different. They lie below those that systems give to
/// whoever asks for any: another test's connection could take one of those before the server does, and keep
/// it.
pub fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..)));
    let drawn = std::iter::repeat_with(|| 10_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000);
    drawn.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

/// A cluster, all of whose statuses are compared as they are seen: no term has two leaders, and what was
/// applied up to an index is the same everywhere and for ever.
pub struct Cluster {
    plan: Plan,
    folder: TempDir,
    /// Two for each node that there ever was, or is to be.
    ports: BTreeMap<u16, [u16; 2]>,
    nodes: BTreeMap<u16, Option<Process>>,
    seen: RefCell<Seen>,
    /// A connection to each node, for asking it how it is.
    lines: RefCell<BTreeMap<u16, Line>>,
}

#[derive(Default)]
struct Seen {
    leaders: BTreeMap<u64, u64>,
    hashes: BTreeMap<i64, String>,
}

/// The server of this version.
const SERVER: &str = env!("CARGO_BIN_EXE_raftkv-server");

impl Cluster {
    /// A new cluster that has a leader.
    pub fn start(nodes: u16) -> Cluster {
        Cluster::of(&Plan::of(nodes))
    }

    /// A new cluster that has a leader.
    pub fn of(plan: &Plan) -> Cluster {
        Cluster::of_program(plan, Path::new(SERVER))
    }

    /// A new cluster of a server that may be another version's.
    pub fn of_program(plan: &Plan, program: &Path) -> Cluster {
        Cluster::prepared(plan, program, &["--bootstrap"], |_| {})
    }

    /// A cluster whose folders are there already: made by whoever is given the path of its `cluster.toml`,
    /// perhaps more than once.
    pub fn restored(plan: &Plan, prepare: impl Fn(&Path)) -> Cluster {
        Cluster::prepared(plan, Path::new(SERVER), &[], prepare)
    }

    fn prepared(plan: &Plan, program: &Path, arguments: &[&str], prepare: impl Fn(&Path)) -> Cluster {
        let folder = scratch_folder();
        // Someone else may take a port before the server does: then all of it begins again.
        let (ports, nodes) = wait_until("a cluster has its ports", || {
            let ports = free_ports(usize::from(plan.nodes) * 2);
            fs::write(folder.path().join("cluster.toml"), plan.config(&ports)).expect("a file");
            prepare(&folder.path().join("cluster.toml"));
            let start = |id| {
                let started = start(folder.path(), program, "cluster.toml", id, arguments);
                Some((id, Some(started?)))
            };
            let nodes: Option<BTreeMap<u16, Option<Process>>> = (1..=plan.nodes).map(start).collect();
            let ports = (1..=plan.nodes).zip(ports.chunks(2).map(|ports| [ports[0], ports[1]])).collect();
            Some((ports, nodes?))
        });
        let (plan, seen, lines) = (plan.clone(), RefCell::default(), RefCell::default());
        let cluster = Cluster { plan, folder, ports, nodes, seen, lines };
        cluster.leader();
        cluster
    }

    pub fn ids(&self) -> Vec<u16> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that run and are not paused.
    pub fn awake(&self) -> Vec<u16> {
        let awake = |process: &Option<Process>| process.as_ref().is_some_and(|process| !process.is_paused());
        self.nodes.iter().filter(|(_, process)| awake(process)).map(|(id, _)| *id).collect()
    }

    /// All nodes but this one.
    pub fn others(&self, id: u16) -> Vec<u16> {
        self.ids().into_iter().filter(|other| *other != id).collect()
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("cluster.toml")
    }

    pub fn data_dir(&self, id: u16) -> PathBuf {
        self.folder.path().join(format!("data/node-{id}"))
    }

    fn port(&self, id: u16, which: usize) -> String {
        format!("127.0.0.1:{}", self.ports[&id][which])
    }

    /// Where other nodes connect.
    pub fn peer_address(&self, id: u16) -> String {
        self.port(id, 0)
    }

    /// Where clients connect.
    pub fn address(&self, id: u16) -> String {
        self.port(id, 1)
    }

    /// Where clients connect, of all nodes.
    pub fn addresses(&self) -> Vec<String> {
        self.ids().into_iter().map(|id| self.address(id)).collect()
    }

    pub fn connect(&self, id: u16) -> Line {
        Line::open(&self.address(id))
    }

    pub fn process(&mut self, id: u16) -> &mut Process {
        self.nodes.get_mut(&id).and_then(Option::as_mut).unwrap_or_else(|| panic!("n{id} does not run"))
    }

    /// All that a node has logged in all its starts.
    pub fn log(&self, id: u16) -> String {
        fs::read_to_string(log_path(self.folder.path(), id)).expect("a log")
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: u16) {
        self.process(id).signal(Signal::SIGKILL);
        self.process(id).wait_for_end();
        self.nodes.insert(id, None);
    }

    /// Stops the process in the middle of whatever it does, until it is resumed.
    pub fn pause(&mut self, id: u16) {
        self.process(id).signal(Signal::SIGSTOP);
    }

    pub fn resume(&mut self, id: u16) {
        self.process(id).signal(Signal::SIGCONT);
    }

    /// Asks the node to stop, and expects it to do so well.
    pub fn stop(&mut self, id: u16, signal: Signal) {
        self.process(id).signal(signal);
        self.stopped(id);
    }

    /// The node was asked to stop: waits until it has, and expects that it did so well.
    pub fn stopped(&mut self, id: u16) {
        let status = self.process(id).wait_for_end();
        assert_eq!(status.code(), Some(0), "n{id} was asked to stop");
        self.nodes.insert(id, None);
    }

    /// Waits until the node finds that it must not go on. Returns what it logged since its start.
    pub fn wait_for_fault(&mut self, id: u16) -> String {
        let status = self.process(id).wait_for_end();
        let log = self.process(id).log();
        assert_eq!(status.code(), Some(1), "n{id} must not go on: {}", tail(&log));
        self.nodes.insert(id, None);
        log
    }

    /// Starts a node that does not run, with what it has on disk.
    pub fn restart(&mut self, id: u16) {
        self.restart_with(id, &[]);
    }

    /// The same, with more arguments.
    pub fn restart_with(&mut self, id: u16, arguments: &[&str]) {
        self.restart_program(id, Path::new(SERVER), arguments);
    }

    /// The same, with a server that may be another version's.
    pub fn restart_program(&mut self, id: u16, program: &Path, arguments: &[&str]) {
        assert!(self.nodes[&id].is_none(), "n{id} runs");
        let process = wait_until("the node's ports are free again", || {
            start(self.folder.path(), program, "cluster.toml", id, arguments)
        });
        self.nodes.insert(id, Some(process));
    }

    /// Settles where a node will be that does not run yet.
    pub fn reserve(&mut self, id: u16) {
        let ports = free_ports(2);
        assert!(self.ports.insert(id, [ports[0], ports[1]]).is_none(), "n{id} has its ports");
    }

    /// Starts an empty node that is to be added, from a file of its own: `cluster.toml` does not name it, and
    /// from its second start on that is the file that it is started with.
    pub fn start_new(&mut self, id: u16) {
        if !self.ports.contains_key(&id) {
            self.reserve(id);
        }
        let name = format!("node-{id}.toml");
        let text = self.plan.config_of([(id, &self.ports[&id][..])].into_iter());
        fs::write(self.folder.path().join(&name), text).expect("a file");
        let start = || start(self.folder.path(), Path::new(SERVER), &name, id, &["--join"]);
        let process = wait_until("the new node's ports are free", start);
        self.nodes.insert(id, Some(process));
    }

    /// Stops a node that has left, and counts it out.
    pub fn retire(&mut self, id: u16) {
        self.stop(id, Signal::SIGTERM);
        self.nodes.remove(&id);
    }

    /// A node's own word on how it is; none when it does not answer.
    pub fn status(&self, id: u16) -> Option<Value> {
        // A connection from before the node was started anew is of no use: then it takes a second attempt.
        let status = (0..2).find_map(|_| {
            let status = self.ask_for_status(id);
            if status.is_none() {
                self.lines.borrow_mut().remove(&id);
            }
            status
        })?;
        assert_eq!(status["node"], id, "{status}");
        self.seen.borrow_mut().check(&status);
        Some(status)
    }

    fn ask_for_status(&self, id: u16) -> Option<Value> {
        let mut lines = self.lines.borrow_mut();
        let line = match lines.entry(id) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Line::try_open(&self.address(id), STATUS_TIMEOUT).ok()?),
        };
        line.try_send_bytes("{\"op\":\"status\"}\n").ok()?;
        line.try_answer().ok()?
    }

    /// Waits until a node leads and a majority knows it.
    pub fn leader(&self) -> u16 {
        wait_until("there is a leader", || {
            let statuses: Vec<Value> = self.awake().into_iter().filter_map(|id| self.status(id)).collect();
            let leader = statuses.iter().find(|status| {
                let follows =
                    |other: &&Value| other["leader"] == status["node"] && other["term"] == status["term"];
                let members = status["peers"].as_array().map_or(0, Vec::len) + 1;
                status["role"] == "leader" && statuses.iter().filter(follows).count() > members / 2
            })?;
            leader["node"].as_u64().and_then(|id| u16::try_from(id).ok())
        })
    }

    /// A node that does not lead, and the one that does.
    pub fn follower_and_leader(&self) -> (u16, u16) {
        let leader = self.leader();
        let follower = self.awake().into_iter().find(|id| *id != leader);
        (follower.expect("more than one node"), leader)
    }

    /// Waits until all nodes that are awake have the same log and have applied all of it, equally.
    pub fn wait_for_agreement(&self) {
        wait_until("all nodes have applied the same", || {
            let statuses: Option<Vec<Value>> = self.awake().into_iter().map(|id| self.status(id)).collect();
            let statuses = statuses?;
            let leader = statuses.iter().find(|status| status["role"] == "leader")?;
            let names = ["last_index", "commit_index", "last_applied"];
            let agrees = |status: &Value| {
                names.iter().all(|name| status[*name] == leader["last_index"])
                    && status["applied_hash"] == leader["applied_hash"]
            };
            statuses.iter().all(agrees).then_some(())
        });
    }

    /// That no process has ended by itself so far. Also checked at the end of each test.
    pub fn assert_all_alive(&mut self) {
        for (id, process) in &mut self.nodes {
            let Some(process) = process else { continue };
            assert_eq!(process.ended(), None, "n{id} ended by itself: {}", tail(&process.log()));
        }
    }

    fn assert_no_panic(&self) {
        for id in self.ids() {
            let log = self.log(id);
            let panicked = log.lines().find(|line| line.contains("panicked"));
            assert_eq!(panicked, None, "n{id} panicked");
        }
    }

    fn show_logs(&mut self) {
        self.folder.disable_cleanup(true);
        eprintln!("The cluster's files are kept in {}.", self.folder.path().display());
        for id in self.ids() {
            eprintln!("---- the end of n{id}'s log ----\n{}", tail(&self.log(id)));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
        } else {
            self.assert_all_alive();
            self.assert_no_panic();
        }
    }
}

impl Seen {
    fn check(&mut self, status: &Value) {
        if status["role"] == "leader" {
            let (term, node) =
                (status["term"].as_u64().expect("a term"), status["node"].as_u64().expect("an id"));
            let leader = *self.leaders.entry(term).or_insert(node);
            assert_eq!(leader, node, "two leaders in term {term}");
        }
        let applied = status["last_applied"].as_i64().expect("an index");
        let hash = status["applied_hash"].as_str().expect("a hash");
        let known = self.hashes.entry(applied).or_insert_with(|| hash.to_owned());
        assert_eq!(known, hash, "two histories up to {applied}: {status}");
    }
}

fn log_path(folder: &Path, id: u16) -> PathBuf {
    folder.join(format!("node-{id}.log"))
}

/// Starts a node and waits until it serves. None when another process has one of its ports.
fn start(folder: &Path, program: &Path, config: &str, id: u16, arguments: &[&str]) -> Option<Process> {
    let config = folder.join(config);
    let (config, id_text) = (config.to_str().expect("a path in UTF-8"), id.to_string());
    let mut all = vec!["--config", config, "--id", &id_text];
    all.extend(arguments);
    let mut process = Process::start_program(program, &all, &log_path(folder, id));
    wait_until("the server has started", || {
        let ended = process.ended();
        let log = process.log();
        if log.contains("started: ") {
            return Some(true);
        }
        if ended.is_some() {
            assert!(log.contains("cannot listen for"), "n{id} does not start: {log}");
            return Some(false);
        }
        None
    })
    .then_some(process)
}

fn tail(log: &str) -> String {
    let is_client = |line: &&str| line.contains("client connected") || line.contains("client's connection");
    let lines: Vec<&str> = log.lines().filter(|line| !is_client(line)).collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
