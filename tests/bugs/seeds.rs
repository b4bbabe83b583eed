//! Part of the copy only: the simulator's seeds, one after the other up to the first that fails.
//! `RAFTKV_SEEDS` says how many, `RAFTKV_NODES` how large all clusters are, `RAFTKV_FAULTS` what is broken.

use raftkv::sim::{Detail, Overrides, Plan, run};
use std::env::var;

#[test]
fn all_hold() {
    let number = |name: &str| var(name).ok().map(|text| text.parse().expect("a number"));
    let last = number("RAFTKV_SEEDS").unwrap_or(20);
    let nodes = number("RAFTKV_NODES").map(|nodes| u16::try_from(nodes).expect("a few"));
    let faults = var("RAFTKV_FAULTS").ok().map(|text| text.parse().expect("kinds of faults"));
    let overrides = Overrides { nodes, faults, ..Overrides::default() };
    for seed in 1..=last {
        if let Some(violation) = run(&Plan::with(seed, &overrides), Detail::Nothing).violation {
            panic!("number {seed}: {violation}");
        }
    }
}
