//! Reads a snapshot to its end, and makes sure that it is that of a store.

use crate::kv::{Added, KvStore, StoreBuilder};
use crate::storage::{OpenFile, SnapshotReader, StorageError};
use serde::Serialize;

/// What a snapshot has in it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Content {
    pub keys: usize,
    pub sessions: usize,
}

impl Content {
    fn of(store: &KvStore) -> Content {
        Content { keys: store.key_count(), sessions: store.session_count() }
    }
}

/// Reads a snapshot from its first line to its end. Fails when it is not sound, or a line is none that a
/// store would write. `progress` hears how many bytes were read.
pub(super) fn read_content<F: OpenFile>(
    reader: &mut SnapshotReader<F>,
    mut progress: impl FnMut(u64),
) -> Result<(Content, KvStore), StorageError> {
    let mut builder = None;
    while let Some(line) = reader.next() {
        let line = line?;
        if builder.is_none() {
            builder = begin(reader);
        }
        if let Some(Added::Invalid { why }) = builder.as_mut().map(|builder| builder.line(&line)) {
            let expected = format!("a line that a store would write, found one with a flaw: {why}");
            return Err(reader.damaged(expected));
        }
        progress(reader.read_bytes());
    }
    let store = builder.or_else(|| begin(reader)).map(StoreBuilder::finish).unwrap_or_default();
    Ok((Content::of(&store), store))
}

/// The store that its first line speaks of, once that was read.
fn begin<F: OpenFile>(reader: &SnapshotReader<F>) -> Option<StoreBuilder> {
    let meta = &reader.announced()?.meta;
    Some(StoreBuilder::new(meta.last, meta.applied_hash))
}
