//! What `raftkv-server` does with the folder of a node that is stopped, beside starting it.
//!
//! | file | what it is about |
//! |---|---|
//! | `inspect.rs`, `summary.rs` | reads all files, checks every checksum, changes nothing |
//!
//! Each is a function from arguments to an exit status: 0 done, 1 damage or a fault, 2 refused: nothing was
//! done.

mod inspect;
mod summary;

use crate::storage::StorageError;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// A subcommand of `raftkv-server`.
#[derive(Debug, clap::Subcommand)]
pub enum Tool {
    #[expect(missing_docs, reason = "it is what its arguments say")]
    Inspect(inspect::Arguments),
}

/// Does what was asked for.
pub fn run(tool: &Tool) -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match tool {
        Tool::Inspect(arguments) => inspect::run(arguments, &mut out),
    };
    match outcome {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(Failure::Refused(why)) => fail(2, &why),
        // Whoever reads has had enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Output(error)) => fail(1, &format!("cannot write to standard output: {error}")),
    }
}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Something is damaged, and was told.
    Bad,
}

/// Why nothing came out.
#[derive(Debug)]
enum Failure {
    /// Nothing was done. One line for people.
    Refused(String),
    /// The outcome could not be written.
    Output(io::Error),
}

impl Failure {
    fn refused(why: impl fmt::Display) -> Failure {
        Failure::Refused(why.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::refused(error)
    }
}

fn fail(status: u8, why: &str) -> ExitCode {
    // Nobody to tell is no failure.
    let _ = writeln!(io::stderr(), "raftkv-server: {why}");
    ExitCode::from(status)
}
