//! What can go wrong on disk, each with one clear line that names the file and says what to do.
//!
//! Nothing here is ever tried again. Before the node runs, every one of these refuses the start (exit status
//! 2); while it runs, a disk fault ends the process (exit status 1). [`StorageError::is_disk_fault`] tells
//! the two families apart.

use crate::types::NodeId;
use std::fmt::{self, Write};
use std::io;
use std::path::PathBuf;

/// What an operator does about a damaged folder: said once here, because every kind of damage ends with it.
const REPAIR: &str = "restore this node's folder from a copy taken after the node last stopped, or \
                      remove the node from the cluster and add it afresh with an empty folder; do not edit \
                      or delete lines";

/// One operation of the operating system on a file failed.
#[derive(Debug)]
pub struct DiskFault {
    /// What was tried, as in "cannot `write to` file".
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the operating system said.
    pub error: io::Error,
}

impl fmt::Display for DiskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk fault: cannot {} {}: {}", self.action, self.path.display(), self.error)
    }
}

/// Why the storage cannot be opened, or can no longer be used. `Display` is one line for the operator.
#[derive(Debug)]
pub enum StorageError {
    /// The operating system refused an operation.
    Disk(DiskFault),
    /// An earlier call failed. The state of the files is unknown since then, so nothing is written any more.
    GivenUp,
    /// Another process holds the folder.
    Locked {
        /// The data folder.
        folder: PathBuf,
    },
    /// Nothing is in the folder, and nobody said that this is a new cluster's first start.
    Empty {
        /// The data folder.
        folder: PathBuf,
    },
    /// A folder that must be empty is not.
    NotEmpty {
        /// The folder.
        folder: PathBuf,
        /// Something in it.
        name: String,
    },
    /// Nothing in the folder is a node's.
    NoNode {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder belongs to another cluster.
    OtherCluster {
        /// The file that says so.
        path: PathBuf,
        /// The cluster that it belongs to.
        found: String,
        /// The cluster that `cluster.toml` names.
        expected: String,
    },
    /// The folder belongs to another node.
    OtherNode {
        /// The file that says so.
        path: PathBuf,
        /// The node that it belongs to.
        found: NodeId,
        /// The node that was started.
        expected: NodeId,
    },
    /// `cluster.toml` names other nodes than the cluster was made of.
    OtherVoters {
        /// The file that says so.
        path: PathBuf,
        /// The voters on disk.
        found: Vec<NodeId>,
        /// The voters in `cluster.toml`.
        expected: Vec<NodeId>,
    },
    /// A file holds something that this program never leaves there, not even when it is killed while writing.
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// The damaged line, counted from 1.
        line: usize,
        /// What should stand there, and what does.
        expected: String,
    },
    /// The file was written by a version with another format.
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The format that it says it has.
        found: u64,
    },
    /// A file that must exist, as others tell, does not.
    Missing {
        /// The missing file, or what its name begins with.
        path: PathBuf,
        /// How its absence is known.
        because: String,
    },
}

impl StorageError {
    /// Whether the disk failed: exit status 1 when it happens while running. Everything else, and this too at
    /// start, is a refusal to start: exit status 2.
    pub fn is_disk_fault(&self) -> bool {
        match self {
            StorageError::Disk(_) | StorageError::GivenUp => true,
            StorageError::Locked { .. }
            | StorageError::Empty { .. }
            | StorageError::NoNode { .. }
            | StorageError::NotEmpty { .. }
            | StorageError::OtherCluster { .. }
            | StorageError::OtherNode { .. }
            | StorageError::OtherVoters { .. }
            | StorageError::Damaged { .. }
            | StorageError::UnknownFormat { .. }
            | StorageError::Missing { .. } => false,
        }
    }

    /// What is wrong, without the advice for a node's folder: for a file that is in none.
    pub fn without_advice(&self) -> String {
        let text = self.to_string();
        text.strip_suffix(REPAIR).map_or(&*text, |text| text.trim_end_matches("; ")).to_owned()
    }

    /// The file or folder that it is about.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            StorageError::Disk(DiskFault { path, .. })
            | StorageError::Locked { folder: path }
            | StorageError::Empty { folder: path }
            | StorageError::NoNode { folder: path }
            | StorageError::NotEmpty { folder: path, .. }
            | StorageError::OtherCluster { path, .. }
            | StorageError::OtherNode { path, .. }
            | StorageError::OtherVoters { path, .. }
            | StorageError::Damaged { path, .. }
            | StorageError::UnknownFormat { path, .. }
            | StorageError::Missing { path, .. } => Some(path.clone()),
            StorageError::GivenUp => None,
        }
    }
}

impl From<DiskFault> for StorageError {
    fn from(fault: DiskFault) -> StorageError {
        StorageError::Disk(fault)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StorageError::Disk(fault) => fmt::Display::fmt(fault, f),
            StorageError::GivenUp => {
                write!(
                    f,
                    "disk fault: storage was given up after an earlier fault; nothing is written any more"
                )
            }
            StorageError::Locked { folder } => {
                write!(f, "{}: another process uses this data folder; stop it first", folder.display())
            }
            StorageError::Empty { folder } => write!(
                f,
                "{}: the data folder is empty. The first start of a node of a NEW cluster needs --bootstrap. \
                 A node that lost its disk must not use --bootstrap, because it may have voted and \
                 acknowledged writes that it no longer knows of: start it with --rejoin. A node that is new \
                 in a cluster that runs needs --join",
                folder.display()
            ),
            StorageError::NotEmpty { folder, name } => write!(
                f,
                "{}: expected an empty folder, found {}; if a restore was cut short here, empty the folder \
                 and restore again",
                folder.display(),
                Shown(name)
            ),
            StorageError::NoNode { folder } => write!(
                f,
                "{}: expected the folder of a node, with identity.json in it, found none of a node's files",
                folder.display()
            ),
            StorageError::OtherCluster { path, found, expected } => write!(
                f,
                "{}: expected cluster {expected:?}, found cluster \"{}\"; give this node its own --data-dir",
                path.display(),
                Shown(found)
            ),
            StorageError::OtherNode { path, found, expected } => write!(
                f,
                "{}: expected the data of {expected}, found that of {found}; check --id and --data-dir",
                path.display()
            ),
            StorageError::OtherVoters { path, found, expected } => write!(
                f,
                "{}: this cluster was made of {}, but cluster.toml names {}; set cluster.toml back \
                 (editing it does not change who votes)",
                path.display(),
                Names(found),
                Names(expected)
            ),
            StorageError::Damaged { path, line, expected } => {
                let expected = Shown(expected);
                write!(f, "{}, line {line}: damaged: expected {expected}; {REPAIR}", path.display())
            }
            StorageError::UnknownFormat { path, found } => write!(
                f,
                "{}: expected format {}, found format {found}; start the version of raftkv that wrote it",
                path.display(),
                super::FORMAT
            ),
            StorageError::Missing { path, because } => {
                let (path, because) = (path.to_string_lossy(), Shown(because));
                write!(f, "{}: this file is missing, because {because}; {REPAIR}", Shown(&path))
            }
        }
    }
}

impl std::error::Error for StorageError {}

/// Shows a text that quotes what stands in a file: whatever that is, it moves no cursor, forges no second
/// line, and leaves room for the rest.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX_CHARACTERS: usize = 400;
        for (position, letter) in self.0.chars().enumerate() {
            if position == MAX_CHARACTERS {
                return f.write_char('…');
            }
            if letter.is_control() { write!(f, "{}", letter.escape_debug())? } else { f.write_char(letter)? }
        }
        Ok(())
    }
}

/// Shows nodes as `n1 n2 n3`.
struct Names<'a>(&'a [NodeId]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, node) in self.0.iter().enumerate() {
            let space = if position == 0 { "" } else { " " };
            write!(f, "{space}{node}")?;
        }
        Ok(())
    }
}
