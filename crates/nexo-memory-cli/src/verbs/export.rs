//! `export`: where memory leaves the house, so what leaves it must be chosen, and is told.

use nexo_memory_snapshot::keys::EncryptionKey;
use nexo_memory_snapshot::manifest::{Artifact, ArtifactKind, Manifest};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::request::{ExportForm, ExportRequest};
use serde_json::{Value, json};

use super::show::contents;
use crate::args::ExportArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &ExportArgs) -> Ended {
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    if args.redact {
        return Err(Failure::usage("this version cannot redact a bundle on its way out").try_this(
            "--encrypt RECIPIENT, or --whole, where the whole memory in the clear may leave",
        ));
    }
    let key = context.settings.secrets.key(&args.encrypt)?;
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, from) = context.resolve(&engine, agent, named)?;
    let form = form(args, key, &meta)?;
    // What is encrypted and stays so need not be opened, and may be nobody's here to read.
    let manifest = match (meta.encrypted, &form) {
        (true, ExportForm::AsIs) => None,
        _ => Some(engine.manifest(&meta).map_err(|e| context.explain(e, Some(&meta.agent_id)))?),
    };
    let encrypted = match &form {
        ExportForm::AsIs => meta.encrypted,
        ExportForm::For(_) => true,
        ExportForm::Clear => false,
    };
    let request = ExportRequest {
        agent_id: meta.agent_id.clone(),
        tenant: context.tenant().clone(),
        from,
        to: args.to.clone(),
        form,
    };
    let written = engine.export(&request, &context.control);
    context.still();
    let written = written.map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    if context.out.is_json() {
        let leaves = leaves(manifest.as_ref(), encrypted);
        context.out.json(&json!({ "snapshot": meta, "leaves": leaves, "written": written }));
    }
    context.out.line(match encrypted {
        true => "leaves the vault, encrypted:",
        false => "leaves the vault, neither redacted nor encrypted:",
    });
    for part in manifest.iter().flat_map(contents) {
        context.out.line(&format!("  {part}"));
    }
    if manifest.is_none() {
        context.out.line("  what it holds is not known here");
    }
    for path in &written {
        context.out.line(&format!("wrote {}", path.display()));
    }
    Ok(None)
}

/// Of a plain bundle it must be chosen how it leaves.
fn form(
    args: &ExportArgs,
    key: Option<EncryptionKey>,
    meta: &SnapshotMeta,
) -> Result<ExportForm, Failure> {
    match key {
        Some(_) if args.whole || args.decrypt => {
            Err(Failure::usage("it leaves either encrypted or in the clear")
                .try_this("--encrypt, or --whole, or --decrypt"))
        }
        Some(key) => Ok(ExportForm::For(key)),
        None if args.decrypt => Ok(ExportForm::Clear),
        None if args.whole || meta.encrypted => Ok(ExportForm::AsIs),
        None => Err(Failure::usage(
            "a bundle holds the whole memory in the clear, and nothing says what may leave: \
             --redact (without secrets), --encrypt RECIPIENT (for one reader), or --whole (all of it)",
        )
        .try_this("--encrypt RECIPIENT or --whole; --redact arrives with a later version")),
    }
}

fn leaves(manifest: Option<&Manifest>, encrypted: bool) -> Value {
    let Some(manifest) = manifest else {
        return json!({ "redacted": false, "encrypted": encrypted });
    };
    let is_file = |artifact: &&Artifact| artifact.kind == ArtifactKind::MemoryFile;
    let stores: Vec<_> = manifest.stores().map(|(info, _)| &info.store).collect();
    json!({
        "redacted": false,
        "encrypted": encrypted,
        "bytes": manifest.total_bytes(),
        "stores": stores,
        "memory_files": manifest.artifacts.iter().filter(is_file).count(),
        "git_head": manifest.git.as_ref().map(|git| &git.head_oid),
    })
}
