//! What goes into a bundle comes out of it, whatever the number of threads.

use std::collections::BTreeSet;
use std::io::{self, Read};

use proptest::prelude::*;
use snapshot_bundle::{Bundle, BundleError, BundleWriter};
use snapshot_core::{ArtifactSource, BundlePath, Control, ErrorKind, Inside, Sha256Digest};

use crate::support::{
    Built, Item, MIB, Parts, build, build_with, expecting, mixed, noise, options,
};

fn read(built: &Built, path: &BundlePath) -> Vec<u8> {
    let mut content = Vec::new();
    built.open().read(path).unwrap().read_to_end(&mut content).unwrap();
    content
}

fn assert_round_trip(items: &[Item], built: &Built) {
    let report =
        built.open().verify(&expecting(Some(&built.sidecar)), &Control::default()).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(built.manifest.artifacts.len(), items.len());
    for (item, artifact) in items.iter().zip(&built.manifest.artifacts) {
        assert_eq!(item.path(), artifact.path);
        match item {
            Item::File { content, .. } => {
                assert!(read(built, &artifact.path) == *content, "content of {}", artifact.path);
                assert_eq!(artifact.sha256, Sha256Digest::of(content));
            }
            Item::Dir { .. } | Item::Link { .. } => {
                let error = built.open().read(&artifact.path).unwrap_err();
                assert!(matches!(error, BundleError::Artifact { .. }), "{error}");
            }
        }
    }
}

/// Catches layouts that depend on timing, and digests that are not those of the file.
#[test]
fn the_same_input_gives_the_same_bytes_with_any_number_of_threads() {
    let one = build_with(&mixed(), 1);
    assert_round_trip(&mixed(), &one);
    assert_eq!(one.sidecar.bundle_sha256, Sha256Digest::of(&one.bytes()));
    assert_eq!(one.sidecar.bundle_size_bytes, one.bytes().len() as u64);
    assert_eq!(one.sidecar.root_digest, Some(one.open().root_digest()));
    for threads in [2, 5] {
        assert!(build_with(&mixed(), threads).bytes() == one.bytes(), "{threads} threads");
    }
}

/// Catches a reader that decodes more than it needs, and a large artifact that shares frames.
#[test]
fn one_artifact_costs_only_its_own_frames() {
    let built = build(&mixed());
    let bundle = built.open();
    assert!(bundle.frames() > 6);
    let frames_of = |name: &str| {
        let path = BundlePath::parse(&format!("memory_files/{name}")).unwrap();
        let mut reader = bundle.read(&path).unwrap();
        io::copy(&mut reader, &mut io::sink()).unwrap();
        reader.frames_read()
    };
    assert_eq!(frames_of("large"), 3);
    assert_eq!(frames_of("exact"), 1);
    assert_eq!(frames_of("notes/1"), 1);
    assert_eq!(frames_of("notes/7"), 0, "the shared frame was at hand");
    assert_eq!(frames_of("empty"), 0);
}

/// Catches cuts that move with what lies before: the same content must give the same frames.
#[test]
fn a_large_artifact_is_cut_at_fixed_offsets_of_its_own() {
    let large = Item::file("large", noise(3 * MIB + 17, 9));
    let alone = Parts::of(&build(std::slice::from_ref(&large)).bytes()).unwrap();
    let before: Vec<_> = (0..40).map(|n| Item::file(&format!("b{n}"), noise(50_000, n))).collect();
    let behind = Parts::of(&build(&[before, vec![large]].concat()).bytes()).unwrap();
    for frame in &alone.frames[1..=4] {
        assert!(behind.frames.contains(frame));
    }
    assert_eq!(
        alone.frames[1..=4].iter().map(|(_, n)| *n).collect::<Vec<_>>(),
        [MIB, MIB, MIB, 512]
    );
}

/// Catches a verified bundle that gives out something else than was verified.
#[test]
fn a_verified_bundle_is_a_source_with_errors_of_a_kind() {
    let built = build(&mixed());
    let control = Control::default();
    let verified = built.open().into_verified(&expecting(Some(&built.sidecar)), &control).unwrap();
    assert_eq!(verified.manifest(), &built.manifest);
    assert_eq!(verified.bundle().root_digest(), built.open().root_digest());
    let mut content = Vec::new();
    let path = BundlePath::parse("memory_files/exact").unwrap();
    verified.open(&path).unwrap().read_to_end(&mut content).unwrap();
    assert_eq!(content, vec![7; MIB]);
    let missing = BundlePath::parse("memory_files/none").unwrap();
    let error = verified.open(&missing).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Usage);
}

/// Catches a check that reports success without having run.
#[test]
fn without_a_sidecar_the_file_digest_is_not_reported_as_right() {
    let built = build(&mixed());
    let report = built.open().verify(&expecting(None), &Control::default()).unwrap();
    assert!(!report.bundle_sha256_ok && !report.is_good());
    assert!(report.manifest_ok && report.per_artifact_ok && report.damage.is_empty());
    assert_eq!(report.inside, Inside::Good);
    assert!(built.open().into_verified(&expecting(None), &Control::default()).is_ok());
}

/// Catches verifications and writes that cannot be stopped.
#[test]
fn a_cancelled_verification_is_interrupted() {
    let control = Control::default();
    control.cancel();
    let error = build(&mixed()).open().verify(&expecting(None), &control).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let sizes = prop_oneof![
        4 => 0..3000usize,
        1 => MIB - 1600..MIB + 1600,
        1 => 2 * MIB - 2..2 * MIB + 2,
    ];
    let name = prop_oneof![4 => 1..60usize, 1 => 90..120usize, 1 => 240..=255usize];
    let item = (0..5u8, sizes, name, any::<u64>(), 0..=0o7777u32, any::<i64>());
    prop::collection::vec(item, 0..12).prop_map(|items| {
        let mut taken = BTreeSet::new();
        let item = |(shape, size, length, seed, mode, mtime_ns)| {
            let name: Vec<u8> = noise(length, seed)
                .into_iter()
                .map(|byte| if matches!(byte, 0 | b'/' | b'.') { b'x' } else { byte })
                .collect();
            match shape {
                0 => Item::Dir { name },
                1 => Item::Link { target: name.repeat(3), name },
                _ => Item::File { content: noise(size, seed), name, mode, mtime_ns },
            }
        };
        items.into_iter().map(item).filter(|item| taken.insert(item.path())).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_set_of_files_round_trips(items in items(), threads in 1..4usize) {
        assert_round_trip(&items, &build_with(&items, threads));
    }
}

/// Would catch: frames that are compressed again or lost on the way to another manifest, an index that is the
/// old one's, a manifest of other artifacts that is let through.
#[test]
fn another_manifest_of_the_same_artifacts_leaves_their_frames_as_they_are() {
    for items in [mixed(), Vec::new(), vec![Item::file("one", "x")]] {
        let built = build(&items);
        let again = tempfile::NamedTempFile::new().unwrap();
        let resumed = || {
            let out = again.reopen().unwrap();
            BundleWriter::after_artifacts_of(&built.open(), out, &options(2), Control::default())
                .unwrap()
        };
        let mut said = built.manifest.clone();
        said.label = Some("said later".to_owned());
        resumed().finish(&said).unwrap();
        let bundle = Bundle::open(again.reopen().unwrap(), again.path()).unwrap();
        assert_eq!(*bundle.manifest(), said);
        assert!(bundle.verify(&expecting(None), &Control::default()).unwrap().damage.is_empty());
        let data = |bytes: &[u8]| {
            let parts = Parts::of(bytes).unwrap();
            parts.frames[..parts.manifest_frame()].to_vec()
        };
        assert_eq!(data(&std::fs::read(again.path()).unwrap()), data(&built.bytes()));

        let mut other = said.clone();
        other.artifacts.pop();
        if !said.artifacts.is_empty() {
            let refused = resumed().finish(&other);
            assert!(matches!(refused, Err(BundleError::ManifestMismatch { .. })));
        }
    }
}
