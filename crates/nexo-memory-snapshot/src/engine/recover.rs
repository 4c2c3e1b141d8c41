//! Finishing restores that a crash interrupted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use snapshot_core::mutants::off;
use snapshot_core::{
    AgentId, Control, ErrorKind, RestoreReport, RestoreRequest, SnapshotId, SnapshotRef, Tenant,
};
use snapshot_stores::{Applied, Decision, Pinned, Recovered, StoresError};
use snapshot_vault::AgentLock;
use tracing::field::Empty;
use tracing::info_span;

use super::events::Announced;
use super::restore::restore_options;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;
use crate::metrics::Operation;

/// What a recovery of one agent found and did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    /// The agent's tenant.
    pub tenant: Tenant,
    /// The agent.
    pub agent: AgentId,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: RecoveryOutcome,
}

/// What became of an interrupted restore.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum RecoveryOutcome {
    /// There was none.
    Nothing,
    /// It was finished.
    RolledForward {
        /// What the restore did in the end.
        report: Box<RestoreReport>,
    },
    /// Somebody has worked since; `doctor --recover` decides.
    Pending {
        /// The snapshot that was being restored.
        from: SnapshotId,
        /// The snapshot of the present state.
        pre_recovery: Option<SnapshotId>,
        /// What is neither old nor new.
        why: String,
    },
    /// It was forgotten; the present state stays.
    Abandoned {
        /// The snapshot that was being restored.
        from: SnapshotId,
        /// The snapshot of the present state.
        pre_recovery: Option<SnapshotId>,
    },
}

impl Engine {
    /// Finishes this agent's interrupted restore, where there is one; `decision` settles one that is
    /// pending because somebody has worked since.
    ///
    /// # Errors
    /// `Concurrent` and `Busy` past the default timeout; whatever keeps the restore from being
    /// finished. Its journal stays then.
    pub fn recover(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        decision: Option<Decision>,
        ctl: &Control,
    ) -> Result<Recovery, SnapshotError> {
        self.must_know(tenant, agent)?;
        self.recover_known(tenant, agent, decision, ctl)
    }

    fn recover_known(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        decision: Option<Decision>,
        ctl: &Control,
    ) -> Result<Recovery, SnapshotError> {
        let lock = self.parts.vault.agent(tenant, agent).lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        let outcome = self.recover_locked(&lock, decision, LOCK_TIMEOUT, ctl)?;
        Ok(Recovery { tenant: tenant.clone(), agent: agent.clone(), outcome })
    }

    /// A runtime's first line at boot: finishes every interrupted restore that can be finished
    /// without asking. Agents with nothing to recover are left out.
    ///
    /// # Errors
    /// The first failure; agents before it are done.
    pub fn recover_all(&self, ctl: &Control) -> Result<Vec<Recovery>, SnapshotError> {
        let mut recoveries = Vec::new();
        for (tenant, agent) in self.parts.vault.agents()? {
            let recovery = self.recover_known(&tenant, &agent, None, ctl)?;
            if recovery.outcome != RecoveryOutcome::Nothing {
                recoveries.push(recovery);
            }
        }
        Ok(recoveries)
    }

    /// Before anything else under the agent's lock: an interrupted restore is finished, or refused
    /// to be worked over.
    pub(super) fn recover_first(
        &self,
        lock: &AgentLock,
        timeout: Duration,
        ctl: &Control,
    ) -> Result<(), SnapshotError> {
        match self.recover_locked(lock, None, timeout, ctl)? {
            RecoveryOutcome::Pending { from, why, .. } if !off() => {
                Err(StoresError::RecoveryPending { from: from.to_string(), why }.into())
            }
            _ => Ok(()),
        }
    }

    fn recover_locked(
        &self,
        lock: &AgentLock,
        decision: Option<Decision>,
        timeout: Duration,
        ctl: &Control,
    ) -> Result<RecoveryOutcome, SnapshotError> {
        let (tenant, agent) = (lock.agent().tenant(), lock.agent().agent());
        let work = lock.agent().existing_restore_dir()?;
        let layout = self.layout(tenant, agent).ok();
        // Another tenant's agent may live in the same files, and be at work on them.
        let targets = layout.iter().flat_map(|layout| layout.paths());
        let targets: Vec<PathBuf> = targets.map(Path::to_owned).collect();
        let until = ctl.wait_until(timeout);
        let _targets = self.parts.vault.lock_targets(&targets, until, ctl)?;
        let pending = work.as_ref().map(snapshot_stores::pending).transpose()?.flatten();
        let (Some(work), Some(from)) = (&work, pending) else {
            // A restore that died before its journal changed nothing, but may have left staging.
            if let Some(layout) = layout {
                snapshot_stores::sweep(&self.parts.fs, &layout, work.as_ref())?;
            }
            return Ok(RecoveryOutcome::Nothing);
        };
        let spool = lock.staging()?;
        let mut req = RestoreRequest::new(agent.clone(), tenant.clone(), SnapshotRef::Latest(0));
        req.timeout = timeout;
        let capture = self.capture_options(&req, spool.dir(), ctl);
        let opts = restore_options(&req, capture, work, self.parts.ids.next_id(), &[]);
        // A key is read while nobody is held; that there is none is for whoever needs it to say.
        let _ = self.parts.keys.signer();
        let mut keep =
            |pinned: &mut Pinned<'_>| self.keep_held(lock, pinned, "auto-pre-recovery", from, ctl);
        let mut announced = None;
        let mut done = |restore, applied: &Applied| {
            let report = self.report(&req, from, applied.clone());
            // Of one that is gone nobody knows any more whether it was.
            let sealed = lock.agent().meta(from).map_or(true, |meta| meta.encrypted);
            announced = Some(self.announce_restored(lock, restore, report, sealed));
        };
        let span = info_span!("restore", %tenant, %agent, %from, outcome = Empty);
        let recovered = self.metrics().measured(Operation::Restore, span, outcome, || {
            snapshot_stores::recover(&opts, decision, &mut keep, &mut done)
        })?;
        announced.into_iter().for_each(Announced::happened);
        Ok(match recovered {
            Recovered::Nothing => RecoveryOutcome::Nothing,
            Recovered::RolledForward { from, applied } => RecoveryOutcome::RolledForward {
                report: Box::new(self.report(&req, from, *applied)),
            },
            Recovered::Pending { from, pre_recovery, why } => {
                RecoveryOutcome::Pending { from, pre_recovery, why }
            }
            Recovered::Abandoned { from, pre_recovery } => {
                RecoveryOutcome::Abandoned { from, pre_recovery }
            }
        })
    }
}

impl Recovery {
    /// The kind of error that this outcome is for those who wanted to go on.
    #[must_use]
    pub fn error_kind(&self) -> Option<ErrorKind> {
        matches!(self.outcome, RecoveryOutcome::Pending { .. })
            .then_some(ErrorKind::RecoveryPending)
    }
}

/// What the end of a recovery says of the restore.
fn outcome(done: &Result<Recovered, StoresError>) -> Option<ErrorKind> {
    match done {
        Ok(Recovered::Nothing | Recovered::RolledForward { .. }) => None,
        Ok(Recovered::Pending { .. }) => Some(ErrorKind::RecoveryPending),
        Ok(Recovered::Abandoned { .. }) => Some(ErrorKind::Interrupted),
        Err(e) => Some(e.kind()),
    }
}
