//! `cluster.toml`: who the nodes are, where they listen, and the few numbers that can be set.
//!
//! A mistake in the file is told in one line that names the file, the line, what was found and what was
//! expected. Nothing here opens a socket or resolves a name: an address is checked to be `HOST:PORT` and kept
//! as text, which std's `connect` and `bind` take as it stands (they resolve the name when they are called).
//! So a name that does not resolve is found at start, and two names for one address when the port is in use.

use crate::types::NodeId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The longest name of a cluster, in bytes.
pub const MAX_CLUSTER_NAME_BYTES: usize = 128;
/// The most nodes a cluster may have. More would make every write wait for a larger majority and protect
/// against nothing that nine do not.
pub const MAX_NODES: usize = 9;
/// The least `max_line_bytes`: the longest key, names and numbers fit beside a value worth storing.
pub const MIN_LINE_BYTES: usize = 4096;
/// The largest `max_line_bytes`, 64 MiB: as much as a leader may hold uncommitted.
pub const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// The largest time of `[timing]`, one hour: beyond it a number is a slip of the unit.
const MAX_TIME_MS: u64 = 60 * 60 * 1000;
/// The largest limit of `[log]`, a tebibyte or as many entries: beyond it a number is a slip.
const MAX_LOG: u64 = 1 << 40;
/// The largest `max_clients`: one thread and one socket each.
const MAX_CLIENTS: usize = 65_535;

/// A valid `cluster.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The cluster's name: 1 to 128 printable ASCII characters.
    pub cluster: String,
    /// The folder of all nodes' folders; a relative one is already taken from the file's own folder.
    pub data_dir: PathBuf,
    /// Whether addresses that other machines reach are allowed: nothing here is encrypted or authenticated.
    pub allow_insecure: bool,
    /// The nodes, 1 to 9, in ascending order of their ids. No id and no address stands twice.
    pub nodes: Vec<NodeConfig>,
    /// How long things take.
    pub timing: Timing,
    /// How much is too much.
    pub limits: Limits,
    /// When the log is long enough for a snapshot.
    pub log: LogConfig,
}

/// One node: its id and its two addresses, as `HOST:PORT` text (see the file's header on resolving).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// 1 to 65535.
    pub id: NodeId,
    /// Where other nodes connect.
    pub peer: String,
    /// Where clients connect.
    pub client: String,
}

/// `[timing]`, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader lets hear from itself, at least 1.
    pub heartbeat_ms: u64,
    /// The range from which an election timeout is drawn (paper 5.2): least and most.
    pub election_timeout_ms: [u64; 2],
    /// How long a client's request may wait for its outcome, at least 1.
    pub request_timeout_ms: u64,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing { heartbeat_ms: 50, election_timeout_ms: [300, 600], request_timeout_ms: 5000 }
    }
}

/// `[limits]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest line of a client, in bytes without its newline: 4,096 to 64 MiB.
    pub max_line_bytes: usize,
    /// The most client connections at a time: 1 to 65,535.
    pub max_clients: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_line_bytes: 1024 * 1024, max_clients: 4096 }
    }
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A snapshot is taken when the log has so many bytes on disk, at least 4,096.
    pub snapshot_after_bytes: u64,
    /// And when it has so many entries, at least 1.
    pub snapshot_after_entries: u64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { snapshot_after_bytes: 64 * 1024 * 1024, snapshot_after_entries: 200_000 }
    }
}

/// Why a file was refused. Its `Display` is one line, such as
/// `cluster.toml:12: id 1 stands twice, expected each node to have its own`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    line: Option<usize>,
    what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        // The TOML parser writes some of its explanations on several lines, and quotes keys as they stand.
        for word in self.what.split_whitespace() {
            write!(f, " {}", word.replace(char::is_control, "?"))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a file. Fails when it cannot be read, is not TOML, has a key that is not known, or
    /// says something that cannot be.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            path: path.to_owned(),
            line: None,
            what: format!("cannot be read ({error}), expected a cluster's configuration"),
        })?;
        Config::parse(&text, path)
    }

    /// Checks the text of the file at `path`, which is used for messages and for a relative `data_dir` only.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let fault = |wrong: Wrong| ConfigError {
            path: path.to_owned(),
            line: wrong.at.map(|offset| line_of(text, offset)),
            what: wrong.what,
        };
        let file: File = toml::from_str(text).map_err(|error| {
            fault(Wrong { at: error.span().map(|span| span.start), what: error.message().to_owned() })
        })?;
        check_file(file, path.parent().unwrap_or(Path::new(""))).map_err(fault)
    }

    /// The node of this id, if the file names it.
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// All ids, ascending: the voters of a new cluster.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The folder of one node's files: `data_dir/node-N`.
    pub fn data_dir_of(&self, id: NodeId) -> PathBuf {
        self.data_dir.join(format!("node-{}", id.0))
    }
}

// ---- The file as it is written --------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Spanned<String>,
    data_dir: Spanned<String>,
    #[serde(default)]
    allow_insecure: bool,
    #[serde(default)]
    node: Vec<FileNode>,
    #[serde(default)]
    timing: FileTiming,
    #[serde(default)]
    limits: FileLimits,
    #[serde(default)]
    log: FileLog,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    id: Spanned<i64>,
    peer: Spanned<String>,
    client: Spanned<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileTiming {
    heartbeat_ms: Option<Spanned<i64>>,
    election_timeout_ms: Option<Spanned<[i64; 2]>>,
    request_timeout_ms: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileLimits {
    max_line_bytes: Option<Spanned<i64>>,
    max_clients: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct FileLog {
    snapshot_after_bytes: Option<Spanned<i64>>,
    snapshot_after_entries: Option<Spanned<i64>>,
}

/// What is wrong, and at which byte of the file.
struct Wrong {
    at: Option<usize>,
    what: String,
}

/// The fault of a value that was found in the file.
fn wrong_at<T>(value: &Spanned<T>, what: String) -> Wrong {
    Wrong { at: Some(value.span().start), what }
}

/// The number of the line, from 1, that holds the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

fn check_file(file: File, folder: &Path) -> Result<Config, Wrong> {
    let cluster = file.cluster.get_ref();
    let plain = cluster.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if cluster.is_empty() || cluster.len() > MAX_CLUSTER_NAME_BYTES || !plain {
        let what = format!(
            "cluster is {cluster:?}, expected a name of 1 to {MAX_CLUSTER_NAME_BYTES} printable ASCII \
             characters"
        );
        return Err(wrong_at(&file.cluster, what));
    }
    if file.data_dir.get_ref().is_empty() {
        return Err(wrong_at(&file.data_dir, "data_dir is empty, expected the path of a folder".to_owned()));
    }
    Ok(Config {
        cluster: cluster.clone(),
        // `join` keeps an absolute path as it is.
        data_dir: folder.join(file.data_dir.get_ref()),
        allow_insecure: file.allow_insecure,
        nodes: check_nodes(&file.node, file.allow_insecure)?,
        timing: check_timing(&file.timing)?,
        limits: check_limits(&file.limits)?,
        log: check_log(&file.log)?,
    })
}

fn check_nodes(nodes: &[FileNode], allow_insecure: bool) -> Result<Vec<NodeConfig>, Wrong> {
    if nodes.is_empty() {
        return Err(Wrong { at: None, what: "no [[node]] found, expected 1 to 9 of them".to_owned() });
    }
    let mut checked = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (position, node) in nodes.iter().enumerate() {
        if position >= MAX_NODES {
            let what = format!("{} nodes found, expected 1 to {MAX_NODES}", nodes.len());
            return Err(wrong_at(&node.id, what));
        }
        let id = check_range("id", &node.id, 1, u64::from(u16::MAX))?;
        let id = NodeId(u16::try_from(id).unwrap_or(u16::MAX));
        for (name, address) in [("peer", &node.peer), ("client", &node.client)] {
            let key = check_address(name, address, allow_insecure)?;
            if let Some(owner) = addresses.insert(key, format!("the {name} address of node {}", id.0)) {
                let what = format!(
                    "{name} is {:?}, which is {owner} already, expected an address of its own for each",
                    address.get_ref()
                );
                return Err(wrong_at(address, what));
            }
        }
        let config =
            NodeConfig { id, peer: node.peer.get_ref().clone(), client: node.client.get_ref().clone() };
        if checked.insert(id, config).is_some() {
            let what = format!("id {} stands twice, expected each node to have its own", id.0);
            return Err(wrong_at(&node.id, what));
        }
    }
    Ok(checked.into_values().collect())
}

/// Checks that a text is `HOST:PORT` and gives what two spellings of one address have in common.
fn check_address(
    name: &str,
    address: &Spanned<String>,
    allow_insecure: bool,
) -> Result<(String, u16), Wrong> {
    let text = address.get_ref();
    let Some((host, port)) = split_address(text) else {
        let what =
            format!("{name} is {text:?}, expected HOST:PORT such as \"127.0.0.1:15001\" or \"[::1]:15001\"");
        return Err(wrong_at(address, what));
    };
    let ip = if host == "localhost" {
        Some(IpAddr::from([127, 0, 0, 1]))
    } else {
        host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    };
    if ip.is_some_and(|ip| ip.is_unspecified()) {
        let what = format!("{name} is {text:?}, expected an address that the others can connect to");
        return Err(wrong_at(address, what));
    }
    // A name other than localhost may mean another machine's address at any time, so it counts as one.
    if !allow_insecure && !ip.is_some_and(|ip| ip.is_loopback()) {
        let what = format!(
            "{name} is {text:?}, expected a loopback address such as 127.0.0.1: nothing is encrypted or \
             authenticated, so other addresses need allow_insecure = true at the top of the file and a \
             network that only trusted machines are in"
        );
        return Err(wrong_at(address, what));
    }
    Ok((ip.map_or(host, |ip| ip.to_string()), port))
}

/// Host in lower case and port, or nothing when the text is not `HOST:PORT` with a port above 0.
pub(crate) fn split_address(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.parse::<SocketAddr>() {
        Ok(address) => (address.ip().to_string(), address.port()),
        Err(_) => {
            let (host, port) = text.rsplit_once(':')?;
            let plain =
                |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            // Digits and dots alone were meant as an IPv4 address, and as one it did not parse.
            let name = host.bytes().any(|byte| byte.is_ascii_alphabetic());
            if !name || !digits || !host.bytes().all(plain) {
                return None;
            }
            (host.to_ascii_lowercase(), port.parse().ok()?)
        }
    };
    (port > 0).then_some((host, port))
}

fn check_timing(file: &FileTiming) -> Result<Timing, Wrong> {
    let default = Timing::default();
    let heartbeat_ms = match &file.heartbeat_ms {
        Some(value) => check_range("heartbeat_ms", value, 1, MAX_TIME_MS)?,
        None => default.heartbeat_ms,
    };
    let request_timeout_ms = match &file.request_timeout_ms {
        Some(value) => check_range("request_timeout_ms", value, 1, MAX_TIME_MS)?,
        None => default.request_timeout_ms,
    };
    let election_timeout_ms = match &file.election_timeout_ms {
        Some(value) => {
            let [least, most] = *value.get_ref();
            let part = |number: i64| Spanned::new(value.span(), number);
            [
                check_range("election_timeout_ms[0]", &part(least), 1, MAX_TIME_MS)?,
                check_range("election_timeout_ms[1]", &part(most), 1, MAX_TIME_MS)?,
            ]
        }
        None => default.election_timeout_ms,
    };
    let [least, most] = election_timeout_ms;
    // The fault may lie in either line: the one that was written is named, the timeouts' if both were.
    let written = file.election_timeout_ms.as_ref().map(Spanned::span);
    let at = written.or(file.heartbeat_ms.as_ref().map(Spanned::span)).map(|span| span.start);
    if least < 2 * heartbeat_ms {
        let what = format!(
            "election_timeout_ms[0] is {least} with heartbeat_ms = {heartbeat_ms}, expected at least {}: \
             twice the heartbeat, or a single late heartbeat starts an election",
            2 * heartbeat_ms
        );
        return Err(Wrong { at, what });
    }
    if least >= most {
        let what = format!(
            "election_timeout_ms is [{least}, {most}], expected the first below the second: timeouts are \
             drawn from that range, so that two nodes seldom campaign at once"
        );
        return Err(Wrong { at, what });
    }
    Ok(Timing { heartbeat_ms, election_timeout_ms, request_timeout_ms })
}

fn check_limits(file: &FileLimits) -> Result<Limits, Wrong> {
    let count = |name: &str, value: &Option<Spanned<i64>>, least: usize, most: usize, default: usize| {
        let Some(value) = value else {
            return Ok(default);
        };
        let number = check_range(name, value, least as u64, most as u64)?;
        Ok(usize::try_from(number).unwrap_or(most))
    };
    let default = Limits::default();
    Ok(Limits {
        max_line_bytes: count(
            "max_line_bytes",
            &file.max_line_bytes,
            MIN_LINE_BYTES,
            MAX_LINE_BYTES,
            default.max_line_bytes,
        )?,
        max_clients: count("max_clients", &file.max_clients, 1, MAX_CLIENTS, default.max_clients)?,
    })
}

fn check_log(file: &FileLog) -> Result<LogConfig, Wrong> {
    let number = |name: &str, value: &Option<Spanned<i64>>, least: u64, default: u64| match value {
        Some(value) => check_range(name, value, least, MAX_LOG),
        None => Ok(default),
    };
    let LogConfig { snapshot_after_bytes: bytes, snapshot_after_entries: entries } = LogConfig::default();
    Ok(LogConfig {
        snapshot_after_bytes: number("snapshot_after_bytes", &file.snapshot_after_bytes, 4096, bytes)?,
        snapshot_after_entries: number("snapshot_after_entries", &file.snapshot_after_entries, 1, entries)?,
    })
}

fn check_range(name: &str, value: &Spanned<i64>, least: u64, most: u64) -> Result<u64, Wrong> {
    let number = *value.get_ref();
    match u64::try_from(number) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(wrong_at(value, format!("{name} is {number}, expected {least} to {most}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE_NODES: &str = r#"cluster = "demo"
data_dir = "data"

[[node]]
id = 3
peer = "127.0.0.1:15003"
client = "127.0.0.1:16003"

[[node]]
id = 1
peer = "127.0.0.1:15001"
client = "127.0.0.1:16001"

[[node]]
id = 2
peer = "localhost:15002"
client = "[::1]:16002"
"#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("dir/cluster.toml")).map_err(|error| error.to_string())
    }

    /// The message about the three nodes' file with one piece of its text replaced.
    fn refusal(from: &str, to: &str) -> String {
        assert!(THREE_NODES.contains(from), "{from}");
        let message = parse(&THREE_NODES.replacen(from, to, 1)).expect_err(to);
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    /// The message about the three nodes' file with more text after it.
    fn refusal_with(more: &str) -> String {
        let message = parse(&format!("{THREE_NODES}{more}")).expect_err(more);
        assert_eq!(message.lines().count(), 1, "{message}");
        message
    }

    #[track_caller]
    fn assert_says(message: &str, line: usize, parts: &[&str]) {
        let start = format!("dir/cluster.toml:{line}: ");
        assert!(message.starts_with(&start), "{message:?} does not start with {start:?}");
        for part in parts {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
    }

    #[test]
    fn a_file_without_optional_parts_gets_the_defaults() {
        let config = parse(THREE_NODES).unwrap();
        assert_eq!(config.cluster, "demo");
        assert_eq!(config.data_dir, Path::new("dir/data"));
        assert!(!config.allow_insecure);
        assert_eq!(config.timing, Timing::default());
        assert_eq!(config.limits, Limits { max_line_bytes: 1_048_576, max_clients: 4096 });
        assert_eq!(config.node_ids(), [NodeId(1), NodeId(2), NodeId(3)]);
        assert_eq!(config.node(NodeId(2)).unwrap().client, "[::1]:16002");
        assert_eq!(config.node(NodeId(4)), None);
        assert_eq!(config.data_dir_of(NodeId(2)), Path::new("dir/data/node-2"));
    }

    #[test]
    fn the_file_that_comes_with_the_project_has_five_nodes_and_the_defaults() {
        let config = Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster.toml")).unwrap();
        assert_eq!(config.nodes.len(), 5);
        assert_eq!(config.timing, Timing::default());
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.node(NodeId(5)).unwrap().peer, "127.0.0.1:15005");
    }

    #[test]
    fn optional_parts_are_taken() {
        let more = "[timing]\nheartbeat_ms = 10\nelection_timeout_ms = [100, 200]\n\
                    request_timeout_ms = 1000\n\
                    [limits]\nmax_line_bytes = 4096\nmax_clients = 2\n";
        let config = parse(&format!("{THREE_NODES}{more}")).unwrap();
        let timing = Timing { heartbeat_ms: 10, election_timeout_ms: [100, 200], request_timeout_ms: 1000 };
        assert_eq!(config.timing, timing);
        assert_eq!(config.limits, Limits { max_line_bytes: 4096, max_clients: 2 });
    }

    #[test]
    fn an_absolute_data_dir_stays_as_it_is() {
        let config = parse(&THREE_NODES.replace("\"data\"", "\"/var/lib/raftkv\"")).unwrap();
        assert_eq!(config.data_dir_of(NodeId(1)), Path::new("/var/lib/raftkv/node-1"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_by_its_name() {
        let message = Config::load(Path::new("/nowhere/cluster.toml")).unwrap_err().to_string();
        assert!(message.starts_with("/nowhere/cluster.toml: cannot be read"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        assert_says(&refusal("data_dir = \"data\"", "data_dir = "), 2, &[]);
        assert_says(&refusal("[[node]]", "[[node]"), 4, &[]);
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_known_ones() {
        assert_says(&refusal("client = ", "clinet = "), 7, &["clinet", "client"]);
        assert_says(&refusal("data_dir", "datadir"), 2, &["datadir", "data_dir"]);
        assert_says(&refusal_with("[timing]\nheartbeat = 50\n"), 19, &["heartbeat"]);
        assert_says(&refusal_with("[limits]\nmax = 50\n"), 19, &["max_line_bytes"]);
        assert_says(&refusal_with("[times]\n"), 18, &["times", "timing"]);
    }

    #[test]
    fn a_missing_or_mistyped_key_is_told() {
        assert_says(&refusal("client = \"127.0.0.1:16003\"\n", ""), 4, &["client"]);
        assert_says(&refusal("id = 3", "id = \"3\""), 5, &["string", "i64"]);
        let message = parse("data_dir = \"data\"\n").unwrap_err();
        assert!(message.contains("missing field `cluster`"), "{message}");
        let message = parse("cluster = \"demo\"\ndata_dir = \"data\"\n").unwrap_err();
        assert!(message.contains("no [[node]] found"), "{message}");
    }

    #[test]
    fn ids_are_1_to_65535_and_stand_once() {
        assert_says(&refusal("id = 3", "id = 0"), 5, &["id is 0", "1 to 65535"]);
        assert_says(&refusal("id = 3", "id = -1"), 5, &["id is -1"]);
        assert_says(&refusal("id = 3", "id = 65536"), 5, &["id is 65536"]);
        assert_says(&refusal("id = 1", "id = 3"), 10, &["id 3 stands twice"]);
        assert!(parse(&THREE_NODES.replace("id = 3", "id = 65535")).is_ok());
    }

    #[test]
    fn nine_nodes_are_enough() {
        let nodes = |count: usize| {
            let mut text = "cluster = \"demo\"\ndata_dir = \"data\"\n".to_owned();
            for id in 1..=count {
                text += &format!(
                    "[[node]]\nid = {id}\npeer = \"127.0.0.1:{}\"\nclient = \"127.0.0.1:{}\"\n",
                    100 + id,
                    200 + id
                );
            }
            text
        };
        assert_eq!(parse(&nodes(9)).unwrap().nodes.len(), 9);
        assert_says(&parse(&nodes(10)).unwrap_err(), 40, &["10 nodes", "1 to 9"]);
    }

    #[test]
    fn addresses_stand_once_however_they_are_spelt() {
        for (from, to) in [
            ("127.0.0.1:15001", "127.0.0.1:15003"),
            ("127.0.0.1:15001", "127.0.0.1:16003"),
            ("127.0.0.1:15001", "LOCALHOST:15003"),
            ("127.0.0.1:15001", "[::ffff:127.0.0.1]:15003"),
        ] {
            assert_says(&refusal(from, to), 11, &["of node 3 already"]);
        }
    }

    #[test]
    fn addresses_are_host_and_port() {
        for wrong in ["127.0.0.1", "127.0.0.1:", ":15003", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.300:1"]
        {
            assert_says(&refusal("127.0.0.1:15003", wrong), 6, &["peer is", wrong, "expected HOST:PORT"]);
        }
        for wrong in ["::1:15003", "a b:1", "host:+1", "http://localhost:1"] {
            assert_says(&refusal("127.0.0.1:15003", wrong), 6, &["expected HOST:PORT"]);
        }
        let nowhere = refusal("127.0.0.1:15003", "0.0.0.0:15003");
        assert_says(&nowhere, 6, &["that the others can connect to"]);
    }

    #[test]
    fn other_machines_addresses_need_allow_insecure() {
        for address in ["192.168.1.7:15003", "[fe80::1]:15003", "node3.example:15003"] {
            let text = THREE_NODES.replace("127.0.0.1:15003", address);
            assert_says(&parse(&text).unwrap_err(), 6, &[address, "allow_insecure = true"]);
            let config = parse(&format!("allow_insecure = true\n{text}")).unwrap();
            assert!(config.allow_insecure);
            assert_eq!(config.node(NodeId(3)).unwrap().peer, address);
        }
    }

    #[test]
    fn names_of_clusters_are_plain_and_short() {
        assert_says(&refusal("\"demo\"", "\"\""), 1, &["expected a name"]);
        assert_says(&refusal("\"demo\"", "\"a\\u001bb\""), 1, &["\\u{1b}"]);
        assert_says(&refusal("\"demo\"", &format!("\"{}\"", "x".repeat(129))), 1, &["1 to 128"]);
        assert!(parse(&THREE_NODES.replace("demo", &"x".repeat(128))).is_ok());
        assert_says(&refusal("\"data\"", "\"\""), 2, &["data_dir is empty"]);
    }

    #[test]
    fn times_that_cannot_work_are_refused_with_the_reason() {
        let timing = |text: &str| refusal_with(&format!("[timing]\n{text}\n"));
        assert_says(&timing("heartbeat_ms = 0"), 19, &["heartbeat_ms is 0"]);
        assert_says(&timing("heartbeat_ms = 151"), 19, &["at least 302", "late heartbeat"]);
        assert_says(&timing("heartbeat_ms = 50\nelection_timeout_ms = [99, 200]"), 20, &["at least 100"]);
        assert_says(&timing("election_timeout_ms = [300, 300]"), 19, &["the first below the second"]);
        assert_says(&timing("election_timeout_ms = [300]"), 19, &["2"]);
        assert_says(&timing("election_timeout_ms = [-1, 300]"), 19, &["election_timeout_ms[0] is -1"]);
        assert_says(&timing("request_timeout_ms = 0"), 19, &["request_timeout_ms is 0"]);
        assert_says(&timing("request_timeout_ms = 3600001"), 19, &["3600000"]);
        assert!(parse(&format!("{THREE_NODES}[timing]\nelection_timeout_ms = [100, 101]\n")).is_ok());
    }

    #[test]
    fn limits_have_limits() {
        let limits = |text: &str| refusal_with(&format!("[limits]\n{text}\n"));
        assert_says(&limits("max_line_bytes = 4095"), 19, &["max_line_bytes is 4095", "4096 to"]);
        assert_says(&limits("max_line_bytes = 67108865"), 19, &["67108864"]);
        assert_says(&limits("max_clients = 0"), 19, &["max_clients is 0"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,200}", at in 0usize..400, cut in 0usize..40) {
            let _ = parse(&text);
            let mut mutated = THREE_NODES.to_owned();
            let at = at.min(mutated.len());
            mutated.replace_range(at..(at + cut).min(mutated.len()), &text);
            if let Err(message) = parse(&mutated) {
                assert_eq!(message.lines().count(), 1, "{message:?}");
            }
        }
    }
}
