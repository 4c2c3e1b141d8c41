//! Lifecycle events: what was done with snapshots.

use serde::{Deserialize, Serialize};
use snapshot_core::{
    AgentId, RestoreReport, RetentionTickReport, SnapshotId, SnapshotMeta, Tenant,
};

/// Subjects of lifecycle events begin so, unless configured otherwise.
pub const LIFECYCLE_SUBJECT_PREFIX: &str = "nexo.memory.snapshot";

/// Stands where an agent's id would, for what concerns all; no id starts with `_`.
const ALL_AGENTS: &str = "_all";

/// Something was done with snapshots; published only once it is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LifecycleEvent {
    /// A snapshot was taken.
    Created(SnapshotMeta),
    /// A memory was put back.
    Restored(RestoreReport),
    /// A snapshot was deleted.
    Deleted {
        /// Whose it was.
        agent_id: AgentId,
        /// The agent's tenant.
        tenant: Tenant,
        /// The snapshot.
        snapshot_id: SnapshotId,
        /// When, milliseconds since the epoch, UTC.
        ts_ms: i64,
    },
    /// A retention run ended.
    Gc {
        /// When, milliseconds since the epoch, UTC.
        ts_ms: i64,
        /// What it did.
        report: RetentionTickReport,
    },
}

impl LifecycleEvent {
    /// Its subject under the default prefix.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject_with_prefix(LIFECYCLE_SUBJECT_PREFIX)
    }

    /// Its subject, `{prefix}.{agent_id}.{created|restored|deleted}` or `{prefix}._all.gc`.
    #[must_use]
    pub fn subject_with_prefix(&self, prefix: &str) -> String {
        let (agent, kind) = match self {
            Self::Created(meta) => (meta.agent_id.as_str(), "created"),
            Self::Restored(report) => (report.agent_id.as_str(), "restored"),
            Self::Deleted { agent_id, .. } => (agent_id.as_str(), "deleted"),
            Self::Gc { .. } => (ALL_AGENTS, "gc"),
        };
        format!("{prefix}.{agent}.{kind}")
    }
}
