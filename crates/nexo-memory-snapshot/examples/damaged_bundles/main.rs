//! Makes `fixtures/damaged` for `cargo xtask fixtures`: one bundle for each kind of damage, and beside it
//! what a verification says.
#![expect(clippy::disallowed_methods, reason = "a tool of developers, whose files are its own")]

mod kinds;
mod report;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use kinds::{Damaged, Whole};
use nexo_memory_snapshot::keys::generate_identity;
use report::{Outcome, TEXT};
use snapshot_bundle::{Identities, Recipients};
use snapshot_testkit::tool;

const USAGE: &str = "usage:
  damaged_bundles make SEALED OUT   every damaged bundle into the folder OUT; SEALED holds the encrypted one
  damaged_bundles seal SEALED       a whole encrypted bundle with its summary and its identity, once";

fn main() -> ExitCode {
    tool::run(|args| match args {
        ["make", sealed, out] => make(Path::new(sealed), Path::new(out)),
        ["seal", sealed] => seal(Path::new(sealed)),
        _ => Err(USAGE.into()),
    })
}

fn make(sealed: &Path, out: &Path) -> Outcome<()> {
    fs::create_dir_all(out)?;
    let identities = Identities::parse(&fs::read_to_string(sealed.join(kinds::IDENTITY))?)?;
    let mut all = kinds::plain(&Whole::new()?)?;
    all.extend(kinds::sealed(
        &fs::read(sealed.join(kinds::SEALED))?,
        &fs::read(sealed.join(kinds::SEALED_SIDECAR))?,
    ));
    for Damaged { name, about, class, bundle, sidecar } in all {
        let form = if name.starts_with("age-") { ".age" } else { "" };
        let file = format!("{name}.tar.zst{form}");
        fs::write(out.join(&file), bundle)?;
        if let Some(sidecar) = sidecar {
            fs::write(out.join(format!("{name}.manifest.json")), sidecar)?;
        }
        let (_, report) = report::report(out, &file, &identities)?;
        let text = format!("{}\n{about}\n\n{report}\n", report::class(class));
        fs::write(out.join(format!("{name}{TEXT}")), text)?;
    }
    Ok(())
}

/// Encryption is random: what it gives is kept.
fn seal(out: &Path) -> Outcome<()> {
    fs::create_dir_all(out)?;
    let (identity, recipient) = generate_identity();
    let recipients = Recipients::parse([recipient.as_str()])?;
    let (bundle, sidecar) = kinds::write(1, Some(recipients))?;
    fs::write(out.join(kinds::SEALED), bundle)?;
    fs::write(out.join(kinds::SEALED_SIDECAR), sidecar)?;
    fs::write(out.join(kinds::IDENTITY), identity.expose())?;
    Ok(())
}
