//! A JSON number as what it says: a sign, digits, and a power of ten. Two numbers are compared without
//! floating point (1e400 and 1e401 differ) and without writing them out (1e999999999 costs no more than 1),
//! in time proportional to their texts, however long the exponent's own digits are.

/// A checked number's text, equal to every other text that says the same number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal<'a>(pub(super) &'a str);

impl PartialEq for Decimal<'_> {
    fn eq(&self, other: &Decimal<'_>) -> bool {
        if self.0 == other.0 {
            return true;
        }
        let (one, other) = (Parts::of(self.0), Parts::of(other.0));
        if !one.significant().eq(other.significant()) {
            return false;
        }
        let zero = one.significant().next().is_none();
        zero || (one.negative == other.negative && one.scale() == other.scale())
    }
}

/// A number's text taken apart at its point and its `e`.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    exponent: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Parts<'a> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(magnitude) => (true, magnitude),
            None => (false, text),
        };
        let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        Parts { negative, whole, fraction, exponent }
    }

    /// The digits without the zeros at either end: none for zero.
    fn significant(&self) -> impl Iterator<Item = u8> {
        let digits = self.whole.len() + self.fraction.len();
        let leading =
            self.whole.bytes().chain(self.fraction.bytes()).take_while(|&digit| digit == b'0').count();
        let wanted = digits.saturating_sub(self.trailing_zeros()).saturating_sub(leading);
        self.whole.bytes().chain(self.fraction.bytes()).skip(leading).take(wanted)
    }

    fn trailing_zeros(&self) -> usize {
        let backwards = self.fraction.bytes().rev().chain(self.whole.bytes().rev());
        backwards.take_while(|&digit| digit == b'0').count()
    }

    /// The power of ten of the last significant digit, as text in one form only.
    fn scale(&self) -> String {
        // Both counts are lengths of text in memory, so that neither can outgrow an i64.
        let shift = self.trailing_zeros() as i64 - self.fraction.len() as i64;
        let (below_one, magnitude) = match self.exponent.strip_prefix('-') {
            Some(magnitude) => (true, magnitude),
            None => (false, self.exponent.strip_prefix('+').unwrap_or(self.exponent)),
        };
        let magnitude = magnitude.trim_start_matches('0');
        // Up to here an i128 has room for the exponent and the shift; above, no shift can change the sign.
        const DIGITS_AT_HAND: usize = 36;
        if magnitude.len() <= DIGITS_AT_HAND {
            let exponent: i128 = if magnitude.is_empty() { 0 } else { magnitude.parse().expect("digits") };
            let signed = if below_one { -exponent } else { exponent };
            return (signed + i128::from(shift)).to_string();
        }
        let sign = if below_one { "-" } else { "" };
        format!("{sign}{}", long_sum(magnitude, if below_one { -shift } else { shift }))
    }
}

/// The sum of a number of more than 36 digits and a small one, as at school: from the last digit on, until
/// there is nothing left to carry.
fn long_sum(digits: &str, small: i64) -> String {
    let mut carry = small;
    let mut backwards: Vec<u8> = Vec::with_capacity(digits.len() + 1);
    for digit in digits.bytes().rev() {
        let sum = i64::from(digit - b'0') + carry;
        backwards.push(sum.rem_euclid(10) as u8);
        carry = sum.div_euclid(10);
    }
    while carry > 0 {
        backwards.push((carry % 10) as u8);
        carry /= 10;
    }
    let forwards: String = backwards.iter().rev().map(|&digit| char::from(b'0' + digit)).collect();
    forwards.trim_start_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn equal(one: &str, other: &str) -> bool {
        let (there, back) = (Decimal(one) == Decimal(other), Decimal(other) == Decimal(one));
        assert_eq!(there, back, "{one} {other}");
        there
    }

    #[test]
    fn numbers_that_say_the_same_are_equal() {
        for (one, other) in [
            ("0", "-0"),
            ("0", "0.000"),
            ("0e5", "-0.0e-99999999999999999999999999999999999999999999999"),
            ("1", "1.0"),
            ("1", "10e-1"),
            ("1", "0.1e1"),
            ("1", "1e0"),
            ("1", "1E+00"),
            ("100", "1e2"),
            ("-120", "-0.0012e+5"),
            ("1.50", "15e-1"),
            ("0.001", "1e-3"),
            ("1e400", "10e399"),
            ("1e400", "0.1E401"),
            ("1e1000000000000000000000000000000000000000", "10e999999999999999999999999999999999999999"),
            ("1e-1000000000000000000000000000000000000000", "0.1e-999999999999999999999999999999999999999"),
            ("1e-1000000000000000000000000000000000000000", "10e-1000000000000000000000000000000000000001"),
            ("1e0000000000000000000000000000000000000000000000000001", "10"),
            ("123456789012345678901234567890", "1234567890123456789012345678.90e2"),
        ] {
            assert!(equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn numbers_that_differ_in_sign_digits_or_exponent_are_not() {
        for (one, other) in [
            ("1", "-1"),
            ("1", "2"),
            ("1", "10"),
            ("1", "0.1"),
            ("0", "1"),
            ("101", "11"),
            ("1e400", "1e401"),
            ("1e5", "1e-5"),
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.1000000000000000055511151231257827"),
            ("1e1000000000000000000000000000000000000000", "1e999999999999999999999999999999999999999"),
            ("1e1000000000000000000000000000000000000000", "1e-1000000000000000000000000000000000000000"),
        ] {
            assert!(!equal(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_border_between_short_and_long_exponents_is_seamless() {
        for length in 34..40 {
            let power = format!("1{}", "0".repeat(length));
            let nines = "9".repeat(length);
            assert!(equal(&format!("1e{power}"), &format!("10e{nines}")), "{length}");
            assert!(equal(&format!("1e-{power}"), &format!("0.1e-{nines}")), "{length}");
            assert!(!equal(&format!("1e{power}"), &format!("1e{nines}")), "{length}");
        }
    }

    #[test]
    fn megabytes_of_digits_are_compared_as_they_stand() {
        let zeros = "0".repeat(1 << 20);
        assert!(equal(&format!("1{zeros}"), "1e1048576"));
        assert!(equal(&format!("0.{zeros}1"), "1e-1048577"));
        assert!(!equal(&format!("1{zeros}"), "1e1048577"));
        assert!(equal(&format!("1e1{zeros}"), &format!("10e0{}", "9".repeat(1 << 20))));
    }

    proptest! {
        #[test]
        fn agrees_with_whole_numbers(
            (one, one_shift) in (-300i64..300, 0u32..4),
            (other, other_shift) in (-300i64..300, 0u32..4),
        ) {
            // The same number, written with its point moved to the left and an exponent that takes it back.
            let written = |number: i64, shift: u32| {
                let power = 10i64.pow(shift);
                let sign = if number < 0 { "-" } else { "" };
                let (whole, rest) = (number.abs() / power, number.abs() % power);
                match shift {
                    0 => number.to_string(),
                    _ => format!("{sign}{whole}.{rest:0width$}e{shift}", width = shift as usize),
                }
            };
            let texts = (written(one, one_shift), written(other, other_shift));
            prop_assert_eq!(equal(&texts.0, &texts.1), one == other, "{:?}", texts);
        }

        #[test]
        fn a_long_sum_is_the_sum(number in 10u128.pow(36)..u128::MAX / 2, small in -(1i64 << 50)..1 << 50) {
            let expected = number.checked_add_signed(i128::from(small)).unwrap();
            prop_assert_eq!(long_sum(&number.to_string(), small), expected.to_string());
        }
    }
}
