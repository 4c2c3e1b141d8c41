//! The port to where snapshots are.

use snapshot_core::{AgentId, Control, PortError, RetentionTickReport, SnapshotId, Tenant};

use crate::plan::{Candidate, Health};

/// Knows the snapshots, and deletes them.
pub trait Keeper: Send + Sync {
    /// Everyone who has snapshots.
    ///
    /// # Errors
    /// If that cannot be told.
    fn agents(&self) -> Result<Vec<(Tenant, AgentId)>, PortError>;

    /// An agent's snapshots, and what holds them.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn survey(&self, tenant: &Tenant, agent: &AgentId) -> Result<Survey, PortError>;

    /// Reads a bundle and remembers whether it is good.
    ///
    /// # Errors
    /// If it cannot be read; damage is none.
    fn check(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        control: &Control,
    ) -> Result<Health, PortError>;

    /// Deletes a snapshot. It must look again, under the agent's lock, whether the snapshot is pinned,
    /// held or needed by now, and refuse then.
    ///
    /// # Errors
    /// Where it is refused, in use, or cannot be deleted.
    fn delete(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        id: SnapshotId,
        control: &Control,
    ) -> Result<(), PortError>;

    /// Clears what dead processes left, only under the agent's lock; returns the folders removed.
    ///
    /// # Errors
    /// Where somebody works on the agent, or something cannot be removed.
    fn sweep(&self, tenant: &Tenant, agent: &AgentId) -> Result<u64, PortError>;

    /// Runs one agent's turn in a run; who counts or traces turns does it around this.
    ///
    /// # Errors
    /// Those of the turn.
    fn turn(
        &self,
        _tenant: &Tenant,
        _agent: &AgentId,
        turn: &mut dyn FnMut() -> Result<(), PortError>,
    ) -> Result<(), PortError> {
        turn()
    }

    /// A run is over.
    fn finished(&self, report: &RetentionTickReport);
}

/// An agent's snapshots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The snapshots, in any order.
    pub candidates: Vec<Candidate>,
    /// Why nothing may go, where that is so.
    pub hold: Option<String>,
}
