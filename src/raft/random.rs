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
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let width = u64::from(high - low) + 1;
        low + (mixed % width) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
