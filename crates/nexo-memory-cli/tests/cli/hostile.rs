//! Snapshots whose content was made to deceive whoever handles them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use rusqlite::Connection;
use serde_json::json;
use snapshot_testkit::Git;

use super::{Home, text};

/// An agent with a memdir and a store.
const AGENT: [&str; 6] = ["--agent", "ana", "--memdir", "mem", "--store", "long_term=facts.db"];

/// Would catch: a trigger or view that arrives with a snapshot and of which nobody is told, a report of
/// those that were there all along, a name that steers the terminal.
#[test]
fn triggers_and_views_that_the_live_store_has_not_are_named() {
    let home = Home::new();
    home.write("mem/a", "");
    let store = Connection::open(home.path("facts.db")).unwrap();
    store
        .execute_batch(
            "CREATE TABLE facts(x); CREATE VIEW mine AS SELECT x FROM facts; \
             CREATE TRIGGER \"evil\u{1b}[2J\" AFTER INSERT ON facts BEGIN DELETE FROM facts; END; \
             CREATE VIEW other AS SELECT 1",
        )
        .unwrap();
    let (meta, code) = home.json(&[&["snapshot"], &AGENT[..]].concat());
    assert_eq!(code, 0, "{meta}");
    let restore =
        |more: &[&str]| home.run(&[&["restore", text(&meta["id"])], &AGENT[..], more].concat());
    let same = restore(&["--yes"]);
    assert!(same.code == 0 && !same.out.contains("note:"), "{same:?}");

    let drop = "DROP TRIGGER \"evil\u{1b}[2J\"; DROP VIEW other; CREATE VIEW other AS SELECT 2";
    store.execute_batch(drop).unwrap();
    let over = restore(&["--yes"]);
    let note = "store long_term: trigger evil\\u{1b}[2J, view other are not in the live store";
    assert!(over.code == 0 && over.out.contains(note), "{over:?}");
    store.execute_batch(drop).unwrap();
    let over = restore(&["--yes", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&over.out).unwrap();
    let note = "store long_term: trigger evil\u{1b}[2J, view other are not in the live store";
    assert_eq!(report["notes"], json!([note]));

    // Before a restore, a diff tells the same; a look into a folder of its own tells all there are.
    store.execute_batch(drop).unwrap();
    let diff = home.run(&[&["diff", "live", text(&meta["id"])], &AGENT[..]].concat());
    assert!(diff.out.contains("trigger evil\\u{1b}[2J is new"), "{diff:?}");
    let look = restore(&["--to", "look"]);
    let note = "store long_term comes with trigger evil\\u{1b}[2J, view mine, view other";
    assert!(look.code == 0 && look.out.contains(note), "{look:?}");
}

/// What steers a terminal, ends a line or hides text: escapes, a link, bells, line ends, single-byte
/// controls, directions, blanks of no width.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]8;;evil:x\u{7}x\u{1b}\\\u{9b}31m\r\n\t\u{7f}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}";
/// The same without what git allows in no name of a ref.
const HOSTILE_REF: &str = "x\u{9b}31m\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{85}";

/// An agent of whose memory every part that has a name has a hostile one.
fn with_hostile_names(home: &Home) {
    let mem = home.path("mem");
    fs::create_dir_all(mem.join(HOSTILE)).unwrap();
    home.write(&format!("mem/{HOSTILE}/file{HOSTILE}"), "text\n");
    fs::write(mem.join(OsStr::from_bytes(b"\xff\x1b[2J")), "").unwrap();
    symlink(HOSTILE, mem.join(format!("link{HOSTILE}"))).unwrap();
    // A database is a store of its path's name, a nested repository is not carried.
    let database = Connection::open(mem.join(format!("db{HOSTILE}"))).unwrap();
    database
        .execute_batch(&format!(
            "CREATE TABLE \"t{HOSTILE}\"(\"c{HOSTILE}\"); CREATE VIEW \"v{HOSTILE}\" AS SELECT 1; \
             INSERT INTO \"t{HOSTILE}\" VALUES ('{HOSTILE}')"
        ))
        .unwrap();
    let git = Git::at(&mem);
    git.run(&["init", "-q"]).unwrap();
    git.run(&["add", "-A"]).unwrap();
    let author = format!("Ana{} <a@b>", HOSTILE.replace('\n', ""));
    git.run(&["commit", "-q", "-m", HOSTILE, "--author", &author]).unwrap();
    git.run(&["branch", HOSTILE_REF]).unwrap();
    git.run(&["checkout", "-q", HOSTILE_REF]).unwrap();
    fs::write(mem.join("stashed"), "").unwrap();
    git.run(&["stash", "push", "-q", "-u", "-m", HOSTILE]).unwrap();
    fs::create_dir_all(mem.join(format!("nested{HOSTILE}/.git"))).unwrap();
}

/// Nothing that was printed steers a terminal; a document is one, and the same.
#[track_caller]
fn assert_tame(args: &[&str], said: &super::Said) {
    for text in [&said.out, &said.err] {
        // The product's own rule is not asked.
        let wild = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || HOSTILE.contains(*c) && !c.is_ascii());
        assert_eq!(wild, None, "{args:?}: {text:?}");
    }
    if args.contains(&"--json") {
        let document = serde_json::from_str::<serde_json::Value>(&said.out);
        assert!(document.is_ok(), "{args:?}: {said:?}");
    }
}

/// Would catch: a verb that prints a name of a snapshot by another way than the one sink, in its result, its
/// notes, its errors or its document.
#[test]
fn no_name_of_a_snapshot_steers_a_terminal() {
    let home = Home::new();
    with_hostile_names(&home);
    home.write("empty.yaml", "memory: { snapshot: { agents: { ana: { memdir: mem } } } }");
    let taken = home.run(&["snapshot", "--agent", "ana", "--label", "l\u{202e}\u{200b}\u{2028}"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert_tame(&["snapshot"], &taken);
    assert!(taken.out.contains("not carried: nested"), "{taken:?}");
    // Then everything differs.
    let mem = home.path("mem");
    home.write(&format!("mem/{HOSTILE}/file{HOSTILE}"), "other\n");
    home.write(&format!("mem/new{HOSTILE}"), "");
    Connection::open(mem.join(format!("db{HOSTILE}")))
        .unwrap()
        .execute_batch(&format!(
            "UPDATE \"t{HOSTILE}\" SET \"c{HOSTILE}\" = 'x{HOSTILE}'; DROP VIEW \"v{HOSTILE}\""
        ))
        .unwrap();
    let inside = format!("memory_files/{HOSTILE}");
    let none = format!("memory_files/none{HOSTILE}");
    let label = format!("@none{HOSTILE}");
    let table = format!("t{HOSTILE}");
    let verbs: [&[&str]; 24] = [
        &["list"],
        &["show", "latest"],
        &["show", &label],
        &["show", HOSTILE],
        &["ls", "latest"],
        &["ls", "latest", &inside],
        &["ls", "latest", "git"],
        &["cat", "latest", &none],
        &["extract", "latest", &inside, "--to", "out"],
        &["extract", "latest", &none, "--to", "out2"],
        &["verify", "latest"],
        &["verify", "--all"],
        &["scan-secrets", "latest"],
        &["diff", "latest", "live", "--agent", "ana"],
        &["diff", "latest", "live", "--agent", "ana", "--stat"],
        &["diff", "live", "latest", "--agent", "ana", "--table", &table],
        &["pin", "latest", "--reason", HOSTILE],
        &["status"],
        &["doctor"],
        &["prune", "--agent", "ana"],
        &["export", "latest", "--whole", "--to", "whole.tar.zst"],
        &["restore", "latest", "--dry-run"],
        &["restore", "latest", "--to", "look"],
        &["restore", "latest", "--yes"],
    ];
    for args in verbs {
        for json in [true, false] {
            let args = if json { [args, &["--json"]].concat() } else { args.to_vec() };
            let said = home.run(&args);
            assert_ne!(said.code, 1, "{args:?}: {said:?}");
            assert_tame(&args, &said);
        }
    }
    let told = home.run(&["restore", "latest~1", "--yes"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert_tame(&["restore"], &told);
    // What a list shows lies beside the bundle, where anybody may have written it.
    let vault = home.path(".nexo/state/tenants/default/snapshots/ana");
    for entry in fs::read_dir(&vault).unwrap() {
        let path = entry.unwrap().path();
        if path.to_str().unwrap().ends_with(".manifest.json") {
            let text = fs::read_to_string(&path).unwrap();
            let mut sidecar: serde_json::Value = serde_json::from_str(&text).unwrap();
            sidecar["label"] = json!(format!("y{HOSTILE}"));
            sidecar["bundle_format"] = json!(HOSTILE);
            fs::write(&path, sidecar.to_string()).unwrap();
        }
    }
    for args in
        [["list"].as_slice(), &["list", "--json"], &["verify", "--all"], &["status"], &["doctor"]]
    {
        assert_tame(args, &home.run(args));
    }
}
