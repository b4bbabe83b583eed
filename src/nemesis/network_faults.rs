//! What is done to the links between nodes, and to their ports. Each shape in which links are cut here leaves
//! a majority whose members reach each other, and such a majority must serve while the rest stays broken (the
//! first time and every other time that is waited for, with nothing else broken meanwhile).

use super::fault::{Deck, Fault};
use super::flood;
use super::proxy::{Network, Rule};
use super::run::Run;
use super::{Done, HarnessFailure};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// So many more acknowledged writes than were under way when links were cut show that the cluster serves.
const SERVED_WRITES: u64 = 60;

/// Breaks links until the time is over and each fault of the deck has come.
pub(super) fn break_network(
    run: &Run<'_>,
    network: &Network,
    mut deck: Deck,
    chance: &mut fastrand::Rng,
) -> Done {
    loop {
        run.nap(Duration::from_millis(chance.u64(200..1_500)));
        let is_late = !run.is_time_for_faults() && deck.was_through();
        if is_late || run.is_cut_short() {
            return Ok(());
        }
        let Some(fault) = deck.draw(chance) else { return Ok(()) };
        let is_alone = deck.is_first_round() || chance.bool();
        let turn = is_alone.then(|| run.alone());
        let links = run.links();
        let before = network.interfered();
        let mut breaking = Breaking { run, network, chance, is_alone };
        let has_worked = breaking.carry_out(fault)?;
        network.heal();
        drop(links);
        drop(turn);
        // A cut that kept nothing, because nobody sent anything, was none.
        if has_worked || network.interfered() > before {
            run.tally.saw_fault(fault);
        }
    }
}

struct Breaking<'a, 'b> {
    run: &'a Run<'b>,
    network: &'a Network,
    chance: &'a mut fastrand::Rng,
    is_alone: bool,
}

impl Breaking<'_, '_> {
    /// Whether it is certain that it had an effect; the links know of others.
    fn carry_out(&mut self, fault: Fault) -> Result<bool, HarnessFailure> {
        match fault {
            Fault::CutLeader => self.cut_leader(),
            Fault::CutMinority => self.cut_minority(),
            Fault::CutOneWay => self.cut_one_way(),
            Fault::CutOneLink => self.cut_one_link(),
            Fault::Bridge => self.bridge(),
            Fault::StrandedLeader => self.strand_leader(),
            Fault::Delay => self.delay(),
            Fault::SlowLinks => self.slow_links(),
            Fault::Resets => return Ok(self.reset()),
            Fault::Flood => return self.flood(),
            other => return Err(HarnessFailure(format!("{other} is none that is done to the network"))),
        }
        Ok(false)
    }

    fn ids(&self) -> Vec<u16> {
        self.run.addresses.keys().copied().collect()
    }

    fn leader(&mut self) -> u16 {
        self.run.leader().unwrap_or_else(|| self.run.draw_node(self.chance))
    }

    /// All nodes but this one, in a drawn order.
    fn others(&mut self, id: u16) -> Vec<u16> {
        let mut others = self.ids();
        others.retain(|other| *other != id);
        self.chance.shuffle(&mut others);
        others
    }

    /// Cuts all links between two nodes, in both directions, for which this says so.
    fn cut_between(&mut self, what: &str, is_cut: impl Fn(u16, u16) -> bool) {
        self.bend(what, |from, to| {
            let is_cut = is_cut(from, to) || is_cut(to, from);
            Rule { cut_forward: is_cut, cut_backward: is_cut, ..Rule::default() }
        });
    }

    /// Gives the links rules for a while, and lets the cluster show that it serves if nothing else is broken.
    fn bend(&mut self, what: &str, rule: impl Fn(u16, u16) -> Rule) {
        let length = Duration::from_millis(self.chance.u64(500..=5_000));
        let serving = if self.is_alone { ", must serve" } else { "" };
        self.run.say(format_args!("{what}, for {} ms{serving}", length.as_millis()));
        self.network.set_rules(rule);
        if self.is_alone {
            self.run.must_serve(SERVED_WRITES, None, what);
            self.run.tally.served_meanwhile.fetch_add(1, Ordering::Relaxed);
        }
        self.run.nap(length);
    }

    fn cut_leader(&mut self) {
        let leader = self.leader();
        let what = format!("cut         {} from all others", self.run.name(leader));
        self.cut_between(&what, |from, _| from == leader);
    }

    fn cut_minority(&mut self) {
        let first = self.run.draw_node(self.chance);
        let count = self.ids().len().saturating_sub(1) / 2;
        let mut side: BTreeSet<u16> = self.others(first).into_iter().take(count.saturating_sub(1)).collect();
        side.insert(first);
        self.cut_between(&format!("cut         {side:?} from the others"), |from, to| {
            side.contains(&from) && !side.contains(&to)
        });
    }

    /// Towards one node or towards all; of the messages alone, or of everything, so that a connection of the
    /// other direction lives on and its answers do not arrive.
    fn cut_one_way(&mut self) {
        let one = self.run.draw_node(self.chance);
        let others = self.others(one);
        let count = if self.chance.bool() { 1 } else { others.len() };
        let others: BTreeSet<u16> = others.into_iter().take(count).collect();
        let (is_sender, is_everything) = (self.chance.bool(), self.chance.bool());
        let mute = if is_sender { "is not heard by" } else { "does not hear" };
        let how = if is_everything { "" } else { ", answers on the other connection excepted" };
        let what = format!("one-way     {} {mute} {others:?}{how}", self.run.name(one));
        let is_lost = move |from: u16, to: u16| {
            let (sender, receiver) = if is_sender { (from, to) } else { (to, from) };
            sender == one && others.contains(&receiver)
        };
        self.bend(&what, |from, to| Rule {
            cut_forward: is_lost(from, to),
            cut_backward: is_everything && is_lost(to, from),
            ..Rule::default()
        });
    }

    /// Row 47 of the faults: the follower hears of no leader, and must not keep the others from having one.
    fn cut_one_link(&mut self) {
        let leader = self.leader();
        let Some(follower) = self.others(leader).first().copied() else { return };
        self.cut_between(&format!("one link    {} and n{follower}", self.run.name(leader)), |from, to| {
            (from, to) == (leader, follower)
        });
    }

    fn bridge(&mut self) {
        let hub = self.run.draw_node(self.chance);
        let others = self.others(hub);
        let (left, right) = others.split_at(others.len() / 2);
        let what = format!("bridge      n{hub} between {left:?} and {right:?}");
        self.cut_between(&what, |from, to| left.contains(&from) && right.contains(&to));
    }

    /// Row 48: the old leader reaches one node of the majority and no majority. It must step down, and not
    /// keep that node from voting. One more node is cut off from everything.
    fn strand_leader(&mut self) {
        let leader = self.leader();
        let others = self.others(leader);
        let [bridge, lost, rest @ ..] = others.as_slice() else { return };
        let what = format!(
            "stranded    {} hears only n{bridge} of {bridge} and {rest:?}, n{lost} nobody",
            self.run.name(leader)
        );
        self.cut_between(&what, |from, to| from == *lost || (from == leader && to != *bridge));
    }

    fn delay(&mut self) {
        let delay_max_ms = self.chance.u64(10..=200);
        let one = self.chance.bool().then(|| self.run.draw_node(self.chance));
        let of = one.map_or("all links".to_owned(), |one| format!("links of {}", self.run.name(one)));
        self.bend(&format!("delay       up to {delay_max_ms} ms on {of}"), |from, to| Rule {
            delay_max_ms: if one.is_none_or(|one| from == one || to == one) { delay_max_ms } else { 0 },
            ..Rule::default()
        });
    }

    fn slow_links(&mut self) {
        let rate = self.chance.u32(4_000..=60_000);
        let one = self.run.draw_node(self.chance);
        let what = format!("slow links  of {}: {rate} bytes/s", self.run.name(one));
        self.bend(&what, |from, to| Rule {
            bytes_per_second: (from == one || to == one).then_some(rate),
            ..Rule::default()
        });
    }

    fn reset(&mut self) -> bool {
        let rounds = self.chance.usize(1..=12);
        let one = self.chance.bool().then(|| self.run.draw_node(self.chance));
        let of = one.map_or("all nodes".to_owned(), |one| self.run.name(one));
        self.run.say(format_args!("resets      the connections of {of}, {rounds} times"));
        let mut count = 0;
        for _ in 0..rounds {
            count += self.network.reset(|from, to| one.is_none_or(|one| from == one || to == one));
            self.run.nap(Duration::from_millis(self.chance.u64(20..=400)));
        }
        count > 0
    }

    fn flood(&mut self) -> Result<bool, HarnessFailure> {
        let target = self.run.draw_node(self.chance);
        self.run.say(format_args!("flood       of connections to {}", self.run.name(target)));
        let Some(address) = self.run.addresses.get(&target) else { return Ok(false) };
        let flood = flood::Flood::begin(self.run, target, *address, self.chance);
        if self.is_alone {
            self.run.must_serve(SERVED_WRITES, None, "a node is flooded with connections");
            self.run.tally.served_meanwhile.fetch_add(1, Ordering::Relaxed);
        }
        let counts = flood.keep_up(self.run, Duration::from_millis(self.chance.u64(1_000..=4_000)));
        self.run.say(format_args!("flood       is over: {counts}"));
        Ok(counts.opened > 0)
    }
}
