//! When a node's log is long enough for a snapshot, and how far each is on its way.
//!
//! ```text
//!   Idle --log too long--> Asked: the application is to hand out a view behind this entry
//!    ^                       | its next poll: it has
//!    |                     Taken: the log goes on in a segment that needs nothing before it
//!    |                       |
//!    +---- durable ------- Writing: another thread writes the view, nobody waits for it
//! ```
//!
//! A snapshot of a leader may overtake one that is being written: then that one is of no use any more, and
//! what it leaves on the disk goes with the next.

use crate::types::{EntryId, Index};

/// When a log is too long: by either measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes on disk.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// While a follower is being sent a snapshot, the next one waits: with it, that follower would have to begin
/// anew, and never come to an end. But the log waits no longer than to so many times its limit.
const PATIENCE: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Asked { at: Index },
    Taken { last: EntryId },
    Writing,
}

/// The snapshots that a node takes.
pub(super) struct Snapshots<T> {
    limits: LogLimits,
    phase: Phase,
    /// The view of the phases before `Writing` is written already: whoever writes it may be heard before the
    /// application that has handed it out, or with it.
    is_written_early: bool,
    /// Durable, and the log was not compacted for it yet.
    durable: Option<EntryId>,
    /// Who wants one whatever the limits say, and those who wait for the one that is under way.
    wanted_by: Vec<T>,
    awaited_by: Vec<T>,
}

/// How long a log is.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSize {
    pub bytes: u64,
    pub entries: u64,
}

impl<T> Snapshots<T> {
    pub fn new(limits: LogLimits) -> Snapshots<T> {
        Snapshots {
            limits,
            phase: Phase::Idle,
            is_written_early: false,
            durable: None,
            wanted_by: Vec::new(),
            awaited_by: Vec::new(),
        }
    }

    /// Somebody wants one now.
    pub fn want(&mut self, ticket: T) {
        self.wanted_by.push(ticket);
    }

    /// Whether the application is to be asked for a view.
    pub fn is_due(&self, size: LogSize, is_being_sent: bool) -> bool {
        let LogLimits { bytes, entries } = self.limits;
        let is_beyond = |times: u64| {
            size.bytes >= bytes.saturating_mul(times) || size.entries >= entries.saturating_mul(times)
        };
        let is_too_long = is_beyond(if is_being_sent { PATIENCE } else { 1 });
        self.phase == Phase::Idle && size.entries > 0 && (is_too_long || !self.wanted_by.is_empty())
    }

    /// The application is asked, behind this entry.
    pub fn ask(&mut self, at: Index) {
        self.phase = Phase::Asked { at };
        self.awaited_by.append(&mut self.wanted_by);
    }

    /// The application has applied everything up to here, and has handed out the view if it was asked.
    /// `id_at` names the entry at an index.
    pub fn applied(&mut self, last_applied: Index, id_at: impl Fn(Index) -> Option<EntryId>) {
        let Phase::Asked { at } = self.phase else { return };
        assert_eq!(at, last_applied, "the application hands out the view that it was asked for");
        // The log may begin after it by now: then the view is written for nothing.
        match id_at(at) {
            Some(last) => self.phase = Phase::Taken { last },
            None => self.begin_to_wait(),
        }
    }

    /// The view that was handed out and for which the log has no segment yet.
    pub fn taken(&mut self) -> Option<EntryId> {
        let Phase::Taken { last } = self.phase else { return None };
        self.begin_to_wait();
        Some(last)
    }

    fn begin_to_wait(&mut self) {
        let is_written = std::mem::take(&mut self.is_written_early);
        self.phase = if is_written { Phase::Idle } else { Phase::Writing };
    }

    /// The view that was handed out is written.
    pub fn written(&mut self, last: EntryId) {
        match self.phase {
            Phase::Asked { .. } | Phase::Taken { .. } => self.is_written_early = true,
            Phase::Idle | Phase::Writing => self.phase = Phase::Idle,
        }
        self.is_durable(last);
    }

    /// This snapshot is durable, taken here or received.
    pub fn is_durable(&mut self, last: EntryId) {
        self.durable = self.durable.max(Some(last));
    }

    /// The snapshot for which the log can be compacted now, if it is applied and further than the log's base.
    pub fn compactable(&mut self, base: EntryId, last_applied: Index) -> Option<EntryId> {
        // The log's segment is begun first.
        if self.is_written_early || matches!(self.phase, Phase::Taken { .. }) {
            return None;
        }
        let durable = self.durable.take_if(|durable| durable.index <= last_applied)?;
        (durable.index > base.index).then_some(durable)
    }

    /// Those who waited for a snapshot, once none is under way.
    pub fn served(&mut self) -> Vec<T> {
        match self.phase {
            Phase::Idle if self.durable.is_none() => std::mem::take(&mut self.awaited_by),
            Phase::Idle | Phase::Asked { .. } | Phase::Taken { .. } | Phase::Writing => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    const LIMITS: LogLimits = LogLimits { bytes: u64::MAX, entries: 10 };

    fn id(index: i64) -> EntryId {
        EntryId::new(Term(1), Index(index))
    }

    /// What a node does at the end of a batch: the entry that its log is whole after, and that it begins
    /// after.
    fn keep_house(snapshots: &mut Snapshots<()>, applied: i64) -> (Option<EntryId>, Option<EntryId>) {
        (snapshots.taken(), snapshots.compactable(EntryId::NONE, Index(applied)))
    }

    #[test]
    fn a_view_that_is_written_before_the_node_hears_that_it_was_taken_is_not_waited_for() {
        // Found by the simulator: a small store is written sooner than the node comes to hear of the
        // application that has handed out the view. It waited for that snapshot for good then, took no other
        // one, and its log grew without end.
        let long = LogSize { bytes: 0, entries: 10 };
        for is_in_one_batch in [true, false] {
            let mut snapshots = Snapshots::new(LIMITS);
            assert!(snapshots.is_due(long, false));
            snapshots.ask(Index(9));
            if is_in_one_batch {
                snapshots.applied(Index(9), |index| Some(id(index.0)));
                snapshots.written(id(9));
            } else {
                snapshots.written(id(9));
                assert_eq!(keep_house(&mut snapshots, 9), (None, None));
                snapshots.applied(Index(9), |index| Some(id(index.0)));
            }
            assert!(!snapshots.is_due(long, false), "the log's segment comes first");
            assert_eq!(keep_house(&mut snapshots, 9), (Some(id(9)), Some(id(9))));
            assert!(snapshots.is_due(long, false), "in one batch: {is_in_one_batch}");
        }
    }

    #[test]
    fn a_view_of_no_use_is_waited_for_until_it_is_written() {
        let long = LogSize { bytes: 0, entries: 10 };
        for is_written_early in [true, false] {
            let mut snapshots = Snapshots::<()>::new(LIMITS);
            snapshots.ask(Index(9));
            if is_written_early {
                snapshots.written(id(9));
            }
            // A leader's snapshot has come meanwhile.
            snapshots.applied(Index(9), |_| None);
            assert_eq!(snapshots.taken(), None);
            if !is_written_early {
                assert!(!snapshots.is_due(long, false), "one snapshot is written at a time");
                snapshots.written(id(9));
            }
            assert_eq!(snapshots.compactable(id(20), Index(9)), None);
            assert!(snapshots.is_due(long, false), "written early: {is_written_early}");
        }
    }
}
