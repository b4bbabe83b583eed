//! JSON text that stays text: checking it, comparing it, quoting it. What a client sends is looked at once
//! and then carried, stored and answered byte for byte; nothing here builds a document model to render it
//! again.
//!
//! | file | what it does |
//! |---|---|
//! | `scan.rs` | the one place that knows JSON's grammar: [`Scanner`], [`check`] |
//! | `equal.rs` | whether two texts mean the same: [`equal()`] |
//! | `decimal.rs` | numbers as decimals of any size, never through floating point |
//!
//! "Checked text" below means text that [`check`] or a [`Scanner`] has accepted.

mod decimal;
mod equal;
mod scan;

pub use equal::equal;
pub use scan::{MAX_DEPTH, Scanner, check};

use std::borrow::Cow;
use std::fmt;

/// How many bytes of somebody else's text a message quotes.
const SHOWN_BYTES: usize = 128;

/// What is wrong with a text, and where. Shown as `a string without an end, at byte 12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in words, without the place.
    pub what: String,
    /// The offset of the byte where it was noticed, from 0. Shown counted from 1, as `cut -b` counts.
    pub at: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {}", self.what, self.at + 1)
    }
}

/// A JSON string in both its forms: the text as it was written, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<'a> {
    /// With its quotes and escapes, byte for byte as written.
    pub json: &'a str,
    /// After unescaping; borrowed when there was nothing to unescape.
    pub content: Cow<'a, str>,
}

impl<'a> Text<'a> {
    /// Reads a checked text; none when it is no string.
    pub fn of(json: &'a str) -> Option<Text<'a>> {
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        let content = if inner.contains('\\') {
            Cow::Owned(serde_json::from_str(json).expect("a checked string can be unescaped"))
        } else {
            Cow::Borrowed(inner)
        };
        Some(Text { json, content })
    }
}

/// Appends `text` as a JSON string, with quotes and as few escapes as JSON asks for.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("memory takes every write");
}

/// How many bytes [`push_string`] appends for `text`.
pub fn string_size_bytes(text: &str) -> usize {
    let escapes: usize = text
        .bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
            0x00..0x20 => 5,
            _ => 0,
        })
        .sum();
    text.len() + escapes + 2
}

/// Somebody else's text as a message may quote it: control characters and the like escaped, so that it moves
/// no cursor and forges no log line, and cut to 128 bytes with an ellipsis.
pub fn shown(text: &str) -> String {
    const ELLIPSIS: &str = "…";
    let mut shown = String::new();
    let mut room_for_ellipsis = 0;
    for letter in text.chars() {
        match letter {
            '"' | '\'' => shown.push(letter),
            _ => shown.extend(letter.escape_debug()),
        }
        if shown.len() > SHOWN_BYTES {
            shown.truncate(room_for_ellipsis);
            shown.push_str(ELLIPSIS);
            break;
        }
        if shown.len() + ELLIPSIS.len() <= SHOWN_BYTES {
            room_for_ellipsis = shown.len();
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shown_text_moves_no_cursor_and_forges_no_line() {
        assert_eq!(shown("a\u{1b}[31m\nb\u{202e}\\"), "a\\u{1b}[31m\\nb\\u{202e}\\\\");
        assert_eq!(shown("it's \"x\" and é"), "it's \"x\" and é");
    }

    #[test]
    fn shown_text_is_cut_at_128_bytes() {
        assert_eq!(shown(&"a".repeat(128)), "a".repeat(128));
        assert_eq!(shown(&"a".repeat(129)), format!("{}…", "a".repeat(125)));
        let cut = shown(&"é".repeat(65));
        assert_eq!(cut, format!("{}…", "é".repeat(62)));
        assert!(shown(&"\u{7f}".repeat(1000)).len() <= 128);
    }

    #[test]
    fn a_text_that_is_no_string_is_none() {
        for json in ["1", "null", "[\"a\"]", "{}"] {
            assert_eq!(Text::of(json), None, "{json}");
        }
    }

    #[test]
    fn a_string_without_escapes_is_borrowed() {
        assert!(matches!(Text::of("\"plain é\"").unwrap().content, Cow::Borrowed("plain é")));
        assert_eq!(Text::of(r#""\u0061\n\ud83d\ude00""#).unwrap().content, "a\n😀");
    }

    proptest! {
        #[test]
        fn pushed_strings_read_back_and_have_the_size_foretold(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert_eq!(out.len(), string_size_bytes(&text));
            let json = String::from_utf8(out).unwrap();
            prop_assert_eq!(check(&json), Ok(()));
            prop_assert_eq!(Text::of(&json).unwrap().content, text);
        }

        #[test]
        fn shown_text_stays_short(text in any::<String>()) {
            prop_assert!(shown(&text).len() <= SHOWN_BYTES);
            prop_assert!(!shown(&text).contains(char::is_control));
        }
    }
}
