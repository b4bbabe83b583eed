//! From a client's line to a `Request`. The line is looked at once; a write leaves here as the text that goes
//! into the log. A bad line costs its sender an answer and nobody else anything.

use super::operator::{self, OperatorOp};
use super::response::{ErrorCode, Response};
use crate::json::{self, Problem, Text, shown};
use crate::kv::command::Write;
use crate::kv::fields::{Field, Fields};
use crate::types::Command;
use serde::Deserialize;
use serde_json::value::RawValue;

/// How long an `id` may be, in bytes: a string's content after unescaping, a number's text.
pub const MAX_ID_BYTES: usize = 128;

/// How many items a scan returns when it does not say.
pub const DEFAULT_SCAN_LIMIT: usize = 100;

/// How many items a scan may ask for; the least is 1.
pub const MAX_SCAN_LIMIT: usize = 1000;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What the client calls the request, when it gives it a name.
    pub id: Option<RequestKey>,
    /// What is to be done.
    pub op: Op,
}

/// A request's `id` as its client wrote it, a string's or a number's JSON text: it goes back unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey(Box<str>);

impl RequestKey {
    /// The JSON text.
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// What a request asks to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// To be proposed: the command is valid and can be applied.
    Write(Command),
    /// To be read from the store.
    Read {
        /// What to read.
        read: Read,
        /// From this node's store as it is, without asking the leader.
        stale: bool,
    },
    /// To be told how the node is.
    Status,
    /// An operator's wish.
    Operator(OperatorOp),
}

/// What to read from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// One key's value.
    Get {
        /// 1 to 1,024 bytes, unescaped.
        key: String,
    },
    /// The items of a prefix.
    Scan {
        /// Up to 1,024 bytes, unescaped; empty for all keys.
        prefix: String,
        /// Only keys behind this one.
        after: Option<String>,
        /// At most this many items, 1 to [`MAX_SCAN_LIMIT`].
        limit: usize,
    },
}

/// A line that is no valid request. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRequest {
    /// The request's `id`, when it could be read in spite of all.
    pub id: Option<RequestKey>,
    /// What is wrong and where. Quotes no more than 128 bytes of the line.
    pub message: String,
}

impl BadRequest {
    /// The answer to such a line; the id goes with it separately.
    pub fn into_response(self) -> (Option<RequestKey>, Response) {
        (self.id, Response::error(ErrorCode::BadRequest, self.message))
    }
}

/// Reads a client's line, without its line break. Fails on whatever the contract does not allow.
pub fn parse(line: &[u8]) -> Result<Request, BadRequest> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => {
            let what = "bytes that are not UTF-8".to_owned();
            let problem = Problem { what, at: error.valid_up_to() };
            let readable = String::from_utf8_lossy(line);
            // An id that holds the bad bytes itself can not go back as it came.
            let id = id_in_spite_of_all(&readable).filter(|id| !id.0.contains(char::REPLACEMENT_CHARACTER));
            return Err(BadRequest { id, message: problem.to_string() });
        }
    };
    let mut fields = Fields::read(text);
    let id = read_id(&mut fields);
    let op = read_op(&mut fields, text);
    match (op, fields.problem()) {
        (Some(op), None) => Ok(Request { id, op }),
        (_, problem) => {
            let message = problem.map_or_else(|| "not a valid request".to_owned(), |it| it.to_string());
            Err(BadRequest { id: id.or_else(|| id_in_spite_of_all(text)), message })
        }
    }
}

fn read_id(fields: &mut Fields<'_>) -> Option<RequestKey> {
    let member = fields.get(Field::Id)?;
    let id = valid_id(member.text);
    if id.is_none() {
        let what = format!("`id` must be a string or a number of at most {MAX_ID_BYTES} bytes");
        fields.note(member.at, what);
    }
    id
}

fn valid_id(json: &str) -> Option<RequestKey> {
    let size_bytes = match json.as_bytes().first()? {
        b'"' => Text::of(json)?.content.len(),
        b'-' | b'0'..=b'9' => json.len(),
        _ => return None,
    };
    (size_bytes <= MAX_ID_BYTES).then(|| RequestKey(Box::from(json)))
}

/// Looks for the id in a line that is no valid request but may yet be JSON: the contract asks for more than
/// JSON does, and the first thing missing may stand before the id.
fn id_in_spite_of_all(line: &str) -> Option<RequestKey> {
    #[derive(Deserialize)]
    struct OnlyId<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    // An array would do for a struct, too.
    if !line.trim_start().starts_with('{') {
        return None;
    }
    let found: OnlyId<'_> = serde_json::from_str(line).ok()?;
    let id = found.id.get();
    json::check(id).ok()?;
    valid_id(id)
}

/// Reads what is asked for. None, or something but with a problem noted in `fields`, when it is not valid.
fn read_op(fields: &mut Fields<'_>, text: &str) -> Option<Op> {
    let at = fields.get(Field::Op).map_or(0, |member| member.at);
    let op = fields.op()?;
    match op.content.as_ref() {
        name if Write::is_op(name) => Write::read(name, fields).map(|write| Op::Write(write.to_command())),
        "get" => {
            fields.only("get", &[Field::Key, Field::Stale]);
            let key = fields.key()?.content.into_owned();
            read(fields, Read::Get { key })
        }
        "scan" => {
            fields.only("scan", &[Field::Prefix, Field::Limit, Field::After, Field::Stale]);
            let prefix = fields.prefix()?.content.into_owned();
            let after = fields.after().map(|after| after.content.into_owned());
            let limit = fields
                .integer(Field::Limit, 1, MAX_SCAN_LIMIT as u64)
                .map_or(DEFAULT_SCAN_LIMIT, |limit| limit as usize);
            read(fields, Read::Scan { prefix, after, limit })
        }
        "status" => {
            fields.only("status", &[]);
            fields.client_seq();
            Some(Op::Status)
        }
        // Whatever else may be wrong with such a line is said in one way only.
        name if operator::OPS.contains(&name) => match operator::read(text) {
            Ok(op) => Some(Op::Operator(op)),
            Err(why) => {
                fields.note(at, why);
                None
            }
        },
        other => {
            let (other, operators) = (shown(other), operator::OPS.join(", "));
            let known = format!("get, set, delete, cas, scan, status, {operators}");
            fields.note(at, format!("unknown op `{other}`; there are {known}"));
            None
        }
    }
}

/// What all reads have in common. `client` and `seq` do nothing here, but a client that sends them with all
/// its requests is told when they are wrong.
fn read(fields: &mut Fields<'_>, read: Read) -> Option<Op> {
    let stale = fields.flag(Field::Stale);
    fields.client_seq();
    Some(Op::Read { read, stale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Applied, KvStore};
    use crate::types::{Entry, Term};
    use proptest::prelude::*;

    fn request(line: &str) -> Request {
        parse(line.as_bytes()).unwrap_or_else(|bad| panic!("{line}: {}", bad.message))
    }

    /// What the request asks for, and its id, in short.
    fn summary(line: &str) -> (String, Option<String>) {
        let Request { id, op } = request(line);
        let op = match op {
            Op::Write(command) => command.text().to_owned(),
            Op::Read { read, stale } => format!("{read:?} stale={stale}"),
            Op::Status => "status".to_owned(),
            Op::Operator(op) => format!("{op:?}"),
        };
        (op, id.map(|id| id.text().to_owned()))
    }

    #[test]
    fn requests_say_what_they_ask_for() {
        let scan = |prefix: &str, after: &str, limit: usize, stale: bool| {
            format!("Scan {{ prefix: \"{prefix}\", after: {after}, limit: {limit} }} stale={stale}")
        };
        for (line, expected) in [
            (r#"{"op":"get","key":"x"}"#, "Get { key: \"x\" } stale=false".to_owned()),
            (r#"{"op":"get","key":"\u0061é","stale":true}"#, "Get { key: \"aé\" } stale=true".to_owned()),
            (r#"{"op":"get","key":"x","stale":false}"#, "Get { key: \"x\" } stale=false".to_owned()),
            (r#"{"op":"get","key":"x","client":"c","seq":1}"#, "Get { key: \"x\" } stale=false".to_owned()),
            (r#"{"op":"scan","prefix":""}"#, scan("", "None", 100, false)),
            (
                r#"{"op":"scan","prefix":"a","after":"ab","limit":7,"stale":true}"#,
                scan("a", "Some(\"ab\")", 7, true),
            ),
            (r#"{"op":"scan","prefix":"a","client":"c","seq":9}"#, scan("a", "None", 100, false)),
            (r#"{"op":"status"}"#, "status".to_owned()),
            (r#"{"op":"status","client":"c","seq":1}"#, "status".to_owned()),
            (r#"{"op":"set","key":"x","value":1}"#, r#"{"op":"set","key":"x","value":1}"#.to_owned()),
            (
                "\t{ \"value\" : {\"b\": 1} , \"key\":\"x\", \"op\":\"s\\u0065t\" } \r",
                r#"{"op":"set","key":"x","value":{"b": 1}}"#.to_owned(),
            ),
            (
                r#"{"op":"delete","seq":2,"client":"c","key":"x"}"#,
                r#"{"op":"delete","key":"x","client":"c","seq":2}"#.to_owned(),
            ),
            (
                r#"{"op":"cas","key":"x","expect":null,"value":false}"#,
                r#"{"op":"cas","key":"x","expect":null,"value":false}"#.to_owned(),
            ),
        ] {
            assert_eq!(summary(line), (expected, None), "{line}");
        }
    }

    #[test]
    fn an_id_is_kept_as_it_was_written() {
        for id in
            ["1", "-0.50e+3", "\"a\"", "\"\"", r#""\u0061\"""#, "\"é\"", "123456789012345678901234567890"]
        {
            let line = format!("{{\"op\":\"status\",\"id\": {id} }}");
            assert_eq!(summary(&line).1.as_deref(), Some(id));
        }
    }

    /// Checks that each line is refused with its message, and without an id.
    fn are_refused(cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            let bad = BadRequest { id: None, message: (*expected).to_owned() };
            assert_eq!(parse(line.as_bytes()), Err(bad), "{line}");
        }
    }

    #[test]
    fn a_line_that_is_no_json_object_is_told_where_it_stops_being_one() {
        are_refused(&[
            ("", "an empty line, not a JSON object, at byte 1"),
            (" \t\r", "an empty line, not a JSON object, at byte 1"),
            ("[1]", "expected an object, found `[`, at byte 1"),
            ("\"get\"", "expected an object, found `\"`, at byte 1"),
            ("get x", "expected an object, found `g`, at byte 1"),
            ("{", "expected a member's name in double quotes, found the end of the line, at byte 2"),
            (r#"{"op":"get""#, "expected `,` or `}`, found the end of the line, at byte 12"),
            (r#"{"op":"status"} {}"#, "expected the end of the line, found `{`, at byte 17"),
            ("{\"op\":\"a\u{1b}\"}", "a control character in a string must be escaped, at byte 9"),
        ]);
    }

    #[test]
    fn an_op_that_does_not_exist_is_told_which_ones_do() {
        are_refused(&[
            ("{}", "`op` is missing, at byte 2"),
            (r#"{"op":null}"#, "`op` must be a string, not `null`, at byte 7"),
            (
                r#"{"op":"noop"}"#,
                "unknown op `noop`; there are get, set, delete, cas, scan, status, members, change, \
                 transfer, snapshot, snapshot_lines, at byte 7",
            ),
            (
                r#"{"op":"configuration"}"#,
                "unknown op `configuration`; there are get, set, delete, cas, scan, status, members, change, \
                 transfer, snapshot, snapshot_lines, at byte 7",
            ),
            (
                r#"{"op":"GET\u001b[31m"}"#,
                "unknown op `GET\\u{1b}[31m`; there are get, set, delete, cas, scan, status, members, \
                 change, transfer, snapshot, snapshot_lines, at byte 7",
            ),
        ]);
    }

    #[test]
    fn a_member_that_does_not_belong_there_is_named_with_those_that_do() {
        are_refused(&[
            (r#"{"op":"get","op":"get"}"#, "the member `op` occurs twice, at byte 13"),
            (r#"{"op":"get","\u006fp":"get"}"#, "the member `op` occurs twice, at byte 13"),
            (
                r#"{"op":"get","key":"x","ttl":1}"#,
                "`get` does not take `ttl`, only `key`, `stale`, `id`, `op`, `client`, `seq`, at byte 23",
            ),
            (
                r#"{"op":"set","key":"x","value":1,"expect":2}"#,
                "`set` does not take `expect`, only `key`, `value`, `id`, `op`, `client`, `seq`, at byte 42",
            ),
            (
                r#"{"op":"delete","key":"x","stale":true}"#,
                "`delete` does not take `stale`, only `key`, `id`, `op`, `client`, `seq`, at byte 34",
            ),
            (
                r#"{"op":"cas","key":"x","expect":1,"value":2,"limit":1}"#,
                concat!(
                    "`cas` does not take `limit`, only `key`, `expect`, `value`, ",
                    "`id`, `op`, `client`, `seq`, at byte 52"
                ),
            ),
            (
                r#"{"op":"scan","prefix":"","key":"x"}"#,
                concat!(
                    "`scan` does not take `key`, only `prefix`, `limit`, `after`, `stale`, ",
                    "`id`, `op`, `client`, `seq`, at byte 32"
                ),
            ),
            (
                r#"{"op":"status","key":"x"}"#,
                "`status` does not take `key`, only `id`, `op`, `client`, `seq`, at byte 22",
            ),
        ]);
    }

    #[test]
    fn a_member_that_is_missing_is_named() {
        are_refused(&[
            (r#"{"op":"get"}"#, "`key` is missing, at byte 12"),
            (r#"{"op":"set","value":1}"#, "`key` is missing, at byte 22"),
            (r#"{"op":"set","key":"x"}"#, "`value` is missing, at byte 22"),
            (r#"{"op":"delete"}"#, "`key` is missing, at byte 15"),
            (r#"{"op":"cas","key":"x","value":1}"#, "`expect` is missing, at byte 32"),
            (r#"{"op":"cas","key":"x","expect":1}"#, "`value` is missing, at byte 33"),
            (r#"{"op":"scan"}"#, "`prefix` is missing, at byte 13"),
        ]);
    }

    #[test]
    fn a_member_of_the_wrong_kind_is_named_with_the_right_one() {
        are_refused(&[
            (r#"{"op":"get","key":1}"#, "`key` must be a string, not `1`, at byte 19"),
            (r#"{"op":"get","key":""}"#, "`key` must not be empty, at byte 19"),
            (r#"{"op":"get","key":"x","stale":1}"#, "`stale` must be true or false, not `1`, at byte 31"),
            (
                r#"{"op":"set","key":"x","value":null}"#,
                "`value` must not be null; to remove a key there is `delete`, at byte 31",
            ),
            (
                r#"{"op":"cas","key":"x","expect":1,"value":null}"#,
                "`value` must not be null; to remove a key there is `delete`, at byte 42",
            ),
            (r#"{"op":"scan","prefix":[]}"#, "`prefix` must be a string, not `[]`, at byte 23"),
            (r#"{"op":"scan","prefix":"","after":""}"#, "`after` must not be empty, at byte 34"),
            (
                r#"{"op":"scan","prefix":"","limit":"9"}"#,
                "`limit` must be an integer from 1 to 1000, not `\"9\"`, at byte 34",
            ),
            (
                r#"{"op":"scan","prefix":"","limit":1e1}"#,
                "`limit` must be an integer from 1 to 1000, not `1e1`, at byte 34",
            ),
        ]);
    }

    #[test]
    fn what_json_allows_and_the_contract_does_not_is_refused() {
        are_refused(&[
            (r#"{"op":"set","key":"x","value":{"a":1,"a":1}}"#, "the member `a` occurs twice, at byte 38"),
            (r#"{"op":"set","key":"\ud800","value":1}"#, "a high surrogate without its low half, at byte 20"),
        ]);
    }

    #[test]
    fn a_session_is_whole_and_sound_whatever_the_op() {
        let together = "is missing: `client` and `seq` come together or not at all";
        for op in [
            r#""op":"get","key":"x""#,
            r#""op":"set","key":"x","value":1"#,
            r#""op":"delete","key":"x""#,
            r#""op":"cas","key":"x","expect":1,"value":1"#,
            r#""op":"scan","prefix":"""#,
            r#""op":"status""#,
        ] {
            for (session, expected) in [
                (r#""client":"c""#, format!("`seq` {together}")),
                (r#""seq":1"#, format!("`client` {together}")),
                (r#""client":1,"seq":1"#, "`client` must be a string, not `1`".to_owned()),
                (r#""client":"","seq":1"#, "`client` must not be empty".to_owned()),
                (
                    r#""client":"c","seq":0"#,
                    "`seq` must be an integer from 1 to 18446744073709551615, not `0`".to_owned(),
                ),
                (
                    r#""client":"c","seq":-1"#,
                    "`seq` must be an integer from 1 to 18446744073709551615, not `-1`".to_owned(),
                ),
                (
                    r#""client":"c","seq":1.0"#,
                    "`seq` must be an integer from 1 to 18446744073709551615, not `1.0`".to_owned(),
                ),
                (
                    r#""client":"c","seq":18446744073709551616"#,
                    "`seq` must be an integer from 1 to 18446744073709551615, not `18446744073709551616`"
                        .to_owned(),
                ),
            ] {
                let line = format!("{{{op},{session}}}");
                let message = parse(line.as_bytes()).expect_err(&line).message;
                assert!(message.starts_with(&format!("{expected}, at byte ")), "{line}: {message}");
            }
            request(&format!("{{{op},\"client\":\"c\",\"seq\":18446744073709551615}}"));
        }
    }

    #[test]
    fn lengths_and_numbers_are_allowed_up_to_their_limits_and_no_further() {
        let text = |bytes: usize| format!("\"{}é\"", "a".repeat(bytes - 2));
        let escaped = |bytes: usize| format!("\"{}\"", "\\u0061".repeat(bytes));
        let number = |digits: usize| "1".repeat(digits);
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        type Make<'a> = &'a dyn Fn(usize) -> String;
        let limits: [(&str, &str, Make<'_>, usize); 11] = [
            (r#"{"op":"get","key":@}"#, "`key` has 1025 bytes and may have 1024", &text, 1024),
            (r#"{"op":"set","key":@,"value":1}"#, "`key` has 1025 bytes and may have 1024", &escaped, 1024),
            (r#"{"op":"scan","prefix":@}"#, "`prefix` has 1025 bytes and may have 1024", &text, 1024),
            (
                r#"{"op":"scan","prefix":"","after":@}"#,
                "`after` has 1025 bytes and may have 1024",
                &text,
                1024,
            ),
            (
                r#"{"op":"delete","key":"x","seq":1,"client":@}"#,
                "`client` has 129 bytes and may have 128",
                &text,
                128,
            ),
            (
                r#"{"op":"status","id":@}"#,
                "`id` must be a string or a number of at most 128 bytes",
                &text,
                128,
            ),
            (
                r#"{"op":"status","id":@}"#,
                "`id` must be a string or a number of at most 128 bytes",
                &escaped,
                128,
            ),
            (
                r#"{"op":"status","id":@}"#,
                "`id` must be a string or a number of at most 128 bytes",
                &number,
                128,
            ),
            (r#"{"op":"set","key":"x","value":@}"#, "a value nests more than 64 deep", &nested, 64),
            (
                r#"{"op":"cas","key":"x","value":1,"expect":@}"#,
                "a value nests more than 64 deep",
                &nested,
                64,
            ),
            (
                r#"{"op":"scan","prefix":"","limit":@}"#,
                "`limit` must be an integer from 1 to 1000, not `1001`",
                &|limit: usize| limit.to_string(),
                1000,
            ),
        ];
        for (line, expected, make, limit) in limits {
            request(&line.replace('@', &make(limit - 1)));
            request(&line.replace('@', &make(limit)));
            let bad = parse(line.replace('@', &make(limit + 1)).as_bytes()).expect_err(line);
            assert!(bad.message.starts_with(&format!("{expected}, at byte ")), "{line}: {}", bad.message);
            assert_eq!(bad.id, None);
        }
        request(r#"{"op":"scan","prefix":"","limit":1}"#);
        let zero = parse(br#"{"op":"scan","prefix":"","limit":0}"#).unwrap_err();
        assert_eq!(zero.message, "`limit` must be an integer from 1 to 1000, not `0`, at byte 34");
    }

    #[test]
    fn a_bad_request_keeps_its_id_when_it_can_be_read() {
        for line in [
            r#"{"id":7,"op":"get"}"#,
            r#"{"id":7,"op":"get","key":"x""#,
            r#"{"id":7,oops"#,
            r#"{"id":7,"id":8,"op":"status"}"#,
            r#"{"op":"get","op":"get","id":7}"#,
            r#"{"op":"set","key":"x","value":"\ud800","id":7}"#,
            r#"{"op":"set","key":"x","value":{"a":1,"a":2},"id":7}"#,
            r#"{"op":"teapot","id":7}"#,
            r#"{"id":7,"op":"get","key":"x"} trailing"#,
        ] {
            let bad = parse(line.as_bytes()).expect_err(line);
            assert_eq!(bad.id.expect(line).text(), "7", "{line}");
        }
        let deep = format!(r#"{{"op":"set","key":"x","value":{}{},"id":7}}"#, "[".repeat(90), "]".repeat(90));
        assert_eq!(parse(deep.as_bytes()).unwrap_err().id.unwrap().text(), "7");
    }

    #[test]
    fn an_id_that_can_not_be_read_or_echoed_is_left_out() {
        for line in [
            r#"{"id":null,"op":"status"}"#,
            r#"{"id":[7],"op":"status"}"#,
            r#"{"id":true,"op":"status"}"#,
            r#"{"id":"\ud800","op":"status"}"#,
            r#"{"op":"get","key":oops,"id":7}"#,
            r#"[7]"#,
        ] {
            assert_eq!(parse(line.as_bytes()).expect_err(line).id, None, "{line}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_by_their_place() {
        let parsed = |line: &[u8]| {
            let bad = parse(line).unwrap_err();
            (bad.message, bad.id.map(|id| id.text().to_owned()))
        };
        let message = |at: usize| format!("bytes that are not UTF-8, at byte {at}");
        assert_eq!(parsed(b"\xff"), (message(1), None));
        assert_eq!(parsed(b"{\"id\":7,\"op\":\"\xc3\"}"), (message(15), Some("7".to_owned())));
        assert_eq!(parsed(b"{\"op\":\"\x80\",\"id\":\"a\"}"), (message(8), Some("\"a\"".to_owned())));
        assert_eq!(parsed(b"{\"op\":\"status\",\"id\":\"\x80\"}"), (message(22), None));
    }

    #[test]
    fn what_messages_quote_is_short_and_harmless() {
        let long = "\\u001b".repeat(10_000);
        for line in [
            format!(r#"{{"op":"{long}"}}"#),
            format!(r#"{{"op":"get","key":"x","{long}":1}}"#),
            format!(r#"{{"op":"get","key":["{long}"]}}"#),
            format!(r#"{{"op":"scan","prefix":"","limit":{}}}"#, "9".repeat(10_000)),
            format!(r#"{{"op":"set","key":"x","value":{{"{long}":1,"{long}":1}}}}"#),
        ] {
            let message = parse(line.as_bytes()).unwrap_err().message;
            assert!(message.len() < 300, "{message}");
            assert!(!message.contains(char::is_control), "{message}");
        }
    }

    /// Lines that are valid requests, or would be but for a member or two.
    fn requests() -> impl Strategy<Value = String> {
        let member = prop::sample::select(vec![
            r#""op":"set""#,
            r#""op":"delete""#,
            r#""op":"cas""#,
            r#""op":"get""#,
            r#""key":"x""#,
            r#""key":"y\n""#,
            r#""value":{"a":[1,2.50],"b":null}"#,
            r#""value":-0"#,
            r#""expect":null"#,
            r#""expect":{"b":null, "a":[1.0,25e-1]}"#,
            r#""client":"c""#,
            r#""client":"d""#,
            r#""seq":1"#,
            r#""seq":2"#,
            r#""id":"\ud83d\ude00""#,
        ]);
        let some = prop::collection::vec(member, 0..6);
        let whole = prop::sample::select(vec![
            r#"{"op":"set","key":"x","value":{"a":[1,2.50],"b":null}}"#,
            r#"{"op":"set","key":"y","value":"\u00e9","client":"c","seq":1}"#,
            r#"{"op":"cas","key":"x","expect":{"b":null, "a":[1.0,25e-1]},"value":7,"id":1}"#,
            r#"{"op":"cas","key":"x","expect":null,"value":[7],"client":"c","seq":2}"#,
            r#"{"op":"delete","key":"x","client":"d","seq":1}"#,
        ]);
        prop_oneof![
            some.prop_map(|members| format!("{{{}}}", members.join(","))),
            whole.prop_map(str::to_owned)
        ]
    }

    /// Applies what the line asks for, when it is a write.
    fn apply(store: &mut KvStore, line: &[u8]) {
        if let Ok(Request { op: Op::Write(command), .. }) = parse(line) {
            let entry = Entry {
                term: Term(1),
                index: store.last_applied().next(),
                request: None,
                command,
                configuration: None,
            };
            assert!(matches!(store.apply(&entry), Applied::Done(_)));
        }
    }

    proptest! {
        #[test]
        fn every_write_that_is_accepted_can_be_applied(
            lines in prop::collection::vec((requests(), any::<(u16, u8)>(), any::<bool>()), 0..40),
        ) {
            let mut store = KvStore::new();
            for (line, (place, byte), mutated) in lines {
                let mut line = line.into_bytes();
                if mutated {
                    let place = usize::from(place) % line.len();
                    line[place] = byte;
                }
                apply(&mut store, &line);
            }
        }

        #[test]
        fn random_bytes_never_panic(line in any::<Vec<u8>>()) {
            apply(&mut KvStore::new(), &line);
        }

        #[test]
        fn lines_with_pieces_cut_out_or_doubled_never_panic(
            line in requests(),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
        ) {
            let (from, to) = (from.index(line.len()), to.index(line.len()));
            let mut mutated = line.as_bytes()[..from].to_vec();
            mutated.extend_from_slice(&line.as_bytes()[to..]);
            apply(&mut KvStore::new(), &mutated);
        }
    }
}
