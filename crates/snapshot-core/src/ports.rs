//! The ports: traits through which the layers meet and callers plug in their own parts.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::digest::Sha256Digest;
use crate::error::ErrorKind;
use crate::id::{AgentId, SnapshotId, Tenant};
use crate::layout::MemoryLayout;
use crate::manifest::{Artifact, ArtifactKind, Manifest};
use crate::path::BundlePath;

/// An error that crosses a port.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// What a caller can act on.
    pub kind: ErrorKind,
    /// What was being done, to which path or id.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A file about to be written into a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where it will lie.
    pub path: BundlePath,
    /// What it is.
    pub kind: ArtifactKind,
    /// Exact length in bytes; a source that gives fewer or more fails the bundle.
    pub size_bytes: u64,
    /// Permission bits, for what came from a file.
    pub mode: Option<u32>,
    /// Modification time in nanoseconds since the epoch, for what came from a file.
    pub mtime_ns: Option<i64>,
}

/// Where captured memory goes: a bundle being written.
pub trait ArtifactSink {
    /// Writes one file; reads `content` exactly once, front to back.
    ///
    /// # Errors
    /// If the content cannot be read, has another length, or cannot be written.
    fn put_file(&mut self, spec: FileSpec, content: &mut dyn Read) -> Result<Artifact, PortError>;

    /// Writes a folder or a symbolic link.
    ///
    /// # Errors
    /// If it cannot be written.
    fn put_entry(&mut self, artifact: &Artifact) -> Result<(), PortError>;
}

/// Where memory is read from: a bundle, read by several threads at once.
pub trait ArtifactSource: Sync {
    /// What it holds.
    fn manifest(&self) -> &Manifest;

    /// A reader over one artifact's content. It checks length and digest again while it is read,
    /// and fails at the end of content that is not the manifest's.
    ///
    /// # Errors
    /// If there is no such artifact or the bundle cannot be read.
    fn open(&self, path: &BundlePath) -> Result<Box<dyn Read + '_>, PortError>;
}

/// A source all of whose content was read and found whole: what a restore takes.
pub trait VerifiedSource: ArtifactSource {}

/// A piece of runtime state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateKind {
    /// The extractor's cursor.
    ExtractCursor,
    /// The last dream run.
    DreamRun,
}

/// Runtime state kept by a host rather than in files that the layout names.
pub trait StateProvider: Send + Sync {
    /// The JSON text of this piece now, or none where there is none. Called while writers are held:
    /// it must be quick and must not write to a captured store, and changes nothing itself. What it gave
    /// and got back it gives again byte for byte, for a recovery compares.
    ///
    /// # Errors
    /// Any: it fails the snapshot.
    fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, PortError>;

    /// Puts a piece back, or removes it for `None`. Must be idempotent: a recovery may repeat it. Of a
    /// crafted bundle `json` may be no JSON: it is refused, and nothing changes, or kept as it is.
    ///
    /// # Errors
    /// Any: the restore stays pending and is repeated by its recovery.
    fn restore(&self, kind: StateKind, json: Option<&[u8]>) -> Result<(), PortError>;
}

/// Finds an agent's memory.
pub trait PathResolver: Send + Sync {
    /// The layout of an agent, or none where it is not known.
    fn layout(&self, tenant: &Tenant, agent: &AgentId) -> Option<MemoryLayout>;

    /// Other agents whose layout is known, for the refusal to restore a database that they share.
    fn agents(&self) -> Vec<(Tenant, AgentId)> {
        Vec::new()
    }
}

/// Pauses an agent around the cut, for application-level consistency.
pub trait Quiesce: Send + Sync {
    /// Whether there is a way to pause this agent; where not, it is neither paused nor resumed.
    fn knows(&self, agent: &AgentId) -> bool {
        let _ = agent;
        true
    }

    /// Pauses the agent; must return within `deadline`.
    ///
    /// # Errors
    /// Any: the operation fails, and [`Quiesce::resume`] is called.
    fn pause(&self, agent: &AgentId, deadline: Duration) -> Result<(), PortError>;

    /// Lets the agent go on. Always called after `pause`, even where that failed, and on panic.
    fn resume(&self, agent: &AgentId);
}

/// The time, injected so that tests can fix it.
pub trait Clock: Send + Sync {
    /// Milliseconds since the epoch, UTC.
    fn now_ms(&self) -> i64;
}

/// Ids for new snapshots, injected so that tests can fix them.
pub trait IdSource: Send + Sync {
    /// An id that was never given before.
    fn next_id(&self) -> SnapshotId;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Random ids.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl PortError {
    /// An error with a cause.
    pub fn new(
        kind: ErrorKind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(source.into()) }
    }

    /// An error without one.
    pub fn plain(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }
}

impl FileSpec {
    /// The artifact that this file became.
    #[must_use]
    pub fn into_artifact(self, sha256: Sha256Digest) -> Artifact {
        Artifact {
            path: self.path,
            kind: self.kind,
            size_bytes: self.size_bytes,
            sha256,
            mode: self.mode,
            mtime_ns: self.mtime_ns,
            link: None,
            sqlite: None,
        }
    }
}

impl StateKind {
    /// Both pieces.
    pub const ALL: [Self; 2] = [Self::ExtractCursor, Self::DreamRun];

    /// Its path in a bundle.
    #[must_use]
    pub const fn bundle_path(self) -> &'static str {
        match self {
            Self::ExtractCursor => crate::manifest::path_in_bundle::EXTRACT_CURSOR,
            Self::DreamRun => crate::manifest::path_in_bundle::DREAM_RUN,
        }
    }

    /// Its artifact kind.
    #[must_use]
    pub const fn artifact_kind(self) -> ArtifactKind {
        match self {
            Self::ExtractCursor => ArtifactKind::StateExtractCursor,
            Self::DreamRun => ArtifactKind::StateDreamRun,
        }
    }

    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExtractCursor => "extract_cursor",
            Self::DreamRun => "dream_run",
        }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        // Before the epoch or after year 292 million: no clock that we can work with.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|d| i64::try_from(d.as_millis()).ok())
            .unwrap_or_default()
    }
}

impl IdSource for RandomIds {
    fn next_id(&self) -> SnapshotId {
        SnapshotId::new_random()
    }
}

/// Two folders per agent are a layout too: the classic one.
impl<F> PathResolver for F
where
    F: Fn(&Tenant, &AgentId) -> Option<(PathBuf, PathBuf)> + Send + Sync,
{
    fn layout(&self, tenant: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        let (memdir, sqlite_dir) = self(tenant, agent)?;
        let sqlite_dir: &Path = &sqlite_dir;
        Some(MemoryLayout::classic(memdir, sqlite_dir, sqlite_dir))
    }
}
