//! What long operations say of how far they are.

use std::sync::{Arc, Mutex};

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::ImportRequest;
use nexo_memory_snapshot::ports::{Control, DurableFs, Progress, Step};
use nexo_memory_snapshot::request::{
    DiffRequest, DiffSide, Encryption, ExportForm, ExportRequest, RestoreRequest, SnapshotRef,
    SnapshotRequest,
};
use snapshot_testkit::Random;

use crate::support::{World, ana, engine as engine_at};

/// Bytes of a piece of noise, so that there is more than one chunk of everything.
const MUCH: usize = 5 << 20;

/// Hears everything.
#[derive(Default)]
struct Heard(Mutex<Vec<(Step, u64, u64)>>);

impl Progress for Heard {
    fn advance(&self, step: Step, done: u64, total: u64) {
        self.0.lock().unwrap().push((step, done, total));
    }
}

/// What is heard of an operation.
fn heard(operation: impl FnOnce(&Control)) -> Vec<(Step, u64, u64)> {
    let heard = Arc::new(Heard::default());
    operation(&Control::default().with_progress(heard.clone()));
    std::mem::take(&mut *heard.0.lock().unwrap())
}

/// A world in which much was remembered, twice, in files and in stores.
fn world() -> World {
    let world = World::tiny();
    let store = world.agent.connect("concepts").unwrap();
    store.execute("CREATE TABLE much AS SELECT ?1 AS noise", [Random::new(1).bytes(MUCH)]).unwrap();
    for seed in 2..4 {
        let path = world.agent.memdir().join(format!("noise-{seed}"));
        std::fs::write(path, Random::new(seed).bytes(MUCH)).unwrap();
    }
    world.snapshot();
    store.execute("INSERT INTO much VALUES (?1)", [Random::new(4).bytes(MUCH)]).unwrap();
    std::fs::write(world.agent.memdir().join("noise-2"), "less").unwrap();
    world.snapshot();
    world
}

/// Would catch: a long operation that says nothing; a bar that goes back, past its end, or ends before it.
#[test]
fn every_long_operation_says_how_far_it_is() {
    let world = world();
    let (engine, path) = (&world.engine, world.tmp.path());
    let named = |name: &str| name.parse::<SnapshotRef>().unwrap();
    let latest = engine.resolve(&Tenant::default(), Some(&ana()), &named("latest")).unwrap();
    let bundle = path.join("away").join(latest.bundle_path.file_name().unwrap());
    let (agent_id, tenant) = (ana(), Tenant::default());
    let (from, to) = (named("latest"), path.join("away"));
    let export = ExportRequest { agent_id, tenant, from, to, form: ExportForm::AsIs, redact: None };
    let imported = ImportRequest {
        tenant: Tenant::default(),
        agent: None,
        foreign: false,
        encrypt: Encryption::ByPolicy,
    };
    let side = |name| DiffSide::Snapshot(named(name));
    let diff = DiffRequest {
        agent_id: ana(),
        tenant: Tenant::default(),
        a: side("latest~1"),
        b: side("latest"),
    };
    let restore = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Latest(1));
    let other = engine_at(&path.join("other"), world.agent.layout(), DurableFs::default());
    let out = path.join("out");
    let stages = |told: &[(Step, u64, u64)]| told.iter().any(|(step, ..)| *step == Step::Compare);
    type Run<'a> = (&'static str, Step, Box<dyn FnOnce(&Control) + 'a>);
    let runs: Vec<Run<'_>> = vec![
        (
            "verify",
            Step::Verify,
            Box::new(|ctl| assert!(engine.verify(&latest, ctl).unwrap().is_good())),
        ),
        ("export", Step::Seal, Box::new(|ctl| _ = engine.export(&export, ctl).unwrap())),
        ("import", Step::Stage, Box::new(|ctl| _ = other.import(&imported, &bundle, ctl).unwrap())),
        (
            "extract",
            Step::Stage,
            Box::new(|ctl| _ = engine.extract(&latest, None, &out, ctl).unwrap()),
        ),
        ("diff", Step::Stage, Box::new(|ctl| _ = engine.diff(&diff, ctl).unwrap())),
        (
            "snapshot",
            Step::Seal,
            Box::new(|ctl| {
                _ = engine.snapshot(&SnapshotRequest::cli(ana(), Tenant::default()), ctl).unwrap()
            }),
        ),
        (
            "restore",
            Step::Stage,
            Box::new(|ctl| _ = engine.plan_restore(&restore, ctl).unwrap().apply(ctl).unwrap()),
        ),
    ];
    for (name, step, run) in runs {
        let told = heard(run);
        assert!(!stages(&told) || name == "diff", "{name}");
        // Those who know how much there is, one total after another; others only say that they are at it.
        let sized: Vec<_> = told.iter().copied().filter(|(.., total)| *total > 0).collect();
        assert!(sized.iter().filter(|(at, ..)| *at == step).count() > 2, "{name}: {told:?}");
        for bar in sized.chunk_by(|a, b| (a.0, a.2) == (b.0, b.2)) {
            assert!(bar.is_sorted_by_key(|(_, done, _)| done), "{name} goes back: {bar:?}");
            let &(_, done, total) = bar.last().unwrap();
            assert_eq!(done, total, "{name} ends elsewhere: {bar:?}");
        }
    }
}
