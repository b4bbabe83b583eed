//! Peers that greet: whether what comes from one is heard is decided before anything else of it is read, and
//! once for each connection.

use super::Node;
use crate::raft::{Input, RaftState, Recognition};
use crate::storage::{Disk, RememberedPeer, StorageError};
use crate::types::{Incarnation, Member, NodeId};
use crate::wire::peer::Address;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a peer says of itself, before anything else.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Its number.
    pub peer: NodeId,
    /// By what it is told from others that have or had that.
    pub incarnation: Incarnation,
    /// The number of the life by which what is committed names it so, when it knows that.
    pub life: Option<u64>,
    /// The newest version that it knows of what nodes say to each other.
    pub newest_version: u32,
    /// Where it can be reached, when it has said so.
    pub address: Option<Address>,
    /// It has lost its data, and wants to be let in again.
    pub has_lost_data: bool,
}

/// Why a peer is not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// Another one is meant by its number.
    Another {
        /// It.
        peer: NodeId,
        /// What it shows.
        shown: Incarnation,
        /// What the one has that is meant.
        meant: Incarnation,
    },
    /// It was heard, and by now the log says who is meant by its number.
    FoundOut {
        /// It.
        peer: NodeId,
        /// What it has shown.
        shown: Incarnation,
        /// What the one has that is meant.
        meant: Incarnation,
    },
    /// It has lost its data, and the log does not name it yet as who it is now.
    NotLetIn {
        /// It.
        peer: NodeId,
    },
}

impl TurnedAway {
    /// Who is not heard.
    pub fn peer(&self) -> NodeId {
        match self {
            TurnedAway::Another { peer, .. }
            | TurnedAway::FoundOut { peer, .. }
            | TurnedAway::NotLetIn { peer } => *peer,
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TurnedAway::Another { peer, shown, meant } => write!(
                f,
                "{peer} has the incarnation {shown} and had {meant}: it lost its data directory, and must \
                 not vote under this id any more"
            ),
            TurnedAway::FoundOut { peer, shown, meant } => write!(
                f,
                "the log says by now that {peer} is the one with the incarnation {meant}: what comes from \
                 the one with {shown} counts no more"
            ),
            TurnedAway::NotLetIn { peer } => {
                write!(f, "{peer} has lost its data, and is to be let in again first")
            }
        }
    }
}

/// Those who have greeted this node.
#[derive(Default)]
pub(super) struct Greeted {
    /// What each that was heard has shown, and not only last: two of one number may be connected.
    shown: BTreeMap<(NodeId, Incarnation), Shown>,
    /// Those of whom it came to light later that another one is meant. They have to greet again.
    strangers: BTreeSet<NodeId>,
    /// The newest version that each knows, as it said when it connected last.
    newest_versions: BTreeMap<NodeId, u32>,
}

#[derive(Clone, Copy)]
struct Shown {
    life: Option<u64>,
    has_lost_data: bool,
}

impl Greeted {
    /// Whether what comes from this peer counts.
    pub fn is_heard(&self, peer: NodeId) -> bool {
        !self.strangers.contains(&peer)
    }

    fn greets(&mut self, greeting: &Greeting) {
        let Greeting { peer, incarnation, life, newest_version, has_lost_data, .. } = *greeting;
        self.newest_versions.insert(peer, newest_version);
        self.shown.insert((peer, incarnation), Shown { life, has_lost_data });
        self.strangers.remove(&peer);
    }

    /// The newest version that a peer has said it knows.
    pub fn newest_version(&self, peer: NodeId) -> Option<u32> {
        self.newest_versions.get(&peer).copied()
    }

    /// The log names others than before. Says who is found out by that.
    pub fn look_again(&mut self, raft: &RaftState) -> Vec<TurnedAway> {
        let mut found_out = Vec::new();
        for ((peer, shown), Shown { life, has_lost_data }) in &self.shown {
            let (peer, shown) = (*peer, *shown);
            if let Recognition::Other(meant) = raft.recognise(peer, shown, *life) {
                found_out.push((shown, TurnedAway::FoundOut { peer, shown, meant }));
            } else if *has_lost_data && !raft.is_let_in(peer, shown) {
                found_out.push((shown, TurnedAway::NotLetIn { peer }));
            }
        }
        for (shown, why) in &found_out {
            self.shown.remove(&(why.peer(), *shown));
            self.strangers.insert(why.peer());
        }
        found_out.into_iter().map(|(_, why)| why).collect()
    }
}

impl<D: Disk<File: Send + 'static>, T> Node<D, T> {
    /// A peer greets: is it heard? What it shows is compared with what the log names, or else with what is
    /// remembered, or is remembered from now on, durably. An error of the disk is fatal.
    ///
    /// Of a node that does not belong to the cluster nothing is remembered, so that it may be added with
    /// another. It is not turned away: it may have been added while this node was away. A leader lets those
    /// in again that have lost their data, step by step with their greetings.
    pub fn greet(&mut self, greeting: &Greeting) -> Result<Result<(), TurnedAway>, StorageError> {
        let Greeting { peer, incarnation: shown, life, .. } = *greeting;
        let recognition = self.raft.recognise(peer, shown, life);
        // Who has lost its data is not the one that others may remember, but somebody new once it is let in.
        if recognition == Recognition::New && !greeting.has_lost_data {
            self.remember(peer, shown)?;
        }
        if !matches!(recognition, Recognition::Other(_)) {
            self.raft.step(Input::Met { peer, incarnation: shown }, &mut self.output);
        }
        if greeting.has_lost_data {
            self.let_in_again(greeting);
        }
        if let Recognition::Other(meant) = recognition {
            return Ok(Err(TurnedAway::Another { peer, shown, meant }));
        }
        if greeting.has_lost_data && !self.raft.is_let_in(peer, shown) {
            return Ok(Err(TurnedAway::NotLetIn { peer }));
        }
        self.greeted.greets(greeting);
        Ok(Ok(()))
    }

    /// By what it has shown, a peer is told from others from now on; durable when this returns. Nothing
    /// happens where another is remembered: the log says when that is over.
    pub(super) fn remember(&mut self, peer: NodeId, incarnation: Incarnation) -> Result<(), StorageError> {
        if self.storage.remember_peer(peer, incarnation)? == RememberedPeer::Remembered {
            self.raft.step(Input::Remembered { peer, incarnation }, &mut self.output);
        }
        Ok(())
    }

    /// A member that has lost its data shows itself with another folder.
    fn let_in_again(&mut self, greeting: &Greeting) {
        let Some(Address { peer, client }) = greeting.address.clone() else { return };
        let member = Member { incarnation: Some(greeting.incarnation), ..Member::at(peer, client) };
        if let Some(change) = self.raft.change_to_let_in(greeting.peer, member) {
            self.raft.step(Input::ChangeMembers { request: 0, change }, &mut self.output);
        }
    }
}
