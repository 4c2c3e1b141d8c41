//! The git history that a snapshot holds, to look into.

use std::io::Write;

use snapshot_core::{Control, GitPath, SnapshotMeta, TreeEntry};
use snapshot_stores::git::History;
use snapshot_vault::Staging;

use super::open::Opened;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

/// A history, unpacked; its scratch folder goes with it.
pub(super) struct OpenHistory {
    pub(super) history: History,
    _opened: Opened,
    _scratch: Staging,
}

impl Engine {
    /// The entry at a path of a commit's tree and all below it. Of the bundle only the history is read;
    /// it is unpacked in the agent's part of the vault, whose lock is held meanwhile.
    ///
    /// # Errors
    /// `UnknownSnapshot` where the history has no such commit or path, `Integrity` for damage.
    pub fn git_entries(
        &self,
        meta: &SnapshotMeta,
        at: &GitPath,
        ctl: &Control,
    ) -> Result<Vec<TreeEntry>, SnapshotError> {
        Ok(self.history(meta, ctl)?.history.entries(at)?)
    }

    /// Writes the content of a file of a commit's tree to `out`, a link's target for a link; returns its
    /// length in bytes.
    ///
    /// # Errors
    /// As [`Engine::git_entries`], and if it is no file or `out` fails.
    pub fn read_git(
        &self,
        meta: &SnapshotMeta,
        at: &GitPath,
        out: &mut dyn Write,
        ctl: &Control,
    ) -> Result<u64, SnapshotError> {
        let opened = self.history(meta, ctl)?;
        let file = opened.history.file(at)?;
        let Some(file) = file else { return Err(SnapshotError::NotAFile { path: at.to_string() }) };
        let content = opened.history.content(&file)?;
        out.write_all(&content)
            .map_err(|source| SnapshotError::Output { what: at.to_string(), source })?;
        Ok(content.len() as u64)
    }

    /// Unpacks the history of a snapshot.
    pub(super) fn history(
        &self,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<OpenHistory, SnapshotError> {
        let agent = self.parts.vault.agent(&meta.tenant, &meta.agent_id);
        // Before the vault's lock, as everywhere: whoever deletes has this one and waits for that.
        let lock = agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        let opened = self.open_under(Some(&lock), meta, ctl)?;
        let scratch = lock.staging()?;
        let limit = self.parts.max_git_object_bytes;
        let history = History::open(&opened.bundle, scratch.dir(), limit, ctl)?;
        Ok(OpenHistory { history, _opened: opened, _scratch: scratch })
    }
}
