//! What an operator types, through the client's own program.

use super::client::code;
use serde_json::Value;
use std::process::{Command, Stdio};

/// The client, which knows these addresses at first.
pub fn client_command(addresses: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-client"));
    command.arg("--connect").arg(addresses.join(",")).stdin(Stdio::null());
    command
}

/// Carries out some words. Returns the exit status, the answer, and what was told beside it.
pub fn try_operate(addresses: &[String], words: &str) -> (Option<i32>, Value, String) {
    let output = client_command(addresses).args(words.split(' ')).output().expect("the client runs");
    let told = String::from_utf8(output.stderr).expect("UTF-8");
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), answer, told)
}

/// The same, when it must be done.
pub fn operate(addresses: &[String], words: &str) -> Value {
    let (status, answer, told) = try_operate(addresses, words);
    assert_eq!((status, told.as_str()), (Some(0), ""), "{words}: {answer}");
    assert_eq!(code(&answer), "ok", "{words}: {answer}");
    answer
}
