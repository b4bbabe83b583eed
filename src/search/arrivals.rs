//! What the network does. What may come of a set of messages at a core is worked out once for the two of
//! them, and looked up in all states in which some node is like this and another one has sent that.

use super::model::{CoreStep, Model, NOTHING, State, What};
use super::seen::Seen;
use super::sets::Sets;

/// What may come of a set of messages at a core.
pub(super) struct Arrivals {
    /// Those of which more comes than an answer.
    pub events: Box<[What]>,
    /// The answers to the others, if there are any: to each node, a set of messages.
    answers: Box<[u32]>,
    /// What is seen when they are given.
    seen: Seen,
}

impl Model {
    /// What may come of this set of messages at this core.
    pub fn arrivals(&self, core: u32, set: u32) -> &Arrivals {
        let number = self.arrivals_known.get((core, set), || {
            let arrivals = self.find_arrivals(core, set);
            u32::try_from(self.arrivals.push(arrivals)).expect("fewer than 2^32 fit into memory")
        });
        &self.arrivals[number as usize]
    }

    fn find_arrivals(&self, core: u32, set: u32) -> Arrivals {
        let (mut events, mut has_answers, mut seen) = (Vec::new(), false, Seen::default());
        let mut answers = vec![Sets::EMPTY; self.nodes()];
        for message in self.sets.get(set) {
            let whats = [What::Deliver(*message), What::DeliverLate(*message)];
            for what in whats.into_iter().take(1 + usize::from(self.core_may_be_late(core, *message))) {
                let step = self.core_step(core, what);
                if step == NOTHING {
                    continue;
                }
                match (&self.core_steps[step as usize], what) {
                    (Ok(CoreStep { only_sends: Some((sets, news)), .. }), What::Deliver(_)) => {
                        seen.join(*news);
                        has_answers = true;
                        answers
                            .iter_mut()
                            .zip(sets)
                            .for_each(|(set, more)| *set = self.sets.union(*set, *more));
                    }
                    (Ok(_) | Err(_), _) => events.push(what),
                }
            }
        }
        answers.retain(|_| has_answers);
        Arrivals { events: events.into(), answers: answers.into(), seen }
    }

    /// Lets arrive whatever does nothing at its receiver but that it is answered, until there is no more. The
    /// state `before` was like this; since then, something has happened to the node `acted`.
    ///
    /// Nothing is lost by that. The network forgets nothing and forces nothing, so with one more message in
    /// it the same nodes with the same past can do all that they could do without; and whatever was true of
    /// them stays true.
    pub fn saturate(&self, before: &[u32], state: &mut State, acted: usize, seen: &mut Seen) {
        if self.core_number(state[acted]) != self.core_number(before[acted]) {
            (0..self.nodes()).for_each(|sender| _ = self.hear(state, acted, sender, seen));
        }
        let mut have_spoken = 1_u32 << acted;
        while have_spoken != 0 {
            let sender = have_spoken.trailing_zeros() as usize;
            have_spoken &= !(1 << sender);
            for node in 0..self.nodes() {
                let is_new = self.sent(state[sender])[node] != self.sent(before[sender])[node];
                let has_answered = is_new && self.hear(state, node, sender, seen);
                have_spoken |= u32::from(has_answered) << node;
            }
        }
    }

    /// A node answers what another one has sent to it, where that is all it does. Says whether there is
    /// anything new in its answers.
    fn hear(&self, state: &mut State, node: usize, sender: usize, seen: &mut Seen) -> bool {
        let [sent, before] = self.under_way(state, sender, node);
        let has_news = self.hear_set(state, node, sent, seen);
        self.hear_set(state, node, before, seen) || has_news
    }

    fn hear_set(&self, state: &mut State, node: usize, set: u32, seen: &mut Seen) -> bool {
        if set == Sets::EMPTY || !self.bounds.is_awake(node) {
            return false;
        }
        let core = self.core_number(state[node]);
        let Arrivals { answers, seen: news, .. } = self.arrivals(core, set);
        seen.join(*news);
        if answers.is_empty() {
            return false;
        }
        let sent = self.sent(state[node]);
        let both = |(known, more): (&u32, &u32)| self.sets.union(*known, *more);
        let is_news = sent.iter().zip(answers).any(|pair| both(pair) != *pair.0);
        if is_news {
            state[node] = self.saying(state[node], core, answers);
        }
        is_news
    }
}
