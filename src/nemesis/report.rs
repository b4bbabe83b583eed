//! What is said of a run when it is over, and what is kept of one that did not hold. Prints nothing itself.

use super::ceilings::Ceilings;
use super::machines::Machines;
use super::run::{Run, lock};
use super::status::Watcher;
use super::verdict::Counts;
use super::{Choice, Fault, Options};
use crate::checker::History;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What did not hold, in the order in which it was noticed; empty when everything held.
    pub findings: Vec<String>,
    /// Whether the user ended it early.
    pub was_interrupted: bool,
    /// How often each fault was seen to work.
    pub faults: Vec<(Fault, u64)>,
    /// The counts, for people.
    pub text: String,
    /// Where the run's files are, if they were kept.
    pub kept: Option<PathBuf>,
    /// The command that repeats the run.
    pub command: String,
}

impl Report {
    pub(super) fn of(
        options: &Options,
        run: &Run<'_>,
        choice: &Choice,
        watcher: &Watcher,
        ceilings: &Ceilings,
        counts: Counts,
    ) -> Report {
        let faults: Vec<(Fault, u64)> =
            lock(&run.tally.faults).iter().map(|(fault, count)| (*fault, *count)).collect();
        let mut text = String::new();
        let mut line = |what: std::fmt::Arguments<'_>| {
            // Memory takes every line.
            let _ = writeln!(text, "{what}");
        };
        faults.iter().for_each(|(fault, count)| line(format_args!("{count:>10}  {fault}")));
        if choice.faults.contains(&Fault::FullDisk) {
            let real = run.tally.full_file_systems.load(Ordering::Relaxed);
            line(format_args!(
                "{real:>10}  of the full disks had no block left; on others files could not grow"
            ));
        }
        choice.left_out.iter().for_each(|(fault, why)| line(format_args!("not available  {fault}: {why}")));
        for (outcome, count) in lock(&run.tally.outcomes).iter() {
            line(format_args!("{count:>10}  attempts: {outcome}"));
        }
        let Counts { entries, deduplicated, operations, search } = counts;
        line(format_args!("{operations:>10}  operations, {entries} committed entries"));
        line(format_args!("{deduplicated:>10}  retries that were not carried out again"));
        let pipelined = run.tally.pipelined.load(Ordering::Relaxed);
        line(format_args!("{pipelined:>10}  answers to requests that were sent together with others"));
        line(format_args!("{:>10}  terms with a leader", watcher.terms_led()));
        let meanwhile = run.tally.served_meanwhile.load(Ordering::Relaxed);
        let slowest = lock(&run.tally.slowest_recovery).as_millis();
        line(format_args!("{meanwhile:>10}  times it had to serve while something was broken"));
        line(format_args!("{slowest:>10}  ms until it did, at most"));
        ceilings.lines().iter().for_each(|it| line(format_args!("{it}")));
        line(format_args!("search: {search}"));
        let seconds = run.elapsed().as_secs_f64();
        line(format_args!("{} nodes, seed {}, {seconds:.1} s", options.nodes, options.seed));
        Report {
            findings: run.findings(),
            was_interrupted: run.is_interrupted(),
            faults,
            text,
            kept: None,
            command: command(options, choice),
        }
    }

    /// Whether everything held, as far as the run got.
    pub fn held(&self) -> bool {
        self.findings.is_empty()
    }
}

/// The report as it is printed: counts, findings, and how to see it again.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "FINDING  {finding}"))?;
        if let Some(kept) = &self.kept {
            writeln!(f, "logs, data and history are in {}", kept.display())?;
        }
        let early = if self.was_interrupted { ", but it was ended early" } else { "" };
        match self.held() {
            true => writeln!(f, "everything held{early}"),
            false => writeln!(f, "FAILED; again: {}", self.command),
        }
    }
}

fn command(options: &Options, choice: &Choice) -> String {
    let Options { nodes, seconds, seed, clients, .. } = options;
    let faults: Vec<String> = choice.faults.iter().map(Fault::to_string).collect();
    format!(
        "raftkv-nemesis --nodes {nodes} --seconds {seconds} --seed {seed} --clients {clients} --faults {}",
        faults.join(",")
    )
}

/// Puts history, report and the nodes' files beside their logs.
pub(super) fn keep(folder: &Path, report: &Report, history: &History, machines: &Machines) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(folder.join("history.jsonl"))?);
    history.write(&mut file)?;
    file.flush()?;
    fs::write(folder.join("report.txt"), report.to_string())?;
    // The nodes' files may lie on disks that go away with the run.
    for id in machines.ids() {
        let Some(data) = machines.data(id) else { continue };
        let copy = folder.join(format!("data/node-{id}"));
        fs::create_dir_all(&copy)?;
        for entry in fs::read_dir(data)?.flatten() {
            fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    Ok(())
}
