//! The JSON Schema: the same keys and types as the reader's, by a validator of others.

use std::path::Path;

use jsonschema::Validator;
use nexo_memory_snapshot::config::{ConfigError, MemorySnapshotConfig};
use serde_json::{Value, json};

use crate::{env, section};

/// The recipient of the examples of age.
const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
/// The public key of the examples of minisign.
const PUBLIC_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// Would catch: a checked-in schema that is not the program's.
#[test]
fn the_schema_in_the_docs_is_the_programs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.schema.json");
    let checked_in: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(checked_in, MemorySnapshotConfig::json_schema());
}

/// Would catch: a key of the schema that the reader does not know, or of another type; a key that the
/// schema lets through and the reader refuses as unknown.
#[test]
fn the_reader_takes_each_key_of_the_schema_and_its_type_alone() {
    let schema = MemorySnapshotConfig::json_schema();
    let validator = validator();
    let snapshot = &schema["properties"]["memory"]["properties"]["snapshot"];
    let mut leaves = Vec::new();
    collect(snapshot, &mut Vec::new(), &mut leaves);
    assert!(leaves.len() > 60, "{}", leaves.len());
    for path in &leaves {
        let null = document(path, Value::Null);
        assert!(validator.is_valid(&null), "{path:?}");
        if let Err(e) = read(&null) {
            // It may miss its companions, but it is known.
            assert!(!matches!(e, ConfigError::UnknownKey { .. }), "{path:?}: {e}");
        }
        // A mapping is the type of no leaf.
        let wrong = document(path, json!({ "x": 1 }));
        assert!(!validator.is_valid(&wrong), "{path:?}");
        let error = read(&wrong).expect_err("a mapping");
        assert!(error.to_string().contains(&path.join(".")), "{path:?}: {error}");
        let mut unknown = path.clone();
        unknown.last_mut().unwrap().push('x');
        if path.len() > 1 && path[path.len() - 2] == "stores" {
            continue;
        }
        let unknown = document(&unknown, Value::Null);
        assert!(!validator.is_valid(&unknown), "{path:?}");
        let error = read(&unknown).expect_err("an unknown key");
        assert!(matches!(error, ConfigError::UnknownKey { .. }), "{path:?}: {error}");
    }
}

/// Would catch: a schema that refuses what the documentation shows.
#[test]
fn the_documented_configuration_fits() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    let page = std::fs::read_to_string(page).unwrap();
    let start = page.find("    memory:\n").expect("an example");
    let lines = page[start..].lines().take_while(|line| line.starts_with("    "));
    let text: String = lines.map(|line| format!("{}\n", &line[4..])).collect();
    // The page names keys that nobody copies and trusts.
    assert!(text.contains("[ age1... ]") && text.contains("[ RW... ]"), "{text}");
    let text = text.replace("age1...", RECIPIENT).replace("RW...", PUBLIC_KEY);
    let config = MemorySnapshotConfig::parse(&text, Path::new("/etc/nexo/memory.yaml"), &env);
    let config = config.unwrap_or_else(|e| panic!("{e}"));
    assert!(config.agents.len() >= 2 && config.events.nats.is_some(), "{text}");
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    let errors: Vec<String> = validator().iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Would catch: a limit of the schema that is not the reader's.
#[test]
fn numbers_end_where_the_schema_says() {
    let validator = validator();
    for (key, good, bad) in
        [("lock_timeout_secs", 86_400, 86_401), ("retention", 2_592_000, 2_592_001)]
    {
        let value = |n: u64| match key {
            "retention" => json!({ "gc_interval_secs": n }),
            _ => json!(n),
        };
        for (n, fits) in [(good, true), (bad, false)] {
            let document = document(&[key.to_owned()], value(n));
            assert_eq!(validator.is_valid(&document), fits, "{key} {n}");
            assert_eq!(read(&document).is_ok(), fits, "{key} {n}");
        }
    }
    assert!(section("lock_timeout_secs: -1").is_err());
}

fn validator() -> Validator {
    jsonschema::validator_for(&MemorySnapshotConfig::json_schema())
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Every leaf with its path; `x1` stands where a name is free.
fn collect(schema: &Value, path: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) {
    let mut below = |name: &str, child: &Value| {
        path.push(name.to_owned());
        collect(child, path, leaves);
        path.pop();
    };
    if let Some(keys) = schema["properties"].as_object() {
        keys.iter().for_each(|(name, child)| below(name, child));
    } else if schema["additionalProperties"].is_object() {
        below("x1", &schema["additionalProperties"]);
    } else {
        leaves.push(path.clone());
    }
}

fn document(path: &[String], leaf: Value) -> Value {
    let nested = path.iter().rev().fold(leaf, |value, key| json!({ key: value }));
    json!({ "memory": { "snapshot": nested } })
}

fn read(document: &Value) -> Result<MemorySnapshotConfig, ConfigError> {
    // JSON is YAML.
    MemorySnapshotConfig::parse(&document.to_string(), Path::new("/etc/nexo/memory.yaml"), &env)
}
