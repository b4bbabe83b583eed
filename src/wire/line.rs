//! Reading lines from someone who is not trusted to end them.
//!
//! ```text
//!   fill: one read      next_line: as often as it gives one
//!   socket ----------> [ line\n line\n line\n unfini ] ----------> the caller
//! ```
//!
//! Between two reads every complete line is handed out, so that all that came at once can go on as one event.
//! The memory is bounded: a line that is not finished holds at most the limit and one read. No number that
//! was received decides how much is allocated. The reader never parses, never waits beyond the source's own
//! timeout, and closes nothing.

use std::io::{self, ErrorKind, Read};
use std::time::Instant;

/// How much room a read has at least. A reader never holds more than its limit and twice this.
const READ_BYTES: usize = 32 * 1024;

/// Cuts what a source sends into lines. See the file's header.
///
/// Invariants: `start <= unfinished <= filled <= buffer.len()`; the lines in `start..unfinished` are
/// complete, newlines included; there is no newline in `unfinished..filled`.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    start: usize,
    unfinished: usize,
    filled: usize,
    unfinished_since: Option<Instant>,
    ended: bool,
}

/// What [`LineReader::next_line`] found in the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The next line, without its newline: at most the limit's bytes, any bytes, possibly none.
    Line(&'a [u8]),
    /// All complete lines are handed out: [`LineReader::fill`] before asking again.
    NeedsMore,
    /// The line at the front is longer than the limit. Where it ends is not known, so there is nothing more
    /// to have from this reader: it stays so.
    TooLong,
    /// The source has ended and everything is handed out: it stays so.
    End,
}

impl<R: Read> LineReader<R> {
    /// A reader of lines of at most `max_line_bytes` bytes, newline not counted.
    pub fn new(source: R, max_line_bytes: usize) -> LineReader<R> {
        LineReader {
            source,
            max_line_bytes,
            buffer: Vec::new(),
            start: 0,
            unfinished: 0,
            filled: 0,
            unfinished_since: None,
            ended: false,
        }
    }

    /// The next line that is already here. Never reads from the source. When the source has ended, what
    /// stands after the last newline counts as a line, unless it is empty.
    pub fn next_line(&mut self) -> Next<'_> {
        if self.start < self.unfinished {
            let complete = &self.buffer[self.start..self.unfinished];
            // The invariant says that there is one.
            let length = memchr::memchr(b'\n', complete).unwrap_or(complete.len());
            if length > self.max_line_bytes {
                return Next::TooLong;
            }
            self.start += length + 1;
            return Next::Line(&complete[..length]);
        }
        if self.filled - self.unfinished > self.max_line_bytes {
            return Next::TooLong;
        }
        if !self.ended {
            return Next::NeedsMore;
        }
        if self.start == self.filled {
            return Next::End;
        }
        let last = self.start..self.filled;
        self.start = self.filled;
        self.unfinished = self.filled;
        self.unfinished_since = None;
        Next::Line(&self.buffer[last])
    }

    /// Reads from the source once. Does nothing while [`LineReader::next_line`] has something else to say
    /// than `NeedsMore`.
    ///
    /// Fails as the source fails. A timeout (`WouldBlock` or `TimedOut`, as the platform has it) is among the
    /// failures and loses nothing: what has come of a line is kept, and the next call goes on.
    pub fn fill(&mut self) -> io::Result<()> {
        let too_long = self.filled - self.unfinished > self.max_line_bytes;
        if self.start < self.unfinished || too_long || self.ended {
            return Ok(());
        }
        self.make_room();
        let count = loop {
            match self.source.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => break result?,
            }
        };
        self.ended = count == 0;
        let came = self.filled..self.filled + count;
        let last_newline = memchr::memrchr(b'\n', &self.buffer[came.clone()]);
        // The unfinished line began with these bytes, unless some of it was here before and it goes on.
        if last_newline.is_some() || self.unfinished_since.is_none() {
            self.unfinished_since = Some(Instant::now());
        }
        self.filled = came.end;
        if let Some(position) = last_newline {
            self.unfinished = came.start + position + 1;
        }
        if self.unfinished == self.filled {
            self.unfinished_since = None;
        }
        Ok(())
    }

    /// When the first bytes of the line that is not finished yet were read; none when there is no such line.
    /// Whoever gives lines a deadline counts it from here.
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since
    }

    /// The source, for its timeouts and addresses. Reading from it directly would tear a line.
    pub fn source(&self) -> &R {
        &self.source
    }

    /// The same, to change how it is read from.
    pub fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Moves the unfinished line to the front and sees to room for one read behind it.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
            self.unfinished = 0;
        }
        if self.buffer.len() - self.filled < READ_BYTES {
            // Doubling keeps the copies few, the limit keeps the sum small.
            let enough = self.max_line_bytes.saturating_add(READ_BYTES);
            let wanted = (2 * self.filled).min(enough).max(self.filled) + READ_BYTES;
            self.buffer.resize(wanted, 0);
        } else if self.filled == 0 && self.buffer.len() > 4 * READ_BYTES {
            // One long line must not cost its memory for as long as the connection lives.
            self.buffer.truncate(READ_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A source that gives one prepared piece a read.
    struct Pieces(VecDeque<io::Result<Vec<u8>>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.pop_front() else {
                return Ok(0);
            };
            let mut piece = piece?;
            let count = piece.len().min(buffer.len());
            buffer[..count].copy_from_slice(&piece[..count]);
            if count < piece.len() {
                self.0.push_front(Ok(piece.split_off(count)));
            }
            Ok(count)
        }
    }

    fn reader(pieces: &[&str], max_line_bytes: usize) -> LineReader<Pieces> {
        let pieces = pieces.iter().map(|piece| Ok(piece.as_bytes().to_vec())).collect();
        LineReader::new(Pieces(pieces), max_line_bytes)
    }

    /// All lines up to the end, or up to one that is too long, which is written as `TOO LONG`.
    fn lines(mut reader: LineReader<Pieces>) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match reader.next_line() {
                Next::Line(line) => lines.push(String::from_utf8(line.to_vec()).unwrap()),
                Next::NeedsMore => reader.fill().unwrap(),
                Next::TooLong => {
                    lines.push("TOO LONG".to_owned());
                    return lines;
                }
                Next::End => return lines,
            }
        }
    }

    #[test]
    fn lines_come_out_however_they_were_cut() {
        assert_eq!(
            lines(reader(&["one\ntwo\nth", "r", "ee\n", "\n", "four\n"], 5)),
            ["one", "two", "three", "", "four"]
        );
        assert_eq!(lines(reader(&[], 5)), [""; 0]);
    }

    #[test]
    fn a_last_line_without_a_newline_counts() {
        assert_eq!(lines(reader(&["one\ntw", "o"], 5)), ["one", "two"]);
        assert_eq!(lines(reader(&["one\n"], 5)), ["one"]);
    }

    #[test]
    fn all_lines_of_one_read_are_handed_out_before_the_next_read() {
        let mut reader = reader(&["one\ntwo\nthr", "ee\n"], 5);
        assert_eq!(reader.next_line(), Next::NeedsMore);
        reader.fill().unwrap();
        reader.fill().unwrap();
        assert_eq!(reader.source().0.len(), 1, "filled although there were lines");
        assert_eq!(reader.next_line(), Next::Line(b"one"));
        assert_eq!(reader.next_line(), Next::Line(b"two"));
        assert_eq!(reader.next_line(), Next::NeedsMore);
    }

    #[test]
    fn the_limit_holds_to_the_byte_for_each_way_a_line_can_end() {
        for (text, fits) in [("12345\n", true), ("123456\n", false), ("12345", true), ("123456", false)] {
            let expected = if fits { "12345" } else { "TOO LONG" };
            assert_eq!(lines(reader(&["ok\n", text], 5)), ["ok", expected], "{text:?}");
            let bytes: Vec<String> = format!("ok\n{text}").chars().map(String::from).collect();
            let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
            assert_eq!(lines(reader(&bytes, 5)), ["ok", expected], "{text:?} byte by byte");
        }
    }

    #[test]
    fn lines_before_one_that_is_too_long_are_handed_out_and_none_after_it() {
        let mut reader = reader(&["one\n1234567\ntwo\n", "three\n"], 5);
        reader.fill().unwrap();
        assert_eq!(reader.next_line(), Next::Line(b"one"));
        for _ in 0..3 {
            assert_eq!(reader.next_line(), Next::TooLong);
            reader.fill().unwrap();
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let limit = 100_000;
        let mut reader = LineReader::new(io::repeat(b'x'), limit);
        let mut fills = 0;
        while reader.next_line() == Next::NeedsMore {
            reader.fill().unwrap();
            fills += 1;
            assert!(reader.buffer.len() <= limit + 2 * READ_BYTES, "{}", reader.buffer.len());
        }
        assert_eq!(reader.next_line(), Next::TooLong);
        assert!(fills > 1);
    }

    #[test]
    fn the_memory_of_a_long_line_is_given_back() {
        let long = "x".repeat(1_000_000);
        let mut reader = reader(&[&long, "\n", "short\n"], 1_000_000);
        while reader.next_line() == Next::NeedsMore {
            reader.fill().unwrap();
        }
        assert!(reader.buffer.len() >= 1_000_000);
        reader.fill().unwrap();
        assert_eq!(reader.next_line(), Next::Line(b"short"));
        assert_eq!(reader.buffer.len(), READ_BYTES);
    }

    #[test]
    fn a_timeout_is_told_and_loses_nothing() {
        let mut reader = reader(&["on"], 5);
        for kind in [ErrorKind::WouldBlock, ErrorKind::TimedOut] {
            reader.source.0.push_back(Err(kind.into()));
        }
        reader.source.0.push_back(Err(ErrorKind::Interrupted.into()));
        reader.source.0.push_back(Ok(b"e\n".to_vec()));
        reader.fill().unwrap();
        assert_eq!(reader.fill().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(reader.next_line(), Next::NeedsMore);
        assert_eq!(reader.fill().unwrap_err().kind(), ErrorKind::TimedOut);
        reader.fill().unwrap();
        assert_eq!(reader.next_line(), Next::Line(b"one"));
    }

    #[test]
    fn it_is_known_since_when_a_line_is_unfinished() {
        let mut reader = reader(&["a", "b", "c\nd", "e\n", "f\ng", "\n", "last"], 5);
        assert_eq!(reader.unfinished_since(), None);
        reader.fill().unwrap();
        let began = reader.unfinished_since().expect("a line has begun");
        reader.fill().unwrap();
        assert_eq!(reader.unfinished_since(), Some(began), "more of a line does not make it younger");
        reader.fill().unwrap();
        let second = reader.unfinished_since().expect("the line d has begun");
        assert!(second > began);
        assert_eq!(reader.next_line(), Next::Line(b"abc"));
        assert_eq!(reader.unfinished_since(), Some(second));
        reader.fill().unwrap();
        assert_eq!(reader.unfinished_since(), None);
        assert_eq!(reader.next_line(), Next::Line(b"de"));
        while reader.next_line() != Next::End {
            reader.fill().unwrap();
        }
        assert_eq!(reader.unfinished_since(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_cutting_gives_the_same_lines(
            text in "[ab\n]{0,60}",
            cuts in proptest::collection::vec(1usize..8, 0..60),
        ) {
            let mut pieces = VecDeque::new();
            let mut rest = text.as_bytes();
            for cut in cuts {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                if !piece.is_empty() {
                    pieces.push_back(Ok(piece.to_vec()));
                }
                rest = later;
            }
            if !rest.is_empty() {
                pieces.push_back(Ok(rest.to_vec()));
            }
            let mut expected: Vec<String> = Vec::new();
            for line in text.split_terminator('\n') {
                let too_long = line.len() > 6;
                expected.push(if too_long { "TOO LONG".to_owned() } else { line.to_owned() });
                if too_long {
                    break;
                }
            }
            assert_eq!(lines(LineReader::new(Pieces(pieces), 6)), expected);
        }
    }
}
