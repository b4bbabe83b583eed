//! Lives of processes: how they start, what a start may be refused for, how they die, and what their machines
//! lose with them.

use super::application::tickets;
use super::chance::stream;
use super::faults::{FaultClass, Trouble};
use super::machine::{Condition, Machine, StartFailure, Started};
use super::process::{Batch, Process};
use super::world::{Happening, World};
use super::{Checked, Violation};
use crate::checker::Outcome;
use crate::storage::{Disk, Failure};
use crate::types::NodeId;
use std::collections::BTreeSet;

/// How long a start takes to be tried again that failed or was refused.
const START_AGAIN_MS: u64 = 200;
/// Within so many operations of its disk a start has ended, about.
const START_OPERATIONS: u64 = 24;
/// Within so many operations of its disk a snapshot is made durable and the log compacted, about.
const SNAPSHOT_OPERATIONS: u64 = 16;

/// A process that is to die, and the chance of what comes after that.
pub(super) struct Doom {
    pub trouble: Trouble,
    pub how: How,
    pub chance: fastrand::Rng,
}

/// When a process is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// In a batch that saves, after so many others: after any of its effects.
    BetweenEffects { batches: u64 },
    /// At an operation of its disk.
    InSave,
    /// At an operation of its disk while a snapshot is begun, ended, received, or the log compacted for it.
    InSnapshot,
    /// At an operation of its disk while it starts.
    InStart,
}

impl World {
    /// Starts a node's process. A start that its disk makes fail is tried again later.
    pub fn start(&mut self, id: NodeId) -> Checked {
        if self.machines.get(&id).is_none_or(|machine| machine.process.is_some() || machine.is_held_down) {
            return Ok(());
        }
        self.arm_start(id);
        let Some(machine) = self.machines.get_mut(&id) else { return Ok(()) };
        let seed = stream(self.plan.seed, "core", (id.0.into(), machine.life)).u64(..);
        match machine.start(&self.plan, seed) {
            Ok(started) => self.has_started(id, &started),
            Err(StartFailure::Broken(violation)) => Err(violation),
            Err(StartFailure::Refused(why)) => self.is_refused(id, &why),
            Err(StartFailure::Disk(error)) => {
                self.start_fails(id, &error);
                Ok(())
            }
        }
    }

    fn arm_start(&mut self, id: NodeId) {
        let doom = self.dooms.get_mut(&id).filter(|doom| doom.how == How::InStart);
        let Some(chance) = doom.map(|doom| &mut doom.chance).or_else(|| self.bad_disks.get_mut(&id)) else {
            return;
        };
        let skip = chance.u64(0..START_OPERATIONS);
        if let Some(machine) = self.machines.get(&id) {
            machine.disk.fail_after(skip, Failure::InputOutput);
        }
    }

    /// Before something is done with a snapshot: if the process is to die in that, this may be the time.
    pub fn arm_snapshot(&mut self, id: NodeId) {
        let Some(doom) = self.dooms.get_mut(&id).filter(|doom| doom.how == How::InSnapshot) else { return };
        let Some(machine) = self.machines.get(&id) else { return };
        let is_near = machine.process.as_ref().is_some_and(Process::does_something_with_a_snapshot);
        if is_near && doom.chance.u8(0..3) == 0 {
            doom.how = How::InSave;
            machine.disk.fail_after(doom.chance.u64(0..SNAPSHOT_OPERATIONS), Failure::InputOutput);
        }
    }

    fn has_started(&mut self, id: NodeId, started: &Started) -> Checked {
        if let Some(snapshot) = started.snapshot {
            self.ledger.stands_for(id, snapshot)?;
        }
        let Some(machine) = self.machines.get_mut(&id) else { return Ok(()) };
        if machine.condition == Condition::Empty {
            let what = format!("{id} starts with nothing in its folder, and nobody said that it is new");
            return Err(Violation::new("P14", what));
        }
        // A bit that turned over where it does no harm may turn over there.
        if matches!(machine.condition, Condition::Flipped { .. }) {
            machine.condition = Condition::Sound;
        }
        let (boot, last, life, tick_ms) =
            (machine.last_boot(), machine.durable.last(), machine.life, machine.tick_ms);
        let delay_ms = stream(self.plan.seed, "tick", (id.0.into(), life)).u64(0..=tick_ms);
        self.network.reconnect_all(id);
        let rejoins = machine.condition == Condition::Rejoins;
        self.after(delay_ms, Happening::Tick { node: id, life });
        if rejoins {
            self.after(delay_ms, Happening::Knock { node: id, life });
        }
        self.wake(id);
        self.tell(|| format!("{id} starts, boot {boot}, last={last}{started}"));
        let flags = [
            (started.was_torn, "torn tail cut"),
            (started.batch_survived == Some(true), "batch of a crash survived"),
            (started.batch_survived == Some(false), "batch of a crash was lost"),
            (started.segments > 1, "log has several segments"),
            (started.snapshot.is_some(), "store made of a snapshot at a start"),
            (started.began_anew, "snapshot received, and the log began anew at the next start"),
        ];
        flags.iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| self.sometimes.saw(what));
        Ok(())
    }

    /// P14: only damaged and empty folders are refused. A person sees the message and does something: puts
    /// the copy back that was taken before the bit turned over; tells an empty node that it has lost its
    /// data; or, wrongly, that it is a new cluster's.
    fn is_refused(&mut self, id: NodeId, why: &str) -> Checked {
        let Some(machine) = self.machines.get_mut(&id) else { return Ok(()) };
        self.trace.line(super::Detail::Timeline, self.now_ms, || format!("{id} refuses to start: {why}"));
        match machine.condition.clone() {
            Condition::Flipped { name, at, mask } => {
                self.sometimes.saw("damaged disk refused");
                if name.starts_with("snapshot-") {
                    self.sometimes.saw("damaged snapshot refused");
                }
                machine.disk.flip(&name, at, mask);
                machine.condition = Condition::Sound;
            }
            Condition::Empty => {
                self.sometimes.saw("empty disk refused");
                if stream(self.plan.seed, "person", (id.0.into(), 0)).u8(0..4) == 0 {
                    machine.begin_anew();
                } else {
                    machine.rejoin();
                    self.ledger.members.lets_in_again(id);
                }
            }
            Condition::Sound | Condition::Anew | Condition::Rejoins => {
                return Err(Violation::new("P14", format!("{id} refuses to start: {why}")));
            }
        }
        self.after(START_AGAIN_MS, Happening::Start(id));
        Ok(())
    }

    fn start_fails(&mut self, id: NodeId, error: &str) {
        let delay_ms = match self.dooms.remove(&id) {
            Some(mut doom) => {
                self.sometimes.saw("killed in a start");
                self.tell(|| format!("{}: {id} is killed in its start: {error}", doom.trouble));
                if doom.chance.bool() {
                    self.lose_power(id, &mut doom.chance);
                }
                doom.chance.u64(1..=doom.trouble.for_ms)
            }
            None => {
                self.sometimes.saw("start failed on a bad disk");
                self.tell(|| format!("{id} does not start: {error}"));
                self.lose_power_of_bad_disk(id);
                START_AGAIN_MS
            }
        };
        self.after(delay_ms, Happening::Start(id));
    }

    fn lose_power_of_bad_disk(&mut self, id: NodeId) {
        let chance = self.bad_disks.get_mut(&id).map(fastrand::Rng::fork);
        let mut chance = chance.unwrap_or_else(|| stream(self.plan.seed, "disk", (id.0.into(), self.event)));
        self.lose_power(id, &mut chance);
    }

    /// Whether the process dies in this batch: after how many of its effects.
    pub fn kill_point(&mut self, id: NodeId, batch: &Batch) -> Option<(Doom, usize)> {
        let doom = self.dooms.get_mut(&id).filter(|_| batch.has_saved)?;
        let How::BetweenEffects { batches } = &mut doom.how else { return None };
        if let Some(fewer) = batches.checked_sub(1) {
            *batches = fewer;
            return None;
        }
        let mut doom = self.dooms.remove(&id)?;
        let kept = batch.before_save.len() + doom.chance.usize(0..=batch.after_save.len());
        Some((doom, kept))
    }

    /// The disk has failed, and with it the node. Its machine loses power before it starts again, so that
    /// what a failed sync left behind is not taken for written. Where the process was to die, it was no
    /// failure of the disk but a kill in the midst of a save, with or without the machine's power.
    pub fn end_by_disk(&mut self, id: NodeId, error: &str) {
        match self.dooms.remove(&id) {
            Some(doom) => {
                self.tell(|| format!("{id} ends: {error}"));
                self.kill(id, doom.trouble, doom.chance, "killed in a save");
            }
            None => {
                self.sometimes.saw("disk fault ended a node");
                self.tell(|| format!("{id} ends: {error}"));
                self.lose_power_of_bad_disk(id);
                self.after(START_AGAIN_MS, Happening::Start(id));
            }
        }
    }

    /// Kills a process, with or without its machine's power. It starts again when the trouble is over.
    pub fn kill(&mut self, id: NodeId, trouble: Trouble, mut chance: fastrand::Rng, how: &'static str) {
        if self.process(id).is_none() {
            return;
        }
        self.sometimes.saw(how);
        let loses_power = chance.bool();
        let power = if loses_power { ", its machine loses power" } else { "" };
        self.tell(|| format!("{trouble}: {id} is {how}{power}"));
        if loses_power {
            self.lose_power(id, &mut chance);
        } else {
            self.stop(id, None);
        }
        self.after(trouble.for_ms, Happening::Start(id));
    }

    /// A machine loses power; what was not synced may go.
    pub fn lose_power(&mut self, id: NodeId, chance: &mut fastrand::Rng) {
        self.sometimes.saw("power lost");
        self.stop(id, Some(chance));
    }

    /// Ends a process, with the power if there is a chance of what survives.
    pub fn stop(&mut self, id: NodeId, power: Option<&mut fastrand::Rng>) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let process = match power {
            Some(chance) => {
                let mode = chance.u8(0..3);
                let mut choose = |count: usize| match mode {
                    0 => 0,
                    1 => count - 1,
                    _ => chance.usize(0..count),
                };
                machine.stop(Some(&mut choose))
            }
            None => machine.stop(None),
        };
        let Some(process) = process else { return };
        // Every client that was connected to it hears that it is gone.
        let mut numbers: BTreeSet<u64> = process.waiting.into_keys().collect();
        let in_inbox = process.clients_inbox.iter().filter_map(|event| match event {
            crate::node::Event::Write { ticket, .. } | crate::node::Event::Read { ticket } => {
                Some(ticket.number)
            }
            _ => None,
        });
        numbers.extend(in_inbox);
        numbers.extend(process.work.iter().flat_map(tickets));
        for number in numbers {
            self.after(30, Happening::Answer { number, outcome: Outcome::Lost });
        }
    }

    /// A bit of a node's files turns over while its machine is off.
    pub fn flip_a_bit(&mut self, id: NodeId, trouble: Trouble, mut chance: fastrand::Rng) {
        self.lose_power(id, &mut chance);
        let Some(machine) = self.machines.get_mut(&id) else { return };
        if machine.condition == Condition::Sound {
            let names = machine.disk.list().unwrap_or_default();
            let name = chance.choice(&names).cloned().unwrap_or_default();
            let size = machine.disk.read(&name).map_or(0, |bytes| bytes.len());
            if size > 0 {
                let (at, mask) = (chance.usize(0..size), 1 << chance.u8(0..8));
                machine.disk.flip(&name, at, mask);
                self.tell(|| {
                    format!("{trouble}: {id} loses power, and bit {mask} of byte {at} of {name} turns")
                });
                if let Some(machine) = self.machines.get_mut(&id) {
                    machine.condition = Condition::Flipped { name, at, mask };
                }
            }
        }
        self.after(trouble.for_ms, Happening::Start(id));
    }

    /// A machine loses all its data, with the power. Only as many as leave a majority, and only where every
    /// other node has met it, as happens within moments of a cluster's first start: without a memory of who
    /// was there nobody could know.
    pub fn wipe(&mut self, id: NodeId, trouble: Trouble, mut chance: fastrand::Rng) {
        let lost = self.machines.values().filter(|machine| machine.was_wiped()).count();
        // Where members change, so does what a majority is.
        if self.plan.has(FaultClass::MemberChanges) {
            return;
        }
        let may_lose = (usize::from(self.plan.nodes) - 1) / 2;
        let is_known = self.machines.keys().all(|other| *other == id || self.met.contains(&(*other, id)));
        // Once is enough: what came after it has nothing that anybody counts on, and may be about to begin
        // anew.
        let is_gone_already = self.machines.get(&id).is_some_and(Machine::was_wiped);
        if lost >= may_lose || !is_known || is_gone_already {
            return;
        }
        self.tell(|| format!("{trouble}: {id} loses power and all its data"));
        self.sometimes.saw("disk wiped");
        self.lose_power(id, &mut chance);
        self.met.retain(|(who, _)| *who != id);
        let lies = self.plan.has(FaultClass::LyingDisks);
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.wipe(lies);
        }
        self.after(trouble.for_ms, Happening::Start(id));
    }
}
