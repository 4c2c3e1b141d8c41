//! Encrypted bundles: stock `age` opens them, only the chunks that are needed are read, and nothing that was
//! changed passes.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use snapshot_bundle::{
    Bundle, BundleError, BundleWriter, Identities, Recipients, SigningKey, Trust, VerifyOptions,
    WriteOptions, generate_identity, is_encrypted, verify_file,
};
use snapshot_core::{
    BundleFile, BundlePath, Control, ErrorKind, Inside, Manifest, Secret, Sidecar, VerifyReport,
};
use tempfile::NamedTempFile;

use crate::support::{Item, build, expecting, file_of, manifest, mixed, noise, options};

/// Bytes of a chunk in the file: 64 KiB and its tag (<https://age-encryption.org/v1>).
const CHUNK: usize = (64 << 10) + 16;

/// An encrypted bundle, and who reads it.
struct Sealed {
    file: NamedTempFile,
    manifest: Manifest,
    sidecar: Sidecar,
    identities: Identities,
}

impl Sealed {
    fn of(items: &[Item]) -> Self {
        let (secret, recipient) = generate_identity();
        let recipients = Recipients::parse([recipient.as_str()]).unwrap();
        Self::for_whom(items, &recipients, Identities::parse(secret.expose()).unwrap())
    }

    fn for_whom(items: &[Item], recipients: &Recipients, identities: Identities) -> Self {
        let file = NamedTempFile::new().unwrap();
        let options = WriteOptions { recipients: Some(recipients.clone()), ..options(2) };
        let out = file.reopen().unwrap();
        let mut writer = BundleWriter::new(out, &options, Control::default()).unwrap();
        let artifacts: Vec<_> = items.iter().map(|item| item.put(&mut writer).unwrap()).collect();
        let manifest = manifest(&artifacts);
        let done = writer.finish(&manifest).unwrap();
        let of = BundleFile {
            size_bytes: done.size_bytes,
            sha256: done.sha256,
            root_digest: done.root_digest,
            encryption: Some(recipients.info()),
        };
        let sidecar = Sidecar::new(&manifest, of);
        Self { file, manifest, sidecar, identities }
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.file.path()).unwrap()
    }

    fn open(&self) -> Bundle {
        Bundle::open_with(self.file.reopen().unwrap(), self.file.path(), &self.identities).unwrap()
    }

    fn verify(&self, bytes: &[u8], identities: &Identities) -> Result<VerifyReport, BundleError> {
        let (options, control) = (expecting(Some(&self.sidecar)), Control::default());
        verify_file(file_of(bytes), Path::new("b.tar.zst.age"), identities, &options, &control)
    }
}

fn content(bundle: &Bundle, path: &BundlePath) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    bundle.read(path).unwrap().read_to_end(&mut out)?;
    Ok(out)
}

/// Would catch: an envelope that changes what is inside, a summary that tells of it, a reader that needs the
/// whole file.
#[test]
fn the_same_bundle_lies_inside_and_its_summary_tells_nothing_of_it() {
    let items = mixed();
    let (plain, sealed) = (build(&items), Sealed::of(&items));
    let bundle = sealed.open();
    assert_eq!(bundle.manifest(), &plain.manifest);
    assert_eq!(bundle.root_digest(), plain.open().root_digest());
    for item in &items {
        if let Item::File { content: expected, .. } = item {
            assert!(content(&bundle, &item.path()).unwrap() == *expected, "{:?}", item.path());
        }
    }
    let report = bundle.verify(&expecting(Some(&sealed.sidecar)), &Control::default()).unwrap();
    assert!(report.is_good() && report.age_protected, "{report:?}");
    let text = String::from_utf8(sealed.sidecar.to_bytes().unwrap()).unwrap();
    for secret in ["label", "dream", "git_oid", "root_digest", &bundle.root_digest().to_string()] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    assert!(is_encrypted(&sealed.file.reopen().unwrap()).unwrap());
    assert!(!is_encrypted(&plain.file.reopen().unwrap()).unwrap());
}

/// Would catch: a reader that goes through the whole file for one artifact. What it must not read is
/// destroyed, and is missed by whoever needs it.
#[test]
fn only_the_chunks_that_hold_an_artifact_are_read() {
    let items: Vec<Item> =
        (0u8..6).map(|n| Item::file(&n.to_string(), noise(3 << 20, n.into()))).collect();
    let sealed = Sealed::of(&items);
    let file = File::options().write(true).open(sealed.file.path()).unwrap();
    // Of six equal parts the second to the fifth, well inside.
    let part = sealed.bytes().len() as u64 / 6;
    for at in (part + part / 2..5 * part - part / 2).step_by(CHUNK) {
        file.write_all_at(&[0xAA; 64], at).unwrap();
    }
    let bundle = sealed.open();
    let read = |n: usize| content(&bundle, &items[n].path());
    assert_eq!(read(0).unwrap(), noise(3 << 20, 0));
    assert_eq!(read(5).unwrap(), noise(3 << 20, 5));
    for n in 1..5 {
        let error = read(n).unwrap_err();
        let inner = error.get_ref().unwrap().downcast_ref::<BundleError>().unwrap();
        assert_eq!(inner.kind(), ErrorKind::Integrity, "{n}: {inner}");
    }
    // And a reader that failed does not spoil the next.
    assert_eq!(read(0).unwrap(), noise(3 << 20, 0));
}

/// Would catch: a wrong identity that is called damage, none that is called a wrong one, a check that did
/// not run reported as passed.
#[test]
fn without_the_identity_only_the_file_is_checked() {
    let sealed = Sealed::of(&mixed());
    let (bytes, nobody) = (sealed.bytes(), Identities::default());
    let report = sealed.verify(&bytes, &nobody).unwrap();
    assert_eq!(report.error_kind(), Some(ErrorKind::NotChecked));
    assert!(report.bundle_sha256_ok && report.age_protected && report.is_sound());
    assert!(!report.manifest_ok && !report.per_artifact_ok && report.inside == Inside::NotChecked);
    let stranger = Identities::parse(generate_identity().0.expose()).unwrap();
    let refused = sealed.verify(&bytes, &stranger).unwrap_err();
    assert!(matches!(refused, BundleError::WrongIdentity { .. }), "{refused}");
    let path = Path::new("b.tar.zst.age");
    for (identities, expected) in [(&nobody, "no identity"), (&stranger, "none of the identities")]
    {
        let error = Bundle::open_with(file_of(&bytes), path, identities).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encryption);
        assert!(error.to_string().contains(expected), "{error}");
    }
    // Damage is damage for whoever cannot read it, too.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    for identities in [&nobody, &stranger, &sealed.identities] {
        let report = sealed.verify(&damaged, identities).unwrap();
        assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
        assert!(!report.damage.is_empty() && !report.bundle_sha256_ok);
    }
    // A plain file under a summary that says it is encrypted, and the reverse.
    let plain = build(&mixed());
    let report = sealed.verify(&plain.bytes(), &sealed.identities).unwrap();
    assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
    let (options, control) = (expecting(Some(&plain.sidecar)), Control::default());
    for identities in [&nobody, &sealed.identities] {
        let report = verify_file(file_of(&bytes), path, identities, &options, &control).unwrap();
        assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
    }
    // One of this very file that says so, too.
    let open = Sidecar { encryption: None, ..sealed.sidecar.clone() };
    let options = expecting(Some(&open));
    let report = verify_file(file_of(&bytes), path, &nobody, &options, &control).unwrap();
    assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
    // What nobody can look into is refused where a signature is required and its summary is not attested.
    let key = SigningKey::generate().unwrap();
    let trust = Trust { keys: vec![key.public()], required: true };
    let options = VerifyOptions { trust: Some(&trust), ..expecting(Some(&sealed.sidecar)) };
    let report = verify_file(file_of(&bytes), path, &nobody, &options, &control).unwrap();
    assert!(report.refused.is_some(), "{report:?}");
}

/// Would catch: a change, a cut or an exchange in an encrypted file that is noticed only by its digest, or
/// not at all. (Every bit is the soak's business.)
#[test]
fn changes_cuts_and_exchanged_chunks_are_noticed_without_a_summary() {
    let sealed = Sealed::of(&[Item::file("large", noise(3 * CHUNK, 1)), Item::file("small", "x")]);
    let bytes = sealed.bytes();
    let path = Path::new("b.tar.zst.age");
    let noticed = |bytes: &[u8], what: &str| {
        let opened = Bundle::open_with(file_of(bytes), path, &sealed.identities);
        let verified =
            opened.and_then(|bundle| bundle.into_verified(&expecting(None), &Control::default()));
        let error = verified.err().unwrap_or_else(|| panic!("{what} passed"));
        // A stanza that was changed looks like one for somebody else.
        let kinds = [ErrorKind::Integrity, ErrorKind::Encryption];
        assert!(kinds.contains(&error.kind()), "{what}: {error}");
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 97).chain(0..400) {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        noticed(&changed, &format!("bit at {at}"));
    }
    for length in (0..bytes.len()).step_by(bytes.len() / 41) {
        noticed(&bytes[..length], &format!("cut at {length}"));
    }
    let head = bytes.len() % CHUNK;
    for end in [1, CHUNK, 2 * CHUNK] {
        noticed(&bytes[..bytes.len() - end], "cut at the end");
    }
    noticed(&[&bytes[..], &[0]].concat(), "a byte more");
    noticed(&[&bytes[..], &bytes[head..head + CHUNK]].concat(), "a chunk more");
    let payload = bytes.windows(5).position(|w| w == b"\n--- ").unwrap() + 5 + 43 + 1 + 16;
    let mut swapped = bytes.clone();
    let (a, b) = swapped[payload..payload + 2 * CHUNK].split_at_mut(CHUNK);
    a.swap_with_slice(b);
    noticed(&swapped, "two chunks exchanged");
    // The header of one file on the payload of another for the same reader.
    let other = Sealed::of(&mixed());
    let theirs = other.bytes();
    noticed(&[&theirs[..payload], &bytes[payload..]].concat(), "another file's header");
}

/// Would catch: a passphrase that is not taken, mixed with recipients, or tried at any price.
#[test]
fn a_passphrase_opens_and_its_work_is_limited() {
    let secret = |text: &str| Secret::new(text.to_owned());
    let recipients = Recipients::passphrase(secret("correct horse")).unwrap();
    let right = Identities::passphrase(secret("correct horse"));
    let items = [Item::file("a", "hello")];
    let sealed = Sealed::for_whom(&items, &recipients, right);
    assert_eq!(content(&sealed.open(), &items[0].path()).unwrap(), b"hello");
    assert_eq!(sealed.sidecar.encryption.as_ref().unwrap().scheme, "age-scrypt");
    let (bytes, path) = (sealed.bytes(), Path::new("b.tar.zst.age"));
    let wrong = Identities::passphrase(secret("battery staple"));
    let key = Identities::parse(generate_identity().0.expose()).unwrap();
    for identities in [&wrong, &key] {
        let error = Bundle::open_with(file_of(&bytes), path, identities).unwrap_err();
        assert!(matches!(error, BundleError::WrongIdentity { .. }), "{error}");
    }
    let text = String::from_utf8_lossy(&bytes[..100]).into_owned();
    assert!(text.contains(" 18\n"), "{text}");
    let at = bytes.windows(4).position(|w| w == b" 18\n").unwrap();
    let mut costly = bytes.clone();
    costly[at..at + 4].copy_from_slice(b" 19\n");
    let error = Bundle::open_with(file_of(&costly), path, &sealed.identities).unwrap_err();
    assert!(matches!(error, BundleError::ExcessiveWork { required: 19, .. }), "{error}");
}

/// Would catch: a header of any length that is taken into memory, or parsed again and again.
#[test]
fn a_header_without_an_end_is_refused() {
    let mut endless = b"age-encryption.org/v1\n".to_vec();
    while endless.len() < 4 << 20 {
        endless.extend_from_slice(b"-> X25519 ");
        endless.extend_from_slice(&[b'A'; 43]);
        endless.extend_from_slice(b"\n");
        endless.extend_from_slice(&[b'A'; 43]);
        endless.extend_from_slice(b"\n");
    }
    let key = Identities::parse(generate_identity().0.expose()).unwrap();
    for identities in [Identities::default(), key] {
        let opened = Bundle::open_with(file_of(&endless), Path::new("b"), &identities);
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::Integrity);
    }
}

/// Would catch: content that another envelope changes, recipients that stay, a reopening that needs an
/// identity.
#[test]
fn another_envelope_changes_the_readers_and_not_the_content() {
    let sealed = Sealed::of(&mixed());
    let (secret, recipient) = generate_identity();
    let theirs = Identities::parse(secret.expose()).unwrap();
    let recipients = Recipients::parse([recipient.as_str()]).unwrap();
    let control = Control::default();
    for recipients in [Some(&recipients), None] {
        let out = NamedTempFile::new().unwrap();
        let file = out.reopen().unwrap();
        let resealed = sealed.open().reseal(file, recipients, &control).unwrap();
        let again = resealed.reopen(out.reopen().unwrap(), out.path()).unwrap();
        let sidecar = again.sidecar(resealed.file.sha256, None);
        assert_eq!(sidecar.encryption, recipients.map(Recipients::info));
        again.into_verified(&expecting(Some(&sidecar)), &control).unwrap();
        let bundle = Bundle::open_with(out.reopen().unwrap(), out.path(), &theirs).unwrap();
        assert_eq!(bundle.manifest(), &sealed.manifest);
        assert_eq!(bundle.root_digest(), sealed.open().root_digest());
        let old = Bundle::open_with(out.reopen().unwrap(), out.path(), &sealed.identities);
        assert_eq!(old.is_ok(), recipients.is_none(), "the old identity still opens it");
    }
    assert_eq!(
        std::fs::read(build(&mixed()).file.path()).unwrap(),
        {
            let mut plain = Vec::new();
            sealed.open().reseal(&mut plain, None, &control).unwrap();
            plain
        },
        "in the clear it is the plain bundle, byte for byte"
    );
}

/// Would catch: a summary whose list of recipients is not compared with the one that opened it.
#[test]
fn a_summary_that_does_not_list_its_reader_is_noticed() {
    let sealed = Sealed::of(&mixed());
    let report = |sidecar: &Sidecar| {
        let options = VerifyOptions { expect: Some(sidecar), ..VerifyOptions::default() };
        sealed.open().verify(&options, &Control::default()).unwrap()
    };
    let changed = |change: &dyn Fn(&mut Sidecar)| {
        let mut sidecar = sealed.sidecar.clone();
        change(&mut sidecar);
        report(&sidecar)
    };
    let info = |sidecar: &mut Sidecar| sidecar.encryption.take().unwrap();
    let more = changed(&|s| {
        let mut info = info(s);
        info.recipients_fingerprint.push("another".to_owned());
        s.encryption = Some(info);
    });
    assert!(more.is_good(), "others may read it too: {more:?}");
    for (what, report) in [
        ("its label", changed(&|s| s.label = Some("before the dream".to_owned()))),
        ("another label", changed(&|s| s.label = Some("other".to_owned()))),
        ("no encryption", changed(&|s| s.encryption = None)),
        ("a root digest", changed(&|s| s.root_digest = Some(s.bundle_sha256))),
        ("another scheme", changed(&|s| s.encryption.as_mut().unwrap().scheme = "x".to_owned())),
        (
            "another reader",
            changed(&|s| {
                s.encryption.as_mut().unwrap().recipients_fingerprint = vec!["x".to_owned()];
            }),
        ),
    ] {
        assert!(!report.is_good() && !report.manifest_ok, "{what}: {report:?}");
        assert!(report.bundle_sha256_ok && report.per_artifact_ok, "{what}: {report:?}");
    }
}

/// Would catch: memory or time that grows with the number of readers of one file.
#[test]
fn many_readers_at_once_get_what_they_asked_for() {
    let items: Vec<Item> =
        (0u8..12).map(|n| Item::file(&n.to_string(), noise(200_000, n.into()))).collect();
    let sealed = Sealed::of(&items);
    let bundle = sealed.open();
    std::thread::scope(|scope| {
        for (n, item) in items.iter().enumerate() {
            let bundle = &bundle;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(content(bundle, &item.path()).unwrap(), noise(200_000, n as u64));
                }
            });
        }
    });
}

/// A writer that takes only so much.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.min(bytes.len()) {
            0 => Err(io::Error::from(io::ErrorKind::StorageFull)),
            n => {
                self.0 -= n;
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Would catch: a full disk that a reseal takes for success.
#[test]
fn an_output_that_is_full_is_an_error() {
    let sealed = Sealed::of(&mixed());
    let recipients = Recipients::parse([generate_identity().1.as_str()]).unwrap();
    for room in [0, 100, CHUNK, 2 * CHUNK] {
        let done = sealed.open().reseal(Full(room), Some(&recipients), &Control::default());
        assert_eq!(done.err().unwrap().kind(), ErrorKind::Io, "{room}");
    }
}
