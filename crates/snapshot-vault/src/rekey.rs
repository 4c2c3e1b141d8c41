//! Another envelope around a bundle: written beside the old one, which goes once the new one counts.
//!
//! Invariant: the rename of the sidecar changes bundle, digest and readers at once. Before it the old bundle
//! is the snapshot's, after it the new one, and both are whole; what a death leaves of the other one, a sweep
//! takes.

use std::time::Instant;

use snapshot_core::mutants::holds;
use snapshot_core::{Control, Sha256Digest, Sidecar, SnapshotId, SnapshotMeta};
use snapshot_fs::{DurableFile, LockMode};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form};
use crate::listing::Scan;
use crate::publish::{check_size, staged_name};
use crate::staging::Staging;

impl AgentLock {
    /// Puts the encrypted bundle that was written to `staging` in the place of the snapshot's, whose summary
    /// becomes `sidecar`. Waits until `until` for readers. When this returns the old file is gone.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`], a sidecar that is not of this agent, not of this file or of a plain
    /// bundle, readers that stay, or an I/O error. Where that comes after the commit point the new bundle is
    /// the snapshot's, and a sweep removes the old one.
    pub fn replace(
        &self,
        staging: Staging,
        bundle: DurableFile,
        sidecar: &Sidecar,
        until: Instant,
        control: &Control,
    ) -> Result<SnapshotMeta, VaultError> {
        let id = sidecar.snapshot_id;
        let old = Form::of(&self.agent.sidecar(id)?);
        let sidecar = &Sidecar { rekeyed: old == Form::Encrypted, ..sidecar.clone() };
        let (bytes, form) = (self.checked_bytes(sidecar)?, Form::of(sidecar));
        let name = layout::bundle_name(id, form);
        if form == old || form == Form::Plain {
            return Err(VaultError::Taken { path: self.snapshots.path().join(name) });
        }
        let staged = staged_name(&staging, &bundle)?;
        check_size(bundle.path(), bundle.size()?, sidecar)?;
        bundle.sync()?;
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        staging
            .dir()
            .rename(staged, &self.snapshots, &name)
            .and_then(|()| self.snapshots.sync())
            .map_err(VaultError::from)
            .and_then(|()| self.commit(sidecar, &name, &bytes))
            .inspect_err(|_| self.take_back(id, old, &name))?;
        self.sweep_rekeyed()?;
        Ok(sidecar.to_meta(self.snapshots.path().join(name)))
    }

    /// After a failure: what lies beside the old bundle goes, but only while that one counts for certain. Where the
    /// commit point was passed and not synced, a power cut may bring back either: both stay, for a sweep.
    fn take_back(&self, id: SnapshotId, old: Form, name: &str) {
        if self.agent.sidecar(id).is_ok_and(|now| Form::of(&now) == old) {
            // The error that led here is the one to report; a sweep takes what this leaves.
            let _ = self.unlink_if_there(name);
            let _ = self.unlink_if_there(&layout::sum_name(name));
        }
    }

    /// Removes bundles and checksum files of other forms than their sidecars', whose own are read whole before
    /// that; returns how many.
    pub(crate) fn sweep_rekeyed(&self) -> Result<u64, VaultError> {
        let counting = |id: SnapshotId| {
            let sidecar = self.agent.sidecar(id).ok()?;
            let form = Form::of(&sidecar);
            let file = self.snapshots.open_file(layout::bundle_name(id, form)).ok()?;
            let found = Sha256Digest::of_reader(file).ok()?;
            holds(found == sidecar.bundle_sha256).then_some(form)
        };
        let names = Scan::of(&self.snapshots)?.superseded(counting);
        if names.is_empty() {
            return Ok(0);
        }
        // Whoever renamed the sidecar may have died before that was durable.
        self.snapshots.sync()?;
        for name in &names {
            self.unlink_if_there(name)?;
        }
        self.snapshots.sync()?;
        Ok(names.len() as u64)
    }
}
