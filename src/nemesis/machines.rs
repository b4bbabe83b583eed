//! The nodes of the cluster under test: their files, their processes, and what can be done to both. Whoever
//! ends a process here expects it to end in a certain way; every other end is a finding.

use super::disks::MountedDisk;
use super::process::Process;
use super::proxy::Network;
use super::run::{Run, lock};
use super::{Done, HarnessFailure, tools};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// How long a node may take to start, to stop, or to find out that its disk is of no use.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster's name.
pub(super) const CLUSTER: &str = "nemesis";

/// How long a client's request may wait for its outcome, in milliseconds: less than the default, so that more
/// of them end in doubt.
pub(super) const REQUEST_TIMEOUT_MS: u64 = 2_000;

/// What a cluster is made of, before it runs.
pub(super) struct Layout {
    /// Where each node's clients connect.
    pub clients: BTreeMap<u16, SocketAddr>,
    /// The links between the nodes.
    pub network: Network,
    folder: PathBuf,
}

/// All nodes.
pub(super) struct Machines {
    server: PathBuf,
    folder: PathBuf,
    list: BTreeMap<u16, Machine>,
}

/// One node.
struct Machine {
    /// Above the disk, so that it ends first.
    process: Option<Process>,
    disk: Option<MountedDisk>,
    config: PathBuf,
    data: PathBuf,
    starts: u32,
    /// Whether a start has come to its end: until then the node may not have been made.
    is_made: bool,
}

impl Layout {
    /// Addresses for so many nodes, links between them, and each node's own `cluster.toml` in `folder`: in it
    /// the others' peer addresses are the links to them.
    pub fn make(nodes: u16, folder: &Path) -> Result<Layout, HarnessFailure> {
        let host = own_host();
        let failure = |error| HarnessFailure(format!("cannot open ports on {host}: {error}"));
        let ports: Vec<SocketAddr> =
            (FIRST_PORT..).take(2 * usize::from(nodes)).map(|port| (host, port).into()).collect();
        for address in &ports {
            TcpListener::bind(address).map_err(failure)?;
        }
        let (peers, clients) = ports.split_at(usize::from(nodes));
        let peers: BTreeMap<u16, SocketAddr> = (1..=nodes).zip(peers.iter().copied()).collect();
        let clients: BTreeMap<u16, SocketAddr> = (1..=nodes).zip(clients.iter().copied()).collect();
        let network = Network::open(host, &peers).map_err(failure)?;
        for me in 1..=nodes {
            let mut text = format!("cluster = \"{CLUSTER}\"\ndata_dir = \"data\"\n");
            for (id, own) in &peers {
                let peer = network.address(me, *id).unwrap_or(*own);
                let client = clients.get(id).copied().unwrap_or(*own);
                let _ = write!(text, "\n[[node]]\nid = {id}\npeer = \"{peer}\"\nclient = \"{client}\"\n");
            }
            let _ = write!(text, "\n[timing]\nrequest_timeout_ms = {REQUEST_TIMEOUT_MS}\n");
            let path = config_path(folder, me);
            fs::write(&path, text).map_err(|error| HarnessFailure(format!("{}: {error}", path.display())))?;
        }
        Ok(Layout { clients, network, folder: folder.to_owned() })
    }

    /// The nodes, which do not run yet.
    pub fn machines(&self, server: &Path, with_disks: bool) -> Result<Machines, HarnessFailure> {
        let mut list = BTreeMap::new();
        for id in self.clients.keys().copied() {
            let place = self.folder.join(format!("disk-n{id}"));
            let image = self.folder.join(format!("disk-n{id}.ext4"));
            let disk = with_disks.then(|| MountedDisk::make(image, place.clone())).transpose()?;
            let (config, data) = (config_path(&self.folder, id), place.join(format!("node-{id}")));
            list.insert(id, Machine { process: None, disk, config, data, starts: 0, is_made: false });
        }
        Ok(Machines { server: server.to_owned(), folder: self.folder.clone(), list })
    }
}

/// The first port of the nodes. A node that is down must find its ports free when it comes back, so they lie
/// below those that the system gives to whoever connects.
const FIRST_PORT: u16 = 20_001;

/// A loopback address that no other run uses, of this process or of another.
fn own_host() -> IpAddr {
    static RUNS: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, high.max(1), low, RUNS.fetch_add(1, Ordering::Relaxed)))
}

fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::SIGKILL as i32)
}

fn config_path(folder: &Path, id: u16) -> PathBuf {
    folder.join(format!("cluster-n{id}.toml"))
}

impl Machines {
    fn machine(&mut self, id: u16) -> Result<&mut Machine, HarnessFailure> {
        self.list.get_mut(&id).ok_or_else(|| HarnessFailure(format!("there is no n{id}")))
    }

    /// The process of a node, which must run.
    pub fn process(&mut self, id: u16) -> Result<&mut Process, HarnessFailure> {
        let process = self.machine(id)?.process.as_mut();
        process.ok_or_else(|| HarnessFailure(format!("n{id} does not run")))
    }

    pub fn ids(&self) -> Vec<u16> {
        self.list.keys().copied().collect()
    }

    /// The folder of a node's files.
    pub fn data(&self, id: u16) -> Option<&Path> {
        self.list.get(&id).map(|machine| machine.data.as_path())
    }

    /// Starts nodes that do not run. One that does not come up is a finding.
    pub fn start(&mut self, run: &Run<'_>, ids: &[u16]) -> Done {
        for id in ids {
            self.spawn(run, *id, None)?;
        }
        for id in ids {
            self.wait_for_start(run, *id)?;
        }
        Ok(())
    }

    /// Starts a process, maybe under strace which does this to it.
    fn spawn(&mut self, run: &Run<'_>, id: u16, inject: Option<&str>) -> Done {
        let (server, folder) = (self.server.to_string_lossy().into_owned(), self.folder.clone());
        let machine = self.machine(id)?;
        machine.starts += 1;
        let log = folder.join(format!("n{id}-start-{:03}.log", machine.starts));
        let id_text = id.to_string();
        let (config, data) = (machine.config.to_string_lossy(), machine.data.to_string_lossy());
        let strace = inject.map(tools::under_strace).unwrap_or_default();
        let mut command: Vec<&str> = strace.iter().map(String::as_str).collect();
        command.extend([&*server, "--config", &*config, "--data-dir", &*data, "--id", &*id_text]);
        if !machine.is_made {
            command.push("--bootstrap");
        }
        let process = Process::start(&command, log)?;
        lock(&run.processes).insert(id, process.pid());
        machine.process = Some(process);
        Ok(())
    }

    fn wait_for_start(&mut self, run: &Run<'_>, id: u16) -> Done {
        let deadline = run.elapsed() + PATIENCE;
        loop {
            let process = self.process(id)?;
            if process.has_started() {
                self.machine(id)?.is_made = true;
                return Ok(());
            }
            let ended = process.wait(super::process::LOOK)?;
            let said = process.last_line();
            match ended {
                // The dead process's port can take a moment to be free, and another's may sit on it.
                Some(_) if said.contains("cannot listen for") && run.elapsed() < deadline => {
                    self.spawn(run, id, None)?
                }
                Some(_) if said.contains("cannot listen for") => {
                    return Err(HarnessFailure(format!("n{id}: {said}")));
                }
                Some(status) => {
                    self.forget(run, id)?;
                    run.finding(format_args!("n{id} does not start, {status}: {said}"));
                    return Ok(());
                }
                None if run.elapsed() > deadline => {
                    run.finding(format_args!("n{id} does not start within {} s: {said}", PATIENCE.as_secs()));
                    return Ok(());
                }
                None => {}
            }
        }
    }

    /// `kill -9` of these nodes, as near to at once as can be.
    pub fn kill(&mut self, run: &Run<'_>, ids: &[u16]) -> Done {
        for id in ids {
            self.process(*id)?.signal(Signal::SIGKILL)?;
        }
        for id in ids {
            self.take_end(run, *id, "killed", is_killed)?;
        }
        Ok(())
    }

    /// Waits for a node to be killed by somebody else. Nobody is to be found dead otherwise.
    pub fn take_kill(&mut self, run: &Run<'_>, id: u16) -> Done {
        self.take_end(run, id, "to be killed in a system call", is_killed).map(|_| ())
    }

    /// Starts a node that is killed as `inject` says. Says whether it was before its start was over; if not
    /// it is killed then.
    pub fn start_and_die(&mut self, run: &Run<'_>, id: u16, inject: &str) -> Result<bool, HarnessFailure> {
        self.spawn(run, id, Some(inject))?;
        let deadline = run.elapsed() + PATIENCE;
        loop {
            let process = self.process(id)?;
            let is_over = process.has_started() || run.elapsed() > deadline;
            let has_ended = process.wait(super::process::LOOK)?.is_some();
            if has_ended && process.last_line().contains("cannot listen for") && run.elapsed() < deadline {
                self.spawn(run, id, Some(inject))?;
            } else if has_ended {
                let is_right = self.take_end(run, id, "to be killed in its start", is_killed)?;
                return Ok(is_right && !is_over);
            } else if is_over {
                self.kill(run, &[id])?;
                return Ok(false);
            }
        }
    }

    /// Starts a node that must refuse it, and say why in this word.
    pub fn must_refuse(&mut self, run: &Run<'_>, id: u16, word: &str) -> Done {
        self.spawn(run, id, None)?;
        let is_refused = |status: ExitStatus| status.code() == Some(2);
        let said = |machines: &Machines| machines.log(id).lines().last().unwrap_or_default().to_owned();
        if self.take_end(run, id, "to refuse its start", is_refused)? && !said(self).contains(word) {
            run.finding(format_args!("n{id} refused to start without a word of {word}: {}", said(self)));
        }
        Ok(())
    }

    /// Fills a node's disk, if it has one of its own; says whether.
    pub fn fill_disk(&mut self, id: u16) -> Result<bool, HarnessFailure> {
        let disk = self.machine(id)?.disk.as_ref();
        disk.map_or(Ok(false), |disk| disk.fill().map(|()| true))
    }

    /// Makes room on a node's disk again.
    pub fn empty_disk(&mut self, id: u16) -> Done {
        self.machine(id)?.disk.as_ref().map_or(Ok(()), MountedDisk::make_room)
    }

    /// A node's process is gone.
    fn forget(&mut self, run: &Run<'_>, id: u16) -> Done {
        lock(&run.processes).remove(&id);
        self.machine(id)?.process = None;
        Ok(())
    }

    /// SIGTERM, to which a node must answer with a clean end.
    pub fn stop(&mut self, run: &Run<'_>, id: u16) -> Done {
        self.process(id)?.signal(Signal::SIGTERM)?;
        self.take_end(run, id, "asked to stop", |status| status.code() == Some(0)).map(|_| ())
    }

    /// Waits for a node to find out that it must not go on: it ends with status 1, and its log says that
    /// it stops and why, in one of these words. Other threads may have a last word after that line.
    pub fn take_fault(&mut self, run: &Run<'_>, id: u16, words: &[&str]) -> Done {
        if !self.take_end(run, id, "at a disk that failed", |status| status.code() == Some(1))? {
            return Ok(());
        }
        let log = self.log(id);
        let stops = log.lines().rfind(|line| line.contains("stops: "));
        if !stops.is_some_and(|line| words.iter().any(|word| line.contains(word))) {
            let said = stops.unwrap_or("nothing");
            run.finding(format_args!("n{id} ended without saying why; of its end it said: {said}"));
        }
        Ok(())
    }

    fn log(&self, id: u16) -> String {
        let starts = self.list.get(&id).map_or(0, |machine| machine.starts);
        let path = self.folder.join(format!("n{id}-start-{starts:03}.log"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    fn last_log(&self, id: u16) -> String {
        self.log(id).lines().last().unwrap_or("nothing").to_owned()
    }

    /// Waits for the end of a node, and says whether it was the right one; any other is a finding.
    fn take_end(
        &mut self,
        run: &Run<'_>,
        id: u16,
        why: &str,
        is_right: impl Fn(ExitStatus) -> bool,
    ) -> Result<bool, HarnessFailure> {
        let ended = self.process(id)?.wait(PATIENCE)?;
        // What follows finds it gone in any case.
        self.forget(run, id)?;
        match ended {
            Some(status) if is_right(status) => return Ok(true),
            Some(status) => {
                let last = self.last_log(id);
                run.finding(format_args!("n{id}, {why}, ended with {status}; its last line: {last}"));
            }
            None => run.finding(format_args!("n{id}, {why}, goes on after {} s", PATIENCE.as_secs())),
        }
        Ok(false)
    }

    /// Whoever has ended by itself is a finding.
    pub fn look_after(&mut self, run: &Run<'_>) -> Done {
        for (id, machine) in &mut self.list {
            let Some(process) = &mut machine.process else { continue };
            if let Some(status) = process.ended()? {
                let last = process.last_line();
                run.finding(format_args!("n{id} ended by itself with {status}; its last line: {last}"));
                machine.process = None;
                lock(&run.processes).remove(id);
            }
        }
        Ok(())
    }

    /// Does nothing for so long, with an eye on the processes.
    pub fn rest(&mut self, run: &Run<'_>, length: Duration) -> Done {
        run.nap(length);
        self.look_after(run)
    }

    /// Cuts the power of these nodes: their disks forget what was not synced, and they are gone.
    pub fn lose_power(&mut self, run: &Run<'_>, ids: &[u16]) -> Done {
        let disks = self.list.iter().filter(|(id, _)| ids.contains(id));
        let folders: Vec<&Path> =
            disks.filter_map(|(_, machine)| machine.disk.as_ref()).map(MountedDisk::folder).collect();
        tools::power_off(&folders)?;
        for id in ids {
            self.process(*id)?.signal(Signal::SIGKILL)?;
        }
        for id in ids {
            // It may have met its dead disk before the signal met it.
            self.take_end(run, *id, "without power", |status| status.code().is_none_or(|code| code == 1))?;
            if let Some(disk) = &mut self.machine(*id)?.disk {
                disk.remount()?;
            }
        }
        Ok(())
    }

    /// The size of the part of a node's log that it writes to: each start may begin a new one.
    pub fn newest_segment_bytes(&self, id: u16) -> u64 {
        let Some(folder) = self.data(id) else { return 0 };
        let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path());
        let newest = files.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).max();
        newest.and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
    }

    /// What stands in the logs of all starts of all nodes and should not.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for (id, machine) in &self.list {
            for start in 1..=machine.starts {
                let name = format!("n{id}-start-{start:03}.log");
                let text = fs::read(self.folder.join(&name)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let bad = text.lines().find(|line| line.contains("panicked"));
                complaints.extend(bad.map(|line| format!("P13: a panic in {name}: {line}")));
            }
        }
        complaints
    }
}
