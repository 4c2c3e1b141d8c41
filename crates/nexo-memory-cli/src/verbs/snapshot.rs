//! `snapshot`: one agent, or every agent of the configuration.

use std::time::Duration;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::AgentId;
use nexo_memory_snapshot::meta::{CaptureInfo, SnapshotMeta};
use nexo_memory_snapshot::request::SnapshotRequest;
use serde_json::{Value, json};

use super::show::redaction;
use super::{gravest, sealed, shorten};
use crate::args::SnapshotArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &SnapshotArgs) -> Ended {
    if let Some(key) = &args.sign {
        context.sign_with(key.clone());
    }
    match &args.agent {
        Some(agent) => one(context, args, agent),
        None => all(context, args),
    }
}

fn one(context: &mut Context, args: &SnapshotArgs, agent: &AgentId) -> Ended {
    let meta = capture(context, args, agent)?;
    if context.out.is_json() {
        context.out.json(&meta);
    }
    tell(context, &meta);
    Ok(not_whole(context, &meta))
}

/// One agent that fails does not keep the others from their snapshot.
fn all(context: &mut Context, args: &SnapshotArgs) -> Ended {
    let agents: Vec<AgentId> = context.settings.config.agents.keys().cloned().collect();
    if agents.is_empty() {
        return Err(Failure::usage(
            "--all takes the agents of the configuration, and it names none",
        )
        .detail("root", context.root_and_origin())
        .try_this("set memory.snapshot.agents, or name one with --agent"));
    }
    if context.settings.points_at_one_agent() {
        let flags = "--memdir, --store and --state-json-root speak of one agent, --all of many";
        return Err(Failure::usage(flags).try_this("--agent A instead of --all"));
    }
    let (mut documents, mut worst) = (Vec::new(), None);
    for agent in agents {
        let kind = match capture(context, args, &agent) {
            Ok(meta) => {
                tell(context, &meta);
                documents.push(json!({ "agent_id": agent, "snapshot": meta }));
                not_whole(context, &meta)
            }
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            Err(failure) => {
                documents.push(context.one_failed(&failure, ("agent_id", json!(agent))));
                Some(failure.kind())
            }
        };
        worst = gravest(worst, kind);
    }
    if context.out.is_json() {
        context.out.json(&Value::Array(documents));
    }
    Ok(worst)
}

fn capture(
    context: &Context,
    args: &SnapshotArgs,
    agent: &AgentId,
) -> Result<SnapshotMeta, Failure> {
    // Before any work: a passphrase may be asked for.
    let encrypt = context.settings.secrets.encryption(&args.encrypt, args.no_encrypt)?;
    let engine = context.engine(Some(agent))?;
    let mut request = SnapshotRequest::cli(agent.clone(), context.tenant().clone());
    request.label.clone_from(&args.label);
    request.created_by.clone_from(&args.created_by);
    request.encrypt = encrypt;
    request.public_label = args.public_label;
    let settings = context.settings.config.settings_of(agent);
    request.timeout = args.lock_timeout.unwrap_or(settings.lock_timeout);
    request.redact_secrets =
        args.redact_secrets || settings.redact_secrets_default && !args.no_redact;
    if args.redaction.asks() && !request.redact_secrets {
        let flags =
            "--git-history and --drop-store speak of a redacted snapshot, and this one is whole";
        return Err(Failure::usage(flags).try_this("--redact-secrets"));
    }
    request.redaction = args.redaction.options();
    let meta = engine.snapshot(&request, &context.control);
    context.still();
    let failed = |e| {
        let failure = context.explain(e, Some(agent));
        match request.redact_secrets && !args.redact_secrets {
            true => failure
                .detail("asked for by", "redact_secrets_default")
                .try_this("--no-redact takes it whole"),
            false => failure,
        }
    };
    meta.map_err(failed)
}

fn tell(context: &mut Context, meta: &SnapshotMeta) {
    context.warn_untrusted(meta);
    let (whole, default) = (is_whole(meta), CaptureInfo::default());
    let capture = meta.capture.as_ref().unwrap_or(&default);
    let label = meta.label.as_deref().map(|label| format!("  \"{label}\"")).unwrap_or_default();
    let lines = [
        format!(
            "{} -> {}  {}  {}, {}{label}",
            meta.agent_id,
            meta.id.short(),
            context.time(meta.created_at_ms),
            human::bytes(meta.bundle_size_bytes),
            extent(meta)
        ),
        format!("  {}", meta.bundle_path.display()),
        held(capture),
    ];
    for line in
        lines.iter().chain(&taken_out(context, meta)).chain(&stores(capture)).chain(&git(meta))
    {
        context.out.line(line);
    }
    let left_out =
        capture.not_carried.iter().map(|n| format!("not carried: {}: {}", n.path, n.why));
    let moved = capture.unstable.iter().map(|u| format!("unstable: {}: {}", u.path, u.why));
    for line in shorten(left_out.chain(moved).collect()) {
        context.out.line(&format!("  {line}"));
    }
    if !whole && meta.encrypted {
        let show = format!("show {} --agent {}", meta.id.short(), meta.agent_id);
        let line = format!("  what is missing: {}", context.settings.command(&show));
        context.out.line(&line);
    }
}

/// What a redaction took out; of an encrypted one only its readers may know.
fn taken_out(context: &Context, meta: &SnapshotMeta) -> Vec<String> {
    if !meta.redactions_applied || meta.encrypted {
        return Vec::new();
    }
    let engine = context.engine(Some(&meta.agent_id)).ok();
    let manifest = engine.and_then(|engine| engine.manifest(meta).ok());
    let report = manifest.and_then(|manifest| manifest.redactions);
    report.iter().flat_map(redaction).map(|line| format!("  {line}")).collect()
}

/// How much of the memory it holds, and who can read it.
fn extent(meta: &SnapshotMeta) -> String {
    let whole = if is_whole(meta) { "whole" } else { "not whole" };
    let redacted = meta.redactions_applied.then(|| "redacted".to_owned());
    let sealed = meta.encryption.as_ref().map(sealed);
    std::iter::once(whole.to_owned()).chain(redacted).chain(sealed).collect::<Vec<_>>().join(", ")
}

fn held(capture: &CaptureInfo) -> String {
    format!("  writers held {}", human::span(Duration::from_micros(capture.writers_held_us)))
}

fn stores(capture: &CaptureInfo) -> Vec<String> {
    let line = |s: &nexo_memory_snapshot::meta::StoreCapture| {
        let held = if s.held_through_copy { ", writers held through the copy" } else { "" };
        let sound = if s.integrity == "ok" { String::new() } else { format!(", {}", s.integrity) };
        let size = human::bytes(s.size_bytes);
        format!("  store {}  {size} ({}{held}{sound})", s.store, s.journal_mode)
    };
    capture.stores.iter().map(line).collect()
}

fn git(meta: &SnapshotMeta) -> Option<String> {
    let oid = meta.git_oid.as_ref()?;
    Some(format!("  git HEAD {}", oid.as_str().chars().take(8).collect::<String>()))
}

fn is_whole(meta: &SnapshotMeta) -> bool {
    meta.whole != Some(false)
}

fn not_whole(context: &Context, meta: &SnapshotMeta) -> Option<ErrorKind> {
    (context.strict && !is_whole(meta)).then_some(ErrorKind::Incomplete)
}
