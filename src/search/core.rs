//! One node of a search: the real `RaftState` and its disk, driven in the order in which `Node` does it.
//!
//! ```text
//!   act -> step, BatchEnd -> send `now` -> save -> send `after_save` -> step Saved, BatchEnd -> send
//!                                      ^
//!                                      a crash here leaves any part of the save on disk ("torn")
//! ```
//!
//! Other moments of a crash need no case of their own: before the batch, or after the save with messages that
//! did not leave, is the same as a crash between batches with messages that are never delivered.

use super::lives::Folder;
use super::seen::Seen;
use super::{Change, Fault};
use crate::raft::message::{AppendOutcome, Conflict, RequestVoteResponse};
use crate::raft::{
    Body, Configuration, HardState, Input, Log, MemberChange, Message, Note, Output, RaftState, ReadReady,
    Renaming, RoleName, Settings, Start,
};
use crate::types::{Command, EntryId, Index, Member, NodeId, RequestId, SnapshotLine};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is on a node's stable storage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Disk {
    pub hard_state: HardState,
    pub log: Log,
    /// The one that the log begins under: the first one, or the snapshot's.
    pub configuration: Configuration,
    pub folder: Folder,
}

/// A node without what it has sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Core {
    pub raft: RaftState,
    pub disk: Disk,
    /// What was on the disk that it lost.
    pub lost: Option<Log>,
    /// How many writes it has asked for in this start, where a node may come back as another.
    writes: u64,
}

/// What can happen to a node, messages given in full.
pub(super) enum Event<'a> {
    /// A leader's timer: heartbeats.
    Heartbeat,
    /// An election timeout passes without news, and it campaigns. A leader steps down first.
    Campaign,
    /// It stops and starts again from its disk.
    Crash,
    /// It stops, loses all that is on its disk, and starts again, with `--rejoin`.
    Wipe,
    /// One that has lost its data greets it, in this life.
    Greeting(NodeId, Option<u64>),
    /// It makes a snapshot, and the log before it goes.
    Compact,
    /// An operator wants members changed.
    Change(Change),
    /// An operator wants this node to lead.
    Transfer(NodeId),
    /// A client asks it to read; all its reads up to this number wait.
    Read(u64),
    /// A client asks it to write. No two writes have the same value.
    Propose(u64),
    /// A message arrives.
    Deliver(&'a Message),
    /// A message arrives after so much time without other news that no leader is held for alive any more; a
    /// leader has stepped down.
    DeliverLate(&'a Message),
}

/// How a batch ends.
pub(super) struct Ending {
    pub core: Core,
    /// The batch ended in a crash during its save.
    pub is_torn: bool,
    pub sent: Vec<Message>,
    pub reads: Vec<ReadReady>,
    pub notes: Vec<Note>,
}

impl Core {
    /// A node that starts for the first time.
    pub fn new(id: NodeId, configuration: Configuration, settings: &Settings) -> Core {
        let folder = Folder::first(configuration.voters().filter(|peer| *peer != id));
        Core::started(id, 1, Disk { configuration, ..Disk::empty(folder) }, settings)
    }

    fn started(id: NodeId, boot: u64, disk: Disk, settings: &Settings) -> Core {
        let Disk { hard_state, log, configuration, folder } = disk.clone();
        let start = Start { id, boot, configuration, hard_state, log, may_vote: folder.may_vote, seed: 0 };
        let mut raft = RaftState::new(start, settings.clone());
        raft.forget_time();
        disk.folder.remind(&mut raft);
        Core { raft, disk, lost: None, writes: 0 }
    }

    /// The same node after a restart from `disk`. A start counts only where messages name it.
    fn restarted(&self, disk: Disk, rules: &Rules) -> Core {
        let boot = self.raft.boot() + u64::from(rules.starts_count);
        let lost = self.lost.clone();
        Core { lost, ..Core::started(self.raft.id(), boot, disk, &rules.settings) }
    }

    /// What comes after this node when it has lost its disk.
    fn wiped(&self, rules: &Rules) -> Core {
        let lost = Some(self.disk.log.clone());
        let disk = Disk::empty(Folder::rejoining());
        Core { lost, ..Core::started(self.raft.id(), 1, disk, &rules.settings) }
    }

    /// The same node in a cluster whose nodes have other names.
    pub fn renamed(&self, new: Renaming) -> Core {
        let disk = Disk {
            hard_state: HardState {
                voted_for: self.disk.hard_state.voted_for.map(new),
                ..self.disk.hard_state
            },
            log: self.disk.log.renamed(new),
            configuration: self.disk.configuration.renamed(new),
            folder: self.disk.folder.renamed(new),
        };
        let lost = self.lost.as_ref().map(|lost| lost.renamed(new));
        Core { raft: self.raft.renamed(new), disk, lost, writes: self.writes }
    }

    /// All ways in which this can go, or what it breaks: a property of one node (P6, P8), or an invariant
    /// that the core itself asserts.
    pub fn take(&self, event: &Event, rules: &Rules) -> Result<Vec<Ending>, Fault> {
        let taken = catch_unwind(AssertUnwindSafe(|| self.run_batch(event, rules)));
        taken.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text");
            Err(Fault::new("invariant", text.to_owned()))
        })
    }

    fn run_batch(&self, event: &Event, rules: &Rules) -> Result<Vec<Ending>, Fault> {
        if let Event::Crash = event {
            return Ok(vec![Ending::silent(self.restarted(self.disk.clone(), rules), Vec::new())]);
        }
        if let Event::Wipe = event {
            return Ok(vec![Ending::silent(self.wiped(rules), Vec::new())]);
        }
        if let Event::Compact = event {
            return Ok(vec![self.compacted()]);
        }
        // What a greeting leaves on disk is there before anything else of the batch.
        let mut base = self.clone();
        let mut output = Output::default();
        match event {
            Event::Greeting(peer, life) => base.is_greeted(*peer, *life, rules, &mut output),
            Event::Propose(_) if rules.has_lives => base.writes += 1,
            _ => {}
        }
        let mut raft = std::mem::replace(&mut base.raft, self.raft.clone());
        run_inputs(&mut raft, event, self.writes, rules, &mut output);
        output.after_save.retain(|message| rules.travels(message));
        base.carry_out(raft, output, rules)
    }

    /// The same node when a snapshot of all that it has applied is durable. The others hear of that when they
    /// need what is gone.
    fn compacted(&self) -> Ending {
        let Core { mut raft, mut disk, .. } = self.clone();
        let index = raft.commit_index();
        let last = raft.log().term_at(index).map(|term| EntryId::new(term, index));
        let mut output = Output::default();
        if let Some(last) = last.filter(|last| last.index > disk.log.base().index) {
            disk.configuration = raft.configuration_at(index).clone();
            disk.log.compact(last);
            raft.step(Input::Compacted { last }, &mut output);
            raft.forget_time();
        }
        Ending::silent(Core { raft, disk, ..self.clone() }, output.notes)
    }

    fn carry_out(
        &self,
        mut raft: RaftState,
        mut output: Output,
        rules: &Rules,
    ) -> Result<Vec<Ending>, Fault> {
        let mut now = std::mem::take(&mut output.now);
        now.extend(self.disk.with_lines(std::mem::take(&mut output.chunks_to_send)));
        now.iter().try_for_each(|message| self.disk.covers(message))?;
        let mut disk = self.disk.saved(&output, usize::MAX);
        self.disk.may_become(&disk)?;
        let mut endings = self.torn_endings(&now, &output, rules);

        let (mut sent, mut notes) = (now, std::mem::take(&mut output.notes));
        sent.append(&mut output.after_save);
        if output.needs_save() {
            let mut second = Output::default();
            raft.step(Input::Saved { term: raft.term(), last: raft.log().last() }, &mut second);
            raft.step(Input::BatchEnd, &mut second);
            if second.needs_save() {
                return Err(Fault::new("P8", format!("{raft}: a save leads to another save")));
            }
            sent.append(&mut second.now);
            sent.extend(disk.with_lines(std::mem::take(&mut second.chunks_to_send)));
            sent.append(&mut second.after_save);
            notes.append(&mut second.notes);
            output.reads.append(&mut second.reads);
        }
        sent.iter().try_for_each(|message| disk.covers(message))?;
        disk.install(&mut raft, &output, &mut notes);
        if rules.has_lives {
            disk.folder.keep_house(&mut raft);
        }
        self.match_stays(&raft)?;
        requests_are_unique(&raft)?;
        terms_never_fall(&raft)?;
        // The application applies at once: the core does nothing with `last_applied` but to check it.
        raft.step(Input::Applied { index: raft.commit_index() }, &mut Output::default());
        raft.forget_time();
        let core = Core { raft, disk, ..self.clone() };
        endings.insert(0, Ending { core, is_torn: false, sent, reads: output.reads, notes });
        Ok(endings)
    }

    /// P6: what a follower has acknowledged to a leader stays acknowledged for that term. Who has left is not
    /// held to it: under its number may come another.
    fn match_stays(&self, after: &RaftState) -> Result<(), Fault> {
        if after.term() != self.raft.term() {
            return Ok(());
        }
        let now = after.progress();
        let is_member = |id: NodeId| self.raft.configuration().is_member(id);
        for before in self.raft.progress().into_iter().filter(|before| is_member(before.id)) {
            let now = now.iter().find(|now| now.id == before.id);
            if let Some(now) = now.filter(|now| now.match_index < before.match_index) {
                let what = format!("{after}: {} had match={}", now.id, before.match_index);
                return Err(Fault::new("P6", what));
            }
        }
        Ok(())
    }

    /// The crashes during the save that nothing else stands for: something has left already, or part of the
    /// save is on disk.
    fn torn_endings(&self, now: &[Message], output: &Output, rules: &Rules) -> Vec<Ending> {
        let records = records(output);
        let first = usize::from(now.is_empty());
        let ending = |count| Ending {
            core: self.restarted(self.disk.saved(output, count), rules),
            is_torn: true,
            sent: now.to_vec(),
            reads: Vec::new(),
            notes: Vec::new(),
        };
        (first..records).map(ending).collect()
    }
}

/// P9: a client's write stands once in a log, however it came there.
fn requests_are_unique(raft: &RaftState) -> Result<(), Fault> {
    let entries = raft.log().after(raft.log().first_index().previous());
    let requests: Vec<RequestId> = entries.iter().filter_map(|entry| entry.request).collect();
    for (at, request) in requests.iter().enumerate() {
        if requests[..at].contains(request) {
            return Err(Fault::new("P9", format!("{raft}: {request} stands twice in the log")));
        }
    }
    Ok(())
}

/// P2: terms never fall along a log, also not from what it begins after to its first entry.
fn terms_never_fall(raft: &RaftState) -> Result<(), Fault> {
    let base = raft.log().base();
    let entries = raft.log().after(base.index).iter().map(|entry| entry.term);
    if std::iter::once(base.term).chain(entries).is_sorted() {
        return Ok(());
    }
    Err(Fault::new("P2", format!("{raft}: terms fall along its log {}", raft.log())))
}

/// What all nodes of a search have in common.
pub(super) struct Rules {
    pub settings: Settings,
    /// Whether each start of a node has a number of its own. Only forwarded proposals and reads carry it;
    /// without them it would tell apart what is the same.
    pub starts_count: bool,
    /// Whether a node may lose its data and come back as another.
    pub has_lives: bool,
    /// See `Bounds`.
    pub wiped_join: bool,
    /// See `Bounds`.
    pub pre_votes: bool,
    /// See `Bounds`.
    pub refusals: bool,
}

impl Rules {
    /// Whether the network carries this at all; see `Bounds`.
    fn travels(&self, message: &Message) -> bool {
        let is_refusal = match &message.body {
            Body::RequestVote(request) => return self.pre_votes || !request.pre_vote,
            Body::RequestVoteResponse(response) => !response.granted,
            Body::AppendEntriesResponse(response) => {
                response.outcome == AppendOutcome::Rejected { conflict: Conflict::OldTerm }
            }
            Body::AppendEntries(_)
            | Body::InstallSnapshot(_)
            | Body::InstallSnapshotResponse(_)
            | Body::TimeoutNow(_)
            | Body::ForwardProposals(_)
            | Body::ForwardProposalsResponse(_)
            | Body::ReadIndexRequest(_)
            | Body::ReadIndexResponse(_) => false,
        };
        self.refusals || !is_refusal
    }
}

/// Steps what an event stands for, up to the end of the batch.
fn run_inputs(raft: &mut RaftState, event: &Event, writes: u64, rules: &Rules, output: &mut Output) {
    match event {
        Event::Heartbeat => raft.step(Input::Tick, output),
        Event::Campaign => {
            let_time_pass(raft, output);
            raft.step(Input::Tick, output);
            if !rules.pre_votes {
                win_pre_votes(raft, output);
            }
        }
        Event::Crash | Event::Wipe | Event::Greeting(..) | Event::Compact => {}
        Event::Change(change) => {
            raft.step(Input::ChangeMembers { request: 0, change: change.wish() }, output);
        }
        Event::Transfer(heir) => raft.step(Input::Transfer { heir: Some(*heir) }, output),
        Event::Read(number) => raft.step(Input::Read { number: *number }, output),
        Event::Propose(value) => {
            let number = if rules.has_lives { writes } else { *value };
            let request = RequestId { node: raft.id(), boot: raft.boot(), number };
            let text = format!("{{\"op\":\"set\",\"key\":\"x\",\"value\":{value}}}");
            let command = Command::from_json(text).expect("this is JSON on one line");
            raft.step(Input::Propose { request, command }, output);
        }
        Event::Deliver(message) => raft.step(Input::Message((*message).clone()), output),
        Event::DeliverLate(message) => {
            let_time_pass(raft, output);
            raft.step(Input::Message((*message).clone()), output);
        }
    }
    raft.step(Input::BatchEnd, output);
}

impl Change {
    fn wish(&self) -> MemberChange {
        let ids = |ids: &[u16]| ids.iter().copied().map(NodeId).collect::<Vec<NodeId>>();
        let member = |id| (id, Member::at("", ""));
        MemberChange {
            add: ids(self.add).into_iter().map(member).collect(),
            remove: ids(self.remove).into_iter().collect(),
        }
    }
}

/// A leader steps down, unless it is a quorum alone. Nothing leaves with that; if it takes the next step of a
/// change with its last tick, that is saved with what follows.
fn let_time_pass(raft: &mut RaftState, output: &mut Output) {
    raft.let_time_pass();
    let is_alone = raft.configuration().voters().all(|id| id == raft.id());
    if raft.role() == RoleName::Leader && !is_alone {
        raft.step(Input::Tick, output);
        raft.step(Input::BatchEnd, output);
        assert!(output.now.is_empty(), "{raft}: stepping down says nothing");
        raft.let_time_pass();
    }
}

/// Everyone says that they would vote for this node.
fn win_pre_votes(raft: &mut RaftState, output: &mut Output) {
    let voters: Vec<NodeId> = raft.configuration().voters().filter(|id| *id != raft.id()).collect();
    for from in voters {
        if raft.role() != RoleName::PreCandidate {
            break;
        }
        let (to, term) = (raft.id(), raft.term());
        let response = RequestVoteResponse { campaign_term: term.next(), pre_vote: true, granted: true };
        let message = Message { from, to, term, body: Body::RequestVoteResponse(response) };
        raft.step(Input::Message(message), output);
    }
}

/// How many records a save writes, in the order of `LogFile::save`: hard state, truncation, entries.
fn records(output: &Output) -> usize {
    usize::from(output.hard_state.is_some())
        + usize::from(output.truncate_from.is_some())
        + output.entries.len()
}

impl Disk {
    /// With nothing on it but who it belongs to.
    fn empty(folder: Folder) -> Disk {
        let log = Log::new(EntryId::NONE, Vec::new());
        Disk { hard_state: HardState::default(), log, configuration: Configuration::default(), folder }
    }

    /// This disk once the first `count` records of a save are on it.
    fn saved(&self, output: &Output, count: usize) -> Disk {
        let mut disk = self.clone();
        let mut left = count;
        let mut next = || {
            let is_left = left > 0;
            left = left.saturating_sub(1);
            is_left
        };
        if let Some(hard_state) = output.hard_state.filter(|_| next()) {
            disk.hard_state = hard_state;
        }
        if let Some(from) = output.truncate_from.filter(|_| next())
            && from <= disk.log.last().index
        {
            disk.log.truncate(from);
        }
        for entry in output.entries.iter().take_while(|_| next()) {
            disk.log.append(entry.clone());
        }
        disk
    }

    /// Messages that carry a snapshot, with the only line that it has here: who belongs to the cluster. None
    /// where it is sent already, or another one has taken its place.
    fn with_lines(&self, messages: Vec<Message>) -> impl Iterator<Item = Message> + '_ {
        messages.into_iter().filter_map(|mut message| {
            let Body::InstallSnapshot(request) = &mut message.body else { return None };
            if request.snapshot != self.log.base() || request.offset > 0 {
                return None;
            }
            let line = SnapshotLine::from_json(self.configuration.json());
            (request.lines, request.is_last) = (vec![line.expect("JSON on one line")], true);
            Some(message)
        })
    }

    /// A snapshot that came in this batch is durable, and the log begins after it. A crash between the two
    /// leaves what a start makes the same of.
    fn install(&mut self, raft: &mut RaftState, output: &Output, notes: &mut Vec<Note>) {
        for chunk in &output.chunks {
            let configuration: Configuration =
                serde_json::from_str(chunk.lines[0].text()).expect("it was written here");
            let (last, mut installed) = (chunk.snapshot, Output::default());
            raft.step(Input::SnapshotReceived { last, configuration: configuration.clone() }, &mut installed);
            if installed.installed.is_some() {
                self.log.restart(last);
                self.configuration = configuration;
            }
            notes.append(&mut installed.notes);
        }
    }

    /// P6: a term never falls, and a vote stays within its term.
    fn may_become(&self, next: &Disk) -> Result<(), Fault> {
        let (before, after) = (self.hard_state, next.hard_state);
        let keeps_vote = before.voted_for.is_none() || before.voted_for == after.voted_for;
        if after.term < before.term || (after.term == before.term && !keeps_vote) {
            return Err(Fault::new("P6", format!("{after:?} is saved after {before:?}")));
        }
        Ok(())
    }

    /// P8: nothing leaves before it is on the sender's disk.
    fn covers(&self, message: &Message) -> Result<(), Fault> {
        match message.unsaved_claim(self.hard_state, self.log.last().index) {
            Some(what) => Err(Fault::new("P8", what)),
            None => Ok(()),
        }
    }
}

impl Ending {
    /// Of a batch in which nothing is said.
    fn silent(core: Core, notes: Vec<Note>) -> Ending {
        Ending { core, is_torn: false, sent: Vec::new(), reads: Vec::new(), notes }
    }

    /// What of this a search should have seen once.
    pub fn seen(&self, event: &Event) -> Seen {
        let mut seen = Seen::of_notes(&self.notes);
        let grants = |note: &Note| matches!(note, Note::VoteGranted { pre_vote: false, .. });
        if self.core.disk.folder.is_second() && self.notes.iter().any(grants) {
            seen.add("vote granted by who had lost its data");
        }
        if self.is_torn {
            seen.add("crash during a save");
        }
        if let Event::Crash = event {
            seen.add("crash");
        }
        if let Event::Wipe = event {
            seen.add("data lost");
        }
        seen
    }

    /// The highest index in the log.
    pub fn last_index(&self) -> Index {
        self.core.raft.log().last().index
    }
}
