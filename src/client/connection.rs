//! Asking the cluster: one connection at a time, another node when one is down, and no write done twice.
//!
//! What may be repeated decides what happens when a connection breaks between request and answer. A read is
//! asked again of the next node. A write made from words carries a client's name and number, so the cluster
//! itself tells a repeat from a second wish, and it is sent again too. A line of the user's own is sent once:
//! when its answer is lost, so is its outcome, and the client says so ([`Failure::Lost`]). Nothing here
//! sleeps or tries for ever: each request goes round the nodes once.

use super::operator;
use super::words::{Request, WordRequest};
use crate::dial::{Answer, Connection};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Why a request has no answer of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No node could be reached: nothing was sent.
    Unreachable(String),
    /// The request was sent and its answer never came: it may have been carried out, may still be, or never.
    Lost(String),
    /// The cluster answered, and something went wrong here.
    Here(String),
}

impl Failure {
    /// What happened, on one line.
    pub fn message(&self) -> &str {
        match self {
            Failure::Unreachable(message) | Failure::Lost(message) | Failure::Here(message) => message,
        }
    }

    /// The failure in the form of an answer to `request`, for those who expect one line a request. Its codes
    /// are the client's own: `unreachable`, `connection_lost` and `failed_here`.
    pub fn answer(&self, request: &Request) -> String {
        let code = match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::Lost(_) => "connection_lost",
            Failure::Here(_) => "failed_here",
        };
        local_answer(Some(request), code, self.message())
    }
}

/// An error in the form of a node's answer, made by the client itself.
pub fn local_answer(request: Option<&Request>, code: &str, message: &str) -> String {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<Box<RawValue>>,
    }
    let id = match request {
        Some(Request::Raw(line)) => serde_json::from_str(line).ok().and_then(|only: OnlyId| only.id),
        Some(Request::Words(_) | Request::Wish(_)) | None => None,
    };
    let id = id.map_or(String::new(), |id| format!("\"id\":{},", id.get()));
    let message = serde_json::Value::from(message);
    format!(r#"{{{id}"ok":false,"error":{{"code":"{code}","message":{message}}}}}"#)
}

/// The name and number under which this client's writes can be told apart, see "Exactly once" in the
/// contract.
#[derive(Debug)]
struct Session {
    client: String,
    seq: u64,
}

impl Session {
    /// A name that nobody else has. Fails when the system has no random numbers.
    fn new() -> io::Result<Session> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        Ok(Session { client: format!("client-{random:016x}"), seq: 1 })
    }
}

/// The cluster as one client sees it: the addresses, and the connection to the node in use.
#[derive(Debug)]
pub struct Cluster {
    addresses: Vec<String>,
    current: usize,
    connection: Option<Connection>,
    timeout: Duration,
    session: Option<Session>,
}

impl Cluster {
    /// A client of the nodes at these addresses, `HOST:PORT` each, that gives up on a node which does not
    /// answer within `timeout`. Connects when there is something to ask.
    pub fn new(addresses: Vec<String>, timeout: Duration) -> Cluster {
        Cluster { addresses, current: 0, connection: None, timeout, session: None }
    }

    /// Asks, and gives the answer's line as the node wrote it.
    pub fn ask(&mut self, request: &Request) -> Result<String, Failure> {
        match request {
            Request::Raw(line) => self.go_round(line, false).map(|round| round.line),
            Request::Wish(wish) => operator::grant(self, wish),
            Request::Words(words) if words.is_write() => self.ask_write(words),
            Request::Words(words) => self.go_round(&words.line(), true).map(|round| round.line),
        }
    }

    /// Asks one node after the other for what any of them does and may do twice.
    pub(super) fn ask_any(&mut self, line: &str) -> Result<String, Failure> {
        self.go_round(line, true).map(|round| round.line)
    }

    /// Asks the node at this address, and stays with it.
    pub(super) fn ask_at(&mut self, address: &str, line: &str) -> Result<(String, Answer), Failure> {
        let place = self.learn(address);
        if place != self.current {
            (self.connection, self.current) = (None, place);
        }
        let connected = self.connected(address);
        let mut connection =
            connected.map_err(|error| Failure::Unreachable(format!("{address} ({error})")))?;
        let answered = exchange(&mut connection, line).map_err(|error| {
            Failure::Lost(format!("the connection to {address} broke before the answer ({error})"))
        })?;
        self.connection = Some(connection);
        Ok(answered)
    }

    /// Remembers that a node is at this address, and gives its place among the others.
    pub(super) fn learn(&mut self, address: &str) -> usize {
        self.addresses.iter().position(|known| known == address).unwrap_or_else(|| {
            self.addresses.push(address.to_owned());
            self.addresses.len() - 1
        })
    }

    /// All known addresses, that of the node in use first.
    pub(super) fn addresses_in_turn(&self) -> VecDeque<String> {
        let mut addresses: VecDeque<String> = self.addresses.iter().cloned().collect();
        addresses.rotate_left(self.current);
        addresses
    }

    /// How long it waits for a node's answer.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn ask_write(&mut self, words: &WordRequest) -> Result<String, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::new().map_err(|error| Failure::Unreachable(error.to_string()))?,
        };
        let round = self.go_round(&words.named(&session.client, session.seq).line(), true);
        match round {
            // The number counts on. After anything else the next write begins under a new name: the fate of
            // this number may be open, and a name that no applied write has carried can only begin with 1.
            Ok(round) if round.answer.ok => {
                self.session = Some(Session { seq: session.seq + 1, ..session });
                Ok(round.line)
            }
            // The refusal speaks of the repeat only, and nobody knows of the first.
            Ok(Round { answer, lost: Some(lost), .. })
                if !matches!(answer.code(), "bad_request" | "too_large" | "timeout") =>
            {
                Err(Failure::Lost(format!("{lost}; it was sent again and refused as {}", answer.code())))
            }
            Ok(round) => Ok(round.line),
            Err(failure) => Err(failure),
        }
    }

    /// Sends one line to one node after the other until there is an answer. The first node is tried once more
    /// at the end, for it may have restarted. A line that may not be repeated is sent once at most.
    fn go_round(&mut self, line: &str, may_repeat: bool) -> Result<Round, Failure> {
        let mut lost = None;
        let mut unreached = Vec::new();
        for _ in 0..=self.addresses.len() {
            let address = self.addresses[self.current].clone();
            let mut connection = match self.connected(&address) {
                Ok(connection) => connection,
                Err(error) => {
                    unreached.push(format!("{address} ({error})"));
                    self.current = (self.current + 1) % self.addresses.len();
                    continue;
                }
            };
            match exchange(&mut connection, line) {
                Ok((line, answer)) => {
                    self.connection = Some(connection);
                    return Ok(Round { line, answer, lost });
                }
                Err(error) => {
                    self.current = (self.current + 1) % self.addresses.len();
                    let what = if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                        format!("{address} did not answer within {} ms", self.timeout.as_millis())
                    } else {
                        format!("the connection to {address} broke before the answer ({error})")
                    };
                    lost = Some(format!("{what}: the request may have been carried out, or may still be"));
                }
            }
            if !may_repeat {
                break;
            }
        }
        Err(match lost {
            Some(lost) => Failure::Lost(lost),
            None => {
                unreached.dedup();
                unreached.truncate(self.addresses.len());
                Failure::Unreachable(format!("no node could be reached: {}", unreached.join(", ")))
            }
        })
    }

    /// The connection in use if it still stands, or a new one to `address`.
    fn connected(&mut self, address: &str) -> io::Result<Connection> {
        match self.connection.take() {
            Some(connection) if !connection.is_closed() => Ok(connection),
            _ => Connection::open(address, self.timeout),
        }
    }
}

/// What came of going round.
struct Round {
    line: String,
    answer: Answer,
    /// How an earlier sending of the same line ended without an answer.
    lost: Option<String>,
}

fn exchange(connection: &mut Connection, line: &str) -> io::Result<(String, Answer)> {
    connection.send(format!("{line}\n").as_bytes())?;
    let received = connection.receive()?;
    let answer = Answer::parse(&received)?;
    // JSON that parsed with a string in it may still hold bytes that are not UTF-8 where nobody looked.
    let line = String::from_utf8(received).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok((line, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::words::{self, Command};
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// The end of a connection takes its time to arrive, the longer when a child process of another test
    /// holds a copy of the descriptor; so the test waits until the client can see it. A line of the user's
    /// own is sent once at most: were the old connection used, the request would be lost.
    #[test]
    fn a_connection_that_was_closed_meanwhile_costs_no_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                reader.read_line(&mut String::new()).unwrap();
                reader.get_mut().write_all(b"{\"ok\":true}\n").unwrap();
            }
        });
        let Ok(Some(Command::Ask(request))) = words::parse_line(r#"{"op":"status"}"#) else { panic!() };
        let mut cluster = Cluster::new(vec![address], PATIENCE);
        for _ in 0..3 {
            assert_eq!(cluster.ask(&request), Ok(r#"{"ok":true}"#.to_owned()));
            let deadline = Instant::now() + PATIENCE;
            while !cluster.connection.as_ref().is_some_and(Connection::is_closed) {
                assert!(Instant::now() < deadline, "the closed connection is taken for an open one");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn an_open_connection_is_used_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            // One connection only: a second one would wait for ever.
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 0 {
                reader.get_mut().write_all(b"{\"ok\":true}\n").unwrap();
            }
            line.lines().count()
        });
        let Ok(Some(Command::Ask(request))) = words::parse_line(r#"{"op":"status"}"#) else { panic!() };
        let mut cluster = Cluster::new(vec![address], PATIENCE);
        for _ in 0..3 {
            cluster.ask(&request).unwrap();
        }
        drop(cluster);
        assert_eq!(server.join().unwrap(), 3);
    }
}
