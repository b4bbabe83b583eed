//! Changes to inputs, as a fuzzer makes them, but the same for the same seed on every machine: bits, numbers
//! at their edges, words of the corpus in other places, parts left out, repeated, or put together from two
//! inputs.

use fastrand::Rng;
use std::ops::Range;

/// Inputs are cut at this length.
const MAX_BYTES: usize = 16 * 1024;

const EDGES: [&str; 14] = [
    "0",
    "-1",
    "1",
    "255",
    "65535",
    "65536",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "00",
];

const PIECES: [&[u8]; 16] = [
    b"\n", b"\0", b"\"", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"null", b"\\u0000", b"\\ud800", b"\xff",
    b"{}", b"\xc3",
];

/// Makes inputs from those of a corpus.
pub struct Mutations<'a> {
    corpus: &'a [Vec<u8>],
    words: Vec<&'a [u8]>,
}

impl<'a> Mutations<'a> {
    /// Of this corpus, which has at least one input.
    pub fn of(corpus: &'a [Vec<u8>]) -> Mutations<'a> {
        assert!(!corpus.is_empty(), "nothing to change");
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let words = corpus.iter().flat_map(|input| input.split(move |byte| !is_word(*byte)));
        let mut words: Vec<&[u8]> = words.filter(|word| !word.is_empty()).collect();
        words.sort_unstable();
        words.dedup();
        Mutations { corpus, words }
    }

    /// The input of this seed.
    pub fn make(&self, seed: u64) -> Vec<u8> {
        let mut random = Rng::with_seed(seed);
        let mut input = self.corpus[random.usize(..self.corpus.len())].clone();
        for _ in 0..1 + random.usize(..6) {
            self.change(&mut input, &mut random);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn change(&self, input: &mut Vec<u8>, random: &mut Rng) {
        let at = random.usize(..=input.len());
        let part = some_part(input, random);
        match random.u8(..11) {
            0 | 1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.u8(..8);
                }
            }
            2 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
            3 => drop(input.drain(part)),
            4 => {
                let copy = input[part].to_vec();
                drop(input.splice(at..at, copy));
            }
            5 => {
                let piece = PIECES[random.usize(..PIECES.len())];
                drop(input.splice(at..at, piece.iter().copied()));
            }
            6 => {
                let number = number_after(input, at);
                let edge = EDGES[random.usize(..EDGES.len())];
                drop(input.splice(number, edge.bytes()));
            }
            7 if !self.words.is_empty() => {
                let word = self.words[random.usize(..self.words.len())];
                let place = if random.bool() { word_after(input, at) } else { at..at };
                drop(input.splice(place, word.iter().copied()));
            }
            7 | 8 => {
                let other = &self.corpus[random.usize(..self.corpus.len())];
                let theirs = some_part(other, random);
                drop(input.splice(part, other[theirs].iter().copied()));
            }
            9 => {
                let other = &self.corpus[random.usize(..self.corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
            _ => input.truncate(at),
        }
    }
}

/// A short part more often than a long one.
fn some_part(of: &[u8], random: &mut Rng) -> Range<usize> {
    let start = random.usize(..=of.len());
    let longest = of.len() - start;
    let limit = if random.bool() { longest.min(16) } else { longest };
    start..start + random.usize(..=limit)
}

fn number_after(input: &[u8], at: usize) -> Range<usize> {
    run_after(input, at, |byte| byte.is_ascii_digit())
}

fn word_after(input: &[u8], at: usize) -> Range<usize> {
    run_after(input, at, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The first bytes of a kind from a place on, or none at that place.
fn run_after(input: &[u8], at: usize, is_one: impl Fn(u8) -> bool) -> Range<usize> {
    let Some(skipped) = input[at..].iter().position(|byte| is_one(*byte)) else { return at..at };
    let start = at + skipped;
    let length = input[start..].iter().take_while(|byte| is_one(**byte)).count();
    start..start + length
}
