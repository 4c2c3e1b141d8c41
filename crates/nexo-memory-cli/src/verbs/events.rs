//! `events tail`: what happens, as it happens.

use std::time::Duration;

use nexo_memory_snapshot::events::nats::{NatsTail, Received};
use nexo_memory_snapshot::events::{LIFECYCLE_SUBJECT_PREFIX, MUTATION_SUBJECT_PREFIX};
use serde_json::Value;

use crate::args::TailArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

/// How often it is looked whether Ctrl-C was pressed.
const GLANCE: Duration = Duration::from_millis(200);

pub(super) fn tail(context: &mut Context, args: &TailArgs) -> Ended {
    let events = &context.settings.config.events;
    let nats = events.server().ok_or_else(|| {
        Failure::usage("no NATS server is configured")
            .try_this("set NEXO_MEMORY_NATS_URL, or memory.snapshot.events.nats.url")
    })?;
    let or = |prefix: &Option<String>, default: &str| {
        prefix.clone().unwrap_or_else(|| default.to_owned())
    };
    let agent = args.agent.as_ref().map_or("*", |agent| agent.as_str());
    let lifecycle = or(&events.lifecycle_subject_prefix, LIFECYCLE_SUBJECT_PREFIX);
    let mutation = or(&events.mutation_subject_prefix, MUTATION_SUBJECT_PREFIX);
    let mut subjects = vec![format!("{lifecycle}.{agent}.*")];
    subjects.extend(args.mutations.then(|| format!("{mutation}.{agent}")));
    let tail = NatsTail::subscribe(nats.options(), subjects);
    let tail = tail.map_err(|e| Failure::from_error(e.kind(), &e))?;
    // Until Ctrl-C, which is how everybody ends it, or `| head`.
    while context.control.check().is_ok() && !context.out.is_lost() {
        let received = tail.next(GLANCE).map_err(|e| Failure::from_error(e.kind(), &e))?;
        if let Some(received) = received {
            tell(context, &received);
        }
    }
    Ok(None)
}

/// One line an event. Anybody may publish on a subject: what is no JSON is shown as such.
fn tell(context: &mut Context, received: &Received) {
    let Received { subject, payload } = received;
    let event: Option<Value> = serde_json::from_slice(payload).ok();
    if context.out.is_json() {
        if let Some(event) = event {
            context.out.json_line(&event);
        }
        return;
    }
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let line = match &event {
        None => format!("{subject}  {} bytes that are no event", payload.len()),
        Some(event) => {
            let id = ["id", "snapshot_id", "from", "key"].map(|key| text(event, key));
            let id = id.into_iter().find(|id| !id.is_empty()).unwrap_or_default();
            format!("{subject}  {id}  {}", text(event, "label"))
        }
    };
    context.out.line(line.trim_end());
}
