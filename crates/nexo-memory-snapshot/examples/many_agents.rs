//! A vault of many agents, for `cargo xtask bench retention`: makes one, plans it, ticks it.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool of developers, whose vault is made to be measured and not to last"
)]

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::Manifest;
use nexo_memory_snapshot::meta::Sidecar;
use nexo_memory_snapshot::ports::{Clock, Control, SystemClock};
use nexo_memory_snapshot::retention::{Policy, RetentionConfig, RetentionWorker};
use serde_json::json;
use snapshot_bundle::{BundleWriter, WriteOptions};
use snapshot_testkit::{MemoryBundle, SeqIds, tool};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage:
  many_agents seed VAULT AGENTS EACH   a vault of so many agents with so many snapshots each
  many_agents plan VAULT KEEP          plans what a policy that keeps the newest KEEP deletes
  many_agents tick VAULT KEEP          does it, as the worker does";

/// Where the snapshots of a tenant's agents lie in a vault.
const SNAPSHOTS: &str = "tenants/default/snapshots";
/// One day, in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// Age of the newest snapshot, in milliseconds: an hour.
const NEWEST_MS: i64 = 3_600_000;

fn main() -> ExitCode {
    tool::run(|args| match args {
        ["seed", vault, agents, each] => seed(Path::new(vault), agents, each),
        ["plan", vault, keep] => plan(Path::new(vault), keep),
        ["tick", vault, keep] => tick(Path::new(vault), keep),
        _ => Err(USAGE.into()),
    })
}

/// Snapshots that verify, one a day and agent, of a memory in which nothing is; not synced.
fn seed(vault: &Path, agents: &str, each: &str) -> Outcome<()> {
    let (agents, each): (u64, u64) = (agents.parse()?, each.parse()?);
    let now_ms = SystemClock.now_ms();
    let mut manifest = MemoryBundle::new().manifest;
    for agent in 0..agents {
        manifest.agent_id = format!("agent-{agent:05}").parse()?;
        let dir = vault.join(SNAPSHOTS).join(manifest.agent_id.as_str());
        fs::create_dir_all(&dir)?;
        for n in 0..each {
            manifest.snapshot_id = SeqIds::nth(agent * each + n);
            manifest.created_at_ms = now_ms - NEWEST_MS - i64::try_from(n)? * DAY_MS;
            publish(&dir, &manifest)?;
        }
    }
    Ok(())
}

/// The three files of a snapshot.
fn publish(dir: &Path, manifest: &Manifest) -> Outcome<()> {
    let options = WriteOptions { threads: 1, ..WriteOptions::new(manifest.created_at_ms) };
    let writer = BundleWriter::new(Vec::new(), &options, Control::default())?;
    let sealed = writer.finish(manifest)?;
    let id: SnapshotId = manifest.snapshot_id;
    let sidecar = Sidecar::of_plain(manifest, sealed.root_digest, sealed.size_bytes, sealed.sha256);
    let bundle = format!("{id}.tar.zst");
    fs::write(dir.join(format!("{bundle}.sha256")), format!("{}  {bundle}\n", sealed.sha256))?;
    fs::write(dir.join(bundle), sealed.out)?;
    fs::write(dir.join(format!("{id}.manifest.json")), sidecar.to_bytes()?)?;
    Ok(())
}

fn plan(vault: &Path, keep: &str) -> Outcome<()> {
    let worker = worker(vault, keep)?;
    let control = Control::default();
    let (tenant, mut kept, mut dropped) = (Tenant::default(), 0, 0);
    for folder in fs::read_dir(vault.join(SNAPSHOTS))? {
        let agent: AgentId = folder?.file_name().to_string_lossy().parse()?;
        let plan = worker.plan(&tenant, &agent, &control)?;
        kept += plan.entries.iter().filter(|entry| entry.keep).count();
        dropped += plan.dropped().count();
    }
    println!("{}", json!({ "kept": kept, "dropped": dropped }));
    Ok(())
}

fn tick(vault: &Path, keep: &str) -> Outcome<()> {
    let report = worker(vault, keep)?.tick(&Control::default());
    println!("{}", serde_json::to_string(&report)?);
    if report.errors == 0 { Ok(()) } else { Err("the run failed".into()) }
}

fn worker(vault: &Path, keep: &str) -> Outcome<RetentionWorker> {
    let engine = Engine::builder().root(vault).build()?;
    let policy = Policy { keep_count: Some(keep.parse()?), ..Policy::default() };
    let policies = Arc::new(move |_: &Tenant, _: &AgentId| policy.clone());
    let config = RetentionConfig { policies, ..RetentionConfig::default() };
    Ok(engine.retention_worker(config))
}
