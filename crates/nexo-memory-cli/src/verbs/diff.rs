//! `diff`: what was learned, changed, forgotten: a summary, then the things themselves.

mod shown;
mod words;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::report::{Difference, NotCompared, RowCounts, SnapshotDiff};
use nexo_memory_snapshot::request::{DiffRequest, DiffScope, DiffSide, SnapshotRef};

use super::shorten;
use crate::args::DiffArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;
use shown::Shown;

/// Most things that the headline names.
const NAMED: usize = 3;
/// The list of differences in the JSON document.
const CHANGES: &str = "changes";

pub(super) fn run(context: &mut Context, args: &DiffArgs) -> Ended {
    let agent = whose(context, args)?;
    let engine = context.engine(Some(&agent))?;
    let request = DiffRequest {
        agent_id: agent.clone(),
        tenant: context.tenant().clone(),
        a: args.a.clone(),
        b: args.b.clone(),
    };
    let store = context.settings.only_store(true)?.cloned();
    let scope = DiffScope { store, table: args.table.clone() };
    let mut shown = Shown::new(args.limit);
    let (out, control) = (&mut context.out, &context.control);
    let mut tell = |difference: Difference| {
        if out.is_json() {
            out.json_item(CHANGES, &difference);
        } else {
            shown.add(difference);
        }
        if out.is_lost() {
            control.cancel();
        }
    };
    let tell: Option<&mut dyn FnMut(Difference)> = if args.stat { None } else { Some(&mut tell) };
    let diff = engine.diff_with(&request, &scope, tell, control);
    context.still();
    let diff = match diff {
        // Whoever reads us had enough (`| head`).
        Err(e) if e.kind() == ErrorKind::Interrupted && context.out.is_lost() => return Ok(None),
        diff => diff.map_err(|e| context.explain(e, Some(&agent)))?,
    };
    if context.out.is_json() {
        match args.stat {
            true => context.out.json(&diff),
            false => context.out.json_after_list(CHANGES, &diff),
        }
        return Ok(None);
    }
    let whole = scope == DiffScope::default();
    for line in summary(&agent, args, &diff, whole) {
        context.out.line(&line);
    }
    shown.print(&mut context.out);
    let not_compared = diff.not_compared.iter().map(|NotCompared { store, table, why }| {
        let table = table.as_ref().map(|table| format!(".{table}")).unwrap_or_default();
        format!("not compared: {store}{table}: {why}")
    });
    for line in shorten(not_compared.collect()) {
        context.out.line(&line);
    }
    for note in shorten(diff.notes.iter().map(|note| format!("note: {note}")).collect()) {
        context.out.line(&note);
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

/// What changed, in numbers; of a diff in parts only the stores.
fn summary(agent: &AgentId, args: &DiffArgs, diff: &SnapshotDiff, whole: bool) -> Vec<String> {
    let mut rows = RowCounts::default();
    diff.stores.values().for_each(|store| rows += *store);
    let RowCounts { added, changed, removed } = rows;
    let mut lines = vec![
        format!("{agent}: {} -> {}", side(&args.a), side(&args.b)),
        match (rows.is_zero(), diff.not_compared.is_empty()) {
            (true, true) => "no row was learned, changed or forgotten".to_owned(),
            (false, true) => format!("learned {added}, changed {changed}, forgot {removed} rows"),
            (_, false) => format!(
                "learned {added}, changed {changed}, forgot {removed} rows; {}",
                not_compared(diff)
            ),
        },
    ];
    for (store, rows) in &diff.stores {
        lines.push(format!("  {store}  {} rows", counts(*rows)));
    }
    if !whole {
        return lines;
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
    lines
}

/// Where the counts say too little, in short.
fn not_compared(diff: &SnapshotDiff) -> String {
    let what = diff.not_compared.iter().map(|NotCompared { store, table, .. }| match table {
        Some(table) => format!("{store}.{table}"),
        None => store.to_string(),
    });
    let mut what: Vec<String> = what.take(NAMED + 1).collect();
    if what.len() > NAMED {
        what[NAMED] = "...".to_owned();
    }
    format!("{} could not be compared", what.join(", "))
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
