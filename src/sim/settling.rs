//! The end of a run: everything heals, or as much as makes a majority; then the cluster must serve again
//! (P11); then all machines lose power, and what was acknowledged must be there (P10).

use super::clients::Client;
use super::plan::{ELECTION_TIMEOUT_MS, Heal, TICK_MS};
use super::world::{Happening, World};
use super::{Checked, Violation};
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
        self.stays_settled()?;
        self.tell(|| "all machines lose power at once, for the last time".to_owned());
        for id in &live {
            self.lose_power(*id);
        }
        for id in &live {
            self.start(*id)?;
        }
        self.probe(&live, all_must_serve, "after the power came back")
    }

    /// Stragglers that hear no leader do not depose one whom a quorum hears (P11; FAULTS rows 8 and 47). Until
    /// all have met the newest term, they may.
    fn stays_settled(&mut self) -> Checked {
        if self.plan.heal != Heal::MajorityWithStragglers {
            return Ok(());
        }
        let patience_ms = MAX_ELECTION_TIMEOUTS * ELECTION_TIMEOUT_MS;
        self.run_until(self.now_ms + patience_ms, |_| false)?;
        let before = self.newest_term();
        self.run_until(self.now_ms + patience_ms, |_| false)?;
        let after = self.newest_term();
        if before == after {
            return Ok(());
        }
        let what = format!("elections go on while a majority is connected: term {before}, later {after}");
        Err(Violation::new("P11", what))
    }

    fn newest_term(&self) -> Term {
        let processes = self.machines.values().filter_map(|machine| machine.process.as_ref());
        processes.map(|process| process.node.raft().term()).max().unwrap_or_default()
    }

    /// Ends all troubles but those of the nodes that are to stay out. Says who is well.
    fn heal(&mut self) -> Result<BTreeSet<NodeId>, Violation> {
        self.is_calm = true;
        self.network.is_healed = true;
        self.clients.iter_mut().for_each(|client| client.is_quiet = true);
        let mut ids = self.plan.ids();
        self.chance.shuffle(&mut ids);
        let count = if self.plan.heal == Heal::All { ids.len() } else { self.plan.quorum() };
        let live: BTreeSet<NodeId> = ids.into_iter().take(count).collect();
        self.keep_out(&live);
        self.tell(|| format!("healed: {live:?} are well and connected"));
        for id in &live {
            if let Some(machine) = self.machines.get_mut(id) {
                machine.tick_ms = TICK_MS;
                machine.disk.fail_after(u64::MAX / 2, crate::storage::Failure::InputOutput);
            }
            self.resume(*id);
            self.start(*id)?;
        }
        Ok(live)
    }

    fn keep_out(&mut self, live: &BTreeSet<NodeId>) {
        let is_out = |id: NodeId| !live.contains(&id);
        if self.plan.heal == Heal::MajorityWithStragglers {
            let chance = &mut self.chance;
            let (shape, hub) = (chance.u8(0..3), live.first().copied());
            let mut cut = BTreeSet::new();
            for from in self.plan.ids() {
                for to in self.plan.ids() {
                    let is_cut = match shape {
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
            self.network.cut_only(|from, to| cut.contains(&(from, to)));
            return;
        }
        let stay_down = self.chance.bool();
        self.network.cut_only(|from, to| is_out(from) || is_out(to));
        for id in self.plan.ids().into_iter().filter(|id| is_out(*id) && stay_down) {
            if let Some(machine) = self.machines.get_mut(&id) {
                machine.is_held_down = true;
            }
            self.lose_power(id);
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
                self.after(1, Happening::Turn { client });
            }
        }
        let is_enough = |world: &World| {
            let mut probes =
                world.clients[first..].chunks(3).map(|one| one.iter().all(|probe| probe.is_done));
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
