//! Whether the vault is its owner's alone: bundles hold memory, so folders are 0700 and files 0600.

use std::path::PathBuf;

use snapshot_core::Tenant;
use snapshot_fs::{Dir, FileType, FsError, Meta, Stat, user};

use crate::error::VaultError;
use crate::layout;
use crate::vault::Vault;

/// In a folder with this bit only its owner removes a file.
const STICKY: u32 = 0o1000;

/// Something of the vault that others may reach, or that is another user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// What.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Who should own it.
    pub owner: u32,
    /// Whether its mode was the only thing wrong, and is mended.
    pub closed: bool,
}

/// A walk through the vault.
struct Walk {
    owner: u32,
    close: bool,
    found: Vec<Exposed>,
}

impl Vault {
    /// Whether users other than its owner can rename and remove what lies in the root, the vault's folders
    /// among it. The root may hold other things too, so nothing else is said of it, and its mode is left.
    ///
    /// # Errors
    /// If it cannot be looked at.
    pub fn is_open_for_exchange(&self) -> Result<bool, VaultError> {
        let Some(root) = self.existing_root()? else { return Ok(false) };
        let mode = root.stat_self()?.mode;
        Ok(mode & 0o022 != 0 && mode & STICKY == 0)
    }

    /// What of the vault, in the part of `tenant`, is open to its group or to all, or has another owner
    /// than the user who runs this (for root: than the vault's folder of tenants). With `close`, the
    /// modes of what is ours are set. Follows no link, and looks only at what a vault makes. Work in
    /// progress lies in folders of 0700 and is not looked into.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn exposed(&self, tenant: &Tenant, close: bool) -> Result<Vec<Exposed>, VaultError> {
        let Some(root) = self.existing_root()? else { return Ok(Vec::new()) };
        let owner = match (user(), root.stat(layout::TENANTS)?) {
            (0, Some(tenants)) => tenants.uid,
            (user, _) => user,
        };
        let mut walk = Walk { owner, close, found: Vec::new() };
        for name in [layout::LOCKS, layout::OUTBOX, layout::HOLD] {
            walk.look(&root, name.as_ref(), true)?;
        }
        walk.look(&root, layout::TENANTS.as_ref(), false)?;
        let Some(tenants) = layout::existing_sub(&root, &[layout::TENANTS])? else {
            return Ok(walk.found);
        };
        walk.look(&tenants, tenant.as_str().as_ref(), false)?;
        let Some(own) = layout::existing_sub(&tenants, &[tenant.as_str()])? else {
            return Ok(walk.found);
        };
        for part in [layout::LOCKS, layout::SNAPSHOTS, layout::NOTES, layout::GIT_MAPS] {
            walk.look(&own, part.as_ref(), true)?;
        }
        for part in [layout::STAGING, layout::RESTORE] {
            walk.look(&own, part.as_ref(), false)?;
            if let Some(part) = layout::existing_sub(&own, &[part])? {
                for agent in part.entries()? {
                    walk.look(&part, &agent.name, false)?;
                }
            }
        }
        Ok(walk.found)
    }
}

impl Walk {
    /// Looks at `name`, and at all below it where asked. What is gone meanwhile is nobody's.
    fn look(&mut self, dir: &Dir, name: &std::ffi::OsStr, below: bool) -> Result<(), FsError> {
        let Some(stat) = dir.stat(name)? else { return Ok(()) };
        self.judge(dir, name, &stat);
        if stat.file_type != FileType::Dir || !below {
            return Ok(());
        }
        let sub = match dir.sub(name) {
            Err(e) if e.is_not_found() => return Ok(()),
            opened => opened?,
        };
        sub.entries()?.iter().try_for_each(|entry| self.look(&sub, &entry.name, true))
    }

    fn judge(&mut self, dir: &Dir, name: &std::ffi::OsStr, stat: &Stat) {
        // The mode of a link says nothing, and where it leads is not ours.
        let open = stat.mode & 0o077 != 0 && stat.file_type != FileType::Symlink;
        if !open && stat.uid == self.owner {
            return;
        }
        let mode = match stat.file_type {
            FileType::Dir => layout::DIR_MODE,
            _ => layout::FILE_MODE,
        };
        let plain = matches!(stat.file_type, FileType::Dir | FileType::File);
        // Under a second name a file may be somebody's outside the vault.
        let alone = stat.file_type == FileType::Dir || stat.nlink == 1;
        let may = self.close && plain && alone && stat.uid == user() && stat.uid == self.owner;
        let meta = Meta { mode: Some(mode), ..Meta::default() };
        let closed = may && dir.set_meta(name, meta).is_ok();
        let (path, owner) = (dir.path().join(name), self.owner);
        self.found.push(Exposed { path, mode: stat.mode, uid: stat.uid, owner, closed });
    }
}
