//! The memdir's repository (skeleton).
use crate::StoresError;
use serde::{Deserialize, Serialize};
use snapshot_core::{Control, GitInfo, GitPlan, NotCarried, SnapshotId};
use snapshot_fs::Dir;
use std::io::{Read, Write};
use std::path::Path;
/// An open repository.
pub struct GitRepo {
    pub(crate) repo: git2::Repository,
}
/// What a repository was at the pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedGit {
    /// Head, refs, stash, shallow list; without the head's subject, author and time.
    pub info: GitInfo,
    /// Refs that cannot be carried.
    pub not_carried: Vec<NotCarried>,
}
/// What [`write_bundle`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitBundle {
    /// The manifest's part.
    pub info: GitInfo,
    /// Whether anything was written: git has no bundle without refs.
    pub written: bool,
    /// Merge state, staged-only content, tree entries that a restore refuses.
    pub not_carried: Vec<NotCarried>,
}
/// Before and after, for the restore journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitTargets {
    /// None where there was no repository.
    pub before: Option<GitInfo>,
    /// What the bundle holds.
    pub after: GitInfo,
}
/// How far an interrupted restore got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitProgress {
    /// Untouched.
    Before,
    /// Done.
    After,
    /// Some refs as before, the others as after.
    Between,
    /// Somebody worked on it since.
    Other,
}
/// Opens the memdir's repository, none where it has none. Before the gates close.
pub fn open(memdir: &Path) -> Result<Option<GitRepo>, StoresError> {
    todo!("{memdir:?}")
}
impl GitRepo {
    /// Head, refs, stash: quick, while the gates are closed.
    pub fn pin(&self) -> Result<PinnedGit, StoresError> {
        todo!("{:?}", self.repo.path())
    }
}
/// Writes a git bundle of everything pinned.
pub fn write_bundle(
    repo: &GitRepo,
    pinned: &PinnedGit,
    out: &mut dyn Write,
    max_object_bytes: u64,
    control: &Control,
) -> Result<GitBundle, StoresError> {
    let _ = (repo, pinned, out, max_object_bytes, control);
    todo!()
}
/// Whether a bundle with this `GitInfo` has a git bundle artifact.
pub fn has_bundle(info: &GitInfo) -> bool {
    todo!("{info:?}")
}
/// Checks an untrusted git bundle and unpacks it into the empty folder `into`.
pub fn stage(
    bundle: Option<&mut dyn Read>,
    info: &GitInfo,
    into: &Dir,
    max_object_bytes: u64,
    control: &Control,
) -> Result<(), StoresError> {
    let _ = (bundle, info, into, max_object_bytes, control);
    todo!()
}
/// What a restore changes.
pub fn plan(now: Option<&PinnedGit>, info: &GitInfo) -> (GitPlan, GitTargets) {
    todo!("{now:?}{info:?}")
}
/// Puts a staged repository into place; may be repeated after a crash.
pub fn apply(
    memdir: &Dir,
    staged: &Dir,
    targets: &GitTargets,
    id: SnapshotId,
    control: &Control,
) -> Result<(), StoresError> {
    let _ = (memdir, staged, targets, id, control);
    todo!()
}
/// How far an interrupted restore got.
pub fn progress(memdir: &Path, targets: &GitTargets) -> Result<GitProgress, StoresError> {
    todo!("{memdir:?}{targets:?}")
}
