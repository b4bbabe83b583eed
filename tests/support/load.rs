//! Writers at work while something happens to the cluster, and the check that each promise was kept, once.
//!
//! Each writer does two things in turn: it sets a key that nobody else ever sets, and it moves a counter of
//! its own on by a `cas` from the last number to the next. A write that is lost is missing; one that is
//! applied twice makes a `cas` find another number than it expects; and no two promises may name the same
//! index.

use super::client::Writer;
use super::cluster::Cluster;
use super::waiting::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

/// Writers in threads of their own. They end when this is dropped, also when a test fails.
pub struct Load {
    stop: Arc<AtomicBool>,
    promised: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Promise>>,
}

/// What one writer was told is done: `NAME-0` to `NAME-(rounds - 1)` hold their number, and `NAME-counter`
/// holds `rounds`.
struct Promise {
    name: String,
    rounds: u64,
    /// The index of each of its writes.
    indexes: Vec<i64>,
}

/// What all writers were promised.
pub struct Promises(Vec<Promise>);

impl Load {
    /// Starts writers, each of which begins with another node of these.
    pub fn start(name: &str, writers: usize, addresses: &[String]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let promised = Arc::new(AtomicUsize::new(0));
        let threads = (0..writers).map(|number| {
            let (stop, promised) = (Arc::clone(&stop), Arc::clone(&promised));
            let mut addresses = addresses.to_vec();
            let first = number % addresses.len();
            addresses.rotate_left(first);
            let name = format!("{name}-{number}");
            thread::spawn(move || work(name, addresses, &stop, &promised))
        });
        Load { threads: threads.collect(), stop, promised }
    }

    /// Waits until so many more writes are promised.
    pub fn wait_for_more(&self, count: usize) {
        let goal = self.promised.load(Ordering::Relaxed) + count;
        wait_until("the writers got on", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a writer gave up");
            (self.promised.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    /// Ends the writers.
    pub fn stop(mut self) -> Promises {
        self.stop.store(true, Ordering::Relaxed);
        let threads = self.threads.drain(..);
        Promises(threads.map(|thread| thread.join().expect("a writer without trouble")).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn work(name: String, addresses: Vec<String>, stop: &AtomicBool, promised: &AtomicUsize) -> Promise {
    let mut writer = Writer::new(&name, addresses);
    let mut promise = Promise { name, rounds: 0, indexes: Vec::new() };
    while !stop.load(Ordering::Relaxed) {
        let Promise { name, rounds, indexes } = &mut promise;
        let set = writer.write(json!({ "op": "set", "key": format!("{name}-{rounds}"), "value": rounds }));
        let expect = if *rounds == 0 { Value::Null } else { json!(rounds) };
        let key = format!("{name}-counter");
        let cas = writer.write(json!({ "op": "cas", "key": key, "expect": expect, "value": *rounds + 1 }));
        assert_eq!(cas["swapped"], true, "{key} from {rounds}: a write was lost or applied twice: {cas}");
        indexes.extend([set, cas].map(|answer| answer["index"].as_i64().expect("an index")));
        *rounds += 1;
        promised.fetch_add(2, Ordering::Relaxed);
    }
    promise
}

impl Promises {
    /// How many writes were promised.
    pub fn count(&self) -> usize {
        self.0.iter().map(|promise| promise.indexes.len()).sum()
    }

    /// Checks through one node, with linearizable reads, that each promised write is there, once.
    pub fn check(&self, cluster: &Cluster, node: u16) {
        assert!(self.count() > 0, "nothing was promised");
        let indexes: BTreeSet<i64> =
            self.0.iter().flat_map(|promise| promise.indexes.iter().copied()).collect();
        assert_eq!(indexes.len(), self.count(), "two promised writes have one index");
        let mut wanted = Vec::new();
        for Promise { name, rounds, .. } in &self.0 {
            wanted.extend((0..*rounds).map(|round| (format!("{name}-{round}"), json!(round))));
            let counter = if *rounds == 0 { Value::Null } else { json!(rounds) };
            wanted.push((format!("{name}-counter"), counter));
        }
        let mut line = cluster.connect(node);
        for some in wanted.chunks(200) {
            let gets = some.iter().map(|(key, _)| format!("{}\n", json!({ "op": "get", "key": key })));
            line.send_bytes(gets.collect::<String>());
            for (key, value) in some {
                let answer = line.answer();
                assert_eq!(answer["value"], *value, "{key}, read through n{node}: {answer}");
            }
        }
    }
}
