//! Putting memory files back.
use super::walk::ListOptions;
use crate::StoresError;
use serde::{Deserialize, Serialize};
use snapshot_core::{
    ArtifactSource, Control, FilePlan, Manifest, RowCounts, Sha256Digest, SnapshotId,
};
use snapshot_fs::Dir;
use std::collections::{BTreeMap, BTreeSet};
/// The live memory files.
#[derive(Debug, Clone, Default)]
pub struct FilesState {
    /// By raw path.
    pub entries: BTreeMap<Vec<u8>, FileFingerprint>,
    /// Raw paths that a restore leaves alone.
    pub kept: BTreeSet<Vec<u8>>,
}
/// What an entry is, as far as a restore compares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFingerprint {
    /// Type and content.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Modification time, nanoseconds.
    pub mtime_ns: Option<i64>,
}
/// Type and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Digest of its content.
        sha256: Sha256Digest,
        /// Bytes.
        size: u64,
    },
    /// A folder.
    Dir,
    /// A link.
    Symlink {
        /// Raw target.
        target: Vec<u8>,
    },
}
/// One entry that a restore sees to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTarget {
    /// Raw path in the memdir.
    pub path: Vec<u8>,
    /// Before.
    pub before: Option<FileFingerprint>,
    /// After.
    pub after: Option<FileFingerprint>,
}
/// A plan.
#[derive(Debug, Clone, Default)]
pub struct FilesPlan {
    /// For people.
    pub plan: FilePlan,
    /// For the journal: every entry, changed or not.
    pub targets: Vec<FileTarget>,
    /// Bytes that staging needs.
    pub needed_bytes: u64,
    /// Worth knowing.
    pub notes: Vec<String>,
}
/// What apply did.
#[derive(Debug, Clone, Default)]
pub struct FilesApplied {
    /// Counted.
    pub counts: RowCounts,
    /// Worth knowing.
    pub notes: Vec<String>,
}
/// How far an interrupted restore got.
#[derive(Debug, Clone, Default)]
pub struct FilesProgress {
    /// Entries still as before.
    pub before: u64,
    /// Entries already as after.
    pub after: u64,
    /// Neither: somebody worked on them since.
    pub other: Vec<String>,
}
/// Reads and hashes the live files.
pub fn live_state(
    memdir: &Dir,
    options: &ListOptions,
    control: &Control,
) -> Result<FilesState, StoresError> {
    let _ = (memdir, options, control);
    todo!()
}
/// What a restore of `manifest` changes.
pub fn plan(live: &FilesState, manifest: &Manifest) -> Result<FilesPlan, StoresError> {
    let _ = (live, manifest);
    todo!()
}
/// Writes the new content beside the live files, in `.nexo-tmp-<id>/`.
pub fn stage(
    memdir: &Dir,
    source: &dyn ArtifactSource,
    targets: &[FileTarget],
    id: SnapshotId,
    control: &Control,
) -> Result<(), StoresError> {
    let _ = (memdir, source, targets, id, control);
    todo!()
}
/// Moves staged content into place; may be repeated after a crash.
pub fn apply(
    memdir: &Dir,
    targets: &[FileTarget],
    id: SnapshotId,
) -> Result<FilesApplied, StoresError> {
    let _ = (memdir, targets, id);
    todo!()
}
/// How far an interrupted restore got.
pub fn progress(live: &FilesState, targets: &[FileTarget]) -> FilesProgress {
    let _ = (live, targets);
    todo!()
}
/// Removes every `.nexo-tmp-*` at the memdir's root.
pub fn sweep(memdir: &Dir) -> Result<u64, StoresError> {
    let _ = memdir;
    todo!()
}
