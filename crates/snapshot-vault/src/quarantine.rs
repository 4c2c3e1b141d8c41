//! Setting aside what is no snapshot: moved out of every listing by renames, never removed.
//!
//! The sidecar goes first, as in a delete: from then on there is no such snapshot. What a death leaves
//! behind is a bundle without a sidecar, which whoever looks next judges anew.

use std::path::PathBuf;
use std::time::Instant;

use snapshot_core::{Control, SnapshotId};
use snapshot_fs::{Dir, LockMode};

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form};

impl AgentVault {
    /// The folders of what was set aside, sorted.
    ///
    /// # Errors
    /// If the quarantine cannot be read.
    pub fn quarantined(&self) -> Result<Vec<PathBuf>, VaultError> {
        let agent = self.agent().as_str();
        let path = [layout::SNAPSHOTS, agent, layout::QUARANTINE];
        let Some(dir) = self.existing_dir(&path)? else { return Ok(Vec::new()) };
        Ok(dir.entries()?.into_iter().map(|entry| dir.path().join(entry.name)).collect())
    }
}

impl AgentLock {
    /// Moves everything of a snapshot (sidecar, bundle, checksum file; what there is of them) into a
    /// folder of its own in the quarantine; returns the folder. Waits until `until` for readers.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`] where nothing of it is there, readers that stay, or an I/O error.
    pub fn quarantine(
        &self,
        id: SnapshotId,
        until: Instant,
        control: &Control,
    ) -> Result<PathBuf, VaultError> {
        let bundles = Form::ALL.map(|form| layout::bundle_name(id, form));
        let sums = bundles.iter().map(|bundle| layout::sum_name(bundle));
        let names = [layout::sidecar_name(id)].into_iter().chain(bundles.clone()).chain(sums);
        self.set_aside(id, names.collect(), until, control)
    }

    /// As [`AgentLock::quarantine`], for the sidecar alone: its bundle stays, to get another.
    ///
    /// # Errors
    /// As [`AgentLock::quarantine`].
    pub fn quarantine_sidecar(
        &self,
        id: SnapshotId,
        until: Instant,
        control: &Control,
    ) -> Result<PathBuf, VaultError> {
        self.set_aside(id, vec![layout::sidecar_name(id)], until, control)
    }

    fn set_aside(
        &self,
        id: SnapshotId,
        mut names: Vec<String>,
        until: Instant,
        control: &Control,
    ) -> Result<PathBuf, VaultError> {
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        let mut there = Vec::new();
        for name in names.drain(..) {
            if self.snapshots.stat(&name)?.is_some() {
                there.push(name);
            }
        }
        if there.is_empty() {
            return Err(self.agent.unknown(id));
        }
        let folder = self.aside(id)?;
        for name in &there {
            self.snapshots.rename(name, &folder, name)?;
        }
        folder.sync()?;
        self.snapshots.sync()?;
        Ok(folder.path().to_owned())
    }

    /// A folder of its own in the quarantine for what is set aside of a snapshot.
    pub(crate) fn aside(&self, id: SnapshotId) -> Result<Dir, VaultError> {
        let quarantine = layout::private_sub(&self.snapshots, layout::QUARANTINE)?;
        let mut n = 0;
        // What was set aside earlier under this id stays as it is.
        loop {
            let name = layout::aside_name(id, n);
            if quarantine.stat(&name)?.is_none() {
                return Ok(layout::private_sub(&quarantine, &name)?);
            }
            n += 1;
        }
    }
}
