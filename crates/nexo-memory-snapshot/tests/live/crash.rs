//! A restore that died with its stores committed, and what recovery makes of it. Death at every change is in
//! `snapshot-soak`.

use std::sync::{Arc, OnceLock};

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::{Decision, FindingKind, RecoveryOutcome};
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::ports::DurableFs;
use nexo_memory_snapshot::request::SnapshotRequest;
use snapshot_fs::OpKind;
use snapshot_testkit::compare::Memory;
use snapshot_testkit::{FaultHook, Recorder};

use crate::support::{World, ana, restore};

/// A world whose memory was `then` at a snapshot and is `now` another.
pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) then: Memory,
    pub(crate) now: Memory,
    pub(crate) meta: nexo_memory_snapshot::meta::SnapshotMeta,
}

impl Story {
    /// The same story each time, told once and copied.
    pub(crate) fn tell() -> Self {
        static TOLD: OnceLock<Story> = OnceLock::new();
        let told = TOLD.get_or_init(|| {
            let world = World::tiny();
            let (then, meta) = (world.memory(), world.snapshot());
            world.agent.remember("Poison", "one fact too many").unwrap();
            let now = world.memory();
            Self { world, then, now, meta }
        });
        let world = told.world.copy();
        Self { world, then: told.then.clone(), now: told.now.clone(), meta: told.meta.clone() }
    }

    /// Restores and dies at change `n`; whether it died.
    pub(crate) fn die_at(&self, n: u64) -> bool {
        let hook = Arc::new(FaultHook::dying_at(n));
        let engine = self.world.engine_with(DurableFs::with_hook(hook.clone()));
        let done = restore(&engine, &self.meta);
        // What dies while it tidies up after itself has done its work.
        assert!(hook.fired() || done.is_ok(), "change {n}: {done:?}");
        assert!(done.is_err() || self.is(&self.then), "change {n}: {done:?}");
        hook.fired()
    }

    pub(crate) fn is(&self, memory: &Memory) -> bool {
        memory.differences_after_restore(&self.world.memory()).is_empty()
    }
}

/// A restore died with its stores committed and its files not: at the change after the last commit
/// of a store, which a restore that nothing stops tells.
pub(crate) fn story_that_is_pending() -> Story {
    static CHANGE: OnceLock<u64> = OnceLock::new();
    let change = *CHANGE.get_or_init(|| {
        let (story, recorder) = (Story::tell(), Arc::new(Recorder::default()));
        let engine = story.world.engine_with(DurableFs::with_hook(recorder.clone()));
        restore(&engine, &story.meta).unwrap();
        let commit = OpKind::External("commit the store");
        let last = recorder.changes().iter().rposition(|change| change.kind == commit).unwrap();
        last as u64 + 1
    });
    let story = Story::tell();
    assert!(story.die_at(change));
    assert!(story.world.vault().join("tenants/default/restore/ana/journal.json").exists());
    assert!(story.world.agent.recall("many").unwrap().is_empty(), "a store is not committed");
    assert!(!story.is(&story.then), "nothing is left to recover");
    story
}

/// Would catch: a snapshot of a memory between two states, and one that asks a person although
/// nobody has worked since.
#[test]
fn the_next_snapshot_finishes_the_restore_first() {
    let story = story_that_is_pending();
    let engine = &story.world.engine;
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    engine.snapshot(&req, &Control::default()).unwrap();
    assert!(story.is(&story.then));
    assert!(engine.recover_all(&Control::default()).unwrap().is_empty());
}

/// Would catch: a recovery that rolls over what the agent did after the crash.
#[test]
fn work_after_the_crash_is_never_rolled_over_unasked() {
    let story = story_that_is_pending();
    let world = &story.world;
    world.agent.connect("vector").unwrap().execute_batch("CREATE TABLE new_work(x)").unwrap();
    let found =
        world.engine.recover(&Tenant::default(), &ana(), None, &Control::default()).unwrap();
    let RecoveryOutcome::Pending { pre_recovery: Some(kept), .. } = found.outcome else {
        panic!("{found:?}")
    };
    world
        .agent
        .connect("vector")
        .unwrap()
        .query_row("SELECT count(*) FROM new_work", [], |r| r.get::<_, i64>(0))
        .unwrap();
    let pending = nexo_memory_snapshot::error::ErrorKind::RecoveryPending;
    assert_eq!(world.restore(&story.meta).unwrap_err().kind(), pending);
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    assert_eq!(world.engine.snapshot(&req, &Control::default()).unwrap_err().kind(), pending);
    let decided = world
        .engine
        .recover(&Tenant::default(), &ana(), Some(Decision::Forward), &Control::default())
        .unwrap();
    assert!(matches!(decided.outcome, RecoveryOutcome::RolledForward { .. }), "{decided:?}");
    assert!(story.is(&story.then));
    let listing = world.engine.list(&Tenant::default(), Some(&ana())).unwrap();
    assert!(listing.snapshots.iter().any(|m| m.id == kept));
}

/// Would catch: an abandoned recovery that changes something, or that comes back.
#[test]
fn an_abandoned_recovery_leaves_what_is_there() {
    let story = story_that_is_pending();
    let world = &story.world;
    world.agent.connect("vector").unwrap().execute_batch("CREATE TABLE new_work(x)").unwrap();
    let mut before = world.memory();
    before.files.retain(|path, _| !path.starts_with(b".nexo-tmp-"));
    let decided = world
        .engine
        .recover(&Tenant::default(), &ana(), Some(Decision::Abandon), &Control::default())
        .unwrap();
    assert!(
        matches!(decided.outcome, RecoveryOutcome::Abandoned { pre_recovery: Some(_), .. }),
        "{decided:?}"
    );
    world.assert_memory(&before);
    assert!(world.engine.recover_all(&Control::default()).unwrap().is_empty());
}

/// Would catch: a recovery, or giving it up, that fails for ever because a database is gone.
#[test]
fn a_store_removed_after_the_crash_can_be_decided() {
    for decision in [Decision::Forward, Decision::Abandon] {
        let story = story_that_is_pending();
        let world = &story.world;
        for suffix in ["", "-wal", "-shm"] {
            let path = format!("{}{suffix}", world.agent.store("vector").display());
            let _ = std::fs::remove_file(path);
        }
        let recover = |decision| {
            let (tenant, control) = (Tenant::default(), Control::default());
            world.engine.recover(&tenant, &ana(), decision, &control).unwrap().outcome
        };
        assert!(matches!(recover(None), RecoveryOutcome::Pending { .. }));
        match (decision, recover(Some(decision))) {
            (Decision::Forward, RecoveryOutcome::RolledForward { .. }) => {
                assert!(story.is(&story.then));
            }
            (Decision::Abandon, RecoveryOutcome::Abandoned { .. }) => {
                assert!(!world.agent.store("vector").exists());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Would catch: a doctor that calls what an interrupted restore still needs a leftover, clears it away, or
/// decides what is a person's to decide.
#[test]
fn the_doctor_finishes_a_restore_and_spares_what_it_needs() {
    let doctor = |story: &Story, fix| {
        let report =
            story.world.engine.doctor(&Tenant::default(), Some(&ana()), fix, &Control::default());
        let findings = report.unwrap().findings.into_iter();
        findings.map(|finding| (finding.kind, finding.fixed)).collect::<Vec<_>>()
    };
    let restore_is = |fixed| [(FindingKind::InterruptedRestore, fixed)];
    let story = story_that_is_pending();
    assert_eq!(doctor(&story, false), restore_is(false));
    // And what the dead restore staged, once nothing needs it.
    let mended = doctor(&story, true);
    assert_eq!(mended[..1], restore_is(true));
    assert!(mended.iter().all(|(_, fixed)| *fixed), "{mended:?}");
    assert!(story.is(&story.then));
    assert_eq!(doctor(&story, false), []);

    let story = story_that_is_pending();
    let vector = story.world.agent.connect("vector").unwrap();
    vector.execute_batch("CREATE TABLE new_work(x)").unwrap();
    assert_eq!(doctor(&story, true), restore_is(false));
    assert_eq!(doctor(&story, true), restore_is(false));
    let decision = Some(Decision::Forward);
    story.world.engine.recover(&Tenant::default(), &ana(), decision, &Control::default()).unwrap();
    assert!(story.is(&story.then));
    doctor(&story, true);
    assert_eq!(doctor(&story, false), []);
}
