//! Visits all states of a model, the nearest to the start first, on several threads.
//!
//! Every state is kept whole, not as a hash of it: it is a few numbers anyway. So nothing is missed because
//! two hashes happen to be equal. With each state stands the one from which it was first reached, which makes
//! the way to a violation a walk back; and since all states of a distance are visited before any of the next,
//! that way is a shortest one.
//!
//! ```text
//!   level: number, number, ...  those of a distance
//!             |
//!             v
//!   shard: [ state | from ][ state | from ] ...  by arrival
//!          index: hash -> place
//! ```

use super::model::{Model, State};
use super::seen::Seen;
use super::table::{lock, shard_of};
use super::{Fault, Limits, Progress};
use hashbrown::HashTable;
use rustc_hash::FxBuildHasher;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const SHARDS: usize = 64;
/// States that a thread takes at once.
const CHUNK: usize = 128;
/// Of the first state, which was reached from nowhere.
const NOWHERE: u32 = u32::MAX;

/// Some of the states, in the order in which they were found.
struct Shard {
    /// State after state, each followed by the number of the one it was reached from.
    records: Vec<u32>,
    /// Places in `records`, by hash.
    index: HashTable<u32>,
}

/// What became of a search.
pub(super) struct Explored {
    pub states: u64,
    pub transitions: u64,
    pub depth: usize,
    pub exhausted: bool,
    pub bytes: u64,
    pub seen: Seen,
    /// The states that lead to a violation, and what breaks in the last or with the next step from there.
    pub found: Option<(Vec<State>, Fault)>,
}

/// A search under way.
pub(super) struct Explorer<'a> {
    model: &'a Model,
    limits: &'a Limits,
    shards: Vec<Mutex<Shard>>,
    states: AtomicU64,
    transitions: AtomicU64,
    seen: AtomicU32,
    stop: AtomicBool,
    found: Mutex<Option<(u32, Fault)>>,
    began: Instant,
}

impl<'a> Explorer<'a> {
    pub fn new(model: &'a Model, limits: &'a Limits) -> Explorer<'a> {
        let shard = || Mutex::new(Shard { records: Vec::new(), index: HashTable::new() });
        Explorer {
            model,
            limits,
            shards: (0..SHARDS).map(|_| shard()).collect(),
            states: AtomicU64::new(0),
            transitions: AtomicU64::new(0),
            seen: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            found: Mutex::new(None),
            began: Instant::now(),
        }
    }

    /// Visits all states that can be reached from `first`.
    pub fn run(self, first: &[u32], progress: &(dyn Fn(&Progress) + Sync)) -> Explored {
        let mut canonical = State::new();
        self.model.canonical(first, &mut canonical);
        let mut level: Vec<u32> = self.insert(&canonical, NOWHERE).into_iter().collect();
        let mut depth = 0;
        let exhausted = loop {
            level = self.visit_level(&level, depth, progress);
            if self.stop.load(Ordering::Relaxed) {
                break false;
            }
            if level.is_empty() {
                break true;
            }
            depth += 1;
        };
        let found = lock(&self.found).take();
        Explored {
            states: self.states.load(Ordering::Relaxed),
            transitions: self.transitions.load(Ordering::Relaxed),
            depth,
            exhausted,
            bytes: bytes_in_use(),
            seen: Seen::from_bits(self.seen.load(Ordering::Relaxed)),
            found: found.map(|(last, fault)| (self.way_to(last), fault)),
        }
    }

    /// Visits all states of a distance, and gives those of the next one. They stay in the order in which they
    /// were found: neighbours have much in common, so what is looked up for one is at hand for the other.
    fn visit_level(&self, level: &[u32], depth: usize, progress: &(dyn Fn(&Progress) + Sync)) -> Vec<u32> {
        let (chunks, next_chunk) = (level.chunks(CHUNK).collect::<Vec<_>>(), AtomicUsize::new(0));
        let next_level = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.limits.threads.max(1) {
                scope.spawn(|| {
                    let mut new = Vec::new();
                    while let Some(chunk) = chunks.get(next_chunk.fetch_add(1, Ordering::Relaxed)) {
                        if self.stop.load(Ordering::Relaxed) {
                            break;
                        }
                        self.visit_chunk(chunk, &mut new);
                        progress(&self.progress(depth));
                    }
                    lock(&next_level).append(&mut new);
                });
            }
        });
        next_level.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self, depth: usize) -> Progress {
        let states = self.states.load(Ordering::Relaxed);
        Progress { states, depth, seconds: self.began.elapsed().as_secs_f64() }
    }

    fn visit_chunk(&self, chunk: &[u32], new: &mut Vec<u32>) {
        let (mut canonical, mut transitions, mut seen) = (State::new(), 0, Seen::default());
        for number in chunk {
            let (state, _) = self.record(*number);
            self.model.successors(&state, &mut |_, next| match next {
                Ok((next, news)) => {
                    transitions += 1;
                    seen.join(news);
                    self.model.canonical(next, &mut canonical);
                    new.extend(self.insert(&canonical, *number));
                }
                Err(fault) => self.breaks(*number, fault),
            });
            if self.model.bounds.must_recover && !self.model.recovers(&state) {
                self.breaks(*number, Fault::new("P11", "from here no leader ever comes"));
            }
        }
        self.transitions.fetch_add(transitions, Ordering::Relaxed);
        self.seen.fetch_or(seen.bits(), Ordering::Relaxed);
        let Limits { max_states, max_bytes, .. } = *self.limits;
        let states = self.states.load(Ordering::Relaxed);
        // Asking the system takes as long as some states, so it is asked now and then.
        if states >= max_states || (states.is_multiple_of(64) && bytes_in_use() >= max_bytes) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn breaks(&self, state: u32, fault: Fault) {
        lock(&self.found).get_or_insert((state, fault));
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Numbers in a record: the state's, and where it came from.
    fn width(&self) -> usize {
        self.model.nodes() + 2
    }

    /// A state, and the number of the one from which it was reached.
    fn record(&self, number: u32) -> (State, u32) {
        let (shard, place) = (number as usize % SHARDS, number as usize / SHARDS);
        let width = self.width();
        let mut state = lock(&self.shards[shard]).records[place * width..][..width].to_vec();
        let from = state.pop().unwrap_or(NOWHERE);
        (state, from)
    }

    /// Keeps a state, if it is a new one, and gives its number.
    fn insert(&self, state: &[u32], from: u32) -> Option<u32> {
        let width = self.width();
        let hash = FxBuildHasher.hash_one(state);
        let mut shard = lock(&self.shards[shard_of(hash)]);
        let Shard { records, index } = &mut *shard;
        let is_it = |place: &u32| records[*place as usize * width..][..width - 1] == *state;
        if index.find(hash, is_it).is_some() {
            return None;
        }
        let place = records.len() / width;
        records.extend_from_slice(state);
        records.push(from);
        index.insert_unique(hash, place as u32, |place| {
            FxBuildHasher.hash_one(&records[*place as usize * width..][..width - 1])
        });
        drop(shard);
        self.states.fetch_add(1, Ordering::Relaxed);
        Some(number(shard_of(hash), place))
    }

    /// The states from the first one to this.
    fn way_to(&self, last: u32) -> Vec<State> {
        let (mut way, mut number) = (Vec::new(), last);
        while number != NOWHERE {
            let (state, from) = self.record(number);
            way.push(state);
            number = from;
        }
        way.reverse();
        way
    }
}

/// This process's memory, as Linux tells it; elsewhere 0.
fn bytes_in_use() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    resident.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A state's number: its place in its shard, and the shard. A shard never gets near 2^26 states: memory ends
/// before.
fn number(shard: usize, place: usize) -> u32 {
    u32::try_from(place * SHARDS + shard).expect("fewer than 2^32 states fit into memory")
}
