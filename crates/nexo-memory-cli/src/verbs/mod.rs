//! The verbs: each makes its request, lets the engine do it, and says what came of it.

mod cat;
mod config;
mod delete;
#[cfg(feature = "demo")]
mod demo;
mod diff;
mod doctor;
#[cfg(feature = "nats")]
mod events;
mod export;
mod extract;
mod import;
mod keep;
mod keygen;
mod list;
mod ls;
mod manual;
mod prune;
mod rekey;
mod restore;
mod scan_secrets;
mod show;
mod snapshot;
mod status;
mod verify;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::manifest::EncryptionInfo;

#[cfg(feature = "nats")]
use crate::args::EventsVerb;
use crate::args::{ConfigVerb, Verb};
use crate::context::Context;
use crate::exit::Ended;
use crate::human;

/// Lists longer than this are shortened for people, never in JSON.
const SHOWN: usize = 8;

/// Does what was asked.
pub(crate) fn run(context: &mut Context, verb: Verb) -> Ended {
    let changes = matches!(
        verb,
        Verb::Snapshot(_)
            | Verb::Restore(_)
            | Verb::Delete(_)
            | Verb::Prune(_)
            | Verb::Import(_)
            | Verb::Rekey(_)
            | Verb::Doctor(_)
    );
    context.settings.only_store(matches!(verb, Verb::Diff(_)))?;
    if changes {
        context.deliver();
    }
    match verb {
        Verb::Snapshot(args) => snapshot::run(context, &args),
        Verb::Restore(args) => restore::run(context, &args),
        Verb::List(args) => list::run(context, &args),
        Verb::Show(args) => show::run(context, &args),
        Verb::Ls(args) => ls::run(context, &args),
        Verb::Extract(args) => extract::run(context, &args),
        Verb::Cat(args) => cat::run(context, &args),
        Verb::Verify(args) => verify::run(context, &args),
        Verb::ScanSecrets(args) => scan_secrets::run(context, &args),
        Verb::Diff(args) => diff::run(context, &args),
        Verb::Delete(args) => delete::run(context, &args),
        Verb::Export(args) => export::run(context, &args),
        Verb::Import(args) => import::run(context, &args),
        Verb::Rekey(args) => rekey::run(context, &args),
        Verb::Keygen(args) => keygen::run(context, &args),
        Verb::Prune(args) => prune::run(context, &args),
        Verb::Pin(args) => keep::pin(context, &args),
        Verb::Unpin(args) => keep::unpin(context, &args),
        Verb::Hold(args) => keep::hold(context, &args),
        Verb::Release(args) => keep::release(context, &args),
        Verb::Status(args) => status::run(context, &args),
        #[cfg(feature = "nats")]
        Verb::Events(args) => match args.verb {
            EventsVerb::Tail(args) => events::tail(context, &args),
        },
        Verb::Doctor(args) => doctor::run(context, &args),
        #[cfg(feature = "demo")]
        Verb::Demo(args) => demo::run(context, &args),
        Verb::Completions(args) => manual::completions(context, &args),
        Verb::Man(args) => manual::man(context, &args),
        Verb::Config(args) => match args.verb {
            ConfigVerb::Show => config::show(context),
            ConfigVerb::Check => config::check(context),
            ConfigVerb::Schema => config::schema(context),
        },
    }
}

/// Of the ends of several the gravest decides: what is damaged or lost outweighs what was refused, and
/// that what can be tried again.
fn gravest(a: Option<ErrorKind>, b: Option<ErrorKind>) -> Option<ErrorKind> {
    let weight = |kind: &ErrorKind| match kind {
        ErrorKind::Internal => 10,
        ErrorKind::Integrity => 9,
        ErrorKind::Io => 8,
        ErrorKind::Encryption | ErrorKind::SchemaTooNew => 7,
        ErrorKind::RecoveryPending | ErrorKind::Refused => 6,
        ErrorKind::Usage | ErrorKind::UnknownAgent | ErrorKind::UnknownSnapshot => 5,
        ErrorKind::Busy | ErrorKind::Concurrent | ErrorKind::DeadlineExceeded => 4,
        ErrorKind::Interrupted => 3,
        ErrorKind::CheckFailed => 2,
        ErrorKind::Incomplete => 1,
        ErrorKind::NotChecked => 0,
    };
    a.into_iter().chain(b).max_by_key(weight)
}

/// For whom something is encrypted, in a few words.
fn sealed(info: &EncryptionInfo) -> String {
    match info.recipients_fingerprint.len() as u64 {
        0 => "encrypted with a passphrase".to_owned(),
        n => format!("encrypted for {}", human::count(n, "recipient")),
    }
}

/// The first lines of a long list, and how many more there are.
fn shorten(lines: Vec<String>) -> impl Iterator<Item = String> {
    let more = lines.len().saturating_sub(SHOWN);
    let rest = (more > 0).then(|| format!("... and {more} more (--json lists all)"));
    lines.into_iter().take(SHOWN).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_say_how_much_is_not_shown() {
        let lines = |n: usize| shorten((0..n).map(|i| i.to_string()).collect()).collect::<Vec<_>>();
        assert_eq!(lines(SHOWN).len(), SHOWN);
        assert_eq!(lines(SHOWN + 3).last().unwrap(), "... and 3 more (--json lists all)");
    }
}
