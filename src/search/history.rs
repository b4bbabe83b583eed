//! What of the past must be known to judge the present, and the judgement: the properties that take more than
//! one node to know. It belongs to a state like its nodes do, so two ways that lead to the same nodes with
//! different pasts lead to two states, and no check depends on the way by which a state was found first.

use super::Fault;
use super::core::Core;
use super::seen::Seen;
use crate::raft::{Configuration, Log, RaftState, ReadReady, Renaming, RoleName};
use crate::types::{Entry, Index, NodeId, STARTS_A_LIFE, Term};
use std::collections::{BTreeMap, BTreeSet};

/// The past of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct History {
    pub spent: Spent,
    /// Who led which term, ever.
    leaders: BTreeMap<Term, NodeId>,
    /// What any node has ever known to be committed, in the order of the log.
    committed: Vec<Committed>,
    /// Reads that wait.
    reads: Vec<WaitingRead>,
}

/// How much of what is bounded has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Spent {
    pub proposals: u8,
    pub reads: u8,
    pub crashes: u8,
    pub heartbeats: u8,
    pub transfers: u8,
    pub compactions: u8,
    /// Which of them were asked for, each a bit.
    pub changes: u8,
    /// Only where they are bounded.
    pub campaigns: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Committed {
    entry: Entry,
    /// The term of the node that was the first to know.
    known_in: Term,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct WaitingRead {
    node: NodeId,
    number: u64,
    /// The last index that any node knew to be committed when the read began, so at least the last write that
    /// anyone was told of.
    must_see: Index,
}

impl History {
    /// A client begins to read at a node.
    pub fn read_begins(&mut self, node: NodeId, number: u64) {
        let must_see = self.committed.last().map_or(Index::NONE, |committed| committed.entry.index);
        self.reads.push(WaitingRead { node, number, must_see });
    }

    /// A node has started anew: nobody waits at it any more.
    pub fn restarted(&mut self, node: NodeId) {
        self.reads.retain(|read| read.node != node);
    }

    /// Reads may be served: each at an index that has all that was committed when it began.
    pub fn reads_are_ready(&mut self, raft: &RaftState, ready: &[ReadReady]) -> Result<Seen, Fault> {
        let mut seen = Seen::default();
        for ReadReady { number, index } in ready {
            let is_released = |read: &&WaitingRead| read.node == raft.id() && read.number <= *number;
            for read in self.reads.iter().filter(is_released) {
                if *index < read.must_see {
                    let what = format!(
                        "{raft}: read {} may be served from {index}, and {} was committed before it began",
                        read.number, read.must_see
                    );
                    return Err(Fault::new("P9", what));
                }
                let by_leader = raft.role() == RoleName::Leader;
                seen.add(if by_leader {
                    "read released by the leader"
                } else {
                    "read released by a follower"
                });
            }
            self.reads.retain(|read| !is_released(&read));
        }
        Ok(seen)
    }

    /// P1, over all time: one leader a term.
    pub fn leads(&mut self, cores: &[&Core], raft: &RaftState) -> Result<Seen, Fault> {
        let first = *self.leaders.entry(raft.term()).or_insert(raft.id());
        if first != raft.id() {
            let what = format!("two leaders in term {}: {first} and {}", raft.term(), raft.id());
            return Err(Fault::new("P1", what));
        }
        let mut seen = Seen::default();
        if cores.iter().filter(|core| core.raft.role() == RoleName::Leader).count() > 1 {
            seen.add("two leaders at once");
        }
        if self.leaders.len() > 2 {
            seen.add("three terms had leaders");
        }
        Ok(seen)
    }

    /// P3: who leads a term has all that was known to be committed in earlier ones.
    pub fn leaders_are_complete(&self, cores: &[&Core]) -> Result<(), Fault> {
        for raft in cores.iter().map(|core| &core.raft).filter(|raft| raft.role() == RoleName::Leader) {
            let earlier = self.committed.iter().filter(|committed| committed.known_in < raft.term());
            for Committed { entry, .. } in earlier {
                if !has(raft.log(), entry) {
                    let what = format!("{raft}: leads without the committed {}", entry.id());
                    return Err(Fault::new("P3", what));
                }
            }
        }
        Ok(())
    }

    /// P4 and P5: what a node takes for committed is what all others take for it, now and ever; and when the
    /// first one did, it was on the disks of a quorum. All that is committed is applied at once, so P4 is the
    /// same question.
    pub fn commits(&mut self, cores: &[&Core], raft: &RaftState) -> Result<Seen, Fault> {
        let mut seen = Seen::default();
        let base = raft.log().first_index().previous();
        let is_committed = |entry: &&Entry| entry.index <= raft.commit_index();
        for entry in raft.log().after(base).iter().take_while(is_committed) {
            let known = usize::try_from(entry.index.0).ok().and_then(|offset| self.committed.get(offset));
            if let Some(known) = known {
                if known.entry != *entry {
                    let what =
                        format!("{raft}: {} was committed where it has {}", known.entry.id(), entry.id());
                    return Err(Fault::new("P5", what));
                }
                continue;
            }
            let holds = |core: &&&Core| has(core.log_as_member(raft.configuration()), entry);
            let copies: Vec<NodeId> = cores.iter().filter(holds).map(|core| core.raft.id()).collect();
            if !are_quorum(&copies, raft.configuration()) {
                let what = format!("{raft}: committed {}, which only {copies:?} have on disk", entry.id());
                return Err(Fault::new("P5", what));
            }
            if entry.term < raft.term() {
                seen.add("entry of an older term committed");
            }
            if entry.configuration.is_some() {
                seen.add("change committed");
            }
            if entry.request.is_some_and(|request| request.boot >= STARTS_A_LIFE) {
                seen.add("write of a new life committed");
            }
            if entry.request.is_some() {
                let after_crash = self.spent.crashes > 0;
                seen.add(if after_crash { "write committed after a crash" } else { "write committed" });
            }
            self.committed.push(Committed { entry: entry.clone(), known_in: raft.term() });
        }
        Ok(seen)
    }

    /// The same past of nodes with other names.
    pub fn renamed(&self, new: Renaming) -> History {
        let mut reads: Vec<WaitingRead> =
            self.reads.iter().map(|read| WaitingRead { node: new(read.node), ..read.clone() }).collect();
        reads.sort_by_key(|read| read.number);
        History {
            spent: self.spent,
            leaders: self.leaders.iter().map(|(term, leader)| (*term, new(*leader))).collect(),
            committed: self
                .committed
                .iter()
                .map(|committed| Committed { entry: committed.entry.renamed(new), ..committed.clone() })
                .collect(),
            reads,
        }
    }
}

/// Whether this log has the entry: all that it begins after is committed, and of the last of that it knows
/// the term.
fn has(log: &Log, entry: &Entry) -> bool {
    log.contains(entry.id()) && log.get(entry.index).is_none_or(|own| own == entry)
}

/// Whether these are more than half of the voters, and in a joint configuration of the old ones too (paper
/// section 6). Said once more than in the core, so that what is wrong there is not wrong here too.
fn are_quorum(nodes: &[NodeId], configuration: &Configuration) -> bool {
    let Configuration { voters, outgoing, .. } = configuration;
    let are_most = |of: &BTreeSet<NodeId>| nodes.iter().filter(|id| of.contains(id)).count() > of.len() / 2;
    are_most(voters) && (outgoing.is_empty() || are_most(outgoing))
}

/// P2: where two logs have the same entry, they are equal up to there. Asked of one node's log, in memory and
/// on disk, against all others'.
pub(super) fn logs_match(cores: &[&Core], node: usize) -> Result<(), Fault> {
    for (_, other) in cores.iter().enumerate().filter(|(other, _)| *other != node) {
        for ours in logs_of(cores[node]) {
            for theirs in logs_of(other) {
                if !two_logs_match(ours, theirs) {
                    let (one, two) = (cores[node].raft.id(), other.raft.id());
                    let what = format!("the logs of {one} and {two} do not match: {ours} and {theirs}");
                    return Err(Fault::new("P2", what));
                }
            }
        }
    }
    Ok(())
}

fn logs_of(core: &Core) -> [&Log; 2] {
    [core.raft.log(), &core.disk.log]
}

fn two_logs_match(ours: &Log, theirs: &Log) -> bool {
    let base = ours.base().index.max(theirs.base().index);
    let pairs = || ours.after(base).iter().zip(theirs.after(base));
    let differ_at = pairs().position(|(our, their)| our != their).unwrap_or(usize::MAX);
    !pairs().enumerate().any(|(at, (our, their))| at >= differ_at && our.term == their.term)
}
