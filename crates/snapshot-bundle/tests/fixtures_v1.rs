//! The bundles of format v1 (`fixtures/v1`), made once by the published 0.1.5: what lies there is what each
//! `expected.json` says. Read here without any reader of ours, so that a failure of ours is never one of theirs.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// As many as there are.
const CASES: usize = 24;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Each case's folder, name and what it expects.
fn cases() -> Vec<(PathBuf, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/v1");
    let folders = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    folders.sort();
    let expected =
        |dir: &Path| serde_json::from_slice(&fs::read(dir.join("expected.json")).unwrap());
    folders.into_iter().map(|dir| (dir.clone(), expected(&dir).unwrap())).collect()
}

/// The bundles of a case with what each expects: one in its folder, or those of a whole vault.
fn bundles() -> Vec<(PathBuf, Value)> {
    cases().into_iter().flat_map(|(dir, expected)| of_case(&dir, &expected)).collect()
}

fn of_case(dir: &Path, expected: &Value) -> Vec<(PathBuf, Value)> {
    let place = |e: &Value| match expected.get("snapshots") {
        None => dir.to_owned(),
        Some(_) => dir
            .join("root/tenants")
            .join(e["tenant"].as_str().unwrap())
            .join("snapshots")
            .join(e["agent_id"].as_str().unwrap()),
    };
    let one = [expected.clone()];
    let each = expected.get("snapshots").and_then(Value::as_array).map_or(&one[..], Vec::as_slice);
    each.iter().map(|e| (place(e).join(e["bundle_file"].as_str().unwrap()), e.clone())).collect()
}

/// Would catch: a fixture changed after the fact, or half of one missing.
#[test]
fn every_bundle_and_its_digest_file_are_as_they_were_made() {
    assert_eq!(cases().len(), CASES);
    for (path, expected) in bundles() {
        let bytes = fs::read(&path).unwrap();
        assert_eq!(Value::from(bytes.len()), expected["bundle_bytes"], "{path:?}");
        let digest = sha256(&bytes);
        assert_eq!(expected["bundle_file_sha256"], digest, "{path:?}");
        let side = fs::read_to_string(format!("{}.sha256", path.display())).unwrap();
        assert_eq!(
            (expected["sidecar_text"].as_str(), side),
            (Some(digest.as_str()), digest.clone())
        );
    }
}

/// Would catch: an `expected.json` that tells of another bundle than the one beside it.
#[test]
fn what_a_plain_bundle_holds_is_what_is_expected_of_it() {
    for (path, expected) in bundles().into_iter().filter(|(_, e)| e["encrypted"] == false) {
        let mut tar = tar::Archive::new(zstd::Decoder::new(File::open(&path).unwrap()).unwrap());
        let (mut names, mut digests) = (Vec::new(), Vec::new());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            names.push(Value::from(String::from_utf8(entry.path_bytes().into_owned()).unwrap()));
            digests.push(sha256(&body));
        }
        assert_eq!(Value::from(names), expected["tar_entry_order"], "{path:?}");
        let listed = expected["artifacts"].as_array().unwrap().iter();
        let listed: Vec<&str> = listed.map(|a| a["sha256"].as_str().unwrap()).collect();
        assert_eq!(digests[1..], listed, "{path:?}");
        let seal = sha256(listed.concat().as_bytes());
        assert_eq!(Value::from(seal), expected["manifest_seal_bundle_sha256"], "{path:?}");
    }
}
