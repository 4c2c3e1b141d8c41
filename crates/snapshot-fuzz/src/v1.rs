//! Bundles of 0.1.x: any bytes, any archive, archives of crafted entries, and the repositories in them.

use std::path::Path;

use serde_json::{Value, json};
use snapshot_bundle::{AnyBundle, BundleError, BundleV1, Identities, VerifyOptions, verify_file};
use snapshot_core::{
    AgentId, BundlePath, Control, ErrorKind, ManifestV1, Sha256Digest, SnapshotId, Tenant,
};
use snapshot_stores::git::{RawRepo, open as open_repository, write_bundle};
use snapshot_testkit::{OldBundle, OldEntry};

use crate::input::{Input, overwrite};
use crate::scratch::{Scratch, file_of};

/// Most entries of a crafted archive.
const MAX_ENTRIES: usize = 8;
/// Largest git object, in bytes.
const MAX_OBJECT: u64 = 1 << 20;
/// Quick, and read like any other level.
const LEVEL: i32 = 1;
/// Kinds of artifacts, and a place where each belongs.
const PLACES: [(&str, &str); 8] = [
    ("memory_file", "memory_files/a.md"),
    ("memory_file", "memory_files/.git/config"),
    ("git_bundle", "git/HEAD"),
    ("git_bundle", "git/refs/heads/main"),
    ("git_bundle", "git/config"),
    ("sqlite_long_term", "sqlite/long_term.sqlite"),
    ("state_dream_run", "state/dream_run.json"),
    ("state_extract_cursor", "state/extract_cursor.json"),
];
/// Fields of the manifest that a change aims at, and what is put there.
const FIELDS: [&str; 8] = [
    "manifest_version",
    "bundle_format",
    "agent_id",
    "tenant",
    "label",
    "redactions",
    "artifacts",
    "bundle_sha256",
];
const VALUES: [&str; 8] = [
    "0",
    "2",
    "null",
    "\"../x\"",
    "[]",
    "{}",
    "\"nexo-memory-snapshot-v3\"",
    "18446744073709551615",
];
/// Files of a repository.
const FILES: [&str; 9] = [
    "HEAD",
    "packed-refs",
    "refs/heads/main",
    "refs/stash",
    "shallow",
    "logs/refs/stash",
    "objects/pack/pack-0123456789012345678901234567890123456789.pack",
    "objects/4b/825dc642cb6eb9a060e54bf8d69288fbee4904",
    "config",
];

/// What may be a bundle of 0.1.x: the bytes as they are, as the archive in it, or as what an archive is made of;
/// or the files of a repository.
pub(crate) fn v1(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 5 {
        0 => judge(input.rest()),
        1 => judge(&compressed(input.rest())),
        2 => {
            let mut tar = template().to_tar();
            while !input.is_empty() {
                let at = input.below(tar.len());
                overwrite(&mut tar, at, input.bytes());
            }
            judge(&compressed(&tar));
        }
        3 => crafted(&mut input),
        _ => repository(&mut input),
    }
}

/// A right one, as a seed.
pub(crate) fn template() -> OldBundle {
    let id = SnapshotId::from_random_bytes([7; 16]);
    OldBundle::new(id, &AgentId::from_static("ana"), &Tenant::default())
        .with("state/dream_run.json", "state_dream_run", b"{}")
        .with_file("MEMORY.md", b"the user likes tea\n")
        .with_file(&format!("{}/b.md", "d".repeat(120)), b"b\n")
}

/// Entries, rows and fields of somebody's choice.
fn crafted(input: &mut Input<'_>) {
    let mut bundle = template();
    for _ in 0..input.below(MAX_ENTRIES) {
        let (kind, place) = *input.pick(&PLACES);
        match input.byte() % 6 {
            0 => bundle = bundle.with(place, kind, input.bytes()),
            1 => {
                let path = String::from_utf8_lossy(input.bytes()).into_owned();
                bundle = bundle.with(&path, kind, input.bytes());
            }
            2 => {
                let at = input.below(bundle.entries.len() + 1);
                let (name, kind) = (input.bytes().to_vec(), input.byte());
                bundle.entries.insert(at, OldEntry { name, kind, content: input.bytes().to_vec() });
            }
            3 => {
                let at = input.below(bundle.entries.len());
                if let Some(entry) = bundle.entries.get_mut(at) {
                    entry.content = input.bytes().to_vec();
                }
            }
            4 => {
                let at = input.below(bundle.entries.len());
                let field = *input.pick(&["path_in_bundle", "kind", "size_bytes", "sha256"]);
                if let Some(row) =
                    bundle.manifest["artifacts"].get_mut(at).filter(|r| r.is_object())
                {
                    row[field] = value(input);
                }
            }
            _ => {
                let field = *input.pick(&FIELDS);
                bundle.manifest[field] = value(input);
            }
        }
        if !bundle.manifest["artifacts"].is_array() {
            bundle.manifest["artifacts"] = json!([]);
        }
    }
    if input.byte().is_multiple_of(2) {
        bundle = bundle.sealed();
    }
    judge(&compressed(&bundle.to_tar()));
}

fn value(input: &mut Input<'_>) -> Value {
    let text: &&str = input.pick(&VALUES);
    serde_json::from_str(text).unwrap_or_default()
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    snapshot_testkit::old_bundle::compressed_at(tar, LEVEL)
}

/// Nothing panics; what is given out is the manifest's, and a verification says the same as a reading.
fn judge(bytes: &[u8]) {
    let (path, identities, control) = (Path::new("old"), Identities::default(), Control::default());
    let sum = Some(Sha256Digest::of(bytes));
    let options = VerifyOptions { sum, ..VerifyOptions::default() };
    let report = verify_file(file_of(bytes), path, &identities, &options, &control);
    let Ok(AnyBundle::V1(bundle)) = AnyBundle::open_with(file_of(bytes), path, &identities) else {
        return;
    };
    let read = unpack(&bundle, &control);
    let report = report.expect("one that opens can be verified");
    assert_eq!(report.is_good(), read.is_ok(), "{report:?}, {read:?}");
    match read {
        Ok(()) => {}
        Err(e) => assert_eq!(e.kind(), ErrorKind::Integrity, "{e}"),
    }
    let again = serde_json::to_vec(&bundle.manifest().tool_versions).expect("text");
    let _ = ManifestV1::parse(&again);
}

fn unpack(bundle: &BundleV1, control: &Control) -> Result<(), BundleError> {
    let mut given = Vec::new();
    bundle.unpack(control, &mut |artifact, content| {
        let mut bytes = Vec::new();
        let whole = content.read_to_end(&mut bytes).is_ok();
        given.push((artifact.clone(), whole.then_some(bytes)));
        Ok::<(), BundleError>(())
    })?;
    assert_eq!(given.len(), bundle.manifest().artifacts.len());
    for (artifact, bytes) in given {
        let bytes = bytes.expect("a content of a bundle that is right");
        assert_eq!(bytes.len() as u64, artifact.size_bytes);
        assert_eq!(Sha256Digest::of(&bytes), artifact.sha256);
    }
    Ok(())
}

/// Files of a repository, laid out and packed.
fn repository(input: &mut Input<'_>) {
    let scratch = Scratch::new();
    let control = Control::default();
    let (memdir, spool) = (scratch.sub("memdir"), scratch.sub("spool"));
    let repo = RawRepo::begin(&memdir, MAX_OBJECT, &control).expect("a new repository");
    for _ in 0..input.below(MAX_ENTRIES) {
        let path = match input.byte() % 3 {
            0 => String::from_utf8_lossy(input.bytes()).into_owned(),
            _ => (*input.pick(&FILES)).to_owned(),
        };
        let content = input.bytes();
        if let Ok(path) = BundlePath::parse(&path) {
            // What cannot be taken is refused.
            let _ = repo.put(&path, content.len() as u64, &mut &*content);
        }
    }
    drop(repo);
    if let Ok(Some(repo)) = open_repository(memdir.path())
        && let Ok(pinned) = repo.pin()
    {
        let _ = write_bundle(&repo, &pinned, &spool, MAX_OBJECT, &control);
    }
    let config = std::fs::read_to_string(memdir.path().join(".git/config"));
    assert!(!config.expect("its configuration").contains("hooks"), "theirs is obeyed");
    scratch.finish();
}
