//! A snapshots folder that somebody filled with junk: problems are named, nothing is believed, nothing
//! is followed, nothing panics.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use snapshot_core::{AgentId, ErrorKind, Sidecar, Tenant};
use snapshot_fs::DurableFs;
use snapshot_vault::{AgentVault, ProblemKind, VaultError};

use crate::support::{ana, id, lock, publish, sidecar};

/// An agent with one good snapshot, number 1.
fn agent_with_one(root: &Path) -> AgentVault {
    let agent = ana(root, DurableFs::default());
    publish(&lock(&agent).unwrap(), 1, b"good").unwrap();
    agent
}

/// Puts a snapshot's three files there by hand.
fn plant(agent: &AgentVault, n: u8, sidecar: &[u8]) {
    let at = |tail: &str| agent.snapshots_path().join(format!("{}{tail}", id(n)));
    std::fs::write(at(".tar.zst"), b"good").unwrap();
    std::fs::write(at(".tar.zst.sha256"), b"").unwrap();
    std::fs::write(at(".manifest.json"), sidecar).unwrap();
}

/// The kinds of the problems, and that the good snapshot is the only one listed.
fn problems(agent: &AgentVault) -> Vec<ProblemKind> {
    let listing = agent.list().unwrap();
    let ids: Vec<_> = listing.snapshots.iter().map(|m| m.id).collect();
    assert_eq!(ids, [id(1)], "{:?}", listing.problems);
    listing.problems.iter().map(|p| p.kind).collect()
}

/// Would catch: notes that are read past their limit, or refused within it.
#[test]
fn notes_are_as_long_as_their_limit_and_no_longer() {
    const MAX_BYTES: usize = 4 << 20;
    let tmp = tempfile::tempdir().unwrap();
    let agent = agent_with_one(tmp.path());
    let notes = tmp.path().join("tenants/default/notes");
    std::fs::create_dir_all(&notes).unwrap();
    for (length, is_read) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
        let mut text = "{\"version\": 1}".to_owned();
        text.push_str(&" ".repeat(length - text.len()));
        std::fs::write(notes.join("ana.json"), text).unwrap();
        assert_eq!(agent.notes().is_ok(), is_read, "{length}");
    }
}

#[test]
fn a_sidecar_is_believed_only_in_its_own_place() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = agent_with_one(tmp.path());
    let other_id = sidecar(3, b"good");
    let other_agent = Sidecar { agent_id: AgentId::from_static("bob"), ..sidecar(2, b"good") };
    let other_tenant = Sidecar { tenant: Tenant::from_static("t2"), ..sidecar(2, b"good") };
    for foreign in [other_id, other_agent, other_tenant] {
        plant(&agent, 2, &foreign.to_bytes().unwrap());
        assert_eq!(problems(&agent), [ProblemKind::Sidecar]);
        assert!(matches!(agent.open_bundle(id(2)), Err(VaultError::Foreign { .. })));
    }
    let newer = Sidecar { manifest_version: 3, ..sidecar(2, b"good") };
    plant(&agent, 2, &newer.to_bytes().unwrap());
    assert_eq!(problems(&agent), [ProblemKind::TooNew]);
    assert_eq!(agent.open_bundle(id(2)).unwrap_err().kind(), ErrorKind::SchemaTooNew);
    // At the limit it is read, past it it is not, however large.
    let mut bytes = sidecar(2, b"good").to_bytes().unwrap();
    bytes.resize(Sidecar::MAX_BYTES, b' ');
    plant(&agent, 2, &bytes);
    assert_eq!(agent.list().unwrap().snapshots.len(), 2);
    bytes.push(b' ');
    plant(&agent, 2, &bytes);
    assert_eq!(problems(&agent), [ProblemKind::Sidecar]);
}

#[test]
fn a_bundle_must_be_there_as_a_file_of_the_right_size() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = agent_with_one(tmp.path());
    let bundle = agent.snapshots_path().join(format!("{}.tar.zst", id(2)));
    plant(&agent, 2, &sidecar(2, b"longer than it is").to_bytes().unwrap());
    assert_eq!(problems(&agent), [ProblemKind::Bundle]);
    plant(&agent, 2, &sidecar(2, b"good").to_bytes().unwrap());
    std::fs::remove_file(&bundle).unwrap();
    assert_eq!(problems(&agent), [ProblemKind::Bundle]);
    assert!(matches!(agent.open_bundle(id(2)), Err(VaultError::BundleMissing { .. })));
    assert_eq!(agent.meta(id(2)).unwrap().bundle_path, bundle);
    assert!(matches!(agent.meta(id(3)), Err(VaultError::UnknownSnapshot { .. })));
    let elsewhere = tmp.path().join("elsewhere");
    std::fs::write(&elsewhere, b"good").unwrap();
    symlink(&elsewhere, &bundle).unwrap();
    assert_eq!(problems(&agent), [ProblemKind::Bundle]);
    assert!(agent.open_bundle(id(2)).is_err(), "a link was followed");
    std::fs::remove_file(&bundle).unwrap();
    std::fs::create_dir(&bundle).unwrap();
    assert_eq!(problems(&agent), [ProblemKind::Bundle]);
}

#[test]
fn links_in_place_of_sidecars_and_folders_are_not_followed() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = agent_with_one(tmp.path());
    let sidecar_path = agent.snapshots_path().join(format!("{}.manifest.json", id(2)));
    plant(&agent, 2, &sidecar(2, b"good").to_bytes().unwrap());
    let moved = tmp.path().join("moved");
    std::fs::rename(&sidecar_path, &moved).unwrap();
    symlink(&moved, &sidecar_path).unwrap();
    assert_eq!(problems(&agent), [ProblemKind::Sidecar]);

    let folder = tmp.path().join("tenants/default/snapshots/bob");
    symlink(tmp.path(), &folder).unwrap();
    let bob = agent.vault().agent(&Tenant::default(), &AgentId::from_static("bob"));
    assert!(bob.list().is_err());
    assert!(lock(&bob).is_err());
    // Told of, so that it is missed.
    assert_eq!(agent.vault().agents().unwrap().len(), 2);
}

#[test]
fn what_belongs_to_no_snapshot_is_named() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = agent_with_one(tmp.path());
    let at = |name: String| agent.snapshots_path().join(name);
    std::fs::write(at(format!("{}.tar.zst", id(2))), b"orphan").unwrap();
    std::fs::write(at(format!("{}.tar.zst", id(3))), b"v1").unwrap();
    std::fs::write(at(format!("{}.tar.zst.sha256", id(3))), "ab".repeat(32)).unwrap();
    std::fs::write(at(format!("{}.deleting", id(4))), b"").unwrap();
    std::fs::write(at(format!("{}.tar.zst.age.sha256", id(5))), b"").unwrap();
    std::fs::remove_file(at(format!("{}.tar.zst.sha256", id(1)))).unwrap();
    std::fs::write(at(".nexo-tmp-1-1f-0".into()), b"").unwrap();
    std::fs::write(at("~junk".into()), b"").unwrap();
    use ProblemKind::{HalfDeleted, Leftover, Orphan, Sum, Unknown, V1};
    let mut found = problems(&agent);
    found.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(found, [HalfDeleted, Leftover, Leftover, Orphan, Sum, Unknown, V1]);
    let problems = agent.list().unwrap().problems;
    let v1 = problems.iter().find(|p| p.kind == V1).unwrap();
    assert!(v1.why.contains("0.1.x") && v1.id == Some(id(3)));
}

#[test]
fn a_hostile_label_is_carried_as_it_is() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    let label = "\u{1b}]0;x\u{7}\u{202e}\"\\\n../../".to_owned();
    let staging = lock.staging().unwrap();
    let file = staging.create_bundle().unwrap();
    let sidecar = Sidecar { label: Some(label.clone()), ..sidecar(1, b"") };
    lock.publish(staging, file, &sidecar).unwrap();
    assert_eq!(agent.list().unwrap().snapshots[0].label, Some(label));
}

/// A name: random bytes, or a part of one of ours with any tail.
fn names() -> impl Strategy<Value = OsString> {
    let bytes = proptest::collection::vec(prop_oneof![1..=b'.', b'0'..=255u8], 1..40);
    let tails = prop_oneof![
        Just(".tar.zst"),
        Just(".tar.zst.age"),
        Just(".tar.zst.sha256"),
        Just(".manifest.json"),
        Just(".deleting"),
        Just("."),
    ];
    prop_oneof![
        bytes.prop_filter("no name", |b| b != b"." && b != b"..").prop_map(OsString::from_vec),
        (2..6u8, tails).prop_map(|(n, tail)| format!("{}{tail}", id(n)).into()),
    ]
}

/// A content: random, or a sidecar with a piece cut out.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let broken = (2..6u8, any::<prop::sample::Index>(), 1..20usize).prop_map(|(n, at, cut)| {
        let mut bytes = sidecar(n, b"good").to_bytes().unwrap();
        let at = at.index(bytes.len());
        bytes.drain(at..(at + cut).min(bytes.len()));
        bytes
    });
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..100), broken]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_junk_breaks_a_listing(files in proptest::collection::vec((names(), contents()), 0..12)) {
        let tmp = tempfile::tempdir().unwrap();
        let agent = agent_with_one(tmp.path());
        for (name, content) in &files {
            std::fs::write(agent.snapshots_path().join(name), content).unwrap();
        }
        let listing = agent.list().unwrap();
        // The good one stays; any other must be whole by its own sidecar.
        prop_assert!(listing.snapshots.iter().any(|m| m.id == id(1)));
        for meta in &listing.snapshots {
            let size = std::fs::metadata(&meta.bundle_path).unwrap().len();
            prop_assert_eq!(size, meta.bundle_size_bytes);
        }
    }
}
