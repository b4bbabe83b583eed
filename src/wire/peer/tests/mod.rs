//! What the lines between nodes look like, what is taken and what is not.
//!
//! Here is one of each kind of line; the tests of what they look like are in `lines.rs`, of what is refused
//! in `checks.rs`, and of whatever else may come in `harmless.rs`.

mod checks;
mod harmless;
mod lines;

use super::*;
use crate::raft::message::*;
use crate::types::{Command, Configuration, Entry, EntryId, Index, Member, RequestId, SnapshotLine};
use std::sync::Arc;

const ENDS: Ends = Ends { me: NodeId(2), peer: NodeId(1), term: Term(7) };

fn id(index: i64, term: u64) -> EntryId {
    EntryId::new(Term(term), Index(index))
}

fn request(number: u64) -> RequestId {
    RequestId { node: NodeId(1), boot: 3, number }
}

fn command(text: &str) -> Command {
    Command::from_json(text.to_owned()).unwrap()
}

fn entry(index: i64, term: u64) -> Entry {
    // Spaces, an exact decimal and escapes: the text must come out as it went in.
    let text = r#"{"op":"set", "key":"\u006b","value":1.00000000000000000000000e5}"#;
    Entry {
        term: Term(term),
        index: Index(index),
        request: Some(request(9)),
        command: command(text),
        configuration: None,
    }
}

fn append_entries() -> AppendEntries {
    let noop = Entry {
        term: Term(7),
        index: Index(6),
        request: None,
        command: Command::noop(),
        configuration: None,
    };
    AppendEntries {
        number: 1,
        prev: id(4, 2),
        entries: vec![entry(5, 2), noop],
        leader_commit: Index(4),
        read_round: ReadRound { term: Term(7), number: 2 },
    }
}

/// In the middle of a change, with everything that a configuration can say.
fn members() -> Configuration {
    let there = Member::at("host:7001", "host:7002");
    let member = Member { incarnation: Some(Incarnation(5)), life: Some(2), ..there };
    Configuration {
        outgoing: [1, 2].map(NodeId).into(),
        learners: [NodeId(4)].into(),
        members: [(NodeId(3), member)].into(),
        lives: 3,
        ..Configuration::new([1, 3].map(NodeId))
    }
}

fn with_members(members: Configuration) -> AppendEntries {
    let mut append = append_entries();
    append.entries[1].command = Command::configuration();
    append.entries[1].configuration = Some(Arc::new(members));
    append
}

fn install() -> InstallSnapshot {
    let line = SnapshotLine::from_json(r#"{"crc":"00", "key":"\u006b","value":1.0}"#.to_owned()).unwrap();
    let read_round = ReadRound { term: Term(7), number: 2 };
    InstallSnapshot { number: 1, snapshot: id(4, 2), offset: 9, lines: vec![line], is_last: true, read_round }
}

fn install_response() -> InstallSnapshotResponse {
    InstallSnapshotResponse {
        request_term: Term(6),
        number: 1,
        snapshot: id(4, 2),
        read_round: ReadRound::default(),
        received: Received::Bytes(9),
    }
}

fn append_response(outcome: AppendOutcome) -> Body {
    Body::AppendEntriesResponse(AppendEntriesResponse {
        request_term: Term(7),
        number: 1,
        prev: id(4, 2),
        read_round: ReadRound::default(),
        outcome,
    })
}

fn rejected(conflict: Conflict) -> Body {
    append_response(AppendOutcome::Rejected { conflict })
}

fn vote(pre_vote: bool, campaign_term: u64) -> RequestVote {
    RequestVote { campaign_term: Term(campaign_term), pre_vote, leadership_transfer: false, last: id(4, 2) }
}

fn vote_response(pre_vote: bool, campaign_term: u64) -> Body {
    let campaign_term = Term(campaign_term);
    Body::RequestVoteResponse(RequestVoteResponse { campaign_term, pre_vote, granted: true })
}

fn forward() -> ForwardProposals {
    let proposal = |number| Proposal { request: request(number), command: entry(0, 1).command };
    ForwardProposals { boot: 3, first_number: 0, heard: 0, proposals: vec![proposal(4), proposal(5)] }
}

fn forward_response(node: u16) -> Body {
    let refused = vec![RequestId { node: NodeId(node), boot: 1, number: 8 }];
    Body::ForwardProposalsResponse(ForwardProposalsResponse {
        boot: 1,
        request_term: Term(7),
        next_number: 2,
        refused,
    })
}

/// Every kind of message, each in order.
fn bodies() -> Vec<Body> {
    vec![
        Body::RequestVote(vote(false, 7)),
        Body::RequestVote(vote(true, 8)),
        vote_response(false, 7),
        vote_response(true, 8),
        Body::AppendEntries(append_entries()),
        append_response(AppendOutcome::Accepted { match_index: Index(4) }),
        rejected(Conflict::TooShort { last: Index::NONE }),
        rejected(Conflict::OtherTerm { term: Term(1), first: Index(4) }),
        rejected(Conflict::OldTerm),
        Body::AppendEntries(with_members(members())),
        Body::InstallSnapshot(install()),
        Body::InstallSnapshot(InstallSnapshot { lines: Vec::new(), is_last: false, ..install() }),
        Body::InstallSnapshotResponse(install_response()),
        Body::InstallSnapshotResponse(InstallSnapshotResponse {
            received: Received::All,
            ..install_response()
        }),
        Body::TimeoutNow(TimeoutNow {}),
        Body::ForwardProposals(forward()),
        forward_response(2),
        Body::ReadIndexRequest(ReadIndexRequest { boot: 3, number: 4 }),
        Body::ReadIndexResponse(ReadIndexResponse { boot: 3, number: 4, index: Index::NONE }),
    ]
}

fn envelope(body: Body) -> Envelope {
    let message = Message { from: NodeId(1), to: NodeId(2), term: Term(7), body };
    Envelope { boot: 3, event: 17, applied: BTreeMap::new(), message }
}

fn hello() -> Hello {
    Hello {
        version: PROTOCOL_VERSION,
        newest_version: 2,
        cluster: "demo".to_owned(),
        from: NodeId(1),
        to: NodeId(2),
        boot: 3,
        incarnation: Incarnation(0xab),
        life: Some(4),
        first_voters: vec![NodeId(1), NodeId(2)],
        founding: Some(Founding(0xcd)),
        address: None,
        has_lost_data: false,
    }
}

fn encoded(line: &PeerLine) -> String {
    let mut out = Vec::new();
    line.encode(&mut out);
    let text = String::from_utf8(out).unwrap();
    let (line, rest) = text.split_once('\n').expect("a newline at the end");
    assert_eq!(rest, "");
    line.to_owned()
}

fn decode_body(body: Body) -> Result<Decoded, String> {
    decode_envelope(envelope(body))
}

fn decode_envelope(envelope: Envelope) -> Result<Decoded, String> {
    decode_text(&encoded(&PeerLine::Envelope(envelope)))
}

fn decode_text(line: &str) -> Result<Decoded, String> {
    decode(line.as_bytes(), &ENDS).map_err(|error| error.to_string())
}
