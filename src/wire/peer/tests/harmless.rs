//! Lines that nobody wrote.

use super::*;
use proptest::prelude::*;

/// Whatever comes, decoding ends, and what it refuses it refuses in one line that is safe to log.
fn assert_harmless(line: &[u8]) {
    for result in [decode(line, &ENDS), decode_greeting(line)] {
        if let Err(error) = result {
            let why = error.to_string();
            assert!(!why.contains(char::is_control) && why.len() < 400, "{why:?}");
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_are_harmless(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        assert_harmless(&line);
    }

    #[test]
    fn mutated_lines_are_harmless(
        which in 0usize..13,
        mutations in proptest::collection::vec(
            (any::<usize>(), 0usize..4, "[-0-9a-z{}\\[\\],:\"\\\\ ]{0,20}"), 1..4),
    ) {
        let mut line = encoded(&PeerLine::Envelope(envelope(bodies().swap_remove(which)))).into_bytes();
        for (at, cut, with) in mutations {
            let at = at % (line.len() + 1);
            let end = (at + cut).min(line.len());
            line.splice(at..end, with.into_bytes());
        }
        assert_harmless(&line);
    }

    #[test]
    fn any_numbers_are_taken_or_refused_without_overflow(
        which in 0usize..13,
        numbers in proptest::collection::vec(
            prop_oneof![Just("-1".to_owned()), Just("0".to_owned()), Just(u64::MAX.to_string()),
                Just(i64::MAX.to_string()), Just(i64::MIN.to_string()),
                Just("9007199254740992".to_owned())], 40),
    ) {
        let line = encoded(&PeerLine::Envelope(envelope(bodies().swap_remove(which))));
        let mut numbers = numbers.into_iter();
        let mut changed = String::new();
        for piece in line.split_inclusive(':') {
            let digits = piece.len() - piece.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match numbers.next().filter(|number| digits > 0 && number.len() > 1) {
                Some(number) => changed += &number,
                None => changed += &piece[..digits],
            }
            changed += &piece[digits..];
        }
        assert_harmless(changed.as_bytes());
    }
}
