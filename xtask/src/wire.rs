//! The goldens of the wire shapes (`docs/wire.md`): one document of fixed values for each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::ser::to_vec_pretty;
use snapshot_core::{
    AgentId, Artifact, ArtifactKind, Attestation, BUNDLE_FORMAT, BUNDLE_FORMAT_V1, BundleFile,
    BundlePath, CaptureInfo, CreatedBy, Damage, EncryptionInfo, FilePlan, FileSpec, GitHistory,
    GitInfo, GitOid, GitPlan, GitRef, GitStash, GitSummary, Inside, ListProblem, Listing,
    MANIFEST_VERSION, Manifest, ManifestCapture, NotCarried, NotCompared, ParseError, ProblemKind,
    Provenance, RedactionReceipt, RedactionReport, RestorePlan, RestoreReport, RetentionTickReport,
    RowCounts, SchemaVersions, SecretFinding, SecretsReport, Sha256Digest, Sidecar,
    SignatureReport, SignatureStatus, SnapshotDiff, SnapshotId, SnapshotMeta, SpaceNeed,
    SqliteInfo, SqliteSummary, StateSummary, StoreAction, StoreCapture, StoreName, StorePlan,
    Tenant, UnstableFile, VerifyReport, root_digest,
};
use snapshot_events::{
    Envelope, EventId, LifecycleEvent, MutationEvent, MutationOp, MutationScope,
};

/// 2026-11-21 23:10:00 UTC, the instant of every golden.
const INSTANT_MS: i64 = 1_795_302_600_000;

type Failure = Box<dyn std::error::Error>;

/// File name and content of every golden.
pub(crate) fn documents() -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let manifest = manifest()?;
    let manifest_bytes = manifest.to_bytes()?;
    let sidecar = Sidecar::of_plain(
        &manifest,
        root_digest(&manifest_bytes),
        1_048_576,
        Sha256Digest::of(b"the bundle"),
    );
    let mut meta = sidecar.to_meta(bundle_path());
    meta.capture = Some(capture());
    let sealed = Sidecar::new(&manifest, encrypted_file(&manifest_bytes));
    let mut sealed_meta = sealed.to_meta(bundle_path().with_extension("zst.age"));
    sealed_meta.capture = Some(capture().times_only());
    let mut documents = vec![
        ("manifest.json", manifest_bytes),
        ("sidecar.json", sidecar.to_bytes()?),
        ("snapshot_meta.json", json(&meta)?),
        ("sidecar_encrypted.json", sealed.to_bytes()?),
        ("snapshot_meta_encrypted.json", json(&sealed_meta)?),
        ("listing.json", json(&listing(meta.clone()))?),
        ("redaction_report.json", json(&redactions())?),
        ("restore_plan.json", json(&restore_plan()?)?),
        ("restore_report.json", json(&restore_report())?),
        ("verify_report.json", json(&verify_report())?),
        ("verify_report_not_checked.json", json(&verify_report_not_checked())?),
        ("verify_report_signed.json", json(&verify_report_signed())?),
        ("snapshot_diff.json", json(&snapshot_diff())?),
        ("retention_tick_report.json", json(&retention_tick_report())?),
        ("secret_finding.json", json(&finding())?),
        ("secrets_report.json", json(&secrets())?),
    ];
    documents.extend(events(meta)?);
    documents.extend([
        ("event_created_encrypted.json", event(10, LifecycleEvent::Created(sealed_meta))?),
        (
            "event_restored_encrypted.json",
            event(11, LifecycleEvent::Restored(restore_report().without_contents()))?,
        ),
    ]);
    Ok(documents)
}

/// The same bundle, encrypted for two.
fn encrypted_file(manifest: &[u8]) -> BundleFile {
    let recipients_fingerprint = vec!["q5qdn0rwzs0v4gla".to_owned(), "t7m8vdlxs6rj2k0e".to_owned()];
    BundleFile {
        size_bytes: 1_048_912,
        sha256: Sha256Digest::of(b"the encrypted bundle"),
        root_digest: root_digest(manifest),
        encryption: Some(EncryptionInfo {
            scheme: "age-x25519".to_owned(),
            recipients_fingerprint,
        }),
    }
}

/// One event of each sort, as a subscriber gets it.
fn events(created: SnapshotMeta) -> Result<Vec<(&'static str, Vec<u8>)>, Failure> {
    let (agent_id, tenant, snapshot_id) = (agent(), Tenant::default(), id(1));
    let ts_ms = INSTANT_MS;
    let deleted = LifecycleEvent::Deleted { agent_id, tenant, snapshot_id, ts_ms };
    let gc = LifecycleEvent::Gc { ts_ms, report: retention_tick_report() };
    let hashed = MutationEvent {
        op: MutationOp::Update,
        old_hash: Some(Sha256Digest::of(b"then").to_string()),
        new_hash: Some(Sha256Digest::of(b"now").to_string()),
        ..mutation()
    };
    Ok(vec![
        ("event_created.json", event(4, LifecycleEvent::Created(created))?),
        ("event_restored.json", event(5, LifecycleEvent::Restored(restore_report()))?),
        ("event_deleted.json", event(6, deleted)?),
        ("event_gc.json", event(7, gc)?),
        ("event_mutation.json", event(8, mutation())?),
        ("event_mutation_hashes.json", event(9, hashed)?),
    ])
}

fn event(n: u8, event: impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    json(&Envelope { event_id: EventId::from(id(n)), event })
}

fn mutation() -> MutationEvent {
    MutationEvent {
        agent_id: agent(),
        tenant: Tenant::default(),
        scope: MutationScope::SqliteLongTerm,
        op: MutationOp::Insert,
        key: "facts:17".to_owned(),
        old_hash: None,
        new_hash: None,
        ts_ms: INSTANT_MS,
    }
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    let mut bytes = to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn manifest() -> Result<Manifest, ParseError> {
    Ok(Manifest {
        manifest_version: MANIFEST_VERSION,
        bundle_format: BUNDLE_FORMAT.to_owned(),
        snapshot_id: id(1),
        agent_id: agent(),
        tenant: Tenant::default(),
        public_label: false,
        label: Some("before the \"dream\"".to_owned()),
        created_at_ms: INSTANT_MS,
        created_by: CreatedBy::from_static("cli"),
        schema_versions: SchemaVersions::CURRENT,
        git: Some(git()),
        artifacts: artifacts()?,
        redactions: None,
        encryption: None,
        attestation: Some(Attestation {
            key_id: "1BAF0D32DD56A833".to_owned(),
            signature: "c2lnbmF0dXJlIG9mIG9uZSBzbmFwc2hvdCBieSBvbmUga2V5LCA2NCBieXRlcyBpbiBiYXNlNjQhISEhIQ==".to_owned(),
        }),
        rewritten_from: Some(provenance()),
        tool_versions: BTreeMap::from([
            ("nexo-memory-snapshot".to_owned(), "0.2.0".to_owned()),
            ("sqlite".to_owned(), "3.54.1".to_owned()),
        ]),
        capture: ManifestCapture { not_carried: not_carried(), unstable: unstable() },
    })
}

fn provenance() -> Provenance {
    Provenance {
        bundle_format: BUNDLE_FORMAT_V1.to_owned(),
        bundle_sha256: Sha256Digest::of(b"the old bundle"),
        seal: Sha256Digest::of(b"the digests of its artifacts"),
        created_by: "Admin UI".to_owned(),
        label: Some("two\nlines".to_owned()),
        tool_versions: BTreeMap::from([("nexo_version".to_owned(), "0.1.5".to_owned())]),
    }
}

fn redactions() -> RedactionReport {
    RedactionReport {
        policy: "house".to_owned(),
        rules_applied: vec!["customer".to_owned(), "github-pat".to_owned()],
        matches_redacted: 5,
        artifacts_touched: vec![
            "sqlite/long_term.sqlite".to_owned(),
            "memory_files/MEMORY.md".to_owned(),
        ],
        matches_per_artifact: vec![4, 1],
        copy_of: Some(id(2)),
        git_history: GitHistory::Rewrite,
        signatures_dropped: 2,
        vectors_deleted: 3,
        notes: vec!["store long_term: the index facts_fts was emptied".to_owned()],
        receipt: Some(RedactionReceipt {
            clean: true,
            bytes_searched: 104_857_600,
            rules: 240,
            secrets: 4,
        }),
    }
}

fn secrets() -> SecretsReport {
    SecretsReport {
        snapshot_id: Some(id(1)),
        policy: "house".to_owned(),
        findings: 3,
        by_rule: BTreeMap::from([("customer".to_owned(), 1), ("github-pat".to_owned(), 2)]),
        artifacts: 12,
        bytes_searched: 104_857_600,
    }
}

fn finding() -> SecretFinding {
    SecretFinding {
        artifact: "sqlite/long_term.sqlite".to_owned(),
        place: "table facts, column text, rowid 3".to_owned(),
        rule: "github-pat".to_owned(),
        masked: "ghp_... (40 bytes)".to_owned(),
    }
}

/// One artifact of every kind, one of them with a name and one with a target that is not UTF-8.
fn artifacts() -> Result<Vec<Artifact>, ParseError> {
    let file = |path: &str, kind| file(BundlePath::parse(path)?, kind);
    let memory = BundlePath::parse("memory_files")?;
    Ok(vec![
        store("long_term"),
        store("vector"),
        store("concepts"),
        store("compactions"),
        store("auto:cache/index.db"),
        file("git/memory.bundle", ArtifactKind::GitBundle)?,
        file("memory_files/MEMORY.md", ArtifactKind::MemoryFile)?,
        Artifact::dir(memory.join(b"empty")?, 0o755, INSTANT_MS * 1_000_000),
        Artifact::symlink(memory.join(b"latest")?, b"notes/\xff".to_vec(), INSTANT_MS * 1_000_000),
        self::file(memory.join(b"caf\xe9.md")?, ArtifactKind::MemoryFile)?,
        file("state/extract_cursor.json", ArtifactKind::StateExtractCursor)?,
        file("state/dream_run.json", ArtifactKind::StateDreamRun)?,
    ])
}

fn file(path: BundlePath, kind: ArtifactKind) -> Result<Artifact, ParseError> {
    let on_disk = kind == ArtifactKind::MemoryFile;
    let sha256 = Sha256Digest::of(path.as_bytes());
    let spec = FileSpec {
        path,
        kind,
        size_bytes: 42,
        mode: on_disk.then_some(0o640),
        mtime_ns: on_disk.then_some(INSTANT_MS * 1_000_000 + 123_456_789),
    };
    Ok(spec.into_artifact(sha256))
}

fn store(name: &'static str) -> Artifact {
    let store = StoreName::from_static(name);
    Artifact {
        path: store.bundle_path(),
        kind: ArtifactKind::of_store(&store),
        size_bytes: 4096 * 7,
        sha256: Sha256Digest::of(name.as_bytes()),
        mode: None,
        mtime_ns: None,
        link: None,
        sqlite: Some(SqliteInfo {
            store,
            page_size: 4096,
            page_count: 7,
            journal_mode: "wal".to_owned(),
            integrity: "ok".to_owned(),
        }),
    }
}

fn git() -> GitInfo {
    let direct = |name: &str, n| GitRef { name: name.to_owned(), oid: Some(oid(n)), target: None };
    GitInfo {
        head_oid: Some(oid(1)),
        head_subject: Some("Remember the port".to_owned()),
        head_author: Some("Ana <ana@example.org>".to_owned()),
        head_ts_ms: Some(INSTANT_MS - 60_000),
        head_ref: Some("refs/heads/main".to_owned()),
        refs: vec![
            direct("refs/heads/main", 1),
            direct("refs/tags/v1", 2),
            GitRef {
                name: "refs/remotes/origin/HEAD".to_owned(),
                oid: None,
                target: Some("refs/remotes/origin/main".to_owned()),
            },
        ],
        stash: vec![GitStash { oid: oid(3), message: "WIP on main".to_owned() }],
        shallow: vec![oid(4)],
    }
}

fn capture() -> CaptureInfo {
    CaptureInfo {
        instant_ms: INSTANT_MS,
        writers_held_us: 80,
        stores: vec![StoreCapture {
            store: StoreName::from_static("long_term"),
            size_bytes: 4096 * 7,
            journal_mode: "wal".to_owned(),
            held_through_copy: false,
            integrity: "ok".to_owned(),
        }],
        not_carried: not_carried(),
        unstable: unstable(),
    }
}

fn restore_plan() -> Result<RestorePlan, ParseError> {
    let plan = |store, target: &str, action| StorePlan {
        store: StoreName::from_static(store),
        target: PathBuf::from(target),
        action,
        size_bytes: 4096 * 7,
    };
    Ok(RestorePlan {
        agent_id: agent(),
        tenant: Tenant::default(),
        from: id(1),
        of_agent: None,
        created_at_ms: INSTANT_MS,
        label: Some("before the \"dream\"".to_owned()),
        auto_pre_snapshot: true,
        stores: vec![
            plan("long_term", "/srv/ana/long_term.sqlite", StoreAction::Replace),
            plan("vector", "/srv/ana/vector.sqlite", StoreAction::Create),
            plan("concepts", "/srv/ana/concepts.sqlite", StoreAction::Empty),
        ],
        files: FilePlan {
            write: vec!["MEMORY.md".to_owned()],
            touch: vec!["notes/a.md".to_owned()],
            remove: vec!["poison.md".to_owned()],
            unchanged: 40,
        },
        git: Some(GitPlan {
            head_now: Some(oid(5)),
            head_then: Some(oid(1)),
            refs_set: vec!["refs/heads/main".to_owned()],
            refs_deleted: vec!["refs/heads/scratch".to_owned()],
        }),
        state: vec!["extract_cursor".to_owned(), "dream_run".to_owned()],
        space: vec![SpaceNeed {
            at: PathBuf::from("/srv/ana"),
            needed_bytes: 65_536,
            free_bytes: 1 << 30,
        }],
        notes: vec!["pid 4121 has long_term open".to_owned()],
        into: None,
    })
}

fn restore_report() -> RestoreReport {
    RestoreReport {
        agent_id: agent(),
        tenant: Some(Tenant::default()),
        from: id(1),
        pre_snapshot: Some(id(2)),
        git_reset_oid: Some(oid(1)),
        sqlite_restored_dbs: vec!["long_term".to_owned(), "vector".to_owned()],
        state_files_restored: vec!["extract_cursor".to_owned()],
        workers_restarted: true,
        dry_run: false,
        writers_held_us: Some(12_500),
        readers_held_us: None,
        memory_files: Some(RowCounts { added: 1, changed: 2, removed: 3 }),
        notes: Vec::new(),
    }
}

fn listing(meta: SnapshotMeta) -> Listing {
    let problem = ListProblem {
        path: bundle_path(),
        id: Some(id(2)),
        kind: ProblemKind::HalfDeleted,
        why: "a delete died half-way; the snapshot is gone".to_owned(),
    };
    let unknown = ListProblem {
        path: "/vault/tenants/default/snapshots/ana/notes.txt".into(),
        id: None,
        kind: ProblemKind::Unknown,
        why: "not part of any snapshot".to_owned(),
    };
    Listing { snapshots: vec![meta], problems: vec![problem, unknown] }
}

fn verify_report() -> VerifyReport {
    VerifyReport {
        bundle: bundle_path(),
        manifest_ok: true,
        bundle_sha256_ok: false,
        per_artifact_ok: false,
        schema_versions: Some(SchemaVersions::CURRENT),
        age_protected: false,
        inside: Inside::Bad,
        signature: None,
        refused: None,
        damage: vec![
            Damage {
                artifact: "sqlite/vector.sqlite".to_owned(),
                frame: Some(17),
                why: "the frame's checksum does not hold".to_owned(),
            },
            Damage {
                artifact: "bundle".to_owned(),
                frame: None,
                why: "another SHA-256".to_owned(),
            },
        ],
    }
}

fn verify_report_signed() -> VerifyReport {
    let signature = SignatureReport {
        key_id: "1BAF0D32DD56A833".to_owned(),
        status: SignatureStatus::UnknownKey,
    };
    VerifyReport {
        bundle: bundle_path(),
        manifest_ok: true,
        bundle_sha256_ok: true,
        per_artifact_ok: true,
        schema_versions: Some(SchemaVersions::CURRENT),
        age_protected: false,
        inside: Inside::Good,
        signature: Some(signature),
        refused: Some(
            "a signature is required, and 1BAF0D32DD56A833, whose it says it has, is not trusted"
                .to_owned(),
        ),
        damage: Vec::new(),
    }
}

fn verify_report_not_checked() -> VerifyReport {
    VerifyReport {
        bundle: bundle_path(),
        manifest_ok: false,
        bundle_sha256_ok: true,
        per_artifact_ok: false,
        schema_versions: None,
        age_protected: true,
        inside: Inside::NotChecked,
        signature: None,
        refused: None,
        damage: Vec::new(),
    }
}

fn snapshot_diff() -> SnapshotDiff {
    let counts = RowCounts { added: 14, changed: 3, removed: 1 };
    let long_term = StoreName::from_static("long_term");
    let mut sqlite_summary = SqliteSummary::default();
    sqlite_summary.record(&long_term, counts);
    SnapshotDiff {
        a: id(1),
        b: SnapshotId::nil(),
        live: true,
        git_summary: GitSummary {
            commits_between: 2,
            files_changed: 3,
            insertions: 40,
            deletions: 5,
        },
        sqlite_summary,
        state_summary: StateSummary { extract_cursor_changed: true, last_dream_run_changed: false },
        stores: BTreeMap::from([(long_term.clone(), counts)]),
        tables: BTreeMap::from([(long_term, BTreeMap::from([("facts".to_owned(), counts)]))]),
        memory_files: RowCounts { added: 1, changed: 1, removed: 0 },
        not_compared: vec![NotCompared {
            store: StoreName::from_static("vector"),
            table: Some("places".to_owned()),
            why: "a virtual table, whose rows cannot be read here".to_owned(),
        }],
        notes: vec!["long_term: index by_time is new".to_owned()],
    }
}

fn retention_tick_report() -> RetentionTickReport {
    RetentionTickReport {
        bundles_deleted: 3,
        orphan_staging_dirs_removed: 1,
        agents_visited: 2,
        errors: 1,
        failures: vec!["default/ana: the vault is locked".to_owned()],
    }
}

fn not_carried() -> Vec<NotCarried> {
    vec![NotCarried { path: "run/agent.sock".to_owned(), why: "a socket".to_owned() }]
}

fn unstable() -> Vec<UnstableFile> {
    vec![UnstableFile { path: "log.md".to_owned(), why: "changed around the cut".to_owned() }]
}

fn agent() -> AgentId {
    AgentId::from_static("ana")
}

fn id(n: u8) -> SnapshotId {
    SnapshotId::from_random_bytes([n; 16])
}

fn oid(n: u8) -> GitOid {
    match format!("{n:040x}").parse() {
        Ok(oid) => oid,
        Err(e) => unreachable!("40 hexadecimal digits are an object id: {e}"),
    }
}

fn bundle_path() -> PathBuf {
    PathBuf::from(format!("/var/lib/nexo-memory/tenants/default/snapshots/ana/{}.tar.zst", id(1)))
}
