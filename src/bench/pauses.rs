//! How long was no write answered with ok? Seen over all clients: one that waits does not make a pause while
//! others go on.

use super::clock::Clock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two writes there is always some time: so much is not worth remembering.
const SHORTEST: Duration = Duration::from_millis(1);

/// A long run has many gaps. The longest are kept, at least half as many as this.
const MAX_GAPS: usize = 10_000;

/// A time without an accepted write, from the beginning of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub from: Duration,
    /// When the next write was accepted. The last gap has the end of the run here.
    pub to: Duration,
    /// Whether that was the end of the run.
    pub is_last: bool,
}

impl Gap {
    pub fn length(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// When writes were accepted.
pub(super) struct Accepted {
    begin: Instant,
    newest_ns: AtomicU64,
    gaps: Mutex<Vec<Gap>>,
}

impl Accepted {
    pub fn new(clock: &Clock<'_>) -> Accepted {
        Accepted { begin: clock.begin, newest_ns: AtomicU64::new(0), gaps: Mutex::new(Vec::new()) }
    }

    /// A write was answered with ok.
    pub fn note(&self, now: Instant) {
        let now_ns = self.since_begin_ns(now);
        let before_ns = self.newest_ns.fetch_max(now_ns, Ordering::Relaxed);
        let gap =
            Gap { from: Duration::from_nanos(before_ns), to: Duration::from_nanos(now_ns), is_last: false };
        if gap.length() >= SHORTEST {
            let mut gaps = self.gaps.lock().unwrap_or_else(PoisonError::into_inner);
            gaps.push(gap);
            if gaps.len() >= MAX_GAPS {
                gaps.sort_by_key(|gap| std::cmp::Reverse(gap.length()));
                gaps.truncate(MAX_GAPS / 2);
            }
        }
    }

    fn since_begin_ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// All gaps, when the run ended at this moment.
    pub fn finish(self, end: Instant) -> Vec<Gap> {
        let (from, to) = (self.newest_ns.load(Ordering::Relaxed), self.since_begin_ns(end));
        let mut gaps = self.gaps.into_inner().unwrap_or_else(PoisonError::into_inner);
        gaps.push(Gap { from: Duration::from_nanos(from), to: Duration::from_nanos(to), is_last: true });
        gaps
    }
}

/// The longest time without an accepted write after a fault, of those that began before the next one; none
/// when there was none worth the name. What of it was before the fault does not count.
pub(super) fn after_fault(gaps: &[Gap], at: Duration, next_fault: Option<Duration>) -> Option<Gap> {
    let ends_later = |gap: &&Gap| gap.to > at && next_fault.is_none_or(|next| gap.from < next);
    let cut = |gap: &Gap| Gap { from: gap.from.max(at), ..*gap };
    let longest = gaps.iter().filter(ends_later).map(cut).max_by_key(Gap::length);
    longest.filter(|gap| gap.length() >= SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn gap(from_ms: u64, to_ms: u64) -> Gap {
        Gap { from: ms(from_ms), to: ms(to_ms), is_last: false }
    }

    #[test]
    fn a_gap_lies_between_two_accepted_writes_of_any_clients() {
        let interrupted = AtomicBool::new(false);
        let clock = Clock::start(ms(0), ms(1000), &interrupted);
        let accepted = Accepted::new(&clock);
        // Two clients may come to note in another order than they looked at the time.
        for at_ms in [100, 400, 390, 401, 700] {
            accepted.note(clock.begin + ms(at_ms));
        }
        let gaps = accepted.finish(clock.begin + ms(1000));
        let last = Gap { is_last: true, ..gap(700, 1000) };
        assert_eq!(gaps, [gap(0, 100), gap(100, 400), gap(400, 401), gap(401, 700), last]);
    }

    #[test]
    fn the_longest_gaps_are_kept() {
        let interrupted = AtomicBool::new(false);
        let clock = Clock::start(ms(0), ms(1000), &interrupted);
        let accepted = Accepted::new(&clock);
        let mut now = clock.begin;
        for number in 0..4 * MAX_GAPS as u64 {
            now += ms(if number == 7 { 50 } else { 1 });
            accepted.note(now);
        }
        let gaps = accepted.finish(now);
        assert!(gaps.len() <= MAX_GAPS, "{}", gaps.len());
        assert!(gaps.contains(&gap(7, 57)));
    }

    #[test]
    fn a_fault_has_the_longest_pause_before_the_next_one() {
        let gaps = [gap(0, 900), gap(990, 1400), gap(1500, 1510), gap(3000, 3600)];
        assert_eq!(after_fault(&gaps, ms(1000), Some(ms(2000))), Some(gap(1000, 1400)));
        assert_eq!(after_fault(&gaps, ms(1000), None), Some(gap(3000, 3600)));
        // The second comes into the pause of the first, and both have it.
        assert_eq!(after_fault(&gaps, ms(1000), Some(ms(1100))), Some(gap(1000, 1400)));
        assert_eq!(after_fault(&gaps, ms(1100), Some(ms(2000))), Some(gap(1100, 1400)));
        assert_eq!(after_fault(&gaps, ms(4000), None), None);
        let short = Gap { from: ms(0), to: SHORTEST / 2, is_last: true };
        assert_eq!(after_fault(&[short], ms(0), None), None);
    }
}
