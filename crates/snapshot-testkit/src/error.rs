//! Errors of the testkit: the operation, on what, the cause.

use std::io;
use std::path::{Path, PathBuf};

/// What went wrong in the testkit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KitError {
    /// A file-system operation.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// The operation, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A database operation.
    #[error("cannot {op} the database {}", path.display())]
    Sqlite {
        /// The operation, as a verb.
        op: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A repository operation.
    #[error("cannot {op} the repository {}", path.display())]
    Git {
        /// The operation, as a verb.
        op: &'static str,
        /// The repository.
        path: PathBuf,
        /// Why not.
        #[source]
        source: git2::Error,
    },
    /// A program that failed.
    #[error("`{command}` failed: {stderr}")]
    Command {
        /// The command.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// A value that breaks what the testkit itself made.
    #[error("{what} of {}: {why}", path.display())]
    Broken {
        /// What is broken.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// A stream of a NATS server.
    #[cfg(feature = "nats")]
    #[error("cannot {op} the stream {stream}")]
    Nats {
        /// The operation, as a verb.
        op: &'static str,
        /// The stream.
        stream: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A writer that died.
    #[error("a writer ended: {0}")]
    Writer(String),
}

impl KitError {
    pub(crate) fn io(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { op, path: path.to_owned(), source }
    }

    pub(crate) fn sql(op: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { op, path: path.to_owned(), source }
    }

    pub(crate) fn git(op: &'static str, path: &Path) -> impl FnOnce(git2::Error) -> Self {
        move |source| Self::Git { op, path: path.to_owned(), source }
    }

    pub(crate) fn broken(what: &'static str, path: &Path, why: impl Into<String>) -> Self {
        Self::Broken { what, path: path.to_owned(), why: why.into() }
    }
}
