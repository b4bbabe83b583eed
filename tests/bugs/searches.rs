//! Part of the copy only: one exhaustive search, up to the first state in which something does not hold.
//! `RAFTKV_SEARCH` names it; without, all are run.

use raftkv::search::{CONFIGURATIONS, Limits, run};
use std::env::var;

#[test]
fn all_hold() {
    let only = var("RAFTKV_SEARCH").ok();
    let names = CONFIGURATIONS.iter().map(|configuration| configuration.name);
    for name in names.filter(|name| only.as_ref().is_none_or(|only| only == name)) {
        let limits = Limits { max_states: 2_000_000, threads: 1 };
        let report = run(name, &limits).expect("it is one of them");
        if let Some(violation) = report.violation {
            panic!("search {}: {}", report.states, violation.fault);
        }
    }
}
