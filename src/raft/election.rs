//! Elections (paper 5.2 and 5.4.1, figure 2 "RequestVote RPC"), the pre-vote before them (thesis 9.6), and
//! the leader's own check that a quorum still answers (thesis 6.2).
//!
//! ```text
//!   Follower --timeout--> pre-candidate --quorum would vote--> Candidate --quorum voted--> Leader
//!      ^                       |  ^  timeout: again               |  timeout: pre-vote again  |
//!      +---- a leader of this term, a newer term, a quorum refused, no quorum answers --------+
//! ```

use super::message::{Body, RequestVote, RequestVoteResponse};
use super::note::{Note, RoleReason, VoteRefusal};
use super::output::Output;
use super::role::{Follower, Role};
use super::state::RaftState;
use crate::types::{NodeId, Term};

impl Follower {
    /// A follower of `leader`, or of nobody yet, that campaigns after `timeout_ticks` without news.
    pub fn new(leader: Option<NodeId>, elapsed_ticks: u32, timeout_ticks: u32) -> Follower {
        Follower { leader, elapsed_ticks, timeout_ticks, reads_asked: 0, reads_asked_ticks: 0 }
    }
}

impl RaftState {
    pub(super) fn tick_follower(&mut self, output: &mut Output) {
        self.tick_requests();
        let Role::Follower(follower) = &mut self.role else { return };
        follower.elapsed_ticks = follower.elapsed_ticks.saturating_add(1);
        if follower.elapsed_ticks >= follower.timeout_ticks {
            self.campaign(output);
        }
    }

    pub(super) fn tick_candidate(&mut self, output: &mut Output) {
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.elapsed_ticks = candidate.elapsed_ticks.saturating_add(1);
        if candidate.elapsed_ticks >= candidate.timeout_ticks {
            self.campaign(output);
        }
    }

    /// The election timeout elapsed: asks whether a campaign would succeed. Who may not campaign can only
    /// wait for a leader, but must not send its clients to one that is gone.
    fn campaign(&mut self, output: &mut Output) {
        if !self.may_campaign() {
            if self.leader().is_some() {
                self.become_follower(self.term, None, None, RoleReason::ElectionTimeout, output);
            }
            return;
        }
        self.become_candidate(true, RoleReason::ElectionTimeout, output);
        self.request_votes(output);
        self.count_votes(output);
    }

    /// Only a voter leads. A voter that its newest configuration leaves out is one until it knows that to be
    /// committed: it may be the only one that has that entry, and needed for a quorum of the configuration
    /// before, in which nobody else wins without its vote, nor with it, the logs of all others being behind
    /// (thesis 4.2.2). It does not count itself. Who may not vote has no vote for itself either.
    pub(super) fn may_campaign(&self) -> bool {
        let (current, index) = (self.configurations.current(), self.configurations.current_index());
        let leaves = || {
            let before = self.configurations.at(index.previous());
            index > self.commit_index && before.is_voter(self.id) && !current.is_member(self.id)
        };
        self.may_vote && (current.is_voter(self.id) || leaves())
    }

    /// Campaigns for the next term, because pre-votes are won or the leader asks for it.
    pub(super) fn campaign_in_earnest(
        &mut self,
        leadership_transfer: bool,
        reason: RoleReason,
        output: &mut Output,
    ) {
        self.become_candidate(false, reason, output);
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.leadership_transfer = leadership_transfer;
        }
        self.request_votes(output);
        self.count_votes(output);
    }

    /// Asks every other voter. The requests speak of a term and a vote that must be saved before they leave.
    fn request_votes(&self, output: &mut Output) {
        let Role::Candidate(candidate) = &self.role else { return };
        let request = RequestVote {
            campaign_term: self.campaign_term(candidate.pre_vote),
            pre_vote: candidate.pre_vote,
            leadership_transfer: candidate.leadership_transfer,
            last: self.log.last(),
        };
        for peer in self.peers() {
            output.after_save.push(self.message(peer, Body::RequestVote(request.clone())));
        }
    }

    fn campaign_term(&self, pre_vote: bool) -> Term {
        if pre_vote { self.term.next() } else { self.term }
    }

    /// Receiver's side of figure 2's RequestVote RPC. The answer carries this node's term, also to a
    /// pre-vote: a candidate that is behind learns it there (FAULTS row 9).
    pub(super) fn on_request_vote(&mut self, from: NodeId, request: RequestVote, output: &mut Output) {
        let RequestVote { campaign_term, pre_vote, .. } = request;
        let refusal = self.vote_refusal(from, &request);
        let granted = refusal.is_none();
        match refusal {
            Some(why) => {
                output.notes.push(Note::VoteRefused { candidate: from, campaign_term, pre_vote, why });
            }
            None => {
                output.notes.push(Note::VoteGranted { candidate: from, campaign_term, pre_vote });
                self.grant_vote(from, pre_vote, output);
            }
        }
        let response = RequestVoteResponse { campaign_term, pre_vote, granted };
        output.after_save.push(self.message(from, Body::RequestVoteResponse(response)));
    }

    /// Why this vote cannot be given, if so. The order matters only for what the log says.
    fn vote_refusal(&self, candidate: NodeId, request: &RequestVote) -> Option<VoteRefusal> {
        if !self.may_vote {
            return Some(VoteRefusal::NotNamed);
        }
        // A live leader is not deposed by whoever missed it (thesis 4.2.3), unless it asked for that.
        if let Some(leader) = self.live_leader().filter(|_| !request.leadership_transfer) {
            return Some(VoteRefusal::LeaderAlive { leader });
        }
        // "Reply false if term < currentTerm" (figure 2). A pre-vote is for a term to come: granting it for
        // the current one could only lead to a campaign that this node would refuse.
        let is_over = if request.pre_vote {
            request.campaign_term <= self.term
        } else {
            request.campaign_term < self.term
        };
        if is_over {
            return Some(VoteRefusal::OldTerm { ours: self.term });
        }
        // "If votedFor is null or candidateId" (figure 2). A pre-vote is about another term's vote.
        if let Some(other) = self.voted_for.filter(|voted_for| !request.pre_vote && *voted_for != candidate) {
            return Some(VoteRefusal::AlreadyVoted { candidate: other });
        }
        // "and candidate's log is at least as up-to-date as receiver's log" (5.4.1): the election
        // restriction, on which Leader Completeness rests.
        let (theirs, ours) = (request.last, self.log.last());
        (theirs < ours).then_some(VoteRefusal::LogBehind { theirs, ours })
    }

    fn grant_vote(&mut self, candidate: NodeId, pre_vote: bool, output: &mut Output) {
        if pre_vote {
            return;
        }
        // A campaign of an older term was refused, one of a newer term has been followed: it is ours.
        self.voted_for = Some(candidate);
        self.save_hard_state(output);
        // "Election timeout elapses without ... granting vote to candidate" (figure 2): wait for its outcome.
        match &mut self.role {
            Role::Follower(follower) => follower.elapsed_ticks = 0,
            // In this term a candidate has voted for itself and a leader was a candidate: neither gets here,
            // but a pre-candidate, which has not, does.
            Role::Candidate(candidate) => candidate.elapsed_ticks = 0,
            Role::Leader(_) => panic!("{self}: a leader granted a vote in its own term"),
        }
    }

    pub(super) fn on_request_vote_response(
        &mut self,
        from: NodeId,
        response: RequestVoteResponse,
        output: &mut Output,
    ) {
        let RequestVoteResponse { campaign_term, pre_vote, granted } = response;
        let expected_term = match &self.role {
            Role::Candidate(candidate) => self.campaign_term(candidate.pre_vote),
            // The campaign that this answers is over.
            Role::Follower(_) | Role::Leader(_) => return,
        };
        let Role::Candidate(candidate) = &mut self.role else { return };
        // A late answer speaks of another campaign (FAULTS row 6).
        if campaign_term != expected_term || pre_vote != candidate.pre_vote {
            return;
        }
        let camp = if granted { &mut candidate.granted } else { &mut candidate.refused };
        if camp.insert(from) {
            output.notes.push(Note::VoteReceived { voter: from, campaign_term, pre_vote, granted });
        }
        self.count_votes(output);
    }

    fn count_votes(&mut self, output: &mut Output) {
        let Role::Candidate(candidate) = &self.role else { return };
        if self.configurations.current().has_quorum(|id| candidate.granted.contains(&id)) {
            if candidate.pre_vote {
                self.campaign_in_earnest(false, RoleReason::PreVotesWon, output);
            } else {
                self.become_leader(output);
            }
        } else if self.configurations.current().has_quorum(|id| candidate.refused.contains(&id)) {
            self.become_follower(self.term, None, None, RoleReason::VotesLost, output);
        }
    }

    /// A leader that no quorum answers steps down (thesis 6.2): its clients must not wait for what cannot be
    /// committed, and whoever still hears it must become free to vote.
    pub(super) fn step_down_without_quorum(&mut self, output: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let patience_ticks = self.settings.election_timeout_max_ticks;
        let heard = |id: NodeId| {
            let peer = leader.progress.get(&id);
            id == self.id || peer.is_some_and(|peer| peer.silent_ticks < patience_ticks)
        };
        if !self.configurations.current().has_quorum(heard) {
            let heard = self.peers().filter(|id| heard(*id)).collect();
            self.become_follower(self.term, None, None, RoleReason::QuorumLost { heard }, output);
        }
    }
}
