//! Bundles made to mislead: each byte of them is chosen, frames and checksums are whole.

use std::os::unix::fs::FileExt;
use std::path::Path;

use serde_json::Value;
use snapshot_bundle::{Bundle, BundleError, FRAME_BYTES};
use snapshot_core::{Control, ErrorKind};

use crate::support::{
    Item, Parts, build, compress, expecting, mixed, open_bytes, seal, verify_bytes,
};

fn parts() -> Parts {
    Parts::of(&build(&mixed()).bytes()).unwrap()
}

fn open_error(parts: &Parts) -> BundleError {
    open_bytes(&parts.to_bytes()).map(|_| ()).unwrap_err()
}

/// What opening says about a bundle whose manifest was changed by `change`.
fn with_manifest(change: impl FnOnce(&mut Value)) -> BundleError {
    let mut parts = parts();
    let mut json: Value = serde_json::from_str(&parts.manifest().unwrap()).unwrap();
    change(&mut json);
    parts.set_manifest(&serde_json::to_string_pretty(&json).unwrap()).unwrap();
    open_error(&parts)
}

/// Catches a test suite whose crafted bundles fail for being badly put together.
#[test]
fn a_bundle_put_together_by_hand_is_good() {
    let mut parts = parts();
    let bytes = parts.to_bytes();
    assert_eq!(bytes, build(&mixed()).bytes());
    parts.set_manifest(&parts.manifest().unwrap()).unwrap();
    let report = verify_bytes(&parts.to_bytes(), None);
    assert!(report.per_artifact_ok && report.damage.is_empty(), "{report:?}");
}

/// Catches a newer bundle taken for a damaged one.
#[test]
fn a_newer_version_is_refused_as_such_before_anything_else_is_believed() {
    let newer = |json: &mut Value| {
        json["manifest_version"] = 3.into();
        json["bundle_format"] = "nexo-memory-snapshot-v3".into();
        json["artifacts"] = "something else now".into();
    };
    let error = with_manifest(newer);
    assert_eq!(error.kind(), ErrorKind::SchemaTooNew, "{error}");
    let mut parts = parts();
    parts.index[7] = 3;
    assert_eq!(open_error(&parts).kind(), ErrorKind::SchemaTooNew);
}

/// Catches a manifest that is believed where the frames say otherwise.
#[test]
fn a_manifest_that_does_not_fit_the_frames_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("a larger size", |json| json["artifacts"][0]["size_bytes"] = 3_000_000.into()),
        ("a smaller size", |json| json["artifacts"][0]["size_bytes"] = 1.into()),
        ("the largest size", |json| json["artifacts"][0]["size_bytes"] = u64::MAX.into()),
        ("sizes that overflow", |json| {
            for artifact in [0, 4, 5] {
                json["artifacts"][artifact]["size_bytes"] = (u64::MAX / 2).into();
            }
        }),
        ("one artifact less", |json| drop(json["artifacts"].as_array_mut().unwrap().pop())),
        ("one artifact more", |json| {
            let mut more = json["artifacts"][3].clone();
            more["path_in_bundle"] = "memory_files/more".into();
            json["artifacts"].as_array_mut().unwrap().push(more);
        }),
        ("a path twice", |json| {
            json["artifacts"][4]["path_in_bundle"] = json["artifacts"][5]["path_in_bundle"].clone();
        }),
        ("a path outside", |json| {
            json["artifacts"][4]["path_in_bundle"] = "memory_files/../../x".into();
        }),
        ("no JSON", |json| *json = Value::Null),
    ];
    for (what, change) in changes {
        assert_eq!(with_manifest(change).kind(), ErrorKind::Integrity, "{what}");
    }
}

/// Catches a reader that goes by the manifest where stock tar goes by the header.
#[test]
fn a_header_that_is_not_the_manifests_is_damage() {
    let cases: [(&str, usize, &[u8]); 7] = [
        ("another name", 0, b"memory_files/other"),
        ("a setuid mode", 100, b"0004755"),
        ("another owner", 108, b"0001750"),
        ("another size", 124, b"00000000005"),
        ("a device", 156, b"3"),
        ("an owner's name", 265, b"root"),
        ("bytes after the last field", 511, b"x"),
    ];
    for (what, at, bytes) in cases {
        let mut parts = parts();
        let mut content = parts.content(0).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut content[..512]);
        parts.set_content(0, &content).unwrap();
        let report = verify_bytes(&parts.to_bytes(), None);
        assert_eq!(report.damage.len(), 1, "{what}: {report:?}");
        assert_eq!(report.damage[0].artifact, "memory_files/large", "{what}");
        let bundle = open_bytes(&parts.to_bytes()).unwrap();
        assert!(bundle.into_verified(&expecting(None), &Control::default()).is_err(), "{what}");
    }
}

/// Catches a manifest that stock tar puts elsewhere, or under another name or mode, than we do.
#[test]
fn the_header_of_the_manifest_is_what_it_must_be() {
    let cases: [(&str, usize, &[u8]); 3] = [
        ("another name", 0, b"manifest_json"),
        ("a setuid mode", 100, b"0004755"),
        ("another time", 136, b"00000000001"),
    ];
    for (what, at, bytes) in cases {
        let mut parts = parts();
        let last = parts.frames.len() - 1;
        let mut content = parts.content(last).unwrap();
        content[at..at + bytes.len()].copy_from_slice(bytes);
        seal(&mut content[..512]);
        parts.set_content(last, &content).unwrap();
        let error = open_error(&parts);
        assert!(error.to_string().contains("header of its manifest"), "{what}: {error}");
    }
}

/// Catches bytes that hide where no tool looks: padding, and after the end of the archive.
#[test]
fn padding_and_the_end_of_the_archive_are_zero() {
    let mut padded = parts();
    let mut content = padded.content(3).unwrap();
    assert_eq!(content.len(), 1024, "1000 bytes and their padding");
    content[1023] = 1;
    padded.set_content(3, &content).unwrap();
    assert!(verify_bytes(&padded.to_bytes(), None).damage[0].why.contains("padding"));

    let mut parts = parts();
    let last = parts.frames.len() - 1;
    let mut content = parts.content(last).unwrap();
    *content.last_mut().unwrap() = 1;
    parts.set_content(last, &content).unwrap();
    assert_eq!(open_error(&parts).kind(), ErrorKind::Integrity, "bytes after the end");
    let report = verify_bytes(&parts.to_bytes(), None);
    assert!(!report.manifest_ok && report.damage.len() == 1, "{report:?}");

    let mut longer = parts.content(last).unwrap();
    *longer.last_mut().unwrap() = 0;
    longer.extend([0; 512]);
    parts.set_content(last, &longer).unwrap();
    assert_eq!(open_error(&parts).kind(), ErrorKind::Integrity, "more after the end");
    longer.truncate(longer.len() - 1024);
    parts.set_content(last, &longer).unwrap();
    assert_eq!(open_error(&parts).kind(), ErrorKind::Integrity, "one block only");
}

/// Catches frames that ask for more memory than the format admits.
#[test]
fn frames_that_ask_for_too_much_are_refused() {
    // 4 GiB window, 1 MiB content, checksum, one empty block.
    let mut frame = 0xFD2F_B528u32.to_le_bytes().to_vec();
    frame.extend([0x84, 22 << 3]);
    frame.extend(u32::try_from(FRAME_BYTES).unwrap().to_le_bytes());
    frame.extend([1, 0, 0]);
    let mut wide = parts();
    wide.frames[1].0 = frame;
    let report = verify_bytes(&wide.to_bytes(), None);
    assert!(report.damage[0].why.contains("window"), "{report:?}");
    assert_eq!((report.damage[0].frame, report.damage.len()), (Some(1), 1));

    let mut large = parts();
    large.set_content(1, &vec![0; FRAME_BYTES + 1]).unwrap();
    assert_eq!(open_error(&large).kind(), ErrorKind::Integrity);

    // A bomb: the seek table says little, the frame holds much.
    let mut bomb = parts();
    bomb.frames[3].0 = compress(&vec![0; 64 << 20]).unwrap();
    let report = verify_bytes(&bomb.to_bytes(), None);
    assert_eq!(report.damage.len(), 1);
    assert!(report.damage[0].why.contains("seek table"), "{report:?}");
}

/// Catches content that stock zstd decodes and we do not see.
#[test]
fn nothing_hides_between_or_inside_frames() {
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let mut behind = parts();
    behind.frames[1].0.extend(skippable);
    let report = verify_bytes(&behind.to_bytes(), None);
    assert_eq!(report.damage[0].frame, Some(1), "{report:?}");
    let mut twice = parts();
    twice.frames[1].0.extend(compress(b"").unwrap());
    assert_eq!(verify_bytes(&twice.to_bytes(), None).damage[0].frame, Some(1));
    let mut empty = parts();
    empty.frames.insert(1, (compress(b"").unwrap(), 0));
    assert_eq!(open_error(&empty).kind(), ErrorKind::Integrity);
    let bytes = parts().to_bytes();
    let first = parts().frames[0].0.len();
    let between = [&bytes[..first], &skippable, &bytes[first..]].concat();
    assert!(open_bytes(&between).is_err());
}

/// Catches frames that overlap the index, or leave a gap before it, as large as a crafted file
/// likes, that a reader would take into memory.
#[test]
fn frames_that_do_not_fill_the_file_are_refused() {
    let bytes = parts().to_bytes();
    let entry = bytes.len() - 9 - 8 * (parts().frames.len() + 1);
    for compressed in [0u32, 1, 1 << 20] {
        let mut bad = bytes.clone();
        bad[entry..entry + 4].copy_from_slice(&compressed.to_le_bytes());
        let error = open_bytes(&bad).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("do not fill it"), "{compressed}: {error}");
    }
    let (sparse, hole) = (tempfile::tempfile().unwrap(), 1 << 40);
    let table = entry - 8;
    sparse.write_all_at(&bytes[..table], 0).unwrap();
    sparse.write_all_at(&bytes[table..], hole).unwrap();
    let error = Bundle::open(sparse, Path::new("sparse")).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("do not fill it"), "{error}");
}

/// Catches an index that is followed where it disagrees with manifest and frames.
#[test]
fn an_index_that_disagrees_is_refused() {
    for at in [8, 12, 16, 24, 28, 32, 36] {
        let mut parts = parts();
        parts.index[at] ^= 1;
        assert_eq!(open_error(&parts).kind(), ErrorKind::Integrity, "byte {at}");
    }
    let mut long = parts();
    long.index.extend([0; 8]);
    assert_eq!(open_error(&long).kind(), ErrorKind::Integrity);
    let mut huge = parts();
    huge.index[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(open_error(&huge).kind(), ErrorKind::Integrity);
    let mut nowhere = parts();
    nowhere.index[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(open_error(&nowhere).kind(), ErrorKind::Integrity);
}

/// Catches a report that grows with the number of crafted entries.
#[test]
fn findings_are_limited() {
    let items: Vec<_> = (0..1500).map(|n| Item::file(&format!("{n}"), "")).collect();
    let mut parts = Parts::of(&build(&items).bytes()).unwrap();
    parts.frames[0].0[20] ^= 0xff;
    let report = verify_bytes(&parts.to_bytes(), None);
    assert_eq!(report.damage.len(), 1001);
    assert!(report.damage[1000].why.contains("500 more"), "{}", report.damage[1000].why);
    assert!(!report.per_artifact_ok);
}
