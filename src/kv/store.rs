//! `KvStore`: the data and what an entry does to it. Each apply takes time logarithmic in the number of keys
//! and of clients, beside that of reading the command's text.
//!
//! Its maps are persistent ones: a clone shares all their nodes, and whoever changes a shared node copies
//! that node first. So a view of a million keys costs no more than one of none, and stays as it was.

use super::answer::{Answer, Applied};
use super::applied_hash::{AppliedHash, Change, Effect};
use super::command::{self, Operation, Reading, Write};
use super::sessions::{SessionLimits, Sessions, Verdict};
use super::snapshot::StoreView;
use crate::json;
use crate::types::{Entry, EntryId, Index};
use imbl::OrdMap;
use std::ops::Bound;
use std::sync::Arc;

/// A replicated map from keys to JSON texts, with everything that must be the same on all nodes.
#[derive(Clone, Debug, Default)]
pub struct KvStore {
    /// Values are texts as their clients wrote them.
    pub(super) values: OrdMap<Arc<str>, Arc<str>>,
    pub(super) sessions: Sessions,
    pub(super) last: EntryId,
    pub(super) hash: AppliedHash,
}

/// A key and its value's text, shared with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key, unescaped.
    pub key: Arc<str>,
    /// The value's JSON text.
    pub value: Arc<str>,
}

/// What a scan found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of the keys' bytes.
    pub items: Vec<Item>,
    /// Whether there is more behind the last item.
    pub more: bool,
}

impl KvStore {
    /// An empty store, before the first entry.
    pub fn new() -> KvStore {
        KvStore::default()
    }

    /// An empty store that remembers more or less than the contract says; for tests.
    pub fn with_session_limits(limits: SessionLimits) -> KvStore {
        KvStore { sessions: Sessions::new(limits), ..KvStore::default() }
    }

    /// The index of the last entry applied, [`Index::NONE`] before the first.
    pub fn last_applied(&self) -> Index {
        self.last.index
    }

    /// The running hash over every entry applied so far and what it did; 0 before the first. Shown as 16
    /// hexadecimal digits.
    pub fn applied_hash(&self) -> u64 {
        self.hash.value()
    }

    /// The store as it is now, to be read elsewhere while this one goes on.
    pub fn view(&self) -> StoreView {
        StoreView::of(self.clone())
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.values.len()
    }

    /// How many clients are remembered.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// The key's value, as its client wrote it.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        self.values.get(key)
    }

    /// The items whose keys begin with `prefix` and come after the key `after`, in order: at most `limit` of
    /// them, and no more than their lines `{"key":K,"value":V},` have room for in `max_bytes`; but one at
    /// least when there is one.
    pub fn scan(&self, prefix: &str, after: Option<&str>, limit: usize, max_bytes: usize) -> Page {
        const FRAME_BYTES: usize = r#"{"key":,"value":},"#.len();
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let mut page = Page::default();
        let mut bytes = 0;
        for (key, value) in self.values.range::<_, str>((start, Bound::Unbounded)) {
            if !key.starts_with(prefix) {
                break;
            }
            bytes += FRAME_BYTES + json::string_size_bytes(key) + value.len();
            let full = page.items.len() >= limit || bytes > max_bytes;
            if full && !page.items.is_empty() {
                page.more = true;
                break;
            }
            page.items.push(Item { key: Arc::clone(key), value: Arc::clone(value) });
        }
        page
    }

    /// Applies the next committed entry. Panics when it is not the next one, or holds what no reader lets
    /// into the log: both mean that something before this went wrong, and going on would spread it.
    pub fn apply(&mut self, entry: &Entry) -> Applied {
        let id = entry.id();
        assert_eq!(id.index, self.last.index.next(), "entry {id} does not follow entry {}", self.last);
        assert!(id.term >= self.last.term, "entry {id} is of an older term than entry {}", self.last);

        let reading = command::read(entry.command.text());
        let effect = match &reading {
            Reading::Noop => Effect::of(Answer::Noop, Change::None),
            Reading::Configuration => Effect::of(Answer::Configured { index: id.index }, Change::None),
            Reading::Write(write) => self.write(write, id.index),
            Reading::Unknown { op } => return Applied::Unknown { op: op.clone() },
            Reading::Invalid(problem) => panic!("entry {id} holds what can not be applied: {problem}"),
        };
        self.hash.add(entry, &effect);
        self.last = id;
        Applied::Done(effect.answer)
    }

    /// Carries a write out unless its session says that it was carried out before, or can not be told.
    fn write<'w>(&mut self, write: &'w Write<'_>, index: Index) -> Effect<'w> {
        let Some(session) = &write.session else {
            return self.operate(&write.operation, index);
        };
        match self.sessions.look_up(&session.client.content, session.seq, index) {
            Verdict::Settled(answer) => Effect::of(answer, Change::None),
            Verdict::New => {
                let effect = self.operate(&write.operation, index);
                let answer = effect.answer.clone();
                let forgotten = self.sessions.remember(&session.client.content, session.seq, answer, index);
                Effect { forgotten, ..effect }
            }
        }
    }

    fn operate<'w>(&mut self, operation: &'w Operation<'_>, index: Index) -> Effect<'w> {
        match operation {
            Operation::Set { key, value } => {
                self.put(&key.content, value);
                Effect::of(Answer::Set { index }, Change::Set { key: &key.content, value })
            }
            Operation::Delete { key } => {
                let deleted = self.values.remove(key.content.as_ref()).is_some();
                let change = if deleted { Change::Removed { key: &key.content } } else { Change::None };
                Effect::of(Answer::Deleted { index, deleted }, change)
            }
            Operation::Cas { key, expect, value } => {
                let current = self.values.get(key.content.as_ref());
                let as_expected = match current {
                    None => *expect == "null",
                    Some(current) => json::equal(current, expect),
                };
                if as_expected {
                    self.put(&key.content, value);
                    Effect::of(Answer::Swapped { index }, Change::Set { key: &key.content, value })
                } else {
                    let current = current.cloned();
                    Effect::of(Answer::NotSwapped { index, current }, Change::None)
                }
            }
        }
    }

    fn put(&mut self, key: &str, value: &str) {
        match self.values.get_mut(key) {
            Some(place) => *place = Arc::from(value),
            None => {
                self.values.insert(Arc::from(key), Arc::from(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Command, NodeId, RequestId, Term};
    use proptest::prelude::*;

    fn entry(term: u64, index: i64, text: &str) -> Entry {
        let command = Command::from_json(text.to_owned()).unwrap();
        Entry { term: Term(term), index: Index(index), request: None, command, configuration: None }
    }

    fn set(key: &str, value: &str) -> String {
        format!(r#"{{"op":"set","key":"{key}","value":{value}}}"#)
    }

    fn cas(key: &str, expect: &str, value: &str) -> String {
        format!(r#"{{"op":"cas","key":"{key}","expect":{expect},"value":{value}}}"#)
    }

    /// Makes a text the store's next entry, and returns the answer.
    fn apply(store: &mut KvStore, text: &str) -> Answer {
        match store.apply(&entry(1, store.last_applied().next().0, text)) {
            Applied::Done(answer) => answer,
            Applied::Unknown { op } => panic!("{text}: unknown op {op}"),
        }
    }

    fn store_of(texts: &[&str]) -> KvStore {
        let mut store = KvStore::new();
        for text in texts {
            apply(&mut store, text);
        }
        store
    }

    fn value(store: &KvStore, key: &str) -> Option<String> {
        store.get(key).map(|value| value.to_string())
    }

    #[test]
    fn a_fresh_store_has_applied_nothing() {
        let store = KvStore::new();
        assert_eq!((store.last_applied(), store.applied_hash()), (Index::NONE, 0));
        assert_eq!(store.get("x"), None);
        assert_eq!(store.scan("", None, 1, 0), Page::default());
    }

    #[test]
    fn what_was_set_is_got_as_it_was_written_until_it_is_deleted() {
        let mut store = KvStore::new();
        let index = Index;
        assert_eq!(apply(&mut store, &set("x", "{\"b\": 1.50e+1}")), Answer::Set { index: index(0) });
        assert_eq!(value(&store, "x").as_deref(), Some("{\"b\": 1.50e+1}"));
        assert_eq!(apply(&mut store, &set("\\u0078", "2")), Answer::Set { index: index(1) });
        assert_eq!(value(&store, "x").as_deref(), Some("2"), "x in other letters");
        let delete = r#"{"op":"delete","key":"x"}"#;
        assert_eq!(apply(&mut store, delete), Answer::Deleted { index: index(2), deleted: true });
        assert_eq!(value(&store, "x"), None);
        assert_eq!(apply(&mut store, delete), Answer::Deleted { index: index(3), deleted: false });
    }

    #[test]
    fn cas_swaps_when_the_values_mean_the_same() {
        for (current, expect) in [
            ("1", "1.0"),
            ("1", "10e-1"),
            ("0", "-0"),
            ("1e400", "10e399"),
            ("{\"a\":1,\"b\":[true]}", "{ \"b\": [true], \"\\u0061\": 1e0 }"),
        ] {
            let mut store = store_of(&[&set("x", current)]);
            assert_eq!(apply(&mut store, &cas("x", expect, "\"new\"")), Answer::Swapped { index: Index(1) });
            assert_eq!(value(&store, "x").as_deref(), Some("\"new\""), "{current} {expect}");
        }
    }

    #[test]
    fn cas_names_the_current_value_when_it_does_not_swap() {
        for (current, expect) in [("1", "2"), ("1", "null"), ("1e400", "1e401"), ("[1,2]", "[2,1]")] {
            let mut store = store_of(&[&set("x", current)]);
            let answer = Answer::NotSwapped { index: Index(1), current: Some(Arc::from(current)) };
            assert_eq!(apply(&mut store, &cas("x", expect, "9")), answer);
            assert_eq!(value(&store, "x").as_deref(), Some(current));
        }
    }

    #[test]
    fn cas_with_null_creates_and_with_a_value_does_not() {
        let mut store = KvStore::new();
        let missing = Answer::NotSwapped { index: Index(0), current: None };
        assert_eq!(apply(&mut store, &cas("x", "1", "2")), missing);
        assert_eq!(value(&store, "x"), None);
        assert_eq!(apply(&mut store, &cas("x", "null", "2")), Answer::Swapped { index: Index(1) });
        assert_eq!(value(&store, "x").as_deref(), Some("2"));
    }

    #[test]
    fn a_write_sent_again_is_done_once_and_gets_its_first_answer() {
        let mut store = KvStore::new();
        let first = r#"{"op":"cas","key":"x","expect":null,"value":1,"client":"c","seq":1}"#;
        assert_eq!(apply(&mut store, first), Answer::Swapped { index: Index(0) });
        apply(&mut store, r#"{"op":"delete","key":"x"}"#);
        assert_eq!(apply(&mut store, first), Answer::Swapped { index: Index(0) });
        assert_eq!(value(&store, "x"), None);
        let second = r#"{"op":"cas","key":"x","expect":7,"value":1,"client":"c","seq":2}"#;
        let not_swapped = Answer::NotSwapped { index: Index(3), current: None };
        assert_eq!(apply(&mut store, second), not_swapped);
        apply(&mut store, &set("x", "7"));
        assert_eq!(apply(&mut store, second), not_swapped);
        assert_eq!(apply(&mut store, first), Answer::StaleSeq { seq: 1, last: 2 });
        assert_eq!(value(&store, "x").as_deref(), Some("7"));
    }

    #[test]
    fn a_client_is_the_same_however_its_name_is_escaped() {
        let mut store = KvStore::new();
        let sent = |name| format!(r#"{{"op":"set","key":"x","value":1,"client":"{name}","seq":1}}"#);
        apply(&mut store, &sent("c"));
        assert_eq!(apply(&mut store, &sent("\\u0063")), Answer::Set { index: Index(0) });
    }

    #[test]
    fn a_forgotten_client_is_told_and_nothing_is_done() {
        let mut store = KvStore::with_session_limits(SessionLimits { clients: 1, answer_bytes: 1000 });
        let sent = |client, seq, value| {
            format!(r#"{{"op":"set","key":"x","value":{value},"client":"{client}","seq":{seq}}}"#)
        };
        apply(&mut store, &sent("a", 1, 1));
        apply(&mut store, &sent("b", 1, 2));
        assert_eq!(apply(&mut store, &sent("a", 2, 3)), Answer::SessionExpired { seq: 2 });
        assert_eq!(value(&store, "x").as_deref(), Some("2"));
        assert_eq!(apply(&mut store, &sent("b", 1, 4)), Answer::Set { index: Index(1) });
    }

    #[test]
    fn a_noop_changes_nothing_but_counts() {
        let mut store = store_of(&[&set("x", "1")]);
        let hash = store.applied_hash();
        assert_eq!(apply(&mut store, Command::noop().text()), Answer::Noop);
        assert_eq!(store.last_applied(), Index(1));
        assert_ne!(store.applied_hash(), hash);
        assert_eq!(value(&store, "x").as_deref(), Some("1"));
    }

    #[test]
    fn a_change_of_members_changes_nothing_but_counts_and_is_no_noop() {
        let mut store = store_of(&[&set("x", "1")]);
        let mut other = store.clone();
        let configured = Answer::Configured { index: Index(1) };
        assert_eq!(apply(&mut store, Command::configuration().text()), configured);
        assert_eq!(store.last_applied(), Index(1));
        assert_eq!(value(&store, "x").as_deref(), Some("1"));
        apply(&mut other, Command::noop().text());
        assert_ne!(store.applied_hash(), other.applied_hash());
    }

    #[test]
    fn an_entry_of_an_unknown_op_leaves_the_store_as_it_was() {
        let mut store = store_of(&[&set("x", "1")]);
        let hash = store.applied_hash();
        let applied = store.apply(&entry(1, 1, r#"{"op":"ren\nme","key":"x","to":"y"}"#));
        assert_eq!(applied, Applied::Unknown { op: "ren\\nme".to_owned() });
        assert_eq!((store.last_applied(), store.applied_hash()), (Index(0), hash));
    }

    #[test]
    #[should_panic(expected = "entry 1@1 holds what can not be applied: `value` must not be null")]
    fn an_entry_that_no_reader_lets_through_is_fatal() {
        store_of(&[&set("x", "1"), &set("x", "null")]);
    }

    #[test]
    #[should_panic(expected = "entry 2@1 does not follow entry 0@1")]
    fn an_entry_out_of_place_is_fatal() {
        store_of(&[&set("x", "1")]).apply(&entry(1, 2, &set("x", "1")));
    }

    #[test]
    #[should_panic(expected = "entry 1@0 is of an older term than entry 0@1")]
    fn an_entry_of_an_older_term_is_fatal() {
        store_of(&[&set("x", "1")]).apply(&entry(0, 1, &set("x", "1")));
    }

    #[test]
    fn stores_fed_alike_have_one_hash_whoever_asked() {
        let texts = [set("x", "1"), cas("x", "1.0", "2"), Command::noop().text().to_owned()];
        let (mut one, mut other) = (KvStore::new(), KvStore::new());
        for text in &texts {
            apply(&mut one, text);
            let mut asked = entry(1, other.last_applied().next().0, text);
            asked.request = Some(RequestId { node: NodeId(2), boot: 3, number: 4 });
            other.apply(&asked);
            assert_eq!(one.applied_hash(), other.applied_hash());
        }
    }

    #[test]
    fn stores_that_made_something_else_of_the_same_entry_have_different_hashes() {
        let write = cas("x", "1", "2");
        let mut hashes: Vec<u64> = [set("x", "1"), set("x", "3"), set("y", "1")]
            .iter()
            .map(|text| {
                let mut store = store_of(&[text]);
                // As if what came before had been the same, so that only the effect can tell.
                store.hash = AppliedHash::default();
                apply(&mut store, &write);
                store.applied_hash()
            })
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 3);
    }

    #[test]
    fn forgetting_a_client_shows_in_the_hash() {
        let sent = |client| format!(r#"{{"op":"set","key":"x","value":1,"client":"{client}","seq":1}}"#);
        let hash = |clients| {
            let limits = SessionLimits { clients, answer_bytes: 1000 };
            let mut store = KvStore::with_session_limits(limits);
            apply(&mut store, &sent("a"));
            apply(&mut store, &sent("b"));
            store.applied_hash()
        };
        assert_eq!(hash(2), hash(3));
        assert_ne!(hash(1), hash(2));
    }

    fn keys(page: &Page) -> (Vec<&str>, bool) {
        (page.items.iter().map(|item| item.key.as_ref()).collect(), page.more)
    }

    #[test]
    fn a_scan_goes_through_the_keys_of_its_prefix_in_order() {
        let texts = ["b", "ab", "a", "abc", "ac", "é", "B"].map(|key| set(key, "1"));
        let store = store_of(&texts.each_ref().map(String::as_str));
        let scan = |prefix, after, limit| store.scan(prefix, after, limit, usize::MAX);
        assert_eq!(keys(&scan("", None, 9)), (vec!["B", "a", "ab", "abc", "ac", "b", "é"], false));
        assert_eq!(keys(&scan("a", None, 9)), (vec!["a", "ab", "abc", "ac"], false));
        assert_eq!(keys(&scan("a", None, 4)), (vec!["a", "ab", "abc", "ac"], false));
        assert_eq!(keys(&scan("a", None, 3)), (vec!["a", "ab", "abc"], true));
        assert_eq!(keys(&scan("a", Some("ab"), 1)), (vec!["abc"], true));
        assert_eq!(keys(&scan("a", Some("abb"), 9)), (vec!["abc", "ac"], false));
        assert_eq!(keys(&scan("ab", Some("a"), 9)), (vec!["ab", "abc"], false));
        assert_eq!(keys(&scan("ab", Some("b"), 9)), (vec![], false));
        assert_eq!(keys(&scan("b", Some("a"), 9)), (vec!["b"], false), "others stand between the two");
        assert_eq!(keys(&scan("x", None, 9)), (vec![], false));
    }

    #[test]
    fn a_scan_ends_where_its_bytes_end_but_not_before_the_first_item() {
        let store = store_of(&[&set("a", "11"), &set("\\n", "22"), &set("c", "33")]);
        // Each item takes 23 bytes, the one with the escaped key 24.
        let scan = |max_bytes| store.scan("", None, 9, max_bytes);
        assert_eq!(keys(&scan(0)), (vec!["\n"], true));
        assert_eq!(keys(&scan(46)), (vec!["\n"], true));
        assert_eq!(keys(&scan(47)), (vec!["\n", "a"], true));
        assert_eq!(keys(&scan(69)), (vec!["\n", "a"], true));
        assert_eq!(keys(&scan(70)), (vec!["\n", "a", "c"], false));
    }

    proptest! {
        #[test]
        fn pages_put_together_are_the_whole(
            names in prop::collection::btree_set("[ab]{1,4}", 0..30),
            limit in 1usize..5,
            max_bytes in 0usize..100,
        ) {
            let mut store = KvStore::new();
            for name in &names {
                apply(&mut store, &set(name, "1"));
            }
            let mut found: Vec<String> = Vec::new();
            loop {
                let page = store.scan("a", found.last().map(String::as_str), limit, max_bytes);
                prop_assert!(page.items.len() <= limit);
                prop_assert!(!page.more || !page.items.is_empty());
                prop_assert!(found.len() <= names.len(), "the pages go round in a circle");
                found.extend(page.items.iter().map(|item| item.key.to_string()));
                if !page.more {
                    break;
                }
            }
            let expected: Vec<String> = names.into_iter().filter(|name| name.starts_with('a')).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
