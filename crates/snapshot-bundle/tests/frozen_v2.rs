//! The frozen bundle of format v2 (`fixtures/v2`): what was written once must be read for ever. If this
//! fails, the reader is wrong, not the fixture.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

use snapshot_bundle::{Bundle, VerifyOptions};
use snapshot_core::{ArtifactKind, BundlePath, Control, Sidecar};

const BUNDLE: &str = "00000001-0000-4000-8000-000000000000.tar.zst";
const SIDECAR: &str = "00000001-0000-4000-8000-000000000000.manifest.json";
const SUM: &str = "00000001-0000-4000-8000-000000000000.tar.zst.sha256";

/// Over the manifest's exact bytes, and through them over everything.
const ROOT_DIGEST: &str = "7245f9723bec5204949710383af71f913962f8bdee64b05da057ee9b47e213c0";

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/v2")).join(name)
}

fn open() -> Bundle {
    let path = fixture(BUNDLE);
    Bundle::open(File::open(&path).unwrap(), &path).unwrap()
}

fn sidecar() -> Sidecar {
    Sidecar::parse(&fs::read(fixture(SIDECAR)).unwrap()).unwrap()
}

/// Would catch: a reader that no longer accepts, or no longer checks, what 0.2.0 wrote.
#[test]
fn it_verifies_with_everything_beside_it() {
    let (bundle, sidecar) = (open(), sidecar());
    assert_eq!(bundle.root_digest().to_string(), ROOT_DIGEST);
    let options = VerifyOptions { expect: Some(&sidecar), threads: 2, ..VerifyOptions::default() };
    let report = bundle.verify(&options, &Control::default()).unwrap();
    assert!(report.is_good(), "{report:?}");
    let sum = fs::read_to_string(fixture(SUM)).unwrap();
    assert_eq!(sum, format!("{}  {BUNDLE}\n", sidecar.bundle_sha256));
}

/// Would catch: a manifest field that is read differently than it was written.
#[test]
fn its_manifest_says_what_it_said() {
    let bundle = open();
    let manifest = bundle.manifest();
    assert_eq!((manifest.agent_id.as_str(), manifest.label.as_deref()), ("ana", Some("frozen")));
    assert_eq!(manifest.created_at_ms, 1_795_302_600_000);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for artifact in &manifest.artifacts {
        *kinds.entry(artifact.kind.to_string()).or_default() += 1;
    }
    let count = |kind: ArtifactKind| kinds.get(&kind.to_string()).copied().unwrap_or_default();
    assert_eq!(manifest.stores().count(), 4);
    assert_eq!((count(ArtifactKind::GitBundle), count(ArtifactKind::StateExtractCursor)), (1, 1));
    assert_eq!((count(ArtifactKind::MemorySymlink), count(ArtifactKind::MemoryDir)), (2, 5));
    assert!(count(ArtifactKind::MemoryFile) > 20, "{kinds:?}");
    let modes: BTreeMap<&str, &str> = manifest
        .stores()
        .map(|(info, _)| (info.store.as_str(), info.journal_mode.as_str()))
        .collect();
    assert_eq!((modes["concepts"], modes["vector"]), ("delete", "wal"));
    let git = manifest.git.as_ref().unwrap();
    assert_eq!(git.head_ref.as_deref(), Some("refs/heads/main"));
    assert_eq!(git.stash.len(), 1);
    assert!(git.refs.iter().any(|r| r.name == "refs/tags/v1"), "{:?}", git.refs);
}

/// Would catch: a seek table or a name that is read differently than it was written.
#[test]
fn single_artifacts_are_read_from_the_middle() {
    let bundle = open();
    let read = |path: &[u8]| {
        let mut content = Vec::new();
        let path = BundlePath::from_bytes(path).unwrap();
        bundle.read(&path).unwrap().read_to_end(&mut content).unwrap();
        content
    };
    assert_eq!(read(b"memory_files/inbox/caf\xe9.md"), b"latin1");
    assert_eq!(read(b"memory_files/.gitignore"), b"cache/\n*.tmp\n");
    assert!(read(b"git/memory.bundle").starts_with(b"# v2 git bundle\n"));
    let store = read(b"sqlite/compactions.sqlite");
    assert!(store.starts_with(b"SQLite format 3\0") && store.len() > 3 << 20, "{}", store.len());
}
