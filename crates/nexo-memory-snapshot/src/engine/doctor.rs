//! The doctor: what is wrong with a vault and its agents, and mending what can be mended safely.

use std::path::PathBuf;

use serde::Serialize;
use snapshot_core::{AgentId, Control, ErrorKind, Tenant, error_chain};
use snapshot_vault::{AgentVault, ProblemKind};

use super::recover::RecoveryOutcome;
use super::{Engine, LOCK_TIMEOUT};
use crate::error::SnapshotError;

/// What the doctor looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// What was looked at, one line each.
    pub checked: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What sort of thing, in a word or two.
    pub what: String,
    /// Where.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub why: String,
    /// Whether it was mended.
    pub fixed: bool,
}

impl Engine {
    /// Looks at one agent, or at all of a tenant; with `fix`, mends what loses nothing: finishes
    /// interrupted restores and deletes, and clears what dead processes left.
    ///
    /// # Errors
    /// If a folder of the vault cannot be read.
    pub fn doctor(
        &self,
        tenant: &Tenant,
        agent: Option<&AgentId>,
        fix: bool,
        ctl: &Control,
    ) -> Result<DoctorReport, SnapshotError> {
        let agents = match agent {
            Some(agent) => vec![agent.clone()],
            None => self
                .parts
                .vault
                .agents()?
                .into_iter()
                .filter(|(t, _)| t == tenant)
                .map(|(_, a)| a)
                .collect(),
        };
        let mut report = DoctorReport::default();
        for agent in agents {
            let vault = self.parts.vault.agent(tenant, &agent);
            report.checked.push(format!("agent {agent} in {}", vault.snapshots_path().display()));
            let checked = self.check_recovery(&vault, fix, ctl, &mut report);
            let checked = checked.and_then(|()| check_vault(&vault, fix, ctl, &mut report));
            match checked {
                // Stopped, or somebody at work: nothing that is wrong with the agent.
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::Concurrent) => {
                    return Err(e);
                }
                Err(e) => report.findings.push(unreadable(vault.snapshots_path(), &e)),
                Ok(()) => {}
            }
            if let Err(e) = vault.notes() {
                report.findings.push(unreadable(vault.snapshots_path(), &e));
            }
        }
        Ok(report)
    }

    fn check_recovery(
        &self,
        vault: &AgentVault,
        fix: bool,
        ctl: &Control,
        report: &mut DoctorReport,
    ) -> Result<(), SnapshotError> {
        let Some(work) = vault.existing_restore_dir()? else { return Ok(()) };
        let Some(from) = snapshot_stores::pending(&work)? else { return Ok(()) };
        let mut why = format!(
            "a restore of snapshot {from} was interrupted; `doctor --fix` or the next snapshot or restore finishes it"
        );
        let mut fixed = false;
        if fix {
            match self.recover(vault.tenant(), vault.agent(), None, ctl)?.outcome {
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
        report.findings.push(Finding {
            what: "interrupted restore".to_owned(),
            path: work.path().to_owned(),
            why,
            fixed,
        });
        Ok(())
    }
}

fn check_vault(
    vault: &AgentVault,
    fix: bool,
    ctl: &Control,
    report: &mut DoctorReport,
) -> Result<(), SnapshotError> {
    let problems = vault.list()?.problems;
    let mendable =
        |kind: ProblemKind| matches!(kind, ProblemKind::HalfDeleted | ProblemKind::Leftover);
    if fix && problems.iter().any(|p| mendable(p.kind)) {
        let until = ctl.wait_until(LOCK_TIMEOUT);
        let lock = vault.lock(until, ctl)?;
        lock.sweep()?;
        lock.finish_deletes(until, ctl)?;
    }
    let left = if fix { vault.list()?.problems } else { problems.clone() };
    for problem in problems {
        let fixed = !left.contains(&problem);
        let what = problem_name(problem.kind).to_owned();
        report.findings.push(Finding { what, path: problem.path, why: problem.why, fixed });
    }
    Ok(())
}

fn unreadable(path: PathBuf, error: &(dyn std::error::Error + 'static)) -> Finding {
    let what = problem_name(ProblemKind::Unreadable).to_owned();
    Finding { what, path, why: error_chain(error), fixed: false }
}

const fn problem_name(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Sidecar => "sidecar",
        ProblemKind::TooNew => "sidecar of a newer program",
        ProblemKind::Bundle => "bundle",
        ProblemKind::Sum => "checksum file",
        ProblemKind::Orphan => "bundle without sidecar",
        ProblemKind::V1 => "bundle of 0.1.x",
        ProblemKind::HalfDeleted => "half-done delete",
        ProblemKind::Leftover => "leftover",
        ProblemKind::Unknown => "unknown file",
        ProblemKind::Unreadable => "unreadable",
    }
}
