//! `list`: the snapshots of the tenant or of one agent, newest first.

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
    if context.out.is_json() {
        let document = json!({
            "root": context.root(),
            "tenant": context.tenant(),
            "snapshots": listing.snapshots,
            "problems": listing.problems,
        });
        context.out.json(&document);
        return Ok(None);
    }
    for problem in &listing.problems {
        context.out.warn(&format!("{}: {}", problem.path.display(), problem.why));
    }
    if listing.snapshots.is_empty() {
        let whose = agent.map(|agent| format!(" of agent {agent}")).unwrap_or_default();
        let tenant = context.tenant();
        let root = context.root_and_origin();
        let line = format!("no snapshots{whose} of tenant {tenant} in {root}");
        context.out.line(&line);
        return Ok(None);
    }
    let rows: Vec<_> = listing.snapshots.iter().map(|meta| row(context, meta)).collect();
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
    let parts = [meta.label.as_deref(), sealed, redacted];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
