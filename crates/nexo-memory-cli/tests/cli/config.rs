//! The configuration as the program reads, shows and checks it.

use serde_json::{Value, json};

use super::{Home, text};

#[test]
fn a_configuration_decides_and_its_errors_name_file_and_key() {
    let home = Home::new();
    let good = home.write(
        "memory.yaml",
        "memory: { snapshot: { root: vault, agents: { ana: { memdir: mem } } } }",
    );
    let said = home.run(&["config", "show", "--config", &good]);
    // Columns are as wide as the home's path is long.
    let lines = said.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    insta::assert_snapshot!("config-show", lines.collect::<Vec<_>>().join("\n"));
    let (document, _) = home.json(&["config", "show", "--config", &good, "--root", "/r"]);
    assert_eq!(document["root"], json!({ "value": "/r", "from": "--root" }));
    assert!(text(&document["agents"]["ana"]["layout"]["memdir"]).ends_with("/mem"));

    let bad = home.write("bad.yaml", "memory: { snapshot: { rooot: vault } }");
    let said = home.run(&["list", "--config", &bad]);
    assert_eq!(said.code, 2);
    insta::assert_snapshot!("config-unknown-key", said.err);
    let said = home.run(&["list", "--config", "absent.yaml"]);
    assert_eq!(said.code, 9, "{said:?}");
}

/// Would catch: a check that calls good what names places that are not there, a schema that is no
/// document, or a default of 0.1 that is not heard.
#[test]
fn a_configuration_is_checked_and_redaction_is_never_forgotten() {
    let home = Home::new();
    home.write("mem/MEMORY.md", "the user likes tea\n");
    let snapshot = "root: vault, redact_secrets_default: true, agents: { ana: { memdir: mem }, \
                    bob: { memdir: gone, redact_secrets_default: false } }";
    let config = home.write("memory.yaml", &format!("memory: {{ snapshot: {{ {snapshot} }} }}"));
    let run = |args: &[&str]| home.run(&[args, &["--config", &config]].concat());
    let checked = run(&["config", "check"]);
    assert_eq!(checked.code, 11, "{checked:?}");
    assert!(checked.out.contains("gone is not there"), "{checked:?}");
    assert!(checked.out.contains("redact_secrets_default"), "{checked:?}");

    let taken = run(&["snapshot", "--agent", "ana"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert!(taken.out.contains("redacted"), "{taken:?}");
    let whole = run(&["snapshot", "--agent", "ana", "--no-redact"]);
    assert_eq!(whole.code, 0);
    assert!(!whole.out.contains("redacted"), "{whole:?}");

    let (schema, code) = home.json(&["config", "schema"]);
    assert_eq!((code, &schema["type"][0]), (0, &json!("object")));
    let shown: Value = serde_json::from_str(&home.run(&["config", "schema"]).out).unwrap();
    assert_eq!(shown, schema);
}
