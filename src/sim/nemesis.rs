//! What breaks, when its time has come: the troubles of the plan begin and end here.

use super::Checked;
use super::chance::stream;
use super::faults::{FaultClass, Trouble};
use super::lives::{Doom, How};
use super::partitions::Shape;
use super::world::{Happening, World};
use crate::raft::RoleName;
use crate::storage::Failure;
use crate::types::NodeId;

impl World {
    /// A trouble begins. Once the run is calm, none does.
    pub fn begin(&mut self, trouble: Trouble) -> Checked {
        if self.is_calm {
            return Ok(());
        }
        self.begun.insert(trouble.number);
        let mut chance = trouble.chance(self.plan.seed);
        let id = self.draw_node(&mut chance);
        match trouble.class {
            FaultClass::Loss
            | FaultClass::Delay
            | FaultClass::Duplicates
            | FaultClass::Stale
            | FaultClass::SlowDisk
            | FaultClass::SlowApplication => {
                let node = chance.bool().then_some(id);
                let spell = self.weather.begin(&trouble, node, &mut chance);
                self.tell(|| format!("{trouble}: {spell}, for {} ms", trouble.for_ms));
            }
            FaultClass::Reconnects => {
                let other = self.plan.node_of(chance.u16(..));
                self.sometimes.saw("connection made anew");
                self.tell(|| format!("{trouble}: the connections between {id} and {other} break"));
                self.network.reconnect(id, other);
            }
            FaultClass::Partitions => {
                let shape = Shape::draw(&mut chance);
                self.network.cut(trouble.number, shape.cuts(&self.plan.ids(), id, &mut chance));
                self.sometimes.saw(shape.name());
                let cuts = self.network.cuts();
                self.tell(|| format!("{trouble}: {}, {cuts}", shape.name()));
            }
            FaultClass::Crashes => self.begin_crash(id, trouble, chance),
            FaultClass::PowerLoss => self.lose_all_power(trouble, &mut chance),
            FaultClass::DiskFaults => {
                self.fail_disk(id, &mut chance, 4);
                self.tell(|| format!("{trouble}: the disk of {id} goes bad for {} ms", trouble.for_ms));
                self.bad_disks.insert(id, chance);
            }
            FaultClass::BitFlips => self.flip_a_bit(id, trouble, chance),
            FaultClass::Wipes => self.wipe(id, trouble, chance),
            FaultClass::Pauses => self.pause(id, trouble),
            FaultClass::RollingRestarts => self.roll(NodeId(1), trouble),
            FaultClass::ClockSkew => {
                let tick_ms = chance.u64(5..=20);
                self.set_tick(id, tick_ms);
                self.sometimes.saw("clock at another speed");
                self.tell(|| format!("{trouble}: {id} takes {tick_ms} ms for 10"));
            }
            FaultClass::SmallLimits
            | FaultClass::ShortLogs
            | FaultClass::LyingDisks
            | FaultClass::HastyReads => {}
        }
        self.after(trouble.for_ms, Happening::TroubleEnds(trouble, id));
        Ok(())
    }

    /// A trouble that met this node ends.
    pub fn end(&mut self, trouble: Trouble, id: NodeId) {
        if self.is_calm {
            return;
        }
        match trouble.class {
            FaultClass::Loss
            | FaultClass::Delay
            | FaultClass::Duplicates
            | FaultClass::Stale
            | FaultClass::SlowDisk
            | FaultClass::SlowApplication => self.weather.end(&trouble),
            FaultClass::Partitions => self.network.mend(trouble.number),
            FaultClass::DiskFaults => {
                self.bad_disks.remove(&id);
                if let Some(machine) = self.machines.get(&id) {
                    machine.disk.disarm();
                }
            }
            FaultClass::Pauses => return self.resume(id),
            FaultClass::ClockSkew => self.set_tick(id, super::plan::TICK_MS),
            // These end by themselves.
            FaultClass::Reconnects
            | FaultClass::Crashes
            | FaultClass::PowerLoss
            | FaultClass::BitFlips
            | FaultClass::Wipes
            | FaultClass::RollingRestarts
            | FaultClass::SmallLimits
            | FaultClass::ShortLogs
            | FaultClass::LyingDisks
            | FaultClass::HastyReads => return,
        }
        self.tell(|| format!("{trouble} is over"));
    }

    /// A node, the leader half of the time.
    fn draw_node(&mut self, chance: &mut fastrand::Rng) -> NodeId {
        let any = self.plan.node_of(chance.u16(..));
        let leads = |id: &NodeId| {
            let process = self.machines.get(id).and_then(|machine| machine.process.as_ref());
            process.is_some_and(|process| process.node.raft().role() == RoleName::Leader)
        };
        let leader = self.plan.ids().into_iter().find(leads);
        leader.filter(|_| chance.bool()).unwrap_or(any)
    }

    fn set_tick(&mut self, id: NodeId, tick_ms: u64) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.tick_ms = tick_ms;
        }
    }

    /// Lets an operation of the disk fail, soon: it is one of the next so many.
    pub fn fail_disk(&mut self, id: NodeId, chance: &mut fastrand::Rng, soon: u64) {
        let skip = chance.u64(0..soon);
        let failure = if chance.bool() { Failure::InputOutput } else { Failure::NoSpace };
        if let Some(machine) = self.machines.get(&id) {
            machine.disk.fail_after(skip, failure);
        }
    }

    /// A process dies: now, between two effects of one of its next batches, in the midst of a save, or in
    /// its next start.
    fn begin_crash(&mut self, id: NodeId, trouble: Trouble, mut chance: fastrand::Rng) {
        let is_running = self.process(id).is_some();
        match chance.u8(0..10) {
            8.. if is_running && self.plan.has(FaultClass::ShortLogs) => {
                self.tell(|| format!("{trouble}: {id} is to die over a snapshot"));
                self.dooms.insert(id, Doom { trouble, how: How::InSnapshot, chance });
            }
            0..3 if is_running => {
                let batches = chance.u64(0..20);
                self.tell(|| format!("{trouble}: {id} is to die between two effects"));
                self.dooms.insert(id, Doom { trouble, how: How::BetweenEffects { batches }, chance });
            }
            3..6 if is_running => {
                self.fail_disk(id, &mut chance, 4);
                self.tell(|| format!("{trouble}: {id} is to die in a save"));
                self.dooms.insert(id, Doom { trouble, how: How::InSave, chance });
            }
            6 if is_running => self.kill(id, trouble, chance, "killed at rest"),
            _ => {
                self.kill(id, trouble, chance.fork(), "killed at rest");
                self.tell(|| format!("{trouble}: {id} is to die in its next start"));
                self.dooms.insert(id, Doom { trouble, how: How::InStart, chance });
            }
        }
    }

    fn lose_all_power(&mut self, trouble: Trouble, chance: &mut fastrand::Rng) {
        self.sometimes.saw("power of all lost");
        self.tell(|| format!("{trouble}: all machines lose power"));
        for id in self.plan.ids() {
            let delay_ms = chance.u64(1..=trouble.for_ms);
            self.lose_power(id, chance);
            self.after(delay_ms, Happening::Start(id));
        }
    }

    fn pause(&mut self, id: NodeId, trouble: Trouble) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.is_paused = machine.process.is_some();
        self.sometimes.saw("node paused");
        self.tell(|| format!("{trouble}: {id} is paused for {} ms", trouble.for_ms));
    }

    pub fn resume(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_paused) else { return };
        machine.is_paused = false;
        self.limits.was_paused(machine);
        self.sometimes.saw("node resumed");
        self.tell(|| format!("{id} goes on"));
        self.wake(id);
    }

    /// Restarts a node and goes on to the next one when that is up again.
    pub fn roll(&mut self, id: NodeId, trouble: Trouble) {
        if self.is_calm || id.0 > self.plan.nodes {
            return;
        }
        self.sometimes.saw("rolling restart");
        self.tell(|| format!("{trouble}: {id} is restarted in its turn"));
        self.stop(id, None);
        self.after(30, Happening::Start(id));
        let mut chance = stream(self.plan.seed, "roll", (trouble.number.into(), id.0.into()));
        self.after(chance.u64(500..=2_500), Happening::Roll(NodeId(id.0 + 1), trouble));
    }
}
