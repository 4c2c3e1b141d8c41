//! `ls`: what a snapshot holds, by its manifest or by its git history.

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::local_fs::{Engine, below};
use nexo_memory_snapshot::manifest::{
    Artifact, ArtifactKind, BundlePath, TreeEntry, TreeEntryKind,
};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::request::{GitPath, PathInside};
use serde::Serialize;

use crate::args::LsArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;
use crate::table::Column;

/// Characters of a git id that are shown, as git has it.
const SHORT_OID: usize = 7;

/// The document, not copied into a tree of values: it may list all that a bundle holds.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<Vec<&'a Artifact>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<TreeEntry>>,
    snapshot: &'a SnapshotMeta,
}

pub(super) fn run(context: &mut Context, args: &LsArgs) -> Ended {
    let (snapshot, path) = args.inside.get()?;
    let agent = args.inside.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, &snapshot)?;
    match &path {
        Some(PathInside::Git(at)) => in_history(context, &engine, &meta, at),
        Some(PathInside::Bundle(path)) => in_bundle(context, &engine, &meta, Some(path)),
        None => in_bundle(context, &engine, &meta, None),
    }
}

fn in_bundle(
    context: &mut Context,
    engine: &Engine,
    meta: &SnapshotMeta,
    path: Option<&BundlePath>,
) -> Ended {
    let manifest = engine.manifest(meta).map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    let found = below(&manifest, path);
    if let Some(path) = path.filter(|_| found.is_empty()) {
        let bundle = meta.bundle_path.clone();
        let nothing = SnapshotError::NotInBundle { path: path.to_string(), bundle };
        return Err(context.explain_inside(nothing, meta));
    }
    if context.out.is_json() {
        context.out.json(&Listed { artifacts: Some(found), entries: None, snapshot: meta });
        return Ok(None);
    }
    let rows: Vec<_> = found.iter().map(|artifact| artifact_row(artifact)).collect();
    context.out.table(&["MODE", "SIZE", "PATH"].map(Column::Kept), &rows);
    Ok(None)
}

fn in_history(context: &mut Context, engine: &Engine, meta: &SnapshotMeta, at: &GitPath) -> Ended {
    let entries = engine.git_entries(meta, at, &context.control);
    context.still();
    let entries = entries.map_err(|e| context.explain_inside(e, meta))?;
    if context.out.is_json() {
        context.out.json(&Listed { artifacts: None, entries: Some(entries), snapshot: meta });
        return Ok(None);
    }
    let rows: Vec<_> = entries.iter().map(entry_row).collect();
    let columns = ["MODE", "SIZE", "OBJECT", "PATH"].map(Column::Kept);
    context.out.table(&columns, &rows);
    Ok(None)
}

fn artifact_row(artifact: &Artifact) -> Vec<String> {
    let kind = match artifact.kind {
        ArtifactKind::MemoryDir => 'd',
        ArtifactKind::MemorySymlink => 'l',
        _ => '-',
    };
    let mode = artifact.mode.map(|mode| format!("{kind}{mode:04o}"));
    let size = if kind == '-' { human::bytes(artifact.size_bytes) } else { String::new() };
    let path = path_and_target(&artifact.path, artifact.link.as_deref());
    vec![mode.unwrap_or_else(|| format!("{kind}    ")), size, path]
}

/// The mode as git writes it.
fn entry_row(entry: &TreeEntry) -> Vec<String> {
    let mode = match entry.kind {
        TreeEntryKind::File => "100644",
        TreeEntryKind::Executable => "100755",
        TreeEntryKind::Dir => "040000",
        TreeEntryKind::Symlink => "120000",
        TreeEntryKind::Submodule => "160000",
    };
    let is_file = matches!(entry.kind, TreeEntryKind::File | TreeEntryKind::Executable);
    let size = if is_file { human::bytes(entry.size_bytes) } else { String::new() };
    let oid = entry.oid.as_str().chars().take(SHORT_OID).collect();
    vec![mode.to_owned(), size, oid, path_and_target(&entry.path, entry.link.as_deref())]
}

fn path_and_target(path: &BundlePath, link: Option<&[u8]>) -> String {
    match link {
        Some(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
        None => path.to_string(),
    }
}
