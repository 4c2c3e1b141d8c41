//! Signed bundles: another implementation of minisign verifies them, and no other signature, manifest or
//! name passes.

use snapshot_bundle::{
    Bundle, BundleError, BundleWriter, PublicKey, SigningKey, Trust, VerifyOptions,
};
use snapshot_core::{Control, ErrorKind, Manifest, Sidecar, SignatureReport, SignatureStatus};
use tempfile::NamedTempFile;

use crate::support::{Parts, expecting, manifest, mixed, open_bytes, options};

/// A signed bundle, and its summary.
fn signed(key: &SigningKey) -> (Vec<u8>, Manifest, Sidecar) {
    let file = NamedTempFile::new().unwrap();
    let out = file.reopen().unwrap();
    let mut writer = BundleWriter::new(out, &options(2), Control::default()).unwrap();
    let artifacts: Vec<_> = mixed().iter().map(|item| item.put(&mut writer).unwrap()).collect();
    let mut manifest = manifest(&artifacts);
    let Manifest { tenant, agent_id, snapshot_id, created_at_ms, created_by, .. } = &manifest;
    let attestation = key.attest(tenant, agent_id, *snapshot_id, *created_at_ms, created_by);
    manifest.attestation = Some(attestation);
    let done = writer.finish_signed(&manifest, Some(key)).unwrap();
    let sidecar = Sidecar::of_plain(&manifest, done.root_digest, done.size_bytes, done.sha256);
    (std::fs::read(file.path()).unwrap(), manifest, sidecar)
}

fn trusting(key: &SigningKey) -> Trust {
    Trust { keys: vec![key.public()], required: true }
}

fn text(bundle: &Bundle) -> String {
    String::from_utf8(bundle.signature().unwrap().to_vec()).unwrap()
}

/// Puts other text in the place of the signature, with a header and padding that fit it.
fn with_signature(bytes: &[u8], text: &[u8]) -> Vec<u8> {
    let mut parts = Parts::of(bytes).unwrap();
    let number = parts.frames.len() - 1;
    let mut content = parts.content(number).unwrap();
    let header = content.windows(21).rposition(|w| w == b"manifest.json.minisig").unwrap();
    content[header + 124..header + 136]
        .copy_from_slice(format!("{:011o}\0", text.len()).as_bytes());
    crate::support::seal(&mut content[header..header + 512]);
    content.truncate(header + 512);
    content.extend_from_slice(text);
    content.resize(content.len().next_multiple_of(512) + 1024, 0);
    parts.set_content(number, &content).unwrap();
    parts.to_bytes()
}

/// Would catch: a signature that only we can verify, over other bytes than the manifest's.
#[test]
fn another_implementation_verifies_the_manifest() {
    let key = SigningKey::generate().unwrap();
    let (bytes, manifest, sidecar) = signed(&key);
    let bundle = open_bytes(&bytes).unwrap();
    let theirs = minisign_verify::PublicKey::decode(&key.public().to_file()).unwrap();
    let signature = minisign_verify::Signature::decode(&text(&bundle)).unwrap();
    theirs.verify(bundle.manifest_bytes(), &signature, false).unwrap();
    let comment = signature.trusted_comment();
    assert!(comment.contains(&manifest.snapshot_id.to_string()), "{comment}");
    assert!(theirs.verify(b"other", &signature, false).is_err());
    let trust = trusting(&key);
    let options = VerifyOptions { trust: Some(&trust), ..expecting(Some(&sidecar)) };
    let report = bundle.verify(&options, &Control::default()).unwrap();
    let expected = SignatureReport { key_id: key.public().id(), status: SignatureStatus::Trusted };
    assert_eq!(report.signature, Some(expected));
    assert!(report.is_good(), "{report:?}");
    assert!(trust.attests(&sidecar.to_meta("/b".into())));
}

/// Would catch: a key file that stock minisign reads otherwise, or one with a password, a weak or a mistyped
/// key that is taken.
#[test]
fn keys_are_read_as_they_were_written_and_no_others() {
    let key = SigningKey::generate().unwrap();
    let file = key.to_file();
    let again = SigningKey::parse(file.expose()).unwrap();
    assert_eq!(again.public(), key.public());
    let public = key.public();
    assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
    assert_eq!(public.to_file().parse::<PublicKey>().unwrap(), public);
    assert!(public.to_file().contains(&public.id()));
    let line = file.expose().lines().last().unwrap().to_owned();
    assert!(!format!("{key:?} {file:?}").contains(&line[20..60]));
    // With a password, as `minisign -G` makes them.
    let locked = line.replacen("RWQAAEIy", "RWRTY0Iy", 1);
    for (what, text) in [
        ("a password", locked),
        (
            "halves of two keys",
            format!(
                "{}{}",
                &line[..150],
                &SigningKey::generate().unwrap().to_file().expose().lines().last().unwrap()[150..]
            ),
        ),
        ("cut", line[..100].to_owned()),
        ("empty", String::new()),
        ("no key", "untrusted comment: x\n".to_owned()),
    ] {
        let error = SigningKey::parse(&text).unwrap_err();
        assert!(!error.to_string().contains(&line[20..40]), "{what}: {error}");
    }
    for bad in ["", "RW", "RWQAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "age1x"] {
        assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
    }
}

/// Would catch: a signature by another key, of another bundle, over a changed manifest, or none, that is
/// believed; a forged one that is only called unknown.
#[test]
fn no_other_signature_is_trusted() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let (bytes, _, sidecar) = signed(&key);
    let trust = trusting(&key);
    let judged = |bytes: &[u8]| {
        let bundle = open_bytes(bytes).unwrap();
        let options = VerifyOptions { trust: Some(&trust), ..expecting(None) };
        let report = bundle.verify(&options, &Control::default()).unwrap();
        let refused = bundle.check_signature(&trust);
        let kind = bundle.into_verified(&options, &Control::default()).err().map(|e| e.kind());
        (report, refused, kind)
    };
    // By a stranger: it may be anybody's.
    let (report, checked, kind) = judged(&signed(&other).0);
    assert_eq!(report.signature.unwrap().status, SignatureStatus::UnknownKey);
    assert!(checked.is_ok());
    assert_eq!(kind, Some(ErrorKind::Refused));
    // By a stranger under the trusted key's number.
    let stranger = text(&open_bytes(&signed(&other).0).unwrap());
    let mine = text(&open_bytes(&bytes).unwrap());
    let disguised = disguise(&stranger, &mine);
    let (report, checked, kind) = judged(&with_signature(&bytes, disguised.as_bytes()));
    assert_eq!(report.signature.as_ref().unwrap().status, SignatureStatus::Forged);
    assert!(matches!(checked, Err(BundleError::Forged { .. })));
    assert_eq!(
        (kind, report.error_kind()),
        (Some(ErrorKind::Integrity), Some(ErrorKind::Integrity))
    );
    // The comment that is signed too, changed.
    let relabelled = mine.replace("trusted comment: nexo", "trusted comment: nexx");
    let (report, ..) = judged(&with_signature(&bytes, relabelled.as_bytes()));
    assert_eq!(report.signature.unwrap().status, SignatureStatus::Forged);
    // The manifest changed under it: label, agent, tenant, id, time.
    let parts = Parts::of(&bytes).unwrap();
    for (from, to) in [
        ("before the dream", "after the dreams"),
        ("\"agent_id\": \"ana\"", "\"agent_id\": \"bob\""),
        ("\"tenant\": \"default\"", "\"tenant\": \"defaulx\""),
        ("6f3b7a0e", "6f3b7a0f"),
    ] {
        let mut changed = parts.clone();
        let number = changed.frames.len() - 1;
        let content = changed.content(number).unwrap();
        let at = content.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        let content = [&content[..at], to.as_bytes(), &content[at + from.len()..]].concat();
        changed.set_content(number, &content).unwrap();
        let (report, checked, _) = judged(&changed.to_bytes());
        assert_eq!(report.signature.unwrap().status, SignatureStatus::Forged, "{from}");
        assert!(matches!(checked, Err(BundleError::Forged { .. })), "{from}");
    }
    // None at all.
    let unsigned = crate::support::build(&mixed());
    let (report, checked, kind) = judged(&unsigned.bytes());
    assert_eq!((report.signature, kind), (None, Some(ErrorKind::Refused)));
    assert!(checked.unwrap().is_none() && report.refused.is_some());
    // What is not required is not refused.
    let lenient = Trust { required: false, ..trust.clone() };
    let options = VerifyOptions { trust: Some(&lenient), ..expecting(Some(&sidecar)) };
    let bundle = open_bytes(&bytes).unwrap();
    assert!(bundle.into_verified(&options, &Control::default()).is_ok());
}

/// The number of one signature's key in another's.
fn disguise(signature: &str, number_of: &str) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let decode = |text: &str| engine.decode(text.lines().nth(1).unwrap()).unwrap();
    let (mut bytes, theirs) = (decode(signature), decode(number_of));
    bytes[2..10].copy_from_slice(&theirs[2..10]);
    signature.replace(signature.lines().nth(1).unwrap(), &engine.encode(bytes))
}

/// Would catch: an attestation that counts for another snapshot, agent, tenant, time or origin, or by
/// another key.
#[test]
fn an_attestation_is_of_one_snapshot() {
    let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let meta = signed(&key).2.to_meta("/b".into());
    assert!(trusting(&key).attests(&meta));
    assert!(!trusting(&other).attests(&meta));
    let changed = |field: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(&meta).unwrap();
        json[field] = value;
        serde_json::from_value(json).unwrap()
    };
    for (field, value) in [
        ("id", "00000000-57a4-4b52-9d6e-0d2f3a1b4c5d".into()),
        ("agent_id", "bob".into()),
        ("tenant", "other".into()),
        ("created_at_ms", (meta.created_at_ms + 1).into()),
        ("created_by", "scheduled".into()),
        ("attestation", serde_json::Value::Null),
        ("attestation", serde_json::json!({ "key_id": key.public().id(), "signature": "AAAA" })),
    ] {
        assert!(!trusting(&key).attests(&changed(field, value)), "{field}");
    }
    let replayed = signed(&other).2.attestation;
    let replayed = changed("attestation", serde_json::to_value(replayed).unwrap());
    assert!(!trusting(&key).attests(&replayed));
}

/// Would catch: something in the place of a signature that is none, or bytes after it.
#[test]
fn what_follows_the_manifest_is_a_signature_or_nothing() {
    let key = SigningKey::generate().unwrap();
    let (bytes, ..) = signed(&key);
    let mine = text(&open_bytes(&bytes).unwrap());
    assert!(open_bytes(&with_signature(&bytes, mine.as_bytes())).is_ok());
    for (what, text) in [
        ("a line more", format!("{mine}more\n")),
        ("a line less", mine.lines().take(3).collect::<Vec<_>>().join("\n")),
        ("anything", "hello".to_owned()),
        (
            "too long",
            mine.replace("trusted comment: ", &format!("trusted comment: {}", "x".repeat(900))),
        ),
        ("an old algorithm", mine.replacen("\nRU", "\nRW", 1)),
    ] {
        let opened = open_bytes(&with_signature(&bytes, text.as_bytes()));
        assert_eq!(opened.err().map(|e| e.kind()), Some(ErrorKind::Integrity), "{what}");
    }
}
