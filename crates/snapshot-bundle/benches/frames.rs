//! The inner loops of a bundle: compressing frames, hashing, verifying, reading one artifact.

#![expect(clippy::unwrap_used, reason = "a bench that fails measures nothing")]

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read};
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use snapshot_bundle::{Bundle, BundleWriter, FRAME_BYTES, VerifyOptions, WriteOptions};
use snapshot_core::{
    Artifact, ArtifactKind, ArtifactSink, BUNDLE_FORMAT, BundlePath, Control, FileSpec, Manifest,
    SchemaVersions, Sha256Digest,
};

/// Content of the bundle under test, in bytes.
const TOTAL: usize = 32 * FRAME_BYTES;
/// Files that it is split into.
const FILES: usize = 4;

/// Text-like bytes that compress about threefold, the same on every run.
fn text(length: usize) -> Vec<u8> {
    let words = ["memory", "agent", "the", "of", "snapshot", "fact", "dream", "cursor", "a", "is"];
    let mut state = 1u64;
    let mut text = Vec::with_capacity(length + 32);
    while text.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = words[usize::try_from(state >> 60).unwrap_or(0) % words.len()];
        text.extend_from_slice(format!("{word} {:x} ", state >> 48).as_bytes());
    }
    text.truncate(length);
    text
}

fn write_bundle(content: &[u8], out: File, threads: usize) -> (File, Manifest) {
    let options = WriteOptions { threads, ..WriteOptions::new(0) };
    let mut writer = BundleWriter::new(out, &options, Control::default()).unwrap();
    let artifacts = content.chunks(TOTAL / FILES).enumerate().map(|(n, mut part)| {
        let spec = FileSpec {
            path: BundlePath::parse(&format!("memory_files/{n}")).unwrap(),
            kind: ArtifactKind::MemoryFile,
            size_bytes: part.len() as u64,
            mode: Some(0o600),
            mtime_ns: Some(0),
        };
        writer.put_file(spec, &mut part).unwrap()
    });
    let artifacts: Vec<Artifact> = artifacts.collect();
    let json = serde_json::json!({
        "manifest_version": 2, "bundle_format": BUNDLE_FORMAT, "agent_id": "ana",
        "snapshot_id": "6f3b7a0e-57a4-4b52-9d6e-0d2f3a1b4c5d", "tenant": "default",
        "created_at_ms": 0, "created_by": "cli", "schema_versions": SchemaVersions::CURRENT,
        "artifacts": artifacts,
    });
    let manifest = Manifest::parse(json.to_string().as_bytes()).unwrap();
    (writer.finish(&manifest).unwrap().out, manifest)
}

fn frames(c: &mut Criterion) {
    let content = text(TOTAL);
    let (file, manifest) = write_bundle(&content, tempfile::tempfile().unwrap(), 2);
    let bundle = Bundle::open(file, Path::new("bench.tar.zst")).unwrap();

    let mut group = c.benchmark_group("bundle");
    group.sample_size(10).throughput(Throughput::Bytes(TOTAL as u64));
    group.bench_function("hash", |b| b.iter(|| Sha256Digest::of(black_box(&content))));
    for threads in [1, 2] {
        group.bench_function(format!("write, {threads} threads"), |b| {
            b.iter(|| write_bundle(&content, tempfile::tempfile().unwrap(), threads));
        });
        let options = VerifyOptions { threads, ..VerifyOptions::default() };
        group.bench_function(format!("verify, {threads} threads"), |b| {
            b.iter(|| bundle.verify(&options, &Control::default()).unwrap());
        });
    }
    group.throughput(Throughput::Bytes((TOTAL / FILES) as u64));
    group.bench_function("read one artifact", |b| {
        b.iter(|| {
            let path = &manifest.artifacts[FILES / 2].path;
            let mut reader: Box<dyn Read> = Box::new(bundle.read(path).unwrap());
            io::copy(&mut reader, &mut io::sink()).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, frames);
criterion_main!(benches);
