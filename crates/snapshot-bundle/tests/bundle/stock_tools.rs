//! Stock tools open a bundle: GNU tar, zstd, and another implementation of the seekable format.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Built, Item, MIB, build, mixed, noise};

/// Runs a tool that must be installed, and must succeed in silence.
fn run(command: &mut Command) {
    let tool = command.get_program().to_owned();
    let output = match command.output() {
        Ok(output) => output,
        Err(e) => panic!("{} is needed for this test: {e}", tool.display()),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{}: {said}", tool.display());
}

fn extract(built: &Built, locale: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    tar.env("LC_ALL", locale).args(["--zstd", "-p", "-xf"]).arg(built.file.path());
    run(tar.arg("-C").arg(dir.path()));
    dir
}

fn extracted(dir: &Path, item: &Item) -> (PathBuf, Metadata) {
    let path = dir.join(item.path().as_path());
    let meta = fs::symlink_metadata(&path)
        .unwrap_or_else(|e| panic!("{:?} was not extracted: {e}", item.path()));
    (path, meta)
}

/// Names that a tar may get wrong: raw bytes, long, longer than ustar, newline, blanks, quotes.
fn names() -> Vec<Vec<u8>> {
    let long = |n| "n".repeat(n).into_bytes();
    let deep = [long(90), long(90), long(90)].join(&b'/');
    vec![
        b"plain".to_vec(),
        b"raw-\xff\xfe".to_vec(),
        [&long(150)[..], b"-\xe4\xff"].concat(),
        "ärger ".repeat(20).into_bytes(),
        [&long(120)[..], b"\nline"].concat(),
        b" lead 'quote\" \\back\nline".to_vec(),
        long(86),
        long(87),
        long(88),
        long(255),
        deep,
    ]
}

/// Catches headers that only our own reader understands, in names, modes, times and contents.
#[test]
fn gnu_tar_extracts_every_name_mode_time_and_content() {
    let mut items = vec![
        Item::Dir { name: b"dir-\xff".to_vec() },
        Item::Dir { name: "d".repeat(200).into_bytes() },
        Item::Link { name: b"link".to_vec(), target: b"raw-\xff\xfe".to_vec() },
        Item::Link { name: b"long".to_vec(), target: [&[b't'; 300][..], b"\xff"].concat() },
    ];
    for (n, name) in names().into_iter().enumerate() {
        let content = noise(n * 300, n as u64);
        let mode = if n % 2 == 0 { 0o600 } else { 0o4750 };
        items.push(Item::File { name, content, mode, mtime_ns: 1_600_000_000_999_999_999 });
    }
    items.extend(mixed());
    let built = build(&items);
    for locale in ["C", "C.UTF-8"] {
        let dir = extract(&built, locale);
        for item in &items {
            let (path, meta) = extracted(dir.path(), item);
            match item {
                Item::File { content, mode, .. } => {
                    assert!(fs::read(&path).unwrap() == *content, "content of {path:?}");
                    let expected = if mode & 0o100 == 0 { 0o644 } else { 0o755 };
                    assert_eq!(meta.mode() & 0o7777, expected, "mode of {path:?}");
                    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_600_000_000, 0));
                }
                Item::Dir { .. } => assert!(meta.is_dir() && meta.mode() & 0o7777 == 0o755),
                Item::Link { target, .. } => {
                    assert_eq!(fs::read_link(&path).unwrap(), Path::new(OsStr::from_bytes(target)));
                }
            }
        }
        let json = fs::read(dir.path().join("manifest.json")).unwrap();
        assert_eq!(json, built.manifest.to_bytes().unwrap());
        let top: usize = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(top, 2, "something else was extracted");
    }
}

/// Catches a skippable frame or a checksum that stock zstd does not take.
#[test]
fn zstd_tests_the_bundle() {
    let built = build(&mixed());
    run(Command::new("zstd").args(["-tq"]).arg(built.file.path()));
}

/// Catches a seek table that is right for our own reader only.
#[test]
fn another_seekable_reader_finds_the_frames() {
    let built = build(&mixed());
    let stream = zstd::decode_all(&built.bytes()[..]).unwrap();
    let mut decoder = zeekstd::Decoder::new(built.file.reopen().unwrap()).unwrap();
    let table = decoder.seek_table();
    assert_eq!(u64::from(table.num_frames()), built.frames + 1, "the index is an entry too");
    assert_eq!(table.size_decomp(), stream.len() as u64);
    let (start, length) = (2 * MIB + 100, 5000);
    decoder.set_offset(start as u64).unwrap();
    let mut part = vec![0; length];
    decoder.read_exact(&mut part).unwrap();
    assert!(part == stream[start..start + length]);
}
