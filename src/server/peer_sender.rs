//! The writer to one peer: connects, greets, sends what the raft thread leaves to it, and asks now and then
//! whether anyone is there. When the connection breaks it begins again, ever more slowly and never in step
//! with others. Nothing waits for it: a hung peer costs its own thread and its own queue (FAULTS row 53).

use super::peer_link::WriterLink;
use super::raft_thread::{FromPeer, Inbox};
use super::socket::{Incoming, Wait};
use super::status::StatusBoard;
use crate::node::Greeting;
use crate::wire::line::{LineReader, Next};
use crate::wire::peer::{
    Decoded, Ends, Hello, PeerLine, Ping, Welcome, decode, decode_greeting, max_peer_line_bytes,
};
use crate::wire::quote_external;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long connecting, and each side of the greeting, may take.
pub(super) const GREETING_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two pings; the pong must be there before the next.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long a peer may take no bytes, or owe a pong, before the connection counts as dead.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Everything the thread owns.
pub(super) struct PeerSender {
    pub hello: Hello,
    pub address: String,
    pub link: WriterLink,
    pub inbox: Inbox,
    pub board: Arc<StatusBoard>,
    pub max_line_bytes: usize,
}

/// A greeted connection.
struct Link {
    stream: Arc<TcpStream>,
    answers: LineReader<Incoming>,
    ends: Ends,
    ping_number: u64,
    pong_due: bool,
}

impl PeerSender {
    /// Runs until nobody has anything to send to this peer any more.
    pub fn run(self) {
        let peer = self.hello.to;
        let mut retry = Retry::new();
        let mut last_trouble = String::new();
        loop {
            match self.connect() {
                Ok(mut link) => {
                    tracing::info!(%peer, address = %self.address, "connected to {peer}");
                    last_trouble.clear();
                    retry = Retry::new();
                    self.board.set_connected(peer, true);
                    let trouble = self.serve(&mut link);
                    self.board.set_connected(peer, false);
                    match trouble {
                        Some(trouble) => tracing::info!(%peer, "connection to {peer} ended: {trouble}"),
                        None => return,
                    }
                }
                // The same trouble again is no news.
                Err(trouble) if trouble == last_trouble => {}
                Err(trouble) => {
                    tracing::info!(%peer, address = %self.address, "cannot connect to {peer}: {trouble}");
                    last_trouble = trouble;
                }
            }
            if self.wait(retry.next()).is_none() {
                return;
            }
        }
    }

    /// Waits before the next attempt. What comes meanwhile is lost, and sent again by Raft. None when nothing
    /// will ever come any more.
    fn wait(&self, time: Duration) -> Option<()> {
        let deadline = Instant::now() + time;
        loop {
            match self.link.queue.recv_deadline(deadline) {
                Ok(_) => self.link.sent(1),
                Err(RecvTimeoutError::Timeout) => return Some(()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn connect(&self) -> Result<Link, String> {
        let stream = dial(&self.address).map_err(|error| error.to_string())?;
        let configure = || -> io::Result<TcpStream> {
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(SILENCE_TIMEOUT))?;
            stream.set_read_timeout(Some(GREETING_TIMEOUT))?;
            let mut line = Vec::new();
            PeerLine::Hello(self.inbox.standing.hello(&self.hello)).encode(&mut line);
            (&stream).write_all(&line)?;
            stream.try_clone()
        };
        let stream_in = configure().map_err(|error| error.to_string())?;
        let reading = Incoming { stream: stream_in, wait: Wait::Sleeps };
        let mut answers = LineReader::new(reading, max_peer_line_bytes(self.max_line_bytes));
        let line = next_line(&mut answers, GREETING_TIMEOUT)?;
        let answer = decode_greeting(&line).map_err(|error| error.to_string())?;
        let peer = self.hello.to;
        match answer {
            Decoded::Line(PeerLine::Welcome(welcome)) if welcome.from == peer => {
                let Welcome { incarnation, life, newest_version, founding, .. } = welcome;
                self.inbox.standing.check_founding(peer, founding)?;
                let (address, has_lost_data) = (None, false);
                let greeting = Greeting { peer, incarnation, life, newest_version, address, has_lost_data };
                check_greeting(&self.inbox, greeting)?;
            }
            Decoded::Line(PeerLine::Refused(refused)) => {
                return Err(format!("it refused: {}", quote_external(refused.why)));
            }
            Decoded::Line(_) | Decoded::Unknown { .. } => {
                return Err(format!("whoever answers is not {peer}"));
            }
        }
        let ends = Ends { me: self.hello.from, peer, term: Default::default() };
        Ok(Link { stream: Arc::new(stream), answers, ends, ping_number: 0, pong_due: false })
    }

    /// Sends until the connection breaks, and says why; none when nothing will ever come any more.
    fn serve(&self, link: &mut Link) -> Option<String> {
        // What was queued for a connection that is gone would only be rejected now: Raft sends it again.
        self.link.clear();
        self.link.connected(Arc::clone(&link.stream));
        self.send_queued(link)
    }

    fn send_queued(&self, link: &mut Link) -> Option<String> {
        let mut next_ping = Instant::now() + PING_INTERVAL;
        let mut buffer = Vec::new();
        loop {
            let first = match self.link.queue.recv_deadline(next_ping) {
                Ok(first) => Some(first),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            let is_ping_due = Instant::now() >= next_ping;
            if is_ping_due {
                next_ping = Instant::now() + PING_INTERVAL;
                self.link.begin();
            }
            // Also when there was no first: until `begin`, the raft thread may have left half a line.
            let taken = self.link.take_queued(first, &mut buffer) + usize::from(is_ping_due);
            let sent = link.send(is_ping_due, &mut buffer);
            if let Err(trouble) = sent {
                // First: nobody may go on behind half a line.
                self.link.disconnected();
                self.link.sent(taken);
                return Some(trouble);
            }
            self.link.sent(taken);
            buffer.clear();
        }
    }
}

impl Link {
    fn send(&mut self, with_ping: bool, buffer: &mut Vec<u8>) -> Result<(), String> {
        if with_ping {
            self.exchange_pings(buffer)?;
        }
        (&*self.stream).write_all(buffer).map_err(|error| format!("cannot send: {error}"))
    }

    /// Takes the pong to the last ping, which had all the time since, and asks again. Without this a
    /// connection whose other end vanished silently would look alive for minutes.
    fn exchange_pings(&mut self, buffer: &mut Vec<u8>) -> Result<(), String> {
        if self.pong_due {
            let line = next_line(&mut self.answers, SILENCE_TIMEOUT)?;
            match decode(&line, &self.ends).map_err(|error| error.to_string())? {
                Decoded::Line(PeerLine::Pong(pong)) if pong.number == self.ping_number => {}
                Decoded::Line(_) | Decoded::Unknown { .. } => return Err("expected a pong".to_owned()),
            }
        }
        self.ping_number += 1;
        self.pong_due = true;
        PeerLine::Ping(Ping { number: self.ping_number }).encode(buffer);
        Ok(())
    }
}

/// Asks the raft thread whether this peer is to be heard.
pub(super) fn check_greeting(inbox: &Inbox, greeting: Greeting) -> Result<(), String> {
    let (reply, answer) = bounded(1);
    inbox
        .peers
        .send(FromPeer::Greeting(greeting, reply))
        .map_err(|_| "the raft thread is gone".to_owned())?;
    let verdict = answer.recv_timeout(GREETING_TIMEOUT);
    let verdict = verdict.map_err(|_| "this node's disk does not answer".to_owned())?;
    verdict.map_err(|turned_away| turned_away.to_string())
}

/// The next line within a time, counted in full and not for each read.
pub(super) fn next_line(reader: &mut LineReader<Incoming>, timeout: Duration) -> Result<Vec<u8>, String> {
    let deadline = Instant::now() + timeout;
    loop {
        match reader.next_line() {
            Next::Line(line) => return Ok(line.to_vec()),
            Next::TooLong => return Err("its line is too long".to_owned()),
            Next::End => return Err("it closed the connection".to_owned()),
            Next::NeedsMore => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("it does not answer".to_owned());
        }
        let filled = reader.source().stream.set_read_timeout(Some(left)).and_then(|()| reader.fill());
        match filled {
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(describe(error)),
            Ok(()) => {}
        }
    }
}

/// Whether a read gave up because its time was over.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn describe(error: impl Display) -> String {
    error.to_string()
}

/// Tries each address that the name stands for.
fn dial(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, GREETING_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Times between attempts: doubling, and spread by half to either side, so that nodes that lost the same peer
/// do not come back in step (FAULTS row 56).
struct Retry(Duration);

impl Retry {
    fn new() -> Retry {
        Retry(FIRST_RETRY)
    }

    fn next(&mut self) -> Duration {
        let base = self.0;
        self.0 = (base * 2).min(LAST_RETRY);
        // Without randomness from the system there is still the plain back-off.
        let spread = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        base.mul_f64(0.5 + spread)
    }
}
