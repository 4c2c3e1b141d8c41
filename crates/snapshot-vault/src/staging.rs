//! Work in progress: a private folder that goes when its owner does.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use snapshot_fs::{Dir, DurableFile, FsError};

use crate::error::VaultError;
use crate::guard::Held;
use crate::layout;

/// Name of the bundle being written.
const BUNDLE: &str = "bundle";

/// Tells the staging folders of this process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A staging folder; dropping it removes it. It keeps its agent locked.
#[derive(Debug)]
pub struct Staging {
    parent: Dir,
    dir: Dir,
    name: OsString,
    held: Arc<Held>,
}

impl Staging {
    pub(crate) fn create(parent: Dir, held: Arc<Held>) -> Result<Self, VaultError> {
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = OsString::from(format!("{}-{n}", std::process::id()));
            match parent.create_dir(&name, layout::DIR_MODE) {
                Ok(()) => {}
                // Left by a process that had our id.
                Err(FsError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::AlreadyExists =>
                {
                    continue;
                }
                Err(e) => return Err(e.into()),
            }
            let dir = parent.sub(&name)?;
            held.live().insert(name.clone());
            return Ok(Self { parent, dir, name, held });
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Creates the file that [`crate::AgentLock::publish`] will take, mode 0600.
    ///
    /// # Errors
    /// If it cannot be created, or was already.
    pub fn create_bundle(&self) -> Result<DurableFile, VaultError> {
        Ok(self.dir.create_new(BUNDLE, layout::FILE_MODE)?)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Where this fails, a sweep takes it.
        let _ = self.parent.remove_tree(&self.name);
        self.held.live().remove(&self.name);
    }
}
