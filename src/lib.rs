//! raftkv: a Raft-replicated key-value store that a person can read.
//!
//! One sentence: **a pure `RaftState` turns inputs into outputs; one thread saves, sends and publishes them;
//! the KV thread polls what is committed, applies it, and answers.**
//!
//! ```text
//!   clients                                                              peers
//!   reader --Event::Client--+                          +--Event::Peer-- reader
//!                           v                          v
//!                  +------- inbox: Receiver<Event> ----------+
//!                  | raft thread: Node                       |
//!                  |   RaftState.step(input) -> Output       |
//!                  |   1 save   2 send   3 publish           |--Envelope--> writer
//!                  +-----^-----------------------------+-----+
//!      Event::Poll{last_applied}                       | Work{entries, reads, ...}
//!                  +-----+-----------------------------v-----+
//!   writer <--Answer---- kv thread: KvStore.apply / get      |
//!                  +-----------------------------------------+
//! ```
//!
//! | room | what lives there |
//! |---|---|
//! | [`types`] | the words that all rooms share |
//! | [`raft`] | the consensus core: pure, no IO, no clock, no thread |
//! | [`json`] | JSON text that stays text: checking and comparing it |
//! | [`kv`] | the key-value store that the log's entries act on: pure too |
//! | [`storage`] | log, term, vote and snapshots on disk |
//! | [`wire`] | one JSON line a message |
//! | [`config`] | `cluster.toml` |
//! | [`checker`] | whether what clients were told can be true |
//! | [`search`] | every state of a few cores within bounds |
//! | [`sim`] | a whole cluster in one thread, from a seed |
//! | [`nemesis`] | a cluster of real processes, and everything that can happen to it |
//! | [`tools`] | a stopped node's folder: looking into it, restoring it, the worst day |
//! | [`dial`] | reaching the nodes from outside: where they are, a connection, an answer |
//! | [`mod@bench`] | a load on a cluster, what it measures, and what a fault does to it |
//! | [`client`] | the command-line client: words, an operator's too |

pub mod bench;
pub mod checker;
pub mod client;
pub mod config;
pub mod dial;
pub mod json;
pub mod kv;
pub mod nemesis;
pub mod node;
pub mod raft;
pub mod search;
pub mod server;
pub mod sim;
pub mod storage;
pub mod tools;
pub mod types;
pub mod wire;
