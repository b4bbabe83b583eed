//! Changes of members (paper section 6, thesis 4): from any set of voters to any other in one change.
//!
//! ```text
//!   voters 1 2 3                                    the operator: replace 3 by 4
//!        |  append  voters 1 2 3, learner 4, next 1 2 4
//!        v
//!   learners get the log                            they have no vote, so nobody waits for them
//!        |  4 has shown itself: append  its incarnation too
//!        v
//!        |  4 has caught up: append  voters 1 2 4, outgoing 1 2 3
//!        v
//!   joint: a quorum of both                         neither can decide anything alone
//!        |  committed: append  voters 1 2 4
//!        v
//!   voters 1 2 4                                    a leader that is not among them steps down when it is
//!                                                   committed
//! ```
//!
//! A configuration is in force on a node as soon as it stands in its log, and no more when it is dropped from
//! it (paper 6). Why that is safe: two neighbours in the row above share a node of every two quorums, so each
//! step is as safe as if nothing changed, provided that no node uses one two steps away. That is so because
//! the next is appended only when the one before is committed, by a leader that has committed an entry of its
//! own term: what an earlier leader left uncommitted has by then either been committed too, or can never be
//! (the bug of 2015, FAULTS row 35). Everything that a later leader needs to go on stands in the entry
//! itself.

use super::message::{Body, TimeoutNow};
use super::note::{Note, RoleReason};
use super::output::{ChangeOutcome, Output};
use super::progress::Progress;
use super::role::{Leader, Role};
use super::state::RaftState;
use super::{Configuration, Log};
use crate::types::{Command, Entry, EntryId, Index, Member, NodeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// The most voters that a cluster has.
pub const MAX_VOTERS: usize = 9;

/// The configurations that a log names, the newest of which is in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Configurations {
    /// The one in force where the log begins.
    base: Arc<Configuration>,
    /// Those that entries of the log carry, by their indexes.
    named: Vec<(Index, Arc<Configuration>)>,
}

impl Configurations {
    /// Of a log that begins under `base`.
    pub fn of(base: Configuration, log: &Log) -> Configurations {
        let mut configurations = Configurations { base: Arc::new(base), named: Vec::new() };
        let before_first = log.first_index().previous();
        log.after(before_first).iter().for_each(|entry| configurations.append(entry));
        configurations
    }

    /// The one in force.
    pub fn current(&self) -> &Configuration {
        self.named.last().map_or(&self.base, |(_, configuration)| configuration)
    }

    /// The same, shared.
    pub fn shared(&self) -> Arc<Configuration> {
        Arc::clone(self.named.last().map_or(&self.base, |(_, configuration)| configuration))
    }

    /// Where the one in force stands in the log; none when the log begins under it.
    pub fn current_index(&self) -> Index {
        self.named.last().map_or(Index::NONE, |(index, _)| *index)
    }

    /// The one in force at an index that the log still has, or had last.
    pub fn at(&self, index: Index) -> &Configuration {
        let named = self.named.iter().rev().find(|(at, _)| *at <= index);
        named.map_or(&self.base, |(_, configuration)| configuration)
    }

    /// An entry was appended.
    pub fn append(&mut self, entry: &Entry) {
        if let Some(configuration) = &entry.configuration {
            self.named.push((entry.index, Arc::clone(configuration)));
        }
    }

    /// All entries from here on were dropped.
    pub fn truncate(&mut self, from: Index) {
        self.named.retain(|(index, _)| *index < from);
    }

    /// The log begins after this index.
    pub fn compact(&mut self, to: Index) {
        self.base = Arc::new(self.at(to).clone());
        self.named.retain(|(index, _)| *index > to);
    }

    /// The same with other names for all nodes.
    pub fn renamed(&self, new: super::Renaming) -> Configurations {
        let renamed = |configuration: &Arc<Configuration>| Arc::new(configuration.renamed(new));
        Configurations {
            base: renamed(&self.base),
            named: self.named.iter().map(|(index, named)| (*index, renamed(named))).collect(),
        }
    }
}

/// What an operator wants changed. In one change, any number of nodes may come and go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct MemberChange {
    /// Who is to vote, and where each can be reached.
    pub add: BTreeMap<NodeId, Member>,
    /// Who is to leave.
    pub remove: BTreeSet<NodeId>,
}

/// Why a change was not begun. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ChangeRefusal {
    /// Only a leader changes members.
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// The leader is new, and has not committed an entry of its term yet (FAULTS row 35).
    NotReady,
    /// One change at a time.
    UnderWay {
        /// The entry of the newest step.
        index: Index,
    },
    /// The lead is being handed over.
    Transferring,
    /// It belongs to the cluster already.
    AlreadyMember {
        /// Who.
        id: NodeId,
    },
    /// It does not belong to the cluster.
    NoMember {
        /// Who.
        id: NodeId,
    },
    /// No voter would be left.
    NoVoters,
    /// More than [`MAX_VOTERS`].
    TooMany,
    /// Nothing would change.
    Nothing,
}

impl fmt::Display for ChangeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeRefusal::NotLeader { leader: Some(leader) } => {
                write!(f, "only the leader changes members, and that is {leader}")
            }
            ChangeRefusal::NotLeader { leader: None } => {
                f.write_str("only a leader changes members, and none is known")
            }
            ChangeRefusal::NotReady => {
                f.write_str("the leader has not committed an entry of its term yet: try again")
            }
            ChangeRefusal::UnderWay { index } => {
                write!(f, "another change is under way, its newest step at index {index}")
            }
            ChangeRefusal::Transferring => f.write_str("the lead is being handed over: try again"),
            ChangeRefusal::AlreadyMember { id } => write!(f, "{id} belongs to the cluster already"),
            ChangeRefusal::NoMember { id } => write!(f, "{id} does not belong to the cluster"),
            ChangeRefusal::NoVoters => f.write_str("no voter would be left"),
            ChangeRefusal::TooMany => write!(f, "a cluster has at most {MAX_VOTERS} voters"),
            ChangeRefusal::Nothing => f.write_str("this changes nothing"),
        }
    }
}

/// How far a learner has come on its way to a vote, in rounds (thesis 4.2.1): each round it gets what the
/// leader's log had when the round began. It has caught up when the last round took less than an election
/// timeout, and the one under way has not taken longer: then the cluster waits no longer than that for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct CatchUp {
    target: Index,
    pub ticks: u32,
    is_done: bool,
}

impl RaftState {
    /// An operator wants members changed.
    pub(super) fn on_change_members(&mut self, request: u64, change: MemberChange, output: &mut Output) {
        let outcome = match self.change_refusal(&change) {
            Some(why) => ChangeOutcome::Refused(why),
            None => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.catch_up.clear();
                    // Who had that number before may be remembered until the next tick, and with it a log
                    // that the new one does not have.
                    leader.progress.retain(|id, _| !change.add.contains_key(id));
                }
                let next = first_step(self.configurations.current(), change);
                ChangeOutcome::Appended(self.append_configuration(next, output))
            }
        };
        output.changes.push((request, outcome));
    }

    fn change_refusal(&self, change: &MemberChange) -> Option<ChangeRefusal> {
        let Role::Leader(leader) = &self.role else {
            return Some(ChangeRefusal::NotLeader { leader: self.leader() });
        };
        if leader.transfer.is_some() {
            return Some(ChangeRefusal::Transferring);
        }
        if self.commit_index < leader.first_index {
            return Some(ChangeRefusal::NotReady);
        }
        let (current, index) = (self.configurations.current(), self.configurations.current_index());
        // Whoever waits for a learner that never comes may let it go, and with it the whole change.
        let gives_up = current.next_voters.is_some()
            && change.add.is_empty()
            && change.remove.iter().all(|id| current.learners.contains(id));
        let is_under_way = current.is_joint() || (current.next_voters.is_some() && !gives_up);
        if is_under_way || index > self.commit_index {
            return Some(ChangeRefusal::UnderWay { index });
        }
        if current.next_voters.is_none() && !current.is_voter(self.id) {
            // It has left, and steps down at the next tick. With a change of its own it could not.
            return Some(ChangeRefusal::NotLeader { leader: None });
        }
        if let Some(id) = change.add.keys().find(|id| current.is_member(**id)) {
            return Some(ChangeRefusal::AlreadyMember { id: *id });
        }
        if let Some(id) = change.remove.iter().find(|id| !current.is_member(**id)) {
            return Some(ChangeRefusal::NoMember { id: *id });
        }
        if change.add.is_empty() && change.remove.is_empty() {
            return Some(ChangeRefusal::Nothing);
        }
        let leaving = current.voters.intersection(&change.remove).count();
        let voters = current.voters.len() + change.add.len() - leaving;
        if voters == 0 {
            return Some(ChangeRefusal::NoVoters);
        }
        (voters > MAX_VOTERS).then_some(ChangeRefusal::TooMany)
    }

    /// Appends an entry that carries a configuration, which is in force from now on.
    fn append_configuration(&mut self, configuration: Configuration, output: &mut Output) -> EntryId {
        let mut entry = self.log.next_entry(self.term, None, Command::configuration());
        entry.configuration = Some(Arc::new(configuration));
        let id = entry.id();
        self.append_entry_as_leader(entry, output);
        self.track_members();
        id
    }

    /// Whom a leader sends to: all members, and those that the newest committed configuration still names, so
    /// that whoever leaves learns of it.
    pub(super) fn recipients(&self) -> BTreeSet<NodeId> {
        let committed = self.configurations.at(self.commit_index);
        let members = self.configurations.current().members().chain(committed.members());
        members.filter(|id| *id != self.id).collect()
    }

    /// A leader begins to follow how far new members get, and forgets those that have left.
    fn track_members(&mut self) {
        let recipients = self.recipients();
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|id, _| recipients.contains(id));
        for id in recipients {
            leader.progress.entry(id).or_insert_with(|| Progress::new(last));
        }
    }

    /// A leader takes the next step of a change once the one before is committed. On ticks, since nobody
    /// waits for it that urgently; and not while it hands the lead over: an heir that was told to campaign
    /// would lose for want of that entry, and the next leader goes on with the change.
    pub(super) fn advance_members(&mut self, output: &mut Output) {
        let current = self.configurations.current();
        let Role::Leader(leader) = &self.role else { return };
        let is_committed = self.configurations.current_index() <= self.commit_index;
        if !is_committed || self.commit_index < leader.first_index || leader.transfer.is_some() {
            return;
        }
        if current.is_joint() {
            let next = last_step(current);
            self.append_configuration(next, output);
        } else if let Some(next_voters) = current.next_voters.clone() {
            if let Some(named) = self.with_names(&next_voters) {
                self.append_configuration(named, output);
            } else if self.have_caught_up(&next_voters) {
                let next = joint_step(self.configurations.current(), next_voters);
                self.append_configuration(next, output);
            }
        } else if !current.is_voter(self.id) {
            self.step_down_removed(output);
        } else if leader.progress.keys().any(|id| !current.is_member(*id)) {
            self.track_members();
        }
    }

    /// The configuration with the incarnations that those have shown that are to vote, where it does not name
    /// them yet, and a number for the life that each begins with that: one that no other has, since the
    /// configuration that it is made of is committed.
    ///
    /// A number may have been another node's, which left: then the log's beginning names it as a voter, and
    /// while a new one under that number knows no more than that, it would campaign and vote like the old
    /// one. Two of them once elected each other, behind the back of all that had been committed since. So who
    /// has joined does not vote before the log names it by its incarnation, which it does here, before it can
    /// be needed for any quorum; and only when it has that entry on its disk is it needed
    /// ([`RaftState::have_caught_up`]): a leader that crashed in between would ask it in vain for its vote,
    /// for ever. Its log is newer from then on than any that ends before it was added, so whoever knows only
    /// of the old one gets no vote of it (paper 5.4.1).
    ///
    /// The entry also names all voters that no entry named before, by the incarnations that this node
    /// remembers: who joins has met nobody, and would take a voter that has lost its data, and was wrongly
    /// started as a new cluster's, for the one that all others remember.
    fn with_names(&self, next_voters: &BTreeSet<NodeId>) -> Option<Configuration> {
        let current = self.configurations.current();
        let mut named = current.clone();
        for id in next_voters.iter().filter(|id| !current.is_voter(**id)) {
            let Some(member) = named.members.get_mut(id).filter(|member| member.life.is_none()) else {
                continue;
            };
            let incarnation = member.incarnation.or_else(|| self.met.get(id).copied());
            if incarnation.is_some() {
                named.lives += 1;
                (member.incarnation, member.life) = (incarnation, Some(named.lives));
            }
        }
        if named.lives == current.lives {
            return None;
        }
        let unnamed = current.voters().filter(|id| named.incarnation_of(*id).is_none());
        let known = unnamed.filter_map(|id| Some((id, *self.remembered.get(&id)?)));
        named.incarnations.extend(known.collect::<Vec<_>>());
        Some(named)
    }

    /// Whether all that are to vote have the log, or nearly, with the entry that names them. Also counts
    /// their rounds on.
    fn have_caught_up(&mut self, next_voters: &BTreeSet<NodeId>) -> bool {
        let (last, named_at) = (self.log.last().index, self.configurations.current_index());
        let patience_ticks = self.settings.election_timeout_min_ticks;
        let current = self.configurations.current();
        let Role::Leader(Leader { progress, catch_up, .. }) = &mut self.role else { return false };
        catch_up.retain(|id, _| next_voters.contains(id));
        let mut all = true;
        for id in next_voters.iter().filter(|id| !current.is_voter(**id)) {
            let Some(progress) = progress.get(id) else { return false };
            let first = || CatchUp { target: last, ticks: 0, is_done: false };
            let round = catch_up.entry(*id).or_insert_with(first);
            let is_short = round.ticks < patience_ticks;
            if progress.match_index >= round.target {
                *round = CatchUp { target: last, ticks: 0, is_done: is_short };
            } else {
                round.ticks = round.ticks.saturating_add(1);
                round.is_done &= is_short;
            }
            let is_named = progress.match_index >= named_at;
            all &= round.is_done && is_named && progress.silent_ticks < patience_ticks;
        }
        all
    }

    /// A leader that is no voter any more, and of whom that is committed, has done its last work (paper 6).
    /// Whoever is furthest need not wait for a timeout.
    fn step_down_removed(&mut self, output: &mut Output) {
        if let Some(heir) = self.most_up_to_date_voter() {
            output.after_save.push(self.message(heir, Body::TimeoutNow(TimeoutNow {})));
        }
        self.become_follower(self.term, None, None, RoleReason::Removed, output);
    }

    /// Takes note of an entry that was appended.
    pub(super) fn note_configuration(&mut self, entry: &Entry, output: &mut Output) {
        if entry.configuration.is_some() {
            self.configurations.append(entry);
            let configuration = self.configurations.current().clone();
            output.notes.push(Note::MembersChanged { index: entry.index, configuration });
        }
    }
}

/// What an operator's change begins with: learners, if somebody is new, else the joint configuration. A
/// change under way that it gives up is given up as a whole: to remove some without those that were to take
/// their place is not what anybody asked for.
fn first_step(current: &Configuration, change: MemberChange) -> Configuration {
    let MemberChange { add, remove } = change;
    let mut next = current.clone();
    if let Some(given_up) = next.next_voters.take() {
        next.learners.retain(|id| !given_up.contains(id));
        return next.tidied();
    }
    let mut voters: BTreeSet<NodeId> = current.voters.difference(&remove).copied().collect();
    voters.extend(add.keys());
    next.learners.extend(add.keys());
    next.members.extend(add);
    let has_new = voters.iter().any(|id| !current.is_voter(*id));
    next.next_voters = (voters != current.voters).then_some(voters);
    match next.next_voters.clone() {
        Some(voters) if !has_new => joint_step(&next, voters),
        Some(_) | None => next.tidied(),
    }
}

/// From here on both sets of voters have to agree.
fn joint_step(current: &Configuration, next_voters: BTreeSet<NodeId>) -> Configuration {
    let mut next = current.clone();
    next.learners.retain(|id| !next_voters.contains(id));
    next.outgoing = std::mem::replace(&mut next.voters, next_voters);
    next.next_voters = None;
    next
}

/// The new voters alone.
fn last_step(current: &Configuration) -> Configuration {
    Configuration { outgoing: BTreeSet::new(), ..current.clone() }.tidied()
}

impl Configuration {
    /// Without addresses of those that do not belong to it.
    fn tidied(mut self) -> Configuration {
        let members: BTreeSet<NodeId> = self.members().collect();
        self.members.retain(|id, _| members.contains(id));
        self.incarnations.retain(|id, _| members.contains(id));
        self
    }

    /// The same with other names for all nodes.
    pub fn renamed(&self, new: super::Renaming) -> Configuration {
        let set = |ids: &BTreeSet<NodeId>| ids.iter().copied().map(new).collect();
        Configuration {
            voters: set(&self.voters),
            outgoing: set(&self.outgoing),
            learners: set(&self.learners),
            next_voters: self.next_voters.as_ref().map(set),
            members: self.members.iter().map(|(id, member)| (new(*id), member.clone())).collect(),
            incarnations: self.incarnations.iter().map(|(id, it)| (new(*id), *it)).collect(),
            lives: self.lives,
            founding: self.founding,
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids =
            |ids: &BTreeSet<NodeId>| ids.iter().map(NodeId::to_string).collect::<Vec<String>>().join(" ");
        write!(f, "voters {}", ids(&self.voters))?;
        if !self.outgoing.is_empty() {
            write!(f, ", outgoing {}", ids(&self.outgoing))?;
        }
        if !self.learners.is_empty() {
            write!(f, ", learners {}", ids(&self.learners))?;
        }
        match &self.next_voters {
            Some(next) => write!(f, ", next voters {}", ids(next)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::super::state::tests::{hear_match, leading, started, step};
    use super::*;
    use crate::types::{Incarnation, Term};
    use proptest::prelude::*;

    fn ids(ids: &[u16]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn change(add: &[u16], remove: &[u16]) -> MemberChange {
        let member = |id: NodeId| (id, Member::at(format!("{id}:1"), format!("{id}:2")));
        MemberChange { add: ids(add).into_iter().map(member).collect(), remove: ids(remove) }
    }

    /// What a [`Configuration`] shows, and whose addresses it has.
    fn shown(configuration: &Configuration) -> String {
        let members: Vec<String> = configuration.members.keys().map(NodeId::to_string).collect();
        format!("{configuration}; addresses [{}]", members.join(" "))
    }

    fn shown_steps(voters: &[u16], change: MemberChange) -> Vec<String> {
        let mut steps = vec![first_step(&Configuration::new(ids(voters)), change)];
        loop {
            let last = steps.last().expect("there is a first");
            let next = match &last.next_voters {
                Some(next_voters) => joint_step(last, next_voters.clone()),
                None if last.is_joint() => last_step(last),
                None => return steps.iter().map(shown).collect(),
            };
            steps.push(next);
        }
    }

    #[test]
    fn a_change_with_new_nodes_takes_three_steps() {
        let steps = shown_steps(&[1, 2, 3], change(&[4, 5], &[2, 3]));
        let expected = [
            "voters n1 n2 n3, learners n4 n5, next voters n1 n4 n5; addresses [n4 n5]",
            "voters n1 n4 n5, outgoing n1 n2 n3; addresses [n4 n5]",
            "voters n1 n4 n5; addresses [n4 n5]",
        ];
        assert_eq!(steps, expected);
    }

    #[test]
    fn a_change_without_new_nodes_takes_two_steps() {
        let steps = shown_steps(&[1, 2, 3], change(&[], &[1]));
        assert_eq!(steps, ["voters n2 n3, outgoing n1 n2 n3; addresses []", "voters n2 n3; addresses []"]);
    }

    #[test]
    fn whoever_leaves_is_forgotten_with_the_last_step() {
        let with_addresses =
            Configuration { members: change(&[1, 2, 3], &[]).add, ..Configuration::new(ids(&[1, 2, 3])) };
        let joint = first_step(&with_addresses, change(&[], &[3]));
        assert_eq!(
            shown(&joint),
            "voters n1 n2, outgoing n1 n2 n3; addresses [n1 n2 n3]",
            "it is told so, at its address"
        );
        assert_eq!(shown(&last_step(&joint)), "voters n1 n2; addresses [n1 n2]");
    }

    #[test]
    fn a_change_is_given_up_as_a_whole() {
        let waiting = first_step(&Configuration::new(ids(&[1, 2, 3])), change(&[4, 5], &[3]));
        let given_up = first_step(&waiting, change(&[], &[5]));
        assert_eq!(shown(&given_up), "voters n1 n2 n3; addresses []");
    }

    fn entry(index: i64, voters: Option<&[u16]>) -> Entry {
        Entry {
            term: Term(1),
            index: Index(index),
            request: None,
            command: Command::noop(),
            configuration: voters.map(|voters| Arc::new(Configuration::new(ids(voters)))),
        }
    }

    fn voters(configuration: &Configuration) -> Vec<u16> {
        configuration.voters.iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_newest_configuration_of_a_log_is_in_force() {
        let entries = vec![entry(0, None), entry(1, Some(&[1, 2])), entry(2, None), entry(3, Some(&[1]))];
        let log = Log::new(EntryId::NONE, entries);
        let mut all = Configurations::of(Configuration::new(ids(&[1, 2, 3])), &log);
        let at = |all: &Configurations| {
            (-1..5).map(|index| voters(all.at(Index(index))).len()).collect::<Vec<_>>()
        };
        assert_eq!((voters(all.current()), all.current_index()), (vec![1], Index(3)));
        assert_eq!(at(&all), [3, 3, 2, 2, 1, 1]);

        let mut compacted = all.clone();
        compacted.compact(Index(2));
        assert_eq!((voters(compacted.current()), compacted.current_index()), (vec![1], Index(3)));
        assert_eq!(at(&compacted)[3..], [2, 1, 1]);
        compacted.compact(Index(3));
        assert_eq!((voters(compacted.current()), compacted.current_index()), (vec![1], Index::NONE));

        all.truncate(Index(3));
        assert_eq!((voters(all.current()), all.current_index()), (vec![1, 2], Index(1)));
        all.append(&entry(3, None));
        all.append(&entry(4, Some(&[7])));
        assert_eq!((voters(all.current()), all.current_index()), (vec![7], Index(4)));
        all.truncate(Index(0));
        assert_eq!((voters(all.current()), all.current_index()), (vec![1, 2, 3], Index::NONE));
    }

    const NODES: u16 = 6;

    /// All sets of up to six nodes, as bits.
    fn subsets() -> impl Iterator<Item = u16> {
        0..1 << NODES
    }

    fn is_quorum(configuration: &Configuration, subset: u16) -> bool {
        configuration.has_quorum(|id| subset & (1 << (id.0 - 1)) != 0)
    }

    /// Paper section 6: no two disjoint sets of nodes are a quorum of one and of the other.
    fn share_a_node(one: &Configuration, other: &Configuration) -> Result<(), TestCaseError> {
        for subset in subsets().filter(|subset| is_quorum(one, *subset)) {
            let rest = !subset & ((1 << NODES) - 1);
            prop_assert!(!is_quorum(other, rest), "{one} and {other}: {subset:b} and {rest:b}");
        }
        Ok(())
    }

    fn is_sound(configuration: &Configuration) -> Result<(), TestCaseError> {
        let Configuration { voters, outgoing, learners, next_voters, .. } = configuration;
        prop_assert!(!voters.is_empty(), "{configuration}");
        prop_assert!(learners.is_disjoint(voters) && learners.is_disjoint(outgoing), "{configuration}");
        let new = next_voters.iter().flatten().filter(|id| !voters.contains(id));
        let waits: BTreeSet<NodeId> = new.copied().collect();
        prop_assert_eq!(&waits, learners, "{}", configuration);
        prop_assert!(next_voters.is_none() || outgoing.is_empty(), "{configuration}");
        Ok(())
    }

    proptest! {
        /// Whatever is asked for, in whatever order, each configuration shares a node of every two quorums
        /// with the next: so it is as safe to take the next step as to take none.
        #[test]
        fn neighbours_share_a_node_of_every_two_quorums(
            first in 1u16..1 << NODES,
            asked in proptest::collection::vec((0u16..1 << NODES, 0u16..1 << NODES, any::<bool>()), 1..6),
        ) {
            let nodes = |bits: u16| -> Vec<u16> {
                (1..=NODES).filter(|id| bits & (1 << (id - 1)) != 0).collect()
            };
            let mut current = Configuration::new(ids(&nodes(first)));
            let mut step = |next: Configuration| -> Result<Configuration, TestCaseError> {
                is_sound(&next)?;
                share_a_node(&current, &next)?;
                current = next.clone();
                Ok(next)
            };
            let mut now = Configuration::new(ids(&nodes(first)));
            for (add, remove, gives_up) in asked {
                let is_voter = |id: &u16| now.is_voter(NodeId(*id));
                let add: Vec<u16> = nodes(add).into_iter().filter(|id| !is_voter(id)).collect();
                let remove: Vec<u16> = nodes(remove).into_iter().filter(is_voter).collect();
                let nobody_stays = remove.len() == now.voters.len() && add.is_empty();
                if nobody_stays || (add.is_empty() && remove.is_empty()) {
                    continue;
                }
                let wanted: BTreeSet<NodeId> =
                    now.voters.difference(&ids(&remove)).copied().chain(ids(&add)).collect();
                let before = now.voters.clone();
                now = step(first_step(&now, change(&add, &remove)))?;
                if gives_up && !now.learners.is_empty() {
                    now = step(first_step(&now, change(&[], &add[..1])))?;
                    prop_assert_eq!(&now.voters, &before);
                    continue;
                }
                if let Some(next_voters) = now.next_voters.clone() {
                    now = step(joint_step(&now, next_voters))?;
                }
                now = step(last_step(&now))?;
                prop_assert_eq!(&now.voters, &wanted);
            }
        }
    }

    #[test]
    fn sets_that_are_two_steps_apart_need_not_share_a_node() {
        // The property above can fail: that is what the joint configuration between them is for.
        let (old, new) = (Configuration::new(ids(&[1, 2, 3])), Configuration::new(ids(&[4, 5, 6])));
        assert!(share_a_node(&old, &new).is_err());
    }

    /// Time passes, a tick a batch, and everything is saved.
    fn pass(raft: &mut RaftState, ticks: usize) -> Output {
        let mut output = Output::default();
        for _ in 0..ticks {
            raft.step(Input::Tick, &mut output);
            let (term, last) = (raft.term(), raft.log().last());
            raft.step(Input::Saved { term, last }, &mut output);
            raft.step(Input::BatchEnd, &mut output);
        }
        output
    }

    /// Numbers were used again: two nodes that had joined empty, under the numbers of voters that had left,
    /// got the beginning of the log, which named those, and elected each other. All that the rest of the log
    /// said was lost to them.
    #[test]
    fn who_has_joined_is_named_before_it_is_to_vote() {
        let mut raft = started(&[1], true);
        pass(&mut raft, 20);
        let mut output = Output::default();
        raft.step(Input::ChangeMembers { request: 1, change: change(&[2], &[]) }, &mut output);
        pass(&mut raft, 5);
        assert_eq!(raft.configuration().members[&NodeId(2)].incarnation, None, "it was not met yet");
        raft.step(Input::Met { peer: NodeId(2), incarnation: Incarnation(7) }, &mut output);
        pass(&mut raft, 5);
        let named = raft.configuration();
        assert_eq!(named.members[&NodeId(2)].incarnation, Some(Incarnation(7)));
        assert!(named.learners.contains(&NodeId(2)), "and not before it has the log is it a voter: {named}");
    }

    /// A leader that never met a voter remembers what came after it, and names it so when somebody else
    /// joins. That gives the newer one no vote: what was there before it may have voted and acknowledged.
    #[test]
    fn who_is_known_by_what_a_leader_remembers_has_not_joined() {
        let mut raft = started(&[1], true);
        let mut output = Output::default();
        raft.step(Input::Remembered { peer: NodeId(1), incarnation: Incarnation(5) }, &mut output);
        pass(&mut raft, 20);
        raft.step(Input::ChangeMembers { request: 1, change: change(&[2], &[]) }, &mut output);
        raft.step(Input::Met { peer: NodeId(2), incarnation: Incarnation(7) }, &mut output);
        pass(&mut raft, 5);
        assert_eq!(raft.configuration().incarnation_of(NodeId(1)), Some(Incarnation(5)));
        assert!(!raft.is_named(Incarnation(5)) && !raft.is_let_in(NodeId(1), Incarnation(5)));
        assert!(raft.is_let_in(NodeId(2), Incarnation(7)));
    }

    /// Who joins has met nobody: it learns from the log whom the others remember.
    #[test]
    fn who_joins_learns_by_which_incarnations_the_others_are_known() {
        let mut raft = started(&[1], true);
        let mut output = Output::default();
        raft.step(Input::Remembered { peer: NodeId(1), incarnation: Incarnation(5) }, &mut output);
        raft.step(Input::Remembered { peer: NodeId(3), incarnation: Incarnation(6) }, &mut output);
        pass(&mut raft, 20);
        raft.step(Input::ChangeMembers { request: 1, change: change(&[2], &[]) }, &mut output);
        raft.step(Input::Met { peer: NodeId(2), incarnation: Incarnation(7) }, &mut output);
        pass(&mut raft, 5);
        let named = |id| raft.configuration().incarnation_of(NodeId(id));
        assert_eq!([1, 2, 3].map(named), [Some(Incarnation(5)), Some(Incarnation(7)), None], "members alone");
    }

    /// A leader had met the node that had the number before, and named the new one by that one's folder: it
    /// would have been turned away for ever.
    #[test]
    fn a_number_that_is_used_again_is_not_named_by_who_had_it_before() {
        let (old, new) = (Incarnation(7), Incarnation(8));
        let named = |raft: &RaftState| raft.configuration().members[&NodeId(2)].incarnation;
        let meets = |incarnation| Input::Met { peer: NodeId(2), incarnation };
        let mut output = Output::default();
        let mut leading = |add: MemberChange, after: Vec<Input>| {
            let mut raft = started(&[1], true);
            pass(&mut raft, 20);
            raft.step(meets(old), &mut output);
            raft.step(Input::Left { peer: NodeId(2), incarnation: Incarnation(6) }, &mut output);
            after.into_iter().for_each(|input| raft.step(input, &mut output));
            raft.step(Input::ChangeMembers { request: 1, change: add }, &mut output);
            pass(&mut raft, 5);
            raft
        };
        assert_eq!(named(&leading(change(&[2], &[]), vec![])), Some(old), "another one has left");
        let left = || Input::Left { peer: NodeId(2), incarnation: old };
        assert_eq!(named(&leading(change(&[2], &[]), vec![left()])), None, "it was not met yet");
        let raft = leading(change(&[2], &[]), vec![left(), meets(new)]);
        assert_eq!((named(&raft), raft.configuration().members[&NodeId(2)].life), (Some(new), Some(1)));
        // Who lost its data says by which folder it is to be let in: that stands, whoever was met.
        let mut back = change(&[2], &[]);
        back.add.values_mut().for_each(|member| member.incarnation = Some(new));
        let raft = leading(back, vec![]);
        assert_eq!((named(&raft), raft.configuration().members[&NodeId(2)].life), (Some(new), Some(1)));
    }

    /// A node that had lost its data was removed, and greeted the leader once more before the next tick. It
    /// was added, and the leader went on from what the one before had acknowledged: it did not go back to
    /// before that, and the new one, which has nothing, got nothing for as long as that leader led.
    #[test]
    fn who_is_added_again_is_not_held_to_what_the_one_before_had() {
        let mut raft = leading();
        hear_match(&mut raft, 3);
        step(&mut raft, Input::ChangeMembers { request: 1, change: change(&[], &[3]) });
        hear_match(&mut raft, 2);
        step(&mut raft, Input::Tick);
        hear_match(&mut raft, 2);
        assert_eq!(raft.commit_index(), Index(2), "it has left");
        let output = step(&mut raft, Input::ChangeMembers { request: 2, change: change(&[3], &[]) });
        assert!(matches!(output.changes[..], [(2, ChangeOutcome::Appended(_))]), "before the next tick");
        let progress = raft.progress().into_iter().find(|progress| progress.id == NodeId(3));
        assert_eq!(progress.map(|progress| progress.match_index), Some(Index::NONE));
    }

    #[test]
    fn who_has_joined_neither_campaigns_nor_votes_before_it_is_named() {
        use super::super::RoleName;
        use super::super::message::{RequestVote, RequestVoteResponse};
        let mut raft = started(&[1, 2, 3], false);
        assert!(pass(&mut raft, 50).after_save.is_empty(), "the log names a voter of its number");
        let vote = RequestVote {
            campaign_term: Term(1),
            pre_vote: false,
            leadership_transfer: false,
            last: EntryId::NONE,
        };
        let body = Body::RequestVote(vote);
        let message = super::super::Message { from: NodeId(2), to: NodeId(1), term: Term(1), body };
        let mut output = Output::default();
        raft.step(Input::Message(message), &mut output);
        let refused = RequestVoteResponse { campaign_term: Term(1), pre_vote: false, granted: false };
        assert_eq!(output.after_save[0].body, Body::RequestVoteResponse(refused));
        raft.step(Input::AllowVote, &mut output);
        pass(&mut raft, 50);
        assert_ne!(raft.role(), RoleName::Follower);
    }
}
