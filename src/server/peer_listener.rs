//! The readers of peers' connections. Whoever connects says who it is first, and a stranger is refused before
//! anything else of it is read: another cluster, another version, another idea of who the first voters were,
//! a node that lost its disk. After that each line is checked before the core sees it; a line that is not as
//! it should be ends the connection.

use super::accept::accept_all;
use super::ending::Endings;
use super::peer_sender::{GREETING_TIMEOUT, SILENCE_TIMEOUT, check_greeting, is_timeout, next_line};
use super::raft_thread::{FromPeer, Inbox};
use super::socket::{Incoming, Wait};
use crate::node::Greeting;
use crate::types::NodeId;
use crate::wire::line::{LineReader, Next};
use crate::wire::peer::{
    Decoded, Ends, Hello, PROTOCOL_VERSION, PeerLine, Refused, Welcome, decode, decode_greeting,
    max_peer_line_bytes,
};
use crate::wire::quote_external;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections that may be open at once, greeted or not: each peer has one, and a few may be on their way
/// out.
const MAX_CONNECTIONS: usize = 64;

/// What every reader knows.
pub(super) struct PeerListener {
    /// What this node would say of itself: cluster, id, boot, incarnation, first voters.
    pub own: Hello,
    pub inbox: Inbox,
    pub max_line_bytes: usize,
    pub endings: Endings,
    pub connections: PeerConnections,
}

struct Shared {
    listener: PeerListener,
    open: AtomicUsize,
}

/// A peer that is heard.
struct Greeter {
    hello: Hello,
    /// See [`PeerConnection`].
    endings: u64,
}

/// The connection of each peer: a newer one replaces it.
#[derive(Clone, Default)]
pub(super) struct PeerConnections(Arc<Mutex<BTreeMap<NodeId, PeerConnection>>>);

#[derive(Default)]
struct PeerConnection {
    stream: Option<TcpStream>,
    /// How often it was ended because the peer was not heard any more. Whoever greeted before that and is
    /// connected after it is to greet again.
    endings: u64,
}

impl PeerConnections {
    /// Before a greeting is judged: to be given back when its connection begins.
    fn endings(&self, peer: NodeId) -> u64 {
        self.lock().entry(peer).or_default().endings
    }

    /// A peer that connects again has given up its earlier connection, whatever this side thinks of it. Fails
    /// when its greeting does not count any more.
    fn replace(&self, peer: NodeId, stream: TcpStream, endings: u64) -> Result<(), String> {
        let mut connections = self.lock();
        let connection = connections.entry(peer).or_default();
        if connection.endings != endings {
            return Err("another one is meant by its number".to_owned());
        }
        end(connection.stream.replace(stream));
        Ok(())
    }

    /// Ends the connection of a peer that is not heard any more.
    pub fn end(&self, peer: NodeId) {
        let mut connections = self.lock();
        let connection = connections.entry(peer).or_default();
        connection.endings += 1;
        end(connection.stream.take());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerConnection>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(stream: Option<TcpStream>) {
    if let Some(stream) = stream {
        // It may be gone already: then there is nothing to shut down.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl PeerListener {
    /// Accepts for ever.
    pub fn run(self, listener: &TcpListener) -> ! {
        let endings = self.endings.clone();
        let shared = Arc::new(Shared { listener: self, open: AtomicUsize::new(0) });
        accept_all(listener, "peer", |stream, address| {
            if shared.open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                shared.open.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%address, "too many connections to the peers' port: one is closed");
                return;
            }
            let serving = Arc::clone(&shared);
            let serve = move || {
                serving.serve(stream, address);
                serving.open.fetch_sub(1, Ordering::Relaxed);
            };
            if let Err(error) = endings.spawn_connection("peer-reader", serve) {
                shared.open.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%address, "cannot start a thread for a peer's connection: {error}");
            }
        })
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream, address: SocketAddr) {
        match self.greet(&stream) {
            Ok((greeter, lines)) => {
                let hello = &greeter.hello;
                let peer = hello.from;
                tracing::info!(%peer, %address, peer_boot = hello.boot, "{peer} connected");
                let trouble = self.read_lines(&greeter, &stream, lines);
                tracing::info!(%peer, %address, "connection from {peer} ended: {trouble}");
            }
            Err(trouble) => {
                tracing::info!(%address, "refused a connection to the peers' port: {trouble}");
            }
        }
        end(Some(stream));
    }

    /// Hears who it is, and answers.
    fn greet(&self, stream: &TcpStream) -> Result<(Greeter, LineReader<Incoming>), String> {
        let own = &self.listener.own;
        let prepare = || -> std::io::Result<TcpStream> {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(GREETING_TIMEOUT))?;
            stream.try_clone()
        };
        let stream_in = prepare().map_err(|error| error.to_string())?;
        let reading = Incoming { stream: stream_in, wait: Wait::Sleeps };
        let mut lines = LineReader::new(reading, max_peer_line_bytes(self.listener.max_line_bytes));
        let line = next_line(&mut lines, GREETING_TIMEOUT)?;
        let verdict = match decode_greeting(&line).map_err(|error| error.to_string())? {
            Decoded::Line(PeerLine::Hello(hello)) => self.judge(hello),
            Decoded::Line(_) | Decoded::Unknown { .. } => return Err("expected a hello".to_owned()),
        };
        let answer = match &verdict {
            Ok(_) => {
                let Hello { from, boot, incarnation, newest_version, .. } = *own;
                let standing = &self.listener.inbox.standing;
                let (founding, life) = (standing.founding(), standing.life());
                PeerLine::Welcome(Welcome { from, boot, incarnation, newest_version, founding, life })
            }
            Err(why) => PeerLine::Refused(Refused { why: why.clone() }),
        };
        let mut out = Vec::new();
        answer.encode(&mut out);
        (&*stream).write_all(&out).map_err(|error| error.to_string())?;
        verdict.map(|greeter| (greeter, lines))
    }

    fn judge(&self, hello: Hello) -> Result<Greeter, String> {
        let own = &self.listener.own;
        let peer = hello.from;
        if hello.version != PROTOCOL_VERSION {
            return Err(format!("it speaks version {}, and {} {PROTOCOL_VERSION}", hello.version, own.from));
        }
        if hello.cluster != own.cluster {
            let (theirs, ours) = (quote_external(&hello.cluster), quote_external(&own.cluster));
            return Err(format!("it belongs to the cluster {theirs}, and {} to {ours}", own.from));
        }
        if hello.to != own.from {
            return Err(format!("it looks for {}, and this is {}", hello.to, own.from));
        }
        if !hello.first_voters.is_empty() && !hello.first_voters.contains(&peer) {
            return Err(format!("{peer} is not one of {:?}", hello.first_voters));
        }
        // Who has joined later knows nothing of the first voters.
        let has_joined = hello.first_voters.is_empty() || own.first_voters.is_empty();
        if !has_joined && hello.first_voters != own.first_voters {
            let (theirs, ours) = (&hello.first_voters, &own.first_voters);
            return Err(format!(
                "{peer} was started in a cluster of {theirs:?}, and {} in one of {ours:?}",
                own.from
            ));
        }
        self.listener.inbox.standing.check_founding(peer, hello.founding)?;
        let greeting = Greeting {
            peer,
            incarnation: hello.incarnation,
            life: hello.life,
            newest_version: hello.newest_version,
            address: hello.address.clone(),
            has_lost_data: hello.has_lost_data,
        };
        let endings = self.listener.connections.endings(peer);
        check_greeting(&self.listener.inbox, greeting)?;
        Ok(Greeter { hello, endings })
    }

    /// Reads until the connection breaks or is replaced; says why it ended.
    fn read_lines(&self, greeter: &Greeter, stream: &TcpStream, mut lines: LineReader<Incoming>) -> String {
        if let Err(trouble) = self.is_current(greeter, stream) {
            return trouble;
        }
        let hello = &greeter.hello;
        let peer = hello.from;
        let me = self.listener.own.from;
        lines.source_mut().wait = Wait::Lingers;
        loop {
            let term = self.listener.inbox.standing.term();
            let line = match lines.next_line() {
                Next::Line(line) => line,
                Next::TooLong => return "its line is too long".to_owned(),
                Next::End => return "it closed the connection".to_owned(),
                Next::NeedsMore => match lines.fill() {
                    Ok(()) => continue,
                    // A peer pings far more often than that.
                    Err(error) if is_timeout(&error) => return "it fell silent".to_owned(),
                    Err(error) => return error.to_string(),
                },
            };
            // This node may have learned of its own founding since the greeting.
            if let Err(why) = self.listener.inbox.standing.check_founding(peer, hello.founding) {
                return why;
            }
            match decode(line, &Ends { me, peer, term }) {
                Ok(Decoded::Line(PeerLine::Envelope(envelope))) if envelope.boot == hello.boot => {
                    let from = &envelope.message;
                    tracing::trace!(
                        %peer,
                        peer_boot = envelope.boot,
                        peer_event = envelope.event,
                        term = %from.term,
                        body = ?from.body,
                        "hears"
                    );
                    if self.listener.inbox.peers.send(FromPeer::Message(envelope)).is_err() {
                        return "the raft thread is gone".to_owned();
                    }
                }
                Ok(Decoded::Line(PeerLine::Ping(ping))) => {
                    let mut out = Vec::new();
                    PeerLine::Pong(ping).encode(&mut out);
                    if let Err(error) = (&*stream).write_all(&out) {
                        return error.to_string();
                    }
                }
                Ok(Decoded::Line(_)) => return "it sent what only this side may".to_owned(),
                Ok(Decoded::Unknown { name }) => {
                    tracing::info!(%peer, "{peer} sent {name}, which this version does not know: dropped");
                }
                Err(invalid) => return format!("its line is not valid: {invalid}"),
            }
        }
    }

    /// This is the peer's connection from now on.
    fn is_current(&self, greeter: &Greeter, stream: &TcpStream) -> Result<(), String> {
        let prepare = || -> std::io::Result<TcpStream> {
            stream.set_read_timeout(Some(SILENCE_TIMEOUT))?;
            stream.set_write_timeout(Some(SILENCE_TIMEOUT))?;
            stream.try_clone()
        };
        let stream = prepare().map_err(|error| error.to_string())?;
        self.listener.connections.replace(greeter.hello.from, stream, greeter.endings)
    }
}
