//! A copy of a bundle outside the vault, checked on the way.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use snapshot_bundle::{BUNDLE_EXTENSION, DIGEST_EXTENSION};
use snapshot_core::{Control, ExportRequest, Sidecar, Step};
use snapshot_fs::{Dir, FsError};

use super::Engine;
use super::copy::{Watch, copy_file};
use super::extract::taken;
use super::open::sidecar_name;
use crate::error::SnapshotError;

/// Mode of what is written: a copy is as private as its source.
const FILE_MODE: u32 = 0o600;

/// Names of the files written, in the order of writing.
struct Names {
    bundle: String,
    sum: String,
    sidecar: String,
}

impl Engine {
    /// Copies a bundle, its checksum file and its summary to a folder, or under another name;
    /// returns their paths. Nothing that is there is replaced.
    ///
    /// # Errors
    /// As [`Engine::resolve`]; `Refused` where something lies there; `Integrity` where the bundle
    /// is not what its summary says, and then nothing is written.
    pub fn export(
        &self,
        req: &ExportRequest,
        ctl: &Control,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let meta = self.resolve(&req.tenant, Some(&req.agent_id), &req.from)?;
        let opened = self.open(&meta, ctl)?;
        let sidecar = opened.sidecar.unwrap_or_else(|| {
            let (manifest, root) = (opened.bundle.manifest(), opened.bundle.root_digest());
            Sidecar::of_plain(manifest, root, meta.bundle_size_bytes, meta.bundle_sha256)
        });
        let sidecar_bytes = sidecar.to_bytes()?;
        let (dir, names) = self.destination(&req.to, &meta.bundle_path)?;
        for name in names.all() {
            if dir.stat(name)?.is_some() {
                return Err(SnapshotError::Exists { path: dir.path().join(name) });
            }
        }
        let mut source = self.locate(&meta, ctl)?;
        copy_bundle(&mut source.file, &source.path, &sidecar, &dir, &names.bundle, ctl)?;
        let sum = format!("{}  {}\n", sidecar.bundle_sha256, names.bundle);
        let beside = dir
            .write_atomic(&names.sum, sum.as_bytes(), FILE_MODE)
            .and_then(|()| dir.write_atomic(&names.sidecar, &sidecar_bytes, FILE_MODE));
        if let Err(e) = beside {
            for name in names.all() {
                // The error that led here is the one to report.
                let _ = dir.unlink(name);
            }
            return Err(e.into());
        }
        Ok(names.all().iter().map(|name| dir.path().join(name)).collect())
    }

    /// The folder to write to, made where it is missing, and the names in it. What a killed export left there
    /// goes, for it is somebody's memory.
    fn destination(&self, to: &Path, bundle: &Path) -> Result<(Dir, Names), SnapshotError> {
        let bad = |why| SnapshotError::Path { path: to.to_owned(), why };
        let text = |path: &Path| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let named = text(to).filter(|name| name.ends_with(BUNDLE_EXTENSION) && !to.is_dir());
        let (folder, bundle) = match named {
            Some(name) => (to.parent().unwrap_or(Path::new("")), name),
            None => (to, text(bundle).ok_or_else(|| bad("the bundle's name is not text"))?),
        };
        let folder = if folder == Path::new("") { Path::new(".") } else { folder };
        let sidecar = sidecar_name(&bundle).filter(|name| !name.starts_with('.'));
        let sidecar = sidecar.ok_or_else(|| bad("a bundle's name ends in .tar.zst"))?;
        let dir = self.folder_outside(folder)?;
        for killed in dir.dead_temps()? {
            dir.unlink(killed)?;
        }
        Ok((dir, Names { sum: format!("{bundle}{DIGEST_EXTENSION}"), sidecar, bundle }))
    }
}

impl Names {
    fn all(&self) -> [&str; 3] {
        [&self.bundle, &self.sum, &self.sidecar]
    }
}

/// Copies the bundle to `name` in `dir`, where it appears once it is durable and has the summary's
/// digest.
fn copy_bundle(
    source: &mut File,
    path: &Path,
    sidecar: &Sidecar,
    dir: &Dir,
    name: &str,
    ctl: &Control,
) -> Result<(), SnapshotError> {
    let (temp, mut file) = dir.create_temp(FILE_MODE)?;
    let watch =
        Watch { step: Step::Seal, before: 0, total: sidecar.bundle_size_bytes, control: ctl };
    let out = file.path().to_owned();
    let copied = copy_file(source, path, watch, |bytes| {
        Ok(file.write_all(bytes).map_err(FsError::io("write", &out))?)
    })
    .and_then(|sha256| match sha256 == sidecar.bundle_sha256 {
        true => Ok(()),
        false => Err(SnapshotError::Unusable {
            id: Some(sidecar.snapshot_id),
            path: path.to_owned(),
            why: format!("its SHA-256 is {sha256}, its summary says {}", sidecar.bundle_sha256),
        }),
    })
    .and_then(|()| Ok(file.sync()?))
    .and_then(|()| dir.rename_new(&temp, name).map_err(taken));
    if copied.is_err() {
        // The error that led here is the one to report.
        let _ = dir.unlink(&temp);
    }
    copied
}
