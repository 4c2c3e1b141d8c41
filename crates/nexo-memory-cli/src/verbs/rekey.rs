//! `rekey`: snapshots for other readers, one, an agent's, or all of the tenant's.

use std::collections::BTreeSet;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::keys::{EncryptionKey, Recipients};
use nexo_memory_snapshot::local_fs::{Engine, ListProblem, Listing};
use nexo_memory_snapshot::manifest::EncryptionInfo;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::request::Encryption;
use serde_json::json;

use super::{gravest, sealed};
use crate::args::RekeyArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

/// Why one stays that no identity here opens, and that is for the new readers by its summary.
const THEIRS: &str = "for these readers already, as its summary says";
/// Why one stays of an agent without a policy.
const NOBODY: &str = "nothing says for whom";

/// One that fails does not keep the others from their new readers. None that can be opened is left out because
/// its summary names these readers already: a summary is not proof of who can read the file.
pub(super) fn run(context: &mut Context, args: &RekeyArgs) -> Ended {
    let engine = context.engine(args.agent.as_ref())?;
    let Listing { snapshots, problems } = which(context, args, &engine)?;
    context.may_ask(args.yes)?;
    let to = context.settings.secrets.new_encryption(&args.encrypt)?;
    let (due, nobodys): (Vec<_>, Vec<_>) =
        snapshots.into_iter().partition(|meta| wanted(context, &to, &meta.agent_id).is_some());
    let mut unchanged: Vec<_> = nobodys.iter().map(|meta| (meta, NOBODY)).collect();
    if due.is_empty() && !unchanged.is_empty() {
        return Err(Failure::usage("nothing says for whom to encrypt")
            .try_this("--encrypt RECIPIENT, or memory.snapshot.encryption"));
    }
    let (mut rekeyed, mut failures, mut worst) = (Vec::new(), Vec::new(), None);
    if due.is_empty() {
        context.out.line(&format!("no snapshots to encrypt in {}", context.root_and_origin()));
    } else {
        context.out.notes(&question(context, &to, &due));
        context.confirm(args.yes, "Encrypt anew?")?;
    }
    for meta in &due {
        let done = engine.rekey(meta, &to, &context.control);
        context.still();
        match done.map_err(|e| context.explain(e, Some(&meta.agent_id))) {
            Ok(meta) => {
                tell(context, &meta);
                rekeyed.push(meta);
            }
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            Err(failure)
                if failure.kind() == ErrorKind::Encryption && is_theirs(context, &to, meta) =>
            {
                unchanged.push((meta, THEIRS));
            }
            Err(failure) => {
                failures.push(context.one_failed(&failure, ("id", json!(meta.id))));
                worst = gravest(worst, Some(failure.kind()));
            }
        }
    }
    // Whoever could read these still can.
    for ListProblem { path, why, .. } in &problems {
        context.out.line(&format!("PROBLEM  {}: {why}", path.display()));
        worst = gravest(worst, Some(ErrorKind::CheckFailed));
    }
    for (SnapshotMeta { id, agent_id, .. }, why) in &unchanged {
        context.out.line(&format!("{}  {agent_id}  as it was: {why}", id.short()));
    }
    if context.out.is_json() {
        let unchanged: Vec<_> = unchanged.iter().map(|(meta, _)| meta.id).collect();
        context.out.json(&json!({
            "rekeyed": rekeyed, "unchanged": unchanged, "failures": failures, "problems": problems,
        }));
    }
    Ok(worst)
}

fn which(context: &Context, args: &RekeyArgs, engine: &Engine) -> Result<Listing, Failure> {
    let agent = args.agent.as_ref();
    if let Some(named) = args.snapshot.as_ref().or(args.named.as_ref()) {
        let snapshots = vec![context.resolve(engine, agent, named)?.0];
        return Ok(Listing { snapshots, problems: Vec::new() });
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
    Ok(listing)
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

/// Whether the summary names just the readers that are wanted.
fn is_theirs(context: &Context, to: &Encryption, meta: &SnapshotMeta) -> bool {
    let readers = |info: &EncryptionInfo| -> BTreeSet<String> {
        info.recipients_fingerprint.iter().cloned().collect()
    };
    let wanted = wanted(context, to, &meta.agent_id).filter(|all| !readers(all).is_empty());
    wanted.is_some_and(|wanted| {
        meta.encryption.as_ref().is_some_and(|is| readers(is) == readers(&wanted))
    })
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
