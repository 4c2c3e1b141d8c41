//! The doctor alone, after a death.

use std::sync::Arc;

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use snapshot_soak::deed::Deed;
use snapshot_soak::scene::{Scene, ana};
use snapshot_testkit::{FaultHook, Recorder};

/// Would catch: databases that a restore staged before it died, left in the vault by a doctor who finds nothing; or
/// git's lock, left for good once nobody can tell any more whose it is.
#[test]
fn the_doctor_clears_what_a_restore_staged_that_died() {
    let scene = Scene::scratch().unwrap();
    let hook = Arc::new(Recorder::default());
    let whole = scene.copy().unwrap();
    Deed::Restore
        .perform(&whole, &whole.engine(DurableFs::with_hook(hook.clone())).unwrap())
        .unwrap();
    let changes = hook.changes();
    let first = |ending: &str| {
        let at = changes.iter().position(|change| change.path.ends_with(ending));
        at.unwrap_or_else(|| panic!("nothing changes {ending}"))
    };
    // Once something is staged, once git is locked, and on the way.
    let (staging, lock) = (first("staged/restore-id"), first(".git/index.lock"));
    for n in [staging + 1, usize::midpoint(staging, lock), lock + 1] {
        let copy = scene.copy().unwrap();
        let hook = Arc::new(FaultHook::dying_at(n as u64));
        let dying = copy.engine(DurableFs::with_hook(hook)).unwrap();
        assert!(Deed::Restore.perform(&copy, &dying).is_err());
        let work = copy.vault().join("tenants/default/restore/ana");
        assert!(work.join("staged").exists() && !work.join("journal.json").exists(), "{n}");
        let locked = copy.agent().memdir().join(".git/index.lock");
        assert_eq!(locked.is_symlink(), n > lock, "{n}");
        let (engine, control) = (copy.engine(DurableFs::default()).unwrap(), Control::default());
        let report = engine.doctor(&Tenant::default(), Some(&ana()), true, &control).unwrap();
        assert!(report.findings.iter().all(|finding| finding.fixed), "{n}: {report:?}");
        copy.look().unwrap_or_else(|e| panic!("change {n}: {e}"));
        assert!(!locked.is_symlink(), "change {n}: git stays locked");
    }
}
