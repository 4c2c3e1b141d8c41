//! The JSON Schema of a configuration, for editors and for checks without us.

use serde_json::{Map, Value, json};

use super::MemorySnapshotConfig;
use super::keys::{Key, Kind, SNAPSHOT};

impl MemorySnapshotConfig {
    /// The JSON Schema (draft 2020-12) of a file with our section; what else is in it is free.
    ///
    /// It knows names and types. That a path exists, that a variable is set, and what two keys mean
    /// together, only [`MemorySnapshotConfig::load`] knows.
    #[must_use]
    pub fn json_schema() -> Value {
        let snapshot = kind(&SNAPSHOT, "Snapshots of agents' memory");
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "nexo-memory configuration",
            "type": ["object", "null"],
            "properties": {
                "memory": {
                    "type": ["object", "null"],
                    "properties": { "snapshot": snapshot },
                },
            },
        })
    }
}

fn kind(kind: &Kind, about: &str) -> Value {
    let described = |mut schema: Value| {
        schema["description"] = json!(about);
        schema
    };
    described(match kind {
        Kind::Boolean => json!({ "type": ["boolean", "null"] }),
        Kind::Number { min, max } => {
            json!({ "type": ["integer", "null"], "minimum": min, "maximum": max })
        }
        Kind::Decimal { min, max } => {
            json!({ "type": ["number", "null"], "minimum": min, "maximum": max })
        }
        Kind::Text => json!({ "type": ["string", "null"] }),
        Kind::Texts => json!({ "type": ["array", "null"], "items": { "type": "string" } }),
        Kind::Mapping(groups) => json!({
            "type": ["object", "null"],
            "properties": properties(groups),
            "additionalProperties": false,
        }),
        Kind::Each(each) => json!({
            "type": ["object", "null"],
            "additionalProperties": self::kind(each, "One of them"),
        }),
    })
}

fn properties(groups: &[&[Key]]) -> Map<String, Value> {
    let keys = groups.iter().copied().flatten();
    keys.map(|key| (key.name.to_owned(), kind(&key.kind, key.about))).collect()
}
