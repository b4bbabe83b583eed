//! The way of a message: from the node that sends it over a link, or not, into the inbox of another, if the
//! two would talk to each other.

use super::machine::{Condition, Machine};
use super::network::{Arrival, Fate};
use super::process::FromPeer;
use super::trace::Detail;
use super::world::{Happening, World};
use super::{Checked, Violation};
use crate::types::{Incarnation, NodeId};
use crate::wire::peer::{Decoded, Ends, Envelope, PeerLine, decode};

/// Messages that may wait for a node; more are dropped.
const PEERS_INBOX: usize = 4096;
/// How long a node that wants to be let in again waits before it says so again.
const KNOCK_EVERY_MS: u64 = 100;
/// One message in so many goes through the wire format.
const WIRE_EVERY: u64 = 16;

impl World {
    pub fn send(&mut self, envelope: Envelope) {
        let ends = (envelope.message.from, envelope.message.to);
        self.trace.line(Detail::Messages, self.now_ms, || format!("{} sends {envelope:?}", ends.0));
        let Some(incarnation) = self.machines.get(&ends.0).map(Machine::incarnation) else { return };
        let (first, again) = self.network.send(ends, incarnation, self.now_ms, &self.weather);
        if let Some(arrival) = again {
            self.sometimes.saw("message duplicated");
            let envelope = Box::new(envelope.clone());
            self.at(arrival.at_ms, Happening::Arrive { arrival, envelope });
        }
        match first {
            Some(arrival) => {
                let envelope = Box::new(envelope);
                self.at(arrival.at_ms, Happening::Arrive { arrival, envelope });
            }
            None => self.sometimes.saw("message dropped"),
        }
    }

    pub fn on_arrive(&mut self, arrival: Arrival, envelope: Box<Envelope>) -> Checked {
        let (from, to) = (envelope.message.from, envelope.message.to);
        match self.network.arrive((from, to), arrival, &self.weather) {
            Fate::Delivered => {}
            Fate::Dropped => return Ok(()),
            Fate::Late(later) => {
                self.sometimes.saw("message of an earlier connection arrived");
                self.at(later.at_ms, Happening::Arrive { arrival: later, envelope });
                return Ok(());
            }
        }
        self.wire_count += 1;
        if self.wire_count.is_multiple_of(WIRE_EVERY) {
            self.through_the_wire_format(&envelope)?;
        }
        if self.is_stranger(from, to, arrival) {
            return Ok(());
        }
        self.trace.line(Detail::Messages, self.now_ms, || format!("{to} gets {envelope:?}"));
        if let Some(process) = self.process(to)
            && process.peers_inbox.len() < PEERS_INBOX
        {
            process.peers_inbox.push_back(FromPeer::Message(*envelope, arrival.incarnation));
            self.wake(to);
        }
        Ok(())
    }

    /// A node that has lost its data greets all others, again and again until it is let in.
    pub fn on_knock(&mut self, id: NodeId, life: u64) {
        let Some(machine) = self.machines.get(&id).filter(|machine| machine.life == life) else { return };
        if machine.condition != Condition::Rejoins {
            return;
        }
        let (incarnation, is_awake) = (machine.incarnation(), !machine.is_paused);
        for peer in self.plan.ids().into_iter().filter(|peer| is_awake && *peer != id) {
            let is_heard = self.network.is_open(id, peer) && self.network.is_open(peer, id);
            if let Some(process) = self.process(peer).filter(|_| is_heard) {
                process.peers_inbox.push_back(FromPeer::Knock(id, incarnation));
                self.wake(peer);
            }
        }
        self.after(KNOCK_EVERY_MS, Happening::Knock { node: id, life });
    }

    /// Whether the two would not have greeted each other: one of them lost its data since they met.
    fn is_stranger(&mut self, from: NodeId, to: NodeId, arrival: Arrival) -> bool {
        let Some(incarnation) = self.machines.get(&to).map(Machine::incarnation) else { return true };
        let was_wiped = |id: &NodeId| self.machines.get(id).is_some_and(Machine::was_wiped);
        if !was_wiped(&from) && !was_wiped(&to) {
            return false;
        }
        let is_known = self.accepts(to, from, arrival.incarnation) && self.accepts(from, to, incarnation);
        if !is_known {
            self.sometimes.saw("node without its data turned away");
        }
        !is_known
    }

    /// Whether a node takes a peer for who it was. It may have to remember it, and its disk may end it.
    fn accepts(&mut self, id: NodeId, peer: NodeId, incarnation: Incarnation) -> bool {
        match self.process(id).map(|process| process.accepts(peer, incarnation)) {
            Some(Ok(is_same)) => is_same,
            Some(Err(error)) => {
                self.end_by_disk(id, &error.to_string());
                false
            }
            None => true,
        }
    }

    /// What an honest node says must pass the checks of the wire, and come out as it went in.
    fn through_the_wire_format(&mut self, envelope: &Envelope) -> Checked {
        let (me, peer) = (envelope.message.to, envelope.message.from);
        let Some(term) = self.process(me).map(|process| process.node.raft().term()) else { return Ok(()) };
        let line = PeerLine::Envelope(envelope.clone());
        let mut bytes = Vec::new();
        line.encode(&mut bytes);
        bytes.pop();
        let decoded = decode(&bytes, &Ends { me, peer, term });
        if decoded != Ok(Decoded::Line(line)) {
            let what = format!("{envelope:?} comes out of the wire format as {decoded:?}");
            return Err(Violation::new("P13", what));
        }
        self.sometimes.saw("message through the wire format");
        Ok(())
    }
}
