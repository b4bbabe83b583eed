//! What the program says while it runs, of a batch and of a run that it makes small.

use super::terminal::{say, warn};
use indicatif::{ProgressBar, ProgressStyle};
use raftkv::sim::batch::Totals;
use raftkv::sim::shrink::shrink;
use raftkv::sim::{Plan, Violation, report};
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a failing run is made smaller, at most.
const SHRINK_FOR: Duration = Duration::from_secs(120);
/// Where there is no terminal for a bar, a line says so often how far it is.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Tells of a batch while it runs: on a bar or, where there is no terminal, in a line now and then; and of
/// each failure at once, so that whatever ends this process takes none with it.
pub struct Teller {
    pub bar: ProgressBar,
    count: u64,
    is_terminal: bool,
    told: Mutex<Told>,
}

struct Told {
    at: Instant,
    failures: usize,
}

impl Teller {
    /// Of so many seeds.
    pub fn new(count: u64) -> Teller {
        let bar = new_bar(Some(count), "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} left, {msg}");
        let is_terminal = stderr().is_terminal();
        if !is_terminal {
            warn(&format!("{count} seeds begin; a line a minute tells how far it is"));
        }
        Teller { bar, count, is_terminal, told: Mutex::new(Told { at: Instant::now(), failures: 0 }) }
    }

    /// What is new since the last time.
    pub fn tell(&self, totals: &Totals) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (plan, violation) in &totals.failures[told.failures..] {
            let again = plan.command();
            self.bar.suspend(|| warn(&format!("FAILED {violation}\n       again: {again}")));
        }
        let failures = totals.failures.len();
        told.failures = failures;
        let what = format!("{:.1} simulated hours, {failures} failed", totals.simulated_hours());
        if !self.is_terminal && told.at.elapsed() >= TELL_INTERVAL {
            told.at = Instant::now();
            warn(&format!("{} of {} seeds, {what}", totals.runs, self.count));
        }
        self.bar.set_position(totals.runs);
        self.bar.set_message(what);
    }
}

/// Makes a run that fails so as small as it can be, as long as this goes on, and prints it.
pub fn make_small(plan: &Plan, violation: &Violation, goes_on: &dyn Fn() -> bool) {
    let bar = new_bar(None, "shrinking: {pos} runs, {per_sec}, {msg}");
    let began = Instant::now();
    let shrunk = shrink(plan, violation, &mut |runs, plan| {
        bar.set_position(runs);
        bar.set_message(plan.to_string());
        began.elapsed() < SHRINK_FOR && goes_on()
    });
    bar.finish_and_clear();
    say(&report::of_shrunk(&shrunk));
}

/// On a terminal only.
fn new_bar(length: Option<u64>, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    length.map_or_else(ProgressBar::no_length, ProgressBar::new).with_style(style)
}
