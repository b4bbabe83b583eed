//! The requests of one client: which kind, which key, which value, drawn anew for each.

use super::options::{Distribution, Options, ValueSize};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rand_distr::Zipf;
use std::fmt::Write;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Set,
    Get,
}

/// How the number of a key is drawn.
enum Keys {
    Uniform { count: u32 },
    Zipf(Zipf<f64>),
}

impl Keys {
    /// From 0 on; with Zipf's law 0 is the one that comes most often.
    fn draw(&self, random: &mut SmallRng) -> u32 {
        match self {
            Keys::Uniform { count } => random.random_range(0..*count),
            // Ranks begin with 1, and a u32 has exactly one f64.
            Keys::Zipf(ranks) => random.sample(ranks) as u32 - 1,
        }
    }
}

/// Draws requests and writes them down as lines.
pub(super) struct Requests {
    reads: f64,
    keys: Keys,
    value_size: ValueSize,
    /// The longest value: the others are its beginnings.
    value: String,
    random: SmallRng,
}

impl Requests {
    pub fn new(options: &Options) -> Requests {
        // What cannot be drawn from the system need not be: nothing here is secret.
        Requests::with_seed(options, getrandom::u64().unwrap_or(0))
    }

    fn with_seed(options: &Options, seed: u64) -> Requests {
        let keys = match options.distribution {
            Distribution::Uniform => Keys::Uniform { count: options.keys },
            Distribution::Zipf => {
                let ranks = Zipf::new(f64::from(options.keys), options.zipf_exponent);
                Keys::Zipf(ranks.expect("there is a key and the exponent is not negative"))
            }
        };
        let value = "x".repeat(options.value_size.most as usize);
        let random = SmallRng::seed_from_u64(seed);
        Requests { reads: options.reads, keys, value_size: options.value_size, value, random }
    }

    /// Appends the line of the next request.
    pub fn push_next(&mut self, lines: &mut String) -> Kind {
        let key = self.keys.draw(&mut self.random);
        if self.random.random::<f64>() < self.reads {
            writeln!(lines, r#"{{"op":"get","key":"bench-{key}"}}"#).expect("a String takes all text");
            return Kind::Get;
        }
        self.push_set(key, lines);
        Kind::Set
    }

    /// Appends the line that sets this key.
    pub fn push_set(&mut self, key: u32, lines: &mut String) {
        let ValueSize { least, most } = self.value_size;
        let value = &self.value[..self.random.random_range(least..=most) as usize];
        writeln!(lines, r#"{{"op":"set","key":"bench-{key}","value":"{value}"}}"#)
            .expect("a String takes all text");
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::options;
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeMap;

    /// Kind, key and length of the value of so many requests.
    fn draw(arguments: &[&str], count: usize) -> Vec<(Kind, String, usize)> {
        let mut requests = Requests::with_seed(&options(arguments).unwrap(), 42);
        let draw = |_| {
            let mut line = String::new();
            let kind = requests.push_next(&mut line);
            let request: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(request["op"], if kind == Kind::Set { "set" } else { "get" });
            let key = request["key"].as_str().unwrap().strip_prefix("bench-").unwrap();
            (kind, key.to_owned(), request["value"].as_str().unwrap_or_default().len())
        };
        (0..count).map(draw).collect()
    }

    fn how_often(drawn: &[(Kind, String, usize)]) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        drawn.iter().for_each(|(_, key, _)| *counts.entry(key.as_str()).or_default() += 1);
        counts
    }

    #[test]
    fn the_part_of_reads_is_kept() {
        let drawn = draw(&["--reads", "0.25"], 10_000);
        let gets = drawn.iter().filter(|(kind, _, _)| *kind == Kind::Get).count();
        assert!((2_000..3_000).contains(&gets), "{gets}");
        assert!(draw(&["--reads", "1"], 100).iter().all(|(kind, _, _)| *kind == Kind::Get));
        assert!(draw(&["--reads", "0"], 100).iter().all(|(kind, _, _)| *kind == Kind::Set));
    }

    #[test]
    fn uniform_keys_come_equally_often() {
        let drawn = draw(&["--keys", "10"], 10_000);
        let counts = how_often(&drawn);
        assert_eq!(counts.len(), 10);
        assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    /// With exponent 1 over 10 keys the first comes in 1/2.929 of all cases, and the last a tenth of that.
    #[test]
    fn zipf_keys_come_by_rank() {
        let drawn = draw(&["--keys", "10", "--distribution", "zipf", "--zipf-exponent", "1"], 10_000);
        let counts = how_often(&drawn);
        assert!((3_100..3_700).contains(&counts["0"]), "{counts:?}");
        assert!((240..440).contains(&counts["9"]), "{counts:?}");
        assert_eq!(counts.len(), 10);
    }

    #[test]
    fn values_have_the_lengths_that_were_asked_for() {
        let lengths: Vec<usize> = draw(&["--value-size", "3-5"], 1_000).iter().map(|drawn| drawn.2).collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&3), Some(&5)));
        assert!(draw(&[], 10).iter().all(|drawn| drawn.2 == 100));
    }
}
