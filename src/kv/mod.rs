//! The key-value store: what the log's entries act on. Pure: the same entries make the same store, the same
//! answers and the same hash on every node. It reads no clock, touches no file and never fails.
//!
//! | file | what it is about |
//! |---|---|
//! | `store.rs` | [`KvStore`]: `apply`, `get`, `scan` |
//! | `command.rs` | what a command's text says, and how it is made |
//! | `fields.rs` | finding and validating the members of a line |
//! | `sessions.rs` | exactly once: which client's write has had which answer |
//! | `answer.rs` | what applying an entry came to |
//! | `applied_hash.rs` | one number for all that was ever applied |
//! | `snapshot.rs` | a store as lines of text, and back: [`StoreView`], [`StoreBuilder`] |

mod answer;
mod applied_hash;
pub mod command;
pub mod fields;
mod sessions;
mod snapshot;
mod store;

pub use answer::{Answer, Applied};
pub use sessions::{MAX_ANSWER_BYTES, MAX_CLIENTS, SessionLimits};
pub use snapshot::{Added, Head, StoreBuilder, StoreView};
pub use store::{Item, KvStore, Page};
