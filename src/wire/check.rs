//! What a message must fulfil before the core sees it, whoever sent it: the rules that the core relies on and
//! an honest node cannot break. A message that breaks one is a defect of its sender or forged, never a matter
//! of timing; so nothing is checked here that a slow or restarted node may rightly say.

use super::peer::{Ends, Invalid};
use crate::config::MAX_NODES;
use crate::json::{Problem, shown};
use crate::kv::{self, command::Reading};
use crate::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Body, Conflict, ForwardProposals,
    ForwardProposalsResponse, InstallSnapshot, InstallSnapshotResponse, Message, ReadRound, Received,
    RequestVote, RequestVoteResponse,
};
use crate::types::{
    AppliedState, Command, Configuration, Entry, EntryId, Index, MAX_LIVES, MAX_NUMBER, Member, NodeId,
    RequestId, Term,
};
use std::collections::BTreeMap;
use std::fmt::Display;

/// How far above the receiver's term a message's may be: a defective node must not use up the terms.
const MAX_TERM_JUMP: u64 = 1 << 32;

/// The longest address of a member, `HOST:PORT` with the longest name that DNS has.
const MAX_ADDRESS_BYTES: usize = 253 + 1 + 5;

type Checked = Result<(), Invalid>;

/// A message that came over the connection of these ends.
pub(super) fn message(message: &Message, ends: &Ends) -> Checked {
    require(message.from == ends.peer, || format!("a message of {} from {}", message.from, ends.peer))?;
    require(message.to == ends.me, || format!("a message for {} to {}", message.to, ends.me))?;
    number("term", message.term.0)?;
    let highest = ends.term.0.saturating_add(MAX_TERM_JUMP);
    require(message.term.0 <= highest, || {
        format!("term {} is more than {MAX_TERM_JUMP} above {}", message.term, ends.term)
    })?;
    let name = message.body.name();
    let checked = match &message.body {
        Body::RequestVote(vote) => request_vote(message.term, vote),
        Body::RequestVoteResponse(answer) => request_vote_response(message.term, answer),
        Body::AppendEntries(append) => append_entries(message.term, append),
        Body::AppendEntriesResponse(answer) => append_entries_response(message.term, answer),
        Body::InstallSnapshot(install) => install_snapshot(message.term, install),
        Body::InstallSnapshotResponse(answer) => install_snapshot_response(message.term, answer),
        Body::TimeoutNow(_) => Ok(()),
        Body::ForwardProposals(forward) => forward_proposals(message, forward),
        Body::ForwardProposalsResponse(answer) => forward_proposals_response(message, answer),
        Body::ReadIndexRequest(read) => number("boot", read.boot).and(number("number", read.number)),
        Body::ReadIndexResponse(answer) => {
            number("boot", answer.boot).and(number("number", answer.number)).and(index("index", answer.index))
        }
    };
    checked.map_err(|Invalid(why)| Invalid(format!("{name}: {why}")))
}

/// An id that a node can have.
pub(super) fn node(node: NodeId) -> Checked {
    require(node.0 > 0, || "node 0, expected 1 to 65535".to_owned())
}

/// A counter.
pub(super) fn number(name: &str, number: u64) -> Checked {
    require(number <= MAX_NUMBER, || format!("{name} {number}, expected at most {MAX_NUMBER}"))
}

/// What nodes say that they have applied. Nobody speaks of having applied nothing.
pub(super) fn applied(applied: &BTreeMap<NodeId, AppliedState>) -> Checked {
    require(applied.len() <= MAX_NODES, || format!("{} nodes have applied something", applied.len()))?;
    for (id, state) in applied {
        node(*id)?;
        index("last applied", state.last_applied)?;
        require(state.last_applied > Index::NONE, || format!("{id} has applied nothing, and says so"))?;
    }
    Ok(())
}

fn request_vote(term: Term, vote: &RequestVote) -> Checked {
    entry_id("last", vote.last)?;
    at_most("last entry's term", vote.last.term, "the message's", term)?;
    // The message's term is checked, so the term after it exists.
    let expected = if vote.pre_vote { term.next() } else { term };
    require(vote.campaign_term == expected, || {
        format!("campaign term {}, expected {expected}", vote.campaign_term)
    })
}

fn request_vote_response(term: Term, answer: &RequestVoteResponse) -> Checked {
    number("campaign term", answer.campaign_term.0)?;
    // A refusal may come from a lower term: who still hears a leader does not follow a candidate's term.
    if answer.pre_vote || !answer.granted {
        return Ok(());
    }
    // Whoever grants a vote has taken over the term that it was asked for.
    at_most("campaign term", answer.campaign_term, "the message's", term)
}

fn append_entries(term: Term, append: &AppendEntries) -> Checked {
    number("number", append.number)?;
    entry_id("prev", append.prev)?;
    index("leader commit", append.leader_commit)?;
    read_round(append.read_round, term)?;
    at_most("prev's term", append.prev.term, "the message's", term)?;
    let mut before = append.prev;
    for entry in &append.entries {
        self::entry(entry, before)?;
        before = entry.id();
    }
    at_most("an entry's term", before.term, "the message's", term)
}

/// An entry that follows directly on another.
fn entry(entry: &Entry, before: EntryId) -> Checked {
    entry_id("entry", entry.id())?;
    require(entry.index == before.index.next(), || format!("entry {} after {before}, a gap", entry.id()))?;
    at_most("a term", before.term, "the next entry's", entry.term)?;
    if let Some(id) = entry.request {
        request(id)?;
    }
    match &entry.configuration {
        Some(members) => {
            let is_ours = entry.command == Command::configuration() && entry.request.is_none();
            require(is_ours, || format!("entry {} changes members and does something else too", entry.id()))?;
            configuration(members)
        }
        None => command(&entry.command),
    }
}

/// See the invariants of [`Configuration`]. Addresses are looked up by whoever connects, not here.
fn configuration(members: &Configuration) -> Checked {
    let Configuration { voters, outgoing, learners, next_voters, .. } = members;
    let Configuration { members, incarnations, lives, .. } = members;
    let sets = [voters, outgoing, learners, next_voters.as_ref().unwrap_or(voters)];
    require(!voters.is_empty(), || "a configuration without voters".to_owned())?;
    for set in sets {
        require(set.len() <= MAX_NODES, || format!("a configuration with {} nodes", set.len()))?;
        set.iter().try_for_each(|id| node(*id))?;
    }
    let both = learners.iter().find(|id| voters.contains(id) || outgoing.contains(id));
    require(both.is_none(), || format!("{both:?} is a learner and a voter"))?;
    require(next_voters.as_ref().is_none_or(|next| !next.is_empty()), || "no next voters".to_owned())?;
    let is_one_change = next_voters.is_none() || outgoing.is_empty();
    require(is_one_change, || "next voters in a joint configuration".to_owned())?;
    require(members.len() <= 3 * MAX_NODES, || format!("{} addresses", members.len()))?;
    require(incarnations.len() <= 3 * MAX_NODES, || format!("{} incarnations", incarnations.len()))?;
    incarnations.keys().try_for_each(|id| node(*id))?;
    require(*lives <= MAX_LIVES, || format!("{lives} lives, and at most {MAX_LIVES} are possible"))?;
    for (id, Member { peer, client, life, incarnation: _ }) in members {
        node(*id)?;
        let life = life.unwrap_or(0);
        require(life <= *lives, || format!("{id} has life {life} of {lives}"))?;
        let is_short = peer.len() <= MAX_ADDRESS_BYTES && client.len() <= MAX_ADDRESS_BYTES;
        require(is_short, || format!("an address of {id} is too long"))?;
    }
    Ok(())
}

fn install_snapshot(term: Term, install: &InstallSnapshot) -> Checked {
    number("number", install.number)?;
    number("offset", install.offset)?;
    entry_id("snapshot", install.snapshot)?;
    require(install.snapshot != EntryId::NONE, || "a snapshot of nothing".to_owned())?;
    at_most("the snapshot's term", install.snapshot.term, "the message's", term)?;
    require(!install.is_last || !install.lines.is_empty(), || "the last lines, and none".to_owned())?;
    read_round(install.read_round, term)
}

fn install_snapshot_response(term: Term, answer: &InstallSnapshotResponse) -> Checked {
    number("number", answer.number)?;
    entry_id("snapshot", answer.snapshot)?;
    read_round(answer.read_round, term)?;
    at_most("the request's term", answer.request_term, "the answer's", term)?;
    at_most("the snapshot's term", answer.snapshot.term, "the request's", answer.request_term)?;
    match answer.received {
        Received::Bytes(bytes) => number("received bytes", bytes),
        Received::All => Ok(()),
    }
}

fn append_entries_response(term: Term, answer: &AppendEntriesResponse) -> Checked {
    number("number", answer.number)?;
    entry_id("prev", answer.prev)?;
    read_round(answer.read_round, term)?;
    at_most("the request's term", answer.request_term, "the answer's", term)?;
    let prev = answer.prev;
    match &answer.outcome {
        AppendOutcome::Accepted { match_index } => {
            index("match index", *match_index)?;
            at_most("prev's index", prev.index, "the match index", *match_index)
        }
        AppendOutcome::Rejected { conflict: Conflict::TooShort { last } } => {
            index("last", *last)?;
            at_most("the end of the log and one", last.next(), "prev's index", prev.index)
        }
        AppendOutcome::Rejected { conflict: Conflict::OtherTerm { term: other, first } } => {
            entry_id("conflict", EntryId::new(*other, *first))?;
            at_most("the first index of a term", *first, "prev's index", prev.index)?;
            at_most("a conflict's term", *other, "the message's", term)
        }
        AppendOutcome::Rejected { conflict: Conflict::OldTerm } => Ok(()),
    }
}

fn forward_proposals(message: &Message, forward: &ForwardProposals) -> Checked {
    number("boot", forward.boot)?;
    number("first number", forward.first_number)?;
    number("heard", forward.heard)?;
    for proposal in &forward.proposals {
        request(proposal.request)?;
        proposed(&proposal.command)?;
        require(proposal.request.node == message.from, || {
            format!("request {} forwarded by {}", proposal.request, message.from)
        })?;
    }
    Ok(())
}

fn forward_proposals_response(message: &Message, answer: &ForwardProposalsResponse) -> Checked {
    number("boot", answer.boot)?;
    number("next number", answer.next_number)?;
    at_most("the request's term", answer.request_term, "the answer's", message.term)?;
    for refused in &answer.refused {
        request(*refused)?;
        require(refused.node == message.to, || format!("request {refused} refused to {}", message.to))?;
    }
    Ok(())
}

fn request(request: RequestId) -> Checked {
    node(request.node)?;
    number("request's boot", request.boot)?;
    number("request's number", request.number)
}

/// What the log holds will be applied, and what cannot be applied ends a node: so it must not get in, from a
/// peer no more than from a client. An op that is not known here may be a newer version's, and may be stored.
fn command(command: &Command) -> Checked {
    match kv::command::read(command.text()) {
        Reading::Write(_) | Reading::Noop | Reading::Unknown { .. } => Ok(()),
        Reading::Configuration => Err(Invalid("a change of members, and no members".to_owned())),
        Reading::Invalid(problem) => Err(unfit(&problem)),
    }
}

/// What a follower passes on comes from its clients. A leader's own commands come from nobody but a leader.
fn proposed(command: &Command) -> Checked {
    match kv::command::read(command.text()) {
        Reading::Write(_) | Reading::Unknown { .. } => Ok(()),
        Reading::Noop | Reading::Configuration => {
            Err(Invalid(format!("a proposal of a leader's own command: {}", shown(command.text()))))
        }
        Reading::Invalid(problem) => Err(unfit(&problem)),
    }
}

fn unfit(problem: &Problem) -> Invalid {
    Invalid(format!("a command that cannot be applied: {problem}"))
}

fn read_round(round: ReadRound, term: Term) -> Checked {
    number("read round", round.number)?;
    at_most("the read round's term", round.term, "the message's", term)
}

/// Term 0 and index -1 belong together: both say "before the first entry".
fn entry_id(name: &str, id: EntryId) -> Checked {
    index(name, id.index)?;
    number(name, id.term.0)?;
    require((id.term == Term(0)) == (id.index == Index::NONE), || {
        format!("{name} {id}, expected term 0 with index -1 and with no other")
    })
}

fn index(name: &str, index: Index) -> Checked {
    let largest = i64::try_from(MAX_NUMBER).unwrap_or(i64::MAX);
    require((Index::NONE.0..=largest).contains(&index.0), || {
        format!("{name} index {index}, expected -1 to {MAX_NUMBER}")
    })
}

fn at_most<T: PartialOrd + Display>(name: &str, value: T, limit_name: &str, limit: T) -> Checked {
    require(value <= limit, || format!("{name} {value} above {limit_name} {limit}"))
}

fn require(holds: bool, why: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Invalid(why())) }
}
