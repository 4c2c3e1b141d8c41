//! One error of each exit code, as people and as programs get it.

use std::fmt::Write as _;
use std::fs;

use super::{Home, chmod, database, text};

/// A home with a snapshot of `ana`, and what goes wrong in it.
fn home() -> (Home, String) {
    let home = Home::new();
    let id = text(&home.with_ana()["id"]).to_owned();
    (home, id)
}

/// Would catch: an error without its place, its cause or what to try; a hostile name that reaches the terminal; a
/// shape that programs cannot read; an exit code that means something else.
#[test]
fn each_exit_code_has_its_error() {
    let (home, id) = home();
    let bundle = format!(".nexo/state/tenants/default/snapshots/ana/{id}.tar.zst");
    let mut told = String::new();
    let mut tell = |code: i32, args: &[&str]| {
        let said = home.run(args);
        let (document, in_json) = home.json(args);
        assert_eq!((said.code, in_json), (code, code), "{args:?}: {said:?} {document}");
        let args: Vec<String> = args.iter().map(|arg| arg.escape_debug().to_string()).collect();
        let json = serde_json::to_string_pretty(&document["error"]).unwrap();
        let text = format!("$ {}\n{}exit {code}\n{json}\n\n", args.join(" "), said.err);
        let home = home.0.path().to_str().unwrap();
        told.write_str(&text.replace(&id, "<id>").replace(&id[..8], "<8>").replace(home, "~"))
            .unwrap();
    };
    tell(2, &["ls"]);
    tell(2, &["list", "--agent", "\u{1b}[31mred\u{202e}"]);
    tell(2, &["show", "3f9"]);
    tell(2, &["export", "latest", "--to", "out"]);
    tell(3, &["snapshot", "--agent", "bob"]);
    tell(3, &["show", "@\u{1b}]0;x\u{7}"]);
    tell(3, &["ls", "latest", "memory_files/none"]);
    home.run(&["keygen", "--age", "--to", "key"]);
    home.run(&["keygen", "--age", "--to", "other"]);
    let key = fs::read_to_string(home.path("key")).unwrap();
    let recipient = key.lines().next().unwrap().trim_start_matches("# public key: ").to_owned();
    let export = ["export", "latest", "--to", "sealed", "--encrypt", &recipient];
    assert_eq!(home.run(&export).code, 0);
    let sealed = format!("sealed/{id}.tar.zst.age");
    tell(8, &["show", &sealed]);
    tell(8, &["ls", &sealed, "--decrypt-identity", "other"]);
    chmod(&home.path("other"), 0o644);
    tell(8, &["verify", &sealed, "--decrypt-identity", "other"]);
    tell(2, &["export", "latest", "--to", "x", "--encrypt", "age1mistyped"]);
    tell(6, &["restore", "latest", "--agent", "ana"]);
    tell(6, &["delete", "latest", "--yes"]);
    home.write("garbage.yaml", "memory: { snapshot: { rot: x } }");
    tell(2, &["list", "--config", "garbage.yaml"]);
    home.write("file", "x");
    tell(9, &["list", "--root", "file"]);
    database(&home.path("busy.db"), "CREATE TABLE t(x)");
    let busy = rusqlite::Connection::open(home.path("busy.db")).unwrap();
    busy.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let store = ["snapshot", "--agent", "ana", "--store", "a=busy.db", "--lock-timeout", "0"];
    tell(5, &store);
    drop(busy);
    let newer = fs::read_to_string(home.path(&bundle.replace("tar.zst", "manifest.json"))).unwrap();
    let older = newer.clone();
    let newer = newer.replace("\"manifest_version\": 2", "\"manifest_version\": 9");
    assert_ne!(newer, older);
    fs::write(home.path(&bundle.replace("tar.zst", "manifest.json")), newer).unwrap();
    tell(7, &["show", &id]);
    fs::write(home.path(&bundle.replace("tar.zst", "manifest.json")), older).unwrap();
    let mut damaged = fs::read(home.path(&bundle)).unwrap();
    damaged[40] ^= 1;
    fs::write(home.path(&bundle), damaged).unwrap();
    tell(4, &["extract", "latest", "memory_files/MEMORY.md", "--to", "out"]);
    // Which of two ways damage is noticed depends on the bytes of a time.
    let words =
        vec![(r"for \d+ ms", "for [n] ms"), (r#"is damaged: [^"\n]*"#, "is damaged: [why]")];
    insta::with_settings!({ filters => words }, { insta::assert_snapshot!("errors", told) });
}
