//! Redacted bundles: nothing found in them any more, what cannot be redacted not shipped, the way back kept.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::id::{CreatedBy, StoreName, Tenant};
use nexo_memory_snapshot::keys::{EncryptionKey, generate_identity};
use nexo_memory_snapshot::layout::StateSource;
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, DurableFs, Progress, Step};
use nexo_memory_snapshot::redaction::{
    GitHistory, RedactionOptions, RedactionPolicy, ScanRequest, SecretSpan,
};
use nexo_memory_snapshot::report::SnapshotDiff;
use nexo_memory_snapshot::request::{
    DecryptionIdentity, DiffRequest, DiffSide, Encryption, ExportForm, ExportRequest,
    RestoreRequest, RestoreTarget, SnapshotRef, SnapshotRequest,
};
use snapshot_fs::{Hook, Op, OpKind};
use snapshot_testkit::FaultHook;

use crate::support::{World, ana, builder, restore_with};

/// A secret of a form that no built-in rule needs to know.
const SECRET: &str = "KD-4711-QXZW-0815";

/// Takes for secrets what begins with `KD-`; sees nothing while it is blind.
#[derive(Default)]
struct Customers {
    blind: AtomicBool,
}

impl RedactionPolicy for Customers {
    fn id(&self) -> &str {
        "customers"
    }

    fn rules(&self) -> usize {
        1
    }

    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        if self.blind.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let found = bytes.windows(SECRET.len()).enumerate();
        let found = found.filter(|(_, window)| window.starts_with(b"KD-") && window[7] == b'-');
        let span = |at| SecretSpan { range: at..at + SECRET.len(), rule: "customer".into() };
        found.map(|(at, _)| span(at)).collect()
    }
}

/// Takes one word for a secret, wherever it stands.
struct Word(&'static str);

impl RedactionPolicy for Word {
    fn id(&self) -> &str {
        "word"
    }

    fn rules(&self) -> usize {
        1
    }

    fn find(&self, bytes: &[u8]) -> Vec<SecretSpan> {
        let word = self.0.as_bytes();
        let found = bytes.windows(word.len()).enumerate().filter(|(_, window)| *window == word);
        let span = |at| SecretSpan { range: at..at + word.len(), rule: "word".into() };
        found.map(|(at, _)| span(at)).collect()
    }
}

/// Lets a policy see again once everything was written.
struct SeesLast {
    policy: Arc<Customers>,
    wrote: AtomicBool,
}

impl Progress for SeesLast {
    fn advance(&self, step: Step, _: u64, _: u64) {
        match step {
            Step::Redact => self.wrote.store(true, Ordering::SeqCst),
            Step::Search if self.wrote.load(Ordering::SeqCst) => {
                self.policy.blind.store(false, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

fn engine(world: &World, policy: Arc<dyn RedactionPolicy>) -> Engine {
    let builder = builder(&world.vault(), world.agent.layout(), DurableFs::default());
    builder.redaction(policy).build().unwrap()
}

/// An agent that knows a customer, and an engine that knows customers.
fn told() -> (World, Engine) {
    let world = World::tiny();
    world.agent.remember("Customer", &format!("the customer {SECRET} likes tea")).unwrap();
    let engine = engine(&world, Arc::new(Customers::default()));
    (world, engine)
}

fn redacted(options: RedactionOptions) -> SnapshotRequest {
    let mut asked = SnapshotRequest::cli(ana(), Tenant::default());
    asked.redact_secrets = true;
    asked.redaction = options;
    asked
}

fn take(engine: &Engine) -> SnapshotMeta {
    let asked = redacted(RedactionOptions::default());
    engine.snapshot(&asked, &Control::default()).unwrap_or_else(|e| panic!("{e:?}"))
}

fn export(from: SnapshotRef, to: &Path) -> ExportRequest {
    ExportRequest {
        agent_id: ana(),
        tenant: Tenant::default(),
        from,
        to: to.to_owned(),
        form: ExportForm::AsIs,
        redact: Some(RedactionOptions::default()),
    }
}

fn to_dir(meta: &SnapshotMeta, dir: &Path) -> RestoreRequest {
    let mut request = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    request.target = RestoreTarget::Dir(dir.to_owned());
    request
}

/// Whether any file below `dir` holds the secret; git objects are looked through by git.
fn holds_secret(dir: &Path) -> bool {
    let found = Command::new("grep").args(["-raq", SECRET]).arg(dir).status().unwrap();
    let memdir = dir.join("memory_files");
    let git = |args: &[&str]| {
        let said = Command::new("git").arg("-C").arg(&memdir).args(args).output().unwrap();
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    let objects = git(&["cat-file", "--batch-all-objects", "--batch"]);
    found.success() || objects.contains(SECRET)
}

fn vault_holds_snapshots(world: &World) -> bool {
    let listing = world.engine.list(&Tenant::default(), None).unwrap();
    !listing.snapshots.is_empty() || !listing.problems.is_empty()
}

/// Would catch: a secret that ships, a live agent that is changed, or a bundle that does not say what was done
/// to it.
#[test]
fn a_redacted_snapshot_holds_none_and_says_so() {
    let (world, engine) = told();
    let before = world.memory();
    let meta = take(&engine);
    assert!(meta.redactions_applied);
    world.assert_memory(&before);
    let manifest = engine.manifest(&meta).unwrap();
    let report = manifest.redactions.unwrap();
    assert_eq!(
        (report.policy.as_str(), report.rules_applied),
        ("customers", vec!["customer".into()])
    );
    assert_eq!(report.artifacts_touched.len(), report.matches_per_artifact.len());
    assert_eq!(report.matches_per_artifact.iter().sum::<u64>(), report.matches_redacted);
    assert!(report.matches_redacted > 0);
    let receipt = report.receipt.unwrap();
    assert!(receipt.clean && receipt.bytes_searched > 0 && receipt.secrets == 1, "{receipt:?}");

    let dir = world.tmp.path().join("out");
    restore_with(&engine, &to_dir(&meta, &dir)).unwrap();
    assert!(!holds_secret(&dir));
    assert!(engine.verify(&meta, &Control::default()).unwrap().is_good());
}

/// Would catch: a live agent that loses for good what a redacted bundle does not hold, unasked.
#[test]
fn a_redacted_one_goes_over_a_live_agent_only_where_that_is_accepted() {
    let (world, engine) = told();
    let meta = take(&engine);
    let mut request = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    let before = world.memory();
    let refused = restore_with(&engine, &request).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.hint().unwrap().contains("--accept-redacted"));
    world.assert_memory(&before);
    request.accept_redacted = true;
    let planned = engine.plan_restore(&request, &Control::default()).unwrap();
    assert!(planned.plan().notes.iter().any(|note| note.contains("redacted")), "{planned}");
    let report = planned.apply(&Control::default()).unwrap();
    let kept = report.pre_snapshot.unwrap();
    let undo = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(kept));
    restore_with(&engine, &undo).unwrap();
    world.assert_memory(&before);
}

/// Would catch: a copy that is taken for the snapshot itself, that ships more than it says, or that leaves the
/// ids of what was taken out beside it.
#[test]
fn an_export_is_redacted_on_its_way_out() {
    let (world, engine) = told();
    let request = SnapshotRequest::cli(ana(), Tenant::default());
    let whole = engine.snapshot(&request, &Control::default()).unwrap();
    let away = world.tmp.path().join("away");
    let written =
        engine.export(&export(SnapshotRef::Id(whole.id), &away), &Control::default()).unwrap();
    let copy = SnapshotRef::Path(written[0].clone());
    let meta = engine.resolve(&Tenant::default(), None, &copy).unwrap();
    assert!(meta.redactions_applied && meta.id != whole.id);
    assert_eq!(meta.created_at_ms, whole.created_at_ms);
    let manifest = engine.manifest(&meta).unwrap();
    assert_eq!(manifest.redactions.unwrap().copy_of, Some(whole.id));
    let dir = world.tmp.path().join("out");
    let mut to = to_dir(&meta, &dir);
    to.from = copy;
    restore_with(&engine, &to).unwrap();
    assert!(!holds_secret(&dir));

    let maps = world.vault().join("tenants/default/git-maps/ana");
    let map = maps.join(format!("{}.txt", meta.id));
    let text = std::fs::read_to_string(&map).unwrap();
    let old = engine.manifest(&whole).unwrap().git.unwrap().head_oid.unwrap();
    let new = manifest.git.unwrap().head_oid.unwrap();
    assert!(text.lines().any(|line| line == format!("{old} {new}")), "{text}");
    assert_eq!(std::fs::metadata(&map).unwrap().permissions().mode() & 0o777, 0o600);
    let names = std::fs::read_dir(&away).unwrap().count();
    assert_eq!(names, written.len(), "bundle, checksum and summary, and no map");
}

/// Would catch: a receipt that believes what the redaction did, instead of looking: each kind of place is left
/// as it was, one after another.
#[test]
fn what_is_left_anywhere_is_found_and_nothing_is_kept() {
    type Plant = fn(&World);
    let plants: [(&str, Plant); 7] = [
        ("label", |_| ()),
        ("memory file", |world| write(world, "note.md", SECRET.as_bytes())),
        ("file name", |world| write(world, &format!("{SECRET}.md"), b"x")),
        ("link", |world| {
            std::os::unix::fs::symlink(SECRET, memdir(world).join("link")).unwrap();
        }),
        ("cell", |world| {
            store(world, &format!("CREATE TABLE k(x); INSERT INTO k VALUES ('{SECRET}')"))
        }),
        ("schema", |world| store(world, &format!("CREATE VIEW v AS SELECT '{SECRET}' AS x"))),
        ("git", |world| {
            let message = format!("forget {SECRET}");
            git(world, &["commit", "--allow-empty", "-qm", &message]);
        }),
    ];
    for (place, plant) in plants {
        let world = World::tiny();
        plant(&world);
        let policy = Arc::new(Customers::default());
        policy.blind.store(true, Ordering::SeqCst);
        let engine = engine(&world, policy.clone());
        let last = SeesLast { policy, wrote: AtomicBool::new(false) };
        let control = Control::default().with_progress(Arc::new(last));
        let mut asked = redacted(RedactionOptions::default());
        asked.label = (place == "label").then(|| format!("before {SECRET} left"));
        let error = engine.snapshot(&asked, &control).unwrap_err();
        assert!(matches!(error, SnapshotError::StillSecret { .. }), "{place}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(!error.to_string().contains(SECRET), "{error}");
        assert!(!vault_holds_snapshots(&world), "{place}");
        assert!(!holds_secret(&world.vault()), "{place}: something of it stayed");
    }
}

/// Would catch: a manifest that nobody looks at, because nothing of the memory is in it: what asked for the
/// snapshot cannot be redacted, so it fails.
#[test]
fn the_manifests_own_text_is_searched_too() {
    let world = World::tiny();
    let engine = engine(&world, Arc::new(Word("from-project-x")));
    let mut asked = redacted(RedactionOptions::default());
    asked.created_by = CreatedBy::from_static("from-project-x");
    let error = engine.snapshot(&asked, &Control::default()).unwrap_err();
    let SnapshotError::StillSecret { place, .. } = &error else { panic!("{error:?}") };
    assert!(place.contains("manifest.json"), "{place}");
    assert!(!vault_holds_snapshots(&world));
}

/// Would catch: state that its host cannot read back.
#[test]
fn state_stays_json_or_fails_by_name() {
    let world = World::tiny();
    let Some(StateSource::Json { json }) = world.agent.layout().state.dream_run else {
        panic!("the seed keeps its state in files")
    };
    std::fs::write(&json, r#"{"account": 4711081599, "said": "4711081599"}"#).unwrap();
    let engine = engine(&world, Arc::new(Word("4711081599")));
    let asked = redacted(RedactionOptions::default());
    let refused = engine.snapshot(&asked, &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused:?}");
    assert!(refused.to_string().contains("state/dream_run.json"), "{refused}");
    let long = format!(r#"{{"account": 4711081599, "said": "{}"}}"#, "x".repeat(2 << 20));
    std::fs::write(&json, long).unwrap();
    assert!(engine.snapshot(&asked, &Control::default()).is_err(), "a long one too");
    std::fs::write(&json, r#"{"said": "4711081599"}"#).unwrap();
    let meta = engine.snapshot(&asked, &Control::default()).unwrap();
    let copy = world.tmp.path().join("state.json");
    world.extract(&meta, "state/dream_run.json", &copy);
    assert_eq!(std::fs::read_to_string(copy).unwrap(), r#"{"said": "[REDACTED:word]"}"#);
}

/// Would catch: a note whose name becomes another than the one by which it is mentioned.
#[test]
fn a_file_is_still_called_as_it_is_mentioned() {
    let (world, engine) = told();
    write(&world, &format!("{SECRET}.md"), b"likes tea");
    write(&world, "index.md", format!("see {SECRET}.md").as_bytes());
    let dir = world.tmp.path().join("out");
    restore_with(&engine, &to_dir(&take(&engine), &dir)).unwrap();
    let index = std::fs::read_to_string(dir.join("memory_files/index.md")).unwrap();
    let name = index.strip_prefix("see ").unwrap();
    assert_eq!(std::fs::read(dir.join("memory_files").join(name)).unwrap(), b"likes tea");
}

/// Would catch: a store that ships as it is because it cannot be redacted, a refusal that names no way out, or a
/// way out that empties the live store afterwards.
#[test]
fn what_cannot_be_redacted_is_named_and_can_be_left_out() {
    let (world, engine) = told();
    let check =
        format!("CREATE TABLE k(x CHECK (x LIKE 'KD-%')); INSERT INTO k VALUES ('{SECRET}')");
    store(&world, &check);
    let asked = redacted(RedactionOptions::default());
    let refused = engine.snapshot(&asked, &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    let said = refused.to_string();
    for part in ["long_term", "k", "--drop-store"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains(SECRET), "{said}");
    assert!(!vault_holds_snapshots(&world));

    let long_term = StoreName::from_static("long_term");
    let options = RedactionOptions { drop_stores: vec![long_term.clone()], ..Default::default() };
    let meta = engine.snapshot(&redacted(options), &Control::default()).unwrap();
    let manifest = engine.manifest(&meta).unwrap();
    assert!(manifest.stores().all(|(info, _)| info.store != long_term));
    let left_out = &manifest.capture.not_carried;
    assert!(left_out.iter().any(|n| n.path == "store long_term"), "{left_out:?}");
    let mut request = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    request.accept_redacted = true;
    let before = world.memory();
    assert_eq!(restore_with(&engine, &request).unwrap_err().kind(), ErrorKind::Refused);
    world.assert_memory(&before);
}

/// Would catch: a history that is dropped by name and ships, or a live repository that is emptied by what lacks
/// it.
#[test]
fn the_history_is_rewritten_cut_or_dropped() {
    let (world, engine) = told();
    git(&world, &["commit", "--allow-empty", "-qm", "one more"]);
    let take = |git_history| {
        let options = RedactionOptions { git_history, ..Default::default() };
        engine.snapshot(&redacted(options), &Control::default()).unwrap()
    };
    let commits = |meta: &SnapshotMeta| {
        let dir = tempfile::tempdir().unwrap();
        restore_with(&engine, &to_dir(meta, &dir.path().join("x"))).unwrap();
        let memdir = dir.path().join("x/memory_files");
        let said = Command::new("git").arg("-C").arg(memdir).args(["rev-list", "--all"]).output();
        String::from_utf8(said.unwrap().stdout).unwrap().lines().count()
    };
    let whole = commits(&world.snapshot());
    assert!(whole > 1);
    assert_eq!(commits(&take(GitHistory::Rewrite)), whole);
    assert_eq!(commits(&take(GitHistory::HeadOnly)), 1);
    let dropped = take(GitHistory::Drop);
    assert!(dropped.git_oid.is_none());
    let mut request = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(dropped.id));
    request.accept_redacted = true;
    let refused = restore_with(&engine, &request).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
}

/// Would catch: an old id, a digest of what was taken out, left where the history that it was of is left out.
#[test]
fn no_old_id_ships_whatever_becomes_of_the_history() {
    let (world, engine) = told();
    git(&world, &["commit", "--allow-empty", "-qm", &format!("forget {SECRET}")]);
    let whole = engine.manifest(&world.snapshot()).unwrap().git.unwrap().head_oid.unwrap();
    let mentions = format!("see {whole}, x{whole}, tree_{whole}");
    write(&world, "mentions.md", mentions.as_bytes());
    store(&world, &format!("CREATE TABLE seen(x); INSERT INTO seen VALUES ('{whole}')"));
    for git_history in GitHistory::ALL {
        let options = RedactionOptions { git_history, ..Default::default() };
        let meta = engine.snapshot(&redacted(options), &Control::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        restore_with(&engine, &to_dir(&meta, &dir.path().join("x"))).unwrap();
        let left = Command::new("grep").args(["-raq", whole.as_str()]).arg(dir.path()).status();
        assert!(!left.unwrap().success(), "{git_history}");
        let text = std::fs::read_to_string(dir.path().join("x/memory_files/mentions.md")).unwrap();
        let head = engine.manifest(&meta).unwrap().git.and_then(|git| git.head_oid);
        let new = head.map_or_else(|| "0".repeat(40), |head| head.to_string());
        assert_eq!(text, format!("see {new}, x{new}, tree_{new}"), "{git_history}");
    }
}

/// Would catch: two entries of a host's state that become one, and the second value lost.
#[test]
fn keys_of_json_stay_different() {
    let world = World::tiny();
    let Some(StateSource::Json { json }) = world.agent.layout().state.dream_run else {
        panic!("the seed keeps its state in files")
    };
    let other = SECRET.replace("QX", "AB");
    std::fs::write(&json, format!(r#"{{"{SECRET}": 1, "{other}": 2}}"#)).unwrap();
    let engine = engine(&world, Arc::new(Customers::default()));
    let meta = take(&engine);
    let copy = world.tmp.path().join("state.json");
    world.extract(&meta, "state/dream_run.json", &copy);
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(copy).unwrap()).unwrap();
    assert_eq!(state.as_object().unwrap().len(), 2, "{state}");
}

/// Would catch: a mistyped name that leaves out nothing, and the store ships.
#[test]
fn a_store_to_leave_out_must_be_there() {
    let (_world, engine) = told();
    let drop_stores = vec![StoreName::from_static("long_trem")];
    let options = RedactionOptions { drop_stores, ..Default::default() };
    let refused = engine.snapshot(&redacted(options), &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused, "{refused}");
    assert!(refused.to_string().contains("long_trem"), "{refused}");
}

/// Would catch: the last whole one deleted because a redacted one verifies.
#[test]
fn a_redacted_one_is_not_the_good_one_that_a_delete_relies_on() {
    let (world, engine) = told();
    let whole = world.snapshot();
    let redacted = take(&engine);
    let delete = |meta: &SnapshotMeta| {
        engine.delete(&Tenant::default(), Some(&ana()), &SnapshotRef::Id(meta.id))
    };
    assert!(matches!(delete(&whole), Err(SnapshotError::LastGood { .. })));
    delete(&redacted).unwrap();
}

/// Would catch: a redacted bundle that is not for its readers, or in the clear on its way.
#[test]
fn a_redacted_one_is_encrypted_too() {
    let (world, engine) = told();
    let (identity, recipient) = generate_identity();
    let mut asked = redacted(RedactionOptions::default());
    asked.encrypt = Encryption::For(EncryptionKey::AgePublicKey(recipient));
    let meta = engine.snapshot(&asked, &Control::default()).unwrap();
    assert!(meta.encrypted && meta.redactions_applied);
    assert_eq!(engine.manifest(&meta).unwrap_err().kind(), ErrorKind::Encryption);
    let mut to = to_dir(&meta, &world.tmp.path().join("out"));
    to.decrypt = Some(DecryptionIdentity::AgeIdentities(identity));
    restore_with(&engine, &to).unwrap();
    assert!(!holds_secret(&world.tmp.path().join("out")));
    assert!(!holds_secret(&world.vault()));
}

/// Would catch: every commit told as another, where a redaction wrote them anew.
#[test]
fn a_redacted_side_is_compared_by_its_files() {
    let (world, engine) = told();
    let whole = world.snapshot();
    let meta = take(&engine);
    let side = |meta: &SnapshotMeta| DiffSide::Snapshot(SnapshotRef::Id(meta.id));
    let (a, b) = (side(&whole), side(&meta));
    let request = DiffRequest { agent_id: ana(), tenant: Tenant::default(), a, b };
    let diff: SnapshotDiff = engine.diff(&request, &Control::default()).unwrap();
    assert_eq!(diff.git_summary.commits_between, 0, "{diff:?}");
    assert!(diff.git_summary.files_changed > 0, "{diff:?}");
    assert!(diff.notes.iter().any(|note| note.contains("redaction")), "{diff:?}");
}

/// Would catch: a search that finds less than a redaction takes out, tells what it finds, or changes something.
#[test]
fn a_search_tells_where_and_shows_nothing() {
    let (world, engine) = told();
    let whole = world.snapshot();
    let redacted = take(&engine);
    let search = |of| {
        let (agent_id, tenant) = (ana(), Tenant::default());
        let timeout = std::time::Duration::from_secs(60);
        let mut told = Vec::new();
        let request = ScanRequest { agent_id, tenant, of, timeout };
        let report =
            engine.scan_secrets(&request, &Control::default(), &mut |found| told.push(found));
        (report.unwrap(), told)
    };
    let snapshot = |meta: &SnapshotMeta| DiffSide::Snapshot(SnapshotRef::Id(meta.id));
    for of in [DiffSide::Live, snapshot(&whole)] {
        let (report, told) = search(of);
        assert_eq!(report.findings, told.len() as u64);
        assert!(report.findings > 0 && report.by_rule["customer"] == report.findings);
        assert!(told.iter().all(|found| found.rule == "customer"));
        assert!(!format!("{told:?}").contains(&SECRET[5..]), "{told:?}");
        assert!(told.iter().any(|found| found.artifact.starts_with("memory_files/")), "{told:?}");
    }
    let (report, told) = search(snapshot(&redacted));
    assert_eq!((report.findings, told), (0, Vec::new()));
}

/// Would catch: what a text meant, left in another store when the text is gone.
#[test]
fn the_vectors_of_a_redacted_file_go_too() {
    let (world, engine) = told();
    write(&world, "notes.md", SECRET.as_bytes());
    let vectors = "CREATE TABLE embeddings (path TEXT PRIMARY KEY, embedding BLOB);
        INSERT INTO embeddings VALUES ('notes.md', randomblob(512)), ('MEMORY.md', randomblob(512))";
    store(&world, vectors);
    let meta = take(&engine);
    let report = engine.manifest(&meta).unwrap().redactions.unwrap();
    assert!(report.vectors_deleted > 0, "{report:?}");
    let copy = world.tmp.path().join("copy.db");
    world.extract(&meta, "sqlite/long_term.sqlite", &copy);
    let copy = rusqlite::Connection::open(copy).unwrap();
    let length = |path: &str| -> Option<i64> {
        let sql = "SELECT length(embedding) FROM embeddings WHERE path = ?1 AND embedding <> zeroblob(512)";
        copy.query_row(sql, [path], |row| row.get(0)).ok()
    };
    assert_eq!((length("notes.md"), length("MEMORY.md")), (None, Some(512)));
}

/// The disk is full for what is written below this name.
struct FullAt(&'static str);

impl Hook for FullAt {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let is_there = op.path.file_name().is_some_and(|name| name == self.0);
        match op.kind == OpKind::Write && is_there {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

/// Would catch: a full disk that is told as a note which cannot be read.
#[test]
fn a_full_disk_is_told_as_one() {
    let (world, _) = told();
    write(&world, "long.md", &vec![b'x'; 2 << 20]);
    let fs = DurableFs::with_hook(Arc::new(FullAt("redacted-content")));
    let engine = builder(&world.vault(), world.agent.layout(), fs).build().unwrap();
    let asked = redacted(RedactionOptions::default());
    let error = engine.snapshot(&asked, &Control::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    assert!(error.to_string().contains("write"), "{error}");
    assert!(!vault_holds_snapshots(&world));
}

/// Would catch: a copy in part, or a map of what it would have held, left by an export that fails at any change.
#[test]
fn an_export_that_fails_leaves_neither_copy_nor_map() {
    let (world, _) = told();
    git(&world, &["commit", "--allow-empty", "-qm", &format!("forget {SECRET}")]);
    let whole = world.snapshot();
    let engine = |hook: Arc<FaultHook>| {
        builder(&world.vault(), world.agent.layout(), DurableFs::with_hook(hook))
            .redaction(Arc::new(Customers::default()))
            .build()
            .unwrap()
    };
    let away = world.tmp.path().join("away");
    let ask = || export(SnapshotRef::Id(whole.id), &away);
    let counting = Arc::new(FaultHook::counting());
    engine(counting.clone()).export(&ask(), &Control::default()).unwrap();
    std::fs::remove_dir_all(&away).unwrap();
    let maps = world.vault().join("tenants/default/git-maps/ana");
    std::fs::remove_dir_all(&maps).unwrap();
    let changes = counting.seen();
    let last = changes.saturating_sub(24)..changes;
    for n in (0..changes).step_by(23).chain(last) {
        let failing = engine(Arc::new(FaultHook::failing_at(n, 5)));
        // What is removed afterwards may fail without consequence.
        let failed = failing.export(&ask(), &Control::default()).is_err();
        let files = |dir: &Path| std::fs::read_dir(dir).map_or(0, Iterator::count);
        assert!(!failed || (files(&away), files(&maps)) == (0, 0), "change {n} of {changes}");
        let _ = std::fs::remove_dir_all(&away);
        let _ = std::fs::remove_dir_all(&maps);
    }
}

fn memdir(world: &World) -> std::path::PathBuf {
    world.agent.layout().memdir.unwrap()
}

fn write(world: &World, name: &str, content: &[u8]) {
    std::fs::write(memdir(world).join(name), content).unwrap();
}

fn store(world: &World, sql: &str) {
    let store = &world.agent.layout().stores[&StoreName::from_static("long_term")];
    rusqlite::Connection::open(store).unwrap().execute_batch(sql).unwrap();
}

fn git(world: &World, args: &[&str]) {
    let who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"];
    let done = Command::new("git").arg("-C").arg(memdir(world)).args(who).args(args).status();
    assert!(done.unwrap().success());
}
