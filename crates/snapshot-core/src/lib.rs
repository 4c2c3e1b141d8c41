//! What a snapshot of an AI agent's memory *is*: ids, manifest, requests, reports, error kinds and
//! the ports through which the layers meet.
//!
//! This crate knows no file format, no database, no runtime and no terminal. Wire types keep the
//! JSON names of `docs/wire.md`; every string that becomes a path or a subject is a parsed newtype.
//!
//! ```
//! use snapshot_core::{AgentId, BundlePath, Manifest};
//! let agent: AgentId = "ana".parse()?;
//! assert!("../ana".parse::<AgentId>().is_err());
//! assert!(BundlePath::parse("memory_files/../../etc/passwd").is_err());
//! assert_eq!(agent.as_str(), "ana");
//! # Ok::<(), snapshot_core::ParseError>(())
//! ```

mod control;
mod diff;
mod difference;
mod digest;
mod error;
mod id;
mod inside;
mod layout;
mod listing;
mod manifest;
mod manifest_v1;
mod meta;
#[doc(hidden)]
pub mod mutants;
mod path;
mod plan;
mod ports;
mod redaction;
mod report;
mod request;
mod secret;
mod text;

pub use control::{Control, Interrupted, Progress, Step};
pub use diff::{GitSummary, NotCompared, RowCounts, SnapshotDiff, SqliteSummary, StateSummary};
pub use difference::{
    Cell, CellDifference, Change, CommitDifference, Difference, FileDifference, FileSide,
    GitFileDifference, Hunk, RowDifference, StateDifference,
};
pub use digest::{Sha256Digest, root_digest};
pub use error::{ErrorKind, ParseError, error_chain};
pub use id::{AgentId, CLASSIC_STORES, CreatedBy, GitOid, SnapshotId, StoreName, Tenant};
pub use inside::{GitPath, PathInside, TreeEntry, TreeEntryKind};
pub use layout::{MemoryLayout, StateLayout, StateSource};
pub use listing::{ListProblem, Listing, ProblemKind};
pub use manifest::{
    Artifact, ArtifactKind, Attestation, BUNDLE_FORMAT, BUNDLE_FORMAT_V1, EncryptionInfo, GitInfo,
    GitRef, GitStash, MANIFEST_VERSION, MAX_ARTIFACTS, MAX_LISTED, MAX_MANIFEST_BYTES, Manifest,
    ManifestCapture, NotCarried, Provenance, RedactionReceipt, RedactionReport, SqliteInfo,
    UnstableFile, path_in_bundle, to_text,
};
pub use manifest_v1::{ArtifactV1, ManifestV1};
pub use meta::{BundleFile, CaptureInfo, SchemaVersions, Sidecar, SnapshotMeta, StoreCapture};
pub use path::{BundlePath, MAX_PATH_BYTES};
pub use plan::{Bytes, FilePlan, GitPlan, RestorePlan, SpaceNeed, StoreAction, StorePlan};
pub use ports::{
    ArtifactSink, ArtifactSource, Clock, FileSpec, IdSource, PathResolver, PortError, Quiesce,
    RandomIds, StateKind, StateProvider, SystemClock, VerifiedSource,
};
pub use redaction::{
    FoundSecret, GitHistory, NameOf, RedactionOptions, RedactionPolicy, Redactor, SecretFinding,
    SecretPlace, SecretSearch, SecretSpan, SecretsReport,
};
pub use report::{
    Damage, Inside, RestoreReport, RetentionTickReport, SignatureReport, SignatureStatus,
    VerifyReport,
};
pub use request::{
    DecryptionIdentity, DiffRequest, DiffScope, DiffSide, Encryption, EncryptionKey, ExportForm,
    ExportRequest, RestoreRequest, RestoreTarget, SnapshotRef, SnapshotRequest,
};
pub use secret::Secret;
pub use text::{one_line, steers};
