//! One JSON line a message.

pub mod client;
