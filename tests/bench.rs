//! `raftkv-bench` on clusters of real processes: that a load goes on when its leader is killed and tells of
//! the pause, and that what cannot work is refused before any load. No time is asserted.

mod support;

use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::{Cluster, Signal, scratch_folder, wait_until};

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftkv-bench"));
    command.arg("--config").arg(config).args(arguments).stdin(Stdio::null());
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    command(config, arguments).output().expect("the program runs")
}

/// What a run that must do well prints.
fn report(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

/// Why a run was refused, or failed.
fn refusal(output: &Output, status: i32) -> String {
    let stderr = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(status), ""), "{stderr}");
    assert!(stderr.starts_with("raftkv-bench: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Writes down the processes of a cluster, as `scripts/cluster.sh` does.
fn name_processes(cluster: &mut Cluster) -> PathBuf {
    let folder = cluster.data_dir(1).parent().expect("the folder of all").join("run");
    fs::create_dir_all(&folder).expect("a folder");
    for id in cluster.ids() {
        fs::write(folder.join(format!("node-{id}.pid")), format!("{}\n", cluster.process(id).pid()))
            .expect("a file");
    }
    folder
}

#[test]
fn writes_go_on_after_the_leader_was_killed_and_the_pause_is_told() {
    let mut cluster = Cluster::start(3);
    name_processes(&mut cluster);
    let plot = cluster.config().with_file_name("plot.svg");
    let load = ["--clients", "8", "--pipeline", "2", "--reads", "0.2", "--keys", "500", "--prefill"];
    let times = ["--warmup-seconds", "0.2", "--seconds", "6", "--kill-leader-at", "1s"];
    let command = r#"3s=echo "$KILLED" >killed"#;
    let arguments =
        [&load[..], &times, &["--json", "--plot", plot.to_str().unwrap(), "--fault", command]].concat();
    let output = self::command(&cluster.config(), &arguments)
        .current_dir(cluster.config().parent().unwrap())
        .output()
        .unwrap();
    let report: Value = serde_json::from_str(&report(&output)).expect("one JSON object");
    let faults = report["faults"].as_array().unwrap();
    let what = faults[0]["what"].as_str().unwrap();
    let old = what.strip_prefix("kill the leader (n").and_then(|rest| rest.strip_suffix(')')).expect(what);
    let old: u16 = old.parse().expect(what);
    assert!(cluster.status(old).is_none(), "n{old} was not killed");
    // What is left of its process is this test's to clear away.
    cluster.kill(old);
    assert_eq!((&faults[0]["error"], &faults[1]["error"]), (&Value::Null, &Value::Null));
    assert!(report["pause_ms"].as_f64().unwrap() > 0.0, "{faults:?}");
    assert!(faults[0]["pause_ms"].as_f64().unwrap() > 0.0, "{faults:?}");
    assert!(faults[0]["writes_again_after_ms"].as_f64().unwrap() > 0.0, "{faults:?}");
    let killed_at = faults[0]["at_seconds"].as_f64().unwrap();
    let points = report["series"]["points"].as_array().unwrap();
    let sets = |from: f64, to: f64| -> u64 {
        let within = |point: &&Value| (from..to).contains(&point["at_seconds"].as_f64().unwrap());
        points.iter().filter(within).map(|point| point["sets"].as_u64().unwrap()).sum()
    };
    let again_at = killed_at + faults[0]["writes_again_after_ms"].as_f64().unwrap() / 1000.0;
    assert!(sets(0.0, killed_at) > 0, "nothing was written before: {points:?}");
    assert!(sets(again_at, 6.0) > 0, "nothing was written after {again_at} s: {points:?}");
    assert_eq!(sets(0.0, 6.0), report["set"]["ok"], "the series and the sum are of the same writes");
    assert!(report["set"]["errors"]["connection_lost"].as_u64().unwrap() > 0, "the clients lost the leader");
    let killed = fs::read_to_string(cluster.config().with_file_name("killed")).unwrap();
    assert_eq!(killed.trim(), old.to_string());

    let svg = fs::read_to_string(&plot).unwrap();
    let document = roxmltree::Document::parse(&svg).unwrap();
    assert_eq!(document.root_element().tag_name().name(), "svg");
    assert!(svg.contains(&format!("kill the leader (n{old})")));
    cluster.restart(old);
    cluster.wait_for_agreement();
}

#[test]
fn prefill_sets_every_key_and_the_table_tells_of_both_kinds() {
    let cluster = Cluster::start(1);
    let load = ["--clients", "3", "--keys", "200", "--prefill", "--reads", "1", "--value-size", "5-9"];
    let more = ["--seconds", "0.3", "--warmup-seconds", "0", "--distribution", "zipf", "--spread"];
    let table = report(&run(&cluster.config(), &[&load[..], &more].concat()));
    assert!(
        table.starts_with("3 clients at all nodes; pipeline 1, values of 5-9 bytes, 200 keys (zipf 0.99)")
    );
    assert!(table.contains("\nget  ") && !table.contains("\nset  "), "{table}");
    let mut line = cluster.connect(1);
    line.send(r#"{"op":"scan","prefix":"bench-","limit":1000}"#);
    assert_eq!(line.answer()["items"].as_array().unwrap().len(), 200);
}

#[test]
fn what_cannot_work_is_refused_before_the_load() {
    let mut cluster = Cluster::start(1);
    let config = cluster.config();
    // Nobody has written down the processes.
    let refused = refusal(&run(&config, &["--kill-leader-at", "1s"]), 1);
    assert!(refused.contains("cannot tell the process of n1") && refused.contains("node-1.pid"), "{refused}");
    // What is written down is another process's number.
    let folder = name_processes(&mut cluster);
    fs::write(folder.join("node-1.pid"), std::process::id().to_string()).unwrap();
    let refused = refusal(&run(&config, &["--kill", "1@1s"]), 1);
    assert!(refused.contains("which is no raftkv-server --id 1"), "{refused}");
    let refused = refusal(&run(&config, &["--kill-leader-at", "5s"]), 2);
    assert!(refused.contains("would come after the end"), "{refused}");
    let refused = refusal(&run(&config, &["--reads", "1", "--kill-leader-at", "1s"]), 2);
    assert!(refused.contains("no write to see"), "{refused}");
    let refused = refusal(&run(&config, &["--plot", "/no/such/folder/plot.svg"]), 1);
    assert!(refused.contains("cannot write the plot"), "{refused}");
    let mut line = cluster.connect(1);
    line.send(r#"{"op":"scan","prefix":""}"#);
    assert_eq!(line.answer()["items"], serde_json::json!([]), "a load ran");

    let folder = scratch_folder();
    let nowhere = folder.path().join("cluster.toml");
    assert!(refusal(&run(&nowhere, &[]), 2).contains("cluster.toml: cannot be read"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = format!("[[node]]\nid = 1\npeer = \"127.0.0.1:1\"\nclient = \"{nobody}\"\n");
    fs::write(&nowhere, format!("cluster = \"test\"\ndata_dir = \"data\"\n{node}")).unwrap();
    assert!(refusal(&run(&nowhere, &[]), 1).contains("no node could be reached"));
}

#[test]
fn an_interrupted_load_tells_what_came_of_it() {
    let cluster = Cluster::start(1);
    let arguments =
        ["--seconds", "3600", "--warmup-seconds", "0", "--clients", "2", "--fault", "0s=echo >begun"];
    let folder = cluster.config().parent().unwrap().to_owned();
    let mut child = command(&cluster.config(), &arguments)
        .current_dir(&folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the load has begun", || folder.join("begun").exists().then_some(()));
    let mut line = cluster.connect(1);
    wait_until("something was written", || {
        line.send(r#"{"op":"scan","prefix":"bench-"}"#);
        (!line.answer()["items"].as_array()?.is_empty()).then_some(())
    });
    let pid = nix::unistd::Pid::from_raw(child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = stdout.next().unwrap().unwrap();
    assert!(first.contains("; interrupted after ") && first.contains(" of 3600 s"), "{first}");
    assert!(stdout.any(|line| line.unwrap().starts_with("set  ")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
