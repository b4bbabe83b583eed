//! Messages, entries and inputs as text, in the words of the project's log lines: `n1@2` is node 1 in term 2,
//! `5@2` is the entry at index 5 of term 2, `[5@2 x=1]` says what it does.

use raftkv::raft::message::{AppendEntries, AppendEntriesResponse, AppendOutcome, Conflict, ReadRound};
use raftkv::raft::message::{InstallSnapshot, InstallSnapshotResponse, Received};
use raftkv::raft::message::{RequestVote, RequestVoteResponse};
use raftkv::raft::{Body, Message};
use raftkv::types::{Command, Entry, Term};
use serde_json::Value;

/// Values longer than this are shown by their size.
const MAX_VALUE_CHARS: usize = 20;
/// More entries than this are shown by their ends.
const MAX_ENTRIES: usize = 8;

/// A message as it goes out: `n1@2 -> n2 AppendEntries #3 prev=4@2 [5@2 x=1] commit=4`.
pub fn message(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    format!("{from}@{term} -> {to} {}", self::body(body, *term))
}

/// A message as it comes in, by its name: the whole of it was shown when it left.
pub fn received(message: &Message) -> String {
    let Message { from, body, .. } = message;
    let number = match body {
        Body::AppendEntries(request) => format!(" #{}", request.number),
        Body::AppendEntriesResponse(response) => format!(" #{}", response.number),
        Body::RequestVote(RequestVote { pre_vote: true, .. })
        | Body::RequestVoteResponse(RequestVoteResponse { pre_vote: true, .. }) => " pre-vote".to_owned(),
        Body::InstallSnapshot(request) => format!(" #{}", request.number),
        Body::InstallSnapshotResponse(response) => format!(" #{}", response.number),
        Body::RequestVote(_)
        | Body::RequestVoteResponse(_)
        | Body::TimeoutNow(_)
        | Body::ForwardProposals(_)
        | Body::ForwardProposalsResponse(_)
        | Body::ReadIndexRequest(_)
        | Body::ReadIndexResponse(_) => String::new(),
    };
    format!("{from} {}{number}", body.name())
}

fn body(body: &Body, term: Term) -> String {
    let name = body.name();
    match body {
        Body::RequestVote(RequestVote { campaign_term, pre_vote, leadership_transfer, last }) => {
            let transfer = if *leadership_transfer { " asked-by-leader" } else { "" };
            format!("{name}{} for term {campaign_term} last={last}{transfer}", pre(*pre_vote))
        }
        Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted }) => {
            let word = if *granted { "granted" } else { "refused" };
            format!("{name}{} for term {campaign_term}: {word}", pre(*pre_vote))
        }
        Body::AppendEntries(AppendEntries { number, prev, entries, leader_commit, read_round }) => {
            let entries = self::entries(entries);
            let entries = if entries.is_empty() { entries } else { format!(" {entries}") };
            format!("{name} #{number} prev={prev}{entries} commit={leader_commit}{}", round(read_round))
        }
        Body::AppendEntriesResponse(AppendEntriesResponse {
            request_term,
            number,
            prev,
            read_round,
            outcome,
        }) => {
            let of = if *request_term == term { String::new() } else { format!(" of term {request_term}") };
            let outcome = match outcome {
                AppendOutcome::Accepted { match_index } => format!("match={match_index}"),
                AppendOutcome::Rejected { conflict } => format!("no {prev}: {}", self::conflict(conflict)),
            };
            format!("{name} #{number}{of} {outcome}{}", round(read_round))
        }
        Body::InstallSnapshot(InstallSnapshot { number, snapshot, offset, lines, is_last, read_round }) => {
            let lines = match lines.len() {
                0 => "nothing new".to_owned(),
                1 if *is_last => "the last line".to_owned(),
                1 => "a line".to_owned(),
                count => format!("{count} lines{}", if *is_last { ", the last" } else { "" }),
            };
            format!("{name} #{number} of {snapshot} from byte {offset}: {lines}{}", round(read_round))
        }
        Body::InstallSnapshotResponse(response) => {
            let received = match response.received {
                Received::Bytes(bytes) => format!("{bytes} bytes"),
                Received::All => "all".to_owned(),
            };
            let InstallSnapshotResponse { number, snapshot, read_round, .. } = response;
            format!("{name} #{number} of {snapshot}: {received}{}", round(read_round))
        }
        Body::TimeoutNow(_) => name.to_owned(),
        Body::ForwardProposals(forward) => {
            let proposals: Vec<String> = forward
                .proposals
                .iter()
                .map(|proposal| format!("{} {}", proposal.request, command(&proposal.command)))
                .collect();
            format!("{name} from #{} [{}]", forward.first_number, proposals.join(", "))
        }
        Body::ForwardProposalsResponse(response) => {
            let refused = &response.refused;
            let refused = if refused.is_empty() { String::new() } else { format!(" refused={refused:?}") };
            format!("{name} next=#{}{refused}", response.next_number)
        }
        Body::ReadIndexRequest(request) => format!("{name} up to read {}", request.number),
        Body::ReadIndexResponse(response) => {
            format!("{name} up to read {} from index {}", response.number, response.index)
        }
    }
}

fn pre(pre_vote: bool) -> &'static str {
    if pre_vote { " pre-vote" } else { "" }
}

fn round(round: &ReadRound) -> String {
    if round.number == 0 { String::new() } else { format!(" round={}", round.number) }
}

fn conflict(conflict: &Conflict) -> String {
    match conflict {
        Conflict::TooShort { last } => format!("log ends at {last}"),
        Conflict::OtherTerm { term, first } => format!("there is term {term}, which begins at {first}"),
        Conflict::OldTerm => "the term is over".to_owned(),
    }
}

/// `[5@2 x=1, 6@2]`; nothing for no entries; only the ends of many.
pub fn entries(entries: &[Entry]) -> String {
    match entries {
        [] => String::new(),
        [first, .., last] if entries.len() > MAX_ENTRIES => {
            format!("[{} .. {}: {} entries]", first.id(), last.id(), entries.len())
        }
        _ => format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", ")),
    }
}

/// `5@2 x=1`, or `5@2` for an entry that changes nothing; `5@2 (voters n1 n2)` for one that changes members.
pub fn entry(entry: &Entry) -> String {
    if let Some(members) = &entry.configuration {
        return format!("{} ({members})", entry.id());
    }
    let command = command(&entry.command);
    if command.is_empty() { entry.id().to_string() } else { format!("{} {command}", entry.id()) }
}

/// `x=1`; nothing for a no-op.
pub fn command(command: &Command) -> String {
    match assignment(command) {
        Some((key, value)) if value.len() > MAX_VALUE_CHARS => format!("{key}=({} bytes)", value.len()),
        Some((key, value)) => format!("{key}={value}"),
        None => String::new(),
    }
}

/// The key and value that a command sets; none for a no-op.
pub fn assignment(command: &Command) -> Option<(String, String)> {
    let json: Value = serde_json::from_str(command.text()).expect("a command is JSON text");
    let key = json.get("key")?.as_str()?.to_owned();
    let value = json.get("value")?;
    Some((key, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
}
