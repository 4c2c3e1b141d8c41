//! `delete`: one snapshot, asked for by name.

use serde_json::json;

use crate::args::DeleteArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &DeleteArgs) -> Ended {
    context.may_ask(args.yes)?;
    let agent = args.agent.as_ref();
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    let engine = context.engine(agent)?;
    let (meta, named) = context.resolve(&engine, agent, named)?;
    let what = format!(
        "{} of {}, {}, {}",
        meta.id.short(),
        meta.agent_id,
        context.time(meta.created_at_ms),
        human::bytes(meta.bundle_size_bytes)
    );
    context.confirm(args.yes, &format!("Delete {what} for good?"))?;
    let (tenant, whose) = (context.tenant(), Some(&meta.agent_id));
    let deleted = engine.delete_with(tenant, whose, &named, &context.control);
    context.still();
    let meta = deleted.map_err(|e| context.explain(e, whose))?;
    if context.out.is_json() {
        context.out.json(&json!({ "deleted": meta }));
    }
    context.out.line(&format!("deleted {what}"));
    Ok(None)
}
