//! What the lines between nodes look like, what is taken and what is not.

use super::*;
use crate::raft::message::*;
use crate::types::{Command, Configuration, Entry, EntryId, Index, Member, RequestId, SnapshotLine};
use proptest::prelude::*;
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
    let (peer, client) = ("host:7001".to_owned(), "host:7002".to_owned());
    let member = Member { peer, client, incarnation: Some(Incarnation(5)), life: None };
    Configuration {
        outgoing: [1, 2].map(NodeId).into(),
        learners: [NodeId(4)].into(),
        members: [(NodeId(3), member)].into(),
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

#[track_caller]
fn assert_invalid(body: Body, expected: &str) {
    let name = body.name();
    let why = decode_body(body).expect_err("it breaks a rule");
    assert_eq!(why, format!("{name}: {expected}"));
}

/// A change to an AppendEntries, and what is said about it.
#[track_caller]
fn assert_append_invalid(change: impl FnOnce(&mut AppendEntries), expected: &str) {
    let mut append = append_entries();
    change(&mut append);
    assert_invalid(Body::AppendEntries(append), expected);
}

#[test]
fn every_message_comes_out_as_it_went_in() {
    for body in bodies() {
        let line = PeerLine::Envelope(envelope(body));
        assert_eq!(decode_text(&encoded(&line)), Ok(Decoded::Line(line)));
    }
}

#[test]
fn greetings_come_out_as_they_went_in_and_only_before_the_rest() {
    let refused = Refused { why: "another cluster".to_owned() };
    let incarnation = Incarnation(u64::MAX);
    let welcome = Welcome { from: NodeId(2), boot: 1, incarnation, newest_version: 2, founding: None };
    for line in [PeerLine::Hello(hello()), PeerLine::Welcome(welcome), PeerLine::Refused(refused)] {
        let text = encoded(&line);
        assert_eq!(decode_greeting(text.as_bytes()), Ok(Decoded::Line(line)));
        assert!(decode_text(&text).unwrap_err().contains("second greeting"));
    }
    for line in [PeerLine::Ping(Ping { number: 1 }), PeerLine::Pong(Ping { number: u64::MAX })] {
        let text = encoded(&line);
        assert_eq!(decode_text(&text), Ok(Decoded::Line(line)));
        assert!(decode_greeting(text.as_bytes()).is_err());
    }
    let text = encoded(&PeerLine::Envelope(envelope(vote_response(false, 7))));
    assert!(decode_greeting(text.as_bytes()).is_err());
}

#[test]
fn the_lines_look_as_documented() {
    assert_eq!(
        encoded(&PeerLine::Hello(hello())),
        r#"{"hello":{"version":1,"newest_version":2,"cluster":"demo","from":1,"to":2,"boot":3,"#.to_owned()
            + r#""incarnation":"00000000000000ab","first_voters":[1,2],"founding":"00000000000000cd"}}"#
    );
    assert_eq!(encoded(&PeerLine::Pong(Ping { number: 4 })), r#"{"pong":{"number":4}}"#);
    assert_eq!(
        encoded(&PeerLine::Envelope(envelope(rejected(Conflict::OldTerm)))),
        r#"{"envelope":{"boot":3,"event":17,"message":{"from":1,"to":2,"term":7,"#.to_owned()
            + r#""body":{"AppendEntriesResponse":{"#
            + r#""request_term":7,"number":1,"prev":{"term":2,"index":4},"read_round":{"term":0,"number":0},"#
            + r#""outcome":{"Rejected":{"conflict":"OldTerm"}}}}}}}"#
    );
}

#[test]
fn what_nodes_have_applied_travels_beside_a_message() {
    let with = |applied: &[(u16, i64, u64)]| {
        let states = applied.iter().map(|(node, index, hash)| {
            (NodeId(*node), AppliedState { last_applied: Index(*index), applied_hash: *hash })
        });
        Envelope { applied: states.collect(), ..envelope(rejected(Conflict::OldTerm)) }
    };
    let line = PeerLine::Envelope(with(&[(1, 41, 0xab), (3, 0, u64::MAX)]));
    let text = encoded(&line);
    let states = r#""applied":{"1":{"last_applied":41,"applied_hash":"00000000000000ab"},"#.to_owned()
        + r#""3":{"last_applied":0,"applied_hash":"ffffffffffffffff"}},"message""#;
    assert!(text.contains(&states), "{text}");
    assert_eq!(decode_text(&text), Ok(Decoded::Line(line)));
    let broken = |envelope| decode_envelope(envelope).expect_err("it breaks a rule");
    assert_eq!(broken(with(&[(0, 41, 7)])), "node 0, expected 1 to 65535");
    assert_eq!(broken(with(&[(3, -1, 7)])), "n3 has applied nothing, and says so");
    assert!(broken(with(&[(3, 1 << 53, 7)])).contains("last applied index"));
    let many: Vec<(u16, i64, u64)> = (1..=10).map(|node| (node, 1, 1)).collect();
    assert_eq!(broken(with(&many)), "10 nodes have applied something");
    assert!(decode_text(&text.replace("00000000000000ab", "ab")).unwrap_err().contains("hex digits"));
}

#[test]
fn a_commands_text_is_carried_to_the_byte() {
    let line = encoded(&PeerLine::Envelope(envelope(Body::AppendEntries(append_entries()))));
    let text = entry(0, 1).command.text().to_owned();
    assert!(line.contains(&text), "{line}");
    let Ok(Decoded::Line(PeerLine::Envelope(envelope))) = decode_text(&line) else { panic!("{line}") };
    let Body::AppendEntries(append) = envelope.message.body else { panic!("{line}") };
    assert_eq!(append.entries[0].command.text(), text);
}

#[test]
fn fields_that_are_not_known_are_ignored() {
    let more = r#"{"later":{"a":[1,{}]},"#;
    for line in bodies().into_iter().map(|body| PeerLine::Envelope(envelope(body))) {
        // Into every object but the commands and those whose only member is a name.
        let text = encoded(&line)
            .replace(r#"{"boot""#, &format!(r#"{more}"boot""#))
            .replace(r#"{"from""#, &format!(r#"{more}"from""#))
            .replace(r#"{"term""#, &format!(r#"{more}"term""#))
            .replace(r#"{"number""#, &format!(r#"{more}"number""#))
            .replace(r#"{"campaign_term""#, &format!(r#"{more}"campaign_term""#))
            .replace(r#"{"request_term""#, &format!(r#"{more}"request_term""#));
        assert_eq!(decode_text(&text), Ok(Decoded::Line(line)), "{text}");
    }
    let text = encoded(&PeerLine::Hello(hello())).replace(r#"{"version""#, &format!(r#"{more}"version""#));
    assert_eq!(decode_greeting(text.as_bytes()), Ok(Decoded::Line(PeerLine::Hello(hello()))));
}

#[test]
fn kinds_that_are_not_known_are_told_by_name_and_are_no_error() {
    let unknown = |name: &str| Ok(Decoded::Unknown { name: name.to_owned() });
    assert_eq!(decode_text(r#"{"gossip":{"a":1}}"#), unknown(r#""gossip""#));
    assert_eq!(decode_text(r#"{"\u001b[31m":null}"#), unknown(r#""\u{1b}[31m""#));
    assert_eq!(
        decode_greeting(br#"{"challenge":{}}"#),
        Ok(Decoded::Unknown { name: r#""challenge""#.to_owned() })
    );
    let line = encoded(&PeerLine::Envelope(envelope(Body::AppendEntries(append_entries()))));
    let line = line.replace("AppendEntries", "Gossip");
    assert_eq!(decode_text(&line), unknown(r#""Gossip""#));
}

#[test]
fn what_is_no_line_of_any_version_is_an_error_of_one_safe_line() {
    let hostile = format!("{{\"envelope\":\"{}\u{1b}[31m\"}}", "x\\n".repeat(1000));
    for line in [
        "",
        "{}",
        "[]",
        "nonsense",
        r#"{"ping":{}}"#,
        r#"{"ping":{"number":-1}}"#,
        r#"{"ping":{"number":1}} more"#,
        r#"{"ping":{"number":1},"pong":{"number":1}}"#,
        r#"{"ping":{"number":1,"number":2}}"#,
        r#"{"envelope":{"boot":1,"event":1,"message":{"from":1,"to":2,"term":7,"body":"OldTerm"}}}"#,
        "{\"ping\":\n{\"number\":1}}",
        &hostile,
    ] {
        let why = decode_text(line).expect_err(line);
        assert!(why.len() <= 160 && !why.contains(char::is_control), "{why:?}");
    }
}

#[test]
fn hellos_are_checked() {
    let check = |change: fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        let text = encoded(&PeerLine::Hello(hello));
        decode_greeting(text.as_bytes()).map_err(|error| error.to_string()).expect_err("it breaks a rule")
    };
    assert!(check(|hello| hello.from = NodeId(0)).contains("node 0"));
    assert!(check(|hello| hello.to = NodeId(1)).contains("to itself"));
    assert!(check(|hello| hello.boot = 1 << 53).contains("boot"));
    assert!(check(|hello| hello.cluster = "x".repeat(129)).contains("too long"));
    assert!(check(|hello| hello.first_voters = vec![NodeId(1), NodeId(1)]).contains("first voters"));
    assert!(check(|hello| hello.first_voters = (1..=10).map(NodeId).collect()).contains("first voters"));
    assert!(check(|hello| hello.first_voters = vec![NodeId(0)]).contains("node 0"));
    let text = encoded(&PeerLine::Hello(hello()));
    for wrong in ["ab", "+0000000000000ab", "00000000000000000ab", "g0000000000000ab"] {
        let text = text.replace("00000000000000ab", wrong);
        assert!(decode_greeting(text.as_bytes()).is_err(), "{text}");
    }
    let incarnation = Incarnation(1);
    let zero = Welcome { from: NodeId(0), boot: 1, incarnation, newest_version: 1, founding: None };
    assert!(decode_greeting(encoded(&PeerLine::Welcome(zero)).as_bytes()).is_err());
}

#[test]
fn a_message_belongs_to_its_connection() {
    let changed = |change: fn(&mut Envelope)| {
        let mut envelope = envelope(vote_response(true, 8));
        change(&mut envelope);
        decode_envelope(envelope).expect_err("it breaks a rule")
    };
    assert_eq!(changed(|it| it.message.from = NodeId(3)), "a message of n3 from n1");
    assert_eq!(changed(|it| it.message.to = NodeId(1)), "a message for n1 to n2");
    assert!(changed(|it| it.boot = u64::MAX).contains("boot"));
    assert!(changed(|it| it.event = 1 << 53).contains("event"));
}

#[test]
fn terms_do_not_jump() {
    let with_term = |term: u64| {
        let mut envelope = envelope(Body::ReadIndexRequest(ReadIndexRequest { boot: 3, number: 4 }));
        envelope.message.term = Term(term);
        decode_envelope(envelope)
    };
    assert!(with_term(0).is_ok());
    assert!(with_term(7 + (1 << 32)).is_ok());
    assert_eq!(with_term(8 + (1 << 32)).unwrap_err(), "term 4294967304 is more than 4294967296 above 7");
    assert!(with_term(u64::MAX).unwrap_err().starts_with("term"));
}

#[test]
fn a_campaign_is_for_the_senders_term_or_in_a_pre_vote_the_next() {
    assert_invalid(Body::RequestVote(vote(false, 8)), "campaign term 8, expected 7");
    assert_invalid(Body::RequestVote(vote(true, 7)), "campaign term 7, expected 8");
    assert_invalid(vote_response(false, 8), "campaign term 8 above the message's 7");
    // A node that still hears its leader stays in its term when it refuses a candidate of a newer one.
    let refused = RequestVoteResponse { campaign_term: Term(8), pre_vote: false, granted: false };
    assert!(decode_body(Body::RequestVoteResponse(refused)).is_ok());
    let mut late = vote(false, 7);
    late.last = id(4, 8);
    assert_invalid(Body::RequestVote(late), "last entry's term 8 above the message's 7");
}

#[test]
fn entries_follow_prev_without_a_gap_and_terms_never_fall() {
    assert_append_invalid(|it| it.entries[0].index = Index(6), "entry 6@2 after 4@2, a gap");
    assert_append_invalid(|it| it.entries[1].index = Index(5), "entry 5@7 after 5@2, a gap");
    assert_append_invalid(|it| it.entries[0].term = Term(1), "a term 2 above the next entry's 1");
    assert_append_invalid(|it| it.entries[1].term = Term(8), "an entry's term 8 above the message's 7");
    assert_append_invalid(
        |it| it.entries[0].request = Some(RequestId { node: NodeId(0), boot: 0, number: 0 }),
        "node 0, expected 1 to 65535",
    );
    assert_append_invalid(
        |it| it.entries[0].command = command("7"),
        "a command that cannot be applied: expected an object, found `7`, at byte 1",
    );
}

#[test]
fn prev_and_commit_are_sane() {
    let pairing = "expected term 0 with index -1 and with no other";
    assert_append_invalid(|it| it.prev = id(-1, 2), &format!("prev -1@2, {pairing}"));
    assert_append_invalid(|it| it.prev = id(4, 0), &format!("prev 4@0, {pairing}"));
    let range = "expected -1 to 9007199254740991";
    assert_append_invalid(|it| it.prev = id(-2, 2), &format!("prev index -2, {range}"));
    assert_append_invalid(|it| it.prev.index = Index(i64::MAX), &format!("prev index {}, {range}", i64::MAX));
    assert_append_invalid(|it| it.leader_commit = Index(-2), &format!("leader commit index -2, {range}"));
    assert_append_invalid(|it| it.read_round.term = Term(8), "the read round's term 8 above the message's 7");
    assert_append_invalid(
        |it| it.number = u64::MAX,
        &format!("number {}, expected at most 9007199254740991", u64::MAX),
    );
    let mut heartbeat = append_entries();
    heartbeat.entries.clear();
    heartbeat.prev = id(4, 8);
    assert_invalid(Body::AppendEntries(heartbeat), "prev's term 8 above the message's 7");
    let mut first = append_entries();
    first.prev = EntryId::NONE;
    first.entries = vec![entry(0, 1)];
    assert!(decode_body(Body::AppendEntries(first)).is_ok());
}

#[test]
fn a_configuration_is_one() {
    let invalid = |change: fn(&mut Configuration), expected: &str| {
        let mut members = Configuration::new([1, 2, 3].map(NodeId));
        members.learners.insert(NodeId(4));
        change(&mut members);
        let body = Body::AppendEntries(with_members(members));
        if expected.is_empty() {
            assert!(decode_body(body.clone()).is_ok());
        } else {
            assert_invalid(body, expected);
        }
    };
    invalid(|_| (), "");
    invalid(|it| it.outgoing = [1, 2].map(NodeId).into(), "");
    invalid(|it| it.next_voters = Some([1, 2, 4].map(NodeId).into()), "");
    invalid(|it| it.voters.clear(), "a configuration without voters");
    invalid(|it| it.voters.extend([NodeId(0)]), "node 0, expected 1 to 65535");
    invalid(|it| it.learners.extend([NodeId(0)]), "node 0, expected 1 to 65535");
    invalid(|it| it.learners.extend([NodeId(3)]), "Some(n3) is a learner and a voter");
    invalid(|it| it.outgoing.extend([NodeId(4)]), "Some(n4) is a learner and a voter");
    invalid(|it| it.next_voters = Some([].into()), "no next voters");
    invalid(|it| it.learners = (5..20).map(NodeId).collect(), "a configuration with 15 nodes");
    invalid(
        |it| {
            let (peer, client) = ("a".repeat(260), "b".to_owned());
            it.members.insert(NodeId(3), Member { peer, client, incarnation: None, life: None });
        },
        "an address of n3 is too long",
    );
    invalid(
        |it| {
            it.outgoing = [1, 2].map(NodeId).into();
            it.next_voters = Some([1].map(NodeId).into());
        },
        "next voters in a joint configuration",
    );
}

#[test]
fn an_entry_that_changes_members_does_nothing_else() {
    let invalid = |change: fn(&mut Entry)| {
        let mut append = with_members(members());
        change(&mut append.entries[1]);
        let expected = "entry 6@7 changes members and does something else too";
        assert_invalid(Body::AppendEntries(append), expected);
    };
    invalid(|it| it.command = command(r#"{"op":"set","key":"k","value":1}"#));
    invalid(|it| it.request = Some(request(1)));
}

#[test]
fn a_snapshot_is_of_something_that_was_before_it() {
    let decoded = |change: fn(&mut InstallSnapshot)| {
        let mut install = install();
        change(&mut install);
        decode_body(Body::InstallSnapshot(install)).map(|_| ())
    };
    let invalid = |change: fn(&mut InstallSnapshot), expected: &str| {
        assert_eq!(decoded(change), Err(format!("InstallSnapshot: {expected}")));
    };
    let largest = (1u64 << 53) - 1;
    assert_eq!(decoded(|_| ()), Ok(()));
    assert_eq!(decoded(|it| (it.lines.clear(), it.is_last = false).1), Ok(()), "a sign of life");
    invalid(|it| it.snapshot = EntryId::NONE, "a snapshot of nothing");
    invalid(|it| it.snapshot = id(4, 8), "the snapshot's term 8 above the message's 7");
    invalid(|it| it.lines.clear(), "the last lines, and none");
    invalid(|it| it.offset = 1 << 53, &format!("offset {}, expected at most {largest}", largest + 1));
    invalid(|it| it.number = 1 << 53, &format!("number {}, expected at most {largest}", largest + 1));
    invalid(|it| it.read_round.term = Term(8), "the read round's term 8 above the message's 7");
}

#[test]
fn an_answer_to_a_snapshot_fits_it() {
    let answer = |change: fn(&mut InstallSnapshotResponse)| {
        let mut answer = install_response();
        change(&mut answer);
        decode_body(Body::InstallSnapshotResponse(answer)).map(|_| ())
    };
    let invalid = |change: fn(&mut InstallSnapshotResponse), expected: &str| {
        assert_eq!(answer(change), Err(format!("InstallSnapshotResponse: {expected}")));
    };
    let largest = (1u64 << 53) - 1;
    assert_eq!(answer(|_| ()), Ok(()));
    assert_eq!(answer(|it| it.received = Received::All), Ok(()));
    invalid(|it| it.request_term = Term(8), "the request's term 8 above the answer's 7");
    invalid(|it| it.snapshot = id(4, 7), "the snapshot's term 7 above the request's 6");
    invalid(|it| it.read_round.term = Term(8), "the read round's term 8 above the message's 7");
    let bytes = format!("received bytes {}, expected at most {largest}", largest + 1);
    invalid(|it| it.received = Received::Bytes(1 << 53), &bytes);
    invalid(|it| it.number = 1 << 53, &format!("number {}, expected at most {largest}", largest + 1));
}

#[test]
fn answers_fit_what_they_answer() {
    let accepted = AppendOutcome::Accepted { match_index: Index(3) };
    assert_invalid(append_response(accepted), "prev's index 4 above the match index 3");
    let too_short = rejected(Conflict::TooShort { last: Index(4) });
    assert_invalid(too_short, "the end of the log and one 5 above prev's index 4");
    let late = rejected(Conflict::OtherTerm { term: Term(3), first: Index(5) });
    assert_invalid(late, "the first index of a term 5 above prev's index 4");
    let high = rejected(Conflict::OtherTerm { term: Term(8), first: Index(4) });
    assert_invalid(high, "a conflict's term 8 above the message's 7");
    let none = rejected(Conflict::OtherTerm { term: Term(0), first: Index(4) });
    assert!(decode_body(none).is_err());
    let Body::AppendEntriesResponse(mut answer) = rejected(Conflict::OldTerm) else { unreachable!() };
    answer.request_term = Term(8);
    let answer = Body::AppendEntriesResponse(answer);
    assert_invalid(answer, "the request's term 8 above the answer's 7");
    let read = ReadIndexResponse { boot: 3, number: 4, index: Index(-2) };
    assert!(decode_body(Body::ReadIndexResponse(read)).is_err());
}

#[test]
fn proposals_are_the_senders_own() {
    let mut foreign = forward();
    foreign.proposals[1].request.node = NodeId(3);
    assert_invalid(Body::ForwardProposals(foreign), "request n3/3/5 forwarded by n1");
    let mut no_object = forward();
    no_object.proposals[0].command = command("[]");
    let why = "a command that cannot be applied: expected an object, found `[`, at byte 1";
    assert_invalid(Body::ForwardProposals(no_object), why);
    let mut poison = forward();
    poison.proposals[0].command = command(r#"{"op":"set","key":""}"#);
    assert!(decode_body(Body::ForwardProposals(poison)).is_err(), "it would end every node that applies it");
    assert_invalid(forward_response(3), "request n3/1/8 refused to n2");
}

#[test]
fn a_leaders_own_commands_are_entries_and_never_proposals() {
    for own in [Command::noop(), Command::configuration()] {
        let mut append = append_entries();
        append.entries[1].command = own.clone();
        if own == Command::configuration() {
            append.entries[1].request = None;
            append.entries[1].configuration = Some(Arc::new(Configuration::new([NodeId(1)])));
        }
        assert!(decode_body(Body::AppendEntries(append)).is_ok());
        let mut forwarded = forward();
        forwarded.proposals[1].command = own.clone();
        let why = format!("a proposal of a leader's own command: {}", own.text());
        assert_invalid(Body::ForwardProposals(forwarded), &why);
        let mut in_other_letters = forward();
        in_other_letters.proposals[1].command = command(&own.text().replace("op", "\\u006fp"));
        assert!(decode_body(Body::ForwardProposals(in_other_letters)).is_err());
    }
}

#[test]
fn a_peers_line_has_room_for_any_clients_line() {
    assert_eq!(max_peer_line_bytes(4096), 2 * 4096 + 65536);
    let text = format!(r#"{{"op":"set","value":"{}"}}"#, "x".repeat(1 << 20));
    let entry = Entry { command: command(&text), ..entry(5, 2) };
    let append = AppendEntries { entries: vec![entry], ..append_entries() };
    let line = encoded(&PeerLine::Envelope(envelope(Body::AppendEntries(append))));
    assert!(line.len() <= max_peer_line_bytes(text.len()));
}

/// Whatever comes, decoding ends, and what it refuses it refuses in one line that is safe to log.
fn assert_harmless(line: &[u8]) {
    for result in [decode(line, &ENDS), decode_greeting(line)] {
        if let Err(error) = result {
            let why = error.to_string();
            assert!(!why.contains(char::is_control) && why.len() < 400, "{why:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_harmless(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_harmless(&line);
    }

    #[test]
    fn mutated_lines_are_harmless(
        which in 0usize..13,
        mutations in proptest::collection::vec(
            (any::<usize>(), 0usize..4, "[-0-9a-z{}\\[\\],:\"\\\\ ]{0,20}"), 1..4),
    ) {
        let mut line = encoded(&PeerLine::Envelope(envelope(bodies().swap_remove(which)))).into_bytes();
        for (at, cut, with) in mutations {
            let at = at % (line.len() + 1);
            let end = (at + cut).min(line.len());
            line.splice(at..end, with.into_bytes());
        }
        assert_harmless(&line);
    }

    #[test]
    fn any_numbers_are_taken_or_refused_without_overflow(
        which in 0usize..13,
        numbers in proptest::collection::vec(
            prop_oneof![Just("-1".to_owned()), Just("0".to_owned()), Just(u64::MAX.to_string()),
                Just(i64::MAX.to_string()), Just(i64::MIN.to_string()),
                Just("9007199254740992".to_owned())], 40),
    ) {
        let line = encoded(&PeerLine::Envelope(envelope(bodies().swap_remove(which))));
        let mut numbers = numbers.into_iter();
        let mut changed = String::new();
        for piece in line.split_inclusive(':') {
            let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match numbers.next().filter(|number| digits > 0 && number.len() > 1) {
                Some(number) => changed += &number,
                None => changed += &piece[..digits],
            }
            changed += &piece[digits..];
        }
        assert_harmless(changed.as_bytes());
    }
}
