//! Publishing: bundle, checksum file, sidecar, each durable before the next; the sidecar's rename
//! is the commit point.

use std::path::Path;

use snapshot_core::mutants::holds;
use snapshot_core::{Sidecar, SnapshotId, SnapshotMeta};
use snapshot_fs::{DurableFile, FileType};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form};
use crate::staging::Staging;

impl AgentLock {
    /// Publishes the bundle that was written to `staging`. When this returns, the snapshot survives
    /// a power cut; when it fails, the files of the attempt are gone.
    ///
    /// # Errors
    /// A sidecar that is not of this agent or not of this file, an id that is taken, or an I/O
    /// error.
    pub fn publish(
        &self,
        staging: Staging,
        bundle: DurableFile,
        sidecar: &Sidecar,
    ) -> Result<SnapshotMeta, VaultError> {
        let id = sidecar.snapshot_id;
        let sidecar_bytes = self.checked_bytes(sidecar)?;
        let staged = staged_name(&staging, &bundle)?;
        check_size(bundle.path(), bundle.size()?, sidecar)?;
        self.check_free(id)?;
        bundle.sync()?;
        let name = layout::bundle_name(id, Form::of(sidecar));
        staging
            .dir()
            .rename(staged, &self.snapshots, &name)
            .and_then(|()| self.snapshots.sync())
            .map_err(VaultError::from)
            .and_then(|()| self.commit(sidecar, &name, &sidecar_bytes))
            .inspect_err(|_| self.retract(id, &name))?;
        Ok(sidecar.to_meta(self.snapshots.path().join(name)))
    }

    /// Makes a snapshot again of a bundle that lies here without its sidecar, which the caller made
    /// from the verified bundle.
    ///
    /// # Errors
    /// As [`AgentLock::publish`]; the bundle stays.
    pub fn adopt(&self, sidecar: &Sidecar) -> Result<SnapshotMeta, VaultError> {
        let id = sidecar.snapshot_id;
        let rekeyed = layout::bundle_name(id, Form::Rekeyed);
        let rekeyed = sidecar.encryption.is_some() && self.snapshots.stat(rekeyed)?.is_some();
        let sidecar = &Sidecar { rekeyed, ..sidecar.clone() };
        let sidecar_bytes = self.checked_bytes(sidecar)?;
        let name = layout::bundle_name(id, Form::of(sidecar));
        let path = self.snapshots.path().join(&name);
        match self.snapshots.stat(&name)? {
            Some(stat) if stat.file_type == FileType::File => {
                check_size(&path, stat.size, sidecar)?;
            }
            _ => return Err(VaultError::BundleMissing { path }),
        }
        for taken in [layout::sidecar_name(id), layout::deleting_name(id)] {
            self.check_name_free(&taken)?;
        }
        // Its publish died somewhere: it may never have been made durable.
        self.snapshots.sync_fs()?;
        self.commit(sidecar, &name, &sidecar_bytes)?;
        Ok(sidecar.to_meta(path))
    }

    /// Writes the checksum file of a snapshot anew, from the sidecar that it has.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`], a sidecar that is not usable, or an I/O error.
    pub fn rewrite_sum(&self, id: SnapshotId) -> Result<(), VaultError> {
        let sidecar = self.agent.sidecar(id)?;
        let name = layout::bundle_name(id, Form::of(&sidecar));
        let line = layout::sum_line(&sidecar.bundle_sha256, &name);
        Ok(self.snapshots.write_atomic(
            layout::sum_name(&name),
            line.as_bytes(),
            layout::FILE_MODE,
        )?)
    }

    /// The two files beside a bundle that is durable already.
    pub(crate) fn commit(
        &self,
        sidecar: &Sidecar,
        bundle: &str,
        bytes: &[u8],
    ) -> Result<(), VaultError> {
        let line = layout::sum_line(&sidecar.bundle_sha256, bundle);
        let mode = layout::FILE_MODE;
        self.snapshots.write_atomic(layout::sum_name(bundle), line.as_bytes(), mode)?;
        let name = layout::sidecar_name(sidecar.snapshot_id);
        Ok(self.snapshots.write_atomic(name, bytes, mode)?)
    }

    /// Takes back a failed attempt: the sidecar first, so that it never stands without its bundle.
    fn retract(&self, id: SnapshotId, bundle: &str) {
        for name in [layout::sidecar_name(id), layout::sum_name(bundle), bundle.to_owned()] {
            // The error that led here is the one to report; a listing names what this leaves.
            let _ = self.snapshots.unlink(name);
        }
        let _ = self.snapshots.sync();
    }

    /// The bytes of a sidecar that is of this agent.
    pub(crate) fn checked_bytes(&self, sidecar: &Sidecar) -> Result<Vec<u8>, VaultError> {
        let path = self.snapshots.path().join(layout::sidecar_name(sidecar.snapshot_id));
        self.agent.check_own(sidecar, sidecar.snapshot_id, path.clone())?;
        sidecar.to_bytes().map_err(|source| VaultError::Sidecar { path, source })
    }

    fn check_free(&self, id: SnapshotId) -> Result<(), VaultError> {
        let bundles = Form::ALL.map(|form| layout::bundle_name(id, form));
        let beside = [layout::sidecar_name(id), layout::deleting_name(id)];
        bundles.iter().chain(&beside).try_for_each(|name| self.check_name_free(name))
    }

    pub(crate) fn check_name_free(&self, name: &str) -> Result<(), VaultError> {
        match holds(self.snapshots.stat(name)?.is_none()) {
            true => Ok(()),
            false => Err(VaultError::Taken { path: self.snapshots.path().join(name) }),
        }
    }
}

/// The name of `bundle` in `staging`.
pub(crate) fn staged_name<'a>(
    staging: &Staging,
    bundle: &'a DurableFile,
) -> Result<&'a std::ffi::OsStr, VaultError> {
    let path = bundle.path();
    match path.file_name() {
        Some(name) if path.parent() == Some(staging.dir().path()) => Ok(name),
        _ => Err(VaultError::NotStaged {
            path: path.to_owned(),
            staging: staging.dir().path().to_owned(),
        }),
    }
}

pub(crate) fn check_size(path: &Path, found: u64, sidecar: &Sidecar) -> Result<(), VaultError> {
    let expected = sidecar.bundle_size_bytes;
    if holds(found == expected) {
        return Ok(());
    }
    Err(VaultError::BundleSize { path: path.to_owned(), expected, found })
}
