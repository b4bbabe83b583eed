//! P12: nothing grows without a bound. After each batch of a node: what waits in it, what it sends, what it
//! hands to its application, what a leader has uncommitted.

use super::machine::Machine;
use super::plan::Plan;
use super::process::{Batch, Effect, Process};
use super::{Checked, Violation};
use crate::node::{LogLimits, NodeSettings, Work};
use crate::raft::{Body, RoleName, Settings};
use crate::types::{Entry, Index, NodeId, SnapshotLine};
use std::collections::BTreeMap;

/// The limits of a run.
pub(super) struct Limits {
    core: Settings,
    node: NodeSettings,
    /// By node and life.
    applied: BTreeMap<(NodeId, u64), Applied>,
}

/// What a process has applied and still has in its log. It is counted once: what is applied does not change.
struct Applied {
    /// The log's base, and the last entry that is counted.
    base: Index,
    last: Index,
    bytes: usize,
    /// Since when this has been much too long.
    too_long_since_ms: Option<u64>,
}

impl Applied {
    fn after(base: Index) -> Applied {
        Applied { base, last: base, bytes: 0, too_long_since_ms: None }
    }
}

/// A log that is so many times as long as it should be may wait for nobody any more.
const MUCH_TOO_LONG: u64 = 8;
/// How long it may take to write a snapshot: with a slow disk and a slow application.
const LOG_PATIENCE_MS: u64 = 12_000;

impl Limits {
    pub fn of(plan: &Plan) -> Limits {
        Limits { core: plan.settings(), node: plan.node_settings(), applied: BTreeMap::new() }
    }

    /// After a batch of node `id`, before its effects are carried out.
    pub fn check(
        &mut self,
        machines: &BTreeMap<NodeId, Machine>,
        id: NodeId,
        batch: &Batch,
        now_ms: u64,
    ) -> Checked {
        if let Some(machine) = machines.get(&id) {
            self.log_is_bounded(machine, now_ms)?;
        }
        let Some(process) = machines.get(&id).and_then(|machine| machine.process.as_ref()) else {
            return Ok(());
        };
        let broken = |what: String| Err(Violation::new("P12", format!("{id}: {what}")));
        let mut gone = 0;
        for effect in batch.before_save.iter().chain(&batch.after_save) {
            match effect {
                Effect::Send(envelope) => {
                    if let Some(what) = self.too_long(&envelope.message.body) {
                        return broken(what);
                    }
                }
                Effect::Work(Work::Install(_)) => {}
                Effect::Work(Work::Apply(work)) => {
                    let entries = work.entries.iter();
                    gone += work.reads.len() + entries.filter(|(_, ticket)| ticket.is_some()).count();
                    let entries = work.entries.iter().map(|(entry, _)| entry);
                    if !fits(entries, self.node.max_work_bytes) {
                        return broken(format!("{} entries of work at once", work.entries.len()));
                    }
                }
                Effect::Reject(..) => gone += 1,
                Effect::Settle(..) => {}
            }
        }
        // Whoever a node has neither answered nor handed to its application waits.
        let waiting = process.waiting.len().saturating_sub(gone);
        if waiting > self.node.max_waiting {
            return broken(format!("{waiting} requests wait, the limit is {}", self.node.max_waiting));
        }
        match self.uncommitted_bytes(process, batch) {
            Some(bytes) => broken(format!("leads with {bytes} bytes of its own uncommitted")),
            None => Ok(()),
        }
    }

    /// What is applied does not stay in the log for long.
    fn log_is_bounded(&mut self, machine: &Machine, now_ms: u64) -> Checked {
        let Some(process) = &machine.process else { return Ok(()) };
        let (id, raft) = (machine.id, process.node.raft());
        let (base, last) = (raft.log().base().index, raft.last_applied());
        let count = |from: Index| usize::try_from(last.0 - from.0).unwrap_or(0);
        let applied = self.applied.entry((id, machine.life)).or_insert(Applied::after(base));
        if applied.base != base {
            *applied = Applied { too_long_since_ms: applied.too_long_since_ms, ..Applied::after(base) };
        }
        let new = raft.log().after(applied.last).iter().take(count(applied.last));
        applied.bytes += new.map(Entry::size_bytes).sum::<usize>();
        // After an install the log's base is ahead of the application for a while.
        applied.last = applied.last.max(last);
        let LogLimits { bytes: max_bytes, entries: max_entries } = self.node.log_limits;
        let is_much = |size: usize, limit: u64| size as u64 > limit.saturating_mul(MUCH_TOO_LONG);
        let (count, bytes) = (count(base), applied.bytes);
        if !is_much(count, max_entries) && !is_much(bytes, max_bytes) {
            applied.too_long_since_ms = None;
            return Ok(());
        }
        let since_ms = *applied.too_long_since_ms.get_or_insert(now_ms);
        if now_ms - since_ms <= LOG_PATIENCE_MS {
            return Ok(());
        }
        let what = format!("{id}: {count} applied entries of {bytes} bytes in its log since {since_ms} ms");
        Err(Violation::new("P12", what))
    }

    /// A paused process cannot do anything about its log.
    pub fn was_paused(&mut self, machine: &Machine) {
        self.applied.remove(&(machine.id, machine.life));
    }

    fn too_long(&self, body: &Body) -> Option<String> {
        match body {
            Body::AppendEntries(request) => {
                let count = request.entries.len();
                let is_small = count <= self.core.max_append_entries
                    && fits(request.entries.iter(), self.core.max_append_bytes);
                (!is_small).then(|| format!("{count} entries in one message"))
            }
            Body::ForwardProposals(request) => {
                let proposals = &request.proposals;
                let bytes: usize = proposals.iter().map(|proposal| proposal.command.text().len()).sum();
                let is_small = proposals.len() <= 1 || bytes <= self.core.max_append_bytes;
                (!is_small).then(|| format!("{bytes} bytes of proposals in one message"))
            }
            Body::InstallSnapshot(request) => {
                let bytes: u64 = request.lines.iter().map(SnapshotLine::size_bytes).sum();
                let is_small = request.lines.len() <= 1 || bytes <= self.node.max_chunk_bytes as u64;
                (!is_small).then(|| format!("{bytes} bytes of a snapshot in one message"))
            }
            Body::RequestVote(_)
            | Body::RequestVoteResponse(_)
            | Body::AppendEntriesResponse(_)
            | Body::InstallSnapshotResponse(_)
            | Body::TimeoutNow(_)
            | Body::ForwardProposalsResponse(_)
            | Body::ReadIndexRequest(_)
            | Body::ReadIndexResponse(_) => None,
        }
    }

    /// What a leader has appended and not committed, where that is more than it may be: the limit, the entry
    /// that went beyond it, and the no-op of its term.
    fn uncommitted_bytes(&self, process: &Process, batch: &Batch) -> Option<usize> {
        let raft = process.node.raft();
        let last = raft.log().last().index;
        if raft.role() != RoleName::Leader || batch.new_from > last {
            return None;
        }
        let own = raft.log().after(raft.commit_index()).iter().filter(|entry| entry.term == raft.term());
        let (bytes, largest) = own.fold((0, 0), |(bytes, largest), entry| {
            (bytes + entry.size_bytes(), entry.size_bytes().max(largest))
        });
        (bytes > self.core.max_uncommitted_bytes + 2 * largest).then_some(bytes)
    }
}

/// One entry may be larger than the limit.
fn fits<'a>(entries: impl Iterator<Item = &'a Entry> + Clone, max_bytes: usize) -> bool {
    entries.clone().count() <= 1 || entries.map(Entry::size_bytes).sum::<usize>() <= max_bytes
}
