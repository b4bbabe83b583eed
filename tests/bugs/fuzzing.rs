//! Part of the copy only: fuzzing, up to the first input with which something does not hold: the corpus,
//! then changes of it. `RAFTKV_TARGET` names a target, without it all are run; `RAFTKV_INPUTS` says how many
//! inputs each gets, `RAFTKV_CORPUS` where the corpus is.

#[path = "../fuzz/mutations.rs"]
mod mutations;
#[path = "../fuzz/targets/mod.rs"]
mod targets;

use mutations::Mutations;
use std::env::var;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use targets::{Target, files, inputs, lines};

const TARGETS: [Target; 6] = [
    lines::CLIENT_LINE,
    lines::PEER_LINE,
    files::LOG_FILE,
    files::IDENTITY_FILE,
    files::CLUSTER_TOML,
    inputs::CORE_INPUTS,
];

#[test]
fn all_hold() {
    let only = var("RAFTKV_TARGET").ok();
    let count = var("RAFTKV_INPUTS").map_or(1000, |text| text.parse().expect("a number"));
    let folder = PathBuf::from(var("RAFTKV_CORPUS").expect("where the corpus is"));
    for target in TARGETS.iter().filter(|target| only.as_deref().is_none_or(|only| only == target.name)) {
        assert!(!target.sometimes.is_empty());
        let corpus = corpus(&folder.join(target.name));
        let mutations = Mutations::of(&corpus);
        let inputs = corpus.iter().cloned().chain((0..).map(|seed| mutations.make(seed)));
        for (number, input) in (1..=count).zip(inputs) {
            if let Err(why) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
                let text = why.downcast_ref::<String>().map(String::as_str);
                let text = text.or(why.downcast_ref::<&str>().copied()).unwrap_or("it does not say why");
                panic!("number {number}: {text}");
            }
        }
    }
}

fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let paths = fs::read_dir(folder).expect("each target has a corpus");
    let mut paths: Vec<PathBuf> = paths.map(|entry| entry.expect("an entry of it").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input is a file")).collect()
}
