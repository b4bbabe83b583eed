//! The check against the log: each of its rules, broken by hand, and what must pass.

use super::{Words, history, log, pipelined};
use crate::checker::check_against_log;

fn passes(writes: &[&str], lines: &[Words<'_>]) {
    let checked = check_against_log(&history(lines), &log(writes));
    assert_eq!(checked.map(|replay| replay.hashes.len()), Ok(writes.len()));
}

/// That the history fails with this property, and says so.
fn fails(writes: &[&str], lines: &[Words<'_>], property: &str, what: &str) {
    let violation = check_against_log(&history(lines), &log(writes)).expect_err("a violation");
    assert_eq!(violation.property, property, "{violation}");
    assert!(violation.what.contains(what), "{violation}");
}

#[test]
fn a_history_with_everything_passes() {
    passes(
        &[
            "noop",
            "set x 1",
            "cas x 1 2 c:1",
            "configuration",
            "cas x 1 2 c:1",
            "delete x",
            "set x 3 d:1",
            "set y 4",
        ],
        &[
            (0, 0, 5, "get x", "got null -1"),
            (0, 10, 20, "set x 1", "ok 1"),
            // Overlaps the next write, and saw what was before it.
            (1, 25, 60, "get x", "got 1 1"),
            (2, 30, 40, "cas x 1 2 c:1", "lost"),
            (2, 45, 50, "cas x 1 2 c:1", "busy"),
            (2, 55, 70, "cas x 1 2 c:1", "swapped 2"),
            (1, 80, 90, "get x", "got 2 4"),
            (3, 80, 100, "scan x 10", "items x=2 all 3"),
            (0, 110, 120, "delete x", "deleted true 5"),
            // Nobody knows of this one, and it happened; of that one, and it did not.
            (1, 110, 130, "set x 3 d:1", "timeout"),
            (2, 110, 130, "set x 9", "lost"),
            (3, 110, 130, "set x 8", "unavailable"),
            (3, 140, 150, "get x", "got 3 6"),
            // A stale read may be old.
            (0, 200, 210, "stale x", "got 1 1"),
            (0, 210, 220, "set y 4", "nothing"),
        ],
    );
}

#[test]
fn retries_are_counted() {
    let lines = [(0, 0, 10, "set x 1 c:1", "lost"), (0, 20, 30, "set x 1 c:1", "ok 0")];
    let replay = check_against_log(&history(&lines), &log(&["set x 1 c:1", "set x 1 c:1"])).unwrap();
    assert_eq!(replay.deduplicated, 1);
}

#[test]
fn a_wrong_value_is_a_violation() {
    let lines = [(0, 0, 10, "set x 1", "ok 0"), (1, 5, 20, "get x", "got 2 0")];
    fails(&["set x 1"], &lines, "P9", "the log there says");
}

#[test]
fn a_value_in_other_letters_is_a_wrong_value() {
    let lines = [(0, 0, 10, "set x 1.0", "ok 0"), (1, 5, 20, "get x", "got 1 0")];
    fails(&["set x 1.0"], &lines, "P9", "the log there says");
}

#[test]
fn a_read_before_what_was_answered_is_a_violation() {
    let lines =
        [(0, 0, 10, "set x 1", "ok 0"), (0, 20, 30, "set x 2", "ok 1"), (1, 31, 40, "get x", "got 1 0")];
    fails(&["set x 1", "set x 2"], &lines, "P9", "begun later, yet before it in the log");
}

#[test]
fn a_read_before_what_another_read_saw_is_a_violation() {
    let lines = [
        (0, 0, 100, "set x 1", "ok 0"),
        (1, 10, 20, "get x", "got 1 0"),
        (2, 30, 40, "get x", "got null -1"),
    ];
    fails(&["set x 1"], &lines, "P9", "begun later, yet before it in the log");
}

#[test]
fn a_write_before_what_was_answered_is_a_violation() {
    let lines = [(0, 0, 10, "set x 1", "ok 1"), (1, 20, 30, "set x 2", "ok 0")];
    fails(&["set x 2", "set x 1"], &lines, "P9", "begun later, yet before it in the log");
}

#[test]
fn a_write_at_the_index_that_a_read_saw_before_is_a_violation() {
    let lines = [(0, 0, 10, "get x", "got 1 0"), (1, 20, 30, "set x 1", "ok 0")];
    fails(&["set x 1"], &lines, "P9", "begun later, yet before it in the log");
}

#[test]
fn a_read_at_the_index_that_was_answered_before_is_none() {
    passes(&["set x 1"], &[(0, 0, 10, "set x 1", "ok 0"), (1, 20, 30, "get x", "got 1 0")]);
}

#[test]
fn what_begins_as_another_ends_is_beside_it() {
    passes(&["set x 2", "set x 1"], &[(0, 0, 10, "set x 1", "ok 1"), (1, 10, 30, "set x 2", "ok 0")]);
}

#[test]
fn a_stale_read_must_have_been_true_once() {
    let lines = [(0, 0, 10, "set x 1", "ok 0"), (1, 20, 30, "stale x", "got 2 0")];
    fails(&["set x 1"], &lines, "P9", "the log there says");
}

#[test]
fn an_answer_at_another_writes_index_is_a_violation() {
    let lines = [(0, 0, 10, "set x 1", "ok 1"), (1, 0, 10, "set x 2", "lost")];
    fails(&["set x 1", "set x 2"], &lines, "P9", "the log there says");
}

#[test]
fn two_writes_at_one_index_are_a_violation() {
    let lines = [(0, 0, 10, "delete x", "deleted false 0"), (1, 5, 20, "delete x", "deleted false 0")];
    fails(&["delete x"], &lines, "P9", "two writes at one index");
}

#[test]
fn an_acknowledged_write_beyond_the_log_is_a_violation() {
    let lines = [(0, 0, 10, "set x 1", "ok 0"), (1, 20, 30, "set x 2", "ok 1")];
    fails(&["set x 1"], &lines, "P10", "beyond the committed log's end 0");
}

#[test]
fn an_acknowledged_write_that_is_not_in_the_log_is_a_violation() {
    let lines = [(0, 0, 10, "set x 1", "ok 0"), (1, 20, 30, "set x 2", "lost")];
    fails(&["set x 2"], &lines, "P9", "the log there says");
}

#[test]
fn what_was_answered_as_not_done_must_not_be_in_the_log() {
    for answer in ["busy", "unavailable", "bad_request", "too_large", "not_sent"] {
        let lines = [(0, 0, 10, "set x 1", answer)];
        fails(&["set x 1"], &lines, "P10", "more often than operation 0");
        passes(&[], &lines);
    }
}

#[test]
fn a_numbered_write_is_absent_when_none_of_its_attempts_did_anything() {
    let lines = [(0, 0, 10, "set x 1 c:1", "busy"), (0, 20, 30, "set x 1 c:1", "unavailable")];
    fails(&["set x 1 c:1"], &lines, "P10", "more often than operation 0");
    let lines = [(0, 0, 10, "set x 1 c:1", "lost"), (0, 20, 30, "set x 1 c:1", "unavailable")];
    passes(&["set x 1 c:1"], &lines);
    passes(&[], &lines);
}

#[test]
fn an_attempt_that_was_not_carried_out_is_not_in_the_log_beside_one_that_was() {
    let lines = [(0, 0, 10, "set x 1 c:1", "unavailable"), (0, 20, 30, "set x 1 c:1", "ok 0")];
    fails(&["set x 1 c:1", "set x 1 c:1"], &lines, "P10", "more often than operation 0");
}

#[test]
fn a_write_that_was_sent_once_is_in_the_log_once() {
    let lines = [(0, 0, 10, "set x 1", "ok 0")];
    fails(&["set x 1", "set x 1"], &lines, "P10", "more often than operation 0");
}

#[test]
fn what_nobody_asked_for_is_not_in_the_log() {
    fails(&["noop", "set x 1"], &[], "P10", "nobody asked for it");
}

#[test]
fn a_retry_that_was_carried_out_again_is_a_violation() {
    // The second attempt's answer names the second entry: it took effect twice.
    let lines = [(0, 0, 10, "set x 1 c:1", "lost"), (0, 20, 30, "set x 1 c:1", "ok 2")];
    fails(
        &["set x 1 c:1", "delete x", "set x 1 c:1"],
        &[&lines[..], &[(1, 0, 10, "delete x", "lost")]].concat(),
        "P9",
        "the log there says",
    );
}

#[test]
fn what_a_retry_did_again_is_seen_by_the_next_read() {
    let lines = [
        (0, 0, 10, "set x 1 c:1", "lost"),
        (1, 11, 12, "delete x", "deleted true 1"),
        (0, 20, 30, "set x 1 c:1", "ok 0"),
        (1, 40, 50, "get x", "got 1 2"),
    ];
    fails(&["set x 1 c:1", "delete x", "set x 1 c:1"], &lines, "P9", "operation 2 of client 1");
}

#[test]
fn a_retry_with_another_answer_is_a_violation() {
    let first = (0, 0, 10, "cas x null 1 c:1", "swapped 0");
    let writes = ["cas x null 1 c:1", "cas x null 1 c:1"];
    passes(&writes, &[first, (0, 20, 30, "cas x null 1 c:1", "swapped 0")]);
    let again = (0, 20, 30, "cas x null 1 c:1", "kept 1 1");
    fails(&writes, &[first, again], "P9", "the log there says");
    let again = (0, 20, 30, "cas x null 1 c:1", "kept 1 0");
    fails(&writes, &[first, again], "P9", "the log there says");
}

#[test]
fn a_cas_or_a_delete_with_the_wrong_answer_is_a_violation() {
    let set = (0, 0, 10, "set x 1", "ok 0");
    for (request, right, wrong) in [
        ("cas x 1 2", "swapped 1", "kept 1 1"),
        ("cas x 1.0 2", "swapped 1", "kept 1 1"),
        ("cas x 3 2", "kept 1 1", "swapped 1"),
        ("cas x 3 2", "kept 1 1", "kept null 1"),
        ("cas x null 2", "kept 1 1", "swapped 1"),
        ("delete x", "deleted true 1", "deleted false 1"),
        ("delete y", "deleted false 1", "deleted true 1"),
    ] {
        passes(&["set x 1", request], &[set, (1, 20, 30, request, right)]);
        fails(&["set x 1", request], &[set, (1, 20, 30, request, wrong)], "P9", "the log there says");
    }
}

#[test]
fn a_scan_must_have_all_items_in_their_order_and_say_whether_there_are_more() {
    let writes = ["set a1 1", "set a2 2", "set a3 3", "set b 4"];
    let sets = [
        (0, 0, 9, writes[0], "ok 0"),
        (0, 10, 19, writes[1], "ok 1"),
        (0, 20, 29, writes[2], "ok 2"),
        (0, 30, 39, writes[3], "ok 3"),
    ];
    let with = |request, answer| [&sets[..], &[(1, 40, 50, request, answer)]].concat();
    for (request, answer) in [
        ("scan a 10", "items a1=1,a2=2,a3=3 all 3"),
        ("scan a 3", "items a1=1,a2=2,a3=3 all 3"),
        ("scan a 2", "items a1=1,a2=2 more 3"),
        ("scan a 2 a1", "items a2=2,a3=3 all 3"),
        ("scan c 2", "items  all 3"),
    ] {
        passes(&writes, &with(request, answer));
    }
    for (request, answer) in [
        ("scan a 10", "items a1=1,a3=3 all 3"),
        ("scan a 10", "items a2=2,a1=1,a3=3 all 3"),
        ("scan a 10", "items a1=1,a2=2,a3=3 more 3"),
        ("scan a 10", "items a1=1,a2=2,a3=3,b=4 all 3"),
        ("scan a 10", "items a1=1,a2=2,a3=4 all 3"),
        ("scan a 10", "items a1=1,a2=2 more 3"),
        ("scan a 2", "items a1=1,a2=2 all 3"),
        ("scan a 2", "items a1=1,a2=2,a3=3 all 3"),
        ("scan a 2 a1", "items a1=1,a2=2 more 3"),
    ] {
        fails(&writes, &with(request, answer), "P9", "the log there says");
    }
}

#[test]
fn a_page_of_large_items_may_end_before_its_limit() {
    let value = "1".repeat(3000);
    let writes = [format!("set a {value}"), format!("set b {value}"), format!("set c {value}")];
    let writes: Vec<&str> = writes.iter().map(String::as_str).collect();
    let page = format!("items a={value} more 2");
    let mut lines: Vec<Words<'_>> = writes
        .iter()
        .zip(["ok 0", "ok 1", "ok 2"])
        .map(|(write, answer)| (0, 0, 10, *write, answer))
        .collect();
    lines.push((1, 40, 50, "scan x 10", "items  all 2"));
    lines.push((1, 40, 50, "scan  10", &page));
    passes(&writes, &lines);
}

#[test]
fn an_answer_to_another_question_is_a_violation() {
    for (request, answer) in [("get x", "ok 0"), ("set x 1", "got 1 0"), ("scan x 1", "got 1 0")] {
        fails(
            &["set x 1"],
            &[(0, 0, 10, "set x 1", "lost"), (0, 0, 10, request, answer)],
            "P9",
            "the log there",
        );
    }
}

#[test]
fn a_refusal_by_the_session_must_be_the_logs() {
    let writes = ["set x 1 c:1", "set x 2 c:2", "set x 1 c:1", "set x 3 d:2"];
    let lines = [
        (0, 0, 10, "set x 1 c:1", "timeout"),
        (0, 20, 30, "set x 2 c:2", "ok 1"),
        (0, 40, 50, "set x 1 c:1", "stale_seq"),
        (1, 40, 50, "set x 3 d:2", "session_expired"),
        (1, 60, 70, "get x", "got 2 3"),
    ];
    passes(&writes, &lines);
    let lines = [(0, 0, 10, "set x 1 c:1", "stale_seq")];
    fails(&["set x 1 c:1"], &lines, "P9", "says nothing of stale_seq");
    let lines = [(0, 0, 10, "set x 1 c:1", "session_expired")];
    fails(&["set x 1 c:1"], &lines, "P9", "says nothing of session_expired");
}

#[test]
fn what_is_no_history_is_refused() {
    let refused = |lines: &[Words<'_>], what| fails(&[], lines, "history", what);
    refused(&[(0, 10, 9, "get x", "got null -1")], "ends before it is sent");
    refused(&[(0, 0, 9, "status", "lost")], "nothing that a history can judge");
    refused(
        &[(0, 0, 9, "set x 1 c:1", "lost"), (0, 0, 9, "set x 2 c:1", "lost")],
        "client and seq of another",
    );
    let mut twice = history(&[(0, 0, 9, "set x 1", "lost")]);
    twice.operations[0].send_again(20);
    let violation = check_against_log(&twice, &[]).expect_err("sent twice");
    assert!(violation.what.contains("without a seq, an operation is sent once"), "{violation}");
}

#[test]
fn what_is_no_log_is_refused() {
    let mut gap = log(&["noop", "noop", "noop"]);
    gap.remove(1);
    let violation = check_against_log(&history(&[]), &gap).expect_err("a gap");
    assert_eq!(violation.to_string(), "P2: 2@1 stands after 0@1 in the log");
}

#[test]
fn a_pipeline_keeps_its_order() {
    let log = log(&["set x 1", "set x 2"]);
    let (one, two) = ((1, 0, 40, "set x 1", "lost"), (2, 0, 40, "set x 2", "lost"));
    for lines in [
        // A read that does not see the write before it.
        vec![(0, 0, 20, "set x 1", "ok 0"), (0, 0, 30, "get x", "got null -1"), two],
        // A write before what a read before it saw, and at the same place.
        vec![(0, 0, 20, "get x", "got 2 1"), (0, 0, 30, "set x 1", "ok 0"), two],
        vec![(0, 0, 20, "get x", "got 2 1"), (0, 0, 30, "set x 2", "ok 1"), one],
        // Two writes the other way round.
        vec![(0, 0, 20, "set x 2", "ok 1"), (0, 0, 30, "set x 1", "ok 0")],
    ] {
        let violation = check_against_log(&pipelined(&lines), &log).expect_err("a violation");
        assert_eq!(violation.property, "P9", "{violation}");
        assert!(violation.what.contains("sent behind it, yet before it in the log"), "{violation}");
        // Without the pipeline they are beside each other.
        assert!(check_against_log(&history(&lines), &log).is_ok(), "{lines:?}");
    }
}

#[test]
fn reads_of_a_pipeline_may_be_served_in_any_order_and_stale_ones_in_none() {
    let lines = [
        (0, 0, 20, "get x", "got 1 0"),
        (0, 0, 30, "get x", "got null -1"),
        (1, 0, 40, "set x 1", "ok 0"),
        (1, 0, 50, "stale x", "got null -1"),
    ];
    assert!(check_against_log(&pipelined(&lines), &log(&["set x 1"])).is_ok());
}
