//! `raftkv-server recover --force`: the worst day. A majority is lost for good, and one node that is left
//! goes on alone, with the data and the log that it has; others join it afterwards.
//!
//! ```text
//!   before    … 40@3  41@3            term 3, voters n1 n2 n3; n2 and n3 are gone
//!   the term  … 40@3  41@3            term 4, voted for itself: nobody else leads in it
//!   done      snapshot-42-4.jsonl     all of the log applied, and 42@4, which says: voters n1
//!   started   snapshot-42-4  |  43@5  the log begins after it; n1 elects itself, and goes on
//! ```
//!
//! The snapshot does it: when it has its name, the node is a cluster of one, and before that it is the member
//! that it was. A start takes it as it takes one that a leader sent and whose install was cut short: the log,
//! which ends before it, goes. What recovers once more only adds another configuration.
//!
//! Why not an entry in the log alone. A configuration is in force from its entry on, committed or not (paper
//! 6), so that would do for this node. But those who join it would learn of the old members first, with the
//! log or an older snapshot; two of them, empty and under old names, could take each other for the old
//! majority. With the snapshot nobody hears of old members any more.
//!
//! What that breaks, and why it can be done all the same. Raft never lets one voter decide for three: the
//! others may have acknowledged entries that are not in this log, and those are lost. And the end of this
//! log, which may never have been committed, is committed now: also an entry in whose place the others
//! committed another one, and whose client was told that it would never be carried out. Neither can be known
//! from here, so the command says so. Of several survivors the one with the highest last entry loses least:
//! whatever one of them helped to commit, it has (paper 5.4.3: by the term of that commit, a higher last
//! entry comes from the same leader or one that had it).
//!
//! An old member that comes back has another history, perhaps with other entries of the same terms at the
//! same indexes, and with others of before it may even be a majority of the old voters. Two things keep it
//! from doing harm. It does not count: no vote or acknowledgement of a node that is not in the configuration
//! does. And it is not heard: the configuration carries another `Founding`, nodes of two foundings refuse
//! each other's greeting, and whoever joins learns the founding with the snapshot. What old members do among
//! themselves nobody can prevent from here: an operator must empty their folders before clients find them,
//! and let them join as new ones.

use super::content::read_content;
use super::{Failure, NodeArguments, Verdict, inspect};
use crate::config::{Config, NodeConfig};
use crate::kv::{Applied, KvStore};
use crate::raft::{HardState, Output};
use crate::storage::{
    Disk, FileDisk, FirstStart, Identity, Inspection, Opening, Recovered, SegmentSizes, SnapshotMeta,
    SnapshotWriter, Storage, StorageError,
};
use crate::types::{Command, Configuration, Entry, EntryId, Founding, Incarnation, Member, NodeId};
use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;

/// Go on with this node alone, when a majority is lost for good.
///
/// Makes a stopped node a cluster of one, with the data and the log that it has; others join it afterwards.
/// Writes that were acknowledged may be lost: it says which, and asks. Without --force it only says so.
///
/// Exit status: 0 done, 1 the disk failed (recover again), 2 refused: nothing was done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    node: NodeArguments,

    /// Do it.
    #[arg(long)]
    force: bool,

    /// Do not ask: for scripts.
    #[arg(long, requires = "force")]
    yes_i_may_lose_writes: bool,
}

/// What a recovery is about.
struct Survivor {
    id: NodeId,
    own: Member,
    cluster: String,
    hard_state: HardState,
    last: EntryId,
    members: Configuration,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Verdict, Failure> {
    let Arguments { node, force, yes_i_may_lose_writes } = arguments;
    let (config, id) = node.load()?;
    let folder = node.folder(&config);
    let survivor = Survivor::find(&config, id, &folder)?;
    write!(out, "{}", survivor.warning(&folder.display().to_string()))?;
    out.flush()?;
    if !force {
        return Err(Failure::refused("nothing was done: it takes --force"));
    }
    if !yes_i_may_lose_writes {
        confirm(&survivor.cluster, out)?;
    }
    let disk = FileDisk::open(&folder)?;
    let another = disk.another_handle().map_err(StorageError::Disk)?;
    let opening = Opening {
        cluster: config.cluster.clone(),
        node: id,
        voters: config.node_ids(),
        first_start: FirstStart::Refused,
        incarnation: Incarnation(0),
        segment_sizes: SegmentSizes::default(),
    };
    let (mut storage, recovered) = Storage::open(disk, &opening)?;
    if last_of(&recovered) != survivor.last {
        return Err(Failure::refused("nothing was done: the node was started meanwhile"));
    }
    let random = getrandom::u64().map_err(Failure::refused)?;
    // No founding but the first has the number 0, and none the largest.
    let founding = Founding(random.clamp(1, u64::MAX - 1));
    let entry = make_cluster_of_one(&mut storage, another, &recovered, survivor.own, founding)?;
    writeln!(
        out,
        "{id} is a cluster of one now, by entry {entry}, founding {founding}.\n\
         Next: start it as always; it leads within a second, and has what it had.\n\
         Then, for each node that is to join it: empty its folder, start it with --join, and\n\
         raftkv-client add ID PEER CLIENT."
    )?;
    Ok(Verdict::Good)
}

/// Makes this node the only voter: durably, when this returns. `another` is a handle of the same disk.
pub fn make_cluster_of_one<D: Disk>(
    storage: &mut Storage<D>,
    another: D,
    recovered: &Recovered,
    own: Member,
    founding: Founding,
) -> Result<EntryId, Failure> {
    let Identity { node: id, incarnation, .. } = *storage.identity();
    let term = recovered.hard_state.term.next();
    // Whatever asked for anything before keeps its number, also if that was not committed.
    let named = recovered.entries.iter().filter_map(|entry| entry.configuration.as_deref());
    let of_snapshot = recovered.snapshot.iter().map(|meta| &meta.configuration);
    let lives = named.chain(of_snapshot).map(|known| known.lives).max().unwrap_or(0) + 1;
    let life = Some(lives);
    let members = [(id, Member { incarnation: Some(incarnation), life, ..own })].into();
    let configuration =
        Configuration { voters: [id].into(), members, lives, founding, ..Configuration::default() };
    let entry = Entry {
        term,
        index: last_of(recovered).index.next(),
        request: None,
        command: Command::configuration(),
        configuration: Some(Arc::new(configuration.clone())),
    };
    let last = entry.id();
    // What might be refused comes first.
    let store = apply_all(storage, recovered, &entry)?;
    let meta = SnapshotMeta { last, applied_hash: store.applied_hash(), configuration };
    let hard_state = Some(HardState { term, voted_for: Some(id) });
    let write = || -> Result<(), StorageError> {
        storage.save(&Output { hard_state, ..Output::default() })?;
        let view = store.view();
        let mut writer =
            SnapshotWriter::begin(another, &storage.identity().cluster, &meta, view.head().lines)?;
        view.lines().try_for_each(|line| writer.write(&line))?;
        writer.finish()?;
        // It is done, and a start would do the rest as well: all but that others may join with new folders.
        storage.compact(last)?;
        storage.restart_log(last, &[])?;
        storage.forget_peers(|_| true)?;
        if !storage.may_vote() {
            storage.allow_vote()?;
        }
        Ok(())
    };
    write().map(|()| last).map_err(|error| Failure::Fault(format!("{error}; recover again")))
}

/// What the whole log leads to, this entry included.
fn apply_all<D: Disk>(
    storage: &mut Storage<D>,
    recovered: &Recovered,
    entry: &Entry,
) -> Result<KvStore, Failure> {
    let mut store = KvStore::new();
    if let Some(SnapshotMeta { last, .. }) = recovered.snapshot
        && let Some(mut reader) = storage.open_snapshot(last)?
    {
        (_, store) = read_content(&mut reader, |_| {})?;
    }
    for entry in recovered.entries.iter().chain([entry]) {
        if let Applied::Unknown { op } = store.apply(entry) {
            let id = entry.id();
            return Err(Failure::refused(format!(
                "nothing was done: entry {id} is a {op:?}, which this version does not know"
            )));
        }
    }
    Ok(store)
}

fn last_of(recovered: &Recovered) -> EntryId {
    recovered.entries.last().map_or(recovered.base, Entry::id)
}

/// Asks for the cluster's name: nobody types that by mistake.
fn confirm(cluster: &str, out: &mut impl Write) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let why = "nothing was done: standard input is no terminal to ask at; say --yes-i-may-lose-writes";
        return Err(Failure::refused(why));
    }
    write!(out, "Type the cluster's name to go on: ")?;
    out.flush()?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    match typed.trim() == cluster {
        true => Ok(()),
        false => Err(Failure::refused(format!("nothing was done: that is not {cluster:?}"))),
    }
}

impl Survivor {
    /// Looks at the folder, without changing it.
    fn find(config: &Config, id: NodeId, folder: &std::path::Path) -> Result<Survivor, Failure> {
        let (_, inspection) = inspect::open(folder)?;
        let Inspection { identity, log, damage, .. } = &inspection;
        if let Some(damage) = damage.first() {
            return Err(Failure::refused(format!(
                "{}; recover another node that is left",
                damage.without_advice()
            )));
        }
        let (Some(identity), Some(log), Some(members)) = (identity, log, inspection.members()) else {
            return Err(Failure::refused(format!("{}: this node has no log yet", folder.display())));
        };
        if (&identity.cluster, identity.node) != (&config.cluster, id) {
            let (found, cluster) = (identity.node, &identity.cluster);
            let why = format!("{}: expected {id} of cluster {:?}", folder.display(), config.cluster);
            return Err(Failure::refused(format!("{why}, found {found} of cluster {cluster:?}")));
        }
        let last = log.entries.last().map_or(log.base, Entry::id);
        if last == EntryId::NONE {
            return Err(Failure::refused(format!("{}: this node knows of nothing", folder.display())));
        }
        let address = |node: &NodeConfig| (node.peer.clone(), node.client.clone());
        let known = members.configuration.members.get(&id);
        let (peer, client) = config
            .node(id)
            .map(address)
            .or_else(|| known.map(|member| (member.peer.clone(), member.client.clone())))
            .ok_or_else(|| Failure::refused(format!("nothing says where {id} can be reached")))?;
        Ok(Survivor {
            id,
            own: Member::at(peer, client),
            cluster: identity.cluster.clone(),
            hard_state: log.hard_state,
            last,
            members: members.configuration,
        })
    }

    /// What it means, for people.
    fn warning(&self, folder: &str) -> String {
        let Survivor { id, cluster, hard_state, last, members, .. } = self;
        let HardState { term, .. } = hard_state;
        let (index, last_term) = (last.index, last.term);
        [
            format!("{folder}: {id} of cluster {cluster:?}, term {term}, last entry {last}, which is"),
            format!("index {index} of term {last_term}. Members by its log: {members}."),
            String::new(),
            format!(
                "recover makes {id} a cluster of one. Only when a majority of the voters is lost for good."
            ),
            "- LOST is every write, acknowledged or not, that is not in this log: the lost nodes may"
                .to_owned(),
            format!("  have had some after index {index}, or others in place of its last ones. Look at the"),
            "  other nodes that are left with raftkv-server inspect, and recover the one whose last"
                .to_owned(),
            "  entry is highest: first by term, then by index.".to_owned(),
            "- KEPT is all of this log: also what was never acknowledged, or was answered `unavailable`."
                .to_owned(),
            "- No other old node may come back with its data. Empty their folders; then they join as"
                .to_owned(),
            "  new ones.\n\n".to_owned(),
        ]
        .join("\n")
    }
}
