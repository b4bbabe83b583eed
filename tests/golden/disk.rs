//! What a node has saved: exactly what its outputs said, and nothing else. A restart loads this and no more.
//!
//! It writes as a log file would: a save that leaves a gap, or that writes over an entry which was not
//! declared void before, is an error of the core and ends the script.

use raftkv::raft::{HardState, Log, Output};
use raftkv::types::{Entry, EntryId, Index};

/// One node's disk.
pub struct Disk {
    /// The durable start counter.
    pub boot: u64,
    /// Term and vote.
    pub hard_state: HardState,
    /// What stands before the first entry.
    pub base: EntryId,
    /// The entries after the base.
    pub entries: Vec<Entry>,
}

/// What one batch wants saved.
#[derive(Default)]
pub struct Save {
    hard_state: Option<HardState>,
    truncate_from: Option<Index>,
    entries: Vec<Entry>,
}

impl Save {
    /// Takes the part of `output` that is to be saved.
    pub fn take_from(output: &mut Output) -> Save {
        Save {
            hard_state: output.hard_state.take(),
            truncate_from: output.truncate_from.take(),
            entries: std::mem::take(&mut output.entries),
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.hard_state.is_none() && self.truncate_from.is_none() && self.entries.is_empty()
    }
}

impl std::fmt::Display for Save {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("save")?;
        if let Some(HardState { term, voted_for }) = self.hard_state {
            write!(f, " term={term}")?;
            voted_for.map_or(Ok(()), |id| write!(f, " voted_for={id}"))?;
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
}
