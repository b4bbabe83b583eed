//! `raftkv-server inspect`: what a stopped node has on its disk, and whether all of it is sound.

use super::content::{Content, read_content};
use super::summary::Summary;
use super::{Failure, Verdict};
use crate::storage::{FileDisk, Inspection, StorageError, inspect};
use crate::types::Index;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Show what a stopped node has on its disk, and check every checksum of every file.
///
/// Changes nothing, and refuses a node that runs. Exit status: 0 all is sound, 1 something is damaged (told
/// on stderr with file and line), 2 refused: no node's folder, or in use.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The node's folder (data/node-1), or one with a single node's folder in it (data).
    #[arg(value_name = "DATA_DIR")]
    folder: PathBuf,

    /// Show entries of the log instead, as JSON lines: from A to B, both included; or A.. or ..B or N.
    #[arg(long, value_name = "A..B", conflicts_with = "json")]
    entries: Option<Range>,

    /// Show the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Which entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: Index,
    last: Index,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let index = |text: &str, otherwise: i64| match text {
            "" => Ok(Index(otherwise)),
            text => text
                .parse::<u32>()
                .map(|index| Index(index.into()))
                .map_err(|_| format!("expected A..B, A.., ..B or N with indexes from 0 on, found {text:?}")),
        };
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let range = Range { first: index(first, 0)?, last: index(last, i64::MAX)? };
        match range.first <= range.last && !text.is_empty() {
            true => Ok(range),
            false => Err("expected the first entry before the last".to_string()),
        }
    }
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Verdict, Failure> {
    let Arguments { folder, entries, json } = arguments;
    let (disk, mut inspection) = open(folder)?;
    let content = read_newest(&disk, &mut inspection);
    match entries {
        Some(range) => write_entries(&inspection, *range, out)?,
        None => {
            let summary = Summary::of(&disk, &inspection, content);
            match json {
                true => writeln!(out, "{}", summary.json())?,
                false => write!(out, "{summary}")?,
            }
        }
    }
    out.flush()?;
    for damage in &inspection.damage {
        // Nobody to tell is no failure.
        let _ = writeln!(io::stderr(), "raftkv-server: {damage}");
    }
    Ok(if inspection.damage.is_empty() { Verdict::Good } else { Verdict::Bad })
}

/// Looks into the folder, or into the one node's folder that it has.
pub(super) fn open(folder: &Path) -> Result<(FileDisk, Inspection), StorageError> {
    let look = |folder: &Path| {
        let disk = FileDisk::open_to_read(folder)?;
        inspect(&disk).map(|inspection| (disk, inspection))
    };
    match look(folder) {
        Err(StorageError::NoNode { .. }) => match nodes_in(folder).as_slice() {
            [only] => look(only),
            _ => Err(StorageError::NoNode { folder: folder.to_path_buf() }),
        },
        looked => looked,
    }
}

/// The folders in this one that are called as nodes' are.
fn nodes_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_nodes = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_prefix("node-"));
        id.is_some_and(|id| id.parse::<u16>().is_ok()) && path.is_dir()
    };
    entries.filter(is_nodes).collect()
}

/// Reads the newest snapshot as a start does: its lines must be those of a store. `None` without a snapshot.
fn read_newest(disk: &FileDisk, inspection: &mut Inspection) -> Option<Content> {
    let read = inspection.open_snapshot(disk).map_err(StorageError::Disk).and_then(|reader| {
        let content = reader.map(|mut reader| read_content(&mut reader, |_| {}).map(|(content, _)| content));
        content.transpose()
    });
    read.unwrap_or_else(|error| {
        inspection.damage.push(error);
        None
    })
}

fn write_entries(inspection: &Inspection, range: Range, out: &mut impl Write) -> io::Result<()> {
    let Some(log) = &inspection.log else { return Ok(()) };
    let wanted = |index: Index| range.first <= index && index <= range.last;
    for entry in log.entries.iter().filter(|entry| wanted(entry.index)) {
        serde_json::to_writer(&mut *out, entry)?;
        out.write_all(b"\n")?;
    }
    let first = log.base.index.next();
    if range.first < first {
        let _ = writeln!(
            io::stderr(),
            "raftkv-server: the log begins with entry {first}; a snapshot has what \
             came before"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_with_both_ends_included() {
        let range = |first, last| Ok(Range { first: Index(first), last: Index(last) });
        assert_eq!("3..5".parse(), range(3, 5));
        assert_eq!("3..".parse(), range(3, i64::MAX));
        assert_eq!("..5".parse(), range(0, 5));
        assert_eq!("5".parse(), range(5, 5));
        assert_eq!("..".parse(), range(0, i64::MAX));
        for wrong in ["", "5..3", "x", "-1..2", "1...2", "1..2..3"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
