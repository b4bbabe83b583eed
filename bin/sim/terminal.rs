//! Whoever runs the program: is told, and asks it to stop.

use std::io::{Write, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Becomes true at the first Ctrl-C.
pub fn stop_when_asked() -> Arc<AtomicBool> {
    let is_stopped = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_stopped);
    let stop = move || {
        // Who asks twice does not wait for the runs that are under way: one may not end.
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(stop) {
        warn(&format!("raftkv-sim: cannot handle signals, so Ctrl-C loses what was found: {error}"));
    }
    is_stopped
}

/// To stdout. A reader that is gone (a terminal, or a `tee` that heard the same Ctrl-C) changes neither what
/// is found nor the exit status.
pub fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}

/// To stderr, likewise.
pub fn warn(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}
