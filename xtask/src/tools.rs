//! Running other programs: found or named plainly, their failure a sentence.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs, io};

/// The outcome of a task; the error is a sentence for people.
pub(crate) type Outcome = Result<(), String>;

/// What the tests and the demo call, and the Debian package that brings it.
const PREREQUISITES: [(&[&str], &str, &str); 6] = [
    (&["git"], "git", "git"),
    (&["tar"], "tar", "tar"),
    (&["zstd"], "zstd", "zstd"),
    (&["sqlite3"], "the sqlite3 shell", "sqlite3"),
    (&["sha256sum"], "sha256sum", "coreutils"),
    (&["cc", "gcc", "clang"], "a C compiler", "build-essential"),
];

/// The workspace's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The Rust files below a folder, in the order of their names.
pub(crate) fn sources(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let fail = |e: io::Error| format!("cannot read {}: {e}", dir.display());
    let entries = fs::read_dir(dir).map_err(fail)?;
    let mut entries: Vec<_> =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<_, _>>().map_err(fail)?;
    entries.sort();
    let mut files = Vec::new();
    for path in entries {
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Where `program` lies on the `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Fails with every missing program and the command that installs it.
pub(crate) fn prerequisites() -> Outcome {
    let missing: Vec<_> = PREREQUISITES
        .iter()
        .filter(|(programs, ..)| !programs.iter().any(|p| find(p).is_some()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(_, name, _)| *name).collect();
    let packages: Vec<_> = missing.iter().map(|(.., package)| *package).collect();
    Err(format!(
        "missing: {}\n  on Debian or Ubuntu: sudo apt-get install {}",
        names.join(", "),
        packages.join(" ")
    ))
}

/// The cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Whether `cargo <subcommand>` is installed.
pub(crate) fn has_cargo(subcommand: &str) -> bool {
    find(&format!("cargo-{subcommand}")).is_some()
        || env::home_dir().is_some_and(|home| {
            home.join(".cargo/bin").join(format!("cargo-{subcommand}")).is_file()
        })
}

/// Runs a command whose output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = show(command);
    let status = command.status().map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}` failed ({status})")) }
}

/// Runs a command and gives its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let shown = show(command);
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("cannot run `{shown}`: {e}"))?;
    if !out.status.success() {
        return Err(format!("`{shown}` failed ({})", out.status));
    }
    String::from_utf8(out.stdout).map_err(|_| format!("`{shown}` printed what is not UTF-8"))
}

fn show(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a failing step that counts as passed.
    #[test]
    fn a_failed_command_is_an_error_that_names_it() {
        assert_eq!(run(&mut Command::new("true")), Ok(()));
        let why = run(Command::new("false").arg("x")).unwrap_err();
        assert!(why.starts_with("`false x` failed"), "{why}");
        let why = output(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(why.starts_with("cannot run `no-such-program-here`"), "{why}");
    }
}
