//! The thread in which most clients' readers run. To wake a thread for each of many requests that come at
//! about the same time costs more than all that is done with them; here they are read one after the other, go
//! to the raft thread as one event, and so into one write to its disk.
//!
//! ```text
//!   accept --take--> [ reader ][ reader ][ reader ] --read_shared--> one batch --> raft thread
//!                       |                    ^ epoll: these have something
//!                       +-- its next request has to wait --> a thread of its own (read_alone)
//! ```
//!
//! Nothing here waits for a single client: bytes are taken as far as they are there, and whoever would have
//! to wait goes on in a thread of its own. A raft or KV thread that is full makes all readers wait.
//! Where there is no epoll, each reader has its own thread from the beginning.

use super::client_listener::ClientListener;
use super::client_reader::ClientReader;
use super::ending::Endings;
use std::io;

/// Starts readers, and is given new ones.
pub(super) struct SharedReaders {
    endings: Endings,
    #[cfg(target_os = "linux")]
    queue: Option<std::sync::Arc<linux::Queue>>,
}

impl SharedReaders {
    /// Starts the thread.
    pub fn start(listener: &ClientListener) -> SharedReaders {
        let endings = listener.endings.clone();
        #[cfg(target_os = "linux")]
        let queue = linux::start(listener);
        SharedReaders {
            endings,
            #[cfg(target_os = "linux")]
            queue,
        }
    }

    /// A client has connected.
    pub fn take(&self, reader: ClientReader) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(queue) = &self.queue {
            return queue.push(reader);
        }
        read_alone(&self.endings, reader)
    }
}

fn read_alone(endings: &Endings, reader: ClientReader) -> io::Result<()> {
    endings.spawn_connection("client-reader", move || reader.read_alone())
}

#[cfg(target_os = "linux")]
mod linux {
    use super::read_alone;
    use crate::server::client_listener::{ClientListener, LOOK_INTERVAL};
    use crate::server::client_reader::{ClientReader, Parting};
    use crate::server::linger::linger;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use std::collections::BTreeMap;
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    /// Connections that are looked at with one call.
    const EVENTS: usize = 256;

    /// Where new readers wait for the thread to notice that they have something to read.
    pub struct Queue {
        epoll: Epoll,
        arrivals: Mutex<Arrivals>,
    }

    struct Arrivals {
        next_key: u64,
        readers: Vec<(u64, ClientReader)>,
    }

    impl Queue {
        pub fn push(&self, reader: ClientReader) -> io::Result<()> {
            let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            let key = arrivals.next_key;
            // The thread finds it here, since it has to wait for the lock.
            self.epoll.add(reader.stream(), EpollEvent::new(EpollFlags::EPOLLIN, key))?;
            arrivals.next_key += 1;
            arrivals.readers.push((key, reader));
            Ok(())
        }
    }

    /// None when the system gives no epoll.
    pub fn start(listener: &ClientListener) -> Option<Arc<Queue>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .inspect_err(|error| tracing::warn!("no epoll, so each client has a thread: {error}"))
            .ok()?;
        let arrivals = Mutex::new(Arrivals { next_key: 0, readers: Vec::new() });
        let queue = Arc::new(Queue { epoll, arrivals });
        let thread =
            Thread { queue: Arc::clone(&queue), listener: listener.clone(), readers: BTreeMap::new() };
        listener.endings.spawn_vital("client-readers", thread, Thread::run);
        Some(queue)
    }

    struct Thread {
        queue: Arc<Queue>,
        listener: ClientListener,
        readers: BTreeMap<u64, ClientReader>,
    }

    impl Thread {
        fn run(&mut self) -> String {
            let mut events = [EpollEvent::empty(); EVENTS];
            let mut batch = Vec::new();
            let mut looked_at = Instant::now();
            let mut count = 0;
            loop {
                let until_look = LOOK_INTERVAL.saturating_sub(looked_at.elapsed());
                let was_busy = count > 0;
                count = match self.wait(&mut events, until_look, was_busy) {
                    Ok(count) => count,
                    Err(nix::errno::Errno::EINTR) => 0,
                    Err(error) => return format!("clients' connections cannot be waited for: {error}"),
                };
                let mut parting = Vec::new();
                for event in &events[..count] {
                    let key = event.data();
                    let Some(reader) = self.reader(key) else { continue };
                    parting.extend(reader.read_shared(&mut batch).map(|why| (key, why)));
                }
                // What others wait for is on its way before anything else is done.
                if !batch.is_empty() && self.listener.inbox.clients.send(std::mem::take(&mut batch)).is_err()
                {
                    return "the raft thread is gone".to_owned();
                }
                for (key, why) in parting {
                    self.part_with(key, why);
                }
                if looked_at.elapsed() >= LOOK_INTERVAL || self.listener.open_clients.is_closing() {
                    self.look(looked_at.elapsed());
                    looked_at = Instant::now();
                }
            }
        }

        /// How many connections have something. After something has come, more may be on its way: that is
        /// lingered for.
        fn wait(&self, events: &mut [EpollEvent], time: Duration, lingers: bool) -> nix::Result<usize> {
            let epoll = &self.queue.epoll;
            let mut look = || Some(epoll.wait(events, EpollTimeout::ZERO)).filter(|come| *come != Ok(0));
            if let Some(come) = lingers.then(|| linger(&mut look)).flatten() {
                return come;
            }
            epoll.wait(events, EpollTimeout::try_from(time).unwrap_or(EpollTimeout::ZERO))
        }

        fn reader(&mut self, key: u64) -> Option<&mut ClientReader> {
            if !self.readers.contains_key(&key) {
                self.take_arrivals();
            }
            self.readers.get_mut(&key)
        }

        fn take_arrivals(&mut self) {
            let mut arrivals = self.queue.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            self.readers.extend(arrivals.readers.drain(..));
        }

        /// Looks at those that have sent nothing for a while, too.
        fn look(&mut self, passed: Duration) {
            self.take_arrivals();
            let stops = self.readers.iter_mut().filter_map(|(key, it)| Some((*key, it.look_shared(passed)?)));
            for (key, stop) in stops.collect::<Vec<_>>() {
                self.part_with(key, Parting::Stops(stop));
            }
        }

        /// A reader does not share this thread any more.
        fn part_with(&mut self, key: u64, why: Parting) {
            let Some(mut reader) = self.readers.remove(&key) else { return };
            // It was added; and if it is gone, it is not waited for either.
            let _ = self.queue.epoll.delete(reader.stream());
            match why {
                Parting::Stops(stop) => reader.stop(&stop),
                Parting::Waits => {
                    let connection = reader.connection();
                    if let Err(error) = read_alone(&self.listener.endings, reader) {
                        tracing::warn!("cannot start a thread for a client's connection: {error}");
                        connection.close_after_answers();
                    }
                }
            }
        }
    }
}
