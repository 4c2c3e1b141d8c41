//! Errors of this layer: the operation, the path, the cause.

use std::io;
use std::path::{Path, PathBuf};

use snapshot_core::{ErrorKind, Interrupted};

/// What went wrong in the file-system layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FsError {
    /// The operating system refused an operation.
    #[error("cannot {op} {}{}", path.display(), if_link(source))]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A path that would leave its folder, or leads through a symbolic link.
    #[error("{} leads out of {}", path.display(), root.display())]
    Escape {
        /// The path.
        path: PathBuf,
        /// The folder.
        root: PathBuf,
    },
    /// A file larger than its reader allows.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Another process held a lock past the time allowed.
    #[error("another process holds {} (waited {waited_ms} ms)", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// How long we waited, in milliseconds.
        waited_ms: u128,
    },
    /// The caller stopped a wait.
    #[error("stopped while waiting for {}", path.display())]
    Interrupted {
        /// What was waited for.
        path: PathBuf,
        /// Why.
        #[source]
        source: Interrupted,
    },
}

impl FsError {
    /// What a caller can act on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Escape { .. } | Self::TooLarge { .. } => ErrorKind::Integrity,
            Self::Locked { .. } => ErrorKind::Concurrent,
            Self::Interrupted { source, .. } => source.kind(),
        }
    }

    /// Whether the operating system said that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Wraps what the operating system said: `op` is a verb, as in "cannot write".
    pub fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, path: path.to_owned(), source }
    }

    pub(crate) fn os(op: &'static str, path: &Path) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { op, path: path.to_owned(), source: errno.into() }
    }
}

/// The system's words for a link that was not to be followed speak of too many.
fn if_link(source: &io::Error) -> &'static str {
    match source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        true => ", which is a symbolic link, and none is followed",
        false => "",
    }
}
