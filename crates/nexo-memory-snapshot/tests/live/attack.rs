//! What hostile bundles, meddling agents and unlucky moments must not bring about.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::layout::{MemoryLayout, StateSource};
use nexo_memory_snapshot::local_fs::{Decision, Engine, RecoveryOutcome};
use nexo_memory_snapshot::ports::{Control, DurableFs, PathResolver};
use nexo_memory_snapshot::request::{RestoreRequest, RestoreTarget, SnapshotRef, SnapshotRequest};
use rusqlite::Connection;
use snapshot_testkit::{Agent, FaultHook};

use crate::crash::{Story, story_that_is_pending};
use crate::support::{World, ana, engine, restore, restore_with};

fn recover(engine: &Engine, decision: Option<Decision>) -> RecoveryOutcome {
    let control = Control::default();
    engine.recover(&Tenant::default(), &ana(), decision, &control).unwrap().outcome
}

fn snapshot(engine: &Engine) -> nexo_memory_snapshot::meta::SnapshotMeta {
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    engine.snapshot(&req, &Control::default()).unwrap()
}

fn database(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |r| r.get(0)).unwrap()
}

/// Would catch: a store of the memdir that is restored through a link which the agent put where its
/// folder was, into somebody else's files.
#[test]
fn a_store_in_the_memdir_is_not_restored_through_a_link() {
    let world = World::tiny();
    let cache = world.agent.memdir().join("own-cache");
    std::fs::create_dir(&cache).unwrap();
    database(&cache.join("x.db"), "CREATE TABLE mine(x)");
    database(&cache.join("y.db"), "CREATE TABLE mine(x)");
    let meta = world.snapshot();
    let outside = world.tmp.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    database(&outside.join("x.db"), "CREATE TABLE theirs(x)");
    std::fs::remove_dir_all(&cache).unwrap();
    symlink(&outside, &cache).unwrap();
    assert_eq!(world.restore(&meta).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(number(&outside.join("x.db"), "SELECT count(*) FROM theirs"), 0);
    assert!(!outside.join("y.db").exists());
    assert!(cache.is_symlink());
}

/// Would catch: a restore that writes its journal although a file stands where a store's folder
/// must be, and can then never be finished.
#[test]
fn a_file_where_a_folder_of_a_store_was_is_refused_before_anything_changes() {
    let world = World::tiny();
    let cache = world.agent.memdir().join("own-cache");
    std::fs::create_dir(&cache).unwrap();
    database(&cache.join("x.db"), "CREATE TABLE mine(x)");
    let meta = world.snapshot();
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&cache, "a file now").unwrap();
    let before = world.memory();
    assert_eq!(world.restore(&meta).unwrap_err().kind(), ErrorKind::Refused);
    world.assert_memory(&before);
    assert_eq!(recover(&world.engine, None), RecoveryOutcome::Nothing);
}

/// Would catch: a recovery that takes a staged copy which is gone for an empty one, and empties the
/// live database with it.
#[test]
fn a_lost_staged_copy_never_empties_a_store() {
    let story = story_that_is_pending();
    let world = &story.world;
    let work = world.vault().join("tenants/default/restore/ana");
    std::fs::remove_dir_all(work.join("staged")).unwrap();
    let stores = || {
        ["long_term", "vector", "concepts", "compactions"]
            .map(|s| number(&world.agent.store(s), "SELECT count(*) FROM sqlite_schema"))
    };
    let before = stores();
    let outcome = recover(&world.engine, None);
    assert!(matches!(outcome, RecoveryOutcome::Pending { .. }), "{outcome:?}");
    assert_eq!(stores(), before);
    let outcome = recover(&world.engine, Some(Decision::Abandon));
    assert!(
        matches!(outcome, RecoveryOutcome::Abandoned { pre_recovery: Some(_), .. }),
        "{outcome:?}"
    );
    assert_eq!(stores(), before);
    assert_eq!(recover(&world.engine, None), RecoveryOutcome::Nothing);
}

/// Would catch: one staged copy lost, the others there.
#[test]
fn one_lost_staged_copy_never_empties_a_store() {
    let story = story_that_is_pending();
    let world = &story.world;
    let staged = world.vault().join("tenants/default/restore/ana/staged");
    let one = std::fs::read_dir(&staged)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.is_file())
        .unwrap();
    std::fs::remove_file(one).unwrap();
    let outcome = recover(&world.engine, None);
    assert!(matches!(outcome, RecoveryOutcome::Pending { .. }), "{outcome:?}");
    let control = Control::default();
    let forward =
        world.engine.recover(&Tenant::default(), &ana(), Some(Decision::Forward), &control);
    assert_eq!(forward.unwrap_err().kind(), ErrorKind::RecoveryPending);
    for store in ["long_term", "vector", "concepts", "compactions"] {
        assert!(number(&world.agent.store(store), "SELECT count(*) FROM sqlite_schema") > 0);
    }
}

/// Would catch: work done after the present state was first kept, rolled over by the decision and
/// in no snapshot.
#[test]
fn what_was_done_while_a_recovery_was_pending_is_kept_before_it_goes_forward() {
    let story = story_that_is_pending();
    let world = &story.world;
    let vector = world.agent.store("vector");
    database(&vector, "CREATE TABLE first_work(x)");
    assert!(matches!(recover(&world.engine, None), RecoveryOutcome::Pending { .. }));
    database(&vector, "CREATE TABLE later_work(x)");
    let outcome = recover(&world.engine, Some(Decision::Forward));
    assert!(matches!(outcome, RecoveryOutcome::RolledForward { .. }), "{outcome:?}");
    let newest = world.engine.list(&Tenant::default(), Some(&ana())).unwrap().snapshots[0].clone();
    let out = world.tmp.path().join("newest.sqlite");
    world.extract(&newest, "sqlite/vector.sqlite", &out);
    assert_eq!(number(&out, "SELECT count(*) FROM later_work"), 0);
    let label = newest.label.unwrap();
    assert!(label.ends_with(&story.meta.id.short().to_string()), "{label}");
}

/// Would catch: a recovery that can neither be finished nor given up because the memdir is gone.
#[test]
fn a_memdir_removed_after_the_crash_can_be_decided() {
    let story = story_that_is_pending();
    let world = &story.world;
    std::fs::remove_dir_all(world.agent.memdir()).unwrap();
    let outcome = recover(&world.engine, None);
    assert!(matches!(outcome, RecoveryOutcome::Pending { .. }), "{outcome:?}");
    let outcome = recover(&world.engine, Some(Decision::Abandon));
    assert!(matches!(outcome, RecoveryOutcome::Abandoned { .. }), "{outcome:?}");
}

/// Would catch: an abandoned recovery that dies half-way and comes back without its staged files,
/// to be finished never.
#[test]
fn death_while_abandoning_leaves_it_pending_whole_or_gone() {
    for n in 0.. {
        let story = story_that_is_pending();
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = story.world.engine_with(DurableFs::with_hook(hook.clone()));
        let control = Control::default();
        let _ = dying.recover(&Tenant::default(), &ana(), Some(Decision::Abandon), &control);
        if !hook.fired() {
            break;
        }
        let after = story.world.engine.recover(&Tenant::default(), &ana(), None, &control);
        let after = after.unwrap_or_else(|e| panic!("change {n}: {e:?}")).outcome;
        match after {
            RecoveryOutcome::RolledForward { .. } => assert!(story.is(&story.then), "change {n}"),
            RecoveryOutcome::Nothing => {}
            other => panic!("change {n}: {other:?}"),
        }
    }
}

/// Would catch: an empty file for a store that makes a recovery ask although nobody worked since.
#[test]
fn an_empty_store_is_rolled_forward_unasked() {
    let mut n = 0;
    let mut forward = 0;
    loop {
        let story = Story::tell();
        let path = story.world.agent.store("concepts");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        std::fs::write(&path, "").unwrap();
        if !story.die_at(n) {
            break;
        }
        for recovery in story.world.engine.recover_all(&Control::default()).unwrap() {
            assert!(
                matches!(recovery.outcome, RecoveryOutcome::RolledForward { .. }),
                "change {n}: {recovery:?}"
            );
            forward += 1;
            assert!(story.is(&story.then));
        }
        n += 1;
    }
    assert!(forward > 3);
}

/// Would catch: a refused restore that wrote to a live database all the same.
#[test]
fn a_busy_restore_leaves_an_empty_file_empty() {
    let world = World::tiny();
    let empty = world.agent.memdir().join("empty.db");
    database(&empty, "CREATE TABLE mine(x)");
    let meta = world.snapshot();
    std::fs::write(&empty, "").unwrap();
    let holder = world.agent.connect("vector").unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    req.timeout = Duration::from_millis(100);
    assert_eq!(restore_with(&world.engine, &req).unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(std::fs::metadata(&empty).unwrap().len(), 0);
    assert!(!world.agent.memdir().join("empty.db-journal").exists());
}

/// Would catch: a store that is created, its journal mode or its mode lost when the restore died in
/// between.
#[test]
fn death_while_stores_are_created_loses_no_mode() {
    let story = Story::tell();
    for store in ["vector", "concepts"] {
        std::fs::set_permissions(story.world.agent.store(store), PermissionsExt::from_mode(0o640))
            .unwrap();
    }
    let meta = story.world.snapshot();
    let expected = story.world.memory();
    for n in 0.. {
        let world = story.world.copy();
        let empty = Agent::at(&world.tmp.path().join("elsewhere"), ana());
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = engine(&world.vault(), empty.layout(), DurableFs::with_hook(hook.clone()));
        let _ = restore(&dying, &meta);
        let sound = engine(&world.vault(), empty.layout(), DurableFs::default());
        let recovered = sound.recover_all(&Control::default()).unwrap();
        if recovered.is_empty() && hook.fired() {
            continue;
        }
        let found = snapshot_testkit::compare::Memory::read(&empty.layout()).unwrap();
        let differences = expected.differences(&found);
        assert!(differences.is_empty(), "change {n}: {differences:#?} {recovered:?}");
        for store in ["vector", "concepts"] {
            let mode = std::fs::metadata(empty.store(store)).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o640, "change {n}: {store}");
        }
        let conn = Connection::open(empty.store("vector")).unwrap();
        let mode: String = conn.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
        assert_eq!(mode, "wal", "change {n}");
        if !hook.fired() {
            break;
        }
    }
}

fn sqlite_state(world: &World, db: &Path) -> MemoryLayout {
    let mut layout = world.agent.layout();
    layout.state.dream_run = Some(StateSource::Sqlite {
        sqlite: db.to_owned(),
        table: "dream_runs".into(),
        order_by: "at".into(),
    });
    layout
}

/// Would catch: a restore that stops half-way, for ever, because a table of state is not there.
#[test]
fn state_rows_without_a_place_are_refused_before_anything_changes() {
    let world = World::tiny();
    let db = world.tmp.path().join("runs.db");
    let engine = engine(&world.vault(), sqlite_state(&world, &db), DurableFs::default());
    let without = snapshot(&engine);
    restore(&engine, &without).unwrap();
    database(&db, "CREATE TABLE other(x)");
    restore(&engine, &without).unwrap();
    database(&db, "CREATE TABLE dream_runs(at INTEGER, x); INSERT INTO dream_runs VALUES (1, 2)");
    let with = snapshot(&engine);
    for sql in ["DROP TABLE dream_runs", "CREATE TABLE dream_runs(at INTEGER, y)"] {
        database(&db, sql);
        let before = world.memory();
        assert_eq!(restore(&engine, &with).unwrap_err().kind(), ErrorKind::Refused, "{sql}");
        world.assert_memory(&before);
        assert_eq!(recover(&engine, None), RecoveryOutcome::Nothing);
    }
    std::fs::remove_file(&db).unwrap();
    assert_eq!(restore(&engine, &with).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(recover(&engine, None), RecoveryOutcome::Nothing);
}

/// Would catch: rows that the agent wrote after the restore, deleted with the state; and a refusal
/// because the live store lacks the table that its restore brings.
#[test]
fn a_state_row_comes_back_with_its_store() {
    let world = World::tiny();
    let db = world.agent.store("long_term");
    database(&db, "CREATE TABLE dream_runs(at INTEGER); INSERT INTO dream_runs VALUES (1)");
    let engine = engine(&world.vault(), sqlite_state(&world, &db), DurableFs::default());
    let meta = snapshot(&engine);
    let before = world.memory();
    database(&db, "DROP TABLE dream_runs");
    restore(&engine, &meta).unwrap();
    world.assert_memory(&before);
    let hook = Arc::new(snapshot_testkit::Recorder::default());
    let watched = nexo_memory_snapshot::local_fs::Engine::builder()
        .root(world.vault())
        .layouts(Arc::new(crate::support::Layouts(vec![(ana(), sqlite_state(&world, &db))])))
        .fs(DurableFs::with_hook(hook.clone()))
        .build()
        .unwrap();
    restore(&watched, &meta).unwrap();
    let changes = hook.changes();
    assert!(!changes.iter().any(|c| format!("{:?}", c.kind).contains("restore the state row")));
}

/// Would catch: a table captured as absent because its name is spelled in another case, and then
/// emptied for it.
#[test]
fn a_state_table_is_found_as_sqlite_finds_it() {
    let world = World::tiny();
    let db = world.tmp.path().join("runs.db");
    database(&db, "CREATE TABLE Dream_Runs(at INTEGER); INSERT INTO Dream_Runs VALUES (1)");
    let engine = engine(&world.vault(), sqlite_state(&world, &db), DurableFs::default());
    let meta = snapshot(&engine);
    restore(&engine, &meta).unwrap();
    assert_eq!(number(&db, "SELECT count(*) FROM Dream_Runs"), 1);
}

/// Would catch: a link to a state file replaced by a file that everybody may write, the file that
/// the agent reads left old.
#[test]
fn a_state_file_behind_a_link_is_restored_behind_it() {
    let world = World::tiny();
    let layout = world.agent.layout();
    let Some(StateSource::Json { json }) = layout.state.extract_cursor else { panic!() };
    let real = world.tmp.path().join("real.json");
    std::fs::rename(&json, &real).unwrap();
    symlink(&real, &json).unwrap();
    std::fs::set_permissions(&real, PermissionsExt::from_mode(0o640)).unwrap();
    let then = std::fs::read(&real).unwrap();
    let meta = world.snapshot();
    std::fs::write(&real, "{}").unwrap();
    world.restore(&meta).unwrap();
    assert!(json.is_symlink());
    assert_eq!(std::fs::read(&real).unwrap(), then);
    assert_eq!(std::fs::metadata(&real).unwrap().mode() & 0o777, 0o640);
}

struct Tenants(MemoryLayout);

impl PathResolver for Tenants {
    fn layout(&self, _: &Tenant, _: &AgentId) -> Option<MemoryLayout> {
        Some(self.0.clone())
    }

    fn agents(&self) -> Vec<(Tenant, AgentId)> {
        ["default", "acme"].map(|tenant| (tenant.parse().unwrap(), ana())).into()
    }
}

fn two_tenants(world: &World) -> Engine {
    let layouts = Arc::new(Tenants(world.agent.layout()));
    Engine::builder().root(world.vault()).layouts(layouts).threads(2).build().unwrap()
}

/// Would catch: a store of another tenant's agent of the same name, restored unasked.
#[test]
fn a_store_shared_with_a_namesake_of_another_tenant_is_refused() {
    let world = World::tiny();
    let meta = world.snapshot();
    let refused = restore(&two_tenants(&world), &meta).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused:?}");
}

/// Would catch: another tenant's agent that lives in the same memdir, sweeping what a restore at
/// work staged there.
#[test]
fn a_sweep_waits_for_whoever_works_on_the_same_memory() {
    let world = World::tiny();
    let engine = two_tenants(&world);
    let staged = world.agent.memdir().join(".nexo-tmp-57a44b52-9d6e-4d2f-8a1b-4c5d0f3a1b4c");
    std::fs::create_dir(&staged).unwrap();
    let fs = DurableFs::default();
    let vault = snapshot_vault::Vault::open(fs, &world.vault()).unwrap();
    let now = Instant::now() + Duration::from_secs(5);
    let targets = [world.agent.memdir()];
    let held = vault.lock_targets(&targets, now, &Control::default()).unwrap();
    let mut req = SnapshotRequest::cli(ana(), "acme".parse().unwrap());
    req.timeout = Duration::from_millis(50);
    let waited = engine.snapshot(&req, &Control::default()).unwrap_err();
    assert_eq!(waited.kind(), ErrorKind::Concurrent);
    assert!(staged.exists());
    drop(held);
}

/// Would catch: folders made by root on the way to a memory, which its owner cannot enter.
#[test]
fn folders_made_for_another_user_are_that_users() {
    let world = World::tiny();
    if std::fs::metadata(world.tmp.path()).unwrap().uid() != 0 {
        return;
    }
    let meta = world.snapshot();
    let home = world.tmp.path().join("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(12345), Some(12345)).unwrap();
    let mut layout = world.agent.layout();
    layout.memdir = Some(home.join("a/b/memory"));
    for (name, path) in &mut layout.stores {
        *path = home.join(format!("c/d/{name}.sqlite"));
    }
    layout.state = nexo_memory_snapshot::layout::StateLayout::json_dir(&home.join("e/state"));
    restore(&engine(&world.vault(), layout, DurableFs::default()), &meta).unwrap();
    for path in [
        "a",
        "a/b",
        "a/b/memory",
        "c",
        "c/d",
        "c/d/vector.sqlite",
        "e",
        "e/state",
        "e/state/extract_cursor.json",
        "a/b/memory/MEMORY.md",
    ] {
        assert_eq!(std::fs::metadata(home.join(path)).unwrap().uid(), 12345, "{path}");
    }
}

/// Would catch: a journal whose paths mean other files where the recovery runs in another folder.
#[test]
fn a_journal_means_the_same_files_wherever_it_is_read() {
    let story = Story::tell();
    let here = std::env::current_dir().unwrap();
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let relative = |path: &Path| up.join(path.strip_prefix("/").unwrap());
    let mut layout = story.world.agent.layout();
    layout.memdir = layout.memdir.map(|p| relative(&p));
    layout.state.extract_cursor = layout.state.extract_cursor.map(|s| match s {
        StateSource::Json { json } => StateSource::Json { json: relative(&json) },
        s => s,
    });
    for n in 0.. {
        let world = &story.world;
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = engine(&world.vault(), layout.clone(), DurableFs::with_hook(hook.clone()));
        let _ = restore(&dying, &story.meta);
        assert!(hook.fired());
        let journal = world.vault().join("tenants/default/restore/ana/journal.json");
        if let Ok(text) = std::fs::read_to_string(journal) {
            let up = format!(":\"{}", up.display());
            assert!(!text.contains(&up), "{text}");
            break;
        }
    }
}

/// Would catch: a wait for ever that panics.
#[test]
fn the_longest_timeout_is_no_overflow() {
    let world = World::tiny();
    let mut req = SnapshotRequest::cli(ana(), Tenant::default());
    req.timeout = Duration::MAX;
    world.engine.snapshot(&req, &Control::default()).unwrap();
}

/// Would catch: a database of the memdir in rollback mode that makes everybody wait for a lock which
/// we hold ourselves.
#[test]
fn a_held_store_of_the_memdir_is_not_waited_for() {
    let world = World::tiny();
    database(&world.agent.memdir().join("x.db"), "CREATE TABLE mine(x)");
    database(&world.agent.memdir().join("y.db"), "CREATE TABLE mine(x)");
    let meta = world.snapshot();
    let report = world.restore(&meta).unwrap();
    assert!(report.writers_held_us.unwrap() < 4_000_000, "{report:?}");
}

/// Would catch: an error while a folder is filled that is hidden by another one while it is cleared,
/// and a folder that stays.
#[test]
fn a_failed_restore_into_a_relative_folder_tells_its_error_and_leaves_nothing() {
    let story = Story::tell();
    let name = format!("nexo-attack-{}", std::process::id());
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(story.meta.id));
    req.target = RestoreTarget::Dir(name.clone().into());
    let hook = Arc::new(FaultHook::failing_at(40, 28));
    let failing = story.world.engine_with(DurableFs::with_hook(hook));
    let failed = restore_with(&failing, &req).unwrap_err();
    let left = Path::new(&name).exists();
    let _ = std::fs::remove_dir_all(&name);
    assert!(!left, "{failed:?}");
    assert!(format!("{failed:?}").contains("28"), "{failed:?}");
}
