//! Files out of a bundle, to look at: as they lie in it, into a folder of the user's.
//!
//! Invariants: only the frames that hold them are read; nothing that is there is replaced, and no link
//! is followed; a file appears under its name once its digest was right.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use snapshot_bundle::Bundle;
use snapshot_core::{
    Artifact, ArtifactKind, BundlePath, Control, GitPath, Manifest, PathInside, SnapshotMeta, Step,
    TreeEntryKind,
};
use snapshot_fs::{Dir, DurableFile, FsError, Meta};
use snapshot_stores::room;

use super::Engine;
use super::copy::{Watch, copy};
use crate::error::SnapshotError;

/// Mode of files that have none of their own, and of all while they are written.
const FILE_MODE: u32 = 0o600;
/// Mode of folders that have none of their own.
const DIR_MODE: u32 = 0o700;
/// Added to the mode of a history's file that may be run.
const RUN_BITS: u32 = 0o100;
/// The bits of a mode that a bundle may give: a set-user-id bit of a stranger's is none of ours.
const PLAIN_BITS: u32 = 0o777;

/// What a small file takes on disk at most, in bytes.
const BLOCK_BYTES: u64 = 4096;

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
    /// Writes what lies at `path` in the snapshot and below it, all of the bundle for none, into the
    /// folder `to`, under the names that the bundle has, or the commit's tree; returns what was
    /// written. What a failure has written stays, each file whole.
    ///
    /// # Errors
    /// `UnknownSnapshot` where there is nothing at `path`, `Refused` where something lies in the way,
    /// `Integrity` for damage.
    pub fn extract(
        &self,
        meta: &SnapshotMeta,
        path: Option<&PathInside>,
        to: &Path,
        ctl: &Control,
    ) -> Result<Extracted, SnapshotError> {
        let path = match path {
            Some(PathInside::Git(at)) => return self.extract_git(meta, at, to, ctl),
            Some(PathInside::Bundle(path)) => Some(path),
            None => None,
        };
        let opened = self.open(meta, ctl)?;
        let wanted = below(opened.bundle.manifest(), path);
        if let Some(path) = path.filter(|_| wanted.is_empty()) {
            let (bundle, path) = (meta.bundle_path.clone(), path.to_string());
            return Err(SnapshotError::NotInBundle { path, bundle });
        }
        let mut out = self.output(to)?;
        let total = wanted.iter().fold(0, |sum: u64, a| sum.saturating_add(a.size_bytes));
        out.room(wanted.len(), total)?;
        for artifact in &wanted {
            ctl.check()?;
            let watch = Watch { step: Step::Stage, before: out.done.bytes, total, control: ctl };
            put(&mut out, (&opened.bundle, &meta.bundle_path), artifact, watch)?;
        }
        // Once nothing more is made in them.
        for artifact in wanted.iter().filter(|a| a.kind == ArtifactKind::MemoryDir).rev() {
            let (dir, name) = out.place(&artifact.path)?;
            let mode = artifact.mode.map(|mode| mode & PLAIN_BITS);
            dir.set_meta(&name, Meta { owner: None, mode, mtime_ns: artifact.mtime_ns })?;
        }
        out.finish()
    }

    /// The same of a commit's tree. Files of a history have no times, and of modes only who may run
    /// them.
    fn extract_git(
        &self,
        meta: &SnapshotMeta,
        at: &GitPath,
        to: &Path,
        ctl: &Control,
    ) -> Result<Extracted, SnapshotError> {
        let opened = self.history(meta, ctl)?;
        let entries = opened.history.entries(at)?;
        let mut out = self.output(to)?;
        let total = entries.iter().fold(0, |sum: u64, e| sum.saturating_add(e.size_bytes));
        out.room(entries.len(), total)?;
        for entry in &entries {
            ctl.check()?;
            ctl.advance(Step::Stage, out.done.bytes, total);
            match (&entry.link, entry.kind) {
                (Some(target), _) => out.link(&entry.path, target, None)?,
                // A submodule's content is another repository's: git leaves an empty folder too.
                (None, TreeEntryKind::Dir | TreeEntryKind::Submodule) => out.dir(&entry.path)?,
                (None, kind) => {
                    let run = if kind == TreeEntryKind::Executable { RUN_BITS } else { 0 };
                    let meta = Meta { mode: Some(FILE_MODE | run), ..Meta::default() };
                    out.file(&entry.path, meta, |file| {
                        let content = opened.history.content(entry)?;
                        file.write_all(&content).map_err(FsError::io("write", file.path()))?;
                        Ok(content.len() as u64)
                    })?;
                }
            }
        }
        out.finish()
    }

    fn output(&self, to: &Path) -> Result<Output, SnapshotError> {
        let root = self.folder_outside(to)?;
        let done = Extracted { to: root.path().to_owned(), ..Extracted::default() };
        Ok(Output { root, done })
    }

    /// The folder at `to`, made where it is missing, for what leaves the vault: not one of the vault's own,
    /// where nobody would find it, and the doctor would.
    pub(super) fn folder_outside(&self, to: &Path) -> Result<Dir, SnapshotError> {
        let path = self.place_outside(to)?;
        self.parts.fs.ensure_dir(&path, DIR_MODE).map_err(taken)
    }

    /// The path `to`, which must not lie among the vault's own folders.
    pub(super) fn place_outside(&self, to: &Path) -> Result<PathBuf, SnapshotError> {
        let path = super::absolute(to)?;
        if self.parts.vault.owns(&path) {
            let why = "it lies among the vault's own folders: choose another place";
            return Err(SnapshotError::Path { path, why });
        }
        Ok(path)
    }
}

/// The artifacts at `path` and below it, in the order of the bundle.
pub fn below<'m>(manifest: &'m Manifest, path: Option<&BundlePath>) -> Vec<&'m Artifact> {
    let inside = |artifact: &&Artifact| {
        path.is_none_or(|path| artifact.path.as_path().starts_with(path.as_path()))
    };
    manifest.artifacts.iter().filter(inside).collect()
}

/// Writes one artifact.
fn put(
    out: &mut Output,
    (bundle, bundle_path): (&Bundle, &Path),
    artifact: &Artifact,
    watch: Watch<'_>,
) -> Result<(), SnapshotError> {
    match (&artifact.link, artifact.kind) {
        (Some(target), _) => out.link(&artifact.path, target, artifact.mtime_ns),
        (None, ArtifactKind::MemoryDir) => out.dir(&artifact.path),
        _ => {
            let mode = Some(artifact.mode.unwrap_or(FILE_MODE) & PLAIN_BITS);
            let meta = Meta { owner: None, mode, mtime_ns: artifact.mtime_ns };
            out.file(&artifact.path, meta, |file| {
                let path = file.path().to_owned();
                let copied = copy(&mut bundle.read(&artifact.path)?, watch, |bytes| {
                    Ok(file.write_all(bytes).map_err(FsError::io("write", &path))?)
                });
                copied.map_err(|e| e.of_artifact(&artifact.path, bundle_path))
            })
        }
    }
}

/// The folder that is written to, and what was written.
struct Output {
    root: Dir,
    done: Extracted,
}

impl Output {
    /// That so many entries, of so many bytes together, find room.
    fn room(&self, entries: usize, bytes: u64) -> Result<(), SnapshotError> {
        let blocks = BLOCK_BYTES.saturating_mul(entries as u64);
        Ok(room(&self.root, bytes.saturating_add(blocks))?)
    }

    /// Writes a link.
    fn link(
        &mut self,
        path: &BundlePath,
        target: &[u8],
        mtime_ns: Option<i64>,
    ) -> Result<(), SnapshotError> {
        let (dir, name) = self.place(path)?;
        dir.symlink(OsStr::from_bytes(target), &name).map_err(taken)?;
        dir.set_meta(&name, Meta { mtime_ns, ..Meta::default() })?;
        self.done.entries += 1;
        Ok(())
    }

    /// Makes a folder; one may be there for what lies in it.
    fn dir(&mut self, path: &BundlePath) -> Result<(), SnapshotError> {
        let (dir, name) = self.place(path)?;
        dir.make_path(&name, DIR_MODE).map_err(taken)?;
        self.done.entries += 1;
        Ok(())
    }

    /// Writes a file, which `fill` gives its content and length; it appears once that succeeded.
    fn file(
        &mut self,
        path: &BundlePath,
        meta: Meta,
        fill: impl FnOnce(&mut DurableFile) -> Result<u64, SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let (dir, name) = self.place(path)?;
        let (temp, mut file) = dir.create_temp(FILE_MODE)?;
        let written = fill(&mut file).and_then(|bytes| {
            file.set_meta(meta)?;
            dir.rename_new(&temp, &name).map(|()| bytes).map_err(taken)
        });
        if written.is_err() {
            // The error that led here is the one to report.
            let _ = dir.unlink(&temp);
        }
        self.done.bytes += written?;
        self.done.entries += 1;
        Ok(())
    }

    /// The folder that `path` goes to, made where it is missing, and its name in it.
    fn place(&self, path: &BundlePath) -> Result<(Dir, OsString), SnapshotError> {
        place(&self.root, path, DIR_MODE).map_err(taken)
    }

    fn finish(self) -> Result<Extracted, SnapshotError> {
        self.root.sync_fs()?;
        Ok(self.done)
    }
}

/// The folder below `root` that `path` goes to, made with `mode` where it is missing, and its name in it; not
/// synced.
pub(super) fn place(root: &Dir, path: &BundlePath, mode: u32) -> Result<(Dir, OsString), FsError> {
    let path = path.as_path();
    let dir = root.make_path(path.parent().unwrap_or(Path::new("")), mode)?;
    Ok((dir, path.file_name().unwrap_or_default().to_owned()))
}

/// The error of a name that is in use, by a file or a link where a folder belongs too.
pub(crate) fn taken(e: FsError) -> SnapshotError {
    use io::ErrorKind::{AlreadyExists, NotADirectory};
    match e {
        FsError::Io { source, path, .. }
            if matches!(source.kind(), AlreadyExists | NotADirectory) =>
        {
            SnapshotError::Exists { path }
        }
        e => e.into(),
    }
}
