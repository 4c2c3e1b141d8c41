//! `export`: where memory leaves the house, so what leaves it must be chosen, and is told.

use std::path::PathBuf;

use nexo_memory_snapshot::keys::EncryptionKey;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::{Artifact, ArtifactKind, Manifest};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::request::{ExportForm, ExportRequest, SnapshotRef};
use serde_json::{Value, json};

use super::show::{contents, redaction};
use crate::args::ExportArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &ExportArgs) -> Ended {
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    if args.redaction.asks() && !args.redact {
        let flags =
            "--git-history and --drop-store speak of a redacted copy, and this one is whole";
        return Err(Failure::usage(flags).try_this("--redact"));
    }
    let key = context.settings.secrets.key(&args.encrypt)?;
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, from) = context.resolve(&engine, agent, named)?;
    let form = form(args, key, &meta)?;
    let encrypted = match &form {
        ExportForm::AsIs => meta.encrypted && !args.redact,
        ExportForm::For(_) => true,
        ExportForm::Clear => false,
    };
    let request = ExportRequest {
        agent_id: meta.agent_id.clone(),
        tenant: context.tenant().clone(),
        from,
        to: args.to.clone(),
        form,
        redact: args.redact.then(|| args.redaction.options()),
    };
    let explain = |e| context.explain(e, Some(&meta.agent_id));
    let written = engine.export(&request, &context.control);
    context.still();
    let written = written.map_err(explain)?;
    // What is encrypted and stays so need not be opened, and may be nobody's here to read.
    let manifest = match (&request.form, args.redact) {
        (ExportForm::AsIs, false) if meta.encrypted => None,
        (_, true) if encrypted => None,
        (_, true) => Some(manifest_of(context, &engine, &written)?),
        _ => Some(engine.manifest(&meta).map_err(explain)?),
    };
    if context.out.is_json() {
        let leaves = leaves(manifest.as_ref(), args.redact, encrypted);
        context.out.json(&json!({ "snapshot": meta, "leaves": leaves, "written": written }));
    }
    context.out.line(match (args.redact, encrypted) {
        (true, true) => "leaves the vault, redacted and encrypted:",
        (true, false) => "leaves the vault, redacted, not encrypted:",
        (false, true) => "leaves the vault, encrypted:",
        (false, false) => "leaves the vault, neither redacted nor encrypted:",
    });
    let parts = manifest.iter().flat_map(|manifest| {
        manifest.redactions.iter().flat_map(redaction).chain(contents(manifest))
    });
    for part in parts {
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

/// What a copy holds that is not the snapshot itself.
fn manifest_of(
    context: &Context,
    engine: &Engine,
    written: &[PathBuf],
) -> Result<Manifest, Failure> {
    let bundle = written.first().cloned().unwrap_or_default();
    let found = engine.resolve(context.tenant(), None, &SnapshotRef::Path(bundle));
    found.and_then(|meta| engine.manifest(&meta)).map_err(|e| context.explain(e, None))
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
        None if args.whole || args.redact || meta.encrypted => Ok(ExportForm::AsIs),
        None => Err(Failure::usage(
            "a bundle holds the whole memory in the clear, and nothing says what may leave: \
             --redact (without secrets), --encrypt RECIPIENT (for one reader), or --whole (all of it)",
        )
        .try_this("--redact, --encrypt RECIPIENT or both; or --whole")),
    }
}

fn leaves(manifest: Option<&Manifest>, redacted: bool, encrypted: bool) -> Value {
    let Some(manifest) = manifest else {
        return json!({ "redacted": redacted, "encrypted": encrypted });
    };
    let is_file = |artifact: &&Artifact| artifact.kind == ArtifactKind::MemoryFile;
    let stores: Vec<_> = manifest.stores().map(|(info, _)| &info.store).collect();
    json!({
        "redacted": redacted,
        "encrypted": encrypted,
        "bytes": manifest.total_bytes(),
        "stores": stores,
        "memory_files": manifest.artifacts.iter().filter(is_file).count(),
        "git_head": manifest.git.as_ref().map(|git| &git.head_oid),
    })
}
