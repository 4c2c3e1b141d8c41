//! The live memory as a bundle that is never published: for what compares it, searches it, or makes another
//! bundle of it.

use std::time::Duration;

use snapshot_bundle::{Bundle, BundleWriter, WriteOptions};
use snapshot_core::{AgentId, CaptureInfo, Control, SnapshotId};
use snapshot_fs::Dir;
use snapshot_stores::{CaptureOptions, Pinned, cut};
use snapshot_vault::AgentLock;

use super::Engine;
use super::seal::{About, manifest};
use crate::error::SnapshotError;

/// zstd level of a bundle that is gone again in a moment.
const LEVEL: i32 = 1;

impl Engine {
    /// Captures the agent of `lock`. The bundle's open file outlives its name.
    pub(super) fn live_bundle(
        &self,
        lock: &AgentLock,
        about: &About,
        timeout: Duration,
        ctl: &Control,
    ) -> Result<Bundle, SnapshotError> {
        let (tenant, agent) = (lock.agent().tenant(), lock.agent().agent());
        let layout = self.layout(tenant, agent)?;
        let spool = lock.staging()?;
        let opts = CaptureOptions {
            check_integrity: false,
            ..self.live_options(agent, spool.dir(), timeout, ctl)
        };
        Ok(self.unpublished(lock, &mut cut(&layout, &opts)?, about, ctl)?.0)
    }

    /// How an agent is captured for a snapshot.
    pub(super) fn live_options<'a>(
        &'a self,
        agent: &'a AgentId,
        spool: &'a Dir,
        timeout: Duration,
        control: &'a Control,
    ) -> CaptureOptions<'a> {
        CaptureOptions {
            agent,
            fs: &self.parts.fs,
            spool,
            clock: self.parts.clock.as_ref(),
            state: self.parts.state.as_deref(),
            timeout,
            control,
            max_git_object_bytes: self.parts.max_git_object_bytes,
            check_integrity: true,
        }
    }

    /// What is pinned, in the clear and unsigned, in a folder of our own that is gone when this returns.
    pub(super) fn unpublished(
        &self,
        lock: &AgentLock,
        pinned: &mut Pinned<'_>,
        about: &About,
        ctl: &Control,
    ) -> Result<(Bundle, CaptureInfo), SnapshotError> {
        let staging = lock.staging()?;
        let created_at_ms = pinned.instant_ms();
        let threads = self.parts.threads;
        let opts = WriteOptions { threads, level: LEVEL, ..WriteOptions::new(created_at_ms) };
        let mut writer = BundleWriter::new(staging.create_bundle()?, &opts, ctl.clone())?;
        let captured = pinned.write_to(&mut writer)?;
        let (manifest, capture) = manifest(lock, about, SnapshotId::nil(), created_at_ms, captured);
        let written = writer.finish(&manifest)?.out;
        let path = written.path().to_owned();
        Ok((Bundle::open(written.into_reader()?, &path)?, capture))
    }
}
