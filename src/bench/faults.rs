//! What happens to the cluster during the load, and when: nodes are killed, commands are run.
//!
//! ```text
//!   --kill-leader-at 5s      who leads? ──status──> n2 ──RUN/node-2.pid──> 4711 ──ps──> it is? ──> SIGKILL
//!   --kill 3@7s                                     n3 ──────────────────> ...
//!   --fault '9s=COMMAND'     sh -c COMMAND, with the numbers of the killed nodes in $KILLED
//! ```
//!
//! Only a process that can be named is killed: the file says its number, and the system that under this
//! number there still is a raftkv-server of that id. All that can be checked is checked before the load.

use super::clock::Clock;
use super::load::{Status, find_leader};
use super::options::time;
use crate::dial::Nodes;
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a node may take to say whether it leads, when it is to be killed at this moment.
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a command may go on after the load has ended.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What is to happen to the cluster.
#[derive(Clone, Debug, Default, Args)]
pub struct FaultOptions {
    /// Kill (SIGKILL) the node that leads, so long after the warm-up; may be given several times
    #[arg(long, value_name = "TIME", value_parser = time)]
    kill_leader_at: Vec<Duration>,

    /// Kill this node; may be given several times
    #[arg(long, value_name = "ID@TIME", value_parser = kill_at)]
    kill: Vec<(u16, Duration)>,

    /// Run a command of the shell; $KILLED is the numbers of the nodes killed so far, the last one first
    #[arg(long, value_name = "TIME=COMMAND", value_parser = command_at)]
    fault: Vec<(Duration, String)>,

    /// Where the nodes' processes are named, in files node-1.pid, … [default: run in the data_dir of the
    /// cluster's file, which is where scripts/cluster.sh puts them]
    #[arg(long, value_name = "DIR")]
    pids: Option<PathBuf>,
}

fn kill_at(text: &str) -> Result<(u16, Duration), String> {
    let (id, at) = text.split_once('@').ok_or("expected ID@TIME such as 2@5s")?;
    match id.parse() {
        Ok(id) if id > 0 => Ok((id, time(at)?)),
        _ => Err("expected the number of a node before the @".to_owned()),
    }
}

fn command_at(text: &str) -> Result<(Duration, String), String> {
    let (at, command) = text.split_once('=').ok_or("expected TIME=COMMAND")?;
    match command.trim() {
        "" => Err("there is no command behind the =".to_owned()),
        command => Ok((time(at)?, command.to_owned())),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    KillLeader,
    Kill(u16),
    Command(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::KillLeader => f.write_str("kill the leader"),
            What::Kill(id) => write!(f, "kill n{id}"),
            What::Command(command) => f.write_str(command),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    at: Duration,
    what: What,
}

/// All faults of a run, in the order of their times.
#[derive(Debug)]
pub(super) struct Script {
    faults: Vec<Fault>,
    pids: Option<PathBuf>,
}

/// A fault that came.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// What happened, such as `kill the leader (n2)`.
    pub what: String,
    /// When it was to happen, after the beginning of what counts.
    pub planned: Duration,
    /// When it happened.
    pub at: Instant,
    /// Why it did not.
    pub error: Option<String>,
}

impl Script {
    /// No faults.
    pub fn empty() -> Script {
        Script { faults: Vec::new(), pids: None }
    }

    /// Checks that every fault comes within `seconds`.
    pub fn new(options: FaultOptions, nodes: &Nodes, seconds: f64) -> Result<Script, String> {
        let fault = |at, what| Fault { at, what };
        let leaders = options.kill_leader_at.into_iter().map(|at| fault(at, What::KillLeader));
        let kills = options.kill.into_iter().map(|(id, at)| fault(at, What::Kill(id)));
        let commands = options.fault.into_iter().map(|(at, command)| fault(at, What::Command(command)));
        let mut faults: Vec<Fault> = leaders.chain(kills).chain(commands).collect();
        faults.sort_by_key(|fault| fault.at);
        if let Some(late) = faults.iter().find(|fault| fault.at.as_secs_f64() >= seconds) {
            let at = late.at.as_secs_f64();
            return Err(format!(
                "`{}` at {at} s would come after the end: --seconds is {seconds}",
                late.what
            ));
        }
        let pids = options.pids.or_else(|| nodes.data_dir.as_ref().map(|folder| folder.join("run")));
        Ok(Script { faults, pids })
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    /// Checks before the load that each node that is to be killed can be; when that is the leader, whoever
    /// answers may be it by then. The statuses are those of all nodes that answered.
    pub fn check<'s>(&self, statuses: impl Iterator<Item = &'s Status> + Clone) -> Result<(), String> {
        for fault in &self.faults {
            match fault.what {
                What::KillLeader => {
                    for status in statuses.clone() {
                        let id = status.node.ok_or("a node does not say its number")?;
                        self.process_of(id)?;
                    }
                }
                What::Kill(id) => {
                    self.process_of(id)?;
                }
                What::Command(_) => {}
            }
        }
        Ok(())
    }

    /// Lets each fault come at its time, until the run is over. Returns those that came.
    pub fn carry_out(&self, nodes: &Nodes, clock: &Clock<'_>) -> Vec<Event> {
        let mut killed: Vec<u16> = Vec::new();
        let mut events = Vec::new();
        let mut commands = Vec::new();
        for Fault { at: planned, what } in &self.faults {
            if !clock.wait_until(clock.count_from + *planned) {
                break;
            }
            let mut event =
                Event { what: what.to_string(), planned: *planned, at: Instant::now(), error: None };
            match what {
                What::KillLeader => match self.kill_leader(nodes, clock) {
                    Ok((id, at)) => {
                        event = Event { what: format!("{what} (n{id})"), at, ..event };
                        killed.insert(0, id);
                    }
                    Err(why) => event.error = Some(why),
                },
                What::Kill(id) => match self.kill_node(*id) {
                    Ok(at) => {
                        event.at = at;
                        killed.insert(0, *id);
                    }
                    Err(why) => event.error = Some(why),
                },
                What::Command(command) => match Running::start(command, &killed) {
                    Ok(running) => commands.push((events.len(), running)),
                    Err(error) => event.error = Some(format!("cannot run sh: {error}")),
                },
            }
            events.push(event);
        }
        // As long as the load goes on, the commands may.
        clock.wait_until(clock.end);
        let deadline = Instant::now() + COMMAND_PATIENCE;
        for (place, running) in commands {
            events[place].error = running.finish(deadline).err();
        }
        events
    }

    /// Kills whoever leads. Between two leaders it waits for the next one. Returns who that was, and when.
    fn kill_leader(&self, nodes: &Nodes, clock: &Clock<'_>) -> Result<(u16, Instant), String> {
        loop {
            let leader = match find_leader(&nodes.addresses, STATUS_TIMEOUT.min(nodes.timeout)) {
                Ok((place, statuses)) => statuses[place].clone().filter(Status::leads),
                Err(_) => None,
            };
            if let Some(leader) = leader {
                let id = leader.node.ok_or("the leader does not say its number")?;
                return self.kill_node(id).map(|at| (id, at));
            }
            if !clock.wait_until(Instant::now() + LOOK) {
                return Err("no node led until the end".to_owned());
            }
        }
    }

    fn kill_node(&self, id: u16) -> Result<Instant, String> {
        let process = self.process_of(id)?;
        let at = Instant::now();
        kill(process, Signal::SIGKILL).map_err(|error| format!("cannot kill process {process}: {error}"))?;
        Ok(at)
    }

    /// The process of this node, if that is certain.
    fn process_of(&self, id: u16) -> Result<Pid, String> {
        let Some(folder) = &self.pids else {
            return Err("to kill a node takes to know its process: give --config of a cluster that \
                        scripts/cluster.sh has started, or --pids DIR, or use --fault"
                .to_owned());
        };
        process_of(folder, id)
    }
}

fn process_of(folder: &Path, id: u16) -> Result<Pid, String> {
    let file = folder.join(format!("node-{id}.pid"));
    let shown = file.display();
    let text = fs::read_to_string(&file).map_err(|error| {
        format!("cannot tell the process of n{id}: {shown}: {error} (--pids says where such files are)")
    })?;
    // 0 and what is below mean whole groups of processes, and 1 is the system's.
    let pid = text.trim().parse().ok().filter(|pid: &i32| *pid > 1);
    let pid = pid.ok_or_else(|| format!("{shown} does not hold the number of a process"))?;
    let output = Command::new("ps").args(["-ww", "-o", "args=", "-p", &pid.to_string()]).output();
    let output = output.map_err(|error| format!("cannot run ps, which tells processes apart: {error}"))?;
    if is_server(&String::from_utf8_lossy(&output.stdout), id) {
        Ok(Pid::from_raw(pid))
    } else {
        Err(format!("{shown} names process {pid}, which is no raftkv-server --id {id} (any more)"))
    }
}

/// Whether a process with these arguments is the server of this node.
fn is_server(arguments: &str, id: u16) -> bool {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let is_program = words.iter().any(|word| *word == "raftkv-server" || word.ends_with("/raftkv-server"));
    let id = id.to_string();
    let has_id = words.windows(2).any(|pair| pair[0] == "--id" && pair[1] == id);
    is_program && (has_id || words.contains(&format!("--id={id}").as_str()))
}

/// A command that was started.
struct Running {
    child: Child,
    /// What it prints: shown only if it fails.
    output: File,
}

impl Running {
    fn start(command: &str, killed: &[u16]) -> io::Result<Running> {
        let output = tempfile::tempfile()?;
        let killed: Vec<String> = killed.iter().map(u16::to_string).collect();
        let child = Command::new("sh")
            .args(["-c", command])
            .env("KILLED", killed.join(" "))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            // What a user's Ctrl-C ends is the load, and not a server that was started here.
            .process_group(0)
            .spawn()?;
        Ok(Running { child, output })
    }

    /// Waits until it ends. Fails when it does not do well, and leaves it alone when it goes on for too long.
    fn finish(mut self, deadline: Instant) -> Result<(), String> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{status}: {}", self.last_line())),
                Ok(None) if Instant::now() >= deadline => return Err("it still runs".to_owned()),
                Ok(None) => std::thread::sleep(LOOK),
                Err(error) => return Err(format!("cannot look after it: {error}")),
            }
        }
    }

    fn last_line(&mut self) -> String {
        let mut text = Vec::new();
        let read = self.output.rewind().and_then(|()| self.output.read_to_end(&mut text));
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        read.ok().and(last).unwrap_or("it printed nothing").to_owned()
    }
}

/// A fault as the report has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct FaultReport {
    /// What happened.
    pub what: String,
    /// When it was to happen, after the warm-up.
    pub planned_seconds: f64,
    /// When it happened.
    pub at_seconds: f64,
    /// Why it did not, or not as it should.
    pub error: Option<String>,
    /// The longest time without an accepted write after it, and before the next fault; 0 when there was none
    /// of a millisecond.
    pub pause_ms: f64,
    /// When that began, after the fault.
    pub pause_from_ms: Option<f64>,
    /// When the first write was accepted after that pause, after the fault; none when the run ended first.
    pub writes_again_after_ms: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn nodes() -> Nodes {
        let data_dir = Some(PathBuf::from("somewhere"));
        Nodes { addresses: vec!["127.0.0.1:1".to_owned()], timeout: LOOK, data_dir }
    }

    fn script(faults: &[(u64, &str)]) -> Script {
        let fault = faults.iter().map(|(ms, command)| (Duration::from_millis(*ms), (*command).to_owned()));
        Script::new(FaultOptions { fault: fault.collect(), ..FaultOptions::default() }, &nodes(), 60.0)
            .unwrap()
    }

    #[test]
    fn faults_say_what_and_when() {
        let second = Duration::from_secs(1);
        assert_eq!(kill_at("2@5s"), Ok((2, 5 * second)));
        assert_eq!(command_at("1s= sh restart.sh $KILLED"), Ok((second, "sh restart.sh $KILLED".to_owned())));
        assert_eq!(command_at("1s=A=1 env"), Ok((second, "A=1 env".to_owned())));
        for wrong in ["2", "@5s", "0@5s", "x@5s", "2@", "65536@1s"] {
            assert!(kill_at(wrong).is_err(), "{wrong}");
        }
        for wrong in ["5s", "5s=", "5s= ", "=true"] {
            assert!(command_at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn faults_come_in_the_order_of_their_times_and_before_the_end() {
        let second = Duration::from_secs(1);
        let options = FaultOptions {
            kill_leader_at: vec![3 * second, second],
            kill: vec![(2, 2 * second)],
            ..FaultOptions::default()
        };
        let script = Script::new(options.clone(), &nodes(), 4.0).unwrap();
        let whats: Vec<&What> = script.faults.iter().map(|fault| &fault.what).collect();
        assert_eq!(whats, [&What::KillLeader, &What::Kill(2), &What::KillLeader]);
        assert_eq!(script.pids, Some(PathBuf::from("somewhere/run")));
        let late = Script::new(options, &nodes(), 3.0).unwrap_err();
        assert!(late.contains("`kill the leader` at 3 s would come after the end"), "{late}");
    }

    #[test]
    fn only_the_server_of_that_id_is_killed() {
        for (arguments, is) in [
            ("/x/raftkv-server --config a --id 2 --data-dir b", true),
            ("raftkv-server --id=2", true),
            ("raftkv-server --config a --id 21", false),
            ("/x/raftkv-server --config a --id 1 --data-dir 2", false),
            ("vi raftkv-server.txt --id 2", false),
            ("", false),
        ] {
            assert_eq!(is_server(arguments, 2), is, "{arguments}");
        }
    }

    #[test]
    fn a_process_that_cannot_be_named_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = process_of(folder.path(), 1).unwrap_err();
        assert!(missing.contains("node-1.pid") && missing.contains("--pids"), "{missing}");
        for text in ["", "x", "0", "-1", "1", "99999999999"] {
            fs::write(folder.path().join("node-1.pid"), text).unwrap();
            let refused = process_of(folder.path(), 1).unwrap_err();
            assert!(refused.contains("does not hold the number of a process"), "{text}: {refused}");
        }
        // This test is no server.
        fs::write(folder.path().join("node-1.pid"), std::process::id().to_string()).unwrap();
        let refused = process_of(folder.path(), 1).unwrap_err();
        assert!(refused.contains("no raftkv-server --id 1"), "{refused}");
        let nowhere = Script { faults: Vec::new(), pids: None }.process_of(1).unwrap_err();
        assert!(nowhere.contains("--pids DIR"), "{nowhere}");
    }

    #[test]
    fn commands_run_at_their_time_and_what_fails_is_told() {
        let interrupted = AtomicBool::new(false);
        let clock = Clock::start(Duration::ZERO, Duration::from_secs(3600), &interrupted);
        let folder = tempfile::tempdir().unwrap();
        let last = folder.path().join("last");
        let fails = format!("echo so; echo it is not >&2; : >{}; exit 3", last.display());
        let script = script(&[(0, "true"), (10, &fails), (59_000, "true")]);
        let events = std::thread::scope(|scope| {
            let events = scope.spawn(|| script.carry_out(&nodes(), &clock));
            while !last.exists() {
                assert!(!events.is_finished(), "it ended without the last command");
                std::thread::yield_now();
            }
            interrupted.store(true, Ordering::Relaxed);
            events.join().unwrap()
        });
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0].error, None);
        let error = events[1].error.as_deref().unwrap();
        assert!(error.contains("exit status: 3") && error.ends_with(": it is not"), "{error}");
        assert!(events[1].at >= clock.count_from + Duration::from_millis(10));
    }

    #[test]
    fn a_command_knows_who_was_killed() {
        let killed = Running::start(r#"test "$KILLED" = "3 1""#, &[3, 1]).unwrap();
        assert_eq!(killed.finish(Instant::now() + Duration::from_secs(60)), Ok(()));
    }
}
