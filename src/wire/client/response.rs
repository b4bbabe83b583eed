//! An answer as a value, and the line it makes. The one place where the members of answers, their names and
//! their order are written down.

use super::request::RequestKey;
use crate::json;
use crate::kv::{Answer, Page};
use crate::types::{Configuration, EntryId, Index, NodeId, SnapshotLine, Term};
use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

/// Why a request was not carried out, or is not known to have been. The contract's table of errors says what
/// a client may conclude from each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not valid; nothing was done.
    BadRequest,
    /// The line is longer than `max_line_bytes`; nothing was done, and the connection ends.
    TooLarge,
    /// The client has had a later write applied; nothing was done.
    StaleSeq,
    /// The client is not remembered any more; nothing was done.
    SessionExpired,
    /// A queue is full; nothing was done.
    Busy,
    /// Certainly not carried out and never will be.
    Unavailable,
    /// No outcome in time: it may have happened, may still happen, or never.
    Timeout,
    /// Only the leader does this; nothing was done.
    NotLeader,
    /// It can not be done, for the reason given; nothing was done.
    Refused,
}

impl ErrorCode {
    /// The code as it stands in answers.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::StaleSeq => "stale_seq",
            ErrorCode::SessionExpired => "session_expired",
            ErrorCode::Busy => "busy",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Timeout => "timeout",
            ErrorCode::NotLeader => "not_leader",
            ErrorCode::Refused => "refused",
        }
    }
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// What applying the write came to.
    Written(Answer),
    /// The answer to a `get`.
    Got {
        /// The value's JSON text; none when the key does not exist.
        value: Option<Arc<str>>,
        /// The last applied index that the read saw.
        index: Index,
    },
    /// The answer to a `scan`.
    Scanned {
        /// What was found.
        page: Page,
        /// The last applied index that the read saw.
        index: Index,
    },
    /// The answer to a `status`.
    Status(Box<Status>),
    /// The answer to `members`.
    Members(Box<Members>),
    /// The first step of a change of members is committed.
    Changed {
        /// Where it stands in the log.
        index: Index,
    },
    /// Another node leads.
    Transferred {
        /// Which.
        leader: NodeId,
    },
    /// A snapshot is durable.
    SnapshotTaken {
        /// The last index that it covers; -1 when nothing was applied yet, and none was taken.
        index: Index,
    },
    /// Lines of a snapshot's file, as they stand in it.
    SnapshotLines {
        /// Which snapshot.
        snapshot: EntryId,
        /// The byte of the file at which they begin.
        offset: u64,
        /// The lines; at least one.
        lines: Vec<SnapshotLine>,
        /// Whether it ends with them.
        is_last: bool,
    },
    /// It was not done, or not known to be.
    Error {
        /// What a program goes by.
        code: ErrorCode,
        /// What a person reads.
        message: Cow<'static, str>,
    },
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node that answers.
    pub node: NodeId,
    /// Its role, in the paper's word and lower case.
    pub role: &'static str,
    /// Its current term.
    pub term: Term,
    /// Whom it takes for the leader of that term, when it knows.
    pub leader: Option<NodeId>,
    /// The last index that it knows to be committed.
    pub commit_index: Index,
    /// The last index that its store has applied.
    pub last_applied: Index,
    /// The first index that its log still holds or will hold.
    pub first_index: Index,
    /// The last index that its log holds.
    pub last_index: Index,
    /// The other members, in the order of their ids.
    pub peers: Vec<PeerStatus>,
    /// The store's running hash at `last_applied`.
    pub applied_hash: u64,
    /// For how long the process has been running, in milliseconds.
    pub uptime_ms: u64,
}

/// Who belongs to the cluster, as a node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The node that answers.
    pub node: NodeId,
    /// Whom it takes for the leader.
    pub leader: Option<NodeId>,
    /// Where the configuration stands in the log; -1 when the log begins under it.
    pub index: Index,
    /// Whether that is committed, as far as the node knows.
    pub is_committed: bool,
    /// The configuration.
    pub configuration: Arc<Configuration>,
}

/// How a node sees another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The other node.
    pub id: NodeId,
    /// The last index known to stand in its log as in ours; meaningful on a leader.
    pub match_index: Index,
    /// The next index to be sent to it; meaningful on a leader.
    pub next_index: Index,
    /// Whether there is a connection to it.
    pub connected: bool,
}

impl Response {
    /// An error of this code. A message that quotes what came from outside must quote it with
    /// [`json::shown`].
    pub fn error(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Response {
        Response::Error { code, message: message.into() }
    }

    /// Appends the answer's line, line break included; the request's id comes first when it had one.
    pub fn render(&self, id: Option<&RequestKey>, out: &mut Vec<u8>) {
        out.push(b'{');
        if let Some(id) = id {
            push(out, "\"id\":");
            push(out, id.text());
            out.push(b',');
        }
        match self {
            Response::Written(answer) => render_answer(answer, out),
            Response::Got { value, index } => {
                push(out, "\"ok\":true,\"value\":");
                push(out, value.as_deref().unwrap_or("null"));
                put(out, format_args!(",\"index\":{index}"));
            }
            Response::Scanned { page, index } => {
                render_page(page, out);
                put(out, format_args!(",\"index\":{index}"));
            }
            Response::Status(status) => render_status(status, out),
            Response::Members(members) => render_members(members, out),
            Response::Changed { index } | Response::SnapshotTaken { index } => {
                put(out, format_args!("\"ok\":true,\"index\":{index}"));
            }
            Response::Transferred { leader } => {
                put(out, format_args!("\"ok\":true,\"leader\":{}", leader.0));
            }
            Response::SnapshotLines { snapshot: EntryId { term, index }, offset, lines, is_last } => {
                put(out, format_args!("\"ok\":true,\"snapshot\":{{\"term\":{term},\"index\":{index}}}"));
                put(out, format_args!(",\"offset\":{offset},\"lines\":["));
                for (place, line) in lines.iter().enumerate() {
                    push(out, if place == 0 { "" } else { "," });
                    push(out, line.text());
                }
                put(out, format_args!("],\"is_last\":{is_last}"));
            }
            Response::Error { code, message } => render_error(*code, message, out),
        }
        push(out, "}\n");
    }
}

fn render_answer(answer: &Answer, out: &mut Vec<u8>) {
    match answer {
        // Nobody waits for a leader's own entry; its line would say no more than that it is done.
        Answer::Noop => push(out, "\"ok\":true"),
        Answer::Set { index } | Answer::Configured { index } => {
            put(out, format_args!("\"ok\":true,\"index\":{index}"));
        }
        Answer::Deleted { index, deleted } => {
            put(out, format_args!("\"ok\":true,\"index\":{index},\"deleted\":{deleted}"));
        }
        Answer::Swapped { index } => put(out, format_args!("\"ok\":true,\"index\":{index},\"swapped\":true")),
        Answer::NotSwapped { index, current } => {
            put(out, format_args!("\"ok\":true,\"index\":{index},\"swapped\":false,\"value\":"));
            push(out, current.as_deref().unwrap_or("null"));
        }
        Answer::StaleSeq { seq, last } => {
            let message = format!("seq {seq} is lower than {last}, this client's last; nothing was done");
            render_error(ErrorCode::StaleSeq, &message, out);
        }
        Answer::SessionExpired { seq } => {
            let message = format!(
                "this client is not remembered and seq {seq} is not its first; nothing was done; \
                 whether its earlier writes were can not be told any more; \
                 go on under a fresh name, with seq 1"
            );
            render_error(ErrorCode::SessionExpired, &message, out);
        }
    }
}

fn render_page(page: &Page, out: &mut Vec<u8>) {
    push(out, "\"ok\":true,\"items\":[");
    for (place, item) in page.items.iter().enumerate() {
        push(out, if place == 0 { "{\"key\":" } else { ",{\"key\":" });
        json::push_string(out, &item.key);
        push(out, ",\"value\":");
        push(out, &item.value);
        out.push(b'}');
    }
    put(out, format_args!("],\"more\":{}", page.more));
}

fn render_members(members: &Members, out: &mut Vec<u8>) {
    let Members { node, leader, index, is_committed, configuration } = members;
    let leader = leader.map_or_else(|| "null".to_owned(), |leader| leader.0.to_string());
    put(out, format_args!("\"ok\":true,\"node\":{},\"leader\":{leader},\"index\":{index}", node.0));
    put(out, format_args!(",\"committed\":{is_committed}"));
    let next_voters = configuration.next_voters.clone().unwrap_or_default();
    for (name, ids) in [
        ("voters", &configuration.voters),
        ("outgoing", &configuration.outgoing),
        ("learners", &configuration.learners),
        ("next_voters", &next_voters),
    ] {
        let ids: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
        put(out, format_args!(",\"{name}\":[{}]", ids.join(",")));
    }
    push(out, ",\"addresses\":[");
    for (place, (id, member)) in configuration.members.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        put(out, format_args!("{comma}{{\"id\":{},\"peer\":", id.0));
        json::push_string(out, &member.peer);
        push(out, ",\"client\":");
        json::push_string(out, &member.client);
        out.push(b'}');
    }
    out.push(b']');
}

fn render_status(status: &Status, out: &mut Vec<u8>) {
    let Status { node, role, term, leader, .. } = status;
    put(out, format_args!("\"ok\":true,\"node\":{},\"role\":\"{role}\",\"term\":{term},\"leader\":", node.0));
    match leader {
        Some(leader) => put(out, format_args!("{}", leader.0)),
        None => push(out, "null"),
    }
    let Status { commit_index, last_applied, first_index, last_index, .. } = status;
    put(out, format_args!(",\"commit_index\":{commit_index},\"last_applied\":{last_applied}"));
    put(out, format_args!(",\"first_index\":{first_index},\"last_index\":{last_index},\"peers\":["));
    for (place, peer) in status.peers.iter().enumerate() {
        let PeerStatus { id, match_index, next_index, connected } = peer;
        push(out, if place == 0 { "{\"id\":" } else { ",{\"id\":" });
        put(out, format_args!("{},\"match_index\":{match_index},\"next_index\":{next_index}", id.0));
        put(out, format_args!(",\"connected\":{connected}}}"));
    }
    let Status { applied_hash, uptime_ms, .. } = status;
    put(out, format_args!("],\"applied_hash\":\"{applied_hash:016x}\",\"uptime_ms\":{uptime_ms}"));
}

fn render_error(code: ErrorCode, message: &str, out: &mut Vec<u8>) {
    put(out, format_args!("\"ok\":false,\"error\":{{\"code\":\"{}\",\"message\":", code.name()));
    json::push_string(out, message);
    out.push(b'}');
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Item;
    use crate::wire::client::parse;

    fn line(response: &Response) -> String {
        let mut out = Vec::new();
        response.render(None, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn item(key: &str, value: &str) -> Item {
        Item { key: Arc::from(key), value: Arc::from(value) }
    }

    #[test]
    fn answers_are_written_as_the_contract_has_them() {
        let index = Index(7);
        let current: Option<Arc<str>> = Some(Arc::from("{\"a\": 1.0}"));
        let items = vec![item("a", "1"), item("\"\n", "2")];
        let error = |code, message: &'static str| Response::error(code, message);
        for (response, expected) in [
            (Response::Got { value: current.clone(), index }, r#"{"ok":true,"value":{"a": 1.0},"index":7}"#),
            (Response::Got { value: None, index: Index::NONE }, r#"{"ok":true,"value":null,"index":-1}"#),
            (Response::Written(Answer::Set { index }), r#"{"ok":true,"index":7}"#),
            (Response::Written(Answer::Configured { index }), r#"{"ok":true,"index":7}"#),
            (
                Response::Written(Answer::Deleted { index, deleted: true }),
                r#"{"ok":true,"index":7,"deleted":true}"#,
            ),
            (
                Response::Written(Answer::Deleted { index, deleted: false }),
                r#"{"ok":true,"index":7,"deleted":false}"#,
            ),
            (Response::Written(Answer::Swapped { index }), r#"{"ok":true,"index":7,"swapped":true}"#),
            (
                Response::Written(Answer::NotSwapped { index, current }),
                r#"{"ok":true,"index":7,"swapped":false,"value":{"a": 1.0}}"#,
            ),
            (
                Response::Written(Answer::NotSwapped { index, current: None }),
                r#"{"ok":true,"index":7,"swapped":false,"value":null}"#,
            ),
            (
                Response::Scanned { page: Page { items, more: true }, index },
                concat!(
                    r#"{"ok":true,"items":[{"key":"a","value":1},{"key":"\"\n","value":2}],"#,
                    r#""more":true,"index":7}"#
                ),
            ),
            (
                Response::Scanned { page: Page::default(), index },
                r#"{"ok":true,"items":[],"more":false,"index":7}"#,
            ),
            (
                error(ErrorCode::Timeout, "no \"outcome\""),
                r#"{"ok":false,"error":{"code":"timeout","message":"no \"outcome\""}}"#,
            ),
        ] {
            assert_eq!(line(&response), format!("{expected}\n"));
        }
    }

    #[test]
    fn a_write_that_its_session_refuses_is_an_error() {
        let code = |answer| {
            let line: serde_json::Value = serde_json::from_str(&line(&Response::Written(answer))).unwrap();
            assert_eq!(line["ok"], false);
            assert!(!line["error"]["message"].as_str().unwrap().is_empty());
            line["error"]["code"].as_str().unwrap().to_owned()
        };
        assert_eq!(code(Answer::StaleSeq { seq: 1, last: 2 }), "stale_seq");
        assert_eq!(code(Answer::SessionExpired { seq: 2 }), "session_expired");
    }

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let names = [
            (ErrorCode::BadRequest, "bad_request"),
            (ErrorCode::TooLarge, "too_large"),
            (ErrorCode::StaleSeq, "stale_seq"),
            (ErrorCode::SessionExpired, "session_expired"),
            (ErrorCode::Busy, "busy"),
            (ErrorCode::Unavailable, "unavailable"),
            (ErrorCode::Timeout, "timeout"),
        ];
        for (code, name) in names {
            assert_eq!(code.name(), name);
        }
    }

    #[test]
    fn a_status_is_written_as_the_contract_has_it() {
        let peer = |id, connected| PeerStatus {
            id: NodeId(id),
            match_index: Index(41),
            next_index: Index(42),
            connected,
        };
        let mut status = Status {
            node: NodeId(1),
            role: "leader",
            term: Term(3),
            leader: Some(NodeId(1)),
            commit_index: Index(41),
            last_applied: Index(40),
            first_index: Index(0),
            last_index: Index(43),
            peers: vec![peer(2, true), peer(3, false)],
            applied_hash: 0x0f86_d081_884c_7d65,
            uptime_ms: 12,
        };
        let expected = concat!(
            r#"{"ok":true,"node":1,"role":"leader","term":3,"leader":1,"commit_index":41,"last_applied":40,"#,
            r#""first_index":0,"last_index":43,"peers":["#,
            r#"{"id":2,"match_index":41,"next_index":42,"connected":true},"#,
            r#"{"id":3,"match_index":41,"next_index":42,"connected":false}],"#,
            r#""applied_hash":"0f86d081884c7d65","uptime_ms":12}"#,
            "\n"
        );
        assert_eq!(line(&Response::Status(Box::new(status.clone()))), expected);
        status.leader = None;
        status.peers.clear();
        let unknown = expected.replace("\"leader\":1", "\"leader\":null");
        let (front, rest) = unknown.split_once('[').unwrap();
        let (_, back) = rest.split_once(']').unwrap();
        assert_eq!(line(&Response::Status(Box::new(status))), format!("{front}[]{back}"));
    }

    #[test]
    fn the_id_comes_first_and_as_it_was_sent() {
        let mut out = Vec::new();
        for id in ["1", r#""\u0061""#] {
            let request = parse(format!(r#"{{"op":"status","id":{id}}}"#).as_bytes()).unwrap();
            Response::Written(Answer::Set { index: Index(0) }).render(request.id.as_ref(), &mut out);
        }
        let (id, response) = parse(br#"{"op":"teapot","id":9}"#).unwrap_err().into_response();
        response.render(id.as_ref(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"{"id":1,"ok":true,"index":0}"#);
        assert_eq!(lines[1], r#"{"id":"\u0061","ok":true,"index":0}"#);
        assert!(lines[2].starts_with(
            r#"{"id":9,"ok":false,"error":{"code":"bad_request","message":"unknown op `teapot`"#
        ));
        assert_eq!(lines.len(), 3);
    }
}
