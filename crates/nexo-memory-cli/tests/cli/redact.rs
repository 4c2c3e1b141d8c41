//! Secrets, as people meet them: found, taken out on the way out, and never shown.

use std::process::Command;

use serde_json::json;

use super::{Home, Said, text};

/// A key of AWS's form, put together here so that nobody takes this file for a leak.
fn key() -> String {
    ["AKIA", "Q3EGRVN7", "ZT5LXKWM"].concat()
}

/// A home with an agent whose notes and database hold the key, and a configuration with a rule of its own.
fn home() -> Home {
    let home = Home::new();
    home.write("mem/MEMORY.md", &format!("the user likes tea\nthe deploy key is {}\n", key()));
    home.write("mem/customers.md", "KD-4711 pays late\n");
    home.write(
        "empty.yaml",
        "memory: { snapshot: { root: vault, agents: { ana: { memdir: mem, stores: { long_term: facts.db } } },
           redaction: { name: house, rules: { customer: { regex: 'KD-[0-9]{4}', keywords: [kd-] } } } } }",
    );
    let facts = rusqlite::Connection::open(home.path("facts.db")).unwrap();
    facts
        .execute_batch(&format!(
            "CREATE TABLE facts (id INTEGER PRIMARY KEY, text TEXT);
             INSERT INTO facts (text) VALUES ('tea'), ('{}')",
            key()
        ))
        .unwrap();
    home
}

/// Whether any file below the home's folder `name` holds the key, bundles unpacked.
fn holds_key(home: &Home, name: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "cp -r '{}' '{out}'; for f in $(find '{out}' -name '*.tar.zst'); do tar --zstd -xf \"$f\" -C '{out}'; done; grep -raq {} '{out}'",
        home.path(name).display(),
        key(),
        out = dir.path().display()
    );
    Command::new("sh").args(["-c", &script]).status().unwrap().success()
}

#[track_caller]
fn shows_no_key(said: &Said) {
    assert!(!said.out.contains(&key()) && !said.err.contains(&key()), "{said:?}");
}

/// Would catch: a search that misses a place, shows a secret, ends well over a finding or ill over nothing, or
/// that does not hear of a rule of the configuration.
#[test]
fn secrets_are_told_where_they_are_and_masked() {
    let home = home();
    let said = home.run(&["scan-secrets", "--agent", "ana"]);
    assert_eq!(said.code, 11, "{said:?}");
    shows_no_key(&said);
    for part in ["memory_files/MEMORY.md", "table facts", "customer", "AKIA"] {
        assert!(said.out.contains(part), "{part}: {said:?}");
    }
    let (document, code) = home.json(&["scan-secrets", "--agent", "ana"]);
    assert_eq!(code, 11);
    let findings = document["findings"].as_array().unwrap();
    assert_eq!(document["report"]["findings"], json!(findings.len()));
    assert_eq!(document["report"]["policy"], json!("house"));

    assert_eq!(home.run(&["snapshot", "--agent", "ana"]).code, 0);
    let said = home.run(&["scan-secrets", "latest", "--agent", "ana"]);
    assert_eq!(said.code, 11, "{said:?}");
    assert_eq!(home.run(&["scan-secrets"]).code, 2);
    assert_eq!(home.run(&["scan-secrets", "--agent", "nobody"]).code, 3);
}

/// Would catch: a copy with a secret in it, one that is taken for the way back, or a flag that is dropped.
#[test]
fn what_leaves_redacted_holds_no_secret_and_is_no_way_back() {
    let home = home();
    assert_eq!(home.run(&["snapshot", "--agent", "ana"]).code, 0);
    let said = home.run(&["export", "latest", "--agent", "ana", "--to", "away", "--redact"]);
    assert_eq!(said.code, 0, "{said:?}");
    shows_no_key(&said);
    assert!(said.out.contains("redacted, not encrypted"), "{said:?}");
    assert!(said.out.contains("found clean"), "{said:?}");
    assert!(!holds_key(&home, "away"));
    assert!(holds_key(&home, "vault/tenants/default/snapshots"), "the vault's is whole");

    let args = ["export", "latest", "--agent", "ana", "--to", "again", "--redact"];
    let (document, _) = home.json(&[&args[..], &["--drop-store", "long_term"]].concat());
    assert_eq!(document["leaves"]["redacted"], json!(true));
    assert_eq!(document["leaves"]["stores"], json!([]));
    let bundle = text(&document["written"][0]);
    let (meta, code) = home.json(&["import", home.real(&json!(bundle)).to_str().unwrap()]);
    assert_eq!(code, 0, "{meta}");
    let listed = home.run(&["list", "--agent", "ana"]);
    assert!(listed.out.contains("(redacted)"), "{listed:?}");

    let id = text(&meta[0]["snapshot"]["id"]);
    let said = home.run(&["restore", id, "--agent", "ana", "--yes"]);
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("--accept-redacted"), "{said:?}");
    let said = home.run(&["restore", id, "--agent", "ana", "--to", "look"]);
    assert_eq!(said.code, 0, "{said:?}");
    let notes = std::fs::read_to_string(home.path("look/memory_files/MEMORY.md")).unwrap();
    assert!(notes.starts_with("the user likes tea\nthe deploy key is [REDACTED:"), "{notes}");
    for verb in [["snapshot", "--agent", "ana"].as_slice(), &["export", "latest", "--to", "x"]] {
        let said = home.run(&[verb, &["--git-history", "drop"]].concat());
        assert_eq!(said.code, 2, "{said:?}");
    }
}

/// Would catch: a snapshot that is redacted and does not say so, or counts as the last good one.
#[test]
fn a_redacted_snapshot_says_so_everywhere() {
    let home = home();
    let said = home.run(&["snapshot", "--agent", "ana", "--redact-secrets"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("whole, redacted"), "{said:?}");
    assert!(!holds_key(&home, "vault/tenants/default/snapshots"));
    let shown = home.run(&["show", "latest", "--agent", "ana"]);
    assert!(shown.out.contains("\nredacted  "), "{shown:?}");
    let (status, code) = home.json(&["status", "--agent", "ana"]);
    assert_eq!(code, 11, "{status}");
    assert_eq!(status["agents"][0]["status"]["last_good"], json!(null));
}

/// Would catch: a rule that is dropped in silence.
#[test]
fn a_rule_that_does_not_compile_is_an_error_by_name() {
    let home = Home::new();
    for (policy, told) in [
        ("rules: { broken: { regex: '(' } }", "broken"),
        ("rules: { broken: { keywords: [x] } }", "rules.broken.regex"),
        ("disable: [no-such-rule]", "no-such-rule"),
        ("allow: ['[']", "redaction"),
    ] {
        home.write(
            "empty.yaml",
            &format!("memory: {{ snapshot: {{ redaction: {{ {policy} }} }} }}"),
        );
        let said = home.run(&["config", "check"]);
        assert_eq!(said.code, 2, "{policy}: {said:?}");
        assert!(said.err.contains(told), "{policy}: {said:?}");
    }
}
