//! `verify`: one bundle, an agent's, or all of the tenant's, read from end to end.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::{Engine, ListProblem};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::report::{
    Damage, Inside, SignatureReport, SignatureStatus, VerifyReport,
};
use serde_json::json;

use super::gravest;
use crate::args::VerifyArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &VerifyArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    if let Some(named) = args.snapshot.as_ref().or(args.named.as_ref()) {
        let (meta, _) = context.resolve(&engine, agent, named)?;
        let report = check(context, &engine, &meta)?;
        if context.out.is_json() {
            context.out.json(&report);
        }
        tell(context, &meta, &report);
        return Ok(report.error_kind());
    }
    if agent.is_none() && !args.all && !args.due {
        let what = "name a snapshot, --agent A, --all, or --due";
        return Err(Failure::usage("verify what?").try_this(what));
    }
    many(context, args, &engine)
}

/// Every snapshot of the listing; one that is damaged does not keep the others from being read.
fn many(context: &mut Context, args: &VerifyArgs, engine: &Engine) -> Ended {
    let agent = args.agent.as_ref();
    let mut listing =
        engine.list(context.tenant(), agent).map_err(|e| context.explain(e, agent))?;
    if agent.is_some() && listing.snapshots.is_empty() {
        // A mistyped one has nothing due, and must not be well for ever.
        engine.status(context.tenant(), agent).map_err(|e| context.explain(e, agent))?;
    }
    if args.due {
        let due = engine.due(&listing.snapshots);
        listing.snapshots.retain(|meta| due.contains(&meta.id));
    }
    let (mut reports, mut failures, mut worst) = (Vec::new(), Vec::new(), None);
    for meta in &listing.snapshots {
        match check(context, engine, meta) {
            Ok(report) => {
                tell(context, meta, &report);
                worst = gravest(worst, report.error_kind());
                reports.push(report);
            }
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            // Somebody deleted it since it was listed.
            Err(failure) if failure.kind() == ErrorKind::UnknownSnapshot => {}
            Err(failure) => {
                failures.push(context.one_failed(&failure, ("bundle", json!(meta.bundle_path))));
                worst = gravest(worst, Some(failure.kind()));
            }
        }
    }
    for problem in &listing.problems {
        let ListProblem { path, why, .. } = problem;
        context.out.line(&format!("PROBLEM  {}: {why}", path.display()));
        worst = gravest(worst, Some(ErrorKind::CheckFailed));
    }
    let none = reports.is_empty() && failures.is_empty();
    if context.out.is_json() {
        context.out.json(&json!({
            "reports": reports,
            "failures": failures,
            "problems": listing.problems,
        }));
    } else if none {
        let which = if args.due { "no snapshot is due" } else { "no snapshots to verify" };
        let line = format!("{which} in {}", context.root_and_origin());
        context.out.line(&line);
    }
    // A round with nothing due is well; a vault with nothing in it, or none at all, is not.
    let nowhere =
        none && (!args.due || !engine.has_vault().map_err(|e| context.explain(e, agent))?);
    Ok(worst.or(nowhere.then_some(ErrorKind::UnknownSnapshot)))
}

fn check(context: &Context, engine: &Engine, meta: &SnapshotMeta) -> Result<VerifyReport, Failure> {
    let report = engine.verify(meta, &context.control);
    context.still();
    report.map_err(|e| context.explain(e, Some(&meta.agent_id)))
}

fn tell(context: &mut Context, meta: &SnapshotMeta, report: &VerifyReport) {
    let word = match report.error_kind() {
        None => "good",
        Some(ErrorKind::NotChecked) if report.inside == Inside::Good => {
            "good inside, no summary beside it"
        }
        Some(ErrorKind::NotChecked) => "sealed, not checked inside: no identity",
        Some(ErrorKind::Refused) => "whole, and refused",
        Some(_) => "DAMAGED",
    };
    let time = context.time(meta.created_at_ms);
    context.out.line(&format!("{word}  {}  {}  {time}", meta.id.short(), meta.agent_id));
    for Damage { artifact, frame, why } in &report.damage {
        let frame = frame.map(|frame| format!(", frame {frame}")).unwrap_or_default();
        context.out.line(&format!("  {artifact}{frame}: {why}"));
    }
    if let Some(SignatureReport { key_id, status }) = &report.signature {
        let worth = match status {
            SignatureStatus::Trusted => "trusted",
            SignatureStatus::UnknownKey => "a key that is not trusted here",
            SignatureStatus::Forged => "FORGED",
        };
        context.out.line(&format!("  signed by {key_id}: {worth}"));
    }
    if let Some(why) = &report.refused {
        context.out.line(&format!("  {why}"));
    }
    if word == "DAMAGED" {
        context.out.line(&format!("  {}", report.bundle.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides() {
        let (bad, odd, dark) =
            (Some(ErrorKind::Integrity), Some(ErrorKind::CheckFailed), Some(ErrorKind::NotChecked));
        assert_eq!(gravest(dark, bad), bad);
        assert_eq!(gravest(bad, odd), bad);
        assert_eq!(gravest(odd, dark), odd);
        assert_eq!(gravest(None, dark), dark);
    }
}
