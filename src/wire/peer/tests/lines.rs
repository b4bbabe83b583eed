//! What lines look like: each comes out as it went in, and what is not known is no error.

use super::*;

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
    let welcome =
        Welcome { from: NodeId(2), boot: 1, incarnation, life: Some(5), newest_version: 2, founding: None };
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
            + r#""incarnation":"00000000000000ab","life":4,"first_voters":[1,2],"#
            + r#""founding":"00000000000000cd"}}"#
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
