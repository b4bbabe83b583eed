//! One JSON line a message.
