//! What `raftkv-server` does with the folder of a node that is stopped, beside starting it.
//!
//! | file | what it is about |
//! |---|---|
//! | `inspect.rs`, `summary.rs` | reads all files, checks every checksum, changes nothing |
//! | `restore.rs` | a new cluster from a backup |
//! | `recover.rs` | a cluster of one from a node that is left when a majority is lost |
//! | `content.rs` | a snapshot's lines are those of a store |
//!
//! Each is a function from arguments to an exit status: 0 done, 1 damage or a fault, 2 refused: nothing was
//! done.

mod content;
mod inspect;
mod recover;
mod restore;
mod summary;

pub use recover::make_cluster_of_one;

use crate::config::Config;
use crate::storage::StorageError;
use crate::types::NodeId;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// A subcommand of `raftkv-server`.
#[derive(Debug, clap::Subcommand)]
pub enum Tool {
    #[expect(missing_docs, reason = "it is what its arguments say")]
    Inspect(inspect::Arguments),
    #[expect(missing_docs, reason = "it is what its arguments say")]
    Restore(restore::Arguments),
    #[expect(missing_docs, reason = "it is what its arguments say")]
    Recover(recover::Arguments),
}

/// Which node's folder.
#[derive(Debug, clap::Args)]
pub struct NodeArguments {
    /// The cluster's description.
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,

    /// Which of its nodes it is.
    #[arg(long, value_name = "N")]
    id: u16,

    /// The folder that holds the node's files [default: data_dir of the config, then node-N].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl NodeArguments {
    fn load(&self) -> Result<(Config, NodeId), Failure> {
        let config = Config::load(&self.config).map_err(Failure::refused)?;
        Ok((config, NodeId(self.id)))
    }

    fn folder(&self, config: &Config) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| config.data_dir_of(NodeId(self.id)))
    }
}

/// Does what was asked for.
pub fn run(tool: &Tool) -> ExitCode {
    let mut out = io::stdout().lock();
    let outcome = match tool {
        Tool::Inspect(arguments) => inspect::run(arguments, &mut out),
        Tool::Restore(arguments) => restore::run(arguments, &mut out),
        Tool::Recover(arguments) => recover::run(arguments, &mut out),
    };
    match outcome {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::from(1),
        Err(Failure::Refused(why)) => fail(2, &why),
        Err(Failure::Fault(why)) => fail(1, &why),
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
pub enum Failure {
    /// Nothing was done. One line for people.
    Refused(String),
    /// Something failed while it was done. One line for people.
    Fault(String),
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
