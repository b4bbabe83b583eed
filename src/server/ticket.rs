//! What a client's request leaves with the node, and gets back with its outcome: where the answer goes, and
//! for a read also what was asked, since reads never enter the log.

use super::connection::Slot;
use crate::wire::client::{Read, Response};
use crossbeam_channel::Sender;

/// A waiting request.
pub(super) enum Ticket {
    /// A write: its entry says what to do.
    Write(Slot),
    /// A read.
    Read(Slot, Read),
    /// An operator's wish.
    Operation(Slot),
    /// This process is to end, and first to hand over the lead. Whoever waits for that hears when it is done,
    /// or not to be done.
    Farewell(Sender<()>),
}

impl Ticket {
    /// Answers whoever waits.
    pub fn answer(&self, response: Response) {
        match self {
            Ticket::Write(slot) | Ticket::Read(slot, _) | Ticket::Operation(slot) => slot.answer(response),
            // Whoever waited has lost patience.
            Ticket::Farewell(done) => drop(done.try_send(())),
        }
    }
}
