//! The format, frozen: a small bundle's digest and structure. A change here is a change of the
//! format (or of zstd), never an accident.

use std::fmt::Write;

use crate::support::{Item, MIB, Parts, build};

/// Entries whose headers and layout take every branch of the writer.
fn items() -> Vec<Item> {
    vec![
        Item::file("large.bin", vec![b'a'; MIB + 10]),
        Item::Dir { name: b"notes".to_vec() },
        Item::file("notes/hello.md", "# Hello\n"),
        Item::file("notes/empty", ""),
        Item::File {
            name: b"raw-\xff".to_vec(),
            content: b"raw".to_vec(),
            mode: 0o755,
            mtime_ns: -1,
        },
        Item::file(&"long-name-".repeat(20), "PAX"),
        Item::Link { name: b"link".to_vec(), target: b"notes/hello.md".to_vec() },
    ]
}

#[test]
fn a_small_bundle_is_byte_for_byte_the_same() {
    let built = build(&items());
    let parts = Parts::of(&built.bytes()).unwrap();
    let mut text = String::new();
    let mut line = |what: String| writeln!(text, "{what}").unwrap();
    line(format!("{} bytes, SHA-256 {}", built.bytes().len(), built.sidecar.bundle_sha256));
    line(format!("root digest {}", built.open().root_digest()));
    for (number, (frame, content)) in parts.frames.iter().enumerate() {
        line(format!("frame {number}: {} bytes hold {content}", frame.len()));
    }
    for chunk in parts.index.chunks(8) {
        line(format!("index {}", chunk.iter().map(|b| format!("{b:02x} ")).collect::<String>()));
    }
    let mut archive = ::tar::Archive::new(std::io::Cursor::new(parts.stream().unwrap()));
    for entry in archive.entries().unwrap().raw(true) {
        let entry = entry.unwrap();
        let header = entry.header();
        line(format!(
            "entry at {} {:?} {:o} {} bytes, time {}: {}",
            entry.raw_header_position(),
            header.entry_type(),
            header.mode().unwrap(),
            header.size().unwrap(),
            header.mtime().unwrap(),
            header.path_bytes().escape_ascii(),
        ));
    }
    line(parts.manifest().unwrap());
    insta::assert_snapshot!(text);
}
