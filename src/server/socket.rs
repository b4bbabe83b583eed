//! What the standard library does not do with sockets.

use super::linger::linger;
use nix::errno::Errno;
use nix::sys::socket::{Backlog, MsgFlags, listen, recv, send};
use std::io::{self, ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// Listens. As many connections as the system allows may wait to be accepted, where the standard library asks
/// for 128: whoever finds that queue full tries again a second later.
pub(super) fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

/// Sends as much as the socket takes at once, and says how much that was. What is wrong with the socket is
/// left to whoever waits for it to find.
pub(super) fn send_what_fits(stream: &TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        // For this one call, unlike `set_nonblocking`, which would hold for who reads from it too.
        match send(stream.as_raw_fd(), &bytes[sent..], MsgFlags::MSG_DONTWAIT) {
            Ok(count) => sent += count,
            Err(Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    sent
}

/// A socket that is read from.
pub(super) struct Incoming {
    pub stream: TcpStream,
    pub wait: Wait,
}

/// What a read does when nothing has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// It fails with `WouldBlock`.
    No,
    /// It sleeps, no longer than the socket's timeout.
    Sleeps,
    /// It lingers, and sleeps then.
    Lingers,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.wait {
            Wait::No => recv_what_is_there(&self.stream, buffer),
            Wait::Sleeps => self.stream.read(buffer),
            Wait::Lingers => {
                let come = linger(|| match recv_what_is_there(&self.stream, buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    come => Some(come),
                });
                come.unwrap_or_else(|| self.stream.read(buffer))
            }
        }
    }
}

fn recv_what_is_there(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}
