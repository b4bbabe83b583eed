//! `applied_hash`: one number for all that was ever applied. Nodes that have applied the same entries and
//! made the same of them have the same hash; where hashes of an equal `last_applied` differ, a node went
//! wrong.
//!
//! Each step hashes an unambiguous encoding of one entry and its effect (numbers at full width, texts with
//! their length in front, a tag before each alternative) with xxh3, the hash so far as the seed.

use super::answer::Answer;
use crate::types::Entry;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What applying an entry did to the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// Nothing.
    None,
    /// The key has this value now.
    Set { key: &'a str, value: &'a str },
    /// The key is gone.
    Removed { key: &'a str },
}

/// All that applying an entry did.
#[derive(Clone, Debug)]
pub(super) struct Effect<'a> {
    pub(super) answer: Answer,
    pub(super) change: Change<'a>,
    /// The clients forgotten, in order.
    pub(super) forgotten: Vec<Arc<str>>,
}

impl<'a> Effect<'a> {
    /// An effect on nobody's session.
    pub(super) fn of(answer: Answer, change: Change<'a>) -> Effect<'a> {
        Effect { answer, change, forgotten: Vec::new() }
    }
}

/// The running hash: 0 before the first entry.
#[derive(Debug, Default)]
pub(super) struct AppliedHash {
    value: u64,
    /// Used anew for each entry, kept for its memory.
    encoding: Vec<u8>,
}

/// Without the memory, which can be as large as the longest command.
impl Clone for AppliedHash {
    fn clone(&self) -> AppliedHash {
        AppliedHash::of(self.value)
    }
}

impl AppliedHash {
    /// Goes on from this value.
    pub(super) fn of(value: u64) -> AppliedHash {
        AppliedHash { value, encoding: Vec::new() }
    }

    pub(super) fn value(&self) -> u64 {
        self.value
    }

    /// Takes in one entry and all that applying it did.
    pub(super) fn add(&mut self, entry: &Entry, effect: &Effect<'_>) {
        self.encoding.clear();
        self.number(entry.term.0);
        self.signed(entry.index.0);
        self.text(entry.command.text());
        self.answer(&effect.answer);
        match effect.change {
            Change::None => self.tag(0),
            Change::Set { key, value } => {
                self.tag(1);
                self.text(key);
                self.text(value);
            }
            Change::Removed { key } => {
                self.tag(2);
                self.text(key);
            }
        }
        self.number(effect.forgotten.len() as u64);
        for client in &effect.forgotten {
            self.text(client);
        }
        // Who belongs to the cluster must be the same everywhere too. Entries without it are encoded as ever.
        if let Some(configuration) = &entry.configuration {
            self.tag(1);
            self.text(&configuration.json());
        }
        self.value = xxh3_64_with_seed(&self.encoding, self.value);
    }

    fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Noop => self.tag(0),
            Answer::Set { index } => {
                self.tag(1);
                self.signed(index.0);
            }
            Answer::Deleted { index, deleted } => {
                self.tag(2);
                self.signed(index.0);
                self.tag(u8::from(*deleted));
            }
            Answer::Swapped { index } => {
                self.tag(3);
                self.signed(index.0);
            }
            Answer::NotSwapped { index, current } => {
                self.tag(4);
                self.signed(index.0);
                self.tag(u8::from(current.is_some()));
                self.text(current.as_deref().unwrap_or_default());
            }
            Answer::StaleSeq { seq, last } => {
                self.tag(5);
                self.number(*seq);
                self.number(*last);
            }
            Answer::SessionExpired { seq } => {
                self.tag(6);
                self.number(*seq);
            }
            Answer::Configured { index } => {
                self.tag(7);
                self.signed(index.0);
            }
        }
    }

    fn tag(&mut self, tag: u8) {
        self.encoding.push(tag);
    }

    fn number(&mut self, number: u64) {
        self.encoding.extend_from_slice(&number.to_le_bytes());
    }

    fn signed(&mut self, number: i64) {
        self.encoding.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.encoding.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, Configuration, Index, NodeId, Term};

    fn entry(term: u64, index: i64, text: &str) -> Entry {
        let command = Command::from_json(text.to_owned()).unwrap();
        Entry { term: Term(term), index: Index(index), request: None, command, configuration: None }
    }

    fn members(voters: &[u16]) -> Entry {
        let voters = voters.iter().map(|id| NodeId(*id)).collect();
        let configuration = Configuration { voters, ..Configuration::default() };
        Entry { configuration: Some(Arc::new(configuration)), ..entry(1, 0, "{}") }
    }

    fn hash(entry: &Entry, answer: &Answer, change: Change<'_>, forgotten: &[&str]) -> u64 {
        let mut hash = AppliedHash::default();
        let forgotten = forgotten.iter().map(|&name| Arc::from(name)).collect();
        hash.add(entry, &Effect { answer: answer.clone(), change, forgotten });
        hash.value()
    }

    #[test]
    fn whatever_differs_makes_another_hash() {
        let index = Index(0);
        let some: Option<Arc<str>> = Some(Arc::from("1"));
        let plain = entry(1, 0, "{}");
        let answers = [
            Answer::Noop,
            Answer::Set { index },
            Answer::Set { index: Index(1) },
            Answer::Deleted { index, deleted: true },
            Answer::Deleted { index, deleted: false },
            Answer::Swapped { index },
            Answer::NotSwapped { index, current: None },
            Answer::NotSwapped { index, current: Some(Arc::from("")) },
            Answer::NotSwapped { index, current: some },
            Answer::StaleSeq { seq: 1, last: 2 },
            Answer::StaleSeq { seq: 1, last: 3 },
            Answer::StaleSeq { seq: 2, last: 3 },
            Answer::SessionExpired { seq: 2 },
            Answer::SessionExpired { seq: 3 },
            Answer::Configured { index },
            Answer::Configured { index: Index(1) },
        ];
        let changes = [
            Change::Set { key: "a", value: "b" },
            Change::Set { key: "ab", value: "" },
            Change::Set { key: "", value: "ab" },
            Change::Removed { key: "a" },
            Change::Removed { key: "b" },
        ];
        let mut hashes = vec![
            hash(&entry(2, 0, "{}"), &Answer::Noop, Change::None, &[]),
            hash(&entry(1, 1, "{}"), &Answer::Noop, Change::None, &[]),
            hash(&entry(1, 0, "{ }"), &Answer::Noop, Change::None, &[]),
            hash(&members(&[1, 2, 3]), &Answer::Noop, Change::None, &[]),
            hash(&members(&[1, 2]), &Answer::Noop, Change::None, &[]),
            hash(&plain, &Answer::Noop, Change::None, &["ab"]),
            hash(&plain, &Answer::Noop, Change::None, &["a", "b"]),
            hash(&plain, &Answer::Noop, Change::None, &["b", "a"]),
        ];
        hashes.extend(answers.iter().map(|answer| hash(&plain, answer, Change::None, &[])));
        hashes.extend(changes.iter().map(|&change| hash(&plain, &Answer::Noop, change, &[])));
        let count = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), count);
    }

    #[test]
    fn the_encoding_is_the_same_in_every_version() {
        // Nodes of different versions compare their hashes and snapshots carry them: a change here breaks
        // both.
        let answer = Answer::NotSwapped { index: Index(7), current: Some(Arc::from("1")) };
        let change = Change::Set { key: "k", value: "v" };
        let first = hash(&entry(3, 7, "{}"), &answer, change, &["c"]);
        assert_eq!(format!("{first:016x}"), "0cb3ebfa6f3362e0");
    }

    #[test]
    fn the_order_of_entries_counts() {
        let (one, two) = (entry(1, 0, "{}"), entry(1, 1, "{}"));
        let hash_of = |entries: [&Entry; 2]| {
            let mut hash = AppliedHash::default();
            for entry in entries {
                hash.add(entry, &Effect::of(Answer::Noop, Change::None));
            }
            hash.value()
        };
        assert_ne!(hash_of([&one, &two]), hash_of([&two, &one]));
    }
}
