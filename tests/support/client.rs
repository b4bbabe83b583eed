//! Clients as anyone could write them: lines of JSON over TCP, without a word of the server's own code.

use super::waiting::DEADLINE;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a [`Writer`] waits for one node before it asks the next.
const ATTEMPT: Duration = Duration::from_secs(3);

/// One connection. What fails ends the test, but for the `try_` functions.
pub struct Line {
    reader: BufReader<TcpStream>,
}

impl Line {
    pub fn open(address: &str) -> Line {
        Line::try_open(address, DEADLINE)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"))
    }

    /// A connection on which nothing waits longer than `timeout`.
    pub fn try_open(address: &str, timeout: Duration) -> io::Result<Line> {
        let address: SocketAddr = address.parse().expect("a socket address");
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        // Two ports of one machine: while nobody listens on the port, a connection may be made with itself.
        if stream.local_addr()? == stream.peer_addr()? {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Line::of(stream))
    }

    /// The same over a stream at hand. Only one of two handles of a stream may be read from.
    pub fn of(stream: TcpStream) -> Line {
        Line { reader: BufReader::new(stream) }
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send_bytes(bytes).expect("the server takes what is sent");
    }

    pub fn try_send_bytes(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a request, or any text, and a newline.
    pub fn send(&mut self, line: impl ToString) {
        self.send_bytes(format!("{}\n", line.to_string()));
    }

    /// No more will be sent.
    pub fn end_sending(&self) {
        self.stream().shutdown(Shutdown::Write).expect("the sending side is open");
    }

    /// The next answer.
    pub fn answer(&mut self) -> Value {
        match self.try_answer() {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("the server closed the connection instead of answering"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The next answer; none when the connection was closed in order.
    pub fn try_answer(&mut self) -> io::Result<Option<Value>> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        assert!(line.ends_with('\n'), "an answer that is cut off: {line:?}");
        Ok(Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the answer {line:?}"))))
    }

    pub fn ask(&mut self, request: impl ToString) -> Value {
        self.send(request);
        self.answer()
    }

    /// All answers until the server closes.
    pub fn answers_to_the_end(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.try_answer().expect("an orderly end")).collect()
    }

    /// Waits until the server closes the connection, in order or not, and returns what came before.
    pub fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not close the connection: {error}"),
        }
        String::from_utf8(rest).expect("answers are UTF-8")
    }
}

/// The error code of an answer, `"ok"` when it is none.
pub fn code(answer: &Value) -> &str {
    match answer["ok"].as_bool() {
        Some(true) => "ok",
        _ => answer["error"]["code"].as_str().unwrap_or_else(|| panic!("neither ok nor an error: {answer}")),
    }
}

/// A client that numbers its writes and repeats each, under its number and on one node after the other, until
/// it has been done.
pub struct Writer {
    addresses: Vec<String>,
    next: usize,
    name: String,
    seq: u64,
    line: Option<Line>,
}

impl Writer {
    /// A client with a name that no other has used, which begins with the first of these nodes.
    pub fn new(name: impl ToString, addresses: Vec<String>) -> Writer {
        Writer { addresses, next: 0, name: name.to_string(), seq: 0, line: None }
    }

    /// Does a write exactly once and returns its answer.
    pub fn write(&mut self, mut request: Value) -> Value {
        self.seq += 1;
        request["client"] = json!(self.name);
        request["seq"] = json!(self.seq);
        self.until_done(&request)
    }

    /// Asks for something that may be repeated at will.
    pub fn read(&mut self, request: &Value) -> Value {
        self.until_done(request)
    }

    fn until_done(&mut self, request: &Value) -> Value {
        let deadline = Instant::now() + DEADLINE;
        let mut last = "nothing was tried".to_owned();
        while Instant::now() < deadline {
            match self.attempt(request) {
                Ok(answer) => match code(&answer) {
                    "ok" => return answer,
                    "busy" | "unavailable" | "timeout" => last = answer.to_string(),
                    _ => panic!("{request} got {answer}"),
                },
                Err(error) => last = error.to_string(),
            }
            self.line = None;
            self.next = (self.next + 1) % self.addresses.len();
        }
        panic!("{request} was tried in vain, last with: {last}");
    }

    fn attempt(&mut self, request: &Value) -> io::Result<Value> {
        if self.line.is_none() {
            self.line = Some(Line::try_open(&self.addresses[self.next], ATTEMPT)?);
        }
        let line = self.line.as_mut().expect("it was just opened");
        line.try_send_bytes(format!("{request}\n"))?;
        line.try_answer()?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
