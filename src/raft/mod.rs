//! The consensus core: Raft as the paper has it ("In Search of an Understandable Consensus Algorithm",
//! extended version), with pre-vote, check-quorum and ReadIndex from Ongaro's thesis.
//!
//! ```text
//!                    +--------------------------------------------+
//!   Input ---------> | RaftState.step                             | ---------> Output
//!   Tick             |   term, voted_for, log   (saved)           |   now          messages
//!   Message          |   commit_index, last_applied               |   hard_state   \
//!   Propose          |   role: Follower | Candidate | Leader      |   truncate_from | save
//!   Read             |                                            |   entries      /
//!   Applied, Saved   +--------------------------------------------+   after_save   messages
//!   BatchEnd                                                          proposed, refused, reads, notes
//! ```
//!
//! It is pure: no IO, no clock, no thread, no chance but a seed, and no failure. What must happen is a value;
//! whoever drives it (`Node`) carries the value out in one order: save, send, publish. Time is a tick.
//!
//! Handlers only change state. What there is to *send* follows from the state at the end of a batch: one
//! function per direction looks at what each peer lacks (`replicate`, `forward`, `ask_for_reads`).
//!
//! | file | the paper's place |
//! |---|---|
//! | `state.rs` | figure 2 "State", "Rules for Servers / All Servers"; terms of 5.1; the three `become_*` |
//! | `election.rs` | 5.2, 5.4.1, figure 2 "RequestVote RPC"; thesis 9.6 (pre-vote), 6.2 (check-quorum) |
//! | `append.rs` | 5.3, figure 2 "AppendEntries RPC", the receiver |
//! | `replication.rs`, `progress.rs` | 5.3, 5.4.2, figure 2 "Leaders", the sender and the commit rule |
//! | `forwarding.rs`, `reads.rs`, `requests.rs` | 8 "Client interaction"; thesis 6.4 (ReadIndex) |
//! | `membership.rs`, `configuration.rs` | 6: changes of members; who votes and what a majority is |
//! | `lives.rs` | not in the paper: nodes that lost their data, or have a number that another had |
//! | `snapshot.rs` | 7, figure 13: what a snapshot covers is gone from the log |
//! | `transfer.rs` | thesis 3.10: handing the lead over |
//! | `log.rs` | the log |
//! | `invariants.rs` | what must hold after every step, asserted, also in release |
//! | `symmetry.rs` | when two states are the same for an exhaustive search |

mod append;
mod configuration;
mod election;
mod forwarding;
mod invariants;
mod lives;
mod log;
mod membership;
pub mod message;
mod note;
mod output;
mod progress;
mod random;
mod reads;
mod replication;
mod requests;
mod role;
mod snapshot;
mod state;
mod symmetry;
mod transfer;

pub use configuration::Configuration;
pub use lives::Recognition;
pub use log::Log;
pub use membership::{ChangeRefusal, MAX_VOTERS, MemberChange};
pub use message::{Body, Message};
pub use note::{Note, RoleReason, TermReason, VoteRefusal, Weight};
pub use output::{ChangeOutcome, HardState, Output, ReadReady, ReceivedChunk, Refusal, TransferRefusal};
pub use role::RoleName;
pub use state::{Input, PeerProgress, RaftState, Settings, Start};
pub use symmetry::Renaming;
