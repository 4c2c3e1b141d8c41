//! `scan-secrets`: where the secrets are.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::redaction::{ScanRequest, SecretFinding, SecretsReport};
use nexo_memory_snapshot::request::DiffSide;
use serde_json::json;

use crate::args::ScanSecretsArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::human;

pub(super) fn run(context: &mut Context, args: &ScanSecretsArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let (agent_id, of) = match (args.snapshot.as_ref().or(args.named.as_ref()), agent) {
        (Some(named), _) => {
            let (meta, from) = context.resolve(&engine, agent, named)?;
            (meta.agent_id, DiffSide::Snapshot(from))
        }
        (None, Some(agent)) => (agent.clone(), DiffSide::Live),
        (None, None) => {
            return Err(Failure::usage("search what for secrets?")
                .try_this("name a snapshot, or --agent A for its live memory"));
        }
    };
    let settings = context.settings.config.settings_of(&agent_id);
    let timeout = args.lock_timeout.unwrap_or(settings.lock_timeout);
    let tenant = context.tenant().clone();
    let request = ScanRequest { agent_id: agent_id.clone(), tenant, of, timeout };
    let mut findings = Vec::new();
    let report = engine.scan_secrets(&request, &context.control, &mut |found| findings.push(found));
    context.still();
    let report = report.map_err(|e| context.explain(e, Some(&agent_id)))?;
    if context.out.is_json() {
        context.out.json(&json!({ "report": report, "findings": findings }));
    }
    tell(context, &report, &findings);
    Ok((report.findings > 0).then_some(ErrorKind::CheckFailed))
}

fn tell(context: &mut Context, report: &SecretsReport, findings: &[SecretFinding]) {
    for SecretFinding { artifact, place, rule, masked } in findings {
        context.out.line(&format!("{rule}  {masked}  {artifact}, {place}"));
    }
    let searched = format!(
        "{} in {} of {}",
        human::bytes(report.bytes_searched),
        human::count(report.artifacts, "part"),
        report
            .snapshot_id
            .map_or_else(|| "the live memory".to_owned(), |id| id.short().to_string())
    );
    context.out.line(&match report.findings {
        0 => format!("no secrets found: searched {searched}"),
        n => format!("{}: searched {searched}", human::count(n, "secret")),
    });
}
