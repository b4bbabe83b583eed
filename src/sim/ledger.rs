//! What must hold after every event, of all nodes and for all time. A node's own invariants are asserted in
//! the core; here is what takes the whole cluster, its disks and its past to know.
//!
//! Each check costs what has changed, not what there is: a log's prefix is judged once. Log Matching (P2) is
//! asked in a stronger form that makes this possible: an `EntryId` has, for all time and on all nodes, one
//! content and one predecessor. Two logs with the same id are then equal up to there, by induction.

use super::machine::Machine;
use super::members::Members;
use super::process::{Batch, Effect, Process};
use super::snapshots::Restored;
use super::sometimes::Sometimes;
use super::{Checked, Violation};
use crate::node::{OperationOutcome, Rejection, Work};
use crate::raft::{Body, HardState, Message, Note, RaftState, RoleName};
use crate::types::{Entry, EntryId, NodeId, RequestId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What a single batch may send beside what answers its events: a bound on memory (P12).
const MAX_EXTRA_SENDS: usize = 200;

/// All that was ever true.
pub(super) struct Ledger {
    pub members: Members,
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that ever stood in any log, with its predecessor.
    entries: BTreeMap<EntryId, (Entry, EntryId)>,
    /// Where each request was seen first.
    proposed: BTreeMap<RequestId, EntryId>,
    /// The committed log, each entry with the term of the node that first knew.
    pub committed: Vec<(Entry, Term)>,
    /// The last request of each start of a node in the committed log.
    newest_requests: BTreeMap<(NodeId, u64), u64>,
    committed_requests: BTreeSet<RequestId>,
    /// Of whom a client was told that nothing was done, nor ever will be.
    void: BTreeSet<RequestId>,
    /// The state's hash after each index.
    pub hashes: Vec<u64>,
    /// What the stores held of which snapshots were taken, by the last entry that was applied.
    stores: BTreeMap<EntryId, Restored>,
    /// The last piece of a snapshot that a leader has sent to a follower: of which, and where it begins.
    pieces: BTreeMap<(NodeId, NodeId, Term), (EntryId, u64)>,
    /// The highest number that was forwarded, by sender, boot and term.
    forwarded: BTreeMap<(NodeId, u64, Term), u64>,
}

type Machines = BTreeMap<NodeId, Machine>;

impl Ledger {
    /// Of a cluster of these nodes.
    pub fn of(first: Vec<NodeId>) -> Ledger {
        Ledger {
            members: Members::of(first),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            proposed: BTreeMap::new(),
            committed: Vec::new(),
            newest_requests: BTreeMap::new(),
            committed_requests: BTreeSet::new(),
            void: BTreeSet::new(),
            hashes: Vec::new(),
            stores: BTreeMap::new(),
            pieces: BTreeMap::new(),
            forwarded: BTreeMap::new(),
        }
    }

    /// After a batch of node `id`.
    pub fn check_batch(
        &mut self,
        machines: &mut Machines,
        id: NodeId,
        batch: &Batch,
        sometimes: &mut Sometimes,
    ) -> Checked {
        let Some(machine) = machines.get(&id) else { return Ok(()) };
        let Some(process) = &machine.process else { return Ok(()) };
        let raft = process.node.raft();
        self.one_leader_a_term(raft, batch, sometimes)?;
        self.entries_are_unique(raft, batch, sometimes)?;
        monotone(machine, batch)?;
        self.check_effects(machine, batch, sometimes)?;
        self.base_is_committed(raft)?;
        self.committed_entries_stay(machines, id, batch, sometimes)?;
        self.operators_are_told_the_truth(batch, sometimes)?;
        self.leaders_are_complete(machines, id)?;
        if let Some(process) = machines.get_mut(&id).and_then(|machine| machine.process.as_mut()) {
            let raft = process.node.raft();
            process.committed = raft.commit_index();
            process.transferring_ticks = transferring_ticks(process, batch)?;
            let raft = process.node.raft();
            process.led_term = (raft.role() == RoleName::Leader).then_some(raft.term());
        }
        Ok(())
    }

    /// P1, over all time. Where a batch fails in which a term begins, that term may never have been.
    fn one_leader_a_term(&mut self, raft: &RaftState, batch: &Batch, sometimes: &mut Sometimes) -> Checked {
        let counts = batch.error.is_none() || raft.term() <= batch.hard_state_before.term;
        if raft.role() != RoleName::Leader || !counts {
            return Ok(());
        }
        let newest = self.leaders.last_key_value().map(|(term, leader)| (*term, *leader));
        if newest.is_some_and(|(term, leader)| term < raft.term() && leader != raft.id()) {
            sometimes.saw("leader changed");
        }
        let first = *self.leaders.entry(raft.term()).or_insert(raft.id());
        if first != raft.id() {
            let what = format!("two leaders in term {}: {first} and {}", raft.term(), raft.id());
            return Err(Violation::new("P1", what));
        }
        Ok(())
    }

    /// P2: see the head of this file. A leader by its own vote alone appends in the same batch in which its
    /// term begins. If that batch fails, term and entries may never have been, and come again with another
    /// content.
    fn entries_are_unique(&mut self, raft: &RaftState, batch: &Batch, sometimes: &mut Sometimes) -> Checked {
        let from = batch.new_from.previous();
        let counts = |entry: &&Entry| batch.error.is_none() || entry.term <= batch.hard_state_before.term;
        let mut before = EntryId::new(raft.log().term_at(from).unwrap_or_default(), from);
        for entry in raft.log().after(from).iter().take_while(counts) {
            let (known, known_before) =
                self.entries.entry(entry.id()).or_insert_with(|| (entry.clone(), before));
            if known != entry || *known_before != before {
                let what = format!(
                    "{} has another {} than was seen before, or after {before}",
                    raft.id(),
                    entry.id()
                );
                return Err(Violation::new("P2", what));
            }
            if let Some(request) = entry.request {
                let first = *self.proposed.entry(request).or_insert(entry.id());
                if first != entry.id() && first.term == entry.term {
                    let what = format!("{request} stands at {first} and at {}", entry.id());
                    return Err(Violation::new("P9", what));
                }
                if first != entry.id() {
                    sometimes.saw("proposal proposed again in a newer term");
                }
            }
            before = entry.id();
        }
        Ok(())
    }

    /// P3 and P5: what is committed was on a quorum's disks at that moment, and no other entry ever takes its
    /// place. With it, at most once and in order: the requests of one start of a node.
    fn committed_entries_stay(
        &mut self,
        machines: &Machines,
        id: NodeId,
        batch: &Batch,
        sometimes: &mut Sometimes,
    ) -> Checked {
        let Some(process) = machines.get(&id).and_then(|machine| machine.process.as_ref()) else {
            return Ok(());
        };
        let raft = process.node.raft();
        let from = process.committed.max(raft.log().base().index);
        let count = usize::try_from(raft.commit_index().0 - from.0).unwrap_or(0);
        for entry in raft.log().after(from).iter().take(count) {
            let offset = usize::try_from(entry.index.0).unwrap_or(usize::MAX);
            if let Some((known, _)) = self.committed.get(offset) {
                if known != entry {
                    let what =
                        format!("{id} committed {}, but {} was committed there", entry.id(), known.id());
                    return Err(Violation::new("P5", what));
                }
                continue;
            }
            let copies: Vec<NodeId> = holders(machines, entry.id());
            // Its own save was done, if that is what it counted, also where the batch failed after it.
            let has_saved = machines.get(&id).is_some_and(|machine| machine.may_have(entry.id()));
            // It may have been committed before the batch changed the members, or after.
            let has_it = |other: NodeId| copies.contains(&other) || (has_saved && other == id);
            if !raft.configuration().has_quorum(has_it) && !batch.configuration_before.0.has_quorum(has_it) {
                let what = format!("{id} committed {}, which only {copies:?} have on disk", entry.id());
                return Err(Violation::new("P5", what));
            }
            self.commit(entry, raft.term(), sometimes)?;
        }
        // Figure 8: a leader counts copies for entries of its own term only.
        let has_led = raft.role() == RoleName::Leader && process.led_term == Some(raft.term());
        if has_led && count > 0 && raft.log().term_at(raft.commit_index()) != Some(raft.term()) {
            let what = format!("{raft}: committed an entry of an older term by counting");
            return Err(Violation::new("P5", what));
        }
        Ok(())
    }

    /// P5: what a snapshot took the place of was committed.
    fn base_is_committed(&self, raft: &RaftState) -> Checked {
        let base = raft.log().base();
        if base == EntryId::NONE || self.is_committed(base) {
            return Ok(());
        }
        Err(Violation::new("P5", format!("{raft}: its log begins after {base}, which is not committed")))
    }

    fn is_committed(&self, id: EntryId) -> bool {
        let offset = usize::try_from(id.index.0).unwrap_or(usize::MAX);
        self.committed.get(offset).is_some_and(|(entry, _)| entry.id() == id)
    }

    fn commit(&mut self, entry: &Entry, term: Term, sometimes: &mut Sometimes) -> Checked {
        if entry.term < term {
            sometimes.saw("old-term entry committed by a newer leader");
        }
        if let Some(request) = entry.request {
            if self.void.contains(&request) {
                let what =
                    format!("{request} was answered as never carried out, and {} is committed", entry.id());
                return Err(Violation::new("P10", what));
            }
            let RequestId { node, boot, number } = request;
            let newest = self.newest_requests.insert((node, boot), number);
            if newest.is_some_and(|newest| newest >= number) {
                let what = format!("{request} is committed at {} after number {newest:?}", entry.id());
                return Err(Violation::new("P9", what));
            }
            self.committed_requests.insert(request);
        }
        self.members.commit(entry, sometimes)?;
        self.committed.push((entry.clone(), term));
        Ok(())
    }

    /// P3: whoever begins to lead has all that was committed in earlier terms, and whoever leads a later term
    /// than one in which something is committed has that.
    fn leaders_are_complete(&self, machines: &Machines, id: NodeId) -> Checked {
        let Some(process) = machines.get(&id).and_then(|machine| machine.process.as_ref()) else {
            return Ok(());
        };
        let raft = process.node.raft();
        let has_begun = raft.role() == RoleName::Leader && process.led_term != Some(raft.term());
        if has_begun {
            lacks_nothing(raft, &self.committed)?;
        }
        if raft.commit_index() > process.committed {
            let from = usize::try_from(process.committed.0 + 1).unwrap_or(0).min(self.committed.len());
            for leader in machines.values().filter_map(|machine| machine.process.as_ref()) {
                lacks_nothing(leader.node.raft(), &self.committed[from..])?;
            }
        }
        Ok(())
    }

    /// P8, P10, P12.
    fn check_effects(&mut self, machine: &Machine, batch: &Batch, sometimes: &mut Sometimes) -> Checked {
        let before = (batch.hard_state_before, batch.last_before);
        let after = (machine.durable.hard_state, machine.durable.last());
        let effects = batch.before_save.iter().map(|effect| (effect, before));
        let effects = effects.chain(batch.after_save.iter().map(|effect| (effect, after)));
        let mut sends = 0;
        for (effect, durable) in effects {
            match effect {
                Effect::Send(envelope) => {
                    sends += 1;
                    speaks_of_what_is_saved(durable, &envelope.message)?;
                    self.watch(envelope.boot, &envelope.message, sometimes);
                }
                // A node that began anew gives its requests the names of those that were.
                Effect::Reject(..) if machine.lost.is_some() => {}
                Effect::Reject(ticket, Rejection::Busy | Rejection::Unavailable) => {
                    let waiting = machine.process.as_ref().map(|process| &process.waiting);
                    if let Some(Some(request)) = waiting.and_then(|waiting| waiting.get(&ticket.number)) {
                        self.is_void(*request)?;
                    }
                }
                Effect::Reject(_, Rejection::Timeout) | Effect::Settle(..) => {}
                Effect::Work(Work::Install(_)) => {}
                Effect::Work(Work::Apply(work)) => {
                    let waiting = machine.process.as_ref().map(|process| &process.waiting);
                    for (entry, ticket) in &work.entries {
                        let Some(ticket) = ticket else { continue };
                        let name = waiting.and_then(|waiting| waiting.get(&ticket.number)).copied().flatten();
                        if name.is_none() || name != entry.request {
                            let what = format!("{name:?} gets the answer to {:?}", entry.request);
                            return Err(Violation::new("P9", what));
                        }
                    }
                }
            }
        }
        if sends > batch.events + MAX_EXTRA_SENDS {
            return Err(Violation::new("P12", format!("{} sends {sends} messages in one batch", machine.id)));
        }
        Ok(())
    }

    /// P10, for operators: a change that was begun is committed.
    fn operators_are_told_the_truth(&mut self, batch: &Batch, sometimes: &mut Sometimes) -> Checked {
        for effect in batch.before_save.iter().chain(&batch.after_save) {
            let Effect::Settle(ticket, outcome) = effect else { continue };
            self.members.told(ticket.number, outcome, sometimes);
            if let OperationOutcome::ChangeBegun(entry) = outcome
                && !self.is_committed(*entry)
            {
                return Err(Violation::new("P10", format!("{entry} begins a change, and is not committed")));
            }
        }
        Ok(())
    }

    fn is_void(&mut self, request: RequestId) -> Checked {
        self.void.insert(request);
        if self.committed_requests.contains(&request) {
            let what = format!("{request} is committed, and answered as never carried out");
            return Err(Violation::new("P10", what));
        }
        Ok(())
    }

    fn watch(&mut self, boot: u64, message: &Message, sometimes: &mut Sometimes) {
        match &message.body {
            Body::ForwardProposals(forward) => {
                let count = u64::try_from(forward.proposals.len()).unwrap_or(u64::MAX);
                let highest = self.forwarded.entry((message.from, boot, message.term)).or_default();
                if forward.first_number < *highest {
                    sometimes.saw("forward sent again");
                }
                *highest = (*highest).max(forward.first_number + count);
            }
            Body::ReadIndexRequest(_) => sometimes.saw("read forwarded"),
            Body::InstallSnapshot(request) if !request.lines.is_empty() => {
                let link = (message.from, message.to, message.term);
                self.watch_piece(link, request.snapshot, request.offset, sometimes);
            }
            Body::RequestVote(_)
            | Body::RequestVoteResponse(_)
            | Body::AppendEntries(_)
            | Body::AppendEntriesResponse(_)
            | Body::InstallSnapshot(_)
            | Body::InstallSnapshotResponse(_)
            | Body::TimeoutNow(_)
            | Body::ForwardProposalsResponse(_)
            | Body::ReadIndexResponse(_) => {}
        }
    }

    fn watch_piece(
        &mut self,
        link: (NodeId, NodeId, Term),
        snapshot: EntryId,
        offset: u64,
        sometimes: &mut Sometimes,
    ) {
        match self.pieces.insert(link, (snapshot, offset)) {
            Some((before, _)) if before != snapshot => {
                sometimes.saw("snapshot under way replaced by a newer one");
            }
            Some((_, before)) if before > 0 && offset == 0 => sometimes.saw("install begun anew"),
            Some((_, before)) if before > 0 && offset == before => sometimes.saw("install resumed"),
            Some((_, before)) if before < offset => sometimes.saw("snapshot sent in several pieces"),
            Some(_) | None => {}
        }
    }

    /// P4 and P15: a store that is written as a snapshot, or made of one, is what all nodes have there.
    pub fn stands_for(&mut self, id: NodeId, store: Restored) -> Checked {
        let Restored { last, applied_hash, .. } = store;
        if !self.is_committed(last) {
            return Err(Violation::new("P4", format!("{id} has a store of {last}, which is not committed")));
        }
        let offset = usize::try_from(last.index.0).unwrap_or(usize::MAX);
        let hash = self.hashes.get(offset).copied();
        let first = *self.stores.entry(last).or_insert(store);
        if hash == Some(applied_hash) && first == store {
            return Ok(());
        }
        let what = format!("{id} has {store:x?} after {last}, others had {hash:x?} and {first:x?}");
        Err(Violation::new("P15", what))
    }

    /// P4 and P15: one state an index, on all nodes and after every start.
    pub fn applied(&mut self, id: NodeId, entry: &Entry, hash: u64) -> Checked {
        let offset = usize::try_from(entry.index.0).unwrap_or(usize::MAX);
        match self.committed.get(offset) {
            Some((committed, _)) if committed == entry => {}
            known => {
                let known = known.map(|(known, _)| known.id());
                let what = format!("{id} applied {}, but committed is {known:?}", entry.id());
                return Err(Violation::new("P4", what));
            }
        }
        match self.hashes.get(offset) {
            None => self.hashes.push(hash),
            Some(first) if *first == hash => {}
            Some(first) => {
                let what =
                    format!("{id} has {hash:016x} after {}, another node had {first:016x}", entry.id());
                return Err(Violation::new("P15", what));
            }
        }
        Ok(())
    }
}

/// Who has an entry on disk.
pub(super) fn holders(machines: &Machines, id: EntryId) -> Vec<NodeId> {
    machines.values().filter(|machine| machine.has(id)).map(|machine| machine.id).collect()
}

fn lacks_nothing(raft: &RaftState, committed: &[(Entry, Term)]) -> Checked {
    if raft.role() != RoleName::Leader {
        return Ok(());
    }
    for (entry, _) in committed.iter().filter(|(_, term)| *term < raft.term()) {
        if !raft.log().contains(entry.id()) {
            return Err(Violation::new("P3", format!("{raft}: leads without the committed {}", entry.id())));
        }
    }
    Ok(())
}

/// P6, P7, P12: what one node may never do from one batch to the next.
fn monotone(machine: &Machine, batch: &Batch) -> Checked {
    let Some(process) = &machine.process else { return Ok(()) };
    let raft = process.node.raft();
    let (before, now) = (batch.hard_state_before, machine.durable.hard_state);
    let same_vote = now.term > before.term || before.voted_for.is_none() || before.voted_for == now.voted_for;
    if now.term < before.term || !same_vote {
        return Err(Violation::new("P6", format!("{raft}: {now:?} on disk after {before:?}")));
    }
    if raft.commit_index() < process.committed {
        return Err(Violation::new("P6", format!("{raft}: committed was {}", process.committed)));
    }
    let applied = process.store.last_applied();
    if raft.last_applied() > applied
        || applied > raft.commit_index()
        || raft.commit_index() > raft.log().last().index
    {
        return Err(Violation::new("P7", format!("{raft}: the store has applied {applied}")));
    }
    Ok(())
}

/// P11: the lead is handed over within an election timeout, or not at all.
fn transferring_ticks(process: &Process, batch: &Batch) -> Result<u64, Violation> {
    let raft = process.node.raft();
    let has_begun = batch.notes.iter().any(|noted| matches!(noted.note, Note::TransferBegun { .. }));
    if !raft.is_transferring() || has_begun {
        return Ok(0);
    }
    let ticks = process.transferring_ticks + batch.ticks;
    if ticks > u64::from(raft.settings().election_timeout_max_ticks) {
        return Err(Violation::new(
            "P11",
            format!("{raft}: has been handing the lead over for {ticks} ticks"),
        ));
    }
    Ok(ticks)
}

/// P8: nothing leaves before it is on the sender's disk.
fn speaks_of_what_is_saved((hard_state, last): (HardState, EntryId), message: &Message) -> Checked {
    match message.unsaved_claim(hard_state, last.index) {
        Some(what) => Err(Violation::new("P8", what)),
        None => Ok(()),
    }
}
