//! The store: applying a write and reading a key, when it is small enough for the processor's caches and when
//! it is not.

#![allow(missing_docs, reason = "criterion's macros make public functions without any")]

mod common;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftkv::kv::KvStore;
use std::hint::black_box;

const SIZES: [u64; 2] = [10_000, 1_000_000];

/// A store in which each of these keys was set once.
fn store_of(keys: u64) -> KvStore {
    let mut store = KvStore::new();
    for key in 0..keys {
        store.apply(&common::entry(key.cast_signed(), key));
    }
    assert_eq!(store.key_count() as u64, keys);
    store
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kv");
    group.throughput(Throughput::Elements(1));
    for keys in SIZES {
        let mut store = store_of(keys);
        let mut random = fastrand::Rng::with_seed(keys);
        group.bench_function(BenchmarkId::new("get", keys), |bencher| {
            bencher.iter_batched_ref(
                || format!("bench-{}", random.u64(0..keys)),
                |key| store.get(black_box(key)).cloned(),
                BatchSize::SmallInput,
            );
        });
        let mut next = store.last_applied().next();
        group.bench_function(BenchmarkId::new("apply set", keys), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let entry = common::entry(next.0, random.u64(0..keys));
                    next = next.next();
                    entry
                },
                |entry| store.apply(black_box(entry)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = store }
criterion_main!(benches);
