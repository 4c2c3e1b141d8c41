//! Locks on refs, which libgit2 takes while it sets them: a process that is killed meanwhile leaves them, and nobody
//! could set those refs any more.
//!
//! So the git folder says first that a restore is about to lock refs: a symbolic link whose target names it, as in
//! the lock on the index. What was locked since, and still is after a while, is taken for its own. A git process that
//! locks a ref after the crash and keeps it for longer than that would lose its lock.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use snapshot_core::SnapshotId;
use snapshot_core::mutants::off;
use snapshot_fs::{Dir, FileType, Stat};

use super::lock::{marker, ours};
use crate::StoresError;

/// Name of the link in the git folder.
const MARK: &str = "nexo-memory-refs";
/// How long a lock is left alone: the longest that git waits for one before it gives up
/// (`core.packedRefsTimeout`; for those of refs it waits a tenth).
const GRACE: Duration = Duration::from_secs(1);
/// Ending of a lock's name.
const LOCK: &[u8] = b".lock";
/// Locks beside those below `refs`.
const AT_TOP: [&str; 2] = ["HEAD.lock", "packed-refs.lock"];

/// A lock: its folder, its name, and which one it is.
type Lock = (Dir, std::ffi::OsString, Stat);

/// Runs `work`, which locks refs for restore `id`.
pub(super) fn announced<T>(
    git: &Dir,
    id: SnapshotId,
    work: impl FnOnce() -> Result<T, StoresError>,
) -> Result<T, StoresError> {
    refuse_foreign(git)?;
    if git.stat(MARK)?.is_some() {
        // Of another restore, whose locks nobody can tell any more.
        git.unlink(MARK)?;
    }
    git.symlink(&marker(id), MARK)?;
    git.sync()?;
    let done = work();
    // Whatever came of it, libgit2 has given its locks back.
    let gone = git.unlink(MARK);
    let done = done?;
    gone?;
    Ok(done)
}

/// What lies at our mark's name and is no link is not ours, and stays.
pub(super) fn refuse_foreign(git: &Dir) -> Result<(), StoresError> {
    match git.stat(MARK)? {
        Some(stat) if stat.file_type != FileType::Symlink => Err(StoresError::GitUnsupported {
            path: git.path().join(MARK),
            why: "it lies where a restore must put a mark; move it away".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Removes what a dead run of restore `id` locked.
pub(super) fn break_dead(git: &Dir, common: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    let Some(mark) = ours(git, MARK, id)? else { return Ok(()) };
    let mut since = locks(git, common)?;
    since.retain(|(_, _, lock)| lock.mtime_ns >= mark.mtime_ns);
    if !since.is_empty() {
        thread::sleep(GRACE);
    }
    for (dir, name, stat) in since {
        if dir.stat(&name)?.is_some_and(|now| now.same_version(&stat)) {
            dir.unlink(&name)?;
        }
    }
    Ok(git.unlink(MARK)?)
}

/// What somebody has locked, or left locked, cannot be set.
pub(super) fn refuse_held(git: &Dir, common: &Dir) -> Result<(), StoresError> {
    match first(git, common)?.filter(|_| !off()) {
        Some(path) => Err(StoresError::GitLocked { path }),
        None => Ok(()),
    }
}

/// A lock that is there now.
pub(super) fn first(git: &Dir, common: &Dir) -> Result<Option<PathBuf>, StoresError> {
    Ok(locks(git, common)?.first().map(|(dir, name, _)| dir.path().join(name)))
}

fn locks(git: &Dir, common: &Dir) -> Result<Vec<Lock>, StoresError> {
    let mut found = Vec::new();
    for dir in [git, common] {
        for name in AT_TOP {
            note(dir, OsStr::new(name), &mut found)?;
        }
    }
    let mut folders = vec![PathBuf::from("refs")];
    while let Some(path) = folders.pop() {
        // One that went meanwhile holds nothing; where a link leads to is not looked at.
        let Ok(folder) = common.sub(&path) else { continue };
        for entry in folder.entries()? {
            let stat = folder.stat(&entry.name)?;
            if stat.is_some_and(|stat| stat.file_type == FileType::Dir) {
                folders.push(path.join(&entry.name));
            } else if entry.name.as_encoded_bytes().ends_with(LOCK) {
                note(&folder, &entry.name, &mut found)?;
            }
        }
    }
    Ok(found)
}

fn note(dir: &Dir, name: &OsStr, found: &mut Vec<Lock>) -> Result<(), StoresError> {
    let stat = dir.stat(name)?.filter(|stat| stat.file_type == FileType::File);
    found.extend(stat.map(|stat| (dir.clone(), name.to_owned(), stat)));
    Ok(())
}
