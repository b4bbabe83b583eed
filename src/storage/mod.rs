//! Log, term and vote on disk.
