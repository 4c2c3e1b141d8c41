//! What changed: two snapshots, or one and the live memory.

use snapshot_core::{
    Control, CreatedBy, DiffRequest, DiffScope, DiffSide, Difference, SnapshotDiff, SnapshotMeta,
};
use snapshot_stores::DiffOptions;

use super::seal::About;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

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
            Some(meta) => self.open_under(Some(&lock), &meta, ctl),
            None => {
                let about = About::unnamed(CreatedBy::from_static("diff"));
                Ok(self.live_bundle(&lock, &about, LOCK_TIMEOUT, ctl)?.into())
            }
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
}
