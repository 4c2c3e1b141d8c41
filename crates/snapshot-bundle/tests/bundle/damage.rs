//! Damage is noticed wherever it lies, and named.

use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use snapshot_bundle::{Bundle, BundleError};
use snapshot_core::{BundlePath, Control, ErrorKind, Inside, Sha256Digest, Sidecar};

use crate::support::{
    Built, Item, MIB, Parts, build, expecting, file_of, mixed, noise, open_bytes, verify_bytes,
};

/// `bytes` must be refused both as a report and as a source for a restore.
fn assert_noticed(bytes: &[u8], sidecar: &Sidecar, what: &str) {
    let report = verify_bytes(bytes, Some(sidecar));
    assert!(!report.is_good() && !report.damage.is_empty(), "{what}: {report:?}");
    let control = Control::default();
    if let Ok(bundle) = open_bytes(bytes) {
        assert!(bundle.into_verified(&expecting(Some(sidecar)), &control).is_err(), "{what}");
    }
}

/// Positions spread over `length` by a fixed seed, with the ends among them.
fn positions(length: usize, count: usize) -> Vec<usize> {
    let spread = noise(8 * count, 42);
    let spread = spread.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
    let mut positions: Vec<_> =
        spread.map(|n| usize::try_from(n % length as u64).unwrap()).collect();
    positions.extend([0, 1, length - 1, length - 5, length - 9, length - 10]);
    positions
}

/// A bundle small enough to be damaged hundreds of times, with every kind of part.
fn small() -> Built {
    let mut items = mixed();
    items.remove(0);
    items.insert(0, Item::file("large", noise(20, 3).repeat(MIB / 19)));
    build(&items)
}

/// Catches a byte that no check covers.
#[test]
fn every_flipped_bit_is_noticed() {
    let built = small();
    let bytes = built.bytes();
    for (n, at) in positions(bytes.len(), 300).into_iter().enumerate() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (n % 8);
        assert_noticed(&bad, &built.sidecar, &format!("bit {} of byte {at}", n % 8));
    }
}

/// Catches contents that change unnoticed where there is no sidecar to compare the file with.
#[test]
fn without_a_sidecar_what_passes_is_still_the_same_memory() {
    let built = small();
    let (bytes, control) = (built.bytes(), Control::default());
    let stream = Parts::of(&bytes).unwrap().stream().unwrap();
    for (n, at) in positions(bytes.len(), 300).into_iter().enumerate() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (n % 8);
        let Ok(bundle) = open_bytes(&bad) else { continue };
        if bundle.into_verified(&expecting(None), &control).is_ok() {
            // zstd ignores some bits; then the content is what it was.
            assert!(Parts::of(&bad).unwrap().stream().unwrap() == stream, "byte {at}");
        }
    }
}

/// Catches a short or long file that passes for the whole.
#[test]
fn every_truncation_and_every_appendix_is_noticed() {
    let built = small();
    let bytes = built.bytes();
    for at in positions(bytes.len(), 200) {
        assert_noticed(&bytes[..at], &built.sidecar, &format!("cut at {at}"));
        assert!(open_bytes(&bytes[..at]).is_err(), "cut at {at}");
    }
    for tail in [&b"\0"[..], b"x", &bytes, &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]] {
        let bad = [&bytes[..], tail].concat();
        assert!(open_bytes(&bad).is_err(), "{} bytes after the end", tail.len());
        assert_noticed(&bad, &built.sidecar, "appendix");
    }
    assert!(open_bytes(&[&b"junk"[..], &bytes].concat()).is_err());
}

/// Catches a report that stops at the first damage, or blames what is whole.
#[test]
fn damage_is_named_by_artifact_and_frame_and_the_rest_is_still_checked() {
    let built = build(&mixed());
    let bytes = built.bytes();
    let parts = Parts::of(&bytes).unwrap();
    let start_of =
        |frame: usize| -> usize { parts.frames[..frame].iter().map(|f| f.0.len()).sum() };
    // Frame 0 holds the first header; 1 to 3 `large`; 4 the small files.
    let mut bad = bytes.clone();
    bad[start_of(2) + 1000] ^= 1;
    bad[start_of(5) - 5] ^= 1;
    let report = verify_bytes(&bad, Some(&built.sidecar));
    let named = |frame| {
        let damage = report.damage.iter().filter(move |d| d.frame == Some(frame));
        damage
            .map(|d| d.artifact.trim_start_matches("memory_files/").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(named(2), ["large"]);
    let mut small = vec!["notes".to_owned(), "notes/link".into(), "empty".into()];
    small.extend((0..8).map(|n| format!("notes/{n}")));
    small.push("exact".into());
    assert_eq!(named(4), small);
    let about_file: Vec<_> = report.damage.iter().filter(|d| d.frame.is_none()).collect();
    assert_eq!(about_file.len(), 1, "{about_file:?}");
    assert_eq!(about_file[0].artifact, "sidecar");
    assert_eq!(report.damage.len(), 1 + small.len() + 1);
    assert!(report.manifest_ok && !report.per_artifact_ok && !report.bundle_sha256_ok);
    assert_eq!(report.inside, Inside::Bad);
}

/// Catches an artifact with another digest than the manifest's, in a file whose frames are whole.
#[test]
fn a_wrong_digest_is_named_and_its_last_bytes_are_never_given_out() {
    let built = build(&mixed());
    let mut parts = Parts::of(&built.bytes()).unwrap();
    let mut content = parts.content(3).unwrap();
    content[999] ^= 1;
    parts.set_content(3, &content).unwrap();
    let bytes = parts.to_bytes();
    let report = verify_bytes(&bytes, None);
    assert_eq!(report.damage.len(), 1, "{report:?}");
    assert_eq!(report.damage[0].artifact, "memory_files/large");
    assert!(report.damage[0].why.contains("digest"), "{report:?}");

    let bundle = open_bytes(&bytes).unwrap();
    let path = BundlePath::parse("memory_files/large").unwrap();
    let mut reader = bundle.read(&path).unwrap();
    let mut out = Vec::new();
    let error = reader.read_to_end(&mut out).unwrap_err();
    assert_eq!(out.len(), 2 * MIB, "the frame that completes it must be held back");
    let inner = error.get_ref().unwrap().downcast_ref::<BundleError>().unwrap();
    assert!(matches!(inner, BundleError::Mismatch { .. }), "{inner}");
    assert!(reader.read(&mut [0; 10]).is_err(), "a failed reader must not end in success");
    let again = bundle
        .read(&BundlePath::parse("memory_files/exact").unwrap())
        .map(|mut reader| io::copy(&mut reader, &mut io::sink()).unwrap());
    assert_eq!(again.unwrap(), MIB as u64);
}

/// Would catch: a manifest that is another one by the time that everything is read, in a file that is whole and as
/// long: what was verified would not be what is used.
#[test]
fn a_manifest_exchanged_since_it_was_opened_is_noticed() {
    let parts = Parts::of(&build(&[Item::file("MEMORY.md", "tea")]).bytes()).unwrap();
    let made_by = |name: u32| {
        let mut parts = Parts::of(&parts.to_bytes()).unwrap();
        let text = parts.manifest().unwrap().replace("\"ana\"", &format!("\"ana{name:08}\""));
        parts.set_manifest(&text).unwrap();
        parts.to_bytes()
    };
    let bytes = made_by(0);
    let other = (1..).map(made_by).find(|other| other.len() == bytes.len()).unwrap();
    let good =
        |bundle: Bundle| bundle.verify(&expecting(None), &Control::default()).unwrap().manifest_ok;
    assert!(good(open_bytes(&bytes).unwrap()) && good(open_bytes(&other).unwrap()));
    let mut file = file_of(&bytes);
    let opened = Bundle::open(file.try_clone().unwrap(), Path::new("exchanged")).unwrap();
    file.rewind().unwrap();
    file.write_all(&other).unwrap();
    assert!(!good(opened));
}

/// Catches frames that are each whole but lie in each other's place.
#[test]
fn swapped_frames_are_noticed() {
    let built = build(&mixed());
    let mut parts = Parts::of(&built.bytes()).unwrap();
    parts.frames.swap(1, 2);
    let report = verify_bytes(&parts.to_bytes(), None);
    assert_eq!(report.damage.len(), 1);
    assert_eq!(report.damage[0].artifact, "memory_files/large");
    assert_noticed(&parts.to_bytes(), &built.sidecar, "swapped frames");
    let other =
        Parts::of(&build(&[Item::file("large", noise(2 * MIB + 1000, 2))]).bytes()).unwrap();
    let mut parts = Parts::of(&built.bytes()).unwrap();
    parts.frames[3] = other.frames[3].clone();
    assert_noticed(&parts.to_bytes(), &built.sidecar, "a frame of another bundle");
}

/// Catches a field of the sidecar that is believed without being compared.
#[test]
fn every_field_of_a_sidecar_is_compared() {
    let built = build(&mixed());
    let json = serde_json::to_value(&built.sidecar).unwrap();
    let mut compared = 0;
    for (name, value) in json.as_object().unwrap() {
        let other = match (name.as_str(), value) {
            ("manifest_version", _) => 1.into(),
            ("bundle_format", _) => "nexo-memory-snapshot-v1".into(),
            ("snapshot_id", _) => "00000000-57a4-4b52-9d6e-0d2f3a1b4c5d".into(),
            ("schema_versions", _) => {
                let mut versions = value.clone();
                versions["vector"] = 9.into();
                versions
            }
            ("bundle_sha256" | "root_digest", _) => {
                serde_json::to_value(Sha256Digest::of(b"other")).unwrap()
            }
            (_, serde_json::Value::Bool(b)) => (!b).into(),
            (_, serde_json::Value::Number(n)) => (n.as_i64().unwrap() + 1).into(),
            (_, _) => "other".into(),
        };
        let mut changed = json.clone();
        changed[name] = other;
        let sidecar: Sidecar = serde_json::from_value(changed).unwrap();
        let report = built.open().verify(&expecting(Some(&sidecar)), &Control::default()).unwrap();
        assert!(!report.is_good(), "{name}");
        assert_eq!(report.bundle_sha256_ok, name != "bundle_sha256", "{name}");
        assert_eq!(report.manifest_ok, name.starts_with("bundle_s"), "{name}");
        assert!(report.damage[0].why.contains(name), "{name}: {report:?}");
        assert!(report.per_artifact_ok, "{name}");
        let refused = built.open().into_verified(&expecting(Some(&sidecar)), &Control::default());
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Integrity, "{name}");
        compared += 1;
    }
    assert!(compared >= 14, "{compared} fields");
    let mut encrypted = built.sidecar.clone();
    encrypted.git_oid = Some("0123456789012345678901234567890123456789".parse().unwrap());
    assert!(
        !built.open().verify(&expecting(Some(&encrypted)), &Control::default()).unwrap().is_good()
    );
}

/// Catches a verification that trusts what it saw when it opened the file.
#[test]
fn a_file_that_changes_or_shrinks_after_it_was_opened_is_noticed() {
    for shrink in [false, true] {
        let built = build(&mixed());
        let bundle = built.open();
        let parts = Parts::of(&built.bytes()).unwrap();
        let manifest_at: usize =
            parts.frames[..parts.manifest_frame()].iter().map(|f| f.0.len()).sum();
        if shrink {
            built.file.as_file().set_len(manifest_at as u64).unwrap();
        } else {
            built.file.as_file().write_all_at(b"other", manifest_at as u64 + 20).unwrap();
        }
        let report = bundle.verify(&expecting(Some(&built.sidecar)), &Control::default()).unwrap();
        assert!(!report.is_good() && !report.manifest_ok && !report.bundle_sha256_ok);
        assert!(report.per_artifact_ok, "the artifacts before it are whole: {report:?}");
        assert!(report.damage.iter().any(|d| d.artifact == "manifest.json"), "{report:?}");
    }
}
