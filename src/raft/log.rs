//! The replicated log in memory (paper 5.3), from a base on.
//!
//! ```text
//!            base        entries[0]                      last
//!   ... . . [ 4@2 ] | [ 5@2 ] [ 6@2 ] [ 7@3 ] [ 8@3 ]
//! ```
//!
//! The base is the `EntryId` just before the first entry that is kept: 4@2 here, and 0@-1 (`EntryId::NONE`)
//! for a log that still has everything. An empty log, a fresh one and one whose beginning was compacted away
//! are therefore one case: the term before the first entry is always known.
//!
//! Invariants: indexes have no gaps, terms never fall. The log neither knows what is committed nor writes to
//! any disk.

use crate::types::{Command, Entry, EntryId, Index, RequestId, Term};
use std::fmt;

/// The log's entries after its base.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    base: EntryId,
    entries: Vec<Entry>,
}

impl Log {
    /// A log of these entries, the first of which follows `base`.
    pub fn new(base: EntryId, entries: Vec<Entry>) -> Log {
        let mut log = Log { base, entries: Vec::with_capacity(entries.len()) };
        for entry in entries {
            log.append(entry);
        }
        log
    }

    /// The entry just before the first that is kept: what a snapshot covers, if anything is gone.
    pub fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry, or the base when there is none.
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    /// The index of the first entry that is kept, whether or not there is one yet.
    pub fn first_index(&self) -> Index {
        self.base.index.next()
    }

    /// The term of the entry at `index`; the base's at the base; none outside.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The entry at `index`, if it is kept.
    pub fn get(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index)?)
    }

    /// Whether this log holds `id`. Everything before the base is committed, and every leader has it (Leader
    /// Completeness, paper 5.4.3), so an id from there matches by definition.
    pub fn contains(&self, id: EntryId) -> bool {
        id.index < self.base.index || self.term_at(id.index) == Some(id.term)
    }

    /// Adds an entry at the end. It follows the last one without a gap, in the same or a later term.
    pub fn append(&mut self, entry: Entry) {
        let last = self.last();
        assert_eq!(entry.index, last.index.next(), "entry {} must follow {last}", entry.id());
        assert!(entry.term >= last.term, "terms never fall along the log: {} after {last}", entry.id());
        self.entries.push(entry);
    }

    /// Makes the entry of a leader of `term` that follows the last one. Does not append it.
    pub fn next_entry(&self, term: Term, request: Option<RequestId>, command: Command) -> Entry {
        Entry { term, index: self.last().index.next(), request, command, configuration: None }
    }

    /// Drops the entry at `from` and all after it.
    pub fn truncate(&mut self, from: Index) {
        let offset = self.offset(from).expect("only what follows the base can be dropped");
        self.entries.truncate(offset);
    }

    /// Forgets everything up to `last`, which is in this log, and returns it: to drop many entries takes
    /// time.
    pub fn compact(&mut self, last: EntryId) -> Vec<Entry> {
        let gone = self.offset(last.index.next()).expect("only what is kept can be forgotten");
        let kept = self.entries.split_off(gone);
        self.base = last;
        std::mem::replace(&mut self.entries, kept)
    }

    /// Begins after `last`, which a snapshot covers. What follows it stays if this log has `last`, since then
    /// it goes on from the same entries; if not, nothing in this log follows it.
    pub fn restart(&mut self, last: EntryId) {
        if last.index >= self.base.index && self.contains(last) {
            self.compact(last);
        } else {
            (self.base, self.entries) = (last, Vec::new());
        }
    }

    /// The entries from `from` on, all of them or as many as fit the limits, but at least one when there is
    /// one: an entry above the limit must be able to travel too.
    pub fn batch(&self, from: Index, max_entries: usize, max_bytes: usize) -> &[Entry] {
        let Some(start) = self.offset(from).filter(|start| *start < self.entries.len()) else {
            return &[];
        };
        let mut bytes = 0;
        let fitting = self.entries[start..]
            .iter()
            .take(max_entries)
            .take_while(|entry| {
                bytes += entry.size_bytes();
                bytes <= max_bytes
            })
            .count();
        &self.entries[start..start + fitting.max(1)]
    }

    /// The first index of the term of the entry at `index`, as far as the log is kept: entries of one term
    /// stand together, since terms never fall.
    pub fn first_index_of_term(&self, term: Term) -> Index {
        let offset = self.entries.partition_point(|entry| entry.term < term);
        self.index_at(offset)
    }

    /// The last entry with a term of at most `term`, or the base.
    pub fn last_up_to_term(&self, term: Term) -> EntryId {
        let offset = self.entries.partition_point(|entry| entry.term <= term);
        offset.checked_sub(1).map_or(self.base, |offset| self.entries[offset].id())
    }

    /// The entries after `index`, in order.
    pub fn after(&self, index: Index) -> &[Entry] {
        let start = self.offset(index.next()).unwrap_or(0).min(self.entries.len());
        &self.entries[start..]
    }

    fn offset(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0 - self.base.index.0 - 1).ok()
    }

    fn index_at(&self, offset: usize) -> Index {
        let offset = i64::try_from(offset).expect("a log in memory has fewer than 2^63 entries");
        Index(self.base.index.0 + 1 + offset)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({})", self.base)?;
        self.entries.iter().try_for_each(|entry| write!(f, " {}", entry.id()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, index: i64) -> Entry {
        Entry {
            term: Term(term),
            index: Index(index),
            request: None,
            command: Command::noop(),
            configuration: None,
        }
    }

    fn log(base: EntryId, terms: &[u64]) -> Log {
        let first = base.index.0 + 1;
        Log::new(base, terms.iter().zip(first..).map(|(term, index)| entry(*term, index)).collect())
    }

    fn id(term: u64, index: i64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    #[test]
    fn an_empty_log_ends_at_its_base() {
        assert_eq!(log(EntryId::NONE, &[]).last(), EntryId::NONE);
        // FAULTS row 33: a log of which only a snapshot is left must not look like one without history.
        assert_eq!(log(id(3, 7), &[]).last(), id(3, 7));
        assert_eq!(log(id(3, 7), &[]).first_index(), Index(8));
    }

    #[test]
    fn a_log_knows_the_term_of_its_base_and_of_what_follows_only() {
        let log = log(id(2, 4), &[2, 3]);
        let terms: Vec<_> = (3..8).map(|index| log.term_at(Index(index)).map(|term| term.0)).collect();
        assert_eq!(terms, [None, Some(2), Some(2), Some(3), None]);
    }

    #[test]
    fn what_lies_before_the_base_matches() {
        // FAULTS row 24: a purged `prev` taken for a conflict deletes committed entries.
        let log = log(id(2, 4), &[2, 3]);
        assert!(log.contains(id(1, 3)) && log.contains(id(2, 4)) && log.contains(id(3, 6)));
        assert!(!log.contains(id(1, 4)) && !log.contains(id(3, 5)) && !log.contains(id(3, 7)));
    }

    #[test]
    fn a_batch_has_no_gap_and_at_least_one_entry() {
        let log = log(EntryId::NONE, &[1, 1, 1, 1]);
        let one = log.get(Index(0)).expect("there").size_bytes();
        let batch = |from, entries, bytes| -> Vec<i64> {
            log.batch(Index(from), entries, bytes).iter().map(|entry| entry.index.0).collect()
        };
        assert_eq!(batch(0, 9, 2 * one), [0, 1]);
        assert_eq!(batch(1, 9, 3 * one - 1), [1, 2]);
        assert_eq!(batch(1, 1, 9 * one), [1]);
        assert_eq!(batch(2, 9, 0), [2], "an entry above the limit travels alone");
        assert_eq!(batch(4, 9, 9 * one), Vec::<i64>::new(), "nothing after the last");
    }

    #[test]
    fn terms_are_found_by_their_ends() {
        let log = log(id(1, 1), &[2, 2, 4, 4, 4]);
        assert_eq!(log.first_index_of_term(Term(4)), Index(4));
        assert_eq!(log.first_index_of_term(Term(2)), Index(2));
        assert_eq!(log.last_up_to_term(Term(3)), id(2, 3));
        assert_eq!(log.last_up_to_term(Term(9)), id(4, 6));
        assert_eq!(log.last_up_to_term(Term(1)), id(1, 1));
    }

    #[test]
    #[should_panic(expected = "must follow")]
    fn a_gap_is_refused() {
        log(EntryId::NONE, &[1]).append(entry(1, 2));
    }

    #[test]
    #[should_panic(expected = "terms never fall")]
    fn a_falling_term_is_refused() {
        log(EntryId::NONE, &[2]).append(entry(1, 1));
    }

    #[test]
    fn a_log_shows_its_base_and_its_entries() {
        assert_eq!(log(id(2, 4), &[2, 3]).to_string(), "(4@2) 5@2 6@3");
        assert_eq!(log(EntryId::NONE, &[]).to_string(), "(-1@0)");
    }
}
