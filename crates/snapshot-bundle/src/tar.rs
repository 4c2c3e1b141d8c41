//! The header bytes that an entry must have: ustar, and PAX only for what ustar cannot say.
//!
//! Writer and reader both render; there is no tar parser. Names are raw bytes, as file systems
//! have them. Invariant: the same entry always gives the same bytes.

use snapshot_core::{Artifact, ArtifactKind};

use crate::format::TAR_BLOCK;

/// Longest name in a ustar header, in bytes.
const NAME_BYTES: usize = 100;
/// Longest prefix (what comes before the name and a `/`), in bytes.
const PREFIX_BYTES: usize = 155;
/// Largest number in a field of 11 octal digits: 8 GiB - 1, and a second in the year 2242.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;
/// Name of the entries that carry PAX records; no tool extracts them.
const PAX_NAME: &[u8] = b"././@PaxHeader";

const REGULAR: u8 = b'0';
const SYMLINK: u8 = b'2';
const FOLDER: u8 = b'5';
const PAX: u8 = b'x';

/// An entry of the tar stream.
pub(crate) struct Entry<'a> {
    path: &'a [u8],
    link: &'a [u8],
    kind: u8,
    mode: u32,
    size_bytes: u64,
    mtime_s: u64,
}

impl<'a> Entry<'a> {
    /// The entry of an artifact; `created_at_ms` stands in for a time that it has not.
    pub(crate) fn of(artifact: &'a Artifact, created_at_ms: i64) -> Self {
        let kind = match artifact.kind {
            ArtifactKind::MemoryDir => FOLDER,
            ArtifactKind::MemorySymlink => SYMLINK,
            _ => REGULAR,
        };
        let executable = artifact.mode.is_some_and(|mode| mode & 0o100 != 0);
        let mtime_s = match artifact.mtime_ns {
            Some(ns) => ns.div_euclid(1_000_000_000),
            None => created_at_ms.div_euclid(1000),
        };
        Self {
            path: artifact.path.as_bytes(),
            link: artifact.link.as_deref().unwrap_or_default(),
            kind,
            mode: if kind != REGULAR || executable { 0o755 } else { 0o644 },
            size_bytes: artifact.size_bytes,
            mtime_s: clamp_seconds(mtime_s),
        }
    }

    /// The entry of the manifest, or of its signature, of `size_bytes`.
    pub(crate) fn of_document(path: &'static str, size_bytes: u64, created_at_ms: i64) -> Self {
        Self {
            path: path.as_bytes(),
            link: b"",
            kind: REGULAR,
            mode: 0o644,
            size_bytes,
            mtime_s: clamp_seconds(created_at_ms.div_euclid(1000)),
        }
    }

    /// Appends the header blocks of this entry.
    pub(crate) fn render(&self, out: &mut Vec<u8>) {
        let slash: &[u8] = if self.kind == FOLDER { b"/" } else { b"" };
        let path = [self.path, slash].concat();
        let split = split_path(&path);
        let mut records = Vec::new();
        if split.is_none() {
            push_record(&mut records, b"path", &path);
        }
        if self.link.len() > NAME_BYTES {
            push_record(&mut records, b"linkpath", self.link);
        }
        if self.size_bytes > MAX_OCTAL_11 {
            push_record(&mut records, b"size", self.size_bytes.to_string().as_bytes());
        }
        if !records.is_empty() {
            let length = records.len() as u64;
            self.push_block(out, (b"", PAX_NAME), b"", PAX, 0o644, length);
            out.extend_from_slice(&records);
            out.resize(out.len() + padding(length), 0);
        }
        let names = split.unwrap_or((b"", fallback_name(self.path)));
        let link = &self.link[..self.link.len().min(NAME_BYTES)];
        let size = if self.size_bytes > MAX_OCTAL_11 { 0 } else { self.size_bytes };
        self.push_block(out, names, link, self.kind, self.mode, size);
    }

    /// Appends one header block; owner 0:0 without names.
    fn push_block(
        &self,
        out: &mut Vec<u8>,
        (prefix, name): (&[u8], &[u8]),
        link: &[u8],
        kind: u8,
        mode: u32,
        size: u64,
    ) {
        let mut block = [0; TAR_BLOCK];
        put(&mut block, 0, name);
        put_octal(&mut block, 100, 7, u64::from(mode));
        put_octal(&mut block, 108, 7, 0);
        put_octal(&mut block, 116, 7, 0);
        put_octal(&mut block, 124, 11, size);
        put_octal(&mut block, 136, 11, self.mtime_s);
        put(&mut block, 148, b"        ");
        put(&mut block, 156, &[kind]);
        put(&mut block, 157, link);
        put(&mut block, 257, b"ustar\x0000");
        put_octal(&mut block, 329, 7, 0);
        put_octal(&mut block, 337, 7, 0);
        put(&mut block, 345, prefix);
        let sum = block.iter().map(|&byte| u64::from(byte)).sum();
        put_octal(&mut block, 148, 6, sum);
        block[154] = 0;
        out.extend_from_slice(&block);
    }
}

/// Zero bytes after `size_bytes` of content, up to the next block.
pub(crate) fn padding(size_bytes: u64) -> usize {
    let over = usize::try_from(size_bytes % TAR_BLOCK as u64).unwrap_or_default();
    (TAR_BLOCK - over) % TAR_BLOCK
}

/// Whole seconds that a ustar header can say.
fn clamp_seconds(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).min(MAX_OCTAL_11)
}

/// `path` as ustar's prefix and name, where it fits: the shortest prefix that leaves a name.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES {
        return Some((b"", path));
    }
    let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    for at in slashes {
        let (prefix, name) = (&path[..at], &path[at + 1..]);
        if at <= PREFIX_BYTES && !name.is_empty() && name.len() <= NAME_BYTES {
            return Some((prefix, name));
        }
    }
    None
}

/// What stands in the name field beside a PAX path. No `/` at its end: that would make a file a
/// folder to some tools.
fn fallback_name(path: &[u8]) -> &[u8] {
    let name = &path[..path.len().min(NAME_BYTES)];
    name.strip_suffix(b"/").unwrap_or(name)
}

/// Appends a PAX record `<length> <key>=<value>\n`, whose length counts its own digits.
fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn put(block: &mut [u8; TAR_BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_octal(block: &mut [u8; TAR_BLOCK], at: usize, digits: usize, number: u64) {
    put(block, at, format!("{number:0digits$o}").as_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;
    use snapshot_core::{BundlePath, FileSpec, Sha256Digest};

    use super::*;

    fn file(path: &[u8], size_bytes: u64, mode: u32, mtime_ns: Option<i64>) -> Artifact {
        FileSpec {
            path: BundlePath::from_bytes(path).unwrap(),
            kind: ArtifactKind::MemoryFile,
            size_bytes,
            mode: Some(mode),
            mtime_ns,
        }
        .into_artifact(Sha256Digest::of(b""))
    }

    fn render(artifact: &Artifact) -> Vec<u8> {
        let mut bytes = Vec::new();
        Entry::of(artifact, 5_000).render(&mut bytes);
        bytes
    }

    /// What another implementation reads in the header: path, link, type, mode, size, mtime.
    fn read_back(bytes: &[u8]) -> (Vec<u8>, Option<Vec<u8>>, u8, u32, u64, u64) {
        let mut archive = ::tar::Archive::new(bytes.chain(std::io::repeat(0).take(1024)));
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let header = entry.header();
        (
            entry.path_bytes().into_owned(),
            entry.link_name_bytes().map(|link| link.into_owned()),
            header.entry_type().as_byte(),
            header.mode().unwrap(),
            entry.size(),
            header.mtime().unwrap(),
        )
    }

    /// Catches sizes that wrap around in 11 octal digits.
    #[test]
    fn pax_says_the_size_from_8_gib_on() {
        let size = MAX_OCTAL_11;
        let (small, large) = (file(b"a", size, 0o600, None), file(b"a", size + 1, 0o600, None));
        assert_eq!(render(&small).len(), TAR_BLOCK);
        assert_eq!(render(&large).len(), 3 * TAR_BLOCK);
        assert_eq!(read_back(&render(&small)).4, size);
        assert_eq!(read_back(&render(&large)).4, size + 1);
    }

    /// Catches times before 1970 and after 2242 turned into other octal digits.
    #[test]
    fn times_are_whole_seconds_clamped_to_what_ustar_can_say() {
        let time = |ns| read_back(&render(&file(b"a", 0, 0o600, ns))).5;
        assert_eq!(time(Some(1_999_999_999)), 1);
        assert_eq!(time(Some(-1)), 0);
        assert_eq!(time(Some(i64::MIN)), 0);
        assert_eq!(time(Some(i64::MAX)), MAX_OCTAL_11);
        assert_eq!(time(None), 5);
    }

    #[test]
    fn modes_are_0644_or_0755() {
        for (mode, shown) in [(0o600, 0o644), (0o666, 0o644), (0o4700, 0o755), (0o077, 0o644)] {
            assert_eq!(read_back(&render(&file(b"a", 0, mode, None))).3, shown, "{mode:o}");
        }
        let dir = Artifact::dir(BundlePath::parse("memory_files/d").unwrap(), 0o700, 0);
        let (path, _, kind, mode, ..) = read_back(&render(&dir));
        assert_eq!((path.as_slice(), kind, mode), (&b"memory_files/d/"[..], FOLDER, 0o755));
    }

    /// Catches PAX where ustar would do, and ustar where it would cut a name.
    #[test]
    fn pax_says_paths_and_links_exactly_where_ustar_cannot() {
        let blocks = |path: &[u8]| render(&file(path, 0, 0o600, None)).len() / TAR_BLOCK;
        let name = |n: usize| b"n".repeat(n);
        assert_eq!(blocks(&name(100)), 1);
        assert_eq!(blocks(&name(101)), 3);
        assert_eq!(blocks(&[&name(155)[..], b"/", &name(100)].concat()), 1);
        assert_eq!(blocks(&[&name(156)[..], b"/", &name(100)].concat()), 3);
        let link = |n| {
            let path = BundlePath::parse("memory_files/l").unwrap();
            render(&Artifact::symlink(path, name(n), 0)).len() / TAR_BLOCK
        };
        assert_eq!(link(100), 1);
        assert_eq!(link(101), 3);
    }

    /// Catches the self-counting length going wrong where a digit is added.
    #[test]
    fn record_lengths_count_themselves() {
        for value in 0..1200 {
            let mut record = Vec::new();
            push_record(&mut record, b"path", &vec![b'v'; value]);
            let digits = record.iter().position(|&b| b == b' ').unwrap();
            let length = std::str::from_utf8(&record[..digits]).unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), record.len());
        }
    }

    /// Bytes of names, but for the newline, at which that other reader splits PAX records.
    fn name_byte() -> impl Strategy<Value = u8> {
        (1u8..).prop_filter("no / and no newline", |byte| !matches!(byte, b'/' | b'\n'))
    }

    proptest! {
        #[test]
        fn another_implementation_reads_the_same_names(
            parts in prop::collection::vec(prop::collection::vec(name_byte(), 1..130), 1..6),
            link in prop::collection::vec(name_byte(), 1..300), shape in 0..3u8, size in 0u64..1 << 40) {
            let path = parts.join(&b'/');
            prop_assume!(BundlePath::from_bytes(&path).is_ok());
            let path = BundlePath::from_bytes(&path).unwrap();
            let artifact = match shape {
                0 => file(path.as_bytes(), size, 0o644, Some(0)),
                1 => Artifact::dir(path.clone(), 0o755, 0),
                _ => Artifact::symlink(path.clone(), link.clone(), 0),
            };
            let bytes = render(&artifact);
            prop_assert_eq!(bytes.len() % TAR_BLOCK, 0);
            let (read_path, read_link, _, _, read_size, _) = read_back(&bytes);
            prop_assert_eq!(read_path.strip_suffix(b"/").unwrap_or(&read_path), path.as_bytes());
            prop_assert_eq!(read_link, artifact.link.clone());
            prop_assert_eq!(read_size, artifact.size_bytes);
        }
    }
}
