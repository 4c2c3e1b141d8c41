//! Which git object a redaction wrote in place of which: for people who must find a commit again.
//!
//! An old id is a digest of what was redacted, so a map stays here, for our eyes alone, and goes with its
//! snapshot, or with its agent where the redacted bundle left the vault.

use std::path::PathBuf;

use snapshot_core::SnapshotId;

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout;

impl AgentLock {
    /// Keeps the map of the redacted bundle `id`, durably, mode 0600; returns its path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_git_map(&self, id: SnapshotId, lines: &str) -> Result<PathBuf, VaultError> {
        let dir = self.agent.own_dir(layout::GIT_MAPS)?;
        let name = layout::git_map_name(id);
        dir.write_atomic(&name, lines.as_bytes(), layout::FILE_MODE)?;
        Ok(dir.path().join(name))
    }

    /// Removes it, where there is one.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn drop_git_map(&self, id: SnapshotId) -> Result<(), VaultError> {
        let own = [layout::GIT_MAPS, self.agent.agent().as_str()];
        let Some(dir) = self.agent.existing_dir(&own)? else { return Ok(()) };
        match dir.unlink(layout::git_map_name(id)) {
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
            Ok(()) => Ok(dir.sync()?),
        }
    }
}
