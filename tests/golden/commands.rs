//! The commands of a script and what they do. The table at the head of `golden.rs` explains each.

use crate::cluster::Cluster;
use crate::injection;
use crate::network::Filter;
use crate::node::Effect;
use crate::snapshot::Snapshot;
use raftkv::raft::{HardState, Input, Settings};
use raftkv::types::{Command as Proposed, Entry, EntryId, Index, NodeId, Term};
use serde_json::{Value, json};
use std::error::Error;
use std::str::FromStr;

/// A node as scripts write it: `1` is n1.
#[derive(Clone, Copy)]
pub struct Id(NodeId);

impl FromStr for Id {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Id, Self::Err> {
        text.parse().map(|id| Id(NodeId(id)))
    }
}

/// See the table at the head of `golden.rs`.
#[derive(goldenscript::Command)]
pub enum Command {
    Cluster {
        #[arg(key)]
        nodes: u16,
        #[arg(key)]
        joining: Option<String>,
        #[arg(key)]
        log: Option<String>,
        #[arg(key)]
        term: Option<u64>,
        #[arg(key)]
        seed: Option<u64>,
        #[arg(key, many, optional)]
        settings: Vec<(String, usize)>,
    },
    Node {
        id: Id,
        #[arg(key)]
        log: Option<String>,
        #[arg(key)]
        base: Option<String>,
        #[arg(key)]
        term: Option<u64>,
        #[arg(key)]
        vote: Option<Id>,
    },
    Tick {
        #[arg(optional)]
        ids: Vec<Id>,
        #[arg(key)]
        count: Option<usize>,
    },
    Timeout(Id),
    Heartbeat(Id),
    Elect(Id),
    Propose {
        id: Id,
        #[arg(key)]
        count: Option<usize>,
        #[arg(key)]
        bytes: Option<usize>,
        #[arg(key)]
        number: Option<u64>,
        #[arg(key, many)]
        pairs: Vec<(String, String)>,
    },
    Read {
        id: Id,
        key: Option<String>,
    },
    Change {
        id: Id,
        #[arg(key)]
        add: Option<String>,
        #[arg(key)]
        remove: Option<String>,
    },
    Meet {
        id: Id,
        #[arg(key)]
        peer: Id,
    },
    Transfer {
        id: Id,
        #[arg(key)]
        to: Option<Id>,
    },
    Compact {
        id: Id,
        #[arg(key)]
        to: Option<i64>,
    },
    HoldInstalls(Id),
    Install {
        id: Id,
        #[arg(key, optional)]
        batch: bool,
    },
    Refuse(Id),
    Apply {
        ids: Vec<Id>,
        #[arg(key)]
        to: Option<i64>,
    },
    Deliver {
        #[arg(key)]
        from: Option<Id>,
        #[arg(key)]
        to: Option<Id>,
        #[arg(key)]
        message: Option<String>,
        #[arg(key)]
        max: Option<usize>,
        #[arg(key, optional)]
        batch: bool,
    },
    Stabilize,
    Run {
        #[arg(key)]
        ticks: usize,
    },
    Drop(#[arg(key, many, optional)] Vec<(String, String)>),
    Duplicate(#[arg(key, many, optional)] Vec<(String, String)>),
    Copy(#[arg(key, many, optional)] Vec<(String, String)>),
    Hold(#[arg(key, many, optional)] Vec<(String, String)>),
    Release(#[arg(key, many, optional)] Vec<(String, String)>),
    Partition(Vec<Id>),
    Cut {
        from: Id,
        to: Id,
        #[arg(key, optional)]
        one_way: bool,
    },
    Heal,
    Crash {
        ids: Vec<Id>,
        #[arg(key)]
        after: Option<String>,
    },
    Restart(Vec<Id>),
    HoldSaves(Id),
    Save {
        id: Id,
        #[arg(key)]
        count: Option<usize>,
    },
    Send {
        from: Id,
        to: Id,
        name: String,
        #[arg(key)]
        term: u64,
        #[arg(key, optional)]
        later: bool,
        #[arg(key, many, optional)]
        fields: Vec<(String, String)>,
    },
    Status(#[arg(optional)] Vec<Id>),
    Log(#[arg(optional)] Vec<Id>),
    Disk(#[arg(optional)] Vec<Id>),
    Network,
}

/// Runs one script.
#[derive(Default)]
pub struct Runner {
    cluster: Option<Cluster>,
}

type Outcome = Result<(), Box<dyn Error>>;

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        if let Command::Cluster { nodes, joining, log, term, seed, settings } = command {
            let joining = ids(joining)?;
            let mut cluster = Cluster::new(*nodes, &joining, seed.unwrap_or(1), settings_of(settings)?);
            for id in cluster.first_members.members().collect::<Vec<NodeId>>() {
                set_up(&mut cluster, id, log.as_deref(), None, *term, None)?;
            }
            self.cluster = Some(cluster);
            return Ok(String::new());
        }
        let cluster = self.cluster.as_mut().ok_or("a script begins with `cluster`")?;
        run(cluster, command)?;
        Ok(std::mem::take(&mut cluster.lines).join("\n"))
    }
}

fn run(cluster: &mut Cluster, command: &Command) -> Outcome {
    match command {
        Command::Cluster { .. } => return Err("`cluster` stands first".into()),
        Command::Node { id, log, base, term, vote } => {
            let base = base.as_deref().map(injection::entry_id).transpose()?;
            set_up(cluster, id.0, log.as_deref(), base, *term, vote.map(|id| id.0))?;
        }
        Command::Tick { ids, count } => tick(cluster, &up_or_given(cluster, ids), count.unwrap_or(1))?,
        Command::Timeout(id) => cluster.election_timeout(id.0)?,
        Command::Heartbeat(id) => {
            let ticks = cluster.settings.heartbeat_ticks as usize;
            cluster.batch(id.0, "heartbeat", vec![Input::Tick; ticks])?;
        }
        Command::Elect(id) => elect(cluster, id.0)?,
        Command::Propose { id, count, bytes, number, pairs } => {
            let commands = proposals(pairs, count.unwrap_or(1), *bytes)?;
            cluster.propose(id.0, commands, *number)?;
        }
        Command::Read { id, key } => cluster.read(id.0, key.clone())?,
        Command::Apply { ids, to } => {
            for id in ids {
                cluster.apply(id.0, to.map(Index))?;
            }
        }
        Command::Change { .. }
        | Command::Meet { .. }
        | Command::Transfer { .. }
        | Command::Compact { .. }
        | Command::HoldInstalls(_)
        | Command::Install { .. }
        | Command::Refuse(_) => operate(cluster, command)?,
        Command::Deliver { from, to, message, max, batch } => {
            let (from, to) = (from.map(|id| id.0), to.map(|id| id.0));
            let filter = Filter { from, to, message: message.clone(), max: *max };
            let messages = cluster.network.take(&filter);
            if messages.is_empty() {
                return Err("no such message is under way".into());
            }
            cluster.deliver(messages, *batch)?;
        }
        Command::Stabilize => cluster.stabilize()?,
        Command::Run { ticks } => {
            for _ in 0..*ticks {
                tick(cluster, &up_or_given(cluster, &[]), 1)?;
                cluster.stabilize()?;
            }
        }
        Command::Drop(_)
        | Command::Duplicate(_)
        | Command::Copy(_)
        | Command::Hold(_)
        | Command::Release(_) => move_messages(cluster, command)?,
        Command::Partition(_) | Command::Cut { .. } | Command::Heal => links(cluster, command),
        Command::Crash { .. } | Command::Restart(_) | Command::HoldSaves(_) | Command::Save { .. } => {
            run_fault(cluster, command)?;
        }
        Command::Send { from, to, name, term, later, fields } => {
            let message = injection::message(from.0, to.0, Term(*term), name, fields)?;
            cluster.say(crate::show::message(&message));
            if *later {
                cluster.network.send(message);
            } else {
                cluster.deliver(vec![message], false)?;
            }
        }
        Command::Status(_) | Command::Log(_) | Command::Disk(_) | Command::Network => show(cluster, command)?,
    }
    Ok(())
}

/// What operators and snapshots do.
fn operate(cluster: &mut Cluster, command: &Command) -> Outcome {
    match command {
        Command::Change { id, add, remove } => cluster.change(id.0, &ids(add)?, &ids(remove)?)?,
        Command::Meet { id, peer } => cluster.meet(id.0, peer.0)?,
        Command::Transfer { id, to } => cluster.transfer(id.0, to.map(|id| id.0))?,
        Command::Compact { id, to } => cluster.compact(id.0, to.map(Index))?,
        Command::HoldInstalls(id) => cluster.node(id.0)?.installs_held = true,
        Command::Install { id, batch } => cluster.install(id.0, *batch)?,
        Command::Refuse(id) => cluster.refuse(id.0)?,
        _ => unreachable!("the caller chose the commands"),
    }
    Ok(())
}

/// `4 5`: several nodes in one argument.
fn ids(words: &Option<String>) -> Result<Vec<NodeId>, Box<dyn Error>> {
    let words = words.iter().flat_map(|words| words.split_whitespace());
    words.map(|word| Ok(word.parse::<Id>()?.0)).collect()
}

fn links(cluster: &mut Cluster, command: &Command) {
    match command {
        Command::Partition(ids) => partition(cluster, &ids.iter().map(|id| id.0).collect::<Vec<NodeId>>()),
        Command::Cut { from, to, one_way: true } => cluster.network.cut(from.0, to.0),
        Command::Cut { from, to, one_way: false } => cut(cluster, from.0, to.0),
        Command::Heal => cluster.network.heal(),
        _ => unreachable!("the caller chose the commands"),
    }
}

fn partition(cluster: &mut Cluster, inside: &[NodeId]) {
    for outside in cluster.ids().into_iter().filter(|id| !inside.contains(id)) {
        inside.iter().for_each(|id| cut(cluster, *id, outside));
    }
}

fn run_fault(cluster: &mut Cluster, command: &Command) -> Outcome {
    match command {
        Command::Crash { ids, after: None } => {
            for id in ids {
                cluster.node(id.0)?.crash();
            }
        }
        Command::Crash { ids, after: Some(effect) } => {
            let effect = match effect.as_str() {
                "start" => Effect::Start,
                "now" => Effect::Now,
                "save" => Effect::Save,
                "send" => Effect::Send,
                other => {
                    return Err(format!("a node crashes after start, now, save or send, not {other}").into());
                }
            };
            for id in ids {
                cluster.node(id.0)?.crash_after = Some(effect);
            }
        }
        Command::Restart(ids) => {
            for id in ids {
                cluster.restart(id.0)?;
            }
        }
        Command::HoldSaves(id) => cluster.node(id.0)?.saves_held = true,
        Command::Save { id, count } => {
            cluster.say(format!("{} saves", id.0));
            let count = count.unwrap_or(usize::MAX);
            for _ in 0..count {
                if !cluster.finish_oldest(id.0)? {
                    break;
                }
            }
            let node = cluster.node(id.0)?;
            node.saves_held &= !node.unsaved.is_empty();
            cluster.history.check(&cluster.nodes)?;
            cluster.verify_received(id.0)?;
        }
        _ => unreachable!("the caller chose the commands"),
    }
    Ok(())
}

fn show(cluster: &mut Cluster, command: &Command) -> Outcome {
    match command {
        Command::Status(ids) => {
            for id in all_or_given(cluster, ids) {
                let line = cluster.status(id)?;
                cluster.say(line);
            }
        }
        Command::Log(ids) => {
            for id in up_or_given(cluster, ids) {
                let state = cluster.node(id)?.up()?;
                let (commit, log) = (state.commit_index(), state.log().clone());
                let line = log_line(log.after(log.first_index().previous()), Some(commit));
                cluster.say(format!("{id}{line}"));
            }
        }
        Command::Disk(ids) => {
            for id in all_or_given(cluster, ids) {
                let disk = &cluster.node(id)?.disk;
                let HardState { term, voted_for } = disk.hard_state;
                let vote = voted_for.map_or(String::new(), |id| format!(" voted_for={id}"));
                let base =
                    if disk.base == EntryId::NONE { String::new() } else { format!(" after={}", disk.base) };
                let line = format!("{id} disk: term={term}{vote}{base}{}", log_line(&disk.entries, None));
                cluster.say(line);
            }
        }
        Command::Network => {
            let lines = cluster.network.lines();
            cluster.lines.extend(lines);
        }
        _ => unreachable!("the caller chose the commands"),
    }
    Ok(())
}

/// The entries, with a bar after the last committed one.
fn log_line(entries: &[Entry], commit: Option<Index>) -> String {
    let bar_before = commit.map(Index::next);
    let mut line = String::new();
    let mut last = None;
    for entry in entries {
        if Some(entry.index) == bar_before {
            line.push_str(" |");
        }
        line.push(' ');
        line.push_str(&crate::show::entry(entry));
        last = Some(entry.index.next());
    }
    if last.is_some() && last == bar_before {
        line.push_str(" |");
    }
    line
}

fn move_messages(cluster: &mut Cluster, command: &Command) -> Outcome {
    let (word, moved) = match command {
        Command::Drop(fields) => ("dropped", cluster.network.take(&filter(fields)?)),
        Command::Duplicate(fields) => ("again", cluster.network.duplicate(&filter(fields)?)),
        Command::Copy(fields) => ("copied", cluster.network.copy_to_pocket(&filter(fields)?)),
        Command::Hold(fields) => ("held", cluster.network.move_to_pocket(&filter(fields)?)),
        Command::Release(fields) => ("released", cluster.network.release(&filter(fields)?)),
        _ => unreachable!("the caller chose the commands"),
    };
    if moved.is_empty() {
        return Err("there is no such message".into());
    }
    for message in moved {
        cluster.say(format!("{word}: {}", crate::show::message(&message)));
    }
    Ok(())
}

fn filter(fields: &[(String, String)]) -> Result<Filter, Box<dyn Error>> {
    let mut filter = Filter::default();
    for (name, value) in fields {
        match name.as_str() {
            "from" => filter.from = Some(value.parse::<Id>()?.0),
            "to" => filter.to = Some(value.parse::<Id>()?.0),
            "message" => filter.message = Some(value.clone()),
            "max" => filter.max = Some(value.parse()?),
            other => return Err(format!("messages are chosen by from, to, message, max, not {other}").into()),
        }
    }
    Ok(filter)
}

fn cut(cluster: &mut Cluster, one: NodeId, other: NodeId) {
    cluster.network.cut(one, other);
    cluster.network.cut(other, one);
}

fn tick(cluster: &mut Cluster, ids: &[NodeId], count: usize) -> Outcome {
    for _ in 0..count {
        for id in ids {
            cluster.batch(*id, "tick", vec![Input::Tick])?;
        }
    }
    Ok(())
}

/// A shortcut for scripts whose subject comes after an election: the node's timeout elapses, everything
/// arrives, and it leads. Those who follow another leader lose patience with it first.
fn elect(cluster: &mut Cluster, id: NodeId) -> Outcome {
    let min_ticks = cluster.settings.election_timeout_min_ticks as usize;
    let with_other_leader = |cluster: &Cluster, other: &NodeId| {
        let state = cluster.nodes[other].state.as_ref();
        *other != id && state.is_some_and(|state| state.leader().is_some_and(|leader| leader != *other))
    };
    let others: Vec<NodeId> =
        cluster.ids().into_iter().filter(|other| with_other_leader(cluster, other)).collect();
    tick(cluster, &others, min_ticks)?;
    cluster.election_timeout(id)?;
    cluster.stabilize()?;
    let leads = cluster.node(id)?.up()?.leader() == Some(id);
    if leads { Ok(()) } else { Err(format!("{id} was not elected:\n{}", cluster.lines.join("\n")).into()) }
}

fn up_or_given(cluster: &Cluster, ids: &[Id]) -> Vec<NodeId> {
    let is_up = |id: &NodeId| cluster.nodes[id].state.is_some();
    if ids.is_empty() {
        return cluster.ids().into_iter().filter(is_up).collect();
    }
    ids.iter().map(|id| id.0).collect()
}

fn all_or_given(cluster: &Cluster, ids: &[Id]) -> Vec<NodeId> {
    if ids.is_empty() { cluster.ids().into_iter().collect() } else { ids.iter().map(|id| id.0).collect() }
}

fn proposals(
    pairs: &[(String, String)],
    count: usize,
    bytes: Option<usize>,
) -> Result<Vec<Proposed>, Box<dyn Error>> {
    let mut commands = Vec::new();
    for _ in 0..count {
        for (key, value) in pairs {
            let plain = || serde_json::from_str(value).unwrap_or(Value::String(value.clone()));
            let value = bytes.map_or_else(plain, |bytes| Value::String("v".repeat(bytes)));
            let text = json!({"op": "set", "key": key, "value": value}).to_string();
            commands.push(Proposed::from_json(text)?);
        }
    }
    Ok(commands)
}

fn set_up(
    cluster: &mut Cluster,
    id: NodeId,
    log: Option<&str>,
    base: Option<EntryId>,
    term: Option<u64>,
    vote: Option<NodeId>,
) -> Outcome {
    let disk = &mut cluster.node(id)?.disk;
    if let Some(last) = base {
        let configuration = disk.configuration.clone();
        disk.compact(Snapshot { last, configuration, store: Default::default() });
    }
    disk.entries = injection::log(disk.base, log.unwrap_or_default())?;
    let term = term.map_or(disk.last().term, Term);
    disk.hard_state = HardState { term, voted_for: vote };
    disk.boot = 0;
    cluster.restart(id)?;
    cluster.lines.clear();
    Ok(())
}

fn settings_of(given: &[(String, usize)]) -> Result<Settings, Box<dyn Error>> {
    let mut settings = Settings {
        heartbeat_ticks: 3,
        election_timeout_min_ticks: 10,
        election_timeout_max_ticks: 20,
        max_append_entries: 100,
        max_append_bytes: 1 << 20,
        max_in_flight_messages: 8,
        max_in_flight_bytes: 1 << 20,
        max_uncommitted_bytes: 1 << 20,
        max_forwarded_bytes: 1 << 20,
    };
    for (name, value) in given {
        match name.as_str() {
            "max_append_entries" => settings.max_append_entries = *value,
            "max_append_bytes" => settings.max_append_bytes = *value,
            "max_in_flight_messages" => settings.max_in_flight_messages = *value,
            "max_in_flight_bytes" => settings.max_in_flight_bytes = *value,
            "max_uncommitted_bytes" => settings.max_uncommitted_bytes = *value,
            "max_forwarded_bytes" => settings.max_forwarded_bytes = *value,
            other => return Err(format!("there is no setting {other}").into()),
        }
    }
    Ok(settings)
}
