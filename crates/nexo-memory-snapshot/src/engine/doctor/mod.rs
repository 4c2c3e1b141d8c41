//! The doctor: what is wrong with a vault and its agents, and mending what can be mended safely.
//!
//! Invariants: without `fix` nothing changes; with it nothing is lost: what is no snapshot is moved
//! aside, and only after it was read whole and found bad; what may pass by itself, or is somebody
//! else's to decide, is told and left.

mod bundles;
mod memory;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use snapshot_core::{AgentId, Control, ErrorKind, MemoryLayout, Tenant, error_chain};
use snapshot_stores::health::shell_quoted;
use snapshot_vault::{AgentVault, Exposed, ListProblem, ProblemKind};

use super::recover::RecoveryOutcome;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

/// Most files named in one finding; how many more there are is said.
const SHOWN: usize = 5;

/// What the doctor looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// What was looked at, one line each.
    pub checked: Vec<String>,
    /// What could not be looked at, one line each: nothing is said of it.
    pub not_checked: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort of thing.
    pub kind: FindingKind,
    /// Where.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub why: String,
    /// Whether it was mended.
    pub fixed: bool,
    /// The folder that its files were moved to, where they were: `import` of the bundle in it brings a
    /// snapshot back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<PathBuf>,
}

/// Sorts of findings; the words are stable. Those of a listing keep the words that they have there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// What a listing of the vault calls a problem.
    Vault(ProblemKind),
    /// A restore that died half-way.
    InterruptedRestore,
    /// Something that others may reach, or that we may not write to.
    Rights,
    /// Something that belongs to another user.
    Owner,
    /// Less space than the next snapshot needs.
    LowSpace,
    /// Nothing where the vault should be.
    NoVault,
    /// A part of the memory that is not there, or is not what the configuration says.
    Memory,
    /// A process that uses a database with a SQLite that has the WAL-reset bug.
    OldSqlite,
}

/// What one run looks at, with whom, and what it finds.
struct Round<'a> {
    engine: &'a Engine,
    fix: bool,
    ctl: &'a Control,
    /// The memories that were looked at.
    layouts: Vec<MemoryLayout>,
    report: &'a mut DoctorReport,
}

impl Engine {
    /// Looks at one agent, or at all of a tenant, and at what the tenant's agents share of the vault;
    /// with `fix`, mends what loses nothing.
    ///
    /// It is quick: of each bundle the two small files beside it, the index and the manifest are read, not
    /// the contents, which [`Engine::verify`] reads; memory is looked at from outside. With `fix` each
    /// bundle that something is wrong with is read whole before anything is decided.
    ///
    /// # Errors
    /// [`SnapshotError::NoSuchAgent`]; if the vault's agents cannot be listed, somebody is at work on one that is to be mended, or
    /// the caller stopped it. What cannot be read is a finding.
    pub fn doctor(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        fix: bool,
        ctl: &Control,
    ) -> Result<DoctorReport, SnapshotError> {
        let agents: Vec<AgentId> = match agent {
            Some(agent) => {
                self.must_know(tenant, agent)?;
                vec![agent.clone()]
            }
            None => {
                let known = self.known_agents()?.into_iter().filter(|(t, _)| t == tenant);
                known.map(|(_, agent)| agent).collect()
            }
        };
        let mut report = DoctorReport::default();
        let mut round = Round { engine: self, fix, ctl, layouts: Vec::new(), report: &mut report };
        for agent in agents {
            ctl.check()?;
            round.agent(&self.parts.vault.agent(tenant, &agent))?;
        }
        round.holders();
        round.vault(tenant);
        Ok(report)
    }
}

impl FindingKind {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vault(kind) => kind.as_str(),
            Self::InterruptedRestore => "interrupted_restore",
            Self::Rights => "rights",
            Self::Owner => "owner",
            Self::LowSpace => "low_space",
            Self::NoVault => "no_vault",
            Self::Memory => "memory",
            Self::OldSqlite => "old_sqlite",
        }
    }
}

impl From<ProblemKind> for FindingKind {
    fn from(kind: ProblemKind) -> Self {
        Self::Vault(kind)
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Round<'_> {
    /// One agent: its part of the vault, then its memory. What cannot be read hides nothing else.
    fn agent(&mut self, vault: &AgentVault) -> Result<(), SnapshotError> {
        let at = vault.snapshots_path();
        let pending = self.recovery(vault);
        let pending = self.or_unreadable(&at, pending)?.unwrap_or(true);
        let files = self.vault_files(vault, pending);
        self.or_unreadable(&at, files)?;
        let bundles = self.bundles(vault);
        self.or_unreadable(&at, bundles)?;
        if let Err(e) = vault.notes() {
            self.unreadable(&at, &e);
        }
        let memory = self.memory(vault, pending);
        self.or_unreadable(&at, memory)?;
        Ok(())
    }

    /// Finds an interrupted restore; says whether one is left.
    fn recovery(&mut self, vault: &AgentVault) -> Result<bool, SnapshotError> {
        let Some(work) = vault.existing_restore_dir()? else { return Ok(false) };
        let Some(from) = snapshot_stores::pending(&work)? else { return Ok(false) };
        let mut why = format!(
            "a restore of snapshot {from} was interrupted; `doctor --fix` or the next snapshot or restore finishes it"
        );
        let mut fixed = false;
        if self.fix {
            let (tenant, agent) = (vault.tenant(), vault.agent());
            match self.engine.recover(tenant, agent, None, self.ctl)?.outcome {
                RecoveryOutcome::Pending { why: others, pre_recovery, .. } => {
                    let kept = pre_recovery
                        .map_or_else(|| "not kept".to_owned(), |id| format!("kept as {id}"));
                    why = format!(
                        "a restore of snapshot {from} was interrupted and somebody has worked since ({others}; the present \
                         state is {kept}): decide with `doctor --recover forward` or `--recover abandon`"
                    );
                }
                _ => {
                    why =
                        format!("a restore of snapshot {from} was interrupted; now it is finished");
                    fixed = true;
                }
            }
        }
        self.find(FindingKind::InterruptedRestore, work.path(), why, fixed);
        Ok(!fixed)
    }

    /// Half-done deletes, what dead processes left, and what is nothing of ours. What an interrupted
    /// restore left is its own, and goes with it.
    fn vault_files(&mut self, vault: &AgentVault, pending: bool) -> Result<(), SnapshotError> {
        let problems = vault.list()?.problems;
        let strays = if pending { Vec::new() } else { vault.strays()? };
        // What has a snapshot's name may be of use: it is judged with the bundles.
        let mendable = |p: &ListProblem| match p.kind {
            ProblemKind::HalfDeleted => true,
            ProblemKind::Leftover => p.id.is_none(),
            _ => false,
        };
        if self.fix && (!strays.is_empty() || problems.iter().any(mendable)) {
            let until = self.ctl.wait_until(LOCK_TIMEOUT);
            let lock = vault.lock(until, self.ctl)?;
            lock.sweep()?;
            lock.finish_deletes(until, self.ctl)?;
        }
        let left = if self.fix { vault.list()?.problems } else { problems.clone() };
        // Of bundles and what lies beside them more is known once they are looked into.
        for problem in problems.into_iter().filter(|p| mendable(p) || is_foreign(p.kind)) {
            let fixed = !left.contains(&problem);
            let advice = match problem.kind {
                ProblemKind::HalfDeleted | ProblemKind::Leftover => mending(fixed),
                ProblemKind::Unknown => ": move it away, if it is nobody's",
                _ => "",
            };
            self.find(problem.kind, &problem.path, problem.why + advice, fixed);
        }
        let left = if self.fix && !pending { vault.strays()? } else { strays.clone() };
        for stray in strays {
            self.leftover(&stray, !left.contains(&stray));
        }
        Ok(())
    }

    /// What the agents share of the vault: its rights, and temporary files.
    fn vault(&mut self, tenant: &Tenant) {
        let root = self.engine.root().to_owned();
        let vault = &self.engine.parts.vault;
        self.check(format!(
            "vault {}, tenant {tenant}: owners, rights, temporary files",
            root.display()
        ));
        match vault.exists() {
            Ok(true) => {}
            Ok(false) => {
                let why = "there is no vault: no snapshot was ever taken, the name is mistyped, or a disk is not mounted";
                self.find(FindingKind::NoVault, &root, why.to_owned(), false);
            }
            // What follows says why.
            Err(_) => {}
        }
        match vault.exposed(tenant, self.fix) {
            Ok(exposed) => self.rights(&exposed),
            Err(e) => self.unreadable(&root, &e),
        }
        match vault.is_open_for_exchange() {
            Ok(false) => {}
            Ok(true) => {
                let why = format!(
                    "other users can exchange what lies in it: chmod go-w {}",
                    shell_quoted(&root)
                );
                self.find(FindingKind::Rights, &root, why, false);
            }
            Err(e) => self.unreadable(&root, &e),
        }
        if let Err(e) = vault.hold() {
            self.unreadable(&root, &e);
        }
        match vault.strays(tenant, self.fix) {
            Ok(strays) => {
                for (path, gone) in strays {
                    self.leftover(&path, gone);
                }
            }
            Err(e) => self.unreadable(&root, &e),
        }
    }

    /// One finding for what is open to others, and one for what is another user's, in each folder.
    fn rights(&mut self, exposed: &[Exposed]) {
        let folder = |e: &Exposed| e.path.parent().map(Path::to_owned).unwrap_or_default();
        for group in exposed.chunk_by(|a, b| folder(a) == folder(b)) {
            let (strangers, open): (Vec<&Exposed>, Vec<&Exposed>) =
                group.iter().partition(|e| e.uid != e.owner);
            if let Some(first) = strangers.first() {
                let why = format!(
                    "owned by another user than {}: {}; if that is a mistake: chown -R {} {}",
                    first.owner,
                    some(&strangers, |e| format!("{} (user {})", name(&e.path), e.uid)),
                    first.owner,
                    shell_quoted(&first.path),
                );
                self.find(FindingKind::Owner, &first.path, why, false);
            }
            if let Some(first) = open.iter().find(|e| !e.closed).or(open.first()) {
                let fixed = open.iter().all(|e| e.closed);
                let what = if fixed { "was" } else { "is" };
                let list = some(&open, |e| format!("{} ({:04o})", name(&e.path), e.mode));
                let mut why = format!("{what} open to other users: {list}");
                if !fixed {
                    why += &format!(
                        "; `doctor --fix`, or: chmod -R go= {}",
                        shell_quoted(&first.path)
                    );
                }
                self.find(FindingKind::Rights, &first.path, why, fixed);
            }
        }
    }

    fn check(&mut self, line: String) {
        self.report.checked.push(line);
    }

    fn not_checked(&mut self, line: String) {
        self.report.not_checked.push(line);
    }

    fn find(&mut self, kind: impl Into<FindingKind>, path: &Path, why: String, fixed: bool) {
        let (kind, path) = (kind.into(), path.to_owned());
        self.report.findings.push(Finding { kind, path, why, fixed, moved_to: None });
    }

    fn leftover(&mut self, path: &Path, gone: bool) {
        let why = format!("left by a process that died{}", mending(gone));
        self.find(ProblemKind::Leftover, path, why, gone);
    }

    fn unreadable(&mut self, path: &Path, error: &(dyn std::error::Error + 'static)) {
        self.find(ProblemKind::Unreadable, path, error_chain(error), false);
    }

    /// A failure is a finding; being stopped, or somebody at work, is nothing wrong with the agent.
    fn or_unreadable<T>(
        &mut self,
        path: &Path,
        done: Result<T, SnapshotError>,
    ) -> Result<Option<T>, SnapshotError> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::Concurrent) => Err(e),
            Err(e) => {
                self.unreadable(path, &e);
                Ok(None)
            }
        }
    }
}

/// Problems of a listing that only a person can do something about.
const fn is_foreign(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::V1 | ProblemKind::Unknown | ProblemKind::Unreadable)
}

/// What is said of a leftover besides what it is.
const fn mending(fixed: bool) -> &'static str {
    if fixed { ": cleared away" } else { ": `doctor --fix` clears it away" }
}

/// The first few, and how many more.
fn some<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(SHOWN).map(show).collect();
    match items.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
