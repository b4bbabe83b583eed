//! How the process ends: every thread reports to main, and only main exits. A thread that dies ends the
//! process, because a node that is half alive (its sockets open, its core gone) looks healthy to its peers
//! and is not (FAULTS row 52).

use crossbeam_channel::{Receiver, Sender, bounded};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use tracing::Span;

/// Why the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Someone asked for it (SIGINT, SIGTERM): exit status 0.
    Asked,
    /// The node must not go on: exit status 1. Says why, in one line.
    Fault(String),
}

/// Where threads report the end.
#[derive(Clone)]
pub(super) struct Endings {
    reports: Sender<Ending>,
    /// Names the node in every line that its threads log.
    span: Span,
}

/// One report is enough: whoever comes later finds the process ending.
const CAPACITY: usize = 1;

impl Endings {
    /// The channel to main. All threads started here log within `span`.
    pub fn channel(span: Span) -> (Endings, Receiver<Ending>) {
        let (reports, receiver) = bounded(CAPACITY);
        (Endings { reports, span }, receiver)
    }

    /// Asks main to end the process. The first report is the one that counts.
    pub fn report(&self, ending: Ending) {
        // A full channel means that the process is ending already.
        let _ = self.reports.try_send(ending);
    }

    /// Starts a thread that must never end: that it does, by returning a fault or by a panic, ends the
    /// process. What it owns is dropped after its report, because others notice that (its channels close)
    /// and would report no more than that it is gone.
    pub fn spawn_vital<T: Send + 'static>(
        &self,
        name: &str,
        mut owned: T,
        body: impl FnOnce(&mut T) -> String + Send + 'static,
    ) {
        let endings = self.clone();
        let label = name.to_owned();
        let run = move || {
            let _entered = endings.span.clone().entered();
            let fault = match catch_unwind(AssertUnwindSafe(|| body(&mut owned))) {
                Ok(fault) => fault,
                Err(panic) => format!("thread {label} panicked: {}", panic_text(panic.as_ref())),
            };
            endings.report(Ending::Fault(fault));
            drop(owned);
        };
        if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
            self.report(Ending::Fault(format!("cannot start thread {name}: {error}")));
        }
    }

    /// Starts a thread that serves one connection and ends with it. Only a panic ends the process. Fails when
    /// the system gives no thread: then the connection cannot be served, and nothing else is wrong.
    pub fn spawn_connection(&self, name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let endings = self.clone();
        let label = name.to_owned();
        let run = move || {
            let _entered = endings.span.clone().entered();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                let text = panic_text(panic.as_ref());
                endings.report(Ending::Fault(format!("thread {label} panicked: {text}")));
            }
        };
        let builder = thread::Builder::new().name(name.to_owned()).stack_size(CONNECTION_STACK_BYTES);
        builder.spawn(run).map(|_| ())
    }
}

/// Thousands of connections have two threads each. The deepest thing they do is to check a value that is
/// nested 64 deep.
const CONNECTION_STACK_BYTES: usize = 256 * 1024;

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn ending_of(start: impl FnOnce(&Endings)) -> Ending {
        let (endings, receiver) = Endings::channel(Span::none());
        start(&endings);
        receiver.recv_timeout(Duration::from_secs(10)).expect("an ending is reported")
    }

    #[test]
    fn a_vital_thread_that_returns_or_panics_ends_the_process() {
        let returned = ending_of(|endings| {
            endings.spawn_vital("raft", (), |()| "the disk is gone".to_owned());
        });
        assert_eq!(returned, Ending::Fault("the disk is gone".to_owned()));
        let panicked = ending_of(|endings| {
            endings.spawn_vital("raft", (), |()| panic!("n1@2: broken {}", 7));
        });
        assert_eq!(panicked, Ending::Fault("thread raft panicked: n1@2: broken 7".to_owned()));
    }

    /// A full disk ended a node, and its last line was "the raft thread is gone": the KV thread had seen its
    /// channel close and reported that before the raft thread could say why it ended.
    #[test]
    fn who_notices_that_a_thread_is_gone_does_not_report_before_it() {
        struct Channels(Endings);
        impl Drop for Channels {
            fn drop(&mut self) {
                self.0.report(Ending::Fault("the raft thread is gone".to_owned()));
            }
        }
        let returned = ending_of(|endings| {
            endings.spawn_vital("raft", Channels(endings.clone()), |_| "the disk is full".to_owned());
        });
        assert_eq!(returned, Ending::Fault("the disk is full".to_owned()));
        let panicked = ending_of(|endings| {
            endings.spawn_vital("raft", Channels(endings.clone()), |_| panic!("n1@2: broken"));
        });
        assert_eq!(panicked, Ending::Fault("thread raft panicked: n1@2: broken".to_owned()));
    }

    #[test]
    fn a_connection_that_panics_ends_the_process_and_one_that_ends_does_not() {
        let ending = ending_of(|endings| {
            endings.spawn_connection("quiet", || ()).expect("a thread");
            endings.spawn_connection("loud", || panic!("oh")).expect("a thread");
        });
        assert_eq!(ending, Ending::Fault("thread loud panicked: oh".to_owned()));
    }
}
