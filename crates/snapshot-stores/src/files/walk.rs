//! Listing the memdir.
//!
//! Invariant: no file that is or may be a live SQLite database is opened and closed again, for
//! closing *any* descriptor of it drops the locks that this process's SQLite connections hold. The
//! layout's stores are never opened; a file with a `-wal`, `-shm` or `-journal` beside it, and what
//! turns out to be a database by its header, stay open for the life of the process.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use snapshot_core::{BundlePath, Control, NotCarried, StoreName, path_in_bundle};
use snapshot_fs::{Dir, FileType, FsError, Stat, is_temp_name};

use super::ours::is_staging;
use crate::StoresError;
use crate::git::is_dot_git;

/// First bytes of every SQLite database that holds a page.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// What SQLite keeps beside a database.
const SIDE_SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];
/// Two changes within one tick of the kernel's clock leave the same ctime; ticks last up to 10 ms.
const RACY: Duration = Duration::from_millis(20);
/// Deepest folder listed; every level holds a descriptor while it is walked.
const MAX_DEPTH: usize = 128;

/// Databases that were opened to be looked at, by (device, inode); see the module's invariant. The
/// open descriptor also keeps the inode's number from being used again.
static HELD: LazyLock<Mutex<HashMap<(u64, u64), File>>> = LazyLock::new(Mutex::default);

/// What the walk must know before it opens anything; (device, inode) each.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// The stores of the layout: never opened, nor what SQLite keeps beside them.
    pub stores: HashSet<(u64, u64)>,
    /// Files that SQLite said are no databases although they look like one: listed as files.
    pub plain: HashSet<(u64, u64)>,
    /// Raw paths of what is captured by other means and replaced by rename: runtime state.
    pub paths: BTreeSet<Vec<u8>>,
}

/// The memdir at one time.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Files, folders and links, sorted by the raw bytes of their paths: parents come first.
    pub entries: Vec<ListedEntry>,
    /// Left out, with the reason.
    pub not_carried: Vec<NotCarried>,
    /// SQLite databases that no store of the layout names.
    pub auto_stores: Vec<AutoStore>,
    /// Raw paths that a restore leaves alone: stores, what SQLite keeps beside them, what is not
    /// carried.
    pub kept: BTreeSet<Vec<u8>>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// Path in the memdir.
    pub path: BundlePath,
    /// What it was.
    pub stat: Stat,
    /// File, folder or link.
    pub kind: EntryKind,
    /// Changed so shortly before that a later change might not show in its times.
    pub young: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Its target, raw.
        target: Vec<u8>,
    },
}

/// A SQLite database found in the memdir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoStore {
    /// `auto:<path>`.
    pub name: StoreName,
    /// Path in the memdir.
    pub path: BundlePath,
    /// (device, inode).
    pub id: (u64, u64),
}

/// Lists everything below `memdir` but its repository, our temporary files and the layout's stores.
/// May pause for 20 ms, once, where files changed a moment ago, so that their times can be told from
/// those of a later change.
///
/// # Errors
/// If the memdir cannot be read; what is unreadable below it is listed as not carried.
pub fn list(
    memdir: &Dir,
    options: &ListOptions,
    control: &Control,
) -> Result<Listing, StoresError> {
    let mut walk =
        Walk { options, control, racy_from_ns: racy_from_ns(), listing: Listing::default() };
    walk.folder(memdir, b"", 0)?;
    let mut listing = walk.listing;
    listing.entries.sort_by(|a, b| a.path.cmp(&b.path));
    listing.not_carried.sort_by(|a, b| a.path.cmp(&b.path));
    age(memdir, &mut listing)?;
    Ok(listing)
}

/// Whether a change at `ctime_ns` is so fresh that a later one might leave the same time.
pub(super) fn is_young(stat: &Stat) -> bool {
    stat.ctime_ns >= racy_from_ns()
}

/// Waits until a change that was just made can be told from the next one.
pub(super) fn let_age() {
    thread::sleep(RACY);
}

/// Whether `file` is a SQLite database; if so, its descriptor stays open for good. Does not move
/// the file's position.
pub(super) fn is_database(file: &File, stat: &Stat) -> io::Result<bool> {
    if !has_header(file)? {
        return Ok(false);
    }
    // Before the caller can drop its own: at no time is the last descriptor of ours closed.
    held().entry(id(stat)).or_insert(file.try_clone()?);
    Ok(true)
}

/// Whether the file with a file of SQLite's beside it is a database, by its header: SQLite itself
/// would remove a `todo-journal` beside a `todo` as its own. What it may be is found out through a
/// descriptor that then stays open for good, whatever the answer; one that cannot be opened is none.
fn has_header_held(dir: &Dir, name: &OsStr) -> bool {
    let looked = dir.open_file(name).and_then(|file| {
        let path = dir.path().join(name);
        let stat = Dir::stat_file(&file, &path)?;
        let io = |source| FsError::Io { op: "read", path: path.clone(), source };
        let is = has_header(&file).map_err(io)?;
        held().entry(id(&stat)).or_insert(file);
        Ok(is)
    });
    looked.unwrap_or(false)
}

fn has_header(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let mut head = [0; SQLITE_MAGIC.len()];
    match file.read_exact_at(&mut head, 0) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        done => done.map(|()| head == *SQLITE_MAGIC),
    }
}

/// The folder that holds `path`, and the name in it.
pub(super) fn locate(memdir: &Dir, path: &BundlePath) -> Result<(Dir, OsString), StoresError> {
    let path = path.as_path();
    let parent = path.parent().unwrap_or_else(|| std::path::Path::new(""));
    let name = path.file_name().unwrap_or_default();
    Ok((memdir.sub(parent)?, name.to_owned()))
}

/// Whether a failure says that the thing is gone, or is another thing by now.
pub(super) fn is_gone(e: &FsError) -> bool {
    let FsError::Io { source, .. } = e else { return false };
    let is_link = source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let kinds =
        [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory, io::ErrorKind::InvalidInput];
    is_link || kinds.contains(&source.kind())
}

/// Whether a failure says that we may not read the thing.
pub(super) fn is_denied(e: &FsError) -> bool {
    matches!(e, FsError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

/// (device, inode).
pub(super) fn id(stat: &Stat) -> (u64, u64) {
    (stat.dev, stat.ino)
}

struct Walk<'a> {
    options: &'a ListOptions,
    control: &'a Control,
    racy_from_ns: i64,
    listing: Listing,
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Dir, rel: &[u8], depth: usize) -> Result<(), StoresError> {
        self.control.check().map_err(StoresError::stopped("listing the memory files"))?;
        let mut found = Vec::new();
        for entry in dir.entries()? {
            if let Some(stat) = dir.stat(&entry.name)? {
                found.push((entry.name, stat));
            }
        }
        let bases = self.databases_by_siblings(dir, &found);
        for (name, stat) in &found {
            let path = join(rel, name);
            let is_staged = stat.file_type == FileType::Dir && is_staging(name);
            let ours =
                (depth == 0 && (name == ".git" || is_staged)) || self.options.paths.contains(&path);
            if ours {
                self.listing.kept.insert(path);
            } else if is_temp_name(name) || (depth == 0 && is_staging(name)) {
                self.leave_out(path, "its name is that of a temporary file of ours");
            } else if is_dot_git(name.as_bytes()) {
                self.leave_out(path, "a nested git repository");
            } else if let Some(base) = side_of(name, stat)
                && bases.contains(base)
            {
                self.listing.kept.insert(path);
            } else {
                self.entry(dir, name, stat, path, depth, bases.contains(name.as_os_str()))?;
            }
        }
        Ok(())
    }

    /// Names of this folder that are databases for sure: the layout's, and those with a file of
    /// SQLite's beside them whose header says so.
    fn databases_by_siblings<'f>(
        &self,
        dir: &Dir,
        found: &'f [(OsString, Stat)],
    ) -> HashSet<&'f OsStr> {
        let sides: HashSet<&OsStr> =
            found.iter().filter_map(|(n, stat)| side_of(n, stat)).collect();
        let is_database = |name: &OsStr, stat: &Stat| {
            self.options.stores.contains(&id(stat))
                || (sides.contains(name)
                    && !self.options.plain.contains(&id(stat))
                    && has_header_held(dir, name))
        };
        found
            .iter()
            .filter(|(name, stat)| stat.file_type == FileType::File && is_database(name, stat))
            .map(|(name, _)| name.as_os_str())
            .collect()
    }

    fn entry(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        stat: &Stat,
        path: Vec<u8>,
        depth: usize,
        is_store: bool,
    ) -> Result<(), StoresError> {
        if self.options.stores.contains(&id(stat)) {
            self.listing.kept.insert(path);
            return Ok(());
        }
        let Some(bundle_path) = carried_path(&path) else {
            self.leave_out(path, "its path is too long");
            return Ok(());
        };
        match stat.file_type {
            FileType::File if is_store => self.auto_store(path, bundle_path, stat),
            FileType::File => match self.looks_like_database(dir, name, stat) {
                Ok(true) => self.auto_store(path, bundle_path, stat),
                Ok(false) => self.push(bundle_path, stat, EntryKind::File),
                Err(e) => self.unreadable(path, e)?,
            },
            FileType::Symlink => match dir.read_link(name) {
                Ok(target) => {
                    let target = target.as_bytes().to_vec();
                    self.push(bundle_path, stat, EntryKind::Symlink { target });
                }
                Err(e) => self.unreadable(path, e)?,
            },
            FileType::Other(what) => self.leave_out(path, what),
            FileType::Dir if depth + 1 >= MAX_DEPTH => {
                self.leave_out(path, "it lies over 128 folders deep");
            }
            FileType::Dir => {
                let inside = dir
                    .sub(name)
                    .map_err(StoresError::from)
                    .and_then(|sub| self.folder(&sub, &path, depth + 1));
                match inside {
                    Ok(()) => self.push(bundle_path, stat, EntryKind::Dir),
                    Err(StoresError::Fs(e)) => self.unreadable(path, e)?,
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    fn looks_like_database(&self, dir: &Dir, name: &OsStr, stat: &Stat) -> Result<bool, FsError> {
        if stat.size < SQLITE_MAGIC.len() as u64 || self.options.plain.contains(&id(stat)) {
            return Ok(false);
        }
        let path = dir.path().join(name);
        let file = dir.open_file(name)?;
        let opened = Dir::stat_file(&file, &path)?;
        is_database(&file, &opened).map_err(|source| FsError::Io { op: "read", path, source })
    }

    fn auto_store(&mut self, path: Vec<u8>, bundle_path: BundlePath, stat: &Stat) {
        let name = bundle_path.as_str().and_then(|text| StoreName::auto(text).ok());
        let Some(name) = name else {
            self.leave_out(path, "a SQLite database whose name is not UTF-8 or too long");
            return;
        };
        self.listing.auto_stores.push(AutoStore { name, path: bundle_path, id: id(stat) });
        self.listing.kept.insert(path);
    }

    fn push(&mut self, path: BundlePath, stat: &Stat, kind: EntryKind) {
        let young = stat.ctime_ns >= self.racy_from_ns;
        self.listing.entries.push(ListedEntry { path, stat: *stat, kind, young });
    }

    fn leave_out(&mut self, path: Vec<u8>, why: &str) {
        let shown = String::from_utf8_lossy(&path).into_owned();
        self.listing.not_carried.push(NotCarried { path: shown, why: why.to_owned() });
        self.listing.kept.insert(path);
    }

    /// What vanished meanwhile is no entry; what we may not read is left out; the rest is an error.
    fn unreadable(&mut self, path: Vec<u8>, e: FsError) -> Result<(), StoresError> {
        if is_denied(&e) {
            self.leave_out(path, "we have no right to read it");
        } else if !is_gone(&e) {
            return Err(e.into());
        }
        Ok(())
    }
}

/// Looks again at files that changed a moment ago, once their times are old enough to be trusted.
fn age(memdir: &Dir, listing: &mut Listing) -> Result<(), StoresError> {
    let young = |entry: &&mut ListedEntry| entry.young && entry.kind == EntryKind::File;
    if listing.entries.iter_mut().filter(young).count() == 0 {
        return Ok(());
    }
    let_age();
    let racy_from_ns = racy_from_ns();
    for entry in listing.entries.iter_mut().filter(young) {
        let seen = locate(memdir, &entry.path).and_then(|(dir, name)| Ok(dir.stat(name)?));
        // Gone, or no file any more: the copy finds that out.
        if let Ok(Some(stat)) = seen
            && stat.file_type == FileType::File
            && id(&stat) == id(&entry.stat)
        {
            entry.stat = stat;
            entry.young = stat.ctime_ns >= racy_from_ns;
        }
    }
    Ok(())
}

/// The base of a name that SQLite would give to a side file: it follows a link to one, too.
fn side_of<'n>(name: &'n OsStr, stat: &Stat) -> Option<&'n OsStr> {
    match stat.file_type {
        FileType::File | FileType::Symlink => side_base(name.as_bytes()).map(OsStr::from_bytes),
        _ => None,
    }
}

/// The path of the database that SQLite would take the file at `path` to belong to, by its name.
pub(super) fn side_base(path: &[u8]) -> Option<&[u8]> {
    SIDE_SUFFIXES
        .iter()
        .find_map(|suffix| path.strip_suffix(suffix.as_bytes()))
        .filter(|base| !base.is_empty() && !base.ends_with(b"/"))
}

/// `path`, if there is room for it below `memory_files/` too.
fn carried_path(path: &[u8]) -> Option<BundlePath> {
    let inside = [path_in_bundle::MEMORY_FILES.as_bytes(), b"/", path].concat();
    BundlePath::from_bytes(&inside).ok().and_then(|p| p.strip_prefix(path_in_bundle::MEMORY_FILES))
}

fn join(rel: &[u8], name: &OsStr) -> Vec<u8> {
    match rel {
        b"" => name.as_bytes().to_vec(),
        _ => [rel, b"/", name.as_bytes()].concat(),
    }
}

/// Times from here on are too young to be trusted.
fn racy_from_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_sub(RACY).as_nanos()).unwrap_or(i64::MAX)
}

fn held() -> std::sync::MutexGuard<'static, HashMap<(u64, u64), File>> {
    // A map of descriptors is whole at every step.
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}
