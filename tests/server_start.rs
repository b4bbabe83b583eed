//! Starting a server, and every reason not to: exit status 2 and exactly one line on stderr that names what
//! is wrong and where. Nobody should have to read the source to get a node to start, and no node may start on
//! data that is not its own or not whole.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use support::{Cluster, Plan, Process, Signal, code, free_ports, scratch_folder, wait_until};
use tempfile::TempDir;

/// A folder with a `cluster.toml`, and servers that are started from it.
struct Site {
    folder: TempDir,
    config: String,
}

impl Site {
    /// Of three nodes.
    fn new() -> Site {
        let site = Site { folder: scratch_folder(), config: Plan::of(3).config(&free_ports(6)) };
        site.write(&site.config);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, config: &str) {
        fs::write(self.path("cluster.toml"), config).expect("a file");
    }

    fn start(&self, arguments: &[&str], log: &str) -> Process {
        let config = self.path("cluster.toml");
        let mut all = vec!["--config", config.to_str().expect("UTF-8")];
        all.extend(arguments);
        Process::start(&all, &self.path(log))
    }

    /// Starts a server that must refuse, and returns the one line that it says.
    fn refusal(&self, arguments: &[&str]) -> String {
        let mut process = self.start(arguments, "refusal.log");
        let status = process.wait_for_end();
        let said = process.log();
        assert_eq!(status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "not one line: {said}");
        assert!(said.starts_with("raftkv-server: "), "{said}");
        said
    }

    /// Starts node 1 and waits until it serves; `log` is its log's name.
    fn running(&self, arguments: &[&str], log: &str) -> Process {
        let process = self.start(arguments, log);
        wait_until("the server has started", || process.log().contains("started: ").then_some(()));
        process
    }

    /// Makes node 1's data and stops again.
    fn bootstrap(&self) {
        self.running(&["--id", "1", "--bootstrap"], "bootstrap.log").kill();
    }

    /// Node 1's files, all that they hold.
    fn data(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files(&self.path("data/node-1"))
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        files.map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
    files.sort();
    files
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

#[test]
fn a_configuration_that_is_not_there_or_not_valid_is_told_with_file_line_and_what_was_expected() {
    let site = Site::new();
    let good = &site.config;
    let node_1 = "id = 1\n";
    let line_of = |needle: &str| 1 + good[..good.find(needle).expect("it is there")].lines().count();
    for (config, line, parts) in [
        (good.replace("cluster = \"test\"", "cluster = "), 1, vec![]),
        (good.replace("cluster = \"test\"", "cluster = \"\""), 1, vec!["expected a name"]),
        (good.replace("data_dir", "data_folder"), 2, vec!["data_folder", "data_dir"]),
        (good.replace(node_1, "id = 0\n"), line_of(node_1), vec!["id is 0", "1 to 65535"]),
        (good.replace(node_1, "id = 2\n"), line_of("id = 2"), vec!["id 2 stands twice"]),
        (good.replace("[300, 600]", "[600, 300]"), line_of("election_timeout_ms"), vec!["600, 300"]),
        (
            good.replace("max_clients = 4096", "max_clients = 0"),
            line_of("max_clients"),
            vec!["max_clients is 0"],
        ),
    ] {
        site.write(&config);
        let said = site.refusal(&["--id", "1", "--bootstrap"]);
        assert_says(&said, &[&format!("cluster.toml:{line}: ")]);
        assert_says(&said, &parts);
    }
    fs::remove_file(site.path("cluster.toml")).expect("it was there");
    assert_says(&site.refusal(&["--id", "1", "--bootstrap"]), &["cluster.toml: cannot be read"]);
    fs::write(site.path("cluster.toml"), b"cluster = \"\xff\"\n").expect("a file");
    assert_says(&site.refusal(&["--id", "1", "--bootstrap"]), &["cluster.toml: cannot be read"]);
    assert!(!site.path("data").exists(), "a refused start has made a data directory");
}

#[test]
fn an_address_that_stands_twice_is_told() {
    let site = Site::new();
    let addresses: Vec<&str> = site.config.split('"').filter(|part| part.starts_with("127.0.0.1:")).collect();
    site.write(&site.config.replace(addresses[5], addresses[0]));
    let said = site.refusal(&["--id", "1", "--bootstrap"]);
    assert_says(&said, &["cluster.toml:", addresses[0], "the peer address of node 1 already"]);
}

#[test]
fn an_address_that_is_not_loopback_needs_allow_insecure() {
    let site = Site::new();
    let others = site.config.replacen("127.0.0.1:", "192.0.2.1:", 1);
    site.write(&others);
    assert_says(
        &site.refusal(&["--id", "2", "--bootstrap"]),
        &["cluster.toml:", "192.0.2.1:", "allow_insecure = true"],
    );
    // With it, the address is n1's trouble only.
    site.write(&format!("allow_insecure = true\n{others}"));
    let process = site.running(&["--id", "2", "--bootstrap"], "insecure.log");
    process.kill();
    assert_says(&site.refusal(&["--id", "1", "--bootstrap"]), &["cannot listen for peers on 192.0.2.1:"]);
}

#[test]
fn an_id_that_the_configuration_does_not_have_is_told_with_those_it_has() {
    let said = Site::new().refusal(&["--id", "4", "--bootstrap"]);
    assert_says(&said, &["cluster.toml", "no node with id 4", "n1", "n2", "n3"]);
}

#[test]
fn arguments_that_make_no_sense_are_bad_usage() {
    let site = Site::new();
    for arguments in [&["--id", "one"][..], &["--id", "65536"], &[], &["--id", "1", "--boot-strap"]] {
        let mut process = site.start(arguments, "usage.log");
        assert_eq!(process.wait_for_end().code(), Some(2), "{arguments:?}");
        assert_says(&process.log(), &["--help"]);
    }
}

#[test]
fn a_port_that_is_in_use_is_told() {
    let site = Site::new();
    let addresses: Vec<&str> = site.config.split('"').filter(|part| part.starts_with("127.0.0.1:")).collect();
    for (address, what) in [(addresses[0], "peers"), (addresses[1], "clients")] {
        let _taken = TcpListener::bind(address).expect("the port is free");
        let said = site.refusal(&["--id", "1", "--bootstrap"]);
        assert_says(&said, &["cannot listen for", what, address, "in use"]);
    }
}

#[test]
fn an_empty_folder_needs_bootstrap_and_the_message_tells_new_from_lost() {
    let site = Site::new();
    let said = site.refusal(&["--id", "1"]);
    assert_says(&said, &["data/node-1", "empty", "NEW cluster needs --bootstrap", "lost its disk must not"]);
    fs::create_dir_all(site.path("data/node-1")).expect("a folder");
    assert_says(&site.refusal(&["--id", "1"]), &["data/node-1", "empty"]);
}

#[test]
fn bootstrap_does_nothing_where_there_is_data() {
    let site = Site::new();
    site.bootstrap();
    let identity = |site: &Site| -> Value {
        serde_json::from_slice(&fs::read(site.path("data/node-1/identity.json")).expect("a file"))
            .expect("JSON")
    };
    let before = identity(&site);
    site.bootstrap();
    let mut after = identity(&site);
    assert_eq!(after["boot"].as_u64(), before["boot"].as_u64().map(|boot| boot + 1), "starts are counted");
    for counted in ["boot", "crc"] {
        after[counted] = before[counted].clone();
    }
    assert_eq!(after, before, "the node is another one");
}

#[test]
fn data_in_use_by_another_process_is_told_and_a_killed_one_leaves_no_lock() {
    let site = Site::new();
    let running = site.running(&["--id", "1", "--bootstrap"], "first.log");
    // Other ports, the same folder.
    site.write(&Plan::of(3).config(&free_ports(6)));
    let before = site.data();
    assert_says(&site.refusal(&["--id", "1"]), &["data/node-1", "another process uses this data folder"]);
    assert_eq!(site.data(), before, "the second process changed something");
    running.kill();
    site.running(&["--id", "1"], "second.log").kill();
}

#[test]
fn the_data_of_another_node_or_another_cluster_is_refused() {
    let site = Site::new();
    site.bootstrap();
    let before = site.data();
    let folder = site.path("data/node-1");
    let folder = folder.to_str().expect("UTF-8");
    let said = site.refusal(&["--id", "2", "--data-dir", folder, "--bootstrap"]);
    assert_says(&said, &["data/node-1/identity.json", "expected the data of n2", "that of n1"]);
    site.write(&site.config.replace("cluster = \"test\"", "cluster = \"other\""));
    let said = site.refusal(&["--id", "1", "--bootstrap"]);
    assert_says(
        &said,
        &["data/node-1/identity.json", "expected cluster \"other\"", "found cluster \"test\""],
    );
    assert_eq!(site.data(), before, "a refused start changed the data");
}

#[test]
fn a_configuration_of_other_nodes_than_the_cluster_was_made_of_is_refused() {
    let site = Site::new();
    site.bootstrap();
    let two = site.config.split("\n[[node]]\nid = 3\n").next().expect("a beginning");
    let said_of = |config: &str| {
        site.write(config);
        site.refusal(&["--id", "1", "--bootstrap"])
    };
    assert_says(&said_of(two), &["identity.json", "made of n1 n2 n3", "names n1 n2;"]);
    let said = said_of(&site.config.replace("id = 3\n", "id = 4\n"));
    assert_says(&said, &["made of n1 n2 n3", "names n1 n2 n4;"]);
    // The order in the file and the addresses may change.
    site.write(&Plan::of(3).config(&free_ports(6)));
    site.running(&["--id", "1"], "again.log").kill();
}

/// Data of a cluster of one that has taken some writes.
fn written(site: &Site) {
    let config = Plan::of(1).config(&free_ports(2));
    site.write(&config);
    let address = config.split('"').rfind(|part| part.starts_with("127.0.0.1:")).expect("an address");
    let process = site.running(&["--id", "1", "--bootstrap"], "writes.log");
    let mut line = support::Line::open(address);
    for number in 0..20 {
        let set = json!({ "op": "set", "key": format!("k{number}"), "value": number });
        assert_eq!(code(&line.ask(set)), "ok");
    }
    process.kill();
}

#[test]
fn damaged_or_missing_files_are_refused_with_file_and_line_and_left_as_they_are() {
    let site = Site::new();
    written(&site);
    let whole = site.data();
    let (log, log_bytes) =
        whole.iter().find(|(path, _)| path.extension().is_some_and(|it| it == "jsonl")).expect("a log");
    let (identity, identity_bytes) =
        whole.iter().find(|(path, _)| path.ends_with("identity.json")).expect("it is there");
    let flipped = |bytes: &[u8], line: usize| {
        let start: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(line - 1).map(<[u8]>::len).sum();
        let mut bytes = bytes.to_vec();
        bytes[start + 40] ^= 1;
        bytes
    };
    let refusal_after = |change: &dyn Fn()| {
        change();
        let changed = site.data();
        let said = site.refusal(&["--id", "1", "--bootstrap"]);
        assert_eq!(site.data(), changed, "a refused start changed the data");
        fs::write(log, log_bytes).expect("the log as it was");
        fs::write(identity, identity_bytes).expect("the identity as it was");
        said
    };
    for line in [1, 2, 10] {
        let said = refusal_after(&|| fs::write(log, flipped(log_bytes, line)).expect("a damaged log"));
        assert_says(
            &said,
            &["log-000001-from-0.jsonl, ", &format!("line {line}: damaged: expected"), "restore this node"],
        );
    }
    let said = refusal_after(&|| fs::write(identity, flipped(identity_bytes, 1)).expect("a damaged file"));
    assert_says(&said, &["identity.json, line 1: damaged"]);
    let said = refusal_after(&|| fs::remove_file(log).expect("it was there"));
    assert_says(&said, &["log-000001-from-…: this file is missing, because identity.json says"]);
    let said = refusal_after(&|| fs::remove_file(identity).expect("it was there"));
    assert_says(&said, &["identity.json: this file is missing, because log-000001-from-0.jsonl is there"]);
    // With everything back as it was, it starts.
    site.running(&["--id", "1"], "again.log").kill();
}

#[test]
fn a_data_folder_that_cannot_be_one_is_told() {
    let site = Site::new();
    fs::write(site.path("data"), "a file").expect("a file");
    assert_says(&site.refusal(&["--id", "1", "--bootstrap"]), &["data/node-1", "cannot make the folder"]);
}

#[test]
fn a_data_dir_given_by_argument_is_used_and_no_other() {
    let site = Site::new();
    let folder = site.path("elsewhere");
    let process =
        site.running(&["--id", "1", "--bootstrap", "--data-dir", folder.to_str().expect("UTF-8")], "n1.log");
    assert!(folder.join("identity.json").exists());
    assert!(!site.path("data").exists());
    process.kill();
}

#[test]
fn log_lines_of_the_json_format_are_json() {
    let site = Site::new();
    let mut process = site.running(&["--id", "1", "--bootstrap", "--log-format", "json"], "n1.log");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait_for_end().code(), Some(0));
    let log = process.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["level"], &last["message"]),
        (&json!("INFO"), &json!("stops: it was asked to")),
        "{last}"
    );
    assert!(lines.iter().all(|line| line["span"]["id"] == "n1"), "{log}");
}

#[test]
fn a_node_stops_well_also_when_it_never_had_company() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let site = Site::new();
        let mut process = site.running(&["--id", "1", "--bootstrap"], "n1.log");
        process.signal(signal);
        assert_eq!(process.wait_for_end().code(), Some(0), "{signal}");
        assert_says(&process.log(), &["stops: it was asked to"]);
    }
    // And while clients are connected and wait.
    let mut cluster = Cluster::start(3);
    let (follower, leader) = cluster.follower_and_leader();
    for node in cluster.others(follower) {
        cluster.kill(node);
    }
    let mut line = cluster.connect(follower);
    line.send(r#"{"op":"set","key":"x","value":1}"#);
    cluster.stop(follower, Signal::SIGTERM);
    assert_ne!(follower, leader);
}
