//! Fixtures and goldens: made from fixed values, compared byte for byte by the gate.
//!
//! Invariant: only folders in [`GENERATED`], the configuration's schema, the redaction rules and README's
//! transcript are written or compared. `fixtures/v2` is a frozen
//! bundle that later programs must still read, and `fixtures/sealed` an encrypted one, which is random;
//! nothing regenerates them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools::{Outcome, cargo, output, root, run, target};
use crate::{demo, rules, soak, wire};

/// Folders below `fixtures/` whose every file is made here.
const GENERATED: [&str; 2] = ["damaged", "wire"];

/// The JSON Schema of the configuration, as the program prints it.
const SCHEMA: &str = "docs/configuration.schema.json";

/// Path below `fixtures/`, and content.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Writes every generated file, and removes what is no longer generated.
pub(crate) fn write() -> Outcome {
    let wanted = generate()?;
    let dir = root().join("fixtures");
    for path in present(&dir)?.keys().filter(|path| !wanted.contains_key(*path)) {
        println!("removed  {}", path.display());
        remove(&dir.join(path))?;
    }
    for (path, content) in &wanted {
        put(&dir.join(path), content)?;
    }
    put(&root().join(SCHEMA), &schema()?)?;
    write_rules()?;
    println!("{} fixtures written", wanted.len());
    demo::write()
}

/// Writes the redaction rules alone.
pub(crate) fn write_rules() -> Outcome {
    put(&root().join(rules::JSON), &rules::json()?)
}

/// Says what [`write()`] would change, and fails if anything.
pub(crate) fn check() -> Outcome {
    let mut stale = stale(&generate()?, &present(&root().join("fixtures"))?);
    let differs = read(&root().join(SCHEMA)).ok().map(String::into_bytes) != Some(schema()?);
    stale.extend(differs.then(|| format!("{SCHEMA} differs")));
    let differs =
        read(&root().join(rules::JSON)).ok().map(String::into_bytes) != Some(rules::json()?);
    stale.extend(differs.then(|| format!("{} differs", rules::JSON)));
    stale.extend(demo::stale()?);
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!(
        "`cargo xtask fixtures` would change these; if the change is meant, run it and commit:\n  {}",
        stale.join("\n  ")
    ))
}

fn generate() -> Result<Files, String> {
    let mut files = wire_files()?;
    files.extend(damaged_files()?);
    Ok(files)
}

fn wire_files() -> Result<Files, String> {
    let documents = wire::documents().map_err(|e| format!("a golden cannot be made: {e}"))?;
    Ok(documents.into_iter().map(|(name, text)| (Path::new("wire").join(name), text)).collect())
}

/// The damaged bundles, made by a program that knows bundles.
fn damaged_files() -> Result<Files, String> {
    run(&mut cargo(&[
        "build",
        "--quiet",
        "--locked",
        "--package",
        "nexo-memory-snapshot",
        "--example",
        "damaged_bundles",
    ]))?;
    let scratch = soak::scratch(target().join("damaged-bundles"))?;
    let mut make = Command::new(target().join("debug/examples/damaged_bundles"));
    output(make.arg("make").arg(root().join("fixtures/sealed")).arg(scratch.join("damaged")))?;
    read_folder(&scratch, "damaged")
}

fn schema() -> Result<Vec<u8>, String> {
    let program = demo::program()?;
    let mut schema = Command::new(program);
    // It needs no vault, and no configuration of this machine.
    schema.args(["config", "schema", "--root", "/nowhere"]).env_remove("NEXO_MEMORY_CONFIG");
    output(&mut schema).map(String::into_bytes)
}

fn stale(wanted: &Files, present: &Files) -> Vec<String> {
    let mut stale = Vec::new();
    for (path, content) in wanted {
        match present.get(path) {
            None => stale.push(format!("{} is missing", path.display())),
            Some(found) if found != content => stale.push(format!("{} differs", path.display())),
            Some(_) => {}
        }
    }
    let extra = present.keys().filter(|path| !wanted.contains_key(*path));
    stale.extend(extra.map(|path| format!("{} is generated no more", path.display())));
    stale
}

/// What lies in the generated folders now.
fn present(fixtures: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    for folder in GENERATED {
        files.extend(read_folder(fixtures, folder)?);
    }
    Ok(files)
}

/// What lies in one folder.
fn read_folder(parent: &Path, folder: &str) -> Result<Files, String> {
    let (dir, mut files) = (parent.join(folder), Files::new());
    if !dir.exists() {
        return Ok(files);
    }
    let fail = |e: std::io::Error| format!("cannot read {}: {e}", dir.display());
    for entry in fs::read_dir(&dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        files.insert(Path::new(folder).join(&name), fs::read(dir.join(&name)).map_err(fail)?);
    }
    Ok(files)
}

/// What stands between `<!-- name -->` and `<!-- /name -->` in a checked-in document.
pub(crate) fn block(document: &Path, name: &str) -> Result<String, String> {
    let text = read(document)?;
    let parts = split(&text, name).ok_or_else(|| no_block(document, name))?;
    Ok(parts.1.to_owned())
}

/// Puts `content` between `<!-- name -->` and `<!-- /name -->` in a checked-in document.
pub(crate) fn fill_block(document: &Path, name: &str, content: &str) -> Outcome {
    let filled =
        with_block(&read(document)?, name, content).ok_or_else(|| no_block(document, name))?;
    put(document, filled.as_bytes())
}

fn with_block(text: &str, name: &str, content: &str) -> Option<String> {
    let (before, _, after) = split(text, name)?;
    Some(format!("{before}<!-- {name} -->\n{}\n<!-- /{name} -->{after}", content.trim_end()))
}

/// What stands before a block, in it and after it.
fn split<'t>(text: &'t str, name: &str) -> Option<(&'t str, &'t str, &'t str)> {
    let (before, rest) = text.split_once(&format!("<!-- {name} -->"))?;
    let (inside, after) = rest.split_once(&format!("<!-- /{name} -->"))?;
    Some((before, inside, after))
}

fn read(document: &Path) -> Result<String, String> {
    fs::read_to_string(document).map_err(|e| format!("cannot read {}: {e}", document.display()))
}

fn no_block(document: &Path, name: &str) -> String {
    format!("{} has no block {name:?}", document.display())
}

/// Writes a file below the repository, and the folders that it needs.
#[expect(clippy::disallowed_methods, reason = "checked-in files, not an agent's memory")]
pub(crate) fn put(path: &Path, content: &[u8]) -> Outcome {
    let fail = |e| format!("cannot write {}: {e}", path.display());
    path.parent().map_or(Ok(()), fs::create_dir_all).map_err(fail)?;
    fs::write(path, content).map_err(fail)
}

#[expect(clippy::disallowed_methods, reason = "checked-in files, not an agent's memory")]
pub(crate) fn remove(path: &Path) -> Outcome {
    fs::remove_file(path).map_err(|e| format!("cannot remove {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a check that lets a changed, lost or left-over golden pass.
    #[test]
    fn changed_lost_and_left_over_fixtures_are_stale() {
        let files = |pairs: &[(&str, &str)]| -> Files {
            pairs.iter().map(|(p, c)| (PathBuf::from(p), c.as_bytes().to_vec())).collect()
        };
        let wanted = files(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(stale(&wanted, &wanted).is_empty());
        let found = stale(&wanted, &files(&[("a", "1"), ("b", "x"), ("d", "4")]));
        assert_eq!(found, ["b differs", "c is missing", "d is generated no more"]);
    }

    /// Would catch: a block that grows with each run, or eats what follows it.
    #[test]
    fn a_block_is_replaced_and_nothing_else() {
        let text = "a\n<!-- x -->\nold\n<!-- /x -->\nz\n";
        let once = with_block(text, "x", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- x -->\nnew\n<!-- /x -->\nz\n");
        assert_eq!(with_block(&once, "x", "new\n").unwrap(), once);
        assert_eq!(with_block(text, "y", "new"), None);
    }

    /// Would catch: a golden that depends on the time, the machine or a hash map's order.
    #[test]
    fn two_runs_give_the_same_bytes() {
        assert_eq!(wire_files().unwrap(), wire_files().unwrap());
    }
}
