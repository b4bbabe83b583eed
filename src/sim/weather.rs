//! What goes wrong at a rate, for a while: spells of loss, of slow syncs and the like, over the whole cluster
//! or around one node.

use super::faults::{FaultClass, Trouble};
use crate::types::NodeId;
use std::collections::BTreeMap;
use std::fmt;

/// A spell, while it lasts.
#[derive(Clone, Copy, Debug)]
struct Spell {
    number: u32,
    /// Of so many chances, how many strike.
    rate: f64,
    /// How long what it delays is delayed, at most.
    max_ms: u64,
    /// Whom it meets; without, everybody.
    node: Option<NodeId>,
}

/// All spells of the moment, one a kind at most.
#[derive(Default)]
pub(super) struct Weather {
    spells: BTreeMap<FaultClass, Spell>,
}

impl Weather {
    /// A spell begins. Says what it is like.
    pub fn begin(&mut self, trouble: &Trouble, node: Option<NodeId>, chance: &mut fastrand::Rng) -> String {
        let (rate, max_ms) = match trouble.class {
            FaultClass::Loss => (chance.f64() * chance.f64() * 0.4, 0),
            FaultClass::Duplicates => (chance.f64() * 0.1, *chance.choice(&[300, 3_000]).unwrap_or(&300)),
            FaultClass::Delay => (0.25, chance.u64(10..=250)),
            FaultClass::Stale => (0.2 + chance.f64() * 0.8, 3_000),
            FaultClass::SlowDisk => (chance.f64() * 0.3, *chance.choice(&[20, 100, 1_500]).unwrap_or(&100)),
            FaultClass::SlowApplication => (1.0, chance.u64(20..=400)),
            other => panic!("{other} is no weather"),
        };
        let spell = Spell { number: trouble.number, rate, max_ms, node };
        self.spells.insert(trouble.class, spell);
        spell.to_string()
    }

    /// This spell is over.
    pub fn end(&mut self, trouble: &Trouble) {
        if self.spells.get(&trouble.class).is_some_and(|spell| spell.number == trouble.number) {
            self.spells.remove(&trouble.class);
        }
    }

    /// Whether it strikes what these nodes do just now, and for how many milliseconds, at least 1.
    pub fn strikes(&self, class: FaultClass, nodes: &[NodeId], chance: &mut fastrand::Rng) -> Option<u64> {
        let spell = self.spells.get(&class)?;
        let is_met = spell.node.is_none_or(|node| nodes.contains(&node));
        (is_met && chance.f64() < spell.rate).then(|| chance.u64(1..=spell.max_ms.max(1)))
    }
}

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spell { rate, max_ms, node, number: _ } = self;
        match node {
            Some(node) => write!(f, "{node} only, ")?,
            None => f.write_str("everybody, ")?,
        }
        write!(f, "{:.0} %", rate * 100.0)?;
        if *max_ms > 0 {
            write!(f, ", up to {max_ms} ms")?;
        }
        Ok(())
    }
}
