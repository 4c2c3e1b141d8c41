//! `prune`: the policy's plan, and its execution.

use std::sync::Arc;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::local_fs::AgentStatus;
use nexo_memory_snapshot::report::RetentionTickReport;
use nexo_memory_snapshot::retention::{Plan, RetentionConfig, RetentionWorker};
use serde_json::{Value, json};

use super::gravest;
use crate::args::PruneArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

/// One agent that fails does not keep the others from their turn.
pub(super) fn run(context: &mut Context, args: &PruneArgs) -> Ended {
    let engine = context.engine(args.agent.as_ref())?;
    let config = context.settings.config.clone();
    let policies = Arc::new(move |_: &Tenant, agent: &AgentId| config.policy_of(agent));
    let worker =
        engine.retention_worker(RetentionConfig { policies, ..RetentionConfig::default() });
    let status = engine.status(context.tenant(), args.agent.as_ref());
    let status = status.map_err(|e| context.explain(e, args.agent.as_ref()))?;
    let has_something =
        |s: &AgentStatus| args.agent.is_some() || s.snapshots > 0 || !s.problems.is_empty();
    let agents: Vec<AgentId> =
        status.into_iter().filter(has_something).map(|s| s.agent_id).collect();
    let (mut documents, mut worst) = (Vec::new(), None);
    let mut report = RetentionTickReport::default();
    for agent in &agents {
        report.agents_visited += 1;
        match one(context, &worker, agent, args.dry_run, &mut report.bundles_deleted) {
            Ok(document) => documents.push(document),
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            Err(failure) => {
                report.failed(format!("{}/{agent}: {}", context.tenant(), failure.message()));
                documents.push(context.one_failed(&failure, ("agent_id", json!(agent))));
                worst = gravest(worst, Some(failure.kind()));
            }
        }
    }
    if !args.dry_run && !agents.is_empty() {
        worker.finish(&report);
    }
    if context.out.is_json() {
        context.out.json(&json!({ "dry_run": args.dry_run, "agents": documents }));
    } else if agents.is_empty() {
        let line = format!("no snapshots in {}", context.root_and_origin());
        context.out.line(&line);
    }
    Ok(worst)
}

fn one(
    context: &mut Context,
    worker: &RetentionWorker,
    agent: &AgentId,
    dry_run: bool,
    deleted_in_all: &mut u64,
) -> Result<Value, Failure> {
    let (tenant, control) = (context.tenant().clone(), context.control.clone());
    let plan = worker.plan(&tenant, agent, &control);
    context.still();
    let plan = plan.map_err(|e| context.explain(SnapshotError::from(e), Some(agent)))?;
    tell(context, agent, &plan);
    let mut deleted = 0;
    if !dry_run {
        let done = worker.execute(&tenant, agent, &plan, &mut deleted, &control);
        *deleted_in_all += deleted;
        context.still();
        done.map_err(|e| context.explain(SnapshotError::from(e), Some(agent)))?;
    }
    Ok(json!({ "agent_id": agent, "plan": plan, "deleted": deleted }))
}

/// The same lines whether or not the plan is carried out.
fn tell(context: &mut Context, agent: &AgentId, plan: &Plan) {
    let (count, dropped) = (plan.entries.len() as u64, plan.dropped().count() as u64);
    let line = format!("{agent}: {}, {dropped} to delete", human::count(count, "snapshot"));
    context.out.line(&line);
    for entry in &plan.entries {
        let line = format!(
            "  {}  {}  {}  {}  {}",
            if entry.keep { "keep" } else { "DROP" },
            entry.id.short(),
            context.time(entry.created_at_ms),
            human::bytes(entry.size_bytes),
            entry.why(),
        );
        context.out.line(&line);
    }
    for note in &plan.notes {
        context.out.line(&format!("  note  {note}"));
    }
}
