//! `rekey`: snapshots for other readers, one, an agent's, or all of the tenant's.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::keys::{EncryptionKey, Recipients};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::EncryptionInfo;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::request::Encryption;
use serde_json::{Value, json};

use super::{gravest, sealed};
use crate::args::RekeyArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

/// One that fails does not keep the others from their new readers.
pub(super) fn run(context: &mut Context, args: &RekeyArgs) -> Ended {
    context.may_ask(args.yes)?;
    let to = context.settings.secrets.encryption(&args.encrypt, false)?;
    let engine = context.engine(args.agent.as_ref())?;
    let named = args.snapshot.is_some() || args.named.is_some();
    let all = which(context, args, &engine)?;
    let (due, already) =
        all.into_iter().partition::<Vec<_>, _>(|meta| is_due(context, &to, meta, named));
    if due.is_empty() {
        return nothing(context, &already);
    }
    context.out.notes(&question(context, &to, &due));
    context.confirm(args.yes, "Encrypt anew?")?;
    let (mut rekeyed, mut failures, mut worst) = (Vec::new(), Vec::new(), None);
    for meta in &due {
        let done = engine.rekey(meta, &to, &context.control);
        context.still();
        match done.map_err(|e| context.explain(e, Some(&meta.agent_id))) {
            Ok(meta) => {
                tell(context, &meta);
                rekeyed.push(meta);
            }
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            Err(failure) => {
                failures.push(context.one_failed(&failure, ("id", json!(meta.id))));
                worst = gravest(worst, Some(failure.kind()));
            }
        }
    }
    if context.out.is_json() {
        context.out.json(&document(&rekeyed, &already, failures));
    }
    Ok(worst)
}

fn which(
    context: &Context,
    args: &RekeyArgs,
    engine: &Engine,
) -> Result<Vec<SnapshotMeta>, Failure> {
    let agent = args.agent.as_ref();
    if let Some(named) = args.snapshot.as_ref().or(args.named.as_ref()) {
        return Ok(vec![context.resolve(engine, agent, named)?.0]);
    }
    if agent.is_none() && !args.all {
        return Err(
            Failure::usage("encrypt what anew?").try_this("name a snapshot, --agent A, or --all")
        );
    }
    let listing = engine.list(context.tenant(), agent).map_err(|e| context.explain(e, agent))?;
    if let Some(agent) = agent.filter(|_| listing.snapshots.is_empty()) {
        // A mistyped one has nothing, and must not be well for ever.
        engine
            .status(context.tenant(), Some(agent))
            .map_err(|e| context.explain(e, Some(agent)))?;
    }
    Ok(listing.snapshots)
}

/// Whether it is to be encrypted anew: not where just these can read it already, nor, among many, where
/// nobody says for whom.
fn is_due(context: &Context, to: &Encryption, meta: &SnapshotMeta, named: bool) -> bool {
    match wanted(context, to, &meta.agent_id) {
        None => named,
        Some(wanted) if wanted.recipients_fingerprint.is_empty() => true,
        Some(wanted) => meta.encryption.as_ref().is_none_or(|is| {
            let sorted = |info: &EncryptionInfo| {
                let mut all = info.recipients_fingerprint.clone();
                all.sort();
                all
            };
            sorted(is) != sorted(&wanted)
        }),
    }
}

/// For whom an agent's snapshots are to be encrypted.
fn wanted(context: &Context, to: &Encryption, agent: &AgentId) -> Option<EncryptionInfo> {
    let policy = || context.settings.config.encryption_of(agent);
    let key: Option<EncryptionKey> = match to {
        Encryption::For(key) => Some(key.clone()),
        Encryption::ByPolicy => policy(),
        Encryption::Never => None,
    };
    key.and_then(|key| Recipients::of(&key).ok()).map(|recipients| recipients.info())
}

fn nothing(context: &mut Context, already: &[SnapshotMeta]) -> Ended {
    if context.out.is_json() {
        context.out.json(&document(&[], already, Vec::new()));
    }
    let count = human::count(already.len() as u64, "snapshot");
    context.out.line(&format!(
        "nothing to do: {count}, for just these readers already, or for nobody named"
    ));
    Ok(None)
}

fn question(context: &Context, to: &Encryption, due: &[SnapshotMeta]) -> String {
    let mut lines = vec![human::count(due.len() as u64, "snapshot")];
    let mut agents: Vec<&AgentId> = due.iter().map(|meta| &meta.agent_id).collect();
    agents.dedup();
    for agent in agents {
        if let Some(info) = wanted(context, to, agent) {
            let ends = info.recipients_fingerprint.iter().map(|end| format!(" ...{end}"));
            lines.push(format!("  {agent}: {}{}", sealed(&info), ends.collect::<String>()));
        }
    }
    lines.push("who can read only what is there now cannot read them any more".to_owned());
    lines.join("\n")
}

fn tell(context: &mut Context, meta: &SnapshotMeta) {
    let how = meta.encryption.as_ref().map(sealed).unwrap_or_default();
    context.out.line(&format!("{}  {}  {how}", meta.id.short(), meta.agent_id));
    context.out.line(&format!("  {}", meta.bundle_path.display()));
}

fn document(rekeyed: &[SnapshotMeta], already: &[SnapshotMeta], failures: Vec<Value>) -> Value {
    let already: Vec<_> = already.iter().map(|meta| meta.id).collect();
    json!({ "rekeyed": rekeyed, "unchanged": already, "failures": failures })
}
