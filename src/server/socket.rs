//! What the standard library does not do with sockets.

use nix::errno::Errno;
use nix::sys::socket::{Backlog, MsgFlags, listen, recv, send};
use std::io;
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

/// Reads what has come. Fails with `WouldBlock` when that is nothing.
pub(super) fn recv_what_is_there(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(recv(stream.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?)
}
