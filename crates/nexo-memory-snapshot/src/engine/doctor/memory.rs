//! The doctor and an agent's memory, looked at from outside: rights, leftovers, space, and who has its
//! databases open.

use std::path::{Path, PathBuf};

use snapshot_core::{Bytes, MemoryLayout, SpaceNeed};
use snapshot_stores::health::{
    ailing_rights, database_holders, remove_strays, snapshot_space, strays,
};
use snapshot_stores::{Holder, Holders};
use snapshot_vault::AgentVault;

use super::super::{Engine, LOCK_TIMEOUT};
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
        self.check(format!("agent {agent}: owners and rights of its memory, temporary files"));
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

    /// What dead restores left among the memory; nothing is said while somebody is at work.
    fn strays(&mut self, vault: &AgentVault, layout: &MemoryLayout) -> Result<(), SnapshotError> {
        let engine = self.engine;
        let alone = |folder: &Path| engine.is_alone(vault, folder);
        let look = || strays(&engine.parts.fs, layout, &alone);
        let found = {
            let Some(_idle) = vault.idle() else {
                let agent = vault.agent();
                self.not_checked(format!(
                    "agent {agent}: its temporary files, somebody is at work"
                ));
                return Ok(());
            };
            look()?
        };
        if found.is_empty() {
            return Ok(());
        }
        let mut left = found.clone();
        if self.fix {
            let until = self.ctl.wait_until(LOCK_TIMEOUT);
            let lock = vault.lock(until, self.ctl)?;
            let targets: Vec<PathBuf> = layout.paths().into_iter().map(Path::to_owned).collect();
            let _targets = engine.parts.vault.lock_targets(&targets, until, self.ctl)?;
            // A restore may have died in between.
            let work = lock.agent().existing_restore_dir()?;
            if work.map(|work| snapshot_stores::pending(&work)).transpose()?.flatten().is_none() {
                // What cannot be removed is still there.
                let _ = remove_strays(&engine.parts.fs, &look()?);
            }
            left = look()?;
        }
        for path in found {
            self.leftover(&path, !left.contains(&path));
        }
        Ok(())
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

impl Engine {
    /// Whether no other agent that is known keeps something in this folder; where the agents are not
    /// known, that is not known either.
    fn is_alone(&self, vault: &AgentVault, folder: &Path) -> bool {
        let layouts = self.parts.layouts.as_ref();
        let (own, others): (Vec<_>, Vec<_>) = layouts
            .agents()
            .into_iter()
            .partition(|(tenant, agent)| (tenant, agent) == (vault.tenant(), vault.agent()));
        let uses = |path: &Path| {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            real == folder || real.parent() == Some(folder)
        };
        let shares = |layout: MemoryLayout| layout.paths().into_iter().any(uses);
        let mut others = others.into_iter().filter_map(|(t, a)| layouts.layout(&t, &a));
        !own.is_empty() && !others.any(shares)
    }
}
