//! The client without a command: a line in, an answer out.
//!
//! In a pipe every line that is not blank gets exactly one line of JSON, in order and flushed, whatever goes
//! wrong; so a script can pair them. In a terminal there is a prompt with history, and mistakes are told in
//! words.

use super::connection::{Cluster, local_answer};
use super::words::{self, Command, Request};
use crate::config::MAX_LINE_BYTES;
use crate::dial::Answer;
use crate::wire::line::{LineReader, Next};
use rustyline::error::ReadlineError;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What came of the requests of one pipe. Its `Display` is one line, such as
/// `1000 requests, 998 ok, 0 unanswered, slowest 412.3 ms (request 301)`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// How many requests were asked.
    pub requests: u64,
    /// How many of them were answered with `ok:true`.
    pub ok: u64,
    /// How many got no answer of a node.
    pub unanswered: u64,
    /// How long the slowest took, and which it was, counted from 1.
    pub slowest: (Duration, u64),
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { requests, ok, unanswered, slowest: (time, number) } = self;
        let time_ms = time.as_secs_f64() * 1000.0;
        write!(f, "{requests} requests, {ok} ok, {unanswered} unanswered, ")?;
        write!(f, "slowest {time_ms:.1} ms (request {number})")
    }
}

impl Summary {
    /// Asks, and counts what came of it. A failure becomes an answer.
    fn ask(&mut self, cluster: &mut Cluster, request: &Request) -> String {
        let since = Instant::now();
        let result = cluster.ask(request);
        self.requests += 1;
        self.slowest = self.slowest.max((since.elapsed(), self.requests));
        match result {
            Ok(line) => {
                let ok = Answer::parse(line.as_bytes()).is_ok_and(|answer| answer.ok);
                self.ok += u64::from(ok);
                line
            }
            Err(failure) => {
                self.unanswered += 1;
                failure.answer(request)
            }
        }
    }
}

/// Answers each line of `input` with one line to `output`. Fails when `input` or `output` fails, of which a
/// closed pipe is the usual case.
pub fn run_pipe(cluster: &mut Cluster, input: impl Read, output: &mut impl Write) -> io::Result<Summary> {
    let mut lines = LineReader::new(input, MAX_LINE_BYTES);
    let mut summary = Summary::default();
    loop {
        let line = match lines.next_line() {
            Next::NeedsMore => {
                lines.fill()?;
                continue;
            }
            Next::End => return Ok(summary),
            Next::TooLong => return Err(io::Error::new(ErrorKind::InvalidData, "the line is too long")),
            Next::Line(line) => line,
        };
        let parsed = match str::from_utf8(line) {
            Ok(line) => words::parse_line(line).map_err(|usage| usage.to_string()),
            Err(_) => Err("the line is not UTF-8".to_owned()),
        };
        let answer = match parsed {
            Ok(None) => continue,
            Ok(Some(Command::Quit)) => return Ok(summary),
            Ok(Some(Command::Ask(request))) => summary.ask(cluster, &request),
            Ok(Some(Command::Help)) => local_answer(None, "bad_request", "for help: raftkv-client help"),
            Err(usage) => local_answer(None, "bad_request", &usage),
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
}

/// Prompts for lines until the input ends. Fails when the terminal or `output` fails.
pub fn run_terminal(cluster: &mut Cluster, output: &mut impl Write) -> io::Result<()> {
    let mut editor = rustyline::DefaultEditor::new().map_err(io::Error::other)?;
    let history = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".raftkv_history"));
    if let Some(path) = &history {
        // There is none before the first session, and a session without one is a session.
        let _ = editor.load_history(path);
    }
    writeln!(output, "Type help for the commands, Ctrl-D to leave.")?;
    loop {
        let line = match editor.readline("raftkv> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(io::Error::other(error)),
        };
        // A line that is not remembered is no reason to refuse it.
        let _ = editor.add_history_entry(line.trim());
        match words::parse_line(&line) {
            Ok(None) => {}
            Ok(Some(Command::Help)) => writeln!(output, "{}", words::HELP)?,
            Ok(Some(Command::Quit)) => break,
            Ok(Some(Command::Ask(request))) => match cluster.ask(&request) {
                Ok(answer) => writeln!(output, "{answer}")?,
                Err(failure) => writeln!(output, "{}", failure.message())?,
            },
            Err(usage) => writeln!(output, "{usage}")?,
        }
        output.flush()?;
    }
    if let Some(path) = &history
        && let Err(error) = editor.save_history(path)
    {
        writeln!(output, "the history could not be saved to {}: {error}", path.display())?;
    }
    Ok(())
}
