//! Real processes under a nemesis: short runs, each with its own kinds of trouble, in which everything must
//! hold. Faults that need root or strace come if this machine has them; the report says which did not. For
//! long runs there is the program, `raftkv-nemesis`.

use raftkv::nemesis::{Fault, Options, run};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

/// Runs a cluster of so many nodes in which all of `faults` come, and of `optional` those that can be had.
fn everything_holds(nodes: u16, seed: u64, seconds: u64, faults: &[Fault], optional: &[Fault]) {
    let options = Options {
        nodes,
        seconds,
        seed,
        faults: faults.iter().copied().collect(),
        optional_faults: optional.iter().copied().collect(),
        clients: 8,
        server: PathBuf::from(env!("CARGO_BIN_EXE_raftkv-server")),
        parent: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        keep: None,
    };
    let timeline = Mutex::new(Vec::new());
    let say = |line: &str| timeline.lock().expect("no one panics with it").push(line.to_owned());
    let report = run(&options, &say, &AtomicBool::new(false)).expect("the run can be made");
    let timeline = timeline.into_inner().expect("no one panicked with it").join("\n");
    assert!(report.held(), "{timeline}\n{report}");
    let came: BTreeSet<Fault> = report.faults.iter().map(|(fault, _)| *fault).collect();
    assert!(came.is_superset(&options.faults), "{timeline}\n{report}");
    println!("{timeline}\n{report}");
}

#[test]
fn kills_pauses_and_cut_links() {
    let faults = [
        Fault::Kill,
        Fault::Pause,
        Fault::CutLeader,
        Fault::CutMinority,
        Fault::CutOneWay,
        Fault::Delay,
        Fault::Resets,
    ];
    everything_holds(3, 1, 15, &faults, &[]);
}

#[test]
fn all_nodes_die_at_once_or_one_after_the_other_and_disks_fail() {
    let faults = [Fault::KillAll, Fault::RollingRestart];
    let optional =
        [Fault::PowerLoss, Fault::PowerLossOfOne, Fault::FullDisk, Fault::FailedSync, Fault::SlowDisk];
    everything_holds(3, 2, 15, &faults, &optional);
}

/// Rows 47 and 48 of the map of faults: outages of hours in other systems, all of whose nodes were well.
#[test]
fn a_majority_whose_members_reach_each_other_serves_whatever_else_is_cut() {
    everything_holds(3, 3, 4, &[Fault::CutOneLink], &[]);
    everything_holds(5, 4, 8, &[Fault::StrandedLeader, Fault::Bridge, Fault::CutOneLink], &[]);
}

#[test]
fn slow_links_and_a_flood_of_connections_while_nodes_die() {
    everything_holds(5, 5, 8, &[Fault::Kill, Fault::SlowLinks, Fault::Flood], &[]);
}
