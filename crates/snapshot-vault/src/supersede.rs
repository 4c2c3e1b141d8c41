//! Publishing over a bundle that never had a summary: one of 0.1.x, whose name the rewritten one takes.
//!
//! Invariant: at every moment the id's file is the old bundle or the new one, each whole; which of them a death
//! left, whoever imports it next sees by its content. The old one is kept in the quarantine where that is asked for.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Instant;

use snapshot_core::{Control, Sidecar, SnapshotId, SnapshotMeta};
use snapshot_fs::{DurableFile, LockMode, Meta};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form, Name};
use crate::publish::{check_size, staged_name};
use crate::staging::Staging;

impl AgentLock {
    /// Whether a file of this name in the snapshots folder is a bundle of this id.
    #[must_use]
    pub fn is_bundle_of(&self, name: &OsStr, id: SnapshotId) -> bool {
        matches!(Name::parse(name), Name::Bundle { id: found, .. } if found == id)
    }

    /// Publishes the bundle that was written to `staging` in the place of the one of this name, which has the same id
    /// and no summary; `keep` says whether it stays in the quarantine. Returns the folder there. Waits until `until`
    /// for readers.
    ///
    /// # Errors
    /// [`VaultError::Taken`] where the id has a summary or another bundle, a sidecar that is not of this agent or not of this file,
    /// readers that stay, or an I/O error; then the old bundle or the new one lies there without a summary.
    pub fn supersede(
        &self,
        staging: Staging,
        bundle: DurableFile,
        sidecar: &Sidecar,
        (old, keep): (&OsStr, bool),
        (until, control): (Instant, &Control),
    ) -> Result<(SnapshotMeta, Option<PathBuf>), VaultError> {
        let id = sidecar.snapshot_id;
        let bytes = self.checked_bytes(sidecar)?;
        let staged = staged_name(&staging, &bundle)?;
        check_size(bundle.path(), bundle.size()?, sidecar)?;
        let bundles = Form::ALL.map(|form| layout::bundle_name(id, form));
        let others = bundles.iter().filter(|name| old != name.as_str()).cloned();
        for taken in others.chain([layout::sidecar_name(id), layout::deleting_name(id)]) {
            self.check_name_free(&taken)?;
        }
        bundle.sync()?;
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        let old = bundles.into_iter().find(|name| old == name.as_str());
        let old = old.ok_or_else(|| self.agent.unknown(id))?;
        let sum = layout::sum_name(&old);
        let has_sum = self.snapshots.stat(&sum)?.is_some();
        let kept = match keep {
            true => Some(self.keep_beside(id, &old, has_sum.then_some(&sum))?),
            false => None,
        };
        // From here on whatever lies there has no checksum file that could be another's.
        if has_sum {
            self.snapshots.unlink(&sum)?;
        }
        self.snapshots.sync()?;
        let name = layout::bundle_name(id, Form::of(sidecar));
        staging.dir().rename(staged, &self.snapshots, &name)?;
        self.snapshots.sync()?;
        self.commit(sidecar, &name, &bytes)?;
        if old != name {
            self.snapshots.unlink(&old)?;
            self.snapshots.sync()?;
        }
        Ok((sidecar.to_meta(self.snapshots.path().join(name)), kept))
    }

    /// Other names of these files in a folder of their own in the quarantine.
    fn keep_beside(
        &self,
        id: SnapshotId,
        bundle: &str,
        sum: Option<&String>,
    ) -> Result<PathBuf, VaultError> {
        let folder = self.aside(id)?;
        for name in std::iter::once(bundle).chain(sum.map(String::as_str)) {
            self.snapshots.link(name, &folder, name)?;
            // The predecessor left its files to the umask.
            folder.set_meta(name, Meta { mode: Some(layout::FILE_MODE), ..Meta::default() })?;
        }
        folder.sync()?;
        Ok(folder.path().to_owned())
    }
}
