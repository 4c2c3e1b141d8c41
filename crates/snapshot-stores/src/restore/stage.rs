//! Staging: everything that will be written, checked and laid ready before a live byte changes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use snapshot_core::{
    ArtifactSource, BundlePath, Control, GitInfo, Sha256Digest, StateKind, StateLayout, Step,
    path_in_bundle,
};
use snapshot_fs::{Dir, DurableFile};

use crate::error::StoresError;
use crate::git;
use crate::restore::target::{Action, StoreChoice, StoreTarget};
use crate::sqlite::{Live, MAGIC, PageDigest, open_private, open_staged, page_digest};
use crate::state::{self, MAX_STATE_BYTES, StatePiece};

/// Bytes 18 and 19 of the header: write and read version, 2 for WAL, 1 for rollback journal.
const VERSION_BYTES: u64 = 18;
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
        Some((info, artifact)) if artifact.size_bytes > 0 => {
            let to = staging.create_new(&name, 0o600)?;
            digest = Some((artifact.size_bytes, copy(source, &artifact.path, to, progress)?));
            if let Some(size) = page_size.filter(|size| *size != info.page_size) {
                name = rebuild(&name, staging, size)?;
                digest = None;
            }
        }
        _ => make_empty(&staging.path().join(&name), page_size)?,
    }
    let path = staging.path().join(&name);
    let conn = open_private(&path)?;
    let shape = Live::new(&path).shape(&conn)?;
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
            Some((bytes, digest)) if bytes == shape.size_bytes() => digest,
            _ => page_digest(&conn, &path, staging)?,
        },
    })
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
    let dir = staging.ensure_sub(GIT, 0o700)?;
    let path = BundlePath::parse(path_in_bundle::GIT_BUNDLE)?;
    let mut bundle = match source.manifest().artifact(&path) {
        Some(_) => Some(source.open(&path)?),
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
/// Gives its page digest, which masks the bytes that say the mode.
fn copy(
    source: &dyn ArtifactSource,
    from: &BundlePath,
    mut to: DurableFile,
    progress: &StageProgress<'_>,
) -> Result<Sha256Digest, StoresError> {
    let mut reader = source.open(from)?;
    let mut buffer = vec![0; BUFFER];
    let mut digest = PageDigest::default();
    let mut first = true;
    loop {
        progress.check()?;
        let n = reader.read(&mut buffer).map_err(StoresError::io("read", from.as_path()))?;
        if n == 0 {
            break;
        }
        if first && !buffer[..n].starts_with(MAGIC) {
            return Err(StoresError::integrity(from, "is not a SQLite database"));
        }
        first = false;
        digest.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(StoresError::io("write", to.path()))?;
        progress.advance(n as u64);
    }
    let path = to.path().to_owned();
    to.sync()?;
    set_rollback_mode(to.into_reader()?).map_err(StoresError::io("write", path))?;
    Ok(digest.finish())
}

fn set_rollback_mode(mut file: File) -> io::Result<()> {
    let mut versions = [0; 2];
    file.seek(SeekFrom::Start(VERSION_BYTES))?;
    file.read_exact(&mut versions)?;
    match versions {
        [1, 1] => Ok(()),
        [2, 2] => {
            file.seek(SeekFrom::Start(VERSION_BYTES))?;
            file.write_all(&[1, 1])
        }
        // The live file would get them, and nobody could write it any more.
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "its header has unknown versions")),
    }
}

/// A copy of the staged store with the live one's page size: `VACUUM INTO` keeps rowids, plain
/// `VACUUM` would not.
fn rebuild(name: &str, staging: &Dir, page_size: u32) -> Result<String, StoresError> {
    let rebuilt = format!("rebuilt-{name}");
    let path = staging.path().join(name);
    let fail = || StoresError::sqlite("rebuild with another page size", &path);
    let conn = open_private(&path)?;
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
