//! Programs outside the workspace that embed us, each with a lock of its own: they resolve, build and
//! run as a host's would, and link no more than they asked for.
//!
//! Invariant: they are built into the workspace's target folder, so that what both need in one version is
//! built once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::tools::{Outcome, cargo, output, root, run, target};

/// The programs below `fixtures/embeds`, and what each may not link.
const EMBEDS: [(&str, &[&str]); 3] =
    [("beside-sqlx", &[]), ("events-only", &HEAVY), ("types-only", &HEAVY)];

/// What is not to be linked where only types, traits and events were asked for.
const HEAVY: [&str; 3] = ["libsqlite3-sys", "libgit2-sys", "tokio"];

/// Builds and runs every program.
pub(crate) fn check() -> Outcome {
    EMBEDS.iter().try_for_each(|(name, forbidden)| {
        check_one(name, forbidden).map_err(|why| {
            let manifest = format!("fixtures/embeds/{name}/Cargo.toml");
            let update = format!("cargo update --workspace --manifest-path {manifest}");
            format!("{name}: {why}; where its Cargo.lock is out of date, `{update}` mends it")
        })
    })
}

/// The facade without default features is types and traits.
pub(crate) fn check_types_only() -> Outcome {
    let tree = ["tree", "--package", "nexo-memory-snapshot", "--no-default-features"];
    free_of(&HEAVY, &[&tree[..], &["--locked"]].concat())
}

fn check_one(name: &str, forbidden: &[&str]) -> Outcome {
    let manifest: PathBuf = root().join("fixtures/embeds").join(name).join("Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let at = ["--manifest-path", &manifest, "--locked"];
    run(&mut cargo(&["fmt", "--check", at[0], at[1]]))?;
    free_of(forbidden, &[&["tree"][..], &at].concat())?;
    let mut program = cargo(&[&["run", "--quiet"][..], &at].concat());
    // As a host builds it, which does not have our .cargo/config.toml.
    run(program.env("CARGO_TARGET_DIR", target()).env("LIBSQLITE3_FLAGS", ""))
}

fn free_of(forbidden: &[&str], tree: &[&str]) -> Outcome {
    let flags = ["--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = output(&mut cargo(&[tree, &flags].concat()))?;
    let found = found(forbidden, &tree);
    if found.is_empty() { Ok(()) } else { Err(format!("it links {}", found.join(", "))) }
}

/// Which of the crates a tree holds, one crate with its version a line.
fn found<'a>(forbidden: &[&'a str], tree: &str) -> Vec<&'a str> {
    let linked: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    forbidden.iter().copied().filter(|name| linked.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: a check that finds nothing in what cargo prints.
    #[test]
    fn what_a_tree_links_is_found() {
        let tree = "a v1.0.0 (/a)\ntokio-stream v0.1.0\nlibgit2-sys v0.18.8+1.9.7 (*)\n";
        assert_eq!(found(&HEAVY, tree), ["libgit2-sys"]);
        assert!(found(&HEAVY, "tokio-stream v0.1.0\n").is_empty());
        assert_eq!(found(&["tokio"], "tokio v1.54.1"), ["tokio"]);
    }

    /// Would catch: an embed that was added and is not run.
    #[test]
    fn every_embed_is_in_the_table() {
        let dir = root().join("fixtures/embeds");
        let dirs = dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name());
        let dirs: BTreeSet<_> = dirs.map(|name| name.into_string().unwrap()).collect();
        let known: BTreeSet<_> = EMBEDS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(dirs, known);
    }
}
