//! When a node's log is long enough for a snapshot, and how far each is on its way.
//!
//! ```text
//!   Idle --log too long--> Asked: the application is to hand out a view behind this entry
//!    ^                       | its next poll: it has
//!    |                       v
//!    +---- durable ------- Writing: the log goes on in a segment that needs nothing before that entry, and
//!                                   another thread writes the view; nobody waits for it
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
    Writing,
}

/// The snapshots that a node takes.
pub(super) struct Snapshots<T> {
    limits: LogLimits,
    phase: Phase,
    /// The view was handed out behind this entry, and the log has no segment for it yet.
    taken: Option<EntryId>,
    /// It is written before the application has said that it handed it out.
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
            taken: None,
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
        let is_written = std::mem::take(&mut self.is_written_early);
        self.phase = if is_written { Phase::Idle } else { Phase::Writing };
        // The log may begin after it by now: then the view is written for nothing.
        self.taken = id_at(at);
    }

    /// The view that was handed out and for which the log has no segment yet.
    pub fn taken(&mut self) -> Option<EntryId> {
        self.taken.take()
    }

    /// The view that was handed out is written. Whoever writes it may be heard before the application that
    /// has handed it out: a small store is written quickly, and a poll may be slow.
    pub fn written(&mut self, last: EntryId) {
        match self.phase {
            Phase::Asked { .. } => self.is_written_early = true,
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
        if self.is_written_early {
            return None;
        }
        let durable = self.durable.take_if(|durable| durable.index <= last_applied)?;
        (durable.index > base.index).then_some(durable)
    }

    /// Those who waited for a snapshot, once none is under way. When the newest one has everything that was
    /// applied, it is also the one that somebody wants now.
    pub fn served(&mut self, has_everything: bool) -> Vec<T> {
        match self.phase {
            Phase::Idle if self.durable.is_none() => {
                if has_everything {
                    self.awaited_by.append(&mut self.wanted_by);
                }
                std::mem::take(&mut self.awaited_by)
            }
            Phase::Idle | Phase::Asked { .. } | Phase::Writing => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Term;

    const LONG: LogSize = LogSize { bytes: 0, entries: 10 };

    fn id(index: i64) -> EntryId {
        EntryId::new(Term(1), Index(index))
    }

    fn due_after_ten_entries() -> Snapshots<&'static str> {
        Snapshots::new(LogLimits { bytes: 1_000, entries: 10 })
    }

    #[test]
    fn a_snapshot_is_due_by_bytes_by_entries_and_by_wish_and_never_of_nothing() {
        let mut snapshots = due_after_ten_entries();
        assert!(!snapshots.is_due(LogSize { bytes: 999, entries: 9 }, false));
        assert!(snapshots.is_due(LogSize { bytes: 1_000, entries: 1 }, false));
        assert!(snapshots.is_due(LONG, false));
        assert!(!snapshots.is_due(LONG, true), "a follower is being sent one");
        assert!(snapshots.is_due(LogSize { bytes: 8_000, entries: 10 }, true), "there is an end to patience");
        snapshots.want("operator");
        assert!(snapshots.is_due(LogSize { bytes: 1, entries: 1 }, false));
        assert!(!snapshots.is_due(LogSize { bytes: 9_999, entries: 0 }, false), "nothing is applied yet");
    }

    #[test]
    fn one_at_a_time_and_who_wants_one_meanwhile_gets_the_next() {
        let mut snapshots = due_after_ten_entries();
        snapshots.want("first");
        snapshots.ask(Index(9));
        snapshots.want("second");
        assert!(!snapshots.is_due(LONG, false));
        snapshots.applied(Index(9), |index| Some(id(index.0)));
        assert_eq!((snapshots.taken(), snapshots.taken()), (Some(id(9)), None));
        assert_eq!(snapshots.served(false), Vec::<&str>::new(), "it is not durable yet");
        snapshots.written(id(9));
        assert_eq!(snapshots.compactable(EntryId::NONE, Index(9)), Some(id(9)));
        assert_eq!(snapshots.served(false), ["first"]);
        assert!(snapshots.is_due(LogSize { bytes: 1, entries: 1 }, false), "the second waits");
    }

    /// A small snapshot is written before the view is heard of, or in the same batch. The node once waited
    /// for it for good, took no other one, and its log grew without end; and without its segment, the log
    /// would be cut in memory and not on disk.
    #[test]
    fn a_snapshot_that_is_written_at_once_has_its_segment_too_and_another_follows() {
        for is_early in [true, false] {
            let mut snapshots = due_after_ten_entries();
            snapshots.ask(Index(9));
            if is_early {
                snapshots.written(id(9));
                assert_eq!((snapshots.taken(), snapshots.compactable(EntryId::NONE, Index(9))), (None, None));
            }
            snapshots.applied(Index(9), |index| Some(id(index.0)));
            if !is_early {
                snapshots.written(id(9));
            }
            assert_eq!(snapshots.taken(), Some(id(9)));
            assert_eq!(snapshots.compactable(EntryId::NONE, Index(9)), Some(id(9)));
            assert!(snapshots.is_due(LONG, false), "and the next may be due");
        }
    }

    #[test]
    fn who_wants_a_snapshot_of_nothing_new_has_one_already() {
        let mut snapshots = due_after_ten_entries();
        snapshots.want("operator");
        assert_eq!(snapshots.served(false), Vec::<&str>::new());
        assert_eq!(snapshots.served(true), ["operator"]);
    }

    #[test]
    fn what_a_leader_sent_meanwhile_makes_a_snapshot_useless_and_nothing_else() {
        let mut snapshots = due_after_ten_entries();
        snapshots.ask(Index(9));
        snapshots.applied(Index(9), |_| None);
        assert_eq!(snapshots.taken(), None, "the log begins after it");
        snapshots.written(id(9));
        assert_eq!(snapshots.compactable(id(20), Index(9)), None);
        assert_eq!(snapshots.compactable(id(20), Index(20)), None);
        snapshots.is_durable(id(30));
        assert_eq!(snapshots.compactable(id(20), Index(29)), None, "not applied yet");
        assert_eq!(snapshots.compactable(id(20), Index(30)), Some(id(30)));
    }
}
