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

/// The retention of 0.1 unless told otherwise: in nearly every file, and no request.
const RETENTION: [(&str, u64); 3] =
    [("keep_count", 30), ("max_age_days", 90), ("gc_interval_secs", 3600)];

/// The subjects of 0.1 unless told otherwise.
const SUBJECTS: [(&str, &str); 2] = [
    ("lifecycle_subject_prefix", "nexo.memory.snapshot"),
    ("mutation_subject_prefix", "nexo.memory.mutated"),
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
    snapshot.section("encryption")?.map_or(Ok(()), encryption)?;
    snapshot.section("retention")?.map_or(Ok(()), retention)?;
    snapshot.section("events")?.map_or(Ok(()), events)
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

fn retention(mut section: Section<'_>) -> Result<(), ConfigError> {
    for (key, default) in RETENTION {
        if section.number(key, 0..=u64::MAX)?.is_some_and(|n| n != default && n != 0) {
            return Err(section.not_yet(key, "retention"));
        }
    }
    section.finish()
}

fn events(mut section: Section<'_>) -> Result<(), ConfigError> {
    for (key, default) in SUBJECTS {
        if section.take(key).is_some_and(|value| value != default) {
            return Err(section.not_yet(key, "events"));
        }
    }
    section.boolean("mutation_publish_enabled")?;
    if section.take("nats").is_some() {
        return Err(section.not_yet("nats", "events"));
    }
    section.finish()
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.is_none_or(|value| value.as_array().is_some_and(Vec::is_empty))
}
