//! Keeping the right snapshots: pins, holds, checks, and the vault as the retention worker sees it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use snapshot_core::mutants::holds;
use snapshot_core::{
    AgentId, Control, CreatedBy, PortError, RetentionTickReport, SnapshotId, SnapshotMeta,
    SnapshotRef, Step, Tenant, error_chain,
};
use snapshot_retention::{
    CHECK_COUNTS_MS, Candidate, Health, Keeper, RetentionConfig, RetentionWorker, Survey,
};
use snapshot_vault::{AgentVault, Check, Note, Notes};
use tracing::field::Empty;
use tracing::info_span;

use super::copy::{Watch, copy_file};
use super::keys::Standing;
use super::snapshot::refusal;
use super::v1::refuse_v1;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;
use crate::metrics::Operation;

/// How long a run waits for one agent; one that is busy has its turn with the next run.
const PATIENCE: Duration = Duration::from_secs(2);

/// How old a check is when [`Engine::due`] asks for the next one, in milliseconds: 6 days, so that a
/// daily round is never late for the 7 that one counts.
const DUE_AFTER_MS: i64 = 6 * 86_400_000;

/// The vault as the worker sees it.
struct VaultKeeper(Engine);

impl Engine {
    /// The worker that keeps the right snapshots of every agent in the vault: tick it, spawn it, or
    /// plan one agent with it.
    #[must_use]
    pub fn retention_worker(&self, config: RetentionConfig) -> RetentionWorker {
        let keeper = Arc::new(VaultKeeper(self.clone()));
        RetentionWorker::new(keeper, config, Arc::clone(&self.parts.clock))
    }

    /// Keeps a snapshot from being deleted, by a person or a policy.
    ///
    /// # Errors
    /// As [`Engine::resolve`]; `Usage` for a reason that is empty, too long or has control
    /// characters; `Concurrent` where somebody works on the agent.
    pub fn pin(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
        why: &str,
    ) -> Result<SnapshotMeta, SnapshotError> {
        let note = self.note(why)?;
        self.change_pin(tenant, agent, r, |notes, id| _ = notes.pins.insert(id, note))
    }

    /// Lets it go again.
    ///
    /// # Errors
    /// As [`Engine::pin`].
    pub fn unpin(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        self.change_pin(tenant, agent, r, |notes, id| _ = notes.pins.remove(&id))
    }

    /// Keeps everything of an agent, or of the whole vault with all its tenants, from being deleted.
    ///
    /// # Errors
    /// As [`Engine::pin`].
    pub fn hold(&self, whose: Option<(&Tenant, &AgentId)>, why: &str) -> Result<(), SnapshotError> {
        self.set_hold(whose, Some(self.note(why)?))
    }

    /// Ends a hold. One on the vault and one on an agent are two.
    ///
    /// # Errors
    /// `Concurrent` where somebody works on the agent, or an I/O error.
    pub fn release(&self, whose: Option<(&Tenant, &AgentId)>) -> Result<(), SnapshotError> {
        self.set_hold(whose, None)
    }

    /// Which of these nobody has read for 6 days, publishing counted: reading them day by day
    /// keeps every check fresh for retention. Damaged ones are known, and in [`Engine::status`].
    #[must_use]
    pub fn due(&self, snapshots: &[SnapshotMeta]) -> BTreeSet<SnapshotId> {
        let now_ms = self.parts.clock.now_ms();
        // A time of the future says nothing.
        let fresh = now_ms.saturating_sub(DUE_AFTER_MS)..=now_ms;
        let mut notes: BTreeMap<(Tenant, AgentId), Notes> = BTreeMap::new();
        let mut due = BTreeSet::new();
        for meta in snapshots {
            let whose = (meta.tenant.clone(), meta.agent_id.clone());
            let notes = match notes.entry(whose) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let agent = self.parts.vault.agent(&meta.tenant, &meta.agent_id);
                    // What cannot be read says nothing of checks; status and doctor tell of it.
                    new.insert(agent.notes().unwrap_or_default())
                }
            };
            let read = match notes.checks.get(&meta.id) {
                Some(Check { damage: Some(_), .. }) => continue,
                Some(check) => check.at_ms.max(meta.created_at_ms),
                None => meta.created_at_ms,
            };
            if !fresh.contains(&read) {
                due.insert(meta.id);
            }
        }
        due
    }

    /// Remembers what reading a bundle said, if nobody is at work on the agent: it is worth something
    /// to the next retention run, and no reason to wait or fail.
    pub(super) fn note_check(&self, meta: &SnapshotMeta, damage: Option<String>) {
        let Some(agent) = self.vault_of(meta) else { return };
        let check = Check { at_ms: self.parts.clock.now_ms(), damage };
        let noted = agent
            .lock(Instant::now(), &Control::default())
            .and_then(|lock| lock.change_notes(|notes| _ = notes.checks.insert(meta.id, check)));
        if let Err(e) = noted {
            tracing::debug!(error = %error_chain(&e), "a check is not remembered");
        }
    }

    fn note(&self, why: &str) -> Result<Note, SnapshotError> {
        match refusal(why) {
            Some(why) => Err(SnapshotError::Reason { why }),
            None => Ok(Note { why: why.to_owned(), at_ms: self.parts.clock.now_ms() }),
        }
    }

    fn change_pin(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        r: &SnapshotRef,
        change: impl FnOnce(&mut Notes, SnapshotId),
    ) -> Result<SnapshotMeta, SnapshotError> {
        let meta = self.resolve(tenant, agent, r)?;
        refuse_v1(&meta)?;
        let Some(vault) = self.vault_of(&meta) else {
            let (path, root) = (meta.bundle_path, self.root().to_owned());
            return Err(SnapshotError::NotInVault { path, root });
        };
        self.change_notes(&vault, |notes| change(notes, meta.id))?;
        Ok(meta)
    }

    fn set_hold(
        &self,
        whose: Option<(&Tenant, &AgentId)>,
        hold: Option<Note>,
    ) -> Result<(), SnapshotError> {
        let Some((tenant, agent)) = whose else { return Ok(self.parts.vault.set_hold(hold)?) };
        self.must_know(tenant, agent)?;
        self.change_notes(&self.parts.vault.agent(tenant, agent), |notes| notes.hold = hold)
    }

    fn change_notes(
        &self,
        agent: &AgentVault,
        change: impl FnOnce(&mut Notes),
    ) -> Result<(), SnapshotError> {
        let control = Control::default();
        let lock = agent.lock(control.wait_until(LOCK_TIMEOUT), &control)?;
        Ok(lock.change_notes(change)?)
    }

    /// What is known of a bundle, and whether it may be relied on.
    pub(super) fn health(&self, meta: &SnapshotMeta, notes: &Notes, now_ms: i64) -> Health {
        match checked(meta, notes, now_ms) {
            bad @ Health::Bad { .. } => bad,
            _ if !self.trusts(meta) => Health::Untrusted,
            known => known,
        }
    }

    fn survey(&self, agent: &AgentVault) -> Result<Survey, SnapshotError> {
        let (notes, listing) = (agent.notes()?, agent.list()?);
        let work = agent.existing_restore_dir()?;
        let needed = work.as_ref().map(snapshot_stores::needed).transpose()?.unwrap_or_default();
        let now_ms = self.parts.clock.now_ms();
        let candidate = |meta: SnapshotMeta| {
            // Damaged or not, what may be anybody's takes nobody's place; and a rule goes by the label that was
            // signed, where that can be seen.
            let (health, label) = match self.standing(&meta) {
                Standing::Untrusted => (Health::Untrusted, meta.label),
                Standing::Attested => (checked(&meta, &notes, now_ms), meta.label),
                Standing::Signed(manifest) => (checked(&meta, &notes, now_ms), manifest.label),
            };
            Candidate {
                id: meta.id,
                created_at_ms: meta.created_at_ms,
                size_bytes: meta.bundle_size_bytes,
                redacted: meta.redactions_applied,
                health,
                pin: notes.pins.get(&meta.id).map(|note| note.why.clone()),
                needed: needed.contains(&meta.id).then(|| "an interrupted restore".to_owned()),
                label,
                created_by: meta.created_by.unwrap_or_else(|| CreatedBy::from_static("unknown")),
            }
        };
        let candidates = listing.snapshots.into_iter().map(candidate).collect();
        let hold = self.parts.vault.hold()?.or(notes.hold.clone()).map(|note| note.why);
        Ok(Survey { candidates, hold })
    }

    /// Reads the file, and compares it with its summary.
    fn check(&self, meta: &SnapshotMeta, ctl: &Control) -> Result<Health, SnapshotError> {
        let mut located = self.locate(meta, ctl)?;
        let watch =
            Watch { step: Step::Verify, before: 0, total: meta.bundle_size_bytes, control: ctl };
        let found = copy_file(&mut located.file, &located.path, watch, |_| Ok(()))?;
        let damage = (!holds(found == meta.bundle_sha256))
            .then(|| format!("its SHA-256 is {found}, its summary says {}", meta.bundle_sha256));
        self.note_check(meta, damage.clone());
        Ok(match damage {
            Some(why) => Health::Bad { why },
            None if !self.trusts(meta) => Health::Untrusted,
            None => Health::Good { checked_at_ms: self.parts.clock.now_ms() },
        })
    }

    /// Deletes for a policy. Looks again under the lock: since the plan was made somebody may have
    /// deleted the good one that it relies on.
    fn drop_planned(
        &self,
        agent: &AgentVault,
        id: SnapshotId,
        ctl: &Control,
    ) -> Result<(), SnapshotError> {
        let until = ctl.wait_until(PATIENCE);
        let lock = agent.lock(until, ctl)?;
        let good =
            |c: &Candidate| c.id != id && !c.redacted && matches!(c.health, Health::Good { .. });
        if !self.survey(agent)?.candidates.iter().any(good) {
            return Err(SnapshotError::LastGood { id, agent: agent.agent().clone() });
        }
        self.delete_locked(&lock, id, until, ctl)?;
        self.metrics().dropped();
        Ok(())
    }

    fn clear_leftovers(&self, agent: &AgentVault) -> Result<u64, SnapshotError> {
        let control = Control::default();
        let lock = agent.lock(Instant::now(), &control)?;
        let swept = lock.sweep()?;
        lock.finish_deletes(control.wait_until(PATIENCE), &control)?;
        Ok(swept.staging)
    }
}

impl Keeper for VaultKeeper {
    fn agents(&self) -> Result<Vec<(Tenant, AgentId)>, PortError> {
        self.0.parts.vault.agents().map_err(|e| {
            // Nobody has a turn, and that must not look like a run with nothing to do.
            self.0.metrics().failed(Operation::Prune, e.kind());
            port(e.into())
        })
    }

    fn turn(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        turn: &mut dyn FnMut() -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        let span = info_span!("prune", %tenant, %agent, outcome = Empty);
        let outcome = |done: &Result<(), PortError>| done.as_ref().err().map(|e| e.kind);
        self.0.metrics().measured(Operation::Prune, span, outcome, turn)
    }

    fn survey(&self, tenant: &Tenant, agent: &AgentId) -> Result<Survey, PortError> {
        self.0.survey(&self.0.parts.vault.agent(tenant, agent)).map_err(port)
    }

    fn check(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        control: &Control,
    ) -> Result<Health, PortError> {
        let meta = self.0.parts.vault.agent(tenant, agent).meta(id).map_err(SnapshotError::from);
        meta.and_then(|meta| self.0.check(&meta, control)).map_err(port)
    }

    fn delete(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        control: &Control,
    ) -> Result<(), PortError> {
        let agent = self.0.parts.vault.agent(tenant, agent);
        self.0.drop_planned(&agent, id, control).map_err(port)
    }

    fn sweep(&self, tenant: &Tenant, agent: &AgentId) -> Result<u64, PortError> {
        self.0.clear_leftovers(&self.0.parts.vault.agent(tenant, agent)).map_err(port)
    }

    fn finished(&self, report: &RetentionTickReport) {
        self.0.tell_gc(report.clone());
    }
}

/// What is known of a bundle: by its last reading, or its publish.
fn checked(meta: &SnapshotMeta, notes: &Notes, now_ms: i64) -> Health {
    match notes.checks.get(&meta.id) {
        Some(Check { damage: Some(why), .. }) => Health::Bad { why: why.clone() },
        Some(Check { at_ms, damage: None }) if recent(*at_ms, now_ms) => {
            Health::Good { checked_at_ms: *at_ms }
        }
        _ if recent(meta.created_at_ms, now_ms) => {
            Health::Good { checked_at_ms: meta.created_at_ms }
        }
        _ => Health::Unknown,
    }
}

/// A time of the future is none to rely on.
fn recent(at_ms: i64, now_ms: i64) -> bool {
    (now_ms.saturating_sub(CHECK_COUNTS_MS)..=now_ms).contains(&at_ms)
}

fn port(error: SnapshotError) -> PortError {
    PortError::new(error.kind(), "the vault", error)
}
