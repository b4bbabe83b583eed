//! What a command's text says. The reader of a client's line and the store read with the same functions, and
//! the reader makes the text that goes into the log, so that nothing in the log can fail to apply.
//!
//! A command is one line, its members always in this order, `client` and `seq` only when the request had
//! them:
//!
//! ```text
//! {"op":"set","key":"x","value":1,"client":"c","seq":1}
//! {"op":"delete","key":"x"}
//! {"op":"cas","key":"x","expect":1,"value":2}
//! {"op":"noop"}
//! {"op":"configuration"}
//! ```
//!
//! The last two are a leader's own and come from no client.
//!
//! Keys, values and names stand in it byte for byte as the client wrote them.

use super::fields::{ClientSeq, Field, Fields};
use crate::json::{Problem, Text, shown};
use crate::types::Command;

/// A write to one key, borrowed from the line it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// What is to be done.
    pub operation: Operation<'a>,
    /// Names the write, so that it is done once however often it is sent.
    pub session: Option<ClientSeq<'a>>,
}

/// What a write does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Gives the key this value.
    Set {
        /// 1 to 1,024 bytes.
        key: Text<'a>,
        /// Checked JSON text, not `null`.
        value: &'a str,
    },
    /// Removes the key.
    Delete {
        /// 1 to 1,024 bytes.
        key: Text<'a>,
    },
    /// Gives the key this value if it now has that one.
    Cas {
        /// 1 to 1,024 bytes.
        key: Text<'a>,
        /// Checked JSON text; `null` when the key must not exist.
        expect: &'a str,
        /// Checked JSON text, not `null`.
        value: &'a str,
    },
}

/// What a command's text turns out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// A write.
    Write(Write<'a>),
    /// The entry that a leader appends when its term starts.
    Noop,
    /// The entry that carries a change of members.
    Configuration,
    /// An operation that this version does not know; a newer one may.
    Unknown {
        /// Its name, fit to be shown.
        op: String,
    },
    /// Not a command that any reader of clients' lines lets through.
    Invalid(Problem),
}

/// Reads a command's text.
pub fn read(text: &str) -> Reading<'_> {
    let mut fields = Fields::read(text);
    let op = fields.op();
    let op_name = op.as_ref().map_or("", |op| op.content.as_ref());
    let reading = match op_name {
        "noop" => {
            fields.only("noop", &[]);
            Some(Reading::Noop)
        }
        "configuration" => {
            fields.only("configuration", &[]);
            Some(Reading::Configuration)
        }
        _ if Write::is_op(op_name) => Write::read(op_name, &mut fields).map(Reading::Write),
        _ => Some(Reading::Unknown { op: shown(op_name) }),
    };
    match (reading, fields.problem()) {
        (Some(reading), None) => reading,
        (_, Some(problem)) => Reading::Invalid(problem),
        (None, None) => unreachable!("a write that can not be read has a problem noted: {}", shown(text)),
    }
}

impl<'a> Write<'a> {
    /// Whether an op of this name is a write.
    pub fn is_op(op: &str) -> bool {
        matches!(op, "set" | "delete" | "cas")
    }

    /// Reads a write of this name. None when the line does not hold it; the problem is then noted in
    /// `fields`. When there is a write and a problem too, the problem counts.
    pub fn read(op: &str, fields: &mut Fields<'a>) -> Option<Write<'a>> {
        let operation = match op {
            "set" => {
                fields.only(op, &[Field::Key, Field::Value]);
                Operation::Set { key: fields.key()?, value: fields.value()? }
            }
            "delete" => {
                fields.only(op, &[Field::Key]);
                Operation::Delete { key: fields.key()? }
            }
            "cas" => {
                fields.only(op, &[Field::Key, Field::Expect, Field::Value]);
                let key = fields.key()?;
                let expect = fields.needed(Field::Expect)?.text;
                Operation::Cas { key, expect, value: fields.value()? }
            }
            _ => {
                fields.note(0, format!("`{}` is not a write", shown(op)));
                return None;
            }
        };
        Some(Write { operation, session: fields.client_seq() })
    }

    /// The command that says this, for the log.
    pub fn to_command(&self) -> Command {
        Command::from_json(self.text()).expect("a write's text is one JSON object on one line")
    }

    fn text(&self) -> String {
        let (op, key, expect, value) = match &self.operation {
            Operation::Set { key, value } => ("set", key, None, Some(*value)),
            Operation::Delete { key } => ("delete", key, None, None),
            Operation::Cas { key, expect, value } => ("cas", key, Some(*expect), Some(*value)),
        };
        let client = self.session.as_ref().map(|session| session.client.json);
        let seq = self.session.as_ref().map(|session| session.seq.to_string());
        let members = [
            ("key", Some(key.json)),
            ("expect", expect),
            ("value", value),
            ("client", client),
            ("seq", seq.as_deref()),
        ];
        let given = members.into_iter().filter_map(|(name, json)| Some((name, json?)));
        // One allocation of the right size: of each member, `,"":` goes beside its name and its text.
        let size: usize = given.clone().map(|(name, json)| 4 + name.len() + json.len()).sum();
        let mut text = String::with_capacity(9 + op.len() + size);
        text.extend(["{\"op\":\"", op, "\""]);
        for (name, json) in given {
            text.extend([",\"", name, "\":", json]);
        }
        text.push('}');
        debug_assert_eq!(text.len(), text.capacity());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> Write<'_> {
        match read(text) {
            Reading::Write(write) => write,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_text_made_from_a_write_reads_back_as_that_write_and_keeps_every_byte() {
        for text in [
            r#"{"op":"set","key":"x","value":1}"#,
            r#"{"op":"set","key":"\u0061\/","value":{"b": [1.50e+3, "\u00e9"], "a":-0}}"#,
            r#"{"op":"delete","key":"é"}"#,
            r#"{"op":"cas","key":"x","expect":null,"value":false}"#,
            r#"{"op":"cas","key":"x","expect":{"a" :1},"value":2,"client":"\u0063","seq":18446744073709551}"#,
            r#"{"op":"delete","key":"x","client":"c","seq":1}"#,
        ] {
            assert_eq!(write(text).to_command().text(), text);
        }
    }

    #[test]
    fn members_in_any_order_make_the_same_text() {
        let sent = r#" { "seq":2, "value" : [ ] ,"client":"c", "key":"x","id":9, "op":"set"} "#;
        let text = r#"{"op":"set","key":"x","value":[ ],"client":"c","seq":2}"#;
        assert_eq!(write(sent).to_command().text(), text);
    }

    #[test]
    fn an_op_of_another_version_is_unknown_and_not_invalid() {
        let unknown = Reading::Unknown { op: "rename".to_owned() };
        assert_eq!(read(r#"{"op":"rename","from":"a","to":"b"}"#), unknown);
        assert_eq!(read(r#"{"op":"get","key":"a"}"#), Reading::Unknown { op: "get".to_owned() });
    }

    #[test]
    fn a_leaders_own_commands_are_read_as_such() {
        assert_eq!(Command::noop().text(), r#"{"op":"noop"}"#);
        assert_eq!(read(Command::noop().text()), Reading::Noop);
        assert_eq!(Command::configuration().text(), r#"{"op":"configuration"}"#);
        assert_eq!(read(Command::configuration().text()), Reading::Configuration);
    }

    #[test]
    fn what_no_reader_lets_through_is_invalid() {
        for (text, problem) in [
            (r#"{"op":"set","key":"x"}"#, "`value` is missing, at byte 22"),
            (r#"{"op":"set","key":"","value":1}"#, "`key` must not be empty, at byte 19"),
            (r#"{"key":"x"}"#, "`op` is missing, at byte 11"),
            (r#"{"op":1}"#, "`op` must be a string, not `1`, at byte 7"),
            ("[]", "expected an object, found `[`, at byte 1"),
            (
                r#"{"op":"noop","key":"x"}"#,
                "`noop` does not take `key`, only `id`, `op`, `client`, `seq`, at byte 20",
            ),
        ] {
            match read(text) {
                Reading::Invalid(found) => assert_eq!(found.to_string(), problem),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
