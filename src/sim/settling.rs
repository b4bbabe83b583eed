//! The end of a run: everything heals, or as much as makes a majority; then the cluster must serve again
//! (P11); then all machines lose power, and what was acknowledged must be there (P10).

use super::chance::stream;
use super::clients::Client;
use super::faults::FaultClass;
use super::machine::{Condition, Machine};
use super::plan::{ELECTION_TIMEOUT_MS, Heal, TICK_MS};
use super::process::Ticket;
use super::weather::Weather;
use super::world::World;
use super::{Checked, Violation};
use crate::node::{Event, Operation};
use crate::raft::RoleName;
use crate::types::{NodeId, Term};
use std::collections::BTreeSet;

/// Within so many election timeouts a cluster that was healed must serve (P11).
const MAX_ELECTION_TIMEOUTS: u64 = 10;

impl World {
    /// Heals, and asks for liveness and durability.
    pub fn settle(&mut self) -> Checked {
        let live = self.heal()?;
        let all_must_serve = self.plan.heal != Heal::MajorityWithStragglers;
        self.probe(&live, all_must_serve, "after everything was healed")?;
        self.tell(|| "all machines lose power at once, for the last time".to_owned());
        let mut chance = stream(self.plan.seed, "end", (0, 0));
        for id in &live {
            self.lose_power(*id, &mut chance);
        }
        for id in &live {
            self.start(*id)?;
        }
        self.probe(&live, all_must_serve, "after the power came back")?;
        if self.plan.heal == Heal::All {
            self.changes_end()?;
        }
        let has_strangers = self.plan.has(FaultClass::MemberChanges) && self.plan.heal == Heal::All;
        if has_strangers || self.plan.heal == Heal::MajorityWithStragglers {
            self.stays_settled()?;
        }
        Ok(())
    }

    /// A change of members that was under way comes to its end when all are well.
    fn changes_end(&mut self) -> Checked {
        let rejoins = |machine: &Machine| machine.condition == Condition::Rejoins;
        let is_over = |world: &World| {
            let members = world.ledger.members.newest();
            let is_at_its_end = !members.is_joint() && members.next_voters.is_none();
            is_at_its_end && !world.machines.values().any(rejoins)
        };
        self.run_until(self.now_ms + MAX_ELECTION_TIMEOUTS * ELECTION_TIMEOUT_MS, is_over)?;
        if is_over(self) {
            return Ok(());
        }
        let what = format!("a change of members does not come to its end: {}", self.ledger.members.newest());
        Err(Violation::new("P11", what))
    }

    /// One link is cut, to the leader of a cluster in which nothing else happens: whoever misses the leader
    /// must not depose it while a quorum hears it (P11, FAULTS rows 8 and 47).
    fn stays_settled(&mut self) -> Checked {
        let patience_ms = MAX_ELECTION_TIMEOUTS * ELECTION_TIMEOUT_MS;
        self.network.mend_all();
        for id in self.plan.ids() {
            self.resume(id);
        }
        self.run_until(self.now_ms + patience_ms, |_| false)?;
        let counts = |machine: &&Machine| machine.process.is_some() && machine.lost.is_none();
        let running = self.machines.values().filter(counts);
        let running: Vec<(bool, NodeId)> = running.map(|machine| (leads(machine), machine.id)).collect();
        let leader = running.iter().find(|(leads, _)| *leads).map(|(_, id)| *id);
        let members = self.ledger.members.newest();
        let is_member = |id: NodeId| members.is_voter(id);
        let victim = running.iter().find(|(leads, id)| !leads && is_member(*id)).map(|(_, id)| *id);
        // Without the victim there must be a quorum still.
        let (Some(leader), Some(victim)) = (leader, victim) else { return Ok(()) };
        let is_left = |id| id != victim && running.iter().any(|(_, running)| *running == id);
        if !members.has_quorum(is_left) {
            return Ok(());
        }
        let before = self.newest_term();
        self.tell(|| format!("{leader} and {victim} do not hear each other any more"));
        self.network.cut(0, BTreeSet::from([(leader, victim), (victim, leader)]));
        self.run_until(self.now_ms + patience_ms, |_| false)?;
        let after = self.newest_term();
        if before == after {
            return Ok(());
        }
        let what = format!("{leader} leads term {before}, and a cut link to {victim} leads to term {after}");
        Err(Violation::new("P11", what))
    }

    fn newest_term(&self) -> Term {
        let processes = self.machines.values().filter_map(|machine| machine.process.as_ref());
        processes.map(|process| process.node.raft().term()).max().unwrap_or_default()
    }

    /// Ends all troubles but those of the nodes that are to stay out. Says who is well.
    fn heal(&mut self) -> Result<BTreeSet<NodeId>, Violation> {
        self.is_calm = true;
        self.weather = Weather::default();
        self.network.mend_all();
        self.dooms.clear();
        self.bad_disks.clear();
        self.clients.iter_mut().for_each(|client| client.is_quiet = true);
        let mut chance = stream(self.plan.seed, "heal", (0, 0));
        if self.plan.heal != Heal::All {
            self.withdraw_changes();
        }
        let live = self.draw_live(&mut chance);
        self.keep_out(&live, &mut chance);
        self.sometimes.saw(match self.plan.heal {
            Heal::All => "healed: everything",
            Heal::Majority => "healed: a majority",
            Heal::MajorityWithStragglers => "healed: a majority, with stragglers",
        });
        self.tell(|| format!("healed: {live:?} are well and connected"));
        for machine in self.machines.values_mut() {
            machine.disk.disarm();
            machine.disk.lie(false);
        }
        // Where all is to be well, also who wants to be let in again.
        let is_well = |machine: &Machine| {
            let comes_back = self.plan.heal == Heal::All && machine.condition == Condition::Rejoins;
            live.contains(&machine.id) || comes_back
        };
        let well: Vec<NodeId> =
            self.machines.values().filter(|machine| is_well(machine)).map(|machine| machine.id).collect();
        for id in &well {
            if let Some(machine) = self.machines.get_mut(id) {
                machine.tick_ms = TICK_MS;
                machine.is_held_down = false;
                if let Condition::Flipped { name, at, mask } = machine.condition.clone() {
                    machine.disk.flip(&name, at, mask);
                    machine.condition = Condition::Sound;
                }
            }
            self.resume(*id);
            self.start(*id)?;
        }
        Ok(live)
    }

    /// Changes that operators have asked for and no node has looked at yet are not asked for any more: other
    /// members could need a majority of which some stay out.
    fn withdraw_changes(&mut self) {
        for machine in self.machines.values_mut() {
            if let Some(process) = &mut machine.process {
                process.clients_inbox.retain(|event| !is_change(event));
            }
        }
    }

    /// All that can be well, or a majority of them, half of the time without the leader.
    fn draw_live(&self, chance: &mut fastrand::Rng) -> BTreeSet<NodeId> {
        let sound = self.machines.values().filter(|machine| machine.lost.is_none());
        let mut ids: Vec<(bool, NodeId)> = sound.map(|machine| (leads(machine), machine.id)).collect();
        chance.shuffle(&mut ids);
        if chance.bool() {
            ids.sort_by_key(|(leads, _)| !leads);
        }
        let mut live: BTreeSet<NodeId> = ids.iter().map(|(_, id)| *id).collect();
        if self.plan.heal == Heal::All {
            return live;
        }
        // One after the other is left out, as long as there are enough without it.
        let electorates = self.electorates();
        for (_, id) in ids {
            live.remove(&id);
            let has_majority =
                |voters: &BTreeSet<NodeId>| 2 * voters.intersection(&live).count() > voters.len();
            if !electorates.iter().all(has_majority) {
                live.insert(id);
            }
        }
        live
    }

    /// Keeps all others out, but where all is to be well: then these are nodes that lost their data, and must
    /// not disturb.
    fn keep_out(&mut self, live: &BTreeSet<NodeId>, chance: &mut fastrand::Rng) {
        if self.plan.heal == Heal::All {
            return;
        }
        let is_out = |id: NodeId| !live.contains(&id);
        let with_stragglers = self.plan.heal == Heal::MajorityWithStragglers;
        let (shape, hub) = (chance.u8(0..3), live.first().copied());
        let mut cut = BTreeSet::new();
        for from in self.plan.ids() {
            for to in self.plan.ids() {
                let is_cut = match shape {
                    _ if !with_stragglers => true,
                    // They miss one node, which may lead; they hear nobody; anything.
                    0 => Some(from) == hub || Some(to) == hub,
                    1 => is_out(to),
                    _ => chance.bool(),
                };
                if (is_out(from) || is_out(to)) && is_cut {
                    cut.insert((from, to));
                }
            }
        }
        self.network.cut(0, cut);
        let stay_down = !with_stragglers && chance.bool();
        for id in self.plan.ids().into_iter().filter(|id| is_out(*id) && stay_down) {
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.is_held_down = true;
            }
            self.lose_power(id, chance);
        }
    }

    /// Asks each of these nodes for a write, a read and everything, until all, or at least one, have
    /// answered.
    fn probe(&mut self, nodes: &BTreeSet<NodeId>, all_must_serve: bool, when: &str) -> Checked {
        let began_ms = self.now_ms;
        let first = self.clients.len();
        for id in nodes {
            let lines = [
                format!(r#"{{"op":"set","key":"probe","value":{}}}"#, 1_000_000_000 + began_ms),
                r#"{"op":"get","key":"probe"}"#.to_owned(),
                r#"{"op":"scan","prefix":"","limit":100}"#.to_owned(),
            ];
            for line in lines {
                let client = self.clients.len();
                self.clients.push(Client::probe(*id, line));
                self.next_turn(client);
            }
        }
        // Who belongs to the cluster may change meanwhile, where a change was under way.
        let is_enough = |world: &World| {
            let voters = &world.ledger.members.newest().voters;
            let probes = world.clients[first..].chunks(3).zip(nodes);
            let mut probes = probes
                .filter(|(_, node)| voters.contains(node))
                .map(|(one, _)| one.iter().all(|probe| probe.is_done));
            if all_must_serve { probes.all(|done| done) } else { probes.any(|done| done) }
        };
        let patience_ms = MAX_ELECTION_TIMEOUTS * ELECTION_TIMEOUT_MS;
        self.run_until(began_ms + patience_ms, is_enough)?;
        if !is_enough(self) {
            let states: Vec<String> = self
                .machines
                .values()
                .map(|machine| match &machine.process {
                    Some(process) => process.node.raft().to_string(),
                    None => format!("{} is down", machine.id),
                })
                .collect();
            let what = format!("no service within {patience_ms} ms {when}: {}", states.join("; "));
            return Err(Violation::new("P11", what));
        }
        let took_ms = self.now_ms - began_ms;
        self.tell(|| format!("served within {took_ms} ms {when}"));
        Ok(())
    }
}

fn is_change(event: &Event<Ticket>) -> bool {
    matches!(event, Event::Operation { operation: Operation::ChangeMembers(_), .. })
}

fn leads(machine: &Machine) -> bool {
    let process = machine.process.as_ref();
    process.is_some_and(|process| process.node.raft().role() == RoleName::Leader)
}
