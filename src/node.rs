//! `Node`: the consensus core, its disk and the clients that wait, and the one order in which decisions are
//! carried out. No thread, no socket, no clock of its own: the server drives it with real ones, a simulation
//! with its own.
//!
//! ```text
//!   take(event) ... take(event)  finish_batch
//!        |              |             |
//!        v              v             v
//!      step           step        step BatchEnd -> Output
//!                                     |
//!                                     1. send `now`          a leader's AppendEntries (thesis 10.2.1)
//!                                     2. save                one write, one sync; step Saved
//!                                     3. send the rest       what speaks of the saved
//!                                     4. publish             notes, refusals, reads, Work
//!                                     5. keep house          snapshots received, taken, durable
//! ```
//!
//! The order is the safety argument: nothing that speaks of a vote, a term or an entry leaves before it is on
//! stable storage, and nobody hears of a commit before the sync that it counts on. What may leave
//! before the save speaks only of what was saved earlier: a leader's term was saved with its campaign, and
//! its entries count for nothing here until they are saved. If the save fails, the process ends, and in that
//! term this node never leads again.

mod divergence;
mod greetings;
mod house;
mod operations;
mod reads;
mod snapshots;
mod writes;

pub use divergence::Diverged;
pub use greetings::{Greeting, TurnedAway};
pub use operations::{Operation, OperationOutcome};
pub use snapshots::LogLimits;

use crate::raft::{Body, Input, Message, Note, Output, PeerProgress, RaftState, Refusal, RoleName};
use crate::storage::{Disk, SnapshotMeta, Storage, StorageError, Unsound};
use crate::types::{AppliedState, Command, Configuration, Entry, EntryId, Index, NodeId, RequestId, Term};
use crate::wire::peer::Envelope;
use divergence::Divergence;
use greetings::Greeted;
use operations::Operations;
use reads::Reads;
use snapshots::Snapshots;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use writes::Writes;

/// What can happen to a node. `T` is whatever the rim wants back with an answer.
#[derive(Debug)]
pub enum Event<T> {
    /// A unit of time has passed.
    Tick,
    /// A peer's message, already checked.
    Peer(Envelope),
    /// A client's write, already checked.
    Write {
        /// The command's text.
        command: Command,
        /// Who waits.
        ticket: T,
    },
    /// A client's linearizable read.
    Read {
        /// Who waits, and for what.
        ticket: T,
    },
    /// What an operator wants.
    Operation {
        /// What.
        operation: Operation,
        /// Who waits.
        ticket: T,
    },
    /// A snapshot that the application was asked for is durable.
    SnapshotWritten {
        /// The last entry that it covers.
        last: EntryId,
    },
    /// The application has applied this much, or installed a snapshot up to here, and wants more. It has at
    /// most one poll outstanding.
    Poll {
        /// The application's `last_applied`.
        last_applied: Index,
        /// Its `applied_hash` after each of the entries that it was given since its last poll; of a snapshot
        /// that it installed, only the one at its end.
        applied_hashes: Vec<u64>,
    },
}

/// What the application gets for its poll.
#[derive(Debug)]
pub enum Work<T> {
    /// To be applied.
    Apply(Apply<T>),
    /// To be taken in place of all that was applied so far.
    Install(Install),
}

/// What is to be applied.
#[derive(Debug)]
pub struct Apply<T> {
    /// Committed entries, the first of which follows the poll's `last_applied`, each with who waits for it
    /// here.
    pub entries: Vec<(Entry, Option<T>)>,
    /// Reads that may be served once these entries are applied.
    pub reads: Vec<T>,
    /// Then a view of the store is to be handed out, before the next poll, and written as a snapshot under
    /// this configuration, which is in force at its end.
    pub snapshot: Option<Configuration>,
}

/// A snapshot to be installed.
pub struct Install {
    /// What it says of itself.
    pub meta: SnapshotMeta,
    /// Its lines of content.
    pub lines: SnapshotLines,
}

/// Lines of content of a snapshot, which are checked while they are read.
pub type SnapshotLines = Box<dyn Iterator<Item = Result<String, StorageError>> + Send>;

impl fmt::Debug for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Install").field("meta", &self.meta).finish_non_exhaustive()
    }
}

/// Why a client gets an error instead of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A limit is reached; nothing was done.
    Busy,
    /// Certainly not carried out, and never will be.
    Unavailable,
    /// No outcome in time.
    Timeout,
}

/// Why a node must not go on.
#[derive(Debug)]
pub enum Fault {
    /// Its disk.
    Disk(StorageError),
    /// Its store, which differs from the others'.
    Diverged(Diverged),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Disk(error) => fmt::Display::fmt(error, f),
            Fault::Diverged(diverged) => fmt::Display::fmt(diverged, f),
        }
    }
}

impl std::error::Error for Fault {}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Fault {
        Fault::Disk(error)
    }
}

/// Where a node's decisions go. Nothing here may block.
pub trait Rim<T> {
    /// To a peer. May be lost.
    fn send(&mut self, envelope: Envelope);
    /// To the application, which has polled.
    fn work(&mut self, work: Work<T>);
    /// To a client.
    fn reject(&mut self, ticket: T, rejection: Rejection);
    /// To an operator.
    fn settle(&mut self, ticket: T, outcome: OperationOutcome);
    /// Other members are in force: messages may go to them from now on. Once that is committed, none will go
    /// to anyone else.
    fn members(&mut self, configuration: &Configuration, is_committed: bool);
    /// Nobody needs these entries any more. To drop many takes time.
    fn forget(&mut self, entries: Vec<Entry>) {
        drop(entries);
    }
    /// A peer that was heard is not any more: its connections are to be ended, so that it greets again and
    /// hears why.
    fn turn_away(&mut self, why: &TurnedAway);
    /// To the log: what a peer sent as a snapshot is none, and was dropped.
    fn unsound(&mut self, snapshot: EntryId, unsound: &Unsound);
    /// To the log. `event` numbers this node's events within its boot; `term` is the term it happened in.
    fn note(&mut self, event: u64, term: Term, note: &Note);
}

/// Limits and times of a node.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Ticks that a client waits for an outcome.
    pub request_timeout_ticks: u64,
    /// Writes and reads that may wait at once.
    pub max_waiting: usize,
    /// Bytes of entries in one [`Work`], unless a single entry is larger.
    pub max_work_bytes: usize,
    /// Bytes of a snapshot in one message, unless a single line is longer.
    pub max_chunk_bytes: usize,
    /// When the log is long enough for a snapshot.
    pub log_limits: LogLimits,
}

/// What `status` shows of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Who it is.
    pub id: NodeId,
    /// What it is.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Committed up to here.
    pub commit_index: Index,
    /// The first index that the log keeps.
    pub first_index: Index,
    /// The last index of the log.
    pub last_index: Index,
    /// What a leader knows of the others.
    pub progress: Vec<PeerProgress>,
    /// Who belongs to the cluster.
    pub configuration: Arc<Configuration>,
    /// Where that stands in the log; none when the log begins under it.
    pub configuration_index: Index,
}

impl NodeStatus {
    /// Of this state of the core.
    pub fn of(raft: &RaftState) -> NodeStatus {
        NodeStatus {
            id: raft.id(),
            role: raft.role(),
            term: raft.term(),
            leader: raft.leader(),
            commit_index: raft.commit_index(),
            first_index: raft.log().first_index(),
            last_index: raft.log().last().index,
            progress: raft.progress(),
            configuration: raft.shared_configuration(),
            configuration_index: raft.configuration_index(),
        }
    }
}

/// One node of the cluster.
pub struct Node<D: Disk, T> {
    raft: RaftState,
    /// The start counter that this start's messages carry. Requests carry that of its life, which may begin
    /// while it runs.
    boot: u64,
    storage: Storage<D>,
    settings: NodeSettings,
    output: Output,
    writes: Writes<T>,
    reads: Reads<T>,
    divergence: Divergence,
    snapshots: Snapshots<T>,
    operations: Operations<T>,
    /// A snapshot whose last piece was written in this batch.
    received: Option<EntryId>,
    /// What the log begins after, when that was received and the application has not got it yet.
    to_install: Option<SnapshotMeta>,
    /// The members that were looked at last.
    members_kept: Arc<Configuration>,
    /// What peers have said of themselves.
    greeted: Greeted,
    /// The application waits for work.
    is_polling: bool,
    /// The last entry that the application was given.
    handed_out: Index,
    now_tick: u64,
    event_number: u64,
    /// The term of the newest note.
    noted_term: Term,
}

impl<D: Disk<File: Send + 'static>, T> Node<D, T> {
    /// A node that has just started, its `boot` counter already raised and saved.
    pub fn new(mut raft: RaftState, boot: u64, storage: Storage<D>, settings: NodeSettings) -> Node<D, T> {
        let mut output = Output::default();
        let identity = storage.identity();
        for (peer, incarnation) in identity.peers.iter().chain([(&identity.node, &identity.incarnation)]) {
            raft.step(Input::Remembered { peer: *peer, incarnation: *incarnation }, &mut output);
        }
        let divergence = Divergence::new(raft.last_applied(), raft.settings().heartbeat_ticks);
        Node {
            handed_out: raft.last_applied(),
            noted_term: raft.term(),
            raft,
            boot,
            storage,
            output,
            writes: Writes::new(),
            reads: Reads::new(),
            divergence,
            snapshots: Snapshots::new(settings.log_limits),
            operations: Operations::new(),
            received: None,
            to_install: None,
            members_kept: Arc::default(),
            greeted: Greeted::default(),
            settings,
            is_polling: false,
            now_tick: 0,
            event_number: 0,
        }
    }

    /// The consensus core.
    pub fn raft(&self) -> &RaftState {
        &self.raft
    }

    /// What `status` shows.
    pub fn status(&self) -> NodeStatus {
        NodeStatus::of(&self.raft)
    }

    /// The start counter by which this node's requests are told apart from all others, once it may ask for
    /// anything.
    pub fn request_boot(&self) -> Option<u64> {
        self.storage.request_boot()
    }

    /// Whether this node was a voter that has lost its data, and wants to be let in again.
    pub fn has_lost_data(&self) -> bool {
        self.storage.has_lost_data()
    }

    /// The number of the newest life by which what is committed names this node, or did before this start, if
    /// it knows of one.
    pub fn life(&self) -> Option<u64> {
        self.raft.life(self.storage.identity().incarnation).max(self.storage.life())
    }

    /// Takes an event of a batch. Only [`Node::finish_batch`] lets anything leave, but for a client that
    /// finds this node full.
    pub fn take(&mut self, event: Event<T>, rim: &mut impl Rim<T>) {
        let deadline_tick = self.now_tick + self.settings.request_timeout_ticks;
        match event {
            Event::Tick => {
                self.now_tick += 1;
                self.raft.step(Input::Tick, &mut self.output);
            }
            Event::Peer(Envelope { message, .. }) if !self.greeted.is_heard(message.from) => {}
            Event::Peer(Envelope { applied, message, .. }) => {
                for (node, state) in applied.into_iter().filter(|(node, _)| *node != self.raft.id()) {
                    self.divergence.hear(node, state);
                }
                self.raft.step(Input::Message(message), &mut self.output);
            }
            Event::Write { ticket, .. } | Event::Read { ticket } if self.is_full() => {
                rim.reject(ticket, Rejection::Busy);
            }
            Event::Write { ticket, .. } if self.writes.is_full() => rim.reject(ticket, Rejection::Busy),
            Event::Write { command, ticket } => self.writes.arrive(command, ticket, deadline_tick),
            Event::Read { ticket } => self.reads.arrive(ticket, deadline_tick),
            Event::Operation { operation, ticket } => self.operate(operation, ticket, rim),
            Event::SnapshotWritten { last } => self.snapshots.written(last),
            Event::Poll { last_applied, applied_hashes } => {
                assert_eq!(
                    last_applied, self.handed_out,
                    "the application applies what it was given, all of it"
                );
                self.is_polling = true;
                self.divergence.applied(last_applied, applied_hashes);
                let log = self.raft.log();
                let id_at = |index| log.term_at(index).map(|term| EntryId::new(term, index));
                self.snapshots.applied(last_applied, id_at);
                self.raft.step(Input::Applied { index: last_applied }, &mut self.output);
            }
        }
    }

    fn is_full(&self) -> bool {
        self.writes.waiting() + self.reads.waiting() >= self.settings.max_waiting
    }

    /// Carries out what the batch's events led to: send what may go, save, send the rest, publish. A fault is
    /// final: the node must not be used any more.
    pub fn finish_batch(&mut self, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        self.check_divergence()?;
        self.propose_held_writes();
        // Who has no life yet is not to be taken for another that had one: what clients want waits.
        if self.request_boot().is_some()
            && let Some(number) = self.reads.take_news()
        {
            self.raft.step(Input::Read { number }, &mut self.output);
        }
        self.raft.step(Input::BatchEnd, &mut self.output);
        let mut output = std::mem::take(&mut self.output);
        self.send(std::mem::take(&mut output.now), rim);
        self.send_chunks(std::mem::take(&mut output.chunks_to_send), rim)?;
        if output.needs_save() {
            self.storage.save(&output)?;
        }
        self.write_chunks(&mut output)?;
        self.send(std::mem::take(&mut output.after_save), rim);
        self.publish(&mut output, rim);
        if output.needs_save() {
            self.finish_save(rim)?;
        }
        self.keep_house(rim)?;
        self.expire(rim);
        self.settle_operations(rim);
        self.hand_out_work(rim)
    }

    /// Before anything leaves: whose store cannot be trusted says nothing more.
    fn check_divergence(&mut self) -> Result<(), Fault> {
        let (id, leader, now_tick) = (self.raft.id(), self.raft.leader(), self.now_tick);
        let Some(verdict) = self.divergence.verdict(id, leader, self.raft.configuration(), now_tick) else {
            return Ok(());
        };
        let log = self.raft.log();
        let entry_at = |index| log.term_at(index).map(|term| EntryId::new(term, index));
        Err(Fault::Diverged(self.divergence.describe(id, &verdict, entry_at)))
    }

    /// What the sync made true may commit entries, which the followers are told at once.
    fn finish_save(&mut self, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        let mut output = Output::default();
        let saved = Input::Saved { term: self.raft.term(), last: self.raft.log().last() };
        self.raft.step(saved, &mut output);
        self.raft.step(Input::BatchEnd, &mut output);
        assert!(!output.needs_save(), "a save leads to no other save");
        self.send(std::mem::take(&mut output.now), rim);
        self.send_chunks(std::mem::take(&mut output.chunks_to_send), rim)?;
        self.send(std::mem::take(&mut output.after_save), rim);
        self.publish(&mut output, rim);
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>, rim: &mut impl Rim<T>) {
        for message in messages {
            self.event_number += 1;
            let applied = match &message.body {
                Body::AppendEntries(_) => self.tell_applied(message.to, true),
                Body::AppendEntriesResponse(_) => self.tell_applied(message.to, false),
                Body::RequestVote(_)
                | Body::RequestVoteResponse(_)
                | Body::InstallSnapshot(_)
                | Body::InstallSnapshotResponse(_)
                | Body::TimeoutNow(_)
                | Body::ForwardProposals(_)
                | Body::ForwardProposalsResponse(_)
                | Body::ReadIndexRequest(_)
                | Body::ReadIndexResponse(_) => BTreeMap::new(),
            };
            rim.send(Envelope { boot: self.boot, event: self.event_number, applied, message });
        }
    }

    fn tell_applied(&mut self, peer: NodeId, leads: bool) -> BTreeMap<NodeId, AppliedState> {
        self.divergence.tell(self.raft.id(), peer, leads, self.now_tick)
    }

    fn publish(&mut self, output: &mut Output, rim: &mut impl Rim<T>) {
        for note in std::mem::take(&mut output.notes) {
            self.event_number += 1;
            // A batch can see several terms; each of its notes is told in its own.
            if let Note::TermChanged { to, .. } = note {
                self.noted_term = to;
            }
            rim.note(self.event_number, self.noted_term, &note);
            match note {
                Note::MembersChanged { .. } | Note::Truncated { .. } | Note::SnapshotInstalled { .. } => {
                    rim.members(self.raft.configuration(), false);
                }
                Note::TransferGivenUp { .. } => {
                    if let Some(ticket) = self.operations.take_transfer() {
                        rim.settle(ticket, OperationOutcome::TransferGivenUp);
                    }
                }
                _ => {}
            }
        }
        for (number, outcome) in std::mem::take(&mut output.changes) {
            if let Some((ticket, outcome)) = self.operations.told(number, outcome) {
                rim.settle(ticket, outcome);
            }
        }
        if let Some(why) = output.transfer_refused.take()
            && let Some(ticket) = self.operations.take_transfer()
        {
            rim.settle(ticket, OperationOutcome::TransferRefused(why));
        }
        for (request, term) in std::mem::take(&mut output.proposed) {
            self.writes.stamp(request.number, term);
        }
        for (request, refusal) in std::mem::take(&mut output.refused) {
            match refusal {
                Refusal::NoLeader => self.writes.hold(request.number),
                Refusal::Busy => {
                    if let Some(ticket) = self.writes.resolve(request.number) {
                        rim.reject(ticket, Rejection::Busy);
                    }
                }
            }
        }
        for ready in std::mem::take(&mut output.reads) {
            self.reads.confirm(ready);
        }
    }

    /// Proposes what is held, once a leader is known, in the order of arrival.
    fn propose_held_writes(&mut self) {
        let Some(boot) = self.request_boot() else { return };
        if self.raft.leader().is_none() || self.raft.is_transferring() {
            return;
        }
        if !self.writes.may_propose(self.raft.term()) {
            return;
        }
        while let Some((number, command)) = self.writes.next_to_propose() {
            let request = RequestId { node: self.raft.id(), boot, number };
            self.raft.step(Input::Propose { request, command }, &mut self.output);
        }
    }

    /// Answers those whose time is up and of whom it is certain that nothing was done. The others' connection
    /// answers them itself.
    fn expire(&mut self, rim: &mut impl Rim<T>) {
        for ticket in self.writes.expire(self.now_tick) {
            rim.reject(ticket, Rejection::Unavailable);
        }
        let has_leader = self.raft.leader().is_some() && self.request_boot().is_some();
        let rejection = if has_leader { Rejection::Timeout } else { Rejection::Unavailable };
        for ticket in self.reads.expire(self.now_tick) {
            rim.reject(ticket, rejection);
        }
    }

    /// Answers the application's poll, when there is something for it.
    fn hand_out_work(&mut self, rim: &mut impl Rim<T>) -> Result<(), Fault> {
        if !self.is_polling {
            return Ok(());
        }
        if let Some(meta) = self.to_install.take() {
            return self.hand_out_snapshot(meta, rim);
        }
        let commit_index = self.raft.commit_index();
        let has_work = commit_index > self.handed_out || self.reads.has_servable(self.handed_out);
        if !has_work && !self.is_snapshot_due(self.handed_out) {
            return Ok(());
        }
        let (id, boot) = (self.raft.id(), self.request_boot());
        let own = |request: &RequestId| request.node == id && Some(request.boot) == boot;
        let batch = self.raft.log().batch(self.handed_out.next(), usize::MAX, self.settings.max_work_bytes);
        let mut entries = Vec::new();
        for entry in batch.iter().take_while(|entry| entry.index <= commit_index) {
            entries.push((entry.clone(), self.writes.hand_out(entry, own)));
        }
        if let Some((last, _)) = entries.last() {
            self.handed_out = last.index;
        }
        let snapshot = self.is_snapshot_due(self.handed_out).then(|| {
            self.snapshots.ask(self.handed_out);
            self.raft.configuration_at(self.handed_out).clone()
        });
        self.is_polling = false;
        let reads = self.reads.take_servable(self.handed_out);
        rim.work(Work::Apply(Apply { entries, reads, snapshot }));
        Ok(())
    }
}
