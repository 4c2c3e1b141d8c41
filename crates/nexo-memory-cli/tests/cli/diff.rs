//! What a comparison says beside the counts, and what it must not keep to itself.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Home, LAYOUT, database};

fn git(dir: &Path, line: &str) {
    let ran = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=ana", "-c", "user.email=a@b.c"])
        .args(line.split(' '))
        .env("GIT_COMMITTER_DATE", "2026-01-01T00:00:00Z")
        .env("GIT_AUTHOR_DATE", "2026-01-01T00:00:00Z")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{line}: {ran:?}");
}

/// The home's diff of the first snapshot with the live memory, for people.
fn told(home: &Home, args: &[&str]) -> String {
    let said = home.run(&[&["diff", "@before", "live"], args, &LAYOUT].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    said.out
}

fn counted(home: &Home) -> Value {
    let (diff, code) = home.json(&[&["diff", "@before", "live", "--stat"][..], &LAYOUT].concat());
    assert_eq!(code, 0, "{diff}");
    diff
}

fn snapshot(home: &Home) {
    let said = home.run(&[&["snapshot", "--label", "before"][..], &LAYOUT].concat());
    assert_eq!(said.code, 0, "{said:?}");
}

/// Would catch: a change of mode or kind that is none, names that look alike, a value whose type changed told as
/// `1 -> 1`, a number past 64 bits that is no difference, a planted trigger, in silence.
#[test]
fn what_is_no_count_is_told() {
    let home = Home::new();
    let mem = home.path("mem");
    home.write("mem/run.sh", "#!/bin/sh\n");
    home.write("mem/becomes a link", "text\n");
    home.write("mem/becomes a folder", "text\n");
    home.write("mem/becomes a file/in it", "text\n");
    fs::set_permissions(mem.join("run.sh"), Permissions::from_mode(0o644)).unwrap();
    let odd = |byte| mem.join(std::ffi::OsStr::from_bytes(&[b'n', byte]));
    fs::write(odd(0xe8), "1").unwrap();
    home.write("state/ana/extract_cursor.json", r#"{"n":18446744073709551617,"m":1}"#);
    let facts = home.path("facts.db");
    database(
        &facts,
        "CREATE TABLE t(k INTEGER PRIMARY KEY, v); INSERT INTO t VALUES (1, 1), (2, 1), (3, 3), \
         (4, hex(zeroblob(9000)) || 'old')",
    );
    snapshot(&home);

    fs::set_permissions(mem.join("run.sh"), Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(mem.join("becomes a link")).unwrap();
    symlink("run.sh", mem.join("becomes a link")).unwrap();
    fs::remove_file(mem.join("becomes a folder")).unwrap();
    home.write("mem/becomes a folder/in it", "other text\n");
    fs::remove_dir_all(mem.join("becomes a file")).unwrap();
    home.write("mem/becomes a file", "file\n");
    fs::remove_file(odd(0xe8)).unwrap();
    fs::write(odd(0xe9), "2").unwrap();
    home.write("state/ana/extract_cursor.json", r#"{"n":18446744073709551618,"m":2}"#);
    database(
        &facts,
        "UPDATE t SET v = 1.0 WHERE k = 1; UPDATE t SET v = '1' WHERE k = 2; \
         UPDATE t SET v = 9223372036854775807 WHERE k = 3; \
         UPDATE t SET v = hex(zeroblob(9000)) || 'new' WHERE k = 4; PRAGMA user_version = 3; \
         CREATE TRIGGER planted AFTER INSERT ON t BEGIN DELETE FROM t; END",
    );
    insta::assert_snapshot!("diff-beside-the-counts", told(&home, &[]));
    let diff = counted(&home);
    assert_eq!(diff["memory_files"], json!({ "added": 2, "changed": 4, "removed": 2 }));
}

/// Would catch: a headline that says that nothing changed where nobody could look, and a mistyped table that is
/// taken for one in which nothing changed.
#[test]
fn what_was_not_compared_is_never_called_the_same() {
    let home = Home::new();
    home.write("mem/a.md", "a");
    let facts = home.path("facts.db");
    database(
        &facts,
        "CREATE TABLE t(rowid, _rowid_, oid); CREATE TABLE u(x); CREATE VIRTUAL TABLE notes USING fts5(x)",
    );
    snapshot(&home);
    database(&facts, "INSERT INTO t VALUES (1, 2, 3)");
    insta::assert_snapshot!("diff-not-compared", told(&home, &[]));
    database(&facts, "INSERT INTO notes VALUES ('a fact')");
    assert!(told(&home, &["--table", "Notes"]).contains("notes  +1 ~0 -0"));

    let typo = [&["diff", "@before", "live", "--table", "noets"][..], &LAYOUT].concat();
    let (refused, code) = home.json(&typo);
    let message = refused["error"]["message"].as_str().unwrap();
    assert_eq!(code, 6, "{refused}");
    assert!(message.contains("neither side has this table; there are: notes, t, u"), "{message}");
    let same = home.run(&["diff", "@before", "@before", "--agent", "ana", "--table", "noets"]);
    assert!(same.out.contains("no store that differs has a table noets"), "{same:?}");
}

/// Would catch: a table that is there called one that neither side has: an index, or one of a store that could
/// not be read; a name that is no text on which the whole comparison fails.
#[test]
fn a_table_that_is_there_is_not_called_missing() {
    let home = Home::new();
    home.write("mem/a.md", "a");
    let facts = home.path("facts.db");
    database(
        &facts,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x); \
         CREATE VIRTUAL TABLE words USING fts5(x, content='t', content_rowid='id')",
    );
    snapshot(&home);
    database(&facts, "INSERT INTO t VALUES (1, 'a'); INSERT INTO words(rowid, x) VALUES (1, 'a')");
    let index = told(&home, &["--table", "words"]);
    assert!(
        index.contains("note: long_term, table words: a full-text index of another"),
        "{index}"
    );

    fs::remove_file(&facts).unwrap();
    database(&facts, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(x); INSERT INTO t VALUES ('a')");
    let encoded = told(&home, &["--table", "t"]);
    assert!(encoded.contains("long_term could not be compared"), "{encoded}");

    fs::remove_file(&facts).unwrap();
    database(
        &facts,
        "CREATE TABLE n1(x); PRAGMA writable_schema = 1; \
         UPDATE sqlite_schema SET name = CAST(x'6ee8' AS TEXT), tbl_name = CAST(x'6ee8' AS TEXT), \
         sql = 'CREATE TABLE \"' || CAST(x'6ee8' AS TEXT) || '\"(x)'",
    );
    let odd = told(&home, &[]);
    assert!(odd.contains("long_term could not be compared"), "{odd}");
    assert!(odd.contains("not compared: long_term: its tables cannot be listed"), "{odd}");
}

/// Would catch: tables of more columns than a statement may have called unchanged.
#[test]
fn a_table_too_wide_to_compare_is_in_the_headline() {
    let home = Home::new();
    home.write("mem/a.md", "a");
    let facts = home.path("facts.db");
    let columns: Vec<String> = (1..2000).map(|n| format!("c{n}")).collect();
    database(
        &facts,
        &format!(
            "CREATE TABLE wide(k INTEGER PRIMARY KEY, {}); CREATE TABLE t(x)",
            columns.join(", ")
        ),
    );
    snapshot(&home);
    database(&facts, "INSERT INTO wide(k, c1999) VALUES (1, 1); INSERT INTO t VALUES (1)");
    let wide = told(&home, &[]);
    assert!(
        wide.contains("learned 1, changed 0, forgot 0 rows; long_term.wide could not be compared"),
        "{wide}"
    );
}

/// Would catch: a shallow history on which the comparison fails, other branches and stashes that go unsaid, an
/// amended root that is "0 commits" and nothing more.
#[test]
fn histories_are_compared_as_far_as_they_go() {
    let home = Home::new();
    database(&home.path("facts.db"), "CREATE TABLE t(x)");
    let (upstream, mem) = (home.path("upstream"), home.path("mem"));
    fs::create_dir_all(&upstream).unwrap();
    git(&upstream, "init -q -b main");
    for n in ["1", "2", "3"] {
        home.write("upstream/MEMORY.md", n);
        git(&upstream, "add .");
        git(&upstream, &format!("commit -q -m commit-{n}"));
    }
    git(&upstream, "branch side");
    let from = format!("file://{}", upstream.display());
    git(home.0.path(), &format!("clone -q --depth 1 {from} mem"));
    snapshot(&home);
    home.write("mem/MEMORY.md", "4");
    git(&mem, "commit -q -a -m commit-4");
    git(&mem, "branch side");
    let diff = counted(&home);
    assert_eq!(diff["git_summary"]["commits_between"], 1, "{diff}");
    insta::assert_snapshot!("diff-shallow", told(&home, &[]));

    // As a program does that fetches no more than it must: the cut moves, and the old HEAD lies behind it.
    let moved = Home::new();
    database(&moved.path("facts.db"), "CREATE TABLE t(x)");
    git(moved.0.path(), &format!("clone -q --depth 1 {from} mem"));
    snapshot(&moved);
    for n in ["5", "6"] {
        home.write("upstream/MEMORY.md", n);
        git(&upstream, &format!("commit -q -a -m commit-{n}"));
    }
    git(&moved.path("mem"), "fetch -q --depth 1");
    git(&moved.path("mem"), "reset -q --hard origin/main");
    let diff = counted(&moved);
    assert!(diff["notes"].to_string().contains("the history is shallow"), "{diff}");
    assert!(!diff["notes"].to_string().contains("amended"), "{diff}");

    let whole = Home::new();
    database(&whole.path("facts.db"), "CREATE TABLE t(x)");
    git(whole.0.path(), &format!("clone -q {from} mem"));
    snapshot(&whole);
    git(&whole.path("mem"), "checkout -q --orphan other");
    git(&whole.path("mem"), "commit -q -a -m root");
    let diff = counted(&whole);
    assert_eq!(diff["git_summary"]["commits_between"], 0, "{diff}");
    let notes = diff["notes"].to_string();
    assert!(notes.contains("histories do not meet"), "{diff}");
    assert!(notes.contains("HEAD was on refs/heads/main, now on refs/heads/other"), "{diff}");
}

/// Would catch: damage in what is compared taken for a disk that fails, or for an end of the differences.
#[test]
fn damage_is_no_difference() {
    let home = Home::new();
    let facts = home.path("facts.db");
    home.write("mem/a.md", "a");
    database(
        &facts,
        "CREATE TABLE t(k INTEGER PRIMARY KEY, v); \
         WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 9000) \
         INSERT INTO t SELECT i, hex(randomblob(40)) FROM n",
    );
    snapshot(&home);
    database(&facts, "UPDATE t SET v = 'new' WHERE k % 100 = 0");
    let (meta, _) = home.json(&["list", "--agent", "ana"]);
    let bundle = super::text(&meta["snapshots"][0]["bundle_path"]);
    let bundle = bundle.replacen('~', home.0.path().to_str().unwrap(), 1);
    let mut bytes = fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let diff = [&["diff", "@before", "live"][..], &LAYOUT].concat();
    let said = home.run(&diff);
    assert_eq!((said.code, said.out.as_str()), (4, ""), "{said:?}");
    let (document, code) = home.json(&diff);
    assert_eq!((code, &document["error"]["kind"]), (4, &json!("integrity")), "{document}");
    assert_eq!(document.get("stores"), None, "{document}");
}

/// Would catch: two files of a history whose names are no text and look alike taken for one.
#[test]
fn odd_names_in_a_history_are_told_apart() {
    let home = Home::new();
    let mem = home.path("mem");
    home.write("mem/MEMORY.md", "1");
    database(&home.path("facts.db"), "CREATE TABLE t(x)");
    git(&mem, "init -q -b main");
    git(&mem, "add .");
    git(&mem, "commit -q -m 1");
    snapshot(&home);
    for byte in [0xe8, 0xe9] {
        fs::write(mem.join(std::ffi::OsStr::from_bytes(&[b'n', byte])), [byte]).unwrap();
    }
    git(&mem, "add .");
    git(&mem, "commit -q -m 2");
    let (diff, _) = home.json(&[&["diff", "@before", "live"][..], &LAYOUT].concat());
    let names = diff["changes"].as_array().unwrap().iter().filter(|c| c["what"] == "git_file");
    let names: Vec<&Value> = names.map(|file| &file["path_b64"]).collect();
    assert_eq!(names, [&json!("bug="), &json!("buk=")], "{diff}");
    let people = told(&home, &[]);
    assert!(
        people.contains("+ n\u{fffd} (base64 bug=)")
            && people.contains("+ n\u{fffd} (base64 buk=)"),
        "{people}"
    );
}
