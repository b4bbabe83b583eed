//! A backup: everything that was written before it began, as a node's snapshot, fetched while the cluster
//! runs.
//!
//! ```text
//!   get          linearizable, so the node has applied everything that was answered before
//!   snapshot     of all that it has applied: now there is one that is new enough
//!   snapshot_lines, again and again, on the same connection: to the end of the file
//! ```
//!
//! The file is the node's, to the byte. Each line is checked when it comes, counts and checksum at the end;
//! only then the file gets its name. What is cut short leaves nothing.

use super::connection::{Cluster, Failure};
use crate::dial::{Answer, Connection};
use crate::storage::{SnapshotCheck, SnapshotMeta};
use crate::types::{EntryId, Index, Term};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

/// How long a node may take over a snapshot.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks whether it is there.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no backup from a node.
enum Trouble {
    /// Another node may give one.
    Node(String),
    /// No node would help.
    Here(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Node(error.to_string())
    }
}

/// Fetches a snapshot from the first node that gives one.
pub(super) fn backup(cluster: &mut Cluster, file: &Path) -> Result<String, Failure> {
    if file.exists() {
        return Err(Failure::Here(format!("{} is there already", file.display())));
    }
    let mut why_not = Vec::new();
    for address in cluster.addresses_in_turn() {
        match backup_from(&address, cluster.timeout(), file) {
            Ok(line) => return Ok(line),
            Err(Trouble::Node(why)) => why_not.push(format!("{address} ({why})")),
            Err(Trouble::Here(why)) => return Err(Failure::Here(why)),
        }
    }
    Err(Failure::Unreachable(format!("no node gives a snapshot: {}", why_not.join(", "))))
}

fn backup_from(address: &str, timeout: Duration, path: &Path) -> Result<String, Trouble> {
    let mut node = Node(Connection::open(address, timeout)?);
    let wanted = node.take_snapshot()?;
    let here =
        |what: &str, error: io::Error| Trouble::Here(format!("cannot {what} {}: {error}", path.display()));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = NamedTempFile::new_in(folder).map_err(|error| here("make", error))?;
    let mut writer = BufWriter::new(draft.as_file());
    let mut write = |line: &[u8]| writer.write_all(line).map_err(|error| here("write", error));
    let Fetched { meta, lines, size_bytes } = node.fetch(wanted, &mut write)?;
    writer.flush().map_err(|error| here("write", error))?;
    drop(writer);
    draft.as_file().sync_all().map_err(|error| here("sync", error))?;
    draft.persist_noclobber(path).map_err(|error| here("name", error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| here("sync", error))?;
    let SnapshotMeta { last, applied_hash, .. } = meta;
    let answer = Done {
        ok: true,
        file: path.display().to_string(),
        index: last.index,
        term: last.term,
        applied_hash: format!("{applied_hash:016x}"),
        lines,
        bytes: size_bytes,
    };
    Ok(serde_json::to_string(&answer).expect("plain values can be written as JSON"))
}

/// The answer.
#[derive(Serialize)]
struct Done {
    ok: bool,
    file: String,
    index: Index,
    term: Term,
    applied_hash: String,
    lines: u64,
    bytes: u64,
}

/// What was fetched.
struct Fetched {
    meta: SnapshotMeta,
    /// Of content.
    lines: u64,
    size_bytes: u64,
}

#[derive(Deserialize)]
struct WithIndex {
    index: Index,
}

#[derive(Deserialize)]
struct WithFirstIndex {
    first_index: Index,
}

#[derive(Deserialize)]
struct Lines<'a> {
    snapshot: EntryId,
    #[serde(borrow)]
    lines: Vec<&'a RawValue>,
    is_last: bool,
}

/// The node that is asked.
struct Node(Connection);

impl Node {
    fn ask(&mut self, line: &str) -> Result<(Vec<u8>, Answer), Trouble> {
        self.0.send(format!("{line}\n").as_bytes())?;
        let received = self.0.receive()?;
        let answer = Answer::parse(&received)?;
        Ok((received, answer))
    }

    /// The same, when only `ok` will do.
    fn ask_well(&mut self, line: &str) -> Result<Vec<u8>, Trouble> {
        match self.ask(line)? {
            (received, answer) if answer.ok => Ok(received),
            (received, _) => Err(Trouble::Node(String::from_utf8_lossy(&received).into_owned())),
        }
    }

    /// Has the node take a snapshot of everything that was written before now. Returns the index that it
    /// covers at least.
    fn take_snapshot(&mut self) -> Result<Index, Trouble> {
        let WithIndex { index: wanted } = read(&self.ask_well(r#"{"op":"get","key":"-"}"#)?)?;
        let deadline = Instant::now() + SNAPSHOT_PATIENCE;
        match self.ask(r#"{"op":"snapshot"}"#)? {
            (received, answer) if answer.ok => {
                let WithIndex { index } = read(&received)?;
                if index == Index::NONE {
                    return Err(Trouble::Node("nothing was ever written".to_owned()));
                }
                return Ok(wanted);
            }
            // A large one takes longer than a request may.
            (_, answer) if answer.code() == "timeout" => {}
            (received, _) => return Err(Trouble::Node(String::from_utf8_lossy(&received).into_owned())),
        }
        while Instant::now() < deadline {
            let WithFirstIndex { first_index } = read(&self.ask_well(r#"{"op":"status"}"#)?)?;
            if first_index > wanted {
                return Ok(wanted);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Trouble::Node(format!("no snapshot within {} s", SNAPSHOT_PATIENCE.as_secs())))
    }

    /// Fetches the newest snapshot, which covers at least so much.
    fn fetch(
        &mut self,
        wanted: Index,
        write: &mut impl FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<Fetched, Trouble> {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {human_pos} of {human_len} lines") {
            bar.set_style(style);
        }
        let unsound = |unsound: crate::storage::Unsound| Trouble::Node(unsound.why);
        let mut request = r#"{"op":"snapshot_lines","offset":0}"#.to_owned();
        let mut size_bytes = 0;
        let mut check = None;
        loop {
            let received = self.ask_well(&request)?;
            let Lines { snapshot, lines, is_last } = read(&received)?;
            let check = check.get_or_insert_with(|| SnapshotCheck::new(snapshot));
            for line in lines {
                let line = format!("{}\n", line.get());
                check.take(line.as_bytes()).map_err(unsound)?;
                write(line.as_bytes())?;
                size_bytes += line.len() as u64;
                bar.inc(1);
            }
            bar.set_length(check.announced_lines() + 2);
            if is_last {
                let meta = check.finish().map_err(unsound)?;
                bar.finish_and_clear();
                if meta.last.index < wanted {
                    return Err(Trouble::Node(format!(
                        "its snapshot ends at {}, before {wanted}",
                        meta.last
                    )));
                }
                return Ok(Fetched { meta, lines: check.announced_lines(), size_bytes });
            }
            let EntryId { term, index } = snapshot;
            let named = json!({ "term": term, "index": index });
            request = format!(r#"{{"op":"snapshot_lines","snapshot":{named},"offset":{size_bytes}}}"#);
        }
    }
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Trouble> {
    serde_json::from_slice(line).map_err(|error| Trouble::Node(format!("an answer that says else: {error}")))
}
