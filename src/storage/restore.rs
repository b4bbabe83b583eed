//! Makes the folder of a node of a new cluster from a snapshot that comes from elsewhere.
//!
//! ```text
//!   snapshot-41-3.jsonl        its content; the new cluster's name and members
//!   log-000001-from-42.jsonl   whole after 41@3, in term 3, without an entry
//!   identity.json              last: from here on it is a node's folder
//! ```
//!
//! Each name is durable before the next one appears. So after a crash the folder counts as empty (drafts
//! only), or it has all, or it lacks `identity.json`, which refuses a start and another restore alike.

use super::disk::Disk;
use super::error::StorageError;
use super::identity::Identity;
use super::log_file::LogFile;
use super::snapshot::SnapshotMeta;
use super::snapshot_writer::SnapshotWriter;
use super::{Opening, is_draft, remove_drafts};

/// Makes the folder of the node that `opening` speaks of, whose first configuration is that of `meta`. There
/// must be nothing in it but what a crash has left of an earlier attempt: drafts. The node's first start goes
/// on from there; durable when this returns.
///
/// # Panics
/// When there are not as many lines of content as announced.
pub fn restore<D: Disk>(
    mut disk: D,
    opening: &Opening,
    meta: &SnapshotMeta,
    announced: usize,
    lines: impl Iterator<Item = Result<String, StorageError>>,
) -> Result<(), StorageError> {
    let names = disk.list()?;
    if let Some(name) = names.iter().find(|name| !is_draft(name)) {
        return Err(StorageError::NotEmpty { folder: disk.path(""), name: name.clone() });
    }
    remove_drafts(&mut disk, &names)?;
    let mut writer = SnapshotWriter::begin(disk.another_handle()?, &opening.cluster, meta, announced)?;
    for line in lines {
        writer.write(&line?)?;
    }
    writer.finish()?;
    let mut identity = Identity::new(opening);
    let log = LogFile::create_after(&mut disk, &identity, meta.last, opening.segment_sizes)?;
    identity.newest_segment = log.newest_segment();
    identity.save(&mut disk)?;
    Ok(())
}
