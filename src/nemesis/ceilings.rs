//! P12 from outside: what each process takes of its machine (threads, descriptors, memory), looked at all the
//! time. Each has a ceiling that follows from who is connected, and when nobody asks any more a node must
//! have given back all threads and descriptors but those of an idle node with its peers.
//!
//! ```text
//!   /proc/PID ──> Usage ──<= ceiling(peers, guests of late, log)      always
//!                        └─<= idle(peers, guests here)                 after healing
//! ```

use super::guests::LINGERING;
use super::machines::Machines;
use super::run::{Run, lock};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two looks at all nodes.
const PAUSE: Duration = Duration::from_millis(100);

/// Main, raft, kv, the one that writes snapshots, the two listeners, the clients' readers, the writer of the
/// log, and the one that waits for signals.
const OWN_THREADS: u64 = 9;
/// Three standard streams, two listeners, what the clients' readers wait by, the folder (its lock, and a
/// handle each for the log and for snapshots), and the segment that is written to.
const OWN_DESCRIPTORS: u64 = 10;
/// Files that are open for a moment: a new segment or identity beside the old one, a connection that is
/// accepted and belongs to nobody yet.
const PASSING_DESCRIPTORS: u64 = 8;
/// To each peer one thread sends, on a connection of two descriptors.
const SENDER: (u64, u64) = (1, 2);
/// From each peer one thread reads, on a connection of three descriptors: one is for whoever ends it when the
/// peer comes anew.
const READER: (u64, u64) = (1, 3);
/// A node takes so many connections of peers at a time, its own limit: links that are reset and dialled again
/// may leave some behind for a moment.
const PEER_CONNECTIONS: u64 = 64;
/// Each client has a reader and a writer, with a descriptor each; and a thread for each, once its reader had
/// to wait.
const GUEST: (u64, u64) = (2, 2);
/// Threads of a client that never sent so much at once that its reader had to wait.
const IDLE_GUEST_THREADS: u64 = 1;
/// The program, its queues, the sessions of some dozen clients, and what is under way: the contract would
/// allow 64 MiB of uncommitted entries and as many of remembered answers, but a dozen clients with sixteen
/// requests each, a long one of 20 kB among sixty, can not fill a tenth of it.
const OWN_BYTES: u64 = 48 * MIB;
/// Two stacks as far as they are touched, a line that is being read, answers on their way; measured: 100 KiB.
/// Counted for the most that were ever there: what the allocator got it may keep.
const GUEST_BYTES: u64 = 128 * 1024;
/// An entry may stand in the log's memory, in the store, among the remembered answers, and in what is sent.
const COPIES_OF_LOG: u64 = 4;

const MIB: u64 = 1024 * 1024;

/// What a process has of its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub threads: u64,
    pub descriptors: u64,
    pub resident_bytes: u64,
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Usage { threads, descriptors, resident_bytes } = self;
        write!(f, "{threads} threads, {descriptors} descriptors, {} MiB", resident_bytes.div_ceil(MIB))
    }
}

impl Usage {
    /// The same and so many descriptors more, which come from whoever started this program.
    pub fn with_inherited(self, descriptors: u64) -> Usage {
        Usage { descriptors: self.descriptors + descriptors, ..self }
    }

    /// What an idle node has with so many peers and so many clients that ask for nothing. Its memory is of
    /// no interest: the allocator may keep it.
    pub fn idle(peers: u64, guests: u64) -> Usage {
        Usage {
            threads: OWN_THREADS + peers * (SENDER.0 + READER.0) + guests * IDLE_GUEST_THREADS,
            descriptors: OWN_DESCRIPTORS + peers * (SENDER.1 + READER.1) + guests * GUEST.1,
            resident_bytes: u64::MAX,
        }
    }

    /// What a node may have, whatever happens to it. `most_guests` were there at one time, or are.
    pub fn ceiling(peers: u64, guests: u64, most_guests: u64, log_bytes: u64) -> Usage {
        Usage {
            threads: OWN_THREADS + peers * SENDER.0 + PEER_CONNECTIONS * READER.0 + guests * GUEST.0,
            descriptors: OWN_DESCRIPTORS
                + PASSING_DESCRIPTORS
                + peers * SENDER.1
                + PEER_CONNECTIONS * READER.1
                + guests * GUEST.1,
            resident_bytes: OWN_BYTES + most_guests * GUEST_BYTES + COPIES_OF_LOG * log_bytes,
        }
    }

    /// Whether there is no more of anything than there.
    pub fn is_within(&self, ceiling: &Usage) -> bool {
        self.threads <= ceiling.threads
            && self.descriptors <= ceiling.descriptors
            && self.resident_bytes <= ceiling.resident_bytes
    }

    /// What the process has now, and whether it is stopped; none when it is gone.
    fn of(pid: u32) -> Option<(Usage, bool)> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let word = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()
        };
        let number = |name: &str| word(name)?.parse::<u64>().ok();
        let usage = Usage {
            threads: number("Threads:")?,
            descriptors: fs::read_dir(folder.join("fd")).ok()?.count() as u64,
            // One that is ending has no memory any more.
            resident_bytes: number("VmRSS:")? * 1024,
        };
        Some((usage, word("State:") == Some("T")))
    }
}

/// What was looked at of one node.
#[derive(Debug, Default)]
struct Node {
    data: PathBuf,
    /// The most that its files came to.
    log_bytes: u64,
    most_guests: u64,
    /// Of each the most that was seen, and what was allowed then.
    threads: (u64, u64),
    descriptors: (u64, u64),
    resident_bytes: (u64, u64),
}

/// Looks at all processes.
#[derive(Debug)]
pub(super) struct Ceilings {
    nodes: BTreeMap<u16, Node>,
    inherited: u64,
}

impl Ceilings {
    /// For these nodes, none of which was looked at.
    pub fn of(machines: &Machines) -> Ceilings {
        let data = |id| machines.data(id).map(Path::to_owned).unwrap_or_default();
        let nodes = machines.ids().into_iter().map(|id| (id, Node { data: data(id), ..Node::default() }));
        Ceilings { nodes: nodes.collect(), inherited: inherited_descriptors() }
    }

    /// Looks until the run is over.
    pub fn watch(&mut self, run: &Run<'_>) {
        while !run.is_over() {
            self.look(run);
            std::thread::sleep(PAUSE);
        }
    }

    fn look(&mut self, run: &Run<'_>) {
        let peers = self.nodes.len() as u64 - 1;
        let processes = lock(&run.processes).clone();
        for (id, pid) in processes {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            // Looked at first: whoever comes meanwhile counts already, and has no thread yet.
            let Some((usage, is_stopped)) = Usage::of(pid) else { continue };
            if is_stopped {
                run.guests.nobody_is_seen_off(id);
            }
            let guests = run.guests.here_or_lingering(id) as u64;
            node.most_guests = node.most_guests.max(guests);
            node.log_bytes = node.log_bytes.max(bytes_in(&node.data));
            let ceiling = Usage::ceiling(peers, guests, node.most_guests, node.log_bytes);
            let ceiling = ceiling.with_inherited(self.inherited);
            node.threads = node.threads.max((usage.threads, ceiling.threads));
            node.descriptors = node.descriptors.max((usage.descriptors, ceiling.descriptors));
            node.resident_bytes = node.resident_bytes.max((usage.resident_bytes, ceiling.resident_bytes));
            if !usage.is_within(&ceiling) {
                run.finding(format_args!(
                    "P12: n{id} has {usage}; with {guests} guests it may have {ceiling}"
                ));
            }
        }
    }

    /// Nobody asks any more: every node comes to what an idle one has.
    pub fn must_come_down(&self, run: &Run<'_>) {
        let peers = self.nodes.len() as u64 - 1;
        let idle = |id: u16| Usage::idle(peers, run.guests.here(id) as u64).with_inherited(self.inherited);
        let mut last = BTreeMap::new();
        let is_down = || {
            let processes = lock(&run.processes).clone();
            last = processes.into_iter().filter_map(|(id, pid)| Some((id, Usage::of(pid)?.0))).collect();
            last.iter().all(|(id, usage)| usage.is_within(&idle(*id))).then_some(())
        };
        if run.wait_for(LINGERING, is_down).is_some() || run.is_cut_short() {
            return;
        }
        for (id, usage) in &last {
            let idle = idle(*id);
            if !usage.is_within(&idle) {
                let (threads, descriptors) = (idle.threads, idle.descriptors);
                run.finding(format_args!(
                    "P12: nobody has asked for {} s, and n{id} has {usage}; an idle node has {threads} \
                     threads and {descriptors} descriptors",
                    LINGERING.as_secs()
                ));
            }
        }
    }

    /// Who was never looked at.
    pub fn unseen(&self) -> Vec<u16> {
        self.nodes.iter().filter(|(_, node)| node.threads.0 == 0).map(|(id, _)| *id).collect()
    }

    /// For the report: the most that any node had of each, and what it might have had then.
    pub fn lines(&self) -> Vec<String> {
        let most = |of: fn(&Node) -> (u64, u64)| self.nodes.values().map(of).max().unwrap_or_default();
        let line =
            |what, (most, allowed)| format!("{most:>10}  {what} of a node, at most; allowed {allowed}");
        let (bytes, allowed_bytes) = most(|node| node.resident_bytes);
        vec![
            line("threads", most(|node| node.threads)),
            line("descriptors", most(|node| node.descriptors)),
            line("MiB of memory", (bytes.div_ceil(MIB), allowed_bytes / MIB)),
        ]
    }
}

/// Descriptors beyond the standard streams that this process has from its parent and passes on: all that it
/// opens itself are closed when a program begins.
fn inherited_descriptors() -> u64 {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let is_passed_on = |path: PathBuf| {
        let text = fs::read_to_string(path).ok()?;
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & CLOSE_ON_EXEC == 0)
    };
    let is_stream = |name: &str| matches!(name, "0" | "1" | "2");
    let files = fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    let files = files.filter(|file| !file.file_name().to_str().is_some_and(is_stream));
    files.filter(|file| is_passed_on(file.path()) == Some(true)).count() as u64
}

/// How much the files of a folder hold; nothing when it can not be read.
fn bytes_in(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_or_a_descriptor_too_many_is_noticed() {
        let idle = Usage::idle(2, 1);
        assert_eq!((idle.threads, idle.descriptors), (14, 22));
        let usage = Usage { resident_bytes: 10 * MIB, ..idle };
        assert!(usage.is_within(&idle));
        assert!(!Usage { threads: 15, ..usage }.is_within(&idle));
        assert!(!Usage { descriptors: 23, ..usage }.is_within(&idle));

        let ceiling = Usage::ceiling(2, 100, 100, 0);
        assert!(Usage { resident_bytes: ceiling.resident_bytes, ..Usage::idle(2, 100) }.is_within(&ceiling));
        assert!(!Usage { threads: ceiling.threads + 1, ..usage }.is_within(&ceiling));
        assert!(!Usage { descriptors: ceiling.descriptors + 1, ..usage }.is_within(&ceiling));
        assert!(!Usage { resident_bytes: ceiling.resident_bytes + 1, ..usage }.is_within(&ceiling));
    }

    #[test]
    fn a_process_is_seen_as_it_is() {
        let (before, is_stopped) = Usage::of(std::process::id()).expect("it runs");
        assert!(!is_stopped);
        let files: Vec<_> = (0..300).map(|_| fs::File::open("/dev/null").expect("a file")).collect();
        let (after, _) = Usage::of(std::process::id()).expect("it runs");
        assert!(after.descriptors >= 300, "{before}, {after}");
        assert!(before.threads > 0 && before.resident_bytes > MIB, "{before}");
        drop(files);
        assert_eq!(Usage::of(u32::MAX), None);
    }
}
