//! Locks on refs, which libgit2 takes while it sets them: a process that is killed meanwhile leaves them, and git
//! would wait for ever.
//!
//! So the git folder says first that a restore is about to lock refs: a symbolic link whose target names it, as in
//! the lock on the index. What is locked then, and still is after a while, nobody holds.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use snapshot_core::SnapshotId;
use snapshot_fs::{Dir, FileType, FsError, Stat};

use super::lock::marker;
use crate::StoresError;

/// Name of the link in the git folder.
const MARK: &str = "nexo-memory-refs";
/// How long a lock of git's may be held: as long as git waits for one (`core.packedRefsTimeout`; for
/// others it waits a tenth).
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
    match git.symlink(&marker(id), MARK) {
        Err(FsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    git.sync()?;
    let done = work();
    // Whatever came of it, libgit2 has given its locks back.
    git.unlink(MARK)?;
    done
}

/// Removes what a dead run of restore `id` locked.
pub(super) fn break_dead(git: &Dir, common: &Dir, id: SnapshotId) -> Result<(), StoresError> {
    match git.stat(MARK)? {
        Some(stat) if stat.file_type == FileType::Symlink => {}
        _ => return Ok(()),
    }
    if git.read_link(MARK)? != marker(id) {
        return Ok(());
    }
    let before = locks(git, common)?;
    if !before.is_empty() {
        thread::sleep(GRACE);
    }
    for (dir, name, stat) in before {
        if dir.stat(&name)?.is_some_and(|now| now.same_version(&stat)) {
            dir.unlink(&name)?;
        }
    }
    Ok(git.unlink(MARK)?)
}

/// A lock that is there now, for people.
pub(super) fn first(git: &Dir, common: &Dir) -> Option<PathBuf> {
    let found = locks(git, common).ok()?;
    found.first().map(|(dir, name, _)| dir.path().join(name))
}

fn locks(git: &Dir, common: &Dir) -> Result<Vec<Lock>, StoresError> {
    let mut found = Vec::new();
    for dir in [git, common] {
        for name in AT_TOP {
            note(dir, OsStr::new(name), &mut found)?;
        }
    }
    let mut folders = match common.sub("refs") {
        Err(e) if e.is_not_found() => Vec::new(),
        refs => vec![refs?],
    };
    while let Some(folder) = folders.pop() {
        for entry in folder.entries()? {
            let stat = folder.stat(&entry.name)?;
            if stat.is_some_and(|stat| stat.file_type == FileType::Dir) {
                folders.push(folder.sub(&entry.name)?);
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
