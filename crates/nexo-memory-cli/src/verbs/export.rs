//! `export`: where memory leaves the house, so what leaves it must be chosen, and is told.

use nexo_memory_snapshot::manifest::{Artifact, ArtifactKind, Manifest};
use nexo_memory_snapshot::request::ExportRequest;
use serde_json::{Value, json};

use super::show::contents;
use crate::args::ExportArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &ExportArgs) -> Ended {
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    check_choice(args)?;
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, from) = context.resolve(&engine, agent, named)?;
    let manifest = engine.manifest(&meta).map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
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
        let leaves = leaves(&manifest);
        context.out.json(&json!({ "snapshot": meta, "leaves": leaves, "written": written }));
    }
    context.out.line("leaves the vault, neither redacted nor encrypted:");
    for part in contents(&manifest) {
        context.out.line(&format!("  {part}"));
    }
    for path in &written {
        context.out.line(&format!("wrote {}", path.display()));
    }
    Ok(None)
}

/// One of three ways must be chosen, and this version has one of them.
fn check_choice(args: &ExportArgs) -> Result<(), Failure> {
    let cannot = |what: &str| {
        Failure::usage(format!("this version cannot {what} a bundle on its way out"))
            .try_this("--whole, where the whole memory in the clear may leave")
    };
    if args.redact {
        return Err(cannot("redact"));
    }
    if !args.encrypt.is_empty() {
        return Err(cannot("encrypt"));
    }
    match args.whole {
        true => Ok(()),
        false => Err(Failure::usage(
            "a bundle holds the whole memory in the clear, and nothing says what may leave: \
             --redact (without secrets), --encrypt RECIPIENT (for one reader), or --whole (all of it)",
        )
        .try_this("--whole; --redact and --encrypt arrive with a later version")),
    }
}

fn leaves(manifest: &Manifest) -> Value {
    let is_file = |artifact: &&Artifact| artifact.kind == ArtifactKind::MemoryFile;
    let stores: Vec<_> = manifest.stores().map(|(info, _)| &info.store).collect();
    json!({
        "redacted": false,
        "encrypted": false,
        "bytes": manifest.total_bytes(),
        "stores": stores,
        "memory_files": manifest.artifacts.iter().filter(is_file).count(),
        "git_head": manifest.git.as_ref().map(|git| &git.head_oid),
    })
}
