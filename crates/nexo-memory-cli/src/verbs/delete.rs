//! `delete`: one snapshot, asked for by name; or all that the vault has of an agent.

use nexo_memory_snapshot::id::AgentId;
use serde_json::json;

use crate::args::DeleteArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &DeleteArgs) -> Ended {
    context.may_ask(args.yes)?;
    let agent = args.agent.as_ref();
    if let Some(agent) = agent.filter(|_| args.everything) {
        return everything(context, args, agent);
    }
    let named = args.snapshot.as_ref().or(args.named.as_ref());
    let named = named.ok_or_else(|| Failure::usage("no snapshot is named"))?;
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

/// The way back is gone with this, so the agent's name is what confirms it.
fn everything(context: &mut Context, args: &DeleteArgs, agent: &AgentId) -> Ended {
    let engine = context.engine(Some(agent))?;
    let status = engine.status(context.tenant(), Some(agent));
    let status = status.map_err(|e| context.explain(e, Some(agent)))?;
    let count = human::count(status.iter().map(|status| status.snapshots).sum(), "snapshot");
    let what = format!("{count} of {agent}, and all else of it in {}", context.root_and_origin());
    if !args.yes {
        let question = format!("This deletes {what}, for good. Type the agent's name to go on:");
        context.confirm_by_name(&question, agent.as_str())?;
    }
    let erased = engine.erase(context.tenant(), agent, &context.control);
    context.still();
    let erased = erased.map_err(|e| context.explain(e, Some(agent)))?;
    if context.out.is_json() {
        context.out.json(&json!({ "agent_id": agent, "erased": erased }));
    }
    context.out.line(&format!("deleted {what}"));
    Ok(None)
}
