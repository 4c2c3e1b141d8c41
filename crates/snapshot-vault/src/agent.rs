//! One agent's part of the vault, read side: what needs no exclusive lock.

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use snapshot_core::mutants::holds;
use snapshot_core::{AgentId, Control, Listing, Sidecar, SnapshotId, SnapshotMeta, Tenant};
use snapshot_fs::{Dir, FileLock, LockMode};

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout::{self, Form};
use crate::listing::{self, forget_leftovers, has_leftovers};
use crate::vault::Vault;

/// One agent's part of the vault. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AgentVault {
    vault: Vault,
    tenant: Tenant,
    agent: AgentId,
}

/// A bundle opened for reading. It stays readable even where the snapshot is deleted meanwhile.
#[derive(Debug)]
pub struct OpenBundle {
    /// The bundle.
    pub file: File,
    /// Its path.
    pub path: PathBuf,
    /// Its summary.
    pub sidecar: Sidecar,
}

/// That nobody works on an agent.
#[derive(Debug)]
pub struct Idle(#[expect(dead_code, reason = "what it holds, it holds off")] Option<FileLock>);

impl AgentVault {
    pub(crate) fn new(vault: Vault, tenant: Tenant, agent: AgentId) -> Self {
        Self { vault, tenant, agent }
    }

    /// The whole vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    /// Where its bundles lie, or would.
    #[must_use]
    pub fn snapshots_path(&self) -> PathBuf {
        let tenant = self.vault.root().join(layout::TENANTS).join(self.tenant.as_str());
        tenant.join(layout::SNAPSHOTS).join(self.agent.as_str())
    }

    /// Waits until `until` to be the only one who changes this agent's memory or its part of the
    /// vault.
    ///
    /// # Errors
    /// [`snapshot_core::ErrorKind::Concurrent`] at `until`, an interruption, or an I/O error.
    pub fn lock(&self, until: Instant, control: &Control) -> Result<AgentLock, VaultError> {
        AgentLock::acquire(self.clone(), until, control)
    }

    /// The lock between readers of bundles (shared) and those who delete them (exclusive). Where
    /// both are taken, the agent's lock comes first.
    ///
    /// # Errors
    /// As [`AgentVault::lock`].
    pub fn vault_lock(
        &self,
        mode: LockMode,
        until: Instant,
        control: &Control,
    ) -> Result<FileLock, VaultError> {
        let name = layout::vault_lock_name(&self.agent);
        Ok(FileLock::acquire(&self.locks_dir()?, name, mode, until, control)?)
    }

    /// The snapshots, newest first, and what is wrong in their folder. Reads sidecars only. What
    /// may be the work in progress of another process is not called a problem.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Listing, VaultError> {
        let Some(dir) = self.existing_snapshots_dir()? else { return Ok(Listing::default()) };
        let mut listing = listing::read(self, &dir)?;
        if !has_leftovers(&listing) {
            return Ok(listing);
        }
        // A leftover is one only while nobody is at work; the lock tells, so look again under it.
        match self.idle() {
            Some(_held) => listing::read(self, &dir),
            None => {
                forget_leftovers(&mut listing);
                Ok(listing)
            }
        }
    }

    /// Opens a snapshot's bundle.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`], a sidecar that is not usable, or a missing bundle. Its size
    /// and content are for the reader to check.
    pub fn open_bundle(&self, id: SnapshotId) -> Result<OpenBundle, VaultError> {
        let dir = self.existing_snapshots_dir()?.ok_or_else(|| self.unknown(id))?;
        let sidecar = self.known_sidecar(&dir, id)?;
        let name = layout::bundle_name(id, Form::of(&sidecar));
        let path = dir.path().join(&name);
        match dir.open_file(&name) {
            Ok(file) => Ok(OpenBundle { file, path, sidecar }),
            Err(e) if e.is_not_found() => Err(VaultError::BundleMissing { path }),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens the bundle of this id, encrypted or not, whatever lies beside it; none where there is no file.
    ///
    /// # Errors
    /// If it is no file or cannot be opened.
    pub fn open_lone_bundle(&self, id: SnapshotId) -> Result<Option<(File, PathBuf)>, VaultError> {
        let Some(dir) = self.existing_snapshots_dir()? else { return Ok(None) };
        for name in Form::ALL.map(|form| layout::bundle_name(id, form)) {
            match dir.open_file(&name) {
                Ok(file) => return Ok(Some((file, dir.path().join(name)))),
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }

    /// The folder of this agent's restore journal, where there is one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn existing_restore_dir(&self) -> Result<Option<Dir>, VaultError> {
        self.existing_dir(&[layout::RESTORE, self.agent.as_str()])
    }

    /// What a snapshot is by its summary alone; its bundle may be damaged or missing.
    ///
    /// # Errors
    /// [`VaultError::UnknownSnapshot`], or a sidecar that is not usable.
    pub fn meta(&self, id: SnapshotId) -> Result<SnapshotMeta, VaultError> {
        Ok(self.meta_of(&self.sidecar(id)?))
    }

    /// A snapshot's summary.
    ///
    /// # Errors
    /// As [`AgentVault::meta`].
    pub fn sidecar(&self, id: SnapshotId) -> Result<Sidecar, VaultError> {
        let dir = self.existing_snapshots_dir()?.ok_or_else(|| self.unknown(id))?;
        self.known_sidecar(&dir, id)
    }

    /// What a snapshot with this summary is, once it lies here.
    #[must_use]
    pub fn meta_of(&self, sidecar: &Sidecar) -> SnapshotMeta {
        let name = layout::bundle_name(sidecar.snapshot_id, Form::of(sidecar));
        sidecar.to_meta(self.snapshots_path().join(name))
    }

    pub(crate) fn unknown(&self, id: SnapshotId) -> VaultError {
        let (agent, folder) = (self.agent.clone(), self.snapshots_path());
        VaultError::UnknownSnapshot { id, agent, folder }
    }

    /// Reads a sidecar and checks that it is of this place.
    pub(crate) fn read_sidecar(&self, dir: &Dir, id: SnapshotId) -> Result<Sidecar, VaultError> {
        let name = layout::sidecar_name(id);
        let path = dir.path().join(&name);
        let bytes = dir.read(&name, Sidecar::MAX_BYTES as u64)?;
        let sidecar = Sidecar::parse(&bytes)
            .map_err(|source| VaultError::Sidecar { path: path.clone(), source })?;
        self.check_own(&sidecar, id, path)?;
        Ok(sidecar)
    }

    /// As [`AgentVault::read_sidecar`]; where there is none, there is no snapshot.
    fn known_sidecar(&self, dir: &Dir, id: SnapshotId) -> Result<Sidecar, VaultError> {
        match self.read_sidecar(dir, id) {
            Err(VaultError::Fs(e)) if e.is_not_found() => Err(self.unknown(id)),
            read => read,
        }
    }

    /// That a sidecar at `path` is of this agent and of `id`.
    pub(crate) fn check_own(
        &self,
        sidecar: &Sidecar,
        id: SnapshotId,
        path: PathBuf,
    ) -> Result<(), VaultError> {
        let own = sidecar.snapshot_id == id
            && sidecar.agent_id == self.agent
            && sidecar.tenant == self.tenant;
        if holds(own) {
            return Ok(());
        }
        let found = format!("{}/{}/{}", sidecar.tenant, sidecar.agent_id, sidecar.snapshot_id);
        Err(VaultError::Foreign { path, found })
    }

    /// The folder `part/<agent>` of the tenant, made where it is missing.
    pub(crate) fn own_dir(&self, part: &str) -> Result<Dir, VaultError> {
        let part = layout::private_sub(&self.vault.tenant_dir(&self.tenant)?, part)?;
        Ok(layout::private_sub(&part, self.agent.as_str())?)
    }

    /// The tenant's folder of locks, made where it is missing.
    pub(crate) fn locks_dir(&self) -> Result<Dir, VaultError> {
        Ok(layout::private_sub(&self.vault.tenant_dir(&self.tenant)?, layout::LOCKS)?)
    }

    fn existing_snapshots_dir(&self) -> Result<Option<Dir>, VaultError> {
        self.existing_dir(&[layout::SNAPSHOTS, self.agent.as_str()])
    }

    pub(crate) fn existing_dir(&self, path: &[&str]) -> Result<Option<Dir>, VaultError> {
        let Some(root) = self.vault.existing_root()? else { return Ok(None) };
        let path = [&[layout::TENANTS, self.tenant.as_str()], path].concat();
        Ok(layout::existing_sub(&root, &path)?)
    }

    /// Nobody is at work on the agent while this lives; none where somebody is. Makes no folder: a vault
    /// that is only read, perhaps from a read-only disk, has no work in progress.
    #[must_use]
    pub fn idle(&self) -> Option<Idle> {
        let Ok(Some(dir)) = self.existing_dir(&[layout::LOCKS]) else { return Some(Idle(None)) };
        let name = layout::agent_lock_name(&self.agent);
        let now = Instant::now();
        match FileLock::acquire(&dir, name, LockMode::Shared, now, &Control::default()) {
            Ok(lock) => Some(Idle(Some(lock))),
            Err(snapshot_fs::FsError::Locked { .. }) => None,
            Err(_) => Some(Idle(None)),
        }
    }
}
