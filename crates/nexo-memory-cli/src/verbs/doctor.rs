//! `doctor`: what needs a decision or a repair.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::SnapshotId;
use nexo_memory_snapshot::local_fs::{Decision, DoctorReport, Recovery, RecoveryOutcome};

use crate::args::{DoctorArgs, Recover};
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &DoctorArgs) -> Ended {
    match args.recover {
        Some(how) => recover(context, args, how),
        None => check(context, args),
    }
}

fn recover(context: &mut Context, args: &DoctorArgs, how: Recover) -> Ended {
    let agent = args.agent.as_ref().ok_or_else(|| {
        Failure::usage("--recover decides for one agent").try_this("name it with --agent")
    })?;
    let decision = match how {
        Recover::Forward => Decision::Forward,
        Recover::Abandon => Decision::Abandon,
    };
    let engine = context.engine(Some(agent))?;
    let recovery = engine.recover(context.tenant(), agent, Some(decision), &context.control);
    context.still();
    let recovery = recovery.map_err(|e| context.explain(e, Some(agent)))?;
    if context.out.is_json() {
        context.out.json(&recovery);
    }
    context.out.line(&format!("{}: {}", recovery.agent, outcome(&recovery)));
    Ok(recovery.error_kind())
}

fn outcome(recovery: &Recovery) -> String {
    let kept = |id: &Option<SnapshotId>| {
        id.map(|id| format!("; what was there is kept as {}", id.short())).unwrap_or_default()
    };
    match &recovery.outcome {
        RecoveryOutcome::Nothing => "no restore was interrupted".to_owned(),
        RecoveryOutcome::RolledForward { report } => {
            format!("the restore to {} is finished", report.from.short())
        }
        RecoveryOutcome::Pending { from, pre_recovery, why } => {
            let from = from.short();
            format!("the restore to {from} still needs a decision: {why}{}", kept(pre_recovery))
        }
        RecoveryOutcome::Abandoned { from, pre_recovery } => {
            format!("the restore to {} is abandoned{}", from.short(), kept(pre_recovery))
        }
    }
}

fn check(context: &mut Context, args: &DoctorArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let report = engine.doctor(context.tenant(), agent, args.fix, &context.control);
    context.still();
    let report = report.map_err(|e| context.explain(e, agent))?;
    if context.out.is_json() {
        context.out.json(&report);
    }
    tell(context, &report);
    let open = report.findings.iter().any(|finding| !finding.fixed);
    Ok(open.then_some(ErrorKind::CheckFailed))
}

fn tell(context: &mut Context, report: &DoctorReport) {
    for line in &report.not_checked {
        context.out.note(&format!("  note: not looked at: {line}"));
    }
    for finding in &report.findings {
        let word = if finding.fixed { "fixed" } else { "FOUND" };
        let path = finding.path.display();
        context.out.line(&format!("{word}  {}: {path}: {}", finding.kind, finding.why));
    }
    let checked = human::count(report.checked.len() as u64, "check");
    let found = human::count(report.findings.len() as u64, "finding");
    let fixed = report.findings.iter().filter(|finding| finding.fixed).count();
    let line = format!("{checked}, {found} ({fixed} fixed) in {}", context.root_and_origin());
    context.out.line(&line);
}
