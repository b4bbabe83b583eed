//! The exhaustive search's share of the tests: everything that a few nodes can do within bounds, visited to
//! the last state. Each search must have been exhausted, must not have become trivial, and must have come
//! across what it is for.

use raftkv::search::{CONFIGURATIONS, Limits, run};

const LIMITS: Limits = Limits { max_states: 2_000_000, max_bytes: u64::MAX, threads: 2 };

#[track_caller]
fn holds(name: &str, least_states: u64, must_have_seen: &[&str]) {
    let report = run(name, &LIMITS).unwrap_or_else(|| panic!("there is no search {name}"));
    println!("{report}");
    assert!(report.violation.is_none(), "{report}");
    assert!(report.exhausted, "{report}");
    assert!(report.states >= least_states, "{} states, expected {least_states} or more", report.states);
    for thing in must_have_seen {
        assert!(report.seen.has(thing), "{name} never came across: {thing}");
    }
}

#[test]
fn from_nothing_all_elections_of_two_terms_with_a_crash() {
    let seen = ["vote refused: already voted", "crash", "crash during a save", "two leaders at once"];
    holds("elections", 100_000, &seen);
    holds("pre_votes", 5_000, &["vote granted", "crash"]);
}

#[test]
fn from_nothing_all_writes_of_two_terms_and_all_saves_of_one() {
    holds("writes", 50_000, &["suffix truncated", "write committed", "entry of an older term committed"]);
    holds("alone", 50, &["crash during a save", "write committed after a crash"]);
    holds("saves", 20_000, &["crash during a save", "write committed after a crash"]);
}

#[test]
fn from_nothing_what_followers_pass_on() {
    holds("forwards", 5_000, &["write committed"]);
    holds("reads", 5_000, &["read released by the leader", "read released by a follower"]);
}

#[test]
fn from_figure_8_on_five_nodes() {
    holds("figure_8", 5_000, &["suffix truncated", "entry of an older term committed"]);
}

#[test]
fn from_where_logs_differ() {
    holds("lagging_candidate", 10_000, &["vote refused: log is behind", "three terms had leaders"]);
    holds("longer_but_older", 500, &["vote refused: log is behind"]);
    holds("stale_tail", 10_000, &["suffix truncated", "append rejected", "leader went back"]);
    holds("repeated_appends", 100, &["append rejected", "write committed"]);
    holds("stale_refusals", 200, &["suffix truncated", "leader went back"]);
}

#[test]
fn from_where_a_read_could_be_stale() {
    holds("new_leader_reads", 5_000, &["read released by the leader"]);
    holds("old_leader_reads", 1_000, &["read released by the leader"]);
}

#[test]
fn from_where_much_was_said_in_an_earlier_term_or_start() {
    holds("leads_again", 1_000, &["crash during a save", "suffix truncated"]);
    holds("led_before", 5_000, &["read released by a follower"]);
    holds("started_again", 2_000, &["read released by a follower", "write committed after a crash"]);
}

#[test]
fn from_cohorts_that_cannot_win_alone_there_is_always_a_way_to_a_leader() {
    holds("cohorts", 2_000, &["leader elected"]);
    holds("newer_or_longer", 10, &["leader elected"]);
}

#[test]
fn from_changes_of_members_under_way() {
    let changes = ["members changed", "change committed"];
    holds("one_of_three_leaves", 50_000, &changes);
    holds("leader_leaves", 20_000, &changes);
    holds("one_of_three_is_replaced", 5_000, &changes);
    holds("two_of_three_are_replaced", 20_000, &changes);
    holds("joint_step_in_part", 5_000, &changes);
    holds("bug_of_2015", 100_000, &["members changed", "change committed", "leader elected"]);
}

#[test]
fn from_logs_that_begin_after_a_snapshot() {
    holds("snapshot", 2_000, &["snapshot installed", "crash"]);
    holds("snapshot_of_another_log", 1_000, &["snapshot installed"]);
    holds("snapshot_late", 20_000, &["snapshot installed"]);
    holds("members_and_an_install", 10_000, &["snapshot installed", "members changed"]);
}

#[test]
fn from_a_lead_that_is_handed_over() {
    holds("transfer", 20_000, &["lead handed over", "write committed"]);
}

#[test]
fn from_a_voter_that_lost_its_data() {
    let named = ["data lost", "members changed", "named by its new folder", "leader elected"];
    holds("voter_without_its_data", 200_000, &named);
    holds("vote_lost_with_its_data", 100_000, &["named by its new folder", "write committed"]);
    let votes = ["voter again", "vote granted by who had lost its data", "two leaders at once"];
    holds("votes_again", 200_000, &votes);
    holds("votes_again_and_crashes", 20_000, &["voter again", "crash during a save", "leader elected"]);
    holds("asks_again", 10_000, &["write of a new life committed"]);
}

#[test]
fn from_numbers_that_are_used_again() {
    holds("two_join_at_once", 100, &["named by its new folder"]);
}

#[test]
fn names_are_unique_and_an_unknown_one_is_none() {
    let mut names: Vec<&str> = CONFIGURATIONS.iter().map(|configuration| configuration.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), CONFIGURATIONS.len());
    assert!(run("figure_9", &LIMITS).is_none());
}

#[test]
fn a_limit_ends_a_search_and_says_so() {
    let report = run("writes", &Limits { max_states: 1_000, ..LIMITS }).expect("it is there");
    assert!(!report.exhausted && report.violation.is_none(), "{report}");
    if cfg!(target_os = "linux") {
        let report = run("writes", &Limits { max_bytes: 1, threads: 1, ..LIMITS }).expect("it is there");
        assert!(!report.exhausted && report.states < 50_000 && report.bytes > 1, "{report}");
    }
}

#[test]
fn what_there_is_does_not_depend_on_the_threads() {
    let count = |threads| {
        let report = run("saves", &Limits { threads, ..LIMITS }).expect("it is there");
        (report.states, report.transitions, report.depth)
    };
    assert_eq!(count(1), count(3));
}
