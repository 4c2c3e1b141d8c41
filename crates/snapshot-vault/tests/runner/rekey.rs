//! Another envelope: the old file or the new one is the snapshot's at every moment, and the other one goes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use snapshot_core::{Control, EncryptionInfo, ErrorKind, Sidecar, SnapshotMeta};
use snapshot_fs::{DurableFs, Hook, LockMode, Op, OpKind};
use snapshot_vault::{AgentLock, ProblemKind, VaultError};

use crate::support::{DieAt, ana, id, lock, publish, sidecar, soon, staged, tree};

const OLD: &[u8] = b"for the old readers";
const NEW: &[u8] = b"for the new readers, and they are more";

/// Fails one sync of the folder of snapshots.
struct FailedSync {
    left: AtomicUsize,
}

impl Hook for FailedSync {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let is_it = op.kind == OpKind::SyncDir && op.path.ends_with("snapshots/ana");
        match is_it && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            true => Err(io::Error::other("EIO")),
            false => Ok(()),
        }
    }
}

fn sealed(content: &[u8]) -> Sidecar {
    let info =
        EncryptionInfo { scheme: "age-x25519".to_owned(), recipients_fingerprint: Vec::new() };
    Sidecar { encryption: Some(info), ..sidecar(1, content) }
}

fn publish_sealed(lock: &AgentLock) -> SnapshotMeta {
    let (staging, file) = staged(lock, OLD).unwrap();
    lock.publish(staging, file, &sealed(OLD)).unwrap()
}

fn replace(lock: &AgentLock, content: &[u8]) -> Result<SnapshotMeta, VaultError> {
    let (staging, file) = staged(lock, content)?;
    lock.replace(staging, file, &sealed(content), soon(), &Control::default())
}

/// Would catch: two bundles of one snapshot, a checksum file of the other one, a name that is given twice.
#[test]
fn the_names_take_turns_and_one_bundle_is_left() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    publish(&lock, 1, OLD).unwrap();
    for (content, ending) in [
        (NEW, format!("{}.tar.zst.age", id(1))),
        (OLD, format!("{}.rekeyed.tar.zst.age", id(1))),
        (NEW, format!("{}.tar.zst.age", id(1))),
    ] {
        let meta = replace(&lock, content).unwrap();
        assert!(meta.bundle_path.ends_with(&ending), "{}", meta.bundle_path.display());
        let listing = lock.list().unwrap();
        assert_eq!((listing.snapshots, listing.problems), (vec![meta.clone()], vec![]));
        assert_eq!(std::fs::read(&meta.bundle_path).unwrap(), content);
        let files = tree(&agent.snapshots_path());
        assert_eq!(files.len(), 3, "{files:?}");
    }
    // What is not encrypted takes nobody's place.
    let (staging, file) = staged(&lock, NEW).unwrap();
    let plain = sidecar(1, NEW);
    let refused = lock.replace(staging, file, &plain, soon(), &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let (staging, file) = staged(&lock, NEW).unwrap();
    let unknown = Sidecar { snapshot_id: id(2), ..sealed(NEW) };
    let refused = lock.replace(staging, file, &unknown, soon(), &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownSnapshot, "{refused}");
}

/// Would catch: a death between two files that leaves a snapshot of neither, or what no sweep takes.
#[test]
fn a_replacement_that_dies_leaves_the_old_or_the_new() {
    let (mut old, mut new) = (0, 0);
    for at in 0.. {
        let tmp = tempfile::tempdir().unwrap();
        publish_sealed(&lock(&ana(tmp.path(), DurableFs::default())).unwrap());
        let hook = DieAt::new(at);
        let dying = ana(tmp.path(), DurableFs::with_hook(hook.clone()));
        let done = lock(&dying).is_ok_and(|lock| replace(&lock, NEW).is_ok());
        let agent = ana(tmp.path(), DurableFs::default());
        let lock = lock(&agent).unwrap();
        let listing = lock.list().unwrap();
        let left = |kind| matches!(kind, ProblemKind::Leftover);
        assert!(listing.problems.iter().all(|p| left(p.kind)), "{at}: {listing:?}");
        let content = std::fs::read(&listing.snapshots[0].bundle_path).unwrap();
        assert!(content == NEW || content == OLD && !done, "{at}: done and not there");
        (old, new) = (old + u32::from(content == OLD), new + u32::from(content == NEW));
        lock.sweep().unwrap();
        let listing = lock.list().unwrap();
        assert_eq!((listing.snapshots.len(), listing.problems), (1, vec![]), "{at}");
        assert_eq!(std::fs::read(&listing.snapshots[0].bundle_path).unwrap(), content, "{at}");
        assert_eq!(tree(&agent.snapshots_path()).len(), 3, "{at}");
        if !hook.died() {
            assert!(done);
            break;
        }
    }
    assert!(old > 3 && new > 2, "{old} old, {new} new");
}

/// Would catch: a commit point whose sync failed, after which the old bundle is removed, though it may be the one that
/// counts once the power was cut.
#[test]
fn what_may_count_stays_where_the_commit_failed() {
    for (failed, left) in [(1, 3), (2, 3), (3, 5)] {
        let tmp = tempfile::tempdir().unwrap();
        publish_sealed(&lock(&ana(tmp.path(), DurableFs::default())).unwrap());
        let hook = Arc::new(FailedSync { left: AtomicUsize::new(failed) });
        let agent = ana(tmp.path(), DurableFs::with_hook(hook));
        let lock = lock(&agent).unwrap();
        assert!(replace(&lock, NEW).is_err());
        assert_eq!(tree(&agent.snapshots_path()).len(), left, "sync {failed}");
        assert_eq!(lock.sweep().unwrap().temp_files, left as u64 - 3);
        let listing = lock.list().unwrap();
        assert_eq!((listing.snapshots.len(), listing.problems), (1, vec![]), "sync {failed}");
    }
}

/// Would catch: a sweep that takes the only whole bundle, because the file that its summary means is away, too
/// short or another one.
#[test]
fn what_is_not_meant_stays_until_what_is_meant_is_whole() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    let meant = publish_sealed(&lock).bundle_path;
    let other = agent.snapshots_path().join(format!("{}.rekeyed.tar.zst.age", id(1)));
    let another = vec![b'x'; OLD.len()];
    for content in [None, Some(&OLD[1..]), Some(another.as_slice())] {
        std::fs::write(&other, NEW).unwrap();
        std::fs::remove_file(&meant).unwrap();
        if let Some(content) = content {
            std::fs::write(&meant, content).unwrap();
        }
        lock.sweep().unwrap();
        assert_eq!(std::fs::read(&other).unwrap(), NEW, "{content:?}");
        std::fs::write(&meant, OLD).unwrap();
    }
    lock.sweep().unwrap();
    assert!(!other.exists());
    assert_eq!(std::fs::read(&meant).unwrap(), OLD);
}

/// Would catch: a file that goes while somebody is about to open it.
#[test]
fn readers_are_waited_for() {
    let tmp = tempfile::tempdir().unwrap();
    let agent = ana(tmp.path(), DurableFs::default());
    let lock = lock(&agent).unwrap();
    let meta = publish_sealed(&lock);
    let reading = agent.vault_lock(LockMode::Shared, soon(), &Control::default()).unwrap();
    let (staging, file) = staged(&lock, NEW).unwrap();
    let now = Instant::now() + Duration::from_millis(10);
    let busy = lock.replace(staging, file, &sealed(NEW), now, &Control::default()).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Concurrent, "{busy}");
    assert_eq!(lock.list().unwrap().snapshots, [meta]);
    drop(reading);
    replace(&lock, NEW).unwrap();
}
