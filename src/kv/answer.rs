//! What applying an entry comes to, as values. Lines are made of them in `src/wire`.

use crate::types::Index;
use std::sync::Arc;

/// What [`super::KvStore::apply`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The entry is applied; `last_applied` is its index.
    Done(Answer),
    /// The entry asks for something that this version does not know. Nothing has changed, `last_applied`
    /// neither: the node must end, since every later entry builds on this one.
    Unknown {
        /// The name of the operation, fit to be shown.
        op: String,
    },
}

/// The answer to whoever asked for an entry. Cloning shares the value in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A leader's own entry changed nothing. Nobody waits for this.
    Noop,
    /// A change of members is committed; nothing else changed.
    Configured {
        /// The index of the entry that carries it.
        index: Index,
    },
    /// The key has its new value.
    Set {
        /// The index of the write; of a write sent again, that of the first time, here and below.
        index: Index,
    },
    /// The key is gone.
    Deleted {
        /// The index of the write.
        index: Index,
        /// Whether there was something to remove.
        deleted: bool,
    },
    /// The key had the expected value and has the new one.
    Swapped {
        /// The index of the write.
        index: Index,
    },
    /// The key had another value, or none, and has it still.
    NotSwapped {
        /// The index of the write.
        index: Index,
        /// The key's value at that index.
        current: Option<Arc<str>>,
    },
    /// The client has had a later write applied. Nothing was done.
    StaleSeq {
        /// The number that came.
        seq: u64,
        /// The client's last one.
        last: u64,
    },
    /// The client is not remembered, and its number says that it once was. Nothing was done.
    SessionExpired {
        /// The number that came.
        seq: u64,
    },
}

impl Answer {
    /// What keeping the answer counts as towards the limit on kept answers, in bytes: a fixed share for the
    /// client's record and what the answer holds. The same on every node and in every version.
    pub(super) fn kept_bytes(&self) -> usize {
        const RECORD_BYTES: usize = 64;
        match self {
            Answer::NotSwapped { current: Some(current), .. } => RECORD_BYTES + current.len(),
            Answer::NotSwapped { current: None, .. }
            | Answer::Noop
            | Answer::Configured { .. }
            | Answer::Set { .. }
            | Answer::Deleted { .. }
            | Answer::Swapped { .. }
            | Answer::StaleSeq { .. }
            | Answer::SessionExpired { .. } => RECORD_BYTES,
        }
    }
}
