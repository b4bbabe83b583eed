//! Fuzzing without a fuzzer: each target of `tests/fuzz/targets` over its corpus and over a great many
//! changes of it. libFuzzer, which looks where it gets, runs the same targets by hand:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz client_line -- -max_total_time=3600
//! ```
//!
//! An input that fails is written to the build's folder. Put into the corpus, it is a test for good.

mod fuzz {
    pub mod mutations;
    pub mod targets;
}

use fuzz::mutations::Mutations;
use fuzz::targets::{Seen, Target, files, inputs, lines};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Changes of the corpus for each target.
const MUTATIONS: u64 = 100_000;

fn corpus_of(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
    let paths = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = paths.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs the target over this input; when it fails, tells how to do that again.
fn run(target: &Target, input: &[u8], what: &str) -> Seen {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).unwrap_or_else(|_| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", target.name));
        fs::write(&path, input).unwrap();
        panic!(
            "{} fails with {what}; the input is in {}: put it into tests/fuzz/corpus/{} to keep it",
            target.name,
            path.display(),
            target.name
        )
    })
}

fn fuzz(target: &Target) {
    let corpus = corpus_of(target);
    let mut seen = Seen::new();
    for (path, input) in &corpus {
        seen.extend(run(target, input, &path.display().to_string()));
    }
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let mutations = Mutations::of(&inputs);
    for seed in 0..MUTATIONS {
        seen.extend(run(target, &mutations.make(seed), &format!("seed {seed}")));
    }
    let missing: Vec<_> = target.sometimes.iter().filter(|what| !seen.contains(*what)).collect();
    println!("{}: {} inputs and {MUTATIONS} changes of them; seen: {seen:?}", target.name, inputs.len());
    assert!(missing.is_empty(), "{}: never seen: {missing:?}", target.name);
}

#[test]
fn whatever_a_client_sends_is_answered() {
    fuzz(&lines::CLIENT_LINE);
}

#[test]
fn whatever_a_peer_sends_is_taken_whole_or_refused() {
    fuzz(&lines::PEER_LINE);
}

#[test]
fn whatever_stands_in_a_log_is_refused_or_goes_on() {
    fuzz(&files::LOG_FILE);
}

#[test]
fn whatever_stands_in_an_identity_is_refused_or_is_this_nodes() {
    fuzz(&files::IDENTITY_FILE);
}

#[test]
fn whatever_stands_in_a_configuration_is_refused_in_one_line_or_within_limits() {
    fuzz(&files::CLUSTER_TOML);
}

#[test]
fn whatever_happens_a_core_keeps_its_promises() {
    fuzz(&inputs::CORE_INPUTS);
}
