//! `export`: where memory leaves the house, so what leaves it must be said.

use nexo_memory_snapshot::request::ExportRequest;
use serde_json::json;

use crate::args::ExportArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &ExportArgs) -> Ended {
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    if !args.whole {
        return Err(Failure::usage(
            "a bundle holds the whole memory in the clear, and nothing says that this is meant",
        )
        .try_this("--whole (--redact and --encrypt arrive with a later version)"));
    }
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, from) = context.resolve(&engine, agent, named)?;
    let request = ExportRequest {
        agent_id: meta.agent_id.clone(),
        tenant: context.tenant().clone(),
        from,
        to: args.to.clone(),
    };
    let written = engine.export(&request, &context.control);
    context.still();
    let written = written.map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    if context.out.is_json() {
        context.out.json(&json!({ "snapshot": meta, "written": written }));
    }
    for path in &written {
        context.out.line(&format!("wrote {}", path.display()));
    }
    Ok(None)
}
