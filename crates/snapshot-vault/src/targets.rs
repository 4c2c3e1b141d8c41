//! Locks on live targets by what they are, not by who asks: two tenants' agents may resolve to the
//! same files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use snapshot_core::{Control, Sha256Digest};
use snapshot_fs::{FileLock, LockMode};

use crate::error::VaultError;
use crate::layout;
use crate::vault::Vault;

/// The exclusive locks on a set of live targets.
#[derive(Debug)]
pub struct TargetLocks {
    _locks: Vec<FileLock>,
}

impl Vault {
    /// Waits until `until` for the locks on the files and folders at `targets`, which need not
    /// exist. Taken after the agent's lock, and in one order by all, so that nobody waits in a ring.
    ///
    /// # Errors
    /// [`snapshot_core::ErrorKind::Concurrent`] at `until`, an interruption, or an I/O error.
    pub fn lock_targets(
        &self,
        targets: &[PathBuf],
        until: Instant,
        control: &Control,
    ) -> Result<TargetLocks, VaultError> {
        let mut names = BTreeSet::new();
        for target in targets {
            let digests = identities(target)
                .map_err(|source| VaultError::Target { path: target.clone(), source })?;
            names.extend(digests.iter().map(layout::target_lock_name));
        }
        let dir = layout::private_sub(&self.root_dir()?, layout::LOCKS)?;
        let lock = |name| FileLock::acquire(&dir, name, LockMode::Exclusive, until, control);
        let locks = names.into_iter().map(lock).collect::<Result<_, _>>()?;
        Ok(TargetLocks { _locks: locks })
    }
}

/// What a target is: the name that leads to it, which it has before it exists; and, where it exists,
/// its inode, which all its hard links share.
fn identities(target: &Path) -> io::Result<Vec<Sha256Digest>> {
    let mut identities = Vec::new();
    let real = match std::fs::canonicalize(target) {
        Ok(real) => {
            let meta = std::fs::metadata(&real)?;
            let inode = format!("inode {} {}", meta.dev(), meta.ino());
            identities.push(Sha256Digest::of(inode.as_bytes()));
            real
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => std::path::absolute(target)?,
        Err(e) => return Err(e),
    };
    identities.push(Sha256Digest::of(&name_identity(&real)?));
    Ok(identities)
}

/// The nearest folder that exists, by its inode, and the names below it.
fn name_identity(path: &Path) -> io::Result<Vec<u8>> {
    let mut below: Vec<OsString> = Vec::new();
    let mut at = path;
    while let (Some(parent), Some(name)) = (at.parent(), at.file_name()) {
        below.push(name.to_owned());
        match std::fs::metadata(parent) {
            Ok(meta) => {
                let mut identity = format!("name {} {}", meta.dev(), meta.ino()).into_bytes();
                for name in below.iter().rev() {
                    identity.push(b'/');
                    identity.extend(name.as_bytes());
                }
                return Ok(identity);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => at = parent,
            Err(e) => return Err(e),
        }
    }
    // The root itself, or a path that ends in `..` below nothing.
    Ok([b"path ", path.as_os_str().as_bytes()].concat())
}
