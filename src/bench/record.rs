//! What is written down while the load runs, so that nobody waits for it: each client counts for itself, and
//! hands over what belongs to a stretch of time when the next one begins.

use super::clock::Clock;
use super::pauses::Accepted;
use super::requests::Kind;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest time that is told apart, in microseconds: ten minutes.
const MAX_TIME_US: u64 = 600_000_000;

/// How many stretches of time a run is divided into, at most: more than a plot can show.
const MAX_SLICES: f64 = 600.0;

/// How long a stretch may be, in seconds. The last is enough for a day.
const SLICE_SECONDS: [f64; 11] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

/// What came of one kind of request.
pub(super) struct Tally {
    /// Microseconds of those that were answered with ok.
    pub times_us: Histogram<u64>,
    /// How often there was another answer or none, by its code.
    pub errors: BTreeMap<String, u64>,
}

impl Tally {
    pub fn new() -> Tally {
        let times_us = Histogram::new_with_max(MAX_TIME_US, 3).expect("the bounds are valid");
        Tally { times_us, errors: BTreeMap::new() }
    }

    pub fn add(&mut self, other: &Tally) {
        self.times_us.add(&other.times_us).expect("equal bounds");
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }
}

/// What came of all requests that were answered within one stretch of time.
#[derive(Clone)]
pub(super) struct Slice {
    pub sets: u64,
    pub gets: u64,
    pub errors: u64,
    /// Microseconds of those that were answered with ok. Two digits: there are many of these.
    pub times_us: Histogram<u32>,
}

impl Slice {
    fn new() -> Slice {
        Slice { sets: 0, gets: 0, errors: 0, times_us: Histogram::new(2).expect("two digits are few enough") }
    }

    fn clear(&mut self) {
        (self.sets, self.gets, self.errors) = (0, 0, 0);
        self.times_us.reset();
    }

    fn add(&mut self, other: &Slice) {
        self.sets += other.sets;
        self.gets += other.gets;
        self.errors += other.errors;
        self.times_us.add(&other.times_us).expect("it grows as it has to");
    }
}

/// All slices of a run so far.
pub(super) struct Series {
    /// How long each is.
    pub width: Duration,
    /// From the beginning of what counts. Where nothing was answered at the end, there are none.
    pub slices: Vec<Slice>,
}

impl Series {
    /// For a run of this length: slices as short as they can be without being too many.
    pub fn new(seconds: f64) -> Series {
        let fits = |width: &&f64| seconds / **width <= MAX_SLICES;
        let width = SLICE_SECONDS.iter().find(fits).unwrap_or(&SLICE_SECONDS[SLICE_SECONDS.len() - 1]);
        Series { width: Duration::from_secs_f64(*width), slices: Vec::new() }
    }

    fn add(&mut self, place: usize, slice: &Slice) {
        if self.slices.len() <= place {
            self.slices.resize(place + 1, Slice::new());
        }
        self.slices[place].add(slice);
    }

    /// Makes the slices reach up to the end of what was measured, so that silence shows.
    pub fn fill(&mut self, measured: Duration) {
        let count = measured.as_nanos().div_ceil(self.width.as_nanos());
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(self.slices.len());
        self.slices.resize(count, Slice::new());
    }
}

/// What all clients write to.
pub(super) struct Shared {
    /// Requests with an outcome, whether or not they count: for the progress bar.
    pub done: AtomicU64,
    pub series: Mutex<Series>,
    pub accepted: Accepted,
}

/// What one client writes down.
pub(super) struct Recorder<'a> {
    clock: &'a Clock<'a>,
    shared: &'a Shared,
    width: Duration,
    sets: Tally,
    gets: Tally,
    /// The stretch of time in which the last answer came.
    place: usize,
    slice: Slice,
}

impl<'a> Recorder<'a> {
    pub fn new(clock: &'a Clock<'a>, shared: &'a Shared, width: Duration) -> Recorder<'a> {
        let (sets, gets) = (Tally::new(), Tally::new());
        Recorder { clock, shared, width, sets, gets, place: 0, slice: Slice::new() }
    }

    /// A request was answered with ok, after this time.
    pub fn ok(&mut self, kind: Kind, time: Duration) {
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if kind == Kind::Set {
            self.shared.accepted.note(now);
        }
        let Some(counted) = self.clock.counted(now) else { return };
        let time_us = u64::try_from(time.as_micros()).unwrap_or(MAX_TIME_US).min(MAX_TIME_US);
        let slice = self.slice_at(counted);
        slice.times_us.record(time_us).expect("it grows as it has to");
        match kind {
            Kind::Set => slice.sets += 1,
            Kind::Get => slice.gets += 1,
        }
        self.tally(kind).times_us.saturating_record(time_us);
    }

    /// A request had another answer, or none.
    pub fn error(&mut self, kind: Kind, code: &str) {
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        let Some(counted) = self.clock.counted(Instant::now()) else { return };
        self.slice_at(counted).errors += 1;
        *self.tally(kind).errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Sets and gets.
    pub fn finish(mut self) -> (Tally, Tally) {
        self.hand_over();
        (self.sets, self.gets)
    }

    fn tally(&mut self, kind: Kind) -> &mut Tally {
        match kind {
            Kind::Set => &mut self.sets,
            Kind::Get => &mut self.gets,
        }
    }

    fn slice_at(&mut self, counted: Duration) -> &mut Slice {
        let place = counted.as_nanos() / self.width.as_nanos();
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if place != self.place {
            self.hand_over();
            self.place = place;
        }
        &mut self.slice
    }

    fn hand_over(&mut self) {
        let Slice { sets, gets, errors, .. } = self.slice;
        if sets + gets + errors > 0 {
            // Whoever panicked while adding has added at most a part, and the run fails anyway.
            let mut series = self.shared.series.lock().unwrap_or_else(PoisonError::into_inner);
            series.add(self.place, &self.slice);
            self.slice.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn slices_are_short_and_not_too_many() {
        for (seconds, width_ms) in
            [(0.1, 100), (60.0, 100), (61.0, 200), (3600.0, 10_000), (86_400.0, 200_000)]
        {
            assert_eq!(Series::new(seconds).width, Duration::from_millis(width_ms), "{seconds} s");
        }
    }

    #[test]
    fn silence_at_the_end_is_part_of_the_series() {
        let mut series = Series::new(1.0);
        series.add(2, &Slice { sets: 7, ..Slice::new() });
        series.fill(Duration::from_millis(450));
        let sets: Vec<u64> = series.slices.iter().map(|slice| slice.sets).collect();
        assert_eq!(sets, [0, 0, 7, 0, 0]);
    }

    #[test]
    fn each_client_adds_what_it_saw_to_the_time_in_which_it_saw_it() {
        let interrupted = AtomicBool::new(false);
        let clock = Clock::start(Duration::ZERO, Duration::from_secs(600), &interrupted);
        let series = Series::new(600.0);
        let width = series.width;
        let shared =
            Shared { done: AtomicU64::new(0), series: Mutex::new(series), accepted: Accepted::new(&clock) };
        for _ in 0..2 {
            let mut recorder = Recorder::new(&clock, &shared, width);
            recorder.ok(Kind::Set, Duration::from_millis(3));
            recorder.ok(Kind::Get, Duration::from_millis(5));
            recorder.error(Kind::Get, "busy");
            let (sets, gets) = recorder.finish();
            assert_eq!((sets.times_us.len(), gets.times_us.len()), (1, 1));
            assert_eq!((sets.errors.len(), gets.errors["busy"]), (0, 1));
        }
        assert_eq!(shared.done.load(Ordering::Relaxed), 6);
        let series = shared.series.into_inner().unwrap();
        let of_all = |count: fn(&Slice) -> u64| series.slices.iter().map(count).sum::<u64>();
        assert_eq!([of_all(|it| it.sets), of_all(|it| it.gets), of_all(|it| it.errors)], [2, 2, 2]);
        assert_eq!(of_all(|it| it.times_us.len()), 4);
    }
}
