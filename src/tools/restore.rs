//! `raftkv-server restore`: a new cluster from a backup.
//!
//! Every node of the new cluster is given the same snapshot, as if each had installed it from a leader, and
//! an empty log after it. They agree on everything up to there because it is one file: so they carry a
//! founding that is made of its checksum, and nodes from two files, or of the cluster that the backup is of,
//! have nothing to say to each other (`Founding`). The first term is that of the last entry; nobody has voted
//! in it.

use super::content::{Content, read_content};
use super::{Failure, NodeArguments, Verdict};
use crate::config::Config;
use crate::storage::{
    self, Announced, FileDisk, FirstStart, Opening, ReadableFile, SegmentSizes, SnapshotMeta, SnapshotReader,
    StorageError,
};
use crate::types::{Configuration, Founding, Incarnation, Member, NodeId};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write;
use std::path::PathBuf;

/// Make this node's folder from a backup, for a new cluster.
///
/// The cluster's name and its voters are those of cluster.toml; data, sessions and the last entry are those
/// of the backup. All nodes are restored from the same file; then they are started, without --bootstrap. The
/// folder must be empty.
///
/// Exit status: 0 done, 1 the disk failed (empty the folder and restore again), 2 refused: nothing was done.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What `raftkv-client backup FILE` has written, or a snapshot of a node's folder.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    node: NodeArguments,
}

/// A backup that was read to its end and is sound.
struct Backup {
    announced: Announced,
    content: Content,
    checksum: u64,
    founding: Founding,
}

pub(super) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Verdict, Failure> {
    let Arguments { file, node } = arguments;
    let (config, id) = node.load()?;
    if config.node(id).is_none() {
        let (path, known) = (node.config.display(), config.node_ids());
        return Err(Failure::refused(format!("{path}: there is no node with id {}, only {known:?}", id.0)));
    }
    let backup = verify(arguments)?;
    let folder = node.folder(&config);
    let random = getrandom::u64().map_err(Failure::refused)?;
    let opening = Opening {
        cluster: config.cluster.clone(),
        node: id,
        voters: config.node_ids(),
        first_start: FirstStart::Bootstrap,
        incarnation: Incarnation(random),
        segment_sizes: SegmentSizes::default(),
    };
    let Announced { cluster, meta, lines } = &backup.announced;
    let meta = SnapshotMeta { configuration: members(&config, backup.founding), ..meta.clone() };
    let announced = usize::try_from(*lines).map_err(Failure::refused)?;
    let disk = FileDisk::open(&folder)?;
    let mut reader = SnapshotReader::open_backup(file).map_err(StorageError::Disk)?;
    let bar = bar(&reader, "writing")?;
    let lines = std::iter::from_fn(|| {
        bar.set_position(reader.read_bytes());
        let line = reader.next();
        let is_another = line.is_none() && reader.checksum() != backup.checksum;
        if is_another { Some(Err(reader.damaged("the file that was verified".to_owned()))) } else { line }
    });
    storage::restore(disk, &opening, &meta, announced, lines).map_err(|error| {
        match error.is_disk_fault() {
            true => Failure::Fault(format!("{error}; empty the folder and restore again")),
            false => Failure::from(error),
        }
    })?;
    bar.finish_and_clear();
    let Content { keys, sessions } = backup.content;
    let (last, founding, voters) = (meta.last, backup.founding, &meta.configuration);
    writeln!(
        out,
        "{}: restored: {keys} keys and {sessions} sessions, up to entry {last} of cluster {cluster:?}.\n\
         It is {id} of the new cluster {:?}, {voters}, founding {founding}.\n\
         Next: restore each other node of it from this same file. Then start all of them, without \
         --bootstrap.",
        folder.display(),
        config.cluster,
    )?;
    if *cluster == config.cluster {
        writeln!(
            out,
            "The old cluster has the same name: make sure that none of its nodes is started any more."
        )?;
    }
    Ok(Verdict::Good)
}

/// Reads the whole file before anything is written.
fn verify(arguments: &Arguments) -> Result<Backup, Failure> {
    let mut reader = SnapshotReader::open_backup(&arguments.file).map_err(StorageError::Disk)?;
    let bar = bar(&reader, "verifying")?;
    let (content, _) = read_content(&mut reader, |bytes| bar.set_position(bytes))
        .map_err(|error| Failure::refused(format!("{}; nothing was restored", error.without_advice())))?;
    bar.finish_and_clear();
    let announced = reader.announced().cloned().ok_or_else(|| Failure::refused("the file is empty"))?;
    // No founding but the first has the number 0, and none the largest.
    let checksum = reader.checksum();
    let founding = Founding(checksum.clamp(1, u64::MAX - 1));
    Ok(Backup { announced, content, checksum, founding })
}

/// On a terminal it shows how far the file was read; elsewhere nothing.
fn bar(reader: &SnapshotReader<ReadableFile>, what: &'static str) -> Result<ProgressBar, StorageError> {
    let bar = ProgressBar::new(reader.size_bytes()?);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes} of {total_bytes}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    Ok(bar)
}

/// The voters are the nodes of `cluster.toml`.
fn members(config: &Config, founding: Founding) -> Configuration {
    let member = |node: &crate::config::NodeConfig| (node.id, Member::at(&node.peer, &node.client));
    let voters = config.nodes.iter().map(|node| node.id).collect::<std::collections::BTreeSet<NodeId>>();
    let members = config.nodes.iter().map(member).collect();
    Configuration { voters, members, founding, ..Configuration::default() }
}
