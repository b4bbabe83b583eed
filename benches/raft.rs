//! The consensus core: one batch of a leader from the proposals to the commit, and one of a follower from the
//! message to the acknowledgement. No disk and no network: saves are taken to be done at once.

#![allow(missing_docs, reason = "criterion's macros make public functions without any")]

mod common;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raftkv::raft::message::AppendEntriesResponse;
use raftkv::raft::message::{AppendEntries, AppendOutcome};
use raftkv::raft::{Body, Configuration, HardState, Input, Log, Message, Output, RaftState, RoleName};
use raftkv::raft::{Settings, Start};
use raftkv::types::{EntryId, Index, NodeId};
use std::hint::black_box;

const LEADER: NodeId = NodeId(1);
const BATCHES: [usize; 3] = [1, 64, 1024];

/// Those of a server with the defaults of `cluster.toml`.
fn settings() -> Settings {
    Settings {
        heartbeat_ticks: 5,
        election_timeout_min_ticks: 30,
        election_timeout_max_ticks: 60,
        max_append_entries: 8192,
        max_append_bytes: 1 << 20,
        max_in_flight_messages: 64,
        max_in_flight_bytes: 8 << 20,
        max_uncommitted_bytes: 64 << 20,
        max_forwarded_bytes: 64 << 20,
    }
}

fn node(id: NodeId) -> RaftState {
    let start = Start {
        id,
        boot: 1,
        configuration: Configuration::new([1, 2, 3].map(NodeId)),
        may_vote: true,
        hard_state: HardState::default(),
        log: Log::new(EntryId::NONE, Vec::new()),
        seed: u64::from(id.0),
    };
    RaftState::new(start, settings())
}

/// Ends the batch, and takes what it has to save for saved.
fn end_batch(raft: &mut RaftState, output: &mut Output) {
    raft.step(Input::BatchEnd, output);
    raft.step(Input::Saved { term: raft.term(), last: raft.log().last() }, output);
    raft.step(Input::BatchEnd, output);
}

/// Three nodes, the first of which leads and has committed its first entry; and so do the others know.
fn cluster() -> [RaftState; 3] {
    let mut nodes = [1, 2, 3].map(|id| node(NodeId(id)));
    let is_done = |nodes: &[RaftState; 3]| nodes.iter().all(|node| node.commit_index() == Index(0));
    while !is_done(&nodes) {
        let mut under_way = Vec::new();
        let mut input = Some((0, Input::Tick));
        while let Some((place, next)) = input {
            let mut output = Output::default();
            nodes[place].step(next, &mut output);
            end_batch(&mut nodes[place], &mut output);
            under_way.extend(output.now.into_iter().chain(output.after_save));
            input = under_way
                .pop()
                .map(|message: Message| (usize::from(message.to.0) - 1, Input::Message(message)));
        }
    }
    assert_eq!(nodes[0].role(), RoleName::Leader);
    nodes
}

/// A follower that has all of it answers.
fn acknowledge(message: &Message) -> Input {
    let Body::AppendEntries(AppendEntries { number, prev, entries, read_round, .. }) = &message.body else {
        panic!("a leader in office sends entries, not {}", message.body.name());
    };
    let match_index = entries.last().map_or(prev.index, |entry| entry.index);
    let body = Body::AppendEntriesResponse(AppendEntriesResponse {
        request_term: message.term,
        number: *number,
        prev: *prev,
        read_round: *read_round,
        outcome: AppendOutcome::Accepted { match_index },
    });
    Input::Message(Message { from: message.to, to: message.from, term: message.term, body })
}

/// A leader takes proposals, sends them, and commits them with what its followers answer.
fn lead(leader: &mut RaftState, proposals: Vec<Input>) -> Output {
    let mut output = Output::default();
    for proposal in proposals {
        leader.step(proposal, &mut output);
    }
    end_batch(leader, &mut output);
    let answers: Vec<Input> = output.now.iter().map(acknowledge).collect();
    let mut after = Output::default();
    for answer in answers {
        leader.step(answer, &mut after);
    }
    leader.step(Input::Applied { index: leader.commit_index() }, &mut after);
    leader.step(Input::BatchEnd, &mut after);
    assert_eq!(leader.commit_index(), leader.log().last().index, "all of it is committed");
    black_box(after);
    output
}

fn core(criterion: &mut Criterion) {
    let [leader, follower, _] = cluster();
    let mut group = criterion.benchmark_group("raft");
    for batch in BATCHES {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("leader commits", batch), |bencher| {
            let proposals = || {
                let propose = |number| Input::Propose {
                    request: common::request(number),
                    command: common::set_command(number),
                };
                (0..batch as u64).map(propose).collect::<Vec<Input>>()
            };
            bencher.iter_batched(
                || (leader.clone(), proposals()),
                |(mut leader, proposals)| {
                    let output = lead(&mut leader, proposals);
                    (leader, output)
                },
                BatchSize::SmallInput,
            );
        });
        group.bench_function(BenchmarkId::new("follower appends", batch), |bencher| {
            let (last, term) = (leader.log().last(), leader.term());
            let append = AppendEntries {
                number: 1_000,
                prev: last,
                entries: entries_after(last, batch),
                leader_commit: last.index,
                read_round: Default::default(),
            };
            let body = Body::AppendEntries(append);
            let message = Message { from: LEADER, to: follower.id(), term, body };
            bencher.iter_batched(
                || (follower.clone(), Input::Message(message.clone())),
                |(mut follower, input)| {
                    let mut output = Output::default();
                    follower.step(input, &mut output);
                    end_batch(&mut follower, &mut output);
                    assert_eq!(output.entries.len(), batch, "all of it is to be saved");
                    (follower, output)
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn entries_after(last: EntryId, count: usize) -> Vec<raftkv::types::Entry> {
    let mut entries = common::entries(last.index.next().0, count);
    entries.iter_mut().for_each(|entry| entry.term = last.term);
    entries
}

criterion_group! { name = benches; config = common::criterion(); targets = core }
criterion_main!(benches);
