//! Real processes under a nemesis: short runs, each with its own kinds of trouble, in which everything must
//! hold; and some in which it can not, which must be noticed. Faults that need root or strace come if this
//! machine has them; the report says which did not. For long runs there is the program, `raftkv-nemesis`.

use raftkv::nemesis::{Fault, HarnessFailure, Options, Report, run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

const SERVER: &str = env!("CARGO_BIN_EXE_raftkv-server");
const PARENT: &str = env!("CARGO_TARGET_TMPDIR");

fn options(nodes: u16, seed: u64, seconds: u64, faults: &[Fault]) -> Options {
    Options {
        nodes,
        seconds,
        seed,
        faults: faults.iter().copied().collect(),
        optional_faults: [].into(),
        clients: 8,
        server: PathBuf::from(SERVER),
        parent: PathBuf::from(PARENT),
        keep: None,
    }
}

/// A run, and its timeline with the report.
fn run_it(options: &Options) -> Result<(Report, String), HarnessFailure> {
    let timeline = Mutex::new(String::new());
    let say = |line: &str| *timeline.lock().expect("no one panics with it") += &format!("{line}\n");
    let report = run(options, &say, &AtomicBool::new(false))?;
    let text = format!("{}{report}", timeline.into_inner().expect("no one panicked with it"));
    Ok((report, text))
}

/// Once the folders of such runs stayed for ever where nodes had disks of their own, which were still mounted
/// there when they were to be removed.
fn everything_holds(options: &Options) {
    let parent = tempfile::tempdir_in(PARENT).expect("a folder");
    let options = &Options { parent: parent.path().to_owned(), ..options.clone() };
    let (report, text) = run_it(options).expect("the run can be made");
    assert!(report.held(), "{text}");
    let left = fs::read_dir(parent.path()).expect("it is ours").count();
    assert_eq!(left, 0, "something stays of a run that held");
    let came = |fault: &Fault| report.faults.iter().any(|(other, count)| other == fault && *count > 0);
    assert!(options.faults.iter().all(came), "{text}");
}

/// What strace is needed for comes where there is one.
const BY_STRACE: [Fault; 2] = [Fault::KillInCall, Fault::KillInStart];

#[test]
fn kills_pauses_and_cut_links() {
    let faults = [
        Fault::Kill,
        Fault::Pause,
        Fault::LoneReturn,
        Fault::CutLeader,
        Fault::CutMinority,
        Fault::CutOneWay,
        Fault::Delay,
        Fault::Resets,
    ];
    everything_holds(&Options { optional_faults: BY_STRACE.into(), ..options(3, 1, 15, &faults) });
}

#[test]
fn all_nodes_die_at_once_or_one_after_the_other_and_disks_fail() {
    let optional =
        [Fault::PowerLoss, Fault::PowerLossOfOne, Fault::FullDisk, Fault::FailedSync, Fault::SlowDisk];
    let options = options(3, 2, 15, &[Fault::KillAll, Fault::RollingRestart]);
    everything_holds(&Options { optional_faults: optional.into(), ..options });
}

/// Alone, it depends on nobody else's disk: what it answered before it was written is gone.
#[test]
fn a_lone_node_is_killed_in_its_calls() {
    everything_holds(&Options { optional_faults: BY_STRACE.into(), ..options(1, 12, 5, &[Fault::Kill]) });
}

/// Rows 47 and 48 of the map of faults: outages of hours in other systems, all of whose nodes were well.
#[test]
fn a_majority_whose_members_reach_each_other_serves_whatever_else_is_cut() {
    everything_holds(&options(3, 3, 4, &[Fault::CutOneLink]));
    everything_holds(&options(5, 4, 8, &[Fault::StrandedLeader, Fault::Bridge, Fault::CutOneLink]));
}

#[test]
fn slow_links_and_a_flood_of_connections_while_nodes_die() {
    everything_holds(&options(5, 5, 8, &[Fault::Kill, Fault::SlowLinks, Fault::Flood]));
}

/// A program that stands for the server, as a script.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("server.sh");
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

/// The findings of a run that can not hold, whose files are removed again.
fn findings(options: &Options) -> Vec<String> {
    let (report, text) = run_it(options).expect("the run can be made");
    assert!(!report.held(), "{text}");
    let kept = report.kept.expect("what is needed to look into it is kept");
    for name in ["history.jsonl", "report.txt", "n1-start-001.log"] {
        assert!(kept.join(name).is_file(), "{name} is missing: {text}");
    }
    fs::remove_dir_all(kept).expect("it is ours");
    report.findings
}

/// All logs lose their end at each start, as if it had never been on the disk.
#[test]
fn servers_that_forget_what_they_acknowledged_are_noticed() {
    let folder = tempfile::tempdir_in(PARENT).expect("a folder");
    let text = format!(
        "#!/bin/sh\nfor log in \"$4\"/log-*.jsonl; do\n\
         if head -n -40 \"$log\" > \"$log.cut\"; then mv \"$log.cut\" \"$log\"; fi\n\
         done 2>/dev/null\nexec '{SERVER}' \"$@\"\n"
    );
    let server = script(folder.path(), &text);
    let findings = findings(&Options { server, ..options(3, 6, 2, &[Fault::KillAll]) });
    let tells = |what: &str| findings.iter().any(|finding| finding.contains(what));
    assert!(tells("P9: ") || tells("P10: ") || tells("P5: "), "{findings:#?}");
}

#[test]
fn a_node_that_does_not_start_or_does_not_stop_well_is_noticed() {
    let folder = tempfile::tempdir_in(PARENT).expect("a folder");
    let server = script(folder.path(), "#!/bin/sh\necho 'the stars are wrong' >&2\nexit 2\n");
    let found = findings(&Options { server, ..options(1, 7, 1, &[Fault::Kill]) });
    assert!(found.iter().any(|it| it.contains("n1 does not start") && it.contains("stars")), "{found:#?}");

    let text = format!("#!/bin/sh\n'{SERVER}' \"$@\" &\ntrap 'kill $!; wait $!; exit 1' TERM\nwait\n");
    let server = script(folder.path(), &text);
    let found = findings(&Options { server, ..options(1, 8, 1, &[Fault::RollingRestart]) });
    let is_told = |it: &String| it.contains("n1, asked to stop, ended with exit status: 1");
    assert!(found.iter().any(is_told), "{found:#?}");
}

/// strace keeps threads and descriptors from ending: each connection leaves some behind.
#[test]
fn servers_that_keep_what_a_connection_took_are_noticed() {
    if let Some(why) = Fault::SlowDisk.hindrance(1) {
        eprintln!("not available: {why}");
        return;
    }
    let folder = tempfile::tempdir_in(PARENT).expect("a folder");
    let text = format!(
        "#!/bin/sh\nexec strace -D -f -o /dev/null -e trace=close,exit -e inject=close:retval=0 \
         -e inject=exit:delay_enter=25000000 '{SERVER}' \"$@\"\n"
    );
    let server = script(folder.path(), &text);
    let found = findings(&Options { server, ..options(1, 11, 1, &[]) });
    let told = found.iter().find(|it| it.contains("P12: nobody has asked for 15 s, and n1 has "));
    let told = told.unwrap_or_else(|| panic!("{found:#?}"));
    let numbers: Vec<u64> =
        told.split(|letter: char| !letter.is_ascii_digit()).flat_map(str::parse).collect();
    let [_, _, _, threads, descriptors, .., idle_threads, idle_descriptors] = numbers[..] else {
        panic!("{told}");
    };
    assert!(threads > idle_threads && descriptors > idle_descriptors, "{told}");
}

#[test]
fn a_run_that_cannot_be_made_says_why() {
    let refusal = |options: &Options| run_it(options).expect_err("it can not be made").to_string();
    let no_server = Options { server: PathBuf::from("/nowhere/server"), ..options(3, 9, 1, &[]) };
    assert!(refusal(&no_server).contains("/nowhere/server"), "{}", refusal(&no_server));
    let too_few = refusal(&options(3, 10, 1, &[Fault::Bridge]));
    assert!(too_few.contains("bridge") && too_few.contains("fewer than 5 nodes"), "{too_few}");
}
