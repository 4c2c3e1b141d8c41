//! git's own lock on the index, held by a restore: as long as it is there, no git command changes
//! the index or the working files.
//!
//! The lock is a symbolic link whose target names the restore: made in one step with what it says,
//! so that a recovery knows its own lock from a git process's.

use std::ffi::OsString;

use snapshot_core::SnapshotId;
use snapshot_core::mutants::{holds, off};
use snapshot_fs::{Dir, FileType, FsError, Stat};

use super::apply::sweep;
use super::open::{GitRepo, open};
use super::{ref_locks, refs};
use crate::StoresError;

/// Name of the lock in the git folder.
const LOCK: &str = "index.lock";
/// Start of the target of a lock of ours.
const MARKER: &str = "nexo-memory-restore-";

/// Takes the index lock of the memdir's repository, if it has one, for restore `id`. Holding it
/// already is fine. [`super::apply()`] takes and releases it too; taking it before anything is
/// committed tells early that git is busy.
///
/// # Errors
/// [`StoresError::GitLocked`] where a git process holds it or a lock on a ref, or left one behind;
/// [`StoresError::GitUnsupported`] where a ref is in the way of those that a restore sets.
pub fn lock(memdir: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    let Some(repo) = open(memdir.path())? else { return Ok(()) };
    let git = git_folder(memdir, &repo)?;
    let common = memdir.durable_fs().open_dir(repo.repo.commondir())?;
    // Found out only when the refs are set, it would leave new stores beside old refs.
    ref_locks::refuse_foreign(&git)?;
    refs::refuse_in_the_way(&repo)?;
    ref_locks::refuse_held(&git, &common)?;
    take(&git, id)
}

/// Releases the index lock, if restore `id` holds it, and clears away what it left half written in the
/// repository: where the restore is given up nobody else would.
///
/// # Errors
/// If it cannot be removed.
pub fn unlock(memdir: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    let Some(repo) = open(memdir.path())? else { return Ok(()) };
    let git = git_folder(memdir, &repo)?;
    let common = memdir.durable_fs().open_dir(repo.repo.commondir())?;
    // Also where somebody has removed the lock on the index by hand.
    ref_locks::break_dead(&git, &common, id)?;
    sweep(&git, &common)?;
    if holds(ours(&git, LOCK, id)?.is_some()) {
        git.unlink(LOCK)?;
        git.sync()?;
    }
    Ok(())
}

pub(super) fn take(git: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    if off() {
        return Ok(());
    }
    match git.symlink(&marker(id), LOCK) {
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            match holds(ours(git, LOCK, id)?.is_some()) {
                true => Ok(()),
                false => Err(StoresError::GitLocked { path: git.path().join(LOCK) }),
            }
        }
        taken => Ok(taken?),
    }
}

/// The git folder through the file-system layer.
pub(super) fn git_folder(memdir: &Dir, repo: &GitRepo) -> Result<Dir, StoresError> {
    Ok(memdir.durable_fs().open_dir(repo.repo.path())?)
}

/// The link at `name`, where it is one and says that it is of restore `id`.
pub(super) fn ours(git: &Dir, name: &str, id: SnapshotId) -> Result<Option<Stat>, StoresError> {
    match git.stat(name)? {
        Some(stat) if stat.file_type == FileType::Symlink => {
            Ok((git.read_link(name)? == marker(id)).then_some(stat))
        }
        _ => Ok(None),
    }
}

/// What a link of restore `id` says.
pub(super) fn marker(id: SnapshotId) -> OsString {
    format!("{MARKER}{id}").into()
}
