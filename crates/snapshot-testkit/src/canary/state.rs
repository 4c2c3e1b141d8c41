//! Secrets in the two state files.

use std::fs;

use serde_json::{Value, json};

use super::{Canary, Place, Planter, encode};
use crate::error::KitError;

pub(super) fn plant(planter: &mut Planter<'_>) -> Result<(), KitError> {
    let plain: Vec<Value> = planter.at(Place::State).map(Canary::json).collect();
    let cursor = json!({"session": planter.random.uuid(), "seen": plain, "counter": 7});
    planter.agent.write_state("extract_cursor", &cursor)?;
    let escaped: Vec<String> = planter
        .at(Place::StateEscaped)
        .map(|canary| format!("\"{}\"", escaped(&canary.text, [1, 3, 7][canary.turn() % 3])))
        .collect();
    let nested: Vec<String> = planter
        .at(Place::StateNested)
        .map(|canary| json!({"tool": "http", "said": canary.json().to_string()}).to_string())
        .collect();
    let escaped = escaped.join(", ");
    let run =
        format!("{{\"status\": \"done\", \"log\": [{escaped}], \"calls\": {}}}\n", json!(nested));
    let path = planter.agent.state("dream_run");
    fs::write(&path, run).map_err(KitError::io("write", &path))
}

/// One of `every` characters as a `\u` escape, the others as they must be.
fn escaped(text: &str, every: usize) -> String {
    let escape = |(n, c): (usize, char)| match n.is_multiple_of(every) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => encode::json(&c.to_string()),
    };
    text.chars().enumerate().map(escape).collect()
}
