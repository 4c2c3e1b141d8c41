//! Small rules over every tracked file that no other tool checks.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::tools::{Outcome, output, root};

/// What may stand in no tracked file: (text, in which files by ending, why). Spliced, so that this
/// file does not contain them.
const BANNED: [(&str, &str, &str); 8] = [
    (concat!("#[", "allow("), ".rs", "mend the cause, or #[expect(.., reason)]"),
    (concat!("#![", "allow("), ".rs", "mend the cause, or #![expect(.., reason)]"),
    (concat!("TO", "DO"), "", "do it, or open an issue"),
    (concat!("FIX", "ME"), "", "do it, or open an issue"),
    (concat!("dbg", "!("), ".rs", "a left-over"),
    (concat!("/wo", "rk/"), "", "a path that exists on one machine only"),
    (concat!("../sha", "red"), "", "a path that exists on one machine only"),
    (concat!("/tmp/bash", "_jobs"), "", "a path that exists on one machine only"),
];

/// Files that stay as others wrote them.
const OF_OTHERS: [&str; 1] = ["crates/snapshot-bundle/rules/gitleaks.toml"];

/// Where fixtures lie.
const FIXTURES: &str = "fixtures/";
/// Those that are programs, which the gate runs.
const PROGRAMS: &str = "fixtures/embeds/";
/// Folders whose every file one test reads.
const WHOLE: [&str; 4] = ["fixtures/age", "fixtures/damaged", "fixtures/fuzz", "fixtures/v1"];

/// A tracked file that is text.
struct Source {
    path: String,
    text: String,
}

/// Checks every tracked file.
pub(crate) fn check() -> Outcome {
    let list = output(Command::new("git").args(["ls-files", "-z"]).current_dir(root()))?;
    let paths: Vec<&str> = list.split('\0').filter(|path| !path.is_empty()).collect();
    let sources = read(&paths)?;
    let mut wrong: Vec<String> = sources.iter().flat_map(complaints).collect();
    wrong.extend(unread_fixtures(&paths, &sources));
    if wrong.is_empty() { Ok(()) } else { Err(format!("\n  {}", wrong.join("\n  "))) }
}

fn read(paths: &[&str]) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for &path in paths {
        let full = root().join(path);
        // Deleted but not yet committed, or a link.
        if !full.is_file() {
            continue;
        }
        let bytes = fs::read(full).map_err(|e| format!("cannot read {path}: {e}"))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(sources)
}

fn complaints(source: &Source) -> Vec<String> {
    let Source { path, text } = source;
    let mut wrong = Vec::new();
    if OF_OTHERS.contains(&path.as_str()) {
        return wrong;
    }
    if path.ends_with(".rs") && !text.starts_with("//!") {
        wrong.push(format!("{path}:1: does not start with //! (purpose, invariants)"));
    }
    for (number, line) in text.lines().enumerate() {
        for (banned, ending, why) in BANNED {
            if path.ends_with(ending) && line.contains(banned) {
                wrong.push(format!("{path}:{}: {banned} ({why})", number + 1));
            }
        }
    }
    wrong
}

/// A fixture that no source outside this program names proves nothing.
fn unread_fixtures(paths: &[&str], sources: &[Source]) -> Vec<String> {
    let readers: Vec<&Source> = sources
        .iter()
        .filter(|s| s.path.ends_with(".rs") && !s.path.starts_with("xtask/"))
        .collect();
    let named = |path: &str| {
        let whole = WHOLE.into_iter().find(|folder| Path::new(path).starts_with(folder));
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        let name = whole.map_or(name, Cow::from);
        readers.iter().any(|s| s.text.contains(&*name))
    };
    paths
        .iter()
        .filter(|path| path.starts_with(FIXTURES) && !path.starts_with(PROGRAMS))
        .filter(|path| !path.ends_with(".md") && !named(path))
        .map(|path| format!("{path}: no test names it"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    /// Would catch: a rule that matches nothing.
    #[test]
    fn each_banned_text_is_found_where_it_counts() {
        for (banned, ending, _) in BANNED {
            let text = format!("//! x\nlet a = \"{banned}\";");
            let found = complaints(&source("a.rs", &text));
            assert_eq!(found.len(), 1, "{banned}: {found:?}");
            assert_eq!(complaints(&source("a.md", &text)).is_empty(), !ending.is_empty());
        }
        assert_eq!(complaints(&source("a.rs", "fn f() {}")).len(), 1);
        assert!(complaints(&source("a.rs", "//! fine\n")).is_empty());
    }

    /// Would catch: goldens that are regenerated for ever and read by nobody.
    #[test]
    fn a_fixture_must_be_named_by_a_test_elsewhere() {
        let readers =
            [source("crates/c/tests/t.rs", "\"x.json\""), source("xtask/src/f.rs", "y.json")];
        let paths = ["fixtures/a/x.json", "fixtures/a/y.json", "fixtures/age/z"];
        let unread = unread_fixtures(&paths[..2], &readers);
        assert_eq!(unread, ["fixtures/a/y.json: no test names it"]);
        // A folder that is read whole is named once.
        assert_eq!(unread_fixtures(&paths[2..], &readers).len(), 1);
        let reader = [source("crates/c/src/l.rs", "read_dir(\"../fixtures/age\")")];
        assert!(unread_fixtures(&paths[2..], &reader).is_empty());
    }
}
