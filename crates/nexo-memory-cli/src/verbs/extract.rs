//! `extract`: files of a snapshot, into a folder.

use crate::args::ExtractArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;

pub(super) fn run(context: &mut Context, args: &ExtractArgs) -> Ended {
    let (snapshot, path) = args.inside.get()?;
    let agent = args.inside.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, &snapshot)?;
    let extracted = engine.extract(&meta, path.as_ref(), &args.to, &context.control);
    context.still();
    let extracted = extracted.map_err(|e| context.explain_inside(e, &meta))?;
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
