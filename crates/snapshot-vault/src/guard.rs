//! The lock on an agent as a type: it owns what only its holder may do.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use snapshot_core::{Control, Listing};
use snapshot_fs::{Dir, FileLock, LockMode};

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::layout;
use crate::listing;
use crate::staging::Staging;

/// The exclusive lock on an agent. It is held until this and every [`Staging`] made from it are
/// dropped; the operating system releases it when the process dies.
#[derive(Debug)]
pub struct AgentLock {
    pub(crate) agent: AgentVault,
    pub(crate) snapshots: Dir,
    held: Arc<Held>,
}

/// What a lock and its staging folders share.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: FileLock,
    /// Names of the staging folders in use, which no sweep may take.
    live: Mutex<BTreeSet<OsString>>,
}

impl AgentLock {
    pub(crate) fn acquire(
        agent: AgentVault,
        until: Instant,
        control: &Control,
    ) -> Result<Self, VaultError> {
        let name = layout::agent_lock_name(agent.agent());
        let dir = agent.locks_dir()?;
        let lock = FileLock::acquire(&dir, name, LockMode::Exclusive, until, control)?;
        let snapshots = agent.own_dir(layout::SNAPSHOTS)?;
        let held = Arc::new(Held { _lock: lock, live: Mutex::default() });
        Ok(Self { agent, snapshots, held })
    }

    /// The agent's part of the vault.
    #[must_use]
    pub fn agent(&self) -> &AgentVault {
        &self.agent
    }

    /// As [`AgentVault::list`], but every leftover is a problem: nobody else is at work.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn list(&self) -> Result<Listing, VaultError> {
        listing::read(&self.agent, &self.snapshots)
    }

    /// A new private folder on the vault's file system, removed with all it holds when dropped.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn staging(&self) -> Result<Staging, VaultError> {
        Staging::create(self.staging_dir()?, Arc::clone(&self.held))
    }

    /// The folder of this agent's restore journal, made where it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn restore_dir(&self) -> Result<Dir, VaultError> {
        self.agent.own_dir(layout::RESTORE)
    }

    pub(crate) fn staging_dir(&self) -> Result<Dir, VaultError> {
        self.agent.own_dir(layout::STAGING)
    }

    pub(crate) fn held(&self) -> &Held {
        &self.held
    }
}

impl Held {
    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeSet<OsString>> {
        // A set of names is whole after any panic.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
