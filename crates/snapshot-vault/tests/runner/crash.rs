//! Death at every state-changing operation of publish and delete: afterwards a snapshot is whole or
//! is none, and what is left can be cleared.

use std::path::Path;

use snapshot_core::Control;
use snapshot_fs::DurableFs;
use snapshot_vault::{AgentVault, ProblemKind, Swept};

use crate::support::{DieAt, ana, id, lock, publish, soon, tree};

const CONTENT: &[u8] = b"the whole bundle";

/// Runs `attempt` with death at operation 0, 1, ... until it lives; `check` looks after each run
/// and is told whether the attempt said that it succeeded.
fn at_every_operation(
    prepare: impl Fn(&AgentVault),
    attempt: impl Fn(&AgentVault) -> bool,
    check: impl Fn(&AgentVault, bool),
) {
    for at in 0.. {
        let tmp = tempfile::tempdir().unwrap();
        prepare(&ana(tmp.path(), DurableFs::default()));
        let hook = DieAt::new(at);
        let done = attempt(&ana(tmp.path(), DurableFs::with_hook(hook.clone())));
        check(&ana(tmp.path(), DurableFs::default()), done);
        if !hook.died() {
            assert!(done, "it neither died nor succeeded");
            assert!(at > 5, "the hook sees too little: {at}");
            return;
        }
    }
}

/// Every listed snapshot must be whole; returns how many there are.
fn whole_snapshots(agent: &AgentVault) -> usize {
    let listing = lock(agent).unwrap().list().unwrap();
    for meta in &listing.snapshots {
        assert_eq!(std::fs::read(&meta.bundle_path).unwrap(), CONTENT);
    }
    let torn = |kind| matches!(kind, ProblemKind::Bundle | ProblemKind::Sidecar | ProblemKind::Sum);
    assert!(!listing.problems.iter().any(|p| torn(p.kind)), "{:?}", listing.problems);
    listing.snapshots.len()
}

#[test]
fn a_publish_that_dies_leaves_a_whole_snapshot_or_none() {
    let attempt =
        |agent: &AgentVault| lock(agent).is_ok_and(|lock| publish(&lock, 1, CONTENT).is_ok());
    at_every_operation(
        |_| {},
        attempt,
        |agent, done| {
            let whole = whole_snapshots(agent);
            assert!(whole == 1 || !done, "acknowledged and lost");
            // A sweep takes all but bundles, and the agent goes on.
            let lock = lock(agent).unwrap();
            lock.sweep().unwrap();
            assert_eq!(lock.sweep().unwrap(), Swept::default());
            let left = lock.list().unwrap().problems;
            assert!(left.iter().all(|p| p.kind == ProblemKind::Orphan), "{left:?}");
            publish(&lock, 2, CONTENT).unwrap();
            drop(lock);
            assert_eq!(whole_snapshots(agent), whole + 1);
        },
    );
}

#[test]
fn a_delete_that_dies_never_brings_the_memory_back() {
    let prepare = |agent: &AgentVault| {
        publish(&lock(agent).unwrap(), 1, CONTENT).unwrap();
    };
    let attempt = |agent: &AgentVault| {
        lock(agent).is_ok_and(|lock| lock.delete(id(1), soon(), &Control::default()).is_ok())
    };
    at_every_operation(prepare, attempt, |agent, done| {
        let whole = whole_snapshots(agent);
        assert!(whole == 0 || !done, "deleted and still there");
        let lock = lock(agent).unwrap();
        lock.finish_deletes(soon(), &Control::default()).unwrap();
        let listing = lock.list().unwrap();
        assert_eq!((listing.snapshots.len(), listing.problems.len()), (whole, 0));
        let left = tree(agent.vault().root());
        let left = left.iter().filter(|name| name.contains(&id(1).to_string()));
        assert_eq!(left.count(), 3 * whole, "files of a deleted snapshot are left");
    });
}

#[test]
fn a_failed_publish_takes_its_files_back() {
    // One operation fails, the process lives: nothing of the attempt may stay.
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use snapshot_fs::{Hook, Op, OpKind};

    /// Fails operation number `at`, and sees whether a power cut would bring back what was removed.
    struct FailOnce {
        at: usize,
        seen: AtomicUsize,
        may_be_back: AtomicBool,
    }
    impl Hook for FailOnce {
        fn before(&self, op: &Op<'_>) -> io::Result<()> {
            if self.seen.fetch_add(1, Ordering::SeqCst) == self.at {
                return Err(io::Error::other("EIO"));
            }
            let is_published = |path: &Path| path.ends_with("snapshots/ana");
            match op.kind {
                OpKind::Unlink if op.path.parent().is_some_and(is_published) => {
                    self.may_be_back.store(true, Ordering::SeqCst);
                }
                OpKind::SyncDir if is_published(op.path) => {
                    self.may_be_back.store(false, Ordering::SeqCst);
                }
                _ => {}
            }
            Ok(())
        }
    }

    for at in 0.. {
        let tmp = tempfile::tempdir().unwrap();
        lock(&ana(tmp.path(), DurableFs::default())).unwrap().staging().unwrap();
        let before = tree(tmp.path());
        let (seen, may_be_back) = (AtomicUsize::new(0), AtomicBool::new(false));
        let hook = Arc::new(FailOnce { at, seen, may_be_back });
        let agent = ana(tmp.path(), DurableFs::with_hook(hook.clone()));
        let published = publish(&lock(&agent).unwrap(), 1, CONTENT);
        if published.is_err() {
            assert_eq!(tree(tmp.path()), before, "operation {at}");
            assert!(!hook.may_be_back.load(Ordering::SeqCst), "operation {at}");
        } else if hook.seen.load(Ordering::SeqCst) <= at {
            assert!(at > 8);
            return;
        }
    }
}
