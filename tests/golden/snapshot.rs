//! Snapshots of a script's nodes: three lines of text, so that what travels is what arrives. The second says
//! what the store holds, so that a piece which is lost, doubled or of another snapshot does not go unnoticed.

use raftkv::raft::{Configuration, ReceivedChunk};
use raftkv::types::{EntryId, SnapshotLine};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a snapshot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that it covers.
    pub last: EntryId,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// The application's store.
    pub store: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    snapshot: EntryId,
    configuration: Configuration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    store: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: EntryId,
}

impl Snapshot {
    /// As it stands in its file.
    pub fn lines(&self) -> Vec<SnapshotLine> {
        let Snapshot { last, configuration, store } = self.clone();
        let texts = [
            serde_json::to_string(&Head { snapshot: last, configuration }),
            serde_json::to_string(&Content { store }),
            serde_json::to_string(&End { end: last }),
        ];
        texts.map(|text| SnapshotLine::from_json(text.expect("plain text")).expect("one line")).into()
    }

    /// The line at this place of the file, and whether it is the last. None in the middle of a line or after
    /// the end.
    pub fn line_at(&self, offset: u64) -> Option<(SnapshotLine, bool)> {
        let lines = self.lines();
        let mut begins_at = 0;
        for (at, line) in lines.iter().enumerate() {
            if begins_at == offset {
                return Some((line.clone(), at + 1 == lines.len()));
            }
            begins_at += line.size_bytes();
        }
        None
    }
}

/// A snapshot's file while it is received: gone with the next crash.
#[derive(Clone, Debug)]
pub struct Draft {
    name: EntryId,
    lines: Vec<SnapshotLine>,
    is_last: bool,
}

impl Draft {
    /// Writes a piece where it says. One that leaves a gap is an error of the core.
    pub fn write(draft: &mut Option<Draft>, chunk: ReceivedChunk) -> Result<(), String> {
        let ReceivedChunk { snapshot, offset, lines, is_last } = chunk;
        if offset == 0 {
            *draft = Some(Draft { name: snapshot, lines, is_last });
            return Ok(());
        }
        let Some(draft) = draft.as_mut().filter(|draft| draft.name == snapshot) else {
            return Err(format!("byte {offset} of snapshot {snapshot}, of which nothing is there"));
        };
        let size: u64 = draft.lines.iter().map(SnapshotLine::size_bytes).sum();
        if size != offset || draft.is_last {
            return Err(format!("byte {offset} of snapshot {snapshot}, of which {size} bytes are there"));
        }
        draft.lines.extend(lines);
        draft.is_last = is_last;
        Ok(())
    }

    /// Whether all of it is said to be there.
    pub fn is_whole(&self) -> bool {
        self.is_last
    }

    /// What it says, if it is sound.
    pub fn read(&self) -> Result<Snapshot, String> {
        let [head, content, end] = &self.lines[..] else {
            return Err(format!("snapshot {} has {} lines", self.name, self.lines.len()));
        };
        let why = |error: serde_json::Error| format!("snapshot {}: {error}", self.name);
        let Head { snapshot: last, configuration } = serde_json::from_str(head.text()).map_err(why)?;
        let Content { store } = serde_json::from_str(content.text()).map_err(why)?;
        let End { end } = serde_json::from_str(end.text()).map_err(why)?;
        if last != self.name || end != self.name {
            return Err(format!("snapshot {} begins as that of {last}, and ends as {end}", self.name));
        }
        Ok(Snapshot { last, configuration, store })
    }
}
