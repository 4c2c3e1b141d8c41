//! `pin`, `unpin`, `hold`, `release`: what nobody may delete.

use nexo_memory_snapshot::id::{AgentId, Tenant};
use serde_json::json;

use crate::args::{HoldArgs, PinArgs, ReleaseArgs, UnpinArgs, Whose};
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn pin(context: &mut Context, args: &PinArgs) -> Ended {
    let agent = args.agent.as_ref();
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    let engine = context.engine(agent)?;
    let (meta, named) = context.resolve(&engine, agent, named)?;
    let (tenant, whose) = (context.tenant(), Some(&meta.agent_id));
    let pinned = engine.pin(tenant, whose, &named, &args.reason);
    let meta = pinned.map_err(|e| context.explain(e, whose))?;
    if context.out.is_json() {
        context.out.json(&json!({ "pinned": meta, "reason": args.reason }));
    }
    context.out.line(&format!("pinned {} of {}: {}", meta.id.short(), meta.agent_id, args.reason));
    Ok(None)
}

pub(super) fn unpin(context: &mut Context, args: &UnpinArgs) -> Ended {
    let agent = args.agent.as_ref();
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    let engine = context.engine(agent)?;
    let (meta, named) = context.resolve(&engine, agent, named)?;
    let whose = Some(&meta.agent_id);
    let unpinned = engine.unpin(context.tenant(), whose, &named);
    let meta = unpinned.map_err(|e| context.explain(e, whose))?;
    if context.out.is_json() {
        context.out.json(&json!({ "unpinned": meta }));
    }
    context.out.line(&format!("unpinned {} of {}", meta.id.short(), meta.agent_id));
    Ok(None)
}

pub(super) fn hold(context: &mut Context, args: &HoldArgs) -> Ended {
    let engine = context.engine(args.whose.agent.as_ref())?;
    let held = engine.hold(whose(context.tenant(), &args.whose), &args.reason);
    held.map_err(|e| context.explain(e, args.whose.agent.as_ref()))?;
    told(context, &args.whose, "held", &format!("on hold, nothing is deleted: {}", args.reason))
}

pub(super) fn release(context: &mut Context, args: &ReleaseArgs) -> Ended {
    let engine = context.engine(args.whose.agent.as_ref())?;
    let released = engine.release(whose(context.tenant(), &args.whose));
    released.map_err(|e| context.explain(e, args.whose.agent.as_ref()))?;
    told(context, &args.whose, "released", "released")
}

fn whose<'a>(tenant: &'a Tenant, whose: &'a Whose) -> Option<(&'a Tenant, &'a AgentId)> {
    whose.agent.as_ref().map(|agent| (tenant, agent))
}

fn told(context: &mut Context, whose: &Whose, what: &str, line: &str) -> Ended {
    if context.out.is_json() {
        context.out.json(&json!({ what: { "agent_id": whose.agent, "all": whose.all } }));
    }
    let name = match &whose.agent {
        Some(agent) => format!("agent {agent}"),
        None => context.root_and_origin(),
    };
    context.out.line(&format!("{name}: {line}"));
    Ok(None)
}
