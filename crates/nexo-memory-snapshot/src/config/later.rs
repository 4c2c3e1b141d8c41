//! Keys whose features this version does not have. They are read, so that a configuration of 0.1
//! needs no change, and refused where doing nothing would be a promise broken in silence.

use serde_json::Value;

use super::ConfigError;
use super::section::Section;

/// Switches that are off here.
const OFF: [(&str, &str); 4] = [
    ("auto_pre_dream", "a snapshot before every dream run"),
    ("auto_pre_mutating_tool", "a snapshot before every mutating tool"),
    ("redact_secrets_default", "redaction"),
    ("require_signature", "signed bundles"),
];

/// Reads every later key of `memory.snapshot`.
pub(super) fn check(snapshot: &mut Section<'_>) -> Result<(), ConfigError> {
    // On or off, nothing runs by itself in this version.
    snapshot.boolean("enabled")?;
    for (key, what) in OFF {
        if snapshot.boolean(key)? == Some(true) {
            return Err(snapshot.not_yet(key, what));
        }
    }
    if !is_empty_list(snapshot.take("trusted_keys").as_ref()) {
        return Err(snapshot.not_yet("trusted_keys", "signed bundles"));
    }
    snapshot.section("encryption")?.map_or(Ok(()), encryption)
}

/// While it is off, recipients and identity ask for nothing.
fn encryption(mut section: Section<'_>) -> Result<(), ConfigError> {
    if section.boolean("enabled")? == Some(true) {
        return Err(section.not_yet("enabled", "encryption"));
    }
    section.take("recipients");
    section.take("identity_path");
    section.finish()
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
}
