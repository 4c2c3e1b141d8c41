//! `diff`: what was learned, changed, forgotten, counted.

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::report::{RowCounts, SnapshotDiff};
use nexo_memory_snapshot::request::{DiffRequest, DiffSide, SnapshotRef};

use super::shorten;
use crate::args::DiffArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &DiffArgs) -> Ended {
    let agent = whose(context, args)?;
    let engine = context.engine(Some(&agent))?;
    let request = DiffRequest {
        agent_id: agent.clone(),
        tenant: context.tenant().clone(),
        a: args.a.clone(),
        b: args.b.clone(),
    };
    let diff: Result<SnapshotDiff, SnapshotError> = engine.diff(&request, &context.control);
    context.still();
    let diff = diff.map_err(|e| context.explain(e, Some(&agent)))?;
    if context.out.is_json() {
        context.out.json(&diff);
        return Ok(None);
    }
    for line in lines(&agent, args, &diff) {
        context.out.line(&line);
    }
    Ok(None)
}

/// The agent: as said, or as one of the snapshots tells.
fn whose(context: &Context, args: &DiffArgs) -> Result<AgentId, Failure> {
    if let Some(agent) = &args.agent {
        return Ok(agent.clone());
    }
    let snapshot = |side: &DiffSide| match side {
        DiffSide::Snapshot(snapshot) => Some(snapshot.clone()),
        DiffSide::Live => None,
    };
    let named: Option<SnapshotRef> = snapshot(&args.a).or_else(|| snapshot(&args.b));
    let named = named.ok_or_else(|| {
        Failure::usage("both sides are live").try_this("name a snapshot for one of them")
    })?;
    let engine = context.engine(None)?;
    Ok(context.resolve(&engine, None, &named)?.0.agent_id)
}

fn lines(agent: &AgentId, args: &DiffArgs, diff: &SnapshotDiff) -> Vec<String> {
    let mut lines = vec![format!("{agent}: {} -> {}", side(&args.a), side(&args.b))];
    for (store, rows) in &diff.stores {
        lines.push(format!("  {store}  {} rows", counts(*rows)));
    }
    lines.push(format!("  memory files  {}", counts(diff.memory_files)));
    let git = &diff.git_summary;
    lines.push(format!(
        "  git  {}, {} changed, +{} -{} lines",
        human::count(git.commits_between, "commit"),
        human::count(git.files_changed, "file"),
        git.insertions,
        git.deletions
    ));
    let changed = |yes: bool| if yes { "changed" } else { "the same" };
    lines.push(format!(
        "  state  extract cursor {}, last dream run {}",
        changed(diff.state_summary.extract_cursor_changed),
        changed(diff.state_summary.last_dream_run_changed)
    ));
    lines.extend(shorten(diff.notes.iter().map(|note| format!("  note: {note}")).collect()));
    lines
}

fn side(side: &DiffSide) -> String {
    match side {
        DiffSide::Live => "live".to_owned(),
        DiffSide::Snapshot(snapshot) => snapshot.to_string(),
    }
}

/// `+2 ~3 -14`: added, changed, removed.
fn counts(counts: RowCounts) -> String {
    format!("+{} ~{} -{}", counts.added, counts.changed, counts.removed)
}
