//! The vault as a whole: its root, and who has something in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use snapshot_core::{AgentId, Tenant};
use snapshot_fs::{Dir, DurableFs, FileType, FsError};

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::layout;

/// A vault. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Vault {
    fs: DurableFs,
    root: PathBuf,
}

impl Vault {
    /// The vault at `root`. Nothing is made before something is written: looking for snapshots in
    /// a mistyped root leaves no trace.
    ///
    /// # Errors
    /// If something lies at `root` that is not a folder that we may open.
    pub fn open(fs: DurableFs, root: &Path) -> Result<Self, VaultError> {
        let root = std::path::absolute(root)
            .map_err(|source| VaultError::Target { path: root.to_owned(), source })?;
        let vault = Self { fs, root };
        vault.existing_root()?;
        Ok(vault)
    }

    /// Its folder, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether there is anything at the root.
    ///
    /// # Errors
    /// If what lies there is not a folder that we may open.
    pub fn exists(&self) -> Result<bool, VaultError> {
        Ok(self.existing_root()?.is_some())
    }

    /// Whether `path`, there or not, lies in a folder that the vault keeps for itself. The root may hold other
    /// things too.
    #[must_use]
    pub fn owns(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let Some(there) = path.ancestors().find_map(real) else { return false };
        let mut folders = [layout::TENANTS, layout::LOCKS, layout::OUTBOX].into_iter();
        folders.any(|name| real(&self.root.join(name)).is_some_and(|own| there.starts_with(own)))
    }

    /// The part of one agent.
    #[must_use]
    pub fn agent(&self, tenant: &Tenant, agent: &AgentId) -> AgentVault {
        AgentVault::new(self.clone(), tenant.clone(), agent.clone())
    }

    /// Whose snapshots lie in the folder of this file, by the folder's name; none outside of the vault.
    #[must_use]
    pub fn owner(&self, path: &Path) -> Option<(Tenant, AgentId)> {
        let below = path.strip_prefix(&self.root).ok()?;
        let parts: Vec<&str> = below.iter().map(OsStr::to_str).collect::<Option<_>>()?;
        match parts.as_slice() {
            [layout::TENANTS, tenant, layout::SNAPSHOTS, agent, _] => {
                Some((tenant.parse().ok()?, agent.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Every agent that has snapshots, or the folder of an interrupted restore, sorted.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn agents(&self) -> Result<Vec<(Tenant, AgentId)>, VaultError> {
        let mut found = BTreeSet::new();
        let Some(root) = self.existing_root()? else { return Ok(Vec::new()) };
        let Some(tenants) = layout::existing_sub(&root, &[layout::TENANTS])? else {
            return Ok(Vec::new());
        };
        // A link hides what should be there, and whoever opens it fails: better than an agent that vanished.
        let types = [FileType::Dir, FileType::Symlink];
        for tenant in ids::<Tenant>(&tenants, &[FileType::Dir])? {
            for part in [layout::SNAPSHOTS, layout::RESTORE] {
                if let Some(dir) = layout::existing_sub(&tenants, &[tenant.as_str(), part])? {
                    found.extend(
                        ids(&dir, &types)?.into_iter().map(|agent| (tenant.clone(), agent)),
                    );
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The folder of the events that wait for their delivery, made where it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn outbox_dir(&self) -> Result<Dir, VaultError> {
        Ok(layout::private_sub(&self.root_dir()?, layout::OUTBOX)?)
    }

    /// That folder, where there is one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn existing_outbox_dir(&self) -> Result<Option<Dir>, VaultError> {
        let Some(root) = self.existing_root()? else { return Ok(None) };
        Ok(layout::existing_sub(&root, &[layout::OUTBOX])?)
    }

    /// The root, made where it is missing.
    pub(crate) fn root_dir(&self) -> Result<Dir, VaultError> {
        Ok(self.fs.ensure_dir(&self.root, layout::DIR_MODE)?)
    }

    /// The folder of a tenant, made where it is missing.
    pub(crate) fn tenant_dir(&self, tenant: &Tenant) -> Result<Dir, VaultError> {
        let tenants = layout::private_sub(&self.root_dir()?, layout::TENANTS)?;
        Ok(layout::private_sub(&tenants, tenant.as_str())?)
    }

    /// The root, or none where there is none.
    pub(crate) fn existing_root(&self) -> Result<Option<Dir>, FsError> {
        match self.fs.open_dir(&self.root) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// What in `dir` is of one of the types and has a name that is an id; others are not ours.
fn ids<T: FromStr>(dir: &Dir, types: &[FileType]) -> Result<Vec<T>, FsError> {
    let mut ids = Vec::new();
    for entry in dir.entries()? {
        let Some(id) = entry.name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if dir.stat(&entry.name)?.is_some_and(|stat| types.contains(&stat.file_type)) {
            ids.push(id);
        }
    }
    Ok(ids)
}
