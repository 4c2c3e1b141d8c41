//! Keeping the right snapshots, on real files.

use std::sync::Arc;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::events::{LifecycleEvent, RecordingPublisher};
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::SnapshotRef;
use nexo_memory_snapshot::retention::{Policy, RetentionConfig, RetentionWorker};
use snapshot_testkit::{FaultHook, FixedClock};

use crate::support::{Home, ana, flip, flip_at, named};

const DAY_MS: i64 = 86_400_000;

fn worker(engine: &Engine, keep: u32) -> RetentionWorker {
    let policy = Policy { keep_count: Some(keep), ..Policy::default() };
    let policies = Arc::new(move |_: &Tenant, _: &_| policy.clone());
    engine.retention_worker(RetentionConfig { policies, ..RetentionConfig::default() })
}

fn ids(engine: &Engine) -> Vec<nexo_memory_snapshot::id::SnapshotId> {
    let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
    listing.snapshots.into_iter().map(|m| m.id).collect()
}

/// Would catch: a policy, or a person, that deletes what somebody holds on to; a pin that outlives
/// nothing; a run that tells nothing.
#[test]
fn pins_and_holds_are_honoured_by_policy_and_person() {
    let home = Home::new();
    let recording = Arc::new(RecordingPublisher::default());
    let engine = home.builder().events(recording.clone()).build().unwrap();
    let taken: Vec<_> = (0..4).map(|_| home.take().id).collect();
    let (tenant, oldest) = (Tenant::default(), SnapshotRef::Id(taken[0]));
    engine.pin(&tenant, None, &oldest, "the good old days").unwrap();
    let refused = engine.delete(&tenant, None, &oldest).unwrap_err();
    assert!(matches!(&refused, SnapshotError::Kept { why, .. } if why.contains("good old")));
    assert_eq!(refused.kind(), ErrorKind::Refused);

    for whose in [None, Some((&tenant, &ana()))] {
        engine.hold(whose, "incident 42").unwrap();
        assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 0);
        let refused = engine.delete(&tenant, None, &SnapshotRef::Id(taken[1])).unwrap_err();
        assert!(refused.to_string().contains("incident 42"), "{refused}");
        engine.release(whose).unwrap();
    }
    recording.lifecycle.lock().clear();
    let report = worker(&engine, 1).tick(&Control::default());
    assert_eq!((report.bundles_deleted, report.errors), (2, 0), "{report:?}");
    assert_eq!(ids(&engine), [taken[3], taken[0]]);
    let told: Vec<bool> = recording
        .lifecycle
        .lock()
        .iter()
        .map(|envelope| matches!(&envelope.event, LifecycleEvent::Gc { report: r, .. } if *r == report))
        .collect();
    assert_eq!(told, [false, false, true], "two deletions, then the run");

    engine.unpin(&tenant, None, &oldest).unwrap();
    assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 1);
    for bad in ["", "two\nlines", &"x".repeat(257)] {
        assert!(engine.pin(&tenant, None, &named("latest"), bad).is_err());
    }
}

/// Would catch: the sound one deleted because a newer one, damaged on disk, counts as good: what
/// 0.1.x did.
#[test]
fn a_bundle_known_to_be_damaged_is_not_the_one_that_is_relied_on() {
    let home = Home::new();
    let engine = home.engine();
    let (sound, damaged) = (home.take(), home.take());
    flip(&damaged.bundle_path);
    engine.verify(&damaged, &Control::default()).unwrap();
    assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 0);
    assert_eq!(ids(&engine), [damaged.id, sound.id]);
    // A truncated one is no snapshot at all, and pushes out nothing.
    std::fs::write(&damaged.bundle_path, b"cut short").unwrap();
    assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 0);
    assert_eq!(ids(&engine), [sound.id]);
    let status = &engine.status(&Tenant::default(), None).unwrap()[0];
    assert_eq!(status.last_good.as_ref().unwrap().id, sound.id);
    assert!(!status.problems.is_empty());
}

/// Would catch: a run that relies on what nobody has read for days, or that reads it and does not compare.
#[test]
fn what_nobody_has_read_for_days_is_read_before_it_is_relied_on() {
    let home = Home::new();
    let (sound, damaged) = (home.take(), home.take());
    let clock = Arc::new(FixedClock::at(damaged.created_at_ms + 8 * DAY_MS));
    let engine = home.builder().clock(clock).build().unwrap();
    flip_at(&damaged.bundle_path, 20);
    assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 0);
    assert_eq!(ids(&engine), [damaged.id, sound.id]);
    flip_at(&damaged.bundle_path, 20);
    engine.verify(&damaged, &Control::default()).unwrap();
    assert_eq!(worker(&engine, 1).tick(&Control::default()).bundles_deleted, 1);
    assert_eq!(ids(&engine), [damaged.id]);
}

/// Would catch: notes that nobody can read taken for "nothing is pinned".
#[test]
fn notes_that_cannot_be_read_stop_every_deletion() {
    let home = Home::new();
    let engine = home.engine();
    (0..3).for_each(|_| _ = home.take());
    engine.pin(&Tenant::default(), Some(&ana()), &named("latest"), "mine").unwrap();
    std::fs::write(home.vault().join("tenants/default/notes/ana.json"), b"{").unwrap();
    let report = worker(&engine, 1).tick(&Control::default());
    assert_eq!((report.bundles_deleted, report.errors), (0, 1), "{report:?}");
    let refused = engine.delete(&Tenant::default(), Some(&ana()), &named("latest~1")).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Integrity);
    assert_eq!(ids(&engine).len(), 3);
}

/// Would catch: a run in one process that removes the work in progress of another, or waits for it.
#[test]
fn an_agent_at_work_is_left_for_the_next_run() {
    let home = Home::new();
    let engine = home.engine();
    (0..3).for_each(|_| _ = home.take());
    let vault = snapshot_vault::Vault::open(DurableFs::default(), &home.vault()).unwrap();
    let agent = vault.agent(&Tenant::default(), &ana());
    let control = Control::default();
    let lock = agent.lock(std::time::Instant::now(), &control).unwrap();
    let staging = lock.staging().unwrap();
    let report = worker(&engine, 1).tick(&control);
    assert_eq!((report.agents_visited, report.bundles_deleted), (1, 0));
    assert!(report.errors == 0, "{report:?}");
    assert!(staging.dir().path().exists());
    drop((staging, lock));
    assert_eq!(worker(&engine, 1).tick(&control).bundles_deleted, 2);
}

/// Would catch: a death at any change of a pin, a hold or a run that leaves notes that cannot be
/// read, or a vault without its pinned and its newest snapshot.
#[test]
fn a_death_at_any_change_leaves_readable_notes_and_what_they_keep() {
    for n in 0.. {
        let home = Home::new();
        let taken: Vec<_> = (0..3).map(|_| home.take().id).collect();
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = home.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
        let pinned = dying.pin(&Tenant::default(), None, &SnapshotRef::Id(taken[0]), "mine");
        let held = dying.hold(Some((&Tenant::default(), &ana())), "wait");
        let released = dying.release(Some((&Tenant::default(), &ana())));
        let _ = worker(&dying, 1).tick(&Control::default());
        let engine = home.engine();
        let left = ids(&engine);
        assert!(left.contains(&taken[2]), "change {n}");
        assert!(pinned.is_err() || left.contains(&taken[0]), "change {n}");
        let status = &engine.status(&Tenant::default(), None).unwrap()[0];
        assert!(status.problems.iter().all(|p| !p.contains("notes")), "{status:?}");
        assert!(held.is_err() || released.is_err() || status.hold.is_none(), "change {n}");
        if !hook.fired() {
            assert_eq!(left, [taken[2], taken[0]]);
            break;
        }
    }
}

/// Would catch: a round that leaves out what is due, reads again what was just read, or trusts a
/// check of the future.
#[test]
fn a_bundle_is_due_once_nobody_has_read_it_for_six_days() {
    let home = Home::new();
    let taken = home.take();
    let due = |days: i64| {
        let clock = Arc::new(FixedClock::at(taken.created_at_ms + days * DAY_MS));
        let engine = home.builder().clock(clock).build().unwrap();
        (!engine.due(std::slice::from_ref(&taken)).is_empty(), engine)
    };
    assert!(!due(6).0, "publishing counts");
    let (is_due, engine) = due(7);
    assert!(is_due);
    engine.verify(&taken, &Control::default()).unwrap();
    assert!(!due(13).0, "six days after the reading");
    assert!(due(14).0);
    assert!(due(-1).0, "a time of the future says nothing");
}
