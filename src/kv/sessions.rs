//! Exactly once: for each client of late, the number of its last write and the answer to it. What is
//! remembered and what is forgotten follows from the log alone, so that it is the same on every node.

use super::answer::Answer;
use crate::types::Index;
use imbl::OrdMap;
use std::sync::Arc;

/// How many clients are remembered.
pub const MAX_CLIENTS: usize = 10_000;

/// How many bytes of answers are kept, with 64 bytes for each client beside the value in its answer.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// How much is remembered. All nodes of a cluster must have the same limits, which is why the programs only
/// ever use the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many clients.
    pub clients: usize,
    /// How many bytes of answers.
    pub answer_bytes: usize,
}

impl Default for SessionLimits {
    fn default() -> SessionLimits {
        SessionLimits { clients: MAX_CLIENTS, answer_bytes: MAX_ANSWER_BYTES }
    }
}

/// The clients remembered. Invariants: `by_client` and `by_use` hold the same clients, each with the same
/// index; `answer_bytes` is the sum over all answers; neither limit is exceeded.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    limits: SessionLimits,
    by_client: OrdMap<Arc<str>, Session>,
    /// By the index of the applied entry that last named the client: the first was used least recently.
    by_use: OrdMap<Index, Arc<str>>,
    answer_bytes: usize,
}

/// What is remembered of one client.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The number of its last write.
    pub(super) seq: u64,
    /// The answer to that.
    pub(super) answer: Answer,
    /// The index of the entry that last named the client.
    pub(super) used: Index,
}

/// What is to become of a client's write.
pub(super) enum Verdict {
    /// It is new: to be applied, and its answer to be remembered.
    New,
    /// It is not to be applied; this is its answer.
    Settled(Answer),
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Sessions {
        Sessions { limits, ..Sessions::default() }
    }

    /// How many clients are remembered.
    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Whether this client is remembered.
    pub(super) fn knows(&self, client: &str) -> bool {
        self.by_client.contains_key(client)
    }

    /// The index of the last entry that named a client, [`Index::NONE`] when there is none.
    pub(super) fn last_use(&self) -> Index {
        self.by_use.get_max().map_or(Index::NONE, |(used, _)| *used)
    }

    /// All clients, the least recently used first.
    pub(super) fn in_order_of_use(&self) -> impl Iterator<Item = (&Arc<str>, &Session)> {
        self.by_use.values().filter_map(|name| self.by_client.get_key_value(name.as_ref()))
    }

    /// Looks up what the entry at `index`, which is being applied, asks for as `client`'s write number `seq`.
    /// That alone counts as a use.
    pub(super) fn look_up(&mut self, client: &str, seq: u64, index: Index) -> Verdict {
        let Some((name, session)) = self.by_client.get_key_value(client) else {
            return if seq == 1 { Verdict::New } else { Verdict::Settled(Answer::SessionExpired { seq }) };
        };
        let verdict = match seq.cmp(&session.seq) {
            std::cmp::Ordering::Less => Verdict::Settled(Answer::StaleSeq { seq, last: session.seq }),
            std::cmp::Ordering::Equal => Verdict::Settled(session.answer.clone()),
            std::cmp::Ordering::Greater => Verdict::New,
        };
        let name = Arc::clone(name);
        if let Some(session) = self.by_client.get_mut(client) {
            self.by_use.remove(&session.used);
            session.used = index;
        }
        self.by_use.insert(index, name);
        verdict
    }

    /// Remembers the answer to `client`'s newest write, applied at `index`, and returns whom that made it
    /// forget, in order. A single answer above the limit would make it forget that client too.
    pub(super) fn remember(&mut self, client: &str, seq: u64, answer: Answer, index: Index) -> Vec<Arc<str>> {
        self.answer_bytes += answer.kept_bytes();
        let session = Session { seq, answer, used: index };
        match self.by_client.get_mut(client) {
            Some(known) => {
                self.answer_bytes -= known.answer.kept_bytes();
                *known = session;
            }
            None => {
                let name: Arc<str> = Arc::from(client);
                self.by_client.insert(Arc::clone(&name), session);
                self.by_use.insert(index, name);
            }
        }
        let mut forgotten = Vec::new();
        while self.by_client.len() > self.limits.clients || self.answer_bytes > self.limits.answer_bytes {
            let Some((used, name)) = self.by_use.get_min().cloned() else { break };
            self.by_use.remove(&used);
            if let Some(session) = self.by_client.remove(&name) {
                self.answer_bytes -= session.answer.kept_bytes();
            }
            forgotten.push(name);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FEW: SessionLimits = SessionLimits { clients: 3, answer_bytes: 1000 };

    /// Sends a write through and says what came of it.
    fn send(sessions: &mut Sessions, index: i64, client: &str, seq: u64, value_bytes: usize) -> String {
        let index = Index(index);
        match sessions.look_up(client, seq, index) {
            Verdict::Settled(Answer::StaleSeq { last, .. }) => format!("stale, last was {last}"),
            Verdict::Settled(Answer::SessionExpired { .. }) => "expired".to_owned(),
            Verdict::Settled(Answer::NotSwapped { index, .. }) => format!("again {index}"),
            Verdict::Settled(other) => panic!("not an answer of this test: {other:?}"),
            Verdict::New => {
                let current = Some(Arc::from("x".repeat(value_bytes)));
                let answer = Answer::NotSwapped { index, current };
                let forgotten = sessions.remember(client, seq, answer, index);
                if forgotten.is_empty() { "new".to_owned() } else { format!("new, without {forgotten:?}") }
            }
        }
    }

    #[test]
    fn the_same_number_gets_the_first_answer_a_lower_one_is_stale_and_a_gap_is_no_harm() {
        let mut sessions = Sessions::new(FEW);
        assert_eq!(send(&mut sessions, 0, "a", 1, 1), "new");
        assert_eq!(send(&mut sessions, 1, "a", 1, 1), "again 0");
        assert_eq!(send(&mut sessions, 2, "a", 3, 1), "new");
        assert_eq!(send(&mut sessions, 3, "a", 2, 1), "stale, last was 3");
        assert_eq!(send(&mut sessions, 4, "a", 3, 1), "again 2");
        assert_eq!(send(&mut sessions, 5, "a", u64::MAX, 1), "new");
    }

    #[test]
    fn an_unknown_client_with_a_number_above_one_has_expired_and_stays_unknown() {
        let mut sessions = Sessions::new(FEW);
        assert_eq!(send(&mut sessions, 0, "a", 2, 1), "expired");
        assert_eq!(send(&mut sessions, 1, "a", 2, 1), "expired");
        assert_eq!(send(&mut sessions, 2, "a", 1, 1), "new");
    }

    #[test]
    fn the_least_recently_used_client_is_forgotten_first_and_every_naming_is_a_use() {
        let mut sessions = Sessions::new(FEW);
        for (index, client) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(send(&mut sessions, index as i64, client, 1, 1), "new");
        }
        assert_eq!(send(&mut sessions, 3, "a", 2, 1), "new");
        assert_eq!(send(&mut sessions, 4, "b", 1, 1), "again 1");
        assert_eq!(send(&mut sessions, 5, "d", 1, 1), "new, without [\"c\"]");
        assert_eq!(send(&mut sessions, 6, "a", 1, 1), "stale, last was 2");
        assert_eq!(send(&mut sessions, 7, "e", 1, 1), "new, without [\"b\"]");
        assert_eq!(send(&mut sessions, 8, "f", 1, 1), "new, without [\"d\"]");
        assert_eq!(send(&mut sessions, 9, "d", 2, 1), "expired");
        assert_eq!(send(&mut sessions, 10, "a", 2, 1), "again 3");
    }

    #[test]
    fn answers_above_the_limit_push_out_the_least_recently_used_ones_until_it_is_kept() {
        let mut sessions = Sessions::new(FEW);
        assert_eq!(send(&mut sessions, 0, "a", 1, 100), "new");
        assert_eq!(send(&mut sessions, 1, "b", 1, 100), "new");
        // 164 bytes twice leave 672: just enough with the 64 of the record.
        assert_eq!(send(&mut sessions, 2, "c", 1, 608), "new");
        assert_eq!(send(&mut sessions, 3, "c", 2, 609), "new, without [\"a\"]");
        assert_eq!(send(&mut sessions, 4, "c", 3, 936), "new, without [\"b\"]");
        assert_eq!(send(&mut sessions, 5, "c", 4, 937), "new, without [\"c\"]");
        assert_eq!((sessions.answer_bytes, sessions.by_use.len()), (0, 0));
    }

    #[test]
    fn the_limits_are_those_of_the_contract() {
        assert_eq!(SessionLimits::default(), SessionLimits { clients: 10_000, answer_bytes: 67_108_864 });
    }

    proptest! {
        /// Against the plainest thing that could be right: a list of clients in order of use.
        #[test]
        fn agrees_with_a_plain_list(
            sent in prop::collection::vec((0u8..6, 1u64..5, 0usize..400), 0..200),
        ) {
            let mut sessions = Sessions::new(FEW);
            let mut list: Vec<(String, u64, i64, usize)> = Vec::new();
            for (index, (client, seq, value_bytes)) in (0..).zip(sent) {
                let client = client.to_string();
                let known = list.iter().position(|(name, ..)| *name == client).map(|at| list.remove(at));
                let (expected, now) = match known {
                    None if seq > 1 => ("expired".to_owned(), None),
                    Some(known) if seq < known.1 => (format!("stale, last was {}", known.1), Some(known)),
                    Some(known) if seq == known.1 => (format!("again {}", known.2), Some(known)),
                    None | Some(_) => {
                        ("new".to_owned(), Some((client.clone(), seq, index, value_bytes + 64)))
                    }
                };
                list.extend(now);
                let mut forgotten = Vec::new();
                while list.len() > 3 || list.iter().map(|kept| kept.3).sum::<usize>() > 1000 {
                    forgotten.push(list.remove(0).0);
                }
                let expected = match forgotten.is_empty() {
                    true => expected,
                    false => format!("new, without {forgotten:?}"),
                };
                prop_assert_eq!(send(&mut sessions, index, &client, seq, value_bytes), expected);
            }
        }
    }
}
