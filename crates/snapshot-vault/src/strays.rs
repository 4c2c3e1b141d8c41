//! What dead processes left outside the snapshots folders.

use std::path::PathBuf;

use snapshot_core::Tenant;

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::layout;
use crate::vault::Vault;

impl AgentVault {
    /// Staging folders and temporary files that dead processes left of this agent, or none while
    /// somebody is at work on it. [`crate::AgentLock::sweep`] removes them.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn strays(&self) -> Result<Vec<PathBuf>, VaultError> {
        let Some(_held) = self.idle() else { return Ok(Vec::new()) };
        let mut strays = Vec::new();
        if let Some(staging) = self.existing_dir(&[layout::STAGING, self.agent().as_str()])? {
            let names = staging.entries()?.into_iter();
            strays.extend(names.map(|entry| staging.path().join(entry.name)));
        }
        if let Some(restore) = self.existing_restore_dir()? {
            let names = restore.dead_temps()?.into_iter();
            strays.extend(names.map(|name| restore.path().join(name)));
        }
        Ok(strays)
    }
}

impl Vault {
    /// Temporary files that dead processes left where agents share a folder: the root, the outbox, the
    /// tenant's notes. With `remove`, removed; returns them with whether they are gone.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn strays(
        &self,
        tenant: &Tenant,
        remove: bool,
    ) -> Result<Vec<(PathBuf, bool)>, VaultError> {
        let Some(root) = self.existing_root()? else { return Ok(Vec::new()) };
        let notes = [layout::TENANTS, tenant.as_str(), layout::NOTES];
        let below = [[layout::OUTBOX].as_slice(), notes.as_slice()];
        let below = below.map(|path| layout::existing_sub(&root, path));
        let mut strays = Vec::new();
        for dir in [Ok(Some(root.clone()))].into_iter().chain(below) {
            let Some(dir) = dir? else { continue };
            for name in dir.dead_temps()? {
                let gone = remove && dir.unlink(&name).is_ok();
                strays.push((dir.path().join(name), gone));
            }
        }
        Ok(strays)
    }
}
