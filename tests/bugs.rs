//! The bugs of the catalogue (`docs/faults.md`), put back into the code, each caught by a verifier that is
//! named beforehand and within a budget. A verifier that catches nothing proves nothing.
//!
//! ```text
//!   tests/bugs/*.toml           src, tests/golden, scripts, fuzz, node.rs, storage.rs
//!     edits of all bugs  ---+---  the product, which knows nothing of this
//!                           v
//!   target/tmp/bugs         a copy with every edit in it, each behind a switch; compiled once
//!                           |
//!      RAFTKV_BUG unset     +--> all verifiers must pass
//!      RAFTKV_BUG=name      +--> those named in the bug's description must fail, and say what they should
//! ```
//!
//! A bug's description says: its row in `docs/faults.md`; its story; edits, whose `find` must stand in the
//! file exactly once, and in whose `replace` the word PLANTED stands for "this bug is switched on"; the
//! golden `scripts` and the other `tests` that must fail; by which of the simulator's `seeds`, in how many
//! states of which exhaustive `search`, and by how many inputs of which `fuzz` target it must be found, and
//! what is then said. Where the product has changed and a `find` is gone, the bug must follow.
//!
//! `RAFTKV_BUG=name cargo test --test bugs` looks for that one only. With `RAFTKV_ALL_BUGS=1` the simulator
//! and the fuzzing look also for those that it takes them long to find. What was found is printed as a
//! table, and kept in `target/tmp/bugs.md`.

#[path = "bugs/copy.rs"]
mod copy;
#[path = "bugs/description.rs"]
mod description;
#[path = "bugs/table.rs"]
mod table;
#[path = "bugs/verify.rs"]
mod verify;

use description::Catalogue;
use std::collections::BTreeSet;

#[test]
fn every_bug_is_caught_by_its_verifiers() {
    let mut catalogue = Catalogue::read();
    let program = copy::build(&catalogue.bugs);
    if let Ok(only) = std::env::var("RAFTKV_BUG") {
        catalogue.bugs.retain(|bug| bug.name == only);
        assert!(!catalogue.bugs.is_empty(), "there is no bug {only}");
    }
    let is_complete = std::env::var_os("RAFTKV_ALL_BUGS").is_some();
    verify::without_bugs(&program, &catalogue.bugs).unwrap_or_else(|why| panic!("without any bug: {why}"));
    let findings = verify::all(&program, &catalogue.bugs, is_complete);
    println!("{}", table::of_findings(&catalogue, &findings));
    table::keep(&catalogue, &findings);
    let missed: Vec<&String> = findings.iter().flat_map(|finding| &finding.missed).collect();
    assert!(missed.is_empty(), "not caught as described:\n{missed:#?}");
}

/// Each row of `docs/faults.md` is put back, or it is said why not.
#[test]
fn every_row_of_the_catalogue_is_put_back_or_left_out_for_a_reason() {
    let catalogue = Catalogue::read();
    let faults = copy::read_source("docs/faults.md");
    let first_cells = faults.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let is_row = |cell: &&str| cell.starts_with(|letter: char| letter.is_ascii_digit());
    let rows: BTreeSet<&str> = first_cells.filter(is_row).collect();
    assert!(rows.len() > 60, "this is not the catalogue: {rows:?}");
    let with_row = catalogue.bugs.iter().filter(|bug| !bug.has_no_row());
    let properties = copy::read_source("docs/verification.md");
    for bug in catalogue.bugs.iter().filter(|bug| bug.has_no_row()) {
        let line = format!("\n| {} | ", bug.row);
        assert!(properties.contains(&line), "bug {}: there is no property {}", bug.name, bug.row);
    }
    let put_back: BTreeSet<&str> = with_row.map(|bug| bug.row.as_str()).collect();
    let left_out: BTreeSet<&str> = catalogue.left_out.iter().map(|row| row.row.as_str()).collect();
    let both: Vec<_> = put_back.intersection(&left_out).collect();
    assert!(both.is_empty(), "put back, and left out: {both:?}");
    let covered: BTreeSet<&str> = put_back.union(&left_out).copied().collect();
    assert_eq!(rows, covered, "rows of docs/faults.md, and rows that the descriptions speak of");
}

/// The rules by which an edit is put in.
#[test]
fn an_edit_that_does_not_fit_the_product_names_bug_and_file() {
    let bug = |find: &str| {
        let text = format!(
            "[[bug]]\nname = 'b'\nrow = '1'\nstory = ''\nscripts = ['x']\nno_seeds = ''\n[[bug.edit]]\n\
             file = 'src/a.rs'\nfind = '{find}'\nreplace = 'PLANTED || {find}'\n"
        );
        Catalogue::parse(&text).expect("a description").bugs
    };
    let put = |find: &str| copy::with_edits("src/a.rs", "if x == 1 && y == 1 {}", &bug(find));
    assert_eq!(put("x == 1"), Ok("if crate::planted(\"b\") || x == 1 && y == 1 {}".to_owned()));
    for (find, count) in [("z == 1", "0 times"), ("== 1", "2 times")] {
        let why = put(find).expect_err("it does not fit");
        assert!(["bug b", "src/a.rs", count, find].iter().all(|part| why.contains(part)), "{why}");
    }
}
