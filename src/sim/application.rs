//! The application of a node: an actor with its own pace, which gets work, applies it or takes a snapshot in
//! place of what it had, answers clients and says how far it has come.

use super::faults::FaultClass;
use super::process::Ticket;
use super::requests::serve;
use super::snapshots::{Unreadable, restore};
use super::world::{Happening, World};
use super::{Checked, Violation};
use crate::checker::Outcome;
use crate::kv::Applied;
use crate::node::{Apply, Event, Install, Work};
use crate::types::NodeId;

/// What the application says after it has handed out a view may take so long to reach the node: the writer of
/// that view may be heard first.
const LATE_MS: u64 = 150;

impl World {
    /// The application has got work and takes its time.
    pub fn take_work(&mut self, id: NodeId, work: Work<Ticket>) {
        let mut chance = self.pace(id);
        let usual_ms = chance.u64(0..=1);
        let slow_ms = self.weather.strikes(FaultClass::SlowApplication, &[id], &mut chance);
        if slow_ms.is_some() {
            self.sometimes.saw("application was slow");
        }
        let delay_ms = slow_ms.unwrap_or(usual_ms);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let life = machine.life;
        let Some(process) = &mut machine.process else { return };
        for number in tickets(&work) {
            process.waiting.remove(&number);
        }
        assert!(process.work.is_none(), "{id}: work for an application that has not polled");
        process.work = Some(work);
        self.after(delay_ms, Happening::Apply { node: id, life });
    }

    pub fn on_apply(&mut self, id: NodeId, life: u64) -> Checked {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else {
            return Ok(());
        };
        if machine.is_paused {
            self.after(20, Happening::Apply { node: id, life });
            return Ok(());
        }
        let Some(process) = &mut machine.process else { return Ok(()) };
        match process.work.take() {
            Some(Work::Apply(apply)) => self.apply(id, life, apply),
            Some(Work::Install(install)) => self.install(id, life, install),
            None => Ok(()),
        }
    }

    fn apply(&mut self, id: NodeId, life: u64, apply: Apply<Ticket>) -> Checked {
        let Apply { entries, reads, snapshot } = apply;
        let Some(process) = self.machines.get_mut(&id).and_then(|machine| machine.process.as_mut()) else {
            return Ok(());
        };
        let mut answers = Vec::new();
        let mut hashes = Vec::new();
        for (entry, ticket) in entries {
            let Applied::Done(answer) = process.store.apply(&entry) else {
                return Err(Violation::new("P4", format!("{id} cannot apply {}", entry.id())));
            };
            self.ledger.applied(id, &entry, process.store.applied_hash())?;
            hashes.push(process.store.applied_hash());
            answers.extend(ticket.map(|ticket| (ticket.number, Outcome::from(answer))));
        }
        for ticket in reads {
            if let Some(read) = ticket.read {
                answers.push((ticket.number, serve(&process.store, &read)));
            }
        }
        let hands_out_a_view = snapshot.is_some();
        if let Some(configuration) = snapshot {
            self.take_view(id, configuration)?;
        }
        self.poll(id, life, hashes, hands_out_a_view);
        for (number, outcome) in answers {
            self.answer(number, outcome);
        }
        Ok(())
    }

    /// Takes a snapshot in place of everything that was applied.
    fn install(&mut self, id: NodeId, life: u64, install: Install) -> Checked {
        let Install { meta, lines } = install;
        let (store, restored) = match restore(&meta, lines) {
            Ok(restored) => restored,
            Err(Unreadable::Storage(error)) => {
                self.end_by_disk(id, &error.to_string());
                return Ok(());
            }
            Err(Unreadable::Invalid(why)) => {
                return Err(Violation::new("P4", format!("{id} cannot install {}: {why}", meta.last)));
            }
        };
        self.sometimes.saw("snapshot installed");
        self.tell(|| format!("{id} has installed the snapshot up to {}", meta.last));
        self.ledger.stands_for(id, restored)?;
        let Some(process) = self.process(id) else { return Ok(()) };
        let before = process.store.last_applied();
        if before >= meta.last.index {
            let what = format!("{id} has applied {before}, and goes back to a snapshot up to {}", meta.last);
            return Err(Violation::new("P6", what));
        }
        process.store = store;
        self.poll(id, life, vec![restored.applied_hash], false);
        Ok(())
    }

    /// Says how far it has come.
    fn poll(&mut self, id: NodeId, life: u64, applied_hashes: Vec<u64>, may_be_late: bool) {
        let mut chance = self.pace(id);
        let late_ms = (may_be_late && chance.u8(0..4) == 0).then(|| chance.u64(1..=LATE_MS));
        let Some(process) = self.process(id) else { return };
        let event = Event::Poll { last_applied: process.store.last_applied(), applied_hashes };
        match late_ms {
            Some(late_ms) => self.after(late_ms, Happening::Poll { node: id, life, event: Box::new(event) }),
            None => {
                process.application_inbox.push_back(event);
                self.wake(id);
            }
        }
    }

    /// What the application has said reaches the node.
    pub fn on_poll(&mut self, id: NodeId, life: u64, event: Event<Ticket>) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.life == life) else { return };
        if let Some(process) = &mut machine.process {
            process.application_inbox.push_back(event);
            self.wake(id);
        }
    }
}

/// The clients that wait for this work.
pub(super) fn tickets(work: &Work<Ticket>) -> Vec<u64> {
    match work {
        Work::Apply(Apply { entries, reads, .. }) => {
            let writes = entries.iter().filter_map(|(_, ticket)| ticket.as_ref());
            writes.chain(reads).map(|ticket| ticket.number).collect()
        }
        Work::Install(_) => Vec::new(),
    }
}
