//! What a client's request leaves with the node, and gets back with its outcome: where the answer goes, and
//! for a read also what was asked, since reads never enter the log.

use super::connection::Slot;
use crate::wire::client::Read;

/// A waiting request.
pub(super) enum Ticket {
    /// A write: its entry says what to do.
    Write(Slot),
    /// A read.
    Read(Slot, Read),
}

impl Ticket {
    /// Where the answer goes.
    pub fn slot(&self) -> &Slot {
        match self {
            Ticket::Write(slot) | Ticket::Read(slot, _) => slot,
        }
    }
}
