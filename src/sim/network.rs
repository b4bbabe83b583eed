//! The links between nodes, one in each direction. A link keeps its messages in order, as TCP does, within
//! one connection; when the connection breaks, what was under way is gone or, now and then, still arrives:
//! late, beside what the next connection carries, and even when that is cut.

use super::plan::{FaultClass, Plan};
use crate::types::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Messages under way on one link; more are dropped, as by a full queue of the server's.
const LINK_CAPACITY: usize = 1024;
/// How late a message of a connection that is gone may arrive.
const STALE_MAX_MS: u64 = 3_000;

/// All links.
pub(super) struct Network {
    links: BTreeMap<(NodeId, NodeId), Link>,
    pub is_healed: bool,
}

#[derive(Default)]
struct Link {
    /// Counts the connections.
    epoch: u64,
    /// When the newest message under way arrives.
    last_arrival_ms: u64,
    under_way: usize,
    is_cut: bool,
}

/// When a message arrives, and over which connection; over none if it belongs to one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub at_ms: u64,
    pub epoch: Option<u64>,
}

/// What becomes of a message at its arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Dropped,
    /// It comes again, late.
    Late(Arrival),
}

impl Network {
    pub fn new(ids: &[NodeId]) -> Network {
        let mut links = BTreeMap::new();
        for from in ids {
            for to in ids.iter().filter(|to| *to != from) {
                links.insert((*from, *to), Link::default());
            }
        }
        Network { links, is_healed: false }
    }

    /// Puts a message on its way: when it arrives, once, twice or never.
    pub fn send(
        &mut self,
        (from, to): (NodeId, NodeId),
        now_ms: u64,
        plan: &Plan,
        chance: &mut fastrand::Rng,
    ) -> Vec<Arrival> {
        let has = |class| !self.is_healed && plan.has(class);
        let lost = has(FaultClass::Loss) && chance.f64() < plan.rates.loss;
        let twice = has(FaultClass::Duplicates) && chance.f64() < plan.rates.duplicate;
        let slow = has(FaultClass::Delay) && chance.u8(0..4) == 0;
        let delay_ms = if slow { chance.u64(1..=plan.rates.delay_max_ms) } else { chance.u64(0..=2) };
        let Some(link) = self.links.get_mut(&(from, to)) else { return Vec::new() };
        if lost || link.is_cut || link.under_way >= LINK_CAPACITY {
            return Vec::new();
        }
        link.under_way += 1;
        link.last_arrival_ms = link.last_arrival_ms.max(now_ms + delay_ms);
        let first = Arrival { at_ms: link.last_arrival_ms, epoch: Some(link.epoch) };
        let late_ms = if chance.u8(0..4) == 0 { STALE_MAX_MS } else { STALE_MAX_MS / 10 };
        let again = Arrival { at_ms: first.at_ms + chance.u64(0..=late_ms), epoch: None };
        if twice { vec![first, again] } else { vec![first] }
    }

    /// Whether a message gets through that arrives now.
    pub fn arrive(
        &mut self,
        (from, to): (NodeId, NodeId),
        arrival: Arrival,
        plan: &Plan,
        chance: &mut fastrand::Rng,
    ) -> Fate {
        let Some(link) = self.links.get_mut(&(from, to)) else { return Fate::Dropped };
        // It has waited at its receiver: no cut holds it back.
        let Some(epoch) = arrival.epoch else { return Fate::Delivered };
        link.under_way -= 1;
        if epoch == link.epoch {
            return if link.is_cut { Fate::Dropped } else { Fate::Delivered };
        }
        if !self.is_healed && plan.has(FaultClass::Stale) && chance.f64() < plan.rates.stale {
            let at_ms = arrival.at_ms + chance.u64(1..=STALE_MAX_MS);
            return Fate::Late(Arrival { at_ms, epoch: None });
        }
        Fate::Dropped
    }

    /// The connections between these two break, in both directions, and are made anew.
    pub fn reconnect(&mut self, one: NodeId, other: NodeId) {
        for ends in [(one, other), (other, one)] {
            if let Some(link) = self.links.get_mut(&ends) {
                link.epoch += 1;
                link.last_arrival_ms = 0;
            }
        }
    }

    /// All connections of a node break.
    pub fn reconnect_all(&mut self, id: NodeId) {
        let peers: BTreeSet<NodeId> =
            self.links.keys().map(|(from, _)| *from).filter(|from| *from != id).collect();
        for peer in peers {
            self.reconnect(id, peer);
        }
    }

    /// Cuts these links; all others work.
    pub fn cut_only(&mut self, is_cut: impl Fn(NodeId, NodeId) -> bool) {
        for ((from, to), link) in &mut self.links {
            link.is_cut = is_cut(*from, *to);
        }
    }

    /// The links that are cut, as words.
    pub fn cuts(&self) -> String {
        let cut = self.links.iter().filter(|(_, link)| link.is_cut);
        let words: Vec<String> = cut.map(|((from, to), _)| format!("{from}->{to}")).collect();
        words.join(" ")
    }
}
