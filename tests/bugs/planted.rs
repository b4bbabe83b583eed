//! Part of the copy only: which bug is switched on.

use std::sync::LazyLock;

static SWITCHED_ON: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("RAFTKV_BUG").ok());

/// Whether it is this one.
pub fn planted(name: &str) -> bool {
    SWITCHED_ON.as_deref() == Some(name)
}
