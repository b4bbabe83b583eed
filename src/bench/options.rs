//! What the load is like: how many ask, for how long, and for what.

use clap::{Args, ValueEnum};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The longest value, 64 MiB: as long as the longest line that a cluster can take.
const MAX_VALUE_BYTES: u32 = 64 << 20;

/// What to measure.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Options {
    /// Clients that ask at the same time, a connection each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) clients: u16,

    /// How long to measure
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(super) seconds: f64,

    /// How long to run before that without counting
    #[arg(long, default_value_t = 1.0, value_parser = seconds_or_none)]
    pub(super) warmup_seconds: f64,

    /// Length of the values, a JSON string of this many letters; LEAST-MOST: each value another length
    #[arg(long, value_name = "BYTES", default_value_t = ValueSize { least: 100, most: 100 })]
    #[arg(value_parser = value_size)]
    pub(super) value_size: ValueSize,

    /// Requests that each client keeps on the way
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) pipeline: u16,

    /// How many different keys
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) keys: u32,

    /// Which part of the requests are gets, from 0.0 to 1.0; the others are sets
    #[arg(long, default_value_t = 0.0, value_parser = part)]
    pub(super) reads: f64,

    /// Which keys are asked for: all equally often, or a few most of the time
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub(super) distribution: Distribution,

    /// With zipf: the key of rank n is asked for in proportion to 1/n^EXPONENT
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.99, value_parser = exponent)]
    pub(super) zipf_exponent: f64,

    /// Set every key once before the load begins
    #[arg(long)]
    pub(super) prefill: bool,

    /// All clients ask the leader (default); those that lose it go to the next node and stay there
    #[arg(long, conflicts_with = "spread")]
    #[serde(skip)]
    leader: bool,

    /// The clients are spread over all nodes
    #[arg(long)]
    pub(super) spread: bool,
}

/// Which keys are asked for how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Distribution {
    /// All equally often
    Uniform,
    /// A few most of the time: Zipf's law
    Zipf,
}

/// How long values are, in bytes: all lengths from the least to the most are equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ValueSize {
    pub least: u32,
    pub most: u32,
}

impl fmt::Display for ValueSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most {
            write!(f, "{}", self.most)
        } else {
            write!(f, "{}-{}", self.least, self.most)
        }
    }
}

/// The options on one line, without who is asked.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipeline {}, values of {} bytes, ", self.pipeline, self.value_size)?;
        write!(f, "{} keys", self.keys)?;
        if self.distribution == Distribution::Zipf {
            write!(f, " (zipf {})", self.zipf_exponent)?;
        }
        write!(f, ", {}% reads", self.reads * 100.0)
    }
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

fn exponent(text: &str) -> Result<f64, String> {
    number_within(text, 0.0, 10.0)
}

fn value_size(text: &str) -> Result<ValueSize, String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    match (least.parse(), most.parse()) {
        (Ok(least), Ok(most)) if least <= most && most <= MAX_VALUE_BYTES => Ok(ValueSize { least, most }),
        _ => Err(format!("expected a number up to {MAX_VALUE_BYTES}, or two of them such as 100-1000")),
    }
}

/// A moment or a stretch of time: `5s`, `500ms`, `2m`, or seconds without a unit.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let seconds_of_unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => f64::NAN,
    };
    let seconds = digits.parse::<f64>().ok().map(|number| number * seconds_of_unit);
    match seconds.filter(|seconds| (0.0..=86_400.0).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs_f64(seconds)),
        None => Err("expected a time such as 5s, 1500ms or 2m, at most a day".to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Call {
        #[command(flatten)]
        options: Options,
    }

    pub fn options(arguments: &[&str]) -> Result<Options, clap::Error> {
        Call::try_parse_from([&["bench"], arguments].concat()).map(|call| call.options)
    }

    #[test]
    fn numbers_that_measure_nothing_are_refused() {
        for wrong in [["--clients", "0"], ["--pipeline", "0"], ["--keys", "0"], ["--seconds", "0"]] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
        for wrong in [
            ["--reads", "1.1"],
            ["--reads", "NaN"],
            ["--seconds", "inf"],
            ["--distribution", "normal"],
            ["--zipf-exponent", "-1"],
            ["--value-size", "9-1"],
            ["--value-size", "-1"],
            ["--value-size", "67108865"],
        ] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
        assert!(options(&["--leader", "--spread"]).is_err());
        assert!(options(&["--warmup-seconds", "0", "--value-size", "0", "--reads", "1"]).is_ok());
    }

    #[test]
    fn values_have_one_length_or_a_range_of_them() {
        assert_eq!(value_size("7"), Ok(ValueSize { least: 7, most: 7 }));
        assert_eq!(value_size("10-20"), Ok(ValueSize { least: 10, most: 20 }));
        for text in ["7", "10-20"] {
            assert_eq!(value_size(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [("5s", 5000), ("1500ms", 1500), ("2m", 120_000), ("0.5", 500), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for wrong in ["", "s", "5h", "-1s", "5 s", "NaN", "inf", "1e9s", "25000m", "é"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}
