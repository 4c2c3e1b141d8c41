//! Mutation events: what an agent's memory crates wrote.

use serde::{Deserialize, Serialize};
use snapshot_core::{AgentId, Tenant};

/// Subjects of mutation events begin so, unless configured otherwise.
pub const MUTATION_SUBJECT_PREFIX: &str = "nexo.memory.mutated";

/// One write to an agent's memory. Best-effort: none is promised to arrive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutationEvent {
    /// Whose memory.
    pub agent_id: AgentId,
    /// The agent's tenant.
    pub tenant: Tenant,
    /// Where in it.
    pub scope: MutationScope,
    /// What was done.
    pub op: MutationOp,
    /// To what: `<table>:<primary key>`, a path in the memdir, a commit id.
    pub key: String,
    /// Digest of the value before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_hash: Option<String>,
    /// Digest of the value after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_hash: Option<String>,
    /// When, milliseconds since the epoch, UTC.
    pub ts_ms: i64,
}

/// A part of an agent's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MutationScope {
    /// The store `long_term`.
    SqliteLongTerm,
    /// The store `vector`.
    SqliteVector,
    /// The store `concepts`.
    SqliteConcepts,
    /// The store `compactions`.
    SqliteCompactions,
    /// The memdir's repository.
    Git,
    /// A file of the memdir.
    MemoryFile,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MutationOp {
    /// Something new.
    Insert,
    /// Something changed.
    Update,
    /// Something went.
    Delete,
}

impl MutationEvent {
    /// Its subject under the default prefix.
    #[must_use]
    pub fn subject(&self) -> String {
        self.subject_with_prefix(MUTATION_SUBJECT_PREFIX)
    }

    /// Its subject, `{prefix}.{agent_id}`.
    #[must_use]
    pub fn subject_with_prefix(&self, prefix: &str) -> String {
        format!("{prefix}.{}", self.agent_id)
    }
}
