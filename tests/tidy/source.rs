//! Source files as the rules see them: with comments and texts blanked out, tests apart from the rest,
//! functions with their lengths. No parser: it knows as much of the language as the rules need and rustfmt's
//! shape gives.

use std::fs;
use std::path::Path;

/// A breach of a rule, as `file:line: what`.
pub type Found = String;

/// A source file.
pub struct File {
    /// From the project's folder.
    pub path: String,
    pub text: String,
    /// The text with comments and the insides of texts turned into blanks, line by line the same.
    pub code: String,
    /// The lines that are tests', from 0.
    is_test: Vec<bool>,
}

/// A function and how long it is, from its signature's first line to its closing brace.
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

impl File {
    pub fn new(path: &str, text: &str) -> File {
        let code = blank(text);
        let in_tests = path.starts_with("tests/") || path.ends_with("tests.rs") || path.contains("/tests/");
        let is_test = if in_tests { vec![true; code.lines().count()] } else { test_lines(&code) };
        File { path: path.to_owned(), text: text.to_owned(), code, is_test }
    }

    /// `src/raft/log.rs` and `src/raft.rs` are in the room `raft`. The root names all rooms and is in none.
    pub fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?;
        let room = room.strip_suffix(".rs").unwrap_or(room);
        (room != "lib").then_some(room)
    }

    /// Lines without comments, texts and tests, with their numbers.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines_of(false)
    }

    /// The tests' lines, in the same way.
    pub fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines_of(true)
    }

    fn lines_of(&self, tests: bool) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.lines().zip(&self.is_test).zip(1..);
        lines.filter(move |((_, is_test), _)| **is_test == tests).map(|((line, _), number)| (number, line))
    }

    pub fn lines_without_tests(&self) -> usize {
        self.is_test.iter().filter(|is_test| !**is_test).count()
    }

    pub fn found(&self, line: usize, what: impl AsRef<str>) -> Found {
        format!("{}:{line}: {}", self.path, what.as_ref())
    }

    pub fn breaks(&self, rule: impl Fn(&File) -> Vec<Found>) -> bool {
        !rule(self).is_empty()
    }
}

/// Applies a rule to everything, and shows all that it finds.
pub fn assert_tidy(rule: impl Fn(&File) -> Vec<Found>) {
    let found: Vec<Found> = all_files().iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

/// All source files of the project.
pub fn all_files() -> Vec<File> {
    let mut paths = Vec::new();
    ["src", "bin", "benches", "tests", "fuzz"].iter().for_each(|folder| collect(folder, &mut paths));
    assert!(paths.len() > 40, "where have all the files gone: {paths:?}");
    paths.iter().map(|path| File::new(path, &read(path))).collect()
}

/// A file of the project.
pub fn read(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn collect(folder: &str, paths: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)) else { return };
    for entry in entries {
        let entry = entry.expect("an entry of the folder");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a name in UTF-8"));
        // What the fuzzer's project builds is none of ours.
        if entry.file_type().expect("a kind").is_dir() && !path.ends_with("/target") {
            collect(&path, paths);
        } else if path.ends_with(".rs") {
            paths.push(path);
        }
    }
    paths.sort();
}

/// Whether the word stands in the line, not as a part of a longer one.
pub fn has_word(line: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The name of the function whose signature begins in this line.
pub fn function_name(line: &str) -> Option<String> {
    let at = line
        .match_indices("fn ")
        .find(|(at, _)| line[..*at].chars().all(|it| it.is_alphanumeric() || " ()_".contains(it)))?
        .0;
    let name: String =
        line[at + 3..].chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// All functions that have a body.
pub fn functions(file: &File) -> Vec<Function> {
    let lines: Vec<&str> = file.code.lines().collect();
    let mut functions = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        // A signature that ends without a body has a semicolon before any brace.
        let rest = lines[first..].iter();
        let opens = rest
            .clone()
            .flat_map(|line| line.chars())
            .scan(0, bracket_depth)
            .find(|(letter, depth)| *depth == 0 && (*letter == ';' || *letter == '{'));
        if opens.is_none_or(|(letter, _)| letter != '{') || line.trim_end().ends_with('}') {
            continue;
        }
        if let Some(length) = rest.skip(1).position(|line| line.trim_end() == closing) {
            functions.push(Function { name, line: first + 1, lines: length + 2 });
        }
    }
    functions
}

/// A semicolon inside of brackets ends nothing: `[u8; 3]`.
fn bracket_depth(depth: &mut usize, letter: char) -> Option<(char, usize)> {
    match letter {
        '(' | '[' => *depth += 1,
        ')' | ']' => *depth = depth.saturating_sub(1),
        _ => {}
    }
    Some((letter, *depth))
}

/// Which lines belong to a `#[cfg(test)]` item: from the attribute to the brace that closes it.
fn test_lines(code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut is_test = vec![false; lines.len()];
    for (first, line) in lines.iter().enumerate() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        // A whole module closes with a brace below the attribute; `mod tests;` and the like end with a line.
        let body =
            lines[first..].iter().position(|line| line.contains('{') || line.trim_end().ends_with(';'));
        let Some(start) = body.map(|offset| first + offset) else { continue };
        let length = if lines[start].trim_end().ends_with('{') {
            lines[start..].iter().position(|line| line.trim_end() == closing)
        } else {
            Some(0)
        };
        let last = length.map_or(lines.len() - 1, |length| start + length);
        is_test[first..=last].fill(true);
    }
    is_test
}

/// Turns comments and the insides of texts into blanks and keeps everything else where it is.
fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let length = match letters[at] {
            '/' if letters.get(at + 1) == Some(&'/') => line_length(&letters[at..]),
            '/' if letters.get(at + 1) == Some(&'*') => block_comment_length(&letters[at..]),
            '"' => text_length(&letters[at..]),
            'r' if !is_in_word(&letters, at) => raw_text_length(&letters[at..]),
            '\'' => character_length(&letters[at..]),
            _ => 0,
        };
        if length == 0 {
            code.push(letters[at]);
            at += 1;
        } else {
            code.extend(letters[at..at + length].iter().map(|it| if *it == '\n' { '\n' } else { ' ' }));
            at += length;
        }
    }
    code
}

/// Whether the letter at a place continues a word, as the r of `for` does (of `br"..."` it does not).
fn is_in_word(letters: &[char], at: usize) -> bool {
    let is_word = |place: usize| letters.get(place).is_some_and(|it| it.is_alphanumeric() || *it == '_');
    at > 0 && is_word(at - 1) && !(letters[at - 1] == 'b' && (at < 2 || !is_word(at - 2)))
}

fn line_length(letters: &[char]) -> usize {
    letters.iter().position(|letter| *letter == '\n').unwrap_or(letters.len())
}

fn block_comment_length(letters: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < letters.len() {
        match (letters[at], letters[at + 1]) {
            ('/', '*') => {
                depth += 1;
                at += 2;
            }
            ('*', '/') => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    letters.len()
}

fn text_length(letters: &[char]) -> usize {
    let mut at = 1;
    while at < letters.len() {
        match letters[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    letters.len()
}

/// `r"..."`, `r#"..."#` and so on; 0 when it is none.
fn raw_text_length(letters: &[char]) -> usize {
    let hashes = letters[1..].iter().take_while(|letter| **letter == '#').count();
    if letters.get(1 + hashes) != Some(&'"') {
        return 0;
    }
    let is_end = |at: &usize| {
        letters[*at] == '"'
            && letters[at + 1..].iter().take(hashes).filter(|it| **it == '#').count() == hashes
    };
    let end = (2 + hashes..letters.len()).find(is_end);
    end.map_or(letters.len(), |end| end + 1 + hashes)
}

/// A character in quotes; 0 for a lifetime.
fn character_length(letters: &[char]) -> usize {
    match letters.get(1) {
        Some('\\') => letters[2..].iter().skip(1).position(|it| *it == '\'').map_or(0, |end| end + 4),
        Some(_) if letters.get(2) == Some(&'\'') => 3,
        _ => 0,
    }
}

#[test]
fn comments_and_texts_are_blanked_and_nothing_else_is() {
    for (text, expected) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a \" b", c)"#, "f(        , c)"),
        ("f(r#\"a \" b\"#, br\"c\", r)", "f(          , b    , r)"),
        (r"f('a', '\'', '\u{7f}', b'\\', x: &'a str)", "f(   ,     ,         , b    , x: &'a str)"),
        ("for r in x { '\"' }", "for r in x {     }"),
    ] {
        let blanked = blank(text);
        assert_eq!(blanked.chars().count(), text.chars().count(), "{text}");
        assert_eq!(blanked, expected, "{text}");
    }
}

#[test]
fn tests_are_told_from_the_rest() {
    let text = concat!(
        "use x;\n#[cfg(test)]\nmod tests {\n    fn f() {\n    }\n}\n",
        "fn g() {}\n#[cfg(test)]\nmod more;\nfn h() {}\n"
    );
    let file = File::new("src/node.rs", text);
    let rest: Vec<usize> = file.code_lines().map(|(number, _)| number).collect();
    assert_eq!(rest, [1, 7, 10]);
    assert_eq!(File::new("src/wire/peer_tests.rs", "fn f() {}\n").code_lines().count(), 0);
}

#[test]
fn functions_are_found_with_their_lengths() {
    let text = concat!(
        "impl X {\n    pub(super) fn f(\n        &self,\n    ) -> [u8; 3]\n    where\n        X: Y,\n",
        "    {\n        g(\"}\");\n    }\n\n    fn one() {}\n    fn none();\n}\nfn last() {\n}\n"
    );
    let functions = functions(&File::new("src/node.rs", text));
    let found: Vec<(&str, usize, usize)> =
        functions.iter().map(|it| (it.name.as_str(), it.line, it.lines)).collect();
    assert_eq!(found, [("f", 2, 8), ("last", 14, 2)]);
}
