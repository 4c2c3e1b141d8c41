//! Publish, list, open, delete, with real files and stock tools.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use snapshot_core::{AgentId, Control, EncryptionInfo, ErrorKind, SnapshotId, Tenant};
use snapshot_fs::DurableFs;
use snapshot_vault::{ProblemKind, Vault, VaultError};

use crate::support::{ana, id, lock, publish, sidecar, soon, tree};

#[test]
fn what_is_published_is_listed_newest_first_opened_and_deleted() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    for n in [2, 3, 1] {
        publish(&lock, n, b"bundle").unwrap();
    }
    let listing = agent.list().unwrap();
    assert_eq!(listing.problems, []);
    let ids: Vec<_> = listing.snapshots.iter().map(|m| m.id).collect();
    assert_eq!(ids, [id(3), id(2), id(1)]);
    assert_eq!(std::fs::read(&listing.snapshots[0].bundle_path).unwrap(), b"bundle");

    let mut open = agent.open_bundle(id(2)).unwrap();
    assert_eq!(open.path, listing.snapshots[1].bundle_path);
    lock.delete(id(2), soon(), &Control::default()).unwrap();
    // An open reader keeps its bytes; the name is gone.
    let mut bytes = Vec::new();
    open.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bundle");
    assert!(matches!(agent.open_bundle(id(2)), Err(VaultError::UnknownSnapshot { .. })));
    let again = lock.delete(id(2), soon(), &Control::default());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::UnknownSnapshot);
    assert!(!tree(tmp.path()).iter().any(|name| name.contains(&id(2).to_string())));
}

#[test]
fn the_checksum_file_is_one_for_sha256sum() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let meta = publish(&lock(&agent).unwrap(), 1, b"bundle").unwrap();
    let check = Command::new("sha256sum")
        .args(["--strict", "-c"])
        .arg(format!("{}.tar.zst.sha256", meta.id))
        .current_dir(agent.snapshots_path())
        .output()
        .unwrap();
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn an_encrypted_bundle_lies_under_its_own_name() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    let staging = lock.staging().unwrap();
    let mut file = staging.create_bundle().unwrap();
    file.write_all(b"age").unwrap();
    let scheme = "age-x25519".to_owned();
    let encryption = Some(EncryptionInfo { scheme, recipients_fingerprint: vec![] });
    let sidecar = snapshot_core::Sidecar { encryption, ..sidecar(1, b"age") };
    let meta = lock.publish(staging, file, &sidecar).unwrap();
    assert!(meta.encrypted && meta.bundle_path.to_str().unwrap().ends_with(".tar.zst.age"));
    assert_eq!(agent.list().unwrap().snapshots, [meta]);
    assert_eq!(agent.open_bundle(id(1)).unwrap().sidecar, sidecar);
}

#[test]
fn a_bundle_that_is_not_the_sidecars_is_refused_and_leaves_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    publish(&lock, 1, b"first").unwrap();
    let before = tree(tmp.path());
    let attempt = |change: fn(&mut snapshot_core::Sidecar)| {
        let staging = lock.staging().unwrap();
        let mut file = staging.create_bundle().unwrap();
        file.write_all(b"other").unwrap();
        let mut sidecar = sidecar(2, b"other");
        change(&mut sidecar);
        lock.publish(staging, file, &sidecar).unwrap_err()
    };
    assert!(matches!(attempt(|s| s.bundle_size_bytes += 1), VaultError::BundleSize { .. }));
    assert!(matches!(
        attempt(|s| s.agent_id = AgentId::from_static("bob")),
        VaultError::Foreign { .. }
    ));
    assert!(matches!(attempt(|s| s.label = Some("x".repeat(5000))), VaultError::Sidecar { .. }));
    assert!(matches!(attempt(|s| s.snapshot_id = id(1)), VaultError::Taken { .. }));
    // A file of somebody else's staging folder.
    let (mine, other) = (lock.staging().unwrap(), lock.staging().unwrap());
    let mut file = other.create_bundle().unwrap();
    file.write_all(b"other").unwrap();
    let misplaced = lock.publish(mine, file, &sidecar(2, b"other"));
    assert!(matches!(misplaced, Err(VaultError::NotStaged { .. })));
    drop(other);
    assert_eq!(tree(tmp.path()), before);
}

#[test]
fn everything_is_private_whatever_was_there_before() {
    let tmp = tempfile::tempdir().unwrap();
    // An operator's root stays as it is; what an earlier program left open below is closed.
    std::fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let open = tmp.path().join("tenants/default/snapshots/ana");
    std::fs::create_dir_all(&open).unwrap();
    for dir in open.ancestors().take(4) {
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    publish(&lock, 1, b"bundle").unwrap();
    let _staging = lock.staging().unwrap();
    lock.restore_dir().unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(tmp.path().to_owned()), 0o755);
    for name in tree(tmp.path()) {
        let path = tmp.path().join(&name);
        let want = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(path), want, "{name}");
    }
}

#[test]
fn a_generous_umask_opens_nothing() {
    // The umask belongs to the process: run the test above in another one.
    let inner = "round_trip::everything_is_private_whatever_was_there_before";
    let run = Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg(inner)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn agents_are_found_by_snapshots_or_by_a_restore() {
    let tmp = tempfile::tempdir().unwrap();
    let root = tmp.path().join("not/yet");
    let vault = Vault::open(DurableFs::default(), &root).unwrap();
    assert_eq!(vault.agents().unwrap(), []);
    assert!(ana(&root, DurableFs::default()).list().unwrap().snapshots.is_empty());
    assert!(!root.exists(), "looking makes nothing");

    let (acme, bob) = (Tenant::from_static("acme"), AgentId::from_static("bob"));
    let restore = root.join("tenants/acme/restore/bob");
    std::fs::create_dir_all(restore).unwrap();
    lock(&ana(&root, DurableFs::default())).unwrap();
    std::fs::create_dir_all(root.join("tenants/Not A Tenant/snapshots/ana")).unwrap();
    std::fs::create_dir_all(root.join("tenants/acme/snapshots/not.an.agent")).unwrap();
    let found = vault.agents().unwrap();
    assert_eq!(found, [(acme, bob), (Tenant::default(), AgentId::from_static("ana"))]);
}

#[test]
fn an_orphan_can_be_adopted() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    let bundle = agent.snapshots_path().join(format!("{}.tar.zst", id(4)));
    std::fs::write(&bundle, b"orphan").unwrap();
    let problems = lock.list().unwrap().problems;
    assert_eq!((problems.len(), problems[0].kind), (1, ProblemKind::Orphan));
    let short = lock.adopt(&sidecar(4, b"short"));
    assert!(matches!(short, Err(VaultError::BundleSize { .. })));
    let meta = lock.adopt(&sidecar(4, b"orphan")).unwrap();
    assert_eq!(lock.list().unwrap().snapshots, [meta]);
    assert!(matches!(lock.adopt(&sidecar(4, b"orphan")), Err(VaultError::Taken { .. })));
}

#[test]
fn a_tie_in_time_is_ordered_by_id() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    for n in [5, 9, 7] {
        let staging = lock.staging().unwrap();
        let file = staging.create_bundle().unwrap();
        let sidecar = snapshot_core::Sidecar { created_at_ms: 1, ..sidecar(n, b"") };
        lock.publish(staging, file, &sidecar).unwrap();
    }
    let ids: Vec<SnapshotId> = agent.list().unwrap().snapshots.iter().map(|m| m.id).collect();
    assert_eq!(ids, [id(9), id(7), id(5)]);
}
