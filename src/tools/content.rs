//! Reads a snapshot to its end, and makes sure that it is that of a store.

use crate::kv::{Added, StoreBuilder};
use crate::storage::{OpenFile, SnapshotReader, StorageError};
use serde::Serialize;

/// What a snapshot has in it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Content {
    pub keys: usize,
    pub sessions: usize,
}

/// Reads a snapshot from its first line to its end. Fails when it is not sound, or a line is none that a
/// store would write. `progress` hears how many bytes were read.
pub(super) fn read_content<F: OpenFile>(
    reader: &mut SnapshotReader<F>,
    mut progress: impl FnMut(u64),
) -> Result<Content, StorageError> {
    let mut builder = None;
    while let Some(line) = reader.next() {
        let line = line?;
        if builder.is_none() {
            let meta = reader.announced().map(|announced| &announced.meta);
            builder = meta.map(|meta| StoreBuilder::new(meta.last, meta.applied_hash));
        }
        if let Some(Added::Invalid { why }) = builder.as_mut().map(|builder| builder.line(&line)) {
            return Err(
                reader.damaged(format!("a line that a store would write, found one with a flaw: {why}"))
            );
        }
        progress(reader.read_bytes());
    }
    let store = builder.map(StoreBuilder::finish);
    Ok(store.map_or(Content::default(), |store| Content {
        keys: store.key_count(),
        sessions: store.session_count(),
    }))
}
