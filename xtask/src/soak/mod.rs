//! The long runs: what `snapshot-soak` proves, in slices with books, and hundreds of snapshots whose events
//! go to a server in trouble.

mod books;
mod run;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use run::{crash, run_cuts, soak};
pub(crate) use table::quantiles;

use crate::tools::{self, Outcome, cargo, root, target};

/// Seed of the moments at which the server of the events is in trouble.
const EVENTS_SEED: &str = "7";

/// Builds the programs that the long runs use; gives the folder that they lie in.
pub(crate) fn build() -> Result<PathBuf, String> {
    tools::run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "--bins",
        "-p",
        "nexo-memory-cli",
        "-p",
        "snapshot-soak",
        "-p",
        "snapshot-testkit",
    ]))?;
    Ok(target().join("release"))
}

/// Builds the facade's own programs of the long runs; gives the folder that they lie in.
pub(crate) fn build_examples() -> Result<PathBuf, String> {
    tools::run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "-p",
        "nexo-memory-snapshot",
        "--features",
        "nats",
        "--examples",
    ]))?;
    Ok(target().join("release/examples"))
}

/// An empty folder for long runs.
#[expect(clippy::disallowed_methods, reason = "a scratch folder below target/")]
pub(crate) fn scratch(dir: PathBuf) -> Result<PathBuf, String> {
    let fail = |e| format!("cannot make {} anew: {e}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(&dir).map_err(fail)?;
    }
    fs::create_dir_all(&dir).map_err(fail)?;
    Ok(dir)
}

/// The soak of events: `count` pairs of snapshots, with events and without.
pub(crate) fn events(count: &str) -> Outcome {
    crate::nats::ensure()?;
    let programs = build_examples()?;
    let dir = scratch(root().join("target/soak/events"))?;
    tools::run(Command::new(programs.join("soak_events")).arg(dir).args([count, EVENTS_SEED]))
}

/// Removes a scratch folder.
#[expect(clippy::disallowed_methods, reason = "a scratch folder of ours")]
pub(crate) fn clear(dir: &Path) -> Outcome {
    fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))
}
