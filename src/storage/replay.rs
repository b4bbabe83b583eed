//! Replays records: what the log, the term and the vote are after all that was saved.
//!
//! A batch counts as a whole or not at all. Whatever an intact record says must fit what came before it,
//! because it was checked against the same rules before it was written: [`Replay::apply`] here,
//! `LogEnd::after` there.

use super::record::{Content, Flaw, read_record};
use crate::raft::HardState;
use crate::types::{Entry, EntryId, Index, MAX_NUMBER};

/// The state that the records so far lead to. Invariants: indexes of `entries` follow `base` without a gap,
/// terms never fall along them, and none is above that of `hard_state`.
#[derive(Debug)]
pub(super) struct Replay {
    /// The entry before the first of `entries`.
    pub base: EntryId,
    /// The base that the newest header has: no truncation reaches it.
    pub settled: EntryId,
    pub hard_state: HardState,
    pub entries: Vec<Entry>,
    /// The number of the batch that comes next.
    pub batch: u64,
}

/// What a log ends with: all that must be known to check that the next batch fits.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogEnd {
    /// No truncation reaches this entry.
    pub base: EntryId,
    /// The index that the next entry will have.
    pub next: Index,
    pub hard_state: HardState,
}

/// The records of one batch, each with the byte at which it begins, and the byte after the last.
#[derive(Debug)]
pub(super) struct Batch {
    pub contents: Vec<(usize, Content)>,
    pub end: usize,
}

/// Reads the batch with this number, which must begin at this byte and be complete.
pub(super) fn read_batch(file: &[u8], start: usize, batch: u64) -> Result<Batch, Flaw> {
    let mut contents = Vec::new();
    let mut at = start;
    let mut expected_left = None;
    loop {
        let record = read_record(file, at)?;
        if record.head.batch != batch {
            return Err(Flaw::new(
                at,
                format!("a record of batch {batch}, found one of batch {}", record.head.batch),
            ));
        }
        if let Some(left) = expected_left
            && left != record.head.left
        {
            let expected =
                format!("a record with {left} left in its batch, found one with {}", record.head.left);
            return Err(Flaw::new(at, expected));
        }
        contents.push((at, record.content));
        at += record.head.len;
        if record.head.left == 0 {
            return Ok(Batch { contents, end: at });
        }
        expected_left = Some(record.head.left - 1);
    }
}

impl Replay {
    /// Nothing replayed yet: the state of a new log.
    pub fn new() -> Replay {
        Replay::after(EntryId::NONE, HardState::default(), 1)
    }

    /// Nothing replayed yet of a log that goes on after this entry, with this batch.
    pub fn after(base: EntryId, hard_state: HardState, batch: u64) -> Replay {
        Replay { base, settled: base, hard_state, entries: Vec::new(), batch }
    }

    /// Whether this entry is in the log, or just before it.
    pub fn contains(&self, id: EntryId) -> bool {
        id == self.base
            || self.place_after(id.index).is_some_and(|place| {
                place
                    .checked_sub(1)
                    .and_then(|place| self.entries.get(place))
                    .is_some_and(|entry| entry.id() == id)
            })
    }

    /// Lets the log begin after this entry, which is not before its base: without what comes before, and
    /// without all when it does not contain the entry.
    pub fn begin_after(&mut self, base: EntryId) {
        let contains = self.contains(base);
        match self.place_after(base.index) {
            Some(place) if contains => drop(self.entries.drain(..place)),
            Some(_) | None => self.entries.clear(),
        }
        self.base = base;
    }

    /// The place in `entries` behind the entry with this index; none when the index is before the base.
    fn place_after(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0 - self.base.index.0).ok()
    }

    /// The log's last entry, or what stands before its first.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    /// What the log ends with so far.
    pub fn end(&self) -> LogEnd {
        LogEnd { base: self.settled, next: self.last().index.next(), hard_state: self.hard_state }
    }

    /// Takes over what a batch says. Segment headers are not for here: they say nothing new.
    pub fn apply_batch(&mut self, contents: impl IntoIterator<Item = (usize, Content)>) -> Result<(), Flaw> {
        for (at, content) in contents {
            self.apply(content).map_err(|expected| Flaw::new(at, expected))?;
        }
        self.batch += 1;
        Ok(())
    }

    fn apply(&mut self, content: Content) -> Result<(), String> {
        match content {
            Content::Entry(entry) => self.append(entry),
            Content::TruncateFrom(from) => self.truncate(from),
            Content::HardState(hard_state) => {
                if hard_state.term.0 > MAX_NUMBER {
                    return Err(format!("a term of at most {MAX_NUMBER}, found {}", hard_state.term));
                }
                if !may_follow(hard_state, self.hard_state) {
                    return Err(format!(
                        "a term that does not fall and a vote that does not change in it, found \
                         {hard_state:?} after {:?}",
                        self.hard_state
                    ));
                }
                self.hard_state = hard_state;
                Ok(())
            }
            Content::Segment(_) => {
                Err("a segment's header only as the first line, found another".to_string())
            }
        }
    }

    fn append(&mut self, entry: Entry) -> Result<(), String> {
        let last = self.last();
        if entry.index != last.index.next() {
            Err(format!("the entry with index {}, found that with index {}", last.index.next(), entry.index))
        } else if entry.term < last.term || entry.term > self.hard_state.term {
            let (lowest, highest) = (last.term, self.hard_state.term);
            Err(format!("an entry with a term from {lowest} to {highest}, found term {}", entry.term))
        } else {
            self.entries.push(entry);
            Ok(())
        }
    }

    fn truncate(&mut self, from: Index) -> Result<(), String> {
        let (first, next) = (self.settled.index.next(), self.last().index.next());
        if from < first || from > next {
            return Err(format!("a truncation from an index from {first} to {next}, found {from}"));
        }
        self.entries.truncate(self.place_after(from.previous()).unwrap_or_default());
        Ok(())
    }
}

/// Whether a hard state may come after another (figure 2): terms never fall, and a vote stands for its term.
pub(super) fn may_follow(next: HardState, before: HardState) -> bool {
    let vote_stands = before.voted_for.is_none() || next.voted_for == before.voted_for;
    next.term > before.term || (next.term == before.term && vote_stands)
}
