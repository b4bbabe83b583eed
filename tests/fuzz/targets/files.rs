//! Files that somebody may have changed: a node's folder, and `cluster.toml`.
//!
//! Bytes with a checksum are of little use to a fuzzer: whatever it changes, it meets the same refusal. So a
//! line of the log or of the identity that carries the checksum `00000000` gets its right one before the
//! storage sees it, the length 0 its right length, and the checksum of zeros at the end of a snapshot its
//! right one too. Other lines stay as they are, so that damage is met too.

use super::{Seen, Target, assert_plain, within_memory};
use raftkv::config::{Config, MAX_LINE_BYTES, MAX_NODES, MIN_LINE_BYTES};
use raftkv::raft::{HardState, Log, Output};
use raftkv::storage::{
    Disk, FirstStart, MemoryDisk, Opening, Recovered, SegmentSizes, Storage, StorageError,
};
use raftkv::types::{Command, Entry, EntryId, Incarnation, MAX_NUMBER, NodeId};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use xxhash_rust::xxh3::xxh3_64;

/// A node's log: one file, or several, a snapshot too, each behind a line `==NAME`.
pub const LOG_FILE: Target = Target {
    name: "log_file",
    run: log_file,
    sometimes: &[
        "recovered",
        "entries",
        "torn",
        "segments",
        "snapshot",
        "damaged",
        "missing",
        "other format",
    ],
};

/// A node's identity.
pub const IDENTITY_FILE: Target = Target {
    name: "identity_file",
    run: identity_file,
    sometimes: &["recovered", "damaged", "missing", "other format", "other cluster", "other node", "voters"],
};

/// The configuration.
pub const CLUSTER_TOML: Target = Target {
    name: "cluster_toml",
    run: cluster_toml,
    sometimes: &["valid", "nine nodes", "timing", "limits", "refused", "refused with its line"],
};

const LOG: &str = "log-000001-from-0.jsonl";
const IDENTITY: &str = "identity.json";

fn opening() -> Opening {
    Opening {
        cluster: "demo".to_string(),
        node: NodeId(1),
        voters: vec![NodeId(1), NodeId(2), NodeId(3)],
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(0xabcd),
        segment_sizes: SegmentSizes::default(),
    }
}

type Folder = BTreeMap<String, Vec<u8>>;

/// The files of a node that has saved an entry.
fn sound_folder() -> &'static Folder {
    static FOLDER: OnceLock<Folder> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let disk = MemoryDisk::new();
        let (mut storage, _) = Storage::open(disk.clone(), &opening()).expect("an empty disk");
        storage.raise_boot().expect("a disk that does not fail");
        let log = Replayed { hard_state: HardState::default(), base: EntryId::NONE, entries: Vec::new() };
        storage.save(&log.continuation()).expect("a disk that does not fail");
        files_of(&disk)
    })
}

fn files_of(disk: &MemoryDisk) -> Folder {
    let names = disk.list().expect("a disk that does not fail");
    names.into_iter().map(|name| (name.clone(), disk.read(&name).expect("it was listed"))).collect()
}

fn log_file(bytes: &[u8]) -> Seen {
    let mut folder = sound_folder().clone();
    folder.remove(LOG);
    let mut name = LOG.to_string();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b"==") {
            Some(named) => name = String::from_utf8_lossy(named).trim_end_matches('\n').to_string(),
            None => {
                let file = folder.entry(name.clone()).or_default();
                file.extend(mended(line, file));
            }
        }
    }
    start(&folder, bytes.len())
}

fn identity_file(bytes: &[u8]) -> Seen {
    let mut folder = sound_folder().clone();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    folder.insert(IDENTITY.to_string(), lines.flat_map(|line| mended(line, b"")).collect());
    start(&folder, bytes.len())
}

/// The line with what it left to be filled in, behind these: see the file's header.
fn mended(line: &[u8], before: &[u8]) -> Vec<u8> {
    const HEAD: &[u8] = b"{\"crc\":\"00000000\"";
    const LENGTH: &[u8] = b",\"len\":0,";
    const CHECKSUM: &[u8] = b"\"checksum\":\"0000000000000000\"}}\n";
    let Some(mut rest) = line.strip_prefix(HEAD) else { return line.to_vec() };
    let mut checked = Vec::new();
    if let Some(behind) = rest.strip_prefix(LENGTH) {
        rest = behind;
        let others = HEAD.len() + LENGTH.len() - 1 + rest.len();
        let digits = |length: usize| length.to_string().len();
        let length = (others..).find(|length| others + digits(*length) == *length).unwrap_or(others);
        checked.extend(format!(",\"len\":{length},").into_bytes());
    }
    match rest.strip_suffix(CHECKSUM) {
        Some(lines) => {
            checked.extend(lines);
            checked.extend(format!("\"checksum\":\"{:016x}\"}}}}\n", xxh3_64(before)).into_bytes());
        }
        None => checked.extend(rest),
    }
    let crc = crc32fast::hash(&checked);
    [format!("{{\"crc\":\"{crc:08x}\"").into_bytes(), checked].concat()
}

/// Starts a node on these files: it is refused and nothing is changed, or it has a log that goes on.
fn start(folder: &Folder, input_bytes: usize) -> Seen {
    let mut seen = Seen::new();
    let disk = MemoryDisk::new();
    folder.iter().for_each(|(name, bytes)| disk.overwrite(name, bytes.clone()));
    if folder.keys().filter(|name| name.starts_with("log-0")).count() > 1 {
        seen.insert("segments");
    }
    match within_memory(input_bytes, 64, || Storage::open(disk.clone(), &opening())) {
        Ok((storage, recovered)) => {
            seen.insert("recovered");
            assert_eq!(storage.identity().node, NodeId(1));
            if recovered.torn.is_some() {
                seen.insert("torn");
            }
            drop(storage);
            goes_on(&disk, recovered, &mut seen);
        }
        Err(error) => {
            assert_plain(&error.to_string());
            assert!(!error.is_disk_fault(), "{error}");
            assert_eq!(files_of(&disk), *folder, "a refused start leaves the folder as it was");
            seen.insert(kind_of(&error));
        }
    }
    seen
}

fn kind_of(error: &StorageError) -> &'static str {
    match error {
        StorageError::Damaged { .. } => "damaged",
        StorageError::Missing { .. } => "missing",
        StorageError::UnknownFormat { .. } => "other format",
        StorageError::OtherCluster { .. } => "other cluster",
        StorageError::OtherNode { .. } => "other node",
        StorageError::OtherVoters { .. } => "voters",
        StorageError::Empty { .. } => "empty",
        StorageError::Disk(_)
        | StorageError::GivenUp
        | StorageError::Locked { .. }
        | StorageError::NoNode { .. }
        | StorageError::NotEmpty { .. } => panic!("no fault of the disk, and no other reader: {error}"),
    }
}

/// What was recovered, to be compared.
#[derive(Debug, PartialEq)]
struct Replayed {
    hard_state: HardState,
    base: EntryId,
    entries: Vec<Entry>,
}

impl Replayed {
    fn of(recovered: Recovered) -> Replayed {
        assert_eq!(recovered.base, recovered.snapshot.map_or(EntryId::NONE, |meta| meta.last));
        recovered.torn.iter().for_each(|torn| assert_plain(torn));
        Replayed { hard_state: recovered.hard_state, base: recovered.base, entries: recovered.entries }
    }

    fn continuation(&self) -> Output {
        let term = self.hard_state.term.next();
        let index = self.entries.last().map_or(self.base, Entry::id).index.next();
        let entry = Entry { term, index, request: None, command: Command::noop(), configuration: None };
        let hard_state = HardState { term, voted_for: Some(NodeId(1)) };
        Output { hard_state: Some(hard_state), entries: vec![entry], ..Output::default() }
    }
}

/// A valid log, the same at the next start, and one that can be gone on with.
fn goes_on(disk: &MemoryDisk, recovered: Recovered, seen: &mut Seen) {
    let open = || Storage::open(disk.clone(), &opening()).expect("it was opened before");
    let mut first = Replayed::of(recovered);
    if !first.entries.is_empty() {
        seen.insert("entries");
    }
    if first.base != EntryId::NONE {
        seen.insert("snapshot");
    }
    let log = Log::new(first.base, first.entries.clone());
    assert!(log.last().term <= first.hard_state.term, "an entry of a term that has not begun");
    disk.crash();
    let (mut storage, second) = open();
    assert_eq!(second.torn, None, "the first start has cut off what was torn");
    assert_eq!(Replayed::of(second), first, "the second start");
    if storage.identity().boot == MAX_NUMBER || first.hard_state.term.0 == MAX_NUMBER {
        // No honest counter gets there, and from there none goes on.
        return;
    }
    storage.raise_boot().expect("a disk that does not fail");
    let next = first.continuation();
    storage.save(&next).expect("a disk that does not fail");
    disk.crash();
    first.hard_state = next.hard_state.unwrap_or_default();
    first.entries.extend(next.entries);
    assert_eq!(Replayed::of(open().1), first, "after a save");
}

fn cluster_toml(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let text = String::from_utf8_lossy(bytes);
    // A table header of a few bytes makes a map: its parser may take more than ours.
    match within_memory(text.len(), 512, || Config::parse(&text, Path::new("folder/cluster.toml"))) {
        Ok(config) => {
            seen.insert("valid");
            assert_config(&config);
            let Config { timing, limits, nodes, .. } = config;
            let known = [
                ("timing", timing != raftkv::config::Timing::default()),
                ("limits", limits != raftkv::config::Limits::default()),
                ("nine nodes", nodes.len() == MAX_NODES),
            ];
            seen.extend(known.into_iter().filter(|(_, is)| *is).map(|(name, _)| name));
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "a control character: {message:?}");
            let behind = message.strip_prefix("folder/cluster.toml:").expect("the file's name");
            let number = behind.split_once(':').and_then(|(number, _)| number.parse::<usize>().ok());
            if let Some(number) = number {
                assert!((1..=1 + text.matches('\n').count()).contains(&number), "{message}");
                seen.insert("refused with its line");
            }
            seen.insert("refused");
        }
    }
    seen
}

fn assert_config(config: &Config) {
    let ids = config.node_ids();
    assert!((1..=MAX_NODES).contains(&ids.len()));
    assert!(ids.is_sorted_by(|one, next| one < next) && ids[0] > NodeId(0), "{ids:?}");
    let mut addresses: Vec<&str> =
        config.nodes.iter().flat_map(|node| [node.peer.as_str(), node.client.as_str()]).collect();
    addresses.sort_unstable();
    assert!(addresses.is_sorted_by(|one, next| one != next), "{addresses:?}");
    let [least, most] = config.timing.election_timeout_ms;
    assert!(2 * config.timing.heartbeat_ms <= least && least < most, "{:?}", config.timing);
    assert!(config.timing.heartbeat_ms >= 1 && config.timing.request_timeout_ms >= 1);
    assert!((MIN_LINE_BYTES..=MAX_LINE_BYTES).contains(&config.limits.max_line_bytes));
    assert!((1..=65_535).contains(&config.limits.max_clients));
    assert!((1..=128).contains(&config.cluster.len()) && !config.data_dir.as_os_str().is_empty());
}
