//! An open folder: what is named below it cannot lie outside, whatever the name and whoever races.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use snapshot_core::mutants::off;

use crate::error::FsError;
use crate::file::{DurableFile, Meta, mtime};
use crate::hook::{DurableFs, Op, OpKind};
use crate::process::is_dead_temp;

/// Prefix of our temporary names. Others may begin theirs alike: [`crate::is_temp_name`] knows ours.
pub const TEMP_PREFIX: &str = ".nexo-tmp-";

/// Makes temporary names unique within the process; the process id makes them unique beyond it.
static NEXT_TEMP: AtomicU64 = AtomicU64::new(0);

/// An open folder. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dir {
    fs: DurableFs,
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

/// What lies at a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its type.
    pub file_type: FileType,
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Names of this inode.
    pub nlink: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Inode change time, nanoseconds since the epoch.
    pub ctime_ns: i64,
}

/// File types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A socket, pipe or device; the name says which.
    Other(&'static str),
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name.
    pub name: OsString,
}

impl Dir {
    pub(crate) fn open(fs: DurableFs, path: &Path) -> Result<Self, FsError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(FsError::os("open the folder", path))?;
        Ok(Self { fs, fd: Arc::new(fd), path: path.to_owned() })
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The layer that it belongs to.
    #[must_use]
    pub fn durable_fs(&self) -> &DurableFs {
        &self.fs
    }

    /// Opens the folder at `path` below this one (itself for an empty path); follows no link.
    ///
    /// # Errors
    /// [`FsError::Escape`] for a path that could leave this folder, [`FsError::Io`] otherwise.
    pub fn sub(&self, path: impl AsRef<Path>) -> Result<Self, FsError> {
        self.descend(path.as_ref(), Self::child)
    }

    /// Makes the folder `name` with `mode` where it is missing, durably, and opens it.
    ///
    /// # Errors
    /// If it cannot be made, synced or opened.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn ensure_sub(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self, FsError> {
        let (dir, was_missing) = self.child_or_new(name.as_ref(), mode)?;
        if was_missing {
            self.sync()?;
        }
        Ok(dir)
    }

    /// Opens the folder at `path` below this one (itself for an empty path), each on the way made with `mode` where
    /// it is missing; follows no link. Nothing is synced: it is for what a crash may take, or a
    /// [`Dir::sync_fs`] follows.
    ///
    /// # Errors
    /// As [`Dir::sub`], or if one cannot be made.
    pub fn make_path(&self, path: impl AsRef<Path>, mode: u32) -> Result<Self, FsError> {
        self.descend(path.as_ref(), |dir, name| Ok(dir.child_or_new(name, mode)?.0))
    }

    /// Makes the folder `name`.
    ///
    /// # Errors
    /// If it exists or cannot be made.
    pub fn create_dir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<(), FsError> {
        let path = self.checked(name.as_ref())?;
        self.before(OpKind::CreateDir, &path, "make the folder")?;
        rustix::fs::mkdirat(&*self.fd, name.as_ref(), Mode::from_raw_mode(mode))
            .map_err(FsError::os("make the folder", &path))?;
        // The umask may have taken bits away.
        rustix::fs::chmodat(&*self.fd, name.as_ref(), Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(FsError::os("set the mode of", &path))
    }

    /// Creates the file `name`, which must not exist, with exactly `mode`.
    ///
    /// # Errors
    /// If it exists or cannot be created.
    pub fn create_new(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<DurableFile, FsError> {
        let path = self.checked(name.as_ref())?;
        self.before(OpKind::Create, &path, "create")?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name.as_ref(), flags, Mode::from_raw_mode(mode))
            .map_err(FsError::os("create", &path))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
            .map_err(FsError::os("set the mode of", &path))?;
        Ok(DurableFile::new(self.fs.clone(), File::from(fd), path))
    }

    /// Opens the regular file `name` for appending, created with `mode` where it is missing.
    ///
    /// # Errors
    /// If it is no file or cannot be opened.
    pub fn append(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<DurableFile, FsError> {
        let path = self.checked(name.as_ref())?;
        self.before(OpKind::Create, &path, "append to")?;
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name.as_ref(), flags, Mode::from_raw_mode(mode))
            .map_err(FsError::os("append to", &path))?;
        let file = File::from(fd);
        match Self::stat_file(&file, &path)?.file_type {
            FileType::File => Ok(DurableFile::new(self.fs.clone(), file, path)),
            _ => Err(FsError::os("append to", &path)(rustix::io::Errno::INVAL)),
        }
    }

    /// Creates a file under a fresh temporary name; returns the name too.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_temp(&self, mode: u32) -> Result<(OsString, DurableFile), FsError> {
        let name = temp_name();
        let file = self.create_new(&name, mode)?;
        Ok((name, file))
    }

    /// Names of temporary files in this folder whose makers are gone ([`crate::is_dead_temp`]). What is no
    /// regular file was not made by [`Dir::create_temp`].
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn dead_temps(&self) -> Result<Vec<OsString>, FsError> {
        let mut dead = Vec::new();
        for Entry { name } in self.entries()? {
            let is_file = |stat: Stat| stat.file_type == FileType::File;
            if is_dead_temp(&name) && self.stat(&name)?.is_some_and(is_file) {
                dead.push(name);
            }
        }
        Ok(dead)
    }

    /// Puts `bytes` at `name`, replacing what is there, so that after any crash the old or the new
    /// content lies there whole: temporary file, sync, rename, folder sync.
    ///
    /// # Errors
    /// If a step fails; the temporary file is removed then.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn write_atomic(
        &self,
        name: impl AsRef<OsStr>,
        bytes: &[u8],
        mode: u32,
    ) -> Result<(), FsError> {
        self.write_atomic_with(name, bytes, Meta { mode: Some(mode), ..Meta::default() })
    }

    /// As [`Dir::write_atomic`], with owner, mode (0600 where none is given) and time.
    ///
    /// # Errors
    /// As [`Dir::write_atomic`].
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn write_atomic_with(
        &self,
        name: impl AsRef<OsStr>,
        bytes: &[u8],
        meta: Meta,
    ) -> Result<(), FsError> {
        let (temp, mut file) = self.create_temp(0o600)?;
        let filled = fill(&mut file, bytes, meta);
        if let Err(e) = filled.and_then(|()| self.rename(&temp, self, name.as_ref())) {
            // The first error is the one to report; a sweep takes what this leaves.
            let _ = self.unlink(&temp);
            return Err(e);
        }
        self.sync()
    }

    /// Renames `from` in this folder to `name` in `to`, replacing what is there.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn rename(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> Result<(), FsError> {
        let source = self.checked(from.as_ref())?;
        let path = to.checked(name.as_ref())?;
        self.before_from(OpKind::Rename, &source, &path, "rename to")?;
        rustix::fs::renameat(&*self.fd, from.as_ref(), &*to.fd, name.as_ref())
            .map_err(FsError::os("rename to", &path))
    }

    /// Renames `from` to `name` in this folder, where there is nothing yet.
    ///
    /// # Errors
    /// If something lies at `name`, or the operating system refuses.
    pub fn rename_new(
        &self,
        from: impl AsRef<OsStr>,
        name: impl AsRef<OsStr>,
    ) -> Result<(), FsError> {
        let source = self.checked(from.as_ref())?;
        let path = self.checked(name.as_ref())?;
        self.before_from(OpKind::Rename, &source, &path, "rename to")?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        let renamed =
            rustix::fs::renameat_with(&*self.fd, from.as_ref(), &*self.fd, name.as_ref(), flags);
        match renamed {
            // A file system that cannot refuse to replace: look, then rename.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS)
                if self.stat(name.as_ref())?.is_none() =>
            {
                rustix::fs::renameat(&*self.fd, from.as_ref(), &*self.fd, name.as_ref())
            }
            renamed => renamed,
        }
        .map_err(FsError::os("rename to", &path))
    }

    /// Gives the file `from` in this folder the other name `name` in `to`, where there is nothing yet.
    ///
    /// # Errors
    /// If something lies at `name`, or the operating system or the file system refuses.
    pub fn link(
        &self,
        from: impl AsRef<OsStr>,
        to: &Self,
        name: impl AsRef<OsStr>,
    ) -> Result<(), FsError> {
        let source = self.checked(from.as_ref())?;
        let path = to.checked(name.as_ref())?;
        self.before_from(OpKind::Link, &source, &path, "link to")?;
        let none = AtFlags::empty();
        rustix::fs::linkat(&*self.fd, from.as_ref(), &*to.fd, name.as_ref(), none)
            .map_err(FsError::os("link to", &path))
    }

    /// Unlinks the file or link `name`.
    ///
    /// # Errors
    /// If there is none or the operating system refuses.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        let path = self.checked(name.as_ref())?;
        self.before(OpKind::Unlink, &path, "unlink")?;
        rustix::fs::unlinkat(&*self.fd, name.as_ref(), AtFlags::empty())
            .map_err(FsError::os("unlink", &path))
    }

    /// Removes the empty folder `name`.
    ///
    /// # Errors
    /// If it is not empty or the operating system refuses.
    pub fn remove_dir(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        let path = self.checked(name.as_ref())?;
        self.before(OpKind::RemoveDir, &path, "remove the folder")?;
        rustix::fs::unlinkat(&*self.fd, name.as_ref(), AtFlags::REMOVEDIR)
            .map_err(FsError::os("remove the folder", &path))
    }

    /// Removes `name` and everything below it; nothing there is no error.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn remove_tree(&self, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        let name = name.as_ref();
        let Some(stat) = self.stat(name)? else { return Ok(()) };
        if stat.file_type != FileType::Dir {
            return self.unlink(name);
        }
        let dir = self.child(name)?;
        for entry in dir.entries()? {
            dir.remove_tree(&entry.name)?;
        }
        self.remove_dir(name)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// If the name exists or the operating system refuses.
    pub fn symlink(&self, target: &OsStr, name: impl AsRef<OsStr>) -> Result<(), FsError> {
        let path = self.checked(name.as_ref())?;
        self.before_from(OpKind::Symlink, Path::new(target), &path, "make the link")?;
        rustix::fs::symlinkat(target, &*self.fd, name.as_ref())
            .map_err(FsError::os("make the link", &path))
    }

    /// Sets owner, mode (not of links) and time of `name`; follows no link.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn set_meta(&self, name: impl AsRef<OsStr>, meta: Meta) -> Result<(), FsError> {
        let name = name.as_ref();
        let path = self.checked(name)?;
        self.before(OpKind::SetMeta, &path, "set the attributes of")?;
        if let Some((uid, gid)) = meta.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(&*self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(FsError::os("set the owner of", &path))?;
        }
        if let Some(mode) = meta.mode {
            // Through a handle that is no link: `fchmodat` itself would follow one.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&*self.fd, name, flags, Mode::empty())
                .map_err(FsError::os("open", &path))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
                .map_err(FsError::os("set the mode of", &path))?;
        }
        if let Some(ns) = meta.mtime_ns {
            rustix::fs::utimensat(&*self.fd, name, &mtime(ns), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(FsError::os("set the time of", &path))?;
        }
        Ok(())
    }

    /// What lies at `name`, without following a link; none if there is nothing.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>, FsError> {
        let path = self.checked(name.as_ref())?;
        match rustix::fs::statat(&*self.fd, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Stat::new(&stat))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(e) => Err(FsError::os("look at", &path)(e)),
        }
    }

    /// What this folder itself is.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn stat_self(&self) -> Result<Stat, FsError> {
        let stat = rustix::fs::fstat(&*self.fd).map_err(FsError::os("look at", &self.path))?;
        Ok(Stat::new(&stat))
    }

    /// What an open file is.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn stat_file(file: &File, path: &Path) -> Result<Stat, FsError> {
        let stat = rustix::fs::fstat(file).map_err(FsError::os("look at", path))?;
        Ok(Stat::new(&stat))
    }

    /// Opens the regular file `name` for reading; neither follows a link nor waits for a pipe.
    ///
    /// # Errors
    /// If it is no file or cannot be opened.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> Result<File, FsError> {
        let path = self.checked(name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name.as_ref(), flags, Mode::empty())
            .map_err(FsError::os("open", &path))?;
        let file = File::from(fd);
        match Self::stat_file(&file, &path)?.file_type {
            FileType::File => Ok(file),
            _ => Err(FsError::os("open as a file", &path)(rustix::io::Errno::INVAL)),
        }
    }

    /// Opens or creates the file `name` for locking; it is never written.
    pub(crate) fn open_lock(&self, name: &OsStr) -> Result<File, FsError> {
        let path = self.checked(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map_err(FsError::os("open the lock", &path))?;
        Ok(File::from(fd))
    }

    /// The content of `name`, at most `limit` bytes.
    ///
    /// # Errors
    /// [`FsError::TooLarge`] past the limit.
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Vec<u8>, FsError> {
        let path = self.path.join(name.as_ref());
        let mut bytes = Vec::new();
        self.open_file(name)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(FsError::io("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(FsError::TooLarge { path, limit });
        }
        Ok(bytes)
    }

    /// The target of the link `name`.
    ///
    /// # Errors
    /// If it is no link.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> Result<OsString, FsError> {
        let path = self.checked(name.as_ref())?;
        let target = rustix::fs::readlinkat(&*self.fd, name.as_ref(), Vec::new())
            .map_err(FsError::os("read the link", &path))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// The names in this folder, sorted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, FsError> {
        let fail = || FsError::os("list", &self.path);
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&*self.fd).map_err(fail())? {
            let name = entry.map_err(fail())?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                entries.push(Entry { name: OsString::from_vec(name) });
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Makes the names in this folder durable.
    ///
    /// # Errors
    /// If the sync fails.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn sync(&self) -> Result<(), FsError> {
        if off() {
            return Ok(());
        }
        self.before(OpKind::SyncDir, &self.path, "sync the folder")?;
        rustix::fs::fsync(&*self.fd).map_err(FsError::os("sync the folder", &self.path))
    }

    /// Makes everything on this folder's file system durable.
    ///
    /// # Errors
    /// If the sync fails.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn sync_fs(&self) -> Result<(), FsError> {
        if off() {
            return Ok(());
        }
        self.before(OpKind::SyncFs, &self.path, "sync the file system of")?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&*self.fd)
            .map_err(FsError::os("sync the file system of", &self.path))?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::sync();
        Ok(())
    }

    /// Free bytes for us on this folder's file system.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn free_bytes(&self) -> Result<u64, FsError> {
        let stat = rustix::fs::fstatvfs(&*self.fd)
            .map_err(FsError::os("look at the file system of", &self.path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// The folder at `path` below this one, each on the way opened by `open`.
    fn descend(
        &self,
        path: &Path,
        open: impl Fn(&Self, &OsStr) -> Result<Self, FsError>,
    ) -> Result<Self, FsError> {
        let mut dir = self.clone();
        for component in path.components() {
            let Component::Normal(name) = component else { return Err(self.escape(path)) };
            dir = open(&dir, name)?;
        }
        Ok(dir)
    }

    /// The folder `name`, made with `mode` where it is missing, and whether it was.
    fn child_or_new(&self, name: &OsStr, mode: u32) -> Result<(Self, bool), FsError> {
        match self.child(name) {
            Err(e) if e.is_not_found() => {}
            there => return Ok((there?, false)),
        }
        match self.create_dir(name, mode) {
            // Another process was faster.
            Err(FsError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        Ok((self.child(name)?, true))
    }

    fn child(&self, name: &OsStr) -> Result<Self, FsError> {
        let path = self.checked(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&*self.fd, name, flags, Mode::empty())
            .map_err(FsError::os("open the folder", &path))?;
        Ok(Self { fs: self.fs.clone(), fd: Arc::new(fd), path })
    }

    /// The path of `name`, which must be one plain component.
    fn checked(&self, name: &OsStr) -> Result<PathBuf, FsError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
            return Err(self.escape(Path::new(name)));
        }
        Ok(self.path.join(name))
    }

    fn escape(&self, path: &Path) -> FsError {
        FsError::Escape { path: path.to_owned(), root: self.path.clone() }
    }

    fn before(&self, kind: OpKind, path: &Path, verb: &'static str) -> Result<(), FsError> {
        self.fs.before(&Op::new(kind, path)).map_err(FsError::io(verb, path))
    }

    fn before_from(
        &self,
        kind: OpKind,
        from: &Path,
        path: &Path,
        verb: &'static str,
    ) -> Result<(), FsError> {
        let op = Op { from: Some(from), ..Op::new(kind, path) };
        self.fs.before(&op).map_err(FsError::io(verb, path))
    }
}

impl Stat {
    #[expect(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "field types differ between platforms; sizes and ids are never negative"
    )]
    fn new(stat: &rustix::fs::Stat) -> Self {
        let ns =
            |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            file_type: FileType::of(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            nlink: stat.st_nlink as u64,
            mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether content, place and attributes are those of `other`, as far as the operating system
    /// tells: no write happened in between.
    #[must_use]
    pub fn same_version(&self, other: &Self) -> bool {
        self == other
    }
}

impl FileType {
    fn of(raw: rustix::fs::FileType) -> Self {
        use rustix::fs::FileType as Raw;
        match raw {
            Raw::RegularFile => Self::File,
            Raw::Directory => Self::Dir,
            Raw::Symlink => Self::Symlink,
            Raw::Fifo => Self::Other("a named pipe"),
            Raw::Socket => Self::Other("a socket"),
            Raw::CharacterDevice | Raw::BlockDevice => Self::Other("a device"),
            Raw::Unknown => Self::Other("of an unknown type"),
        }
    }
}

/// Gives a new file its content and what belongs to it, durably.
#[cfg_attr(nexo_mutants, track_caller)]
fn fill(file: &mut DurableFile, bytes: &[u8], meta: Meta) -> Result<(), FsError> {
    std::io::Write::write_all(file, bytes).map_err(FsError::io("write", file.path()))?;
    file.set_meta(meta)?;
    file.sync()
}

fn temp_name() -> OsString {
    let n = NEXT_TEMP.fetch_add(1, Ordering::Relaxed);
    // The time tells names of a recycled process id apart.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |d| d.as_nanos());
    format!("{TEMP_PREFIX}{}-{nanos:x}-{n}", std::process::id()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_below_a_folder_leads_out_of_it() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        dir.symlink(OsStr::new("/etc"), "link").unwrap();
        assert!(dir.sub("link").is_err());
        assert!(dir.sub("..").is_err());
        assert!(dir.sub("/etc").is_err());
        for path in ["link", "link/made", "../made", "/etc/made"] {
            assert!(dir.make_path(path, 0o700).is_err(), "{path}");
        }
        assert!(dir.stat("a/b").is_err());
        assert!(dir.create_new("..", 0o600).is_err());
        assert!(dir.open_file("link").is_err());
        assert!(dir.create_new("link", 0o600).is_err());
    }

    #[test]
    fn remove_tree_takes_links_not_their_targets() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        dir.write_atomic("keep", b"x", 0o600).unwrap();
        let sub = dir.ensure_sub("sub", 0o700).unwrap();
        sub.symlink(OsStr::new("../keep"), "link").unwrap();
        sub.ensure_sub("deep", 0o700).unwrap();
        dir.remove_tree("sub").unwrap();
        assert_eq!(dir.read("keep", 10).unwrap(), b"x");
        assert_eq!(dir.stat("sub").unwrap(), None);
    }

    #[test]
    fn modes_are_exact_whatever_the_umask() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        dir.create_new("f", 0o666).unwrap();
        dir.create_dir("d", 0o777).unwrap();
        assert_eq!(dir.stat("f").unwrap().unwrap().mode, 0o666);
        assert_eq!(dir.stat("d").unwrap().unwrap().mode, 0o777);
    }

    #[test]
    fn read_errors_past_its_limit() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        dir.write_atomic("f", &[7; 10], 0o600).unwrap();
        assert_eq!(dir.read("f", 10).unwrap().len(), 10);
        assert!(matches!(dir.read("f", 9), Err(FsError::TooLarge { limit: 9, .. })));
    }
}
