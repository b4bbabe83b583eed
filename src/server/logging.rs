//! What a node tells: one line an event on stderr, as text for people or as JSON for machines. Each carries
//! the node and its boot, and protocol events their number, so that the logs of all nodes can be merged.
//!
//! Writing goes through a thread of its own: a terminal or a pipe that takes nothing must not stop the raft
//! thread. When far too much waits, lines are dropped.

use clap::ValueEnum;
use std::panic;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging, at `info` unless `RUST_LOG` says otherwise. What is logged is written out at the latest
/// when the guard is dropped.
pub(super) fn start(format: LogFormat) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_writer(writer).with_env_filter(filter).with_target(false);
    match format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().flatten_event(true).with_span_list(false).init(),
    }
    panic::set_hook(Box::new(|panic| {
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
    guard
}
