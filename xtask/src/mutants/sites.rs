//! The mutants, by the sources: every place where something can be switched off (`snapshot_core::mutants`).
//!
//! Invariant: what is switched off at run time is a place in a file; what reports and lists call it is its kind, file
//! and function, which stay when lines move.

use std::collections::BTreeMap;
use std::fs;

use crate::tools::{root, sources};

/// The crates whose places count: those that the product is made of and that change or check something.
const CRATES: [&str; 7] = [
    "snapshot-core",
    "snapshot-fs",
    "snapshot-bundle",
    "snapshot-stores",
    "snapshot-vault",
    "snapshot-events",
    "nexo-memory-snapshot",
];

/// What a place looks like, what it is, and where in the match the compiler sees the caller.
const PATTERNS: [(&str, Kind, usize); 9] = [
    (".sync()", Kind::Sync, 1),
    (".sync_fs()", Kind::Sync, 1),
    (".ensure_sub(", Kind::Sync, 1),
    (".ensure_dir(", Kind::Sync, 1),
    (".write_atomic(", Kind::Sync, 1),
    (".write_atomic_with(", Kind::Sync, 1),
    ("FileLock::acquire(", Kind::Lock, 0),
    ("holds(", Kind::Check, 0),
    ("off()", Kind::Step, 0),
];

/// Where the tests of a file begin, which are its end.
const TESTS: &str = "#[cfg(test)]";
/// The switches themselves.
const SWITCHES: &str = "crates/snapshot-core/src/mutants.rs";

/// What is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// An fsync.
    Sync,
    /// A lock between processes.
    Lock,
    /// A comparison, most of them of digests.
    Check,
    /// A step, most of them of a journal.
    Step,
}

/// A mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pub(super) kind: Kind,
    /// `check vault/publish.rs check_size`.
    pub(super) name: String,
    /// `crates/snapshot-vault/src/publish.rs:147:8`, as the compiler writes it.
    pub(super) place: String,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Lock => "lock",
            Self::Check => "check",
            Self::Step => "step",
        }
    }
}

/// All of them, in the order of their names.
pub(super) fn all() -> Result<Vec<Site>, String> {
    let mut sites = Vec::new();
    for name in CRATES {
        for file in sources(&root().join("crates").join(name).join("src"))? {
            let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let path = file.strip_prefix(root()).unwrap_or(&file).to_string_lossy();
            if path != SWITCHES {
                sites.extend(in_file(&path, &text));
            }
        }
    }
    sites.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    Ok(sites)
}

/// Whether a place that the compiler names is in the product: tests sync and lock too.
pub(super) fn is_product(place: &str) -> bool {
    let Some((path, line)) = place.split_once(".rs:") else { return false };
    let line = line.split(':').next().and_then(|line| line.parse::<usize>().ok());
    let is_ours = |name: &str| path.starts_with(&format!("crates/{name}/src/"));
    let text = fs::read_to_string(root().join(format!("{path}.rs"))).unwrap_or_default();
    let tests = text.lines().position(|line| line == TESTS).unwrap_or(usize::MAX);
    CRATES.iter().any(|name| is_ours(name)) && line.is_some_and(|line| line <= tests)
}

/// Those of one file, whose path is the workspace's.
fn in_file(path: &str, text: &str) -> Vec<Site> {
    let (mut sites, mut function) = (Vec::new(), "");
    let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        if line == TESTS {
            break;
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        function = function_of(line).unwrap_or(function);
        for (column, kind) in in_line(path, line) {
            let name = format!("{} {} {function}", kind.as_str(), short(path));
            let nth = numbers.entry(name.clone()).or_default();
            *nth += 1;
            let name = if *nth == 1 { name } else { format!("{name} #{nth}") };
            sites.push(Site { kind, name, place: format!("{path}:{}:{column}", number + 1) });
        }
    }
    sites
}

/// The columns, from 1, at which the compiler sees a place.
fn in_line(path: &str, line: &str) -> Vec<(usize, Kind)> {
    let mut found = Vec::new();
    for (pattern, kind, offset) in PATTERNS {
        // Below this layer its callers are the places.
        if matches!(kind, Kind::Sync | Kind::Step) && path.starts_with("crates/snapshot-fs/") {
            continue;
        }
        for (at, _) in line.match_indices(pattern) {
            let before = &line[..at];
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let another = offset == 0 && (before.ends_with(is_word) || before.ends_with("fn "));
            if !another {
                found.push((before.chars().count() + offset + 1, kind));
            }
        }
    }
    found.sort_unstable();
    found
}

/// The name of the function that begins in this line.
fn function_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (before, after) = line.split_once("fn ")?;
    let is_head = before
        .split_whitespace()
        .all(|word| ["pub", "const", "async"].contains(&word) || word.starts_with("pub("));
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (is_head && end > 0).then(|| &after[..end])
}

/// `crates/snapshot-vault/src/publish.rs` as `vault/publish.rs`, the facade as `engine`'s folder has it.
fn short(path: &str) -> String {
    let path = path.strip_prefix("crates/").unwrap_or(path).replacen("/src/", "/", 1);
    path.trim_start_matches("snapshot-").replacen("nexo-memory-snapshot/", "", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
    pub(crate) fn holds(&self) -> bool {
        // self.dir.sync()? says nothing here
        held.holds(path) && holds(a == b) && holds(c)
    }
fn write(dir: &Dir) -> Result<(), E> {
    dir
        .sync()?;
    let lock = FileLock::acquire(&dir, name);
    dir.ensure_sub(name)?.write_atomic(name)?;
    if off() { return Ok(()); }
#[cfg(test)]
    dir.sync()?;
";

    /// Would catch: a place that is no mutant, one that is none and counts, or one whose place is not the
    /// compiler's, so that it is never switched off.
    #[test]
    fn places_are_found_where_the_compiler_sees_them() {
        let found = in_file("crates/snapshot-vault/src/publish.rs", TEXT);
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|site| (site.name.as_str(), site.place.rsplit("rs:").next().unwrap()))
            .collect();
        assert_eq!(
            found,
            [
                ("check vault/publish.rs holds", "3:29"),
                ("check vault/publish.rs holds #2", "3:46"),
                ("sync vault/publish.rs write", "7:10"),
                ("lock vault/publish.rs write", "8:16"),
                ("sync vault/publish.rs write #2", "9:9"),
                ("sync vault/publish.rs write #3", "9:27"),
                ("step vault/publish.rs write", "10:8"),
            ]
        );
    }

    /// Would catch: a file of the product that is looked for in the wrong place, or two mutants of one name.
    #[test]
    fn the_workspace_has_mutants_of_each_kind() {
        let sites = all().unwrap();
        for kind in [Kind::Sync, Kind::Lock, Kind::Check, Kind::Step] {
            assert!(sites.iter().any(|site| site.kind == kind), "{kind:?}");
        }
        let mut names: Vec<_> = sites.iter().map(|site| &site.name).collect();
        names.dedup();
        assert_eq!(names.len(), sites.len());
    }
}
