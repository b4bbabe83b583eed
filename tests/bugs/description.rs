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
    /// Its row in `docs/faults.md`; where that has none, the property that breaks, as in `P13`.
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
    /// Fuzzing must find it.
    pub fuzz: Option<Fuzz>,
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

/// What fuzzing owes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fuzz {
    /// Which target.
    pub target: String,
    /// It must be found by this input: the corpus's are counted first, then changes of them.
    pub within: u64,
    /// What stands in the failure.
    pub says: String,
    /// It takes long: only looked for when all bugs are.
    #[serde(default)]
    pub slow: bool,
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
        for bug in &catalogue.bugs {
            let Bug { name, edits, scripts, tests, seeds, no_seeds, search, fuzz, .. } = bug;
            let is_searched_for = seeds.is_some() || search.is_some() || fuzz.is_some();
            if edits.is_empty() || (scripts.is_empty() && tests.is_empty() && !is_searched_for) {
                return Err(format!("bug {name}: without an edit, or without a verifier"));
            }
            // What is noticed in bytes from outside says nothing of the simulator, whose nodes are honest.
            let needs_reason = seeds.is_none() && !bug.has_no_row();
            if needs_reason != no_seeds.is_some() {
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
    /// Whether it stands in no row of the catalogue, and so names a property.
    pub fn has_no_row(&self) -> bool {
        self.row.starts_with('P')
    }

    /// The tests that must fail, by their names in the copy.
    pub fn test_names(&self) -> impl Iterator<Item = String> + '_ {
        let scripts = self.scripts.iter().map(|script| format!("golden::{}", script.replace('/', "::")));
        scripts.chain(self.tests.iter().cloned())
    }
}
