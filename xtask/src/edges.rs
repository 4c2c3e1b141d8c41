//! The allowed edges between our crates (docs/ARCHITECTURE.md); any other fails the gate.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::tools::{Outcome, cargo, output};

/// Which of our crates each may depend on. `xtask` is absent: it may use all.
const ALLOWED: [(&str, &[&str]); 10] = [
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
    ("nexo-memory-cli", &["nexo-memory-snapshot", "snapshot-testkit"]),
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

/// The crate that any other may use in its tests, unless that made a circle.
const TESTKIT: &str = "snapshot-testkit";

/// One dependency between two of our crates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    from: String,
    to: String,
    dev: bool,
    optional: bool,
}

/// Compares the workspace's edges with the allowed ones.
pub(crate) fn check() -> Outcome {
    let json = output(&mut cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&json).map_err(|e| format!("cargo metadata is no JSON: {e}"))?;
    let wrong = wrong_edges(&edges(&metadata));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("edges that docs/ARCHITECTURE.md does not allow:\n  {}", wrong.join("\n  ")))
}

fn edges(metadata: &Value) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            // Only crates of this workspace have a path.
            if dependency["path"].is_string() {
                edges.push(Edge {
                    from: text(&package["name"]),
                    to: text(&dependency["name"]),
                    dev: dependency["kind"] == "dev",
                    optional: dependency["optional"] == true,
                });
            }
        }
    }
    edges
}

fn wrong_edges(edges: &[Edge]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let under_testkit = below(TESTKIT, edges);
    let mut wrong = Vec::new();
    for edge in edges.iter().filter(|edge| edge.from != "xtask") {
        let Edge { from, to, dev, optional } = edge;
        let Some(may) = allowed.get(from.as_str()) else {
            wrong.push(format!("{from} is not in the table of xtask/src/edges.rs"));
            continue;
        };
        if *dev && to == TESTKIT {
            if under_testkit.contains(from) {
                wrong.push(format!("{from} -> {to} (tests): {to} is built on {from}, a circle"));
            }
        } else if !may.contains(&to.as_str()) {
            wrong.push(format!("{from} -> {to}{}", if *dev { " (tests)" } else { "" }));
        } else if from == "nexo-memory-cli" && to == TESTKIT && !optional {
            wrong.push(format!("{from} -> {to} must be optional: only the demo needs it"));
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
        Edge { from: from.into(), to: to.into(), dev, optional: false }
    }

    /// Would catch: a layer that reaches sideways or upwards.
    #[test]
    fn sideways_and_upward_edges_are_wrong() {
        assert!(wrong_edges(&[edge("snapshot-fs", "snapshot-core", false)]).is_empty());
        assert_eq!(wrong_edges(&[edge("snapshot-core", "snapshot-fs", false)]).len(), 1);
        assert_eq!(wrong_edges(&[edge("snapshot-stores", "snapshot-bundle", true)]).len(), 1);
        assert_eq!(wrong_edges(&[edge("snapshot-new", "snapshot-core", false)]).len(), 1);
        assert!(wrong_edges(&[edge("xtask", "snapshot-stores", false)]).is_empty());
    }

    /// Would catch: a test dependency that builds a crate twice, whose types then differ.
    #[test]
    fn the_testkit_is_for_tests_of_what_it_is_not_built_on() {
        let testkit = edge("snapshot-testkit", "snapshot-fs", false);
        let stores = edge("snapshot-stores", TESTKIT, true);
        assert!(wrong_edges(&[testkit.clone(), stores]).is_empty());
        assert_eq!(wrong_edges(&[testkit, edge("snapshot-fs", TESTKIT, true)]).len(), 1);
        assert_eq!(wrong_edges(&[edge("nexo-memory-cli", TESTKIT, false)]).len(), 1);
    }
}
