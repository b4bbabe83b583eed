//! Sets of numbers as a person writes them: `3,7-12`; `none` is the empty one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Which troubles, or which turns of clients, a run keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(BTreeSet<u32>);

impl Numbers {
    /// Whether this number is one of them.
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u32> for Numbers {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Numbers {
        Numbers(numbers.into_iter().collect())
    }
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Numbers, String> {
        if text == "none" {
            return Ok(Numbers::default());
        }
        let number = |text: &str| text.parse::<u32>().map_err(|error| format!("`{text}`: {error}"));
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            // A run has some hundred of each.
            if last < first || last - first > 1_000_000 {
                return Err(format!("`{part}` is no range"));
            }
            numbers.extend(first..=last);
        }
        Ok(Numbers(numbers))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                Some(_) | None => ranges.push((number, number)),
            }
        }
        let words = ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        let words: Vec<String> = words.collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for text in ["none", "3", "3,7-12", "0-1,3-4,9"] {
            assert_eq!(text.parse::<Numbers>().map(|numbers| numbers.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("4,2-3,3".parse::<Numbers>().map(|numbers| numbers.to_string()), Ok("2-4".to_owned()));
        for text in ["", "3,", "7-3", "a", "-1", "1-9999999"] {
            assert!(text.parse::<Numbers>().is_err(), "{text}");
        }
    }
}
