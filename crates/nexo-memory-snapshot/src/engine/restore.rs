//! Restoring: a plan first, then its execution under the agent's lock.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Serialize, Serializer};
use snapshot_bundle::VerifiedBundle;
use snapshot_core::{
    ArtifactSource, Control, CreatedBy, Encryption, Manifest, MemoryLayout, PathResolver,
    PortError, RestorePlan, RestoreReport, RestoreRequest, RestoreTarget, RowCounts, SnapshotId,
    StateLayout,
};
use snapshot_fs::{Dir, FsError};
use snapshot_stores::{Applied, CaptureOptions, OtherAgent, Pinned, RestoreOptions};
use snapshot_vault::AgentLock;
use tracing::field::Empty;
use tracing::info_span;

use super::events::Announced;
use super::quiesce::Paused;
use super::seal::About;
use super::{Engine, absolute};
use crate::error::SnapshotError;
use crate::metrics::{Operation, failure};

/// A restore that was planned and not yet done. Its bundle is verified and open.
///
/// Displays and serialises as its plan.
pub struct PlannedRestore {
    engine: Engine,
    req: RestoreRequest,
    bundle: VerifiedBundle,
    layout: MemoryLayout,
    plan: RestorePlan,
}

impl Engine {
    /// Verifies the whole bundle and says what restoring it would do. Changes nothing.
    ///
    /// # Errors
    /// Every refusal that the restore itself would make: another agent's bundle, damage, a shared
    /// store, too little space, an owner that we cannot give files to.
    pub fn plan_restore(
        &self,
        req: &RestoreRequest,
        ctl: &Control,
    ) -> Result<PlannedRestore, SnapshotError> {
        // A plan is no restore; one that is refused ends a restore before it began.
        let count = |e: &SnapshotError| self.metrics().failed(Operation::Restore, e.kind());
        self.planned_restore(req, ctl).inspect_err(count)
    }

    fn planned_restore(
        &self,
        req: &RestoreRequest,
        ctl: &Control,
    ) -> Result<PlannedRestore, SnapshotError> {
        let engine = self.knowing(req.decrypt.as_ref())?;
        // Before anything else of a bundle is believed, it must be of that agent.
        let of = req.of_agent.as_ref().unwrap_or(&req.agent_id);
        let meta = engine.resolve(&req.tenant, Some(of), &req.from)?;
        let opened = engine.open_to_verify(&meta, ctl)?;
        let options = self.verification(opened.sidecar.as_ref());
        let bundle = opened.bundle.into_verified(&options, ctl)?;
        refuse_redacted(bundle.manifest(), req)?;
        let layout = match &req.target {
            RestoreTarget::Live => self.layout(&req.tenant, &req.agent_id)?,
            RestoreTarget::Dir(dir) => {
                let dir = self.place_outside(dir)?;
                self.check_empty(&dir)?;
                dir_layout(&dir, bundle.manifest())
            }
        };
        let others = self.other_agents(req);
        let near = nearest_dir(self.root());
        let work = self.parts.fs.open_dir(near)?;
        let capture = self.capture_options(req, &work, ctl);
        let opts = restore_options(req, capture, &work, self.parts.ids.next_id(), &others);
        let mut plan = snapshot_stores::plan(bundle.manifest(), &layout, &opts)?;
        plan.auto_pre_snapshot = req.auto_pre_snapshot && req.target == RestoreTarget::Live;
        if let RestoreTarget::Dir(dir) = &req.target {
            plan.into = Some(dir.clone());
        }
        Ok(PlannedRestore { engine: self.clone(), req: req.clone(), bundle, layout, plan })
    }

    pub(super) fn capture_options<'a>(
        &'a self,
        req: &'a RestoreRequest,
        spool: &'a Dir,
        ctl: &'a Control,
    ) -> CaptureOptions<'a> {
        CaptureOptions {
            agent: &req.agent_id,
            fs: &self.parts.fs,
            spool,
            clock: self.parts.clock.as_ref(),
            // A restore into a folder has nothing to do with the host's state.
            state: self.parts.state.as_deref().filter(|_| req.target == RestoreTarget::Live),
            timeout: req.timeout,
            control: ctl,
            max_git_object_bytes: self.parts.max_git_object_bytes,
            // Writers wait while the present state is kept; its digest decides anyway.
            check_integrity: false,
        }
    }

    /// Seals what is held during a restore or a recovery.
    pub(super) fn keep_held(
        &self,
        lock: &AgentLock,
        pinned: &mut Pinned<'_>,
        created_by: &'static str,
        of: SnapshotId,
        ctl: &Control,
    ) -> Result<Option<SnapshotId>, PortError> {
        let label = format!("{created_by} {}", of.short());
        let created_by = CreatedBy::from_static(created_by);
        let (tenant, agent) = (lock.agent().tenant(), lock.agent().agent());
        let span = info_span!("snapshot", %tenant, %agent, outcome = Empty);
        let work = || {
            let recipients = self.recipients(tenant, agent, &Encryption::ByPolicy)?;
            let about = About { label: Some(label), public_label: false, created_by, recipients };
            let begun = self.begin(lock, &about, ctl)?;
            self.seal(lock, begun, pinned, &about, ctl)
        };
        let kept = self.metrics().measured(Operation::Snapshot, span, failure, work);
        let fail = |e: SnapshotError| {
            PortError::new(e.kind(), "cannot keep the present state as a snapshot", e)
        };
        kept.map(|meta| Some(meta.id)).map_err(fail)
    }

    fn other_agents(&self, req: &RestoreRequest) -> Vec<OtherAgent> {
        let layouts: &dyn PathResolver = self.parts.layouts.as_ref();
        let known = layouts.agents().into_iter();
        known
            .filter(|(tenant, agent)| (tenant, agent) != (&req.tenant, &req.agent_id))
            .filter_map(|(tenant, agent)| {
                layouts.layout(&tenant, &agent).map(|layout| (agent, layout))
            })
            .collect()
    }

    fn check_empty(&self, path: &Path) -> Result<(), SnapshotError> {
        match self.parts.fs.open_dir(path) {
            Ok(dir) if dir.entries()?.is_empty() => Ok(()),
            Ok(_) => Err(SnapshotError::Exists { path: path.to_owned() }),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl PlannedRestore {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    /// Carries it out. Where the live memory moved on since the plan, what is done is what the
    /// bundle holds, and what was there is in the pre-restore snapshot.
    ///
    /// # Errors
    /// `RecoveryPending` where an earlier restore was interrupted and must be decided first;
    /// `Concurrent` and `Busy` past the timeout, nothing changed; every refusal of the plan.
    pub fn apply(self, ctl: &Control) -> Result<RestoreReport, SnapshotError> {
        let (tenant, agent) = (&self.req.tenant, &self.req.agent_id);
        let from = self.bundle.manifest().snapshot_id;
        let span = info_span!("restore", %tenant, %agent, %from, outcome = Empty);
        let metrics = self.engine.metrics().clone();
        metrics.measured(Operation::Restore, span, failure, || self.apply_now(ctl))
    }

    fn apply_now(self, ctl: &Control) -> Result<RestoreReport, SnapshotError> {
        let Self { engine, req, bundle, layout, .. } = self;
        let agent = engine.parts.vault.agent(&req.tenant, &req.agent_id);
        let until = ctl.wait_until(req.timeout);
        let lock = agent.lock(until, ctl)?;
        // What the dead left is no reason to refuse the living; doctor names what stays.
        let _ = lock.sweep();
        match &req.target {
            RestoreTarget::Live => {
                engine.recover_first(&lock, req.timeout, ctl)?;
                engine.restore_live(&lock, &req, &bundle, &layout, until, ctl)
            }
            RestoreTarget::Dir(dir) => {
                engine.restore_to_dir(&lock, &req, &bundle, &layout, &absolute(dir)?, ctl)
            }
        }
    }
}

impl Engine {
    fn restore_live(
        &self,
        lock: &AgentLock,
        req: &RestoreRequest,
        bundle: &VerifiedBundle,
        layout: &MemoryLayout,
        until: Instant,
        ctl: &Control,
    ) -> Result<RestoreReport, SnapshotError> {
        let targets: Vec<PathBuf> = layout.paths().into_iter().map(Path::to_owned).collect();
        let _targets = self.parts.vault.lock_targets(&targets, until, ctl)?;
        let (spool, work) = (lock.staging()?, lock.restore_dir()?);
        let others = self.other_agents(req);
        let capture = self.capture_options(req, spool.dir(), ctl);
        let opts = restore_options(req, capture, &work, self.parts.ids.next_id(), &others);
        let from = bundle.manifest().snapshot_id;
        if req.auto_pre_snapshot {
            // A key is read while nobody is held.
            self.parts.keys.signer()?;
        }
        let mut keep = |pinned: &mut Pinned<'_>| match req.auto_pre_snapshot {
            true => self.keep_held(lock, pinned, "auto-pre-restore", from, ctl),
            false => Ok(None),
        };
        let mut paused: Option<Paused<'_>> = None;
        let mut pause = || {
            let fail = |e: SnapshotError| PortError::new(e.kind(), "cannot pause the agent", e);
            paused = Some(self.pause(&req.agent_id).map_err(fail)?);
            Ok(())
        };
        let mut announced = None;
        let mut done = |restore, applied: &Applied| {
            let report = self.report(req, from, applied.clone());
            let sealed = bundle.bundle().encryption().is_some();
            announced = Some(self.announce_restored(lock, restore, report, sealed));
        };
        let applied =
            snapshot_stores::restore(bundle, layout, &opts, &mut keep, &mut pause, &mut done);
        drop(paused);
        let applied = applied?;
        self.metrics().writers_held(Operation::Restore, applied.writers_held_us);
        let report = self.report(req, from, applied);
        announced.into_iter().for_each(Announced::happened);
        Ok(report)
    }

    /// Restores into an empty folder. Its journal lies in the staging that dies with us: there is
    /// nothing there to recover.
    fn restore_to_dir(
        &self,
        lock: &AgentLock,
        req: &RestoreRequest,
        bundle: &VerifiedBundle,
        layout: &MemoryLayout,
        dir: &Path,
        ctl: &Control,
    ) -> Result<RestoreReport, SnapshotError> {
        self.check_empty(dir)?;
        let existed = dir.is_dir();
        let root = self.parts.fs.ensure_dir(dir, 0o700)?;
        let (spool, work) = (lock.staging()?, lock.staging()?);
        let capture = self.capture_options(req, spool.dir(), ctl);
        let opts = restore_options(req, capture, work.dir(), self.parts.ids.next_id(), &[]);
        // Nobody's memory was put back: it is no event.
        let ended = snapshot_stores::restore(
            bundle,
            layout,
            &opts,
            &mut |_| Ok(None),
            &mut || Ok(()),
            &mut |_, _| {},
        );
        if ended.is_err() {
            // What stopped it is the error to report.
            let _ = self.clear(&root, dir.parent().zip(dir.file_name()).filter(|_| !existed));
        }
        Ok(self.report(req, bundle.manifest().snapshot_id, ended?))
    }

    /// Empties the folder, and removes it where it is `made` by us.
    fn clear(&self, root: &Dir, made: Option<(&Path, &OsStr)>) -> Result<(), FsError> {
        for entry in root.entries()? {
            root.remove_tree(&entry.name)?;
        }
        match made {
            Some((parent, name)) => self.parts.fs.open_dir(parent)?.remove_dir(name),
            None => Ok(()),
        }
    }

    pub(super) fn report(
        &self,
        req: &RestoreRequest,
        from: SnapshotId,
        applied: Applied,
    ) -> RestoreReport {
        let live = req.target == RestoreTarget::Live;
        RestoreReport {
            agent_id: req.agent_id.clone(),
            tenant: Some(req.tenant.clone()),
            from,
            pre_snapshot: applied.pre_snapshot,
            git_reset_oid: applied.head,
            sqlite_restored_dbs: applied.stores,
            state_files_restored: applied.state,
            workers_restarted: live && self.pauses(&req.agent_id),
            dry_run: false,
            writers_held_us: live.then_some(applied.writers_held_us),
            readers_held_us: (live && applied.readers_held_us > 0)
                .then_some(applied.readers_held_us),
            memory_files: Some(applied.files).filter(|counts: &RowCounts| !counts.is_zero()),
            notes: applied.notes,
        }
    }
}

impl fmt::Display for PlannedRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl Serialize for PlannedRestore {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.plan.serialize(s)
    }
}

impl fmt::Debug for PlannedRestore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedRestore").field("plan", &self.plan).finish_non_exhaustive()
    }
}

pub(super) fn restore_options<'a>(
    req: &'a RestoreRequest,
    capture: CaptureOptions<'a>,
    work: &'a Dir,
    restore_id: SnapshotId,
    others: &'a [OtherAgent],
) -> RestoreOptions<'a> {
    RestoreOptions {
        capture,
        tenant: &req.tenant,
        work,
        restore_id,
        whole_store: req.whole_store,
        others,
    }
}

/// What was taken out of a redacted bundle would be gone from a live agent.
fn refuse_redacted(manifest: &Manifest, req: &RestoreRequest) -> Result<(), SnapshotError> {
    match manifest.redactions.is_some() && !req.accept_redacted && req.target == RestoreTarget::Live
    {
        true => Err(SnapshotError::Redacted { id: manifest.snapshot_id }),
        false => Ok(()),
    }
}

/// Where a restore into a folder puts things: as in the bundle.
fn dir_layout(dir: &Path, manifest: &Manifest) -> MemoryLayout {
    let memory = manifest.git.is_some() || manifest.memory_entries().next().is_some();
    let auto = manifest.stores().any(|(info, _)| info.store.auto_path().is_some());
    let stores = manifest.stores().filter(|(info, _)| info.store.auto_path().is_none());
    MemoryLayout {
        memdir: (memory || auto).then(|| dir.join("memory_files")),
        stores: stores.map(|(info, x)| (info.store.clone(), dir.join(x.path.as_path()))).collect(),
        state: StateLayout::json_dir(&dir.join("state")),
        parts_optional: true,
    }
}

/// The folder itself, or the nearest one above it that exists.
fn nearest_dir(path: &Path) -> &Path {
    let found = path.ancestors().find(|p| p.is_dir());
    found.unwrap_or(Path::new("/"))
}
