//! Taking connections, for peers and for clients alike: never spinning when the system has no more to give.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Hands every connection to `serve`, for ever. When accepting fails (no more file descriptors), it waits a
/// little longer each time.
pub(super) fn accept_all(
    listener: &TcpListener,
    what: &str,
    mut serve: impl FnMut(TcpStream, SocketAddr),
) -> ! {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                pause = FIRST_PAUSE;
                serve(stream, address);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!("cannot accept a {what}'s connection: {error}");
                thread::sleep(pause);
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// The connection was gone before it was accepted: that is its own trouble.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
