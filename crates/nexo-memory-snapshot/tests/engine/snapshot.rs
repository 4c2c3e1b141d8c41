//! Taking snapshots, reading them back, and every way not to get one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::local_fs::{Engine, ProblemKind};
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::report::Inside;
use nexo_memory_snapshot::request::SnapshotRequest;
use snapshot_vault::Vault;

use crate::support::{CancelAt, Fail, Home, ana, flip, request};

#[test]
fn a_snapshot_is_listed_verified_and_read_back() {
    let home = Home::new();
    let engine = home.engine();
    let mut req = request();
    req.label = Some("before the dream".into());
    let meta = engine.snapshot(&req, &Control::default()).unwrap();
    let capture = meta.capture.clone().unwrap();
    assert_eq!(capture.instant_ms, meta.created_at_ms);
    assert_eq!(capture.stores[0].store.as_str(), "long_term");

    let listed = engine.list(&Tenant::default(), Some(&ana())).unwrap();
    assert_eq!(listed.problems, []);
    assert_eq!(listed.snapshots.len(), 1);
    let listed = &listed.snapshots[0];
    assert_eq!(listed.label.as_deref(), Some("before the dream"));
    assert_eq!(
        (listed.id, listed.bundle_sha256, &listed.bundle_path),
        (meta.id, meta.bundle_sha256, &meta.bundle_path)
    );
    assert!(engine.verify(listed, &Control::default()).unwrap().is_good());

    let manifest = engine.manifest(listed).unwrap();
    assert_eq!(manifest.created_by.as_str(), "cli");
    for tool in ["nexo_version", "sqlite", "libgit2", "zstd"] {
        assert!(manifest.tool_versions.contains_key(tool), "{tool}");
    }
    let path = BundlePath::parse("sqlite/long_term.sqlite").unwrap();
    let copy = home.path().join("copy.sqlite");
    let mut file = std::fs::File::create(&copy).unwrap();
    let size = engine.read_artifact(listed, &path, &mut file, &Control::default()).unwrap();
    assert_eq!(size, manifest.artifact(&path).unwrap().size_bytes);
    let fact: String = rusqlite::Connection::open(&copy)
        .unwrap()
        .query_row("SELECT text FROM facts", [], |row| row.get(0))
        .unwrap();
    assert_eq!(fact, "water is wet");
}

#[test]
fn an_agent_of_which_nothing_is_found_leaves_no_trace() {
    let home = Home::new();
    let bob = SnapshotRequest::cli(AgentId::from_static("bob"), Tenant::default());
    let error = home.engine().snapshot(&bob, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownAgent);
    assert!(error.to_string().contains("bob/long_term.sqlite"), "{error}");
    assert!(error.hint().is_some());
    assert!(!home.vault().exists());
}

#[test]
fn a_hostile_label_is_refused_before_anything_is_made() {
    let home = Home::new();
    let mut req = request();
    req.label = Some("\u{1b}[2J".into());
    let error = home.engine().snapshot(&req, &Control::default()).unwrap_err();
    assert!(matches!(error, SnapshotError::Label { .. }) && error.kind() == ErrorKind::Usage);
    assert!(!home.vault().exists());
}

#[test]
fn an_engine_needs_a_root() {
    assert!(matches!(Engine::builder().build(), Err(SnapshotError::NoRoot)));
}

#[test]
fn who_waits_for_a_lock_gives_up_in_time() {
    let home = Home::new();
    let vault = Vault::open(DurableFs::default(), &home.vault()).unwrap();
    let mut req = request();
    req.timeout = Duration::ZERO;
    let attempt = || home.engine().snapshot(&req, &Control::default()).map_err(|e| e.kind());

    let held = vault.agent(&Tenant::default(), &ana());
    let held = held.lock(Instant::now(), &Control::default()).unwrap();
    assert_eq!(attempt().unwrap_err(), ErrorKind::Concurrent);
    drop(held);
    // Another tenant's agent that resolves to the same file.
    let store = home.path().join("ana/long_term.sqlite");
    let held = vault.lock_targets(&[store], Instant::now(), &Control::default()).unwrap();
    assert_eq!(attempt().unwrap_err(), ErrorKind::Concurrent);
    drop(held);
    req.timeout = Duration::from_secs(30);
    home.engine().snapshot(&req, &Control::default()).unwrap();
}

#[test]
fn cancel_and_deadline_leave_nothing() {
    let home = Home::new();
    let cancelled = Control::default();
    cancelled.cancel();
    let late = Control::default().with_deadline(Instant::now());
    for (control, kind) in
        [(cancelled, ErrorKind::Interrupted), (late, ErrorKind::DeadlineExceeded)]
    {
        let error = home.engine().snapshot(&request(), &control).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(home.files(), [""; 0]);
    }
}

#[test]
fn cancelled_at_any_moment_it_leaves_nothing_or_a_good_snapshot() {
    for at in 0.. {
        let home = Home::new();
        let (hook, control) = CancelAt::control(at);
        match home.engine().snapshot(&request(), &control) {
            Ok(meta) => {
                let report = home.engine().verify(&meta, &Control::default()).unwrap();
                assert!(report.is_good());
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Interrupted);
                assert_eq!(home.files(), [""; 0], "progress {at}");
            }
        }
        if !hook.cancelled() {
            assert!(at > 1, "there was no progress to cancel at");
            return;
        }
    }
}

#[test]
fn an_operation_that_fails_leaves_nothing_or_a_good_snapshot() {
    at_every_operation(false, |home, at| assert_eq!(home.files(), [""; 0], "operation {at}"));
}

#[test]
fn a_process_that_dies_leaves_nothing_that_counts() {
    at_every_operation(true, |home, at| {
        let listing = home.engine().list(&Tenant::default(), Some(&ana())).unwrap();
        for meta in &listing.snapshots {
            // Dead between the commit point and the report of it.
            let report = home.engine().verify(meta, &Control::default()).unwrap();
            assert!(report.is_good(), "operation {at}");
        }
    });
}

/// Takes snapshots with operation 0, 1, ... failing, once or all from there on; looks at what a
/// failed one left.
fn at_every_operation(for_good: bool, after_failure: impl Fn(&Home, usize)) {
    for at in 0.. {
        let home = Home::new();
        let hook = Fail::new(at, for_good);
        let engine = home.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
        let taken = engine.snapshot(&request(), &Control::default());
        match &taken {
            Ok(meta) => {
                let report = home.engine().verify(meta, &Control::default()).unwrap();
                assert!(report.is_good(), "operation {at}");
            }
            Err(_) => after_failure(&home, at),
        }
        if !hook.failed() {
            taken.unwrap();
            assert!(at > 20, "the hook sees too little: {at}");
            return;
        }
        // Whatever failed, the next one succeeds, and sweeps all but a bundle without its summary.
        home.take();
        let listing = home.engine().list(&Tenant::default(), Some(&ana())).unwrap();
        let orphans = listing.problems.iter().filter(|p| p.kind == ProblemKind::Orphan).count();
        assert_eq!(orphans, listing.problems.len(), "{:?}", listing.problems);
        assert!(home.files().len() <= 3 * listing.snapshots.len() + 2 * orphans);
    }
}

#[test]
fn damage_is_reported_not_an_error() {
    let home = Home::new();
    let engine = home.engine();
    let meta = home.take();
    flip(&meta.bundle_path);
    let report = engine.verify(&meta, &Control::default()).unwrap();
    assert!(!report.is_good() && !report.bundle_sha256_ok);
    std::fs::write(&meta.bundle_path, b"not a bundle at all").unwrap();
    let report = engine.verify(&meta, &Control::default()).unwrap();
    assert_eq!((report.manifest_ok, report.inside), (false, Inside::Bad));
    assert!(!report.damage.is_empty());
}

#[test]
fn a_bundle_under_another_ones_name_is_found_out() {
    let home = Home::new();
    let (first, second) = (home.take(), home.take());
    std::fs::copy(&first.bundle_path, &second.bundle_path).unwrap();
    let error = home.engine().manifest(&second).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    let report = home.engine().verify(&second, &Control::default()).unwrap();
    assert!(!report.is_good());
}

#[test]
fn an_engine_is_shared_between_threads() {
    let home = Home::new();
    let engine = Arc::new(home.engine());
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let engine = Arc::clone(&engine);
            std::thread::spawn(move || engine.snapshot(&request(), &Control::default()).unwrap().id)
        })
        .collect();
    let mut taken: Vec<_> = takers.into_iter().map(|t| t.join().unwrap()).collect();
    let listing = engine.list(&Tenant::default(), None).unwrap();
    let mut listed: Vec<_> = listing.snapshots.iter().map(|m| m.id).collect();
    taken.sort();
    listed.sort();
    assert_eq!(taken, listed);
}
