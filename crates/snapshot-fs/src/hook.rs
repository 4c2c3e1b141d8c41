//! The entry to the layer, and the hook through which tests see and stop every change.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::dir::Dir;
use crate::error::FsError;

/// The durable file system. Clones share the hook.
#[derive(Clone, Default)]
pub struct DurableFs {
    hook: Option<Arc<dyn Hook>>,
}

/// Sees every state-changing operation before it happens; an error stops it.
pub trait Hook: Send + Sync {
    /// Called before the operation.
    ///
    /// # Errors
    /// The error that the operation is to fail with instead of being done.
    fn before(&self, op: &Op<'_>) -> io::Result<()>;

    /// How many of the bytes about to be written are: fewer are a short write, which a disk that is about
    /// to be full makes.
    fn takes(&self, op: &Op<'_>) -> usize {
        op.data.len()
    }
}

/// One state-changing operation.
#[derive(Debug, Clone, Copy)]
pub struct Op<'a> {
    /// Which.
    pub kind: OpKind,
    /// On what.
    pub path: &'a Path,
    /// Where what is renamed or linked lies, or what a symbolic link says.
    pub from: Option<&'a Path>,
    /// The bytes about to be written.
    pub data: &'a [u8],
}

/// The state-changing operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// A folder is made.
    CreateDir,
    /// A file is created.
    Create,
    /// Bytes are written.
    Write,
    /// A file is synced.
    SyncFile,
    /// A folder is synced.
    SyncDir,
    /// A whole file system is synced.
    SyncFs,
    /// Something is renamed to this path.
    Rename,
    /// A file gets this path as another name.
    Link,
    /// A file or link is unlinked.
    Unlink,
    /// An empty folder is removed.
    RemoveDir,
    /// A symbolic link is made.
    Symlink,
    /// Owner, mode or times are set.
    SetMeta,
    /// Another library changes something; the name says what.
    External(&'static str),
}

impl DurableFs {
    /// A layer whose operations go through `hook` first.
    #[must_use]
    pub fn with_hook(hook: Arc<dyn Hook>) -> Self {
        Self { hook: Some(hook) }
    }

    /// Opens a folder that the caller trusts; links on the way to it are followed.
    ///
    /// # Errors
    /// If it is not a folder that we may open.
    pub fn open_dir(&self, path: &Path) -> Result<Dir, FsError> {
        Dir::open(self.clone(), path)
    }

    /// Makes `path` and its missing parents with `mode`, durably, and opens it.
    ///
    /// # Errors
    /// If a folder cannot be made or synced.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn ensure_dir(&self, path: &Path, mode: u32) -> Result<Dir, FsError> {
        match self.open_dir(path) {
            Err(e) if e.is_not_found() => {}
            done => return done,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.open_dir(path);
        };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        self.ensure_dir(parent, mode)?.ensure_sub(name, mode)
    }

    /// Announces a change that another library is about to make to `path`, so that tests can die
    /// there too.
    ///
    /// # Errors
    /// Only what a test's hook injects.
    pub fn external(&self, what: &'static str, path: &Path) -> Result<(), FsError> {
        self.before(&Op::new(OpKind::External(what), path)).map_err(FsError::io(what, path))
    }

    pub(crate) fn before(&self, op: &Op<'_>) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook.before(op))
    }

    pub(crate) fn takes(&self, op: &Op<'_>) -> usize {
        self.hook.as_ref().map_or(op.data.len(), |hook| hook.takes(op).min(op.data.len()))
    }
}

impl<'a> Op<'a> {
    pub(crate) const fn new(kind: OpKind, path: &'a Path) -> Self {
        Self { kind, path, from: None, data: &[] }
    }
}

impl fmt::Debug for DurableFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableFs").field("hooked", &self.hook.is_some()).finish()
    }
}
