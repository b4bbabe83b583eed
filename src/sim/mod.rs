//! A whole cluster in one thread, from a seed: the server's own `Node`, `Storage` and `KvStore` over a clock,
//! a network and disks that exist only here and behave as badly as real ones may.
//!
//! ```text
//!   Plan <- seed                       what is broken in this run, and how badly
//!     |
//!   World: queue of (time, happening) ----------------------------------------------+
//!     |  Machine n1 .. n5         Network           Client 1 ..       nemesis        |
//!     |   Node + MemoryDisk        links with        get set delete    partitions    |
//!     |   Application (KvStore)    epochs            cas scan, retries crashes ...   |
//!     +--------------------------------------------------------------------------------+
//!     | after every event: Ledger (P1 to P8, P10, P12, P15)
//!     v when time is over: heal, P11, power loss of all, scan; then the checker (P9, P10)
//!   Verdict
//! ```
//!
//! The properties P1 to P15 are listed in `docs/verification.md`. Everything random comes from the seed, and
//! only ordered maps are iterated: the same seed is the same run, byte for byte. Nothing here knows a thread
//! (but [`batch`], which runs many worlds), a socket or the real clock.
//!
//! | file | what it is about |
//! |---|---|
//! | `plan.rs` | what a seed stands for: cluster, limits, troubles, turns |
//! | `faults.rs`, `chance.rs` | the kinds of faults, and when there is one; chance in streams |
//! | `world.rs` | the queue of events and what each does |
//! | `requests.rs`, `messages.rs` | the ways of a client's request and of a node's message |
//! | `nemesis.rs`, `weather.rs`, `partitions.rs` | troubles begin and end; those at a rate; those of links |
//! | `lives.rs`, `settling.rs` | how processes start and die; the end, when all troubles are over |
//! | `machine.rs`, `durable.rs` | one node: its disk; what must be on it |
//! | `process.rs` | and its process, from its start to its end |
//! | `application.rs`, `snapshots.rs` | beside the node: its application, and what writes snapshots |
//! | `network.rs` | links with connections that break |
//! | `clients.rs`, `operator.rs` | who asks for what, and asks again; who changes members and leaders |
//! | `ledger.rs` | what must hold after every event |
//! | `limits.rs` | of it, how much there may be of anything |
//! | `members.rs` | of it, which members may follow on which |
//! | `sometimes.rs` | what must have happened at least once in a batch of seeds |
//! | `trace.rs` | the run as lines |
//! | `batch.rs`, `shrink.rs` | many seeds on several threads; a run that failed, made small |

mod application;
pub mod batch;
mod chance;
mod clients;
mod durable;
mod faults;
mod ledger;
mod limits;
mod lives;
mod machine;
mod members;
mod messages;
mod nemesis;
mod network;
mod numbers;
mod operator;
mod partitions;
mod plan;
mod process;
pub mod report;
mod requests;
mod settling;
pub mod shrink;
mod snapshots;
mod sometimes;
mod trace;
mod weather;
mod world;

pub use crate::checker::Violation;
pub use faults::{FaultClass, Faults};
pub use numbers::Numbers;
pub use plan::{Heal, Overrides, Plan};
pub use sometimes::Sometimes;
pub use trace::{Detail, Trace};

use std::panic::{AssertUnwindSafe, catch_unwind};

type Checked = Result<(), Violation>;

/// What came of one run.
#[derive(Debug)]
pub struct Run {
    /// The first violation, if there was one.
    pub violation: Option<Violation>,
    /// What happened how often.
    pub sometimes: Sometimes,
    /// How far virtual time got.
    pub simulated_ms: u64,
    /// How many events there were.
    pub events: u64,
    /// The troubles that there were.
    pub troubles: Numbers,
    /// The turns that clients took.
    pub turns: Numbers,
    /// What happened, as far as it was to be kept.
    pub trace: Trace,
}

/// Runs a plan to its end or to the first violation. A panic of the code under test is one.
pub fn run(plan: &Plan, detail: Detail) -> Run {
    let mut world = world::World::new(plan.clone(), detail);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let violation = match outcome {
        Ok(checked) => checked.err(),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Some(Violation::new("P13", text.unwrap_or_else(|| "a panic without words".to_owned())))
        }
    };
    world.finish(violation)
}
