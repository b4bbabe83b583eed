//! The one place that knows JSON's grammar. A `Scanner` walks over one line of text, accepts what RFC 8259
//! allows and this project keeps, and hands out slices of that line. It allocates only for the names of
//! nested objects.
//!
//! Beyond the grammar it refuses what readers disagree about or choke on: member names that occur twice in an
//! object (after unescaping), surrogates without their other half, values that nest deeper than
//! [`MAX_DEPTH`], and line breaks between tokens. Numbers may be of any size, since nobody here computes with
//! them.

use super::{Problem, Text, shown};
use std::borrow::Cow;

/// How deep arrays and objects may nest in a value: `[]` is 1 deep. Bounds the recursion of all readers.
pub const MAX_DEPTH: usize = 64;

/// Checks that `text` is one JSON value on one line, as the module says. Takes time in proportion to the
/// text, times the logarithm of the largest object's member count.
pub fn check(text: &str) -> Result<(), Problem> {
    let mut scanner = Scanner::of_value(text);
    scanner.value()?;
    scanner.end()
}

/// A place in a line of JSON text. After a problem it stands where the problem is and is of no more use.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// How many arrays and objects may still be opened around this place.
    depth_left: usize,
    /// The names seen so far in the objects around this place, the innermost object's last.
    names: Vec<Name<'a>>,
}

struct Name<'a> {
    content: Cow<'a, str>,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Stands before the first byte of a value's text.
    pub fn of_value(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, depth_left: MAX_DEPTH, names: Vec::new() }
    }

    /// Stands before the first byte of a line that is one object with values in it. The line's own braces do
    /// not count towards the depth of the values.
    pub fn of_line(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, depth_left: MAX_DEPTH + 1, names: Vec::new() }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte that is no white space; none at the end of the line.
    pub fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    /// Takes one value, checked in full, and returns its text without the white space around it.
    pub fn value(&mut self) -> Result<&'a str, Problem> {
        let first = self.next_token();
        let start = self.at;
        match first {
            Some(b'"') => return self.string(),
            Some(b'{') => self.object()?,
            Some(b'[') => self.elements(|scanner| scanner.value().map(drop))?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            Some(_) | None => return self.expected("a value"),
        }
        Ok(self.since(start))
    }

    /// Takes the end of the line: anything but white space is a problem.
    pub fn end(&mut self) -> Result<(), Problem> {
        match self.next_token() {
            None => Ok(()),
            Some(_) => self.expected("the end of the line"),
        }
    }

    /// Takes an array; `element` takes each element.
    pub fn elements(
        &mut self,
        mut element: impl FnMut(&mut Scanner<'a>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.open(b'[', "an array")?;
        if self.next_token() != Some(b']') {
            loop {
                element(self)?;
                match self.next_token() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    Some(_) | None => return self.expected("`,` or `]`"),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// Takes an object; `member` gets each member's name and the offset of it, and takes the value. Does not
    /// look for names that occur twice: that is for whoever keeps the names.
    pub fn members(
        &mut self,
        mut member: impl FnMut(&mut Scanner<'a>, &'a str, usize) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        self.open(b'{', "an object")?;
        if self.next_token() != Some(b'}') {
            loop {
                if self.next_token() != Some(b'"') {
                    return self.expected("a member's name in double quotes");
                }
                let name_at = self.at;
                let name = self.string()?;
                if self.next_token() != Some(b':') {
                    return self.expected("`:`");
                }
                self.at += 1;
                member(self, name, name_at)?;
                match self.next_token() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    Some(_) | None => return self.expected("`,` or `}`"),
                }
            }
        }
        self.close();
        Ok(())
    }

    /// An object inside a value: its names are gathered and compared by sorting, so that an object of a
    /// hundred thousand members costs no hundred thousand squared.
    fn object(&mut self) -> Result<(), Problem> {
        let outer_names = self.names.len();
        self.members(|scanner, name, at| {
            let content = Text::of(name).expect("the scanner took a string").content;
            scanner.names.push(Name { content, at });
            scanner.value().map(drop)
        })?;
        let names = &mut self.names[outer_names..];
        names.sort_unstable_by(|one, other| (&one.content, one.at).cmp(&(&other.content, other.at)));
        let repeated = names.windows(2).filter(|pair| pair[0].content == pair[1].content);
        if let Some(pair) = repeated.min_by_key(|pair| pair[1].at) {
            let what = format!("the member `{}` occurs twice", shown(&pair[1].content));
            return Err(Problem { what, at: pair[1].at });
        }
        self.names.truncate(outer_names);
        Ok(())
    }

    /// Takes a string, quotes included.
    fn string(&mut self) -> Result<&'a str, Problem> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain =
                rest.iter().take_while(|&&byte| byte != b'"' && byte != b'\\' && byte >= 0x20).count();
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(self.since(start));
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return self.problem("a control character in a string must be escaped"),
                None => return self.problem("a string without an end"),
            }
        }
    }

    /// Takes an escape sequence; of a surrogate pair, both halves.
    fn escape(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => match self.hex_unit()? {
                0xD800..=0xDBFF => {
                    let low_half_follows = self.text.as_bytes()[self.at..].starts_with(b"\\u");
                    if low_half_follows {
                        self.at += 1;
                        if let 0xDC00..=0xDFFF = self.hex_unit()? {
                            return Ok(());
                        }
                    }
                    self.at = start;
                    self.problem("a high surrogate without its low half")
                }
                0xDC00..=0xDFFF => {
                    self.at = start;
                    self.problem("a low surrogate without its high half")
                }
                _ => Ok(()),
            },
            Some(_) | None => self.expected("an escape: one of \" \\ / b f n r t u"),
        }
    }

    /// Takes `u` and four hexadecimal digits.
    fn hex_unit(&mut self) -> Result<u32, Problem> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            match self.peek().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => unit = unit * 16 + digit,
                None => return self.expected("a hexadecimal digit"),
            }
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Problem> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(_) | None => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Takes one digit or more.
    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { self.expected("a digit") } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), Problem> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else {
            self.expected("a value")
        }
    }

    fn open(&mut self, bracket: u8, kind: &str) -> Result<(), Problem> {
        if self.next_token() != Some(bracket) {
            return self.expected(kind);
        }
        if self.depth_left == 0 {
            return self.problem(&format!("a value nests more than {MAX_DEPTH} deep"));
        }
        self.depth_left -= 1;
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.depth_left += 1;
        self.at += 1;
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    fn expected<T>(&self, wanted: &str) -> Result<T, Problem> {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(letter) => format!("`{}`", shown(letter.encode_utf8(&mut [0; 4]))),
            None => "the end of the line".to_owned(),
        };
        self.problem(&format!("expected {wanted}, found {found}"))
    }

    fn problem<T>(&self, what: &str) -> Result<T, Problem> {
        Err(Problem { what: what.to_owned(), at: self.at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    #[test]
    fn what_is_refused_is_named_with_its_place() {
        for (text, expected) in [
            ("", "expected a value, found the end of the line, at byte 1"),
            ("  ", "expected a value, found the end of the line, at byte 3"),
            ("nul", "expected a value, found `n`, at byte 1"),
            ("True", "expected a value, found `T`, at byte 1"),
            ("é", "expected a value, found `é`, at byte 1"),
            ("1 2", "expected the end of the line, found `2`, at byte 3"),
            ("01", "expected the end of the line, found `1`, at byte 2"),
            ("-", "expected a digit, found the end of the line, at byte 2"),
            ("+1", "expected a value, found `+`, at byte 1"),
            ("1.", "expected a digit, found the end of the line, at byte 3"),
            (".5", "expected a value, found `.`, at byte 1"),
            ("1e", "expected a digit, found the end of the line, at byte 3"),
            ("1e+x", "expected a digit, found `x`, at byte 4"),
            ("[1", "expected `,` or `]`, found the end of the line, at byte 3"),
            ("[1,]", "expected a value, found `]`, at byte 4"),
            ("[1\n]", "expected `,` or `]`, found `\\n`, at byte 3"),
            ("{\"a\":1,}", "expected a member's name in double quotes, found `}`, at byte 8"),
            ("{a:1}", "expected a member's name in double quotes, found `a`, at byte 2"),
            ("{\"a\" 1}", "expected `:`, found `1`, at byte 6"),
            ("{\"a\":1", "expected `,` or `}`, found the end of the line, at byte 7"),
            ("\"a", "a string without an end, at byte 3"),
            ("\"a\tb\"", "a control character in a string must be escaped, at byte 3"),
            (r#""\x""#, "expected an escape: one of \" \\ / b f n r t u, found `x`, at byte 3"),
            (r#""\u12g4""#, "expected a hexadecimal digit, found `g`, at byte 6"),
            (r#""ab\ud83d""#, "a high surrogate without its low half, at byte 4"),
            (r#""\ud83d\u0041""#, "a high surrogate without its low half, at byte 2"),
            (r#""\ud83d\n""#, "a high surrogate without its low half, at byte 2"),
            (r#""\ude00""#, "a low surrogate without its high half, at byte 2"),
            (r#"{"a":1,"b":2,"a":3}"#, "the member `a` occurs twice, at byte 14"),
            (r#"{"a":1,"\u0061":3}"#, "the member `a` occurs twice, at byte 8"),
            (r#"[{"a":{"b":1,"b":1}}]"#, "the member `b` occurs twice, at byte 14"),
            (r#"{"b":0,"a":1,"b":2,"a":3}"#, "the member `b` occurs twice, at byte 14"),
        ] {
            let problem = check(text).expect_err(text);
            assert_eq!(problem.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_json_allows_is_accepted() {
        for text in [
            "null",
            " true ",
            "\t[ ]\r",
            "{}",
            "-0",
            "-0.0e-0",
            "1E+400",
            r#""\ud83d\ude00 \" \\ \/ \b\f\n\r\t \u0000""#,
            r#"{"a":{"a":{"a":[]}},"b":{"a":1}}"#,
            r#"{"a":1,"A":1,"":1}"#,
            r#"[1,[2,{"x":null}],"é"]"#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let long = "9".repeat(100_000);
        assert_eq!(check(&format!("-{long}.{long}e{long}")), Ok(()));
    }

    #[test]
    fn values_nest_64_deep_and_no_deeper() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(check(&nested(63)), Ok(()));
            assert_eq!(check(&nested(64)), Ok(()));
            let problem = check(&nested(65)).unwrap_err();
            assert_eq!(problem.what, "a value nests more than 64 deep");
            assert_eq!(problem.at, 64 * open.len());
        }
        assert!(check(&"[".repeat(1 << 20)).is_err(), "and no recursion without an end");
    }

    #[test]
    fn depth_is_given_back_where_a_bracket_closes() {
        assert_eq!(check(&format!("[{}1]", "[[]],".repeat(1000))), Ok(()));
    }

    #[test]
    fn the_values_of_a_line_may_nest_as_deep_as_a_value_alone() {
        let value = format!("{}{}", "[".repeat(64), "]".repeat(64));
        let line = format!("{{\"a\": {value} , \"b\":[{value}]}}");
        let mut taken = Vec::new();
        let mut scanner = Scanner::of_line(&line);
        let outcome = scanner.members(|scanner, name, _| {
            taken.push((name, scanner.value()?));
            Ok(())
        });
        assert_eq!(taken, [("\"a\"", value.as_str())]);
        assert_eq!(outcome.unwrap_err().what, "a value nests more than 64 deep");
    }

    #[test]
    fn a_hundred_thousand_members_with_one_repeated_are_found_out() {
        let mut text = String::from("{");
        for number in 0..100_000 {
            text.push_str(&format!("\"k{number}\":0,"));
        }
        assert_eq!(check(&format!("{text}\"x\":0}}")), Ok(()));
        assert!(check(&format!("{text}\"k5\":0}}")).is_err());
    }

    /// Text made of the pieces that JSON is made of: far more of it is nearly JSON than of random bytes.
    pub(crate) fn nearly_json() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", "\"", ":", ",", "\\", "\\u", "d83d", "\\ude00", "0061", "a", "\"a\":",
            "\"b\":", "\"a\"", "0", "-", "1", "12", ".5", "e", "E+", "400", "true", "false", "null", " ",
            "\t", "é", "\u{1}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn accepts_no_text_that_serde_json_refuses(text in nearly_json()) {
            if check(&text).is_ok() {
                prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok());
            }
        }

        #[test]
        fn refuses_only_what_serde_json_refuses_or_the_contract_forbids(text in nearly_json()) {
            if let (Ok(_), Err(problem)) = (serde_json::from_str::<serde_json::Value>(&text), check(&text)) {
                prop_assert!(problem.what.ends_with("occurs twice"), "{}", problem);
            }
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            let _ = check(&text);
            let _ = check(&format!("\"{text}\""));
        }
    }
}
