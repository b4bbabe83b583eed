//! What a node has saved: exactly what its outputs said, and nothing else. A restart loads this and no more.
//!
//! It writes as a log file would: a save that leaves a gap, or that writes over an entry which was not
//! declared void before, is an error of the core and ends the script.

use crate::snapshot::{Draft, Snapshot};
use raftkv::raft::{Configuration, HardState, Log, Output, ReceivedChunk};
use raftkv::types::{Entry, EntryId, Index, SnapshotLine};

/// One node's disk.
pub struct Disk {
    /// The durable start counter.
    pub boot: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// What stands before the first entry.
    pub base: EntryId,
    /// The configuration in force there.
    pub configuration: Configuration,
    /// The entries after the base.
    pub entries: Vec<Entry>,
    /// The snapshot that the log begins after.
    pub snapshot: Option<Snapshot>,
    /// A snapshot that was received, whole and durable, and that the log does not begin after yet.
    pub received: Option<Snapshot>,
    /// One that is being received.
    pub draft: Option<Draft>,
    /// One of which everything is there, and that has not been read yet.
    pub whole: Option<Draft>,
}

/// What one batch wants saved.
#[derive(Default)]
pub struct Save {
    hard_state: Option<HardState>,
    chunks: Vec<ReceivedChunk>,
    installed: Option<EntryId>,
    truncate_from: Option<Index>,
    entries: Vec<Entry>,
}

impl Save {
    /// Takes the part of `output` that is to be saved.
    pub fn take_from(output: &mut Output) -> Save {
        Save {
            hard_state: output.hard_state.take(),
            chunks: std::mem::take(&mut output.chunks),
            installed: output.installed.take(),
            truncate_from: output.truncate_from.take(),
            entries: std::mem::take(&mut output.entries),
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let nothing_new = self.truncate_from.is_none() && self.entries.is_empty() && self.chunks.is_empty();
        self.hard_state.is_none() && self.installed.is_none() && nothing_new
    }
}

impl std::fmt::Display for Save {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("save")?;
        if let Some(HardState { term, voted_for }) = self.hard_state {
            write!(f, " term={term}")?;
            voted_for.map_or(Ok(()), |id| write!(f, " voted_for={id}"))?;
        }
        for ReceivedChunk { snapshot, offset, lines, is_last } in &self.chunks {
            let last = if *is_last { ", the last" } else { "" };
            let bytes: u64 = lines.iter().map(SnapshotLine::size_bytes).sum();
            write!(f, " snapshot {snapshot} from byte {offset}: {bytes} bytes{last}")?;
        }
        if let Some(last) = self.installed {
            write!(f, " log-after={last}")?;
        }
        if let Some(from) = self.truncate_from {
            write!(f, " void-from={from}")?;
        }
        if !self.entries.is_empty() {
            write!(f, " {}", super::show::entries(&self.entries))?;
        }
        Ok(())
    }
}

impl Disk {
    /// With nothing on it but who belongs to the cluster, as far as that is known.
    pub fn new(configuration: Configuration) -> Disk {
        Disk {
            boot: 0,
            hard_state: HardState::default(),
            base: EntryId::NONE,
            configuration,
            entries: Vec::new(),
            snapshot: None,
            received: None,
            draft: None,
            whole: None,
        }
    }

    /// The last entry, or the base.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    /// The saved log.
    pub fn log(&self) -> Log {
        Log::new(self.base, self.entries.clone())
    }

    /// The entry at `index`, if it is there.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = usize::try_from(index.0 - self.base.index.0 - 1).ok()?;
        self.entries.get(offset)
    }

    /// Writes.
    pub fn save(&mut self, save: Save) -> Result<(), String> {
        if let Some(new) = save.hard_state {
            let old = self.hard_state;
            let vote_changed = old.voted_for.is_some() && new.voted_for != old.voted_for;
            if new.term < old.term || (new.term == old.term && vote_changed) {
                return Err(format!("the saved term or vote went back: {new:?} after {old:?}"));
            }
            self.hard_state = new;
        }
        for chunk in save.chunks {
            Draft::write(&mut self.draft, chunk)?;
            if let Some(draft) = self.draft.take_if(|draft| draft.is_whole()) {
                self.whole = Some(draft);
            }
        }
        if let Some(last) = save.installed {
            self.install(last)?;
        }
        if let Some(from) = save.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        for entry in save.entries {
            let last = self.last();
            if entry.index != last.index.next() {
                return Err(format!("{} cannot be written after {last}", entry.id()));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The application has a durable snapshot: what it covers goes.
    pub fn compact(&mut self, snapshot: Snapshot) {
        let last = snapshot.last;
        self.begin_after(snapshot);
        self.entries.retain(|entry| entry.index > last.index);
    }

    /// The log begins after a received snapshot, with nothing that was there before.
    fn install(&mut self, last: EntryId) -> Result<(), String> {
        let Some(snapshot) = self.received.take().filter(|received| received.last == last) else {
            return Err(format!("the log would begin after {last}, of which no snapshot is there"));
        };
        self.begin_after(snapshot);
        self.entries.clear();
        Ok(())
    }

    fn begin_after(&mut self, snapshot: Snapshot) {
        self.base = snapshot.last;
        self.configuration = snapshot.configuration.clone();
        self.snapshot = Some(snapshot);
    }

    /// A start after a crash: what was only half received is gone, and a snapshot that is whole counts, also
    /// when the log was not made to begin after it before the crash (FAULTS row 31).
    pub fn recover(&mut self) {
        (self.draft, self.whole) = (None, None);
        let newer = self.received.take().filter(|received| received.last.index > self.base.index);
        if let Some(snapshot) = newer {
            let last = snapshot.last;
            let goes_on = self.get(last.index).is_some_and(|entry| entry.id() == last);
            self.begin_after(snapshot);
            self.entries.retain(|entry| goes_on && entry.index > last.index);
        }
    }

    /// The snapshot of this name.
    pub fn snapshot_of(&self, last: EntryId) -> Option<&Snapshot> {
        [&self.snapshot, &self.received].into_iter().flatten().find(|snapshot| snapshot.last == last)
    }
}
