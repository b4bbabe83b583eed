//! Many seeds on several threads: each run is a world of its own, so threads share nothing but the count.

use super::{Detail, Overrides, Plan, Sometimes, Violation, run};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What came of a batch of seeds.
#[derive(Debug, Default)]
pub struct Totals {
    /// How many runs there were.
    pub runs: u64,
    /// How much time passed in them, in milliseconds.
    pub simulated_ms: u64,
    /// How many events there were in them.
    pub events: u64,
    /// What happened how often.
    pub sometimes: Sometimes,
    /// The plans that failed, in the order of their seeds, and how.
    pub failures: Vec<(Plan, Violation)>,
}

impl Totals {
    /// How much time passed in them, in hours.
    pub fn simulated_hours(&self) -> f64 {
        self.simulated_ms as f64 / 3.6e6
    }

    /// The first failure of each property.
    pub fn first_failures(&self) -> impl Iterator<Item = &(Plan, Violation)> {
        let mut seen = BTreeSet::new();
        self.failures.iter().filter(move |(_, violation)| seen.insert(violation.property))
    }

    fn add(&mut self, plan: Plan, run: super::Run) {
        self.runs += 1;
        self.simulated_ms += run.simulated_ms;
        self.events += run.events;
        self.sometimes.add(&run.sometimes);
        self.failures.extend(run.violation.map(|violation| (plan, violation)));
    }
}

/// Reads `FIRST..LAST`, both of which are meant.
pub fn parse_seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (first, last) = text.split_once("..").ok_or("expected FIRST..LAST")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    match (number(first)?, number(last)?) {
        (_, u64::MAX) => Err(format!("the last seed is {} at most", u64::MAX - 1)),
        (first, last) => Ok(first..=last),
    }
}

/// Runs these seeds. `progress` is told of each run that ended, and says whether to go on.
pub fn run_seeds(
    seeds: RangeInclusive<u64>,
    overrides: &Overrides,
    threads: usize,
    progress: &(dyn Fn(&Totals) -> bool + Sync),
) -> Totals {
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(*seeds.start());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let plan = Plan::with(seed, overrides);
                    let run = run(&plan, Detail::Nothing);
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.add(plan, run);
                    if !progress(&totals) {
                        next.store(seeds.end().saturating_add(1), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    totals.failures.sort_by_key(|(plan, _)| plan.seed);
    totals
}
