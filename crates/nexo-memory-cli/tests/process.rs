//! [`ProcessSnapshotter`] over the real program, beside the engine in this process: the same trait, the
//! same answers. And over programs that are none.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test makes its files plainly, and ends where that fails"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError, error_chain};
use nexo_memory_snapshot::id::{AgentId, CreatedBy, SnapshotId, Tenant};
use nexo_memory_snapshot::keys::generate_identity;
use nexo_memory_snapshot::local_fs::LocalFsSnapshotter;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::DefaultPathResolver;
use nexo_memory_snapshot::process::{MAX_DOCUMENT_BYTES, ProcessError, ProcessSnapshotter};
use nexo_memory_snapshot::report::RestoreReport;
use nexo_memory_snapshot::request::{
    DecryptionIdentity, DiffRequest, DiffSide, Encryption, EncryptionKey, ExportForm,
    ExportRequest, RestoreRequest, RestoreTarget, Secret, SnapshotRef, SnapshotRequest,
};
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;
use snapshot_testkit::{Agent, Seed, conformance};
use tempfile::TempDir;

/// An agent, a vault, and two ways to it.
struct World {
    tmp: TempDir,
    agent: Agent,
    program: ProcessSnapshotter,
    engine: LocalFsSnapshotter,
}

impl World {
    fn new() -> Self {
        Self::configured("")
    }

    /// With this configuration for the program.
    fn configured(config: &str) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let agent = Agent::create(tmp.path(), ana(), &Seed::tiny(7)).unwrap();
        let (vault, file) = (tmp.path().join("vault"), tmp.path().join("memory.yaml"));
        fs::write(&file, config).unwrap();
        let program = ProcessSnapshotter::new(assert_cmd::cargo::cargo_bin!("nexo-memory"))
            .root(&vault)
            .config(file)
            .classic_layout(agent.memdir_root(), agent.sqlite_root());
        let layouts = DefaultPathResolver {
            memdir_root: agent.memdir_root(),
            sqlite_root: agent.sqlite_root(),
        };
        let builder = LocalFsSnapshotter::builder().root(vault).layouts(Arc::new(layouts));
        let engine = builder.build_snapshotter().unwrap();
        Self { tmp, agent, program, engine }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    fn take(&self, by: &dyn MemorySnapshotter) -> SnapshotMeta {
        wait(by.snapshot(request())).unwrap()
    }

    fn learn(&self, fact: &str) {
        self.agent.remember(fact, fact).unwrap();
        fs::write(self.agent.memdir().join("notes.md"), fact).unwrap();
    }
}

fn ana() -> AgentId {
    AgentId::from_static("ana")
}

fn bo() -> AgentId {
    AgentId::from_static("bo")
}

fn request() -> SnapshotRequest {
    SnapshotRequest::cli(ana(), Tenant::default())
}

fn restore(from: SnapshotRef) -> RestoreRequest {
    RestoreRequest::new(ana(), Tenant::default(), from)
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A program of which `answer` is all that it does.
fn fake(dir: &Path, answer: &str) -> ProcessSnapshotter {
    fs::write(dir.join("answer"), answer).unwrap();
    ProcessSnapshotter::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake.sh")).root(dir)
}

fn listed(program: &ProcessSnapshotter) -> SnapshotError {
    wait(program.list(Tenant::default(), None)).unwrap_err()
}

/// Why a fake gave no answer.
fn no_answer(dir: &Path, answer: &str) -> (ProcessError, ErrorKind) {
    let error = listed(&fake(dir, answer));
    let kind = error.kind();
    let SnapshotError::Process { source, verb: "list", .. } = error else { panic!("{error:?}") };
    (source, kind)
}

fn fifo(path: &Path) -> String {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    path.to_str().unwrap().to_owned()
}

/// Begins the work of a future, and no more.
fn begin<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>) {
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// What two snapshots of one memory have in common.
fn alike(meta: &SnapshotMeta) -> SnapshotMeta {
    let mut meta = meta.clone();
    let capture = meta.capture.as_mut().unwrap();
    (capture.instant_ms, capture.writers_held_us) = (0, 0);
    (meta.created_at_ms, meta.bundle_size_bytes) = (0, 0);
    meta.id = SnapshotId::nil();
    meta.bundle_path = PathBuf::new();
    meta.bundle_sha256 = "0".repeat(64).parse().unwrap();
    meta
}

/// What two restores of one snapshot have in common.
fn alike_restores(report: &RestoreReport) -> RestoreReport {
    assert!(report.writers_held_us.is_some());
    RestoreReport { writers_held_us: None, pre_snapshot: None, ..report.clone() }
}

/// Would catch: a field that the program does not print or that is read under another name; a flag that
/// means something else than the request.
#[test]
fn every_verb_says_what_the_engine_says() {
    let world = World::new();
    let (program, engine): (&dyn MemorySnapshotter, &dyn MemorySnapshotter) =
        (&world.program, &world.engine);
    let tenant = Tenant::default;

    let (first, second) = (world.take(program), world.take(engine));
    assert_eq!(alike(&first), alike(&second));
    let listing = |by: &dyn MemorySnapshotter, agent| wait(by.list(tenant(), agent)).unwrap();
    fs::write(first.bundle_path.with_file_name("stray"), "").unwrap();
    for agent in [None, Some(ana())] {
        let told = listing(program, agent.clone());
        assert_eq!(told, listing(engine, agent));
        assert_eq!((told.snapshots.len(), told.problems.len()), (2, 1));
    }

    world.learn("the supplier changed banks");
    let diff = DiffRequest {
        agent_id: ana(),
        tenant: tenant(),
        a: DiffSide::Snapshot(SnapshotRef::Id(first.id)),
        b: DiffSide::Live,
    };
    let told = wait(program.diff(diff.clone())).unwrap();
    assert_eq!(told, wait(engine.diff(diff)).unwrap());
    assert_eq!(told.sqlite_summary.long_term_rows_added, 1);

    let verify = |by: &dyn MemorySnapshotter, which: &SnapshotRef| {
        wait(by.verify(tenant(), Some(ana()), which.clone())).unwrap()
    };
    let which = SnapshotRef::Path(first.bundle_path.clone());
    let told = verify(program, &which);
    assert!(told.is_good());
    assert_eq!(told, verify(engine, &which));

    let from = SnapshotRef::Id(first.id);
    let told = wait(program.restore(restore(from.clone()))).unwrap();
    assert!(told.pre_snapshot.is_some());
    world.learn("the supplier changed banks");
    let again = wait(engine.restore(restore(from.clone()))).unwrap();
    assert_eq!(alike_restores(&told), alike_restores(&again));
    let mut bare = restore(from.clone());
    bare.auto_pre_snapshot = false;
    assert_eq!(wait(program.restore(bare)).unwrap().pre_snapshot, None);
    let mut beside = restore(from.clone());
    beside.target = RestoreTarget::Dir(world.path("to look at"));
    assert_eq!(wait(program.restore(beside)).unwrap().sqlite_restored_dbs.len(), 4);
    assert!(world.path("to look at").is_dir());
    let mut over = restore(from.clone());
    (over.agent_id, over.of_agent) = (bo(), Some(ana()));
    let copied = wait(program.restore(over.clone())).unwrap();
    assert_eq!((&copied.agent_id, copied.pre_snapshot), (&bo(), None));
    let again = wait(engine.restore(over)).unwrap();
    assert_eq!(again.agent_id, bo());
    assert!(again.pre_snapshot.is_some(), "there is a bo by then");

    let export = |by: &dyn MemorySnapshotter, name: &str| {
        let to = world.path(name);
        fs::create_dir(&to).unwrap();
        let request = ExportRequest {
            agent_id: ana(),
            tenant: tenant(),
            from: from.clone(),
            to,
            form: ExportForm::AsIs,
            redact: None,
        };
        let written = wait(by.export(request)).unwrap();
        assert!(written.iter().all(|path| path.is_file()), "{written:?}");
        written.iter().map(|path| path.file_name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(export(program, "a"), export(engine, "b"));

    let newest = SnapshotRef::Latest(0);
    let latest = listing(engine, Some(ana())).snapshots.swap_remove(0);
    let deleted = wait(program.delete(tenant(), Some(ana()), newest)).unwrap();
    assert_eq!(deleted, latest);
    assert!(listing(engine, None).snapshots.iter().all(|meta| meta.id != latest.id));
}

/// Would catch: a snapshot that a request wants encrypted and the program takes in the clear; an identity or a
/// passphrase that does not reach it.
#[test]
fn what_a_request_says_of_encryption_reaches_the_program() {
    let (world, (identity, recipient)) = (World::new(), generate_identity());
    let (_, other) = generate_identity();
    let program: &dyn MemorySnapshotter = &world.program;
    let take = |encrypt| {
        let mut request = request();
        request.encrypt = encrypt;
        wait(program.snapshot(request))
    };
    let passphrase = Secret::new("correct horse".to_owned());
    let keys = EncryptionKey::AgePublicKeys(vec![recipient, other]);
    let metas = [
        (take(Encryption::For(keys.clone())).unwrap(), DecryptionIdentity::AgeIdentities(identity)),
        (
            take(Encryption::For(EncryptionKey::Passphrase(passphrase.clone()))).unwrap(),
            DecryptionIdentity::Passphrase(passphrase),
        ),
    ];
    assert_eq!(metas[0].0.encryption.as_ref().unwrap().recipients_fingerprint.len(), 2);
    for (meta, identity) in metas {
        let beside = RestoreTarget::Dir(world.path(&meta.id.to_string()));
        let mut request = restore(SnapshotRef::Id(meta.id));
        request.target = beside;
        let error = wait(program.restore(request.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encryption, "{error}");
        request.decrypt = Some(identity);
        assert_eq!(wait(program.restore(request)).unwrap().sqlite_restored_dbs.len(), 4);
    }

    let nobody = take(Encryption::For(EncryptionKey::AgePublicKeys(Vec::new()))).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Usage);
    let plain = take(Encryption::Never).unwrap();
    let to = world.path("sealed.age");
    let (agent_id, tenant, from) = (ana(), Tenant::default(), SnapshotRef::Id(plain.id));
    let request =
        ExportRequest { agent_id, tenant, from, to, form: ExportForm::For(keys), redact: None };
    let written = wait(program.export(request)).unwrap();
    assert!(fs::read(&written[0]).unwrap().starts_with(b"age-encryption.org/v1"), "{written:?}");
}

/// Would catch: a rule of the trait that is lost between the request and the program.
#[test]
fn the_program_keeps_the_rules_of_the_trait() {
    let world = World::new();
    let subject = conformance::snapshotter::Subject {
        snapshotter: Arc::new(world.program.clone()),
        agent: world.agent.clone(),
        tenant: Tenant::default(),
        scratch: world.path("scratch"),
    };
    wait(conformance::snapshotter::check(&subject)).unwrap();
}

/// Would catch: what asks for a snapshot lost on the way, so that retention counts it as a person's; a label
/// or an argument that becomes a flag, or that a shell reads.
#[test]
fn what_a_request_holds_arrives_as_it_is() {
    let world = World::new();
    for label in ["--help", "-y", "$(touch pwned) `id` \"'; rm", "@latest", "ü\u{202e}"] {
        let mut asked = request();
        asked.label = Some(label.to_owned());
        asked.created_by = CreatedBy::from_static("auto-pre-dream");
        asked.timeout = Duration::MAX;
        let taken = wait(world.program.snapshot(asked)).unwrap();
        assert_eq!(taken.label.as_deref(), Some(label));
        assert_eq!(taken.created_by, Some(CreatedBy::from_static("auto-pre-dream")));
        let named = SnapshotRef::Label(label.to_owned());
        let report = wait(world.program.verify(Tenant::default(), Some(ana()), named)).unwrap();
        assert_eq!(report.bundle, taken.bundle_path);
    }
    for odd in ["latest", "--help", "live", "", "a/b"] {
        let which = SnapshotRef::Prefix(odd.to_owned());
        let error = wait(world.program.delete(Tenant::default(), Some(ana()), which)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{odd:?}: {error}");
    }
    let mut asked = request();
    asked.label = Some("a\0b".to_owned());
    assert_eq!(wait(world.program.snapshot(asked)).unwrap_err().kind(), ErrorKind::Usage);
}

/// Would catch: an error of the program that a caller cannot tell from another, or that lost its hint.
#[test]
fn real_errors_have_the_kinds_of_the_engines() {
    let world = World::new();
    let (program, engine): (&dyn MemorySnapshotter, &dyn MemorySnapshotter) =
        (&world.program, &world.engine);
    let same = |kind: ErrorKind, told: SnapshotError, ours: SnapshotError| {
        assert_eq!((told.kind(), ours.kind()), (kind, kind), "{told}; {ours}");
        assert!(matches!(told, SnapshotError::Told { .. }), "{told:?}");
        told
    };
    let both = |kind, ask: &dyn Fn(&dyn MemorySnapshotter) -> SnapshotError| {
        same(kind, ask(program), ask(engine))
    };
    let taken = world.take(program);
    let only = SnapshotRef::Id(taken.id);

    let bob = || SnapshotRequest::cli(AgentId::from_static("bob"), Tenant::default());
    both(ErrorKind::UnknownAgent, &|by| wait(by.snapshot(bob())).unwrap_err());
    let absent = || SnapshotRef::Prefix("ffff".to_owned());
    let told = both(ErrorKind::UnknownSnapshot, &|by| {
        wait(by.verify(Tenant::default(), Some(ana()), absent())).unwrap_err()
    });
    assert!(told.hint().unwrap().contains("list"), "{told:?}");
    let delete = |by: &dyn MemorySnapshotter| {
        wait(by.delete(Tenant::default(), Some(ana()), only.clone())).unwrap_err()
    };
    both(ErrorKind::Refused, &delete);

    let lock = world.path("vault/tenants/default/locks/ana.agent.lock");
    let held = File::options().write(true).open(lock).unwrap();
    held.lock().unwrap();
    let hasty = || {
        let mut asked = request();
        asked.timeout = Duration::from_millis(1);
        asked
    };
    both(ErrorKind::Concurrent, &|by| wait(by.snapshot(hasty())).unwrap_err());
    held.unlock().unwrap();

    let mut bytes = fs::read(&taken.bundle_path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&taken.bundle_path, bytes).unwrap();
    both(ErrorKind::Integrity, &|by| wait(by.restore(restore(only.clone()))).unwrap_err());
    let verify = |by: &dyn MemorySnapshotter| {
        wait(by.verify(Tenant::default(), Some(ana()), only.clone())).unwrap()
    };
    // Damage that was found is no error of the call.
    let found = verify(program);
    assert_eq!(found.error_kind(), Some(ErrorKind::Integrity));
    assert_eq!(found, verify(engine));
}

/// Would catch: a kind that is read as another, an error of a newer program that is no error.
#[test]
fn every_kind_comes_back_as_it_was_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |kind: &str, code: u8| {
        let document = format!(r#"{{"error": {{"kind": "{kind}", "message": "m", "hint": "h"}}}}"#);
        listed(&fake(dir.path(), &format!("echo '{document}'; exit {code}")))
    };
    for kind in ErrorKind::ALL {
        let error = told(kind.as_str(), kind.exit_code());
        assert_eq!((error.kind(), error.hint().as_deref()), (kind, Some("h")), "{error:?}");
        assert_eq!(error.to_string(), "m");
    }
    assert_eq!(told("of_tomorrow", ErrorKind::Refused.exit_code()).kind(), ErrorKind::Refused);
    assert_eq!(told("of_tomorrow", 99).kind(), ErrorKind::Internal);
}

/// Would catch: half a document, or another's, taken for a result; a host that waits for ever or fills its
/// memory.
#[test]
fn a_program_that_gives_no_answer_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (why, kind) = no_answer(dir, "echo hello; echo why >&2");
    assert!(matches!(&why, ProcessError::Document { said, .. } if said == "why"), "{why:?}");
    assert_eq!(kind, ErrorKind::Internal);
    let empty = r#"{"snapshots": [], "problems": []}"#;
    for half in [r#"{"snapshots": ["#, r#"{"snapshots": []}"#, "[]"] {
        let (why, _) = no_answer(dir, &format!("echo '{half}'"));
        assert!(matches!(why, ProcessError::Document { .. }), "{why:?}");
    }
    let (why, kind) = no_answer(dir, "echo no space >&2; exit 9");
    assert!(matches!(&why, ProcessError::Died { said, .. } if said == "no space"), "{why:?}");
    assert_eq!(kind, ErrorKind::Io);
    let (why, kind) = no_answer(dir, &format!("echo '{empty}'; kill -KILL $$"));
    assert!(matches!(why, ProcessError::Died { .. }), "{why:?}");
    assert_eq!(kind, ErrorKind::Internal);
    // All of stderr is read, its end is kept.
    let (why, _) = no_answer(dir, "head -c 1000000 /dev/zero >&2; echo the end >&2; exit 1");
    assert!(matches!(&why, ProcessError::Died { said, .. } if said.len() < 3000), "{why:?}");
    assert!(why.to_string().ends_with("the end"));
    // The limit, and one past it.
    let padded = |more: usize| {
        let spaces = MAX_DOCUMENT_BYTES - empty.len() + more;
        format!("head -c {spaces} /dev/zero | tr '\\0' ' '; printf '%s' '{empty}'")
    };
    let most = fake(dir, &padded(0));
    assert!(wait(most.list(Tenant::default(), None)).unwrap().snapshots.is_empty());
    assert!(matches!(no_answer(dir, &padded(1)).0, ProcessError::TooMuch));
    // One that never ends is ended.
    assert!(matches!(no_answer(dir, "exec cat /dev/zero").0, ProcessError::TooMuch));

    let missing = ProcessSnapshotter::new(dir.join("no such program"));
    let error = listed(&missing);
    assert_eq!(error.kind(), ErrorKind::Io);
    let told = error_chain(&error);
    assert!(told.contains("no such program list` gave no answer: it cannot be run: "), "{told}");
}

/// Would catch: a program that works on for a caller who left.
#[test]
fn a_dropped_future_ends_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let (ready, ended) = (fifo(&dir.path().join("ready")), fifo(&dir.path().join("ended")));
    let answer = format!(
        "trap 'echo asked > {ended}; exit 130' TERM
         echo > {ready}
         sleep 60 > /dev/null 2>&1 & wait $!
         echo late > {ended}"
    );
    let program = fake(dir.path(), &answer);
    let mut future = program.list(Tenant::default(), None);
    begin(&mut future);
    assert_eq!(fs::read_to_string(ready).unwrap(), "\n");
    drop(future);
    assert_eq!(fs::read_to_string(ended).unwrap(), "asked\n");
    // One that was never begun runs nothing.
    drop(program.list(Tenant::default(), None));
}

/// Would catch: a cancelled snapshot that leaves its agent paused, or half a snapshot behind.
#[test]
fn a_dropped_snapshot_resumes_its_agent() {
    let fifos = tempfile::tempdir().unwrap();
    let (paused, resumed) = (fifo(&fifos.path().join("p")), fifo(&fifos.path().join("r")));
    let world = World::configured(&format!(
        "memory: {{ snapshot: {{ hooks: {{ quiesce: 'echo > {paused}; exec sleep 60', \
         resume: 'echo {{agent}} > {resumed}', deadline_secs: 120 }} }} }}"
    ));
    let mut future = world.program.snapshot(request());
    begin(&mut future);
    assert_eq!(fs::read_to_string(paused).unwrap(), "\n");
    drop(future);
    assert_eq!(fs::read_to_string(resumed).unwrap(), "ana\n");
    // Waits for the lock that the program holds to its end.
    let taken = world.take(&world.engine);
    let listing = wait(world.engine.list(Tenant::default(), None)).unwrap();
    assert_eq!(listing.snapshots.iter().map(|meta| meta.id).collect::<Vec<_>>(), [taken.id]);
    assert!(listing.problems.is_empty(), "{:?}", listing.problems);
}
