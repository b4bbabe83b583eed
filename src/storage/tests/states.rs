//! Every crash state of short lives: what was acknowledged is recovered, and nothing that was not issued.
//!
//! ```text
//!   a life: calls, recorded      ┌ power cut ──> every state of the medium ─> a start ─┬> known or issued
//!   open, save, save, ... ───────┤                                                     └> cut short again at
//!        └─ each call's end      ├ killed, started again, then a power cut: the same      every change of it
//!           acknowledges         ├ a change fails, started again, then a power cut
//!                                └ one bit flips: refused, or as before
//! ```
//!
//! The expectation is the plainest one: after so many calls a node knows exactly this, and while one is under
//! way either that or what it knows after it.

use super::lives::{Call, Known, LARGE, Life, allowed, live, lives, observe, opening_for};
use super::recording::{Cuts, Folder, Lost, Medium, Operation, RecordingDisk, disk_of};
use super::*;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{Hash, Hasher};

/// What the search met: counted, and asked at the end whether all kinds were there.
#[derive(Default)]
struct Tally {
    states: usize,
    distinct: HashSet<u64>,
    met: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn met(&mut self, what: &'static str, is: bool) {
        *self.met.entry(what).or_default() += usize::from(is);
    }

    /// Whether this state is new, with what may be known in it.
    fn is_new(&mut self, folder: &Folder, allowed: &[Known]) -> bool {
        self.states += 1;
        let mut hasher = DefaultHasher::new();
        (folder, format!("{allowed:?}")).hash(&mut hasher);
        self.distinct.insert(hasher.finish())
    }

    fn state(&mut self, life: &Life, folder: &Folder, lost: Lost) {
        let segments =
            folder.keys().filter(|name| name.starts_with("log-") && name.ends_with("jsonl")).count();
        self.met("a change of names lost", lost.names);
        self.met("an end lost", lost.end);
        self.met("sectors lost", lost.sectors);
        self.met("an end and other sectors lost", lost.end && lost.sectors);
        self.met("names and bytes lost", lost.names && (lost.end || lost.sectors));
        self.met("nothing lost", lost == Lost::default());
        self.met("a draft left", folder.keys().any(|name| name.ends_with(".new")));
        self.met("an empty folder", folder.is_empty() && life.folder.is_empty());
        self.met("an identity and no log", segments == 0 && folder.contains_key(IDENTITY_FILE));
        self.met("several segments", segments > 1);
        let snapshots = |ending: &str| {
            folder.keys().filter(|name| name.starts_with("snapshot-") && name.ends_with(ending)).count()
        };
        self.met("a snapshot that was being written", snapshots(".jsonl.new") > 0);
        self.met("a snapshot that was being received", snapshots(".jsonl.part") > 0);
        self.met("a snapshot and the whole log", snapshots(".jsonl") > 0 && folder.contains_key(LOG));
        self.met("a snapshot and a later log", snapshots(".jsonl") > 0 && !folder.contains_key(LOG));
        self.met("two snapshots", snapshots(".jsonl") > 1);
    }
}

/// A node must come up in this state, know what is allowed, and know it again after another power cut.
/// Returns what it knows.
fn check_state(life: &Life, folder: &Folder, allowed: &[Known], what: &str) -> Known {
    let name = life.name;
    let known = observe(life, folder).unwrap_or_else(|error| panic!("{name}, {what}: {error}"));
    assert!(allowed.contains(&known), "{name}, {what}: {known:?}, expected one of {allowed:?}");
    let disk = disk_of(folder);
    let open = || Storage::open(disk.clone(), &opening_for(life.sizes, FirstStart::Bootstrap));
    let made = known.after(&Call::Open);
    for start in ["a start", "a second start"] {
        let (mut storage, recovered) =
            open().unwrap_or_else(|error| panic!("{name}, {what}, {start}: {error}"));
        assert!(start == "a start" || recovered.torn.is_none(), "{name}, {what}: torn twice");
        assert_eq!(Known::of(&mut storage, recovered), made, "{name}, {what}, {start}");
        drop(storage);
        disk.crash();
    }
    known
}

/// Cuts the power in the start after a power cut too, wherever it changes something.
fn interrupt_recovery(life: &Life, folder: &Folder, known: &Known, tally: &mut Tally, what: &str) {
    let disk = RecordingDisk::new(folder, &[]);
    let opened = Storage::open(disk.clone(), &opening_for(life.sizes, FirstStart::Bootstrap));
    drop(opened.unwrap_or_else(|error| panic!("{}, {what}: {error}", life.name)));
    let mut allowed = vec![known.clone()];
    if *known == Known::default() {
        allowed.push(known.after(&Call::Open));
    }
    let history = disk.history();
    for done in 1..=history.len() {
        Medium::new(folder, &history[..done]).states(Cuts::Few, |again, lost| {
            tally.met("recovery cut short", done < history.len());
            tally.met("recovery's write torn", lost.end || lost.sectors);
            if tally.is_new(again, &allowed) {
                check_state(life, again, &allowed, &format!("{what}, recovery after change {done}"));
            }
        });
    }
}

/// The power goes after each change of a life.
fn cut_power(life: &Life, tally: &mut Tally) {
    for done in 0..=life.history.len() {
        let allowed = allowed(&life.spans, done);
        let what = format!("power cut after change {done}");
        let mut number = 0_usize;
        Medium::new(&life.folder, &life.history[..done]).states(Cuts::All, |folder, lost| {
            tally.state(life, folder, lost);
            if tally.is_new(folder, &allowed) {
                let known = check_state(life, folder, &allowed, &what);
                tally.met("what was under way counts", allowed.len() > 1 && known == allowed[1]);
                tally.met("what was under way is gone", allowed.len() > 1 && known == allowed[0]);
                // A write that ends one byte later leads to the same recovery: of those, some are enough.
                if !lost.end || number.is_multiple_of(4) {
                    interrupt_recovery(life, folder, &known, tally, &what);
                }
            }
            number += 1;
        });
    }
}

/// The process ends after each change, or for a change that fails, and starts again with all that can be
/// read; then the power goes.
fn kill_and_cut_power(life: &Life, calls: &[Call], fails: bool, tally: &mut Tally) {
    for done in 0..=life.history.len() - usize::from(fails) {
        let (disk, spans) = if fails {
            let disk = RecordingDisk::new(&life.folder, &[]);
            disk.fail_after(done);
            let spans = live(life.sizes, &disk, life.spans[0].before.clone(), calls);
            (disk, spans)
        } else {
            (RecordingDisk::new(&life.folder, &life.history[..done]), life.spans.clone())
        };
        let (before, begun) = (disk.length(), allowed(&spans, disk.length()));
        let what = format!("{} change {done}", if fails { "failed at" } else { "killed after" });
        let next = [Call::Open, Call::RaiseBoot, Call::Remember(3)];
        let spans = live(life.sizes, &disk, begun[0].clone(), &next);
        let found = &spans[0].after;
        let made: Vec<Known> = begun.iter().map(|known| known.after(&Call::Open)).collect();
        assert!(made.contains(found), "{}, {what}: {found:?}, expected one of {begun:?}", life.name);
        let history = disk.history();
        let opened = spans[0].end.expect("this start succeeds");
        for changes in before..=history.len() {
            // Before the start is through, all may be lost that may be lost without it.
            let allowed =
                if changes < opened { [&begun[..], &made].concat() } else { allowed(&spans, changes) };
            Medium::new(&life.folder, &history[..changes]).states(Cuts::Few, |folder, lost| {
                tally.met("lost after a kill", !fails && changes > before && lost != Lost::default());
                tally.met("lost after a failure", fails && changes > before && lost != Lost::default());
                if tally.is_new(folder, &allowed) {
                    check_state(life, folder, &allowed, &format!("{what}, power cut after change {changes}"));
                }
            });
        }
    }
}

/// One bit flips, anywhere, when the power goes after each change and all was written.
fn flip_bits(life: &Life, tally: &mut Tally) {
    for done in 0..=life.history.len() {
        let allowed = allowed(&life.spans, done);
        let synced = matches!(done.checked_sub(1).map(|last| &life.history[last]), Some(Operation::Sync(..)));
        if done < life.history.len() && !synced {
            continue;
        }
        let mut last = Folder::new();
        Medium::new(&life.folder, &life.history[..done]).states(Cuts::Few, |folder, lost| {
            if lost == Lost::default() {
                last = folder.clone();
            }
        });
        for (name, bytes) in last.clone() {
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                last.insert(name.clone(), flipped);
                tally.states += 1;
                match observe(life, &last) {
                    Ok(known) => {
                        tally.met("a flipped bit where nothing counts", true);
                        assert!(allowed.contains(&known), "{}: bit {bit} of {name}: {known:?}", life.name);
                    }
                    Err(error) => {
                        assert!(!error.is_disk_fault(), "{}: bit {bit} of {name}: {error}", life.name);
                        tally.met("a flipped bit refused", true);
                    }
                }
            }
            last.insert(name, bytes);
        }
    }
}

/// Tries something with every life, on two threads, and tells what was met.
fn with_lives(what: &str, expected: &[&str], attempt: impl Fn(&Life, &[Call], &mut Tally) + Sync) {
    let count = lives().len();
    let part = |first: usize| {
        let mut tally = Tally::default();
        for (life, calls) in lives().iter().skip(first).step_by(2) {
            attempt(life, calls, &mut tally);
        }
        tally
    };
    let tallies = std::thread::scope(|scope| {
        let other = scope.spawn(|| part(1));
        [part(0), other.join().expect("it holds there too")]
    });
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, times) in tallies.iter().flat_map(|tally| &tally.met) {
        *met.entry(name).or_default() += times;
    }
    let states: usize = tallies.iter().map(|tally| tally.states).sum();
    let distinct: usize = tallies.iter().map(|tally| tally.distinct.len()).sum();
    println!("{what}: {states} states of {count} lives, {distinct} of them tried as different; {met:?}");
    let missing: BTreeSet<_> =
        expected.iter().filter(|name| met.get(**name).is_none_or(|times| *times == 0)).collect();
    assert!(missing.is_empty(), "{what}: never met: {missing:?}");
}

#[test]
fn in_every_state_that_a_power_cut_leaves_a_node_knows_what_was_acknowledged() {
    let expected = [
        "a change of names lost",
        "an end lost",
        "sectors lost",
        "an end and other sectors lost",
        "names and bytes lost",
        "nothing lost",
        "a draft left",
        "an empty folder",
        "an identity and no log",
        "several segments",
        "a snapshot that was being written",
        "a snapshot that was being received",
        "a snapshot and the whole log",
        "a snapshot and a later log",
        "two snapshots",
        "what was under way counts",
        "what was under way is gone",
        "recovery cut short",
        "recovery's write torn",
    ];
    with_lives("power cuts", &expected, |life, _, tally| cut_power(life, tally));
}

#[test]
fn after_a_kill_or_a_failure_and_then_a_power_cut_a_node_knows_what_was_acknowledged() {
    let expected = ["lost after a kill", "lost after a failure"];
    with_lives("kills and failures", &expected, |life, calls, tally| {
        kill_and_cut_power(life, calls, false, tally);
        kill_and_cut_power(life, calls, true, tally);
    });
}

#[test]
fn wherever_a_bit_flips_the_start_is_refused_or_nothing_acknowledged_is_there() {
    let expected = ["a flipped bit where nothing counts", "a flipped bit refused"];
    with_lives("flipped bits", &expected, |life, _, tally| flip_bits(life, tally));
}

#[test]
fn a_log_is_never_there_without_its_identity() {
    // Found by the search above: a first start ended between the rename of the identity and the sync of the
    // folder. The next one saw the identity, began the log and only then synced the folder. Until then a
    // power cut could keep the log's name and take the identity's, and every later start was refused.
    let life = Life::new("a first start", Folder::new(), LARGE, &[Call::Open]);
    let killed = life.history.iter().position(|operation| matches!(operation, Operation::SyncDirectory));
    let disk = RecordingDisk::new(&Folder::new(), &life.history[..killed.expect("the identity's")]);
    live(LARGE, &disk, Known::default(), &[Call::Open]);
    let history = disk.history();
    for done in 0..=history.len() {
        Medium::new(&Folder::new(), &history[..done]).states(Cuts::Few, |folder, _| {
            let known = observe(&life, folder).unwrap_or_else(|error| panic!("after change {done}: {error}"));
            assert!(done < history.len() || known != Known::default());
        });
    }
}
