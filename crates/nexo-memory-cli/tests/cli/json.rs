//! What `--json` prints, verb by verb, on one small vault; docs/cli.md tells of these shapes. Ids, times,
//! sizes and digests are put in words, for they differ from run to run.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::{Home, database};

/// Where agent `ana` keeps her memory; `bob` has none.
const CONFIG: &str = "memory: { snapshot: { root: vault, retention: { keep_count: 2 }, agents: {
    ana: { memdir: mem, stores: { long_term: facts.db }, state: { extract_cursor: { json: cursor.json } } },
    bob: { memdir: nowhere } } } }";

/// A home whose agent `ana` has something of everything.
pub(super) fn seeded() -> Home {
    let home = Home::new();
    home.write("empty.yaml", CONFIG);
    home.write("cursor.json", r#"{"offset":212}"#);
    home.write("mem/MEMORY.md", "the user likes coffee\n");
    home.write("mem/notes/a.md", "a\n");
    std::os::unix::fs::symlink("MEMORY.md", home.path("mem/link")).unwrap();
    for line in ["init -q -b main", "add .", "commit -q -m facts"] {
        let ran = Command::new("git")
            .arg("-C")
            .arg(home.path("mem"))
            .args(["-c", "user.name=ana", "-c", "user.email=ana@x", "-c", "commit.gpgsign=false"])
            .args(line.split(' '))
            .env("GIT_COMMITTER_DATE", "1700000000 +0000")
            .env("GIT_AUTHOR_DATE", "1700000000 +0000")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .status();
        assert!(ran.unwrap().success(), "git {line}");
    }
    let sql = "CREATE TABLE facts (id INTEGER PRIMARY KEY, content TEXT);
               INSERT INTO facts VALUES (1, 'lives in Rome'), (2, 'likes coffee')";
    database(&home.path("facts.db"), sql);
    home
}

/// What the agent does in between.
pub(super) fn live_on(home: &Home) {
    home.write("cursor.json", r#"{"offset":424}"#);
    home.write("mem/MEMORY.md", "the user likes tea\n");
    fs::remove_file(home.path("mem/notes/a.md")).unwrap();
    database(&home.path("facts.db"), "UPDATE facts SET content = 'likes tea' WHERE id = 2");
}

/// The document with a word for whatever differs from run to run.
struct Words<'a> {
    home: &'a Home,
    /// In the order of their first use, so that it shows which are the same.
    ids: Vec<String>,
}

impl Words<'_> {
    fn of(&mut self, value: &mut Value, key: &str) {
        match value {
            // Of the machine and the build: what runs, what is free, the umask, libraries.
            _ if matches!(key, "checked" | "not_checked" | "mode" | "tool_versions") => {
                *value = format!("[{key}]").into();
            }
            Value::Object(map) => map.iter_mut().for_each(|(key, value)| self.of(value, key)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.of(item, key)),
            Value::String(text) => *text = self.text(text),
            Value::Number(_) => {
                let unit = ["_ms", "_ns", "_us", "bytes"].iter().find(|unit| key.ends_with(**unit));
                if let Some(unit) = unit {
                    *value = format!("[{}]", unit.trim_start_matches('_')).into();
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Paths, ids, digests; and the counts of bytes inside of a sentence.
    fn text(&mut self, text: &str) -> String {
        let text = text.replace(self.home.0.path().to_str().unwrap(), "~");
        let token = |c: char| !c.is_ascii_alphanumeric() && c != '-';
        let mut told = String::new();
        for piece in text.split_inclusive(token) {
            let word = piece.trim_end_matches(token);
            told += &self.word(word);
            told += &piece[word.len()..];
        }
        told
    }

    fn word(&mut self, word: &str) -> String {
        let hex = |c: char| c.is_ascii_hexdigit();
        match word.len() {
            36 if word.split('-').all(|part| part.chars().all(hex)) => {
                let known = self.ids.iter().position(|id| id == word);
                let at = known.unwrap_or_else(|| {
                    self.ids.push(word.to_owned());
                    self.ids.len() - 1
                });
                format!("[id {at}]")
            }
            // Its first characters, as a label has them.
            8 if self.ids.iter().any(|id| id.starts_with(word)) => {
                let at = self.ids.iter().position(|id| id.starts_with(word));
                format!("[short id {}]", at.unwrap())
            }
            64 if word.chars().all(hex) => "[sha256]".to_owned(),
            4.. if word.chars().all(|c| c.is_ascii_digit()) => "[number]".to_owned(),
            _ => word.to_owned(),
        }
    }
}

/// The document of a run that ended with `code`.
fn golden(words: &mut Words<'_>, name: &str, code: i32, args: &[&str]) {
    let (mut document, ended) = words.home.json(args);
    assert_eq!(ended, code, "{args:?}: {document}");
    words.of(&mut document, "");
    insta::assert_json_snapshot!(name, document);
}

/// Would catch: a field that is renamed, lost or of another type: programs read these.
#[test]
fn each_verb_prints_its_document() {
    let home = seeded();
    let mut words = Words { home: &home, ids: Vec::new() };
    let mut golden = |name, code, args: &[&str]| golden(&mut words, name, code, args);
    golden("snapshot", 0, &["snapshot", "--agent", "ana", "--label", "first"]);
    golden("diff-stat", 0, &["diff", "@first", "live", "--stat"]);
    live_on(&home);
    golden("snapshot-all", 3, &["snapshot", "--all"]);
    golden("list", 0, &["list"]);
    golden("show", 0, &["show", "@first"]);
    golden("ls", 0, &["ls", "@first", "memory_files"]);
    golden("ls-history", 0, &["ls", "@first", "git@main"]);
    golden("extract", 0, &["extract", "@first", "memory_files/notes", "--to", "out"]);
    golden("verify", 0, &["verify", "@first"]);
    golden("verify-all", 0, &["verify", "--all"]);
    golden("scan-secrets", 0, &["scan-secrets", "@first"]);
    golden("diff", 0, &["diff", "@first", "latest"]);
    golden("restore-plan", 0, &["restore", "@first", "--dry-run"]);
    golden("restore", 0, &["restore", "@first", "--yes"]);
    golden("export", 0, &["export", "@first", "--to", "away", "--whole"]);
    let away = home.path("away").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let away =
        away.map(|path| path.display().to_string()).find(|p| p.ends_with(".tar.zst")).unwrap();
    golden("import", 0, &["import", &away, "--root", "other"]);
    golden("import-refused", 6, &["import", &away, "--root", "other"]);
    golden("pin", 0, &["pin", "@first", "--reason", "the audit"]);
    golden("unpin", 0, &["unpin", "@first"]);
    golden("hold", 0, &["hold", "--agent", "ana", "incident 42"]);
    golden("release", 0, &["release", "--agent", "ana"]);
    golden("prune", 0, &["prune", "--dry-run"]);
    golden("status", 11, &["status"]);
    golden("doctor", 11, &["doctor"]);
    golden("doctor-recover", 0, &["doctor", "--agent", "ana", "--recover", "forward"]);
    golden("delete", 0, &["delete", "@first", "--yes"]);
    golden("delete-everything", 0, &["delete", "--agent", "ana", "--everything", "--yes"]);
    golden("config-show", 0, &["config", "show"]);
    golden("config-check", 11, &["config", "check"]);
    // Of a build with everything: it names what a smaller one has not.
    if cfg!(all(feature = "demo", feature = "nats")) {
        golden("man", 0, &["man", "--to", "man1"]);
    }
}

/// Would catch: a verb whose result is no document and that prints something else than an error.
#[test]
fn what_is_no_document_says_so() {
    let home = seeded();
    assert_eq!(home.run(&["snapshot", "--agent", "ana"]).code, 0);
    let mut verbs =
        vec![&["cat", "latest", "memory_files/MEMORY.md"][..], &["completions", "bash"], &["man"]];
    if cfg!(feature = "demo") {
        verbs.push(&["demo", "--dir", "d"]);
    }
    for args in verbs {
        let (document, code) = home.json(args);
        assert_eq!((code, &document["error"]["hint"]), (2, &"leave out --json".into()), "{args:?}");
    }
}
