//! What the tests with real processes share: clusters of servers in folders of their own, clients, and
//! waiting.
//!
//! ```text
//!   Cluster   nodes as processes, started, killed, paused; ended in any case; what their statuses say is
//!             compared all the time (one leader a term, one hash a last_applied)
//!   Line      one connection: lines out, answers in
//!   Writer    a client of the exactly-once kind, which goes to the next node until it has an answer
//!   Load      writers at work, and what they were promised
//!   Witnesses clients on the same few keys, and whether all that they were told can be true
//!   operate   what an operator types, carried out by the client's program
//!   wait_until  the one place that sleeps
//! ```
//!
//! Everything listens on 127.0.0.1 on ports that the system gave, and has its files below the build's folder,
//! which is on a real disk. Nothing here depends on how fast the machine is.

#![allow(dead_code, unused_imports, reason = "each file of tests uses its part of this")]

mod client;
mod cluster;
mod load;
mod operator;
mod process;
mod waiting;
mod witnesses;

pub use client::{Line, Writer, code};
pub use cluster::{Cluster, Plan, free_ports, scratch_folder};
pub use load::Load;
pub use nix::sys::signal::Signal;
pub use operator::{client_command, operate, try_operate};
pub use process::Process;
pub use waiting::wait_until;
pub use witnesses::Witnesses;
