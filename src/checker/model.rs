//! What the committed log means, said a second time and as plainly as possible: the answers of the cluster
//! are held against this and not against `KvStore`, which would repeat its own mistakes. It forgets clients
//! as the contract says, but for the limit in bytes: no history here has 64 MiB of answers to remember.

use crate::json;
use crate::kv::{Answer, MAX_CLIENTS};
use crate::types::{Entry, Index};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A command, as its text says it. None of an `expect` is `null`: the key must not exist.
#[derive(Debug, Deserialize)]
struct Command {
    op: String,
    #[serde(default)]
    key: String,
    value: Option<Box<RawValue>>,
    expect: Option<Box<RawValue>>,
    client: Option<String>,
    seq: Option<u64>,
}

/// A client's last write.
struct Session {
    seq: u64,
    answer: Answer,
    /// Where the client was last named.
    used: Index,
}

/// The data, and each client's last write with its answer.
#[derive(Default)]
pub(super) struct Model {
    /// The values' JSON texts.
    pub values: BTreeMap<String, Arc<str>>,
    sessions: BTreeMap<String, Session>,
    /// How many retries were not carried out again.
    pub deduplicated: u64,
}

impl Model {
    /// Carries an entry out. None when the entry's text is no command.
    pub fn apply(&mut self, entry: &Entry) -> Option<Answer> {
        let command: Command = serde_json::from_str(entry.command.text()).ok()?;
        let index = entry.index;
        let (Some(client), Some(seq)) = (command.client.clone(), command.seq) else {
            return self.operate(&command, index);
        };
        match self.sessions.get_mut(&client) {
            None if seq > 1 => return Some(Answer::SessionExpired { seq }),
            None => {}
            Some(session) => {
                session.used = index;
                if session.seq == seq {
                    self.deduplicated += 1;
                    return Some(session.answer.clone());
                }
                if session.seq > seq {
                    return Some(Answer::StaleSeq { seq, last: session.seq });
                }
            }
        }
        let answer = self.operate(&command, index)?;
        self.sessions.insert(client, Session { seq, answer: answer.clone(), used: index });
        if self.sessions.len() > MAX_CLIENTS {
            let least = self.sessions.iter().min_by_key(|(_, session)| session.used);
            if let Some(client) = least.map(|(client, _)| client.clone()) {
                self.sessions.remove(&client);
            }
        }
        Some(answer)
    }

    fn operate(&mut self, command: &Command, index: Index) -> Option<Answer> {
        let current = self.values.get(&command.key).cloned();
        let put = |values: &mut BTreeMap<String, Arc<str>>| {
            let value = command.value.as_ref()?;
            values.insert(command.key.clone(), Arc::from(value.get()));
            Some(())
        };
        match command.op.as_str() {
            "noop" => Some(Answer::Noop),
            "configuration" => Some(Answer::Configured { index }),
            "delete" => {
                self.values.remove(&command.key);
                Some(Answer::Deleted { index, deleted: current.is_some() })
            }
            "set" => {
                put(&mut self.values)?;
                Some(Answer::Set { index })
            }
            "cas" => {
                let is_expected = match (&current, &command.expect) {
                    (None, None) => true,
                    (Some(current), Some(expect)) => json::equal(current, expect.get()),
                    (Some(_), None) | (None, Some(_)) => false,
                };
                if !is_expected {
                    return Some(Answer::NotSwapped { index, current });
                }
                put(&mut self.values)?;
                Some(Answer::Swapped { index })
            }
            _ => None,
        }
    }
}
