//! New content beside the live files, complete and durable before any of them changes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use sha2::{Digest as _, Sha256};
use snapshot_core::mutants::holds;
use snapshot_core::{
    ArtifactSource, BundlePath, Control, Sha256Digest, SnapshotId, Step, path_in_bundle,
};
use snapshot_fs::{Dir, FileType, Meta, Stat};

use super::ours::staging_name;
use super::state::{FileFingerprint, FileKind, FileTarget};
use super::twins::refuse_twins;
use super::walk::{is_gone, locate};
use crate::StoresError;

/// Bytes copied between two looks at the caller's control.
const CHUNK_BYTES: usize = 1 << 20;
/// Mode of a new file of which the bundle does not say one.
const DEFAULT_MODE: u32 = 0o600;

/// Name of the staged content of target number `index`.
pub(super) fn staged_name(index: usize) -> String {
    index.to_string()
}

/// Writes what `targets` need into `.nexo-tmp-<id>/` in the memdir, with the digests checked and the
/// final owner, mode and time set, and makes it durable. Changes nothing else.
///
/// # Errors
/// [`StoresError::Target`] where a folder cannot take the files: another file system, no rights.
/// [`StoresError::Twins`] where it takes two of the names for the same. What was staged stays for
/// [`super::unstage`].
pub fn stage(
    memdir: &Dir,
    source: &dyn ArtifactSource,
    targets: &[FileTarget],
    id: SnapshotId,
    control: &Control,
) -> Result<(), StoresError> {
    let name = staging_name(id);
    memdir.remove_tree(&name)?;
    memdir.create_dir(&name, 0o700)?;
    let staging = memdir.sub(&name)?;
    check_folders(memdir, &staging, targets)?;
    refuse_twins(memdir, &staging, targets)?;
    let size = |after: &FileFingerprint| match after.kind {
        FileKind::File { size, .. } => size,
        FileKind::Dir | FileKind::Symlink { .. } => 0,
    };
    let written = targets.iter().filter(|t| t.is_written()).filter_map(|t| t.after.as_ref());
    let total = written.map(size).fold(0, u64::saturating_add);
    let mut done: u64 = 0;
    for (index, target) in targets.iter().enumerate() {
        let Some(after) = target.after.as_ref().filter(|_| target.is_written()) else { continue };
        control.check().map_err(StoresError::stopped("staging the memory files"))?;
        stage_one(memdir, &staging, source, (index, &target.path), after, control)?;
        done = done.saturating_add(size(after));
        control.advance(Step::Stage, done, total);
    }
    // One sync for all: thousands of files would each wait for the disk.
    Ok(staging.sync_fs()?)
}

fn stage_one(
    memdir: &Dir,
    staging: &Dir,
    source: &dyn ArtifactSource,
    (index, path): (usize, &BundlePath),
    after: &FileFingerprint,
    control: &Control,
) -> Result<(), StoresError> {
    let name = staged_name(index);
    let replaced = live_stat(memdir, path)?.filter(|stat| after.kind.is_type(stat.file_type));
    let owner = match replaced {
        Some(stat) => (stat.uid, stat.gid),
        None => owner_of(&existing_folder(memdir, path)?.stat_self()?),
    };
    let mut meta = Meta { owner: None, mode: None, mtime_ns: after.mtime_ns };
    match &after.kind {
        FileKind::Dir => return Ok(()),
        FileKind::Symlink { target } => staging.symlink(OsStr::from_bytes(target), &name)?,
        FileKind::File { sha256, size } => {
            let mut file = staging.create_new(&name, DEFAULT_MODE)?;
            let inside = BundlePath::parse(path_in_bundle::MEMORY_FILES)?.join(path.as_bytes())?;
            let mut content = source.open(&inside)?;
            copy_checked(&mut content, &mut file, (*sha256, *size), path, control)?;
            meta.mode = after.mode.or(replaced.map(|stat| stat.mode));
        }
    }
    let made = staging.stat(&name)?.map(|stat| owner_of(&stat));
    meta.owner = (made != Some(owner)).then_some(owner);
    Ok(staging.set_meta(&name, meta)?)
}

fn copy_checked(
    content: &mut dyn Read,
    file: &mut snapshot_fs::DurableFile,
    (sha256, size): (Sha256Digest, u64),
    path: &BundlePath,
    control: &Control,
) -> Result<(), StoresError> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(size).unwrap_or(CHUNK_BYTES) + 1)];
    let mut done = 0;
    loop {
        control.check().map_err(StoresError::stopped("staging a memory file"))?;
        let got = match content.read(&mut chunk) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(StoresError::io("read from the bundle", path.as_path())(e)),
        };
        done += got as u64;
        if done > size {
            break;
        }
        hasher.update(&chunk[..got]);
        let at = file.path().to_owned();
        file.write_all(&chunk[..got]).map_err(StoresError::io("write", at))?;
    }
    let found = Sha256Digest::from_bytes(hasher.finalize().into());
    if !holds(done == size && found == sha256) {
        let why = "its length or digest is not the manifest's";
        return Err(StoresError::Staged { path: path.to_string(), why });
    }
    Ok(())
}

/// Every folder whose entries will change must lie on the staging folder's file system, for only
/// there is a rename possible, and be writable for us.
fn check_folders(memdir: &Dir, staging: &Dir, targets: &[FileTarget]) -> Result<(), StoresError> {
    let device = staging.stat_self()?.dev;
    let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
    let changes = |t: &&FileTarget| match (&t.before, &t.after) {
        (Some(before), Some(after)) => before.kind != after.kind,
        _ => true,
    };
    for target in targets.iter().filter(changes) {
        let folder = existing_folder(memdir, &target.path)?;
        if !seen.insert(folder.path().to_owned()) {
            continue;
        }
        let refuse = |why| Err(StoresError::Target { path: folder.path().to_owned(), why });
        if folder.stat_self()?.dev != device {
            return refuse("it lies on another file system than the memdir");
        }
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if rustix::fs::accessat(CWD, folder.path(), access, AtFlags::EACCESS).is_err() {
            return refuse("we have no right to write there");
        }
    }
    Ok(())
}

/// What lies at `path` now, if anything.
pub(super) fn live_stat(memdir: &Dir, path: &BundlePath) -> Result<Option<Stat>, StoresError> {
    match locate(memdir, path).and_then(|(dir, name)| Ok(dir.stat(name)?)) {
        Err(StoresError::Fs(e)) if is_gone(&e) => Ok(None),
        done => done,
    }
}

pub(super) fn owner_of(stat: &Stat) -> (u32, u32) {
    (stat.uid, stat.gid)
}

/// The deepest folder on the way to `path` that is there now.
fn existing_folder(memdir: &Dir, path: &BundlePath) -> Result<Dir, StoresError> {
    let mut dir = memdir.clone();
    let parents = path.as_path().parent().into_iter().flat_map(Path::components);
    for component in parents {
        match dir.stat(component.as_os_str())? {
            Some(stat) if stat.file_type == FileType::Dir => {
                dir = dir.sub(component.as_os_str())?
            }
            _ => break,
        }
    }
    Ok(dir)
}
