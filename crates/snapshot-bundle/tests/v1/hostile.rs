//! Bundles that no 0.1.x wrote: one for each thing that the reader must not believe.

use serde_json::json;
use snapshot_bundle::{BundleError, Identities};
use snapshot_core::{AgentId, Control, ErrorKind, Sha256Digest, SnapshotId, Tenant};
use snapshot_testkit::old_bundle::{compressed, header};
use snapshot_testkit::{OldBundle, OldEntry};

use crate::{open, unpack, verify};

fn bundle() -> OldBundle {
    let id = SnapshotId::from_random_bytes([7; 16]);
    OldBundle::new(id, &AgentId::from_static("ana"), &Tenant::default())
        .with_file("MEMORY.md", b"the user likes tea\n")
        .with_file("notes/a.md", b"a\n")
}

fn unpacked(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, BundleError> {
    unpack(&open(bytes, &Identities::default())?)
}

/// It is refused as damage, by a reader and by a verification.
#[track_caller]
fn assert_refused(bytes: &[u8], why: &str) {
    let e = unpacked(bytes).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Integrity, "{e}");
    let told = snapshot_core::error_chain(&e);
    assert!(told.contains(why), "{told}");
    let report = verify(bytes, &Identities::default(), Sha256Digest::of(bytes));
    assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
}

/// Would catch: a kit whose right bundles are refused, which would make every test here pass.
#[test]
fn a_right_one_is_read() {
    let found = unpacked(&bundle().to_bytes()).unwrap();
    assert_eq!(found[0], ("memory_files/MEMORY.md".to_owned(), b"the user likes tea\n".to_vec()));
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    assert_eq!(unpacked(&bundle().with_file(&long, b"x").to_bytes()).unwrap().len(), 3);
    let report = verify(&bundle().to_bytes(), &Identities::default(), Sha256Digest::of(b"other"));
    assert_eq!(report.error_kind(), Some(ErrorKind::Integrity));
}

/// Would catch: a path that leads out of the folder that it is put into, or into something that is no folder.
#[test]
fn no_path_leads_out() {
    for path in ["/etc/passwd", "../x", "a/../../x", "a//b", "./a", "", "a/", "nul\0byte"] {
        assert_refused(&bundle().with_file(path, b"x").to_bytes(), "manifest");
    }
    for (path, kind) in [
        ("/abs", "memory_file"),
        ("memory_files", "memory_file"),
        ("sqlite/../../x.sqlite", "sqlite_long_term"),
        ("sqlite/other.sqlite", "sqlite_long_term"),
        ("git/HEAD", "memory_file"),
        ("memory_files/a.md", "git_bundle"),
        ("state/other.json", "state_dream_run"),
        ("memory_files/l", "memory_symlink"),
        ("memory_files/d", "memory_dir"),
        ("sqlite/x.sqlite", "sqlite"),
        ("memory_files/x", "no_such_kind"),
    ] {
        assert_refused(&bundle().with(path, kind, b"x").to_bytes(), "manifest");
    }
    assert_refused(&bundle().with_file("MEMORY.md/x", b"x").to_bytes(), "no folder");
    assert_refused(&bundle().with_file("MEMORY.md", b"x").to_bytes(), "listed twice");
}

/// Would catch: a link, a device, a folder or a PAX header that is followed, made or skipped.
#[test]
fn only_regular_files_are_entries() {
    for kind in *b"1234567xgKSDVM" {
        let mut bad = bundle();
        bad.entries[1].kind = kind;
        assert_refused(&bad.to_bytes(), "no regular file");
        let mut more = bundle();
        let name = b"memory_files/notes/a.md".to_vec();
        more.entries.insert(1, OldEntry { name, kind, content: b"16 path=/etc/x\n".to_vec() });
        assert_refused(&more.to_bytes(), "no regular file");
    }
}

/// Would catch: an entry that is taken although the manifest does not list it there: one too many, one twice, one
/// missing, two exchanged, one under another name, of another size or with another content.
#[test]
fn entries_are_the_manifests_and_no_others() {
    let changed = |change: &dyn Fn(&mut Vec<OldEntry>)| {
        let mut bad = bundle();
        change(&mut bad.entries);
        bad.to_bytes()
    };
    let again = bundle().entries[1].clone();
    assert_refused(&changed(&|e| e.push(again.clone())), "should be empty");
    assert_refused(&changed(&|e| e.insert(0, again.clone())), "must be");
    assert_refused(&changed(&|e| _ = e.pop()), "checksum");
    assert_refused(&changed(&|e| e.swap(0, 1)), "must be");
    assert_refused(&changed(&|e| e[1].name = b"memory_files/../x".to_vec()), "must be");
    assert_refused(&changed(&|e| e[1].content.push(b'x')), "another size");
    assert_refused(&changed(&|e| e[1].content[0] ^= 1), "another digest");
    assert_refused(&changed(&|e| e[0].content[0] ^= 1), "another digest");
}

/// Would catch: a seal that is not compared, or fields that it does not cover and that decide what is read.
#[test]
fn seal_and_versions_are_looked_at() {
    let edited = |field: &str, value| {
        let mut bad = bundle();
        bad.manifest[field] = value;
        bad.to_bytes()
    };
    assert_refused(&edited("bundle_sha256", json!("0".repeat(64))), "seal");
    for (field, value) in [
        ("agent_id", json!("../ana")),
        ("agent_id", json!("a.b")),
        ("tenant", json!("")),
        ("snapshot_id", json!("not-an-id")),
        ("artifacts", json!("none")),
        ("bundle_format", json!("something-else")),
        ("manifest_version", json!(2)),
        ("bundle_format", json!("nexo-memory-snapshot-v2")),
        ("bundle_format", json!("nexo-memory-snapshot-v0")),
    ] {
        let e = unpacked(&edited(field, value)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Integrity, "{field}: {e}");
    }
    for (field, value) in
        [("manifest_version", json!(99)), ("bundle_format", json!("nexo-memory-snapshot-v3"))]
    {
        let e = unpacked(&edited(field, value)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::SchemaTooNew, "{field}: {e}");
        assert!(snapshot_core::error_chain(&e).contains("nexo-memory-snapshot-v2"), "{e}");
    }
    // A seal covers nothing else; its checksum file does.
    let sum = Sha256Digest::of(&bundle().to_bytes());
    let relabelled = edited("label", json!("mine"));
    let report = verify(&relabelled, &Identities::default(), sum);
    assert_eq!(report.error_kind(), Some(ErrorKind::Integrity), "{report:?}");
    assert!(!report.bundle_sha256_ok, "{report:?}");
}

/// Would catch: what follows the end of the archive or of the stream, a stream that ends early, and a long name
/// that is not the next entry's.
#[test]
fn nothing_follows_the_end_and_nothing_is_missing() {
    let right = bundle().to_bytes();
    assert_refused(&[&right[..], b"x"].concat(), "follows its zstd stream");
    assert_refused(&[&right[..], &right].concat(), "follows its zstd stream");
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    assert_refused(&[&right[..], &skippable].concat(), "follows its zstd stream");
    let tar = bundle().to_tar();
    assert_refused(&compressed(&[&tar[..], &[0; 512]].concat()), "goes on after its end");
    assert_refused(&compressed(&tar[..tar.len() - 512]), "ends early");
    assert_refused(&compressed(&tar[..tar.len() - 1500]), "ends early");
    let split = [compressed(&tar[..1024]), compressed(&tar[1024..])].concat();
    assert_refused(&split, "ends early");
    // A long name, and behind it an entry that begins otherwise.
    let manifest = tar[..tar.len() - 1024 - 2048].to_vec();
    let long = "x".repeat(150);
    for (name, size) in [(&b"y"[..], 151), (b"xxx", 5000), (b"xxx", 150)] {
        let mut bad = manifest.clone();
        bad.extend_from_slice(&header(b"././@LongLink", b'L', size));
        bad.extend_from_slice(long.as_bytes());
        bad.resize(bad.len().next_multiple_of(512), 0);
        bad.extend_from_slice(&header(name, 0, 0));
        bad.resize(bad.len() + 1024, 0);
        let bad = compressed(&bad);
        assert_eq!(unpacked(&bad).unwrap_err().kind(), ErrorKind::Integrity);
    }
}

/// Would catch: memory that a few bytes can claim: a window over 8 MiB, a manifest or an entry that is declared
/// with more than there is.
#[test]
fn a_small_file_takes_no_large_memory() {
    let tar = bundle().to_tar();
    let with_window = |log: u32| {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        std::io::Write::write_all(&mut encoder, &tar).unwrap();
        encoder.finish().unwrap()
    };
    assert!(unpacked(&with_window(23)).is_ok());
    let e = unpacked(&with_window(24)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Integrity, "{e}");
    // The manifest is said to be as long as it may be, and one byte longer.
    let limit = snapshot_core::MAX_MANIFEST_BYTES;
    for (size, why) in [(limit, "ends early"), (limit + 1, "larger than")] {
        let mut bad = header(b"manifest.json", 0, size).to_vec();
        bad.resize(4096, b' ');
        let e = unpacked(&compressed(&bad)).unwrap_err();
        assert!(e.to_string().contains(why), "{e}");
    }
    // More content than declared, of zeros that take nothing: not a byte of it is decompressed.
    let mut bomb = bundle();
    bomb.entries[1].content = vec![0; 64 << 20];
    assert_refused(&bomb.to_bytes(), "another size");
}

/// Would catch: versions without number, each of which takes many times its text once it is parsed.
#[test]
fn versions_hold_at_their_limit_and_not_past_it() {
    for (count, is_read) in [(16_384, true), (16_385, false)] {
        let mut many = bundle();
        let versions = (0..count).map(|n| (format!("v{n}"), json!("1")));
        many.manifest["tool_versions"] = serde_json::Value::Object(versions.collect());
        assert_eq!(unpacked(&many.to_bytes()).is_ok(), is_read, "{count}");
    }
}

/// Would catch: somebody who waits for a bundle that he gave up.
#[test]
fn reading_stops_where_it_is_told() {
    let (control, old) = (Control::default(), open(&bundle().to_bytes(), &Identities::default()));
    control.cancel();
    let e = old.unwrap().unpack(&control, &mut |_, _| Ok::<(), BundleError>(())).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Interrupted);
}
