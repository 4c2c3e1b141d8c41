//! `import`: bundles from elsewhere, and those of the vault that lost their summary.

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::{ImportRequest, Imported};
use serde_json::{Value, json};

use super::gravest;
use crate::args::ImportArgs;
use crate::context::Context;
use crate::exit::Ended;
use crate::human;

/// One bundle that is refused does not keep the others out.
pub(super) fn run(context: &mut Context, args: &ImportArgs) -> Ended {
    let agent = args.agent.as_ref();
    let engine = context.engine(agent)?;
    let bundles = match args.all {
        false => args.bundles.clone(),
        true => {
            let orphans = engine.orphans(context.tenant(), agent);
            orphans.map_err(|e| context.explain(e, agent))?
        }
    };
    let (tenant, foreign) = (context.tenant().clone(), args.foreign);
    let encrypt = context.settings.secrets.encryption(&args.encrypt, args.no_encrypt)?;
    let request = ImportRequest { tenant, agent: args.agent.clone(), foreign, encrypt };
    let (mut documents, mut worst) = (Vec::new(), None);
    for bundle in &bundles {
        let imported = engine.import(&request, bundle, &context.control);
        context.still();
        match imported.map_err(|e| context.explain(e, agent)) {
            Ok(imported) => {
                tell(context, &imported);
                let Imported { meta, original } = imported;
                let mut document = json!({ "bundle": bundle, "snapshot": meta });
                if let Some(original) = original {
                    document["original"] = json!(original);
                }
                documents.push(document);
            }
            Err(failure) if failure.kind() == ErrorKind::Interrupted => return Err(failure),
            Err(failure) => {
                documents.push(context.one_failed(&failure, ("bundle", json!(bundle))));
                worst = gravest(worst, Some(failure.kind()));
            }
        }
    }
    if context.out.is_json() {
        context.out.json(&Value::Array(documents));
    } else if bundles.is_empty() {
        let line = format!("no bundle lacks its summary in {}", context.root_and_origin());
        context.out.line(&line);
    }
    Ok(worst)
}

fn tell(context: &mut Context, imported: &Imported) {
    let Imported { meta, original } = imported;
    let line = format!(
        "{} <- {}  {}  {}",
        meta.agent_id,
        meta.id.short(),
        context.time(meta.created_at_ms),
        human::bytes(meta.bundle_size_bytes)
    );
    context.out.line(&line);
    context.out.line(&format!("  {}", meta.bundle_path.display()));
    if meta.whole == Some(false) {
        context.out.line(&format!("  not whole: show {} tells what is left out", meta.id.short()));
    }
    if let Some(original) = original {
        context.out.line(&format!("  its original is kept in {}", original.display()));
    }
}
