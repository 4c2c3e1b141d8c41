//! Restores over every kind of live agent: the bundle's state exactly, or a refusal and no change.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, DurableFs, Progress, Step};
use nexo_memory_snapshot::request::{RestoreRequest, RestoreTarget, SnapshotRef};
use snapshot_testkit::compare::Memory;
use snapshot_testkit::{Agent, Journal, Seed, Torture, oracle};

use crate::support::{World, ana, assert_same, engine, restore, restore_with};

fn poison(agent: &Agent) {
    agent.remember("The moon", "is made of cheese, and the operator said so").unwrap();
}

/// Would catch: anything left of what came after the snapshot, and a second restore that fails on
/// what the first one left.
#[test]
fn twice_in_a_row_and_back_again() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    poison(&world.agent);
    let poisoned = world.memory();
    assert!(!before.differences(&poisoned).is_empty());

    let report = world.restore(&meta).unwrap();
    world.assert_memory(&before);
    assert!(world.agent.recall("cheese").unwrap().is_empty());
    world.restore(&meta).unwrap();
    world.assert_memory(&before);

    let pre = report.pre_snapshot.unwrap();
    let req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(pre));
    restore_with(&world.engine, &req).unwrap();
    world.assert_memory(&poisoned);
    assert_eq!(
        world.agent.git().run(&["status", "--porcelain", "--untracked-files=no"]).unwrap(),
        ""
    );
    world.agent.git().run(&["fsck", "--strict"]).unwrap();
}

/// Would catch: stores, folders or state that are only ever replaced and never created, and a
/// journal mode or file mode that gets lost.
#[test]
fn into_an_empty_agent() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    std::fs::set_permissions(world.agent.store("vector"), PermissionsExt::from_mode(0o640))
        .unwrap();
    let meta_640 = world.snapshot();
    let empty = Agent::at(&world.tmp.path().join("elsewhere"), ana());
    let other = engine(&world.vault(), empty.layout(), DurableFs::default());
    let report = restore(&other, &meta).unwrap();
    assert_eq!(report.pre_snapshot, None);
    assert_same(&before, &Memory::read(&empty.layout()).unwrap());
    let mode: String = empty
        .connect("long_term")
        .unwrap()
        .query_row("PRAGMA journal_mode", [], |r| r.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    restore(&other, &meta).unwrap();
    assert_same(&before, &Memory::read(&empty.layout()).unwrap());
    std::fs::remove_dir_all(empty.root()).unwrap();
    restore(&other, &meta_640).unwrap();
    assert_eq!(std::fs::metadata(empty.store("vector")).unwrap().mode() & 0o777, 0o640);
}

/// Would catch: a live `-wal` whose rows come back over the restored pages (80 of 80 times in the
/// predecessor), or connections that keep writing to an unlinked file.
#[test]
fn over_a_live_log_with_connections_open() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    let agent = world.agent.connect("long_term").unwrap();
    agent.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    agent
        .execute_batch("CREATE TABLE poison(x); INSERT INTO poison VALUES (zeroblob(300000))")
        .unwrap();
    world.restore(&meta).unwrap();
    assert!(agent.query_row("SELECT count(*) FROM poison", [], |r| r.get::<_, i64>(0)).is_err());
    world.assert_memory(&before);
    agent.execute_batch("CREATE TABLE after(x); INSERT INTO after VALUES (1)").unwrap();
    drop(agent);
    let again = world.agent.connect("long_term").unwrap();
    assert_eq!(again.query_row("SELECT x FROM after", [], |r| r.get::<_, i64>(0)).unwrap(), 1);
}

/// Would catch: a backup between page sizes that SQLite refuses, and a journal mode turned by the
/// staged copy's header.
#[test]
fn over_other_page_sizes_and_journal_modes() {
    for (journal, page_size) in
        [(Journal::Wal, 8192), (Journal::Delete, 1024), (Journal::Delete, 4096)]
    {
        let world = World::tiny();
        let (before, meta) = (world.memory(), world.snapshot());
        let path = world.agent.store("concepts");
        for suffix in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
        }
        let live = rusqlite::Connection::open(&path).unwrap();
        live.pragma_update(None, "page_size", page_size).unwrap();
        live.pragma_update(None, "journal_mode", journal.as_str()).unwrap();
        live.execute_batch("CREATE TABLE other(x)").unwrap();
        world.restore(&meta).unwrap();
        world.assert_memory(&before);
        let mode: String = live.query_row("PRAGMA journal_mode", [], |r| r.get(0)).unwrap();
        assert_eq!(mode, journal.as_str());
    }
}

/// Would catch: a store that the bundle lacks and that stays live, or one that the live agent lacks
/// and that is not created.
#[test]
fn stores_absent_on_either_side() {
    let world = World::tiny();
    let all = (world.memory(), world.snapshot());
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", world.agent.store("vector").display()));
    }
    let without = world.snapshot();
    world.restore(&all.1).unwrap();
    world.assert_memory(&all.0);
    let open = world.agent.connect("vector").unwrap();
    world.restore(&without).unwrap();
    let tables: i64 =
        open.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
    assert_eq!(tables, 0, "emptied, never unlinked");
}

/// The body of the writers of the next test.
#[test]
fn writer_process() {
    Torture::child().unwrap();
}

/// Would catch: a restore between whose stores a writer gets in, a writer that fails for good, and
/// acknowledged writes that vanish after it.
#[test]
fn under_writers_in_other_processes() {
    for journal in [Journal::Wal, Journal::Delete] {
        let world = World::new(&Seed::tiny(5).with_journal(journal));
        let command = Torture::this_test("restore::writer_process").unwrap();
        let writers = Torture::processes(&world.agent, 2, &command).unwrap();
        let meta = world.snapshot();
        for _ in 0..3 {
            writers.wait_for_steps(3).unwrap();
            world.restore(&meta).unwrap();
            writers.wait_for_steps(3).unwrap();
        }
        writers.stop().unwrap();
        let values = oracle::Values::of_agent(&world.agent).unwrap();
        assert!(values.stores[0] > 0);
        for store in ["long_term", "vector", "concepts", "compactions"] {
            let conn = world.agent.connect(store).unwrap();
            let ok: String = conn.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
            assert_eq!(ok, "ok");
        }
        world.agent.git().run(&["fsck"]).unwrap();
    }
}

/// Would catch: files and folders of root in another user's agent.
#[test]
fn as_root_on_another_users_agent() {
    const USER: u32 = 4242;
    if !rustix_is_root() {
        println!("SKIPPED: needs root");
        assert!(std::env::var_os("CI").is_none(), "CI runs as root");
        return;
    }
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    let roots = [world.agent.memdir_root(), world.agent.sqlite_root()];
    roots.iter().for_each(|root| give(root, USER));
    poison(&world.agent);
    roots.iter().for_each(|root| give(root, USER));
    world.restore(&meta).unwrap();
    world.assert_memory(&before);
    std::fs::remove_file(world.agent.store("vector")).unwrap();
    world.restore(&meta).unwrap();
    for root in roots {
        each_path(&root, &mut |path| {
            let meta = path.symlink_metadata().unwrap();
            assert_eq!((meta.uid(), meta.gid()), (USER, USER), "{}", path.display());
        });
    }
}

/// Would catch: a bundle put over another agent or tenant by its name alone.
#[test]
fn another_agent_or_tenant_is_refused() {
    let world = World::tiny();
    let meta = world.snapshot();
    let bundle = SnapshotRef::Path(meta.bundle_path.clone());
    let bo = nexo_memory_snapshot::id::AgentId::from_static("bo");
    let other = Agent::create(&world.tmp.path().join("bo"), bo.clone(), &Seed::tiny(9)).unwrap();
    let layouts =
        crate::support::Layouts(vec![(ana(), world.agent.layout()), (bo.clone(), other.layout())]);
    let engine = Engine::builder()
        .root(world.vault())
        .layouts(std::sync::Arc::new(layouts))
        .build()
        .unwrap();
    let before = Memory::read(&other.layout()).unwrap();
    let req = RestoreRequest::new(bo, Tenant::default(), bundle.clone());
    assert_eq!(restore_with(&engine, &req).unwrap_err().kind(), ErrorKind::Refused);
    let req = RestoreRequest::new(ana(), Tenant::from_static("acme"), bundle);
    assert_eq!(restore_with(&engine, &req).unwrap_err().kind(), ErrorKind::Refused);
    assert_same(&before, &Memory::read(&other.layout()).unwrap());
}

/// Would catch: a shared database rolled back for everybody who uses it.
#[test]
fn a_store_that_others_use_is_refused_unless_told() {
    let world = World::tiny();
    let conn = world.agent.connect("long_term").unwrap();
    conn.execute_batch(
        "CREATE TABLE rows_of(agent_id TEXT, x); INSERT INTO rows_of VALUES ('ana', 1)",
    )
    .unwrap();
    let meta = world.snapshot();
    conn.execute_batch("INSERT INTO rows_of VALUES ('bo', 2)").unwrap();
    let before = world.memory();
    let refused = world.restore(&meta).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("bo"), "{refused}");
    world.assert_memory(&before);
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    req.whole_store = true;
    let notes = restore_with(&world.engine, &req).unwrap().notes;
    assert!(notes.iter().any(|n| n.contains("bo")), "{notes:?}");
}

/// Would catch: a restore that looks at one boolean and installs a tampered bundle.
#[test]
fn a_damaged_bundle_is_refused_before_anything_changes() {
    let world = World::tiny();
    let meta = world.snapshot();
    poison(&world.agent);
    let before = world.memory();
    let good = std::fs::read(&meta.bundle_path).unwrap();
    for at in [good.len() / 7, good.len() / 2, good.len() - 9] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(&meta.bundle_path, bad).unwrap();
        assert_eq!(world.restore(&meta).unwrap_err().kind(), ErrorKind::Integrity, "byte {at}");
        world.assert_memory(&before);
    }
}

/// Would catch: a plan that changes something, or that is not what is then done.
#[test]
fn a_plan_changes_nothing_and_says_what_will_be_done() {
    let world = World::tiny();
    let meta = world.snapshot();
    poison(&world.agent);
    let before = world.memory();
    let req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Latest(0));
    let planned = world.engine.plan_restore(&req, &Control::default()).unwrap();
    world.assert_memory(&before);
    let plan = planned.plan().clone();
    assert_eq!((plan.from, plan.stores.len(), plan.auto_pre_snapshot), (meta.id, 4, true));
    let report = planned.apply(&Control::default()).unwrap();
    let files = report.memory_files.unwrap();
    // A folder whose time alone is set counts in the plan only.
    let planned = (plan.files.write.len() + plan.files.remove.len()) as u64;
    assert_eq!(files.added + files.changed + files.removed, planned, "{plan}");
}

/// Would catch: a look into a folder that touches the live agent, or that is not the whole memory.
#[test]
fn into_a_folder_to_look_at_first() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    let dir = world.tmp.path().join("look");
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    req.target = RestoreTarget::Dir(dir.clone());
    restore_with(&world.engine, &req).unwrap();
    world.assert_memory(&before);
    let mut layout = world.agent.layout();
    layout.memdir = Some(dir.join("memory_files"));
    for (name, path) in &mut layout.stores {
        *path = dir.join(format!("sqlite/{name}.sqlite"));
    }
    layout.state = nexo_memory_snapshot::layout::StateLayout::json_dir(&dir.join("state"));
    assert_same(&before, &Memory::read(&layout).unwrap());
    assert_eq!(restore_with(&world.engine, &req).unwrap_err().kind(), ErrorKind::Refused);
}

/// Would catch: a restore that waits for ever, or changes a part before it holds all.
#[test]
fn a_writer_that_never_yields_makes_it_busy_and_nothing_changes() {
    let world = World::tiny();
    let meta = world.snapshot();
    poison(&world.agent);
    let before = world.memory();
    let holder = world.agent.connect("vector").unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    req.timeout = std::time::Duration::from_millis(200);
    assert_eq!(restore_with(&world.engine, &req).unwrap_err().kind(), ErrorKind::Busy);
    holder.execute_batch("ROLLBACK").unwrap();
    world.assert_memory(&before);
}

fn rustix_is_root() -> bool {
    let tmp = tempfile::tempdir().unwrap();
    std::fs::metadata(tmp.path()).unwrap().uid() == 0
}

fn give(path: &Path, user: u32) {
    each_path(path, &mut |path| std::os::unix::fs::lchown(path, Some(user), Some(user)).unwrap());
    chown(path, Some(user), Some(user)).unwrap();
}

fn each_path(path: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(path);
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            each_path(&entry.unwrap().path(), visit);
        }
    }
}

/// Would catch: a repository made after the snapshot that stays, or whose commits are lost for good.
#[test]
fn a_repository_that_came_later_is_emptied_and_its_head_kept() {
    let world = World::tiny();
    std::fs::remove_dir_all(world.agent.memdir().join(".git")).unwrap();
    let (before, meta) = (world.memory(), world.snapshot());
    let git = world.agent.git();
    git.run(&["init", "--quiet"]).unwrap();
    git.run(&["add", "MEMORY.md"]).unwrap();
    git.run(&["commit", "--quiet", "--message", "later"]).unwrap();
    let head = git.run(&["rev-parse", "HEAD"]).unwrap();
    world.restore(&meta).unwrap();
    assert_eq!(before.files, world.memory().files);
    assert!(git.run(&["rev-parse", "HEAD"]).is_err(), "its branch is unborn again");
    let kept = git.run(&["for-each-ref", "--format=%(objectname) %(refname)"]).unwrap();
    assert!(kept.starts_with(&format!("{head} refs/nexo/pre-restore/")), "{kept}");
}

/// Would catch: a file taken for a database by its neighbour's name, which then fails every
/// snapshot.
#[test]
fn a_file_that_only_looks_like_a_database_travels_as_a_file() {
    let world = World::tiny();
    std::fs::write(world.agent.memdir().join("todo"), "water the plants").unwrap();
    std::fs::write(world.agent.memdir().join("todo-journal"), "done: nothing").unwrap();
    let (before, meta) = (world.memory(), world.snapshot());
    std::fs::remove_file(world.agent.memdir().join("todo")).unwrap();
    std::fs::remove_file(world.agent.memdir().join("todo-journal")).unwrap();
    world.restore(&meta).unwrap();
    world.assert_memory(&before);
}

/// Writes a file the first time that somebody wants to pause the agent, and never rests for good.
struct Restless(std::path::PathBuf);

impl nexo_memory_snapshot::ports::Clock for Restless {
    fn now_ms(&self) -> i64 {
        // Read while the present state is looked at: as good a moment as any for the agent to write.
        let n = std::fs::read(&self.0).map_or(0, |text| text.len());
        std::fs::write(&self.0, "x".repeat(n + 1)).unwrap();
        1_700_000_000_000
    }
}

/// Would catch: a memory file written while the present state is kept, which is then in no snapshot
/// and overwritten.
#[test]
fn a_memdir_that_never_stands_still_is_not_restored_over() {
    let world = World::tiny();
    let meta = world.snapshot();
    let note = world.agent.memdir().join("restless.md");
    let layouts = crate::support::Layouts(vec![(ana(), world.agent.layout())]);
    let engine = Engine::builder()
        .root(world.vault())
        .layouts(std::sync::Arc::new(layouts))
        .clock(std::sync::Arc::new(Restless(note.clone())))
        .build()
        .unwrap();
    let refused = restore(&engine, &meta).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy, "{refused}");
    assert!(!std::fs::read(&note).unwrap().is_empty());
    world.agent.git().run(&["add", "restless.md"]).unwrap();
}

/// Would catch: an agent that looks whether it was restored, and is told nothing, or of the last time.
#[test]
fn the_epoch_names_the_restore_that_was_last() {
    let world = World::tiny();
    let meta = world.snapshot();
    let epoch = world.vault().join("tenants/default/restore/ana/epoch");
    assert!(!epoch.exists());
    let mut seen = std::collections::BTreeSet::new();
    for restores in 1..=2 {
        world.restore(&meta).unwrap();
        let id: SnapshotId = std::fs::read_to_string(&epoch).unwrap().trim().parse().unwrap();
        seen.insert(id);
        assert_eq!(seen.len(), restores);
    }
}

/// Lets go of git's lock as soon as somebody waits for it.
struct LetsGo(std::path::PathBuf);

impl Progress for LetsGo {
    fn advance(&self, step: Step, _: u64, _: u64) {
        if step == Step::Wait && self.0.exists() {
            std::fs::remove_file(&self.0).unwrap();
        }
    }
}

/// Would catch: a lock of git's that is found only once the stores are the older ones, and then the refs stay the newer
/// ones for as long as it lies there; a lock that goes and is not waited for.
#[test]
fn locks_of_git_stop_a_restore_before_it_changes_anything() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    let restore = |req: &RestoreRequest, control: &Control| {
        world.engine.plan_restore(req, control).unwrap().apply(control)
    };
    for name in ["index.lock", "refs/heads/main.lock", "packed-refs.lock", "HEAD.lock"] {
        poison(&world.agent);
        let poisoned = world.memory();
        let lock = world.agent.memdir().join(".git").join(name);
        std::fs::write(&lock, "").unwrap();
        req.timeout = Duration::from_millis(50);
        let refused = restore(&req, &Control::default()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy, "{name}: {refused}");
        assert!(refused.to_string().contains(name), "{refused}");
        world.assert_memory(&poisoned);
        assert!(!world.agent.memdir().join(".git/index.lock").is_symlink(), "{name}: ours stays");
        req.timeout = Duration::from_secs(60);
        restore(&req, &Control::default().with_progress(Arc::new(LetsGo(lock)))).unwrap();
        world.assert_memory(&before);
    }
}

/// A writer that holds a ref's lock when the restore comes to set it, and has let go when it comes
/// again.
struct HoldsARef {
    lock: std::path::PathBuf,
    seen: std::sync::atomic::AtomicU32,
}

impl snapshot_fs::Hook for HoldsARef {
    fn before(&self, op: &snapshot_fs::Op<'_>) -> std::io::Result<()> {
        if op.kind != snapshot_fs::OpKind::External("set the refs") {
            return Ok(());
        }
        match self.seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => std::fs::write(&self.lock, ""),
            _ => std::fs::remove_file(&self.lock),
        }
    }
}

/// Would catch: a restore that stops half-way because a writer, which goes on once the stores are
/// committed, sets a ref at that moment.
#[test]
fn a_writer_that_sets_a_ref_meanwhile_is_waited_for() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    poison(&world.agent);
    let lock = world.agent.memdir().join(".git/refs/heads/main.lock");
    let hook = std::sync::Arc::new(HoldsARef { lock, seen: Default::default() });
    restore(&world.engine_with(DurableFs::with_hook(hook.clone())), &meta).unwrap();
    assert_eq!(hook.seen.load(std::sync::atomic::Ordering::SeqCst), 2);
    world.assert_memory(&before);
}
