//! Restore: old or new, never between.
//!
//! The order of things: choose and refuse, stage and check, hold every store, keep the present state,
//! write the journal, commit all stores back to back, then files, repository and state, then drop
//! the journal. Before the journal nothing live has changed; after it, [`recover`] finishes.

mod commit;
mod hold;
mod journal;
mod parallel;
mod plan;
mod recover;
mod stage;
mod strangers;
mod target;

pub use commit::{Applied, restore};
pub(crate) use journal::Work;
pub use plan::plan;
pub use recover::{Decision, Recovered, needed, pending, recover, sweep};
pub(crate) use stage::{StageProgress, read_piece, stage_git};
pub use target::OtherAgent;

use snapshot_core::{PortError, SnapshotId, Tenant};
use snapshot_fs::Dir;

use crate::cut::CaptureOptions;
use crate::pinned::Pinned;

/// How a restore runs.
#[derive(Clone, Copy)]
pub struct RestoreOptions<'a> {
    /// How the present state is captured; agent, file system, clock and timeout hold for all of it.
    pub capture: CaptureOptions<'a>,
    /// The agent's tenant.
    pub tenant: &'a Tenant,
    /// The agent's folder for restores, private and on the vault's file system.
    pub work: &'a Dir,
    /// A fresh id, for names that this restore makes.
    pub restore_id: SnapshotId,
    /// Whether a store that other agents use too may be restored whole.
    pub whole_store: bool,
    /// Other agents whose layout is known.
    pub others: &'a [OtherAgent],
}

/// Keeps the present state as a snapshot while everything is held; none where the caller wants none.
pub type Keep<'k> = &'k mut dyn FnMut(&mut Pinned<'_>) -> Result<Option<SnapshotId>, PortError>;

/// Called once all stores are held, before the present state is kept: pauses the agent, say, which
/// then changes none of its files until the restore is over.
pub type BeforeCommit<'k> = &'k mut dyn FnMut() -> Result<(), PortError>;

/// Called with the restore's id and what it did, once all of it is durable and before its journal
/// goes: after a crash in between, the recovery calls it again with the same id.
pub type Done<'k> = &'k mut dyn FnMut(SnapshotId, &Applied);
