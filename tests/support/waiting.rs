//! Waiting for a condition, with a deadline that no working machine comes near.

use std::thread;
use std::time::{Duration, Instant};

/// When a test gives up.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something to see, and returns it. Panics with `what` when the deadline is over.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(PAUSE);
    }
}
