//! Reaching the nodes from outside: where they are, a connection to one of them, and what its answer says.
//!
//! This is what the programs that ask a cluster have in common. It knows nothing of what is asked, repeats
//! nothing, and sleeps nowhere.

use crate::config::{self, Config, MAX_LINE_BYTES, Timing};
use crate::wire::line::{LineReader, Next};
use crate::wire::quote_external;
use clap::Args;
use serde::Deserialize;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which nodes to ask.
#[derive(Clone, Debug, Args)]
pub struct NodeOptions {
    /// The cluster's file [default: ./cluster.toml when it is there, else 127.0.0.1:16001 to 16005]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The client addresses of some nodes, instead of a file
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = address)]
    #[arg(conflicts_with = "config")]
    connect: Vec<String>,

    /// How long to wait for a node's answer before trying the next [default: request_timeout_ms + 2000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    timeout_ms: Option<u64>,
}

fn address(text: &str) -> Result<String, String> {
    match config::split_address(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected HOST:PORT such as 127.0.0.1:16001".to_owned()),
    }
}

/// Where the nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The client addresses to try, in order: one at least.
    pub addresses: Vec<String>,
    /// How long to wait for each.
    pub timeout: Duration,
    /// The folder of the nodes' folders, when a file says it.
    pub data_dir: Option<PathBuf>,
}

impl NodeOptions {
    /// Finds the nodes. Fails, with a line that says why, when the cluster's file is not valid.
    pub fn find(&self) -> Result<Nodes, String> {
        let default_file = Path::new("cluster.toml");
        let file = match &self.config {
            Some(file) => Some(file.as_path()),
            None if self.connect.is_empty() && default_file.exists() => Some(default_file),
            None => None,
        };
        let mut request_timeout_ms = Timing::default().request_timeout_ms;
        let mut data_dir = None;
        let addresses = match file {
            Some(file) => {
                let config = Config::load(file).map_err(|error| error.to_string())?;
                request_timeout_ms = config.timing.request_timeout_ms;
                data_dir = Some(config.data_dir);
                config.nodes.into_iter().map(|node| node.client).collect()
            }
            None if self.connect.is_empty() => {
                (16001..=16005).map(|port| format!("127.0.0.1:{port}")).collect()
            }
            None => self.connect.clone(),
        };
        // A node answers within its own timeout; the rest is for the way.
        let timeout = Duration::from_millis(self.timeout_ms.unwrap_or(request_timeout_ms + 2000));
        Ok(Nodes { addresses, timeout, data_dir })
    }
}

/// The longest answer: the largest `max_line_bytes` that a cluster can have, and 64 KiB.
const MAX_ANSWER_BYTES: usize = MAX_LINE_BYTES + 64 * 1024;

/// How long to wait for a node to take a connection. Across the machine or a data centre it is there at once
/// or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection to one node.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: LineReader<TcpStream>,
}

impl Connection {
    /// Connects to `HOST:PORT`, trying each address that the name has. From then on a read or a write that
    /// takes longer than `timeout` fails.
    pub fn open(address: &str, timeout: Duration) -> io::Result<Connection> {
        let mut last_error = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT.min(timeout)) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    let reader = LineReader::new(stream.try_clone()?, MAX_ANSWER_BYTES);
                    return Ok(Connection { stream, reader });
                }
                Err(error) => last_error = error,
            }
        }
        Err(last_error)
    }

    /// Sends bytes: whole lines with their newlines.
    pub fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        self.stream.write_all(lines)
    }

    /// The next answer, without newline. Fails on the end of the connection too.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(answer) = self.received()? {
                return Ok(answer);
            }
            self.reader.fill()?;
        }
    }

    /// The next answer if it is here already; never waits.
    pub fn received(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.reader.next_line() {
            Next::Line(line) => Ok(Some(line.to_vec())),
            Next::NeedsMore => Ok(None),
            Next::TooLong => Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long")),
            Next::End => Err(io::Error::new(ErrorKind::UnexpectedEof, "the node closed the connection")),
        }
    }

    /// Whether the node is known to have closed the connection while nothing was asked.
    pub fn is_closed(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let restored = self.stream.set_nonblocking(false);
        // A node that speaks unasked says farewell.
        let open = matches!(&peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        !open || restored.is_err()
    }
}

/// As much of an answer as the client looks at.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    pub error: Option<AnswerError>,
}

/// The reason in an answer that is not `ok`.
#[derive(Debug, Deserialize)]
pub struct AnswerError {
    /// One of the contract's codes.
    pub code: String,
}

impl Answer {
    /// Reads an answer; fails on what is none.
    pub fn parse(line: &[u8]) -> io::Result<Answer> {
        serde_json::from_slice(line).map_err(|_| {
            let text = format!("{} is no answer of a node", quote_external(line));
            io::Error::new(ErrorKind::InvalidData, text)
        })
    }

    /// The error's code; empty when there is none.
    pub fn code(&self) -> &str {
        self.error.as_ref().map_or("", |error| error.code.as_str())
    }
}
