//! When a run counts, and when it is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The times of one run: warm-up, then what counts.
pub(super) struct Clock<'a> {
    /// When the warm-up begins.
    pub begin: Instant,
    /// When the measuring begins.
    pub count_from: Instant,
    /// When it ends, unless it is interrupted.
    pub end: Instant,
    interrupted: &'a AtomicBool,
}

impl<'a> Clock<'a> {
    /// A run that begins now.
    pub fn start(warm_up: Duration, measured: Duration, interrupted: &'a AtomicBool) -> Clock<'a> {
        let begin = Instant::now();
        let count_from = begin + warm_up;
        Clock { begin, count_from, end: count_from + measured, interrupted }
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    pub fn is_over(&self) -> bool {
        self.is_interrupted() || Instant::now() >= self.end
    }

    /// How long after the beginning of what counts a moment is; none when it does not count.
    pub fn counted(&self, moment: Instant) -> Option<Duration> {
        let counts = moment <= self.end && !self.is_interrupted();
        moment.checked_duration_since(self.count_from).filter(|_| counts)
    }

    /// How much of what counts is over, at this moment.
    pub fn measured(&self, now: Instant) -> Duration {
        now.min(self.end).saturating_duration_since(self.count_from)
    }

    /// Waits until this moment, in short steps. Returns early when the run is over: then false.
    pub fn wait_until(&self, moment: Instant) -> bool {
        const STEP: Duration = Duration::from_millis(20);
        while !self.is_over() {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STEP));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_between_warm_up_and_end_counts() {
        let second = Duration::from_secs(1);
        let interrupted = AtomicBool::new(false);
        let clock = Clock::start(second, 2 * second, &interrupted);
        let at = |seconds: f64| clock.begin + Duration::from_secs_f64(seconds);
        assert_eq!(clock.counted(at(0.5)), None);
        assert_eq!(clock.counted(at(2.5)), Some(second * 3 / 2));
        assert_eq!(clock.counted(at(3.5)), None);
        assert_eq!((clock.measured(at(0.5)), clock.measured(at(9.0))), (Duration::ZERO, 2 * second));
        interrupted.store(true, Ordering::Relaxed);
        assert_eq!(clock.counted(at(2.5)), None);
        assert!(clock.is_over());
        assert!(!clock.wait_until(at(0.0)));
    }
}
