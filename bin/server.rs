//! `raftkv-server`: one node, in the foreground; or a tool for the folder of a node that is stopped.
//! Arguments, then a call.

use clap::Parser;
use raftkv::server::{Ending, FirstStart, LogFormat, Options, run};
use raftkv::tools::{self, Tool};
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs one node of a raftkv cluster in the foreground.
///
/// Logs to stderr (RUST_LOG=debug or trace says more). SIGINT and SIGTERM stop it cleanly.
///
/// Exit status: 0 stopped as asked, 1 a fault while running, 2 refused to start.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(disable_help_subcommand = true, subcommand_help_heading = "For a node that is stopped")]
struct Arguments {
    #[command(subcommand)]
    tool: Option<Tool>,

    /// The cluster's description.
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,

    /// Which of its nodes to run.
    #[arg(long, value_name = "N", required = true)]
    id: Option<u16>,

    /// The folder that holds this node's files [default: data_dir of the config, then node-N].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// This is the node's first start in a new cluster. With data there, it does nothing. Never use it for a
    /// node that lost its data: it may have voted and acknowledged what it no longer knows of.
    #[arg(long)]
    bootstrap: bool,

    /// The node is new, empty, and to be added to a cluster that runs (raftkv-client add): it waits for that,
    /// learns from the leader, and neither votes nor campaigns before. With data there, it does nothing.
    #[arg(long, conflicts_with = "bootstrap")]
    join: bool,

    /// The node belongs to the cluster and has lost its data. It comes back empty, without a vote, until the
    /// leader has let it in again and it has caught up. With data there, it does nothing.
    #[arg(long, conflicts_with_all = ["bootstrap", "join"])]
    rejoin: bool,

    /// How log lines look.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

fn main() -> ExitCode {
    let Arguments { tool, config, id, data_dir, bootstrap, join, rejoin, log_format } = Arguments::parse();
    let id = match (tool, id) {
        (None, Some(id)) => id,
        (Some(tool), _) => return tools::run(&tool),
        (None, None) => unreachable!("without a subcommand, --id is required"),
    };
    let first_start = match (bootstrap, join, rejoin) {
        (true, _, _) => FirstStart::Bootstrap,
        (_, true, _) => FirstStart::Join,
        (_, _, true) => FirstStart::Rejoin,
        (false, false, false) => FirstStart::Refused,
    };
    match run(&Options { config, id, data_dir, first_start, log_format }) {
        Ok(Ending::Asked) => ExitCode::SUCCESS,
        // The log's last line says which.
        Ok(Ending::Fault(_)) => ExitCode::from(1),
        Err(refusal) => {
            eprintln!("raftkv-server: {refusal}");
            ExitCode::from(2)
        }
    }
}
