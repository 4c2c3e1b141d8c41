//! `restore`: the plan, the question, the restore, the way back.

use std::time::{Duration, Instant};

use nexo_memory_snapshot::error::{ErrorKind, one_line};
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::plan::RestorePlan;
use nexo_memory_snapshot::report::RestoreReport;
use nexo_memory_snapshot::request::{RestoreRequest, RestoreTarget, SnapshotRef};

use super::shorten;
use crate::args::RestoreArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &RestoreArgs) -> Ended {
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    // Only what changes a live agent is asked for.
    let sure = args.yes || args.dry_run || args.to.is_some();
    context.may_ask(sure)?;
    let (meta, from) = find(context, args, named)?;
    let agent = args.over.as_ref().unwrap_or(&meta.agent_id);
    let engine = context.engine(Some(agent))?;
    let mut request = request(context, args, agent, from);
    request.of_agent = Some(meta.agent_id.clone());
    let planned = engine.plan_restore(&request, &context.control);
    context.still();
    let planned = planned.map_err(|e| context.explain(e, Some(agent)))?;
    if args.dry_run {
        tell_plan(context, planned.plan());
        return Ok(None);
    }
    let shown = people(context, planned.plan());
    if !context.out.is_json() {
        context.out.block(&shown);
    } else if !sure {
        context.out.notes(&shown);
    }
    context.confirm(sure, "Restore?")?;
    let started = Instant::now();
    let report = planned.apply(&context.control);
    context.still();
    let report = report.map_err(|e| context.explain(e, Some(agent)))?;
    if context.out.is_json() {
        context.out.json(&report);
    }
    let of = Some(&meta.agent_id).filter(|of| *of != agent && args.to.is_none());
    tell(context, args, of, &report, started.elapsed());
    let undo = report.pre_snapshot.map(SnapshotRef::Id);
    let undo = undo.and_then(|id| engine.resolve(context.tenant(), Some(agent), &id).ok());
    if let Some(undo) = undo {
        context.warn_untrusted(&undo);
    }
    Ok(None)
}

fn request(
    context: &Context,
    args: &RestoreArgs,
    agent: &AgentId,
    from: SnapshotRef,
) -> RestoreRequest {
    let mut request = RestoreRequest::new(agent.clone(), context.tenant().clone(), from);
    request.target = args.to.clone().map_or(RestoreTarget::Live, RestoreTarget::Dir);
    let settings = context.settings.config.settings_of(agent);
    request.auto_pre_snapshot =
        args.auto_pre_snapshot || settings.auto_pre_restore && !args.no_auto_pre_snapshot;
    request.whole_store = args.whole_store;
    request.accept_redacted = args.accept_redacted;
    request.timeout = args.lock_timeout.unwrap_or(settings.lock_timeout);
    request
}

/// The snapshot. That of another agent is meant sometimes, and must then be said to be.
fn find(
    context: &Context,
    args: &RestoreArgs,
    named: &SnapshotRef,
) -> Result<(SnapshotMeta, SnapshotRef), Failure> {
    let engine = context.engine(None)?;
    let found = context.resolve(&engine, args.agent.as_ref(), named);
    found.map_err(|failure| match (&args.agent, &args.over, failure.kind()) {
        (Some(agent), None, ErrorKind::Refused) => {
            let whose = engine.resolve(context.tenant(), None, named).ok();
            let whose = whose.filter(|meta| meta.tenant == *context.tenant());
            failure.try_maybe(whose.map(|meta| {
                format!(
                    "--agent {} --as {agent}, if its memory is to go over that of {agent}",
                    meta.agent_id
                )
            }))
        }
        _ => failure,
    })
}

fn tell_plan(context: &mut Context, plan: &RestorePlan) {
    if context.out.is_json() {
        return context.out.json(plan);
    }
    let shown = people(context, plan);
    context.out.block(&shown);
    context.out.line("nothing was changed (--dry-run)");
}

/// The plan as it tells itself, but its first line has the time as people read it.
fn people(context: &Context, plan: &RestorePlan) -> String {
    let label = plan.label.as_ref().map(|l| format!("  \"{}\"", one_line(l))).unwrap_or_default();
    let taken = context.time(plan.created_at_ms);
    let head = format!("{}  {taken}{label}, verified", plan.head());
    let text = plan.to_string();
    [head.as_str()].into_iter().chain(text.lines().skip(1)).collect::<Vec<_>>().join("\n")
}

fn tell(
    context: &mut Context,
    args: &RestoreArgs,
    of: Option<&AgentId>,
    report: &RestoreReport,
    took: Duration,
) {
    let place = args.to.as_ref().map(|dir| format!(" into {}", dir.display())).unwrap_or_default();
    let of = of.map(|agent| format!(" of {agent}")).unwrap_or_default();
    let mut lines = vec![format!(
        "{} is {} {}{of}{place}: {}, {}",
        report.agent_id,
        if of.is_empty() { "back at" } else { "now a copy of" },
        report.from.short(),
        human::count(report.sqlite_restored_dbs.len() as u64, "store"),
        files(report)
    )];
    lines.extend(waited("writers", report.writers_held_us));
    lines.extend(waited("readers", report.readers_held_us));
    lines.extend(shorten(report.notes.iter().map(|note| format!("  note: {note}")).collect()));
    lines.push(format!("done in {}", human::span(took)));
    lines.extend(report.pre_snapshot.map(|id| {
        let restore = format!("restore {} --agent {}", id.short(), report.agent_id);
        format!("undo: {}", context.settings.command(&restore))
    }));
    for line in lines {
        context.out.line(&line);
    }
}

fn files(report: &RestoreReport) -> String {
    report.memory_files.map_or_else(
        || "no memory files".to_owned(),
        |n| {
            let written = human::count(n.added + n.changed, "memory file");
            format!("{written} written, {} removed", n.removed)
        },
    )
}

fn waited(who: &str, held_us: Option<u64>) -> Option<String> {
    held_us.map(|us| format!("  {who} waited {}", human::span(Duration::from_micros(us))))
}
