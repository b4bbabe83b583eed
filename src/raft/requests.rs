//! What clients want, at whichever node they ask: proposals and reads, at the leader and passed on to it
//! (paper section 8, thesis 6.4).

use super::forwarding::ForwardedFrom;
use super::message::{
    Body, ForwardProposals, ForwardProposalsResponse, Proposal, ReadIndexRequest, ReadIndexResponse,
};
use super::output::{Output, ReadReady, Refusal};
use super::reads::Reader;
use super::role::{Follower, Role};
use super::state::RaftState;
use crate::types::{Command, Index, NodeId, RequestId, Term};
use std::collections::BTreeSet;

/// Heartbeats without progress after which a follower sends its proposals again.
pub(super) const RESEND_AFTER_HEARTBEATS: u32 = 4;

impl RaftState {
    /// Time passes for what is under way to the leader.
    pub(super) fn tick_requests(&mut self) {
        let heartbeat_ticks = self.settings.heartbeat_ticks;
        let Role::Follower(follower) = &mut self.role else { return };
        self.forwarding.tick(RESEND_AFTER_HEARTBEATS.saturating_mul(heartbeat_ticks));
        follower.reads_asked_ticks += 1;
        if follower.reads_asked_ticks >= heartbeat_ticks {
            // Ask again for what is not answered yet: the request or its answer may be lost.
            follower.reads_asked = 0;
            follower.reads_asked_ticks = 0;
        }
    }

    /// A leader appends, a follower passes on, and without a leader nothing is done.
    pub(super) fn on_propose(&mut self, request: RequestId, command: Command, output: &mut Output) {
        let max_forwarded_bytes = self.settings.max_forwarded_bytes;
        match &self.role {
            // Nothing is taken that the heir would have to wait for (thesis 3.10).
            Role::Leader(leader) if leader.transfer.is_some() => {
                output.refused.push((request, Refusal::NoLeader));
            }
            Role::Leader(_) => {
                if self.append_proposal(request, command, output) {
                    output.proposed.push((request, self.term));
                } else {
                    output.refused.push((request, Refusal::Busy));
                }
            }
            Role::Follower(Follower { leader: Some(_), .. }) => {
                if self.forwarding.has_room(max_forwarded_bytes) {
                    self.forwarding.push(Proposal { request, command });
                    output.proposed.push((request, self.term));
                } else {
                    output.refused.push((request, Refusal::Busy));
                }
            }
            Role::Follower(_) | Role::Candidate(_) => output.refused.push((request, Refusal::NoLeader)),
        }
    }

    /// Appends as leader, unless too much is uncommitted: without a quorum, the log must not grow for ever
    /// (FAULTS row 54).
    fn append_proposal(&mut self, request: RequestId, command: Command, output: &mut Output) -> bool {
        let Role::Leader(leader) = &self.role else { panic!("{self}: only a leader appends") };
        let has_room = leader.uncommitted_bytes < self.settings.max_uncommitted_bytes;
        if has_room {
            self.append_as_leader(Some(request), command, output);
        }
        has_room
    }

    /// Sends the leader the proposals that it has not got yet.
    pub(super) fn forward(&mut self, output: &mut Output) {
        let max_append_bytes = self.settings.max_append_bytes;
        let Role::Follower(Follower { leader: Some(leader), .. }) = self.role else { return };
        while let Some((first_number, proposals)) = self.forwarding.next_batch(max_append_bytes) {
            let (boot, heard) = (self.boot, self.forwarding.heard());
            let body = Body::ForwardProposals(ForwardProposals { boot, first_number, heard, proposals });
            output.after_save.push(self.message(leader, body));
        }
    }

    /// Only the leader of exactly the term that the sender meant takes its proposals: in that term the sender
    /// numbers them for this node alone. For any other, the sender learns of the newer term soon enough.
    pub(super) fn on_forward_proposals(
        &mut self,
        from: NodeId,
        term: Term,
        request: ForwardProposals,
        output: &mut Output,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if term != self.term || leader.transfer.is_some() {
            return;
        }
        let table = leader.forwarded.entry(from).or_insert(ForwardedFrom::default());
        table.heard(request.boot, request.heard);
        let taken = table.take(request.boot, request.first_number, request.proposals);
        // Nothing overtakes a refusal that was not heard: the follower may propose it again in a later term.
        let mut refused = Vec::new();
        let has_unheard = !table.refused.is_empty();
        for (number, Proposal { request, command }) in taken {
            let overtakes = has_unheard || !refused.is_empty();
            if overtakes || !self.append_proposal(request, command, output) {
                refused.push((number, request));
            }
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let table = leader.forwarded.entry(from).or_insert(ForwardedFrom::default());
        table.refused.extend(refused);
        let boot = table.boot;
        let (next_number, refused) = table.report();
        let response = ForwardProposalsResponse { boot, request_term: term, next_number, refused };
        output.after_save.push(self.message(from, Body::ForwardProposalsResponse(response)));
    }

    pub(super) fn on_forward_response(&mut self, response: ForwardProposalsResponse, output: &mut Output) {
        // Numbers begin anew in each term and with each start of this node.
        if response.request_term != self.term || response.boot != self.boot {
            return;
        }
        let taken = self.forwarding.taken(response.next_number);
        if response.refused.is_empty() {
            return;
        }
        // A refusal that comes again may meet a second try of the same request, which is in the log by now.
        let news: BTreeSet<RequestId> = taken.into_iter().collect();
        let refused = response.refused.into_iter().filter(|request| news.contains(request));
        output.refused.extend(refused.map(|request| (request, Refusal::Busy)));
    }

    /// Asks the leader about reads that it was not asked about yet.
    pub(super) fn ask_for_reads(&mut self, output: &mut Output) {
        let (newest, ready) = (self.reads.newest, self.reads.ready);
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        if newest > ready.max(follower.reads_asked) {
            follower.reads_asked = newest;
            follower.reads_asked_ticks = 0;
            let request = ReadIndexRequest { boot: self.boot, number: newest };
            output.after_save.push(self.message(leader, Body::ReadIndexRequest(request)));
        }
    }

    /// A follower's reads wait for the next round; without the lead there is nothing to say, and the follower
    /// asks again.
    pub(super) fn on_read_index_request(&mut self, from: NodeId, request: ReadIndexRequest) {
        if let Role::Leader(leader) = &mut self.role {
            leader.reads.ask(from, request.boot, request.number);
        }
    }

    /// Good for all reads up to its number whichever leader confirmed it, and however late it comes: see the
    /// head of `reads.rs`. Only an earlier start of this node counted differently.
    pub(super) fn on_read_index_response(&mut self, response: ReadIndexResponse, output: &mut Output) {
        let ReadIndexResponse { boot, number, index } = response;
        if boot == self.boot && number <= self.reads.newest {
            self.reads_are_ready(number, index, output);
        }
    }

    fn reads_are_ready(&mut self, number: u64, index: Index, output: &mut Output) {
        if number > self.reads.ready {
            self.reads.ready = number;
            output.reads.push(ReadReady { number, index });
        }
    }

    /// Begins one round of confirmation for all reads that arrived since the last. Not before an entry of
    /// this term is committed: until then the leader may not know of everything that is (FAULTS row 25).
    pub(super) fn start_read_round(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if self.commit_index >= leader.first_index {
            leader.reads.start_round(self.reads.newest, self.commit_index);
        }
    }

    /// Hands out the reads of all rounds that a quorum has answered, this node being one of it.
    pub(super) fn release_reads(&mut self, output: &mut Output) {
        let Role::Leader(leader) = &mut self.role else { return };
        let started = leader.reads.started;
        let confirmed_by = |id: NodeId| match leader.progress.get(&id) {
            Some(progress) => progress.round_confirmed,
            None if id == self.id => started,
            None => 0,
        };
        let configuration = self.configurations.current();
        let confirmed = configuration
            .voters()
            .map(confirmed_by)
            .filter(|round| configuration.has_quorum(|id| confirmed_by(id) >= *round))
            .max()
            .unwrap_or(0);
        for (reader, index) in leader.reads.release(confirmed) {
            match reader {
                Reader::Local { number } => self.reads_are_ready(number, index, output),
                Reader::Peer { id, boot, number } => {
                    let body = Body::ReadIndexResponse(ReadIndexResponse { boot, number, index });
                    output.after_save.push(self.message(id, body));
                }
            }
        }
    }
}
