//! How an agent's snapshots stand: what an operator looks at first.

use serde::Serialize;
use snapshot_core::{AgentId, SnapshotId, SnapshotMeta, Tenant};
use snapshot_retention::Health;
use snapshot_vault::Note;

use super::Engine;
use super::retention::health;
use crate::error::SnapshotError;

/// How one agent's snapshots stand. Read from the summaries; no bundle is opened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentStatus {
    /// The agent's tenant.
    pub tenant: Tenant,
    /// The agent.
    pub agent_id: AgentId,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// Their size together.
    pub total_bytes: u64,
    /// The newest that holds everything and is not known to be damaged.
    pub last_good: Option<SnapshotMeta>,
    /// Its age in milliseconds.
    pub last_good_age_ms: Option<i64>,
    /// Whether its bundle was read, or published, in the last 7 days.
    pub last_good_checked: bool,
    /// How many are pinned.
    pub pinned: u64,
    /// Why nothing may go, where that is so.
    pub hold: Option<Note>,
    /// The snapshot that an interrupted restore was putting back.
    pub recovery_pending: Option<SnapshotId>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

impl Engine {
    /// How an agent stands, or all of the tenant that have snapshots.
    ///
    /// # Errors
    /// If a folder of the vault cannot be read.
    pub fn status(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
    ) -> Result<Vec<AgentStatus>, SnapshotError> {
        let agents = match agent {
            Some(agent) => vec![agent.clone()],
            None => {
                let known = self.parts.vault.agents()?.into_iter();
                known.filter(|(t, _)| t == tenant).map(|(_, agent)| agent).collect()
            }
        };
        agents.iter().map(|agent| self.status_of(tenant, agent)).collect()
    }

    /// How many events wait for their delivery, in the whole vault.
    ///
    /// # Errors
    /// If the outbox cannot be read.
    pub fn events_waiting(&self) -> Result<u64, SnapshotError> {
        match self.parts.vault.existing_outbox_dir()? {
            Some(dir) => Ok(snapshot_events::Outbox::new(dir).depth()?),
            None => Ok(0),
        }
    }

    fn status_of(&self, tenant: &Tenant, agent: &AgentId) -> Result<AgentStatus, SnapshotError> {
        let vault = self.parts.vault.agent(tenant, agent);
        let listing = vault.list()?;
        let mut problems: Vec<String> =
            listing.problems.iter().map(|p| format!("{}: {}", p.path.display(), p.why)).collect();
        let notes = vault.notes().unwrap_or_else(|e| {
            problems.push(e.to_string());
            snapshot_vault::Notes::default()
        });
        let now_ms = self.parts.clock.now_ms();
        let mut last_good = None;
        for meta in &listing.snapshots {
            match health(meta, &notes, now_ms) {
                Health::Bad { why } => problems.push(format!("{}: {why}", meta.id)),
                _ if meta.redactions_applied || last_good.is_some() => {}
                known => last_good = Some((meta.clone(), known != Health::Unknown)),
            }
        }
        let work = vault.existing_restore_dir()?;
        let pending = work.as_ref().map(snapshot_stores::pending).transpose()?.flatten();
        Ok(AgentStatus {
            tenant: tenant.clone(),
            agent_id: agent.clone(),
            snapshots: listing.snapshots.len() as u64,
            total_bytes: listing.snapshots.iter().map(|m| m.bundle_size_bytes).sum(),
            last_good_age_ms: last_good.as_ref().map(|(m, _)| now_ms - m.created_at_ms),
            last_good_checked: last_good.as_ref().is_some_and(|(_, checked)| *checked),
            last_good: last_good.map(|(meta, _)| meta),
            pinned: notes.pins.len() as u64,
            hold: self.parts.vault.hold()?.or(notes.hold),
            recovery_pending: pending,
            problems,
        })
    }
}
