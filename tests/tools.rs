//! The subcommands of `raftkv-server` for the folder of a node that is stopped: what they say, what they
//! refuse, with which exit status, and that they change nothing but what they are for.

mod support;

#[path = "tools/crashes.rs"]
mod crashes;
#[path = "tools/folder.rs"]
mod folder;
#[path = "tools/inspect.rs"]
mod inspect;
#[path = "tools/recover.rs"]
mod recover;
#[path = "tools/restore.rs"]
mod restore;

use std::process::{Command, Output, Stdio};
use support::wait_until;

/// What a tool said.
struct Said {
    status: i32,
    out: String,
    err: String,
}

/// What is said of a folder that somebody else has open.
const IN_USE: &str = "another process uses this data folder";

/// Runs `raftkv-server` with these arguments. A child that another test is just starting may hold what that
/// test has open a moment longer than the test does: so whoever expects a folder to be free waits for it.
fn tool(arguments: &[&str]) -> Said {
    wait_until("the folder is free", || Some(tool_once(arguments)).filter(|said| !said.err.contains(IN_USE)))
}

/// The same, whoever uses the folder.
fn tool_once(arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_raftkv-server"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the server's program");
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { status: status.code().expect("no signal"), out: text(stdout), err: text(stderr) }
}

impl Said {
    /// Checks the exit status and that each of these texts was said on stdout.
    #[track_caller]
    fn says(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.out.contains(part), "{part:?} is not in {}", self.out);
        }
    }

    /// Checks the exit status and that one line on stderr says all of this.
    #[track_caller]
    fn warns(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(self.err.lines().any(has_all), "{parts:?} are not in one line of {}", self.err);
        assert!(self.err.lines().all(|line| line.starts_with("raftkv-server: ")), "{}", self.err);
    }
}
