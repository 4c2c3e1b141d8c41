//! Errors of the vault. Its file-system errors pass through: they name operation and path already.

use std::path::PathBuf;

use snapshot_core::{AgentId, ErrorKind, ParseError, SnapshotId};
use snapshot_fs::FsError;

/// What went wrong in the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file-system layer failed, or a lock was not to be had.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// There is no such snapshot.
    #[error("there is no snapshot {id} of agent {agent} in {}", folder.display())]
    UnknownSnapshot {
        /// The snapshot asked for.
        id: SnapshotId,
        /// The agent.
        agent: AgentId,
        /// Where it would lie.
        folder: PathBuf,
    },
    /// A sidecar that cannot be read as one, or would not fit.
    #[error("the summary {} is not usable", path.display())]
    Sidecar {
        /// The sidecar's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A sidecar that speaks of another snapshot, agent or tenant than its place says.
    #[error("the summary {} says that it is of {found}", path.display())]
    Foreign {
        /// The sidecar's file.
        path: PathBuf,
        /// What it says, `<tenant>/<agent>/<id>`.
        found: String,
    },
    /// Notes that are none.
    #[error("the notes {} cannot be read, so nothing is deleted that they may forbid: {why}; mend the file, or move it away and pin anew", path.display())]
    Notes {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Notes that a newer program wrote.
    #[error("the notes {} cannot be read, so nothing is deleted that they may forbid", path.display())]
    NewerNotes {
        /// The file.
        path: PathBuf,
        /// Both versions.
        #[source]
        source: ParseError,
    },
    /// A sidecar without its bundle.
    #[error("the bundle {} is missing", path.display())]
    BundleMissing {
        /// Where it would lie.
        path: PathBuf,
    },
    /// A bundle whose size is not the one in its summary.
    #[error("{} has {found} bytes, its summary says {expected}", path.display())]
    BundleSize {
        /// The bundle's file.
        path: PathBuf,
        /// Bytes in the summary.
        expected: u64,
        /// Bytes on disk.
        found: u64,
    },
    /// Something lies where a snapshot was to be published.
    #[error("{} is in the way of a new snapshot", path.display())]
    Taken {
        /// What lies there.
        path: PathBuf,
    },
    /// A file that was to be published does not lie in its staging folder.
    #[error("{} does not lie in the staging folder {}", path.display(), staging.display())]
    NotStaged {
        /// The file.
        path: PathBuf,
        /// The folder.
        staging: PathBuf,
    },
    /// A live target of which the identity, and so its lock, cannot be told.
    #[error("cannot tell which file {} is", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl VaultError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::UnknownSnapshot { .. } => ErrorKind::UnknownSnapshot,
            Self::Sidecar { source, .. } | Self::NewerNotes { source, .. } => source.kind(),
            Self::Notes { .. }
            | Self::Foreign { .. }
            | Self::BundleMissing { .. }
            | Self::BundleSize { .. } => ErrorKind::Integrity,
            Self::Taken { .. } => ErrorKind::Refused,
            Self::NotStaged { .. } => ErrorKind::Internal,
            Self::Target { .. } => ErrorKind::Io,
        }
    }
}
