//! One JSON line a message: bounded reading of lines, what nodes say to each other in them, and what clients
//! do.
//!
//! Everything that comes in here is from outside: it is limited while it is read, checked after it is parsed,
//! and never makes the process panic. Nothing here owns a thread or a socket, decides anything of Raft, or
//! looks inside a command.

mod check;
pub mod client;
pub mod line;
pub mod peer;

/// How many bytes of a text from outside [`quote_external`] shows.
pub const MAX_QUOTED_BYTES: usize = 128;

/// A text from outside, made safe for a log line or an error message: in quotes, with control characters,
/// terminal escapes, invisible characters and bytes that are not UTF-8 written as escapes, and cut with `…`
/// where it would grow beyond [`MAX_QUOTED_BYTES`] (the quotes and the `…` not counted).
pub fn quote_external(external: impl AsRef<[u8]>) -> String {
    format!("\"{}\"", escape_external(external.as_ref()))
}

/// As [`quote_external`] without the quotes: for a foreign sentence, such as a parser's.
pub(crate) fn escape_external(external: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in external.utf8_chunks() {
        for character in chunk.valid().chars() {
            if !push_within_limit(&mut shown, character.escape_debug()) {
                return shown;
            }
        }
        for byte in chunk.invalid() {
            if !push_within_limit(&mut shown, format!("\\x{byte:02x}")) {
                return shown;
            }
        }
    }
    shown
}

/// Appends one escaped character, or `…` and false when it does not fit any more.
fn push_within_limit(shown: &mut String, escaped: impl ToString) -> bool {
    let escaped = escaped.to_string();
    let fits = shown.len() + escaped.len() <= MAX_QUOTED_BYTES;
    shown.push_str(if fits { &escaped } else { "…" });
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_shown_as_it_is() {
        assert_eq!(quote_external("set größe 1"), "\"set größe 1\"");
        assert_eq!(quote_external(b""), "\"\"");
    }

    #[test]
    fn what_could_forge_a_log_line_is_escaped() {
        assert_eq!(quote_external("a\nb\r\t\u{1b}[31m\0"), r#""a\nb\r\t\u{1b}[31m\0""#);
        assert_eq!(quote_external("say \"hi\" \\"), r#""say \"hi\" \\""#);
        assert_eq!(quote_external("\u{202e}\u{200b}\u{85}"), r#""\u{202e}\u{200b}\u{85}""#);
        assert_eq!(quote_external(b"\xff\xfea"), r#""\xff\xfea""#);
    }

    #[test]
    fn long_text_is_cut_at_a_whole_character() {
        assert_eq!(quote_external("x".repeat(128)), format!("\"{}\"", "x".repeat(128)));
        assert_eq!(quote_external("x".repeat(129)), format!("\"{}…\"", "x".repeat(128)));
        let cut = quote_external("\u{1b}".repeat(100_000));
        assert_eq!(cut, format!("\"{}…\"", "\\u{1b}".repeat(21)));
    }
}
