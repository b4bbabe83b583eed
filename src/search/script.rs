//! Leads real nodes to the state where a search begins. What it does is checked like everything else, and
//! written down, so that a violation's trace begins at the very beginning.

use super::Fault;
use super::model::{Action, Model, State, What, node_of};
use crate::raft::{Body, RoleName};
use crate::types::{EntryId, NodeId};
use std::collections::BTreeSet;

/// A way that is told step by step. After the first fault it does nothing more.
pub struct Script<'a> {
    model: &'a Model,
    state: State,
    /// Messages that this script has delivered or given up.
    done: BTreeSet<u32>,
    lines: Vec<String>,
    fault: Option<Fault>,
}

impl<'a> Script<'a> {
    pub(super) fn new(model: &'a Model) -> Script<'a> {
        let (done, lines) = (BTreeSet::new(), Vec::new());
        Script { model, state: model.first_state(), done, lines, fault: None }
    }

    /// Where it has led, how, and what broke on the way.
    pub(super) fn end(self) -> (State, Vec<String>, Option<Fault>) {
        (self.state, self.lines, self.fault)
    }

    fn act(&mut self, node: u16, what: What) {
        if self.fault.is_some() {
            return;
        }
        let node = node_of(NodeId(node));
        let mut next = None;
        self.model.endings(&self.state, node, what, &mut |action: Action, outcome| {
            next.get_or_insert((action, outcome.map(|(next, _)| next.to_vec())));
        });
        let Some((action, outcome)) = next else { return };
        self.lines.extend(self.model.action_lines(&self.state, action));
        match outcome {
            Ok(next) => self.state = next,
            Err(fault) => self.fault = Some(fault),
        }
    }

    /// Nobody has heard of a leader for an election timeout, and this node campaigns.
    pub fn campaign(&mut self, node: u16) {
        self.act(node, What::Campaign);
    }

    /// A leader sends heartbeats.
    pub fn heartbeat(&mut self, node: u16) {
        self.act(node, What::Heartbeat);
    }

    /// A node crashes and starts again.
    pub fn crash(&mut self, node: u16) {
        self.act(node, What::Crash);
    }

    /// A node crashes, loses all that is on its disk, and starts again with `--rejoin`.
    pub fn wipe(&mut self, node: u16) {
        self.act(node, What::Wipe);
    }

    /// One that has lost its data greets a node.
    pub fn greet(&mut self, peer: u16, node: u16) {
        let greeting = self.model.greeting(&self.state, peer);
        self.act(node, greeting);
    }

    /// A node makes a snapshot, and the log before it goes.
    pub fn compact(&mut self, node: u16) {
        self.act(node, What::Compact);
    }

    /// An operator asks a node for one of the bounds' changes of members.
    pub fn change(&mut self, node: u16, number: u8) {
        self.act(node, What::Change(number));
    }

    /// A client writes at a node.
    pub fn write(&mut self, node: u16) {
        let proposals = self.model.history(&self.state).spent.proposals;
        self.act(node, What::Propose(u32::from(proposals) + 1));
    }

    /// A client reads at a node.
    pub fn read(&mut self, node: u16) {
        let read = self.model.next_read(self.state[node_of(NodeId(node))]);
        self.act(node, read);
    }

    /// Delivers everything that is under way among these nodes, and what comes of it, until nothing is.
    pub fn exchange(&mut self, nodes: &[u16]) {
        self.deliver(nodes, |_| true);
    }

    /// The same, until `node` knows that `index` is committed.
    pub fn exchange_until_commit(&mut self, node: u16, index: i64, nodes: &[u16]) {
        while self.core(node).is_some_and(|core| core.raft.commit_index().0 < index) {
            if !self.deliver_one(nodes, |_| true) {
                return;
            }
        }
    }

    /// The node campaigns, and these nodes, it among them, vote. What it says as leader stays under way.
    pub fn elect(&mut self, node: u16, nodes: &[u16]) {
        self.campaign(node);
        self.deliver(nodes, |body| matches!(body, Body::RequestVote(_) | Body::RequestVoteResponse(_)));
        self.expect_role(node, RoleName::Leader);
    }

    /// Delivers requests for votes among these nodes. The answers stay under way.
    pub fn ask_for_votes(&mut self, nodes: &[u16]) {
        self.deliver(nodes, |body| matches!(body, Body::RequestVote(_)));
    }

    /// Delivers requests for pre-votes and their answers among these nodes.
    pub fn exchange_pre_votes(&mut self, nodes: &[u16]) {
        self.deliver(nodes, |body| match body {
            Body::RequestVote(request) => request.pre_vote,
            Body::RequestVoteResponse(response) => response.pre_vote,
            Body::AppendEntries(_)
            | Body::AppendEntriesResponse(_)
            | Body::InstallSnapshot(_)
            | Body::InstallSnapshotResponse(_)
            | Body::TimeoutNow(_)
            | Body::ForwardProposals(_)
            | Body::ForwardProposalsResponse(_)
            | Body::ReadIndexRequest(_)
            | Body::ReadIndexResponse(_) => false,
        });
    }

    fn deliver(&mut self, nodes: &[u16], which: fn(&Body) -> bool) {
        while self.deliver_one(nodes, which) {}
    }

    fn deliver_one(&mut self, nodes: &[u16], which: fn(&Body) -> bool) -> bool {
        let oldest = self.oldest_among(nodes, which).filter(|_| self.fault.is_none());
        let Some((to, message)) = oldest else { return false };
        self.done.insert(message);
        // Who asks for a vote asks because nobody has heard of a leader for a while.
        let leads = self.role(to) == Some(RoleName::Leader);
        let is_late = !leads && self.model.may_be_late(self.state[node_of(NodeId(to))], message);
        self.act(to, if is_late { What::DeliverLate(message) } else { What::Deliver(message) });
        true
    }

    /// Everything under way is lost, as far as this script is concerned.
    pub fn lose_all(&mut self) {
        let locals = || self.state[..self.model.nodes()].iter();
        let sent = locals().flat_map(|local| self.model.sent(*local));
        let sent = sent.chain(locals().flat_map(|local| self.model.sent_before(*local)));
        let under_way: Vec<u32> = sent.flat_map(|set| self.model.sets.get(*set)).copied().collect();
        self.done.extend(under_way);
    }

    /// Nothing that was sent so far arrives in what follows either: a bound of the search from here.
    pub fn forget_messages(&mut self) {
        self.lines.push("(what was sent so far arrives no more)".to_owned());
        for local in self.state.iter_mut().take(self.model.nodes()) {
            *local = self.model.forgetting(*local);
        }
    }

    fn core(&self, node: u16) -> Option<&super::core::Core> {
        (self.fault.is_none()).then(|| self.model.core(self.state[node_of(NodeId(node))]))
    }

    fn role(&self, node: u16) -> Option<RoleName> {
        self.core(node).map(|core| core.raft.role())
    }

    fn oldest_among(&self, nodes: &[u16], which: fn(&Body) -> bool) -> Option<(u16, u32)> {
        let mut oldest: Option<(u16, u32)> = None;
        for from in nodes {
            for to in nodes {
                let [sent, before] =
                    self.model.under_way(&self.state, node_of(NodeId(*from)), node_of(NodeId(*to)));
                let messages = [before, sent].into_iter().flat_map(|set| self.model.sets.get(set)).copied();
                let is_due = |number: &u32| {
                    !self.done.contains(number) && which(&self.model.messages.get(*number).body)
                };
                let next = messages.filter(is_due).min();
                if let Some(message) = next
                    && oldest.is_none_or(|(_, older)| message < older)
                {
                    oldest = Some((*to, message));
                }
            }
        }
        oldest
    }

    /// This script has led where it was meant to.
    pub fn expect_role(&mut self, node: u16, role: RoleName) {
        let found = self.role(node);
        self.expect(found == Some(role), || format!("n{node} should be {role} by now, and is {found:?}"));
    }

    /// See [`Script::expect_role`]: the node's term.
    pub fn expect_term(&mut self, node: u16, term: u64) {
        let found = self.core(node).map(|core| core.raft.term().0);
        self.expect(found == Some(term), || format!("n{node} should be in term {term}, and is in {found:?}"));
    }

    /// See [`Script::expect_role`]: the node's last entry, as (term, index).
    pub fn expect_last(&mut self, node: u16, term: u64, index: i64) {
        let wanted = EntryId::new(crate::types::Term(term), crate::types::Index(index));
        let found = self.core(node).map(|core| core.raft.log().last());
        self.expect(found == Some(wanted), || format!("n{node} should end at {wanted}, and has {found:?}"));
    }

    /// See [`Script::expect_role`]: what the node knows to be committed.
    pub fn expect_commit(&mut self, node: u16, index: i64) {
        let found = self.core(node).map(|core| core.raft.commit_index().0);
        self.expect(found == Some(index), || {
            format!("n{node} should have committed {index}, and has {found:?}")
        });
    }

    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if self.fault.is_none() && !holds {
            self.fault = Some(Fault::new("script", what()));
        }
    }
}
