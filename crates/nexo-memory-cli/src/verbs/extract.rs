//! `extract`: files of a snapshot, into a folder.

use crate::args::ExtractArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;

pub(super) fn run(context: &mut Context, args: &ExtractArgs) -> Ended {
    let (agent, path) = (args.inside.agent.as_ref(), args.inside.path.as_ref());
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, &args.inside.snapshot)?;
    let extracted = engine.extract(&meta, path, &args.to, &context.control);
    context.still();
    let extracted = extracted.map_err(|e| context.explain(e, Some(&meta.agent_id)))?;
    if context.out.is_json() {
        context.out.json(&extracted);
    }
    let line = format!(
        "{}, {} from {} in {}",
        match extracted.entries {
            1 => "1 entry".to_owned(),
            n => format!("{n} entries"),
        },
        human::bytes(extracted.bytes),
        meta.id.short(),
        extracted.to.display()
    );
    context.out.line(&line);
    Ok(None)
}
