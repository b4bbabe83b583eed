//! Values that get a number each, and what is known of pairs of numbers. A search meets few different nodes
//! and messages, and very many combinations of them: so values are kept once and combinations are numbers.
//!
//! Shared by all threads. A value once numbered is read without a lock.

use hashbrown::HashTable;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

/// So many locks that threads seldom meet at one.
const SHARDS: usize = 64;

/// Numbers values from 0 in the order in which they are first seen.
pub(super) struct Table<T> {
    values: boxcar::Vec<T>,
    /// The numbers, found by their values' hashes.
    shards: Vec<Mutex<HashTable<u32>>>,
}

impl<T: Hash + Eq> Table<T> {
    pub fn new() -> Table<T> {
        let shards = (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect();
        Table { values: boxcar::Vec::new(), shards }
    }

    /// The number of this value.
    pub fn number(&self, value: T) -> u32 {
        let hash = FxBuildHasher.hash_one(&value);
        let mut shard = lock(&self.shards[shard_of(hash)]);
        if let Some(number) = shard.find(hash, |number| *self.get(*number) == value) {
            return *number;
        }
        let number = u32::try_from(self.values.push(value)).expect("fewer than 2^32 values fit into memory");
        shard.insert_unique(hash, number, |number| FxBuildHasher.hash_one(self.get(*number)));
        number
    }

    /// The value of this number.
    pub fn get(&self, number: u32) -> &T {
        self.values.get(number as usize).expect("a number is given out with its value")
    }

    /// How many different values there are.
    pub fn len(&self) -> usize {
        self.values.count()
    }
}

/// What was found out of a pair of numbers.
pub(super) struct Memo {
    shards: Vec<RwLock<FxHashMap<(u32, u32), u32>>>,
}

impl Memo {
    pub fn new() -> Memo {
        Memo { shards: (0..SHARDS).map(|_| RwLock::default()).collect() }
    }

    /// What is known of the pair, or what `find` finds out. Two threads may both find it out: they must come
    /// to the same.
    pub fn get(&self, pair: (u32, u32), find: impl FnOnce() -> u32) -> u32 {
        let shard = &self.shards[shard_of(FxBuildHasher.hash_one(pair))];
        let known = shard.read().unwrap_or_else(PoisonError::into_inner).get(&pair).copied();
        known.unwrap_or_else(|| {
            let found = find();
            *shard.write().unwrap_or_else(PoisonError::into_inner).entry(pair).or_insert(found)
        })
    }
}

/// The top bits choose the lock, so that the others still spread within it.
pub(super) fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

/// A panic of the code under test happens outside these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
