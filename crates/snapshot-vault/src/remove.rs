//! Deleting, and clearing what dead processes left. The rename of the sidecar to `<id>.deleting` is
//! the commit point of a delete: a crash never brings a deleted memory back.

use std::time::Instant;

use snapshot_core::mutants::{holds, off};
use snapshot_core::{Control, SnapshotId};
use snapshot_fs::{FileType, FsError, LockMode};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form, Name};

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Staging folders.
    pub staging: u64,
    /// Temporary files.
    pub temp_files: u64,
}

impl AgentLock {
    /// Deletes a snapshot, whatever state its files are in; waits until `until` for its readers.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`], readers that stay, or an I/O error; where that comes after
    /// the commit point the snapshot is gone and [`AgentLock::finish_deletes`] takes the rest.
    pub fn delete(
        &self,
        id: SnapshotId,
        until: Instant,
        control: &Control,
    ) -> Result<(), VaultError> {
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        let sidecar = layout::sidecar_name(id);
        let renamed = match off() {
            false => self.snapshots.rename(sidecar, &self.snapshots, layout::deleting_name(id)),
            true => self.snapshots.unlink(sidecar),
        };
        match renamed {
            Err(e) if e.is_not_found() => return Err(self.agent.unknown(id)),
            renamed => renamed?,
        }
        self.snapshots.sync()?;
        self.finish_delete(id)
    }

    /// Finishes deletes that died half-way; returns how many. Waits until `until` for readers.
    ///
    /// # Errors
    /// Readers that stay, or an I/O error.
    pub fn finish_deletes(&self, until: Instant, control: &Control) -> Result<u64, VaultError> {
        let mut finished = 0;
        let mut alone = None;
        for entry in self.snapshots.entries()? {
            let Name::Deleting { id } = Name::parse(&entry.name) else { continue };
            if off() {
                continue;
            }
            if alone.is_none() {
                alone = Some(self.agent.vault_lock(LockMode::Exclusive, until, control)?);
                // Whoever renamed it may have died before that was durable.
                self.snapshots.sync()?;
            }
            self.finish_delete(id)?;
            finished += 1;
        }
        Ok(finished)
    }

    /// Removes the staging folders and temporary files of processes that died, and what an encryption anew
    /// left beside the bundle that counts. Never that one.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn sweep(&self) -> Result<Swept, VaultError> {
        let mut swept = Swept::default();
        let staging = self.staging_dir()?;
        for entry in staging.entries()? {
            if holds(!self.held().live().contains(&entry.name)) {
                staging.remove_tree(&entry.name)?;
                swept.staging += 1;
            }
        }
        for entry in self.snapshots.entries()? {
            let is_temp = Name::parse(&entry.name) == Name::Temp;
            let stat = self.snapshots.stat(&entry.name)?.filter(|_| is_temp);
            if stat.is_some_and(|stat| stat.file_type == FileType::File) {
                self.snapshots.unlink(&entry.name)?;
                swept.temp_files += 1;
            }
        }
        swept.temp_files += self.sweep_rekeyed()?;
        if let Some(restore) = self.agent.existing_restore_dir()? {
            for name in restore.dead_temps()? {
                restore.unlink(&name)?;
                swept.temp_files += 1;
            }
        }
        Ok(swept)
    }

    /// Unlinks what a deleted snapshot left, its tombstone last.
    fn finish_delete(&self, id: SnapshotId) -> Result<(), VaultError> {
        for form in Form::ALL {
            let bundle = layout::bundle_name(id, form);
            self.unlink_if_there(&bundle)?;
            self.unlink_if_there(&layout::sum_name(&bundle))?;
        }
        self.drop_git_map(id)?;
        // The tombstone may go only once the files are gone for good.
        self.snapshots.sync()?;
        self.unlink_if_there(&layout::deleting_name(id))?;
        Ok(self.snapshots.sync()?)
    }

    pub(crate) fn unlink_if_there(&self, name: &str) -> Result<(), FsError> {
        match self.snapshots.unlink(name) {
            Err(e) if e.is_not_found() => Ok(()),
            done => done,
        }
    }
}
