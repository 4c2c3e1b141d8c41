//! What changed: two snapshots, or one and the live memory.

use snapshot_bundle::{Bundle, BundleWriter, WriteOptions};
use snapshot_core::{
    Control, CreatedBy, DiffRequest, DiffScope, DiffSide, Difference, RestoreRequest, SnapshotDiff,
    SnapshotId, SnapshotMeta, SnapshotRef,
};
use snapshot_stores::{DiffOptions, cut};
use snapshot_vault::AgentLock;

use super::seal::{About, manifest};
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

/// zstd level of the bundle that stands for the live memory and is gone again in a moment.
const LIVE_LEVEL: i32 = 1;

impl Engine {
    /// Counts what changed from `a` to `b`.
    ///
    /// # Errors
    /// If a side cannot be found, read or captured.
    pub fn diff(&self, req: &DiffRequest, ctl: &Control) -> Result<SnapshotDiff, SnapshotError> {
        self.diff_with(req, &DiffScope::default(), None, ctl)
    }

    /// The same of what `scope` says; `tell` hears each difference as it is found. Every byte that is
    /// compared has the manifest's digest; what both sides have alike is not read.
    ///
    /// # Errors
    /// As [`Engine::diff`]; what was told before is true of what was read.
    pub fn diff_with(
        &self,
        req: &DiffRequest,
        scope: &DiffScope,
        tell: Option<&mut dyn FnMut(Difference)>,
        ctl: &Control,
    ) -> Result<SnapshotDiff, SnapshotError> {
        // Before anything is made in the vault: of a mistyped agent nothing is to stay.
        let found = |side: &DiffSide| match side {
            DiffSide::Snapshot(r) => self.resolve(&req.tenant, Some(&req.agent_id), r).map(Some),
            DiffSide::Live => Ok(None),
        };
        let (a, b) = (found(&req.a)?, found(&req.b)?);
        let agent = self.parts.vault.agent(&req.tenant, &req.agent_id);
        let lock = agent.lock(ctl.wait_until(LOCK_TIMEOUT), ctl)?;
        let scratch = lock.staging()?;
        let side = |found: Option<SnapshotMeta>| match found {
            Some(meta) => self.open(&meta, ctl),
            None => Ok(self.live_bundle(&lock, req, ctl)?.into()),
        };
        let (a, b) = (side(a)?, side(b)?);
        let options = DiffOptions {
            scope,
            scratch: scratch.dir(),
            max_git_object_bytes: self.parts.max_git_object_bytes,
            threads: self.parts.threads,
            control: ctl,
        };
        Ok(snapshot_stores::diff(&a.bundle, &b.bundle, &options, tell)?)
    }

    /// The live memory as a bundle that is never published; its open file outlives its name.
    fn live_bundle(
        &self,
        lock: &AgentLock,
        req: &DiffRequest,
        ctl: &Control,
    ) -> Result<Bundle, SnapshotError> {
        let layout = self.layout(&req.tenant, &req.agent_id)?;
        let staging = lock.staging()?;
        let as_restore =
            RestoreRequest::new(req.agent_id.clone(), req.tenant.clone(), SnapshotRef::Latest(0));
        let mut pinned = cut(&layout, &self.capture_options(&as_restore, staging.dir(), ctl))?;
        let created_at_ms = pinned.instant_ms();
        let threads = self.parts.threads;
        let opts = WriteOptions { threads, level: LIVE_LEVEL, ..WriteOptions::new(created_at_ms) };
        let mut writer = BundleWriter::new(staging.create_bundle()?, &opts, ctl.clone())?;
        let captured = pinned.write_to(&mut writer)?;
        let created_by = CreatedBy::from_static("diff");
        let about = About { label: None, public_label: false, created_by, recipients: None };
        let (manifest, _) = manifest(lock, &about, SnapshotId::nil(), created_at_ms, captured);
        let written = writer.finish(&manifest)?.out;
        let path = written.path().to_owned();
        Ok(Bundle::open(written.into_reader()?, &path)?)
    }
}
