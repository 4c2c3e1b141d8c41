//! What is said to be done is synced, and so is whatever must be there before it counts: by the order of the changes
//! alone, whatever a disk would make of it.
#![expect(clippy::unwrap_used, reason = "tests and their helpers")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nexo_memory_snapshot::events::{Fault, Message, Transport, TransportError};
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder, ImportRequest};
use nexo_memory_snapshot::ports::{Control, DefaultPathResolver, DurableFs};
use nexo_memory_snapshot::redaction::RedactionOptions;
use nexo_memory_snapshot::request::{
    DecryptionIdentity, Encryption, EncryptionKey, ExportForm, ExportRequest, RestoreRequest,
    RestoreTarget, Secret, SnapshotRef, SnapshotRequest,
};
use snapshot_fs::{Hook, Op, OpKind, TEMP_PREFIX};
use snapshot_soak::deed::Deed;
use snapshot_soak::scene::{Scene, ana};
use snapshot_testkit::old_bundle::{OldBundle, sha256};
use snapshot_testkit::{FaultHook, FixedClock, Recorded, Recorder, SeqIds};

/// Ends of the names of what a snapshot is.
const SNAPSHOT: [&str; 5] = [".manifest.json", ".deleting", ".tar.zst", ".tar.zst.age", ".sha256"];

/// Follows what a power cut would take now, and what must not be there to take when a change makes something count.
#[derive(Default)]
struct Unsynced(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Files with content, and repositories that git wrote to, that were not synced.
    content: BTreeSet<PathBuf>,
    /// Names that came or went in a folder that was not synced.
    names: BTreeSet<PathBuf>,
    wrong: Vec<String>,
}

/// Nobody listens: every event stays in the outbox.
struct Deaf;

impl Unsynced {
    /// What was not synced when it mattered, or is not now.
    fn found(&self, what: &str) -> Vec<String> {
        let open = self.0.lock().unwrap();
        let left = open.open(None).filter(|path| !is_swept(path));
        let left = left.map(|path| format!("in the end: {}", path.display()));
        open.wrong.iter().cloned().chain(left).map(|why| format!("{what}: {why}")).collect()
    }
}

impl Hook for Unsynced {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        self.0.lock().unwrap().see(op);
        Ok(())
    }
}

impl Transport for Deaf {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        let (subject, to) = (message.subject.clone(), "nobody".to_owned());
        Err(TransportError { subject, to, fault: Fault::Unreachable, source: "deaf".into() })
    }
}

impl Open {
    fn see(&mut self, op: &Op<'_>) {
        let early = self.open(op.from).filter(|path| must_be_there(op, path)).collect::<Vec<_>>();
        if !early.is_empty() {
            let what = format!("{:?} {}", op.kind, op.path.display());
            self.wrong.push(format!("before {what} not synced: {early:?}"));
        }
        match op.kind {
            OpKind::Write => _ = self.content.insert(op.path.to_owned()),
            OpKind::External(what) if is_git(what) => _ = self.content.insert(op.path.to_owned()),
            OpKind::SyncFile => _ = self.content.remove(op.path),
            OpKind::SyncDir => self.names.retain(|name| name.parent() != Some(op.path)),
            OpKind::SyncFs => {
                self.content.retain(|path| is_in_vault(path) != is_in_vault(op.path));
                self.names.retain(|path| is_in_vault(path) != is_in_vault(op.path));
            }
            OpKind::Rename => self.rename(op.from.unwrap_or(op.path), op.path),
            OpKind::Unlink | OpKind::RemoveDir => {
                self.content.retain(|path| !path.starts_with(op.path));
                self.names.retain(|path| !path.starts_with(op.path));
                self.names.insert(op.path.to_owned());
            }
            // git's lock on its index, held by us: without it a recovery takes it again.
            OpKind::Symlink if op.path.ends_with("index.lock") => {}
            OpKind::Create | OpKind::CreateDir | OpKind::Link | OpKind::Symlink => {
                self.names.insert(op.path.to_owned());
            }
            OpKind::SetMeta | OpKind::External(_) => {}
        }
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        if self.content.iter().any(|path| path.starts_with(from)) {
            self.wrong.push(format!("renamed before it was synced: {}", to.display()));
        }
        self.content.retain(|path| !path.starts_with(from) && !path.starts_with(to));
        self.names.retain(|path| !path.starts_with(from));
        // The last step of an event, which settling finds out.
        if to.extension().is_some_and(|ending| ending == "ready") {
            return;
        }
        self.names.insert(to.to_owned());
        if from.parent() != to.parent() {
            self.names.insert(from.to_owned());
        }
    }

    /// What a power cut would take, or bring back.
    fn open<'o>(&'o self, but: Option<&'o Path>) -> impl Iterator<Item = &'o PathBuf> {
        self.content.iter().chain(&self.names).filter(move |path| Some(path.as_path()) != but)
    }
}

/// Whether `path` must be synced before this change: bundle, checksum file and summary come in this order, and go in
/// the reverse one behind the tombstone; a journal comes after all that it needs and before the agent changes, and goes
/// after all that it did; refs come after what they lead to and the mark on their locks; and what a restore lays among the
/// agent's files comes after what says whose it is.
fn must_be_there(op: &Op<'_>, path: &Path) -> bool {
    let is = |path: &Path, ends: &[&str]| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ends.iter().any(|end| name.ends_with(end))
    };
    let within = |name: &str| op.path.components().any(|part| part.as_os_str() == name);
    match op.kind {
        // What is not in the vault is the agent's.
        _ if !within("tenants") && is(path, &["journal.json"]) => true,
        OpKind::CreateDir if !within("tenants") && is_ours(op.path) => {
            is(path, &["staged", "restore-id"])
        }
        OpKind::External("set the refs") => path.starts_with(op.path),
        // What is set aside is no snapshot any more.
        _ if !within("tenants") || within(".quarantine") => false,
        OpKind::Rename if is(op.path, &["journal.json"]) => !is_swept(path) || is_staged(path),
        OpKind::Unlink if is(op.path, &["journal.json", ".deleting"]) => !is_swept(path),
        OpKind::Rename if is(op.path, &SNAPSHOT) => !is_swept(path),
        OpKind::Unlink if is(op.path, &SNAPSHOT) => is(path, &[".manifest.json", ".deleting"]),
        _ => false,
    }
}

/// Changes that git makes, and does not sync.
fn is_git(what: &str) -> bool {
    ["set the refs", "clean up after unfinished git operations"].contains(&what)
}

/// What a sweep clears: staging, and a file that only tries whether it can be made.
fn is_swept(path: &Path) -> bool {
    let within = |name: &str| path.components().any(|part| part.as_os_str() == name);
    within("staging") || is_staged(path) || path.ends_with("probe")
}

/// Vault and agent may be on two file systems, and are here: a sync of the one is none of the other.
fn is_in_vault(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "vault")
}

/// A name of ours among the agent's files.
fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMP_PREFIX))
}

/// What a restore lays ready in the vault.
fn is_staged(path: &Path) -> bool {
    let within = |name: &str| path.components().any(|part| part.as_os_str() == name);
    within("restore") && within("staged")
}

/// An engine of the scene that tells its events to nobody, and what it leaves unsynced.
fn engine(scene: &Scene) -> (Engine, Arc<Unsynced>) {
    let unsynced = Arc::new(Unsynced::default());
    (builder(scene).fs(DurableFs::with_hook(unsynced.clone())).build().unwrap(), unsynced)
}

fn builder(scene: &Scene) -> EngineBuilder {
    let (memdir_root, sqlite_root) = (scene.agent().memdir_root(), scene.agent().sqlite_root());
    let identities = std::fs::read_to_string(scene.identities()).unwrap();
    Engine::builder()
        .root(scene.vault())
        .layouts(Arc::new(DefaultPathResolver { memdir_root, sqlite_root }))
        .clock(Arc::new(FixedClock::at(1_800_000_000_000)))
        .ids(Arc::new(SeqIds::starting_at(1_000)))
        .identity(DecryptionIdentity::AgeIdentities(Secret::new(identities)))
        .deliver(Arc::new(Deaf))
        .threads(1)
}

/// Does `work` in a copy of `scene`, and gives what was not synced when it mattered.
fn unsynced(what: &str, scene: &Scene, work: impl FnOnce(&Scene, &Engine)) -> Vec<String> {
    let copy = scene.copy().unwrap();
    let (engine, hook) = engine(&copy);
    work(&copy, &engine);
    hook.found(what)
}

/// A bundle of 0.1.x, put into the vault.
fn old_bundle(scene: &Scene) -> PathBuf {
    let id = SnapshotId::from_random_bytes([9; 16]);
    let bytes = OldBundle::new(id, &ana(), &Tenant::default())
        .with_file("MEMORY.md", b"the user likes tea\n")
        .to_bytes();
    let path = scene.vault().join(format!("tenants/default/snapshots/ana/{id}.tar.zst"));
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(format!("{}.sha256", path.display()), sha256(&bytes)).unwrap();
    path
}

/// A restore in `copy` that dies before the folder of its journal is synced.
fn die_once_the_journal_is_named(scene: &Scene, copy: &Scene) {
    let restore = |scene: &Scene, hook: Arc<dyn Hook>| {
        let engine = builder(scene).fs(DurableFs::with_hook(hook)).build().unwrap();
        Deed::Restore.perform(scene, &engine)
    };
    let recorder = Arc::new(Recorder::default());
    restore(&scene.copy().unwrap(), recorder.clone()).unwrap();
    let is_journal =
        |change: &Recorded| change.kind == OpKind::Rename && change.path.ends_with("journal.json");
    let named = recorder.changes().iter().position(is_journal).unwrap();
    let death = Arc::new(FaultHook::dying_at(named as u64 + 1));
    assert!(restore(copy, death.clone()).is_err());
    let failed = death.failed();
    assert!(failed[0].kind == OpKind::SyncDir && failed[0].path.ends_with("restore/ana"));
    copy.bury().unwrap();
}

/// Puts back the newest, over whatever is there.
fn restore_latest(engine: &Engine) {
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Latest(0));
    req.auto_pre_snapshot = false;
    let control = Control::default();
    engine.plan_restore(&req, &control).unwrap().apply(&control).unwrap();
}

/// Puts a snapshot into a folder that is made for it.
fn restore_to(engine: &Engine, from: SnapshotRef, to: PathBuf) {
    let mut req = RestoreRequest::new(ana(), Tenant::default(), from);
    req.target = RestoreTarget::Dir(to);
    let control = Control::default();
    engine.plan_restore(&req, &control).unwrap().apply(&control).unwrap();
}

fn oldest() -> SnapshotRef {
    SnapshotRef::Id(Scene::oldest())
}

/// Would catch: a sync that is missing anywhere in a deed, where it matters for what the deed says is done or for what
/// its commit point makes count.
#[test]
fn what_a_deed_says_is_done_is_synced() {
    let scene = Scene::scratch().unwrap();
    let mut wrong = Vec::new();
    for deed in Deed::ALL {
        wrong.extend(unsynced(deed.as_str(), &scene, |scene, engine| {
            deed.perform(scene, engine).unwrap();
        }));
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Would catch: the same where a restore has to make what is not there.
#[test]
fn what_a_restore_makes_anew_is_synced() {
    let scene = Scene::scratch().unwrap();
    let restore = |scene: &Scene, engine: &Engine| Deed::Restore.perform(scene, engine).unwrap();
    let mut wrong = unsynced("no repository", &scene, |scene, engine| {
        std::fs::remove_dir_all(scene.agent().memdir().join(".git")).unwrap();
        restore(scene, engine);
    });
    wrong.extend(unsynced("no agent", &scene, |scene, engine| {
        for root in [scene.agent().memdir_root(), scene.agent().sqlite_root()] {
            std::fs::remove_dir_all(root).unwrap();
        }
        let mut req = RestoreRequest::new(ana(), Tenant::default(), oldest());
        req.auto_pre_snapshot = false;
        let control = Control::default();
        engine.plan_restore(&req, &control).unwrap().apply(&control).unwrap();
    }));
    // The last of the two: the other one, which stays, would be synced after it in the same folder.
    wrong.extend(unsynced("state that was not there", &scene, |scene, engine| {
        let file = scene.agent().state("dream_run");
        let state = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        Deed::Snapshot.perform(scene, engine).unwrap();
        std::fs::write(&file, state).unwrap();
        restore_latest(engine);
        assert!(!file.exists());
    }));
    wrong.extend(unsynced("files alone", &scene, |scene, engine| {
        let agent = scene.agent();
        std::fs::remove_dir_all(agent.memdir().join(".git")).unwrap();
        std::fs::remove_dir_all(agent.sqlite_root()).unwrap();
        Deed::Snapshot.perform(scene, engine).unwrap();
        std::fs::write(agent.memdir().join("notes/0001-0.md"), "changed").unwrap();
        restore_latest(engine);
    }));
    wrong.extend(unsynced("stores alone", &scene, |scene, engine| {
        std::fs::remove_dir_all(scene.agent().memdir_root()).unwrap();
        for state in ["extract_cursor", "dream_run"] {
            std::fs::remove_file(scene.agent().state(state)).unwrap();
        }
        Deed::Snapshot.perform(scene, engine).unwrap();
        std::fs::remove_dir_all(scene.agent().sqlite_root()).unwrap();
        restore_latest(engine);
        restore_to(engine, SnapshotRef::Latest(0), scene.dir().join("elsewhere/anew"));
    }));
    wrong.extend(unsynced("a repository alone", &scene, |scene, engine| {
        let memdir = scene.agent().memdir();
        for entry in std::fs::read_dir(&memdir).unwrap().map(|entry| entry.unwrap()) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == ".git" => {}
                true => std::fs::remove_dir_all(entry.path()).unwrap(),
                false => std::fs::remove_file(entry.path()).unwrap(),
            }
        }
        Deed::Snapshot.perform(scene, engine).unwrap();
        std::fs::remove_dir_all(scene.agent().memdir_root()).unwrap();
        restore_latest(engine);
        assert!(memdir.join(".git").exists());
    }));
    wrong.extend(unsynced("history that was cut off", &scene, |scene, engine| {
        let (git, dot_git) = (scene.agent().git(), scene.agent().memdir().join(".git"));
        std::fs::write(dot_git.join("shallow"), git.run(&["rev-parse", "HEAD"]).unwrap()).unwrap();
        Deed::Snapshot.perform(scene, engine).unwrap();
        std::fs::remove_dir_all(&dot_git).unwrap();
        restore_latest(engine);
        assert!(dot_git.join("shallow").exists());
    }));
    wrong.extend(unsynced("to a folder", &scene, |scene, engine| {
        restore_to(engine, oldest(), scene.dir().join("made/anew"));
    }));
    assert_eq!(wrong, Vec::<String>::new());
}

/// Would catch: the same of what is done to a vault beside.
#[test]
fn what_the_other_verbs_say_is_done_is_synced() {
    let scene = Scene::scratch().unwrap();
    let (tenant, control) = (Tenant::default(), Control::default());
    let files = |scene: &Scene, end: &str| -> PathBuf {
        let folder = scene.vault().join("tenants/default/snapshots/ana");
        folder.join(format!("{}{end}", Scene::oldest()))
    };
    let doctor = |engine: &Engine| {
        let report = engine.doctor(&tenant, Some(&ana()), true, &control).unwrap();
        assert!(report.findings.iter().any(|finding| finding.fixed), "{report:?}");
    };
    let mut wrong = unsynced("pin", &scene, |_, engine| {
        engine.pin(&tenant, Some(&ana()), &oldest(), "why").unwrap();
        engine.hold(None, "why").unwrap();
    });
    wrong.extend(unsynced("delete of a redacted one", &scene, |scene, engine| {
        let maps = scene.vault().join("tenants/default/git-maps/ana");
        std::fs::create_dir_all(&maps).unwrap();
        std::fs::write(maps.join(format!("{}.txt", Scene::oldest())), "").unwrap();
        Deed::Delete.perform(scene, engine).unwrap();
    }));
    wrong.extend(unsynced("erase", &scene, |_, engine| {
        engine.pin(&tenant, Some(&ana()), &oldest(), "why").unwrap();
        engine.erase(&tenant, &ana(), &control).unwrap();
    }));
    wrong.extend(unsynced("erase of one with events alone", &scene, |scene, engine| {
        Deed::Snapshot.perform(scene, engine).unwrap();
        let snapshots = scene.vault().join("tenants/default/snapshots/ana");
        std::fs::remove_dir_all(snapshots).unwrap();
        engine.erase(&tenant, &ana(), &control).unwrap();
    }));
    wrong.extend(unsynced("sum", &scene, |scene, engine| {
        std::fs::remove_file(files(scene, ".tar.zst.sha256")).unwrap();
        doctor(engine);
    }));
    let (first, hook) = (scene.copy().unwrap(), Arc::new(Unsynced::default()));
    let anew = builder(&first).root(first.dir().join("made/anew"));
    let anew = anew.fs(DurableFs::with_hook(hook.clone())).build().unwrap();
    anew.snapshot(&SnapshotRequest::cli(ana(), tenant.clone()), &control).unwrap();
    wrong.extend(hook.found("the first snapshot"));
    // Its publish died, and nobody knows what was synced.
    let adopting = scene.copy().unwrap();
    let (adopter, hook) = engine(&adopting);
    std::fs::remove_file(files(&adopting, ".manifest.json")).unwrap();
    hook.0.lock().unwrap().content.insert(files(&adopting, ".tar.zst"));
    doctor(&adopter);
    wrong.extend(hook.found("adopt"));
    wrong.extend(unsynced("quarantine", &scene, |scene, engine| {
        std::fs::write(files(scene, ".tar.zst"), "damaged").unwrap();
        doctor(engine);
    }));
    assert_eq!(wrong, Vec::<String>::new());
}

/// Would catch: work that is gone on with by what its dead maker named and nobody synced: a power cut takes the name
/// and leaves what came of it.
#[test]
fn what_a_dead_maker_named_is_synced_before_it_is_relied_on() {
    let scene = Scene::scratch().unwrap();
    let (tenant, control) = (Tenant::default(), Control::default());
    let mut wrong = Vec::new();
    let mut follow = |what: &str, copy: &Scene, named: PathBuf| {
        let (engine, hook) = engine(copy);
        assert!(named.exists(), "{what}");
        hook.0.lock().unwrap().names.insert(named);
        let report = engine.doctor(&tenant, Some(&ana()), true, &control).unwrap();
        assert!(report.findings.iter().any(|finding| finding.fixed), "{what}: {report:?}");
        wrong.extend(hook.found(what));
    };
    let named = |scene: &Scene, id: SnapshotId, end: &str| {
        scene.vault().join(format!("tenants/default/snapshots/ana/{id}{end}"))
    };
    let copy = scene.copy().unwrap();
    let tombstone = named(&copy, Scene::oldest(), ".deleting");
    std::fs::rename(named(&copy, Scene::oldest(), ".manifest.json"), &tombstone).unwrap();
    follow("half a delete", &copy, tombstone);
    let copy = scene.copy().unwrap();
    let sealed = named(&copy, Scene::sealed(), ".tar.zst.age");
    std::fs::copy(sealed, named(&copy, Scene::sealed(), ".rekeyed.tar.zst.age")).unwrap();
    follow("half an encryption anew", &copy, named(&copy, Scene::sealed(), ".manifest.json"));
    let copy = scene.copy().unwrap();
    die_once_the_journal_is_named(&scene, &copy);
    follow("half a restore", &copy, copy.vault().join("tenants/default/restore/ana/journal.json"));
    assert_eq!(wrong, Vec::<String>::new());
}

/// Would catch: the same of what leaves a vault, and of what comes from an old one.
#[test]
fn what_leaves_and_what_comes_is_synced() {
    let scene = Scene::scratch().unwrap();
    let (tenant, control) = (Tenant::default(), Control::default());
    let export = |form: ExportForm, redact: Option<RedactionOptions>| {
        move |scene: &Scene, engine: &Engine| {
            let (agent_id, tenant, from) = (ana(), Tenant::default(), oldest());
            let to = scene.dir().join("out/of/it");
            let req = ExportRequest { agent_id, tenant, from, to, form, redact };
            engine.export(&req, &Control::default()).unwrap();
        }
    };
    let reader = EncryptionKey::AgePublicKey(Scene::next_reader().to_owned());
    let mut wrong = unsynced("export", &scene, export(ExportForm::AsIs, None));
    wrong.extend(unsynced("sealed export", &scene, export(ExportForm::For(reader.clone()), None)));
    let redacted = export(ExportForm::AsIs, Some(RedactionOptions::default()));
    wrong.extend(unsynced("redacted export", &scene, redacted));
    wrong.extend(unsynced("redacted snapshot", &scene, |scene, engine| {
        let (git, secret) = (scene.agent().git(), ["AKIA", "Q3EGRVN7", "ZT5LXKWM"].concat());
        std::fs::write(scene.agent().memdir().join("cloud.md"), secret).unwrap();
        git.run(&["add", "-f", "cloud.md"]).unwrap();
        git.run(&["commit", "-q", "-m", "what opens the cloud"]).unwrap();
        let mut req = SnapshotRequest::cli(ana(), Tenant::default());
        req.redact_secrets = true;
        engine.snapshot(&req, &Control::default()).unwrap();
        assert!(scene.vault().join("tenants/default/git-maps/ana").exists());
    }));
    let extracted = unsynced("extract", &scene, |scene, engine| {
        let meta = engine.resolve(&tenant, Some(&ana()), &oldest()).unwrap();
        engine.extract(&meta, None, &scene.dir().join("extracted"), &control).unwrap();
    });
    // Files in the hands of somebody: one sync of all in the end is enough.
    wrong.extend(extracted.into_iter().filter(|why| !why.contains("renamed before")));
    let import = |encrypt: Encryption| {
        move |scene: &Scene, engine: &Engine| {
            let (tenant, agent) = (Tenant::default(), None);
            let req = ImportRequest { tenant, agent, foreign: false, encrypt };
            engine.import(&req, &old_bundle(scene), &Control::default()).unwrap();
        }
    };
    wrong.extend(unsynced("import of 0.1.x", &scene, import(Encryption::Never)));
    wrong.extend(unsynced("sealed import of 0.1.x", &scene, import(Encryption::For(reader))));
    assert_eq!(wrong, Vec::<String>::new());
}
