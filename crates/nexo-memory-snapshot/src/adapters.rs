//! Hooks into a runtime: a snapshot before a dream run, and before a tool that changes the memory.
//!
//! Invariants: what the runtime names its runs and tools is text of others, and cannot make a
//! snapshot fail; whether to go on without a snapshot is the runtime's decision.

use std::fmt;
use std::sync::Arc;

use snapshot_core::{AgentId, CreatedBy, SnapshotMeta, SnapshotRequest, Tenant};

use crate::config::{AgentSettings, MemorySnapshotConfig};
use crate::error::SnapshotError;
use crate::snapshotter::MemorySnapshotter;

/// Most bytes that a run's or tool's name adds to a label.
const MAX_NAME_BYTES: usize = 200;

/// Takes the automatic snapshots of a runtime's agents.
#[derive(Clone)]
pub struct AutoSnapshots {
    snapshotter: Arc<dyn MemorySnapshotter>,
    /// None where every call takes one.
    config: Option<Arc<MemorySnapshotConfig>>,
}

/// The name that 0.1 has for it.
pub type PreDreamSnapshotAdapter = AutoSnapshots;

impl AutoSnapshots {
    /// One that takes a snapshot at every call.
    #[must_use]
    pub fn new(snapshotter: Arc<dyn MemorySnapshotter>) -> Self {
        Self { snapshotter, config: None }
    }

    /// One that does so for agents of which the configuration says `auto_pre_dream` or
    /// `auto_pre_mutating_tool`.
    #[must_use]
    pub fn configured(
        snapshotter: Arc<dyn MemorySnapshotter>,
        config: Arc<MemorySnapshotConfig>,
    ) -> Self {
        Self { snapshotter, config: Some(config) }
    }

    /// Takes a snapshot labelled `auto:pre-dream-<run_id>` before a dream run; none where the
    /// configuration wants none. `agent` and `tenant` are parsed here, for runtimes that have them as
    /// text.
    ///
    /// # Errors
    /// `Usage` for what is no agent's or tenant's id; whatever keeps the snapshot from being taken.
    pub async fn snapshot_before_dream(
        &self,
        agent: &str,
        tenant: &str,
        run_id: &str,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let label = label("auto:pre-dream-", run_id);
        let origin = CreatedBy::from_static("auto-pre-dream");
        self.take(agent, tenant, label, origin, |settings| settings.auto_pre_dream).await
    }

    /// Takes a snapshot labelled `auto:pre-tool-<tool>` before a tool that changes the memory; none
    /// where the configuration wants none.
    ///
    /// # Errors
    /// As [`AutoSnapshots::snapshot_before_dream`].
    pub async fn snapshot_before_tool(
        &self,
        agent: &str,
        tenant: &str,
        tool: &str,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let label = label("auto:pre-tool-", tool);
        let origin = CreatedBy::from_static("auto-pre-mutating-tool");
        self.take(agent, tenant, label, origin, |settings| settings.auto_pre_mutating_tool).await
    }

    async fn take(
        &self,
        agent: &str,
        tenant: &str,
        label: String,
        origin: CreatedBy,
        wanted: fn(&AgentSettings) -> bool,
    ) -> Result<Option<SnapshotMeta>, SnapshotError> {
        let (agent, tenant): (AgentId, Tenant) = (agent.parse()?, tenant.parse()?);
        let settings = self.config.as_ref().map(|config| config.settings_of(&agent));
        if !settings.as_ref().is_none_or(wanted) {
            return Ok(None);
        }
        let mut request = SnapshotRequest::cli(agent, tenant);
        request.label = Some(label);
        request.created_by = origin;
        if let Some(settings) = settings {
            request.timeout = settings.lock_timeout;
            request.redact_secrets = settings.redact_secrets_default;
        }
        self.snapshotter.snapshot(request).await.map(Some)
    }
}

impl fmt::Debug for AutoSnapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AutoSnapshots").field("configured", &self.config.is_some()).finish()
    }
}

/// A label that is one: control characters of the name become `_`, and a long name is cut.
fn label(prefix: &str, name: &str) -> String {
    let cut = (0..=MAX_NAME_BYTES.min(name.len())).rev().find(|n| name.is_char_boundary(*n));
    let name = &name[..cut.unwrap_or_default()];
    format!("{prefix}{}", name.replace(char::is_control, "_"))
}
