//! The program as people and scripts meet it: help, exit codes, messages, JSON, and a first round
//! trip. Hermetic: its own home, no variable of the outside, no configuration of the machine.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test makes its agent's memory plainly, and ends where that fails"
)]

#[path = "cli/absent.rs"]
mod absent;
#[path = "cli/asked.rs"]
mod asked;
#[path = "cli/bounds.rs"]
mod bounds;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/damaged.rs"]
mod damaged;
#[path = "cli/diff.rs"]
mod diff;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/escapes.rs"]
mod escapes;
#[path = "cli/events.rs"]
mod events;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/json.rs"]
mod json;
#[path = "cli/keeping.rs"]
mod keeping;
#[path = "cli/names.rs"]
mod names;
#[path = "cli/newer.rs"]
mod newer;
#[path = "cli/redact.rs"]
mod redact;
#[path = "cli/sealed.rs"]
mod sealed;
#[path = "cli/signed.rs"]
mod signed;
#[path = "cli/v1.rs"]
mod v1;
#[path = "cli/widths.rs"]
mod widths;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Flags of an agent `ana` without a configuration: a memdir, a store and runtime state.
const LAYOUT: [&str; 8] = [
    "--agent",
    "ana",
    "--memdir",
    "mem",
    "--store",
    "long_term=facts.db",
    "--state-json-root",
    "state",
];

/// A home of its own.
struct Home(TempDir);

/// What a run said, and its exit code.
#[derive(Debug)]
struct Said {
    out: String,
    err: String,
    code: i32,
}

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        // An empty configuration, so that the machine's is not read.
        home.write("empty.yaml", "");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("nexo-memory"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.0.path())
            .env("NEXO_MEMORY_CONFIG", self.path("empty.yaml"))
            .env("COLUMNS", "100")
            .env("TZ", "UTC")
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs it; the home is shown as `~`.
    fn run(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).unwrap().replace(self.0.path().to_str().unwrap(), "~")
        };
        let code = output.status.code().unwrap();
        Said { out: text(output.stdout), err: text(output.stderr), code }
    }

    /// The path that was shown with `~` for the home.
    fn real(&self, shown: &Value) -> PathBuf {
        self.path(text(shown).trim_start_matches("~/"))
    }

    /// The one document on stdout.
    fn json(&self, args: &[&str]) -> (Value, i32) {
        let said = self.run(&[args, &["--json"]].concat());
        let document = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        (document, said.code)
    }

    /// A snapshot of agent `ana`, whose memory is two files.
    fn with_ana(&self) -> Value {
        self.write("mem/MEMORY.md", "the user likes tea\n");
        self.write("mem/notes/a.md", "a\n");
        let args = ["snapshot", "--agent", "ana", "--memdir", "mem", "--label", "first"];
        let (meta, code) = self.json(&args);
        assert_eq!(code, 0, "{meta}");
        meta
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_empty_list_names_the_root_and_what_decided_it() {
    let home = Home::new();
    let said = home.run(&["list", "--agent", "ana"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(
        said.out,
        "no snapshots of agent ana of tenant default in ~/.nexo/state (default)\n"
    );
    let (document, _) = home.json(&["list", "--root", "v"]);
    assert_eq!(document["snapshots"], json!([]));
    assert!(text(&document["root"]).ends_with("/v"));
    assert!(!home.path("v").exists(), "looking made a vault");
}

#[test]
fn an_unknown_agent_is_told_with_where_we_looked_and_what_to_try() {
    let home = Home::new();
    let said = home.run(&["snapshot", "--agent", "ana"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.is_empty(), "{said:?}");
    assert!(said.err.contains("~/.nexo/state/ana/long_term.sqlite"), "{said:?}");
    assert!(said.err.contains("root: ~/.nexo/state (default)"), "{said:?}");
    assert!(said.err.contains("try: nexo-memory snapshot --agent ana --memdir DIR"), "{said:?}");
    assert!(!home.path(".nexo").exists(), "a mistyped name made something");
    let (document, code) = home.json(&["snapshot", "--agent", "ana"]);
    assert_eq!((code, &document["error"]["kind"]), (3, &json!("unknown_agent")));
}

#[test]
fn an_unknown_snapshot_is_told_with_the_command_that_lists() {
    let home = Home::new();
    let said = home.run(&["show", "3f9c", "--agent", "ana", "--root", "my vault"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("3f9c"), "{said:?}");
    assert!(said.err.contains("try: nexo-memory list --agent ana --root '~/my vault'"), "{said:?}");
}

#[test]
fn what_needs_a_yes_is_refused_where_nobody_can_be_asked() {
    let home = Home::new();
    for args in [["restore", "latest", "--agent", "ana"].as_slice(), &["delete", "3f9c"]] {
        let said = home.run(args);
        assert_eq!(said.code, 6, "{said:?}");
        assert!(said.err.contains("--yes"), "{said:?}");
    }
}

/// Would catch: a memory that leaves in the clear without being told to, or after a wish that was not
/// granted.
#[test]
fn a_plain_export_must_be_meant() {
    let home = Home::new();
    home.with_ana();
    let export = ["export", "latest", "--to", "out"];
    let said = home.run(&export);
    assert_eq!(said.code, 2, "{said:?}");
    insta::assert_snapshot!("export-no-choice", said.err);
    let choices = [
        (["--encrypt", "age1x"].as_slice(), "age1x is no age recipient"),
        (&["--drop-store", "x", "--whole"], "--redact"),
        (&["--whole", "--redact"], "--redact"),
        (&["--whole", "--decrypt"], "--decrypt"),
    ];
    for (choice, told) in choices {
        let said = home.run(&[&export, choice].concat());
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.err.contains(told), "{said:?}");
    }
    assert!(!home.path("out").exists());
}

/// Would catch: an import that takes damage, a duplicate or a stranger's, that leaves something of
/// what it refused, or that loses a label.
#[test]
fn bundles_leave_and_come_back() {
    let home = Home::new();
    let meta = home.with_ana();
    let id = text(&meta["id"]);
    assert_eq!(home.run(&["export", "latest", "--to", "away", "--whole"]).code, 0);
    let away = home.path("away").join(format!("{id}.tar.zst")).display().to_string();
    let again = home.run(&["import", &away]);
    assert_eq!(again.code, 6, "{again:?}");

    let root = |root: &str, args: &[&str]| home.json(&[args, &["--root", root]].concat());
    let (other, code) = root("other", &["import", &away]);
    assert_eq!((code, &other[0]["snapshot"]["label"]), (0, &json!("first")), "{other}");
    assert_eq!(root("other", &["verify", "latest"]).1, 0);
    assert_eq!(root("strange", &["import", &away, "--tenant", "t"]).1, 6);
    assert_eq!(root("strange", &["import", &away, "--tenant", "t", "--foreign"]).1, 0);
    assert_eq!(root("strange", &["list"]).0["snapshots"][0]["id"], id, "it went to its own tenant");
    assert_eq!(root("bobs", &["import", &away, "--agent", "bob"]).1, 6);

    let mut bytes = fs::read(&away).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&away, bytes).unwrap();
    for beside in ["", ".sha256"] {
        // Told by its summary; then by the checksum alone; then by what is inside.
        let (said, code) = root("empty", &["import", &away]);
        assert_eq!(code, 4, "{beside}: {said}");
        let summary = home.path("away").join(format!("{id}.manifest.json"));
        let _ = fs::remove_file(if beside.is_empty() {
            summary
        } else {
            (away.clone() + beside).into()
        });
    }
    assert_eq!(root("empty", &["import", &away]).1, 4);
    assert_eq!(root("empty", &["list"]).0["snapshots"], json!([]));
    assert_eq!(root("empty", &["list"]).0["problems"], json!([]), "nothing of it stays");

    // A bundle of the vault that lost its summary.
    let vault = home.path(".nexo/state/tenants/default/snapshots/ana");
    fs::remove_file(vault.join(format!("{id}.manifest.json"))).unwrap();
    assert_eq!(home.json(&["list"]).0["snapshots"], json!([]));
    let (adopted, code) = home.json(&["import", "--all"]);
    assert_eq!((code, &adopted[0]["snapshot"]["id"]), (0, &json!(id)), "{adopted}");
    assert_eq!(home.json(&["verify", "latest"]).1, 0);
    assert!(home.run(&["import", "--all"]).out.contains("no bundle lacks its summary"));
}

/// Would catch: an entry that is lost or listed for another path, a file replaced, a link followed out
/// of the folder, or a set-user-id bit out of a bundle.
#[test]
fn what_a_snapshot_holds_is_listed_and_extracted() {
    let home = Home::new();
    home.write("mem/bin/run", "#!/bin/sh\n");
    let run = std::fs::Permissions::from_mode(0o4755);
    fs::set_permissions(home.path("mem/bin/run"), run).unwrap();
    std::os::unix::fs::symlink("/etc", home.path("mem/away")).unwrap();
    home.with_ana();
    let (listed, code) = home.json(&["ls", "latest"]);
    assert_eq!(code, 0);
    let paths = |listed: &Value| -> Vec<String> {
        let artifacts = listed["artifacts"].as_array().unwrap();
        artifacts.iter().map(|a| text(&a["path_in_bundle"]).to_owned()).collect()
    };
    let all = paths(&listed);
    for path in ["memory_files/MEMORY.md", "memory_files/away", "memory_files/notes/a.md"] {
        assert!(all.contains(&path.to_owned()), "{all:?}");
    }
    let notes = paths(&home.json(&["ls", "latest", "memory_files/notes"]).0);
    assert_eq!(notes, ["memory_files/notes", "memory_files/notes/a.md"]);
    assert_eq!(home.run(&["ls", "latest", "memory_files/note"]).code, 3, "no half names");

    let said = home.run(&["extract", "latest", "--to", "out"]);
    assert_eq!(said.code, 0, "{said:?}");
    let out = |path: &str| home.path("out/memory_files").join(path);
    assert_eq!(fs::read_to_string(out("MEMORY.md")).unwrap(), "the user likes tea\n");
    assert_eq!(fs::read_link(out("away")).unwrap(), Path::new("/etc"));
    assert_eq!(fs::metadata(out("bin/run")).unwrap().permissions().mode() & 0o7777, 0o755);
    let again = home.run(&["extract", "latest", "memory_files/notes/a.md", "--to", "out"]);
    assert_eq!(again.code, 6, "{again:?}");
    let alone = home.run(&["extract", "latest", "memory_files/notes/a.md", "--to", "one"]);
    assert_eq!(alone.code, 0, "{alone:?}");
    assert_eq!(fs::read_dir(home.path("one/memory_files")).unwrap().count(), 1);
    // A link in the folder is not followed.
    fs::create_dir(home.path("trap")).unwrap();
    std::os::unix::fs::symlink(home.path("mem"), home.path("trap/memory_files")).unwrap();
    assert_ne!(home.run(&["extract", "latest", "--to", "trap"]).code, 0);
    assert!(home.path("mem/notes/a.md").exists() && !home.path("mem/memory_files").exists());
}

/// A database, as `sql` makes it of what is there.
fn database(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Would catch: a summary that comes after what it sums up, a change that is counted and not shown, a
/// limit that hides how much it hides, JSON that a reader cannot parse or that has less than all.
#[test]
fn a_diff_tells_first_how_much_and_then_what() {
    let home = Home::new();
    let vector = |x: f32| -> String {
        (0..8u8)
            .flat_map(|n| (f32::from(n) * x + 1.0).to_le_bytes())
            .map(|b| format!("{b:02x}"))
            .collect()
    };
    home.write("mem/MEMORY.md", "# Ana\n\nlikes coffee\nlives in Rome\n");
    home.write("mem/old name.md", "the same\n");
    home.write("mem/gone.bin", "\0\0");
    home.write("state/ana/extract_cursor.json", r#"{"offset":212,"turns":[1,2]}"#);
    let facts = home.path("facts.db");
    database(
        &facts,
        &format!(
            "CREATE TABLE facts (id TEXT PRIMARY KEY, content TEXT, embedding BLOB, weight REAL);
             CREATE TABLE log (line TEXT);
             INSERT INTO facts VALUES ('a', 'the user lives in Rome with a cat and a very old dog', x'{}', 1),
                ('b', 'likes coffee', NULL, 0.5), ('c', 'to be forgotten', NULL, 2);
             INSERT INTO log VALUES ('one'), ('one'), ('two')",
            vector(1.0)
        ),
    );
    let run = |args: &[&str]| home.run(&[args, &LAYOUT].concat());
    assert_eq!(run(&["snapshot", "--label", "before"]).code, 0);

    home.write("mem/MEMORY.md", "# Ana\n\nlikes tea\nlives in Rome\n");
    fs::rename(home.path("mem/old name.md"), home.path("mem/new name.md")).unwrap();
    fs::remove_file(home.path("mem/gone.bin")).unwrap();
    home.write("state/ana/extract_cursor.json", r#"{"offset":424,"turns":[1],"by":"dream"}"#);
    database(
        &facts,
        &format!(
            "UPDATE facts SET content = 'the user lives in Oslo with a cat and a very old dog', embedding = x'{}' WHERE id = 'a';
             UPDATE facts SET weight = 0.75, content = NULL WHERE id = 'b';
             DELETE FROM facts WHERE id = 'c';
             INSERT INTO facts VALUES ('d', 'escape \u{1b}[31m', zeroblob(3), 9);
             INSERT INTO log VALUES ('one'), ('three'), ('four')",
            vector(-1.0)
        ),
    );
    let told = run(&["diff", "@before", "live", "--limit", "4"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    insta::assert_snapshot!("diff", told.out);
    let few =
        run(&["diff", "@before", "live", "--limit", "1", "--store", "long_term", "--table", "log"]);
    insta::assert_snapshot!("diff-one-table", few.out);
    let stat = run(&["diff", "@before", "live", "--stat"]);
    assert_eq!(told.out.split_once("\n\n").unwrap().0, stat.out.trim_end());

    let (whole, code) =
        home.json(&[&["diff", "@before", "live", "--limit", "1"], LAYOUT.as_slice()].concat());
    assert_eq!(code, 0);
    let what =
        |what| whole["changes"].as_array().unwrap().iter().filter(move |c| c["what"] == what);
    assert_eq!((what("row").count(), what("file").count(), what("state").count()), (7, 3, 3));
    insta::assert_json_snapshot!("diff-json", whole, { ".a" => "[id]", ".**.mode" => "[mode]" });
    let (stat, _) =
        home.json(&[&["diff", "@before", "live", "--stat"], LAYOUT.as_slice()].concat());
    assert_eq!((stat.get("changes"), &stat["stores"]), (None, &whole["stores"]));
    let (same, _) = home.json(&[&["diff", "@before", "@before"], LAYOUT.as_slice()].concat());
    assert_eq!(same["changes"], json!([]));

    for (args, code) in [
        (&["diff", "@before", "live", "--store", "vector"][..], 6),
        (&["diff", "@before", "live", "--store", "a", "--store", "b"], 2),
        (&["snapshot", "--store", "long_term"], 2),
    ] {
        let refused = home.json(&[args, &LAYOUT].concat());
        assert_eq!(
            (refused.1, refused.0["error"].is_object()),
            (code, true),
            "{args:?}: {refused:?}"
        );
    }
}

#[test]
fn a_snapshot_is_listed_shown_verified_exported_and_kept() {
    let home = Home::new();
    let meta = home.with_ana();
    assert_eq!(meta["agent_id"], "ana");
    let (list, _) = home.json(&["list"]);
    assert_eq!(list["snapshots"][0]["id"], meta["id"]);
    assert_eq!(list["problems"], json!([]));
    let said = home.run(&["list"]);
    assert!(said.out.contains("first") && said.out.contains(" UTC ("), "{said:?}");

    let short = &text(&meta["id"])[..8];
    for name in ["latest", "@first", short, text(&meta["id"])] {
        let (shown, code) = home.json(&["show", name]);
        assert_eq!((code, &shown["manifest"]["snapshot_id"]), (0, &meta["id"]), "{name}");
    }
    let said = home.run(&["show", short]);
    assert!(said.out.contains("2 files"), "{said:?}");

    let (report, code) = home.json(&["verify", short]);
    assert_eq!((code, &report["inside"]), (0, &json!("good")));
    let said = home.run(&["verify", "--all"]);
    assert!(said.out.starts_with("good  "), "{said:?}");

    let (written, code) = home.json(&["export", short, "--to", "out.tar.zst", "--whole"]);
    assert_eq!(code, 0, "{written}");
    let (shown, _) = home.json(&["show", "./out.tar.zst"]);
    assert_eq!(shown["manifest"]["snapshot_id"], meta["id"]);

    let said = home.run(&["delete", short, "--yes"]);
    assert_eq!(said.code, 6, "the last one went: {said:?}");
    assert!(said.err.contains("try: take a new snapshot first"), "{said:?}");
    home.with_ana();
    let (deleted, code) = home.json(&["delete", short, "--yes"]);
    assert_eq!((code, &deleted["deleted"]["id"]), (0, &meta["id"]));
}

/// Would catch: bytes that a filter for terminals went over, and a broken file that ends in success.
#[test]
fn one_file_of_a_snapshot_is_printed_as_it_was() {
    let home = Home::new();
    let bytes: Vec<u8> = b"\x1b[31mred\r\n\xff\0".repeat(100);
    fs::create_dir(home.path("mem")).unwrap();
    fs::write(home.path("mem/raw"), &bytes).unwrap();
    let meta = home.with_ana();
    let cat = |path: &str| home.command(&["cat", "latest", path]).output().unwrap();
    let ran = cat("memory_files/raw");
    assert_eq!((ran.status.code(), ran.stdout == bytes), (Some(0), true), "{ran:?}");

    for (no_file, code) in [
        ("memory_files/none", 3),
        ("memory_files/notes", 2),
        ("memory_files/notes/", 2),
        ("memory_files", 2),
    ] {
        let ran = cat(no_file);
        assert_eq!((ran.status.code(), ran.stdout.as_slice()), (Some(code), &b""[..]), "{ran:?}");
        assert!(String::from_utf8_lossy(&ran.stderr).contains("try: nexo-memory ls "), "{ran:?}");
    }
    assert_eq!(home.json(&["cat", "latest", "memory_files/raw"]).1, 2);
    let bundle = text(&meta["bundle_path"]).replacen('~', home.0.path().to_str().unwrap(), 1);
    let mut damaged = fs::read(&bundle).unwrap();
    damaged[40] ^= 1;
    fs::write(&bundle, damaged).unwrap();
    assert_eq!(cat("memory_files/raw").status.code(), Some(4));
}

#[test]
fn a_restore_shows_its_plan_and_can_be_undone() {
    let home = Home::new();
    let meta = home.with_ana();
    let short = &text(&meta["id"])[..8];
    let fact = home.write("mem/MEMORY.md", "the user hates tea\n");
    let restore = ["restore", short, "--agent", "ana", "--memdir", "mem"];
    let run = |more: &[&str]| home.run(&[&restore, more].concat());

    let said = run(&["--dry-run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with(&format!("ana <- {short}  ")), "{said:?}");
    assert!(said.out.contains("write MEMORY.md"), "{said:?}");
    assert!(fs::read_to_string(&fact).unwrap().contains("hates"), "a dry run changed something");

    let said = run(&["--to", "look"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        fs::read_to_string(home.path("look/memory_files/MEMORY.md")).unwrap().contains("likes")
    );
    assert!(fs::read_to_string(&fact).unwrap().contains("hates"), "--to changed the agent");

    let said = run(&["--yes"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(fs::read_to_string(&fact).unwrap().contains("likes"));
    let undo = said.out.lines().find_map(|line| line.strip_prefix("undo: nexo-memory ")).unwrap();
    let undo = undo.replace('~', home.0.path().to_str().unwrap());
    let undo: Vec<&str> = undo.split(' ').chain(["--yes", "--json"]).collect();
    let report: Value = serde_json::from_str(&home.run(&undo).out).unwrap();
    assert_eq!(report["agent_id"], "ana");
    assert!(fs::read_to_string(&fact).unwrap().contains("hates"), "the undo did not undo");
}

/// Would catch: a bundle of another agent or tenant that is taken by its path, that is looked into before it is
/// refused, or that is refused without the word that would allow it.
#[test]
fn a_restore_to_another_agent_is_refused() {
    let home = Home::new();
    let path = home.real(&home.with_ana()["bundle_path"]);
    let path = path.to_str().unwrap();
    home.write("bob/a", "");
    let args = ["restore", path, "--memdir", "bob", "--yes"];
    let refused = |more: &[&str]| {
        let (error, code) = home.json(&[&args, more].concat());
        assert_eq!((code, text(&error["error"]["kind"])), (6, "refused"), "{error}");
        error["error"]["hint"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(&["--as", "bob", "--tenant", "acme"]), "");
    let mut bundle = fs::read(path).unwrap();
    for damaged in [false, true] {
        if damaged {
            // Not even its manifest can be read: there is nothing to suggest.
            bundle.fill(0);
            fs::write(path, &bundle).unwrap();
        }
        assert_eq!(refused(&["--agent", "bob"]).contains("--agent ana --as bob"), !damaged);
        assert_eq!(refused(&["--agent", "bob", "--tenant", "acme"]), "");
        assert_eq!(refused(&["--agent", "bob", "--as", "cy"]), "");
    }
    assert_eq!(home.json(&[&args[..], &["--agent", "ana", "--as", "bob"]].concat()).1, 4);
    assert!(home.path("bob/a").exists());
    assert!(!home.path("bob/MEMORY.md").exists());
}

/// Would catch: a copy that is not shown for one, that changes whom it is of, or that has no way back.
#[test]
fn a_snapshot_goes_over_another_agent_where_that_is_said() {
    let home = Home::new();
    let meta = home.with_ana();
    let (short, path) = (&text(&meta["id"])[..8], home.real(&meta["bundle_path"]));
    let bobs = home.write("bob/MEMORY.md", "bob likes coffee\n");
    let own = home.write("mem/MEMORY.md", "the user hates tea\n");
    let run = |args: &[&str]| home.run(&[args, &["--as", "bob", "--memdir", "bob"]].concat());

    let said = run(&["restore", "latest", "--agent", "ana", "--dry-run"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with(&format!("bob <- {short} of ana  ")), "{said:?}");
    assert!(said.out.contains("the memory of bob becomes a copy of that of ana"), "{said:?}");
    let plan = run(&["restore", short, "--dry-run", "--json"]).out;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!((&plan["agent_id"], &plan["of_agent"]), (&json!("bob"), &json!("ana")));
    let asked = run(&["restore", short]);
    assert_eq!(asked.code, 6, "{asked:?}");
    assert!(fs::read_to_string(&bobs).unwrap().contains("coffee"));

    // By a path alone it is whoever's snapshot lies there.
    for from in [&["latest", "--agent", "ana"][..], &[path.to_str().unwrap()]] {
        let said = run(&[&["restore"], from, &["--yes"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.out.contains(&format!("bob is now a copy of {short} of ana: ")), "{said:?}");
        assert!(fs::read_to_string(&bobs).unwrap().contains("likes tea"));
        assert!(home.path("bob/notes/a.md").exists());
        assert!(fs::read_to_string(&own).unwrap().contains("hates tea"), "ana was changed");

        let undo = said.out.lines().find_map(|line| line.strip_prefix("undo: nexo-memory "));
        let undo = undo.unwrap().replace('~', home.0.path().to_str().unwrap());
        assert!(undo.contains("--agent bob"), "{undo}");
        let undo: Vec<&str> = undo.split(' ').chain(["--yes", "--no-auto-pre-snapshot"]).collect();
        assert_eq!(home.run(&undo).code, 0);
        assert!(fs::read_to_string(&bobs).unwrap().contains("coffee"), "the undo did not undo");
    }
    let of =
        |agent| home.json(&["list", "--agent", agent]).0["snapshots"].as_array().unwrap().len();
    assert_eq!((of("ana"), of("bob")), (1, 2));
}

#[test]
fn a_diff_counts_and_the_doctor_finds_nothing_in_a_healthy_vault() {
    let home = Home::new();
    home.with_ana();
    home.write("mem/new.md", "new\n");
    let (diff, code) = home.json(&["diff", "@first", "live", "--agent", "ana", "--memdir", "mem"]);
    assert_eq!((code, &diff["memory_files"]["added"]), (0, &json!(1)), "{diff}");
    assert_eq!(diff["live"], true);
    let said = home.run(&["diff", "@first", "latest"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("memory files  +0 ~0 -0"), "{said:?}");

    let (report, code) = home.json(&["doctor"]);
    assert_eq!((code, &report["findings"]), (0, &json!([])), "{report}");
    let (recovery, code) = home.json(&["doctor", "--agent", "ana", "--recover", "forward"]);
    assert_eq!((code, &recovery["outcome"]), (0, &json!("nothing")), "{recovery}");
}

#[test]
fn damage_is_named_and_exits_with_4() {
    let home = Home::new();
    let meta = home.with_ana();
    let path = text(&meta["bundle_path"]).replacen('~', home.0.path().to_str().unwrap(), 1);
    assert!(Path::new(&path).is_absolute());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let said = home.run(&["verify", "latest", "--agent", "ana"]);
    assert_eq!(said.code, 4, "{said:?}");
    assert!(said.out.starts_with("DAMAGED  "), "{said:?}");
    let (reports, code) = home.json(&["verify", "--all"]);
    assert_eq!((code, reports["reports"].as_array().unwrap().len()), (4, 1));
}

/// Would catch: a whole bundle called damaged for want of the file beside it, or a damaged one good.
#[test]
fn a_bundle_alone_is_verified_as_far_as_it_goes() {
    let home = Home::new();
    let meta = home.with_ana();
    let path = text(&meta["bundle_path"]).replacen('~', home.0.path().to_str().unwrap(), 1);
    let mut bytes = fs::read(path).unwrap();
    let alone = home.path("alone.tar.zst");
    fs::write(&alone, &bytes).unwrap();
    let said = home.run(&["verify", "./alone.tar.zst"]);
    assert_eq!(said.code, 12, "{said:?}");
    assert!(said.out.starts_with("good inside, no summary beside it  "), "{said:?}");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&alone, bytes).unwrap();
    assert_eq!(home.run(&["verify", "./alone.tar.zst"]).code, 4);
}

#[test]
fn a_label_is_escaped_wherever_it_is_shown() {
    let home = Home::new();
    home.write("mem/a", "");
    let args = ["snapshot", "--agent", "ana", "--memdir", "mem", "--label", "x\u{202e}y"];
    let said = home.run(&args);
    assert_eq!(said.code, 0, "{said:?}");
    for args in [["list"].as_slice(), &["list", "--json"], &["show", "latest"]] {
        let said = home.run(args);
        assert!(said.out.contains("202e") && !said.out.contains('\u{202e}'), "{said:?}");
    }
}

#[test]
fn strict_makes_what_is_left_out_an_exit_code() {
    let home = Home::new();
    home.write("mem/a", "");
    let _socket = UnixListener::bind(home.path("mem/agent.sock")).unwrap();
    let args = ["snapshot", "--agent", "ana", "--memdir", "mem"];
    let said = home.run(&args);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("not carried: agent.sock"), "{said:?}");
    assert_eq!(home.run(&[args.as_slice(), &["--strict"]].concat()).code, 10);
}

#[test]
fn all_takes_every_agent_and_one_failure_does_not_stop_the_others() {
    let home = Home::new();
    home.write("ana/a", "");
    let config = home.write(
        "memory.yaml",
        "memory: { snapshot: { agents: { ana: { memdir: ana }, absent: { memdir: nowhere } } } }",
    );
    let (documents, code) = home.json(&["snapshot", "--all", "--config", &config]);
    assert_eq!(code, 3, "{documents}");
    assert_eq!(documents[0]["error"]["kind"], "unknown_agent");
    assert_eq!(documents[1]["snapshot"]["agent_id"], "ana");
    assert_eq!(home.run(&["snapshot", "--all"]).code, 2);
}

#[test]
fn ctrl_c_ends_a_snapshot_cleanly_and_resumes_the_agent() {
    let home = Home::new();
    home.write("mem/a", "");
    let config = home.write(
        "memory.yaml",
        "memory: { snapshot: { agents: { ana: { memdir: mem } }, \
         hooks: { quiesce: 'touch paused; sleep 1000', resume: 'touch resumed' } } }",
    );
    let mut child =
        home.command(&["snapshot", "--agent", "ana", "--config", &config]).spawn().unwrap();
    while !home.path("paused").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it never paused the agent");
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    // Who asks twice does not leave it paused.
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(home.path("resumed").exists());
    assert_eq!(home.json(&["list"]).0["snapshots"], json!([]));
}

/// Would catch: an agent that stays paused behind an exit of 0.
#[test]
fn an_agent_that_cannot_be_resumed_is_no_success() {
    let home = Home::new();
    home.write("mem/a", "");
    let config = home.write(
        "memory.yaml",
        "memory: { snapshot: { agents: { ana: { memdir: mem, hooks: { quiesce: 'true', \
         resume: 'exit 4' } } } } }",
    );
    let said = home.run(&["snapshot", "--agent", "ana", "--config", &config]);
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("may still be paused"), "{said:?}");
    assert_eq!(home.json(&["list"]).0["snapshots"].as_array().unwrap().len(), 1);
}

/// Would catch: a demo that tells what did not happen, or that leaves its folder for the vault of
/// whoever watches it.
#[cfg(feature = "demo")]
#[test]
fn the_demo_tells_what_happened() {
    let home = Home::new();
    let dir = home.path("d").to_str().unwrap().to_owned();
    let mut command = home.command(&["demo", "--dir", &dir, "--plain"]);
    let ran = command.env("NEXO_MEMORY_ROOT", home.path("mine")).output().unwrap();
    let shown = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(0), "{shown}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!home.path("mine").exists(), "it wrote to the vault of its environment");

    // A scene is a command and what it printed.
    let scenes: Vec<&str> = shown.split("\n$ ").skip(1).collect();
    let outcome = |start: &str| -> Vec<&str> {
        scenes
            .iter()
            .filter(|s| s.starts_with(start))
            .map(|s| s.split_once('\n').unwrap().1)
            .collect()
    };
    let recalled = outcome("sqlite3 ");
    assert_eq!(recalled.len(), 3, "{shown}");
    assert!(recalled[0].contains("wire all invoices to account 99-0000"), "{shown}");
    assert!(recalled[1..].iter().all(|said| said.starts_with("(nothing)\n")), "{shown}");
    // Once as what the agent recalls, once as the row that the diff tells of.
    assert_eq!(shown.matches("99-0000").count(), 2, "{shown}");

    let killed = outcome("nexo-memory demo --kill-in-restore");
    assert!(killed[0].contains("(killed)"), "{shown}");
    let doctor = outcome("nexo-memory doctor");
    assert!(doctor[0].starts_with("FOUND  ") && doctor[0].contains("(exit code 11)"), "{shown}");
    assert!(doctor[1].starts_with("fixed  ") && !doctor[1].contains("(exit code"), "{shown}");
    assert!(outcome("sha256sum -c ")[0].contains(".tar.zst: OK\n"), "{shown}");
    let inside = outcome("tar --zstd -tf ")[0];
    assert!(
        ["sqlite/long_term.sqlite", "manifest.json"].iter().all(|f| inside.contains(f)),
        "{shown}"
    );
    // Nothing else failed.
    assert_eq!(shown.matches("(exit code").count(), 1, "{shown}");

    // What it leaves is as sound as it says.
    let config = format!("{dir}/memory.yaml");
    let (report, code) = home.json(&["verify", "--all", "--config", &config]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(home.json(&["doctor", "--config", &config]).1, 0);
}
