//! The operator: asks whichever node it takes for the leader for changes of members, for a transfer of the
//! lead, for a snapshot; often for what makes no sense, and at bad times. Waits for nothing.

use super::chance::stream;
use super::faults::Trouble;
use super::process::Ticket;
use super::world::{Happening, World};
use crate::node::{Event, Operation, OperationOutcome};
use crate::raft::{Configuration, MemberChange};
use crate::types::{Member, NodeId};
use std::collections::BTreeSet;
use std::sync::Arc;

impl World {
    /// Asks this node, if it runs.
    fn ask(&mut self, id: NodeId, trouble: Trouble, operation: Operation) {
        self.tell(|| format!("{trouble}: {id} is asked for {operation:?}"));
        let number = u64::from(trouble.number);
        if let Operation::ChangeMembers(change) = &operation {
            self.ledger.members.ask(number, change.clone());
        }
        let Some(process) = self.process(id) else { return };
        process
            .clients_inbox
            .push_back(Event::Operation { operation, ticket: Ticket { number, read: None } });
        self.wake(id);
    }

    /// Asks a node for other members, those that it knows of.
    pub fn ask_for_members(&mut self, id: NodeId, trouble: Trouble, chance: &mut fastrand::Rng) {
        let Some(process) = self.process(id) else { return };
        let current = process.node.raft().shared_configuration();
        let change = draw_change(&self.plan.ids(), &current, id, chance);
        if chance.u8(0..4) == 0 {
            self.switch_off_a_stranger(trouble, chance);
        }
        // Whoever is to come is switched on, as a rule.
        for added in change.add.keys().copied().filter(|_| chance.u8(0..4) > 0) {
            if let Some(machine) = self.machines.get_mut(&added) {
                machine.is_held_down = false;
                self.after(1, Happening::Start(added));
            }
        }
        self.ask(id, trouble, Operation::ChangeMembers(change));
    }

    /// A machine that does not belong to the cluster any more, or not yet, is switched off.
    fn switch_off_a_stranger(&mut self, trouble: Trouble, chance: &mut fastrand::Rng) {
        let electorates = self.electorates();
        let is_needed = |id: &NodeId| electorates.iter().any(|voters| voters.contains(id));
        let strangers: Vec<NodeId> = self.plan.ids().into_iter().filter(|id| !is_needed(id)).collect();
        let Some(stranger) = chance.choice(&strangers).copied() else { return };
        self.sometimes.saw("machine of no member switched off");
        self.tell(|| format!("{trouble}: {stranger} is no member, and is switched off"));
        self.lose_power(stranger, chance);
        if let Some(machine) = self.machines.get_mut(&stranger) {
            machine.is_held_down = true;
        }
    }

    /// Asks a node to hand the lead over.
    pub fn ask_for_transfer(&mut self, id: NodeId, trouble: Trouble, chance: &mut fastrand::Rng) {
        let heir = chance.bool().then(|| self.plan.node_of(chance.u16(..)));
        self.ask(id, trouble, Operation::Transfer(heir));
    }

    /// Asks a node for a snapshot.
    pub fn ask_for_snapshot(&mut self, id: NodeId, trouble: Trouble) {
        self.ask(id, trouble, Operation::Snapshot);
    }

    /// The operator hears from a node.
    pub fn has_settled(&mut self, id: NodeId, number: u64, outcome: &OperationOutcome) {
        self.tell(|| format!("{id} says of trouble {number}: {outcome:?}"));
        self.sometimes.saw(match outcome {
            OperationOutcome::Transferred(_) => "transfer done",
            OperationOutcome::TransferRefused(_) => "transfer refused",
            OperationOutcome::TransferGivenUp => "transfer given up",
            OperationOutcome::SnapshotTaken(_) => "snapshot taken for an operator",
            // Counted when they are checked.
            OperationOutcome::ChangeBegun(_)
            | OperationOutcome::ChangeRefused(_)
            | OperationOutcome::ChangeTooNew(_)
            | OperationOutcome::ChangeLost => return,
        });
    }

    /// The sets of voters of each of which a majority must be well for the cluster to serve, whoever comes to
    /// lead, and also when that one goes on with a change: those of the newest committed configuration, and
    /// of all that may come after it.
    pub fn electorates(&self) -> Vec<BTreeSet<NodeId>> {
        let committed = i64::try_from(self.ledger.committed.len()).unwrap_or(i64::MAX);
        let logs = self.machines.values().flat_map(|machine| &machine.durable.log);
        let later = logs.filter(|entry| entry.index.0 >= committed);
        let later = later.filter_map(|entry| entry.configuration.as_ref());
        let all: Vec<&Arc<Configuration>> = later.chain([self.ledger.members.newest()]).collect();
        let sets = all.iter().flat_map(|configuration| {
            let Configuration { voters, outgoing, next_voters, .. } = configuration.as_ref();
            [Some(voters), Some(outgoing), next_voters.as_ref()].into_iter().flatten()
        });
        sets.filter(|set| !set.is_empty()).cloned().collect()
    }
}

/// A change of these members that an operator may want, or should not.
fn draw_change(
    all: &[NodeId],
    current: &Configuration,
    asked: NodeId,
    chance: &mut fastrand::Rng,
) -> MemberChange {
    let (mut voters, mut others): (Vec<NodeId>, Vec<NodeId>) =
        all.iter().partition(|id| current.is_voter(**id));
    chance.shuffle(&mut voters);
    chance.shuffle(&mut others);
    let learners: Vec<NodeId> = current.learners.iter().copied().collect();
    if current.next_voters.is_some() && chance.bool() {
        return change(&[], &learners[..chance.usize(0..=learners.len())]);
    }
    let count = if chance.u8(0..3) == 0 { 2 } else { 1 };
    let some = |ids: &[NodeId]| ids.iter().copied().take(count).collect::<Vec<NodeId>>();
    match chance.u8(0..12) {
        0..3 => change(&some(&others), &[]),
        3..5 => change(&[], &some(&voters)),
        5..8 => change(&some(&others), &some(&voters)),
        8 => change(&[], &[asked]),
        9 => change(&some(&others), &[asked]),
        10 => change(&others, &voters),
        // What makes no sense.
        _ => change(&some(&voters), &some(&others)),
    }
}

/// A change that adds and removes these.
pub(super) fn change(add: &[NodeId], remove: &[NodeId]) -> MemberChange {
    let member = |id: &NodeId| (*id, Member::at(format!("{id}:1"), format!("{id}:2")));
    MemberChange { add: add.iter().map(member).collect(), remove: remove.iter().copied().collect() }
}

/// How many machines wait to become members, in a seed in which members change.
pub(super) fn draw_spares(seed: u64) -> u16 {
    stream(seed, "spares", (0, 0)).u16(0..=3)
}
