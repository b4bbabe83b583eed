//! One node of a script's cluster: the core, its disk, and a small application on top that applies only when
//! the script says so, so that "committed" and "applied" can be told apart.

use crate::disk::{Disk, Save};
use crate::snapshot::Snapshot;
use raftkv::raft::{Configuration, Output, RaftState, Settings, Start};
use raftkv::types::{Entry, EntryId, Index, NodeId, Term};
use std::collections::{BTreeMap, VecDeque};

/// A node, up or down.
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// The core; none while the node is down.
    pub state: Option<RaftState>,
    /// What survives a crash.
    pub disk: Disk,
    /// The application; its store is rebuilt from the log after a start.
    pub app: App,
    /// Saves wait for the script's word.
    pub saves_held: bool,
    /// A snapshot that is wholly received waits for the script's word on it.
    pub installs_held: bool,
    /// Batches whose `now` messages have left and whose save has not begun, oldest first.
    pub unsaved: VecDeque<Unsaved>,
    /// The node is to crash in its next batch, right after this effect.
    pub crash_after: Option<Effect>,
    /// Counts the requests of this start.
    pub next_request: u64,
    /// Counts the changes of members that were asked for in this start.
    pub changes: u64,
    reads: u64,
    seed: u64,
}

/// A batch that waits for its save.
pub struct Unsaved {
    /// What is to be saved.
    pub save: Save,
    /// The rest of the output.
    pub output: Output,
    /// What `Input::Saved` will say.
    pub term: Term,
    /// What `Input::Saved` will say.
    pub last: EntryId,
}

/// The effects of a batch, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was carried out.
    Start,
    /// The messages left that need not wait for the save.
    Now,
    /// The save is done.
    Save,
    /// The other messages left; nothing is published.
    Send,
}

/// What stands on top of a node.
#[derive(Default)]
pub struct App {
    /// The state machine.
    pub store: BTreeMap<String, String>,
    /// Everything up to here is in the store.
    pub last_applied: Index,
    /// Reads that arrived: number, key, and the highest index that any node knew to be committed then.
    pub reads: VecDeque<Read>,
}

/// A client's read.
pub struct Read {
    /// Its number.
    pub number: u64,
    /// What it wants to know.
    pub key: Option<String>,
    /// What it must not miss.
    pub committed_before: Index,
    /// From where on it may be served.
    pub ready_at: Option<Index>,
}

impl Node {
    /// A node that is down, with a disk that only knows who belongs to the cluster.
    pub fn new(id: NodeId, configuration: Configuration, seed: u64) -> Node {
        Node {
            id,
            state: None,
            disk: Disk::new(configuration),
            app: App::default(),
            saves_held: false,
            installs_held: false,
            unsaved: VecDeque::new(),
            crash_after: None,
            next_request: 0,
            changes: 0,
            reads: 0,
            seed,
        }
    }

    /// Starts from what is on the disk.
    pub fn start(&mut self, settings: Settings) {
        self.disk.recover();
        self.disk.boot += 1;
        let start = Start {
            id: self.id,
            boot: self.disk.boot,
            configuration: self.disk.configuration.clone(),
            may_vote: true,
            hard_state: self.disk.hard_state,
            log: self.disk.log(),
            seed: self.seed.wrapping_add(self.disk.boot),
        };
        self.state = Some(RaftState::new(start, settings));
        self.app = App::default();
        if let Some(snapshot) = &self.disk.snapshot {
            self.app.install(snapshot);
        }
        self.next_request = 0;
        self.changes = 0;
        self.reads = 0;
    }

    /// Loses everything that is not on the disk.
    pub fn crash(&mut self) {
        self.state = None;
        self.app = App::default();
        self.saves_held = false;
        self.installs_held = false;
        self.unsaved.clear();
        self.crash_after = None;
    }

    /// The number of the next read: they rise from 1 with each start.
    pub fn next_read(&mut self) -> u64 {
        self.reads += 1;
        self.reads
    }

    /// The core of a node that is up.
    pub fn up(&mut self) -> Result<&mut RaftState, String> {
        let id = self.id;
        self.state.as_mut().ok_or(format!("{id} is down"))
    }
}

impl App {
    /// Applies one entry.
    pub fn apply(&mut self, entry: &Entry) {
        if let Some((key, value)) = crate::show::assignment(&entry.command) {
            self.store.insert(key, value);
        }
        self.last_applied = entry.index;
    }

    /// Takes over what a snapshot says.
    pub fn install(&mut self, snapshot: &Snapshot) {
        self.store = snapshot.store.clone();
        self.last_applied = snapshot.last.index;
    }

    /// The reads that may be served now, oldest first.
    pub fn take_servable(&mut self) -> Vec<Read> {
        let applied = self.last_applied;
        let is_servable = |read: &Read| read.ready_at.is_some_and(|index| index <= applied);
        let (servable, waiting) = self.reads.drain(..).partition(is_servable);
        self.reads = waiting;
        Vec::from(servable)
    }
}
