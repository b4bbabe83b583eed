//! Channels into a thread that has several, and sleeps when all are empty.
//!
//! A thread that waits for a channel of crossbeam's own turns round a few times before it sleeps: too short
//! for anything to come, and partly without giving way to those that have work. Here it lingers (`linger.rs`)
//! if it has just had something to do, and sleeps then; whoever sends wakes it. To wake one that is awake
//! costs one atomic operation.

use super::linger::linger;
use crossbeam_channel::{Receiver, SendError, SendTimeoutError, Sender, TrySendError, bounded};
use crossbeam_utils::sync::{Parker, Unparker};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Wakes one thread, which sleeps by it.
pub(super) struct Bell {
    parker: Parker,
    /// The last wait ended with something to do: more may be on its way.
    is_busy: Cell<bool>,
}

impl Bell {
    pub fn new() -> Bell {
        Bell { parker: Parker::new(), is_busy: Cell::new(false) }
    }

    /// A channel that wakes the thread. It holds `capacity` messages.
    pub fn channel<T>(&self, capacity: usize) -> (WakingSender<T>, Receiver<T>) {
        let (sender, receiver) = bounded(capacity);
        (WakingSender { sender, bell: self.parker.unparker().clone() }, receiver)
    }

    /// Waits until there is something to do, or until the deadline or a little later.
    pub fn wait_until(&self, deadline: Option<Instant>, has_work: impl Fn() -> bool) {
        let came = self.is_busy.get() && linger(|| has_work().then_some(())).is_some();
        self.is_busy.set(came || self.park_until(deadline, has_work));
    }

    /// Says whether there is something to do. Whatever is sent after `has_work` was asked wakes the thread: a
    /// ring is kept until the next sleep.
    fn park_until(&self, deadline: Option<Instant>, has_work: impl Fn() -> bool) -> bool {
        while !has_work() {
            match deadline {
                Some(deadline) if Instant::now() >= deadline => return false,
                Some(deadline) => self.parker.park_deadline(deadline),
                None => self.parker.park(),
            }
        }
        true
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

    /// Two threads that each wait until the other has sent: the first wake-up that is lost leaves both
    /// asleep. `work` is what one of them does in a round before it sends.
    fn play_ping_pong(rounds: u32, wait: fn(&Bell, Instant, &dyn Fn() -> bool), work: impl Fn(u32)) {
        const PATIENCE: Duration = Duration::from_secs(20);
        let (ours, theirs) = (Bell::new(), Bell::new());
        let (to_them, from_us) = theirs.channel(1);
        let (to_us, from_them) = ours.channel(1);
        let other = thread::spawn(move || {
            for round in 0..rounds {
                wait(&theirs, Instant::now() + PATIENCE, &|| !from_us.is_empty());
                assert_eq!(from_us.try_recv(), Ok(round));
                to_us.send(round).expect("we listen");
            }
        });
        for round in 0..rounds {
            work(round);
            to_them.send(round).expect("it listens");
            wait(&ours, Instant::now() + PATIENCE, &|| !from_them.is_empty());
            assert_eq!(from_them.try_recv(), Ok(round));
        }
        other.join().expect("it has heard every round");
    }

    #[test]
    fn no_message_is_slept_over() {
        let sleeps = |bell: &Bell, until: Instant, has_work: &dyn Fn() -> bool| {
            bell.park_until(Some(until), has_work);
        };
        play_ping_pong(20_000, sleeps, |_| {});
    }

    /// Messages come before, at and after the moment at which the other gives up lingering.
    #[test]
    fn no_message_is_slept_over_when_lingering_ends() {
        let lingers =
            |bell: &Bell, until: Instant, has_work: &dyn Fn() -> bool| bell.wait_until(Some(until), has_work);
        play_ping_pong(3_000, lingers, |round| {
            let (begun, busy) = (Instant::now(), Duration::from_micros((round % 200).into()));
            while begun.elapsed() < busy {
                std::hint::spin_loop();
            }
        });
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
