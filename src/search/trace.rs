//! The way to a state as lines that a person can read: `n1@2` is node 1 in term 2, `5@2` the entry at index 5
//! of term 2.

use super::Fault;
use super::core::Ending;
use super::model::{Action, Model, State, What, node_id};
use crate::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, InstallSnapshot, InstallSnapshotResponse,
    RequestVote,
};
use crate::raft::message::{Conflict, RequestVoteResponse};
use crate::raft::{Body, Message};

impl Model {
    /// The lines of a way that begins at `first` and passes through states that are these, but for names;
    /// and of what breaks at its end. Gives the fault in the names that stand in the lines.
    pub fn lines(&self, first: &[u32], way: &[State], fault: &Fault) -> (Vec<String>, Fault) {
        let (mut state, mut lines) = (first.to_vec(), Vec::new());
        for wanted in way.iter().skip(1) {
            let Some((action, next)) = self.step_towards(&state, wanted) else {
                lines.push("(no step leads on from here: two runs of the core differed)".to_owned());
                return (lines, fault.clone());
            };
            lines.extend(self.action_lines(&state, action));
            state = next;
        }
        let mut last = None;
        self.successors(&state, &mut |action, next| match next {
            Err(other) if other.property == fault.property => {
                last.get_or_insert((action, other));
            }
            Ok(_) | Err(_) => {}
        });
        let Some((action, fault)) = last else { return (lines, fault.clone()) };
        lines.extend(self.action_lines(&state, action));
        (lines, fault)
    }

    /// The action that leads to a state that is `wanted` but for names, and that state.
    fn step_towards(&self, state: &[u32], wanted: &[u32]) -> Option<(Action, State)> {
        let (mut found, mut canonical) = (None, State::new());
        self.successors(state, &mut |action, next| {
            if let (Ok((next, _)), None) = (next, &found) {
                self.canonical(next, &mut canonical);
                if canonical == wanted {
                    found = Some((action, next.to_vec()));
                }
            }
        });
        found
    }

    /// What an action is, what the node notes, and what becomes of the node.
    pub fn action_lines(&self, state: &[u32], action: Action) -> Vec<String> {
        let Action { node, what, ending } = action;
        let event = match what {
            What::Heartbeat => "heartbeats are due".to_owned(),
            What::Campaign => "an election timeout without news".to_owned(),
            What::Crash => "crash and restart".to_owned(),
            What::Wipe => "crash, all on its disk is lost, and it starts with --rejoin".to_owned(),
            What::Greeting(peer, None) => format!("n{peer} greets, with a new folder"),
            What::Greeting(peer, Some(life)) => format!("n{peer} greets, with a new folder and life {life}"),
            What::Compact => "a snapshot is durable".to_owned(),
            What::Change(number) => format!("{:?}", self.bounds.changes[usize::from(number)]),
            What::Transfer(heir) => format!("the lead is to go to n{heir}"),
            What::Read(number) => format!("read {number}"),
            What::Propose(number) => format!("write x={number}"),
            What::Deliver(number) => message(self.messages.get(number)),
            What::DeliverLate(number) => {
                format!("(an election timeout without news, then) {}", message(self.messages.get(number)))
            }
        };
        let mut lines = vec![format!("{} <- {event}", node_id(node))];
        match self.take_local(state[node], what) {
            Ok(mut endings) => {
                let Ending { core, is_torn, notes, reads, .. } = endings.swap_remove(ending);
                lines.extend(notes.iter().map(|note| format!("     {note}")));
                let ready = |ready: &crate::raft::ReadReady| {
                    format!("     reads up to {} may be served from {}", ready.number, ready.index)
                };
                lines.extend(reads.iter().map(ready));
                if is_torn {
                    lines.push("     (crash during the save, and restart)".to_owned());
                }
                lines.push(format!("     {} log={}", core.raft, core.raft.log()));
            }
            Err(fault) => lines.push(format!("     {}", fault.what)),
        }
        lines
    }
}

/// A message as it comes in.
fn message(message: &Message) -> String {
    let Message { from, term, body, .. } = message;
    format!("{from}@{term} {}", self::body(body))
}

fn body(body: &Body) -> String {
    let name = body.name();
    let pre = |pre_vote: &bool| if *pre_vote { " pre-vote" } else { "" };
    match body {
        Body::RequestVote(RequestVote { campaign_term, pre_vote, last, .. }) => {
            format!("{name}{} for term {campaign_term} last={last}", pre(pre_vote))
        }
        Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted }) => {
            let word = if *granted { "granted" } else { "refused" };
            format!("{name}{} for term {campaign_term}: {word}", pre(pre_vote))
        }
        Body::AppendEntries(AppendEntries { number, prev, entries, leader_commit, read_round }) => {
            let ids: Vec<String> = entries.iter().map(|entry| entry.id().to_string()).collect();
            let round = read_round.number;
            format!("{name} #{number} prev={prev} [{}] commit={leader_commit} round={round}", ids.join(" "))
        }
        Body::AppendEntriesResponse(AppendEntriesResponse {
            request_term,
            number,
            prev,
            read_round,
            outcome,
        }) => {
            let outcome = match outcome {
                AppendOutcome::Accepted { match_index } => format!("match={match_index}"),
                AppendOutcome::Rejected { conflict: Conflict::TooShort { last } } => {
                    format!("no {prev}: log ends at {last}")
                }
                AppendOutcome::Rejected { conflict: Conflict::OtherTerm { term, first } } => {
                    format!("no {prev}: there is term {term}, which begins at {first}")
                }
                AppendOutcome::Rejected { conflict: Conflict::OldTerm } => "the term is over".to_owned(),
            };
            format!("{name} #{number} of term {request_term} {outcome} round={}", read_round.number)
        }
        Body::InstallSnapshot(InstallSnapshot { number, snapshot, offset, lines, .. }) => {
            format!("{name} #{number} of {snapshot} from byte {offset}: {} lines", lines.len())
        }
        Body::InstallSnapshotResponse(InstallSnapshotResponse { number, snapshot, received, .. }) => {
            format!("{name} #{number} of {snapshot}: {received:?}")
        }
        Body::TimeoutNow(_) => name.to_owned(),
        Body::ForwardProposals(forward) => {
            let requests: Vec<String> =
                forward.proposals.iter().map(|proposal| proposal.request.to_string()).collect();
            format!("{name} from #{} [{}]", forward.first_number, requests.join(" "))
        }
        Body::ForwardProposalsResponse(response) => {
            format!("{name} next=#{} refused={:?}", response.next_number, response.refused)
        }
        Body::ReadIndexRequest(request) => format!("{name} up to read {}", request.number),
        Body::ReadIndexResponse(response) => {
            format!("{name} up to read {} from index {}", response.number, response.index)
        }
    }
}
