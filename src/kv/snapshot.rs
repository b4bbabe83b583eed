//! A store as lines of text, and back: what a snapshot says. The file around it is for `src/storage`.
//!
//! ```text
//! {"key":"x","value":{"b": 1.50}}                                  all keys, in ascending order
//! {"client":"c","seq":3,"used":17,"answer":{"set":{"index":12}}}   all clients, in order of use
//! ```
//!
//! A store that was built from lines and the one that they were taken from cannot be told apart. A line is
//! taken only when it is, byte for byte, the one that a store would write: so a store has one text.

use super::answer::Answer;
use super::applied_hash::AppliedHash;
use super::fields::{Fields, MAX_CLIENT_BYTES};
use super::sessions::{SessionLimits, Sessions};
use super::store::KvStore;
use crate::json::{self, shown};
use crate::types::{EntryId, Index};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// What is wrong with a line that says something and says it in other letters.
const OTHERWISE_WRITTEN: &str = "a store would write this line differently";

/// A store as it once was: nobody changes it any more. Cheap to take and to clone, fit to be given to another
/// thread.
#[derive(Clone, Debug)]
pub struct StoreView {
    store: KvStore,
}

/// What is to be known of a store before its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last entry that was applied.
    pub last: EntryId,
    /// The running hash up to there.
    pub applied_hash: u64,
    /// How many lines there are.
    pub lines: usize,
}

impl StoreView {
    pub(super) fn of(store: KvStore) -> StoreView {
        StoreView { store }
    }

    /// What is to be known before the lines.
    pub fn head(&self) -> Head {
        let KvStore { values, sessions, last, hash } = &self.store;
        Head { last: *last, applied_hash: hash.value(), lines: values.len() + sessions.len() }
    }

    /// The texts of all lines, without line breaks.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let keys = self.store.values.iter().map(|(key, value)| key_line(key, value));
        let clients = self.store.sessions.in_order_of_use().map(|(client, session)| {
            let client = Cow::Borrowed(client.as_ref());
            let answer = KeptAnswer::of(&session.answer);
            ClientLine { client, seq: session.seq, used: session.used, answer }.written()
        });
        keys.chain(clients)
    }
}

/// Whether a line was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was.
    Ok,
    /// No store writes such a line, or not after those before it. What is being built is then of no use.
    Invalid {
        /// Why, in words fit to be shown.
        why: String,
    },
}

impl Added {
    fn invalid(why: impl Into<String>) -> Added {
        Added::Invalid { why: why.into() }
    }
}

/// Builds a store from the lines of another.
#[derive(Debug)]
pub struct StoreBuilder {
    store: KvStore,
}

impl StoreBuilder {
    /// A store of this head, still without its lines.
    pub fn new(last: EntryId, applied_hash: u64) -> StoreBuilder {
        StoreBuilder::with_session_limits(last, applied_hash, SessionLimits::default())
    }

    /// A store that remembers more or less than the contract says; for tests.
    pub fn with_session_limits(last: EntryId, applied_hash: u64, limits: SessionLimits) -> StoreBuilder {
        let hash = AppliedHash::of(applied_hash);
        let sessions = Sessions::new(limits);
        StoreBuilder { store: KvStore { sessions, last, hash, ..KvStore::default() } }
    }

    /// Adds the next line.
    pub fn line(&mut self, text: &str) -> Added {
        if text.starts_with("{\"key\":") {
            self.key_line(text)
        } else if text.starts_with("{\"client\":") {
            self.client_line(text)
        } else {
            Added::invalid("expected {\"key\":… or {\"client\":…, found something else")
        }
    }

    /// The store of all the lines.
    pub fn finish(self) -> KvStore {
        self.store
    }

    fn key_line(&mut self, text: &str) -> Added {
        // Read as commands are, so that no other key or value comes in this way.
        let mut fields = Fields::read(text);
        let (key, value) = match (fields.key(), fields.value(), fields.problem()) {
            (Some(key), Some(value), None) => (key.content, value),
            (_, _, Some(problem)) => return Added::invalid(problem.to_string()),
            (_, _, None) => {
                unreachable!("a member that can not be read has a problem noted: {}", shown(text))
            }
        };
        if self.store.sessions.len() > 0 {
            return Added::invalid("a key after the clients");
        }
        if let Some((before, _)) = self.store.values.get_max().filter(|(last, _)| **last >= *key) {
            return Added::invalid(format!("the key `{}` after `{}`", shown(&key), shown(before)));
        }
        if key_line(&key, value) != text {
            return Added::invalid(OTHERWISE_WRITTEN);
        }
        self.store.values.insert(Arc::from(key.as_ref()), Arc::from(value));
        Added::Ok
    }

    fn client_line(&mut self, text: &str) -> Added {
        let line: ClientLine<'_> = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(error) => return Added::invalid(shown(&error.to_string())),
        };
        let ClientLine { client, seq, used, answer } = &line;
        let (before, last) = (self.store.sessions.last_use(), self.store.last.index);
        if client.is_empty() || client.len() > MAX_CLIENT_BYTES {
            let size_bytes = client.len();
            return Added::invalid(format!(
                "a client of {size_bytes} bytes, expected 1 to {MAX_CLIENT_BYTES}"
            ));
        }
        if self.store.sessions.knows(client) {
            return Added::invalid(format!("the client `{}` occurs twice", shown(client)));
        }
        if *seq == 0 {
            return Added::invalid("`seq` 0, expected 1 or more");
        }
        if *used <= before || *used > last {
            return Added::invalid(format!("`used` {used}, expected more than {before} and at most {last}"));
        }
        if answer.index() <= Index::NONE || answer.index() > *used {
            return Added::invalid(format!("an answer of index {}, expected 0 to {used}", answer.index()));
        }
        if let Some(Err(problem)) = answer.current().map(json::check) {
            return Added::invalid(format!("the answer's `current`: {problem} of it"));
        }
        if line.written() != text {
            return Added::invalid(OTHERWISE_WRITTEN);
        }
        if !self.store.sessions.remember(client, *seq, answer.to_answer(), *used).is_empty() {
            return Added::invalid("more clients, or more bytes of answers, than a store remembers");
        }
        Added::Ok
    }
}

/// The line of a key.
fn key_line(key: &str, value: &str) -> String {
    const FRAME_BYTES: usize = r#"{"key":"","value":}"#.len();
    let mut line = Vec::with_capacity(FRAME_BYTES + key.len() + value.len());
    line.extend_from_slice(b"{\"key\":");
    json::push_string(&mut line, key);
    line.extend_from_slice(b",\"value\":");
    line.extend_from_slice(value.as_bytes());
    line.push(b'}');
    String::from_utf8(line).expect("a line is made of texts")
}

/// The line of a client.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientLine<'a> {
    #[serde(borrow)]
    client: Cow<'a, str>,
    seq: u64,
    used: Index,
    #[serde(borrow)]
    answer: KeptAnswer<'a>,
}

impl ClientLine<'_> {
    fn written(&self) -> String {
        serde_json::to_string(self).expect("a line can always be written as JSON")
    }
}

/// The answers that are remembered for a client: those to a write that was carried out.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum KeptAnswer<'a> {
    Set {
        index: Index,
    },
    Deleted {
        index: Index,
        deleted: bool,
    },
    Swapped {
        index: Index,
    },
    NotSwapped {
        index: Index,
        #[serde(borrow)]
        current: Option<&'a RawValue>,
    },
}

impl<'a> KeptAnswer<'a> {
    fn of(answer: &'a Answer) -> KeptAnswer<'a> {
        match answer {
            Answer::Set { index } => KeptAnswer::Set { index: *index },
            Answer::Deleted { index, deleted } => KeptAnswer::Deleted { index: *index, deleted: *deleted },
            Answer::Swapped { index } => KeptAnswer::Swapped { index: *index },
            Answer::NotSwapped { index, current } => {
                KeptAnswer::NotSwapped { index: *index, current: current.as_deref().map(raw) }
            }
            Answer::Noop | Answer::Configured { .. } => unreachable!("no client asked for {answer:?}"),
            Answer::StaleSeq { .. } | Answer::SessionExpired { .. } => {
                unreachable!("what was not carried out is not remembered: {answer:?}")
            }
        }
    }

    fn to_answer(&self) -> Answer {
        match *self {
            KeptAnswer::Set { index } => Answer::Set { index },
            KeptAnswer::Deleted { index, deleted } => Answer::Deleted { index, deleted },
            KeptAnswer::Swapped { index } => Answer::Swapped { index },
            KeptAnswer::NotSwapped { index, current } => {
                Answer::NotSwapped { index, current: current.map(|value| Arc::from(value.get())) }
            }
        }
    }

    fn index(&self) -> Index {
        match *self {
            KeptAnswer::Set { index }
            | KeptAnswer::Deleted { index, .. }
            | KeptAnswer::Swapped { index }
            | KeptAnswer::NotSwapped { index, .. } => index,
        }
    }

    fn current(&self) -> Option<&'a str> {
        match *self {
            KeptAnswer::NotSwapped { current, .. } => current.map(RawValue::get),
            KeptAnswer::Set { .. } | KeptAnswer::Deleted { .. } | KeptAnswer::Swapped { .. } => None,
        }
    }
}

fn raw(value: &str) -> &RawValue {
    serde_json::from_str(value).expect("a value in the store is checked JSON text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Applied;
    use crate::types::{Command, Entry, Term};
    use proptest::prelude::*;

    const FEW: SessionLimits = SessionLimits { clients: 3, answer_bytes: 400 };

    fn apply(store: &mut KvStore, text: &str) -> Answer {
        let command = Command::from_json(text.to_owned()).unwrap();
        let entry = Entry {
            term: Term(2),
            index: store.last_applied().next(),
            request: None,
            command,
            configuration: None,
        };
        match store.apply(&entry) {
            Applied::Done(answer) => answer,
            Applied::Unknown { op } => panic!("{text}: unknown op {op}"),
        }
    }

    fn lines(store: &KvStore) -> Vec<String> {
        store.view().lines().collect()
    }

    /// Builds a store from these lines; its last entry is 9@2.
    fn build(lines: &[&str]) -> (StoreBuilder, Added) {
        let mut builder = StoreBuilder::with_session_limits(EntryId::new(Term(2), Index(9)), 1, FEW);
        let (last, before) = lines.split_last().unwrap();
        for line in before {
            assert_eq!(builder.line(line), Added::Ok, "{line}");
        }
        let added = builder.line(last);
        (builder, added)
    }

    fn rebuilt(store: &KvStore) -> KvStore {
        let view = store.view();
        let Head { last, applied_hash, lines } = view.head();
        let mut builder = StoreBuilder::with_session_limits(last, applied_hash, FEW);
        let mut count = 0;
        for line in view.lines() {
            assert_eq!(builder.line(&line), Added::Ok, "{line}");
            count += 1;
        }
        assert_eq!(count, lines);
        builder.finish()
    }

    #[test]
    fn a_store_is_written_as_its_keys_in_order_and_then_its_clients_by_use() {
        let mut store = KvStore::new();
        for text in [
            r#"{"op":"set","key":"b","value":[ 1.50],"client":"z","seq":1}"#,
            r#"{"op":"cas","key":"\u0061\n","expect":null,"value":[ ],"client":"y","seq":1}"#,
            r#"{"op":"cas","key":"b","expect":2,"value":3,"client":"\"x\"","seq":1}"#,
            r#"{"op":"cas","key":"none","expect":2,"value":3,"client":"w","seq":1}"#,
            r#"{"op":"delete","key":"none","client":"v","seq":1}"#,
            r#"{"op":"cas","key":"\u0061\n","expect":null,"value":[ ],"client":"y","seq":1}"#,
            r#"{"op":"configuration"}"#,
        ] {
            apply(&mut store, text);
        }
        let expected = [
            r#"{"key":"a\n","value":[ ]}"#,
            r#"{"key":"b","value":[ 1.50]}"#,
            r#"{"client":"z","seq":1,"used":0,"answer":{"set":{"index":0}}}"#,
            r#"{"client":"\"x\"","seq":1,"used":2,"answer":{"not_swapped":{"index":2,"current":[ 1.50]}}}"#,
            r#"{"client":"w","seq":1,"used":3,"answer":{"not_swapped":{"index":3,"current":null}}}"#,
            r#"{"client":"v","seq":1,"used":4,"answer":{"deleted":{"index":4,"deleted":false}}}"#,
            r#"{"client":"y","seq":1,"used":5,"answer":{"swapped":{"index":1}}}"#,
        ];
        assert_eq!(lines(&store), expected);
        let last = EntryId::new(Term(2), Index(6));
        let applied_hash = store.applied_hash();
        assert_eq!(store.view().head(), Head { last, applied_hash, lines: 7 });
    }

    #[test]
    fn a_store_of_nothing_has_no_lines() {
        let head = KvStore::new().view().head();
        assert_eq!(head, Head { last: EntryId::NONE, applied_hash: 0, lines: 0 });
        let built = StoreBuilder::new(EntryId::NONE, 0).finish();
        assert_eq!((built.view().head(), built.view().lines().next()), (head, None));
    }

    #[test]
    fn a_view_stays_as_it_was_and_can_go_to_another_thread() {
        fn fit_for_another_thread<T: Send + Sync + 'static>(value: T) -> T {
            value
        }
        let mut store = KvStore::new();
        apply(&mut store, r#"{"op":"set","key":"a","value":1,"client":"c","seq":1}"#);
        apply(&mut store, r#"{"op":"set","key":"b","value":1}"#);
        let before = lines(&store);
        let view = fit_for_another_thread(store.view());
        let head = view.head();
        apply(&mut store, r#"{"op":"set","key":"a","value":2,"client":"c","seq":2}"#);
        apply(&mut store, r#"{"op":"delete","key":"b","client":"d","seq":1}"#);
        assert_eq!((view.head(), view.lines().collect::<Vec<_>>()), (head, before.clone()));
        assert_ne!(lines(&store), before);
        assert_eq!(lines(&store).len(), 3);
    }

    #[test]
    fn a_value_may_nest_as_deep_as_in_a_command_also_as_an_answer() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let key_line = |depth| format!(r#"{{"key":"a","value":{}}}"#, nested(depth));
        let client_line = |depth| {
            let answer = format!(r#"{{"not_swapped":{{"index":1,"current":{}}}}}"#, nested(depth));
            format!(r#"{{"client":"c","seq":1,"used":1,"answer":{answer}}}"#)
        };
        for line in [key_line(json::MAX_DEPTH), client_line(json::MAX_DEPTH)] {
            assert_eq!(build(&[&line]).1, Added::Ok, "{line}");
        }
        for line in [key_line(json::MAX_DEPTH + 1), client_line(json::MAX_DEPTH + 1)] {
            let Added::Invalid { why } = build(&[&line]).1 else { panic!("{line}") };
            assert!(why.contains("nests more than 64 deep"), "{why}");
        }
    }

    #[test]
    fn a_key_and_a_client_may_be_as_long_as_in_a_command() {
        let key = |bytes| format!(r#"{{"key":"{}","value":1}}"#, "k".repeat(bytes));
        let client = |bytes| {
            let name = "c".repeat(bytes);
            format!(r#"{{"client":"{name}","seq":1,"used":1,"answer":{{"set":{{"index":1}}}}}}"#)
        };
        for line in [key(1), key(1024), client(1), client(128)] {
            assert_eq!(build(&[&line]).1, Added::Ok, "{line}");
        }
        for line in [key(0), key(1025), client(0), client(129)] {
            assert_ne!(build(&[&line]).1, Added::Ok, "{line}");
        }
    }

    #[test]
    fn what_no_store_writes_is_refused_with_the_reason() {
        const KEY: &str = r#"{"key":"k","value":1}"#;
        const CLIENT: &str = r#"{"client":"c","seq":1,"used":3,"answer":{"set":{"index":3}}}"#;
        for (lines, expected) in [
            (&[KEY, KEY][..], "the key `k` after `k`"),
            (&[KEY, r#"{"key":"j","value":1}"#], "the key `j` after `k`"),
            (&[CLIENT, KEY], "a key after the clients"),
            (&[r#"{"key":"k","value":null}"#], "`value` must not be null"),
            (&[r#"{"key":"k","value":{"a":1,"a":2}}"#], "the member `a` occurs twice"),
            (&[r#"{"key":"k","value":"\ud800"}"#], "a high surrogate without its low half"),
            (&[r#"{"key":"k","value":1,"seq":1}"#], "write this line differently"),
            (&[r#"{"key":"k","value":1,"unknown":1}"#], "write this line differently"),
            (&[r#"{"key":"k","value": 1}"#], "write this line differently"),
            (&[r#"{"key":"\u006b","value":1}"#], "write this line differently"),
            (&[r#"{"key":"k"}"#], "`value` is missing"),
            (&[r#"{"key":"k","value":1"#], "expected `,` or `}`"),
            (&[r#"{"value":1,"key":"k"}"#], "expected {\"key\":… or {\"client\":…"),
            (&[""], "expected {\"key\":… or {\"client\":…"),
            (
                &[CLIENT, r#"{"client":"d","seq":1,"used":3,"answer":{"set":{"index":3}}}"#],
                "`used` 3, expected",
            ),
            (
                &[CLIENT, r#"{"client":"d","seq":1,"used":2,"answer":{"set":{"index":2}}}"#],
                "`used` 2, expected",
            ),
            (&[CLIENT, r#"{"client":"c","seq":2,"used":4,"answer":{"set":{"index":4}}}"#], "occurs twice"),
            (&[r#"{"client":"c","seq":1,"used":10,"answer":{"set":{"index":3}}}"#], "and at most 9"),
            (&[r#"{"client":"c","seq":1,"used":-1,"answer":{"set":{"index":-1}}}"#], "`used` -1, expected"),
            (&[r#"{"client":"c","seq":0,"used":3,"answer":{"set":{"index":3}}}"#], "`seq` 0, expected"),
            (
                &[r#"{"client":"c","seq":1,"used":3,"answer":{"set":{"index":4}}}"#],
                "of index 4, expected 0 to 3",
            ),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"set":{"index":-1}}}"#], "of index -1, expected"),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"noop":{}}}"#], "unknown variant `noop`"),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"set":[3]}}"#], "write this line differently"),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"not_swapped":{"index":3}}}"#], "differently"),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"set":{"index":3}},"x":1}"#], "unknown field `x`"),
            (&[r#"{"client":"c","seq":1,"answer":{"set":{"index":3}}}"#], "missing field `used`"),
            (&[r#"{"client":"c","seq":1,"used":3,"answer":{"set":{"index":3}}} "#], "differently"),
        ] {
            match build(lines).1 {
                Added::Invalid { why } => assert!(why.contains(expected), "{lines:?}: {why}"),
                Added::Ok => panic!("{lines:?}"),
            }
        }
    }

    #[test]
    fn more_clients_or_answers_than_a_store_remembers_are_refused() {
        let client = |number: usize, bytes: usize| {
            let current = "x".repeat(bytes);
            let answer = format!(r#"{{"not_swapped":{{"index":{number},"current":"{current}"}}}}"#);
            format!(r#"{{"client":"{number}","seq":1,"used":{number},"answer":{answer}}}"#)
        };
        let limits = "more clients, or more bytes of answers, than a store remembers".to_owned();
        let (three, fourth) = ([client(1, 1), client(2, 1), client(3, 1)], client(4, 1));
        assert_eq!(build(&three.each_ref().map(String::as_str)).1, Added::Ok);
        let four = [&three[..], &[fourth]].concat();
        let four: Vec<&str> = four.iter().map(String::as_str).collect();
        assert_eq!(build(&four).1, Added::Invalid { why: limits.clone() });
        // Beside the value there are its quotes, and 64 bytes for the client.
        assert_eq!(build(&[&client(1, 334)]).1, Added::Ok);
        assert_eq!(build(&[&client(1, 335)]).1, Added::Invalid { why: limits });
    }

    fn command() -> impl Strategy<Value = String> {
        let key = prop::sample::select(vec!["a", "b", "\\n", "é", "\\\"c\\\""]);
        let value = prop::sample::select(vec!["1", "1.0", "[1, {}]", "\"\\u00e9\"", "\"long\""])
            .prop_map(|value| value.replace("long", &"x".repeat(150)));
        let expect = prop::sample::select(vec!["null", "1", "[1,{}]", "\"é\""]);
        let operation = prop_oneof![
            (key.clone(), value.clone()).prop_map(|(k, v)| format!(r#""set","key":"{k}","value":{v}"#)),
            key.clone().prop_map(|k| format!(r#""delete","key":"{k}""#)),
            (key, expect, value)
                .prop_map(|(k, e, v)| format!(r#""cas","key":"{k}","expect":{e},"value":{v}"#)),
        ];
        let session = prop::option::weighted(0.8, (0..6, 1..5));
        let write = (operation, session).prop_map(|(operation, session)| match session {
            Some((client, seq)) => format!(r#"{{"op":{operation},"client":"{client}\n","seq":{seq}}}"#),
            None => format!(r#"{{"op":{operation}}}"#),
        });
        let own = prop::sample::select(vec![Command::noop(), Command::configuration()])
            .prop_map(|own| own.text().to_owned());
        prop_oneof![9 => write, 1 => own]
    }

    proptest! {
        /// Sessions expire for number of clients and for bytes, answers come again, keys come and go.
        #[test]
        fn a_store_built_from_lines_goes_on_as_the_one_that_they_were_taken_from(
            before in prop::collection::vec(command(), 0..60),
            after in prop::collection::vec(command(), 0..60),
        ) {
            let mut store = KvStore::with_session_limits(FEW);
            for text in &before {
                apply(&mut store, text);
            }
            let mut built = rebuilt(&store);
            for text in &after {
                prop_assert_eq!(apply(&mut built, text), apply(&mut store, text), "{}", text);
                prop_assert_eq!(built.applied_hash(), store.applied_hash(), "{}", text);
                prop_assert_eq!(built.scan("", None, 9, 9999), store.scan("", None, 9, 9999));
            }
            prop_assert_eq!(built.view().head(), store.view().head());
            prop_assert_eq!(lines(&built), lines(&store));
            for key in ["a", "b", "\n", "é", "\"c\"", "none"] {
                prop_assert_eq!(built.get(key), store.get(key));
            }
        }

        /// Whatever happens to a line on its way: it is refused, or it is what the store has.
        #[test]
        fn a_changed_line_is_refused_or_is_another_stores_line(
            client in any::<bool>(),
            at in any::<prop::sample::Index>(),
            removed in 0_usize..3,
            put in prop::sample::select(vec!["", " ", "\"", "0", "k", "}", "\\", "{", "null", "é", ","]),
        ) {
            let mut line = match client {
                false => r#"{"key":"key\n","value":{"a": [1, "é"]}}"#,
                true => {
                    r#"{"client":"c","seq":1,"used":3,"answer":{"not_swapped":{"index":3,"current":["é"]}}}"#
                }
            }
            .to_owned();
            let places: Vec<usize> = line.char_indices().map(|(place, _)| place).collect();
            let from = at.index(places.len());
            let to = places.get(from + removed).copied().unwrap_or(line.len());
            line.replace_range(places[from]..to, put);
            let (builder, added) = build(&[&line]);
            match added {
                Added::Ok => prop_assert_eq!(lines(&builder.finish()), [line]),
                Added::Invalid { why } => prop_assert!(!why.is_empty() && !why.contains(char::is_control)),
            }
        }
    }
}
