//! The async edge over a real agent: what is dropped is cancelled, what is committed completes.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, PortError, StateKind, StateProvider};
use nexo_memory_snapshot::request::{
    DiffRequest, DiffSide, RestoreRequest, SnapshotRef, SnapshotRequest,
};
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;
use snapshot_testkit::conformance;

use crate::support::{Layouts, World, ana};

/// Stops an operation at a known point until the test lets it go on.
struct Gate {
    reached: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

/// The test's side of a [`Gate`].
struct Keeper {
    reached: Receiver<()>,
    go_on: Sender<()>,
}

impl Gate {
    fn new() -> (Arc<Self>, Keeper) {
        let ((reached, is_reached), (go_on, may_go_on)) = (channel(), channel());
        let gate = Self { reached: Mutex::new(reached), go_on: Mutex::new(may_go_on) };
        (Arc::new(gate), Keeper { reached: is_reached, go_on })
    }

    fn pass(&self) {
        // A test that has seen enough holds nobody up.
        let _ = self.reached.lock().unwrap().send(());
        let _ = self.go_on.lock().unwrap().recv();
    }
}

/// While the writers are held and nothing has changed.
impl StateProvider for Gate {
    fn capture(&self, kind: StateKind) -> Result<Option<Vec<u8>>, PortError> {
        if kind == StateKind::ExtractCursor {
            self.pass();
        }
        Ok(None)
    }

    fn restore(&self, _: StateKind, _: Option<&[u8]>) -> Result<(), PortError> {
        Ok(())
    }
}

/// A gate where the stores are committed and the runtime state is not.
struct Late(Arc<Gate>);

impl StateProvider for Late {
    fn capture(&self, _: StateKind) -> Result<Option<Vec<u8>>, PortError> {
        Ok(None)
    }

    fn restore(&self, kind: StateKind, _: Option<&[u8]>) -> Result<(), PortError> {
        if kind == StateKind::ExtractCursor {
            self.0.pass();
        }
        Ok(())
    }
}

fn builder(world: &World) -> EngineBuilder {
    let layouts = Layouts(vec![(ana(), world.agent.layout())]);
    Engine::builder().root(world.vault()).layouts(Arc::new(layouts)).threads(2)
}

fn snapshotter(builder: EngineBuilder) -> Arc<dyn MemorySnapshotter> {
    Arc::new(builder.build_snapshotter().unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn restore_request(meta: &SnapshotMeta) -> RestoreRequest {
    RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id))
}

/// Starts the future, drops it at the gate, lets the work go on, and waits for its end.
fn drop_at_the_gate<T>(
    keeper: Keeper,
    start: impl FnOnce() -> Pin<Box<dyn Future<Output = T> + Send>>,
) {
    let runtime = runtime();
    let entered = runtime.enter();
    {
        let mut working = start();
        let polled = working.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
        keeper.reached.recv().unwrap();
    }
    // Nobody is held up a second time, if the work goes on and comes by again.
    drop(keeper.go_on);
    drop(entered);
    // Waits for the blocking threads.
    drop(runtime);
}

/// Every file of the vault and the agent, but locks.
fn files(world: &World) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![world.tmp.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() && !path.is_symlink() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.retain(|path| path.extension().is_none_or(|e| e != "lock"));
    found.sort();
    found
}

/// Would catch: work that goes on after its future is gone, and staging that it leaves.
#[test]
fn a_dropped_snapshot_leaves_nothing() {
    let world = World::tiny();
    let (memory, before) = (world.memory(), files(&world));
    let (gate, keeper) = Gate::new();
    let snapshotter = snapshotter(builder(&world).state_provider(gate));
    let req = SnapshotRequest::cli(ana(), Tenant::default());
    drop_at_the_gate(keeper, || {
        let snapshotter = snapshotter.clone();
        Box::pin(async move { snapshotter.snapshot(req).await })
    });
    assert_eq!(files(&world), before);
    world.assert_memory(&memory);
}

/// Would catch: a restore that commits although nobody waits for it any more, or leaves its
/// staging, its journal or a pre-restore snapshot of nothing.
#[test]
fn a_dropped_restore_changes_nothing() {
    let world = World::tiny();
    let meta = world.snapshot();
    world.agent.remember("Later", "something that stays").unwrap();
    let (memory, before) = (world.memory(), files(&world));
    let (gate, keeper) = Gate::new();
    let snapshotter = snapshotter(builder(&world).state_provider(gate));
    drop_at_the_gate(keeper, || {
        let (snapshotter, req) = (snapshotter.clone(), restore_request(&meta));
        Box::pin(async move { snapshotter.restore(req).await })
    });
    world.assert_memory(&memory);
    assert_eq!(files(&world), before);
    assert!(world.engine.recover_all(&Control::default()).unwrap().is_empty());
}

/// Would catch: a commit that stops half-way because its future is gone.
#[test]
fn a_restore_dropped_at_its_commit_completes() {
    let world = World::tiny();
    let (memory, meta) = (world.memory(), world.snapshot());
    world.agent.remember("Later", "something that goes").unwrap();
    let (gate, keeper) = Gate::new();
    let snapshotter = snapshotter(builder(&world).state_provider(Arc::new(Late(gate))));
    let req = restore_request(&meta);
    drop_at_the_gate(keeper, || {
        let snapshotter = snapshotter.clone();
        Box::pin(async move { snapshotter.restore(req).await })
    });
    world.assert_memory(&memory);
    assert!(world.engine.recover_all(&Control::default()).unwrap().is_empty());
}

/// Would catch: an operation that hosts cannot reach through the trait object, or that answers
/// something else than the engine.
#[test]
fn a_host_restores_and_compares_through_the_trait() {
    let world = World::tiny();
    let (memory, meta) = (world.memory(), world.snapshot());
    world.agent.remember("Later", "something that goes").unwrap();
    let snapshotter = snapshotter(builder(&world));
    let diff = || DiffRequest {
        agent_id: ana(),
        tenant: Tenant::default(),
        a: DiffSide::Snapshot(SnapshotRef::Id(meta.id)),
        b: DiffSide::Live,
    };
    runtime().block_on(async {
        let changed = snapshotter.diff(diff()).await.unwrap();
        assert!(changed.live && changed.a == meta.id);
        assert_eq!(changed.sqlite_summary.long_term_rows_added, 1);
        assert_eq!((changed.git_summary.commits_between, changed.memory_files.added), (1, 1));
        let report = snapshotter.restore(restore_request(&meta)).await.unwrap();
        assert_eq!((report.from, report.sqlite_restored_dbs.len()), (meta.id, 4));
        let pre = report.pre_snapshot.unwrap();
        let listed = snapshotter.list(Tenant::default(), Some(ana())).await.unwrap().snapshots;
        assert!(listed.iter().any(|m| m.id == pre));
        let same = snapshotter.diff(diff()).await.unwrap();
        assert!(same.stores.values().all(|counts| counts.is_zero()), "{same:?}");
        assert!(same.memory_files.is_zero() && same.git_summary.commits_between == 0);
    });
    world.assert_memory(&memory);
}

/// Would catch: an engine that breaks a rule of its own trait.
#[test]
fn the_engine_keeps_the_rules_of_its_trait() {
    let world = World::tiny();
    let subject = conformance::snapshotter::Subject {
        snapshotter: snapshotter(builder(&world)),
        agent: world.agent.clone(),
        tenant: Tenant::default(),
        scratch: world.tmp.path().join("scratch"),
    };
    runtime().block_on(conformance::snapshotter::check(&subject)).unwrap();
}
