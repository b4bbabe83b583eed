//! One node's machine: its disk, which outlives everything, and its process, which does not. Nothing here
//! decides when something happens; the world does.

use super::Violation;
use super::durable::Durable;
use super::faults::FaultClass;
use super::plan::{Plan, TICK_MS};
use super::process::{Batch, Effect, Process, Recorder, log_syncs};
use super::snapshots::{Restored, Unreadable, restore};
use crate::kv::KvStore;
use crate::node::{Fault, Greeting, Node};
use crate::raft::{Configuration, Log, RaftState, Start};
use crate::storage::{FirstStart, MemoryDisk, Opening, Recovered, Storage, StorageError};
use crate::types::{EntryId, Incarnation, NodeId};
use crate::wire::peer::NEWEST_VERSION;
use std::fmt;

/// A node's machine.
pub(super) struct Machine {
    pub id: NodeId,
    pub disk: MemoryDisk,
    pub process: Option<Process>,
    /// Counts starts and ends, so that what belongs to an earlier process is known.
    pub life: u64,
    pub durable: Durable,
    /// What a save that did not end would have made durable, whole or not at all.
    attempted: Option<Durable>,
    /// What a disk held that was wiped: it speaks for the node that was, not for the one that came after it.
    pub lost: Option<Durable>,
    /// How its folder began.
    first_start: FirstStart,
    pub condition: Condition,
    incarnation: Incarnation,
    last_boot: u64,
    pub tick_ms: u64,
    pub is_paused: bool,
    /// It shall stay down.
    pub is_held_down: bool,
}

/// What has been done to a machine's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Sound,
    /// A bit of a byte has turned over.
    Flipped {
        name: String,
        at: usize,
        mask: u8,
    },
    /// Everything is gone.
    Empty,
    /// Everything was gone, and it has begun anew, under its old id.
    Anew,
    /// Everything was gone, and it comes back as somebody new, who does not vote yet.
    Rejoins,
}

/// What a start found.
#[derive(Debug)]
pub(super) struct Started {
    pub was_torn: bool,
    pub batch_survived: Option<bool>,
    pub segments: usize,
    /// The snapshot that its store was made of.
    pub snapshot: Option<Restored>,
    /// What was there of the log does not go on from that snapshot, and does not count.
    pub began_anew: bool,
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.was_torn {
            f.write_str(", a torn write is cut off")?;
        }
        if self.began_anew {
            f.write_str(", its log goes on after its snapshot")?;
        }
        match self.batch_survived {
            Some(true) => f.write_str(", the batch of its end is there"),
            Some(false) => f.write_str(", the batch of its end is not"),
            None => Ok(()),
        }
    }
}

/// Why a start failed.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// The disk did, as it was told to.
    Disk(String),
    /// The storage does not take the folder.
    Refused(String),
    /// It must not.
    Broken(Violation),
}

impl StartFailure {
    fn of(error: StorageError) -> StartFailure {
        match error.is_disk_fault() {
            true => StartFailure::Disk(error.to_string()),
            false => StartFailure::Refused(error.to_string()),
        }
    }
}

/// The cluster's name.
pub(super) const CLUSTER: &str = "sim";

impl Machine {
    pub fn new(id: NodeId, plan: &Plan) -> Machine {
        let is_first = plan.first_voters().contains(&id);
        Machine {
            id,
            disk: new_disk(plan.has(FaultClass::LyingDisks)),
            first_start: if is_first { FirstStart::Bootstrap } else { FirstStart::Join },
            process: None,
            life: 0,
            durable: Durable::nothing(),
            attempted: None,
            lost: None,
            condition: Condition::Sound,
            incarnation: first_incarnation(id),
            last_boot: 0,
            tick_ms: TICK_MS,
            is_paused: false,
            is_held_down: false,
        }
    }

    /// The start counter of its newest start; 0 before the first.
    pub fn last_boot(&self) -> u64 {
        self.last_boot
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// What a process of this machine says, or has said, of itself when it connects, if it showed this
    /// incarnation. What a folder said that is lost is known to those whom it told.
    pub fn greeting(&self, incarnation: Incarnation) -> Greeting {
        let process = self.process.as_ref().filter(|_| incarnation == self.incarnation);
        Greeting {
            peer: self.id,
            incarnation,
            life: process.and_then(|process| process.node.life()),
            newest_version: NEWEST_VERSION,
            address: None,
            has_lost_data: match process {
                Some(process) => process.node.has_lost_data(),
                None => incarnation == self.incarnation && self.condition == Condition::Rejoins,
            },
        }
    }

    /// Starts a process on what the disk holds, and holds that against what it must hold.
    pub fn start(&mut self, plan: &Plan, seed: u64) -> Result<Started, StartFailure> {
        assert!(self.process.is_none(), "{} runs already", self.id);
        let id = self.id;
        let refused = StartFailure::of;
        let (mut storage, recovered) =
            Storage::open(self.disk.clone(), &self.opening(plan)).map_err(refused)?;
        let (store, snapshot, configuration) = match &recovered.snapshot {
            None => (KvStore::new(), None, self.first_configuration(plan)),
            Some(meta) => {
                let lines = storage.open_snapshot(meta.last).map_err(refused)?.into_iter().flatten();
                let (store, restored) = restore(meta, lines).map_err(|unreadable| match unreadable {
                    Unreadable::Storage(error) => StartFailure::of(error),
                    Unreadable::Invalid(why) => StartFailure::Refused(why),
                })?;
                (store, Some(restored), meta.configuration.clone())
            }
        };
        let boot = storage.raise_boot().map_err(refused)?;
        if boot <= self.last_boot {
            let what = format!("{id}: boot {boot} after boot {}", self.last_boot);
            return Err(StartFailure::Broken(Violation::new("P6", what)));
        }
        let was_torn = recovered.torn.is_some();
        let (began_anew, batch_survived) = self.find(recovered)?;
        self.last_boot = boot;
        self.life += 1;
        self.is_paused = false;
        let start = Start {
            id,
            boot,
            configuration,
            may_vote: storage.may_vote(),
            hard_state: self.durable.hard_state,
            log: Log::new(self.durable.base, self.durable.log.clone()),
            seed,
        };
        let node = Node::new(RaftState::new(start, plan.settings()), boot, storage, plan.node_settings());
        self.process = Some(Process::new(node, store));
        let names = crate::storage::Disk::list(&self.disk).unwrap_or_default();
        let segments = names.iter().filter(|name| name.starts_with("log-")).count();
        Ok(Started { was_torn, batch_survived, segments, snapshot, began_anew })
    }

    /// Those that the cluster is made of know each other; the others know nobody.
    fn first_configuration(&self, plan: &Plan) -> Configuration {
        match self.first_start {
            FirstStart::Bootstrap | FirstStart::Refused => Configuration::new(plan.first_voters()),
            FirstStart::Join | FirstStart::Rejoin => Configuration::default(),
        }
    }

    fn opening(&self, plan: &Plan) -> Opening {
        let first_start = if self.last_boot == 0 { self.first_start } else { FirstStart::Refused };
        Opening {
            cluster: CLUSTER.to_owned(),
            node: self.id,
            voters: plan.first_voters(),
            first_start,
            incarnation: self.incarnation,
            segment_sizes: plan.segment_sizes,
        }
    }

    /// Holds what a start has found against what must be there. Says whether the log had to begin anew after
    /// a snapshot, and whether what was being saved at the process's end is there.
    fn find(&mut self, recovered: Recovered) -> Result<(bool, Option<bool>), StartFailure> {
        let Recovered { hard_state, base, entries, .. } = recovered;
        let found = Durable { hard_state, base, log: entries };
        let attempted = self.attempted.take();
        let batch_survived = attempted.as_ref().map(|attempted| attempted.may_be_found_as(&found));
        if !self.durable.may_be_found_as(&found) && batch_survived != Some(true) {
            let what = format!(
                "{} comes back with {:?} and a log after {} to {}, but had {:?} and a log after {} to {} on \
                 stable storage",
                self.id,
                found.hard_state,
                found.base,
                found.last(),
                self.durable.hard_state,
                self.durable.base,
                self.durable.last()
            );
            return Err(StartFailure::Broken(Violation::new("P5", what)));
        }
        let began_anew = !self.durable.contains(found.base);
        self.durable = found;
        Ok((began_anew, batch_survived))
    }

    /// Everything on the disk is gone.
    pub fn wipe(&mut self, lies: bool) {
        self.disk = new_disk(lies);
        self.lost = Some(std::mem::replace(&mut self.durable, Durable::nothing()));
        self.attempted = None;
        self.condition = Condition::Empty;
    }

    /// Somebody has said of an empty folder that it is a new node's.
    pub fn begin_anew(&mut self) {
        self.condition = Condition::Anew;
        self.incarnation = Incarnation(2_000 + u64::from(self.id.0));
        self.last_boot = 0;
    }

    /// Somebody has said of an empty folder that it is a node's which has lost its data.
    pub fn rejoin(&mut self) {
        self.condition = Condition::Rejoins;
        self.first_start = FirstStart::Rejoin;
        self.incarnation = Incarnation(3_000 + u64::from(self.id.0));
        self.last_boot = 0;
    }

    /// Whether it was let in again by now, as somebody new with a vote: what it had as another does not count
    /// any more.
    pub fn is_let_in_again(&mut self) -> bool {
        let Some(process) = self.process.as_ref().filter(|_| self.condition == Condition::Rejoins) else {
            return false;
        };
        let member = process.node.raft().configuration().members.get(&self.id);
        let is_named = member.is_some_and(|member| member.incarnation == Some(self.incarnation));
        if is_named {
            (self.condition, self.lost) = (Condition::Sound, None);
        }
        is_named
    }

    /// Whether its disk was ever wiped.
    pub fn was_wiped(&self) -> bool {
        self.lost.is_some() || self.first_start == FirstStart::Rejoin
    }

    /// Whether the node has this entry on disk, as far as the others can know. What was wiped they count on
    /// still; of one that began anew they know nothing, of one that is being let in again what it says.
    pub fn has(&self, id: EntryId) -> bool {
        match &self.lost {
            Some(lost) if self.condition == Condition::Rejoins => {
                lost.contains(id) || self.durable.contains(id)
            }
            Some(lost) => lost.contains(id),
            None => self.durable.contains(id),
        }
    }

    /// Whether this entry was about to become durable when the process ended, and may have.
    pub fn may_have(&self, id: EntryId) -> bool {
        self.attempted.as_ref().is_some_and(|attempted| attempted.contains(id))
    }

    /// Ends the process. With `keeping`, the machine loses power too, and `keeping` chooses what survives of
    /// what was not synced; without, all that was written is still there to be read.
    pub fn stop(&mut self, keeping: Option<&mut dyn FnMut(usize) -> usize>) -> Option<Process> {
        self.life += 1;
        self.is_paused = false;
        if let Some(choose) = keeping {
            self.disk.crash_keeping(choose);
        }
        self.process.take()
    }

    /// Takes all that waits in the inbox, in the server's order, and carries it out. None when nothing runs.
    pub fn run_batch(&mut self) -> Option<Batch> {
        let process = self.process.as_mut()?;
        let (hard_state_before, last_before) = (self.durable.hard_state, self.durable.last());
        let raft = process.node.raft();
        let configuration_before = (raft.shared_configuration(), raft.configuration_index());
        let ticks = process.ticks_due;
        let syncs_before = log_syncs(&self.disk);
        let events =
            process.peers_inbox.len() + process.application_inbox.len() + process.clients_inbox.len();
        let mut recorder = Recorder { disk: self.disk.clone(), effects: Vec::new(), ..Recorder::default() };
        let outcome = process.take_all(&mut recorder);
        let outcome = outcome.map_err(Fault::Disk).and_then(|()| process.node.finish_batch(&mut recorder));
        process.name_requests();
        recorder.turned_away.drain(..).for_each(|peer| process.turn_away(peer));
        let has_saved = log_syncs(&self.disk) != syncs_before;
        let split = recorder.effects.iter().take_while(|(_, syncs)| *syncs == syncs_before).count();
        let mut before_save: Vec<Effect> = recorder.effects.into_iter().map(|(effect, _)| effect).collect();
        let after_save = before_save.split_off(split);
        let error = outcome.err().map(|fault| match fault {
            Fault::Disk(error) => error.to_string(),
            Fault::Diverged(diverged) => panic!("{diverged}"),
        });
        // Whatever failed after its effects had left, the save was done.
        let is_certain = error.is_none() || !after_save.is_empty();
        let new_from = if is_certain {
            self.durable.follow(process.node.raft())
        } else {
            let mut attempted = self.durable.clone();
            let new_from = attempted.follow(process.node.raft());
            self.attempted = Some(attempted);
            new_from
        };
        let notes = recorder.notes;
        Some(Batch {
            before_save,
            after_save,
            notes,
            hard_state_before,
            last_before,
            configuration_before,
            ticks,
            new_from,
            events,
            has_saved,
            error,
        })
    }
}

/// Of a node's first folder.
pub(super) fn first_incarnation(id: NodeId) -> Incarnation {
    Incarnation(1_000 + u64::from(id.0))
}

fn new_disk(lies: bool) -> MemoryDisk {
    let disk = MemoryDisk::new();
    disk.lie(lies);
    disk
}
