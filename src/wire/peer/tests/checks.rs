//! What a line may say: of each rule, what breaks it and what is said about that.

use super::*;
use crate::types::MAX_LIVES;

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
    assert!(check(|hello| hello.life = Some(0)).contains("life 0"));
    assert!(check(|hello| hello.life = Some(MAX_LIVES + 1)).contains("life 2097151"));
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
    let welcome =
        Welcome { from: NodeId(1), boot: 1, incarnation, life: Some(1), newest_version: 1, founding: None };
    let is_invalid = |welcome| decode_greeting(encoded(&PeerLine::Welcome(welcome)).as_bytes()).is_err();
    assert!(!is_invalid(welcome.clone()));
    assert!(is_invalid(Welcome { from: NodeId(0), ..welcome.clone() }));
    assert!(is_invalid(Welcome { life: Some(0), ..welcome }));
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
        |it| _ = it.members.insert(NodeId(3), Member::at("a".repeat(260), "b")),
        "an address of n3 is too long",
    );
    fn has_life(it: &mut Configuration, life: u64) {
        it.lives = 2;
        it.members.insert(NodeId(3), Member { life: Some(life), ..Member::at("a", "b") });
    }
    invalid(|it| has_life(it, 2), "");
    invalid(|it| has_life(it, 3), "n3 has life 3 of 2");
    invalid(|it| it.lives = MAX_LIVES, "");
    invalid(|it| it.lives = MAX_LIVES + 1, "2097151 lives, and at most 2097150 are possible");
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
