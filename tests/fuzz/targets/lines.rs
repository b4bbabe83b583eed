//! Lines from outside: what clients and other nodes may send.

use super::{Seen, Target, assert_plain, within_memory};
use raftkv::kv::command::{self, Reading};
use raftkv::kv::{Applied, KvStore};
use raftkv::raft::message::{Body, Message};
use raftkv::types::{Entry, NodeId, Term};
use raftkv::wire::client::{self, Op, Read, Request, RequestKey, Response};
use raftkv::wire::line::{LineReader, Next};
use raftkv::wire::peer::{Decoded, Ends, PeerLine, decode, decode_greeting};

/// A client's connection.
pub const CLIENT_LINE: Target = Target {
    name: "client_line",
    run: client_line,
    sometimes: &[
        "write",
        "answer",
        "get",
        "scan",
        "status",
        "bad request",
        "bad request with id",
        "too long",
    ],
};

/// A line between nodes.
pub const PEER_LINE: Target = Target {
    name: "peer_line",
    run: peer_line,
    sometimes: &["hello", "welcome", "refused", "ping", "message", "unknown", "invalid"],
};

/// So short that a line can be too long.
const MAX_LINE_BYTES: usize = 4096;

fn client_line(bytes: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let mut store = KvStore::new();
    let mut reader = LineReader::new(bytes, MAX_LINE_BYTES);
    let mut expected = bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
    if expected.last().is_some_and(|last| last.is_empty()) {
        expected.pop();
    }
    for wanted in expected {
        let too_long = wanted.len() > MAX_LINE_BYTES;
        let line = loop {
            match reader.next_line() {
                Next::Line(line) => break Some(line.to_vec()),
                Next::NeedsMore => reader.fill().expect("memory can be read"),
                Next::TooLong => break None,
                Next::End => panic!("the end, where {} bytes of a line are left", wanted.len()),
            }
        };
        assert_eq!(line.as_deref(), (!too_long).then_some(wanted), "another line than was sent");
        let Some(line) = line else {
            seen.insert("too long");
            return seen;
        };
        request(&line, &mut store, &mut seen);
    }
    seen
}

fn request(line: &[u8], store: &mut KvStore, seen: &mut Seen) {
    match within_memory(line.len(), 64, || client::parse(line)) {
        Ok(Request { id, op }) => {
            let text = std::str::from_utf8(line).expect("a request is UTF-8");
            assert!(depth(text) <= 1 + 64, "nested deeper than a value may be: {text}");
            if let Some(id) = &id {
                assert!(text.contains(id.text()), "an id that was not sent: {}", id.text());
            }
            let response = answer(op, store, seen);
            assert_answer(id.as_ref(), &response);
        }
        Err(bad) => {
            assert_plain(&bad.message);
            assert!(!bad.message.is_empty());
            seen.insert(if bad.id.is_some() { "bad request with id" } else { "bad request" });
            let (id, response) = bad.into_response();
            assert_answer(id.as_ref(), &response);
        }
    }
}

/// How deep arrays and objects nest in a text that is JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What a cluster of one would answer.
fn answer(op: Op, store: &mut KvStore, seen: &mut Seen) -> Response {
    let index = store.last_applied();
    match op {
        Op::Write(command) => {
            seen.insert("write");
            let again = client::parse(command.text().as_bytes()).expect("a command is a request");
            assert_eq!(again, Request { id: None, op: Op::Write(command.clone()) }, "read again");
            assert!(matches!(command::read(command.text()), Reading::Write(_)), "{command:?}");
            let entry =
                Entry { term: Term(1), index: index.next(), request: None, command, configuration: None };
            match store.apply(&entry) {
                Applied::Done(answer) => {
                    assert_eq!(store.last_applied(), entry.index);
                    seen.insert("answer");
                    Response::Written(answer)
                }
                Applied::Unknown { op } => panic!("a request of an unknown op: {op}"),
            }
        }
        Op::Read { read: Read::Get { key }, .. } => {
            seen.insert("get");
            assert!((1..=1024).contains(&key.len()), "a key of {} bytes", key.len());
            Response::Got { value: store.get(&key).cloned(), index }
        }
        Op::Read { read: Read::Scan { prefix, after, limit }, .. } => {
            seen.insert("scan");
            let page = store.scan(&prefix, after.as_deref(), limit, MAX_LINE_BYTES);
            assert!(page.items.len() <= limit);
            assert!(page.items.iter().all(|item| item.key.starts_with(&prefix)));
            Response::Scanned { page, index }
        }
        Op::Status | Op::Operator(_) => {
            seen.insert("status");
            Response::error(client::ErrorCode::Unavailable, "there is no node here")
        }
    }
}

/// An answer is one line, and JSON also to a reader that is not ours; its id is the request's.
fn assert_answer(id: Option<&RequestKey>, response: &Response) {
    let mut line = Vec::new();
    response.render(id, &mut line);
    let text = std::str::from_utf8(&line).expect("an answer is UTF-8");
    assert_eq!(text.find('\n'), Some(text.len() - 1), "one line: {text}");
    let read: serde_json::Map<String, serde_json::Value> = match serde_json::from_str(text) {
        Ok(read) => read,
        // The one thing that our grammar takes and that reader does not: numbers beyond floating point.
        Err(error) if error.to_string().contains("number out of range") => return,
        Err(error) => panic!("{error}: {text}"),
    };
    assert!(read.contains_key("ok"), "{text}");
    assert_eq!(read.contains_key("id"), id.is_some(), "{text}");
}

fn peer_line(line: &[u8]) -> Seen {
    let mut seen = Seen::new();
    let taken = within_memory(line.len(), 64, || decode_greeting(line));
    note_decoded(&taken, &mut seen);
    if let Ok(Decoded::Line(greeting)) = taken {
        assert_eq!(decode_greeting(&encoded(&greeting)), Ok(Decoded::Line(greeting)));
    }
    // Both directions of a connection, and a receiver that is far ahead.
    for (me, peer, term) in [(1, 2, 3), (2, 1, 3), (1, 2, 1 << 40)] {
        let ends = Ends { me: NodeId(me), peer: NodeId(peer), term: Term(term) };
        let taken = within_memory(line.len(), 64, || decode(line, &ends));
        note_decoded(&taken, &mut seen);
        if let Ok(Decoded::Line(known)) = taken {
            if let PeerLine::Envelope(envelope) = &known {
                assert_steppable(&envelope.message, &ends);
            }
            let again = encoded(&known);
            assert_eq!(decode(&again, &ends), Ok(Decoded::Line(known.clone())));
            assert_eq!(encoded(&known), again);
        }
    }
    seen
}

/// What `decode` promises of a message, looked at once more: the core relies on it.
fn assert_steppable(message: &Message, ends: &Ends) {
    assert_eq!((message.from, message.to), (ends.peer, ends.me), "a message of or for somebody else");
    let ahead = message.term.0.saturating_sub(ends.term.0);
    assert!(ahead <= 1 << 32, "{ahead} terms ahead");
    if let Body::AppendEntries(append) = &message.body {
        let mut before = append.prev;
        for entry in &append.entries {
            assert_eq!(entry.index.0 - before.index.0, 1, "a gap before {}", entry.id());
            assert!(entry.term >= before.term, "terms fall at {}", entry.id());
            before = entry.id();
        }
        assert!(before.term <= message.term, "{} in term {}", before, message.term);
    }
}

/// A line without its newline, as the reader of lines hands it out.
fn encoded(line: &PeerLine) -> Vec<u8> {
    let mut bytes = Vec::new();
    line.encode(&mut bytes);
    assert_eq!(bytes.pop(), Some(b'\n'));
    assert!(!bytes.contains(&b'\n'), "what is taken from one line is sent on one line");
    bytes
}

fn note_decoded(taken: &Result<Decoded, raftkv::wire::peer::Invalid>, seen: &mut Seen) {
    seen.insert(match taken {
        Ok(Decoded::Line(PeerLine::Hello(_))) => "hello",
        Ok(Decoded::Line(PeerLine::Welcome(_))) => "welcome",
        Ok(Decoded::Line(PeerLine::Refused(_))) => "refused",
        Ok(Decoded::Line(PeerLine::Ping(_) | PeerLine::Pong(_))) => "ping",
        Ok(Decoded::Line(PeerLine::Envelope(_))) => "message",
        Ok(Decoded::Unknown { name }) => {
            assert_plain(name);
            "unknown"
        }
        Err(invalid) => {
            assert_plain(&invalid.to_string());
            "invalid"
        }
    });
}
