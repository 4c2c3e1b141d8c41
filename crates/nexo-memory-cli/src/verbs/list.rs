//! `list`: the snapshots of the tenant or of one agent, newest first.

use std::path::Path;

use nexo_memory_snapshot::meta::SnapshotMeta;
use serde_json::json;

use crate::args::ListArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;
use crate::table::Column::{self, Kept, Whole, Words};

const COLUMNS: [Column; 5] =
    [Kept("ID"), Kept("AGENT"), Words("TAKEN"), Words("LABEL"), Whole("SIZE")];

pub(super) fn run(context: &mut Context, args: &ListArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let listing = engine.list(context.tenant(), agent).map_err(|e| context.explain(e, agent))?;
    let old = engine.predecessors(&listing);
    if context.out.is_json() {
        let document = json!({
            "root": context.root(),
            "tenant": context.tenant(),
            "snapshots": listing.snapshots,
            "predecessors": old,
            "problems": listing.problems,
        });
        context.out.json(&document);
        return Ok(None);
    }
    let is_shown = |path: &Path| old.iter().any(|meta| meta.bundle_path == *path);
    for problem in listing.problems.iter().filter(|problem| !is_shown(&problem.path)) {
        context.out.warn(&format!("{}: {}", problem.path.display(), problem.why));
    }
    if !old.is_empty() {
        let count = human::count(old.len() as u64, "bundle");
        context.out.warn(&format!("{count} of 0.1.x below: `import --all` takes them in"));
    }
    if listing.snapshots.is_empty() && old.is_empty() {
        let whose = agent.map(|agent| format!(" of agent {agent}")).unwrap_or_default();
        let tenant = context.tenant();
        let root = context.root_and_origin();
        let line = format!("no snapshots{whose} of tenant {tenant} in {root}");
        context.out.line(&line);
        return Ok(None);
    }
    let mut all: Vec<_> = listing.snapshots.iter().chain(&old).collect();
    // A listing's own order, for those of one time.
    all.sort_by_key(|meta| std::cmp::Reverse(meta.created_at_ms));
    let rows: Vec<_> = all.into_iter().map(|meta| row(context, meta)).collect();
    context.out.table(&COLUMNS, &rows);
    Ok(None)
}

fn row(context: &Context, meta: &SnapshotMeta) -> Vec<String> {
    vec![
        meta.id.short(),
        meta.agent_id.to_string(),
        context.time(meta.created_at_ms),
        named(meta),
        human::bytes(meta.bundle_size_bytes),
    ]
}

/// Its label, and what makes it less than a way back for everybody.
fn named(meta: &SnapshotMeta) -> String {
    let sealed = (meta.label.is_none() && meta.encrypted).then_some("(encrypted)");
    let redacted = meta.redactions_applied.then_some("(redacted)");
    let old = meta.is_v1().then_some("(0.1.x)");
    let parts = [meta.label.as_deref(), sealed, redacted, old];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
