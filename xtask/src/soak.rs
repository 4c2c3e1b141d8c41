//! The long runs: thousands of cuts by the real command line, each opened with stock tools and put
//! to the oracle; hundreds of snapshots whose events go to a server in trouble; everything that can be done
//! to a small bundle.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Outcome, cargo, root, run, target};

/// Seed of the moments at which the server of the events is in trouble.
const EVENTS_SEED: &str = "7";

/// Builds the programs that the long runs use; gives the folder that they lie in.
pub(crate) fn build() -> Result<PathBuf, String> {
    run(&mut cargo(&[
        "build",
        "--release",
        "--locked",
        "--bins",
        "-p",
        "nexo-memory-cli",
        "-p",
        "snapshot-testkit",
    ]))?;
    Ok(target().join("release"))
}

/// Builds the facade's own programs of the long runs; gives the folder that they lie in.
pub(crate) fn build_examples() -> Result<PathBuf, String> {
    run(&mut cargo(&[
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

/// `count` cuts in one journal mode; gives the report, one JSON document.
pub(crate) fn run_cuts(count: &str, journal: &str) -> Result<String, String> {
    let programs = build()?;
    let dir = scratch(root().join("target/soak").join(journal))?;
    let mut command = Command::new(programs.join("nexo-testkit"));
    command.arg("cuts").arg(programs.join("nexo-memory")).arg(dir).args([count, journal]);
    crate::tools::output(&mut command)
}

/// The soak: both modes.
pub(crate) fn soak(count: &str) -> Outcome {
    for journal in ["wal", "delete"] {
        print!("{}", run_cuts(count, journal)?);
    }
    Ok(())
}

/// The soak of events: `count` pairs of snapshots, with events and without.
pub(crate) fn events(count: &str) -> Outcome {
    crate::nats::ensure()?;
    let programs = build_examples()?;
    let dir = scratch(root().join("target/soak/events"))?;
    run(Command::new(programs.join("soak_events")).arg(dir).args([count, EVENTS_SEED]))
}

/// The soak of bits: whatever can be done to a small bundle, plain and encrypted, is put to every verb.
pub(crate) fn bits() -> Outcome {
    let programs = build_examples()?;
    // Thousands of small files for each second of work: what is proved are contents, not durability.
    let disk = crate::ci::memory_disk(Path::new(crate::ci::MEMORY_DISK));
    let dir = disk.map_or_else(|| root().join("target/soak"), |disk| disk.join("nexo-memory-soak"));
    let dir = scratch(dir.join("bits"))?;
    let done = run(Command::new(programs.join("soak_bits")).arg(&dir));
    clear(&dir)?;
    done
}

#[expect(clippy::disallowed_methods, reason = "a scratch folder of ours")]
fn clear(dir: &Path) -> Outcome {
    fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))
}
