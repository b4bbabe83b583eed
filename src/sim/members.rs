//! What must hold of changes of members: each committed configuration is the step that follows from the one
//! before, somebody asked for the first step of each change, and nobody who did was refused; whoever was told
//! that a change was begun can count on it.
//!
//! Each of them shares a node of every two quorums with the one before (paper section 6). What breaks when
//! one does not (two leaders, a lost entry) is for the other checks.

use super::machine::first_incarnation;
use super::operator::change;
use super::sometimes::Sometimes;
use super::{Checked, Violation};
use crate::node::OperationOutcome;
use crate::raft::{Configuration, MemberChange};
use crate::types::{Entry, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The changes that were asked for, and the configurations that were committed.
pub(super) struct Members {
    /// By the numbers of their tickets, and whether each was refused.
    asked: BTreeMap<u64, (MemberChange, bool)>,
    /// Those that are let in again, which nobody has to ask for.
    back: BTreeSet<NodeId>,
    newest: Arc<Configuration>,
    newest_term: Term,
}

impl Members {
    pub fn of(first: Vec<NodeId>) -> Members {
        let newest = Arc::new(Configuration::new(first));
        Members { asked: BTreeMap::new(), back: BTreeSet::new(), newest, newest_term: Term(0) }
    }

    /// The newest committed configuration.
    pub fn newest(&self) -> &Arc<Configuration> {
        &self.newest
    }

    /// This one has lost its data, and comes back: it is removed, and added.
    pub fn lets_in_again(&mut self, id: NodeId) {
        self.back.insert(id);
    }

    /// Somebody asks for a change.
    pub fn ask(&mut self, number: u64, change: MemberChange) {
        self.asked.insert(number, (change, false));
    }

    /// Somebody has an answer.
    pub fn told(&mut self, number: u64, outcome: &OperationOutcome, sometimes: &mut Sometimes) {
        let is_refused = match outcome {
            OperationOutcome::ChangeRefused(_) | OperationOutcome::ChangeTooNew(_) => true,
            OperationOutcome::ChangeLost => true,
            OperationOutcome::ChangeBegun(_) => false,
            OperationOutcome::Transferred(_)
            | OperationOutcome::TransferRefused(_)
            | OperationOutcome::TransferGivenUp
            | OperationOutcome::SnapshotTaken(_) => return,
        };
        if let Some((_, refused)) = self.asked.get_mut(&number).filter(|_| is_refused) {
            *refused = true;
        }
        sometimes.saw(match outcome {
            OperationOutcome::ChangeBegun(_) => "change of members begun",
            OperationOutcome::ChangeLost => "change of members lost",
            _ => "change of members refused",
        });
    }

    /// An entry is committed; the next one after those before.
    pub fn commit(&mut self, entry: &Entry, sometimes: &mut Sometimes) -> Checked {
        let Some(next) = &entry.configuration else { return Ok(()) };
        let before = std::mem::replace(&mut self.newest, Arc::clone(next));
        let term = std::mem::replace(&mut self.newest_term, entry.term);
        if !self.may_follow(&before, next) {
            let what = format!("{}: {next}, which nobody asked for, comes after {before}", entry.id());
            return Err(Violation::new("P10", what));
        }
        let is_under_way = before.is_joint() || before.next_voters.is_some();
        let arrived = next.voters.difference(&before.voters).count();
        let left = before.voters.difference(&next.voters).count();
        let seen = [
            (next.next_voters.is_some() && next.learners != before.learners, "learner added"),
            (next.lives > before.lives, "learner named by its incarnation"),
            (next.incarnations.len() > before.incarnations.len(), "others named for who joins"),
            (next.is_joint(), "joint configuration committed"),
            (next.is_joint() && arrived > 0, "learner promoted"),
            (next.is_joint() && arrived > 1 && left > 1, "several members replaced at once"),
            (next.is_joint() && left > 0, "voter removed"),
            (before.next_voters.is_some() && !next.is_joint(), "learner taken back"),
            (is_under_way && term < entry.term, "a newer leader went on with a change"),
        ];
        seen.iter().filter(|(is_so, _)| *is_so).for_each(|(_, what)| sometimes.saw(what));
        Ok(())
    }

    fn may_follow(&self, before: &Configuration, next: &Configuration) -> bool {
        if before.is_joint() {
            return next.voters == before.voters && !next.is_joint() && next.next_voters.is_none();
        }
        if before.next_voters.is_some() && names_somebody(before, next) {
            return true;
        }
        if next.is_joint() && next.outgoing != before.voters {
            return false;
        }
        if before.next_voters.is_some() && next.is_joint() {
            return Some(&next.voters) == before.next_voters.as_ref();
        }
        let mut asked = self.asked.values();
        asked.any(|(change, is_refused)| !is_refused && leads_to(before, change, next))
            || self.back.iter().any(|id| {
                let (remove, add) = (change(&[], &[*id]), change(&[*id], &[]));
                leads_to(before, &remove, next) || leads_to(before, &add, next)
            })
    }
}

/// Whether all that is new is by which incarnations nodes are to be told from others of their numbers: of
/// learners each with a life that nobody had before, of voters those who had none, by their first folders.
fn names_somebody(before: &Configuration, next: &Configuration) -> bool {
    let mut named = before.clone();
    for (id, member) in next.members.iter().filter(|(id, _)| before.learners.contains(id)) {
        let Some(known) = named.members.get_mut(id).filter(|known| **known != *member) else { continue };
        named.lives += 1;
        (known.incarnation, known.life) = (member.incarnation, Some(named.lives));
    }
    let unnamed = before.members().filter(|id| before.incarnation_of(*id).is_none());
    named.incarnations.extend(unnamed.filter_map(|id| Some((id, *next.incarnations.get(&id)?))));
    let are_the_first = next.incarnations.iter().all(|(id, it)| *it == first_incarnation(*id));
    named == *next && named != *before && are_the_first
}

/// Whether this is the first step of that change. Adding nobody and removing learners only gives a change up.
fn leads_to(before: &Configuration, change: &MemberChange, next: &Configuration) -> bool {
    if before.next_voters.is_some() {
        let gives_up = change.add.is_empty() && change.remove.is_subset(&before.learners);
        return gives_up && next.voters == before.voters && next.learners.is_empty();
    }
    let mut target: BTreeSet<NodeId> = before.voters.difference(&change.remove).copied().collect();
    target.extend(change.add.keys());
    next.next_voters.as_ref().unwrap_or(&next.voters) == &target
}
