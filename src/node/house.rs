//! What a node does with snapshots and members beside the order of a batch: taking and receiving snapshots,
//! letting go of the log that they cover, and of what is remembered of nodes that have left.

use super::operations::{Operation, OperationOutcome};
use super::snapshots::LogSize;
use super::{Fault, Install, Node, Rejection, Rim, Work};
use crate::raft::{Body, Configuration, Input, MemberChange, Message, Output};
use crate::storage::{Disk, SnapshotMeta};
use crate::types::{EntryId, Index, NodeId};

/// The version of what nodes say to each other that first knew entries that change members.
const MEMBERS_VERSION: u32 = 2;

impl<D: Disk<File: Send + 'static>, T> Node<D, T> {
    /// An operator wants something.
    pub(super) fn operate(&mut self, operation: Operation, ticket: T, rim: &mut impl Rim<T>) {
        match operation {
            Operation::ChangeMembers(change) => {
                if let Some(id) = self.outdated_member(&change) {
                    rim.settle(ticket, OperationOutcome::ChangeTooNew(id));
                    return;
                }
                let request = self.operations.ask(ticket);
                self.raft.step(Input::ChangeMembers { request, change }, &mut self.output);
            }
            Operation::Transfer(heir) => {
                if let Some(earlier) = self.operations.ask_transfer(ticket) {
                    rim.settle(earlier, OperationOutcome::TransferGivenUp);
                }
                self.raft.step(Input::Transfer { heir }, &mut self.output);
            }
            Operation::Snapshot => self.snapshots.want(ticket),
        }
    }

    /// A member that does not know, as far as it is known here, what an entry that changes members is. It
    /// would have to stop there: a rolling upgrade comes first, to its end. Whoever is to leave may stop: it
    /// is often gone already.
    fn outdated_member(&self, change: &MemberChange) -> Option<NodeId> {
        let knows = |id: NodeId| {
            id == self.raft.id()
                || self.greeted.newest_version(id).is_some_and(|newest| newest >= MEMBERS_VERSION)
        };
        let mut staying = self.raft.configuration().members().filter(|id| !change.remove.contains(id));
        staying.find(|id| !knows(*id))
    }

    /// This node has joined, or has lost its data, and the log names it by now by its own incarnation.
    fn vote_from_now_on(&mut self) -> Result<(), Fault> {
        if self.storage.may_vote() {
            return Ok(());
        }
        if self.raft.is_named(self.storage.identity().incarnation) {
            self.storage.allow_vote()?;
            self.raft.step(Input::AllowVote, &mut self.output);
        }
        Ok(())
    }

    /// This node has joined, and what is committed names it by its own incarnation: its clients are heard.
    fn ask_from_now_on(&mut self) -> Result<(), Fault> {
        if self.storage.request_boot().is_some() {
            return Ok(());
        }
        if let Some(life) = self.raft.life(self.storage.identity().incarnation) {
            let boot = self.storage.begin_life(life)?;
            self.raft.step(Input::BeginLife { boot }, &mut self.output);
        }
        Ok(())
    }

    /// Reads the pieces of snapshots that are to be sent, and sends them. One that is gone is asked for again
    /// by its number, and under its new name.
    pub(super) fn send_chunks(&mut self, messages: Vec<Message>, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        for mut message in messages {
            let Body::InstallSnapshot(request) = &mut message.body else {
                panic!("only InstallSnapshot carries a piece of a snapshot");
            };
            let max_bytes = self.settings.max_chunk_bytes;
            if let Some(chunk) = self.storage.read_chunk(request.snapshot, request.offset, max_bytes)? {
                (request.lines, request.is_last) = (chunk.lines, chunk.is_last);
                self.send(vec![message], rim);
            }
        }
        Ok(())
    }

    /// Writes the pieces of a snapshot that were received.
    pub(super) fn write_chunks(&mut self, output: &mut Output) -> Result<(), Fault> {
        for chunk in std::mem::take(&mut output.chunks) {
            self.storage.receive_chunk(chunk.snapshot, chunk.offset, &chunk.lines)?;
            // Nothing follows the last piece but the beginning of a newer snapshot, in place of this one.
            self.received = chunk.is_last.then_some(chunk.snapshot);
        }
        Ok(())
    }

    /// After everything of a batch is carried out, disk and core say the same, and files may come and go.
    pub(super) fn keep_house(&mut self, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        if let Some(snapshot) = self.received.take() {
            self.finish_receiving(snapshot, rim)?;
        }
        if let Some(last) = self.snapshots.taken()
            && last.index > self.raft.log().base().index
        {
            self.storage.begin_whole_segment(last, self.raft.log().after(last.index))?;
        }
        let (base, last_applied) = (self.raft.log().base(), self.raft.last_applied());
        if let Some(last) = self.snapshots.compactable(base, last_applied) {
            self.storage.compact(last)?;
            let output = self.step_and_publish(Input::Compacted { last }, rim);
            rim.forget(output.forgotten);
        }
        let base = self.raft.log().base();
        for ticket in self.snapshots.served(self.handed_out <= base.index) {
            rim.settle(ticket, OperationOutcome::SnapshotTaken(base));
        }
        self.vote_from_now_on()?;
        self.ask_from_now_on()?;
        self.keep_members(rim)
    }

    /// A snapshot is there whole, if it is sound. From when it is durable, a start would use it; so the log
    /// begins after it at once.
    fn finish_receiving(&mut self, snapshot: EntryId, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        let meta = match self.storage.finish_receiving(snapshot)? {
            Ok(meta) => meta,
            Err(unsound) => {
                rim.unsound(snapshot, &unsound);
                self.step_and_publish(Input::SnapshotRefused, rim);
                return Ok(());
            }
        };
        let (last, configuration) = (meta.last, meta.configuration.clone());
        let output = self.step_and_publish(Input::SnapshotReceived { last, configuration }, rim);
        if output.installed == Some(last) {
            self.storage.restart_log(last, self.raft.log().after(last.index))?;
            let operations = self.operations.overtaken(last.index);
            for ticket in self.writes.overtaken(last.term).into_iter().chain(operations) {
                rim.reject(ticket, Rejection::Timeout);
            }
            self.to_install = Some(meta);
        } else {
            self.snapshots.is_durable(last);
        }
        Ok(())
    }

    fn step_and_publish(&mut self, input: Input, rim: &mut impl Rim<T>) -> Output {
        let mut output = Output::default();
        self.raft.step(input, &mut output);
        self.publish(&mut output, rim);
        output
    }

    /// Hands the application the snapshot that the log begins after. It has applied less.
    pub(super) fn hand_out_snapshot(
        &mut self,
        meta: SnapshotMeta,
        rim: &mut impl Rim<T>,
    ) -> Result<(), Fault> {
        let lines = self.storage.open_snapshot(meta.last)?;
        let lines = lines.unwrap_or_else(|| panic!("the snapshot of {} is gone", meta.last));
        self.handed_out = meta.last.index;
        self.is_polling = false;
        rim.work(Work::Install(Install { meta, lines: Box::new(lines) }));
        Ok(())
    }

    /// Whether a snapshot is to be taken of what is applied up to `applied`.
    pub(super) fn is_snapshot_due(&self, applied: Index) -> bool {
        let entries = u64::try_from(applied.0 - self.raft.log().base().index.0).unwrap_or(0);
        let size = LogSize { bytes: self.storage.log_bytes(), entries };
        self.snapshots.is_due(size, self.raft.is_sending_snapshot())
    }

    /// Who was met before this node knew that it belongs to the cluster is remembered from now on, so that it
    /// would be known again with another folder. Whoever the log names by another than it has shown is not
    /// heard from now on: who has just joined meets others before it can know who they are. A node that has
    /// left may come back with another, once it is certain that it has left.
    fn keep_members(&mut self, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        let configuration = self.raft.shared_configuration();
        if configuration == self.members_kept {
            // The same one once more, when the log begins after it.
            self.members_kept = configuration;
            return Ok(());
        }
        for (peer, incarnation) in self.raft.met().clone() {
            if configuration.is_member(peer) && configuration.incarnation_of(peer).is_none() {
                self.remember(peer, incarnation)?;
            }
        }
        for stranger in self.greeted.look_again(&self.raft) {
            rim.turn_away(&stranger);
        }
        let is_committed = self.raft.configuration_index() <= self.raft.commit_index();
        // Who leads belongs to the cluster: where it does not, this log has not come to that yet, and whoever
        // it does not name may be needed.
        let is_recent = self.raft.leader().is_some_and(|leader| configuration.is_member(leader));
        if is_committed && is_recent {
            self.forget_those_who_left(&configuration)?;
            rim.members(&configuration, true);
            self.members_kept = configuration;
        }
        Ok(())
    }

    fn forget_those_who_left(&mut self, configuration: &Configuration) -> Result<(), Fault> {
        let kept = &self.members_kept;
        let named = kept.members().filter_map(|peer| Some((peer, kept.incarnation_of(peer)?)));
        let remembered =
            self.storage.identity().peers.iter().map(|(peer, incarnation)| (*peer, *incarnation));
        let known = named.chain(remembered).filter(|(peer, _)| !configuration.is_member(*peer));
        for (peer, incarnation) in known.collect::<Vec<_>>() {
            self.raft.step(Input::Left { peer, incarnation }, &mut self.output);
        }
        Ok(self.storage.forget_peers(|peer| !configuration.is_member(peer))?)
    }

    /// Answers operators whose wish has come to something.
    pub(super) fn settle_operations(&mut self, rim: &mut impl Rim<T>) {
        let (log, commit_index) = (self.raft.log(), self.raft.commit_index());
        let fate = |entry: EntryId| {
            // Who waits for what lies before the base has been told that no one can say what stood there.
            let is_known = entry.index > log.base().index && entry.index <= commit_index;
            is_known.then(|| log.contains(entry))
        };
        for (ticket, outcome) in self.operations.settled(fate) {
            rim.settle(ticket, outcome);
        }
        if let Some(leader) = self.raft.leader().filter(|leader| *leader != self.raft.id())
            && let Some(ticket) = self.operations.take_transfer()
        {
            rim.settle(ticket, OperationOutcome::Transferred(leader));
        }
    }
}
