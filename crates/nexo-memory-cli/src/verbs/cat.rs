//! `cat`: one file of a snapshot, as bytes.

use std::io::{ErrorKind as IoKind, Write};

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::request::PathInside;

use crate::args::CatArgs;
use crate::context::Context;
use crate::exit::Ended;

pub(super) fn run(context: &mut Context, args: &CatArgs) -> Ended {
    context.no_json("the file itself")?;
    let engine = context.engine(args.agent.as_ref())?;
    let (meta, _) = context.resolve(&engine, args.agent.as_ref(), &args.snapshot)?;
    let mut out = context.out.bytes();
    let control = &context.control;
    let read = match &args.path {
        PathInside::Bundle(path) => engine.read_artifact(&meta, path, &mut out, control),
        PathInside::Git(at) => engine.read_git(&meta, at, &mut out, control),
    };
    let flushed = out.flush();
    context.still();
    let read = read.and_then(|_| {
        flushed.map_err(|source| SnapshotError::Output { what: args.path.to_string(), source })
    });
    match read {
        // Whoever reads us had enough (`| head`).
        Err(SnapshotError::Output { source, .. }) if source.kind() == IoKind::BrokenPipe => {
            Ok(None)
        }
        read => read.map(|()| None).map_err(|e| context.explain(e, Some(&meta.agent_id))),
    }
}
