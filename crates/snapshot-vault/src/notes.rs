//! Notes beside the snapshots: what is pinned, what is on hold, what was checked when.
//!
//! They are no part of a snapshot: losing them loses no memory. What they forbid holds as long as
//! they cannot be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use snapshot_core::{ParseError, SnapshotId};
use snapshot_fs::{Dir, FsError};

use crate::agent::AgentVault;
use crate::error::VaultError;
use crate::guard::AgentLock;
use crate::layout;
use crate::vault::Vault;

/// Format of the notes; another one is never guessed at.
const VERSION: u32 = 1;
/// Largest notes, in bytes: some ten thousand snapshots.
const MAX_BYTES: u64 = 4 << 20;

/// The notes on one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    version: u32,
    /// Why nothing of the agent may go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Note>,
    /// Why single snapshots may not go.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<SnapshotId, Note>,
    /// Which bundles were read, and what came of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<SnapshotId, Check>,
}

/// All that is believed of notes before their version is ours.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A reason that somebody gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The reason.
    pub why: String,
    /// When, milliseconds since the epoch, UTC.
    pub at_ms: i64,
}

/// A reading of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When, milliseconds since the epoch, UTC.
    pub at_ms: i64,
    /// What was wrong; nothing where it was good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl AgentVault {
    /// The notes on this agent.
    ///
    /// # Errors
    /// [`VaultError::Notes`] where they are none of ours, [`VaultError::NewerNotes`], or an I/O error.
    pub fn notes(&self) -> Result<Notes, VaultError> {
        match self.existing_dir(&[layout::NOTES])? {
            Some(dir) => read(&dir, &layout::notes_name(self.agent())),
            None => Ok(Notes::default()),
        }
    }
}

impl AgentLock {
    /// Changes the notes on this agent; durable when this returns. What they say of snapshots that
    /// are gone goes with it.
    ///
    /// # Errors
    /// As [`AgentVault::notes`], or if they cannot be written.
    pub fn change_notes(&self, change: impl FnOnce(&mut Notes)) -> Result<(), VaultError> {
        let mut notes = self.agent.notes()?;
        change(&mut notes);
        let listing = self.list()?;
        let there = |id: &SnapshotId| {
            let known = listing.snapshots.iter().map(|meta| meta.id);
            known.chain(listing.problems.iter().filter_map(|p| p.id)).any(|known| known == *id)
        };
        notes.pins.retain(|id, _| there(id));
        notes.checks.retain(|id, _| there(id));
        notes.version = VERSION;
        let vault = self.agent.vault();
        let dir = layout::private_sub(&vault.tenant_dir(self.agent.tenant())?, layout::NOTES)?;
        write(&dir, &layout::notes_name(self.agent.agent()), &notes)
    }
}

impl Vault {
    /// Why nothing of the whole vault may go.
    ///
    /// # Errors
    /// As [`AgentVault::notes`].
    pub fn hold(&self) -> Result<Option<Note>, VaultError> {
        match self.existing_root()? {
            Some(root) => Ok(read(&root, layout::HOLD)?.hold),
            None => Ok(None),
        }
    }

    /// Says why nothing of the whole vault may go, or that it may again; durable when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set_hold(&self, hold: Option<Note>) -> Result<(), VaultError> {
        // What a newer program wrote is not written over.
        if let Err(newer @ VaultError::NewerNotes { .. }) = self.hold() {
            return Err(newer);
        }
        let notes = Notes { version: VERSION, hold, ..Notes::default() };
        write(&self.root_dir()?, layout::HOLD, &notes)
    }
}

fn read(dir: &Dir, name: &str) -> Result<Notes, VaultError> {
    let bad = |why: String| VaultError::Notes { path: dir.path().join(name), why };
    let bytes = match dir.read(name, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => return Ok(Notes::default()),
        Err(e @ FsError::TooLarge { .. }) => return Err(bad(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    // The version first: newer notes may have another shape.
    let Version { version } = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
    if version > VERSION {
        let (found, supported) =
            (format!("notes version {version}"), format!("notes version {VERSION}"));
        let source = ParseError::TooNew { found, supported };
        return Err(VaultError::NewerNotes { path: dir.path().join(name), source });
    }
    if version != VERSION {
        return Err(bad(format!("version {version}, and this program knows {VERSION}")));
    }
    serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))
}

fn write(dir: &Dir, name: &str, notes: &Notes) -> Result<(), VaultError> {
    let bad = |e: serde_json::Error| {
        let path = dir.path().join(name);
        VaultError::Notes { path, why: e.to_string() }
    };
    let bytes = serde_json::to_vec_pretty(notes).map_err(bad)?;
    Ok(dir.write_atomic(name, &bytes, layout::FILE_MODE)?)
}
