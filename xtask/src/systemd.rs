//! The units of docs/systemd under `systemd-analyze verify`, where that is present.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::soak::scratch;
use crate::tools::{Outcome, find, root, target};

/// What the units start; a machine that builds need not have it installed.
const PROGRAM: &str = "/usr/bin/nexo-memory";

/// Verifies copies of the units that start a program which exists.
pub(crate) fn verify() -> Outcome {
    let Some(analyze) = find("systemd-analyze") else {
        println!("NOT RUN: systemd-analyze is not installed (docs/systemd unchecked)");
        return Ok(());
    };
    let program = std::env::current_exe().map_err(|e| format!("cannot find ourselves: {e}"))?;
    let copies = scratch(target().join("systemd"))?;
    let units = copy_units(&root().join("docs/systemd"), &copies, &program)?;
    let out = Command::new(analyze).arg("verify").args(&units).current_dir(&copies).output();
    let out = out.map_err(|e| format!("cannot run systemd-analyze: {e}"))?;
    judge(out.status.success(), &String::from_utf8_lossy(&out.stderr), &copies)
}

/// Copies every unit; gives the names.
#[expect(clippy::disallowed_methods, reason = "a scratch folder below target/")]
fn copy_units(from: &Path, to: &Path, program: &Path) -> Result<Vec<String>, String> {
    let fail = |path: &Path, e| format!("{}: {e}", path.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(|e| fail(from, e))? {
        let path = entry.map_err(|e| fail(from, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !(name.ends_with(".service") || name.ends_with(".timer")) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|e| fail(&path, e))?;
        let text = text.replace(PROGRAM, &program.to_string_lossy());
        let copy = to.join(&name);
        fs::write(&copy, text).map_err(|e| fail(&copy, e))?;
        names.push(name);
    }
    Ok(names)
}

/// It ends well where a key is unknown, and says so with the unit's path. What it says of others'
/// units is not ours.
fn judge(well: bool, said: &str, units: &Path) -> Outcome {
    let ours: Vec<&str> =
        said.lines().filter(|line| line.contains(&*units.to_string_lossy())).collect();
    if well && ours.is_empty() {
        return Ok(());
    }
    let why = if ours.is_empty() { said.trim().to_owned() } else { ours.join("\n  ") };
    Err(format!("docs/systemd:\n  {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a mistyped key that passes because the program ends well, or another's unit
    /// that fails our gate.
    #[test]
    fn what_is_said_of_our_units_counts_and_nothing_else() {
        let units = Path::new("/x/systemd");
        let ours = "/x/systemd/a.service:15: Unknown key 'Nicee' in section [Service], ignoring.";
        let theirs = "/lib/systemd/system/b.service:3: Unknown key";
        assert!(judge(true, "", units).is_ok());
        assert!(judge(true, theirs, units).is_ok());
        assert!(judge(true, ours, units).unwrap_err().contains("Nicee"));
        assert!(judge(false, "Failed to create path", units).unwrap_err().contains("Failed"));
    }
}
