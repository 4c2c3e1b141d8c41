//! The wire shapes against their goldens (`cargo xtask fixtures`): what subscribers parse today,
//! these types must read, and write again without a changed name, spelling or omitted field.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::fmt::Debug;
use std::fs;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use snapshot_core::{
    ErrorKind, Listing, Manifest, RedactionReport, RestoreReport, RetentionTickReport,
    SecretFinding, SecretsReport, Sidecar, SnapshotDiff, SnapshotMeta, VerifyReport,
};

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/wire/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}; `cargo xtask fixtures` makes it"))
}

fn golden_value(name: &str) -> Value {
    serde_json::from_slice(&golden(name)).unwrap()
}

/// Would catch: a field that is written but not read, or read under another name.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str) {
    let value: T = serde_json::from_slice(&golden(name)).unwrap();
    assert_eq!(serde_json::to_value(&value).unwrap(), golden_value(name), "{name}");
}

#[test]
fn reports_and_metas_survive_reading_and_writing() {
    survives::<SnapshotMeta>("snapshot_meta.json");
    survives::<Listing>("listing.json");
    survives::<RestoreReport>("restore_report.json");
    survives::<VerifyReport>("verify_report.json");
    survives::<VerifyReport>("verify_report_not_checked.json");
    survives::<VerifyReport>("verify_report_signed.json");
    survives::<SnapshotMeta>("snapshot_meta_encrypted.json");
    survives::<Sidecar>("sidecar_encrypted.json");
    survives::<SnapshotDiff>("snapshot_diff.json");
    survives::<RetentionTickReport>("retention_tick_report.json");
    survives::<RedactionReport>("redaction_report.json");
    survives::<SecretFinding>("secret_finding.json");
    survives::<SecretsReport>("secrets_report.json");
}

/// Would catch: a manifest whose bytes change between two programs, and with them the root digest.
#[test]
fn manifest_and_sidecar_are_written_back_byte_for_byte() {
    let bytes = golden("manifest.json");
    assert_eq!(Manifest::parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
    let bytes = golden("sidecar.json");
    assert_eq!(Sidecar::parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
}

/// Would catch: a sidecar that says something else than its manifest.
#[test]
fn the_sidecar_is_the_manifests_summary() {
    let bytes = golden("manifest.json");
    let manifest = Manifest::parse(&bytes).unwrap();
    let sidecar = Sidecar::parse(&golden("sidecar.json")).unwrap();
    let root = snapshot_core::root_digest(&bytes);
    let made = Sidecar::of_plain(&manifest, root, sidecar.bundle_size_bytes, sidecar.bundle_sha256);
    assert_eq!(made, sidecar);
    assert!(!sidecar.whole, "the golden leaves a socket out");
}

/// Would catch: a summary of an encrypted bundle that tells of what is inside.
#[test]
fn the_sidecar_of_an_encrypted_bundle_tells_nothing_of_it() {
    let manifest = golden_value("manifest.json");
    let sidecar = golden_value("sidecar_encrypted.json");
    let names: Vec<&str> = sidecar.as_object().unwrap().keys().map(String::as_str).collect();
    for name in ["label", "git_oid", "root_digest"] {
        assert!(!names.contains(&name), "{name} of {names:?}");
    }
    let text = sidecar.to_string();
    for artifact in manifest["artifacts"].as_array().unwrap() {
        for key in ["path_in_bundle", "sha256"] {
            assert!(!text.contains(artifact[key].as_str().unwrap()), "{artifact}");
        }
    }
}

/// Would catch: a renamed field; scripts read the plan as JSON, which nothing of ours parses.
#[test]
fn the_restore_plan_has_its_documented_names() {
    let plan = golden_value("restore_plan.json");
    let names: Vec<&str> = plan.as_object().unwrap().keys().map(String::as_str).collect();
    for name in
        ["agent_id", "auto_pre_snapshot", "files", "from", "git", "notes", "space", "stores"]
    {
        assert!(names.contains(&name), "{name} of {names:?}");
    }
    let actions: Vec<&Value> =
        plan["stores"].as_array().unwrap().iter().map(|store| &store["action"]).collect();
    assert_eq!(actions, ["replace", "create", "empty"]);
}

/// Would catch: a reader that breaks when a later program adds an optional field.
#[test]
fn unknown_fields_are_ignored() {
    let mut meta = golden_value("snapshot_meta.json");
    meta["added_later"] = json!({"x": 1});
    serde_json::from_value::<SnapshotMeta>(meta).unwrap();
    let mut manifest = golden_value("manifest.json");
    manifest["added_later"] = json!(1);
    manifest["artifacts"][0]["added_later"] = json!(1);
    Manifest::parse(&serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Would catch: a newer major that is half understood instead of refused by name.
#[test]
fn a_newer_manifest_is_refused_before_anything_else_is_believed() {
    let newer = br#"{"manifest_version": 3, "bundle_format": "nexo-memory-snapshot-v3", "x": []}"#;
    let refused = Manifest::parse(newer).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::SchemaTooNew);
    let text = refused.to_string();
    assert!(text.contains("v3") && text.contains("v2"), "{text}");
}
