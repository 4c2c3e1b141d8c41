//! Errors of this crate: the operation, the path or id, the cause.

use std::path::PathBuf;

use snapshot_core::{ErrorKind, Interrupted, ParseError, PortError};
use snapshot_fs::FsError;

/// What went wrong while memory was captured or put back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoresError {
    /// The file-system layer failed.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A bundle or a port of the caller failed.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A name that may not stand in a bundle.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Plain reading failed.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The caller stopped the operation.
    #[error("stopped while {doing}")]
    Interrupted {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Interrupted,
    },
    /// libgit2 failed.
    #[error("cannot {op} in the repository {}", path.display())]
    Git {
        /// The operation, as a verb.
        op: &'static str,
        /// The repository.
        path: PathBuf,
        /// Why not.
        #[source]
        source: git2::Error,
    },
    /// A repository of a kind that a git bundle cannot carry or libgit2 cannot read.
    #[error("the repository {} cannot be captured or restored: {why}", path.display())]
    GitUnsupported {
        /// The repository.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// A repository that belongs to somebody else.
    #[error("{} belongs to user {owner}, not to user {expected}", path.display())]
    GitOwner {
        /// The repository.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
        /// Whose it should be.
        expected: u32,
    },
    /// An object larger than `git.max_object_bytes`, which libgit2 would hold in memory.
    #[error("git object {oid} has {size} bytes; git.max_object_bytes allows {limit}")]
    GitObjectTooLarge {
        /// The object.
        oid: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An object that was there at the pin is gone: a gc or a new history; the cut is to be retried.
    #[error("git object {oid} is missing in {}", path.display())]
    GitVanished {
        /// The repository.
        path: PathBuf,
        /// The object.
        oid: String,
    },
    /// Refs kept changing while they were read; the cut is to be retried.
    #[error("the refs of {} kept changing while they were read", path.display())]
    GitUnstable {
        /// The repository.
        path: PathBuf,
    },
    /// Another git process works on the repository, or left its lock behind.
    #[error("another git process holds {}", path.display())]
    GitLocked {
        /// The lock's file.
        path: PathBuf,
    },
    /// An object that cannot be parsed, or that no restore may put into a repository.
    #[error("git object {oid} in {} is not sound: {why}", path.display())]
    GitObject {
        /// The repository, or where the bundle was unpacked.
        path: PathBuf,
        /// The object.
        oid: String,
        /// What is wrong.
        why: String,
    },
    /// A git bundle that does not hold what it should.
    #[error("the git bundle is not sound: {why}")]
    GitBundle {
        /// What is wrong.
        why: String,
    },
    /// Something that no restore may replace stands where the bundle has something else.
    #[error("{path} is in the way: {why}")]
    InTheWay {
        /// Path in the memdir.
        path: String,
        /// What it is.
        why: String,
    },
    /// A path in the bundle that no restore may write.
    #[error("the bundle's {path:?} may not be written: {why}")]
    BadPath {
        /// Path in the memdir.
        path: String,
        /// Why not.
        why: &'static str,
    },
    /// A folder of the memdir that memory files cannot be renamed into.
    #[error("cannot restore into {}: {why}", path.display())]
    Target {
        /// The folder.
        path: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// Staged content that is not there any more or was changed.
    #[error("staged content for {path} is not what was staged: {why}")]
    Staged {
        /// Path in the memdir.
        path: String,
        /// What was found.
        why: &'static str,
    },
}

impl StoresError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Fs(e) => e.kind(),
            Self::Port(e) => e.kind,
            Self::Parse(e) => e.kind(),
            Self::Io { .. } | Self::Git { .. } => ErrorKind::Io,
            Self::Interrupted { source, .. } => source.kind(),
            Self::GitUnsupported { .. }
            | Self::GitOwner { .. }
            | Self::GitObjectTooLarge { .. }
            | Self::InTheWay { .. }
            | Self::Target { .. } => ErrorKind::Refused,
            Self::GitVanished { .. } | Self::GitUnstable { .. } | Self::GitLocked { .. } => {
                ErrorKind::Busy
            }
            Self::GitObject { .. }
            | Self::GitBundle { .. }
            | Self::BadPath { .. }
            | Self::Staged { .. } => ErrorKind::Integrity,
        }
    }

    pub(crate) fn io(
        op: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { op, path, source }
    }

    pub(crate) fn git(
        op: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(git2::Error) -> Self {
        let path = path.into();
        move |source| Self::Git { op, path, source }
    }

    pub(crate) fn stopped(doing: &'static str) -> impl FnOnce(Interrupted) -> Self {
        move |source| Self::Interrupted { doing, source }
    }
}
