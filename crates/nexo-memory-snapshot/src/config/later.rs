//! Keys whose features this version does not have. They are read, so that a configuration of 0.1
//! needs no change, and refused where doing nothing would be a promise broken in silence.

use super::ConfigError;
use super::section::Section;

/// Most keys or recipients.
const MAX_KEYS: usize = 1024;

/// Reads every later key of `memory.snapshot`.
pub(super) fn check(snapshot: &mut Section<'_>) -> Result<(), ConfigError> {
    if snapshot.boolean("require_signature")? == Some(true) {
        return Err(snapshot.not_yet("require_signature", "signed bundles"));
    }
    if snapshot.texts("trusted_keys", MAX_KEYS)?.is_some_and(|keys| !keys.is_empty()) {
        return Err(snapshot.not_yet("trusted_keys", "signed bundles"));
    }
    snapshot.section("encryption")?.map_or(Ok(()), encryption)
}

/// While it is off, recipients and identity ask for nothing.
fn encryption(mut section: Section<'_>) -> Result<(), ConfigError> {
    if section.boolean("enabled")? == Some(true) {
        return Err(section.not_yet("enabled", "encryption"));
    }
    section.texts("recipients", MAX_KEYS)?;
    section.text("identity_path")?;
    section.finish();
    Ok(())
}
