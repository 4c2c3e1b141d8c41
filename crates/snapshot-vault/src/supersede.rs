//! Publishing over a bundle that never had a summary: one of 0.1.x, whose name the rewritten one takes.
//!
//! Invariant: at every moment the id's file is the old bundle or the new one, each whole; which of them a death
//! left, whoever imports it next sees by its content. The old one is kept beside, in the quarantine.

use std::path::PathBuf;
use std::time::Instant;

use snapshot_core::{Control, Sidecar, SnapshotId, SnapshotMeta};
use snapshot_fs::{Dir, DurableFile, FileType, LockMode, Meta};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form};
use crate::publish::{check_size, staged_name};
use crate::staging::Staging;

impl AgentLock {
    /// Publishes the bundle that was written to `staging` in the place of one of the same id without a summary,
    /// of which `keep` says whether it stays in the quarantine; returns the folder there. Waits until `until` for
    /// readers.
    ///
    /// # Errors
    /// [`VaultError::Taken`] where the id has a summary, a sidecar that is not of this agent or not of this file,
    /// readers that stay, or an I/O error; then the old bundle or the new one lies there without a summary.
    pub fn supersede(
        &self,
        staging: Staging,
        bundle: DurableFile,
        sidecar: &Sidecar,
        keep: bool,
        (until, control): (Instant, &Control),
    ) -> Result<(SnapshotMeta, Option<PathBuf>), VaultError> {
        let id = sidecar.snapshot_id;
        let bytes = self.checked_bytes(sidecar)?;
        let staged = staged_name(&staging, &bundle)?;
        check_size(bundle.path(), bundle.size()?, sidecar)?;
        for taken in [layout::sidecar_name(id), layout::deleting_name(id)] {
            self.check_name_free(&taken)?;
        }
        bundle.sync()?;
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        let (bundles, sums) = self.lone_files(id)?;
        let kept = match keep {
            true => Some(self.keep_beside(id, bundles.iter().chain(&sums))?),
            false => None,
        };
        // From here on whatever lies there has no checksum file that could be another's.
        for sum in &sums {
            self.snapshots.unlink(sum)?;
        }
        self.snapshots.sync()?;
        let name = layout::bundle_name(id, Form::of(sidecar));
        staging.dir().rename(staged, &self.snapshots, &name)?;
        self.snapshots.sync()?;
        self.commit(sidecar, &name, &bytes)?;
        for other in bundles.iter().filter(|other| **other != name) {
            self.snapshots.unlink(other)?;
        }
        self.snapshots.sync()?;
        Ok((sidecar.to_meta(self.snapshots.path().join(name)), kept))
    }

    /// The bundles and the checksum files of an id.
    fn lone_files(&self, id: SnapshotId) -> Result<(Vec<String>, Vec<String>), VaultError> {
        let there = |name: &String| match self.snapshots.stat(name) {
            Ok(stat) => stat.is_some_and(|stat| stat.file_type == FileType::File),
            Err(_) => false,
        };
        let bundles = Form::ALL.map(|form| layout::bundle_name(id, form));
        let sums = bundles.clone().map(|bundle| layout::sum_name(&bundle));
        let present = |names: [String; 3]| names.into_iter().filter(there).collect();
        Ok((present(bundles), present(sums)))
    }

    /// Other names of these files in a folder of their own in the quarantine.
    fn keep_beside<'n>(
        &self,
        id: SnapshotId,
        names: impl Iterator<Item = &'n String>,
    ) -> Result<PathBuf, VaultError> {
        let folder: Dir = self.aside(id)?;
        for name in names {
            self.snapshots.link(name, &folder, name)?;
            // The predecessor left its files to the umask.
            folder.set_meta(name, Meta { mode: Some(layout::FILE_MODE), ..Meta::default() })?;
        }
        folder.sync()?;
        Ok(folder.path().to_owned())
    }
}
