//! Messages and logs written by hand: `prev=4@2 entries="5@2 6@3"`, `log="1 1 2*100"`.

use raftkv::raft::message::{
    AppendEntries, AppendEntriesResponse, AppendOutcome, Conflict, ForwardProposals,
    ForwardProposalsResponse, InstallSnapshot, InstallSnapshotResponse, Proposal, ReadIndexRequest,
    ReadIndexResponse, ReadRound, Received, RequestVote, RequestVoteResponse, TimeoutNow,
};
use raftkv::raft::{Body, Message};
use raftkv::types::{Command, Entry, EntryId, Index, NodeId, RequestId, SnapshotLine, Term};
use std::collections::BTreeMap;
use std::error::Error;
use std::str::FromStr;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// `5@2`; the one before all is `none`.
pub fn entry_id(text: &str) -> Outcome<EntryId> {
    if text == "none" {
        return Ok(EntryId::NONE);
    }
    let (index, term) = text.split_once('@').ok_or(format!("an entry is written 5@2, not {text}"))?;
    Ok(EntryId::new(Term(term.parse()?), Index(index.parse()?)))
}

/// `1 1 2*100`: the terms of the entries after `base`, each as often as said. They change nothing.
pub fn log(base: EntryId, terms: &str) -> Outcome<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut index = base.index;
    for word in terms.split_whitespace() {
        let (term, count) = word.split_once('*').unwrap_or((word, "1"));
        for _ in 0..count.parse::<usize>()? {
            index = index.next();
            entries.push(plain_entry(EntryId::new(Term(term.parse()?), index)));
        }
    }
    Ok(entries)
}

fn plain_entry(id: EntryId) -> Entry {
    Entry { term: id.term, index: id.index, request: None, command: Command::noop(), configuration: None }
}

/// The fields of a message, each to be taken once.
struct Fields<'a>(BTreeMap<&'a str, &'a str>);

impl Fields<'_> {
    fn take<T: FromStr>(&mut self, name: &str) -> Outcome<Option<T>>
    where
        T::Err: Error + 'static,
    {
        Ok(self.0.remove(name).map(str::parse).transpose()?)
    }

    fn need<T: FromStr>(&mut self, name: &str) -> Outcome<T>
    where
        T::Err: Error + 'static,
    {
        self.take(name)?.ok_or_else(|| format!("{name}= is missing").into())
    }

    fn entry_id(&mut self, name: &str) -> Outcome<EntryId> {
        self.0.remove(name).map_or(Ok(EntryId::NONE), entry_id)
    }

    fn round(&mut self, term: Term) -> Outcome<ReadRound> {
        let number = self.take("round")?.unwrap_or(0);
        let term = self.take("round_term")?.map_or(term, Term);
        Ok(ReadRound { term, number })
    }
}

/// The message of this name with these fields.
pub fn message(
    from: NodeId,
    to: NodeId,
    term: Term,
    name: &str,
    fields: &[(String, String)],
) -> Outcome<Message> {
    let mut fields = Fields(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect());
    let body = match name {
        "RequestVote" | "RequestVoteResponse" => vote(term, name, &mut fields)?,
        "AppendEntries" => append_entries(term, &mut fields)?,
        "AppendEntriesResponse" => append_entries_response(term, &mut fields)?,
        "InstallSnapshot" => install_snapshot(term, &mut fields)?,
        "InstallSnapshotResponse" => {
            let request_term = fields.take("request_term")?.map_or(term, Term);
            Body::InstallSnapshotResponse(InstallSnapshotResponse {
                request_term,
                number: fields.need("number")?,
                snapshot: fields.entry_id("snapshot")?,
                read_round: fields.round(request_term)?,
                received: fields.take("bytes")?.map_or(Received::All, Received::Bytes),
            })
        }
        "TimeoutNow" => Body::TimeoutNow(TimeoutNow {}),
        "ForwardProposals" => forward_proposals(from, &mut fields)?,
        "ForwardProposalsResponse" => Body::ForwardProposalsResponse(ForwardProposalsResponse {
            boot: fields.need("boot")?,
            request_term: fields.take("request_term")?.map_or(term, Term),
            next_number: fields.need("next")?,
            refused: Vec::new(),
        }),
        "ReadIndexRequest" => Body::ReadIndexRequest(ReadIndexRequest {
            boot: fields.need("boot")?,
            number: fields.need("number")?,
        }),
        "ReadIndexResponse" => Body::ReadIndexResponse(ReadIndexResponse {
            boot: fields.need("boot")?,
            number: fields.need("number")?,
            index: Index(fields.need("index")?),
        }),
        other => return Err(format!("there is no message {other}").into()),
    };
    if let Some(name) = fields.0.keys().next() {
        return Err(format!("{} has no field {name}", body.name()).into());
    }
    Ok(Message { from, to, term, body })
}

fn vote(term: Term, name: &str, fields: &mut Fields) -> Outcome<Body> {
    let pre_vote = fields.take("pre_vote")?.unwrap_or(false);
    let usual_term = if pre_vote && name == "RequestVote" { term.next() } else { term };
    let campaign_term = fields.take("campaign_term")?.map_or(usual_term, Term);
    if name == "RequestVote" {
        let leadership_transfer = fields.take("transfer")?.unwrap_or(false);
        let last = fields.entry_id("last")?;
        return Ok(Body::RequestVote(RequestVote { campaign_term, pre_vote, leadership_transfer, last }));
    }
    let granted = fields.need("granted")?;
    Ok(Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted }))
}

fn append_entries(term: Term, fields: &mut Fields) -> Outcome<Body> {
    let words = fields.0.remove("entries").unwrap_or_default();
    let entries = words.split_whitespace().map(|word| entry_id(word).map(plain_entry));
    Ok(Body::AppendEntries(AppendEntries {
        number: fields.take("number")?.unwrap_or(1),
        prev: fields.entry_id("prev")?,
        entries: entries.collect::<Outcome<_>>()?,
        leader_commit: fields.take("commit")?.map_or(Index::NONE, Index),
        read_round: fields.round(term)?,
    }))
}

fn append_entries_response(term: Term, fields: &mut Fields) -> Outcome<Body> {
    let rejected = |conflict| AppendOutcome::Rejected { conflict };
    let outcome = if let Some(index) = fields.take("match")? {
        AppendOutcome::Accepted { match_index: Index(index) }
    } else if let Some(index) = fields.take("ends_at")? {
        rejected(Conflict::TooShort { last: Index(index) })
    } else if let Some(conflict) = fields.take("conflict_term")? {
        let first = Index(fields.need("first")?);
        rejected(Conflict::OtherTerm { term: Term(conflict), first })
    } else {
        rejected(Conflict::OldTerm)
    };
    let request_term = fields.take("request_term")?.map_or(term, Term);
    Ok(Body::AppendEntriesResponse(AppendEntriesResponse {
        request_term,
        number: fields.need("number")?,
        prev: fields.entry_id("prev")?,
        read_round: fields.round(request_term)?,
        outcome,
    }))
}

/// With `lines=N`, that many lines of no sense.
fn install_snapshot(term: Term, fields: &mut Fields) -> Outcome<Body> {
    let line = || SnapshotLine::from_json("{}".to_owned());
    let lines = (0..fields.take("lines")?.unwrap_or(0)).map(|_: u32| line());
    Ok(Body::InstallSnapshot(InstallSnapshot {
        number: fields.take("number")?.unwrap_or(1),
        snapshot: fields.entry_id("snapshot")?,
        offset: fields.take("offset")?.unwrap_or(0),
        lines: lines.collect::<Result<_, _>>()?,
        is_last: fields.take("last")?.unwrap_or(false),
        read_round: fields.round(term)?,
    }))
}

fn forward_proposals(from: NodeId, fields: &mut Fields) -> Outcome<Body> {
    let boot = fields.need("boot")?;
    let first_number = fields.need("first")?;
    let count = fields.need::<u64>("count")?;
    let proposal = |number| Proposal {
        request: RequestId { node: from, boot, number },
        command: Command::from_json(format!(r#"{{"op":"set","key":"k{number}","value":{number}}}"#))
            .expect("plain JSON"),
    };
    let proposals = (first_number..first_number + count).map(proposal).collect();
    Ok(Body::ForwardProposals(ForwardProposals { boot, first_number, heard: first_number, proposals }))
}
