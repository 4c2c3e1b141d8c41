//! Errors of this crate: the operation, the path, the cause.

use std::path::{Path, PathBuf};

use snapshot_core::{ErrorKind, Interrupted, ParseError, PortError};
use snapshot_fs::FsError;

/// What went wrong with an agent's memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoresError {
    /// The layout finds none of its parts.
    #[error("nothing found for agent \"{agent}\"; looked at {}", list(looked))]
    UnknownAgent {
        /// The agent.
        agent: String,
        /// Every path of its layout.
        looked: Vec<PathBuf>,
    },
    /// The memdir changed while a restore kept its present state.
    #[error("{} kept changing while its present state was being kept", path.display())]
    Moved {
        /// The memdir.
        path: PathBuf,
    },
    /// A database stayed locked past the time allowed.
    #[error("{} stayed locked for {waited_ms} ms", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// How long we waited, in milliseconds.
        waited_ms: u128,
    },
    /// SQLite refused an operation.
    #[error("cannot {op} {}", path.display())]
    Sqlite {
        /// The operation, as a verb.
        op: &'static str,
        /// The database.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// A linked SQLite library that can lose acknowledged writes.
    #[error(
        "SQLite {version} has the WAL-reset bug (fixed in 3.51.3); refusing to open live databases"
    )]
    SqliteTooOld {
        /// Its version.
        version: String,
    },
    /// Something that we do not work with, by decision.
    #[error("{}: {why}", path.display())]
    Refused {
        /// The thing.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// Something that cannot be redacted; nothing that holds it may be shipped.
    #[error("{what} cannot be redacted: {why}")]
    Unredactable {
        /// The artifact, or the part of it.
        what: String,
        /// Why, and what choices there are.
        why: String,
    },
    /// A store that other agents use too.
    #[error("store {store} ({}) is shared with {}", path.display(), agents.join(", "))]
    SharedStore {
        /// The store.
        store: String,
        /// Its file.
        path: PathBuf,
        /// The other agents, as far as found.
        agents: Vec<String>,
    },
    /// A bundle whose content is not what its manifest or its format says.
    #[error("{artifact}: {why}")]
    Integrity {
        /// The artifact, or the live thing, concerned.
        artifact: String,
        /// What is wrong.
        why: String,
    },
    /// Too little free space.
    #[error("{} needs {needed_bytes} bytes free and has {free_bytes}", at.display())]
    NoSpace {
        /// A folder on the file system.
        at: PathBuf,
        /// Bytes needed.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// An interrupted restore that somebody must decide.
    #[error("an interrupted restore of snapshot {from} is pending: {why}")]
    RecoveryPending {
        /// The snapshot that was being restored.
        from: String,
        /// What differs from both its old and its new state.
        why: String,
    },
    /// A restore stopped after its first change; its recovery finishes it.
    #[error("the restore stopped half-way and will be finished by its recovery")]
    Unfinished {
        /// What stopped it.
        #[source]
        source: Box<StoresError>,
    },
    /// The restore journal is not one of ours.
    #[error("the restore journal {} is unreadable: {why}", path.display())]
    Journal {
        /// Its path.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file-system layer.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Another layer.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A name that is not valid.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The caller stopped the operation.
    #[error("stopped while {doing}")]
    Interrupted {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Interrupted,
    },
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
    /// A commit or a path that the snapshot's history does not have.
    #[error("{why}")]
    NotInHistory {
        /// What was looked for, and what there is.
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
    /// Two names, apart in a bundle, that the file system takes for one.
    #[error("cannot restore into {}: {one:?} and {other:?} are one name there", folder.display())]
    Twins {
        /// The memdir.
        folder: PathBuf,
        /// A path in it, or a ref.
        one: String,
        /// The other.
        other: String,
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
            Self::UnknownAgent { .. } => ErrorKind::UnknownAgent,
            Self::NotInHistory { .. } => ErrorKind::UnknownSnapshot,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Sqlite { source, .. } => sqlite_kind(source),
            Self::SqliteTooOld { .. }
            | Self::Refused { .. }
            | Self::Unredactable { .. }
            | Self::SharedStore { .. } => ErrorKind::Refused,
            Self::Integrity { .. } => ErrorKind::Integrity,
            Self::NoSpace { .. } => ErrorKind::Io,
            Self::RecoveryPending { .. } | Self::Unfinished { .. } | Self::Journal { .. } => {
                ErrorKind::RecoveryPending
            }
            Self::Fs(e) => e.kind(),
            Self::Port(e) => e.kind,
            Self::Parse(e) => e.kind(),
            Self::Interrupted { source, .. } => source.kind(),
            // As a bundle's reader says of damage.
            Self::Io { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                ErrorKind::Integrity
            }
            Self::Io { .. } | Self::Git { .. } => ErrorKind::Io,
            Self::GitUnsupported { .. }
            | Self::GitOwner { .. }
            | Self::GitObjectTooLarge { .. }
            | Self::InTheWay { .. }
            | Self::Target { .. }
            | Self::Twins { .. } => ErrorKind::Refused,
            Self::Moved { .. }
            | Self::GitVanished { .. }
            | Self::GitUnstable { .. }
            | Self::GitLocked { .. } => ErrorKind::Busy,
            Self::GitObject { .. }
            | Self::GitBundle { .. }
            | Self::BadPath { .. }
            | Self::Staged { .. } => ErrorKind::Integrity,
        }
    }

    /// Whether it is a repository's own fault, and all else of a memory may be well.
    #[must_use]
    pub fn is_about_git(&self) -> bool {
        // What the operating system refused (a full disk) is no repository's fault.
        if let Self::Git { source, .. } = self {
            return source.class() != git2::ErrorClass::Os;
        }
        matches!(
            self,
            Self::GitUnsupported { .. }
                | Self::GitObjectTooLarge { .. }
                | Self::GitVanished { .. }
                | Self::GitObject { .. }
                | Self::GitBundle { .. }
        )
    }

    /// Whether the repository changed under the capture: cut again.
    #[must_use]
    pub fn is_git_vanished(&self) -> bool {
        matches!(self, Self::GitVanished { .. } | Self::GitUnstable { .. })
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

    pub(crate) fn sqlite(op: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite { op, path: path.to_owned(), source }
    }

    pub(crate) fn refused(path: &Path, why: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), why: why.into() }
    }

    pub(crate) fn integrity(artifact: impl ToString, why: impl Into<String>) -> Self {
        Self::Integrity { artifact: artifact.to_string(), why: why.into() }
    }

    /// Whether somebody else works on it, and trying again can help.
    pub(crate) fn is_busy(&self) -> bool {
        self.kind() == ErrorKind::Busy
    }
}

fn sqlite_kind(error: &rusqlite::Error) -> ErrorKind {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => ErrorKind::Busy,
        // The plain error is what a file gets that SQLite cannot make sense of: a format or a schema that
        // this release does not know.
        Some(Code::DatabaseCorrupt | Code::NotADatabase | Code::Unknown) => ErrorKind::Integrity,
        Some(
            Code::ReadOnly
            | Code::CannotOpen
            | Code::PermissionDenied
            | Code::DiskFull
            | Code::SystemIoFailure,
        ) => ErrorKind::Io,
        Some(Code::OperationInterrupted) => ErrorKind::Interrupted,
        _ => ErrorKind::Internal,
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
