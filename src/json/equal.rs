//! Whether two JSON texts mean the same, as `cas` asks: objects regardless of the order of their members,
//! numbers as decimals, strings after unescaping. Each text is read once into a tree with its members sorted,
//! so that the cost is that of reading and sorting, whatever the nesting.

use super::decimal::Decimal;
use super::{Problem, Scanner, Text};
use std::borrow::Cow;

/// Whether two checked texts mean the same. Panics on text that [`super::check`] refuses, since such text
/// must never have come this far.
pub fn equal(one: &str, other: &str) -> bool {
    one == other || tree(one) == tree(other)
}

#[derive(PartialEq)]
enum Tree<'a> {
    /// `true`, `false` or `null`.
    Word(&'a str),
    Number(Decimal<'a>),
    String(Cow<'a, str>),
    Array(Vec<Tree<'a>>),
    /// Sorted by name; no name occurs twice.
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

fn tree(text: &str) -> Tree<'_> {
    read(&mut Scanner::of_value(text)).expect("only checked text is compared")
}

fn read<'a>(scanner: &mut Scanner<'a>) -> Result<Tree<'a>, Problem> {
    match scanner.next_token() {
        Some(b'[') => {
            let mut elements = Vec::new();
            scanner.elements(|scanner| {
                elements.push(read(scanner)?);
                Ok(())
            })?;
            Ok(Tree::Array(elements))
        }
        Some(b'{') => {
            let mut members = Vec::new();
            scanner.members(|scanner, name, _| {
                members.push((content(name), read(scanner)?));
                Ok(())
            })?;
            members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            Ok(Tree::Object(members))
        }
        Some(b'"') => Ok(Tree::String(content(scanner.value()?))),
        Some(b'-' | b'0'..=b'9') => Ok(Tree::Number(Decimal(scanner.value()?))),
        Some(_) | None => Ok(Tree::Word(scanner.value()?)),
    }
}

fn content(string: &str) -> Cow<'_, str> {
    Text::of(string).expect("the scanner took a string").content
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::check;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn texts_that_mean_the_same_are_equal() {
        for (one, other) in [
            (r#"{"a":1,"b":[2]}"#, r#" { "b" : [ 20e-1 ] , "a" : 1.0 } "#),
            (r#"{"\u0061":"\u00e9\/"}"#, r#"{"a":"é/"}"#),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#"[{"x":{"y":0,"z":null}}]"#, r#"[{"x":{"z":null,"y":-0}}]"#),
            ("true", " true"),
        ] {
            assert!(equal(one, other) && equal(other, one), "{one} {other}");
        }
    }

    #[test]
    fn texts_that_differ_are_not() {
        for (one, other) in [
            ("null", "false"),
            ("1", "\"1\""),
            ("[]", "{}"),
            ("[1,2]", "[2,1]"),
            ("[1]", "[1,1]"),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"b":2}"#, r#"{"a":2,"b":1}"#),
            ("\"é\"", "\"e\u{301}\""),
            ("1e400", "1e401"),
        ] {
            assert!(!equal(one, other) && !equal(other, one), "{one} {other}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3i64..3).prop_map(Value::from),
            prop::sample::select(vec!["", "a", "é\"\n"]).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abé]", inner, 0..4)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    /// The value in other words: members backwards, numbers with a fraction or an exponent, strings escaped.
    fn otherwise(value: &Value) -> String {
        let escaped = |text: &str| -> String {
            let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
            format!("\"{}\"", units.collect::<String>())
        };
        match value {
            Value::Number(number) => format!("{number}.00E+00"),
            Value::String(text) => escaped(text),
            Value::Array(elements) => {
                format!("[ {}]", elements.iter().map(otherwise).collect::<Vec<_>>().join(" , "))
            }
            Value::Object(members) => {
                let member =
                    |(name, value): (&String, &Value)| format!("{}: {}", escaped(name), otherwise(value));
                format!("{{{}}}", members.iter().rev().map(member).collect::<Vec<_>>().join(","))
            }
            Value::Null | Value::Bool(_) => value.to_string(),
        }
    }

    #[test]
    fn other_words_are_other_text() {
        assert_eq!(
            otherwise(&json!({"a": [1, "x"], "b": null})),
            r#"{"\u0062": null,"\u0061": [ 1.00E+00 , "\u0078"]}"#
        );
    }

    proptest! {
        #[test]
        fn a_value_equals_itself_in_other_words(value in values()) {
            let (text, other_words) = (value.to_string(), otherwise(&value));
            prop_assert_eq!(check(&other_words), Ok(()));
            prop_assert!(equal(&text, &text));
            prop_assert!(equal(&text, &other_words) && equal(&other_words, &text));
        }

        #[test]
        fn equality_is_that_of_the_values(one in values(), other in values()) {
            prop_assert_eq!(equal(&one.to_string(), &otherwise(&other)), one == other);
        }
    }
}
