//! Properties of the manifest codec: whatever can be written can be read again as it was, and no
//! bytes at all make the parser panic.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use snapshot_core::{
    AgentId, Artifact, ArtifactKind, BUNDLE_FORMAT, BundlePath, CreatedBy, ErrorKind, FileSpec,
    GitInfo, GitOid, GitRef, GitStash, MANIFEST_VERSION, MAX_ARTIFACTS, MAX_LISTED,
    MAX_MANIFEST_BYTES, Manifest, ManifestCapture, NotCarried, SchemaVersions, Sha256Digest,
    SnapshotId, SqliteInfo, StoreName, Tenant,
};

/// A component of a path: any bytes that Linux takes, often not UTF-8.
fn component() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[a-z]{1,8}".prop_map(String::into_bytes),
        2 => vec(prop_oneof![1u8..=b'.', b'0'..=255], 1..12),
    ]
    .prop_filter("no . or ..", |name| name != b"." && name != b"..")
}

/// An entry of the memdir at `name`.
fn memory_entry(name: Vec<u8>) -> impl Strategy<Value = Artifact> {
    let path = BundlePath::parse("memory_files").unwrap().join(&name).unwrap();
    let (dir, link) = (path.clone(), path.clone());
    let mtime = any::<i64>();
    prop_oneof![
        (any::<u64>(), 0..=0o7777u32, mtime, any::<[u8; 32]>()).prop_map(
            move |(size_bytes, mode, mtime_ns, sha256)| {
                let spec = FileSpec {
                    path: path.clone(),
                    kind: ArtifactKind::MemoryFile,
                    size_bytes,
                    mode: Some(mode),
                    mtime_ns: Some(mtime_ns),
                };
                spec.into_artifact(Sha256Digest::from_bytes(sha256))
            }
        ),
        (0..=0o7777u32, mtime).prop_map(move |(mode, ns)| Artifact::dir(dir.clone(), mode, ns)),
        (vec(1u8.., 1..30), mtime).prop_map(move |(target, ns)| Artifact::symlink(
            link.clone(),
            target,
            ns
        )),
    ]
}

/// Entries with distinct names, none below another.
fn memory_entries() -> impl Strategy<Value = Vec<Artifact>> {
    btree_set(component(), 0..12).prop_flat_map(|names: BTreeSet<Vec<u8>>| {
        names.into_iter().map(memory_entry).collect::<Vec<_>>()
    })
}

fn store() -> impl Strategy<Value = SqliteInfo> {
    let name = prop_oneof![
        Just("long_term".to_owned()),
        "[a-z0-9]{1,20}",
        "[a-z]{1,5}/[a-zé ]{1,8}".prop_map(|path| format!("auto:{path}")),
    ];
    (name, 9..=16u32, any::<u32>(), ".{0,20}").prop_map(|(name, bits, page_count, integrity)| {
        SqliteInfo {
            store: name.parse().unwrap(),
            page_size: 1 << bits,
            page_count,
            journal_mode: "wal".to_owned(),
            integrity,
        }
    })
}

fn stores() -> impl Strategy<Value = Vec<Artifact>> {
    vec(store(), 0..4).prop_map(|infos| {
        let by_name: BTreeMap<StoreName, SqliteInfo> =
            infos.into_iter().map(|info| (info.store.clone(), info)).collect();
        by_name.into_values().map(store_artifact).collect()
    })
}

fn store_artifact(info: SqliteInfo) -> Artifact {
    Artifact {
        path: info.store.bundle_path(),
        kind: ArtifactKind::of_store(&info.store),
        size_bytes: u64::from(info.page_size) * u64::from(info.page_count),
        sha256: Sha256Digest::of(b"store"),
        mode: None,
        mtime_ns: None,
        link: None,
        sqlite: Some(info),
    }
}

fn oid() -> impl Strategy<Value = GitOid> {
    "[0-9a-f]{40}".prop_map(|text| text.parse().unwrap())
}

fn git() -> impl Strategy<Value = GitInfo> {
    let git_ref = (".{1,20}", option::of(oid()), option::of(".{1,20}"))
        .prop_map(|(name, oid, target)| GitRef { name, oid, target });
    let stash = (oid(), ".{0,20}").prop_map(|(oid, message)| GitStash { oid, message });
    (
        option::of(oid()),
        option::of(".{0,30}"),
        option::of(any::<i64>()),
        vec(git_ref, 0..4),
        vec(stash, 0..3),
        vec(oid(), 0..3),
    )
        .prop_map(|(head_oid, head_subject, head_ts_ms, refs, stash, shallow)| GitInfo {
            head_oid,
            head_author: head_subject.clone(),
            head_subject,
            head_ts_ms,
            head_ref: None,
            refs,
            stash,
            shallow,
        })
}

prop_compose! {
    fn manifest()(
        id in any::<[u8; 16]>(),
        agent in "[a-z0-9]{1,64}",
        label in option::of(".{0,60}"),
        public_label in any::<bool>(),
        created_at_ms in any::<i64>(),
        git in option::of(git()),
        stores in stores(),
        memory in memory_entries(),
        tool_versions in btree_map("[a-z]{1,6}", ".{0,9}", 0..3),
        left_out in vec((".{0,20}", ".{0,20}"), 0..3),
    ) -> Manifest {
        Manifest {
            manifest_version: MANIFEST_VERSION,
            bundle_format: BUNDLE_FORMAT.to_owned(),
            snapshot_id: SnapshotId::from_random_bytes(id),
            agent_id: agent.parse::<AgentId>().unwrap(),
            tenant: Tenant::default(),
            label,
            public_label,
            created_at_ms,
            created_by: CreatedBy::from_static("cli"),
            schema_versions: SchemaVersions::CURRENT,
            git,
            artifacts: stores.into_iter().chain(memory).collect(),
            redactions: None,
            encryption: None,
            attestation: None,
            rewritten_from: None,
            tool_versions,
            capture: ManifestCapture {
                not_carried: left_out
                    .into_iter()
                    .map(|(path, why)| NotCarried { path, why })
                    .collect(),
                unstable: Vec::new(),
            },
        }
    }
}

proptest! {
    /// Would catch: a name that is not UTF-8 and comes back as another; a field that is lost.
    #[test]
    fn any_manifest_round_trips(manifest in manifest()) {
        let bytes = manifest.to_bytes().unwrap();
        let parsed = Manifest::parse(&bytes).unwrap();
        prop_assert_eq!(&parsed, &manifest);
        prop_assert_eq!(parsed.to_bytes().unwrap(), bytes);
    }

    /// Would catch: two entries for one path, where the last one read would win.
    #[test]
    fn a_path_listed_twice_is_refused(manifest in manifest(), pick in any::<prop::sample::Index>()) {
        prop_assume!(!manifest.artifacts.is_empty());
        let mut manifest = manifest;
        let again = manifest.artifacts[pick.index(manifest.artifacts.len())].clone();
        manifest.artifacts.push(again);
        prop_assert!(manifest.to_bytes().is_err());
    }

    /// Would catch: a parser that panics on, or believes, a document with one byte changed. A
    /// change may yield another valid manifest (a label's letter); it must then say so in its bytes.
    #[test]
    fn a_changed_byte_is_an_error_or_another_manifest(
        manifest in manifest(), pick in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut bytes = manifest.to_bytes().unwrap();
        let at = pick.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(parsed) = Manifest::parse(&bytes) {
            parsed.to_bytes().unwrap();
        }
    }

    /// Would catch: a panic on bytes that are no manifest at all.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::parse(&bytes).is_err());
    }
}

/// A manifest without anything, as JSON, with `more` fields.
fn with(more: &str) -> String {
    let id = "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d";
    format!(
        r#"{{"manifest_version":2,"bundle_format":"{BUNDLE_FORMAT}","snapshot_id":"{id}","agent_id":"ana",
        "tenant":"default","created_at_ms":0,"created_by":"cli","schema_versions":{{"long_term":1,"vector":1,
        "concepts":1,"compactions":1,"manifest":2}}{more}}}"#
    )
}

/// `count` times the same item.
fn many(item: &str, count: usize) -> String {
    vec![item; count].join(",")
}

/// Would catch: a short document that takes many times its length in memory, by a list that nobody counts: of version
/// 0.2 before this limit, 127 MiB of `""` took 1.3 GiB.
#[test]
fn every_list_holds_at_its_limit_and_not_past_it() {
    let oid = format!("\"{:040}\"", 1);
    let stash = format!(r#"{{"oid":{oid},"message":""}}"#);
    let left_out = r#"{"path":"","why":""}"#;
    let redactions = |list: &str, item: &str, count| {
        let applied = if list == "rules_applied" {
            String::new()
        } else {
            r#""rules_applied":[],"#.to_owned()
        };
        let touched = if list == "artifacts_touched" {
            String::new()
        } else {
            r#""artifacts_touched":[],"#.to_owned()
        };
        let items = many(item, count);
        format!(
            r#","artifacts":[],"redactions":{{"policy":"p","matches_redacted":1,{applied}{touched}"{list}":[{items}]}}"#
        )
    };
    let inside = |what: &str, list: &str, item: &str, count| {
        format!(r#","artifacts":[],"{what}":{{"{list}":[{}]}}"#, many(item, count))
    };
    let versions = |count| {
        let items: Vec<String> = (0..count).map(|n| format!(r#""{n}":"""#)).collect();
        format!(r#","artifacts":[],"tool_versions":{{{}}}"#, items.join(","))
    };
    let fingerprints = |count| {
        let items = many("\"\"", count);
        format!(
            r#","artifacts":[],"encryption":{{"scheme":"","recipients_fingerprint":[{items}]}}"#
        )
    };
    let at = |count: usize| {
        [
            inside("git", "refs", r#"{"name":""}"#, count),
            inside("git", "stash", &stash, count),
            inside("git", "shallow", &oid, count),
            inside("capture", "not_carried", left_out, count),
            inside("capture", "unstable", left_out, count),
            redactions("rules_applied", "\"\"", count),
            redactions("artifacts_touched", "\"\"", count),
            redactions("matches_per_artifact", "1", count),
            redactions("notes", "\"\"", count),
            fingerprints(count),
            versions(count),
        ]
    };
    for (within, past) in at(MAX_LISTED).into_iter().zip(at(MAX_LISTED + 1)) {
        let manifest = Manifest::parse(with(&within).as_bytes()).unwrap();
        manifest.to_bytes().unwrap();
        let refused = Manifest::parse(with(&past).as_bytes()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Integrity, "{}", &past[..60]);
    }
}

/// Would catch: a writer that lists more than a reader takes, and one more artifact than the limit that is read.
#[test]
fn artifacts_hold_at_their_limit_and_not_past_it() {
    let folder = |n: usize| {
        let path = BundlePath::parse(&format!("memory_files/{n}")).unwrap();
        Artifact::dir(path, 0o700, 0)
    };
    let mut manifest = Manifest::parse(with(r#","artifacts":[]"#).as_bytes()).unwrap();
    manifest.artifacts = (0..MAX_ARTIFACTS).map(folder).collect();
    let json = serde_json::to_vec(&manifest).unwrap();
    assert!(json.len() as u64 <= MAX_MANIFEST_BYTES, "{}", json.len());
    assert_eq!(Manifest::parse(&json).unwrap().artifacts.len(), MAX_ARTIFACTS);
    manifest.artifacts.push(folder(MAX_ARTIFACTS));
    let refused = Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Integrity);
    assert!(manifest.to_bytes().is_err());
    let mut manifest = Manifest::parse(with(r#","artifacts":[]"#).as_bytes()).unwrap();
    manifest.capture.not_carried =
        vec![NotCarried { path: String::new(), why: String::new() }; MAX_LISTED + 1];
    assert!(manifest.to_bytes().is_err());
}

/// Would catch: a manifest of any length read into memory, and one written that nobody reads.
#[test]
fn a_manifest_is_as_long_as_its_limit_and_no_longer() {
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap();
    let base = with(r#","label":"","artifacts":[]"#);
    let label = |bytes: usize| with(&format!(r#","label":"{}","artifacts":[]"#, "x".repeat(bytes)));
    let longest = label(limit - base.len());
    assert_eq!(longest.len(), limit);
    let mut manifest = Manifest::parse(longest.as_bytes()).unwrap();
    assert!(Manifest::parse(label(limit - base.len() + 1).as_bytes()).is_err());
    // Written with line ends and blanks it is longer.
    assert!(manifest.to_bytes().is_err());
    let written = |manifest: &mut Manifest, bytes: usize| {
        manifest.label = Some("x".repeat(bytes));
        manifest.to_bytes().map(|bytes| bytes.len())
    };
    let rest = written(&mut manifest, 0).unwrap();
    assert_eq!(written(&mut manifest, limit - rest).unwrap(), limit);
    assert!(written(&mut manifest, limit - rest + 1).is_err());
}

/// Would catch: a link to another place than the one that was sealed, or a folder with a digest that nothing has:
/// nothing but the manifest tells of either.
#[test]
fn what_has_no_content_has_the_digest_of_what_it_is() {
    let path = |name: &[u8]| BundlePath::parse("memory_files").unwrap().join(name).unwrap();
    let other = Sha256Digest::of(b"another");
    for artifact in
        [Artifact::symlink(path(b"a"), b"target".to_vec(), 0), Artifact::dir(path(b"b"), 0o700, 0)]
    {
        let with = |artifact: &Artifact| {
            with(&format!(r#","artifacts":[{}]"#, serde_json::to_string(artifact).unwrap()))
        };
        Manifest::parse(with(&artifact).as_bytes()).unwrap();
        let forged = Artifact { sha256: other, ..artifact };
        let refused = Manifest::parse(with(&forged).as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("digest"), "{refused}");
    }
}
