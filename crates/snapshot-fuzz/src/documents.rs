//! Documents beside and inside bundles, and what the vault keeps for itself.

use std::hint::black_box;
use std::path::{Path, PathBuf};

use snapshot_core::{AgentId, BundlePath, ErrorKind, Manifest, Sidecar, Tenant};
use snapshot_events::{Outbox, StreamKey};
use snapshot_fs::DurableFs;
use snapshot_vault::Vault;

use crate::scratch::Scratch;

/// Where the vault keeps the notes on the agent `ana` of the tenant `default`.
const NOTES: [&str; 3] = ["tenants", "default", "notes"];

/// `manifest.json`: what parses is written to bytes that parse to the same, and every entry is found again.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::parse(data) else { return };
    for artifact in &manifest.artifacts {
        assert_eq!(manifest.artifact(&artifact.path), Some(artifact));
        stays_inside(&artifact.path);
    }
    for (info, artifact) in manifest.stores() {
        assert_eq!(info.store.bundle_path(), artifact.path);
    }
    manifest.memory_entries().for_each(|(path, _)| stays_inside(&path));
    black_box(manifest.total_bytes());
    let bytes = manifest.to_bytes().expect("what was read can be written");
    assert_eq!(Manifest::parse(&bytes).as_ref(), Ok(&manifest));
}

/// The summary beside a bundle.
pub(crate) fn sidecar(data: &[u8]) {
    let Ok(sidecar) = Sidecar::parse(data) else { return };
    let meta = sidecar.to_meta(PathBuf::from("/vault/bundle"));
    assert_eq!(meta.encrypted, sidecar.encryption.is_some());
    let json = serde_json::to_vec(&meta).expect("a meta is JSON");
    assert_eq!(serde_json::from_slice(&json).ok(), Some(meta));
    // Written with blanks and line ends it may pass the limit.
    if let Ok(bytes) = sidecar.to_bytes() {
        assert_eq!(Sidecar::parse(&bytes), Ok(sidecar));
    }
}

/// The notes on an agent. What they forbid holds as long as they cannot be read, so a fault is told.
pub(crate) fn notes(data: &[u8]) {
    let scratch = Scratch::new();
    let dir = NOTES.iter().fold(scratch.sub("vault"), |dir, name| {
        dir.ensure_sub(name, 0o700).expect("a folder of the vault")
    });
    dir.write_atomic("ana.json", data, 0o600).expect("notes");
    let root = scratch.dir.path().join("vault");
    let vault = Vault::open(DurableFs::default(), &root).expect("a vault");
    let agent = vault.agent(&Tenant::default(), &AgentId::from_static("ana"));
    match agent.notes() {
        Ok(notes) => {
            let json = serde_json::to_vec(&notes).expect("notes are JSON");
            assert_eq!(serde_json::from_slice(&json).ok(), Some(notes));
        }
        Err(e) => assert_ne!(e.kind(), ErrorKind::Internal, "{e}"),
    }
    scratch.finish();
}

/// The journal of a restore, as it is looked at by whoever comes next.
pub(crate) fn journal(data: &[u8]) {
    let scratch = Scratch::new();
    scratch.put("journal.json", data);
    let pending = snapshot_stores::pending(&scratch.dir);
    let needed = snapshot_stores::needed(&scratch.dir);
    assert_eq!(pending.is_ok(), needed.is_ok(), "one look sees more than the other");
    if let (Ok(Some(pending)), Ok(needed)) = (pending, needed) {
        assert!(needed.contains(&pending), "what a recovery needs may be swept away");
    }
    scratch.finish();
}

/// A record of the outbox: settled, or put aside, and never in the way of what follows.
pub(crate) fn outbox_record(data: &[u8]) {
    let scratch = Scratch::new();
    let outbox = Outbox::new(scratch.sub("outbox"));
    let key = StreamKey::Agent { tenant: Tenant::default(), agent: AgentId::from_static("ana") };
    let stream = outbox.stream(&key).expect("a stream");
    let dir = scratch.sub("outbox").sub(key.to_string()).expect("its folder");
    dir.write_atomic(Path::new("0000000000000001.prepared"), data, 0o600).expect("a record");
    let mut heard = 0;
    stream
        .settle(&mut |_| {
            heard += 1;
            Some(true)
        })
        .expect("settled");
    assert_eq!(stream.depth().expect("a depth"), heard, "a record of ours waits, another is aside");
    assert_eq!(outbox.put_aside().expect("a number"), 1 - heard);
    scratch.finish();
}

fn stays_inside(path: &BundlePath) {
    use std::path::Component;
    let normal = |component| matches!(component, Component::Normal(_));
    assert!(path.as_path().components().all(normal), "{path:?} leaves its folder");
}
