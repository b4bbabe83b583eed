//! Whether what clients were told can be true. Two checkers judge a [`History`], each in its own way, so that
//! a mistake in one is not the other's; the simulator and the tests with real processes use both.
//!
//! ```text
//!   request line, answer line -> Outcome --+
//!                                          v
//!   History: operations of clients, each with its attempts (sent, ended, Outcome)
//!     |                                                  |
//!     +-- check_against_log: the committed log, a model  +-- check_by_search: per key, some order of
//!         of the store, and the index in every answer        the operations that explains all answers
//! ```
//!
//! | file | what it is about |
//! |---|---|
//! | `history.rs` | [`History`]: who asked for what and when, and what came of it |
//! | `history_file.rs` | [`History::write`] and [`History::read`]: JSON lines |
//! | `answer_line.rs` | [`Outcome::of_line`]: a server's line as an outcome, held against the contract |
//! | `model.rs` | what the log means, said a second time |
//! | `against_log.rs` | [`check_against_log`]: linear time, thanks to the index in every answer |
//! | `register.rs`, `search.rs` | [`check_by_search`]: Wing and Gong's search with Lowe's memory |

mod against_log;
mod answer_line;
mod history;
mod history_file;
mod model;
mod register;
mod search;
#[cfg(test)]
mod tests;

pub use against_log::{Replay, check_against_log};
pub use history::{Attempt, History, Operation, Outcome};
pub use search::{DEFAULT_BUDGET_STEPS, NotLinearizable, Verdict, check_by_search};

use std::fmt;

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one: P1 to P15, as `docs/verification.md` lists them.
    pub property: &'static str,
    /// How, in words.
    pub what: String,
}

impl Violation {
    /// That this property did not hold, and how.
    pub fn new(property: &'static str, what: impl Into<String>) -> Violation {
        Violation { property, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}
