//! One server process, which ends with the value that stands for it: also when a test fails.

use super::waiting::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A server, its stderr in a file.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where this process's lines begin: a node's log goes on when it is started again.
    log_start: usize,
    paused: bool,
}

impl Process {
    /// Starts the server with these arguments. Its log is added to the file.
    pub fn start(arguments: &[&str], log: &Path) -> Process {
        Process::start_program(Path::new(env!("CARGO_BIN_EXE_raftkv-server")), arguments, log)
    }

    /// Starts a server that may be another version's.
    pub fn start_program(program: &Path, arguments: &[&str], log: &Path) -> Process {
        let log_start = fs::metadata(log).map_or(0, |file| file.len() as usize);
        let stderr = OpenOptions::new().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the server's program");
        Process { child, log: log.to_owned(), log_start, paused: false }
    }

    /// What this process has written to stderr.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).expect("the log");
        String::from_utf8(log[self.log_start..].to_vec()).expect("the log is UTF-8")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Sends a signal, to this process and no other.
    pub fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        // The child is not waited for yet, so the id is still its own.
        kill(pid, signal).expect("the process is there");
        match signal {
            Signal::SIGSTOP => self.paused = true,
            Signal::SIGCONT => self.paused = false,
            _ => {}
        }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits until the process ends by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        wait_until("the server ends", || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
