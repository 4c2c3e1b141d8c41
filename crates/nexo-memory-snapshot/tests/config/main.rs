//! The configuration: one runner.
#![expect(clippy::disallowed_methods, reason = "the files that tests read are written plainly")]

mod agents;
mod read;
mod schema;

use std::path::Path;

use nexo_memory_snapshot::config::{ConfigError, MemorySnapshotConfig};
use snapshot_core::ErrorKind;

pub(crate) fn env(name: &str) -> Option<String> {
    match name {
        "NEXO_HOME" => Some("/opt/nexo".into()),
        "HOME" => Some("/home/ana".into()),
        "EMPTY" => Some(String::new()),
        "EVIL" => Some("x\n    root: /etc".into()),
        _ => None,
    }
}

pub(crate) fn parse(text: &str) -> Result<MemorySnapshotConfig, ConfigError> {
    MemorySnapshotConfig::parse(text, Path::new("/etc/nexo/memory.yaml"), &env)
}

/// The section with these lines in it.
pub(crate) fn section(lines: &str) -> Result<MemorySnapshotConfig, ConfigError> {
    let body: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    parse(&format!("memory:\n  snapshot:\n    auto_pre_restore: true\n{body}"))
}

/// The error's text, with its source.
pub(crate) fn refused(lines: &str) -> String {
    let Err(error) = section(lines) else { panic!("accepted: {lines}") };
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    let source = std::error::Error::source(&error).map_or(String::new(), |s| format!(": {s}"));
    format!("{error}{source}")
}
