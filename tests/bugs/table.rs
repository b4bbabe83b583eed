//! What was found, as a table for `docs/verification.md`.

use super::description::{Bug, Catalogue};
use super::verify::Finding;
use std::fmt::Write;
use std::path::Path;

/// The table, with how long each bug took.
pub fn of_findings(catalogue: &Catalogue, findings: &[Finding]) -> String {
    let mut text = String::new();
    for (bug, finding) in catalogue.bugs.iter().zip(findings) {
        let row = row(bug, finding);
        writeln!(text, "{row} {:.1} s |", finding.seconds).expect("memory takes any text");
    }
    text
}

/// Keeps the table as Markdown, in the order of the catalogue's rows.
pub fn keep(catalogue: &Catalogue, findings: &[Finding]) {
    let mut text =
        "| row | bug | script or test | seed | states | input |\n|---|---|---|---|---|---|\n".to_owned();
    for (bug, finding) in catalogue.bugs.iter().zip(findings) {
        writeln!(text, "{}", row(bug, finding)).expect("memory takes any text");
    }
    text.push_str("\n| row | not put back, because |\n|---|---|\n");
    for left_out in &catalogue.left_out {
        writeln!(text, "| {} | {} |", left_out.row, left_out.because).expect("memory takes any text");
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bugs.md");
    std::fs::write(&path, text).expect("the target folder is ours");
}

fn row(bug: &Bug, finding: &Finding) -> String {
    let Bug { row, story, scripts, tests, seeds, no_seeds, search, fuzz, .. } = bug;
    let verifiers: Vec<String> = scripts.iter().chain(tests).map(|name| format!("`{name}`")).collect();
    let seed = match (&finding.seed, seeds, no_seeds) {
        (Some((seed, property)), Some(seeds), _) => format!("{seed} of {}, {property}", seeds.within),
        (None, Some(seeds), _) if seeds.slow => format!("by {}, with all bugs", seeds.within),
        (None, Some(_), _) => "MISSED".to_owned(),
        (_, None, Some(why)) => why.clone(),
        (_, None, None) => String::new(),
    };
    let states = match (&finding.states, search) {
        (Some((states, property)), Some(search)) => {
            format!("{states} of {} (`{}`), {property}", search.within, search.name)
        }
        (None, Some(_)) => "MISSED".to_owned(),
        (_, None) => String::new(),
    };
    let input = match (&finding.input, fuzz) {
        (Some(number), Some(fuzz)) => format!("{number} of {} (`{}`)", fuzz.within, fuzz.target),
        (None, Some(fuzz)) if fuzz.slow => format!("by {}, with all bugs", fuzz.within),
        (None, Some(_)) => "MISSED".to_owned(),
        (_, None) => String::new(),
    };
    format!("| {row} | {story} | {} | {seed} | {states} | {input} |", verifiers.join(", "))
}
