//! One agent's snapshot over the memory of another: only where it is said, and then all of it is the other's.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::events::{LifecycleEvent, RecordingPublisher};
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder, RecoveryOutcome};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{RestoreRequest, RestoreTarget, SnapshotRef};
use snapshot_fs::OpKind;
use snapshot_testkit::compare::Memory;
use snapshot_testkit::{Agent, FaultHook, Recorder, Seed};
use snapshot_vault::Vault;

use crate::support::{Layouts, World, ana, assert_same, restore_with};

/// Ana, of whom there is a snapshot, and bo, whose memory is another.
struct Two {
    world: World,
    bo: Agent,
    meta: SnapshotMeta,
    anas: Memory,
    bos: Memory,
}

impl Two {
    fn new() -> Self {
        let world = World::tiny();
        let bo = Agent::create(&world.tmp.path().join("beside"), bo(), &Seed::tiny(9)).unwrap();
        // Rows that say whose they are must hinder no recovery.
        for (agent, of) in [(&world.agent, "ana"), (&bo, "bo")] {
            let rows = agent.connect("long_term").unwrap();
            rows.execute_batch("CREATE TABLE rows_of(agent_id TEXT)").unwrap();
            rows.execute("INSERT INTO rows_of VALUES (?1)", [of]).unwrap();
        }
        let (meta, anas) = (world.snapshot(), world.memory());
        let bos = Memory::read(&bo.layout()).unwrap();
        assert!(!anas.differences(&bos).is_empty());
        Self { world, bo, meta, anas, bos }
    }

    fn builder(&self) -> EngineBuilder {
        let layouts = vec![(ana(), self.world.agent.layout()), (bo(), self.bo.layout())];
        Engine::builder().root(self.world.vault()).layouts(Arc::new(Layouts(layouts)))
    }

    fn engine(&self) -> Engine {
        self.builder().build().unwrap()
    }

    /// Whether bo's memory is `expected` now; ana's is as it was, her snapshots too.
    #[track_caller]
    fn assert_bos(&self, expected: &Memory) {
        assert_same(expected, &Memory::read(&self.bo.layout()).unwrap());
        self.world.assert_memory(&self.anas);
        assert_eq!(self.listed(&ana()), [self.meta.id]);
    }

    fn listed(&self, agent: &AgentId) -> Vec<SnapshotId> {
        let listing = self.engine().list(&Tenant::default(), Some(agent)).unwrap();
        assert_eq!(listing.problems, []);
        listing.snapshots.into_iter().map(|meta| meta.id).collect()
    }

    /// Ana's snapshot, as a file that lies somewhere else.
    fn carried(&self) -> PathBuf {
        let path = self.world.tmp.path().join("carried.tar.zst");
        std::fs::copy(&self.meta.bundle_path, &path).unwrap();
        path
    }
}

fn bo() -> AgentId {
    AgentId::from_static("bo")
}

/// Asks for a snapshot of ana over bo.
fn over_bo(from: SnapshotRef) -> RestoreRequest {
    let mut req = RestoreRequest::new(bo(), Tenant::default(), from);
    req.of_agent = Some(ana());
    req
}

/// Would catch: a plan that hides whose memory goes over whose; anything of ana's that is changed, locked or
/// told of; a way back that lies with ana.
#[test]
fn what_is_done_is_the_others() {
    let two = Two::new();
    let events = Arc::new(RecordingPublisher::default());
    let engine = two.builder().events(events.clone()).build().unwrap();
    let control = Control::default();
    let planned = engine.plan_restore(&over_bo(SnapshotRef::Latest(0)), &control).unwrap();
    let plan = planned.plan();
    assert_eq!((&plan.agent_id, plan.of_agent.as_ref()), (&bo(), Some(&ana())));
    let text = plan.to_string();
    assert!(text.starts_with(&format!("bo <- {} of ana\n", two.meta.id.short())), "{text}");
    assert!(text.contains("the memory of bo becomes a copy of that of ana\n"), "{text}");

    // Who works on bo hinders it, who works on ana does not.
    let vault = Vault::open(DurableFs::default(), &two.world.vault()).unwrap();
    let locked =
        |agent| vault.agent(&Tenant::default(), &agent).lock(Instant::now(), &control).unwrap();
    let mut impatient = over_bo(SnapshotRef::Latest(0));
    impatient.timeout = Duration::ZERO;
    let busy = locked(bo());
    assert_eq!(restore_with(&engine, &impatient).unwrap_err().kind(), ErrorKind::Concurrent);
    drop(busy);
    let busy = locked(ana());
    let report = planned.apply(&control).unwrap();
    drop(busy);
    let kept = report.pre_snapshot.unwrap();
    assert_eq!((&report.agent_id, report.from), (&bo(), two.meta.id));
    two.assert_bos(&two.anas);
    assert_eq!(two.listed(&bo()), [kept]);
    let told = events.lifecycle.lock().iter().map(|told| told.event.clone()).collect::<Vec<_>>();
    let [LifecycleEvent::Created(created), LifecycleEvent::Restored(restored)] = &told[..] else {
        panic!("{told:?}")
    };
    assert_eq!((&created.agent_id, created.id), (&bo(), kept));
    assert_eq!(restored, &report);

    let mut back = RestoreRequest::new(bo(), Tenant::default(), SnapshotRef::Id(kept));
    let refused = restore_with(&engine, &back).unwrap_err();
    assert!(refused.to_string().contains("ana"), "her rows are in it: {refused}");
    back.whole_store = true;
    restore_with(&engine, &back).unwrap();
    two.assert_bos(&two.bos);
}

/// Would catch: a bundle of somebody else that is taken by its place or name, or that is read before it is
/// refused: damage inside must not be what is told.
#[test]
fn whose_it_is_decides_before_what_is_in_it() {
    let two = Two::new();
    let engine = two.engine();
    let mut bundle = std::fs::read(&two.meta.bundle_path).unwrap();
    let path = two.carried();
    let middle = bundle.len() / 2;
    bundle[middle] ^= 1;
    let refused = |req: &RestoreRequest| restore_with(&engine, req).unwrap_err().kind();
    for damaged in [false, true] {
        if damaged {
            std::fs::write(&path, &bundle).unwrap();
            std::fs::write(&two.meta.bundle_path, &bundle).unwrap();
        }
        for path in [&path, &two.meta.bundle_path] {
            let from = SnapshotRef::Path(path.clone());
            let unsaid = RestoreRequest::new(bo(), Tenant::default(), from.clone());
            assert_eq!(refused(&unsaid), ErrorKind::Refused);
            let mut look = unsaid.clone();
            look.target = RestoreTarget::Dir(two.world.tmp.path().join("look"));
            assert_eq!(refused(&look), ErrorKind::Refused);
            let mut another = over_bo(from.clone());
            another.of_agent = Some(AgentId::from_static("cy"));
            assert_eq!(refused(&another), ErrorKind::Refused);
            let mut elsewhere = over_bo(from);
            elsewhere.tenant = Tenant::from_static("acme");
            assert_eq!(refused(&elsewhere), ErrorKind::Refused);
        }
        // By its id it is none of bo's.
        let id = RestoreRequest::new(bo(), Tenant::default(), SnapshotRef::Id(two.meta.id));
        assert_eq!(refused(&id), ErrorKind::UnknownSnapshot);
    }
    assert_eq!(refused(&over_bo(SnapshotRef::Path(path))), ErrorKind::Integrity);
    assert_eq!(refused(&over_bo(SnapshotRef::Id(two.meta.id))), ErrorKind::Integrity);
    // Where even the manifest cannot be read, the summary beside it says whose it is.
    bundle.fill(0);
    std::fs::write(&two.meta.bundle_path, &bundle).unwrap();
    let from = SnapshotRef::Path(two.meta.bundle_path.clone());
    assert_eq!(refused(&RestoreRequest::new(bo(), Tenant::default(), from)), ErrorKind::Refused);
    two.assert_bos(&two.bos);
    assert_eq!(two.listed(&bo()), []);
}

/// Would catch: a bundle from elsewhere, or a look into a folder, that only an agent's own may be.
#[test]
fn a_bundle_from_elsewhere_and_a_look_work_too() {
    let two = Two::new();
    let engine = two.engine();
    let mut req = over_bo(SnapshotRef::Path(two.carried()));
    req.target = RestoreTarget::Dir(two.world.tmp.path().join("look"));
    assert_eq!(restore_with(&engine, &req).unwrap().agent_id, bo());
    two.assert_bos(&two.bos);
    req.target = RestoreTarget::Live;
    restore_with(&engine, &req).unwrap();
    two.assert_bos(&two.anas);
}

/// Would catch: a recovery that looks for the snapshot with bo, that takes ana's rows in bo's restored store for
/// a reason to refuse, or that is told as ana's.
#[test]
fn a_death_in_it_is_bos_to_recover() {
    let req = over_bo(SnapshotRef::Latest(0));
    let changes = {
        let (two, recorder) = (Two::new(), Arc::new(Recorder::default()));
        let fs = DurableFs::with_hook(recorder.clone());
        restore_with(&two.builder().fs(fs).build().unwrap(), &req).unwrap();
        recorder.changes()
    };
    let commit = OpKind::External("commit the store");
    let first = changes.iter().position(|change| change.kind == commit).unwrap();
    let last = changes.iter().rposition(|change| change.kind == commit).unwrap();
    for at in [first, first + 1, last + 1] {
        let two = Two::new();
        let hook = Arc::new(FaultHook::dying_at(at as u64));
        let dying = two.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
        restore_with(&dying, &req).unwrap_err();
        assert!(
            hook.fired()
                && two.world.vault().join("tenants/default/restore/bo/journal.json").exists()
        );
        two.world.assert_memory(&two.anas);
        // A snapshot of ana has nothing to finish, and finishes nothing.
        let found = two.engine().recover(&Tenant::default(), &ana(), None, &Control::default());
        assert_eq!(found.unwrap().outcome, RecoveryOutcome::Nothing);

        let found = two.engine().recover_all(&Control::default()).unwrap();
        let [recovery] = &found[..] else { panic!("{found:?}") };
        let RecoveryOutcome::RolledForward { report } = &recovery.outcome else {
            panic!("{found:?}")
        };
        assert_eq!((&recovery.agent, &report.agent_id, report.from), (&bo(), &bo(), two.meta.id));
        two.assert_bos(&two.anas);
        assert_eq!(two.listed(&bo()), [report.pre_snapshot.unwrap()]);
    }
}
