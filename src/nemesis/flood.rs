//! A flood of connections to a node's port for clients, from people who mean no good: thousands that come and
//! go, hundreds that stay and say nothing, lines that come byte by byte and never end, and garbage.

use super::guests::{Guest, Guests};
use super::run::Run;
use std::fmt;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Connections that are closed as soon as they are open.
const FLEETING: usize = 2_000;
/// Connections that stay: a third of them says nothing.
const STAYING: usize = 900;
/// How long connecting, and each write, may take: a node that is full is left alone.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two bytes of a line that never ends.
const DRIP: Duration = Duration::from_millis(100);

/// Connections that stay for a while.
pub(super) struct Flood {
    node: u16,
    address: SocketAddr,
    guests: Arc<Guests>,
    staying: Vec<(TcpStream, Guest)>,
    counts: Counts,
}

/// How many connections there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connected.
    pub opened: usize,
    /// Not connected.
    pub refused: usize,
    /// Closed by the node while they stayed.
    pub closed: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { opened, refused, closed } = self;
        write!(f, "{opened} connections, {refused} refused, {closed} closed by the node")
    }
}

impl Flood {
    /// Opens those that stay, some of which say something at once.
    pub fn begin(run: &Run<'_>, node: u16, address: SocketAddr, chance: &mut fastrand::Rng) -> Flood {
        let guests = Arc::clone(&run.guests);
        let mut flood = Flood { node, address, guests, staying: Vec::new(), counts: Counts::default() };
        for number in 0..STAYING {
            let Some((mut stream, guest)) = flood.connect() else { continue };
            if number % 3 == 0 {
                // The node may answer and close: that is its good right.
                let _ = stream.write_all(&garbage(chance));
            }
            flood.staying.push((stream, guest));
        }
        flood
    }

    fn connect(&mut self) -> Option<(TcpStream, Guest)> {
        let guest = self.guests.enter(self.node);
        match TcpStream::connect_timeout(&self.address, PATIENCE) {
            Ok(stream) => {
                self.counts.opened += 1;
                let _ = stream.set_write_timeout(Some(PATIENCE));
                Some((stream, guest))
            }
            Err(_) => {
                self.counts.refused += 1;
                None
            }
        }
    }

    /// Goes on for so long, with fleeting ones and lines that never end.
    pub fn keep_up(mut self, run: &Run<'_>, length: Duration) -> Counts {
        let until = run.elapsed() + length;
        let mut fleeting = 0;
        while run.elapsed() < until && !run.is_cut_short() {
            for _ in 0..(FLEETING - fleeting).min(200) {
                fleeting += 1;
                drop(self.connect());
            }
            let mut closed = 0;
            for (stream, _) in self.staying.iter_mut().step_by(3) {
                closed += usize::from(stream.write_all(b"{").is_err());
            }
            self.counts.closed = closed;
            run.nap(DRIP);
        }
        self.counts
    }
}

/// Something that is no request.
fn garbage(chance: &mut fastrand::Rng) -> Vec<u8> {
    let length = chance.usize(1..2_000);
    match chance.u8(0..4) {
        0 => (0..length).map(|_| chance.u8(..)).collect(),
        1 => [&b"{\"op\":\"set\",\"key\":\""[..], &vec![0; length], b"\"}\n"].concat(),
        2 => b"[{\"op\":\"get\"\n".repeat(length / 10 + 1),
        _ => b"GET / HTTP/1.1\r\nHost: raftkv\r\n\r\n".to_vec(),
    }
}
