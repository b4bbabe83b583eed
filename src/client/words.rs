//! What a person types, turned into a request: `set x 1` into `{"op":"set","key":"x","value":1}`.
//!
//! A value that is JSON text is taken as it stands, anything else is a string: `set x 1` stores the number,
//! `set x hello` the string "hello", `set x '"1"'` the string "1". More than one word of value is joined by
//! blanks into one text. A line is cut into words at blanks; single quotes keep a text together as a shell's
//! do, and a word that begins as JSON (`"`, `{` or `[`) goes to the end of that JSON. Words that come as
//! arguments were cut by the shell already and are taken as they are. Nothing here talks to anyone.

use super::operator_words::{self, Wish};
use serde::Serialize;
use serde_json::value::RawValue;
use std::fmt;

/// The words and what they mean, as `help` shows them.
pub const HELP: &str = "  set KEY VALUE                       store a value
  get KEY [--stale]                   read it; --stale: what the asked node has, at once
  delete KEY                          remove it
  cas KEY EXPECT VALUE                store VALUE if the value is EXPECT (null: if there is none)
  scan [PREFIX] [limit N] [after K]   list keys in order, 100 unless told, at most 1000
  status                              what the asked node knows of the cluster
  members                             who belongs to the cluster, who leads, and where all are
  add ID PEER CLIENT …                nodes that run with --join become voters; waits until they are
  remove ID …                         nodes leave, or are not added after all
  replace OLD NEW PEER CLIENT …       nodes come and others go, all in one step
  transfer [ID]                       another node is to lead
  snapshot                            the asked node takes a snapshot of its store, and lets its log go
  backup FILE                         a snapshot of everything written so far, into a new file
  help                                this text
  {\"op\":\"get\",\"key\":\"x\"}              a line that begins with { is sent as it is

A VALUE that is JSON is taken as JSON, anything else is a string: set x 1 stores a number, set x hello
and set x hello world store strings, set x '\"1\"' stores the string \"1\".";

const MAX_KEY_BYTES: usize = 1024;
const MAX_SCAN_LIMIT: u64 = 1000;

/// What a line, or the arguments of a call, ask for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Show [`HELP`].
    Help,
    /// End the session.
    Quit,
    /// Ask the cluster.
    Ask(Request),
}

/// What is asked of the cluster.
#[derive(Clone, Debug)]
pub enum Request {
    /// A line of the user's own, to be sent as it is and never twice.
    Raw(String),
    /// A request made from words, which the client may name and repeat.
    Words(Box<WordRequest>),
    /// What an operator wants, which may take several requests.
    Wish(Wish),
}

/// A request made from words. The members that the operation does not have are none.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WordRequest {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
}

impl WordRequest {
    /// Whether it changes something: whether a repeat has to be told from a second wish.
    pub fn is_write(&self) -> bool {
        matches!(self.op, "set" | "delete" | "cas")
    }

    /// The same request under a client's name and number, which make a repeat harmless.
    pub fn named(&self, client: &str, seq: u64) -> WordRequest {
        WordRequest { client: Some(client.to_owned()), seq: Some(seq), ..self.clone() }
    }

    /// The request as a line, without newline.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("all members are text, numbers and JSON")
    }
}

/// Why words make no request: one line that says what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage(pub(super) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// One word: the text it is as a name, and the JSON it is as a value.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub text: String,
    value: Box<RawValue>,
}

impl Word {
    /// A word as it stands in a shell's argument.
    fn plain(text: &str) -> Word {
        let value = serde_json::from_str(text).ok().map(on_one_line);
        let value = value.unwrap_or_else(|| serde_json::value::to_raw_value(text).expect("a string is JSON"));
        Word { text: text.to_owned(), value }
    }
}

/// What a typed line asks for; nothing when it is blank.
pub fn parse_line(line: &str) -> Result<Option<Command>, Usage> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('{') {
        return Ok(Some(Command::Ask(Request::Raw(without_line_breaks(line)))));
    }
    parse_words(&split(line)?).map(Some)
}

/// What the arguments of a call ask for.
pub fn parse_arguments(arguments: &[String]) -> Result<Command, Usage> {
    match arguments {
        [line] if line.trim_start().starts_with('{') => {
            Ok(Command::Ask(Request::Raw(without_line_breaks(line.trim()))))
        }
        _ => {
            let words: Vec<Word> = arguments.iter().map(|argument| Word::plain(argument)).collect();
            parse_words(&words)
        }
    }
}

/// Cuts a line into words. See the file's header.
fn split(line: &str) -> Result<Vec<Word>, Usage> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let json = if matches!(first, '"' | '{' | '[') { json_at_start(rest) } else { None };
        let (word, length) = match (first, json) {
            (_, Some((word, length))) => (word, length),
            ('\'', _) => {
                let inner = rest[1..].split_once('\'').map(|(inner, _)| inner);
                let inner = inner.ok_or_else(|| Usage("a single quote is not closed".to_owned()))?;
                (Word::plain(inner), inner.len() + 2)
            }
            ('"', None) => return Err(Usage("a double quote is not closed, or not JSON".to_owned())),
            _ => {
                let length = rest.find(char::is_whitespace).unwrap_or(rest.len());
                (Word::plain(&rest[..length]), length)
            }
        };
        let (_, after) = rest.split_at(length);
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(Usage(format!("expected a blank after {}", word.text)));
        }
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

/// The JSON value that a text begins with, and how long it is.
fn json_at_start(text: &str) -> Option<(Word, usize)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Box<RawValue>>();
    let value = values.next()?.ok()?;
    let length = values.byte_offset();
    let text = serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned());
    Some((Word { text, value: on_one_line(value) }, length))
}

/// JSON text without line breaks, one of which would end the request's line. Between tokens they are white
/// space, and inside a string they stand escaped only.
fn without_line_breaks(json: &str) -> String {
    json.replace(['\n', '\r'], " ")
}

fn on_one_line(json: Box<RawValue>) -> Box<RawValue> {
    RawValue::from_string(without_line_breaks(json.get())).unwrap_or(json)
}

fn parse_words(words: &[Word]) -> Result<Command, Usage> {
    let Some((operation, rest)) = words.split_first() else {
        return Err(Usage("expected a command, such as: get x".to_owned()));
    };
    let operation_name = operation.text.to_ascii_lowercase();
    if let Some(wish) = operator_words::parse(&operation_name, rest)? {
        return Ok(Command::Ask(Request::Wish(wish)));
    }
    let request = match operation_name.as_str() {
        "set" => set(rest)?,
        "get" => get(rest)?,
        "delete" => delete(rest)?,
        "cas" => cas(rest)?,
        "scan" => scan(rest)?,
        "status" => match rest {
            [] => WordRequest { op: "status", ..WordRequest::default() },
            _ => return Err(usage("status")),
        },
        "help" => return Ok(Command::Help),
        "quit" | "exit" => return Ok(Command::Quit),
        _ => {
            let name = crate::wire::quote_external(&operation.text);
            let operators = operator_words::NAMES.join(", ");
            return Err(Usage(format!(
                "{name} is no command, expected set, get, delete, cas, scan, status, {operators} or help"
            )));
        }
    };
    Ok(Command::Ask(Request::Words(Box::new(request))))
}

fn set(words: &[Word]) -> Result<WordRequest, Usage> {
    let [name, values @ ..] = words else {
        return Err(usage("set KEY VALUE"));
    };
    let value = match values {
        [] => return Err(usage("set KEY VALUE")),
        [value] => value.value.clone(),
        several => {
            let texts: Vec<&str> = several.iter().map(|word| word.text.as_str()).collect();
            Word::plain(&texts.join(" ")).value
        }
    };
    Ok(WordRequest {
        op: "set",
        key: Some(key(name)?),
        value: Some(not_null(value)?),
        ..WordRequest::default()
    })
}

fn get(words: &[Word]) -> Result<WordRequest, Usage> {
    let (name, stale) = match words {
        [name] => (name, None),
        [name, option] if option_name(option) == "stale" => (name, Some(true)),
        _ => return Err(usage("get KEY [--stale], a key with blanks in quotes")),
    };
    Ok(WordRequest { op: "get", key: Some(key(name)?), stale, ..WordRequest::default() })
}

fn delete(words: &[Word]) -> Result<WordRequest, Usage> {
    let [name] = words else {
        return Err(usage("delete KEY, a key with blanks in quotes"));
    };
    Ok(WordRequest { op: "delete", key: Some(key(name)?), ..WordRequest::default() })
}

fn cas(words: &[Word]) -> Result<WordRequest, Usage> {
    let [name, expect, value] = words else {
        return Err(usage("cas KEY EXPECT VALUE, values with blanks in quotes"));
    };
    Ok(WordRequest {
        op: "cas",
        key: Some(key(name)?),
        expect: Some(expect.value.clone()),
        value: Some(not_null(value.value.clone())?),
        ..WordRequest::default()
    })
}

fn scan(words: &[Word]) -> Result<WordRequest, Usage> {
    let wrong = || usage("scan [PREFIX] [limit N] [after KEY], N from 1 to 1000");
    let is_option = |word: &Word| matches!(word.text.as_str(), "--limit" | "--after");
    let (prefix, mut options) = match words {
        [prefix, options @ ..] if !is_option(prefix) => (prefix.text.clone(), options),
        options => (String::new(), options),
    };
    let mut request = WordRequest { op: "scan", prefix: Some(prefix), ..WordRequest::default() };
    while let [option, argument, rest @ ..] = options {
        match option_name(option) {
            "limit" if request.limit.is_none() => {
                let limit = argument.text.parse().ok().filter(|limit| (1..=MAX_SCAN_LIMIT).contains(limit));
                request.limit = Some(limit.ok_or_else(wrong)?);
            }
            "after" if request.after.is_none() => request.after = Some(key(argument)?),
            _ => return Err(wrong()),
        }
        options = rest;
    }
    if options.is_empty() { Ok(request) } else { Err(wrong()) }
}

/// An option's name, with or without the two dashes.
fn option_name(word: &Word) -> &str {
    word.text.strip_prefix("--").unwrap_or(&word.text)
}

fn key(word: &Word) -> Result<String, Usage> {
    match word.text.len() {
        1..=MAX_KEY_BYTES => Ok(word.text.clone()),
        length => Err(Usage(format!("the key has {length} bytes, expected 1 to {MAX_KEY_BYTES}"))),
    }
}

fn not_null(value: Box<RawValue>) -> Result<Box<RawValue>, Usage> {
    if value.get() == "null" {
        return Err(Usage(
            "null cannot be stored, it stands for no value: use delete, or '\"null\"' for the string"
                .to_owned(),
        ));
    }
    Ok(value)
}

pub(super) fn usage(expected: &str) -> Usage {
    Usage(format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(command: Command) -> String {
        match command {
            Command::Ask(Request::Words(request)) => request.line(),
            Command::Ask(Request::Raw(line)) => format!("raw {line}"),
            Command::Ask(Request::Wish(wish)) => format!("{wish:?}"),
            other => panic!("{other:?} asks nothing"),
        }
    }

    /// The request of a typed line.
    fn typed(line: &str) -> Result<String, String> {
        let command = parse_line(line).map_err(|usage| usage.to_string())?;
        Ok(request(command.expect("a line that is not blank")))
    }

    /// The request of a call's arguments.
    fn called(arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        parse_arguments(&arguments).map(request).map_err(|usage| usage.to_string())
    }

    fn set_x(value: &str) -> Result<String, String> {
        Ok(format!(r#"{{"op":"set","key":"x","value":{value}}}"#))
    }

    #[test]
    fn each_word_makes_its_request() {
        for (line, expected) in [
            ("get x", r#"{"op":"get","key":"x"}"#),
            ("  GET   x  ", r#"{"op":"get","key":"x"}"#),
            ("get x --stale", r#"{"op":"get","key":"x","stale":true}"#),
            ("get stale stale", r#"{"op":"get","key":"stale","stale":true}"#),
            ("delete x", r#"{"op":"delete","key":"x"}"#),
            ("cas x 1 2", r#"{"op":"cas","key":"x","expect":1,"value":2}"#),
            ("cas x null {\"a\": 1}", r#"{"op":"cas","key":"x","expect":null,"value":{"a": 1}}"#),
            ("scan a", r#"{"op":"scan","prefix":"a"}"#),
            ("scan", r#"{"op":"scan","prefix":""}"#),
            ("scan limit", r#"{"op":"scan","prefix":"limit"}"#),
            ("scan --limit 3", r#"{"op":"scan","prefix":"","limit":3}"#),
            ("scan a after ab limit 1000", r#"{"op":"scan","prefix":"a","limit":1000,"after":"ab"}"#),
            ("status", r#"{"op":"status"}"#),
        ] {
            assert_eq!(typed(line), Ok(expected.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_value_is_json_or_else_a_string() {
        for (line, value) in [
            ("set x 1", "1"),
            ("set x 1.00", "1.00"),
            ("set x 1e400", "1e400"),
            ("set x -0", "-0"),
            ("set x true", "true"),
            ("set x hello", r#""hello""#),
            ("set x hello  world", r#""hello world""#),
            ("set x 1 2", r#""1 2""#),
            ("set x 01", r#""01""#),
            ("set x \"1\"", r#""1""#),
            ("set x '\"1\"'", r#""1""#),
            ("set x '1'", "1"),
            ("set x 'a  b'", r#""a  b""#),
            ("set x ''", r#""""#),
            ("set x \"a \\\" b\"", r#""a \" b""#),
            ("set x {\"a\": [1, 2]}", r#"{"a": [1, 2]}"#),
            ("set x {a:1}", r#""{a:1}""#),
            ("set x it's", r#""it's""#),
            ("set x say \"hi there\"", r#""say hi there""#),
        ] {
            assert_eq!(typed(line), set_x(value), "{line}");
        }
    }

    #[test]
    fn arguments_were_cut_by_the_shell_already() {
        assert_eq!(called(&["set", "x", "hello world"]), set_x(r#""hello world""#));
        assert_eq!(called(&["set", "x", "hello", "world"]), set_x(r#""hello world""#));
        assert_eq!(called(&["set", "x", "it's"]), set_x(r#""it's""#));
        assert_eq!(called(&["set", "x", "\"1\""]), set_x(r#""1""#));
        assert_eq!(called(&["set", "x", "[1,", "2]"]), set_x("[1, 2]"));
        assert_eq!(called(&["get", "a b"]), Ok(r#"{"op":"get","key":"a b"}"#.to_owned()));
        assert_eq!(called(&["get", "\"x\""]), Ok(r#"{"op":"get","key":"\"x\""}"#.to_owned()));
    }

    #[test]
    fn no_request_spans_two_lines() {
        assert_eq!(called(&["set", "x", "{\n\"a\":\r\n1}"]), set_x("{ \"a\":  1}"));
        assert_eq!(called(&["set", "x", "a\nb"]), set_x(r#""a\nb""#));
        // What is pasted may have line breaks, which would make two requests of it. The first of these lines
        // is one that `any_line_is_a_request_of_one_line_or_told` found.
        let swap = r#"{"op":"cas","key":"a","expect":{ },"value":"é"}"#;
        assert_eq!(typed("cas a {\n}\né"), Ok(swap.to_owned()));
        assert_eq!(typed("set x [1,\r\n2]"), set_x("[1,  2]"));
        assert_eq!(typed("set x \"a\\nb\""), set_x(r#""a\nb""#));
        let status = Ok("raw {\"op\": \"status\"}".to_owned());
        assert_eq!(called(&["{\"op\":\n\"status\"}\n"]), status);
        assert_eq!(typed("{\"op\":\n\"status\"}\n"), status);
    }

    #[test]
    fn keys_with_blanks_are_quoted_when_typed() {
        let expected = Ok(r#"{"op":"get","key":"a b"}"#.to_owned());
        assert_eq!(typed("get 'a b'"), expected);
        assert_eq!(typed("get \"a b\""), expected);
    }

    #[test]
    fn a_line_of_json_is_left_as_it_is() {
        let line = r#"{"op":"set","key":"x","value":null} trailing"#;
        assert_eq!(typed(line), Ok(format!("raw {line}")));
        assert_eq!(called(&[line]), Ok(format!("raw {line}")));
    }

    #[test]
    fn a_write_can_be_named_for_exactly_once() {
        let Ok(Some(Command::Ask(Request::Words(request)))) = parse_line("delete x") else { panic!() };
        assert!(request.is_write());
        assert_eq!(request.named("c", 7).line(), r#"{"op":"delete","key":"x","client":"c","seq":7}"#);
        let Ok(Some(Command::Ask(Request::Words(request)))) = parse_line("scan x") else { panic!() };
        assert!(!request.is_write());
    }

    #[test]
    fn what_makes_no_request_is_told_with_what_was_expected() {
        for (line, part) in [
            ("sett x 1", "\"sett\" is no command, expected set, get"),
            ("set", "set KEY VALUE"),
            ("set x", "set KEY VALUE"),
            ("set x null", "null cannot be stored"),
            ("cas x 1 null", "null cannot be stored"),
            ("cas x 1", "cas KEY EXPECT VALUE"),
            ("cas x 1 2 3", "cas KEY EXPECT VALUE"),
            ("get", "get KEY"),
            ("get x y", "get KEY"),
            ("get ''", "the key has 0 bytes"),
            ("delete x y", "delete KEY"),
            ("scan a b", "scan [PREFIX]"),
            ("scan a limit 0", "1 to 1000"),
            ("scan a limit 1001", "1 to 1000"),
            ("scan a limit", "scan [PREFIX]"),
            ("scan a limit 1 limit 2", "scan [PREFIX]"),
            ("status x", "expected status"),
            ("get 'x", "single quote is not closed"),
            ("get \"x", "double quote is not closed"),
            ("get 'x'y", "expected a blank after x"),
        ] {
            let usage = typed(line).expect_err(line);
            assert!(usage.contains(part), "{line}: {usage}");
            assert_eq!(usage.lines().count(), 1);
        }
        assert!(called(&[]).is_err());
        assert!(typed(&format!("get {}", "x".repeat(1024))).is_ok());
        assert!(typed(&format!("get {}", "x".repeat(1025))).is_err());
    }

    #[test]
    fn blank_lines_help_and_quit_ask_nothing() {
        assert!(matches!(parse_line(" \t"), Ok(None)));
        assert!(matches!(parse_line("help"), Ok(Some(Command::Help))));
        assert!(matches!(parse_line("exit"), Ok(Some(Command::Quit))));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_a_request_of_one_line_or_told(
            line in "(set|get|cas|scan|delete) [-'\"{}\\[\\]:,a-c0-9\\\\ \u{e9}\n]{0,30}",
        ) {
            if let Ok(Some(Command::Ask(Request::Words(request)))) = parse_line(&line) {
                let text = request.line();
                assert!(!text.contains('\n'), "{text:?}");
                let _: serde_json::Value = serde_json::from_str(&text).unwrap();
            }
        }
    }
}
