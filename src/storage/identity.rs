//! Who this folder belongs to: one small file, replaced as a whole.
//!
//! ```text
//! {"crc":"…","format":1,"cluster":"demo","node":1,"boot":4,"newest_segment":2,
//!  "incarnation":"9f86d081884c7d65","voters":[1,2,3],"peers":{"2":"60303ae22b998861"}}     (one line)
//! ```
//!
//! Its appearance is the moment in which a node begins to exist: before it the folder counts as empty, after
//! it `--bootstrap` does nothing. It holds nothing that the log says: term and vote are in the log, so that
//! they can never disagree with it. Of the log it only remembers how far it had come at the last start,
//! because a log whose newest segment is gone looks whole.

use super::disk::{Disk, write_whole};
use super::error::{DiskFault, StorageError};
use super::record::{read_checked_object, write_checked_object};
use super::{FORMAT, FirstStart, Opening};
use crate::types::{Incarnation, MAX_NUMBER, NodeId, STARTS_A_LIFE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The file's name.
pub(super) const IDENTITY_FILE: &str = "identity.json";

/// What this node knows of a peer's incarnation, asked with the one that the peer has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RememberedPeer {
    /// The same as before.
    Known,
    /// The first that this peer has shown: it is remembered now, durably.
    Remembered,
    /// Another than before: the peer has lost its data and must not be talked to.
    Different {
        /// The incarnation that the peer had.
        remembered: Incarnation,
    },
}

/// What the identity file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The version of the format of this file.
    pub(super) format: u64,
    /// The cluster that the node belongs to.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// Raised at each start, and so higher than ever before in this folder. Requests are told apart by it, so
    /// it must be higher than ever before under this node's number, too: see `has_no_life`.
    pub boot: u64,
    /// The sequence number of the log's newest segment at the last of those starts; 0 before the first. The
    /// log may be further by now, but never less far.
    pub(super) newest_segment: u64,
    /// This node's incarnation.
    pub incarnation: Incarnation,
    /// The cluster's first configuration: who votes, sorted. None when the node joined the cluster later and
    /// learned from the others who votes.
    pub voters: Vec<NodeId>,
    /// The node is new in a cluster that was there before it, maybe under the number of one that was: it must
    /// not vote before it knows that it belongs to it, as the one that it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_not_vote: bool,
    /// And it was a voter, which has lost its data.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_lost_data: bool,
    /// The node has joined, and nothing that is committed names it. Its number may have been another's, or
    /// its own before it lost its data, and the log has requests of that one, with start counters like its
    /// own: it would take them for what its clients asked for. So it asks for nothing before the log names
    /// it. That gives it the number of a life, by which it counts on from then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_no_life: bool,
    /// The incarnation that each peer has shown first.
    pub peers: BTreeMap<NodeId, Incarnation>,
}

/// The one member that every version of the file has.
#[derive(Deserialize)]
struct FormatOf {
    format: u64,
}

impl Identity {
    /// The identity of a node that begins to exist now.
    pub(super) fn create<D: Disk>(disk: &mut D, opening: &Opening) -> Result<Identity, DiskFault> {
        let identity = Identity::new(opening);
        identity.save(disk)?;
        Ok(identity)
    }

    /// The identity of a node that begins to exist with [`Identity::save`].
    pub(super) fn new(opening: &Opening) -> Identity {
        let joins = matches!(opening.first_start, FirstStart::Join | FirstStart::Rejoin);
        let voters = if joins { Vec::new() } else { opening.sorted_voters() };
        Identity {
            format: FORMAT,
            cluster: opening.cluster.clone(),
            node: opening.node,
            boot: 0,
            newest_segment: 0,
            incarnation: opening.incarnation,
            voters,
            must_not_vote: joins,
            has_no_life: joins,
            has_lost_data: opening.first_start == FirstStart::Rejoin,
            peers: BTreeMap::new(),
        }
    }

    /// Reads the file and checks that it belongs to the node that is being opened.
    pub(super) fn read<D: Disk>(disk: &D, opening: &Opening) -> Result<Identity, StorageError> {
        let identity = Identity::read_any(disk)?;
        let path = disk.path(IDENTITY_FILE);
        let expected = opening.sorted_voters();
        if identity.cluster != opening.cluster {
            let (found, expected) = (identity.cluster, opening.cluster.clone());
            Err(StorageError::OtherCluster { path, found, expected })
        } else if identity.node != opening.node {
            Err(StorageError::OtherNode { path, found: identity.node, expected: opening.node })
        } else if !identity.voters.is_empty() && identity.voters != expected {
            Err(StorageError::OtherVoters { path, found: identity.voters, expected })
        } else {
            Ok(identity)
        }
    }

    /// Reads the file, whoever it belongs to.
    pub(super) fn read_any<D: Disk>(disk: &D) -> Result<Identity, StorageError> {
        let path = disk.path(IDENTITY_FILE);
        let damaged = |expected| StorageError::Damaged { path: path.clone(), line: 1, expected };
        let object = read_checked_object(&disk.read(IDENTITY_FILE)?).map_err(damaged)?;
        let format: FormatOf = serde_json::from_slice(&object).map_err(|error| damaged(error.to_string()))?;
        if format.format != FORMAT {
            return Err(StorageError::UnknownFormat { path, found: format.format });
        }
        let identity: Identity =
            serde_json::from_slice(&object).map_err(|error| damaged(error.to_string()))?;
        if identity.boot > MAX_NUMBER {
            return Err(damaged(format!("a start counter of at most {MAX_NUMBER}, found {}", identity.boot)));
        }
        Ok(identity)
    }

    /// Raises the boot counter, and remembers the log's newest segment, whose name must be durable; both are
    /// durable when this returns.
    pub(super) fn raise_boot<D: Disk>(
        &mut self,
        disk: &mut D,
        newest_segment: u64,
    ) -> Result<u64, DiskFault> {
        self.boot += 1;
        self.newest_segment = newest_segment;
        self.save(disk)?;
        Ok(self.boot)
    }

    /// Compares a peer's incarnation with the one remembered, or remembers it; durable when this returns.
    pub(super) fn remember_peer<D: Disk>(
        &mut self,
        disk: &mut D,
        peer: NodeId,
        incarnation: Incarnation,
    ) -> Result<RememberedPeer, DiskFault> {
        match self.peers.get(&peer) {
            Some(&remembered) if remembered == incarnation => Ok(RememberedPeer::Known),
            Some(&remembered) => Ok(RememberedPeer::Different { remembered }),
            None => {
                self.peers.insert(peer, incarnation);
                self.save(disk)?;
                Ok(RememberedPeer::Remembered)
            }
        }
    }

    /// Forgets the peers that this picks out; durable when this returns.
    pub(super) fn forget_peers<D: Disk>(
        &mut self,
        disk: &mut D,
        picks: impl Fn(NodeId) -> bool,
    ) -> Result<(), DiskFault> {
        let count = self.peers.len();
        self.peers.retain(|peer, _| !picks(*peer));
        if self.peers.len() == count { Ok(()) } else { self.save(disk) }
    }

    /// Lets the node vote from now on; durable when this returns.
    pub(super) fn allow_vote<D: Disk>(&mut self, disk: &mut D) -> Result<(), DiskFault> {
        self.must_not_vote = false;
        self.save(disk)
    }

    /// Counts starts on from what no earlier node of this number can have come to, which had an earlier life
    /// and, in it, fewer starts than there is room for; durable when this returns.
    pub(super) fn begin_life<D: Disk>(&mut self, disk: &mut D, life: u64) -> Result<u64, DiskFault> {
        assert!(
            self.has_no_life && self.boot < STARTS_A_LIFE,
            "a folder has one life, and few starts before it"
        );
        self.boot += life * STARTS_A_LIFE;
        self.has_no_life = false;
        self.save(disk)?;
        Ok(self.boot)
    }

    /// Replaces the file; durable when this returns.
    pub(super) fn save<D: Disk>(&self, disk: &mut D) -> Result<(), DiskFault> {
        let object = serde_json::to_vec(self).expect("an identity can always be written as JSON");
        write_whole(disk, IDENTITY_FILE, &write_checked_object(&object))
    }
}
