//! Before the load: every key is set once, so that reads find something and the store has its size.

use super::load::connect;
use super::options::Options;
use super::requests::Requests;
use crate::dial::{Answer, Connection};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How many keys a client sets with one write to its connection.
const BATCH: u32 = 64;

/// Between two attempts, when nothing gets on.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// After so long without a key that was set, a client gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients share while they fill.
pub(super) struct Prefill<'a> {
    /// The first key that nobody has taken yet.
    pub next_key: AtomicU32,
    /// How many are set.
    pub done: AtomicU32,
    /// Whether a client has given up: then the others need not go on.
    pub failed: AtomicBool,
    pub interrupted: &'a AtomicBool,
}

impl<'a> Prefill<'a> {
    pub fn new(interrupted: &'a AtomicBool) -> Prefill<'a> {
        let (next_key, done) = (AtomicU32::new(0), AtomicU32::new(0));
        Prefill { next_key, done, failed: AtomicBool::new(false), interrupted }
    }

    /// One client's share: takes keys until there are none left. What is not answered with ok is set again,
    /// which changes nothing if it was set the first time. Fails when nothing gets on.
    pub fn work(&self, options: &Options, mut nodes: Vec<String>, timeout: Duration) -> Result<(), String> {
        let mut requests = Requests::new(options);
        let mut connection: Option<Connection> = None;
        let mut open: Vec<u32> = Vec::new();
        let mut got_on = Instant::now();
        loop {
            if self.interrupted.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if open.is_empty() {
                open = self.take_keys(options.keys);
                if open.is_empty() {
                    return Ok(());
                }
            }
            let count = open.len();
            let why = match connection.take().or_else(|| connect(&nodes, timeout)) {
                None => "no node could be reached".to_owned(),
                Some(mut taken) => match set_all(&mut taken, &mut requests, &mut open) {
                    Ok(code) => {
                        connection = Some(taken);
                        format!("the last answer was {code}")
                    }
                    Err(error) => {
                        nodes.rotate_left(1);
                        format!("the connection broke: {error}")
                    }
                },
            };
            let set = u32::try_from(count - open.len()).unwrap_or(u32::MAX);
            self.done.fetch_add(set, Ordering::Relaxed);
            if set > 0 {
                got_on = Instant::now();
            } else if got_on.elapsed() >= PATIENCE {
                self.failed.store(true, Ordering::Relaxed);
                let seconds = PATIENCE.as_secs();
                return Err(format!("the keys cannot be filled, nothing got on for {seconds} s: {why}"));
            } else {
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }

    fn take_keys(&self, count: u32) -> Vec<u32> {
        let take = |next: u32| (next < count).then(|| next.saturating_add(BATCH).min(count));
        let taken = self.next_key.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map_or(Vec::new(), |first| (first..first.saturating_add(BATCH).min(count)).collect())
    }
}

/// Sets these keys and waits for all answers; those that were not set stay. Returns the last code that was
/// not ok.
fn set_all(connection: &mut Connection, requests: &mut Requests, open: &mut Vec<u32>) -> io::Result<String> {
    let mut lines = String::new();
    open.iter().for_each(|key| requests.push_set(*key, &mut lines));
    connection.send(lines.as_bytes())?;
    let mut left = Vec::new();
    let mut code = "ok".to_owned();
    for key in open.iter() {
        let answer = Answer::parse(&connection.receive()?)?;
        if !answer.ok {
            left.push(*key);
            code = answer.code().to_owned();
        }
    }
    *open = left;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_taken_once() {
        let interrupted = AtomicBool::new(false);
        for count in [1, 63, 64, 65, 1_000] {
            let prefill = Prefill::new(&interrupted);
            let mut keys = Vec::new();
            loop {
                let taken = prefill.take_keys(count);
                if taken.is_empty() {
                    break;
                }
                assert!(taken.len() <= BATCH as usize);
                keys.extend(taken);
            }
            assert_eq!(keys, (0..count).collect::<Vec<u32>>());
        }
    }
}
