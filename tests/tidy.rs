//! What one crate's compiler does not hold: who may name whom, what the pure rooms never touch, and the sizes
//! that keep the code readable. Each rule is a function from a file to what it finds; each is shown a text
//! that breaks it first, and then everything that is here.

#[path = "tidy/source.rs"]
mod source;

use source::{File, Found};

/// A room, and the rooms that it may name. Arrows point one way: a room stands below all that it names, but
/// for `server` and `client`, which know nothing of each other.
const ROOMS: [(&str, &[&str]); 17] = [
    ("types", &[]),
    ("json", &[]),
    ("raft", &["types"]),
    ("search", &["types", "raft"]),
    ("kv", &["types", "json"]),
    ("config", &["types"]),
    ("storage", &["types", "raft"]),
    ("wire", &["types", "json", "raft", "kv", "config"]),
    ("node", &["types", "raft", "storage", "wire"]),
    ("checker", &["types", "json", "kv", "wire"]),
    ("sim", &["types", "json", "raft", "kv", "config", "storage", "wire", "node", "checker"]),
    ("server", &["types", "json", "raft", "kv", "config", "storage", "wire", "node"]),
    ("tools", &["types", "raft", "kv", "config", "storage"]),
    ("dial", &["config", "wire"]),
    ("bench", &["dial"]),
    ("client", &["types", "config", "storage", "wire", "dial", "bench"]),
    ("nemesis", &["types", "storage", "wire", "checker", "dial"]),
];

/// Rooms that only turn values into values.
const PURE_ROOMS: [&str; 2] = ["raft", "kv"];

/// What a pure room never names: the outside world, time, chance, threads, an order that is not the same on
/// every node, and failure.
const IMPURE: [&str; 20] = [
    "std::io",
    "std::net",
    "std::fs",
    "std::env",
    "std::time",
    "std::thread",
    "std::process",
    "mpsc",
    "crossbeam_channel",
    "getrandom",
    "rand::",
    "tracing",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "Mutex",
    "Atomic",
    "unsafe",
    "println",
];

const MAX_COLUMNS: usize = 110;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_FILE_LINES: usize = 600;

// ---- Layers
// --------------------------------------------------------------------------------------------------

/// A room names only the rooms that the table allows. Tests may look further.
fn layers(file: &File) -> Vec<Found> {
    let Some(room) = file.room() else { return Vec::new() };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![file.found(1, format!("the room {room} has no place in this test's table of rooms"))];
    };
    let mut found = Vec::new();
    for (number, line) in file.code_lines() {
        for named in named_rooms(line) {
            if named != room && !allowed.contains(&named.as_str()) {
                found
                    .push(file.found(number, format!("{room} names {named}, and may name only {allowed:?}")));
            }
        }
        // From the second floor down, this leads out of the room without naming the next one.
        if line.contains("super::super::") {
            found.push(file.found(number, "super::super:: where crate:: would say where to"));
        }
    }
    found
}

/// The first words behind each `crate::` of a line, those of a group included.
fn named_rooms(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (_, rest) in line.match_indices("crate::").map(|(at, path)| (at, &line[at + path.len()..])) {
        let word = |text: &str| -> String {
            text.trim_start()
                .chars()
                .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
                .collect()
        };
        match rest.strip_prefix('{') {
            Some(group) => {
                let mut depth = 0;
                let mut part_start = 0;
                for (at, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            rooms.push(word(&group[part_start..at]));
                            part_start = at + 1;
                        }
                        _ => {}
                    }
                }
                rooms.push(word(&group[part_start..]));
            }
            None => rooms.push(word(rest)),
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

#[test]
fn rooms_name_only_the_rooms_below_them() {
    let breaks = |path: &str, code: &str| File::new(path, code).breaks(layers);
    assert!(breaks("src/raft/log.rs", "use crate::storage::Disk;"));
    assert!(breaks("src/raft/log.rs", "fn f() { crate::wire::line::f() }"));
    assert!(breaks("src/kv/store.rs", "use crate::{types::{Index, Term}, raft};"));
    assert!(breaks("src/server/mod.rs", "use crate::client::words;"));
    assert!(breaks("src/storage/log_file.rs", "use super::super::server;"));
    assert!(breaks("src/kitchen.rs", "use crate::types::Index;"));
    assert!(!breaks("src/node/reads.rs", "use crate::raft::ReadReady; use crate::node::Work;"));
    assert!(!breaks(
        "src/raft/log.rs",
        "// crate::storage\n#[cfg(test)]\nmod tests {\nuse crate::kv::KvStore;\n}"
    ));
    assert!(!breaks("src/lib.rs", "pub use crate::server::run;"));
    source::assert_tidy(layers);
}

/// Programs are thin: arguments, then a call to the room that does it.
fn thin_programs(file: &File) -> Vec<Found> {
    let mut found = Vec::new();
    for (number, line) in file.code_lines().filter(|_| file.path.starts_with("bin/")) {
        for (at, _) in line.match_indices("raftkv::") {
            let rest = &line[at + "raftkv::".len()..];
            if !["server", "tools", "client", "bench", "search", "sim", "nemesis"]
                .iter()
                .any(|room| rest.starts_with(room))
            {
                found.push(file.found(
                    number,
                    "a program names something below server, tools, client, bench, search, sim and nemesis",
                ));
            }
        }
    }
    if file.path.starts_with("bin/") && file.text.lines().count() > 100 {
        found.push(file.found(1, "a program of more than 100 lines: arguments, then a call"));
    }
    found
}

#[test]
fn programs_are_thin() {
    assert!(File::new("bin/server.rs", "use raftkv::raft::RaftState;").breaks(thin_programs));
    assert!(File::new("bin/server.rs", &"\n".repeat(101)).breaks(thin_programs));
    assert!(!File::new("bin/server.rs", "use raftkv::server::run;").breaks(thin_programs));
    source::assert_tidy(thin_programs);
}

// ---- Purity
// --------------------------------------------------------------------------------------------------

fn pure_rooms(file: &File) -> Vec<Found> {
    let mut found = Vec::new();
    let is_pure = file.room().is_some_and(|room| PURE_ROOMS.contains(&room));
    for (number, line) in file.code_lines().filter(|_| is_pure) {
        for word in IMPURE.iter().filter(|word| line.contains(**word)) {
            found.push(file.found(number, format!("{word} in a pure room")));
        }
        // Writing down a value is the one thing there whose trait says that it may fail.
        if source::has_word(&line.replace("fmt::Result", ""), "Result") {
            found.push(file.found(number, "a Result in a pure room: what can fail there is an invariant"));
        }
    }
    found
}

#[test]
fn the_core_and_the_store_are_pure() {
    let breaks = |code: &str| File::new("src/raft/log.rs", code).breaks(pure_rooms);
    for code in [
        "use std::io::Write;",
        "let now = Instant::now();",
        "use std::collections::{BTreeMap, HashMap};",
        "fn save(&self) -> Result<(), Fault> {",
        "fn save(&self) -> std::result::Result<(), fmt::Error> {",
        "unsafe { *pointer }",
        "static COUNT: AtomicU64 = AtomicU64::new(0);",
    ] {
        assert!(breaks(code), "{code}");
    }
    assert!(!breaks("fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, \"HashMap\") }"));
    assert!(!breaks("struct ResultOfVote; // Result"));
    assert!(!File::new("src/server/mod.rs", "use std::net::TcpListener;").breaks(pure_rooms));
    source::assert_tidy(pure_rooms);
}

/// Wall clocks go wrong by hours and years: only the log's time stamps come from one, and not from our code.
fn no_wall_clock(file: &File) -> Vec<Found> {
    let is_source = file.path.starts_with("src/") && file.path != "src/server/logging.rs";
    let lines = file.code_lines().filter(|(_, line)| is_source && line.contains("SystemTime"));
    lines.map(|(number, _)| file.found(number, "SystemTime outside logging: use Instant")).collect()
}

#[test]
fn nothing_depends_on_the_wall_clock() {
    assert!(File::new("src/bench/load.rs", "let now = SystemTime::now();").breaks(no_wall_clock));
    assert!(!File::new("src/bench/load.rs", "let now = Instant::now();").breaks(no_wall_clock));
    source::assert_tidy(no_wall_clock);
}

/// A server's stdout is nobody's: it tells what it does through its log.
fn no_printing(file: &File) -> Vec<Found> {
    let may_print = !file.path.starts_with("src/") || file.path.starts_with("src/client/");
    let prints =
        |line: &str| ["println!", "print!", "eprintln!", "eprint!"].iter().any(|name| line.contains(name));
    let lines = file.code_lines().filter(|(_, line)| !may_print && prints(line));
    lines.map(|(number, _)| file.found(number, "printing outside bin/ and src/client: use the log")).collect()
}

#[test]
fn only_programs_and_the_client_print() {
    assert!(File::new("src/server/mod.rs", "fn f() { println!(\"x\") }").breaks(no_printing));
    assert!(File::new("src/node.rs", "eprintln!()").breaks(no_printing));
    assert!(!File::new("src/client/repl.rs", "println!()").breaks(no_printing));
    source::assert_tidy(no_printing);
}

// ---- Roles and messages
// --------------------------------------------------------------------------------------

/// A role is taken in `become_follower`, `become_candidate` and `become_leader` and nowhere else.
fn role_changes(file: &File) -> Vec<Found> {
    let mut found = Vec::new();
    let mut function = String::new();
    for (number, line) in file.code_lines().filter(|_| file.room() == Some("raft")) {
        if let Some(name) = source::function_name(line) {
            function = name;
        }
        let assigns = line.match_indices("role = ").any(|(at, _)| line[..at].ends_with('.'));
        let swaps =
            ["replace", "swap", "take"].iter().any(|how| line.contains(&format!("{how}(&mut self.role")));
        let allowed = ["become_follower", "become_candidate", "become_leader"].contains(&function.as_str());
        if swaps || (assigns && !allowed) {
            found.push(
                file.found(number, format!("the role changes in {function}, not in a become_ function")),
            );
        }
    }
    found
}

#[test]
fn the_role_changes_in_three_functions() {
    let breaks = |code: &str| File::new("src/raft/state.rs", code).breaks(role_changes);
    assert!(breaks("fn step(&mut self) {\nself.role = Role::Leader(leader);\n}"));
    assert!(breaks("fn become_king(&mut self) {\nself.role = Role::Leader(leader);\n}"));
    assert!(breaks("fn become_leader(&mut self) {\nmem::replace(&mut self.role, role);\n}"));
    assert!(!breaks("fn become_leader(&mut self) {\nself.role = Role::Leader(leader);\n}"));
    assert!(!breaks("fn step(&mut self) {\nif self.role == Role::Leader { let role = 1; }\n}"));
    source::assert_tidy(role_changes);
    let assignments = source::all_files().into_iter().map(|file| file.code.matches("self.role = ").count());
    assert_eq!(assignments.sum::<usize>(), 3, "become_follower, become_candidate and become_leader");
}

/// No `_` arm in the core: a new message or role must be met with a decision wherever it matters.
fn no_catch_all(file: &File) -> Vec<Found> {
    let is_catch_all = |line: &str| {
        line.match_indices('_').any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + 1..].trim_start();
            before.is_none_or(|letter| letter.is_whitespace() || letter == '|')
                && (after.starts_with("=>") || after.starts_with("if "))
        })
    };
    let lines = file.code_lines().filter(|(_, line)| file.room() == Some("raft") && is_catch_all(line));
    lines.map(|(number, _)| file.found(number, "a `_` arm in the core: name what is left")).collect()
}

#[test]
fn the_core_names_every_message_and_role() {
    let breaks = |code: &str| File::new("src/raft/state.rs", code).breaks(no_catch_all);
    assert!(breaks("match role {\n    _ => {}\n}"));
    assert!(breaks("match role { Role::Leader(_) | _ => {} }"));
    assert!(breaks("match role { _ if late => {} }"));
    assert!(!breaks("match role { Role::Leader(_) => {} Role::Follower { .. } => {} }"));
    assert!(!breaks("let _ = 1; // _ => {}"));
    source::assert_tidy(no_catch_all);
}

// ---- Sizes
// ---------------------------------------------------------------------------------------------------

fn width(file: &File) -> Vec<Found> {
    let lines = file.text.lines().zip(1..).map(|(line, number)| (number, line.chars().count()));
    let wide = lines.filter(|(_, columns)| *columns > MAX_COLUMNS);
    wide.map(|(number, columns)| file.found(number, format!("{columns} columns, at most {MAX_COLUMNS}")))
        .collect()
}

#[test]
fn lines_fit_into_110_columns() {
    assert!(File::new("src/lib.rs", &"x".repeat(111)).breaks(width));
    assert!(!File::new("src/lib.rs", &"ä".repeat(110)).breaks(width));
    source::assert_tidy(width);
}

fn long_functions(file: &File) -> Vec<Found> {
    let functions =
        source::functions(file).into_iter().filter(|function| function.lines >= MAX_FUNCTION_LINES);
    let tell = |name: &str, lines: usize| {
        format!("{name} has {lines} lines, expected fewer than {MAX_FUNCTION_LINES}")
    };
    functions.map(|function| file.found(function.line, tell(&function.name, function.lines))).collect()
}

#[test]
fn functions_have_fewer_than_70_lines() {
    let function = |lines: usize| {
        format!("impl X {{\n    fn f(&self) {{\n{}    }}\n}}\n", "        f();\n".repeat(lines - 2))
    };
    assert!(File::new("src/node.rs", &function(70)).breaks(long_functions));
    assert!(!File::new("src/node.rs", &function(69)).breaks(long_functions));
    assert!(
        !File::new("src/node.rs", "trait X { fn f(&self) -> [u8; 3]; }\nstruct Y;\n").breaks(long_functions)
    );
    source::assert_tidy(long_functions);
}

/// Without its tests, and without the tests' files.
fn long_files(file: &File) -> Vec<Found> {
    let lines = file.lines_without_tests();
    let is_long = file.path.starts_with("src/") && lines >= MAX_FILE_LINES;
    let what = format!("{lines} lines without tests, expected fewer than {MAX_FILE_LINES}");
    is_long.then(|| file.found(1, what)).into_iter().collect()
}

#[test]
fn files_have_fewer_than_600_lines_without_their_tests() {
    let long = "fn f() {}\n".repeat(600);
    assert!(File::new("src/node.rs", &long).breaks(long_files));
    assert!(!File::new("src/node.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n")).breaks(long_files));
    source::assert_tidy(long_files);
}

// ---- Habits
// --------------------------------------------------------------------------------------------------

/// A file says first what it is for.
fn headers(file: &File) -> Vec<Found> {
    let has_header = file.text.starts_with("//! ");
    (!has_header).then(|| file.found(1, "no header: a file begins with what it is for")).into_iter().collect()
}

#[test]
fn each_file_begins_with_what_it_is_for() {
    assert!(File::new("src/node.rs", "use std::fmt;\n").breaks(headers));
    assert!(!File::new("src/node.rs", "//! What a node is.\n").breaks(headers));
    source::assert_tidy(headers);
}

/// Half-done work, spelt so that this file does not find itself.
fn half_done(file: &File) -> Vec<Found> {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!("#[ig", "nore"),
    ];
    let mut found = Vec::new();
    for (line, number) in file.text.lines().zip(1..) {
        found.extend(words.iter().filter(|word| line.contains(**word)).map(|word| file.found(number, *word)));
    }
    found
}

#[test]
fn nothing_is_left_half_done() {
    for line in [
        concat!("// TO", "DO: later"),
        concat!("db", "g!(x)"),
        concat!("#[ig", "nore]"),
        concat!("to", "do!()"),
    ] {
        assert!(File::new("src/node.rs", line).breaks(half_done), "{line}");
    }
    assert!(!File::new("src/node.rs", "// To do this, ignore that.").breaks(half_done));
    source::assert_tidy(half_done);
}

/// A test waits for a condition. The one place that sleeps in between is `tests/support/waiting.rs`.
fn sleeping_tests(file: &File) -> Vec<Found> {
    let sleeps =
        |line: &str| ["sleep", "sleep_ms", "sleep_until"].iter().any(|word| source::has_word(line, word));
    let lines = file.test_lines().filter(|(_, line)| file.path != "tests/support/waiting.rs" && sleeps(line));
    lines.map(|(number, _)| file.found(number, "a test that sleeps: wait_until a condition holds")).collect()
}

#[test]
fn tests_wait_for_conditions_and_do_not_sleep() {
    let nap = "fn f() { std::thread::sleep(second); }";
    assert!(File::new("tests/cluster.rs", nap).breaks(sleeping_tests));
    assert!(
        File::new("src/node.rs", &format!("#[cfg(test)]\nmod tests {{\n{nap}\n}}")).breaks(sleeping_tests)
    );
    assert!(!File::new("src/node.rs", nap).breaks(sleeping_tests));
    assert!(!File::new("tests/support/waiting.rs", nap).breaks(sleeping_tests));
    source::assert_tidy(sleeping_tests);
}

/// What comes from outside must not be able to make a thread panic; where it cannot happen, `expect` says
/// why.
fn unwrapping(file: &File) -> Vec<Found> {
    let lines =
        file.code_lines().filter(|(_, line)| file.path.starts_with("src/") && line.contains(".unwrap()"));
    lines.map(|(number, _)| file.found(number, "unwrap: handle it, or expect with the reason")).collect()
}

#[test]
fn nothing_is_unwrapped_without_a_reason() {
    assert!(File::new("src/node.rs", "let x = y.unwrap();").breaks(unwrapping));
    assert!(!File::new("src/node.rs", "let x = y.unwrap_or(1).expect(\"a reason\");").breaks(unwrapping));
    assert!(
        !File::new("src/node.rs", "#[cfg(test)]\nmod tests {\nfn f() { y.unwrap() }\n}").breaks(unwrapping)
    );
    source::assert_tidy(unwrapping);
}

#[test]
fn there_is_no_async_runtime() {
    let lock = source::read("Cargo.lock");
    assert!(lock.contains("name = \"crossbeam-channel\""), "this is no lock file of ours");
    for runtime in ["tokio", "async-std", "smol", "futures-executor"] {
        assert!(!lock.contains(&format!("name = \"{runtime}\"")), "{runtime} came in");
    }
}
