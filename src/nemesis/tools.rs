//! Other programs that the faults need: whether they are there, and running them. They are called by their
//! names, wait for no input, and what they say on standard error is told when they fail.

use super::HarnessFailure;
use super::process::LOOK;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long strace may take to attach or to let go.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ioctl that makes a file system forget what it has not written, `FS_IOC_GOINGDOWN` with the flag that
/// leaves the journal unwritten too, for each folder given. Afterwards all calls to it fail.
const POWER_OFF: &str = "
import fcntl, os, struct, sys
folders = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
for folder in folders:
    fcntl.ioctl(folder, 0x8004587d, struct.pack('I', 2))
";

/// Whether this may mount things.
pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether a program of this name is on the path.
pub(super) fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// The first of these programs that is not there, in words.
pub(super) fn missing(names: &[&str]) -> Option<String> {
    let missing = names.iter().find(|name| !is_there(name));
    missing.map(|name| format!("{name} is not installed"))
}

/// Why a node can not have a disk of its own, as far as one can tell without trying.
pub(super) fn why_no_disks() -> Option<String> {
    if is_root() { missing(&["mkfs.ext4", "mount", "umount"]) } else { Some("not root".to_owned()) }
}

/// Systems may let a process be traced by its ancestors only, and strace is none of a server's.
pub(super) fn why_strace_may_not_attach() -> Option<String> {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let is_free = scope.trim().is_empty() || scope.trim() == "0" || is_root();
    (!is_free).then(|| format!("kernel.yama.ptrace_scope is {}", scope.trim()))
}

/// Runs a program to its end.
pub(super) fn run<S: AsRef<OsStr>>(name: &str, arguments: &[S]) -> Result<(), HarnessFailure> {
    let output = Command::new(name)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| HarnessFailure(format!("cannot run {name}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(HarnessFailure(format!("{name} ended with {}: {}", output.status, said.trim())))
}

/// Cuts the power of the file systems mounted at these folders.
pub(super) fn power_off<S: AsRef<OsStr>>(folders: &[S]) -> Result<(), HarnessFailure> {
    let mut arguments = vec![OsStr::new("-c"), OsStr::new(POWER_OFF)];
    arguments.extend(folders.iter().map(AsRef::as_ref));
    run("python3", &arguments)
}

/// The command that starts a program under strace, which is not its parent then and ends with it; `inject` as
/// in [`Strace::attach`].
pub(super) fn under_strace(inject: &str) -> Vec<String> {
    let [only, inject] = expressions(inject);
    ["strace", "-D", "-f", "-o", "/dev/null", "-e", &only, "-e", &inject, "--"].map(str::to_owned).to_vec()
}

/// What strace is told: to look at this system call only, and what is to become of it.
fn expressions(inject: &str) -> [String; 2] {
    let call = inject.split(':').next().unwrap_or(inject);
    [format!("trace={call}"), format!("inject={inject}")]
}

/// strace, attached to a process and bending one of its system calls until this is dropped.
pub struct Strace {
    child: Child,
}

impl Strace {
    /// Attaches to all threads of a process; `inject` is strace's own word for what happens, as
    /// `fdatasync:error=EIO`. Returns when it is attached. Fails when strace is not there or may not do that.
    pub fn attach(pid: u32, inject: &str) -> Result<Strace, HarnessFailure> {
        let failure = |why: String| HarnessFailure(format!("cannot attach strace: {why}"));
        let [only, bent] = expressions(inject);
        // Not into a pipe: strace has a word for each new thread, and stops, with all that it looks at, when
        // nobody reads them.
        let says = tempfile::tempfile().map_err(|error| failure(error.to_string()))?;
        let mut child = Command::new("strace")
            .args(["-f", "-o", "/dev/null", "-e", &only, "-e", &bent])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(says.try_clone().map_err(|error| failure(error.to_string()))?)
            .process_group(0)
            .spawn()
            .map_err(|error| failure(error.to_string()))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut said = [0; 256];
            let count = says.read_at(&mut said, 0).map_err(|error| failure(error.to_string()))?;
            let said = String::from_utf8_lossy(said.get(..count).unwrap_or_default()).into_owned();
            if said.contains("attached") {
                return Ok(Strace { child });
            }
            let ended = child.try_wait().map_err(|error| failure(error.to_string()))?;
            if ended.is_some() || Instant::now() > deadline {
                drop(Strace { child });
                return Err(failure(said.trim().to_owned()));
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Strace {
    /// Lets the process go on alone.
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It has ended already when the process it looked at has.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                // Whom it looked at goes on without it.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(LOOK);
        }
    }
}
