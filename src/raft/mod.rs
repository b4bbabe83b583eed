//! The consensus core.

pub mod message;
pub mod note;
pub mod output;
