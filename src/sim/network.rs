//! The links between nodes, one in each direction. A link keeps its messages in order, as TCP does, within
//! one connection; when the connection breaks, what was under way is gone or, now and then, still arrives:
//! late, beside what the next connection carries, and even when that is cut.

use super::chance::stream;
use super::faults::FaultClass;
use super::weather::Weather;
use crate::types::{Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Messages under way on one link; more are dropped, as by a full queue of the server's.
const LINK_CAPACITY: usize = 1024;

/// Who sends to whom.
pub(super) type Ends = (NodeId, NodeId);

/// All links.
pub(super) struct Network {
    links: BTreeMap<Ends, Link>,
    /// What is cut, and by which trouble.
    cuts: BTreeMap<u32, BTreeSet<Ends>>,
}

struct Link {
    /// Counts the connections.
    epoch: u64,
    /// When the newest message under way arrives.
    last_arrival_ms: u64,
    under_way: usize,
    is_cut: bool,
    chance: fastrand::Rng,
}

/// When a message arrives, and over which connection; over none if it belongs to one that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub at_ms: u64,
    pub epoch: Option<u64>,
    /// The incarnation that the sender showed when it connected.
    pub incarnation: Incarnation,
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
    pub fn new(ids: &[NodeId], seed: u64) -> Network {
        let mut links = BTreeMap::new();
        for from in ids {
            for to in ids.iter().filter(|to| *to != from) {
                let chance = stream(seed, "link", (from.0.into(), to.0.into()));
                let link = Link { epoch: 0, last_arrival_ms: 0, under_way: 0, is_cut: false, chance };
                links.insert((*from, *to), link);
            }
        }
        Network { links, cuts: BTreeMap::new() }
    }

    /// Puts a message on its way: when it arrives, and when it arrives once more; neither if it is lost.
    pub fn send(
        &mut self,
        (from, to): Ends,
        incarnation: Incarnation,
        now_ms: u64,
        weather: &Weather,
    ) -> (Option<Arrival>, Option<Arrival>) {
        let Some(link) = self.links.get_mut(&(from, to)) else { return (None, None) };
        let mut chance = link.chance.fork();
        let usual_ms = chance.u64(0..=2);
        let mut strikes = |class| weather.strikes(class, &[from, to], &mut chance);
        let is_lost = strikes(FaultClass::Loss).is_some();
        if is_lost || link.is_cut || link.under_way >= LINK_CAPACITY {
            return (None, None);
        }
        let delay_ms = strikes(FaultClass::Delay).unwrap_or(usual_ms);
        link.under_way += 1;
        link.last_arrival_ms = link.last_arrival_ms.max(now_ms + delay_ms);
        let first = Arrival { at_ms: link.last_arrival_ms, epoch: Some(link.epoch), incarnation };
        let again = strikes(FaultClass::Duplicates).map(|after_ms| {
            let at_ms = first.at_ms + after_ms;
            Arrival { at_ms, epoch: None, incarnation }
        });
        (Some(first), again)
    }

    /// Whether a message gets through that arrives now.
    pub fn arrive(&mut self, (from, to): Ends, arrival: Arrival, weather: &Weather) -> Fate {
        let Some(link) = self.links.get_mut(&(from, to)) else { return Fate::Dropped };
        // It has waited at its receiver: no cut holds it back.
        let Some(epoch) = arrival.epoch else { return Fate::Delivered };
        link.under_way -= 1;
        if epoch == link.epoch {
            return if link.is_cut { Fate::Dropped } else { Fate::Delivered };
        }
        match weather.strikes(FaultClass::Stale, &[from, to], &mut link.chance.fork()) {
            Some(after_ms) => Fate::Late(Arrival { at_ms: arrival.at_ms + after_ms, epoch: None, ..arrival }),
            None => Fate::Dropped,
        }
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

    /// This trouble cuts these links, until it ends.
    pub fn cut(&mut self, trouble: u32, ends: BTreeSet<Ends>) {
        self.cuts.insert(trouble, ends);
        self.apply_cuts();
    }

    /// This trouble cuts nothing any more.
    pub fn mend(&mut self, trouble: u32) {
        self.cuts.remove(&trouble);
        self.apply_cuts();
    }

    /// Nothing is cut any more.
    pub fn mend_all(&mut self) {
        self.cuts.clear();
        self.apply_cuts();
    }

    fn apply_cuts(&mut self) {
        for (ends, link) in &mut self.links {
            link.is_cut = self.cuts.values().any(|cut| cut.contains(ends));
        }
    }

    /// Whether anything gets from one to the other.
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| !link.is_cut)
    }

    /// The links that are cut, as words.
    pub fn cuts(&self) -> String {
        let cut = self.links.iter().filter(|(_, link)| link.is_cut);
        let words: Vec<String> = cut.map(|((from, to), _)| format!("{from}->{to}")).collect();
        words.join(" ")
    }
}
