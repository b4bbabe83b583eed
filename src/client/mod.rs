//! `raftkv-client`: a person's or a script's way to the cluster, over the same lines that `nc` could send.
//!
//! | file | what lives there |
//! |---|---|
//! | [`words`] | `set x 1` into a request |
//! | [`operator_words`] | `add 4 HOST:PORT HOST:PORT` into a wish |
//! | [`connection`] | asking, another node when one is down, no write done twice |
//! | `operator.rs` | who leads, changes of members until they are finished |
//! | `backup.rs` | a snapshot into a file |
//! | [`repl`] | lines in, answers out |
//!
//! `raftkv-client bench` is [`crate::bench`] without faults and plots.
//!
//! Exit status: 0 for `ok:true`, 1 for `ok:false` or when no node could be asked, 2 for bad usage.

mod backup;
pub mod connection;
mod operator;
pub mod operator_words;
pub mod repl;
pub mod words;

use crate::bench;
use crate::dial::{Answer, NodeOptions};
use clap::{Parser, Subcommand};
use connection::Cluster;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use words::Command;

const EXAMPLES: &str = "\
Examples:
  raftkv-client set x 1                   store a number
  raftkv-client get x                     {\"ok\":true,\"value\":1,\"index\":3}
  raftkv-client --connect 127.0.0.1:16002 status
  raftkv-client                           a prompt; in a pipe, one answer a line
  raftkv-client < requests.txt
  raftkv-client bench --clients 16        how fast is it?
  raftkv-client add 4 127.0.0.1:15004 127.0.0.1:16004
  raftkv-client backup today.jsonl        all that was written so far, while the cluster runs

Writes made from words are repeated on the next node when a connection breaks, and are carried out once all
the same. A line of JSON is sent once. Besides the servers' errors there are four of the client's own:
unreachable (nothing was sent), connection_lost (sent, the answer never came: the outcome is unknown),
unfinished (a change of members is begun and does not get on) and failed_here (a backup's file).

Exit status: 0 when the answer is ok, 1 when it is not or no node could be asked, 2 on bad usage.";

/// Talks to a raftkv cluster: with a command one request, without one a line at a time.
#[derive(Debug, Parser)]
#[command(name = "raftkv-client", version, disable_help_subcommand = true, after_help = EXAMPLES)]
#[command(subcommand_value_name = "COMMAND", subcommand_help_heading = "Commands")]
struct Arguments {
    #[command(flatten)]
    nodes: NodeOptions,

    /// Without a command, in a pipe: tell at the end on standard error how many answers were ok and which
    /// took longest
    #[arg(long)]
    summary: bool,

    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Measure how many requests the cluster carries out, and how long they take
    Bench(bench::Options),
    /// set, get, delete, cas, scan, status, members, add, remove, replace, transfer, snapshot, backup, help,
    /// or a line of JSON: see `raftkv-client help`
    #[command(external_subcommand)]
    Words(Vec<String>),
}

/// The program: takes the process's arguments, standard input and output, and gives its exit status.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let nodes = match arguments.nodes.find() {
        Ok(nodes) => nodes,
        Err(why) => return fail(2, &why),
    };
    let mut output = io::stdout().lock();
    let result = match arguments.command {
        Some(Subcommands::Bench(options)) => match bench::table(&options, &nodes) {
            Ok(report) => {
                write!(output, "{report}").and_then(|()| output.flush()).map(|()| ExitCode::SUCCESS)
            }
            Err(why) => return fail(1, &why),
        },
        Some(Subcommands::Words(words)) => {
            one_request(&words, &mut Cluster::new(nodes.addresses, nodes.timeout), &mut output)
        }
        None => {
            let mut cluster = Cluster::new(nodes.addresses, nodes.timeout);
            if io::stdin().is_terminal() {
                repl::run_terminal(&mut cluster, &mut output).map(|()| ExitCode::SUCCESS)
            } else {
                repl::run_pipe(&mut cluster, io::stdin().lock(), &mut output).map(|summary| {
                    if arguments.summary {
                        // Nobody to tell is no failure.
                        let _ = writeln!(io::stderr(), "{summary}");
                    }
                    if summary.unanswered == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                })
            }
        }
    };
    match result {
        Ok(status) => status,
        // Whoever read the answers has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

fn one_request(words: &[String], cluster: &mut Cluster, output: &mut impl Write) -> io::Result<ExitCode> {
    let request = match words::parse_arguments(words) {
        Ok(Command::Ask(request)) => request,
        Ok(Command::Help) => {
            writeln!(output, "{}", words::HELP)?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(Command::Quit) => return Ok(ExitCode::SUCCESS),
        Err(usage) => return Ok(fail(2, &format!("{usage}\nTry: raftkv-client help"))),
    };
    match cluster.ask(&request) {
        Ok(line) => {
            let ok = Answer::parse(line.as_bytes()).is_ok_and(|answer| answer.ok);
            let status = if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            // The status speaks of the answer also when nobody reads it.
            match writeln!(output, "{line}").and_then(|()| output.flush()) {
                Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
                _ => Ok(status),
            }
        }
        Err(failure) => Ok(fail(1, failure.message())),
    }
}

/// Says why on standard error; there is nobody to tell when that is closed too.
fn fail(status: u8, why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "raftkv-client: {why}");
    ExitCode::from(status)
}
