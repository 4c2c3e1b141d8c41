//! How an agent's snapshots stand: what an operator looks at first.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use snapshot_core::{AgentId, SnapshotId, SnapshotMeta, Tenant, error_chain};
use snapshot_events::Outbox;
use snapshot_retention::Health;
use snapshot_vault::Note;

use super::Engine;
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
    /// The newest that is not redacted, not known to be damaged, and signed where that is required. What was not there to be taken counts no less.
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

/// What an operator has to look at; displays as a line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StatusFinding {
    /// There is nothing to restore.
    NoGood,
    /// What there is to restore is older than it may be.
    TooOld,
    /// A restore was interrupted and is neither finished nor forgotten.
    RecoveryPending {
        /// The snapshot that it was putting back.
        from: SnapshotId,
    },
    /// A line of [`AgentStatus::problems`].
    Problem(String),
}

impl AgentStatus {
    /// What an operator has to look at, where a good snapshot may be `max_age` old: the rule behind
    /// `nexo-memory status`, its exit code and the metrics.
    #[must_use]
    pub fn findings(&self, max_age: Option<Duration>) -> Vec<StatusFinding> {
        let good = match self.last_good_age_ms {
            None => Some(StatusFinding::NoGood),
            Some(age) => {
                let age = Duration::from_millis(u64::try_from(age).unwrap_or_default());
                max_age.is_some_and(|max| age > max).then_some(StatusFinding::TooOld)
            }
        };
        let pending = self.recovery_pending.map(|from| StatusFinding::RecoveryPending { from });
        let problems = self.problems.iter().cloned().map(StatusFinding::Problem);
        good.into_iter().chain(pending).chain(problems).collect()
    }
}

impl StatusFinding {
    /// The names of those that an age is no part of.
    pub(crate) const WORDS: [&'static str; 3] = ["no_good", "recovery_pending", "problem"];

    /// The stable name, as in metrics labels.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::NoGood => "no_good",
            Self::TooOld => "too_old",
            Self::RecoveryPending { .. } => "recovery_pending",
            Self::Problem(_) => "problem",
        }
    }
}

impl fmt::Display for StatusFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGood => f.write_str("no good snapshot"),
            Self::TooOld => f.write_str("its last good snapshot is too old"),
            Self::RecoveryPending { from } => {
                write!(f, "a restore of {} was interrupted: see doctor", from.short())
            }
            Self::Problem(why) => f.write_str(why),
        }
    }
}

impl Engine {
    /// How an agent stands, or all of the tenant that have snapshots or are known to the host. What cannot be read of an agent
    /// is a problem of its status, and hides nobody else's.
    ///
    /// # Errors
    /// [`SnapshotError::NoSuchAgent`], or if the agents of the vault cannot be listed.
    pub fn status(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
    ) -> Result<Vec<AgentStatus>, SnapshotError> {
        if let Some(agent) = agent {
            self.must_know(tenant, agent)?;
            return Ok(vec![self.status_of(tenant, agent)]);
        }
        let known = self.known_agents()?.into_iter().filter(|(t, _)| t == tenant);
        Ok(known.map(|(tenant, agent)| self.status_of(&tenant, &agent)).collect())
    }

    /// How every agent of every tenant stands.
    ///
    /// # Errors
    /// As [`Engine::status`].
    pub(super) fn status_of_all(&self) -> Result<Vec<AgentStatus>, SnapshotError> {
        let known = self.known_agents()?;
        Ok(known.iter().map(|(tenant, agent)| self.status_of(tenant, agent)).collect())
    }

    /// Those of the vault, and those of whom the host has a layout: one that was never taken a
    /// snapshot of is what an operator must hear of first.
    pub(super) fn known_agents(&self) -> Result<BTreeSet<(Tenant, AgentId)>, SnapshotError> {
        let in_vault = self.parts.vault.agents()?.into_iter();
        Ok(in_vault.chain(self.parts.layouts.agents()).collect())
    }

    /// How many events wait for their delivery, in the whole vault.
    ///
    /// # Errors
    /// If the outbox cannot be read.
    pub fn events_waiting(&self) -> Result<u64, SnapshotError> {
        self.outbox()?.map_or(Ok(0), |outbox| Ok(outbox.depth()?))
    }

    /// How many events of the whole vault were put aside: the other side refused them for good, or
    /// what lies there is none. They are files named `*.bad` in the vault's outbox, for a person.
    ///
    /// # Errors
    /// If the outbox cannot be read.
    pub fn events_put_aside(&self) -> Result<u64, SnapshotError> {
        self.outbox()?.map_or(Ok(0), |outbox| Ok(outbox.put_aside()?))
    }

    fn outbox(&self) -> Result<Option<Outbox>, SnapshotError> {
        Ok(self.parts.vault.existing_outbox_dir()?.map(Outbox::new))
    }

    fn status_of(&self, tenant: &Tenant, agent: &AgentId) -> AgentStatus {
        self.read_status(tenant, agent).unwrap_or_else(|e| AgentStatus {
            tenant: tenant.clone(),
            agent_id: agent.clone(),
            snapshots: 0,
            total_bytes: 0,
            last_good: None,
            last_good_age_ms: None,
            last_good_checked: false,
            pinned: 0,
            hold: None,
            recovery_pending: None,
            problems: vec![error_chain(&e)],
        })
    }

    fn read_status(&self, tenant: &Tenant, agent: &AgentId) -> Result<AgentStatus, SnapshotError> {
        let vault = self.parts.vault.agent(tenant, agent);
        let listing = vault.list()?;
        let mut problems: Vec<String> =
            listing.problems.iter().map(|p| format!("{}: {}", p.path.display(), p.why)).collect();
        let notes = vault.notes().unwrap_or_else(|e| {
            problems.push(error_chain(&e));
            snapshot_vault::Notes::default()
        });
        let hold_on_all = self.parts.vault.hold().unwrap_or_else(|e| {
            problems.push(error_chain(&e));
            None
        });
        let now_ms = self.parts.clock.now_ms();
        let (mut last_good, mut untrusted) = (None, 0u64);
        for meta in &listing.snapshots {
            match self.health(meta, &notes, now_ms) {
                Health::Bad { why } => problems.push(format!("{}: {why}", meta.id)),
                Health::Untrusted => untrusted += 1,
                _ if meta.redactions_applied || last_good.is_some() => {}
                known => last_good = Some((meta.clone(), known != Health::Unknown)),
            }
        }
        if untrusted > 0 {
            problems.push(format!(
                "{untrusted} without a signature that counts, which is required: a restore refuses them"
            ));
        }
        let work = vault.existing_restore_dir()?;
        let pending = work.as_ref().map(snapshot_stores::pending).transpose()?.flatten();
        Ok(AgentStatus {
            tenant: tenant.clone(),
            agent_id: agent.clone(),
            snapshots: listing.snapshots.len() as u64,
            total_bytes: listing.snapshots.iter().map(|m| m.bundle_size_bytes).sum(),
            last_good_age_ms: last_good
                .as_ref()
                .map(|(m, _)| now_ms.saturating_sub(m.created_at_ms)),
            last_good_checked: last_good.as_ref().is_some_and(|(_, checked)| *checked),
            last_good: last_good.map(|(meta, _)| meta),
            pinned: notes.pins.len() as u64,
            hold: hold_on_all.or(notes.hold),
            recovery_pending: pending,
            problems,
        })
    }
}
