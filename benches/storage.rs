//! The log on disk: one batch of entries, saved. Over the file system that is a write and a sync, and mostly
//! the disk's own time; over memory it is what the records cost to make.

#![allow(missing_docs, reason = "criterion's macros make public functions without any")]

mod common;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftkv::raft::{HardState, Output};
use raftkv::storage::{Disk, FileDisk, FirstStart, MemoryDisk, Opening, SegmentSizes, Storage};
use raftkv::types::{Incarnation, NodeId, Term};

const BATCHES: [usize; 3] = [1, 32, 256];

fn open<D: Disk>(disk: D) -> Storage<D> {
    let opening = Opening {
        cluster: "bench".to_owned(),
        node: NodeId(1),
        voters: vec![NodeId(1)],
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(1),
        segment_sizes: SegmentSizes::default(),
    };
    let (mut storage, _) = Storage::open(disk, &opening).expect("an empty folder is made a node's");
    storage.raise_boot().expect("the disk works");
    let hard_state = Some(HardState { term: Term(1), voted_for: Some(NodeId(1)) });
    storage.save(&Output { hard_state, ..Output::default() }).expect("the disk works");
    storage
}

fn batch_from(first: i64, count: usize) -> Output {
    Output { entries: common::entries(first, count), ..Output::default() }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("storage");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("append to files", batch), |bencher| {
            // On the build's disk: a temporary folder may be in memory, where a sync means nothing.
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
            let mut storage = open(FileDisk::open(folder.path()).expect("a folder of our own"));
            let mut next = 0;
            bencher.iter_batched(
                || {
                    next += batch as i64;
                    batch_from(next - batch as i64, batch)
                },
                |output| {
                    storage.save(&output).expect("the disk works");
                    output
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("append to memory", batch), |bencher| {
            let output = batch_from(0, batch);
            bencher.iter_batched(
                || open(MemoryDisk::new()),
                |mut storage| {
                    storage.save(&output).expect("memory works");
                    storage
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = append }
criterion_main!(benches);
