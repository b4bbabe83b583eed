//! A whole cluster of pure cores in one thread. It does for each node what the server does, in the same
//! order: step a batch of inputs into one output, then send what may leave at once, save, step the word that
//! it is saved, send the rest, publish. Each step says what it did, a line each.

use crate::checks::{self, History};
use crate::disk::Save;
use crate::network::{Filter, Network};
use crate::node::{Effect, Node, Read, Unsaved};
use crate::show;
use raftkv::raft::{Body, ChangeOutcome, Configuration, Input, Message, Output, RaftState, Settings};
use raftkv::types::{Command, Entry, Index, NodeId, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Beyond this many deliveries the messages are taken to go round in circles.
const MAX_DELIVERIES: usize = 10_000;
/// Beyond this many ticks an election timeout is taken never to come.
const MAX_TICKS: usize = 1_000;

/// The nodes, what is between them, and what was true so far.
pub struct Cluster {
    /// In order of their ids.
    pub nodes: BTreeMap<NodeId, Node>,
    /// What is under way.
    pub network: Network,
    /// What must stay true.
    pub history: History,
    /// What happened since it was last taken.
    pub lines: Vec<String>,
    /// What all nodes are started with.
    pub settings: Settings,
    /// Who belongs to the cluster at first.
    pub first_members: Configuration,
}

impl Cluster {
    /// Nodes 1 to `count`, and others that know nothing and are no members yet, with empty disks, all up.
    pub fn new(count: u16, joining: &[NodeId], seed: u64, settings: Settings) -> Cluster {
        let first_members = Configuration::new((1..=count).map(NodeId));
        let node = |id: NodeId, configuration: &Configuration| {
            let mut node = Node::new(id, configuration.clone(), seed + 100 * u64::from(id.0));
            node.start(settings.clone());
            (id, node)
        };
        let mut nodes: BTreeMap<_, _> = first_members.members().map(|id| node(id, &first_members)).collect();
        nodes.extend(joining.iter().map(|id| node(*id, &Configuration::default())));
        let (network, history) = (Network::default(), History::default());
        Cluster { nodes, network, history, lines: Vec::new(), settings, first_members }
    }

    /// The node of this id.
    pub fn node(&mut self, id: NodeId) -> Result<&mut Node, String> {
        self.nodes.get_mut(&id).ok_or(format!("there is no {id}"))
    }

    /// Says something.
    pub fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    /// One batch of one node. `what` is its first line, left out when nothing comes of it and it is a tick.
    pub fn batch(&mut self, id: NodeId, what: &str, inputs: Vec<Input>) -> Result<(), String> {
        let only_ticks = inputs.iter().all(|input| *input == Input::Tick);
        let first_line = self.lines.len();
        let state = self.node(id)?.up()?;
        let mut output = Output::default();
        for input in inputs {
            state.step(input, &mut output);
        }
        state.step(Input::BatchEnd, &mut output);
        let (term, last) = (state.term(), state.log().last());

        self.carry_out(id, output, |save, output| Unsaved { save, output, term, last })?;
        if self.lines.len() > first_line || !only_ticks {
            self.lines.insert(first_line, format!("{id} <- {what}"));
        }
        self.history.check(&self.nodes)?;
        self.verify_received(id)
    }

    fn carry_out(
        &mut self,
        id: NodeId,
        mut output: Output,
        unsaved: impl FnOnce(Save, Output) -> Unsaved,
    ) -> Result<(), String> {
        self.say_notes(&mut output);
        if self.crash_at(id, Effect::Start)? {
            return Ok(());
        }
        self.send_now(id, &mut output)?;
        if self.crash_at(id, Effect::Now)? {
            return Ok(());
        }
        let unsaved = unsaved(Save::take_from(&mut output), output);
        let node = self.node(id)?;
        node.unsaved.push_back(unsaved);
        if node.saves_held {
            let waits = !node.unsaved.iter().all(|batch| batch.save.is_empty());
            if waits {
                self.say("   (save held)");
                return Ok(());
            }
        }
        while self.finish_oldest(id)? {}
        Ok(())
    }

    /// Carries out the oldest batch whose save is outstanding, from its save on. Says whether there was one.
    pub fn finish_oldest(&mut self, id: NodeId) -> Result<bool, String> {
        let Some(Unsaved { save, mut output, term, last }) = self.node(id)?.unsaved.pop_front() else {
            return Ok(false);
        };
        if !save.is_empty() {
            self.say(format!("   {save}"));
            let node = self.node(id)?;
            node.disk.save(save).map_err(|why| format!("{id}: {why}"))?;
            let state = node.up()?;
            state.step(Input::Saved { term, last }, &mut output);
            state.step(Input::BatchEnd, &mut output);
            if output.needs_save() {
                return Err(format!("{id}: a save calls for another save"));
            }
            self.say_notes(&mut output);
        }
        if self.crash_at(id, Effect::Save)? {
            return Ok(false);
        }
        self.send_now(id, &mut output)?;
        self.send(id, std::mem::take(&mut output.after_save))?;
        if self.crash_at(id, Effect::Send)? {
            return Ok(false);
        }
        self.publish(id, output)?;
        Ok(true)
    }

    fn say_notes(&mut self, output: &mut Output) {
        for note in std::mem::take(&mut output.notes) {
            self.say(format!("   {note}"));
        }
    }

    fn crash_at(&mut self, id: NodeId, effect: Effect) -> Result<bool, String> {
        let crashes = self.node(id)?.crash_after == Some(effect);
        if crashes {
            self.say("   (crash)");
            self.node(id)?.crash();
        }
        Ok(crashes)
    }

    fn send_now(&mut self, id: NodeId, output: &mut Output) -> Result<(), String> {
        let mut messages = std::mem::take(&mut output.now);
        let disk = &self.node(id)?.disk;
        messages.extend(std::mem::take(&mut output.chunks_to_send).into_iter().map(|mut message| {
            if let Body::InstallSnapshot(request) = &mut message.body {
                let snapshot = disk.snapshot_of(request.snapshot);
                if let Some((line, is_last)) = snapshot.and_then(|it| it.line_at(request.offset)) {
                    (request.lines, request.is_last) = (vec![line], is_last);
                }
            }
            message
        }));
        self.send(id, messages)
    }

    fn send(&mut self, from: NodeId, messages: Vec<Message>) -> Result<(), String> {
        for message in messages {
            checks::speaks_of_what_is_saved(&self.nodes[&from], &message)?;
            let (line, to) = (show::message(&message), message.to);
            let fate = if self.node(to)?.state.is_none() {
                format!(" ({to} is down)")
            } else if self.network.send(message) {
                String::new()
            } else {
                " (cut)".to_owned()
            };
            self.say(format!("   {line}{fate}"));
        }
        Ok(())
    }

    fn publish(&mut self, id: NodeId, output: Output) -> Result<(), String> {
        for (request, term) in output.proposed {
            self.say(format!("   {request} goes to the leader of term {term}"));
        }
        for (request, why) in output.refused {
            self.say(format!("   {request} refused: {why:?}"));
        }
        for (number, outcome) in output.changes {
            match outcome {
                ChangeOutcome::Appended(entry) => self.say(format!("   change {number} begins with {entry}")),
                ChangeOutcome::Refused(why) => self.say(format!("   change {number} refused: {why}")),
            }
        }
        if let Some(why) = output.transfer_refused {
            self.say(format!("   transfer refused: {why:?}"));
        }
        for ready in output.reads {
            self.say(format!("   reads up to {} may be served from index {}", ready.number, ready.index));
            for read in &mut self.node(id)?.app.reads {
                if read.number <= ready.number && read.ready_at.is_none() {
                    read.ready_at = Some(ready.index);
                    if ready.index < read.committed_before {
                        let (number, missed) = (read.number, read.committed_before);
                        return Err(format!("stale read: {id} may serve {number} without {missed}"));
                    }
                }
            }
        }
        self.serve_reads(id)
    }

    fn serve_reads(&mut self, id: NodeId) -> Result<(), String> {
        let app = &mut self.node(id)?.app;
        let mut lines = Vec::new();
        for read in app.take_servable() {
            let Some(key) = read.key else {
                lines.push(format!("   read {} served at applied={}", read.number, app.last_applied));
                continue;
            };
            let value = app.store.get(&key).map_or("nothing", String::as_str);
            lines.push(format!(
                "   read {} served at applied={}: {key} is {value}",
                read.number, app.last_applied
            ));
        }
        self.lines.extend(lines);
        Ok(())
    }

    /// Delivers these messages, each in a batch of its own, or all of a receiver's in one.
    pub fn deliver(&mut self, messages: Vec<Message>, in_one_batch: bool) -> Result<(), String> {
        let mut batches: Vec<(NodeId, Vec<Message>)> = Vec::new();
        for message in messages {
            match batches.iter_mut().find(|(to, _)| in_one_batch && *to == message.to) {
                Some((_, batch)) => batch.push(message),
                None => batches.push((message.to, vec![message])),
            }
        }
        for (to, batch) in batches {
            let what = batch.iter().map(show::received).collect::<Vec<_>>().join(", ");
            if self.node(to)?.state.is_none() {
                self.say(format!("{to} is down: lost {what}"));
                continue;
            }
            self.batch(to, &what, batch.into_iter().map(Input::Message).collect())?;
        }
        Ok(())
    }

    /// Delivers what is under way and what comes of it, oldest first, until all is quiet.
    pub fn stabilize(&mut self) -> Result<(), String> {
        let oldest = Filter { max: Some(1), ..Filter::default() };
        for _ in 0..MAX_DELIVERIES {
            let next = self.network.take(&oldest);
            if next.is_empty() {
                return Ok(());
            }
            self.deliver(next, false)?;
        }
        Err(format!("still no quiet after {MAX_DELIVERIES} messages"))
    }

    /// Time passes for one node, a batch a tick, until its election timeout has elapsed.
    pub fn election_timeout(&mut self, id: NodeId) -> Result<(), String> {
        for ticks in 1..=MAX_TICKS {
            let first_line = self.lines.len();
            let unit = if ticks == 1 { "tick" } else { "ticks" };
            self.batch(id, &format!("election timeout after {ticks} {unit}"), vec![Input::Tick])?;
            if self.lines[first_line..].iter().any(|line| line.contains("no leader for an election timeout"))
            {
                return Ok(());
            }
        }
        Err(format!("{id} has no election timeout within {MAX_TICKS} ticks"))
    }

    /// Clients of one node want these commands appended, in one batch.
    pub fn propose(&mut self, id: NodeId, commands: Vec<Command>, again: Option<u64>) -> Result<(), String> {
        let node = self.node(id)?;
        let mut inputs = Vec::new();
        let mut shown = Vec::new();
        for command in commands {
            let number = again.unwrap_or(node.next_request);
            node.next_request = node.next_request.max(number + 1);
            let request = RequestId { node: id, boot: node.disk.boot, number };
            shown.push(show::command(&command));
            inputs.push(Input::Propose { request, command });
        }
        shown.truncate(8);
        self.batch(id, &format!("propose {}", shown.join(" ")), inputs)
    }

    /// A client of one node wants to read.
    pub fn read(&mut self, id: NodeId, key: Option<String>) -> Result<(), String> {
        let committed_before = self.history.committed();
        let node = self.node(id)?;
        let number = node.next_read();
        node.app.reads.push_back(Read { number, key, committed_before, ready_at: None });
        self.batch(id, &format!("read {number}"), vec![Input::Read { number }])
    }

    /// The application of one node applies what is committed, up to `to`.
    pub fn apply(&mut self, id: NodeId, to: Option<Index>) -> Result<(), String> {
        let node = self.node(id)?;
        let state = node.state.as_ref().ok_or(format!("{id} is down"))?;
        let base = state.log().base();
        let installs = base.index > node.app.last_applied;
        if installs {
            let snapshot = node.disk.snapshot_of(base).ok_or(format!("{id} has no snapshot {base}"))?;
            node.app.install(snapshot);
            let snapshot = snapshot.clone();
            self.history.installed(id, &snapshot)?;
            self.batch(id, &format!("applied snapshot {base}"), vec![Input::Applied { index: base.index }])?;
        }
        let node = &self.nodes[&id];
        let state = node.state.as_ref().ok_or(format!("{id} is down"))?;
        let to = to.unwrap_or(state.commit_index());
        let count = usize::try_from(to.0 - node.app.last_applied.0).unwrap_or(0);
        let entries: Vec<_> = state.log().after(node.app.last_applied).iter().take(count).cloned().collect();
        for entry in &entries {
            self.history.applied(id, entry)?;
            self.node(id)?.app.apply(entry);
        }
        if installs && entries.is_empty() {
            return self.serve_reads(id);
        }
        let what = format!("applied {}", show::entries(&entries));
        self.batch(id, &what, vec![Input::Applied { index: to }])?;
        self.answer_writes(id, &entries)?;
        self.serve_reads(id)
    }

    /// Each node answers the clients that asked it since its start, by the name of their request and not by
    /// the place of an entry.
    fn answer_writes(&mut self, id: NodeId, entries: &[Entry]) -> Result<(), String> {
        let boot = self.node(id)?.disk.boot;
        for entry in entries {
            if let Some(request) = entry.request.filter(|request| (request.node, request.boot) == (id, boot))
            {
                self.say(format!("   {request} answered at {}", entry.id()));
            }
        }
        Ok(())
    }

    /// A node comes up again with what it has on disk.
    pub fn restart(&mut self, id: NodeId) -> Result<(), String> {
        let settings = self.settings.clone();
        let node = self.node(id)?;
        if node.state.is_some() {
            node.crash();
        }
        node.start(settings);
        let line = self.status(id)?;
        self.say(line);
        self.history.check(&self.nodes)
    }

    /// `n1@2 leader last=5@2 commit=4 applied=4`, for a leader with what it knows of the others, and with who
    /// belongs to the cluster where that has changed.
    pub fn status(&mut self, id: NodeId) -> Result<String, String> {
        let Some(state) = self.nodes.get(&id).and_then(|node| node.state.as_ref()) else {
            return Ok(format!("{id} is down"));
        };
        let of = |peer: &raftkv::raft::PeerProgress| {
            format!("\n   {} match={} next={}", peer.id, peer.match_index, peer.next_index)
        };
        let peers: String = state.progress().iter().map(of).collect();
        let members = state.configuration();
        let members = if *members == self.first_members {
            String::new()
        } else if members.voters.is_empty() {
            "\n   knows no members".to_owned()
        } else {
            format!("\n   {members} from index {} on", state.configuration_index())
        };
        Ok(format!("{state}{}{members}{peers}", leader_of(state)))
    }

    /// The ids of all nodes.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().copied().collect()
    }
}

fn leader_of(state: &RaftState) -> String {
    match state.leader() {
        Some(leader) if leader != state.id() => format!(" leader={leader}"),
        Some(_) | None => String::new(),
    }
}
