//! Erasing all that the vault has of one agent.

use std::time::Instant;

use snapshot_core::Control;
use snapshot_fs::LockMode;

use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout;

impl AgentLock {
    /// Removes what is left of the agent: files of its folder that are no snapshot, staging, the
    /// restore's journal, its maps of redacted git objects, its notes. Its snapshots are deleted before, one by one, so that each is told
    /// of. Waits until `until` for readers. Lock files stay: they hold a name and nothing else.
    ///
    /// # Errors
    /// Readers that stay, or an I/O error; repeated, it goes on.
    pub fn erase(self, until: Instant, control: &Control) -> Result<(), VaultError> {
        let _alone = self.agent.vault_lock(LockMode::Exclusive, until, control)?;
        let tenant = self.agent.vault().tenant_dir(self.agent.tenant())?;
        let agent = self.agent.agent();
        for part in [layout::SNAPSHOTS, layout::STAGING, layout::RESTORE, layout::GIT_MAPS] {
            if let Some(folder) = layout::existing_sub(&tenant, &[part])? {
                folder.remove_tree(agent.as_str())?;
                folder.sync()?;
            }
        }
        if let Some(notes) = layout::existing_sub(&tenant, &[layout::NOTES])? {
            notes.remove_tree(layout::notes_name(agent))?;
            notes.sync()?;
        }
        Ok(())
    }
}
