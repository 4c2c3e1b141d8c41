//! Names, keys and configurations, as people and other programs write them.

use std::hint::black_box;
use std::path::Path;
use std::str::FromStr;

use nexo_memory_snapshot::config::{ConfiguredLayouts, MemorySnapshotConfig};
use snapshot_bundle::{Identities, PublicKey, Recipients, SigningKey};
use snapshot_core::{
    AgentId, BundlePath, CreatedBy, ErrorKind, GitHistory, GitOid, PathInside, PathResolver as _,
    Sha256Digest, SnapshotId, SnapshotRef, StoreName, Tenant,
};
use snapshot_events::{EventId, StreamKey};

/// Every name that has a grammar: what parses is said as something that parses to the same, and an id is
/// neither a path nor more than one token of a subject.
pub(crate) fn snapshot_names(data: &[u8]) {
    if let Ok(path) = BundlePath::from_bytes(data) {
        assert_eq!(path.as_bytes(), data);
        assert!(path.as_path().is_relative());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    said_again::<PathInside>(text);
    said_again::<SnapshotRef>(text);
    said_again::<SnapshotId>(text);
    said_again::<Sha256Digest>(text);
    said_again::<GitOid>(text);
    said_again::<EventId>(text);
    said_again::<StreamKey>(text);
    let _: Result<GitHistory, _> = text.parse();
    for id in [
        said_again::<AgentId>(text).map(|id| id.to_string()),
        said_again::<Tenant>(text).map(|id| id.to_string()),
        said_again::<CreatedBy>(text).map(|id| id.to_string()),
    ]
    .into_iter()
    .flatten()
    {
        assert_eq!(id, text, "an id is what was written");
        let forbidden = |c: char| matches!(c, '/' | '.' | '*' | '>') || c.is_whitespace();
        assert!(!id.is_empty() && !id.contains(forbidden), "{id:?}");
    }
    if let Some(store) = said_again::<StoreName>(text) {
        let path = store.bundle_path();
        assert!(path.as_bytes().starts_with(b"sqlite/"), "{path:?}");
    }
    if let Ok(store) = StoreName::auto(text) {
        assert_eq!(store.auto_path(), Some(text));
        black_box(store.bundle_path());
    }
}

/// Files of keys: recipients, identities, minisign's two.
pub(crate) fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(recipients) = Recipients::parse_file(text) {
        let texts = recipients.texts();
        let again = Recipients::parse(texts.iter().map(String::as_str));
        assert_eq!(again, Ok(recipients));
    }
    if let Ok(identities) = Identities::parse(text) {
        assert!(!identities.is_empty() && !identities.has_passphrase());
        assert!(!format!("{identities:?}").contains("AGE-SECRET-KEY-1"), "a secret is shown");
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_file().parse(), Ok(key));
    }
    if let Ok(key) = SigningKey::parse(text) {
        let again = SigningKey::parse(key.to_file().expose()).expect("a key that was written");
        assert_eq!(again.public(), key.public());
    }
}

/// A configuration: it acts or is refused, and means the same each time.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/etc/nexo/memory.yaml");
    let env = |name: &str| match name {
        "HOME" => Some("/home/ana".to_owned()),
        "EMPTY" => Some(String::new()),
        "EVIL" => Some("x\n    root: /etc".to_owned()),
        _ => None,
    };
    let config = match MemorySnapshotConfig::parse(text, path, &env) {
        Ok(config) => config,
        Err(e) => return assert_eq!(e.kind(), ErrorKind::Usage, "{e}"),
    };
    let again = MemorySnapshotConfig::parse(text, path, &env);
    assert_eq!(again.ok().as_ref(), Some(&config));
    black_box(config.warnings());
    black_box(config.identity_paths());
    let root = Path::new("/var/lib/nexo");
    let layouts = ConfiguredLayouts::new(&config, Tenant::default(), root);
    for agent in config.agents.keys() {
        black_box(config.policy_of(agent));
        black_box(config.settings_of(agent));
        black_box(config.encryption_of(agent));
        if let Some(layout) = layouts.layout(&Tenant::default(), agent) {
            let relative = layout.paths().into_iter().find(|path| path.is_relative());
            assert_eq!(relative, None, "it would depend on the working directory");
        }
    }
}

/// Parses `text`; what that gives, said as text, is the same when it is parsed.
fn said_again<T>(text: &str) -> Option<T>
where
    T: FromStr + ToString + PartialEq + std::fmt::Debug,
{
    let value: T = text.parse().ok()?;
    let said = value.to_string();
    match said.parse::<T>() {
        Ok(again) => assert_eq!(again, value, "{text:?} is said as {said:?}"),
        Err(_) => panic!("{text:?} is said as {said:?}, which does not parse"),
    }
    Some(value)
}
