//! The client without a command: a line in, an answer out.
//!
//! In a pipe every line that is not blank gets exactly one line of JSON, in order and flushed, whatever goes
//! wrong; so a script can pair them. In a terminal there is a prompt with history, and mistakes are told in
//! words.

use super::connection::{Cluster, Failure, local_answer};
use super::words::{self, Command, Request};
use crate::config::MAX_LINE_BYTES;
use crate::wire::line::{LineReader, Next};
use rustyline::error::ReadlineError;
use std::io::{self, ErrorKind, Read, Write};
use std::path::PathBuf;

/// Answers each line of `input` with one line to `output`. True when every request got its answer from a node.
/// Fails when `input` or `output` fails, of which a closed pipe is the usual case.
pub fn run_pipe(cluster: &mut Cluster, input: impl Read, output: &mut impl Write) -> io::Result<bool> {
    let mut lines = LineReader::new(input, MAX_LINE_BYTES);
    let mut all_answered = true;
    loop {
        let answer = match lines.next_line() {
            Next::NeedsMore => {
                lines.fill()?;
                continue;
            }
            Next::End => return Ok(all_answered),
            Next::TooLong => return Err(io::Error::new(ErrorKind::InvalidData, "the line is too long")),
            Next::Line(line) => {
                let parsed = match str::from_utf8(line) {
                    Ok(line) => words::parse_line(line).map_err(|usage| usage.to_string()),
                    Err(_) => Err("the line is not UTF-8".to_owned()),
                };
                match parsed {
                    Ok(None) => continue,
                    Ok(Some(Command::Quit)) => return Ok(all_answered),
                    Ok(Some(Command::Help)) => {
                        local_answer(None, "bad_request", "help is for a terminal: raftkv-client help")
                    }
                    Ok(Some(Command::Ask(request))) => {
                        answer_or_failure(cluster, &request, &mut all_answered)
                    }
                    Err(usage) => local_answer(None, "bad_request", &usage),
                }
            }
        };
        writeln!(output, "{answer}")?;
        output.flush()?;
    }
}

fn answer_or_failure(cluster: &mut Cluster, request: &Request, all_answered: &mut bool) -> String {
    cluster.ask(request).unwrap_or_else(|failure: Failure| {
        *all_answered = false;
        failure.answer(request)
    })
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
