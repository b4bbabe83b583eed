//! What is fuzzed: one function a target, from any bytes to what was seen on the way. It panics when a
//! promise is broken, and for nothing else.
//!
//! | target | the bytes are | what must hold |
//! |---|---|---|
//! | `client_line` | what a client sends on a connection | lines are cut right, answers are JSON lines |
//! | `peer_line` | a line from another node | what is taken is written and read back the same |
//! | `log_file` | a folder's log, some of its lines without checksum | refused, or a log that goes on |
//! | `identity_file` | a folder's `identity.json` | refused, or this node's |
//! | `cluster_toml` | a `cluster.toml` | refused in one line, or within all limits |
//! | `core_inputs` | choices: inputs for one core, and what its peers do | see `inputs.rs` |
//!
//! `tests/fuzz.rs` runs them over the corpus and over mutations of it, `fuzz_targets/` under libFuzzer.

pub mod files;
pub mod inputs;
pub mod lines;
mod peers;

use std::collections::BTreeSet;

/// What happened in a run, in words: so that a target that no longer gets anywhere is noticed.
pub type Seen = BTreeSet<&'static str>;

/// A target: its name, the function, and what its corpus and mutations must get to see.
pub struct Target {
    /// The name: of the corpus's folder, and of the program for libFuzzer.
    pub name: &'static str,
    /// What it does with some bytes.
    pub run: fn(&[u8]) -> Seen,
    /// What must have been seen over all runs.
    pub sometimes: &'static [&'static str],
}

/// Runs something and checks that the memory that it had at any one time is in proportion to its input.
pub fn within_memory<T>(input_bytes: usize, times: usize, run: impl FnOnce() -> T) -> T {
    /// For what does not depend on the input: buffers, messages.
    const ALWAYS_BYTES: usize = 256 * 1024;
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(run()));
    let limit = ALWAYS_BYTES + times * input_bytes;
    assert!(
        used.bytes_max <= limit as u64,
        "{} bytes of memory for {input_bytes} bytes of input, expected at most {limit}",
        used.bytes_max
    );
    result.expect("measured is run")
}

/// A line for people: one line, nothing in it that moves a cursor, and not long.
pub fn assert_plain(message: &str) {
    assert!(!message.contains(char::is_control), "a control character: {message:?}");
    assert!(message.len() <= 2000, "{} bytes: {message}", message.len());
}
