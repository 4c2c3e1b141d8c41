//! The async edge: the trait that hosts program against, and the engine behind it.

use async_trait::async_trait;
use snapshot_core::{
    AgentId, DiffRequest, ExportRequest, Listing, RestoreReport, RestoreRequest, SnapshotDiff,
    SnapshotMeta, SnapshotRef, SnapshotRequest, Tenant, VerifyReport,
};
use std::path::PathBuf;

use crate::error::SnapshotError;

/// Snapshots of agents' memory, for async hosts.
///
/// Contract: dropping a future cancels its operation, which stops at its next step and leaves
/// nothing half-done behind; an operation past its commit point completes.
#[async_trait]
pub trait MemorySnapshotter: Send + Sync {
    /// Takes a snapshot.
    async fn snapshot(&self, req: SnapshotRequest) -> Result<SnapshotMeta, SnapshotError>;

    /// Puts a snapshot back over the live agent, or into an empty folder.
    async fn restore(&self, req: RestoreRequest) -> Result<RestoreReport, SnapshotError>;

    /// Counts what changed between two snapshots, or one and the live memory.
    async fn diff(&self, req: DiffRequest) -> Result<SnapshotDiff, SnapshotError>;

    /// The snapshots of an agent, or of all of a tenant, newest first.
    async fn list(&self, tenant: Tenant, agent: Option<AgentId>) -> Result<Listing, SnapshotError>;

    /// Reads a whole bundle and says what is wrong with it.
    async fn verify(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<VerifyReport, SnapshotError>;

    /// Deletes a snapshot, but never an agent's last good one.
    async fn delete(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError>;

    /// Copies a bundle out of the vault; returns the files written.
    async fn export(&self, req: ExportRequest) -> Result<Vec<PathBuf>, SnapshotError>;
}
