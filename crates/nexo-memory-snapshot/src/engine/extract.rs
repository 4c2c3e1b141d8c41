//! Files out of a bundle, to look at: as they lie in it, into a folder of the user's.
//!
//! Invariants: only the frames that hold them are read; nothing that is there is replaced, and no link
//! is followed; a file appears under its name once its digest was right.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use snapshot_bundle::Bundle;
use snapshot_core::{Artifact, ArtifactKind, BundlePath, Control, Manifest, SnapshotMeta, Step};
use snapshot_fs::{Dir, DurableFile, FsError, Meta};

use super::Engine;
use super::copy::{Watch, copy};
use crate::error::SnapshotError;

/// Mode of files that have none of their own, and of all while they are written.
const FILE_MODE: u32 = 0o600;
/// Mode of folders that have none of their own.
const DIR_MODE: u32 = 0o700;
/// The bits of a mode that a bundle may give: a set-user-id bit of a stranger's is none of ours.
const PLAIN_BITS: u32 = 0o777;

/// What an extraction wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Extracted {
    /// The folder.
    pub to: PathBuf,
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

impl Engine {
    /// Writes what lies at `path` in the bundle and below it, all of it for none, into the folder
    /// `to`, under the names that the bundle has; returns what was written. What a failure has written
    /// stays, each file whole.
    ///
    /// # Errors
    /// `UnknownSnapshot` where there is nothing at `path`, `Refused` where something lies in the way,
    /// `Integrity` for damage.
    pub fn extract(
        &self,
        meta: &SnapshotMeta,
        path: Option<&BundlePath>,
        to: &Path,
        ctl: &Control,
    ) -> Result<Extracted, SnapshotError> {
        let opened = self.open(meta, ctl)?;
        let wanted = below(opened.bundle.manifest(), path);
        if let Some(path) = path.filter(|_| wanted.is_empty()) {
            let (bundle, path) = (meta.bundle_path.clone(), path.to_string());
            return Err(SnapshotError::NotInBundle { path, bundle });
        }
        let to = super::absolute(to)?;
        let root = self.parts.fs.ensure_dir(&to, DIR_MODE)?;
        let total = wanted.iter().fold(0, |sum: u64, a| sum.saturating_add(a.size_bytes));
        let mut done = Extracted { to, ..Extracted::default() };
        for artifact in &wanted {
            ctl.check()?;
            let watch = Watch { step: Step::Stage, total, control: ctl };
            done.bytes += put(&root, (&opened.bundle, &meta.bundle_path), artifact, watch)?;
            done.entries += 1;
        }
        // Once nothing more is made in them.
        for artifact in wanted.iter().filter(|a| a.kind == ArtifactKind::MemoryDir).rev() {
            let (dir, name) = place(&root, artifact)?;
            let mode = artifact.mode.map(|mode| mode & PLAIN_BITS);
            dir.set_meta(&name, Meta { owner: None, mode, mtime_ns: artifact.mtime_ns })?;
        }
        root.sync_fs()?;
        Ok(done)
    }
}

/// The artifacts at `path` and below it, in the order of the bundle.
pub fn below<'m>(manifest: &'m Manifest, path: Option<&BundlePath>) -> Vec<&'m Artifact> {
    let inside = |artifact: &&Artifact| {
        path.is_none_or(|path| artifact.path.as_path().starts_with(path.as_path()))
    };
    manifest.artifacts.iter().filter(inside).collect()
}

/// Writes one entry; returns its bytes.
fn put(
    root: &Dir,
    bundle: (&Bundle, &Path),
    artifact: &Artifact,
    watch: Watch<'_>,
) -> Result<u64, SnapshotError> {
    let (dir, name) = place(root, artifact)?;
    let taken = |e: FsError| match e {
        FsError::Io { source, path, .. } if source.kind() == std::io::ErrorKind::AlreadyExists => {
            SnapshotError::Exists { path }
        }
        e => e.into(),
    };
    match (&artifact.link, artifact.kind) {
        (Some(target), _) => {
            dir.symlink(OsStr::from_bytes(target), &name).map_err(taken)?;
            let mtime_ns = artifact.mtime_ns;
            dir.set_meta(&name, Meta { mtime_ns, ..Meta::default() })?;
            Ok(0)
        }
        // One of the extraction's own may be there for what lies in it.
        (None, ArtifactKind::MemoryDir) => {
            dir.ensure_sub(&name, DIR_MODE)?;
            Ok(0)
        }
        _ => {
            let (temp, mut file) = dir.create_temp(FILE_MODE)?;
            let written = fill(&mut file, bundle, artifact, watch)
                .and_then(|bytes| dir.rename_new(&temp, &name).map(|()| bytes).map_err(taken));
            if written.is_err() {
                // The error that led here is the one to report.
                let _ = dir.unlink(&temp);
            }
            written
        }
    }
}

fn fill(
    file: &mut DurableFile,
    (bundle, bundle_path): (&Bundle, &Path),
    artifact: &Artifact,
    watch: Watch<'_>,
) -> Result<u64, SnapshotError> {
    let out = file.path().to_owned();
    let copied = copy(&mut bundle.read(&artifact.path)?, watch, |bytes| {
        Ok(file.write_all(bytes).map_err(FsError::io("write", &out))?)
    });
    let bytes = copied.map_err(|e| e.of_artifact(&artifact.path, bundle_path))?;
    let mode = Some(artifact.mode.unwrap_or(FILE_MODE) & PLAIN_BITS);
    file.set_meta(Meta { owner: None, mode, mtime_ns: artifact.mtime_ns })?;
    Ok(bytes)
}

/// The folder that an artifact goes to, made where it is missing, and its name in it.
fn place(root: &Dir, artifact: &Artifact) -> Result<(Dir, OsString), SnapshotError> {
    let path = artifact.path.as_path();
    let name = path.file_name().unwrap_or_default().to_owned();
    let mut dir = root.clone();
    for component in path.parent().into_iter().flat_map(Path::iter) {
        dir = dir.ensure_sub(component, DIR_MODE)?;
    }
    Ok((dir, name))
}
