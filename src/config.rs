//! `cluster.toml`.
