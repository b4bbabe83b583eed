//! The lines: what reading and writing one costs, of a client and of a peer.

#![allow(missing_docs, reason = "criterion's macros make public functions without any")]

mod common;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftkv::kv::Answer;
use raftkv::raft::Body;
use raftkv::raft::Message;
use raftkv::raft::message::AppendEntries;
use raftkv::types::{EntryId, Index, NodeId, Term};
use raftkv::wire::client::{self, Response};
use raftkv::wire::peer::{self, Ends, Envelope, PeerLine};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

fn client_lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let set = common::set_line(1234);
    for (name, line) in [("parse set", set.as_str()), ("parse get", r#"{"op":"get","key":"bench-1234"}"#)] {
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| client::parse(black_box(line.as_bytes())).expect("a valid line"));
        });
    }
    let value = format!("\"{}\"", "x".repeat(common::VALUE_BYTES));
    for (name, response) in [
        ("render answer to set", Response::Written(Answer::Set { index: Index(123_456) })),
        ("render answer to get", Response::Got { value: Some(Arc::from(value)), index: Index(123_456) }),
    ] {
        let mut line = Vec::new();
        response.render(None, &mut line);
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                line.clear();
                black_box(&response).render(None, &mut line);
                line.len()
            });
        });
    }
    group.finish();
}

fn peer_lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let ends = Ends { me: NodeId(2), peer: NodeId(1), term: Term(1) };
    for count in [1, 64] {
        let append = AppendEntries {
            number: 7,
            prev: EntryId::NONE,
            entries: common::entries(0, count),
            leader_commit: Index::NONE,
            read_round: Default::default(),
        };
        let body = Body::AppendEntries(append);
        let message = Message { from: ends.peer, to: ends.me, term: ends.term, body };
        let line = PeerLine::Envelope(Envelope { boot: 1, event: 99, applied: BTreeMap::new(), message });
        let mut bytes = Vec::new();
        line.encode(&mut bytes);
        let text = bytes[..bytes.len() - 1].to_vec();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("decode AppendEntries", count), |bencher| {
            bencher.iter(|| peer::decode(black_box(&text), &ends).expect("a valid line"));
        });
        group.bench_function(BenchmarkId::new("encode AppendEntries", count), |bencher| {
            bencher.iter(|| {
                bytes.clear();
                black_box(&line).encode(&mut bytes);
                bytes.len()
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = common::criterion(); targets = client_lines, peer_lines }
criterion_main!(benches);
