//! Which processes have a database open, and which SQLite they do it with, as far as the operating
//! system lets us see.
//!
//! Invariants: no file is opened but what a process runs (its executable mappings), so never a
//! database, its log or its shared memory; what is read is bounded; a library that was replaced on disk
//! since it was mapped is not taken for the one that is mapped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memchr::memmem;
use rustix::fs::OFlags;

use super::connect::has_wal_reset_bug;

/// Most mapped files that are looked into, of one process.
const MAX_MAPPED: usize = 64;
/// Most bytes read of one mapped file.
const MAX_BYTES: u64 = 256 << 20;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// Longer than what is looked for: so much of a chunk is looked at again with the next.
const OVERLAP: usize = 64;
/// Hexadecimal digits that must follow the time in a source id; its last four may be `alt1`.
const HASH_DIGITS: usize = 36;
/// The day on which the WAL-reset bug was found and mended (<https://www.sqlite.org/wal.html#walresetbug>):
/// no source older than this has the fix, whatever it was built as.
const FIXED_ON: &str = "2026-03-03";

/// The processes that have one of some databases open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holders {
    /// Those that we could look into.
    pub processes: Vec<Holder>,
    /// How many processes do not let us see what they have open.
    pub closed_to_us: u64,
    /// Whether this operating system tells at all.
    pub can_tell: bool,
}

/// One such process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name, as it gives it: escape it for a terminal.
    pub program: String,
    /// A database that it has open.
    pub database: PathBuf,
    /// The copies of SQLite in its mapped files; none where they cannot be read or have none.
    pub libraries: Vec<Library>,
}

/// A copy of SQLite in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The file.
    pub path: PathBuf,
    /// Its version, where the file holds one that can be it.
    pub version: Option<String>,
    /// When its source was checked in, `2025-07-30 19:33:53`, as its source id begins.
    pub source: String,
}

impl Library {
    /// Whether it is of a source that has the WAL-reset bug. A vendor may have mended it without a sign.
    #[must_use]
    pub fn has_wal_reset_bug(&self) -> bool {
        let by_number = self.version.as_deref().and_then(number).map(has_wal_reset_bug);
        self.source.as_str() < FIXED_ON && by_number != Some(false)
    }
}

/// The processes that have one of the files at `databases` open.
#[must_use]
pub(crate) fn holders(databases: &[&Path]) -> Holders {
    let mut inodes = BTreeMap::new();
    for path in databases {
        if let Ok(meta) = fs::metadata(path) {
            inodes.insert((meta.dev(), meta.ino()), *path);
        }
    }
    let mut found = Holders::default();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    found.can_tell = Path::new("/proc/self/maps").exists();
    let mut pids: Vec<u32> =
        processes.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        match open_database(pid, &inodes) {
            Ok(None) => {}
            Ok(Some(database)) => found.processes.push(Holder::look(pid, database, &inodes)),
            // It ended meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(_) => found.closed_to_us += 1,
        }
    }
    found
}

/// The first of the databases that a process has open.
fn open_database(pid: u32, inodes: &BTreeMap<(u64, u64), &Path>) -> io::Result<Option<PathBuf>> {
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // A look at what it is, which opens nothing.
        let Ok(meta) = fs::metadata(fd?.path()) else { continue };
        if let Some(path) = inodes.get(&(meta.dev(), meta.ino())) {
            return Ok(Some((*path).to_owned()));
        }
    }
    Ok(None)
}

impl Holder {
    fn look(pid: u32, database: PathBuf, databases: &BTreeMap<(u64, u64), &Path>) -> Self {
        let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
        let program = String::from_utf8_lossy(&name).trim_end().to_owned();
        let mut libraries = Vec::new();
        for (path, inode) in mapped(pid).into_iter().take(MAX_MAPPED) {
            // Where a library bears the name, what else is mapped is not searched.
            if !libraries.is_empty() && !is_named_sqlite(&path) {
                break;
            }
            libraries.extend(look_into(pid, &path, inode, databases));
        }
        Self { pid, program, database, libraries }
    }
}

/// Files that a process runs code of, those first whose names have `sqlite` in them; with their inodes.
fn mapped(pid: u32) -> Vec<(PathBuf, u64)> {
    let maps = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in maps.split(|&b| b == b'\n') {
        // addresses, rights, offset, device, inode, path
        let mut fields = line.splitn(6, |&b| b == b' ');
        let rights = fields.nth(1).unwrap_or_default();
        let inode = fields.nth(2).and_then(|f| std::str::from_utf8(f).ok()?.parse().ok());
        let path = fields.next().unwrap_or_default().trim_ascii_start();
        if let (Some(inode), true, true) = (inode, rights.contains(&b'x'), path.starts_with(b"/")) {
            let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
            found.insert((!is_named_sqlite(&path), path, inode));
        }
    }
    found.into_iter().map(|(_, path, inode)| (path, inode)).collect()
}

fn is_named_sqlite(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().contains("sqlite"))
}

/// The copy of SQLite in a mapped file, seen as the process sees it.
fn look_into(
    pid: u32,
    path: &Path,
    inode: u64,
    databases: &BTreeMap<(u64, u64), &Path>,
) -> Option<Library> {
    let seen = PathBuf::from(format!("/proc/{pid}/root")).join(path.strip_prefix("/").ok()?);
    let meta = fs::metadata(&seen).ok()?;
    let same = meta.is_file() && meta.ino() == inode;
    if !same || databases.contains_key(&(meta.dev(), meta.ino())) {
        return None;
    }
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(seen).ok()?;
    let (version, source) = scan(file.take(MAX_BYTES)).ok()??;
    Some(Library { path: path.to_owned(), version, source })
}

/// The version and the time of the source of the SQLite in these bytes; of several the oldest time. The
/// version is given where there is but one text that can be it.
fn scan(mut bytes: impl Read) -> io::Result<Option<(Option<String>, String)>> {
    let (mut sources, mut versions) = (BTreeSet::new(), BTreeSet::new());
    let mut window = vec![0; OVERLAP];
    loop {
        let before = window.len();
        let read = bytes.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        if read == 0 {
            break;
        }
        sources.extend(memmem::find_iter(&window, b"20").filter_map(|at| source_at(&window[at..])));
        let texts = memmem::find_iter(&window, b"\x003.");
        versions.extend(texts.filter_map(|at| version_at(&window[at + 1..])));
        debug_assert_eq!(window.len(), before + read);
        window.drain(..window.len() - OVERLAP);
    }
    let version = (versions.len() == 1).then(|| versions.pop_first()).flatten();
    Ok(sources.pop_first().map(|source| (version, source)))
}

/// `2025-07-30 19:33:53 ` and a hash.
fn source_at(bytes: &[u8]) -> Option<String> {
    const FORM: &[u8] = b"20dd-dd-dd dd:dd:dd ";
    let (time, hash) = bytes.get(..FORM.len() + HASH_DIGITS)?.split_at(FORM.len());
    let fits = time.iter().zip(FORM).all(|(&is, &form)| match form {
        b'd' => is.is_ascii_digit(),
        form => is == form,
    });
    let fits = fits && hash.iter().all(u8::is_ascii_hexdigit);
    fits.then(|| String::from_utf8_lossy(&time[..FORM.len() - 1]).into_owned())
}

/// `3.50.4` and a zero.
fn version_at(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(9).position(|&b| b == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    number(text).map(|_| text.to_owned())
}

/// 3050004 for `3.50.4`.
fn number(version: &str) -> Option<i32> {
    let mut parts = version.split('.').map(|part| {
        let plain = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        part.parse::<i32>().ok().filter(|_| plain)
    });
    let (major, minor, patch) = (parts.next()??, parts.next()??, parts.next()??);
    (major == 3 && parts.next().is_none()).then_some(major * 1_000_000 + minor * 1_000 + patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "df5c253c0b3dd24916e4ec7cf77d3db5294cc9fd45ae7b9c5e82ad8197f3alt1";

    fn found(text: &str, at: usize) -> Option<(Option<String>, String)> {
        let mut bytes = vec![b'x'; at];
        bytes.extend(text.as_bytes());
        bytes.extend([b'x'; 70]);
        scan(bytes.as_slice()).unwrap()
    }

    /// Would catch: a source id that lies across two readings, another program's version taken for
    /// SQLite's, or a file without SQLite taken for one.
    #[test]
    fn sqlite_is_found_wherever_it_lies() {
        let text = format!("\u{0}3.40.1\u{0}2022-12-28 14:03:47 {HASH}\u{0}");
        let is = Some((Some("3.40.1".to_owned()), "2022-12-28 14:03:47".to_owned()));
        for at in [0, 1, CHUNK - 100, CHUNK - 40, CHUNK - 3, CHUNK, CHUNK + 1, 3 * CHUNK - 10] {
            assert_eq!(found(&text, at), is, "{at}");
        }
        let two = format!("\u{0}3.11.2\u{0}{text}");
        assert_eq!(found(&two, 9).unwrap().0, None);
        assert_eq!(found("\u{0}3.40.1\u{0}2022-12-28 14:03:47 no hash", 9), None);
    }

    /// Would catch: a fixed release that is called broken, or the other way round.
    #[test]
    fn the_releases_with_the_bug_are_known() {
        for (version, bad) in [
            ("3.6.23", false),
            ("3.7.0", true),
            ("3.44.5", true),
            ("3.44.6", false),
            ("3.45.0", true),
            ("3.50.6", true),
            ("3.50.7", false),
            ("3.51.2", true),
            ("3.51.3", false),
            ("3.53.0", false),
        ] {
            assert_eq!(number(version).is_some_and(has_wal_reset_bug), bad, "{version}");
        }
        let library = |version: Option<&str>, source: &str| Library {
            path: PathBuf::new(),
            version: version.map(str::to_owned),
            source: source.to_owned(),
        };
        assert!(library(None, "2026-01-09 17:27:48").has_wal_reset_bug());
        assert!(!library(None, "2026-03-13 10:38:09").has_wal_reset_bug());
        assert!(!library(Some("3.50.7"), "2026-01-01 00:00:00").has_wal_reset_bug());
    }
}
