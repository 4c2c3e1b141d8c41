//! `completions` and `man`: the command line's own description, for shells and for `man`.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::DurableFs;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::context::Context;
use crate::exit::{Ended, Failure};

/// Mode of the pages, and of their folder: they are for everybody.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

pub(super) fn completions(context: &mut Context, args: &CompletionsArgs) -> Ended {
    context.no_json("a script")?;
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nexo-memory", &mut script);
    print(context, &script)
}

pub(super) fn man(context: &mut Context, args: &ManArgs) -> Ended {
    let mut command = Cli::command();
    command.build();
    let Some(to) = &args.to else {
        context.no_json("a page")?;
        return print(context, &page(&command)?);
    };
    let mut pages = Vec::new();
    collect(&command, "nexo-memory", &mut pages)?;
    write(to, &pages)?;
    if context.out.is_json() {
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        context.out.json(&serde_json::json!({ "to": to, "written": names }));
    }
    context.out.line(&format!("{} pages in {}", pages.len(), to.display()));
    Ok(None)
}

/// As it is: neither a script nor a page may be escaped.
fn print(context: &mut Context, text: &[u8]) -> Ended {
    let mut out = context.out.bytes();
    match io::Write::write_all(&mut out, text).and_then(|()| io::Write::flush(&mut out)) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::from_error(ErrorKind::Io, &e))
        }
        _ => Ok(None),
    }
}

/// The page of a command, and those of what is below it, by name.
fn collect(
    command: &Command,
    name: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Failure> {
    // As `git` names its own: `man nexo-memory-snapshot`.
    pages.push((format!("{name}.1"), page(command)?));
    let below = command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help");
    for verb in below {
        collect(verb, &format!("{name}-{}", verb.get_name()), pages)?;
    }
    Ok(())
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|e| Failure::from_error(ErrorKind::Internal, &e))?;
    Ok(page)
}

fn write(to: &Path, pages: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    let to = std::path::absolute(to).map_err(|e| Failure::from_error(ErrorKind::Io, &e))?;
    let written = DurableFs::default().ensure_dir(&to, DIR_MODE).and_then(|dir| {
        pages.iter().try_for_each(|(name, page)| dir.write_atomic(name, page, FILE_MODE))
    });
    written.map_err(|e| Failure::from_error(e.kind(), &e))
}
