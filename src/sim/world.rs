//! The world of one run: the clock, the queue of what is to happen, and what each happening does. One event
//! at a time, and after each batch of a node the ledger looks at it.

use super::chance::stream;
use super::clients::Client;
use super::faults::{FaultClass, Trouble};
use super::ledger::Ledger;
use super::limits::Limits;
use super::lives::Doom;
use super::machine::Machine;
use super::network::{Arrival, Network};
use super::plan::{ELECTION_TIMEOUT_MS, Plan, TICK_MS};
use super::process::{Batch, Effect, Process, Ticket};
use super::sometimes::Sometimes;
use super::trace::{Detail, Trace};
use super::weather::Weather;
use super::{Checked, Run, Violation};
use crate::checker::{DEFAULT_BUDGET_STEPS, History, Outcome, Verdict, check_against_log, check_by_search};
use crate::node::{Event, Rejection};
use crate::raft::{Note, RoleReason, VoteRefusal, Weight};
use crate::types::NodeId;
use crate::wire::peer::Envelope;
use std::collections::{BTreeMap, BTreeSet};

/// What can happen. `life` says to which process it belongs.
#[derive(Debug)]
pub(super) enum Happening {
    Tick {
        node: NodeId,
        life: u64,
    },
    Wake {
        node: NodeId,
        life: u64,
    },
    Synced {
        node: NodeId,
        life: u64,
    },
    Apply {
        node: NodeId,
        life: u64,
    },
    /// What the application has said reaches its node, late.
    Poll {
        node: NodeId,
        life: u64,
        event: Box<Event<Ticket>>,
    },
    WriteSnapshot {
        node: NodeId,
        life: u64,
    },
    Arrive {
        arrival: Arrival,
        envelope: Box<Envelope>,
    },
    Request {
        number: u64,
    },
    Deadline {
        number: u64,
    },
    Answer {
        number: u64,
        outcome: Outcome,
    },
    Turn {
        client: usize,
    },
    /// A node that lost its data wants to be let in again.
    Knock {
        node: NodeId,
        life: u64,
    },
    Start(NodeId),
    Trouble(Trouble),
    /// The trouble that met this node is over.
    TroubleEnds(Trouble, NodeId),
    /// In a rolling restart, it is this node's turn.
    Roll(NodeId, Trouble),
}

/// One sending of a request.
pub(super) struct Attempt {
    pub operation: usize,
    /// Its place among the operation's attempts.
    pub place: usize,
    pub node: NodeId,
    pub is_over: bool,
}

/// Everything.
pub(super) struct World {
    pub plan: Plan,
    pub now_ms: u64,
    /// Counts everything that happens, and so orders what happens at one time.
    pub event: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    pub machines: BTreeMap<NodeId, Machine>,
    /// How long this and that takes in a node, and on the way to its clients.
    paces: BTreeMap<NodeId, fastrand::Rng>,
    pub network: Network,
    pub weather: Weather,
    /// Which processes are to die soon, and which disks are bad, each with the chance of what follows.
    pub dooms: BTreeMap<NodeId, Doom>,
    pub bad_disks: BTreeMap<NodeId, fastrand::Rng>,
    /// Who has met whom, durably.
    pub met: BTreeSet<(NodeId, NodeId)>,
    /// The troubles and the turns that there have been.
    pub begun: BTreeSet<u32>,
    pub taken: BTreeSet<u32>,
    pub clients: Vec<Client>,
    pub history: History,
    pub attempts: BTreeMap<u64, Attempt>,
    pub next_attempt: u64,
    pub ledger: Ledger,
    pub limits: Limits,
    pub sometimes: Sometimes,
    pub trace: Trace,
    /// No more troubles.
    pub is_calm: bool,
    pub wire_count: u64,
}

impl World {
    pub fn new(plan: Plan, detail: Detail) -> World {
        let machine = |id: NodeId| (id, Machine::new(id, &plan));
        let pace = |id: NodeId| (id, stream(plan.seed, "pace", (id.0.into(), 0)));
        World {
            now_ms: 0,
            event: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            machines: plan.ids().into_iter().map(machine).collect(),
            paces: plan.ids().into_iter().map(pace).collect(),
            network: Network::new(&plan.ids(), plan.seed),
            weather: Weather::default(),
            dooms: BTreeMap::new(),
            bad_disks: BTreeMap::new(),
            met: BTreeSet::new(),
            begun: BTreeSet::new(),
            taken: BTreeSet::new(),
            clients: Client::of(&plan),
            history: History::default(),
            attempts: BTreeMap::new(),
            next_attempt: 0,
            ledger: Ledger::of(plan.first_voters()),
            limits: Limits::of(&plan),
            sometimes: Sometimes::default(),
            trace: Trace::new(detail),
            is_calm: false,
            wire_count: 0,
            plan,
        }
    }

    /// The whole run.
    pub fn run(&mut self) -> Checked {
        self.trace.line(Detail::Timeline, 0, || self.plan.to_string());
        // What begins at once meets the first starts.
        let (first, later): (Vec<Trouble>, _) =
            self.plan.troubles.iter().partition(|trouble| trouble.at_ms == 0);
        for trouble in first {
            self.begin(trouble)?;
        }
        for trouble in later {
            self.at(trouble.at_ms, Happening::Trouble(trouble));
        }
        for id in self.plan.ids() {
            self.start(id)?;
        }
        for number in 0..self.clients.len() {
            self.next_turn(number);
        }
        self.run_until(self.plan.run_ms, |_| false)?;
        self.settle()?;
        self.check_history()
    }

    /// P9 and P10 of all answers together, and P15 once more.
    fn check_history(&mut self) -> Checked {
        let log = self.ledger.committed.iter().map(|(entry, _)| entry);
        let replay = check_against_log(&self.history, log)?;
        let hashes = self.ledger.hashes.iter().zip(&replay.hashes);
        if let Some(index) = hashes.into_iter().position(|(applied, replayed)| applied != replayed) {
            return Err(Violation::new("P15", format!("the replay has another hash after index {index}")));
        }
        (0..replay.deduplicated).for_each(|_| self.sometimes.saw("retry deduplicated"));
        match check_by_search(&self.history, DEFAULT_BUDGET_STEPS)? {
            Verdict::Linearizable { .. } => Ok(()),
            Verdict::Violation(found) => Err(found.into()),
            Verdict::Inconclusive { key, steps } => {
                Err(Violation::new("P9", format!("no verdict on key {key:?} in {steps} steps")))
            }
        }
    }

    /// What there is to say at the end.
    pub fn finish(mut self, violation: Option<Violation>) -> Run {
        if let Some(violation) = &violation {
            self.trace.line(Detail::Timeline, self.now_ms, || format!("VIOLATION {violation}"));
        }
        Run {
            violation,
            sometimes: self.sometimes,
            simulated_ms: self.now_ms,
            events: self.event,
            troubles: self.begun.into_iter().collect(),
            turns: self.taken.into_iter().collect(),
            trace: self.trace,
        }
    }

    /// Plans something for so many milliseconds later.
    pub fn after(&mut self, delay_ms: u64, happening: Happening) {
        self.at(self.now_ms + delay_ms, happening);
    }

    pub fn at(&mut self, at_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), happening);
    }

    /// A line of the timeline.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        self.trace.line(Detail::Timeline, self.now_ms, line);
    }

    /// Lets things happen until this time, or until `is_enough`.
    pub fn run_until(&mut self, end_ms: u64, is_enough: impl Fn(&World) -> bool) -> Checked {
        while !is_enough(self) {
            match self.queue.first_entry() {
                Some(next) if next.key().0 <= end_ms => {
                    let ((at_ms, _), happening) = next.remove_entry();
                    self.now_ms = at_ms;
                    self.event += 1;
                    self.happen(happening)?;
                }
                Some(_) | None => {
                    self.now_ms = end_ms;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Tick { node, life } => self.on_tick(node, life)?,
            Happening::Wake { node, life } => self.on_wake(node, life)?,
            Happening::Synced { node, life } => self.on_synced(node, life)?,
            Happening::Apply { node, life } => self.on_apply(node, life)?,
            Happening::Poll { node, life, event } => self.on_poll(node, life, *event),
            Happening::WriteSnapshot { node, life } => self.on_write_snapshot(node, life),
            Happening::Arrive { arrival, envelope } => self.on_arrive(arrival, envelope)?,
            Happening::Request { number } => self.on_request(number),
            Happening::Deadline { number } => self.on_answer(number, Outcome::Timeout),
            Happening::Answer { number, outcome } => self.on_answer(number, outcome),
            Happening::Turn { client } => self.on_turn(client),
            Happening::Knock { node, life } => self.on_knock(node, life),
            Happening::Start(id) => self.start(id)?,
            Happening::Trouble(trouble) => self.begin(trouble)?,
            Happening::TroubleEnds(trouble, id) => self.end(trouble, id),
            Happening::Roll(id, trouble) => self.roll(id, trouble),
        }
        Ok(())
    }

    /// Has a node look into its inbox soon.
    pub fn wake(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let life = machine.life;
        let Some(process) = machine.process.as_mut().filter(|process| !process.wakes) else { return };
        process.wakes = true;
        let delay_ms = self.pace(id).u64(0..=1);
        self.after(delay_ms, Happening::Wake { node: id, life });
    }

    /// Chance for one moment in a node. The next one's does not depend on how much of it is used.
    pub fn pace(&mut self, id: NodeId) -> fastrand::Rng {
        self.paces.get_mut(&id).map_or_else(|| fastrand::Rng::with_seed(0), fastrand::Rng::fork)
    }

    fn on_tick(&mut self, id: NodeId, life: u64) -> Checked {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else {
            return Ok(());
        };
        let tick_ms = machine.tick_ms;
        // After a stall, a node counts half an election timeout at most, as the server does.
        let most = ELECTION_TIMEOUT_MS / TICK_MS / 4;
        let Some(process) = &mut machine.process else { return Ok(()) };
        process.ticks_due = (process.ticks_due + 1).min(most);
        let wakes_anyway = process.wakes;
        self.after(tick_ms, Happening::Tick { node: id, life });
        if wakes_anyway { Ok(()) } else { self.on_wake(id, life) }
    }

    fn on_wake(&mut self, id: NodeId, life: u64) -> Checked {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else {
            return Ok(());
        };
        let is_paused = machine.is_paused;
        let Some(process) = &mut machine.process else { return Ok(()) };
        process.wakes = false;
        // Whatever ends the pause or the sync wakes it.
        if is_paused || process.syncing.is_some() {
            return Ok(());
        }
        self.arm_snapshot(id);
        let Some(batch) = self.machines.get_mut(&id).and_then(Machine::run_batch) else { return Ok(()) };
        self.write_notes(id, &batch);
        self.ledger.check_batch(&mut self.machines, id, &batch, &mut self.sometimes)?;
        self.limits.check(&self.machines, id, &batch, self.now_ms)?;
        if self.machines.get_mut(&id).is_some_and(Machine::is_let_in_again) {
            self.sometimes.saw("node without its data let in again");
            self.tell(|| format!("{id} is named by its log, and votes again"));
        }
        if batch.error.is_none()
            && let Some(process) = self.machines.get(&id).and_then(|machine| machine.process.as_ref())
        {
            let configuration = process.node.raft().configuration();
            let remembered = process.node.raft().met().keys().filter(|peer| configuration.is_member(**peer));
            self.met.extend(remembered.map(|peer| (id, *peer)));
        }
        self.carry_out_batch(id, life, batch)
    }

    fn carry_out_batch(&mut self, id: NodeId, life: u64, mut batch: Batch) -> Checked {
        if let Some(error) = batch.error {
            // If something left after the save, all that was to leave before it has left.
            let count = batch.before_save.len();
            let mut effects = batch.before_save;
            let least = if batch.after_save.is_empty() { 0 } else { count };
            effects.append(&mut batch.after_save);
            let kept = self.pace(id).usize(least..=effects.len());
            effects.truncate(kept);
            self.carry_out(id, effects)?;
            self.end_by_disk(id, &error);
            return Ok(());
        }
        if let Some((doom, kept)) = self.kill_point(id, &batch) {
            let mut effects = batch.before_save;
            effects.extend(batch.after_save);
            effects.truncate(kept);
            self.carry_out(id, effects)?;
            self.kill(id, doom.trouble, doom.chance, "killed between effects");
            return Ok(());
        }
        self.carry_out(id, batch.before_save)?;
        let mut chance = self.pace(id);
        let slow_ms = self.weather.strikes(FaultClass::SlowDisk, &[id], &mut chance);
        let Some(sync_ms) = slow_ms.filter(|_| batch.has_saved) else {
            return self.carry_out(id, batch.after_save);
        };
        self.sometimes.saw("sync was slow");
        if let Some(process) = self.process(id) {
            process.syncing = Some(batch.after_save);
        }
        self.after(sync_ms, Happening::Synced { node: id, life });
        Ok(())
    }

    fn on_synced(&mut self, id: NodeId, life: u64) -> Checked {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else {
            return Ok(());
        };
        if machine.is_paused {
            self.after(20, Happening::Synced { node: id, life });
            return Ok(());
        }
        let effects = machine.process.as_mut().and_then(|process| process.syncing.take());
        self.carry_out(id, effects.unwrap_or_default())?;
        self.wake(id);
        Ok(())
    }

    pub fn process(&mut self, id: NodeId) -> Option<&mut Process> {
        self.machines.get_mut(&id)?.process.as_mut()
    }

    fn carry_out(&mut self, id: NodeId, effects: Vec<Effect>) -> Checked {
        for effect in effects {
            match effect {
                Effect::Send(envelope) => self.send(envelope),
                Effect::Work(work) => self.take_work(id, work),
                Effect::Settle(ticket, outcome) => self.has_settled(id, ticket.number, &outcome),
                Effect::Reject(ticket, rejection) => {
                    if let Some(process) = self.process(id) {
                        process.waiting.remove(&ticket.number);
                    }
                    let outcome = match rejection {
                        Rejection::Busy => Outcome::Busy,
                        Rejection::Unavailable => Outcome::Unavailable,
                        Rejection::Timeout => Outcome::Timeout,
                    };
                    self.answer(ticket.number, outcome);
                }
            }
        }
        Ok(())
    }

    /// An answer leaves a node for its client.
    pub fn answer(&mut self, number: u64, outcome: Outcome) {
        let node = self.attempts.get(&number).map_or(NodeId(1), |attempt| attempt.node);
        let delay_ms = self.pace(node).u64(0..=2);
        self.after(delay_ms, Happening::Answer { number, outcome });
    }

    fn write_notes(&mut self, id: NodeId, batch: &Batch) {
        let is_sending = self.process(id).is_some_and(|process| process.node.raft().is_sending_snapshot());
        for noted in &batch.notes {
            let what = match &noted.note {
                Note::VoteRefused { pre_vote: true, .. } => Some("pre-vote refused"),
                Note::VoteRefused { why: VoteRefusal::LogBehind { .. }, .. } => {
                    Some("vote refused: log behind")
                }
                Note::VoteRefused { why: VoteRefusal::AlreadyVoted { .. }, .. } => {
                    Some("vote refused: already voted")
                }
                Note::RoleChanged { why: RoleReason::QuorumLost { .. }, .. } => {
                    Some("leader stepped down without a quorum")
                }
                Note::Truncated { first, .. } => {
                    if batch.configuration_before.1 >= first.index {
                        self.sometimes.saw("uncommitted configuration truncated");
                    }
                    Some("suffix truncated")
                }
                Note::RoleChanged { why: RoleReason::Removed, .. } => Some("leader removed itself"),
                Note::AppendRejected { .. } => Some("append rejected"),
                Note::Compacted { .. } if is_sending => {
                    Some("log compacted while a follower receives a snapshot")
                }
                Note::Compacted { .. } => Some("log compacted"),
                _ => None,
            };
            what.into_iter().for_each(|what| self.sometimes.saw(what));
            let detail = match noted.note.weight() {
                Weight::Event => Detail::Timeline,
                Weight::Detail => Detail::Messages,
            };
            let (term, note) = (noted.term, &noted.note);
            self.trace.line(detail, self.now_ms, || format!("{id}@{term}: {note}"));
        }
    }
}
