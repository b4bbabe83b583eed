//! A run as lines: when, who, what. The words are those of the logs: `n1@2` is node 1 in term 2, `5@2` the
//! entry at index 5 of term 2.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How much of a run is written down. What happens does not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Nothing, which is fast.
    Nothing,
    /// What a person wants to see.
    Timeline,
    /// Every message too.
    Messages,
}

/// The lines of a run and a hash over them.
#[derive(Clone, Debug)]
pub struct Trace {
    detail: Detail,
    lines: Vec<String>,
    hash: u64,
}

impl Trace {
    pub(super) fn new(detail: Detail) -> Trace {
        Trace { detail, lines: Vec::new(), hash: 0 }
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// One number for all lines.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Writes a line down that is of this importance.
    pub(super) fn line(&mut self, detail: Detail, now_ms: u64, line: impl FnOnce() -> String) {
        if self.detail < detail {
            return;
        }
        let line = format!("{:>6}.{:03}  {}", now_ms / 1000, now_ms % 1000, line());
        self.hash = xxh3_64_with_seed(line.as_bytes(), self.hash);
        self.lines.push(line);
    }
}
