//! `nexo-memory`: the command line over the engine of `nexo-memory-snapshot`. The only crate that
//! prints, reads the environment and parses flags.

mod args;
mod context;
mod exit;
mod human;
mod output;
mod progress;
mod secrets;
mod settings;
mod table;
mod verbs;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use clap::error::ErrorKind as ClapKind;
use nexo_memory_snapshot::ShellQuiesce;
use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::limit_sqlite_heap;
use nexo_memory_snapshot::ports::Control;

use crate::args::{Cli, Color};
use crate::context::Context;
use crate::exit::{Ended, Failure};
use crate::output::Output;
use crate::progress::Bar;
use crate::settings::Settings;

/// Most that SQLite takes of memory, in bytes: a crafted database may ask for any number.
const SQLITE_HEAP_BYTES: i64 = 64 << 20;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return misunderstood(&e),
    };
    // The panic's own message is on stderr by then; what is left is the documented code.
    std::panic::catch_unwind(|| run(cli)).unwrap_or_else(|_| exit::code(Some(ErrorKind::Internal)))
}

fn run(cli: Cli) -> ExitCode {
    let global = &cli.global;
    let out = Output::new(global.json, global.quiet, global.color);
    let bar = Bar::new(!global.quiet && !global.no_progress);
    let mut control = Control::default();
    if let Some(bar) = &bar {
        control = control.with_progress(bar.clone());
    }
    // The demo has a vault and a configuration of its own, whatever is set here.
    let own = cli.verb.is_demo();
    let env = |name: &str| std::env::var(name).ok().filter(|_| !own || !name.starts_with("NEXO_"));
    let settings = match Settings::new(global, &env) {
        Ok(settings) => settings,
        Err(failure) => return end(out, Err(failure)),
    };
    let mut context = Context::new(out, settings, control, bar, global.strict);
    if let Err(e) = limit_sqlite_heap(SQLITE_HEAP_BYTES) {
        context.out.warn(&format!("the memory of the databases is not bounded: {e}"));
    }
    if let Err(e) = listen(context.control.clone(), context.hooks()) {
        context.out.warn(&format!("Ctrl-C will not end this cleanly: {e}"));
    }
    let ended = verbs::run(&mut context, cli.verb);
    let after = context.epilogue();
    // What failed after the result is told with it, but is no success.
    let ended = ended.map(|kind| kind.or(after));
    end(context.out, ended)
}

/// Ctrl-C cancels; what cannot stop at once is asked again, and then the process just ends: every
/// step is made so that its next start finds its way. But an agent that is paused is resumed first.
fn listen(control: Control, hooks: Option<Arc<ShellQuiesce>>) -> Result<(), ctrlc::Error> {
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        control.cancel();
        let pausing = hooks.as_ref().is_some_and(|hooks| hooks.is_pausing());
        if asked.swap(true, Ordering::Relaxed) && !pausing {
            std::process::exit(i32::from(ErrorKind::Interrupted.exit_code()));
        }
    })
}

fn end(mut out: Output, ended: Ended) -> ExitCode {
    let kind = match ended {
        Ok(kind) => kind,
        Err(failure) => {
            out.failure(&failure);
            Some(failure.kind())
        }
    };
    match out.finish() {
        Ok(()) => exit::code(kind),
        // The result did not reach its reader: that is no success.
        Err(_) => exit::code(Some(kind.unwrap_or(ErrorKind::Io))),
    }
}

/// Help and version go to stdout; what cannot be parsed is a failure like any other.
fn misunderstood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    let mut out = Output::new(json && error.use_stderr(), false, Color::Auto);
    if !error.use_stderr() {
        out.block(&error.render().to_string());
        return end(out, Ok(None));
    }
    if json {
        let text = error.render().to_string();
        // Which arguments are missing stands in lines of their own.
        let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
        let message = lines.collect::<Vec<_>>().join(" ");
        let message = message.trim_start_matches("error: ");
        return end(out, Err(Failure::usage(message).try_this("nexo-memory --help")));
    }
    let help = error.kind() == ClapKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if help {
        out.notes(&error.render().to_string());
    } else {
        out.notes(error.render().to_string().trim_end());
    }
    end(out, Ok(Some(ErrorKind::Usage)))
}
