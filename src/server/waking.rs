//! Channels into a thread that has several, and sleeps when all are empty.
//!
//! A thread that waits for a channel of crossbeam's own turns round a few times, giving way to others, before
//! it sleeps. That suits a machine with more processors than threads that have something to do. Here nothing
//! comes while a thread turns round, and what it costs is taken from those that have work; so a thread that
//! finds its channels empty sleeps at once, and whoever sends wakes it. To wake one that is awake costs one
//! atomic operation.

use crossbeam_channel::{Receiver, SendError, SendTimeoutError, Sender, TrySendError, bounded};
use crossbeam_utils::sync::{Parker, Unparker};
use std::time::{Duration, Instant};

/// Wakes one thread, which sleeps by it.
pub(super) struct Bell(Parker);

impl Bell {
    pub fn new() -> Bell {
        Bell(Parker::new())
    }

    /// A channel that wakes the thread. It holds `capacity` messages.
    pub fn channel<T>(&self, capacity: usize) -> (WakingSender<T>, Receiver<T>) {
        let (sender, receiver) = bounded(capacity);
        (WakingSender { sender, bell: self.0.unparker().clone() }, receiver)
    }

    /// Sleeps until there is something to do, or until the deadline. Whatever is sent after `has_work` was
    /// asked wakes the thread: a ring is kept until the next wait.
    pub fn wait_until(&self, deadline: Option<Instant>, has_work: impl Fn() -> bool) {
        while !has_work() {
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return,
                Some(deadline) => self.0.park_deadline(deadline),
                None => self.0.park(),
            }
        }
    }
}

/// The sending end: wakes the receiver's thread. When it is dropped it does not: these threads end with the
/// process only.
pub(super) struct WakingSender<T> {
    sender: Sender<T>,
    bell: Unparker,
}

impl<T> Clone for WakingSender<T> {
    fn clone(&self) -> WakingSender<T> {
        WakingSender { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> WakingSender<T> {
    /// Waits for room. Fails when the receiver is gone.
    pub fn send(&self, message: T) -> Result<(), SendError<T>> {
        let sent = self.sender.send(message);
        self.bell.unpark();
        sent
    }

    /// Waits for room, but no longer than this.
    pub fn send_timeout(&self, message: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let sent = self.sender.send_timeout(message, timeout);
        self.bell.unpark();
        sent
    }

    /// Does not wait for room.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let sent = self.sender.try_send(message);
        self.bell.unpark();
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Two threads that each sleep until the other has sent: the first wake-up that is lost leaves both
    /// asleep.
    #[test]
    fn no_message_is_slept_over() {
        const ROUNDS: u32 = 20_000;
        const PATIENCE: Duration = Duration::from_secs(20);
        let (ours, theirs) = (Bell::new(), Bell::new());
        let (to_them, from_us) = theirs.channel(1);
        let (to_us, from_them) = ours.channel(1);
        let other = thread::spawn(move || {
            for round in 0..ROUNDS {
                theirs.wait_until(Some(Instant::now() + PATIENCE), || !from_us.is_empty());
                assert_eq!(from_us.try_recv(), Ok(round));
                to_us.send(round).expect("we listen");
            }
        });
        for round in 0..ROUNDS {
            to_them.send(round).expect("it listens");
            ours.wait_until(Some(Instant::now() + PATIENCE), || !from_them.is_empty());
            assert_eq!(from_them.try_recv(), Ok(round));
        }
        other.join().expect("it has heard every round");
    }

    #[test]
    fn a_deadline_ends_the_wait_also_after_a_ring_for_nothing() {
        let bell = Bell::new();
        let (sender, receiver) = bell.channel(1);
        sender.send(()).expect("there is room");
        receiver.try_recv().expect("it is there");
        let deadline = Instant::now() + Duration::from_millis(20);
        bell.wait_until(Some(deadline), || !receiver.is_empty());
        assert!(Instant::now() >= deadline);
    }
}
