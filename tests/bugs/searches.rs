//! Part of the copy only: an exhaustive search, up to the first state in which something does not hold.
//! `RAFTKV_SEARCH` names it, without it all are run; `RAFTKV_STATES` says how many states it may take.

use raftkv::search::{CONFIGURATIONS, Limits, run};
use std::env::var;

#[test]
fn all_hold() {
    let only = var("RAFTKV_SEARCH").ok();
    let max_states = var("RAFTKV_STATES").map_or(10_000, |text| text.parse().expect("a number"));
    let names = CONFIGURATIONS.iter().map(|configuration| configuration.name);
    for name in names.filter(|name| only.as_ref().is_none_or(|only| only == name)) {
        let limits = Limits { max_states, max_bytes: u64::MAX, threads: 1 };
        let report = run(name, &limits).expect("it is one of them");
        if let Some(violation) = report.violation {
            panic!("number {}: {}", report.states, violation.fault);
        }
    }
}
