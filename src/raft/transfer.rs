//! Handing the lead over (thesis 3.10): the leader takes no more proposals, brings the heir's log up to its
//! own, and tells it to campaign at once. When no other leader has come of it within an election timeout, the
//! leader goes on as if nothing had been asked (FAULTS row 51).
//!
//! Safe without any argument of its own: the heir's campaign is a campaign like any other, only earlier; a
//! voter that still hears its leader grants it because the leader asked for it.

use super::message::{Body, TimeoutNow};
use super::note::{Note, RoleReason};
use super::output::{Output, TransferRefusal};
use super::role::{Follower, Role};
use super::state::RaftState;
use crate::types::{NodeId, Term};

/// The lead is being handed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    /// To whom.
    pub heir: NodeId,
    /// Since when.
    pub ticks: u32,
    /// The heir was told to campaign, and will be told again with the next heartbeat.
    pub is_told: bool,
}

impl RaftState {
    /// Somebody wants this node to hand the lead over, to `heir` or to whoever is furthest.
    pub(super) fn on_transfer(&mut self, heir: Option<NodeId>, output: &mut Output) {
        let heir = heir.or_else(|| self.most_up_to_date_voter());
        output.transfer_refused = self.transfer_refusal(heir);
        let (Role::Leader(leader), Some(heir), None) = (&mut self.role, heir, &output.transfer_refused)
        else {
            return;
        };
        output.notes.push(Note::TransferBegun { heir });
        leader.transfer = Some(Transfer { heir, ticks: 0, is_told: false });
    }

    /// Whether the lead is being handed over.
    pub fn is_transferring(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.transfer.is_some())
    }

    fn transfer_refusal(&self, heir: Option<NodeId>) -> Option<TransferRefusal> {
        let Role::Leader(leader) = &self.role else {
            return Some(TransferRefusal::NotLeader { leader: self.leader() });
        };
        let Some(heir) = heir else { return Some(TransferRefusal::NobodyElse) };
        if leader.transfer.is_some() {
            Some(TransferRefusal::UnderWay)
        } else if heir == self.id {
            Some(TransferRefusal::LeadsAlready)
        } else if !self.configurations.current().voters.contains(&heir) {
            Some(TransferRefusal::NoVoter { id: heir })
        } else {
            None
        }
    }

    /// The other voter of whom the most is known, among those heard of lately.
    pub(super) fn most_up_to_date_voter(&self) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let voters = self.configurations.current().voters.iter().filter(|id| **id != self.id);
        let known = voters.filter_map(|id| leader.progress.get(id).map(|progress| (*id, progress)));
        known
            .max_by_key(|(id, progress)| {
                let is_silent = progress.silent_ticks >= self.settings.election_timeout_min_ticks;
                (!is_silent, progress.match_index, std::cmp::Reverse(*id))
            })
            .map(|(id, _)| id)
    }

    /// Time passes for a leader that hands over.
    pub(super) fn tick_transfer(&mut self, heartbeat_due: bool, output: &mut Output) {
        let patience_ticks = self.settings.election_timeout_max_ticks;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        transfer.ticks += 1;
        transfer.is_told &= !heartbeat_due;
        if transfer.ticks >= patience_ticks {
            output.notes.push(Note::TransferGivenUp { heir: transfer.heir });
            leader.transfer = None;
        }
    }

    /// At the end of a batch: tells the heir to campaign, once it has all that this leader has.
    pub(super) fn tell_heir(&mut self, output: &mut Output) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let heir = transfer.heir;
        let is_ready = leader.progress.get(&heir).is_some_and(|progress| progress.match_index == last);
        if is_ready && !transfer.is_told {
            transfer.is_told = true;
            output.after_save.push(self.message(heir, Body::TimeoutNow(TimeoutNow {})));
        }
    }

    /// The leader of this term wants this node to lead the next: no pre-vote, since the leader knows that
    /// this log is up to date and that it does not want to lead on. Only a voter may (FAULTS row 37).
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term, output: &mut Output) {
        let Role::Follower(Follower { leader: Some(leader), .. }) = &self.role else { return };
        if term != self.term || *leader != from || !self.may_campaign() {
            return;
        }
        self.campaign_in_earnest(true, RoleReason::TransferAsked { leader: from }, output);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::state::tests::{leading, started, step};
    use super::*;

    #[test]
    fn a_lead_that_is_being_handed_over_is_told() {
        let mut state = leading();
        assert!(!state.is_transferring());
        step(&mut state, Input::Transfer { heir: Some(NodeId(2)) });
        assert!(state.is_transferring());
        assert!(!started(&[1, 2, 3], true).is_transferring());
    }
}
