//! Whether it held: the nodes' files, read back as a start would, against each other and against what the
//! clients were told.

use super::machines::Machines;
use super::run::Run;
use super::status::Watcher;
use crate::checker::{self, History, Verdict};
use crate::storage::{FileDisk, FirstStart, Opening, SegmentSizes, Storage};
use crate::types::{Entry, EntryId, Incarnation, Index, NodeId};
use std::collections::BTreeMap;

/// What was looked at, for the report.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Entries of the committed log.
    pub entries: usize,
    /// Retries that were not carried out again.
    pub deduplicated: u64,
    /// Operations of clients.
    pub operations: usize,
    /// What the search came to, in words.
    pub search: String,
}

/// Judges a run whose nodes have stopped. `agreed` says that they had all come to the same before.
pub(super) fn judge(
    run: &Run<'_>,
    machines: &Machines,
    history: &History,
    watcher: &Watcher,
    agreed: bool,
) -> Counts {
    machines.complaints().into_iter().for_each(|complaint| run.finding(complaint));
    let mut counts = Counts { operations: history.operations.len(), ..Counts::default() };
    let logs = read_logs(run, machines);
    let committed = committed_log(run, &logs, history, watcher, agreed);
    counts.entries = committed.len();
    match checker::check_against_log(history, committed) {
        Ok(replay) => {
            counts.deduplicated = replay.deduplicated;
            compare_hashes(run, watcher, &replay.hashes);
        }
        Err(violation) => run.finding(violation),
    }
    counts.search = search(run, history);
    counts
}

/// The second checker, which does not look at indexes. Says what it came to.
fn search(run: &Run<'_>, history: &History) -> String {
    match checker::check_by_search(history, checker::DEFAULT_BUDGET_STEPS) {
        Ok(Verdict::Linearizable { steps }) => format!("an order for every key, in {steps} steps"),
        Ok(Verdict::Violation(violation)) => {
            run.finding(&violation);
            format!("no order for key {}", violation.key)
        }
        Ok(Verdict::Inconclusive { key, steps }) => {
            // That nothing was found in time is no proof that there is nothing.
            run.finding(format_args!("P9: inconclusive: the search ran out of steps at key {key}"));
            format!("inconclusive after {steps} steps")
        }
        Err(violation) => {
            run.finding(violation);
            "not a history".to_owned()
        }
    }
}

/// What a start would read. It finds everything sound, or does not start.
fn read_logs(run: &Run<'_>, machines: &Machines) -> BTreeMap<u16, Vec<Entry>> {
    let voters: Vec<NodeId> = machines.ids().into_iter().map(NodeId).collect();
    let mut logs = BTreeMap::new();
    for id in machines.ids() {
        let Some(folder) = machines.data(id) else { continue };
        let opening = Opening {
            cluster: super::machines::CLUSTER.to_owned(),
            node: NodeId(id),
            voters: voters.clone(),
            first_start: FirstStart::Refused,
            incarnation: Incarnation(0),
            segment_sizes: SegmentSizes::default(),
        };
        match FileDisk::open(folder).and_then(|disk| Storage::open(disk, &opening)) {
            Ok((_, recovered)) => {
                logs.insert(id, recovered.entries);
            }
            Err(error) => run.finding(format_args!("P14: the files of n{id} cannot be read back: {error}")),
        }
    }
    logs
}

/// The log up to the last index that anybody was told is committed, from the node that knows most. A majority
/// must have it, and all when they had agreed.
fn committed_log<'a>(
    run: &Run<'_>,
    logs: &'a BTreeMap<u16, Vec<Entry>>,
    history: &History,
    watcher: &Watcher,
    agreed: bool,
) -> &'a [Entry] {
    let last = |log: &Vec<Entry>| log.last().map_or(EntryId::NONE, Entry::id);
    let Some(best) = logs.values().max_by_key(|log| last(log)) else { return &[] };
    let answers = history.operations.iter().flat_map(|operation| operation.definite_answers());
    let told = answers.filter_map(|(_, outcome)| outcome.index()).max().unwrap_or(Index::NONE);
    let highest = told.max(Index(watcher.highest_commit()));
    let count = usize::try_from(highest.next().0).unwrap_or(0);
    let committed = best.get(..count).unwrap_or(best);
    if committed.len() < count {
        let (index, have) = (highest, last(best));
        run.finding(format_args!("P5: {index} was called committed, and no log goes beyond {have}"));
    }
    let holders = logs.iter().filter(|(_, log)| log.starts_with(committed));
    let holders: Vec<u16> = holders.map(|(id, _)| *id).collect();
    let enough = if agreed { run.addresses.len() } else { run.addresses.len() / 2 + 1 };
    if holders.len() < enough {
        run.finding(format_args!(
            "P5: of {} committed entries, only the files of {holders:?} have all",
            committed.len()
        ));
    }
    committed
}

/// P15: what nodes said of themselves while they ran, against the replay.
fn compare_hashes(run: &Run<'_>, watcher: &Watcher, replayed: &[u64]) {
    for (index, seen) in watcher.hashes() {
        let replayed = usize::try_from(*index).ok().and_then(|index| replayed.get(index));
        if replayed.is_some_and(|hash| format!("{hash:016x}") != *seen) {
            return run.finding(format_args!("P15: a node's hash at {index} was {seen}, not the replay's"));
        }
    }
}
