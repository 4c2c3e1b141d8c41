//! The doctor and an agent's memory, looked at from outside: rights, leftovers, space, and who has its
//! databases open.

use std::path::{Path, PathBuf};

use snapshot_core::{Bytes, MemoryLayout, SpaceNeed};
use snapshot_stores::health::{
    ailing_parts, ailing_rights, database_holders, remove_strays, snapshot_space, strays,
    unclaimed_staging,
};
use snapshot_stores::{Holder, Holders};
use snapshot_vault::{AgentVault, ProblemKind};

use super::super::LOCK_TIMEOUT;
use super::{FindingKind, Round};
use crate::error::SnapshotError;

impl Round<'_> {
    /// Looks at the memory of an agent whose layout is known. While a restore waits to be finished, what it
    /// left is still needed.
    pub(super) fn memory(
        &mut self,
        vault: &AgentVault,
        pending: bool,
    ) -> Result<(), SnapshotError> {
        let agent = vault.agent();
        let layout = match self.engine.layout(vault.tenant(), agent) {
            Ok(layout) => layout,
            Err(SnapshotError::UnknownAgent { .. }) => {
                self.not_checked(format!("agent {agent}: its memory, whose place is not known"));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        self.check(format!(
            "agent {agent}: parts, owners and rights of its memory, temporary files"
        ));
        for (path, why) in ailing_parts(&layout) {
            self.find(FindingKind::Memory, &path, why, false);
        }
        for ailment in ailing_rights(&layout) {
            let kind = if ailment.is_owner { FindingKind::Owner } else { FindingKind::Rights };
            self.find(kind, &ailment.path, ailment.why, false);
        }
        if !pending {
            self.strays(vault, &layout)?;
        }
        self.space(agent.as_str(), &layout)?;
        self.layouts.push(layout);
        Ok(())
    }

    /// What the dead left among the memory; nothing is said while somebody is at work.
    fn strays(&mut self, vault: &AgentVault, layout: &MemoryLayout) -> Result<(), SnapshotError> {
        let fs = &self.engine.parts.fs;
        let work = vault.existing_restore_dir()?;
        let (found, unclaimed) = {
            let Some(_idle) = vault.idle() else {
                let agent = vault.agent();
                self.not_checked(format!(
                    "agent {agent}: its temporary files, somebody is at work"
                ));
                return Ok(());
            };
            (strays(fs, layout, work.as_ref())?, unclaimed_staging(fs, layout, work.as_ref())?)
        };
        for path in unclaimed {
            let why = "named as what a restore stages, though none with this vault did; it is not captured: if no restore \
                       with another vault is at work, move it away";
            self.find(ProblemKind::Unknown, &path, why.to_owned(), false);
        }
        let left = match self.fix && !found.is_empty() {
            true => self.remove_strays(vault, layout)?,
            false => found.clone(),
        };
        for path in found {
            self.leftover(&path, !left.contains(&path));
        }
        Ok(())
    }

    /// Removes what the dead left, unless a restore died in between and needs it; says what is left.
    fn remove_strays(
        &mut self,
        vault: &AgentVault,
        layout: &MemoryLayout,
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let parts = &self.engine.parts;
        let until = self.ctl.wait_until(LOCK_TIMEOUT);
        let lock = vault.lock(until, self.ctl)?;
        let targets: Vec<PathBuf> = layout.paths().into_iter().map(Path::to_owned).collect();
        let _targets = parts.vault.lock_targets(&targets, until, self.ctl)?;
        let work = lock.agent().existing_restore_dir()?;
        let look = || strays(&parts.fs, layout, work.as_ref());
        if work.as_ref().map(snapshot_stores::pending).transpose()?.flatten().is_none() {
            // What cannot be removed is still there.
            let _ = snapshot_stores::sweep(&parts.fs, layout, work.as_ref());
            let _ = remove_strays(&parts.fs, &look()?);
        }
        Ok(look()?)
    }

    fn space(&mut self, agent: &str, layout: &MemoryLayout) -> Result<(), SnapshotError> {
        let (fs, root) = (&self.engine.parts.fs, self.engine.root());
        let Some(need) = snapshot_space(fs, layout, root)? else { return Ok(()) };
        let SpaceNeed { at, needed_bytes, free_bytes } = need;
        let numbers = format!(
            "the next snapshot needs up to {needed_bytes} bytes ({}), and {free_bytes} ({}) are free",
            Bytes(needed_bytes),
            Bytes(free_bytes)
        );
        self.check(format!("agent {agent}: space in {}: {numbers}", at.display()));
        if needed_bytes > free_bytes {
            self.find(FindingKind::LowSpace, &at, format!("{numbers}: make room, or prune"), false);
        }
        Ok(())
    }

    /// Who has a database of the agents open, seen in one walk through all processes.
    pub(super) fn holders(&mut self) {
        let Holders { processes, closed_to_us, can_tell } = database_holders(&self.layouts);
        if !can_tell {
            let line = "which SQLite uses the agents' databases: this system does not tell";
            return self.not_checked(line.to_owned());
        }
        let seen = processes.len();
        self.check(format!(
            "the SQLite of the processes that use the agents' databases, {seen} seen"
        ));
        if closed_to_us > 0 {
            self.not_checked(format!(
                "which databases and which SQLite the processes of other users have: {closed_to_us} are closed to us"
            ));
        }
        for holder in processes {
            if holder.libraries.is_empty() {
                let Holder { pid, program, .. } = &holder;
                self.not_checked(format!(
                    "the SQLite of {program} (process {pid}): none was found in it"
                ));
            }
            self.old_sqlite(&holder);
        }
    }

    fn old_sqlite(&mut self, holder: &Holder) {
        let Some(old) = holder.libraries.iter().find(|library| library.has_wal_reset_bug()) else {
            return;
        };
        let version = match &old.version {
            Some(version) => version.clone(),
            None => format!("of {}", old.source),
        };
        let why = format!(
            "{} (process {}) has it open with SQLite {version} in {}, which has the WAL-reset bug and can lose what was \
             written: give it 3.51.3 or newer (or 3.50.7, 3.44.6), and start it anew",
            holder.program,
            holder.pid,
            old.path.display()
        );
        self.find(FindingKind::OldSqlite, &holder.database, why, false);
    }
}
