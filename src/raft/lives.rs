//! Nodes that come back as somebody else: a number is for a place in the cluster, and who lost its data, or
//! joined under a number that another had, is not who had that number before. Each folder has an incarnation
//! by which it is told from all others. What follows from that is decided here, so that a server, a simulated
//! one and an exhaustive search come to the same; the remembering is theirs.
//!
//! ```text
//!   n2 with another folder greets, again and again
//!        |  the members name an n2 that is not this one: it is turned away, and the leader removes that one
//!        v
//!   no n2 belongs to the cluster: it is heard, and the leader adds it as somebody new, named by its folder
//!        |  its log names it so: it may vote          committed, with the number of a life: it may ask
//!        v
//!   it has caught up: a voter like the others         (membership.rs)
//! ```

use super::membership::MemberChange;
use super::role::RoleName;
use super::state::RaftState;
use crate::types::{Incarnation, Member, NodeId};

/// What a node takes a peer for that has shown an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// The one that is meant by its number; or one that does not belong to the cluster, or says that what is
    /// committed names it: it may have been added while this node was away.
    Known,
    /// A member that is named by no incarnation and was not met before: it is the one from now on.
    New,
    /// Another one than the one that is meant, which had this incarnation.
    Other(Incarnation),
}

impl RaftState {
    /// What a peer is that shows this incarnation, and by the number of which `life` what is committed names
    /// it so, when it knows that. Its own word counts where that life is newer than the one that the log
    /// knows; then what the log names, or else what this node remembers of a member.
    ///
    /// Without the peer's own word, who was away while a node lost its data and came back would turn it away
    /// until it hears of that from others: for ever, where the new one leads, or where nobody can lead
    /// without the two.
    ///
    /// Why it is safe to believe it: it speaks of an entry that is committed, and that this node lacks, since
    /// lives are counted in the order of the log. Had it that entry, it would either know that life to be
    /// given, or name the peer so itself or by a later one. Until it has it, this node may vote for the new
    /// one, as it may for anybody with a log as good as its own, and may count the new one's vote, which
    /// comes only to logs that have the entry (5.4.1): not to this node's. To follow it is to get the entry.
    /// Were an older life believed than the log's, the vote could be that of a folder that is lost already
    /// and known by the log to be, and would be counted beside the one that its successor gives to another
    /// candidate.
    pub fn recognise(&self, peer: NodeId, shown: Incarnation, life: Option<u64>) -> Recognition {
        let configuration = self.configuration();
        let named = configuration.incarnation_of(peer);
        if named.is_none() && !configuration.is_member(peer) {
            return Recognition::Known;
        }
        let life_named = configuration.members.get(&peer).and_then(|member| member.life);
        let is_given = life <= Some(self.committed_configuration().lives);
        if !is_given && life >= life_named {
            return Recognition::Known;
        }
        match named.or_else(|| self.remembered.get(&peer).copied()) {
            Some(meant) if meant == shown => Recognition::Known,
            Some(meant) => Recognition::Other(meant),
            None => Recognition::New,
        }
    }

    /// What a leader changes for a member that has lost its data and shows itself with another folder, as
    /// `member`. It may have voted and acknowledged what nobody else knows of, so as the voter that it was it
    /// never comes back: the leader removes it, and then adds it as somebody new under its old name, who gets
    /// the log first. It says so again and again until it is let in, so each step waits for nothing but its
    /// turn.
    ///
    /// Why that is safe: the removal is committed without it, by a majority of the voters with it and one of
    /// those without, so every later leader has the removal in its log and counts no word of the old one. In
    /// terms up to then the new one cannot vote: it does not vote at all before an entry that names its new
    /// incarnation has come to it, which was made in that term or a later one.
    pub fn change_to_let_in(&self, peer: NodeId, member: Member) -> Option<MemberChange> {
        let is_let_in = member.incarnation.is_some_and(|shown| self.is_let_in(peer, shown));
        if self.role() != RoleName::Leader || is_let_in {
            return None;
        }
        Some(if self.configuration().is_member(peer) {
            MemberChange { remove: [peer].into(), ..MemberChange::default() }
        } else {
            MemberChange { add: [(peer, member)].into(), ..MemberChange::default() }
        })
    }

    /// Whether a peer belongs to the cluster as the one that it has shown itself to be. One that has lost its
    /// data is not heard before: its greetings are what moves it on, and one that is heard does not greet
    /// again.
    pub fn is_let_in(&self, peer: NodeId, shown: Incarnation) -> bool {
        self.has_joined_as(peer, shown)
    }

    /// Whether this node's log names it by this incarnation of its own: then it may vote, if it could not
    /// before.
    pub fn is_named(&self, own: Incarnation) -> bool {
        self.has_joined_as(self.id, own)
    }

    /// Whether an entry made somebody a member that has this incarnation. That others know a voter by it does
    /// not suffice: a leader that never met it, but what came after it, would give that one its vote.
    fn has_joined_as(&self, id: NodeId, incarnation: Incarnation) -> bool {
        let named = self.configuration().members.get(&id);
        named.is_some_and(|member| member.incarnation == Some(incarnation))
    }

    /// The number of the life by which what is committed names this node with this incarnation of its own:
    /// then it may ask for something, if it could not before.
    pub fn life(&self, own: Incarnation) -> Option<u64> {
        let named = self.committed_configuration().members.get(&self.id);
        named.filter(|member| member.incarnation == Some(own))?.life
    }
}
