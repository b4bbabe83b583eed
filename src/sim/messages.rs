//! The way of a message: from the node that sends it over a link, or not, into the inbox of another, if the
//! two would talk to each other.

use super::machine::{Condition, Machine};
use super::network::{Arrival, Fate};
use super::process::FromPeer;
use super::trace::Detail;
use super::world::{Happening, World};
use super::{Checked, Violation};
use crate::node::Greeting;
use crate::types::NodeId;
use crate::wire::peer::{Address, Decoded, Ends, Envelope, PeerLine, decode};

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
        let Some(sender) = self.machines.get(&from) else { return Ok(()) };
        let greeting = sender.greeting(arrival.incarnation);
        if self.is_stranger(&greeting, to) {
            return Ok(());
        }
        self.trace.line(Detail::Messages, self.now_ms, || format!("{to} gets {envelope:?}"));
        if let Some(process) = self.process(to)
            && process.peers_inbox.len() < PEERS_INBOX
        {
            process.peers_inbox.push_back(FromPeer::Message(*envelope, greeting));
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
        let address = Address { peer: format!("{id}:1"), client: format!("{id}:2") };
        let greeting = Greeting { address: Some(address), ..machine.greeting(machine.incarnation()) };
        let is_awake = !machine.is_paused;
        for peer in self.plan.ids().into_iter().filter(|peer| is_awake && *peer != id) {
            let is_heard = self.network.is_open(id, peer) && self.network.is_open(peer, id);
            if let Some(process) = self.process(peer).filter(|_| is_heard) {
                process.peers_inbox.push_back(FromPeer::Knock(greeting.clone()));
                self.wake(peer);
            }
        }
        self.after(KNOCK_EVERY_MS, Happening::Knock { node: id, life });
    }

    /// Whether the two would not have greeted each other: one of them lost its data since they met.
    fn is_stranger(&mut self, hello: &Greeting, to: NodeId) -> bool {
        let was_wiped = |id: &NodeId| self.machines.get(id).is_some_and(Machine::was_wiped);
        if !was_wiped(&hello.peer) && !was_wiped(&to) {
            return false;
        }
        let Some(receiver) = self.machines.get(&to) else { return true };
        // Whoever is connected to does not ask for anything.
        let welcome = Greeting { has_lost_data: false, ..receiver.greeting(receiver.incarnation()) };
        let is_known = self.hears(to, hello) && self.hears(hello.peer, &welcome);
        if !is_known {
            self.sometimes.saw("node without its data turned away");
        }
        !is_known
    }

    /// Whether a node hears a peer. It may have to remember it, and its disk may end it.
    fn hears(&mut self, id: NodeId, greeting: &Greeting) -> bool {
        match self.process(id).map(|process| process.hears(greeting)) {
            Some(Ok(is_heard)) => is_heard,
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
