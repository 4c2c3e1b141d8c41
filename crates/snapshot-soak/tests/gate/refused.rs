//! What a restore, or its recovery, refuses of what it finds on its way.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::RecoveryOutcome;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use snapshot_fs::{Hook, Op, OpKind};
use snapshot_soak::deed::{Deed, Failure};
use snapshot_soak::scene::Scene;

/// Dies where the first store is committed: every change from there on fails.
#[derive(Default)]
struct DiesAtCommit(AtomicBool);

/// Another program makes a database of the agent's while a restore is staged.
struct Comes {
    from: PathBuf,
    to: PathBuf,
}

impl Hook for DiesAtCommit {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        if op.kind == OpKind::External("commit the store") {
            self.0.store(true, Ordering::SeqCst);
        }
        match self.0.load(Ordering::SeqCst) {
            true => Err(io::Error::other("dead")),
            false => Ok(()),
        }
    }
}

impl Hook for Comes {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let is_staging = op.path.components().any(|part| part.as_os_str() == "staged");
        if is_staging && op.kind == OpKind::Create && !self.to.exists() {
            std::fs::copy(&self.from, &self.to)?;
        }
        Ok(())
    }
}

fn kind(failure: &Failure) -> ErrorKind {
    match failure {
        Failure::Error(e) => e.kind(),
        Failure::Report(report) => unreachable!("{report:?}"),
    }
}

/// Would catch: a database that is written to by nobody's leave, or whose writers nobody holds.
#[test]
fn a_database_that_came_while_a_restore_was_staged_stops_it() {
    let scene = Scene::scratch().unwrap();
    let (from, to) = (scene.agent().store("compactions"), scene.agent().store("concepts"));
    let files = ["", "-wal", "-shm"].map(|end| PathBuf::from(format!("{}{end}", to.display())));
    let remove = || files.iter().for_each(|file| _ = std::fs::remove_file(file));
    remove();
    let before = scene.look().unwrap();
    let engine = scene.engine(DurableFs::with_hook(Arc::new(Comes { from, to })));
    let refused = Deed::Restore.perform(&scene, &engine.unwrap()).unwrap_err();
    assert_eq!(kind(&refused), ErrorKind::Refused, "{refused}");
    remove();
    scene.recover().unwrap();
    let now = scene.look().unwrap();
    assert!(before.memory.differences_after_restore(&now.memory).is_empty());
}

/// A restore that died when its stores were to be committed.
fn interrupted(scene: &Scene) {
    let dying = DurableFs::with_hook(Arc::new(DiesAtCommit::default()));
    let engine = scene.engine(dying).unwrap();
    Deed::Restore.perform(scene, &engine).unwrap_err();
}

/// Would catch: a recovery that looks for work since the crash in some parts of a memory, and rolls over that in
/// another.
#[test]
fn work_on_any_one_part_after_a_crash_is_seen() {
    let scene = Scene::scratch().unwrap();
    type Work = fn(&Scene);
    let parts: [(&str, Work); 3] = [
        ("the git repository", |scene| {
            let memdir = scene.agent().memdir();
            let git = Command::new("git").arg("-C").arg(memdir).args(["branch", "mine"]).status();
            assert!(git.unwrap().success());
        }),
        ("state extract_cursor", |scene| {
            std::fs::write(scene.agent().state("extract_cursor"), "{\"mine\": 1}").unwrap();
        }),
        ("memory file", |scene| {
            std::fs::write(scene.agent().memdir().join("mine.md"), "mine").unwrap();
        }),
    ];
    for (part, work) in parts {
        let copy = scene.copy().unwrap();
        interrupted(&copy);
        work(&copy);
        match copy.recover().unwrap() {
            RecoveryOutcome::Pending { why, .. } => assert!(why.contains(part), "{part}: {why}"),
            outcome => panic!("{part}: {outcome:?}"),
        }
    }
}

/// Would catch: a snapshot that goes although an interrupted restore may need it.
#[test]
fn what_an_interrupted_restore_needs_is_kept() {
    let scene = Scene::scratch().unwrap();
    interrupted(&scene);
    let refused = Deed::Delete.perform(&scene, &scene.engine(DurableFs::default()).unwrap());
    let refused = refused.unwrap_err();
    assert_eq!(kind(&refused), ErrorKind::Refused, "{refused}");
    assert!(refused.to_string().contains("interrupted restore"), "{refused}");
}

/// Would catch: a journal of another program's version that is believed.
#[test]
fn a_journal_of_another_version_is_not_guessed_at() {
    let scene = Scene::scratch().unwrap();
    interrupted(&scene);
    let path = scene.vault().join("tenants/default/restore/ana/journal.json");
    let journal = std::fs::read_to_string(&path).unwrap();
    assert!(journal.contains("\"version\":1,"), "{journal}");
    for (version, expected) in [(0, ErrorKind::RecoveryPending), (2, ErrorKind::SchemaTooNew)] {
        let other = journal.replacen("\"version\":1,", &format!("\"version\":{version},"), 1);
        std::fs::write(&path, other).unwrap();
        let engine = scene.engine(DurableFs::default()).unwrap();
        let refused = engine.recover_all(&Control::default()).unwrap_err();
        assert_eq!(refused.kind(), expected, "version {version}: {refused}");
    }
    std::fs::write(&path, journal).unwrap();
    scene.recover().unwrap();
}
