//! One record, one line: how a line of the log is written and how it is checked when it is read again.
//!
//! ```text
//! {"crc":"07a5d2e1","len":85,"batch":7,"left":2,"hard_state":{"term":3,"voted_for":1}}\n
//!  ^ checksum of    ^ bytes   ^ which    ^ records of   ^ exactly one of: entry, truncate_from,
//!    all that         of the    batch,     this batch     hard_state, segment
//!    follows it,      line,     from 1     still to come
//!    from `,"len"`    newline
//!    to the newline   included
//! ```
//!
//! A person checks a line with `sed -n 3p FILE | tail -c +18 | crc32 /dev/stdin`. The part up to the last
//! comma before the content is the record's head. It has one spelling only, so that of a head that was cut
//! short it can be said whether these are the first bytes of one. A record holds no other newline and no zero
//! byte.

use crate::raft::HardState;
use crate::types::{Entry, Index};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::Write;

/// Where the bytes begin that the checksum covers: after `{"crc":"xxxxxxxx"`.
const CHECKED_FROM: usize = 17;

/// What a line says.
#[derive(Debug)]
pub(super) enum Content {
    /// An entry was appended.
    Entry(Entry),
    /// All entries from here on are void.
    TruncateFrom(Index),
    /// Term and vote.
    HardState(HardState),
    /// The first line of a segment. It is kept as text until its format version is known.
    Segment(Box<RawValue>),
}

/// The first part of a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub crc: u32,
    /// Bytes of the whole line, its newline included.
    pub len: usize,
    /// The batch that the record belongs to.
    pub batch: u64,
    /// How many records of this batch follow.
    pub left: u64,
    /// Where the content begins in the line.
    content_at: usize,
}

/// Why there is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHead {
    /// The bytes end too early, but as far as they go they are a head's.
    Cut,
    /// No head begins like this.
    Malformed,
}

/// A place in a file where something else should stand.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    /// The byte at which the line begins, or should.
    pub at: usize,
    /// What should stand there, and what does.
    pub expected: String,
}

impl Flaw {
    pub fn new(at: usize, expected: impl Into<String>) -> Flaw {
        Flaw { at, expected: expected.into() }
    }
}

/// An intact record.
#[derive(Debug)]
pub(super) struct Record {
    pub head: Head,
    pub content: Content,
}

/// Reads the head of the record that these bytes begin with.
pub(super) fn read_head(bytes: &[u8]) -> Result<Head, NoHead> {
    let mut cursor = Cursor { bytes, at: 0 };
    cursor.literal(b"{\"crc\":\"")?;
    let crc = cursor.checksum()?;
    cursor.literal(b"\",\"len\":")?;
    let len = cursor.number()?;
    cursor.literal(b",\"batch\":")?;
    let batch = cursor.number()?;
    cursor.literal(b",\"left\":")?;
    let left = cursor.number()?;
    cursor.literal(b",")?;
    let len = usize::try_from(len).map_err(|_| NoHead::Malformed)?;
    // A line that ends within its own head is none.
    if len <= cursor.at {
        Err(NoHead::Malformed)
    } else {
        Ok(Head { crc, len, batch, left, content_at: cursor.at })
    }
}

/// Reads the record that begins at this byte of a file, and checks it.
pub(super) fn read_record(file: &[u8], at: usize) -> Result<Record, Flaw> {
    let bytes = file.get(at..).unwrap_or_default();
    if bytes.is_empty() {
        return Err(Flaw::new(at, "another record, found the end of the file"));
    }
    let head = read_head(bytes).map_err(|_| {
        Flaw::new(
            at,
            "a record that begins with {\"crc\":…,\"len\":…,\"batch\":…,\"left\":…, found something else",
        )
    })?;
    let Some(line) = bytes.get(..head.len) else {
        let expected =
            format!("a record of {} bytes, found only {} up to the end of the file", head.len, bytes.len());
        return Err(Flaw::new(at, expected));
    };
    check_line(line, head.crc).map_err(|expected| Flaw::new(at, expected))?;
    match read_content(&line[head.content_at..]) {
        Some(content) => Ok(Record { head, content }),
        None => Err(Flaw::new(at, "one of entry, truncate_from, hard_state, segment, found something else")),
    }
}

fn read_content(bytes: &[u8]) -> Option<Content> {
    let member = bytes.strip_suffix(b"}\n")?;
    if let Some(value) = member.strip_prefix(b"\"entry\":") {
        serde_json::from_slice(value).ok().map(Content::Entry)
    } else if let Some(value) = member.strip_prefix(b"\"truncate_from\":") {
        serde_json::from_slice(value).ok().map(Content::TruncateFrom)
    } else if let Some(value) = member.strip_prefix(b"\"hard_state\":") {
        serde_json::from_slice(value).ok().map(Content::HardState)
    } else if let Some(value) = member.strip_prefix(b"\"segment\":") {
        serde_json::from_slice(value).ok().map(Content::Segment)
    } else {
        None
    }
}

/// The checksum that a line of `{"crc":"xxxxxxxx",…` must carry.
fn checksum(line: &[u8]) -> u32 {
    crc32fast::hash(line.get(CHECKED_FROM..).unwrap_or_default())
}

/// Checks a whole line against the checksum that it carries; the error is what was expected.
fn check_line(line: &[u8], found: u32) -> Result<(), String> {
    let counted = checksum(line);
    if counted == found {
        Ok(())
    } else {
        Err(format!("checksum {counted:08x} for the bytes that follow it, found {found:08x}"))
    }
}

/// Makes one line of a JSON object, with the checksum as its first member. `object` must have members.
pub(super) fn write_checked_object(object: &[u8]) -> Vec<u8> {
    let mut line = b"{\"crc\":\"00000000\",".to_vec();
    line.extend_from_slice(object.get(1..).unwrap_or_default());
    line.push(b'\n');
    write_checksum(&mut line);
    line
}

/// The members of a checked object that follow its checksum, up to the end of the line, when it is intact;
/// otherwise, what was expected.
pub(super) fn checked_members(line: &[u8]) -> Result<&[u8], String> {
    let mut cursor = Cursor { bytes: line, at: 0 };
    let crc = cursor
        .literal(b"{\"crc\":\"")
        .and_then(|()| cursor.checksum())
        .and_then(|crc| cursor.literal(b"\",").map(|()| crc))
        .map_err(|_| "a line that begins with {\"crc\":…, found something else".to_string())?;
    check_line(line, crc)?;
    Ok(line.get(cursor.at..).unwrap_or_default())
}

/// The inverse of [`write_checked_object`]: the object without its checksum; the error is what was expected.
pub(super) fn read_checked_object(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut object = vec![b'{'];
    object.extend_from_slice(checked_members(line)?);
    Ok(object)
}

fn write_checksum(line: &mut [u8]) {
    let digits = format!("{:08x}", checksum(line));
    line[CHECKED_FROM - 9..CHECKED_FROM - 1].copy_from_slice(digits.as_bytes());
}

/// Collects the records of one batch as the bytes to be written. Its buffers are used again for each batch.
#[derive(Debug, Default)]
pub(super) struct BatchWriter {
    bytes: Vec<u8>,
    /// What follows the member `len` in the line at hand: `len` can only be written once this is there.
    rest: Vec<u8>,
}

impl BatchWriter {
    /// The lines so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets the lines, keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a record that was read, as part of another batch.
    pub fn push_content(&mut self, batch: u64, left: usize, content: &Content) {
        match content {
            Content::Entry(entry) => self.push(batch, left, "entry", entry),
            Content::TruncateFrom(from) => self.push(batch, left, "truncate_from", from),
            Content::HardState(hard_state) => self.push(batch, left, "hard_state", hard_state),
            Content::Segment(header) => self.push(batch, left, "segment", header),
        }
    }

    /// Adds a record with this member as its content. `left` counts the records that follow in its batch.
    pub fn push(&mut self, batch: u64, left: usize, member: &str, value: &impl Serialize) {
        self.rest.clear();
        write!(self.rest, ",\"batch\":{batch},\"left\":{left},\"{member}\":")
            .expect("memory takes any bytes");
        serde_json::to_writer(&mut self.rest, value).expect("a record can always be written as JSON");
        self.rest.extend_from_slice(b"}\n");

        let start = self.bytes.len();
        self.bytes.extend_from_slice(b"{\"crc\":\"00000000\",\"len\":");
        let len = with_own_digits(self.bytes.len() - start + self.rest.len());
        write!(self.bytes, "{len}").expect("memory takes any bytes");
        self.bytes.append(&mut self.rest);
        write_checksum(&mut self.bytes[start..]);
        debug_assert_eq!(self.bytes.len() - start, len, "len is the line's own");
    }

    /// Adds so many newlines behind the records.
    pub fn fill(&mut self, bytes: u64) {
        let end = self.bytes.len() as u64 + bytes;
        self.bytes.resize(usize::try_from(end).expect("memory has so many bytes"), b'\n');
    }
}

/// The number that is `others` plus the count of its own decimal digits.
fn with_own_digits(others: usize) -> usize {
    let mut len = others + 1;
    while others + len.to_string().len() > len {
        len += 1;
    }
    len
}

/// Reads a head piece by piece.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn literal(&mut self, literal: &[u8]) -> Result<(), NoHead> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if rest.starts_with(literal) {
            self.at += literal.len();
            Ok(())
        } else if literal.starts_with(rest) {
            Err(NoHead::Cut)
        } else {
            Err(NoHead::Malformed)
        }
    }

    fn checksum(&mut self) -> Result<u32, NoHead> {
        let mut crc = 0;
        for _ in 0..8 {
            let digit = match self.bytes.get(self.at) {
                Some(digit @ b'0'..=b'9') => digit - b'0',
                Some(digit @ b'a'..=b'f') => digit - b'a' + 10,
                Some(_) => return Err(NoHead::Malformed),
                None => return Err(NoHead::Cut),
            };
            crc = crc << 4 | u32::from(digit);
            self.at += 1;
        }
        Ok(crc)
    }

    /// A decimal number, up to the first byte that is no digit.
    fn number(&mut self) -> Result<u64, NoHead> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == rest.len() {
            return if digits <= 20 { Err(NoHead::Cut) } else { Err(NoHead::Malformed) };
        }
        let text = str::from_utf8(&rest[..digits]).map_err(|_| NoHead::Malformed)?;
        self.at += digits;
        text.parse().map_err(|_| NoHead::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    fn hard_state_line() -> Vec<u8> {
        let mut writer = BatchWriter::default();
        writer.push(7, 2, "hard_state", &HardState { term: Term(3), voted_for: None });
        writer.bytes().to_vec()
    }

    #[test]
    fn a_record_is_one_line_of_json_with_its_checksum_first() {
        let line = String::from_utf8(hard_state_line()).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"crc":"3fba10ce","len":88,"batch":7,"left":2,"#,
                r#""hard_state":{"term":3,"voted_for":null}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn the_length_counts_its_own_digits() {
        for (others, len) in
            [(7, 8), (8, 9), (9, 11), (97, 99), (98, 101), (99, 102), (996, 999), (997, 1001)]
        {
            assert_eq!(with_own_digits(others), len);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let line = hard_state_line();
        assert!(read_record(&line, 0).is_ok());
        for bit in 0..line.len() * 8 {
            let mut flipped = line.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read_record(&flipped, 0).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_head_cut_at_any_byte_is_known_as_the_beginning_of_one() {
        let line = hard_state_line();
        let head = read_head(&line).unwrap();
        for end in 0..head.content_at {
            assert_eq!(read_head(&line[..end]), Err(NoHead::Cut), "cut at {end}");
        }
        assert_eq!(read_head(b"{\"crc\":\"2c78x"), Err(NoHead::Malformed));
    }

    #[test]
    fn an_intact_line_with_an_unknown_content_is_a_flaw() {
        let mut writer = BatchWriter::default();
        writer.push(1, 0, "recipe", &1);
        let flaw = read_record(writer.bytes(), 0).unwrap_err();
        assert!(flaw.expected.starts_with("one of entry"), "{}", flaw.expected);
    }
}
