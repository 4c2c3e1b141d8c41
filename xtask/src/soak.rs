//! Thousands of cuts by the real command line, each opened with stock tools and put to the oracle.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tools::{Outcome, cargo, root, run, target};

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
