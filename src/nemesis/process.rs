//! One server process, its log in a file of its own, which ends with the value that stands for it.

use super::HarnessFailure;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is looked whether something has come about.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// The program under test, and what is shown of its doings.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the server, by this command. A file that may not grow gives it an error instead of a signal:
    /// `SIGXFSZ` is ignored in whoever comes out of this shell, and a shell is how that is said without
    /// `unsafe`.
    pub fn start(command: &[&str], log: PathBuf) -> Result<Process, HarnessFailure> {
        let failure = |error| HarnessFailure(format!("{}: {error}", log.display()));
        let stderr = File::create(&log).map_err(failure)?;
        let child = Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#])
            .args(command)
            // How a node begins and ends is read from its log.
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            // What a user's Ctrl-C ends is the run, which then ends the servers.
            .process_group(0)
            .spawn()
            .map_err(|error| HarnessFailure(format!("cannot run sh: {error}")))?;
        Ok(Process { child, log })
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has said that its start is over.
    pub fn has_started(&self) -> bool {
        self.log().contains("started: ")
    }

    /// How much it has said so far.
    pub fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// The last line that it said.
    pub fn last_line(&self) -> String {
        self.log().lines().last().unwrap_or("nothing").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, to this process and no other: as long as it was not waited for, its id is its own.
    pub fn signal(&self, signal: Signal) -> Result<(), HarnessFailure> {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        let pid = pid.map_err(|error| HarnessFailure(format!("a process id: {error}")))?;
        kill(pid, signal).map_err(|error| HarnessFailure(format!("cannot send {signal}: {error}")))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, HarnessFailure> {
        self.child.try_wait().map_err(|error| HarnessFailure(format!("cannot look after a server: {error}")))
    }

    /// How it ended; none when it does not within this time.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, HarnessFailure> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What it has started, if it is no server but stands for one, goes with it.
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
