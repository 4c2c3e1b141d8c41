//! `show`: a bundle's manifest, for people.

use nexo_memory_snapshot::manifest::{ArtifactKind, GitInfo, Manifest};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::redaction::{GitHistory, RedactionReport};
use serde::Serialize;

use super::{sealed, shorten};
use crate::args::ShowArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

/// The document, not copied into a tree of values.
#[derive(Serialize)]
struct Shown {
    manifest: Manifest,
    snapshot: SnapshotMeta,
}

pub(super) fn run(context: &mut Context, args: &ShowArgs) -> Ended {
    let agent = args.agent.as_ref();
    let named = args.snapshot.get().ok_or_else(|| Failure::usage("no snapshot is named"))?;
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, named)?;
    let manifest = engine.manifest(&meta).map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    if context.out.is_json() {
        context.out.json(&Shown { manifest, snapshot: meta });
        return Ok(None);
    }
    for line in lines(context, &meta, &manifest) {
        context.out.line(&line);
    }
    Ok(None)
}

fn lines(context: &Context, meta: &SnapshotMeta, manifest: &Manifest) -> Vec<String> {
    let mut lines = vec![
        format!("snapshot  {}", manifest.snapshot_id),
        format!("agent     {} (tenant {})", manifest.agent_id, manifest.tenant),
        format!("taken     {} by {}", context.time(manifest.created_at_ms), manifest.created_by),
        format!("bundle    {}", meta.bundle_path.display()),
        format!(
            "size      {}, {} unpacked, format {}",
            human::bytes(meta.bundle_size_bytes),
            human::bytes(manifest.total_bytes()),
            manifest.bundle_format
        ),
    ];
    lines.extend(meta.encryption.as_ref().map(|info| {
        let fingerprints = info.recipients_fingerprint.iter().map(|end| format!(" ...{end}"));
        format!("sealed    {}{}", sealed(info), fingerprints.collect::<String>())
    }));
    let signer = manifest.attestation.as_ref().map(|by| &by.key_id);
    lines.extend(signer.map(|key| format!("signed    by {key} (whether that counts: verify)")));
    lines.extend(manifest.label.as_ref().map(|label| format!("label     \"{label}\"")));
    lines.extend(manifest.rewritten_from.as_ref().map(|from| {
        let program = from.tool_versions.get("nexo_version").map_or("", String::as_str);
        format!("origin    {} {program}, by {:?}", from.bundle_format, from.created_by)
    }));
    lines.extend(manifest.redactions.iter().flat_map(redaction));
    lines.extend(contents(manifest));
    let left_out = manifest.capture.not_carried.iter().map(|n| format!("{}: {}", n.path, n.why));
    lines.extend(shorten(left_out.collect()).map(|line| format!("left out  {line}")));
    let unstable = manifest.capture.unstable.iter().map(|u| format!("{}: {}", u.path, u.why));
    lines.extend(shorten(unstable.collect()).map(|line| format!("unstable  {line}")));
    lines
}

/// What was taken out of it, and whether that was proved.
pub(super) fn redaction(report: &RedactionReport) -> Vec<String> {
    let of = report.copy_of.map(|id| format!(", a copy of {}", id.short())).unwrap_or_default();
    let proved = match &report.receipt {
        Some(receipt) if receipt.clean => format!(
            "searched again by {} and found clean: {}",
            human::count(receipt.rules, "rule"),
            human::bytes(receipt.bytes_searched)
        ),
        _ => "not searched again".to_owned(),
    };
    let gone = human::count(report.matches_redacted, "secret");
    let mut lines = vec![format!("redacted  {gone} by {}{of}; {proved}", report.policy)];
    let history = match report.git_history {
        GitHistory::Rewrite => None,
        other => Some(format!("git history: {other}")),
    };
    let lost = [(report.signatures_dropped, "git signature"), (report.vectors_deleted, "vector")];
    let lost = lost.into_iter().filter(|(n, _)| *n > 0);
    let lost = lost.map(|(n, what)| format!("{} left out", human::count(n, what)));
    let notes = history.into_iter().chain(lost).chain(report.notes.iter().cloned());
    lines.extend(shorten(notes.collect()).map(|line| format!("          {line}")));
    lines
}

/// What memory a bundle holds, a line for each part.
pub(super) fn contents(manifest: &Manifest) -> Vec<String> {
    let mut lines = vec![format!("memory    {}", memory(manifest))];
    lines.extend(manifest.git.as_ref().map(|git| format!("git       {}", head(git))));
    for (info, artifact) in manifest.stores() {
        let size = human::bytes(artifact.size_bytes);
        let mode = &info.journal_mode;
        lines.push(format!("store     {}  {size} ({mode}, {})", info.store, info.integrity));
    }
    let state = [ArtifactKind::StateExtractCursor, ArtifactKind::StateDreamRun];
    for artifact in manifest.artifacts.iter().filter(|a| state.contains(&a.kind)) {
        lines.push(format!("state     {}  {}", artifact.path, human::bytes(artifact.size_bytes)));
    }
    lines
}

fn memory(manifest: &Manifest) -> String {
    let count = |kind| {
        let of_kind = manifest.artifacts.iter().filter(|a| a.kind == kind);
        of_kind.fold((0u64, 0u64), |(n, bytes), a| (n + 1, bytes.saturating_add(a.size_bytes)))
    };
    let (files, bytes) = count(ArtifactKind::MemoryFile);
    let (folders, links) = (count(ArtifactKind::MemoryDir).0, count(ArtifactKind::MemorySymlink).0);
    format!(
        "{}, {}, {}, {}",
        human::count(files, "file"),
        human::count(folders, "folder"),
        human::count(links, "link"),
        human::bytes(bytes)
    )
}

fn head(git: &GitInfo) -> String {
    let Some(oid) = &git.head_oid else { return "no commit yet".to_owned() };
    let short: String = oid.as_str().chars().take(8).collect();
    let branch = git.head_ref.as_deref().unwrap_or("detached");
    let subject = git.head_subject.as_deref().unwrap_or_default();
    let refs = human::count(git.refs.len() as u64, "ref");
    let stash = match git.stash.len() {
        0 => String::new(),
        n => format!(", {n} stashed"),
    };
    format!("{short} ({branch}) \"{subject}\", {refs}{stash}")
}
