//! Chance, all of it from the seed, in streams: one for each purpose and each thing that it is about, so that
//! what is left out of a run (a trouble, a client's turn, a kind of fault) changes nothing in what chance
//! says of the rest. Without that a failing run could not be made smaller: every try would be another run.

use fastrand::Rng;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The stream of this purpose for the thing that these two numbers name.
pub(super) fn stream(seed: u64, purpose: &str, (one, other): (u64, u64)) -> Rng {
    let purpose = xxh3_64_with_seed(purpose.as_bytes(), seed);
    let one = xxh3_64_with_seed(&one.to_le_bytes(), purpose);
    Rng::with_seed(xxh3_64_with_seed(&other.to_le_bytes(), one))
}
