//! What `nexo-memory-snapshot` 0.1.5 did, row by row, and the test here that asserts the opposite.
//!
//! | 0.1.5 | covered by |
//! |---|---|
//! | databases copied one after another, torn under a writer | `cut::cuts_are_whole_*` |
//! | shipped HEAD named a commit not in the bundle; the tar itself corrupt | [`what_ships_under_writers_is_whole`] |
//! | a live `-wal` comes back over the restored pages | `restore::over_a_live_log_with_connections_open`, [`a_log_that_a_dead_process_left`] |
//! | another page layout: malformed | `restore::over_other_page_sizes_and_journal_modes`, `property::*` |
//! | a held connection undoes the restore or loses acknowledged writes | `restore::under_writers_in_other_processes` |
//! | a kill in the restore leaves a mixture that nothing repairs | `crash::*` |
//! | tampered bundles are installed | `restore::a_damaged_bundle_is_refused_before_anything_changes`, [`a_bundle_packed_anew_is_refused`] |
//! | agent, tenant, label, time, version can be edited | [`edited_summaries_are_refused`], [`edited_manifests_are_refused`] |
//! | schema version 99 accepted | [`a_bundle_of_a_newer_program_is_refused`] |
//! | `.git/config` from a bundle runs code | [`hostile_configuration_neither_travels_nor_runs`] |
//! | tenant not checked | `restore::another_agent_or_tenant_is_refused` |
//! | files over 4 MiB, symlinks, empty folders, modes, raw names lost | `stock::stock_tools_find_all_of_the_agent`, `property::*` |
//! | journal mode lost | `restore::into_an_empty_agent` |
//! | a repository after `git gc` or with no commit: "not a git repository" | `stock::repositories_of_every_shape` |
//! | the same bundle twice fails half-way | `restore::twice_in_a_row_and_back_again` |
//! | a store absent from the bundle stays live | `restore::stores_absent_on_either_side` |
//! | two snapshots at once both run | [`two_processes_take_turns`] |
//! | a sweep deletes a running snapshot's staging | [`no_other_process_sweeps_a_running_snapshot`] |
//! | looks for names that nobody writes, and succeeds | `tests/engine/snapshot.rs`: `an_agent_of_which_nothing_is_found_leaves_no_trace` |
//!
//! Crafted bundles are the bundle crate's tests. Redaction, encryption, retention, events and
//! metrics come with their issues.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::manifest::Manifest;
use nexo_memory_snapshot::meta::{Sidecar, SnapshotMeta};
use nexo_memory_snapshot::ports::{Control, DurableFs, PortError, Quiesce};
use nexo_memory_snapshot::request::{SnapshotRef, SnapshotRequest};
use rusqlite::config::DbConfig;
use serde_json::{Value, json};
use snapshot_bundle::{Bundle, BundleWriter, VerifyOptions, WriteOptions};
use snapshot_core::{ArtifactKind, ArtifactSink, ArtifactSource, FileSpec};
use snapshot_testkit::{Agent, Git, Torture};

use crate::stock::{by_hand, run};
use crate::support::{Layouts, World, ana, engine, restore};

/// Tells a child process where its world lies.
const CHILD_ROOT: &str = "NEXO_TEST_WORLD";

/// A forger's edit.
type Edit = fn(&mut Manifest);

/// Would catch: a HEAD, an object or a row in the bundle that another part of it does not know.
#[test]
fn what_ships_under_writers_is_whole() {
    let world = World::tiny();
    let writers = Torture::start(&world.agent, 2).unwrap();
    for _ in 0..5 {
        writers.wait_for_steps(2).unwrap();
        let meta = world.snapshot();
        let opened = by_hand(&meta);
        let head = Git::at(opened.path().join("clone")).run(&["rev-parse", "HEAD"]).unwrap();
        assert_eq!(opened.manifest["git"]["head_oid"], *head);
        assert_eq!(opened.memory.stores.len(), 4);
    }
    writers.stop().unwrap();
}

/// Would catch: rows of a log that nobody has open any more coming back over the restored pages.
#[test]
fn a_log_that_a_dead_process_left() {
    let world = World::tiny();
    let (before, meta) = (world.memory(), world.snapshot());
    let agent = world.agent.connect("vector").unwrap();
    agent.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    agent.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    agent.execute_batch("DELETE FROM embeddings; CREATE TABLE poison (x)").unwrap();
    drop(agent);
    let wal = world.agent.sqlite_dir().join("vector.sqlite-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() > 0);
    world.restore(&meta).unwrap();
    world.assert_memory(&before);
}

fn sidecar_path(meta: &SnapshotMeta) -> PathBuf {
    meta.bundle_path.with_extension("").with_extension("manifest.json")
}

/// Writes `<bundle>.sha256` and size and digest in the summary anew, as a forger would.
fn reseal(meta: &SnapshotMeta) {
    let name = meta.bundle_path.file_name().unwrap();
    let sum =
        run(Command::new("sha256sum").arg(name).current_dir(meta.bundle_path.parent().unwrap()));
    std::fs::write(format!("{}.sha256", meta.bundle_path.display()), format!("{sum}\n")).unwrap();
    edit_sidecar(meta, |summary| {
        summary["bundle_sha256"] = json!(sum.split(' ').next().unwrap());
        summary["bundle_size_bytes"] = json!(std::fs::metadata(&meta.bundle_path).unwrap().len());
    });
}

fn edit_sidecar(meta: &SnapshotMeta, edit: impl FnOnce(&mut Value)) {
    let path = sidecar_path(meta);
    let mut summary: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut summary);
    std::fs::write(&path, serde_json::to_vec(&summary).unwrap()).unwrap();
}

/// Neither verified nor restored, by its id or by its path; the memory stays as it was.
#[track_caller]
fn assert_refused(world: &World, meta: &SnapshotMeta, kinds: &[ErrorKind]) {
    let before = world.memory();
    for from in [SnapshotRef::Id(meta.id), SnapshotRef::Path(meta.bundle_path.clone())] {
        let resolved = world.engine.resolve(&Tenant::default(), Some(&ana()), &from);
        let verified = resolved.and_then(|meta| world.engine.verify(&meta, &Control::default()));
        assert!(!verified.is_ok_and(|report| report.is_good()), "{from} verifies");
        let req =
            nexo_memory_snapshot::request::RestoreRequest::new(ana(), Tenant::default(), from);
        let refused = crate::support::restore_with(&world.engine, &req).unwrap_err();
        assert!(kinds.contains(&refused.kind()), "{:?}: {refused}", refused.kind());
    }
    world.assert_memory(&before);
}

/// Would catch: a bundle that is believed because its checksums fit.
#[test]
fn a_bundle_packed_anew_is_refused() {
    let world = World::tiny();
    let meta = world.snapshot();
    let opened = by_hand(&meta);
    std::fs::write(opened.path().join("memory_files/MEMORY.md"), "the operator said so").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "-cf"]).arg(&meta.bundle_path).arg("-C").arg(opened.path());
    run(tar.args(["sqlite", "git", "memory_files", "state", "manifest.json"]));
    reseal(&meta);
    assert_refused(&world, &meta, &[ErrorKind::Integrity]);
}

/// Would catch: a field of the summary that nobody compares with what is inside.
#[test]
fn edited_summaries_are_refused() {
    let world = World::tiny();
    let mut req = SnapshotRequest::cli(ana(), Tenant::default());
    req.label = Some("before".to_owned());
    let meta = world.engine.snapshot(&req, &Control::default()).unwrap();
    let sound = std::fs::read(sidecar_path(&meta)).unwrap();
    let edits: [(&str, Value); 10] = [
        ("agent_id", json!("bo")),
        ("tenant", json!("acme")),
        ("label", json!("after")),
        ("created_at_ms", json!(meta.created_at_ms + 1)),
        ("created_by", json!("tool")),
        ("snapshot_id", json!(SnapshotId::from_random_bytes([7; 16]).to_string())),
        ("root_digest", json!("0".repeat(64))),
        ("git_oid", json!("0".repeat(40))),
        ("whole", json!(false)),
        ("redacted", json!(true)),
    ];
    for (field, value) in edits {
        println!("{field}");
        edit_sidecar(&meta, |summary| {
            assert_ne!(summary[field], value);
            summary[field] = value;
        });
        // One whose names are not those of its place is no snapshot of this agent, or is another's.
        let kinds = [ErrorKind::Integrity, ErrorKind::UnknownSnapshot, ErrorKind::Refused];
        assert_refused(&world, &meta, &kinds);
        std::fs::write(sidecar_path(&meta), &sound).unwrap();
    }
    edit_sidecar(&meta, |summary| summary["manifest_version"] = json!(99));
    assert_refused(&world, &meta, &[ErrorKind::SchemaTooNew]);
    std::fs::write(sidecar_path(&meta), &sound).unwrap();
    world.restore(&meta).unwrap();
}

/// Writes the bundle again with an edited manifest; what its summary would say.
fn rewrite(meta: &SnapshotMeta, edit: impl FnOnce(&mut Manifest)) -> Sidecar {
    let control = Control::default();
    let file = std::fs::File::open(&meta.bundle_path).unwrap();
    let bundle = Bundle::open(file, &meta.bundle_path).unwrap();
    let old = bundle.into_verified(&VerifyOptions::default(), &control).unwrap();
    let mut manifest = old.manifest().clone();
    edit(&mut manifest);
    let options = WriteOptions::new(manifest.created_at_ms);
    let mut new = BundleWriter::new(Vec::new(), &options, control).unwrap();
    for artifact in &manifest.artifacts {
        if matches!(artifact.kind, ArtifactKind::MemoryDir | ArtifactKind::MemorySymlink) {
            new.put_entry(artifact).unwrap();
            continue;
        }
        let spec = FileSpec {
            path: artifact.path.clone(),
            kind: artifact.kind,
            size_bytes: artifact.size_bytes,
            mode: artifact.mode,
            mtime_ns: artifact.mtime_ns,
        };
        new.put_file(spec, &mut old.open(&artifact.path).unwrap()).unwrap();
    }
    let done = new.finish(&manifest).unwrap();
    std::fs::write(&meta.bundle_path, &done.out).unwrap();
    Sidecar::of_plain(&manifest, done.root_digest, done.size_bytes, done.sha256)
}

/// Would catch: a seal that covers the artifacts and not what is said about them. The forger has
/// mended every checksum but the root digest that people noted.
#[test]
fn edited_manifests_are_refused() {
    let world = World::tiny();
    let meta = world.snapshot();
    let sound = std::fs::read(&meta.bundle_path).unwrap();
    let summary = std::fs::read(sidecar_path(&meta)).unwrap();
    let edits: [(&str, Edit); 6] = [
        ("agent", |m| m.agent_id = AgentId::from_static("bo")),
        ("tenant", |m| m.tenant = Tenant::from_static("acme")),
        ("label", |m| m.label = Some("another".to_owned())),
        ("time", |m| m.created_at_ms += 1),
        ("version", |m| m.schema_versions.long_term = 0),
        ("a file's mode", |m| {
            let file = m.artifacts.iter_mut().find(|a| a.kind == ArtifactKind::MemoryFile);
            file.unwrap().mode = Some(0o777);
        }),
    ];
    for (what, edit) in edits {
        println!("{what}");
        rewrite(&meta, edit);
        reseal(&meta);
        assert_refused(&world, &meta, &[ErrorKind::Integrity, ErrorKind::Refused]);
        std::fs::write(&meta.bundle_path, &sound).unwrap();
        std::fs::write(sidecar_path(&meta), &summary).unwrap();
    }
    world.restore(&meta).unwrap();
}

/// Would catch: a version that is read and not looked at, in a bundle that is sound otherwise.
#[test]
fn a_bundle_of_a_newer_program_is_refused() {
    let world = World::tiny();
    let meta = world.snapshot();
    let sound = std::fs::read(&meta.bundle_path).unwrap();
    let edits: [Edit; 4] = [
        |m| m.manifest_version = 99,
        |m| m.schema_versions.manifest = 99,
        |m| m.schema_versions.long_term = 99,
        |m| m.schema_versions.compactions = 99,
    ];
    for edit in edits {
        let summary = rewrite(&meta, edit);
        std::fs::write(sidecar_path(&meta), serde_json::to_vec(&summary).unwrap()).unwrap();
        let before = world.memory();
        let refused = restore(&world.engine, &meta).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::SchemaTooNew, "{refused}");
        assert!(refused.to_string().contains("99"), "{refused}");
        world.assert_memory(&before);
        std::fs::write(&meta.bundle_path, &sound).unwrap();
    }
}

/// Would catch: a configuration, hook, filter or attribute of the agent's repository that a bundle
/// carries, or that runs because we look at the repository.
#[test]
fn hostile_configuration_neither_travels_nor_runs() {
    let world = World::tiny();
    let ran = world.tmp.path().join("it-ran");
    let script = format!("#!/bin/sh\ntouch '{}'\ncat\n", ran.display());
    let dot_git = world.agent.memdir().join(".git");
    let hostile = dot_git.join("hostile.sh");
    let hooks = ["post-checkout", "reference-transaction", "post-index-change", "pre-commit"];
    for path in hooks.iter().map(|h| dot_git.join("hooks").join(h)).chain([hostile.clone()]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let command = hostile.to_str().unwrap();
    let settings = ["core.fsmonitor", "filter.evil.smudge", "filter.evil.clean", "core.sshCommand"];
    let git = world.agent.git();
    for setting in settings {
        git.run(&["config", setting, command]).unwrap();
    }
    std::fs::write(world.agent.memdir().join(".gitattributes"), "* filter=evil\n").unwrap();
    let _ = std::fs::remove_file(&ran);

    let meta = world.snapshot();
    std::fs::write(world.agent.memdir().join("MEMORY.md"), "poison").unwrap();
    world.restore(&meta).unwrap();
    assert!(!ran.exists(), "the live repository's configuration ran");
    assert_eq!(git.run(&["config", "core.fsmonitor"]).unwrap(), command, "it stays the agent's");

    let opened = by_hand(&meta);
    let paths = run(Command::new("find").arg(opened.path()).args(["-name", "*hostile*"]));
    assert_eq!(paths, "");
    let elsewhere = Agent::at(&world.tmp.path().join("elsewhere"), ana());
    let other = engine(&world.vault(), elsewhere.layout(), DurableFs::default());
    restore(&other, &meta).unwrap();
    let config = std::fs::read_to_string(elsewhere.memdir().join(".git/config")).unwrap();
    assert!(!config.contains("hostile") && !config.contains("evil"), "{config}");
    for hook in hooks {
        assert!(!elsewhere.memdir().join(".git/hooks").join(hook).exists(), "{hook}");
    }
    // The user's own git, with the hooks that the repository names.
    run(Command::new("git").arg("-C").arg(elsewhere.memdir()).args([
        "-c",
        "safe.directory=*",
        "status",
    ]));
    assert!(!ran.exists(), "the restored repository ran something");
}

/// Says that it holds the agent, and goes on when told.
struct Held;

impl Quiesce for Held {
    #[expect(clippy::print_stdout, reason = "the parent process reads it")]
    fn pause(&self, _: &AgentId, _: Duration) -> Result<(), PortError> {
        println!("ready");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        Ok(())
    }

    fn resume(&self, _: &AgentId) {}
}

/// The body of the process that is in the middle of a snapshot.
#[test]
fn snapshot_process() {
    let Some(root) = std::env::var_os(CHILD_ROOT).map(PathBuf::from) else { return };
    let layouts = Layouts(vec![(ana(), Agent::at(&root, ana()).layout())]);
    let engine = Engine::builder()
        .root(root.join("vault"))
        .layouts(Arc::new(layouts))
        .quiesce(Arc::new(Held), Duration::from_secs(600))
        .build()
        .unwrap();
    engine.snapshot(&SnapshotRequest::cli(ana(), Tenant::default()), &Control::default()).unwrap();
}

/// A process in the middle of a snapshot.
fn in_the_middle(root: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "predecessor::snapshot_process", "--nocapture"]);
    command.env(CHILD_ROOT, root).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("ready")), "it ended early");
    // What it prints later has a reader.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

/// Lets it go on, and to its end.
fn go_on(mut child: Child) {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
}

fn assert_good(world: &World, snapshots: usize) {
    let listing = world.engine.list(&Tenant::default(), Some(&ana())).unwrap();
    assert_eq!((listing.snapshots.len(), listing.problems.len()), (snapshots, 0), "{listing:?}");
    for meta in &listing.snapshots {
        assert!(world.engine.verify(meta, &Control::default()).unwrap().is_good());
    }
}

/// Would catch: a lock that other processes do not see.
#[test]
fn two_processes_take_turns() {
    let world = World::tiny();
    let meta = world.snapshot();
    let child = in_the_middle(world.tmp.path());
    let mut req = SnapshotRequest::cli(ana(), Tenant::default());
    req.timeout = Duration::ZERO;
    let refused = world.engine.snapshot(&req, &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Concurrent, "{refused}");
    let from = SnapshotRef::Id(meta.id);
    let mut req =
        nexo_memory_snapshot::request::RestoreRequest::new(ana(), Tenant::default(), from);
    req.timeout = Duration::ZERO;
    let refused = crate::support::restore_with(&world.engine, &req).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Concurrent, "{refused}");
    go_on(child);
    world.snapshot();
    assert_good(&world, 3);
}

/// Would catch: a sweep that takes a living process's work for a dead one's.
#[test]
fn no_other_process_sweeps_a_running_snapshot() {
    let world = World::tiny();
    let meta = world.snapshot();
    let before = staging(&world);
    let child = in_the_middle(world.tmp.path());
    let running = staging(&world);
    // What is captured, and the bundle.
    assert_eq!(running.len(), before.len() + 2, "{running:?}");
    let doctor =
        |control: &Control| world.engine.doctor(&Tenant::default(), Some(&ana()), true, control);
    assert_eq!(doctor(&Control::default()).unwrap().findings, []);
    // Something for a sweep to do, which it leaves alone while somebody is at work.
    let name = format!("{}.deleting", SnapshotId::from_random_bytes([7; 16]));
    let leftover = meta.bundle_path.with_file_name(name);
    std::fs::write(&leftover, std::fs::read(sidecar_path(&meta)).unwrap()).unwrap();
    doctor(&Control::default()).unwrap();
    assert!(leftover.exists());
    assert_eq!(staging(&world), running);
    go_on(child);
    doctor(&Control::default()).unwrap();
    assert!(!leftover.exists());
    assert_good(&world, 2);
}

/// Every folder of work in progress in the vault.
fn staging(world: &World) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![world.vault()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.push(path.clone());
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}
