//! Freeze an agent's memory at one instant, seal it into one verifiable file, put it back whole.
//!
//! [`local_fs::Engine`] is the blocking engine; [`snapshotter::MemorySnapshotter`] is its async edge,
//! which `LocalFsSnapshotter` (feature `tokio`, on by default) runs on tokio's blocking threads. The
//! other modules re-export the layers: what is asked, reported and plugged in.
//!
//! Without the feature `local` (on by default) there are the types, the traits and the events, and
//! neither SQLite nor git is linked: [`process::ProcessSnapshotter`] then speaks the same trait over the
//! program `nexo-memory`.
//!
//! Invariants: the terminal and the environment are not known here; every error has a stable
//! [`error::ErrorKind`]; a snapshot is in the vault whole or not at all.
//!
//! ```
//! use std::sync::Arc;
//! use nexo_memory_snapshot::id::{AgentId, Tenant};
//! use nexo_memory_snapshot::local_fs::Engine;
//! use nexo_memory_snapshot::ports::Control;
//! use nexo_memory_snapshot::request::{SnapshotRef, SnapshotRequest};
//!
//! let dir = tempfile::tempdir()?;
//! // An agent: one database of its own, written to by whoever.
//! let memory = dir.path().join("long_term.sqlite");
//! rusqlite::Connection::open(&memory)?
//!     .execute_batch("CREATE TABLE facts (text); INSERT INTO facts VALUES ('water is wet')")?;
//!
//! let home = dir.path().to_owned();
//! let layouts = move |_: &Tenant, _: &AgentId| Some((home.join("memdir"), home.clone()));
//! let engine =
//!     Engine::builder().root(dir.path().join("vault")).layouts(Arc::new(layouts)).build()?;
//!
//! let (ana, tenant, control) =
//!     (AgentId::from_static("ana"), Tenant::default(), Control::default());
//! let taken = engine.snapshot(&SnapshotRequest::cli(ana.clone(), tenant.clone()), &control)?;
//!
//! assert_eq!(engine.list(&tenant, Some(&ana))?.snapshots[0].id, taken.id);
//! let latest = engine.resolve(&tenant, Some(&ana), &SnapshotRef::Latest(0))?;
//! assert!(engine.verify(&latest, &control)?.is_good());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "local")]
mod adapters;
#[cfg(feature = "tokio")]
mod blocking;
#[cfg(feature = "local")]
mod builder;
#[cfg(feature = "local")]
pub mod config;
#[cfg(feature = "local")]
mod engine;
pub mod error;
#[cfg(feature = "local")]
mod hooks;
#[cfg(feature = "local")]
pub mod keys;
#[cfg(feature = "local")]
pub mod metrics;
pub mod process;
pub mod snapshotter;

#[cfg(feature = "local")]
pub use adapters::{AutoSnapshots, PreDreamSnapshotAdapter};
#[cfg(feature = "local")]
pub use hooks::{ShellHooks, ShellQuiesce};

/// Names of agents, tenants, snapshots and stores.
pub mod id {
    pub use snapshot_core::{
        AgentId, CreatedBy, GitOid, Sha256Digest, SnapshotId, StoreName, Tenant,
    };
}

/// What a bundle holds.
pub mod manifest {
    pub use snapshot_core::{
        Artifact, ArtifactKind, Attestation, BUNDLE_FORMAT, BundlePath, EncryptionInfo, GitInfo,
        GitRef, GitStash, MANIFEST_VERSION, Manifest, ManifestCapture, NotCarried, SqliteInfo,
        TreeEntry, TreeEntryKind, UnstableFile, path_in_bundle,
    };
}

/// What is known of a snapshot without opening its bundle.
pub mod meta {
    pub use snapshot_core::{CaptureInfo, SchemaVersions, Sidecar, SnapshotMeta, StoreCapture};
}

/// What is asked for.
pub mod request {
    pub use snapshot_core::{
        DecryptionIdentity, DiffRequest, DiffScope, DiffSide, Encryption, EncryptionKey,
        ExportForm, ExportRequest, GitPath, PathInside, RestoreRequest, RestoreTarget, Secret,
        SnapshotRef, SnapshotRequest,
    };
}

/// What counts as a secret, and what is done about it.
pub mod redaction {
    #[cfg(feature = "local")]
    pub use crate::engine::ScanRequest;
    #[cfg(feature = "local")]
    pub use snapshot_bundle::redact::{AllowConfig, RuleConfig, RuleError, Rules, RulesConfig};
    pub use snapshot_core::{
        GitHistory, RedactionOptions, RedactionPolicy, RedactionReceipt, RedactionReport,
        SecretFinding, SecretSpan, SecretsReport,
    };
}

/// Where an agent keeps its memory.
pub mod layout {
    pub use snapshot_core::{MemoryLayout, StateLayout, StateSource};
}

/// What operations report.
pub mod report {
    pub use snapshot_core::{
        Cell, CellDifference, Change, CommitDifference, Damage, Difference, FileDifference,
        FileSide, GitFileDifference, GitSummary, Hunk, Inside, ListProblem, Listing, NotCompared,
        ProblemKind, RestoreReport, RetentionTickReport, RowCounts, RowDifference, SignatureReport,
        SignatureStatus, SnapshotDiff, SqliteSummary, StateDifference, StateSummary, VerifyReport,
    };
}

/// What a restore would do.
pub mod plan {
    pub use snapshot_core::{
        Bytes, FilePlan, GitPlan, RestorePlan, SpaceNeed, StoreAction, StorePlan,
    };
}

/// Which snapshots to keep.
pub mod retention {
    pub use snapshot_retention::{
        Budget, Calendar, Candidate, Entry, Health, Keeper, Plan, Policy, Reason, RetentionConfig,
        RetentionWorker, plan,
    };
    #[cfg(feature = "local")]
    pub use snapshot_vault::Note;
}

/// What happens to an agent's memory, told to others.
pub mod events {
    #[cfg(feature = "nats")]
    pub use snapshot_events::nats;
    pub use snapshot_events::{
        Digests, Envelope, EventId, EventPublisher, FanOut, Fault, Flushed, JsonlTranscript,
        LIFECYCLE_SUBJECT_PREFIX, LifecycleEvent, MAX_KEY_BYTES, MUTATION_SUBJECT_PREFIX,
        MemoryMutationPublisher, Message, MutationEvent, MutationOp, MutationScope, NoopPublisher,
        Overflow, QueueOptions, QueueStats, QueuedPublisher, RecordingPublisher, TracingPublisher,
        Transport, TransportError,
    };
    #[cfg(feature = "mutation-source")]
    pub use snapshot_events::{
        MutationSource, MutationSourceError, MutationSourceOptions, MutationSourceStats,
        MutationTables,
    };
}

/// What a host plugs in, and the handle that steers an operation.
pub mod ports {
    #[cfg(feature = "local")]
    pub use crate::builder::{ClosureResolver, DefaultPathResolver};
    pub use snapshot_core::{
        Clock, Control, IdSource, Interrupted, PathResolver, PortError, Progress, Quiesce,
        RandomIds, StateKind, StateProvider, Step, SystemClock,
    };
    #[cfg(feature = "local")]
    pub use snapshot_fs::DurableFs;
}

/// The engine over a vault on the local file system.
#[cfg(feature = "local")]
pub mod local_fs {
    #[cfg(feature = "tokio")]
    pub use crate::blocking::LocalFsSnapshotter;
    pub use crate::builder::EngineBuilder;
    pub use crate::engine::{
        AgentStatus, DoctorReport, Engine, Extracted, Finding, FindingKind, ImportRequest,
        Imported, PlannedRestore, Recovery, RecoveryOutcome, StatusFinding, below,
    };
    pub use snapshot_core::{ListProblem, Listing, ProblemKind};
    pub use snapshot_stores::{Decision, limit_heap as limit_sqlite_heap};
}
