//! `cat`: one file of a snapshot, as bytes.

use std::io::{ErrorKind as IoKind, Write};

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::request::PathInside;

use crate::args::CatArgs;
use crate::context::Context;
use crate::exit::{Ended, Failure};

pub(super) fn run(context: &mut Context, args: &CatArgs) -> Ended {
    context.no_json("the file itself")?;
    let (snapshot, path) = args.inside.get()?;
    let path = path.ok_or_else(|| {
        Failure::usage("which file?").try_this("name one, as `ls` shows it: cat SNAPSHOT PATH")
    })?;
    let agent = args.inside.agent.as_ref();
    let engine = context.engine(agent)?;
    let (meta, _) = context.resolve(&engine, agent, &snapshot)?;
    let mut out = context.out.bytes();
    let control = &context.control;
    let read = match &path {
        PathInside::Bundle(path) => engine.read_artifact(&meta, path, &mut out, control),
        PathInside::Git(at) => engine.read_git(&meta, at, &mut out, control),
    };
    let flushed = out.flush();
    context.still();
    let read = read.and_then(|_| {
        flushed.map_err(|source| SnapshotError::Output { what: path.to_string(), source })
    });
    match read {
        // Whoever reads us had enough (`| head`).
        Err(SnapshotError::Output { source, .. }) if source.kind() == IoKind::BrokenPipe => {
            Ok(None)
        }
        read => read.map(|()| None).map_err(|e| context.explain_inside(e, &meta)),
    }
}
