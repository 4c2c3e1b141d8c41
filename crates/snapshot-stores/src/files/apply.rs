//! Moving staged content into place: idempotent, so that a recovery can repeat it from any point.

use snapshot_core::mutants::holds;
use snapshot_core::{BundlePath, Control, RowCounts, SnapshotId};
use snapshot_fs::{Dir, FileType, FsError, Meta};

use super::ours::staging_name;
use super::stage::{live_stat, owner_of, staged_name};
use super::state::{FileFingerprint, FileKind, FileTarget, hash};
use super::walk::{is_gone, locate};
use crate::StoresError;

/// Mode of a folder while it is filled, and where the bundle does not say one.
const FOLDER_MODE: u32 = 0o700;

/// What [`apply`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilesApplied {
    /// Entries added, changed and removed by the whole restore, first try included.
    pub counts: RowCounts,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// Brings the memory files to what `targets` say, from the content that [`super::stage`] put beside
/// them: removes, makes folders, renames files and links into place, then sets the folders' modes
/// and times, and makes it durable. Removes the staging folder at the end.
///
/// # Errors
/// [`StoresError::Staged`] where staged content is missing that is not in place either, and what the
/// file system refuses; the call can then be repeated.
pub fn apply(
    memdir: &Dir,
    targets: &[FileTarget],
    id: SnapshotId,
) -> Result<FilesApplied, StoresError> {
    let mut apply = Apply { memdir, staging: staging(memdir, id)?, notes: Vec::new() };
    // Deepest first: a folder is empty before its turn comes.
    for target in targets.iter().rev() {
        apply.make_room(target)?;
    }
    for (index, target) in targets.iter().enumerate() {
        apply.place(index, target)?;
    }
    for target in targets.iter().rev() {
        apply.finish_folder(target)?;
    }
    // Names, modes and times of files and folders alike, with one wait for the disk.
    memdir.sync_fs()?;
    memdir.remove_tree(staging_name(id))?;
    memdir.sync()?;
    Ok(FilesApplied { counts: count(targets), notes: apply.notes })
}

/// The first file or link that [`apply`] could not bring back any more: nothing is staged for it, for it was to stay or
/// was moved into place before, and the live one is another by now.
///
/// # Errors
/// What the file system refuses.
pub fn irretrievable<'t>(
    memdir: &Dir,
    targets: &'t [FileTarget],
    id: SnapshotId,
) -> Result<Option<&'t BundlePath>, StoresError> {
    let staging = staging(memdir, id)?;
    for (index, target) in targets.iter().enumerate() {
        let Some(after) = target.after.as_ref().filter(|after| after.kind != FileKind::Dir) else {
            continue;
        };
        if is_staged(staging.as_ref(), index)? {
            continue;
        }
        let is_there = match locate(memdir, &target.path) {
            Err(StoresError::Fs(e)) if is_gone(&e) => false,
            found => is_in_place(&found?.0, &target.path, after)?,
        };
        if !is_there {
            return Ok(Some(&target.path));
        }
    }
    Ok(None)
}

struct Apply<'a> {
    memdir: &'a Dir,
    staging: Option<Dir>,
    notes: Vec<String>,
}

impl Apply<'_> {
    /// Removes what is not to be, or is of another type than it is to be.
    fn make_room(&mut self, target: &FileTarget) -> Result<(), StoresError> {
        let Some(stat) = live_stat(self.memdir, &target.path)? else { return Ok(()) };
        let stays = target.after.as_ref().is_some_and(|a| a.kind.is_type(stat.file_type));
        if stays {
            return Ok(());
        }
        let (dir, name) = locate(self.memdir, &target.path)?;
        if stat.file_type != FileType::Dir {
            dir.unlink(&name)?;
        } else if let Err(e) = dir.remove_dir(&name) {
            if !is_not_empty(&e) || target.after.is_some() {
                return Err(e.into());
            }
            self.notes.push(format!("{} stays: something new lies in it", target.path));
            return Ok(());
        }
        Ok(())
    }

    fn place(&mut self, index: usize, target: &FileTarget) -> Result<(), StoresError> {
        let Some(after) = &target.after else { return Ok(()) };
        match after.kind {
            FileKind::Dir => self.make_folder(target),
            _ if target.is_written() => self.move_in(index, &target.path, after),
            _ => self.set_meta(&target.path, after),
        }
    }

    fn make_folder(&mut self, target: &FileTarget) -> Result<(), StoresError> {
        if target.before.as_ref().is_some_and(|before| before.kind == FileKind::Dir) {
            return Ok(());
        }
        let (dir, name) = locate(self.memdir, &target.path)?;
        if dir.stat(&name)?.is_none() {
            dir.create_dir(&name, FOLDER_MODE)?;
        }
        // Also where an earlier try made it, and died before this.
        let owner = owner_of(&dir.stat_self()?);
        if dir.stat(&name)?.is_some_and(|made| owner_of(&made) != owner) {
            dir.set_meta(&name, Meta { owner: Some(owner), ..Meta::default() })?;
        }
        Ok(())
    }

    fn move_in(
        &mut self,
        index: usize,
        path: &BundlePath,
        after: &FileFingerprint,
    ) -> Result<(), StoresError> {
        let (dir, name) = locate(self.memdir, path)?;
        let staged = staged_name(index);
        let staging = match &self.staging {
            Some(staging) if is_staged(Some(staging), index)? => staging,
            // Moved by an earlier try.
            _ if is_in_place(&dir, path, after)? => return Ok(()),
            _ => {
                let why = "it is gone, and the live file is another";
                return Err(StoresError::Staged { path: path.to_string(), why });
            }
        };
        staging.rename(&staged, &dir, &name)?;
        Ok(())
    }

    /// Sets mode and time of an entry whose content stays.
    fn set_meta(&mut self, path: &BundlePath, after: &FileFingerprint) -> Result<(), StoresError> {
        let (dir, name) = locate(self.memdir, path)?;
        let Some(now) = dir.stat(&name)? else {
            let why = "the live file that was to stay is gone";
            return Err(StoresError::Staged { path: path.to_string(), why });
        };
        let meta = Meta {
            owner: None,
            mode: after.mode.filter(|&mode| mode != now.mode),
            mtime_ns: after.mtime_ns.filter(|&mtime| mtime != now.mtime_ns),
        };
        if meta != Meta::default() {
            dir.set_meta(&name, meta)?;
        }
        Ok(())
    }

    fn finish_folder(&mut self, target: &FileTarget) -> Result<(), StoresError> {
        match &target.after {
            Some(after) if after.kind == FileKind::Dir => self.set_meta(&target.path, after),
            _ => Ok(()),
        }
    }
}

/// What is staged, where anything is.
fn staging(memdir: &Dir, id: SnapshotId) -> Result<Option<Dir>, FsError> {
    match memdir.sub(staging_name(id)) {
        Err(e) if e.is_not_found() => Ok(None),
        opened => opened.map(Some),
    }
}

/// Whether content is staged for the target of this number.
fn is_staged(staging: Option<&Dir>, index: usize) -> Result<bool, FsError> {
    staging.map_or(Ok(false), |dir| Ok(dir.stat(staged_name(index))?.is_some()))
}

/// Whether a file or link without staged content is what it is to be.
fn is_in_place(dir: &Dir, path: &BundlePath, after: &FileFingerprint) -> Result<bool, StoresError> {
    let name = path.as_path().file_name().unwrap_or_default();
    let found = match dir.stat(name)?.map(|stat| stat.file_type) {
        Some(FileType::Symlink) => {
            use std::os::unix::ffi::OsStringExt as _;
            Some(FileKind::Symlink { target: dir.read_link(name)?.into_vec() })
        }
        Some(FileType::File) => {
            Some(hash(&dir.open_file(name)?, &dir.path().join(name), &Control::default())?)
        }
        _ => None,
    };
    Ok(holds(found.as_ref() == Some(&after.kind)))
}

fn count(targets: &[FileTarget]) -> RowCounts {
    let mut counts = RowCounts::default();
    for target in targets {
        match (&target.before, &target.after) {
            (None, Some(_)) => counts.added += 1,
            (Some(_), None) => counts.removed += 1,
            (Some(before), Some(after)) if before.kind != after.kind => counts.changed += 1,
            _ => {}
        }
    }
    counts
}

fn is_not_empty(e: &FsError) -> bool {
    matches!(e, FsError::Io { source, .. }
        if matches!(source.kind(), std::io::ErrorKind::DirectoryNotEmpty
            | std::io::ErrorKind::AlreadyExists))
}
