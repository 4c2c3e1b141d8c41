//! Bundles for tests: written by the crate, and taken apart and put together by hand.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;
use snapshot_bundle::{
    Bundle, BundleError, BundleWriter, Finished, Identities, VerifyOptions, WriteOptions,
};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BUNDLE_FORMAT, BundlePath, Control, FileSpec, Manifest,
    PortError, SchemaVersions, Sidecar, VerifyReport,
};
pub(crate) use snapshot_testkit::damage::{Parts, compress, seal};
use tempfile::NamedTempFile;

/// The time of every bundle here, in milliseconds.
pub(crate) const CREATED_AT_MS: i64 = 1_700_000_000_500;
/// One frame, in bytes.
pub(crate) const MIB: usize = 1 << 20;

/// Something to put into a bundle, below `memory_files/`.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    File { name: Vec<u8>, content: Vec<u8>, mode: u32, mtime_ns: i64 },
    Dir { name: Vec<u8> },
    Link { name: Vec<u8>, target: Vec<u8> },
}

/// A bundle that was written.
pub(crate) struct Built {
    pub(crate) file: NamedTempFile,
    pub(crate) manifest: Manifest,
    pub(crate) sidecar: Sidecar,
    pub(crate) frames: u64,
}

impl Item {
    pub(crate) fn file(name: &str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        Self::File { name: name.into(), content, mode: 0o600, mtime_ns: 1_600_000_000_123_456_789 }
    }

    pub(crate) fn path(&self) -> BundlePath {
        let (Self::File { name, .. } | Self::Dir { name } | Self::Link { name, .. }) = self;
        BundlePath::from_bytes(&[b"memory_files/", name.as_slice()].concat()).unwrap()
    }

    pub(crate) fn put(&self, sink: &mut dyn ArtifactSink) -> Result<Artifact, PortError> {
        let entry = match self {
            Self::File { content, .. } => return sink.put_file(self.spec(), &mut &content[..]),
            Self::Dir { .. } => Artifact::dir(self.path(), 0o700, 1_600_000_000_000_000_000),
            Self::Link { target, .. } => Artifact::symlink(self.path(), target.clone(), 0),
        };
        sink.put_entry(&entry)?;
        Ok(entry)
    }

    pub(crate) fn spec(&self) -> FileSpec {
        let Self::File { content, mode, mtime_ns, .. } = self else { panic!("no file") };
        FileSpec {
            path: self.path(),
            kind: ArtifactKind::MemoryFile,
            size_bytes: content.len() as u64,
            mode: Some(*mode),
            mtime_ns: Some(*mtime_ns),
        }
    }
}

impl Built {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.file.reopen().unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn open(&self) -> Bundle {
        Bundle::open(self.file.reopen().unwrap(), self.file.path()).unwrap()
    }
}

pub(crate) fn options(threads: usize) -> WriteOptions {
    WriteOptions { threads, ..WriteOptions::new(CREATED_AT_MS) }
}

/// JSON of a manifest that lists `artifacts`.
pub(crate) fn manifest_json(artifacts: &[Artifact]) -> Value {
    serde_json::json!({
        "manifest_version": 2, "bundle_format": BUNDLE_FORMAT, "agent_id": "ana",
        "snapshot_id": "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "tenant": "default",
        "label": "before the dream", "created_at_ms": CREATED_AT_MS, "created_by": "cli",
        "schema_versions": SchemaVersions::CURRENT, "artifacts": artifacts,
    })
}

pub(crate) fn manifest(artifacts: &[Artifact]) -> Manifest {
    Manifest::parse(manifest_json(artifacts).to_string().as_bytes()).unwrap()
}

/// Writes `items` with `threads` threads.
pub(crate) fn build_with(items: &[Item], threads: usize) -> Built {
    let file = NamedTempFile::new().unwrap();
    let out = file.reopen().unwrap();
    let mut writer = BundleWriter::new(out, &options(threads), Control::default()).unwrap();
    let artifacts: Vec<_> = items.iter().map(|item| item.put(&mut writer).unwrap()).collect();
    let manifest = manifest(&artifacts);
    let Finished { size_bytes, sha256, root_digest, frames, .. } =
        writer.finish(&manifest).unwrap();
    let sidecar = Sidecar::of_plain(&manifest, root_digest, size_bytes, sha256);
    Built { file, manifest, sidecar, frames }
}

pub(crate) fn build(items: &[Item]) -> Built {
    build_with(items, 2)
}

/// Bytes that do not compress, the same for every `seed`.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(length);
    bytes
}

/// A bundle with folders, links, small files that share frames, and two that have their own.
pub(crate) fn mixed() -> Vec<Item> {
    let mut items = vec![
        Item::file("large", noise(2 * MIB + 1000, 1)),
        Item::Dir { name: b"notes".to_vec() },
        Item::Link { name: b"notes/link".to_vec(), target: b"../large".to_vec() },
        Item::file("empty", ""),
    ];
    items.extend(
        (0u8..8).map(|n| Item::file(&format!("notes/{n}"), noise(900 * usize::from(n), n.into()))),
    );
    items.push(Item::file("exact", vec![7; MIB]));
    items
}

/// A file that holds `bytes`.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

pub(crate) fn open_bytes(bytes: &[u8]) -> Result<Bundle, BundleError> {
    Bundle::open(file_of(bytes), Path::new("b.tar.zst"))
}

pub(crate) fn verify_bytes(bytes: &[u8], expect: Option<&Sidecar>) -> VerifyReport {
    let (path, control) = (Path::new("b.tar.zst"), Control::default());
    let (nobody, options) = (Identities::default(), expecting(expect));
    snapshot_bundle::verify_file(file_of(bytes), path, &nobody, &options, &control).unwrap()
}

/// A verification on two threads.
pub(crate) fn expecting(expect: Option<&Sidecar>) -> VerifyOptions<'_> {
    VerifyOptions { expect, threads: 2, ..VerifyOptions::default() }
}
