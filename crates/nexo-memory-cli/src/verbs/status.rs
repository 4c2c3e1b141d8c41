//! `status`: one line an agent, for an operator and a monitor.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::AgentStatus;
use serde_json::json;

use super::shorten;
use crate::args::StatusArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;
use crate::table::Column::{self, Kept, Whole, Words};

/// What matters most is left out last.
const COLUMNS: [Column; 6] = [
    Kept("AGENT"),
    Kept("STATE"),
    Whole("LAST GOOD"),
    Words("TAKEN"),
    Whole("SNAPSHOTS"),
    Whole("SIZE"),
];

pub(super) fn run(context: &mut Context, args: &StatusArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let statuses = engine.status(context.tenant(), agent).map_err(|e| context.explain(e, agent))?;
    let waiting = engine.events_waiting().map_err(|e| context.explain(e, agent))?;
    let put_aside = engine.events_put_aside().map_err(|e| context.explain(e, agent))?;
    let lines = |status: &AgentStatus| {
        status.findings(args.max_age).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let rows: Vec<_> = statuses.iter().map(|status| (status, lines(status))).collect();
    // Nobody to tell of is nothing to restore: a root that is mistyped, or not mounted, must not look well.
    let found =
        put_aside > 0 || rows.is_empty() || rows.iter().any(|(_, findings)| !findings.is_empty());
    if context.out.is_json() {
        let agents: Vec<_> = rows
            .iter()
            .map(|(status, findings)| json!({ "status": status, "findings": findings }))
            .collect();
        context.out.json(&json!({
            "agents": agents,
            "events_waiting": waiting,
            "events_put_aside": put_aside,
        }));
        return Ok(found.then_some(ErrorKind::CheckFailed));
    }
    if rows.is_empty() {
        let line =
            format!("no snapshots of tenant {} in {}", context.tenant(), context.root_and_origin());
        context.out.line(&line);
    } else {
        let cells: Vec<_> = rows.iter().map(|(s, findings)| row(context, s, findings)).collect();
        context.out.table(&COLUMNS, &cells);
    }
    for (status, findings) in &rows {
        for line in shorten(findings.clone()) {
            context.out.line(&format!("{}: {line}", status.agent_id));
        }
    }
    if waiting > 0 {
        let line = format!("{} waiting for delivery", human::count(waiting, "event"));
        context.out.line(&line);
    }
    if put_aside > 0 {
        let events = human::count(put_aside, "event");
        let outbox = context.root().join("outbox");
        let line = format!("{events} refused for good: see *.bad in {}", outbox.display());
        context.out.line(&line);
    }
    Ok(found.then_some(ErrorKind::CheckFailed))
}

fn row(context: &Context, status: &AgentStatus, findings: &[String]) -> Vec<String> {
    let good = status.last_good.as_ref();
    let state = match (&status.hold, findings.is_empty()) {
        (_, false) => "LOOK",
        (Some(_), true) => "on hold",
        (None, true) => "ok",
    };
    vec![
        status.agent_id.to_string(),
        state.to_owned(),
        good.map_or_else(|| "none".to_owned(), |meta| meta.id.short()),
        good.map(|meta| context.time(meta.created_at_ms)).unwrap_or_default(),
        status.snapshots.to_string(),
        human::bytes(status.total_bytes),
    ]
}
