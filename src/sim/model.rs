//! What the committed log means, said a second time and as plainly as possible: the answers of the cluster
//! are held against this and not against `KvStore`, which would repeat its own mistakes. It knows the
//! commands that the simulator's clients send: values are whole numbers.

use crate::kv::Answer;
use crate::types::{Entry, Index};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A command of a simulated client.
#[derive(Debug, Deserialize)]
struct Command {
    op: String,
    #[serde(default)]
    key: String,
    value: Option<u64>,
    expect: Option<u64>,
    client: Option<String>,
    seq: Option<u64>,
}

/// The data, and each client's last write with its answer.
#[derive(Default)]
pub(super) struct Model {
    pub values: BTreeMap<String, u64>,
    sessions: BTreeMap<String, (u64, Answer)>,
    /// How many retries were not carried out again.
    pub deduplicated: u64,
}

impl Model {
    /// Carries an entry out.
    pub fn apply(&mut self, entry: &Entry) -> Answer {
        let command: Command =
            serde_json::from_str(entry.command.text()).expect("a simulated client's command");
        let (Some(client), Some(seq)) = (command.client.clone(), command.seq) else {
            return self.operate(&command, entry.index);
        };
        match self.sessions.get(&client) {
            Some((last, answer)) if *last == seq => {
                self.deduplicated += 1;
                answer.clone()
            }
            Some((last, _)) if *last > seq => Answer::StaleSeq { seq, last: *last },
            Some(_) | None => {
                let answer = self.operate(&command, entry.index);
                self.sessions.insert(client, (seq, answer.clone()));
                answer
            }
        }
    }

    fn operate(&mut self, command: &Command, index: Index) -> Answer {
        let current = self.values.get(&command.key).copied();
        match (command.op.as_str(), command.value) {
            ("noop", _) => Answer::Noop,
            ("delete", _) => {
                self.values.remove(&command.key);
                Answer::Deleted { index, deleted: current.is_some() }
            }
            ("cas", Some(_)) if command.expect != current => {
                let current = current.map(|value| Arc::from(value.to_string()));
                Answer::NotSwapped { index, current }
            }
            (op, Some(value)) => {
                self.values.insert(command.key.clone(), value);
                if op == "cas" { Answer::Swapped { index } } else { Answer::Set { index } }
            }
            (op, None) => panic!("no simulated client sends {op} without a value"),
        }
    }
}
