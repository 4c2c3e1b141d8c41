//! Erasing an agent from the vault: all of it, the last good snapshot too.

use snapshot_core::{AgentId, Control, SnapshotId, Tenant};
use snapshot_events::StreamKey;

use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

impl Engine {
    /// Deletes every snapshot of the agent, pinned ones too, and everything else that the vault has of
    /// it: bundles without a summary, staging, an interrupted restore's journal, notes, events that wait
    /// and tell of it. Its memory itself is not touched. Each deletion is told; returns the snapshots.
    ///
    /// # Errors
    /// `Refused` while a hold lasts; `Concurrent` where somebody works on the agent or reads its
    /// bundles. What a failure left goes with the next call.
    pub fn erase(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        ctl: &Control,
    ) -> Result<Vec<SnapshotId>, SnapshotError> {
        self.must_know(tenant, agent)?;
        let vault = self.parts.vault.agent(tenant, agent);
        let until = ctl.wait_until(LOCK_TIMEOUT);
        let lock = vault.lock(until, ctl)?;
        if let Some(hold) = self.parts.vault.hold()?.or(vault.notes()?.hold) {
            return Err(SnapshotError::Held { agent: agent.clone(), why: hold.why });
        }
        let stream = StreamKey::Agent { tenant: tenant.clone(), agent: agent.clone() };
        self.parts.events.forget(&stream, until);
        let ids: Vec<SnapshotId> = lock.list()?.snapshots.iter().map(|meta| meta.id).collect();
        for &id in &ids {
            let announced = self.announce_deleted(&lock, id);
            lock.delete(id, until, ctl)?;
            announced.happened();
        }
        lock.erase(until, ctl)?;
        Ok(ids)
    }
}
