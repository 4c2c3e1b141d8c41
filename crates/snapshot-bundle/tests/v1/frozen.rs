//! The bundles frozen in `fixtures/v1`, which 0.1.5 wrote: they must be read for ever. If this fails, the
//! reader is wrong, not the fixture.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use snapshot_bundle::{Identities, VerifyOptions, verify_file};
use snapshot_core::{Control, ErrorKind, Inside, Sha256Digest};

use crate::{file, open, unpack, verify};

/// The one that 0.1.5 finds damaged itself: it wrote two files under one name.
const DAMAGED: &str = "19-one-path-twice";
/// A vault; its bundles are read where it is.
const VAULT: &str = "15-vault";

/// A frozen bundle, and what is known of it.
struct Frozen {
    name: String,
    bytes: Vec<u8>,
    sum: Sha256Digest,
    expected: Value,
}

fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/v1"))
}

fn identities(name: &str) -> Identities {
    let text = fs::read_to_string(fixtures().join(format!("{name}.age-identity.txt"))).unwrap();
    Identities::parse(&text).unwrap()
}

impl Frozen {
    fn read(dir: &Path) -> Self {
        let expected = fs::read(dir.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let bundle = dir.join(expected["bundle_file"].as_str().unwrap());
        let sum = fs::read_to_string(format!("{}.sha256", bundle.display())).unwrap();
        Self {
            name: dir.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes: fs::read(bundle).unwrap(),
            sum: sum.parse().unwrap(),
            expected,
        }
    }

    fn all() -> Vec<Self> {
        let dirs = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
        let dirs = dirs.filter(|dir| dir.is_dir() && !dir.ends_with(VAULT));
        let all: Vec<_> = dirs.map(|dir| Self::read(&dir)).collect();
        assert_eq!(all.len(), 23);
        all
    }

    fn is_encrypted(&self) -> bool {
        self.expected["encrypted"].as_bool().unwrap()
    }
}

/// Would catch: a bundle of an operator's disk that is not read, whose seal, checksum file or artifacts are not
/// compared, or of which anything is read differently than it was written.
#[test]
fn every_bundle_is_read_as_it_was_written() {
    for frozen in Frozen::all() {
        let Frozen { name, bytes, sum, expected } = &frozen;
        let opened = open(bytes, &identities("alice"));
        if name == DAMAGED {
            let e = opened.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Integrity, "{name}: {e}");
            continue;
        }
        let bundle = opened.unwrap_or_else(|e| panic!("{name}: {e}"));
        let manifest = bundle.manifest();
        let says = |field: &str| expected[field].as_str().unwrap();
        assert_eq!(manifest.snapshot_id.to_string(), says("snapshot_id"), "{name}");
        assert_eq!(manifest.agent_id.as_str(), says("agent_id"), "{name}");
        assert_eq!(manifest.tenant.as_str(), says("tenant"), "{name}");
        assert_eq!(manifest.label.as_deref(), expected["label"].as_str(), "{name}");
        assert_eq!(manifest.created_by, says("created_by"), "{name}");
        assert_eq!(manifest.seal.to_string(), says("manifest_seal_bundle_sha256"), "{name}");
        assert_eq!(manifest.redactions.is_some(), !expected["redactions"].is_null(), "{name}");
        let rows = expected["artifacts"].as_array().unwrap();
        let found = unpack(&bundle).unwrap();
        assert_eq!(found.len(), rows.len(), "{name}");
        for (row, (path, content)) in rows.iter().zip(&found) {
            assert_eq!(row["path_in_bundle"], path.as_str(), "{name}");
            assert_eq!(row["sha256"], Sha256Digest::of(content).to_string(), "{name}: {path}");
        }
        let report = verify(bytes, &identities("alice"), *sum);
        assert!(report.is_good(), "{name}: {report:?}");
        assert_eq!(report.age_protected, frozen.is_encrypted(), "{name}");
    }
}

/// Would catch: a recipient that is shut out, a stranger who is let in, and a sealed bundle of which more is
/// claimed than its checksum file tells.
#[test]
fn encrypted_ones_open_for_each_of_their_recipients_and_for_nobody_else() {
    let mut seen = 0;
    for frozen in Frozen::all().into_iter().filter(Frozen::is_encrypted) {
        let several = frozen.name.contains("several");
        assert!(open(&frozen.bytes, &identities("alice")).is_ok());
        assert_eq!(open(&frozen.bytes, &identities("bob")).is_ok(), several, "{}", frozen.name);
        let (stranger, _) = snapshot_bundle::generate_identity();
        let stranger = Identities::parse(stranger.expose()).unwrap();
        assert_eq!(open(&frozen.bytes, &stranger).unwrap_err().kind(), ErrorKind::Encryption);
        let report = verify(&frozen.bytes, &Identities::default(), frozen.sum);
        assert_eq!(report.inside, Inside::NotChecked);
        assert!(report.bundle_sha256_ok && report.is_sound() && !report.is_good(), "{report:?}");
        let report = verify(&frozen.bytes, &Identities::default(), Sha256Digest::of(b"other"));
        assert_eq!(report.error_kind(), Some(ErrorKind::Integrity));
        assert!(!report.bundle_sha256_ok, "{report:?}");
        seen += 1;
    }
    assert_eq!(seen, 2);
}

/// Would catch: a byte of a frozen bundle that no check covers where its checksum file is there, or a wrong
/// content that is given out as right where it is not.
#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    for name in ["01-plain-minimal", "04-encrypted-one", "06-unicode-names"] {
        let Frozen { bytes, sum, .. } = Frozen::read(&fixtures().join(name));
        let alice = identities("alice");
        let whole = unpack(&open(&bytes, &alice).unwrap()).unwrap();
        let step = bytes.len() / 150;
        for at in (0..bytes.len()).step_by(step) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            let options = VerifyOptions { sum: Some(sum), ..VerifyOptions::default() };
            let path = Path::new("old.tar.zst");
            let report = verify_file(file(&bad), path, &alice, &options, &Control::default());
            assert!(!report.is_ok_and(|report| report.is_good()), "{name}: byte {at}");
            if let Ok(given) = open(&bad, &alice).and_then(|bundle| unpack(&bundle)) {
                // zstd has bits that mean nothing.
                assert!(given == whole, "{name}: byte {at}");
            }
            let cut = open(&bytes[..at], &alice).and_then(|bundle| unpack(&bundle));
            assert!(cut.is_err(), "{name}: cut at {at}");
        }
    }
}
