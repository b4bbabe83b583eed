//! How many requests does the cluster carry out, and how long do they take?
//!
//! A closed loop: every client sends, waits for the answer, sends again (with `--pipeline N`, keeps N on the
//! way), so the load follows what the cluster can do and the time of a request is not the time of a queue of
//! our own making. One thread and one connection a client. The first second does not count. What is counted
//! is the answer `ok:true`; every other is counted by its code. The writes carry no name and are never
//! repeated.

use crate::dial::{Answer, Connection, Nodes};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a client that reaches no node waits before it tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The longest time that is told apart, in microseconds: ten minutes.
const MAX_TIME_US: u64 = 600_000_000;

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Clients that ask at the same time, a connection each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,

    /// How long to measure
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,

    /// How long to run before that without counting
    #[arg(long, default_value_t = 1.0, value_parser = seconds_or_none)]
    warmup_seconds: f64,

    /// Length of the values, a JSON string of this many letters
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=64 << 20))]
    value_size: u32,

    /// Requests that each client keeps on the way
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pipeline: u16,

    /// How many different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,

    /// Which part of the requests are gets, from 0.0 to 1.0; the others are sets
    #[arg(long, default_value_t = 0.0, value_parser = part)]
    reads: f64,

    /// All clients ask the leader (default)
    #[arg(long, conflicts_with = "spread")]
    leader: bool,

    /// The clients are spread over all nodes
    #[arg(long)]
    spread: bool,
}

fn number_within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn seconds(text: &str) -> Result<f64, String> {
    number_within(text, 0.1, 86_400.0)
}

fn seconds_or_none(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 86_400.0)
}

fn part(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 1.0)
}

/// Measures, and gives the report as text. Fails when no node answers at all.
pub fn run(options: &Options, nodes: &Nodes) -> Result<String, String> {
    let Nodes { addresses, timeout, .. } = nodes;
    let timeout = *timeout;
    let leader = find_leader(addresses, timeout)?;
    let count_from = Instant::now() + Duration::from_secs_f64(options.warmup_seconds);
    let end = count_from + Duration::from_secs_f64(options.seconds);
    let done = AtomicU64::new(0);
    let tallies = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..usize::from(options.clients))
            .map(|number| {
                let first = if options.spread { number % addresses.len() } else { leader };
                let mut nodes = addresses.clone();
                nodes.rotate_left(first);
                let mut worker = Worker {
                    options,
                    nodes,
                    timeout,
                    count_from,
                    end,
                    done: &done,
                    random: Random::new(),
                    value: "x".repeat(options.value_size as usize),
                    sets: Tally::new(),
                    gets: Tally::new(),
                };
                scope.spawn(move || {
                    worker.work();
                    (worker.sets, worker.gets)
                })
            })
            .collect();
        show_progress(options, &done, end);
        let mut tallies = (Tally::new(), Tally::new());
        for worker in workers {
            let (sets, gets) = worker.join().map_err(|_| "a client's thread ended in a panic".to_owned())?;
            tallies.0.add(&sets);
            tallies.1.add(&gets);
        }
        Ok::<_, String>(tallies)
    })?;
    let at =
        if options.spread { "all nodes".to_owned() } else { format!("the leader, {}", addresses[leader]) };
    Ok(report(options, &at, &tallies.0, &tallies.1))
}

/// Which of the addresses is the leader's, by the nodes' own word; the first that answers when there is none.
fn find_leader(addresses: &[String], timeout: Duration) -> Result<usize, String> {
    #[derive(Deserialize)]
    struct Status {
        role: String,
        term: u64,
    }
    let ask = |address: &String| -> io::Result<Status> {
        let mut connection = Connection::open(address, timeout)?;
        connection.send(b"{\"op\":\"status\"}\n")?;
        Ok(serde_json::from_slice(&connection.receive()?)?)
    };
    let answers: Vec<_> = addresses.iter().map(ask).collect();
    let leads = |status: &Status| status.role == "leader";
    let answered = answers.iter().enumerate().filter_map(|(at, answer)| Some((at, answer.as_ref().ok()?)));
    // A leader that was cut off may still believe in an older term.
    let best = answered.max_by_key(|(at, status)| (leads(status), status.term, std::cmp::Reverse(*at)));
    best.map(|(at, _)| at).ok_or_else(|| {
        let why: Vec<String> = answers
            .iter()
            .zip(addresses)
            .filter_map(|(answer, address)| Some(format!("{address} ({})", answer.as_ref().err()?)))
            .collect();
        format!("no node could be reached: {}", why.join(", "))
    })
}

/// Until the end, how far it is and how it goes; on standard error, and only when that is a terminal.
fn show_progress(options: &Options, done: &AtomicU64, end: Instant) {
    let whole = Duration::from_secs_f64(options.warmup_seconds + options.seconds);
    let bar = ProgressBar::new(whole.as_millis().try_into().unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    let mut before = 0;
    let step = Duration::from_millis(200);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        std::thread::sleep(step.min(left));
        let now = done.load(Ordering::Relaxed);
        bar.set_position(bar.length().unwrap_or(0).saturating_sub(left.as_millis().try_into().unwrap_or(0)));
        bar.set_message(format!("{:>9.0} requests/s", (now - before) as f64 / step.as_secs_f64()));
        before = now;
    }
    bar.finish_and_clear();
}

/// What came of one kind of request.
struct Tally {
    /// Microseconds of those that were answered with ok.
    times_us: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Tally {
    fn new() -> Tally {
        let times_us = Histogram::new_with_max(MAX_TIME_US, 3).expect("the bounds are valid");
        Tally { times_us, errors: BTreeMap::new() }
    }

    fn add(&mut self, other: &Tally) {
        self.times_us.add(&other.times_us).expect("equal bounds");
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Set,
    Get,
}

/// One client: a thread with a connection.
struct Worker<'a> {
    options: &'a Options,
    /// The node to ask, and behind it those to go to when it is down.
    nodes: Vec<String>,
    timeout: Duration,
    count_from: Instant,
    end: Instant,
    done: &'a AtomicU64,
    random: Random,
    value: String,
    sets: Tally,
    gets: Tally,
}

impl Worker<'_> {
    fn work(&mut self) {
        while Instant::now() < self.end {
            let Some(mut connection) = self.connect() else {
                self.count(Kind::Set, Err("unreachable"));
                std::thread::sleep(RETRY_PAUSE);
                continue;
            };
            let mut under_way = VecDeque::new();
            if self.use_connection(&mut connection, &mut under_way).is_err() {
                for (kind, _) in under_way {
                    self.count(kind, Err("connection_lost"));
                }
                // A node that hangs takes connections still, so the next one gets its turn.
                self.nodes.rotate_left(1);
            }
        }
    }

    fn connect(&self) -> Option<Connection> {
        self.nodes.iter().find_map(|address| Connection::open(address, self.timeout).ok())
    }

    /// Asks until the end or until the connection fails.
    fn use_connection(
        &mut self,
        connection: &mut Connection,
        under_way: &mut VecDeque<(Kind, Instant)>,
    ) -> io::Result<()> {
        let mut lines = String::new();
        while Instant::now() < self.end {
            lines.clear();
            while under_way.len() < usize::from(self.options.pipeline) {
                let kind = self.push_request(&mut lines);
                under_way.push_back((kind, Instant::now()));
            }
            connection.send(lines.as_bytes())?;
            // All answers that are here, so that as many requests go out with the next write.
            let mut next = Some(connection.receive()?);
            while let Some(answer) = next {
                let answer = Answer::parse(&answer)?;
                if let Some((kind, since)) = under_way.pop_front() {
                    self.count(kind, if answer.ok { Ok(since.elapsed()) } else { Err(answer.code()) });
                }
                next = if under_way.is_empty() { None } else { connection.received()? };
            }
        }
        Ok(())
    }

    fn push_request(&mut self, lines: &mut String) -> Kind {
        let key = self.random.below(u64::from(self.options.keys));
        let kind = if self.random.part() < self.options.reads { Kind::Get } else { Kind::Set };
        let written = match kind {
            Kind::Set => writeln!(lines, r#"{{"op":"set","key":"bench-{key}","value":"{}"}}"#, self.value),
            Kind::Get => writeln!(lines, r#"{{"op":"get","key":"bench-{key}"}}"#),
        };
        written.expect("a String takes all text");
        kind
    }

    /// Counts what was finished within the time that counts.
    fn count(&mut self, kind: Kind, result: Result<Duration, &str>) {
        self.done.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if now < self.count_from || now > self.end {
            return;
        }
        let tally = match kind {
            Kind::Set => &mut self.sets,
            Kind::Get => &mut self.gets,
        };
        match result {
            Ok(time) => tally.times_us.saturating_record(time.as_micros().try_into().unwrap_or(MAX_TIME_US)),
            Err(code) => *tally.errors.entry(code.to_owned()).or_default() += 1,
        }
    }
}

/// Numbers to pick keys with: xorshift, which is quick and good enough for that.
struct Random(u64);

impl Random {
    fn new() -> Random {
        Random(getrandom::u64().unwrap_or(0) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// From 0 up to, not including, 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn report(options: &Options, at: &str, sets: &Tally, gets: &Tally) -> String {
    let mut text = format!(
        "{} clients at {at}; pipeline {}, values of {} bytes, {} keys, {}% reads; {} s after {} s of \
         warm-up\n",
        options.clients,
        options.pipeline,
        options.value_size,
        options.keys,
        options.reads * 100.0,
        options.seconds,
        options.warmup_seconds
    );
    text += "        operations/s   mean ms    p50 ms    p90 ms    p99 ms  p99.9 ms    max ms\n";
    for (name, tally, asked) in [("set", sets, options.reads < 1.0), ("get", gets, options.reads > 0.0)] {
        if asked {
            text += &row(name, &tally.times_us, options.seconds);
        }
    }
    for (name, tally) in [("set", sets), ("get", gets)] {
        if !tally.errors.is_empty() {
            let errors: Vec<String> =
                tally.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
            text += &format!("{name} errors: {}\n", errors.join(", "));
        }
    }
    text
}

fn row(name: &str, times_us: &Histogram<u64>, seconds: f64) -> String {
    let ms = |us: f64| us / 1000.0;
    let mut row = format!("{name}  {:>16.1}", times_us.len() as f64 / seconds);
    let mean = if times_us.is_empty() { 0.0 } else { times_us.mean() };
    let mut times = vec![mean];
    times.extend([0.5, 0.9, 0.99, 0.999].map(|part| times_us.value_at_quantile(part) as f64));
    times.push(times_us.max() as f64);
    for time in times {
        row += &format!("{:>10.3}", ms(time));
    }
    row + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Call {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Call::try_parse_from([&["bench"], arguments].concat()).map(|call| call.options)
    }

    #[test]
    fn the_report_tells_rates_times_and_errors() {
        let options = options(&["--seconds", "2", "--reads", "0.5"]).unwrap();
        let mut sets = Tally::new();
        for time_us in [1000, 2000, 3000, 4000] {
            sets.times_us.record(time_us).unwrap();
        }
        sets.errors.insert("busy".to_owned(), 3);
        let report = report(&options, "all nodes", &sets, &Tally::new());
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[0].contains("64 clients at all nodes; pipeline 1, values of 100 bytes"), "{report}");
        let set: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(set[..2], ["set", "2.0"]);
        assert!(set[2].starts_with("2.50") && set[7].starts_with("4.00"), "{report}");
        assert_eq!(lines[3].split_whitespace().next(), Some("get"));
        assert_eq!(lines[4], "set errors: busy 3");
    }

    #[test]
    fn numbers_that_measure_nothing_are_refused() {
        for wrong in [["--clients", "0"], ["--pipeline", "0"], ["--keys", "0"], ["--seconds", "0"]] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
        for wrong in [["--reads", "1.1"], ["--reads", "NaN"], ["--seconds", "inf"]] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
        assert!(options(&["--leader", "--spread"]).is_err());
        assert!(options(&["--warmup-seconds", "0", "--value-size", "0", "--reads", "1"]).is_ok());
    }

    #[test]
    fn the_part_of_reads_is_kept() {
        let mut random = Random(42);
        let below_half = (0..10_000).filter(|_| random.part() < 0.5).count();
        assert!((4_500..5_500).contains(&below_half), "{below_half}");
    }
}
