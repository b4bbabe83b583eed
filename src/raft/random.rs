//! The core's only chance: election timeouts, drawn from a seed that is given at construction, so that the
//! same inputs always lead to the same outputs.

/// A small generator (SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
/// 2014).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Random(u64);

impl Random {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        assert!(low <= high, "an empty range: {low}..={high}");
        let width = u64::from(high - low) + 1;
        low + (self.next() % width) as u32
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_reference() {
        // What the authors' C program prints for this seed (https://prng.di.unimi.it/splitmix64.c).
        let mut random = Random::new(1_234_567);
        let sequence: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            sequence,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_seed_is_a_sequence_and_the_ends_are_included() {
        let draw = |seed| -> Vec<u32> {
            let mut random = Random::new(seed);
            (0..200).map(|_| random.between(3, 6)).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!((3..=6).all(|value| draw(7).contains(&value)));
        assert!(draw(7).iter().all(|value| (3..=6).contains(value)));
    }
}
