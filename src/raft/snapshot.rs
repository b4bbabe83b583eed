//! Where a log begins after its base: snapshots that are taken here, sent to those who need what is gone, and
//! received (paper section 7, figure 13).
//!
//! ```text
//!   leader: next_index <= base           follower
//!   InstallSnapshot 25@3, offset 0    -->  its lines go to the disk
//!                                     <--  received: 180,000 bytes
//!   InstallSnapshot, offset 180000    -->  ... the last lines: verified as a whole, and durable
//!                                     <--  received: all
//!   AppendEntries prev 25@3 ...
//! ```
//!
//! The core knows which snapshot goes where and how much of it is there, never what it says: whoever drives
//! it reads the lines ([`Output::chunks_to_send`]) and writes them ([`Output::chunks`]), and reports when a
//! whole snapshot is received, verified and durable. A snapshot is of committed entries only, so installing
//! it never undoes anything; of a log that has its last entry, what follows that entry stays.

use super::Configuration;
use super::message::{Body, InstallSnapshot, InstallSnapshotResponse, ReadRound, Received};
use super::note::{Note, RoleReason};
use super::output::{Output, ReceivedChunk};
use super::progress::{Pace, Progress};
use super::role::Role;
use super::state::RaftState;
use crate::types::{EntryId, NodeId, SnapshotLine, Term};

/// A snapshot that is being received. It belongs to the term: another leader's file of the same entry need
/// not be the same to the byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Incoming {
    term: Term,
    snapshot: EntryId,
    received_bytes: u64,
    is_complete: bool,
}

impl RaftState {
    /// A snapshot of this node's application is durable: what the log has up to there is not needed any more.
    pub(super) fn on_compacted(&mut self, last: EntryId, output: &mut Output) {
        assert!(last.index <= self.last_applied, "{self}: a snapshot of {last}, which is not applied");
        if last.index <= self.log.base().index {
            return;
        }
        assert!(self.log.contains(last), "{self}: a snapshot of {last}, which is not in the log");
        self.configurations.compact(last.index);
        output.forgotten = self.log.compact(last);
        output.notes.push(Note::Compacted { last });
    }

    pub(super) fn on_install_snapshot(
        &mut self,
        from: NodeId,
        term: Term,
        request: InstallSnapshot,
        output: &mut Output,
    ) {
        let InstallSnapshot { number, snapshot, offset, lines, is_last, read_round } = request;
        // As with AppendEntries: our term in the answer deposes the sender.
        let received = if term < self.term {
            Received::Bytes(0)
        } else {
            self.hear_leader(from, output);
            self.take_chunk(ReceivedChunk { snapshot, offset, lines, is_last }, output)
        };
        let response = InstallSnapshotResponse { request_term: term, number, snapshot, read_round, received };
        output.after_save.push(self.message(from, Body::InstallSnapshotResponse(response)));
    }

    /// Takes what follows what is there. Anything else is late, early or a repetition; what was received so
    /// far says what is missing.
    fn take_chunk(&mut self, chunk: ReceivedChunk, output: &mut Output) -> Received {
        let ReceivedChunk { snapshot, offset, .. } = chunk;
        let commit_index = self.commit_index;
        self.incoming.take_if(|incoming| incoming.snapshot.index <= commit_index);
        if snapshot.index <= commit_index {
            return Received::All;
        }
        let begins_anew = match &self.incoming {
            // A leader's snapshots only become newer: this one is late.
            Some(Incoming { term, snapshot: newer, .. })
                if *term == self.term && newer.index > snapshot.index =>
            {
                return Received::Bytes(0);
            }
            Some(incoming) => (incoming.term, incoming.snapshot) != (self.term, snapshot),
            None => true,
        };
        if begins_anew {
            let term = self.term;
            self.incoming = Some(Incoming { term, snapshot, received_bytes: 0, is_complete: false });
        }
        let Some(incoming) = &mut self.incoming else { return Received::Bytes(0) };
        if offset == incoming.received_bytes && !chunk.lines.is_empty() && !incoming.is_complete {
            incoming.received_bytes += chunk.lines.iter().map(SnapshotLine::size_bytes).sum::<u64>();
            incoming.is_complete = chunk.is_last;
            output.chunks.push(chunk);
        }
        Received::Bytes(incoming.received_bytes)
    }

    /// A whole snapshot is there, verified and durable. The leader hears of it with its next message.
    pub(super) fn on_snapshot_received(
        &mut self,
        last: EntryId,
        configuration: Configuration,
        output: &mut Output,
    ) {
        // A newer one may be on its way already.
        self.incoming.take_if(|incoming| incoming.snapshot.index <= last.index);
        // Entries have come meanwhile, and were committed: there is nothing left to install.
        if last.index <= self.commit_index {
            return;
        }
        self.log.restart(last);
        self.saved_index = self.saved_index.max(last.index).min(self.log.last().index);
        self.commit_index = last.index;
        // A configuration of what is gone is none, committed or not (FAULTS row 36).
        self.configurations = super::membership::Configurations::of(configuration, &self.log);
        output.save_restart(last, self.log.after(last.index));
        output.notes.push(Note::SnapshotInstalled { last });
        let campaigns = matches!(self.role, Role::Candidate(_));
        if campaigns && !self.may_campaign() {
            self.become_follower(self.term, None, None, RoleReason::Removed, output);
        }
    }

    /// What was received is no sound snapshot.
    pub(super) fn on_snapshot_refused(&mut self) {
        self.incoming.take_if(|incoming| incoming.is_complete);
    }

    pub(super) fn on_install_snapshot_response(
        &mut self,
        from: NodeId,
        response: InstallSnapshotResponse,
        output: &mut Output,
    ) {
        let InstallSnapshotResponse { request_term, number, snapshot, read_round, received } = response;
        let Role::Leader(leader) = &mut self.role else { return };
        if request_term != self.term {
            return;
        }
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        let was_sent = number <= progress.last_number
            && read_round.number <= progress.round_sent
            && snapshot.index <= self.log.base().index;
        if !was_sent {
            let why = "it answers what was never sent";
            output.notes.push(Note::Ignored { from, message: "InstallSnapshotResponse", why });
            return;
        }
        progress.silent_ticks = 0;
        if read_round.term == self.term {
            progress.round_confirmed = progress.round_confirmed.max(read_round.number);
        }
        match received {
            Received::All => {
                progress.installed(snapshot.index);
                self.advance_commit(output);
            }
            Received::Bytes(bytes) => progress.received(snapshot, number, bytes),
        }
    }
}

impl Progress {
    /// What this follower needs next is gone from the log: it gets the snapshot that the log begins after.
    /// Says what to send now, and whether a piece of it goes with that; without one it is a sign of life.
    pub(super) fn next_chunk(&mut self, base: EntryId, round: ReadRound) -> Option<(InstallSnapshot, bool)> {
        let is_of_base = matches!(&self.pace, Pace::Snapshot { snapshot, .. } if *snapshot == base);
        if !is_of_base {
            self.pace = Pace::Snapshot { snapshot: base, offset: 0, waits_for: None };
        }
        let Pace::Snapshot { offset, waits_for, .. } = &mut self.pace else { return None };
        let is_due = self.heartbeat_due || round.number > self.round_sent;
        let sends_chunk = waits_for.is_none();
        if !sends_chunk && !is_due {
            return None;
        }
        self.last_number += 1;
        self.heartbeat_due = false;
        self.round_sent = round.number;
        let (number, offset) = (self.last_number, *offset);
        if sends_chunk {
            *waits_for = Some(number);
        }
        let (lines, is_last) = (Vec::new(), false);
        let request = InstallSnapshot { number, snapshot: base, offset, lines, is_last, read_round: round };
        Some((request, sends_chunk))
    }

    /// The follower has so many bytes of the snapshot, says its answer to message `number`: the one that
    /// carried a piece, or a later one, if the piece was lost.
    fn received(&mut self, snapshot: EntryId, number: u64, bytes: u64) {
        let Pace::Snapshot { snapshot: current, offset, waits_for } = &mut self.pace else { return };
        let Some(piece) = waits_for.filter(|piece| *current == snapshot && number >= *piece) else { return };
        // The piece arrived, and nothing came of it: the follower has all there is, and reads it. That can
        // take a while, so it is asked again with the next heartbeat and not at once.
        let has_all = number == piece && bytes == *offset;
        if !has_all {
            *offset = bytes;
            *waits_for = None;
        }
    }
}
