//! The links between nodes, in our hands: what node A dials to reach node B is a port of ours, which carries
//! the bytes on, or keeps them, or takes its time.
//!
//! ```text
//!   n1 ──dials──> link n1→n2 ──dials──> n2     forward:  what n1 tells n2
//!      <─────────            <─────────        backward: n2's welcome and pongs
//! ```
//!
//! A cut keeps bytes and loses none: when it ends, what was on its way arrives late, also from a connection
//! that was given up meanwhile. That is what a network does, and it is worse than loss. Nothing is read while
//! a direction is cut, so what is kept is bounded by the sockets' buffers.

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a dial may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that are carried at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What happens to what goes through a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// Nothing gets from the node that dials to the other.
    pub cut_forward: bool,
    /// Nothing comes back.
    pub cut_backward: bool,
    /// Each piece takes up to so long, in milliseconds, and what comes behind it waits.
    pub delay_max_ms: u64,
    /// No more than so many bytes a second.
    pub bytes_per_second: Option<u32>,
}

/// What one node dials to reach another.
pub(super) struct Link {
    target: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
    /// How often bytes were kept or made to wait.
    interfered: AtomicU64,
}

#[derive(Default)]
struct State {
    rule: Rule,
    /// Connections with a lower number are to be reset.
    reset_below: u64,
    next_number: u64,
    /// Both ends of each connection, by its number.
    open: BTreeMap<u64, [TcpStream; 2]>,
    is_closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Why carrying stops.
#[derive(PartialEq, Eq)]
enum Gone {
    /// The connection is to be reset, or the link is closed.
    Reset,
}

impl Link {
    /// Opens a port on `host` that leads to `target`, and returns its address too.
    fn open(host: IpAddr, target: SocketAddr) -> io::Result<(Arc<Link>, SocketAddr)> {
        let listener = TcpListener::bind((host, 0))?;
        let address = listener.local_addr()?;
        let link = Arc::new(Link {
            target,
            state: Mutex::default(),
            changed: Condvar::new(),
            interfered: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&link);
        thread::Builder::new().name("link".to_owned()).spawn(move || accepting.accept(&listener))?;
        Ok((link, address))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Link>, listener: &TcpListener) {
        for stream in listener.incoming() {
            let number = {
                let mut state = self.state();
                if state.is_closed {
                    return;
                }
                state.next_number += 1;
                state.next_number - 1
            };
            let Ok(stream) = stream else { continue };
            let link = Arc::clone(&self);
            // Without a thread the connection is closed, as on a machine that has none to give.
            let _ = thread::Builder::new()
                .name("link-connection".to_owned())
                .spawn(move || link.carry_both(number, stream));
        }
    }

    fn carry_both(self: Arc<Link>, number: u64, near: TcpStream) {
        // Nobody knows of the connection at the other end while nothing gets there.
        if self.wait(number, Direction::Forward, 0).is_err() {
            return reset(&near);
        }
        // Whatever goes wrong here looks to the node like a peer that is down.
        let Ok(far) = TcpStream::connect_timeout(&self.target, DIAL_TIMEOUT) else { return };
        let ends = || -> io::Result<([TcpStream; 2], [TcpStream; 2])> {
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            Ok(([near.try_clone()?, far.try_clone()?], [near.try_clone()?, far.try_clone()?]))
        };
        let Ok((kept, [near_back, far_back])) = ends() else { return };
        self.state().open.insert(number, kept);
        let link = Arc::clone(&self);
        let back = move || link.carry(number, Direction::Backward, far_back, near_back);
        let back = thread::Builder::new().name("link-back".to_owned()).spawn(back);
        self.carry(number, Direction::Forward, near, far);
        if let Ok(back) = back {
            let _ = back.join();
        }
        self.state().open.remove(&number);
    }

    /// Carries one direction until its source ends; the end is carried too.
    fn carry(&self, number: u64, direction: Direction, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; CHUNK_BYTES];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            if self.wait(number, direction, count).is_err() {
                reset(&from);
                reset(&to);
                return;
            }
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
            if to.write_all(bytes).is_err() {
                // The other end is gone: whoever sends shall know.
                let _ = from.shutdown(Shutdown::Both);
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    /// Waits as long as so many bytes have to.
    fn wait(&self, number: u64, direction: Direction, count: usize) -> Result<(), Gone> {
        let mut state = self.state();
        let rule = state.rule;
        let mut pause = Duration::ZERO;
        if count > 0 && rule.delay_max_ms > 0 {
            pause += Duration::from_millis(fastrand::u64(0..=rule.delay_max_ms));
        }
        if let Some(rate) = rule.bytes_per_second.filter(|_| count > 0) {
            pause += Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
        }
        let until = Instant::now() + pause;
        let mut has_waited = false;
        loop {
            if state.is_closed || number < state.reset_below {
                return Err(Gone::Reset);
            }
            let is_cut = match direction {
                Direction::Forward => state.rule.cut_forward,
                Direction::Backward => state.rule.cut_backward,
            };
            let left = until.saturating_duration_since(Instant::now());
            // A link that works again has no more delay for what it kept.
            let is_late = left.is_zero() || (state.rule != rule && state.rule == Rule::default());
            if !is_cut && is_late {
                return Ok(());
            }
            if !has_waited {
                has_waited = true;
                self.interfered.fetch_add(1, Ordering::Relaxed);
            }
            state = if is_cut {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn set_rule(&self, rule: Rule) {
        self.state().rule = rule;
        self.changed.notify_all();
    }

    /// Resets all connections; says how many.
    fn reset(&self) -> usize {
        let mut state = self.state();
        state.reset_below = state.next_number;
        // This wakes those who read, without a word to the nodes: they get the reset.
        for end in state.open.values().flatten() {
            let _ = end.shutdown(Shutdown::Read);
        }
        self.changed.notify_all();
        let ends = std::mem::take(&mut state.open);
        ends.values().flatten().for_each(reset);
        ends.len()
    }

    fn close(&self, address: SocketAddr) {
        self.reset();
        self.state().is_closed = true;
        self.changed.notify_all();
        // Whoever accepts looks up.
        let _ = TcpStream::connect_timeout(&address, DIAL_TIMEOUT);
    }
}

/// Lets the last handle that is closed say `reset` instead of `end`.
fn reset(stream: &TcpStream) {
    // On a socket that is gone already there is nothing to say.
    let _ = setsockopt(stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
}

/// The links of all nodes to all others.
pub(super) struct Network {
    links: BTreeMap<(u16, u16), (Arc<Link>, SocketAddr)>,
}

impl Network {
    /// Links on `host` between nodes whose own peer addresses these are.
    pub fn open(host: IpAddr, nodes: &BTreeMap<u16, SocketAddr>) -> io::Result<Network> {
        let mut links = BTreeMap::new();
        for from in nodes.keys() {
            for (to, target) in nodes.iter().filter(|(to, _)| *to != from) {
                links.insert((*from, *to), Link::open(host, *target)?);
            }
        }
        Ok(Network { links })
    }

    /// What `from` dials to reach `to`.
    pub fn address(&self, from: u16, to: u16) -> Option<SocketAddr> {
        self.links.get(&(from, to)).map(|(_, address)| *address)
    }

    /// Gives each link, from one node to another, its rule.
    pub fn set_rules(&self, rule: impl Fn(u16, u16) -> Rule) {
        for ((from, to), (link, _)) in &self.links {
            link.set_rule(rule(*from, *to));
        }
    }

    /// All links work.
    pub fn heal(&self) {
        self.set_rules(|_, _| Rule::default());
    }

    /// Resets the connections between these nodes; says how many.
    pub fn reset(&self, is_meant: impl Fn(u16, u16) -> bool) -> usize {
        let meant = self.links.iter().filter(|((from, to), _)| is_meant(*from, *to));
        meant.map(|(_, (link, _))| link.reset()).sum()
    }

    /// How often bytes were kept or made to wait so far.
    pub fn interfered(&self) -> u64 {
        self.links.values().map(|(link, _)| link.interfered.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for (link, address) in self.links.values() {
            link.close(*address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Someone who says again whatever is said, and the link that n1 has to it.
    fn network() -> (Network, TcpStream) {
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listener = TcpListener::bind((host, 0)).expect("a port");
        let target = listener.local_addr().expect("its address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let nodes = BTreeMap::from([(1, target), (2, target)]);
        let network = Network::open(host, &nodes).expect("links");
        let stream = TcpStream::connect(network.address(1, 2).expect("a link")).expect("it is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above 0");
        (network, stream)
    }

    fn expect(stream: &mut TcpStream, text: &str) {
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).expect("it is said again");
        assert_eq!(String::from_utf8_lossy(&heard), text);
    }

    fn wait_until_kept(network: &Network, before: u64) {
        let deadline = Instant::now() + PATIENCE;
        while network.interfered() == before {
            assert!(Instant::now() < deadline, "nothing is kept");
            thread::yield_now();
        }
    }

    #[test]
    fn a_cut_keeps_what_is_said_until_it_ends() {
        let (network, mut stream) = network();
        stream.write_all(b"one").expect("it is open");
        expect(&mut stream, "one");
        for (cut_forward, cut_backward) in [(true, false), (false, true), (true, true)] {
            let before = network.interfered();
            network.set_rules(|from, _| Rule {
                cut_forward: from == 1 && cut_forward,
                cut_backward: from == 1 && cut_backward,
                ..Rule::default()
            });
            stream.write_all(b"two").expect("it is open");
            wait_until_kept(&network, before);
            stream.set_nonblocking(true).expect("a socket");
            let heard = stream.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(heard, Err(io::ErrorKind::WouldBlock));
            stream.set_nonblocking(false).expect("a socket");
            network.heal();
            expect(&mut stream, "two");
        }
    }

    #[test]
    fn what_is_kept_arrives_also_when_the_sender_has_gone() {
        let (network, mut stream) = network();
        network.set_rules(|_, _| Rule { cut_forward: true, ..Rule::default() });
        stream.write_all(b"late").expect("it is open");
        stream.shutdown(Shutdown::Write).expect("it is open");
        wait_until_kept(&network, 0);
        network.heal();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).expect("an end in order");
        assert_eq!(heard, "late");
    }

    #[test]
    fn a_reset_is_one_and_the_next_connection_works() {
        let (network, mut stream) = network();
        stream.write_all(b"one").expect("it is open");
        expect(&mut stream, "one");
        assert_eq!(network.reset(|from, to| (from, to) == (2, 1)), 0, "nobody has dialled that one");
        assert_eq!(network.reset(|_, _| true), 1);
        let heard = stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(heard, Err(io::ErrorKind::ConnectionReset));
        let mut next = TcpStream::connect(network.address(1, 2).expect("a link")).expect("it is there");
        next.write_all(b"two").expect("it is open");
        expect(&mut next, "two");
    }

    #[test]
    fn slow_and_late_bytes_arrive_in_order() {
        let (network, mut stream) = network();
        let rule = Rule { delay_max_ms: 5, bytes_per_second: Some(100_000), ..Rule::default() };
        network.set_rules(|_, _| rule);
        for number in 0..20 {
            let text = format!("{number} ");
            stream.write_all(text.as_bytes()).expect("it is open");
            expect(&mut stream, &text);
        }
        assert!(network.interfered() > 0);
    }
}
