//! The copy of the product with all bugs in it, and its compilation.
//!
//! It is a package of its own with one target, the library's test program: the unit tests, the golden
//! scripts, two test files, the simulator and what is fuzzed in one. The package and its library have other
//! names than ours, so that it can share our target folder, where the dependencies are built already, and
//! nothing of ours is overwritten there. What only threads and sockets use is left out.

use super::description::Bug;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FOLDERS: [&str; 5] = ["src", "tests/golden", "tests/scripts", "tests/bugs", "tests/fuzz/targets"];
const FILES: [&str; 5] =
    ["Cargo.lock", "tests/golden.rs", "tests/node.rs", "tests/storage.rs", "tests/fuzz/mutations.rs"];
/// Rooms that no verifier of the copy runs.
const LEFT_OUT: [&str; 4] = ["bench", "client", "nemesis", "server"];

/// What the copy's library has beside the product's.
const ADDITIONS: &str = r#"
#[path = "../tests/bugs/planted.rs"]
mod planted;
use planted::planted;
#[cfg(test)]
extern crate self as raftkv;
#[cfg(test)]
#[path = "../tests/golden.rs"]
mod golden;
#[cfg(test)]
#[path = "../tests/node.rs"]
mod node_alone;
#[cfg(test)]
#[path = "../tests/storage.rs"]
mod storage_alone;
#[cfg(test)]
#[path = "../tests/bugs/seeds.rs"]
mod seeds;
#[cfg(test)]
#[path = "../tests/bugs/searches.rs"]
mod searches;
#[cfg(test)]
#[path = "../tests/bugs/fuzzing.rs"]
mod fuzzing;
"#;

/// Files by their paths from the project's folder.
type Files = BTreeMap<String, String>;

/// Where the copy is.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("bugs")
}

/// Makes or renews the copy and compiles it. Returns its test program.
pub fn build(bugs: &[Bug]) -> PathBuf {
    let folder = folder();
    let files = files(bugs).unwrap_or_else(|why| panic!("{why}"));
    write_changed(&folder, &files);
    compile(&folder)
}

/// A file of the project.
pub fn read_source(path: &str) -> String {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(full).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// This file with all edits that are meant for it, one after the other.
pub fn with_edits(path: &str, text: &str, bugs: &[Bug]) -> Result<String, String> {
    let mut edited = text.to_owned();
    for bug in bugs {
        for edit in bug.edits.iter().filter(|edit| edit.file == path) {
            let count = edited.matches(&edit.find).count();
            if count != 1 {
                let name = &bug.name;
                return Err(format!("bug {name}: {path} has this {count} times, not once:\n{}", edit.find));
            }
            let switch = format!("crate::planted({:?})", bug.name);
            edited = edited.replacen(&edit.find, &edit.replace.replace("PLANTED", &switch), 1);
        }
    }
    Ok(edited)
}

fn files(bugs: &[Bug]) -> Result<Files, String> {
    let mut paths: Vec<String> = FILES.iter().map(|path| (*path).to_owned()).collect();
    FOLDERS.iter().for_each(|folder| collect(folder, &mut paths));
    let is_left_out = |path: &str| LEFT_OUT.iter().any(|room| path.starts_with(&format!("src/{room}/")));
    let mut files = Files::new();
    for path in paths.into_iter().filter(|path| !is_left_out(path)) {
        let text = with_edits(&path, &read_source(&path), bugs)?;
        files.insert(path, text);
    }
    let edited = bugs.iter().flat_map(|bug| bug.edits.iter().map(move |edit| (&bug.name, &edit.file)));
    for (name, file) in edited {
        if !files.contains_key(file) {
            return Err(format!("bug {name}: there is no {file}"));
        }
    }
    files.insert("Cargo.toml".to_owned(), manifest());
    for (path, text) in &mut files {
        match path.as_str() {
            "src/lib.rs" => {
                LEFT_OUT.iter().for_each(|room| *text = text.replace(&format!("pub mod {room};\n"), ""));
                text.push_str(ADDITIONS);
            }
            "Cargo.lock" => *text = text.replace("name = \"raftkv\"\n", "name = \"raftkv-with-bugs\"\n"),
            // There they are a crate, here a module of one.
            _ if path.starts_with("tests/golden/") => *text = text.replace("crate::", "crate::golden::"),
            _ => {}
        }
    }
    Ok(files)
}

/// Our manifest with the same dependencies and profiles, and the library as its only target.
fn manifest() -> String {
    let mut manifest: toml::Table = read_source("Cargo.toml").parse().expect("our manifest is TOML");
    manifest.retain(|section, _| {
        section.starts_with("profile") || section.ends_with("dependencies") || section == "package"
    });
    let package = manifest.get_mut("package").and_then(toml::Value::as_table_mut).expect("we are a package");
    package.retain(|key, _| ["version", "edition", "rust-version"].contains(&key));
    package.insert("name".to_owned(), "raftkv-with-bugs".into());
    for discovery in ["autobins", "autotests", "autobenches", "autoexamples"] {
        package.insert(discovery.to_owned(), false.into());
    }
    format!("{manifest}\n[lib]\ndoctest = false\n\n[workspace]\n")
}

fn collect(folder: &str, paths: &mut Vec<String>) {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in fs::read_dir(full).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let entry = entry.expect("an entry of the folder");
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a name in UTF-8"));
        if entry.file_type().expect("a kind").is_dir() {
            collect(&path, paths);
        } else {
            paths.push(path);
        }
    }
}

/// Leaves alone what has not changed, so that it need not be compiled again, and removes what is no more.
fn write_changed(folder: &Path, files: &Files) {
    let wanted: BTreeSet<PathBuf> = files.keys().map(|path| folder.join(path)).collect();
    remove_others(folder, &wanted);
    for (path, text) in files {
        let path = folder.join(path);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("the target folder is ours");
        fs::write(&path, text).expect("the target folder is ours");
    }
}

fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry of the folder").path();
        if path.is_dir() {
            remove_others(&path, wanted);
        } else if !wanted.contains(&path) {
            fs::remove_file(&path).expect("the target folder is ours");
        }
    }
}

fn compile(folder: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["test", "--lib", "--no-run", "--locked", "--offline", "--message-format=json"])
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("cargo runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let messages = stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut program = None;
    let mut errors = String::new();
    for message in messages {
        program = message["executable"].as_str().map(PathBuf::from).or(program);
        if message["message"]["level"] == "error" {
            errors.push_str(message["message"]["rendered"].as_str().unwrap_or_default());
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the copy in {} does not compile:\n{errors}{stderr}", folder.display());
    program.expect("cargo says where the program is")
}
