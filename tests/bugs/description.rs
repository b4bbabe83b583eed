//! What is written down about each bug: `tests/bugs/*.toml`, one file a section of the catalogue.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// All descriptions.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// In the order of the catalogue.
    #[serde(default, rename = "bug")]
    pub bugs: Vec<Bug>,
    /// The rows that are not put back.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A bug that can be switched on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bug {
    /// What switches it on.
    pub name: String,
    /// Its row in `docs/faults.md`.
    pub row: String,
    /// What the code does wrong, in a line.
    pub story: String,
    /// Golden scripts that must fail.
    #[serde(default)]
    pub scripts: Vec<String>,
    /// Other tests of the copy that must fail, by their full names.
    #[serde(default)]
    pub tests: Vec<String>,
    /// The simulator must find it.
    pub seeds: Option<Seeds>,
    /// Why the simulator cannot find it.
    pub no_seeds: Option<String>,
    /// The exhaustive search must find it.
    pub search: Option<Search>,
    /// What makes the bug.
    #[serde(rename = "edit")]
    pub edits: Vec<Edit>,
}

/// What the simulator owes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seeds {
    /// It must be found by this seed, counted from 1.
    pub within: u64,
    /// By a check of one of these properties.
    pub told_by: Vec<String>,
    /// How many nodes, instead of each seed's own choice.
    pub nodes: Option<u16>,
    /// Which kinds of fault, instead of each seed's own choice.
    pub faults: Option<String>,
    /// It takes long: only looked for when all bugs are.
    #[serde(default)]
    pub slow: bool,
}

/// What the exhaustive search owes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Which search.
    pub name: String,
    /// It must be found within so many states.
    pub within: u64,
    /// By a check of one of these properties.
    pub told_by: Vec<String>,
}

/// One change of one file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// From the project's folder.
    pub file: String,
    /// Stands there exactly once.
    pub find: String,
    /// Takes its place; PLANTED is true when the bug is switched on.
    pub replace: String,
}

/// A row that is not put back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// The row in `docs/faults.md`.
    pub row: String,
    /// Why.
    pub because: String,
}

impl Catalogue {
    /// Reads all files.
    pub fn read() -> Catalogue {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bugs");
        let mut paths: Vec<_> = std::fs::read_dir(&folder)
            .expect("tests/bugs is there")
            .map(|entry| entry.expect("an entry of the folder").path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "toml"))
            .collect();
        paths.sort();
        let mut all = Catalogue::default();
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a description is text");
            let one = Catalogue::parse(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            all.bugs.extend(one.bugs);
            all.left_out.extend(one.left_out);
        }
        let names: BTreeSet<&str> = all.bugs.iter().map(|bug| bug.name.as_str()).collect();
        assert_eq!(names.len(), all.bugs.len(), "two bugs have one name");
        all
    }

    /// Reads one file's text. Fails on what is no description, and on a bug that nobody has to catch.
    pub fn parse(text: &str) -> Result<Catalogue, String> {
        let catalogue: Catalogue = toml::from_str(text).map_err(|error| error.to_string())?;
        for Bug { name, edits, scripts, tests, seeds, no_seeds, search, .. } in &catalogue.bugs {
            if edits.is_empty()
                || (scripts.is_empty() && tests.is_empty() && seeds.is_none() && search.is_none())
            {
                return Err(format!("bug {name}: without an edit, or without a verifier"));
            }
            if seeds.is_some() == no_seeds.is_some() {
                return Err(format!("bug {name}: says by which seed it is found, or why by none"));
            }
            if edits.iter().all(|edit| !edit.replace.contains("PLANTED")) {
                return Err(format!("bug {name}: it cannot be switched off"));
            }
        }
        Ok(catalogue)
    }
}

impl Bug {
    /// The tests that must fail, by their names in the copy.
    pub fn test_names(&self) -> impl Iterator<Item = String> + '_ {
        let scripts = self.scripts.iter().map(|script| format!("golden::{}", script.replace('/', "::")));
        scripts.chain(self.tests.iter().cloned())
    }
}
