//! Makes a run that failed small: fewer nodes, fewer kinds of faults, fewer troubles, fewer turns of clients,
//! and an earlier end, as long as the same property fails. Each try is a run of its own (delta debugging:
//! first large parts are left out, then ever smaller ones, until nothing more can be).
//!
//! ```text
//!   5 nodes, 60 troubles, 368 turns, 30000 ms        P5 fails
//!     -> no turns               holds: they are needed
//!     -> troubles without 1-30  fails: kept, and so on
//!   2 nodes, 1 trouble, 2 turns, 1480 ms             P5 fails
//! ```
//!
//! That works because chance has streams (`chance.rs`): what is left out changes nothing in the rest.

use super::plan::{Overrides, Plan};
use super::{Detail, Numbers, Run, Violation, run};

/// A run that fails, as small as it could be made.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The run.
    pub plan: Plan,
    /// How it fails: the same property as before, perhaps in other words.
    pub violation: Violation,
    /// How many runs that took.
    pub runs: u64,
    /// Whether nothing more can be left out; otherwise there was no time to try.
    pub is_smallest: bool,
}

/// Makes this run, which fails so, small. `progress` is told of each try and the smallest run so far, and
/// says whether to go on.
pub fn shrink(plan: &Plan, violation: &Violation, progress: &mut dyn FnMut(u64, &Plan) -> bool) -> Shrunk {
    let smallest = Shrunk { plan: plan.clone(), violation: violation.clone(), runs: 0, is_smallest: false };
    let mut search = Search { smallest, has_time: true, progress };
    loop {
        let before = search.smallest.plan.overrides().clone();
        search.end_early();
        search.fewer_nodes();
        search.fewer_spares();
        search.fewer_faults();
        search.leave_out(|overrides| &mut overrides.troubles);
        search.leave_out(|overrides| &mut overrides.turns);
        if !search.has_time || *search.smallest.plan.overrides() == before {
            return Shrunk { is_smallest: search.has_time, ..search.smallest };
        }
    }
}

struct Search<'a> {
    smallest: Shrunk,
    has_time: bool,
    progress: &'a mut dyn FnMut(u64, &Plan) -> bool,
}

impl Search<'_> {
    /// Whether the run still fails with this changed; then it is the smallest so far.
    fn fails_with(&mut self, change: impl FnOnce(&mut Overrides)) -> bool {
        let mut overrides = self.smallest.plan.overrides().clone();
        change(&mut overrides);
        if !self.has_time || overrides == *self.smallest.plan.overrides() {
            return false;
        }
        let plan = Plan::with(self.smallest.plan.seed, &overrides);
        let outcome = run(&plan, Detail::Nothing);
        self.smallest.runs += 1;
        let is_same = |violation: &Violation| violation.property == self.smallest.violation.property;
        let fails = match &outcome.violation {
            Some(violation) if is_same(violation) => {
                self.smallest.violation = violation.clone();
                self.smallest.plan = without_the_rest(&plan, &outcome);
                true
            }
            Some(_) | None => false,
        };
        self.has_time = (self.progress)(self.smallest.runs, &self.smallest.plan);
        fails
    }

    /// What is not done when the run fails needs no doing. Where it fails in the end, when all is healed, an
    /// earlier end may do.
    fn end_early(&mut self) {
        let run_ms = self.smallest.plan.run_ms;
        self.fails_with(|overrides| overrides.run_ms = Some(run_ms));
        for eighths in [0, 1, 2, 4, 6, 7] {
            let run_ms = self.smallest.plan.run_ms * eighths / 8;
            if self.fails_with(|overrides| overrides.run_ms = Some(run_ms)) {
                return;
            }
        }
    }

    fn fewer_nodes(&mut self) {
        for nodes in 1..self.smallest.plan.nodes {
            if self.fails_with(|overrides| overrides.nodes = Some(nodes)) {
                return;
            }
        }
    }

    fn fewer_spares(&mut self) {
        for spares in 0..self.smallest.plan.spares {
            if self.fails_with(|overrides| overrides.spares = Some(spares)) {
                return;
            }
        }
    }

    fn fewer_faults(&mut self) {
        for class in self.smallest.plan.faults.clone().0 {
            let mut faults = self.smallest.plan.faults.clone();
            faults.0.remove(&class);
            self.fails_with(|overrides| overrides.faults = Some(faults));
        }
    }

    /// Leaves out numbers, all at once, then by ever smaller parts.
    fn leave_out(&mut self, numbers: fn(&mut Overrides) -> &mut Option<Numbers>) {
        let left = |search: &Self| -> Vec<u32> {
            let mut overrides = search.smallest.plan.overrides().clone();
            numbers(&mut overrides).iter().flat_map(Numbers::iter).collect()
        };
        let mut part = left(self).len();
        while part > 0 {
            let mut from = 0;
            while from < left(self).len() {
                let all = left(self);
                let kept = all.iter().take(from).chain(all.iter().skip(from + part)).copied().collect();
                if !self.fails_with(|overrides| *numbers(overrides) = Some(kept)) {
                    from += part;
                }
            }
            part /= 2;
        }
    }
}

/// The same run without what did not come to pass before it failed.
fn without_the_rest(plan: &Plan, run: &Run) -> Plan {
    let mut overrides = plan.overrides().clone();
    overrides.run_ms = Some(plan.run_ms.min(run.simulated_ms));
    overrides.troubles = Some(run.troubles.clone());
    overrides.turns = Some(run.turns.clone());
    Plan::with(plan.seed, &overrides)
}
