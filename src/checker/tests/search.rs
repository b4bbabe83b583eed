//! The search: violations planted by hand, what must pass, and a budget that runs out.

use super::{Words, history, pipelined};
use crate::checker::{DEFAULT_BUDGET_STEPS, Verdict, check_by_search};

fn verdict(lines: &[Words<'_>]) -> Verdict {
    check_by_search(&history(lines), DEFAULT_BUDGET_STEPS).expect("a history")
}

fn passes(lines: &[Words<'_>]) {
    let verdict = verdict(lines);
    assert!(matches!(verdict, Verdict::Linearizable { .. }), "{verdict:?}");
}

/// That no order gets past this operation.
fn fails_at(lines: &[Words<'_>], number: usize) {
    match verdict(lines) {
        Verdict::Violation(violation) => {
            assert_eq!(violation.operations.first(), Some(&number), "{violation}");
            assert!(violation.what.contains(&format!("operation {number} of client")), "{violation}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn indexes_are_not_looked_at() {
    passes(&[(0, 0, 10, "set x 1", "ok 7"), (1, 20, 30, "get x", "got 1 3"), (1, 40, 50, "set x 2", "ok 7")]);
}

#[test]
fn an_empty_history_and_one_without_answers_pass() {
    passes(&[]);
    passes(&[(0, 0, 10, "get x", "lost"), (0, 20, 30, "set x 1", "timeout"), (0, 20, 30, "set x 1", "busy")]);
}

#[test]
fn a_stale_value_is_a_violation() {
    let lines =
        [(0, 0, 10, "set x 1", "ok 0"), (0, 20, 30, "set x 2", "ok 0"), (1, 31, 40, "get x", "got 1 0")];
    fails_at(&lines, 2);
    // The same beside the second write is none.
    passes(&[lines[0], lines[1], (1, 25, 40, "get x", "got 1 0")]);
}

#[test]
fn a_read_that_goes_back_is_a_violation() {
    fails_at(
        &[
            (0, 0, 100, "set x 1", "ok 0"),
            (1, 10, 20, "get x", "got 1 0"),
            (2, 30, 40, "get x", "got null 0"),
        ],
        2,
    );
}

#[test]
fn a_lost_update_is_a_violation() {
    fails_at(
        &[
            (0, 0, 10, "set x 0", "ok 0"),
            (1, 20, 40, "cas x 0 1", "swapped 0"),
            (2, 30, 50, "cas x 0 2", "swapped 0"),
        ],
        2,
    );
}

#[test]
fn a_lost_write_is_a_violation() {
    fails_at(&[(0, 0, 10, "set x 1", "ok 0"), (1, 20, 30, "get x", "got null 0")], 1);
}

#[test]
fn a_value_that_nobody_wrote_is_a_violation() {
    fails_at(&[(0, 0, 10, "set x 1", "ok 0"), (1, 5, 30, "get x", "got 2 0")], 1);
}

#[test]
fn a_cas_or_a_delete_with_the_wrong_answer_is_a_violation() {
    let set = (0, 0, 10, "set x 1", "ok 0");
    for (request, right, wrong) in [
        ("cas x 1 2", "swapped 0", "kept 1 0"),
        ("cas x 1.0 2", "swapped 0", "kept 1 0"),
        ("cas x 3 2", "kept 1 0", "swapped 0"),
        ("cas x 3 2", "kept 1 0", "kept null 0"),
        ("cas x null 2", "kept 1 0", "swapped 0"),
        ("delete x", "deleted true 0", "deleted false 0"),
    ] {
        passes(&[set, (1, 20, 30, request, right)]);
        fails_at(&[set, (1, 20, 30, request, wrong)], 1);
    }
}

#[test]
fn writes_side_by_side_may_come_in_any_order_but_in_one_only() {
    let lines = [
        (0, 0, 50, "set x 1", "ok 0"),
        (1, 0, 50, "set x 2", "ok 0"),
        (2, 60, 70, "get x", "got 1 0"),
        (3, 80, 90, "get x", "got 2 0"),
    ];
    passes(&lines[..3]);
    passes(&[lines[0], lines[1], lines[3]]);
    fails_at(&lines, 3);
}

#[test]
fn what_begins_as_another_ends_is_beside_it() {
    passes(&[(0, 0, 10, "set x 1", "ok 0"), (1, 10, 20, "get x", "got null 0")]);
    fails_at(&[(0, 0, 10, "set x 1", "ok 0"), (1, 11, 20, "get x", "got null 0")], 1);
}

#[test]
fn an_open_write_may_take_effect_late_or_never_but_not_early_and_not_twice() {
    let open = (0, 100, 110, "set x 1", "lost");
    passes(&[open, (1, 120, 130, "get x", "got null 0")]);
    passes(&[open, (1, 120, 130, "get x", "got null 0"), (1, 1000, 1010, "get x", "got 1 0")]);
    fails_at(&[open, (1, 80, 99, "get x", "got 1 0")], 1);
    let lines = [
        open,
        (1, 120, 130, "get x", "got 1 0"),
        (1, 140, 150, "set x 2", "ok 0"),
        (1, 160, 170, "get x", "got 1 0"),
    ];
    fails_at(&lines, 3);
    // Two of them may.
    passes(&[&lines[..], &[(2, 100, 110, "set x 1", "timeout")]].concat());
}

#[test]
fn an_open_cas_takes_effect_only_on_what_it_expects() {
    let set = (0, 0, 10, "set x 1", "ok 0");
    let open = (1, 20, 30, "cas x 1.0 2", "nothing");
    let then = (1, 40, 50, "get x", "got 2 0");
    passes(&[set, open, then]);
    fails_at(&[(0, 0, 10, "set x 3", "ok 0"), open, then], 2);
    // After another open write has brought it about, it does.
    passes(&[(0, 0, 10, "set x 3", "ok 0"), (2, 0, 10, "set x 1", "lost"), open, then]);
    passes(&[
        (0, 0, 10, "set x 3", "ok 0"),
        (2, 0, 10, "delete x", "lost"),
        (2, 0, 10, "cas x null 1", "lost"),
        open,
        then,
    ]);
}

#[test]
fn open_deletes_and_sets_stand_in_for_each_other() {
    let deletes = [
        (0, 0, 10, "set x 1", "lost"),
        (0, 0, 10, "set x 2", "lost"),
        (1, 20, 30, "delete x", "deleted true 0"),
        (1, 40, 50, "delete x", "deleted true 0"),
    ];
    passes(&deletes);
    fails_at(&[&deletes[..], &[(1, 60, 70, "delete x", "deleted true 0")]].concat(), 4);
    // The named one is kept for the answer that names it.
    passes(&[deletes[0], deletes[1], deletes[2], (1, 60, 70, "get x", "got 1 0")]);
    fails_at(&[deletes[0], deletes[1], deletes[2], deletes[3], (1, 60, 70, "get x", "got 1 0")], 4);
}

#[test]
fn attempts_of_one_write_are_one_operation() {
    let lines = [
        (0, 0, 10, "set x 1 c:1", "lost"),
        (0, 50, 60, "set x 1 c:1", "ok 0"),
        (1, 20, 30, "get x", "got 1 0"),
        (1, 31, 33, "set x 2", "ok 0"),
        (2, 70, 80, "get x", "got 2 0"),
    ];
    passes(&lines);
    // Carried out once more, by the retry.
    let twice = [lines[0], lines[1], lines[2], lines[3], (2, 70, 80, "get x", "got 1 0")];
    fails_at(&twice, 3);
}

#[test]
fn a_retry_with_another_answer_is_a_violation() {
    let first = (0, 0, 10, "cas x null 1 c:1", "swapped 0");
    passes(&[first, (0, 20, 30, "cas x null 1 c:1", "swapped 0")]);
    fails_at(&[first, (0, 20, 30, "cas x null 1 c:1", "kept 1 0")], 0);
}

#[test]
fn a_write_that_its_session_refused_did_nothing() {
    let set = (0, 0, 10, "set x 1", "ok 0");
    for answer in ["stale_seq", "session_expired", "busy", "unavailable", "not_sent"] {
        fails_at(&[set, (1, 20, 30, "set x 2 c:2", answer), (1, 40, 50, "get x", "got 2 0")], 2);
    }
    // But another attempt may have.
    passes(&[
        set,
        (1, 20, 30, "set x 2 c:1", "lost"),
        (1, 31, 35, "set x 2 c:1", "stale_seq"),
        (1, 40, 50, "get x", "got 2 0"),
    ]);
}

#[test]
fn scans_and_stale_reads_are_left_to_the_other_checker() {
    passes(&[
        (0, 0, 10, "set x 1", "ok 0"),
        (1, 20, 30, "stale x", "got 7 0"),
        (1, 20, 30, "scan x 10", "items x=9 all 0"),
    ]);
}

#[test]
fn each_key_is_judged_on_its_own_and_the_wrong_one_is_named() {
    let lines = [
        (0, 0, 10, "set x 1", "ok 0"),
        (0, 20, 30, "set y 2", "ok 0"),
        (1, 40, 50, "get x", "got 1 0"),
        (1, 40, 50, "get y", "got 1 0"),
    ];
    match verdict(&lines) {
        Verdict::Violation(violation) => {
            assert_eq!((violation.key.as_str(), violation.operations.as_slice()), ("y", &[3, 1][..]));
            assert_eq!(
                violation.to_string(),
                concat!(
                    "P9: key \"y\": no order gets past operation 3 of client 1, ",
                    "{\"op\":\"get\",\"key\":\"y\"}, sent at 40, ",
                    "at 50 Got { value: Some(\"1\"), index: 0 }, where the value may be 2; with it:\n",
                    "  operation 1 of client 0, {\"op\":\"set\",\"key\":\"y\",\"value\":2}, ",
                    "sent at 20, at 30 Written(Set { index: 0 })"
                )
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_to_another_question_is_a_violation() {
    fails_at(&[(0, 0, 10, "set x 1", "got 1 0")], 0);
    fails_at(&[(0, 0, 10, "get x", "ok 0")], 0);
    fails_at(&[(0, 0, 10, "delete x", "ok 0")], 0);
}

#[test]
fn a_budget_that_runs_out_is_inconclusive_and_a_violation_elsewhere_is_one() {
    let fine =
        [(0, 0, 50, "set a 1", "ok 0"), (1, 0, 50, "set a 2", "ok 0"), (2, 60, 70, "get a", "got 1 0")];
    let with_budget =
        |lines: &[Words<'_>], steps| check_by_search(&history(lines), steps).expect("a history");
    assert_eq!(with_budget(&fine, 2), Verdict::Inconclusive { key: "a".to_owned(), steps: 2 });
    assert!(matches!(with_budget(&fine, 10), Verdict::Linearizable { .. }));
    // Also when the answer would be no.
    let wrong = [&fine[..2], &[(2, 60, 70, "get a", "got 3 0")]].concat();
    assert_eq!(with_budget(&wrong, 3), Verdict::Inconclusive { key: "a".to_owned(), steps: 3 });
    let elsewhere = [&fine[..], &[(2, 60, 70, "get b", "got 3 0")]].concat();
    assert!(matches!(with_budget(&elsewhere, 2), Verdict::Violation(it) if it.key == "b"));
}

#[test]
fn what_is_no_history_is_refused() {
    let twice = [(0, 0, 9, "set x 1 c:1", "lost"), (0, 0, 9, "set x 2 c:1", "lost")];
    let violation = check_by_search(&history(&twice), 10).expect_err("two operations of one number");
    assert_eq!(violation.property, "history");
}

#[test]
fn a_pipeline_keeps_its_order() {
    let search = |lines: &[Words<'_>]| check_by_search(&pipelined(lines), DEFAULT_BUDGET_STEPS);
    for lines in [
        // A read that does not see the write before it.
        [(0, 0, 20, "set x 1", "ok 0"), (0, 0, 30, "get x", "got null 0")],
        // A read that sees the write behind it.
        [(0, 0, 20, "get x", "got 1 0"), (0, 0, 30, "set x 1", "ok 0")],
        // A write that sees the one behind it.
        [(0, 0, 20, "cas x 2 1", "swapped 0"), (0, 0, 30, "set x 2", "ok 0")],
    ] {
        let verdict = search(&lines);
        assert!(matches!(verdict, Ok(Verdict::Violation(_))), "{verdict:?}");
        // Without the pipeline they are beside each other.
        passes(&lines);
        // Two connections have no order.
        let [one, (_, sent, ended, request, answer)] = lines;
        let apart = search(&[one, (1, sent, ended, request, answer)]);
        assert!(matches!(apart, Ok(Verdict::Linearizable { .. })), "{apart:?}");
    }
}

#[test]
fn reads_of_a_pipeline_may_be_served_in_any_order() {
    let lines =
        [(1, 5, 9, "set x 1", "ok 0"), (0, 0, 20, "get x", "got 1 0"), (0, 0, 30, "get x", "got null 0")];
    let verdict = check_by_search(&pipelined(&lines), DEFAULT_BUDGET_STEPS);
    assert!(matches!(verdict, Ok(Verdict::Linearizable { .. })), "{verdict:?}");
}
