//! What breaks: processes, machines, links. The plan says which kinds of trouble there are; when and whom it
//! meets is drawn here.

use super::Checked;
use super::machine::Batch;
use super::plan::FaultClass;
use super::world::{Happening, World};
use crate::checker::Outcome;
use crate::raft::RoleName;
use crate::storage::Failure;
use crate::types::NodeId;
use std::collections::BTreeSet;

/// How long a node that ended stays down at most.
const DOWN_MAX_MS: u64 = 3_000;

/// A trouble, or the end of one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The next one is to be drawn.
    Next,
    /// A node starts.
    Start(NodeId),
    /// A node goes on after a pause.
    Resume(NodeId),
    /// All links work again.
    Mend,
    /// One node after the other is restarted: this one now.
    Roll(NodeId),
}

impl World {
    pub fn on_trouble(&mut self, trouble: Trouble) -> Checked {
        match trouble {
            Trouble::Next if self.is_calm => {}
            Trouble::Next => {
                let every_ms = self.plan.rates.fault_every_ms;
                let delay_ms = self.chance.u64(every_ms / 4..=every_ms * 2);
                self.after(delay_ms, Happening::Trouble(Trouble::Next));
                self.draw_trouble();
            }
            Trouble::Start(id) => {
                if self.machines.get(&id).is_some_and(|machine| !machine.is_held_down) {
                    self.start(id)?;
                }
            }
            Trouble::Resume(id) => self.resume(id),
            Trouble::Mend => self.mend(),
            Trouble::Roll(id) => self.roll(id),
        }
        Ok(())
    }

    fn draw_trouble(&mut self) {
        let kinds: Vec<FaultClass> = [
            FaultClass::Reconnects,
            FaultClass::Partitions,
            FaultClass::Crashes,
            FaultClass::PowerLoss,
            FaultClass::Pauses,
            FaultClass::RollingRestarts,
        ]
        .into_iter()
        .filter(|class| self.plan.has(*class))
        .collect();
        match self.chance.choice(&kinds) {
            Some(FaultClass::Reconnects) => {
                let (one, other) = (self.draw_node(), self.draw_node());
                self.sometimes.saw("connection made anew");
                self.tell(|| format!("the connections between {one} and {other} break"));
                self.network.reconnect(one, other);
            }
            Some(FaultClass::Partitions) => self.partition(),
            Some(FaultClass::Crashes) => {
                let id = self.draw_node();
                self.kill(id, "at rest");
            }
            // Rarer than the rest: it costs everybody an election.
            Some(FaultClass::PowerLoss) if self.chance.u8(0..3) == 0 => self.lose_all_power(),
            Some(FaultClass::Pauses) => {
                let id = self.draw_node();
                self.pause(id);
            }
            Some(FaultClass::RollingRestarts) if self.chance.u8(0..3) == 0 => self.roll(NodeId(1)),
            Some(_) | None => {}
        }
    }

    /// A node, the leader half of the time.
    fn draw_node(&mut self) -> NodeId {
        let leads = |id: &NodeId| {
            let process = self.machines.get(id).and_then(|machine| machine.process.as_ref());
            process.is_some_and(|process| process.node.raft().role() == RoleName::Leader)
        };
        let ids = self.plan.ids();
        let leader = ids.iter().copied().find(leads);
        let any = self.chance.choice(&ids).copied().unwrap_or(NodeId(1));
        leader.filter(|_| self.chance.bool()).unwrap_or(any)
    }

    /// Cuts links in one of the shapes that real networks have been seen to take.
    fn partition(&mut self) {
        let mut ids = self.plan.ids();
        let hub = self.draw_node();
        self.chance.shuffle(&mut ids);
        // Half of the time the hub alone, which often leads.
        let count = if self.chance.bool() { 1 } else { self.chance.usize(1..=ids.len()) };
        let others = ids.iter().copied().filter(|id| *id != hub);
        let side: BTreeSet<NodeId> = std::iter::once(hub).chain(others).take(count).collect();
        let place = |id: NodeId| ids.iter().position(|other| *other == id).unwrap_or(0);
        let shape = match self.chance.u8(0..6) {
            0 => {
                self.network.cut_only(|from, to| side.contains(&from) != side.contains(&to));
                "symmetric"
            }
            1 => {
                self.network.cut_only(|from, to| side.contains(&from) && !side.contains(&to));
                "one way"
            }
            2 => {
                // Two halves that only the hub hears both of.
                let is_left = |id: NodeId| place(id) % 2 == 0;
                self.network.cut_only(|from, to| from != hub && to != hub && is_left(from) != is_left(to));
                "bridge"
            }
            3 => {
                let count = ids.len();
                let beside =
                    |one: usize, other: usize| (one + 1) % count == other || (other + 1) % count == one;
                self.network.cut_only(|from, to| !beside(place(from), place(to)));
                "ring"
            }
            4 => {
                let other = ids.iter().copied().find(|id| *id != hub).unwrap_or(hub);
                self.network.cut_only(|from, to| (from, to) == (hub, other) || (from, to) == (other, hub));
                "one link"
            }
            _ => {
                let cut: BTreeSet<(NodeId, NodeId)> = ids
                    .iter()
                    .flat_map(|from| ids.iter().map(|to| (*from, *to)))
                    .filter(|_| self.chance.u8(0..3) == 0)
                    .collect();
                self.network.cut_only(|from, to| cut.contains(&(from, to)));
                "partial"
            }
        };
        self.sometimes.saw("link cut");
        let cuts = self.network.cuts();
        self.tell(|| format!("partition, {shape}: {cuts}"));
        let delay_ms = self.chance.u64(200..=6_000);
        self.after(delay_ms, Happening::Trouble(Trouble::Mend));
    }

    fn mend(&mut self) {
        if self.is_calm {
            return;
        }
        self.network.cut_only(|_, _| false);
        self.tell(|| "all links work".to_owned());
    }

    /// Whether the process dies in this batch: after how many of its effects.
    pub fn kill_point(&mut self, batch: &Batch) -> Option<usize> {
        let is_worth_it = batch.has_saved && !self.is_calm && self.plan.has(FaultClass::Crashes);
        if !is_worth_it || self.chance.u16(0..300) != 0 {
            return None;
        }
        let before = batch.before_save.len();
        Some(before + self.chance.usize(0..=batch.after_save.len()))
    }

    /// Lets an operation of the disk fail, soon: the append or the sync of a save, or one of a new segment.
    pub fn arm_disk(&mut self, id: NodeId) {
        let is_bad = !self.is_calm && self.plan.has(FaultClass::DiskFaults) && self.chance.u16(0..600) == 0;
        let dies = !self.is_calm && self.plan.has(FaultClass::Crashes) && self.chance.u16(0..800) == 0;
        if is_bad || dies {
            let skip = self.chance.u64(0..4);
            let failure = if self.chance.bool() { Failure::InputOutput } else { Failure::NoSpace };
            if let Some(machine) = self.machines.get(&id) {
                machine.disk.fail_after(skip, failure);
            }
        }
    }

    /// How long a sync takes.
    pub fn sync_ms(&mut self) -> u64 {
        let is_slow = !self.is_calm && self.plan.has(FaultClass::SlowDisk);
        if is_slow && self.chance.f64() < self.plan.rates.slow_sync {
            self.sometimes.saw("sync was slow");
            self.chance.u64(1..=self.plan.rates.slow_sync_max_ms)
        } else {
            0
        }
    }

    /// The disk has failed, and with it the node. Its machine loses power before it starts again, so that
    /// what a failed sync left behind is not taken for written. In a run whose disks are sound, this was a
    /// kill in the midst of a save, with or without the machine's power.
    pub fn end_by_disk(&mut self, id: NodeId, error: &str) {
        let is_kill = !self.plan.has(FaultClass::DiskFaults);
        self.sometimes.saw(if is_kill { "killed in a save" } else { "disk fault ended a node" });
        self.tell(|| format!("{id} ends: {error}"));
        if is_kill && self.chance.bool() {
            self.stop(id, false);
        } else {
            self.lose_power(id);
        }
        self.start_later(id);
    }

    /// Kills a process, with or without its machine's power.
    pub fn kill(&mut self, id: NodeId, when: &str) {
        let is_running = self.machines.get(&id).is_some_and(|machine| machine.process.is_some());
        if !is_running {
            return;
        }
        if when == "between effects" {
            self.sometimes.saw("killed between effects");
        }
        let loses_power = self.chance.bool();
        self.tell(|| {
            format!("{id} is killed {when}{}", if loses_power { ", its machine loses power" } else { "" })
        });
        if loses_power {
            self.lose_power(id);
        } else {
            self.stop(id, false);
        }
        self.start_later(id);
    }

    /// A machine loses power; what was not synced may go.
    pub fn lose_power(&mut self, id: NodeId) {
        self.sometimes.saw("power lost");
        self.stop(id, true);
    }

    fn stop(&mut self, id: NodeId, loses_power: bool) {
        let (mut chance, mode) = (self.chance.fork(), self.chance.u8(0..3));
        let mut choose = |count: usize| match mode {
            0 => 0,
            1 => count - 1,
            _ => chance.usize(0..count),
        };
        let keeping: Option<&mut dyn FnMut(usize) -> usize> =
            if loses_power { Some(&mut choose) } else { None };
        let Some(machine) = self.machines.get_mut(&id) else { return };
        let Some(process) = machine.stop(keeping) else { return };
        // Every client that was connected to it hears that it is gone.
        let mut numbers: BTreeSet<u64> = process.waiting.into_keys().collect();
        let tickets = process.clients_inbox.iter().filter_map(|event| match event {
            crate::node::Event::Write { ticket, .. } | crate::node::Event::Read { ticket } => {
                Some(ticket.number)
            }
            _ => None,
        });
        numbers.extend(tickets);
        if let Some(work) = process.work {
            numbers.extend(work.entries.iter().filter_map(|(_, ticket)| ticket.as_ref().map(|it| it.number)));
            numbers.extend(work.reads.iter().map(|ticket| ticket.number));
        }
        for number in numbers {
            self.after(
                self.plan.rates.think_max_ms / 10 + 5,
                Happening::Answer { number, outcome: Outcome::Lost },
            );
        }
    }

    fn start_later(&mut self, id: NodeId) {
        let delay_ms = match self.chance.u8(0..3) {
            0 => self.chance.u64(1..=50),
            _ => self.chance.u64(50..=DOWN_MAX_MS),
        };
        // A disk that fails at the start refuses it; it is tried again.
        if !self.is_calm && self.plan.has(FaultClass::DiskFaults) && self.chance.u8(0..8) == 0 {
            let skip = self.chance.u64(0..12);
            if let Some(machine) = self.machines.get(&id) {
                machine.disk.fail_after(skip, Failure::InputOutput);
            }
        }
        self.after(delay_ms, Happening::Trouble(Trouble::Start(id)));
    }

    pub fn lose_all_power(&mut self) {
        self.sometimes.saw("power of all lost");
        self.tell(|| "all machines lose power".to_owned());
        for id in self.plan.ids() {
            let was_down = self.machines.get(&id).is_some_and(|machine| machine.process.is_none());
            self.lose_power(id);
            if !was_down {
                self.start_later(id);
            }
        }
    }

    fn pause(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id) else { return };
        machine.is_paused = machine.process.is_some();
        let delay_ms = self.chance.u64(20..=4_000);
        self.sometimes.saw("node paused");
        self.tell(|| format!("{id} is paused for {delay_ms} ms"));
        self.after(delay_ms, Happening::Trouble(Trouble::Resume(id)));
    }

    pub fn resume(&mut self, id: NodeId) {
        let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_paused) else { return };
        machine.is_paused = false;
        self.sometimes.saw("node resumed");
        self.tell(|| format!("{id} goes on"));
    }

    /// Restarts a node and goes on to the next one when that is up again.
    fn roll(&mut self, id: NodeId) {
        if self.is_calm || id.0 > self.plan.nodes {
            return;
        }
        self.sometimes.saw("rolling restart");
        self.tell(|| format!("{id} is restarted in its turn"));
        self.stop(id, false);
        self.after(30, Happening::Trouble(Trouble::Start(id)));
        let delay_ms = self.chance.u64(500..=2_500);
        self.after(delay_ms, Happening::Trouble(Trouble::Roll(NodeId(id.0 + 1))));
    }
}
