//! Nodes that lose all that they had on disk, and start again with `--rejoin`: what `Node` and the server do
//! for them beside the core, on what an identity file says.
//!
//! ```text
//!   n2 --wiped--> empty folder, no vote, asks for nothing, knows nobody
//!                    |  greets n1, n3, at any time, any number of times (Event::Greeting)
//!                    v
//!   who takes it for another than the one that is meant: turns it away; who leads, removes that one, adds it
//! ```
//!
//! What travels between nodes, of which one may have been wiped (`Model::under_way`):
//!
//! - A connection belongs to two processes, so what was said to the one that was is never read by the one
//!   that came after it: a writer drops what it has for a connection that is gone.
//! - What the one that was has said may be in the receivers' sockets and inboxes, and their threads may be as
//!   slow as they like: it arrives at any time, any number of times, or never, like everything here.
//! - The one that came after it is heard by those who have met it in this start, and hears what they have
//!   sent since they first met. A connection that stands is not looked at again here: who has met it once is
//!   taken to be connected until its own end, also when its log names another later (`Node` ends it then).
//!
//! Everybody has met all others when a search begins, as in a cluster within moments of its first start;
//! without a memory of who was there nobody could know. A node is wiped once at most: what came after it has
//! nothing that anybody counts on before it votes.

use super::core::{Core, Rules};
use super::model::{Model, State, What, node_id, node_of};
use super::seen::Seen;
use super::sets::Sets;
use crate::raft::{Configuration, Input, Log, Output, RaftState, Recognition, Renaming};
use crate::types::{Incarnation, Member, NodeId, STARTS_A_LIFE};
use std::collections::BTreeMap;

/// Of folders that were there from the beginning, and of those that took the place of one that was lost. It
/// is compared with others of the same node only.
const FIRST: Incarnation = Incarnation(1);
const SECOND: Incarnation = Incarnation(2);

/// What a node's identity file says of such things.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Folder {
    incarnation: Incarnation,
    pub may_vote: bool,
    /// The number of its life: 0 of a folder that was there from the beginning, none while it may not ask for
    /// anything yet.
    life: Option<u64>,
    /// The incarnation that each peer has shown first.
    pub peers: BTreeMap<NodeId, Incarnation>,
}

impl Folder {
    /// Of a node that has met these.
    pub fn first(peers: impl Iterator<Item = NodeId>) -> Folder {
        let peers = peers.map(|peer| (peer, FIRST)).collect();
        Folder { incarnation: FIRST, may_vote: true, life: Some(0), peers }
    }

    /// Of one that starts with `--rejoin` and nothing else.
    pub fn rejoining() -> Folder {
        Folder { incarnation: SECOND, may_vote: false, life: None, peers: BTreeMap::new() }
    }

    /// Whether another one was there before it, and was lost.
    pub fn is_second(&self) -> bool {
        self.incarnation == SECOND
    }

    /// Whether clients are heard.
    pub fn is_asking(&self) -> bool {
        self.life.is_some()
    }

    /// The same in a cluster whose nodes have other names.
    pub fn renamed(&self, new: Renaming) -> Folder {
        let peers = self.peers.iter().map(|(peer, incarnation)| (new(*peer), *incarnation)).collect();
        Folder { peers, ..self.clone() }
    }

    /// As `Node` keeps house at the end of a batch.
    pub fn keep_house(&mut self, raft: &mut RaftState) {
        let nothing = &mut Output::default();
        if !self.may_vote && raft.is_named(self.incarnation) {
            self.may_vote = true;
            raft.step(Input::AllowVote, nothing);
        }
        if let Some(life) = raft.life(self.incarnation).filter(|_| self.life.is_none()) {
            self.life = Some(life);
            raft.step(Input::BeginLife { boot: raft.boot() + life * STARTS_A_LIFE }, nothing);
        }
        self.keep_members(raft);
    }

    /// Remembers who was met before it was known to belong to the cluster, and forgets those of whom it is
    /// certain that they have left.
    fn keep_members(&mut self, raft: &mut RaftState) {
        let configuration = raft.shared_configuration();
        let mut news = Vec::new();
        for (peer, shown) in raft.met() {
            if configuration.is_member(*peer) && configuration.incarnation_of(*peer).is_none() {
                news.extend((!self.peers.contains_key(peer)).then_some((*peer, *shown)));
            }
        }
        for (peer, incarnation) in news {
            self.peers.insert(peer, incarnation);
            raft.step(Input::Remembered { peer, incarnation }, &mut Output::default());
        }
        let is_committed = raft.configuration_index() <= raft.commit_index();
        let is_recent = raft.leader().is_some_and(|leader| configuration.is_member(leader));
        if is_committed && is_recent {
            let has_left = |peer: &NodeId| !configuration.is_member(*peer);
            for (peer, incarnation) in self.peers.iter().filter(|(peer, _)| has_left(peer)) {
                let (peer, incarnation) = (*peer, *incarnation);
                raft.step(Input::Left { peer, incarnation }, &mut Output::default());
            }
            self.peers.retain(|peer, _| !has_left(peer));
        }
    }

    /// A core that starts is told whom its node remembers, and who that is itself.
    pub fn remind(&self, raft: &mut RaftState) {
        let own = (raft.id(), self.incarnation);
        for (peer, incarnation) in self.peers.iter().map(|(peer, it)| (*peer, *it)).chain([own]) {
            raft.step(Input::Remembered { peer, incarnation }, &mut Output::default());
        }
    }
}

impl Core {
    /// A peer that has lost its data greets this node, in this life of its own: it is recognised, or not, and
    /// who leads lets it in.
    pub fn is_greeted(&mut self, peer: NodeId, life: Option<u64>, rules: &Rules, output: &mut Output) {
        let (raft, peers) = (&mut self.raft, &mut self.disk.folder.peers);
        let incarnation = SECOND;
        let recognition = raft.recognise(peer, incarnation, life);
        let has_lost_data = !rules.wiped_join && life.is_none();
        if recognition == Recognition::New && !has_lost_data {
            peers.insert(peer, incarnation);
            raft.step(Input::Remembered { peer, incarnation }, output);
        }
        if !matches!(recognition, Recognition::Other(_)) {
            raft.step(Input::Met { peer, incarnation }, output);
        }
        if rules.wiped_join {
            return;
        }
        let member = Member { incarnation: Some(SECOND), ..Member::at("", "") };
        if let Some(change) = raft.change_to_let_in(peer, member) {
            raft.step(Input::ChangeMembers { request: 0, change }, output);
        }
    }

    /// Whether it has met what came after a peer that lost its data.
    pub fn has_met(&self, peer: NodeId) -> bool {
        self.raft.met().get(&peer) == Some(&SECOND)
    }

    /// The log on its disk, for who counts by this configuration. Where that names the folder that came after
    /// the one that was lost, it speaks of that one; before, of the node that was, and who counts on it
    /// counts on what is gone: not on what the new one has, which is not to speak for the old one.
    pub fn log_as_member(&self, configuration: &Configuration) -> &Log {
        let own = Some(self.disk.folder.incarnation);
        let is_named = configuration.incarnation_of(self.raft.id()) == own;
        self.lost.as_ref().filter(|_| !is_named).unwrap_or(&self.disk.log)
    }

    /// What of its coming back a search should have seen once.
    pub fn seen_of_life(&self, before: &Core) -> Seen {
        let mut seen = Seen::default();
        if !before.disk.folder.may_vote && self.disk.folder.may_vote {
            seen.add("named by its new folder");
        }
        let votes = |core: &Core| core.raft.configuration().is_voter(core.raft.id());
        if self.disk.folder.may_vote && before.disk.folder.is_second() && votes(self) && !votes(before) {
            seen.add("voter again");
        }
        seen
    }
}

impl Model {
    /// What can happen to a node because it, or another one, loses its data.
    pub fn losses(&self, state: &[u32], node: usize, visit: &mut impl FnMut(What)) {
        for id in self.bounds.wiped {
            let other = node_of(NodeId(*id));
            match self.core(state[other]).disk.folder.is_second() {
                true if other != node => visit(self.greeting(state, *id)),
                false if other == node => visit(What::Wipe),
                true | false => {}
            }
        }
    }

    /// One that has lost its data greets: what it says of itself by now.
    pub fn greeting(&self, state: &[u32], peer: u16) -> What {
        let life = self.core(state[node_of(NodeId(peer))]).disk.folder.life;
        What::Greeting(peer, life.map(|life| u8::try_from(life).expect("few lives in a search")))
    }

    /// What a node has sent to another that may arrive there now, two sets of messages: since it lost its
    /// data, if it did, or ever; and before. See the head of this file.
    pub fn under_way(&self, state: &[u32], sender: usize, node: usize) -> [u32; 2] {
        let sent = self.sent(state[sender])[node];
        if self.bounds.wiped.is_empty() {
            return [sent, Sets::EMPTY];
        }
        let is_second = self.core(state[sender]).disk.folder.is_second();
        let is_heard = !is_second || self.core(state[node]).has_met(node_id(sender));
        let before = self.sent_before(state[sender]).get(node).copied().unwrap_or(Sets::EMPTY);
        let is_open = is_heard && sent != Sets::CUT;
        [if is_open { sent } else { Sets::EMPTY }, before]
    }

    /// The same node after what it had sent has become what the one before it had sent.
    pub fn replaced(&self, local: u32, core: u32) -> u32 {
        let arriving = |set: &u32| if *set == Sets::CUT { Sets::EMPTY } else { *set };
        let sent_before = self.sent(local).iter().map(arriving).collect();
        self.local_after(core, vec![Sets::EMPTY; self.nodes()], sent_before)
    }

    /// All others are cut off from a node that has lost its data.
    pub fn cut_off(&self, state: &mut State, lost: usize) {
        for node in (0..self.nodes()).filter(|node| *node != lost) {
            let mut sent = self.sent(state[node]).to_vec();
            let mut sent_before = self.sent_before(state[node]).to_vec();
            sent[lost] = Sets::CUT;
            sent_before.get_mut(lost).into_iter().for_each(|set| *set = Sets::EMPTY);
            state[node] = self.local_after(self.core_number(state[node]), sent, sent_before);
        }
    }

    /// Whoever has met what came after a peer, by what its core is now, is heard by it from now on.
    pub fn connected(&self, local: u32, peer: NodeId, core: u32) -> u32 {
        let mut sent = self.sent(local).to_vec();
        let to = &mut sent[node_of(peer)];
        if *to != Sets::CUT || !self.cores.get(core).has_met(peer) {
            return local;
        }
        *to = Sets::EMPTY;
        self.local_after(self.core_number(local), sent, self.sent_before(local).to_vec())
    }

    /// The same node, and nothing that it has sent arrives any more. Who is cut off stays so.
    pub fn forgetting(&self, local: u32) -> u32 {
        let cut = |set: &u32| if *set == Sets::CUT { Sets::CUT } else { Sets::EMPTY };
        self.local(self.core_number(local), self.sent(local).iter().map(cut).collect())
    }
}
