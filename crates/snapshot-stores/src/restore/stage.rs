//! Staging: everything that will be written, checked and laid ready before a live byte changes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use snapshot_core::mutants::holds;
use snapshot_core::{
    ArtifactSource, BundlePath, Control, ErrorKind, GitInfo, Sha256Digest, StateKind, StateLayout,
    Step, path_in_bundle,
};
use snapshot_fs::{Dir, DurableFile};

use crate::error::StoresError;
use crate::git;
use crate::restore::target::{Action, StoreChoice, StoreTarget};
use crate::space::room;
use crate::sqlite::{Live, PageDigest, Shape, open_private, open_staged, page_digest};
use crate::state::{self, MAX_STATE_BYTES, StatePiece};

/// Bytes of a database's header (<https://www.sqlite.org/fileformat2.html>, 1.3).
const HEADER_BYTES: usize = 100;
/// In it, write and read version: 2 for WAL, 1 for rollback journal.
const VERSION_BYTES: Range<usize> = 18..20;
/// In it, what counts changes, and its value when the number of pages was written.
const CHANGE_COUNTER: Range<usize> = 24..28;
const VALID_FOR: Range<usize> = 92..96;
/// In it, the number of pages.
const PAGE_COUNT: Range<usize> = 28..32;
/// Where SQLite locks a file; the page around it holds nothing.
const LOCK_BYTE: u64 = 1 << 30;
/// Bytes copied at a time.
const BUFFER: usize = 256 << 10;
/// The staged repository's folder.
const GIT: &str = "git";

/// How far the unpacking of all stores is.
pub(crate) struct StageProgress<'a> {
    control: &'a Control,
    done: AtomicU64,
    total: u64,
}

impl<'a> StageProgress<'a> {
    /// `total` is in bytes.
    pub(crate) fn new(total: u64, control: &'a Control) -> Self {
        Self { control, done: AtomicU64::new(0), total }
    }

    pub(crate) fn check(&self) -> Result<(), StoresError> {
        self.control.check().map_err(StoresError::stopped("unpacking the stores"))
    }

    pub(crate) fn advance(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.control.advance(Step::Stage, done, self.total);
    }
}

/// Writes the staged copy of one store and says what it is. Its name is ours, by `number`: names from
/// a bundle never reach the disk.
pub(crate) fn stage_store(
    number: usize,
    choice: &StoreChoice,
    source: &dyn ArtifactSource,
    staging: &Dir,
    progress: &StageProgress<'_>,
) -> Result<StoreTarget, StoresError> {
    progress.check()?;
    let manifest = source.manifest();
    let found = manifest
        .stores()
        .find(|(info, _)| info.store == choice.store && choice.action != Action::Empty);
    let page_size = live_page_size(choice)?;
    let mut name = format!("store-{number}.sqlite");
    // Of the very stream that the bundle's digest covers; a rebuilt copy has pages of its own.
    let mut digest = None;
    match found {
        Some((_, artifact)) if artifact.size_bytes > 0 => {
            let to = staging.create_new(&name, 0o600)?;
            let copied = copy(source, &artifact.path, to, progress)?;
            digest = copied.map(|digest| (artifact.size_bytes, digest));
            // By the copy itself: a manifest may say anything.
            let is = look(choice, &staging.path().join(&name))?.1.page_size;
            if let Some(size) = page_size.filter(|size| *size != is) {
                name = rebuild(&name, staging, size).map_err(|e| crafted(choice, e))?;
                digest = None;
            }
        }
        _ => make_empty(&staging.path().join(&name), page_size)?,
    }
    let path = staging.path().join(&name);
    let (conn, shape) = look(choice, &path)?;
    let info = found.map(|(info, artifact)| (info.journal_mode.clone(), artifact.mode));
    let (journal_mode, mode) = info.unwrap_or_default();
    Ok(StoreTarget {
        store: choice.store.clone(),
        path: choice.path.clone(),
        action: choice.action,
        staged: name,
        pages: shape.page_count,
        journal_mode,
        mode: mode.unwrap_or(0o600) & 0o777,
        before: None,
        after: match digest {
            // A header may say fewer pages than the file has.
            Some((bytes, digest)) if holds(bytes == shape.size_bytes()) => digest,
            _ => page_digest(&conn, &path, staging)?,
        },
    })
}

/// Opens a staged copy, and what it is.
fn look(choice: &StoreChoice, path: &Path) -> Result<(Connection, Shape), StoresError> {
    let opened = open_private(path);
    let looked = opened.and_then(|conn| Live::new(path).shape(&conn).map(|shape| (conn, shape)));
    looked.map_err(|e| crafted(choice, e))
}

/// What SQLite makes nothing of is the bundle's fault, not the program's.
fn crafted(choice: &StoreChoice, error: StoresError) -> StoresError {
    match (error.kind(), error) {
        (ErrorKind::Integrity | ErrorKind::Internal, StoresError::Sqlite { source, .. }) => {
            let store = format!("store {}", choice.store);
            StoresError::integrity(store, format!("SQLite cannot read it: {source}"))
        }
        (_, error) => error,
    }
}

/// Sees to it that a piece of state which is a row of the staged store is the snapshot's.
pub(crate) fn stage_row(
    target: &mut StoreTarget,
    layout: &StateLayout,
    piece: &StatePiece,
    staging: &Dir,
) -> Result<(), StoresError> {
    let path = staging.path().join(&target.staged);
    if !state::put_in(layout, piece, &path)? {
        return Ok(());
    }
    let conn = open_staged(&path)?;
    target.pages = Live::new(&path).shape(&conn)?.page_count;
    target.after = page_digest(&conn, &path, staging)?;
    Ok(())
}

/// Unpacks and checks the repository; none where the snapshot has none.
pub(crate) fn stage_git(
    source: &dyn ArtifactSource,
    info: &GitInfo,
    staging: &Dir,
    max_object_bytes: u64,
    control: &Control,
) -> Result<Dir, StoresError> {
    let dir = staging.make_path(GIT, 0o700)?;
    let path = BundlePath::parse(path_in_bundle::GIT_BUNDLE)?;
    let mut bundle = match source.manifest().artifact(&path) {
        Some(artifact) => {
            room(&dir, git::unpacked_bytes(artifact.size_bytes))?;
            Some(source.open(&path)?)
        }
        None => None,
    };
    let reader = bundle.as_mut().map(|b| b as &mut dyn Read);
    git::stage(reader, info, &dir, max_object_bytes, control)?;
    Ok(dir)
}

/// The staged repository, as an interrupted restore left it.
pub(crate) fn staged_git(staging: &Dir) -> Result<Dir, StoresError> {
    Ok(staging.sub(GIT)?)
}

/// The state pieces that the snapshot holds.
pub(crate) fn read_state(source: &dyn ArtifactSource) -> Result<Vec<StatePiece>, StoresError> {
    let piece = |kind| Ok(StatePiece { kind, json: read_piece(source, kind)? });
    StateKind::ALL.into_iter().map(piece).collect()
}

/// One of them.
pub(crate) fn read_piece(
    source: &dyn ArtifactSource,
    kind: StateKind,
) -> Result<Option<Vec<u8>>, StoresError> {
    let path = BundlePath::parse(kind.bundle_path())?;
    let Some(artifact) = source.manifest().artifact(&path) else { return Ok(None) };
    if artifact.size_bytes > MAX_STATE_BYTES {
        return Err(StoresError::integrity(
            path,
            format!("is larger than {MAX_STATE_BYTES} bytes"),
        ));
    }
    let mut json = Vec::new();
    let read = source.open(&path)?.read_to_end(&mut json);
    read.map_err(StoresError::io("read", path.as_path()))?;
    Ok(Some(json))
}

/// Copies one store into staging, in rollback mode: a WAL header would turn the live file's mode.
/// Gives its page digest, which masks the bytes that say the mode; none where SQLite would write other
/// bytes than came.
fn copy(
    source: &dyn ArtifactSource,
    from: &BundlePath,
    mut to: DurableFile,
    progress: &StageProgress<'_>,
) -> Result<Option<Sha256Digest>, StoresError> {
    let mut reader = source.open(from)?;
    let mut buffer = vec![0; BUFFER];
    let mut digest = PageDigest::default();
    let mut head = [0; HEADER_BYTES];
    reader.read_exact(&mut head).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => StoresError::integrity(from, "is not a SQLite database"),
        _ => StoresError::io("read", from.as_path())(e),
    })?;
    let mut bytes = 0;
    let mut blank = true;
    let mut reader = head.as_slice().chain(reader);
    loop {
        progress.check()?;
        let n = reader.read(&mut buffer).map_err(StoresError::io("read", from.as_path()))?;
        if n == 0 {
            break;
        }
        blank = blank && is_lock_page_blank(&head, bytes, &buffer[..n]);
        bytes += n as u64;
        digest.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(StoresError::io("write", to.path()))?;
        progress.advance(n as u64);
    }
    let path = to.path().to_owned();
    to.sync()?;
    let counted = settle_header(to.into_reader()?, &head, bytes);
    let counted = counted.map_err(StoresError::io("write", path))?;
    Ok(holds(blank && counted).then(|| digest.finish()))
}

/// Bytes of a page, by the header.
fn page_bytes(head: &[u8; HEADER_BYTES]) -> u64 {
    match u16::from_be_bytes([head[16], head[17]]) {
        1 => 1 << 16,
        size => u64::from(size),
    }
}

/// Whether the part at `offset` has nothing in the page around [`LOCK_BYTE`]: SQLite copies none of it.
fn is_lock_page_blank(head: &[u8; HEADER_BYTES], offset: u64, part: &[u8]) -> bool {
    let inside = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (start, end) = (inside(LOCK_BYTE), inside(LOCK_BYTE + page_bytes(head)));
    part[start.min(part.len())..end.min(part.len())].iter().all(|byte| *byte == 0)
}

/// Sets rollback mode, and the number of pages where SQLite would not go by what is there, but by the
/// length of the file, and write that down in the live one. Whether the latter was right already.
fn settle_header(mut file: File, head: &[u8; HEADER_BYTES], bytes: u64) -> io::Result<bool> {
    let mut write = |at: usize, field: &[u8]| {
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(field)
    };
    match head[VERSION_BYTES] {
        [1, 1] => {}
        [2, 2] => write(VERSION_BYTES.start, &[1, 1])?,
        // The live file would get them, and nobody could write it any more.
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its header has unknown versions",
            ));
        }
    }
    let is_known = head[PAGE_COUNT] != [0; 4] && head[CHANGE_COUNTER] == head[VALID_FOR];
    let pages = u32::try_from(bytes / page_bytes(head).max(1)).unwrap_or(u32::MAX).to_be_bytes();
    if is_known || head[PAGE_COUNT] == pages {
        return Ok(true);
    }
    write(PAGE_COUNT.start, &pages)?;
    Ok(false)
}

/// A copy of the staged store with the live one's page size: `VACUUM INTO` keeps rowids, plain
/// `VACUUM` would not.
fn rebuild(name: &str, staging: &Dir, page_size: u32) -> Result<String, StoresError> {
    let rebuilt = format!("rebuilt-{name}");
    let path = staging.path().join(name);
    let fail = || StoresError::sqlite("rebuild with another page size", &path);
    let conn = open_staged(&path)?;
    conn.pragma_update(None, "page_size", page_size).map_err(fail())?;
    let target = staging.path().join(&rebuilt);
    let target = target
        .to_str()
        .ok_or_else(|| StoresError::refused(&path, "the vault's path is not UTF-8"))?;
    conn.execute("VACUUM INTO ?1", [target]).map_err(fail())?;
    drop(conn);
    staging.unlink(name)?;
    Ok(rebuilt)
}

/// A database of one page: a backup from one without any would commit too early.
fn make_empty(path: &Path, page_size: Option<u32>) -> Result<(), StoresError> {
    let fail = || StoresError::sqlite("make an empty database at", path);
    let conn = open_private(path)?;
    if let Some(size) = page_size {
        conn.pragma_update(None, "page_size", size).map_err(fail())?;
    }
    conn.execute_batch("BEGIN; PRAGMA user_version=1; PRAGMA user_version=0; COMMIT")
        .map_err(fail())
}

/// The live file's page size, which a backup cannot change in WAL mode; none where it has no page.
fn live_page_size(choice: &StoreChoice) -> Result<Option<u32>, StoresError> {
    if choice.action == Action::Create {
        return Ok(None);
    }
    let live = Live::new(&choice.path);
    let conn = live.open()?;
    let shape = live.shape(&conn)?;
    Ok((shape.page_count > 0).then_some(shape.page_size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Would catch: bytes around the lock that nobody copies, under a digest that a restore waits for in
    /// vain, after it has begun to change the live stores.
    #[test]
    fn bytes_that_sqlite_does_not_copy_are_seen() {
        let mut head = [0; HEADER_BYTES];
        head[16..18].copy_from_slice(&4096u16.to_be_bytes());
        let blank = |offset, part: &[u8]| is_lock_page_blank(&head, offset, part);
        let page = [&[0; 4095][..], &[1]].concat();
        assert!(!blank(LOCK_BYTE, &page));
        assert!(!blank(LOCK_BYTE - 7, &[0, 0, 0, 0, 0, 0, 0, 1]));
        assert!(!blank(LOCK_BYTE + 4095, &[1]));
        assert!(blank(LOCK_BYTE - 7, &[1, 1, 1, 1, 1, 1, 1, 0]));
        assert!(blank(LOCK_BYTE + 4096, &[1]) && blank(0, &page));
    }
}
