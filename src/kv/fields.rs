//! The members of one line: a client's request, or a command in the log. `Fields` finds each member's text in
//! one pass, without allocating, and keeps the first thing that is wrong with the line.
//!
//! Reading goes on after a problem where it can, so that a bad request still gets its `id` back. The getters
//! answer with an `Option`: none means that the member is missing or bad. A needed member that is none has
//! been noted as a problem, so that whoever has read all fields asks once, at the end, for
//! [`Fields::problem`].

use crate::json::{Problem, Scanner, Text, shown};

/// How long a key, a prefix or an `after` may be, in bytes after unescaping.
pub const MAX_KEY_BYTES: usize = 1024;

/// How long a client's name may be, in bytes after unescaping.
pub const MAX_CLIENT_BYTES: usize = 128;

/// The names that members have, in requests and in commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the member of the same name in the table of client lines")]
pub enum Field {
    Id,
    Op,
    Key,
    Value,
    Expect,
    Prefix,
    After,
    Limit,
    Stale,
    Client,
    Seq,
}

impl Field {
    /// In the order of their numbers, which are their places in [`Fields`].
    const ALL: [Field; 11] = [
        Field::Id,
        Field::Op,
        Field::Key,
        Field::Value,
        Field::Expect,
        Field::Prefix,
        Field::After,
        Field::Limit,
        Field::Stale,
        Field::Client,
        Field::Seq,
    ];

    /// What every request may carry, whatever its op.
    const COMMON: [Field; 4] = [Field::Id, Field::Op, Field::Client, Field::Seq];

    /// The member's name on the line.
    pub fn name(self) -> &'static str {
        match self {
            Field::Id => "id",
            Field::Op => "op",
            Field::Key => "key",
            Field::Value => "value",
            Field::Expect => "expect",
            Field::Prefix => "prefix",
            Field::After => "after",
            Field::Limit => "limit",
            Field::Stale => "stale",
            Field::Client => "client",
            Field::Seq => "seq",
        }
    }

    fn of_name(name: &str) -> Option<Field> {
        match name {
            "id" => Some(Field::Id),
            "op" => Some(Field::Op),
            "key" => Some(Field::Key),
            "value" => Some(Field::Value),
            "expect" => Some(Field::Expect),
            "prefix" => Some(Field::Prefix),
            "after" => Some(Field::After),
            "limit" => Some(Field::Limit),
            "stale" => Some(Field::Stale),
            "client" => Some(Field::Client),
            "seq" => Some(Field::Seq),
            _ => None,
        }
    }
}

/// One member's value: checked text, and the offset of its first byte on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The value's JSON text as it stands on the line.
    pub text: &'a str,
    /// The offset of its first byte, from 0.
    pub at: usize,
}

/// The session that a write belongs to: which client, and its how-manieth write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSeq<'a> {
    /// The client's name, 1 to 128 bytes.
    pub client: Text<'a>,
    /// 1 or more.
    pub seq: u64,
}

/// The members of one line, and the first thing that is wrong with it.
pub struct Fields<'a> {
    line_bytes: usize,
    members: [Option<Member<'a>>; Field::ALL.len()],
    /// The first member with a name that no op takes: its name as written, and where.
    unknown: Option<Member<'a>>,
    problem: Option<Problem>,
}

impl<'a> Fields<'a> {
    /// Reads a line: one JSON object, white space around it allowed.
    pub fn read(line: &'a str) -> Fields<'a> {
        let mut fields = Fields {
            line_bytes: line.len(),
            members: [None; Field::ALL.len()],
            unknown: None,
            problem: None,
        };
        let mut scanner = Scanner::of_line(line);
        if scanner.next_token().is_none() {
            fields.note(0, "an empty line, not a JSON object".to_owned());
            return fields;
        }
        let members = scanner.members(|scanner, name, name_at| {
            let text = scanner.value()?;
            let value = Member { text, at: scanner.at() - text.len() };
            fields.place(Member { text: name, at: name_at }, value);
            Ok(())
        });
        if let Err(problem) = members.and_then(|()| scanner.end()) {
            fields.problem.get_or_insert(problem);
        }
        fields
    }

    fn place(&mut self, name: Member<'a>, value: Member<'a>) {
        let Some(field) = Text::of(name.text).and_then(|text| Field::of_name(&text.content)) else {
            self.unknown.get_or_insert(name);
            return;
        };
        let place = &mut self.members[field as usize];
        if place.is_none() {
            *place = Some(value);
        } else {
            self.note(name.at, format!("the member `{}` occurs twice", field.name()));
        }
    }

    /// The first thing that is wrong with the line, as far as it has been read.
    pub fn problem(self) -> Option<Problem> {
        self.problem
    }

    /// Notes that something is wrong at this offset, unless something was before.
    pub fn note(&mut self, at: usize, what: String) {
        self.problem.get_or_insert(Problem { what, at });
    }

    /// The member, when the line has it.
    pub fn get(&self, field: Field) -> Option<Member<'a>> {
        self.members[field as usize]
    }

    /// The member, which the line must have.
    pub fn needed(&mut self, field: Field) -> Option<Member<'a>> {
        let member = self.get(field);
        if member.is_none() {
            // The place is where the object ends: that is where the member is wanting.
            self.note(self.line_bytes.saturating_sub(1), format!("`{}` is missing", field.name()));
        }
        member
    }

    /// The name of what is asked for.
    pub fn op(&mut self) -> Option<Text<'a>> {
        let member = self.needed(Field::Op)?;
        self.string(Field::Op, member)
    }

    /// Notes a problem when the line has a member that `op` does not take. `takes` are the op's own fields.
    pub fn only(&mut self, op: &str, takes: &[Field]) {
        let allowed = |field: Field| takes.contains(&field) || Field::COMMON.contains(&field);
        let stranger = Field::ALL.into_iter().find(|&field| self.get(field).is_some() && !allowed(field));
        let (name, at) = match (self.unknown, stranger) {
            (Some(name), _) => {
                (Text::of(name.text).map_or_else(String::new, |text| shown(&text.content)), name.at)
            }
            (None, Some(field)) => (field.name().to_owned(), self.get(field).map_or(0, |member| member.at)),
            (None, None) => return,
        };
        let names: Vec<String> =
            takes.iter().chain(&Field::COMMON).map(|field| format!("`{}`", field.name())).collect();
        self.note(at, format!("`{op}` does not take `{name}`, only {}", names.join(", ")));
    }

    /// The key that the line must name: a string of 1 to 1,024 bytes.
    pub fn key(&mut self) -> Option<Text<'a>> {
        let member = self.needed(Field::Key)?;
        self.named_string(Field::Key, member, 1, MAX_KEY_BYTES)
    }

    /// The value that the line must bring: anything but `null`, which stands for what does not exist.
    pub fn value(&mut self) -> Option<&'a str> {
        let member = self.needed(Field::Value)?;
        if member.text == "null" {
            self.note(member.at, "`value` must not be null; to remove a key there is `delete`".to_owned());
            return None;
        }
        Some(member.text)
    }

    /// The prefix that the line must name: a string of up to 1,024 bytes.
    pub fn prefix(&mut self) -> Option<Text<'a>> {
        let member = self.needed(Field::Prefix)?;
        self.named_string(Field::Prefix, member, 0, MAX_KEY_BYTES)
    }

    /// The key to go on after, when the line names one.
    pub fn after(&mut self) -> Option<Text<'a>> {
        let member = self.get(Field::After)?;
        self.named_string(Field::After, member, 1, MAX_KEY_BYTES)
    }

    /// An integer from `least` to `most`, when the line has the field.
    pub fn integer(&mut self, field: Field, least: u64, most: u64) -> Option<u64> {
        let member = self.get(field)?;
        // Rust's integers are written as JSON's, but for a leading `+`, which no checked text has.
        let number = member.text.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let found = shown(member.text);
            let name = field.name();
            self.note(
                member.at,
                format!("`{name}` must be an integer from {least} to {most}, not `{found}`"),
            );
        }
        number
    }

    /// Whether the line has `field` and it is `true`.
    pub fn flag(&mut self, field: Field) -> bool {
        match self.get(field) {
            None => false,
            Some(Member { text: "true", .. }) => true,
            Some(Member { text: "false", .. }) => false,
            Some(Member { text, at }) => {
                self.note(at, format!("`{}` must be true or false, not `{}`", field.name(), shown(text)));
                false
            }
        }
    }

    /// The session, when the line names one: `client` and `seq` come together or not at all.
    pub fn client_seq(&mut self) -> Option<ClientSeq<'a>> {
        let (given, partner) = match (self.get(Field::Client), self.get(Field::Seq)) {
            (None, None) => return None,
            (Some(client), Some(_)) => {
                let client = self.named_string(Field::Client, client, 1, MAX_CLIENT_BYTES)?;
                let seq = self.integer(Field::Seq, 1, u64::MAX)?;
                return Some(ClientSeq { client, seq });
            }
            (Some(client), None) => (client, Field::Seq),
            (None, Some(seq)) => (seq, Field::Client),
        };
        let name = partner.name();
        self.note(given.at, format!("`{name}` is missing: `client` and `seq` come together or not at all"));
        None
    }

    fn string(&mut self, field: Field, member: Member<'a>) -> Option<Text<'a>> {
        let text = Text::of(member.text);
        if text.is_none() {
            let name = field.name();
            self.note(member.at, format!("`{name}` must be a string, not `{}`", shown(member.text)));
        }
        text
    }

    fn named_string(
        &mut self,
        field: Field,
        member: Member<'a>,
        least_bytes: usize,
        most_bytes: usize,
    ) -> Option<Text<'a>> {
        let text = self.string(field, member)?;
        let name = field.name();
        let size_bytes = text.content.len();
        if size_bytes < least_bytes {
            self.note(member.at, format!("`{name}` must not be empty"));
            return None;
        }
        if size_bytes > most_bytes {
            self.note(member.at, format!("`{name}` has {size_bytes} bytes and may have {most_bytes}"));
            return None;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_its_own_place_and_is_found_by_its_name() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, place);
            assert_eq!(Field::of_name(field.name()), Some(field));
        }
        assert_eq!(Field::of_name("Key"), None);
    }

    #[test]
    fn members_are_found_with_their_places() {
        let fields = Fields::read(r#" { "key" : "a" ,"\u0076alue": [1, 2] } "#);
        assert_eq!(fields.get(Field::Key), Some(Member { text: "\"a\"", at: 11 }));
        assert_eq!(fields.get(Field::Value), Some(Member { text: "[1, 2]", at: 30 }));
        assert_eq!(fields.get(Field::Op), None);
        assert_eq!(fields.problem(), None);
    }

    #[test]
    fn the_first_problem_is_the_one_that_counts() {
        let mut fields = Fields::read(r#"{"key":1,"key":2,"limit":0}"#);
        assert_eq!(fields.key(), None);
        assert_eq!(fields.integer(Field::Limit, 1, 1000), None);
        assert_eq!(fields.problem().unwrap().to_string(), "the member `key` occurs twice, at byte 10");
    }

    #[test]
    fn members_before_a_broken_place_are_known() {
        let fields = Fields::read(r#"{"id":7,"key":oops}"#);
        assert_eq!(fields.get(Field::Id).unwrap().text, "7");
        assert_eq!(fields.problem().unwrap().to_string(), "expected a value, found `o`, at byte 15");
    }
}
