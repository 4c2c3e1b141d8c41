//! `ls`: what a snapshot holds, by its manifest.

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::local_fs::below;
use nexo_memory_snapshot::manifest::{Artifact, ArtifactKind};
use serde_json::json;

use crate::args::LsArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &LsArgs) -> Ended {
    let (agent, path) = (args.inside.agent.as_ref(), args.inside.path.as_ref());
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, &args.inside.snapshot)?;
    let manifest = engine.manifest(&meta).map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    let found = below(&manifest, path);
    if let Some(path) = path.filter(|_| found.is_empty()) {
        let bundle = meta.bundle_path.clone();
        let nothing = SnapshotError::NotInBundle { path: path.to_string(), bundle };
        let command = context.settings.command(&format!("ls {}", meta.id));
        return Err(Failure::from_error(nothing.kind(), &nothing).try_this(command));
    }
    if context.out.is_json() {
        context.out.json(&json!({ "snapshot": meta, "artifacts": found }));
        return Ok(None);
    }
    let rows: Vec<_> = found.iter().map(|artifact| row(artifact)).collect();
    context.out.table(&["MODE", "SIZE", "PATH"], &rows);
    Ok(None)
}

fn row(artifact: &Artifact) -> Vec<String> {
    let kind = match artifact.kind {
        ArtifactKind::MemoryDir => 'd',
        ArtifactKind::MemorySymlink => 'l',
        _ => '-',
    };
    let mode = artifact.mode.map(|mode| format!("{kind}{mode:04o}"));
    let target =
        artifact.link.as_ref().map(|link| format!(" -> {}", String::from_utf8_lossy(link)));
    let size = if kind == '-' { human::bytes(artifact.size_bytes) } else { String::new() };
    let path = format!("{}{}", artifact.path, target.unwrap_or_default());
    vec![mode.unwrap_or_else(|| format!("{kind}    ")), size, path]
}
