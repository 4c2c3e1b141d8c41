//! The allowed edges between our crates (docs/ARCHITECTURE.md); any other fails the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::tools::{Outcome, cargo, output, sources};

/// Which of our crates each may depend on. `xtask` is absent: it may use all.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("snapshot-core", &[]),
    ("snapshot-fs", &["snapshot-core"]),
    ("snapshot-bundle", &["snapshot-core", "snapshot-fs"]),
    ("snapshot-stores", &["snapshot-core", "snapshot-fs"]),
    ("snapshot-vault", &["snapshot-core", "snapshot-fs"]),
    ("snapshot-events", &["snapshot-core", "snapshot-fs"]),
    ("snapshot-retention", &["snapshot-core", "snapshot-events"]),
    (
        "nexo-memory-snapshot",
        &[
            "snapshot-core",
            "snapshot-fs",
            "snapshot-bundle",
            "snapshot-stores",
            "snapshot-vault",
            "snapshot-events",
            "snapshot-retention",
        ],
    ),
    ("nexo-memory-cli", &["nexo-memory-snapshot", "snapshot-testkit", "snapshot-soak"]),
    (
        "snapshot-soak",
        &[
            "snapshot-core",
            "snapshot-fs",
            "snapshot-bundle",
            "nexo-memory-snapshot",
            "snapshot-testkit",
        ],
    ),
    (
        "snapshot-fuzz",
        &[
            "snapshot-core",
            "snapshot-fs",
            "snapshot-bundle",
            "snapshot-stores",
            "snapshot-vault",
            "snapshot-events",
            "nexo-memory-snapshot",
            "snapshot-testkit",
        ],
    ),
    (
        "snapshot-testkit",
        &[
            "snapshot-core",
            "snapshot-fs",
            "snapshot-bundle",
            "snapshot-stores",
            "snapshot-vault",
            "snapshot-events",
            "snapshot-retention",
            "nexo-memory-snapshot",
        ],
    ),
];

/// The crate that any other may use in its tests. Those that it is built on may not in the tests of
/// `src/`: these are of another build of the crate than the testkit's, and the types of the two differ.
const TESTKIT: &str = "snapshot-testkit";

/// As code names it.
const TESTKIT_PATH: &str = "snapshot_testkit::";

/// The crate that others may use in their tests alone.
const SOAK: &str = "snapshot-soak";

/// One dependency between two of our crates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    dev: bool,
    optional: bool,
    /// Whether code in `from`'s `src/` names the testkit.
    in_src: bool,
}

/// Compares the workspace's edges with the allowed ones.
pub(crate) fn check() -> Outcome {
    let json = output(&mut cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&json).map_err(|e| format!("cargo metadata is no JSON: {e}"))?;
    let wrong = wrong_edges(&edges(&metadata)?);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("edges that docs/ARCHITECTURE.md does not allow:\n  {}", wrong.join("\n  ")))
}

fn edges(metadata: &Value) -> Result<Vec<Edge>, String> {
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let manifest = text(&package["manifest_path"]);
        let in_src = names_testkit(&Path::new(&manifest).with_file_name("src"))?;
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Only crates of this workspace have a path.
            if dependency["path"].is_string() {
                edges.push(Edge {
                    from: text(&package["name"]),
                    to: text(&dependency["name"]),
                    dev: dependency["kind"] == "dev",
                    optional: dependency["optional"] == true,
                    in_src,
                });
            }
        }
    }
    Ok(edges)
}

/// Whether code below `dir` names the testkit; examples in comments are built as other crates.
fn names_testkit(dir: &Path) -> Result<bool, String> {
    let code = |line: &str| !line.trim_start().starts_with("//") && line.contains(TESTKIT_PATH);
    for path in sources(dir)? {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        if text.lines().any(code) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn wrong_edges(edges: &[Edge]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let under_testkit = below(TESTKIT, edges);
    let mut wrong = Vec::new();
    for edge in edges.iter().filter(|edge| edge.from != "xtask") {
        let Edge { from, to, dev, optional, in_src } = edge;
        let Some(may) = allowed.get(from.as_str()) else {
            wrong.push(format!("{from} is not in the table of xtask/src/edges.rs"));
            continue;
        };
        if *dev && to == TESTKIT {
            if *in_src && under_testkit.contains(from) {
                wrong.push(format!("{from} -> {to} in src/, and {to} is built on {from}"));
            }
        } else if !may.contains(&to.as_str()) {
            wrong.push(format!("{from} -> {to}{}", if *dev { " (tests)" } else { "" }));
        } else if from == "nexo-memory-cli" && to == TESTKIT && !optional {
            wrong.push(format!("{from} -> {to} must be optional: only the demo needs it"));
        } else if to == SOAK && !dev {
            wrong.push(format!("{from} -> {to} is for tests alone"));
        }
    }
    wrong
}

/// Everything that `root` is built on, by normal edges.
fn below(root: &str, edges: &[Edge]) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let mut next = vec![root.to_owned()];
    while let Some(from) = next.pop() {
        for edge in edges.iter().filter(|e| e.from == from && !e.dev) {
            if seen.insert(edge.to.clone()) {
                next.push(edge.to.clone());
            }
        }
    }
    seen
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, dev: bool) -> Edge {
        Edge { from: from.into(), to: to.into(), dev, optional: false, in_src: false }
    }

    /// Would catch: a layer that reaches sideways or upwards.
    #[test]
    fn sideways_and_upward_edges_are_wrong() {
        assert!(wrong_edges(&[edge("snapshot-fs", "snapshot-core", false)]).is_empty());
        assert_eq!(wrong_edges(&[edge("snapshot-core", "snapshot-fs", false)]).len(), 1);
        assert_eq!(wrong_edges(&[edge("snapshot-stores", "snapshot-bundle", true)]).len(), 1);
        assert_eq!(wrong_edges(&[edge("snapshot-new", "snapshot-core", false)]).len(), 1);
        assert!(wrong_edges(&[edge("nexo-memory-cli", SOAK, true)]).is_empty());
        assert_eq!(wrong_edges(&[edge("nexo-memory-cli", SOAK, false)]).len(), 1);
        assert!(wrong_edges(&[edge("xtask", "snapshot-stores", false)]).is_empty());
    }

    /// Would catch: a test dependency that builds a crate twice, whose types then differ.
    #[test]
    fn the_testkit_is_not_for_unit_tests_of_what_it_is_built_on() {
        let testkit = edge("snapshot-testkit", "snapshot-fs", false);
        for (from, in_src, wrong) in
            [("snapshot-stores", true, 0), ("snapshot-fs", false, 0), ("snapshot-fs", true, 1)]
        {
            let tests = Edge { in_src, ..edge(from, TESTKIT, true) };
            assert_eq!(wrong_edges(&[testkit.clone(), tests]).len(), wrong, "{from}");
        }
        assert_eq!(wrong_edges(&[edge("nexo-memory-cli", TESTKIT, false)]).len(), 1);
    }

    /// Would catch: a look that finds nothing, or one that takes an example for code.
    #[test]
    fn code_that_names_the_testkit_is_found_and_comments_are_not() {
        let crates = crate::tools::root().join("crates");
        assert!(names_testkit(&crates.join("nexo-memory-cli/src")).unwrap());
        assert!(!names_testkit(&crates.join("snapshot-stores/src")).unwrap());
    }
}
