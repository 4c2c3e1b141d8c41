//! Deleting a snapshot, but never an agent's last good one.

use std::collections::BTreeSet;
use std::time::Instant;

use snapshot_core::mutants::holds;
use snapshot_core::{AgentId, Control, SnapshotId, SnapshotMeta, SnapshotRef, Tenant};
use snapshot_vault::{AgentLock, VaultError};

use super::v1::refuse_v1;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

impl Engine {
    /// Deletes a snapshot, damaged or not, and returns what it was. Another one of the agent must be good, which is
    /// found out by reading it whole.
    ///
    /// # Errors
    /// As [`Engine::resolve`]; `Refused` for the last good one and for bundles outside the vault;
    /// `Concurrent` where another process works on the agent or reads its bundles.
    pub fn delete(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        self.delete_with(tenant, agent, r, &Control::default())
    }

    /// As [`Engine::delete`], under the caller's control up to the moment of the deletion.
    ///
    /// # Errors
    /// As [`Engine::delete`], and the interruption.
    pub fn delete_with(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
        ctl: &Control,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let meta = self.resolve_damaged(tenant, agent, r)?;
        refuse_v1(&meta)?;
        let Some(vault) = self.vault_of(&meta) else {
            let (path, root) = (meta.bundle_path, self.root().to_owned());
            return Err(SnapshotError::NotInVault { path, root });
        };
        // Reading takes its time, so it comes before the lock; what was good must still be there
        // once the lock is held.
        let counts = !meta.redactions_applied;
        let good = if counts { self.another_good(&meta, ctl)? } else { None };
        let until = ctl.wait_until(LOCK_TIMEOUT);
        let lock = vault.lock(until, ctl)?;
        let listed: BTreeSet<SnapshotId> =
            lock.list()?.snapshots.into_iter().map(|m| m.id).collect();
        if counts && !good.is_some_and(|id| listed.contains(&id)) {
            return Err(SnapshotError::LastGood { id: meta.id, agent: meta.agent_id });
        }
        self.delete_locked(&lock, meta.id, until, ctl)?;
        Ok(meta)
    }

    /// Deletes a snapshot that nobody holds on to, and tells. Its caller knows that another is good.
    pub(super) fn delete_locked(
        &self,
        lock: &AgentLock,
        id: SnapshotId,
        until: Instant,
        ctl: &Control,
    ) -> Result<(), SnapshotError> {
        if let Some(why) = self.kept_by(lock, id)? {
            return Err(SnapshotError::Kept { id, why });
        }
        let agent = lock.agent();
        // One that another process deleted was told of: no second event is to be prepared.
        if let Err(unknown @ VaultError::UnknownSnapshot { .. }) = agent.meta(id) {
            return Err(unknown.into());
        }
        let announced = self.announce_deleted(lock, id);
        lock.delete(id, until, ctl)?;
        announced.happened();
        Ok(())
    }

    /// Who or what holds on to a snapshot.
    pub(super) fn kept_by(
        &self,
        lock: &AgentLock,
        id: SnapshotId,
    ) -> Result<Option<String>, SnapshotError> {
        let agent = lock.agent();
        let mut notes = agent.notes()?;
        let held = self.parts.vault.hold()?.or(notes.hold);
        let why = held.map(|note| format!("it is on hold: {}", note.why));
        let why = why.or(notes.pins.remove(&id).map(|note| format!("it is pinned: {}", note.why)));
        let needed = agent.existing_restore_dir()?;
        let needed = needed.as_ref().map(snapshot_stores::needed).transpose()?;
        let needed = !holds(needed.is_none_or(|needed| !needed.contains(&id)));
        Ok(why.or(needed.then(|| "an interrupted restore needs it".to_owned())))
    }

    /// As [`Engine::resolve`], and also a snapshot whose bundle is damaged or missing but whose
    /// summary says what it was.
    fn resolve_damaged(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let (id, unusable) = match self.resolve(tenant, agent, r) {
            Err(e @ SnapshotError::Unusable { id: Some(id), .. }) => (id, e),
            done => return done,
        };
        let vault = &self.parts.vault;
        let agents = vault.agents()?.into_iter();
        agents
            .filter(|(t, a)| t == tenant && agent.is_none_or(|agent| agent == a))
            .find_map(|(tenant, agent)| vault.agent(&tenant, &agent).meta(id).ok())
            .ok_or(unusable)
    }

    /// The newest other snapshot of the agent that verifies, and that brings everything back.
    fn another_good(
        &self,
        meta: &SnapshotMeta,
        ctl: &Control,
    ) -> Result<Option<SnapshotId>, SnapshotError> {
        let others = self.list(&meta.tenant, Some(&meta.agent_id))?.snapshots;
        for other in others.iter().filter(|m| m.id != meta.id && !m.redactions_applied) {
            match self.verify(other, ctl) {
                // Without its identity an encrypted one is as good as can be known.
                Ok(report) if report.is_sound() => return Ok(Some(other.id)),
                // Stopped by the caller; any other failure makes this one not good.
                Err(SnapshotError::Interrupted(e)) => return Err(e.into()),
                _ => ctl.check()?,
            }
        }
        Ok(None)
    }
}
