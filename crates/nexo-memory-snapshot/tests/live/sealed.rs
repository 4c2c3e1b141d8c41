//! An agent whose snapshots are encrypted: through deaths, recoveries and a change of readers nothing of its
//! memory is left in the clear, and what is told of it tells nothing.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::events::{LifecycleEvent, RecordingPublisher};
use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::keys::{EncryptionKey, generate_identity};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder, RecoveryOutcome};
use nexo_memory_snapshot::manifest::Manifest;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{
    DecryptionIdentity, Encryption, RestoreRequest, Secret, SnapshotRef, SnapshotRequest,
};
use snapshot_fs::{Hook, Op, OpKind};
use snapshot_testkit::{FaultHook, Recorder};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::{World, ana, builder, restore, restore_with, take};

/// A fact that is in the memory and must lie nowhere else in the clear.
const FACT: &str = "the safe behind the painting";

/// Somebody who can read, and the key that is for them.
#[derive(Clone)]
struct Reader {
    identity: Secret,
    key: EncryptionKey,
}

impl Reader {
    fn new() -> Self {
        let (identity, recipient) = generate_identity();
        Self { identity, key: EncryptionKey::AgePublicKey(recipient) }
    }

    fn identity(&self) -> DecryptionIdentity {
        DecryptionIdentity::AgeIdentities(self.identity.clone())
    }
}

/// Builds an engine over `world` whose policy is `reader`'s.
fn sealing(world: &World, reader: &Reader, fs: DurableFs) -> EngineBuilder {
    let key = reader.key.clone();
    builder(&world.vault(), world.agent.layout(), fs)
        .encryption(Arc::new(move |_, _| Some(key.clone())))
}

/// One that also reads.
fn reading(world: &World, reader: &Reader) -> Engine {
    let builder = sealing(world, reader, DurableFs::default());
    builder.identity(reader.identity()).build().unwrap()
}

/// A world that remembers [`FACT`], and a snapshot of it.
fn told() -> (World, Reader, SnapshotMeta) {
    let (world, reader) = (World::tiny(), Reader::new());
    world.agent.remember("Safe", FACT).unwrap();
    let meta = take(&reading(&world, &reader));
    assert!(meta.encrypted);
    (world, reader, meta)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// That no file of the vault holds a memory in the clear, and that all are their owner's alone.
#[track_caller]
fn assert_nothing_in_the_clear(world: &World, when: &str) {
    for path in files(&world.vault()) {
        let content = std::fs::read(&path).unwrap();
        let holds = content.windows(FACT.len()).any(|part| part == FACT.as_bytes());
        assert!(!holds, "{when}: {} holds the memory", path.display());
        assert!(!path.to_string_lossy().ends_with(".tar.zst"), "{when}: {}", path.display());
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600, "{when}: {}", path.display());
    }
}

/// Would catch: a folder or file that others can read while decrypted content lies in it, at any moment of a
/// restore; staging outside of the vault's file system; memory left in the clear after a death and the next
/// command.
#[test]
fn what_a_death_leaves_in_the_clear_is_private_and_swept() {
    let (world, reader, meta) = told();
    world.agent.remember("Poison", "one fact too many").unwrap();
    let (mut in_the_clear, mut n) = (0, 0);
    loop {
        let world = world.copy();
        let hook = Arc::new(FaultHook::dying_at(n));
        let fs = DurableFs::with_hook(hook.clone());
        let engine = sealing(&world, &reader, fs).identity(reader.identity()).build().unwrap();
        let done = restore(&engine, &meta);
        assert!(hook.fired() || done.is_ok(), "change {n}: {done:?}");
        drop(engine);
        // What lies there in the clear now, lies in folders that nobody else enters.
        let mut stack = vec![world.vault()];
        while let Some(dir) = stack.pop() {
            let mode = std::fs::metadata(&dir).unwrap().mode() & 0o777;
            assert_eq!(mode, 0o700, "change {n}: {}", dir.display());
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                let meta = std::fs::symlink_metadata(&path).unwrap();
                match meta.is_dir() {
                    true => stack.push(path),
                    false if path.to_string_lossy().ends_with(".lock") => {}
                    false => {
                        let content = std::fs::read(&path).unwrap();
                        let fact = FACT.as_bytes();
                        in_the_clear += usize::from(content.windows(fact.len()).any(|w| w == fact));
                    }
                }
            }
        }
        // A temporary memory file lies beside its target. (Packs have git's own mode, as the final ones do.)
        for path in files(&world.agent.memdir()) {
            let pack = path.starts_with(world.agent.memdir().join(".git"));
            if !pack && path.file_name().unwrap().to_string_lossy().starts_with(".nexo-tmp-") {
                let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
                assert_eq!(mode, 0o600, "change {n}: {}", path.display());
            }
        }
        // No identity is needed to finish what was begun.
        let healthy = sealing(&world, &reader, DurableFs::default()).build().unwrap();
        healthy.recover_all(&Control::default()).unwrap();
        take(&healthy);
        assert_nothing_in_the_clear(&world, &format!("after change {n}"));
        let left = files(&world.agent.memdir());
        let left = left.iter().filter(|p| p.to_string_lossy().contains(".nexo-tmp-")).count();
        assert_eq!(left, 0, "change {n}");
        if !hook.fired() {
            break;
        }
        // Every one of them is the business of the tests of crashes.
        n += 7;
    }
    assert!(
        n > 100 && in_the_clear > 5,
        "{n} deaths saw {in_the_clear} files in the clear: too few"
    );
}

/// Would catch: a bundle that nobody here can open, of which the doctor says that all is well though it was cut.
#[test]
fn the_doctor_sees_the_length_of_what_it_cannot_open() {
    let (world, reader, meta) = told();
    let stranger = sealing(&world, &reader, DurableFs::default()).build().unwrap();
    let found = || {
        let report = stranger.doctor(&Tenant::default(), Some(&ana()), false, &Control::default());
        report.unwrap().findings.into_iter().map(|f| (f.path, f.why)).collect::<Vec<_>>()
    };
    let bytes = std::fs::read(&meta.bundle_path).unwrap();
    std::fs::write(&meta.bundle_path, [bytes.as_slice(), b"x"].concat()).unwrap();
    let longer = found();
    let told = |(path, why): &(PathBuf, String)| *path == meta.bundle_path && why.contains("bytes");
    assert!(longer.iter().any(told), "{longer:?}");
    std::fs::write(&meta.bundle_path, bytes).unwrap();
    assert!(!found().iter().any(told));
}

/// Would catch: the way back of an encrypted agent, kept in the clear: before a restore, or before a recovery
/// over work that somebody did since.
#[test]
fn what_is_kept_before_a_restore_and_a_recovery_is_encrypted() {
    let (world, reader, meta) = told();
    let engine = reading(&world, &reader);
    world.agent.remember("Poison", "one fact too many").unwrap();
    let then = restore(&engine, &meta).unwrap();
    let kept = |id| {
        let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
        let meta = listing.snapshots.into_iter().find(|meta| meta.id == id).unwrap();
        assert!(meta.encrypted, "{meta:?}");
        assert!(engine.manifest(&meta).unwrap().label.is_some(), "its label is inside");
        assert_eq!(meta.label, None);
    };
    kept(then.pre_snapshot.unwrap());

    // A restore that dies with its stores committed, and an agent that works on.
    let recorder = Arc::new(Recorder::default());
    let (copy, fs) = (world.copy(), DurableFs::with_hook(recorder.clone()));
    copy.agent.remember("Poison", "one fact too many").unwrap();
    world.agent.remember("Poison", "one fact too many").unwrap();
    restore(&sealing(&copy, &reader, fs).identity(reader.identity()).build().unwrap(), &meta)
        .unwrap();
    let commit = OpKind::External("commit the store");
    let last = recorder.changes().iter().rposition(|change| change.kind == commit).unwrap();
    let hook = Arc::new(FaultHook::dying_at(last as u64 + 1));
    let fs = DurableFs::with_hook(hook.clone());
    let dying = sealing(&world, &reader, fs).identity(reader.identity()).build().unwrap();
    let _ = restore(&dying, &meta);
    assert!(hook.fired());
    drop(dying);
    world.agent.connect("vector").unwrap().execute_batch("CREATE TABLE new_work(x)").unwrap();
    // Whoever recovers has no identity.
    let healthy = sealing(&world, &reader, DurableFs::default()).build().unwrap();
    let found = healthy.recover(&Tenant::default(), &ana(), None, &Control::default()).unwrap();
    let RecoveryOutcome::Pending { pre_recovery: Some(id), .. } = found.outcome else {
        panic!("{found:?}")
    };
    kept(id);
}

/// Would catch: a change of readers that dies and leaves a snapshot that nobody can read, two that count, or
/// one that says it is another.
#[test]
fn death_at_any_change_of_a_rekeying_leaves_the_old_or_the_new() {
    let (world, reader, meta) = told();
    let next = Reader::new();
    let (mut old, mut new, mut n) = (0, 0, 0);
    loop {
        let world = world.copy();
        let hook = Arc::new(FaultHook::dying_at(n));
        let fs = DurableFs::with_hook(hook.clone());
        let engine = sealing(&world, &reader, fs).identity(reader.identity()).build().unwrap();
        let to = Encryption::For(next.key.clone());
        let here = engine.list(&Tenant::default(), Some(&ana())).unwrap().snapshots.remove(0);
        let done = engine.rekey(&here, &to, &Control::default());
        assert!(hook.fired() || done.is_ok(), "change {n}: {done:?}");
        drop(engine);
        let opens = |by: &Reader| {
            let engine = reading(&world, by);
            let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
            assert_eq!(listing.snapshots.len(), 1, "change {n}: {listing:?}");
            let meta = &listing.snapshots[0];
            assert_eq!(meta.id, here.id);
            match engine.verify(meta, &Control::default()) {
                Ok(report) => {
                    assert!(report.is_good(), "change {n}: {report:?}");
                    true
                }
                Err(e) if e.kind() == ErrorKind::Encryption => false,
                Err(e) => panic!("change {n}: {e}"),
            }
        };
        let (by_old, by_new) = (opens(&reader), opens(&next));
        assert!(by_old != by_new, "change {n}: old {by_old}, new {by_new}");
        assert!(by_new || done.is_err(), "change {n}: it said that it was done");
        (old, new) = (old + u32::from(by_old), new + u32::from(by_new));
        // The next command clears away the one that does not count.
        let (healthy, fact) = (reading(&world, &next), "next");
        healthy.snapshot(&labelled(fact), &Control::default()).unwrap();
        let bundles = files(&world.vault().join("tenants/default/snapshots"));
        assert_eq!(bundles.len(), 6, "change {n}: {bundles:?}");
        assert_eq!(
            (opens_one(&world, &reader, here.id), opens_one(&world, &next, here.id)),
            (by_old, by_new)
        );
        if !hook.fired() {
            break;
        }
        n += 1;
    }
    assert!(old > 3 && new > 2, "{old} old, {new} new");
    assert_eq!(
        meta.id,
        reading(&world, &reader).list(&Tenant::default(), None).unwrap().snapshots[0].id
    );
}

/// A disk that turns a bit of what was written last.
struct Rotting;

impl Hook for Rotting {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let written = std::fs::metadata(op.path).map_or(0, |meta| meta.len());
        if op.kind == OpKind::Write && written > 1000 {
            let file = File::options().read(true).write(true).open(op.path)?;
            let mut byte = [0];
            file.read_exact_at(&mut byte, written - 1)?;
            file.write_all_at(&[byte[0] ^ 1], written - 1)?;
        }
        Ok(())
    }
}

/// Would catch: a new file that takes the place of the old one before it was read back.
#[test]
fn what_was_written_badly_takes_nobodys_place() {
    let (world, reader, meta) = told();
    let fs = DurableFs::with_hook(Arc::new(Rotting));
    let engine = sealing(&world, &reader, fs).identity(reader.identity()).build().unwrap();
    let to = Encryption::For(Reader::new().key);
    let failed = engine.rekey(&meta, &to, &Control::default()).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Integrity, "{failed}");
    let report = reading(&world, &reader).verify(&meta, &Control::default()).unwrap();
    assert!(report.is_good(), "{report:?}");
}

fn labelled(label: &str) -> SnapshotRequest {
    let mut request = SnapshotRequest::cli(ana(), Tenant::default());
    request.label = Some(label.to_owned());
    request
}

fn opens_one(world: &World, by: &Reader, id: nexo_memory_snapshot::id::SnapshotId) -> bool {
    let engine = reading(world, by);
    let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
    let meta = listing.snapshots.iter().find(|meta| meta.id == id).unwrap();
    engine.manifest(meta).is_ok()
}

/// Would catch: a request's own identity that is not used, or that is kept for the next request.
#[test]
fn a_request_brings_its_own_identity() {
    let (world, reader, meta) = told();
    let engine = sealing(&world, &reader, DurableFs::default()).build().unwrap();
    assert_eq!(restore(&engine, &meta).unwrap_err().kind(), ErrorKind::Encryption);
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    req.decrypt = Some(reader.identity());
    restore_with(&engine, &req).unwrap();
    assert_eq!(restore(&engine, &meta).unwrap_err().kind(), ErrorKind::Encryption);
}

/// Everything that is said to `tracing`, in one text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        writeln!(self.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut self.clone());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Names, labels, digests, objects and sizes of what is inside.
fn secrets(manifest: &Manifest) -> BTreeSet<String> {
    let mut secrets: BTreeSet<String> = manifest.label.iter().cloned().collect();
    for artifact in &manifest.artifacts {
        secrets.insert(artifact.path.to_string());
        secrets.insert(artifact.sha256.to_string());
        secrets.extend(artifact.path.to_string().rsplit('/').next().map(str::to_owned));
        secrets.extend((artifact.size_bytes > 99_999).then(|| artifact.size_bytes.to_string()));
    }
    let git = manifest.git.as_ref().unwrap();
    secrets.extend(git.head_oid.iter().map(ToString::to_string));
    secrets.extend(git.head_subject.iter().cloned());
    secrets.extend(git.refs.iter().map(|one| one.name.clone()));
    secrets.retain(|secret| secret.len() > 3);
    // Shorter numbers stand in ids and times by chance.
    assert!(secrets.iter().any(|secret| secret.parse::<u64>().is_ok()), "no size is looked for");
    secrets
}

/// Would catch: an event, a log line, a metric or an error that tells a name, a label, a digest, an object's
/// id or a size of what is inside.
#[test]
fn events_logs_metrics_and_errors_tell_nothing_of_what_is_inside() {
    let (world, reader, _) = told();
    let (told, log) = (Arc::new(RecordingPublisher::default()), Log::default());
    let with = |identity: Option<DecryptionIdentity>| {
        let builder = sealing(&world, &reader, DurableFs::default()).events(told.clone());
        identity.into_iter().fold(builder, EngineBuilder::identity).build().unwrap()
    };
    let engine = with(Some(reader.identity()));
    let (control, tenant) = (Control::default(), Tenant::default());
    let mut errors = Vec::new();
    let meta = tracing::subscriber::with_default(log.clone(), || {
        let meta = engine.snapshot(&labelled("her birthday"), &control).unwrap();
        let report = restore(&engine, &meta).unwrap();
        assert!(!report.sqlite_restored_dbs.is_empty(), "who restores is told");
        assert!(engine.verify(&meta, &control).unwrap().is_good());
        for identity in [None, Some(Reader::new().identity())] {
            let blind = with(identity);
            errors.push(format!("{:?}", blind.verify(&meta, &control)));
            errors.push(restore(&blind, &meta).unwrap_err().to_string());
            errors.push(blind.manifest(&meta).unwrap_err().to_string());
            errors.push(format!("{:?}", blind.status(&tenant, None).unwrap()));
            errors.push(format!("{:?}", blind.list(&tenant, None).unwrap()));
            errors.push(blind.prometheus());
            let doctored = blind.doctor(&tenant, Some(&ana()), false, &control).unwrap();
            errors.push(format!("{:?}", doctored.findings));
        }
        meta
    });
    let manifest = engine.manifest(&meta).unwrap();
    let secrets = secrets(&manifest);
    assert!(secrets.len() > 12 && secrets.contains("her birthday"), "{secrets:?}");
    let events = told.lifecycle.lock().clone();
    let restored = events.iter().any(|told| matches!(told.event, LifecycleEvent::Restored(_)));
    assert!(events.len() >= 3 && restored, "{events:?}");
    let log = log.0.lock().unwrap().clone();
    assert!(log.contains("snapshot_id"), "nothing was logged: {log}");
    let mut open: Vec<String> =
        events.iter().map(|told| serde_json::to_string(told).unwrap()).collect();
    open.extend([log, engine.prometheus(), serde_json::to_string(&meta).unwrap()]);
    open.extend(errors);
    for text in &open {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} is told: {text}");
        }
        let key = reader.identity.expose().lines().last().unwrap();
        assert!(!text.contains(key), "the identity is told: {text}");
    }
}
