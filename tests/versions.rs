//! A rolling upgrade: nodes of the version before this one and of this one share a cluster, and clients
//! notice nothing of it.
//!
//! The version before is built from the project's own history, under another name, in the same target folder.
//! Where there is no history (a copy of the sources without it), there is nothing to compare with, and the
//! test says so.

mod support;

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Cluster, Load, Plan, Signal, code, wait_until};

/// The version before this one: the last tag, or where tags are not there, its commit.
const BEFORE: [&str; 2] = ["v0.1.0", "f39e9803d41f57b2c853dee1010df6738f87f939"];

/// The node that is upgraded last.
const LAST: u16 = 3;

/// Runs a program and gives what it printed; none when it fails.
fn run(folder: &Path, program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// The server of the version before, or none where there is no history.
fn server_before() -> Option<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("version-before");
    let git = |arguments: &[&str]| run(project, "git", arguments);
    let is_whole = git(&["rev-parse", "--is-shallow-repository"]).is_some_and(|answer| answer == b"false\n");
    let archive = BEFORE.iter().find_map(|version| {
        git(&["archive", "--format=tar", version, "Cargo.toml", "Cargo.lock", "src", "bin"])
    });
    assert!(archive.is_some() || !is_whole, "the whole history is here, and nothing of {BEFORE:?}");
    let archive = archive?;
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("sources.tar"), archive).expect("a file");
    run(&folder, "tar", &["-xf", "sources.tar"]).expect("tar unpacks what git packed");
    let edit = |name: &str, from: &str, to: &str| {
        let text = fs::read_to_string(folder.join(name)).expect("a file of the version before");
        assert!(text.contains(from), "{name} of the version before has no {from:?}");
        fs::write(folder.join(name), text.replace(from, to)).expect("a file");
    };
    edit("Cargo.lock", "name = \"raftkv\"\n", "name = \"raftkv-before\"\n");
    edit("bin/server.rs", "raftkv::", "raftkv_before::");
    let text = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    let mut manifest: toml::Table = text.parse().expect("a manifest is TOML");
    manifest.retain(|section, _| section == "dependencies" || section.starts_with("profile"));
    let head = "[package]\nname = \"raftkv-before\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
                [workspace]\n\n\
                [[bin]]\nname = \"raftkv-server-before\"\npath = \"bin/server.rs\"\n\n";
    fs::write(folder.join("Cargo.toml"), format!("{head}{manifest}")).expect("a file");
    let target = Path::new(env!("CARGO_BIN_EXE_raftkv-server")).ancestors().nth(2).expect("a target folder");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--bin", "raftkv-server-before", "--target-dir"])
        .arg(target)
        .current_dir(&folder)
        .output()
        .expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(target.join("debug/raftkv-server-before"))
}

#[test]
fn a_cluster_is_upgraded_node_by_node_under_load() {
    let Some(before) = server_before() else {
        println!("left out: the history of the project is not here, so there is no version before");
        return;
    };
    let mut cluster = Cluster::of_program(&Plan::of(3), &before);
    let load = Load::start("upgrade", 3, &cluster.addresses());
    load.wait_for_more(50);
    for node in cluster.ids() {
        if node == LAST {
            refuses_to_change_members(&mut cluster, &before);
        }
        cluster.stop(node, Signal::SIGTERM);
        cluster.restart(node);
        load.wait_for_more(50);
    }
    let left = changes_members(&cluster);
    load.wait_for_more(50);
    cluster.assert_all_alive();
    cluster.kill(left);
    let promises = load.stop();
    cluster.wait_for_agreement();
    cluster.awake().into_iter().for_each(|node| promises.check(&cluster, node));
}

/// One node of the version before would have to stop at an entry that it does not know.
fn refuses_to_change_members(cluster: &mut Cluster, before: &Path) {
    let answer = wait_until("a leader of this version says no", || {
        let leader = cluster.leader();
        if leader == LAST {
            cluster.kill(LAST);
            cluster.restart_program(LAST, before, &[]);
            return None;
        }
        let answer = cluster.connect(leader).ask(json!({ "op": "change", "remove": [leader] }));
        // It may have lost the lead meanwhile.
        (code(&answer) != "not_leader").then_some(answer)
    });
    assert_eq!(code(&answer), "refused", "{answer}");
    assert!(answer.to_string().contains("cannot change members yet"), "{answer}");
}

/// Once all know what that is, it is done. Says who has left.
fn changes_members(cluster: &Cluster) -> u16 {
    let left = wait_until("a member leaves", || {
        let leader = cluster.leader();
        let leaves = cluster.others(leader)[0];
        let answer = cluster.connect(leader).ask(json!({ "op": "change", "remove": [leaves] }));
        (code(&answer) == "ok").then_some(leaves)
    });
    wait_until("two are left", || {
        let members = cluster.connect(cluster.leader()).ask(r#"{"op":"members"}"#);
        (members["voters"].as_array().map(Vec::len) == Some(2)).then_some(())
    });
    left
}
