//! Who keeps whom out.

use std::path::PathBuf;
use std::time::Instant;

use snapshot_core::{AgentId, Control, ErrorKind, Tenant};
use snapshot_fs::{DurableFs, FsError, LockMode};
use snapshot_vault::{AgentVault, ProblemKind, Vault, VaultError};

use crate::support::{ana, id, lock, publish, soon};

/// A second process, as far as locks go: file locks belong to the open file, not to the process.
fn other_process(agent: &AgentVault) -> AgentVault {
    ana(agent.vault().root(), DurableFs::default())
}

fn busy<T>(result: Result<T, VaultError>) -> bool {
    matches!(result, Err(e) if e.kind() == ErrorKind::Concurrent)
}

#[test]
fn one_process_at_a_time_works_on_an_agent() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let held = lock(&agent).unwrap();
    let now = || other_process(&agent).lock(Instant::now(), &Control::default());
    assert!(busy(now()));
    let bob = agent.vault().agent(&Tenant::default(), &AgentId::from_static("bob"));
    bob.lock(Instant::now(), &Control::default()).unwrap();
    let elsewhere = agent.vault().agent(&Tenant::from_static("t2"), agent.agent());
    elsewhere.lock(Instant::now(), &Control::default()).unwrap();
    // Staging that is still in use keeps the lock.
    let staging = held.staging().unwrap();
    drop(held);
    assert!(busy(now()));
    drop(staging);
    now().unwrap();
}

#[test]
fn a_cancelled_wait_for_the_lock_ends() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let _held = lock(&agent).unwrap();
    let control = Control::default();
    control.cancel();
    let waited = other_process(&agent).lock(soon(), &control);
    assert!(matches!(waited, Err(VaultError::Fs(FsError::Interrupted { .. }))));
}

#[test]
fn a_delete_waits_for_readers_and_then_gives_up() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let held = lock(&agent).unwrap();
    publish(&held, 1, b"x").unwrap();
    let read = |mode| other_process(&agent).vault_lock(mode, Instant::now(), &Control::default());
    let reader = read(LockMode::Shared).unwrap();
    let _second_reader = read(LockMode::Shared).unwrap();
    assert!(busy(held.delete(id(1), Instant::now(), &Control::default())));
    assert_eq!(agent.list().unwrap().snapshots.len(), 1, "refused before anything changed");
    drop((reader, _second_reader));
    held.delete(id(1), soon(), &Control::default()).unwrap();
}

#[test]
fn a_sweep_spares_the_staging_that_is_in_use() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let held = lock(&agent).unwrap();
    let live = held.staging().unwrap();
    let dead = live.dir().path().with_file_name("4194999-0");
    std::fs::create_dir(&dead).unwrap();
    std::fs::write(dead.join("bundle"), b"x").unwrap();
    assert_eq!(held.sweep().unwrap().staging, 1);
    assert!(live.dir().path().exists() && !dead.exists());
}

#[test]
fn work_in_progress_is_not_called_a_problem() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let held = lock(&agent).unwrap();
    std::fs::write(agent.snapshots_path().join(format!("{}.tar.zst", id(1))), b"x").unwrap();
    // As seen by another process while the publish runs, and after it died.
    assert_eq!(other_process(&agent).list().unwrap().problems, []);
    drop(held);
    let problems = other_process(&agent).list().unwrap().problems;
    assert_eq!(problems[0].kind, ProblemKind::Orphan);
    lock(&agent).expect("a listing keeps no lock");
}

#[test]
fn targets_are_locked_by_what_they_are() {
    let tmp = tempfile::tempdir().unwrap();
    let vault = Vault::open(DurableFs::default(), &tmp.path().join("vault")).unwrap();
    let at = |name: &str| tmp.path().join(name);
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("dir/file"), b"").unwrap();
    std::fs::hard_link(at("dir/file"), at("hard")).unwrap();
    std::os::unix::fs::symlink(at("dir"), at("link")).unwrap();
    let take =
        |targets: &[PathBuf]| vault.lock_targets(targets, Instant::now(), &Control::default());

    let held = take(&[at("dir/file"), at("dir/absent"), at("dir/file")]).unwrap();
    for same in ["dir/file", "hard", "link/file", "dir/absent", "link/absent"] {
        assert!(busy(take(&[at("dir/other"), at(same)])), "{same}");
    }
    // What was locked before it existed is still locked once it does.
    std::fs::write(at("dir/absent"), b"").unwrap();
    assert!(busy(take(&[at("link/absent")])));
    take(&[at("dir"), at("dir/other"), at("no/such/folder")]).unwrap();
    drop(held);
    take(&[at("hard"), at("link/absent")]).unwrap();
}
