//! `completions` and `man`: the command line's own description, for shells and for `man`.

#[cfg(test)]
mod taught;

use std::io;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::ports::DurableFs;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::context::Context;
use crate::exit::{Ended, Failure};

/// The program.
const NAME: &str = "nexo-memory";
/// Mode of the pages, and of their folder: they are for everybody.
const FILE_MODE: u32 = 0o644;
const DIR_MODE: u32 = 0o755;

pub(super) fn completions(context: &mut Context, args: &CompletionsArgs) -> Ended {
    context.no_json("a script")?;
    print(context, &script(args.shell))
}

pub(super) fn man(context: &mut Context, args: &ManArgs) -> Ended {
    let pages = pages()?;
    let Some(to) = &args.to else {
        context.no_json("a page")?;
        return print(context, &pages[0].1);
    };
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

fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    script
}

/// All pages by name, that of the program first.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = without_help(Cli::command());
    command.build();
    let mut pages = Vec::new();
    collect(&command, NAME, &mut pages)?;
    Ok(pages)
}

/// `help` is no verb of ours and has no page.
fn without_help(command: Command) -> Command {
    command.disable_help_subcommand(true).mut_subcommands(without_help)
}

/// The page of a command, and those of what is below it.
fn collect(
    command: &Command,
    name: &str,
    pages: &mut Vec<(String, Vec<u8>)>,
) -> Result<(), Failure> {
    // As `git` names its own: `man nexo-memory-snapshot`.
    pages.push((format!("{name}.1"), page(command)?));
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        collect(verb, &format!("{name}-{}", verb.get_name()), pages)?;
    }
    Ok(())
}

/// The parts of the help in the order of a page: what stands before the usage belongs to the
/// description, and examples keep their lines.
fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let text = |text: Option<&StyledStr>| text.map(ToString::to_string).unwrap_or_default();
    let about = text(command.get_about());
    let before = text(command.get_before_help());
    let described =
        command.clone().long_about(format!("{about}\n\n{before}").trim_end().to_owned());
    let man = Man::new(described).source(concat!("nexo-memory ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    let rendered = man
        .render_title(&mut page)
        .and_then(|()| man.render_name_section(&mut page))
        .and_then(|()| man.render_synopsis_section(&mut page))
        .and_then(|()| man.render_description_section(&mut page))
        .and_then(|()| man.render_options_section(&mut page))
        .and_then(|()| match command.has_subcommands() {
            true => man.render_subcommands_section(&mut page),
            false => Ok(()),
        });
    rendered.map_err(|e| Failure::from_error(ErrorKind::Internal, &e))?;
    page.extend(notes(&text(command.get_after_help())).into_bytes());
    Ok(page)
}

/// The sections after the flags in the language of `man`: a line that ends in a colon heads one, and
/// what is indented is not filled, so that it can be pasted.
fn notes(text: &str) -> String {
    let mut page = String::new();
    let mut as_it_is = false;
    for line in text.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\*(Aq");
        let indented = line.starts_with("  ");
        if indented != as_it_is {
            as_it_is = indented;
            page.push_str(if indented { ".nf\n" } else { ".fi\n" });
        }
        match line.strip_suffix(':').filter(|_| !indented) {
            Some(head) => page.push_str(&format!(".SH \"{}\"\n", head.to_uppercase())),
            None if line.is_empty() => page.push_str(".PP\n"),
            None => page.push_str(&format!("\\&{line}\n")),
        }
    }
    page.push_str(if as_it_is { ".fi\n" } else { "" });
    page
}

fn write(to: &Path, pages: &[(String, Vec<u8>)]) -> Result<(), Failure> {
    let to = std::path::absolute(to).map_err(|e| Failure::from_error(ErrorKind::Io, &e))?;
    let written = DurableFs::default().ensure_dir(&to, DIR_MODE).and_then(|dir| {
        pages.iter().try_for_each(|(name, page)| dir.write_atomic(name, page, FILE_MODE))
    });
    written.map_err(|e| Failure::from_error(e.kind(), &e))
}
