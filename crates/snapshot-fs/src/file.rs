//! A file being written.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use snapshot_core::mutants::off;

use crate::error::FsError;
use crate::hook::{DurableFs, Op, OpKind};

/// A file being written; nothing of it counts as durable before [`DurableFile::sync`].
#[derive(Debug)]
pub struct DurableFile {
    fs: DurableFs,
    file: File,
    path: PathBuf,
}

/// Owner, mode and time to set; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// User and group id.
    pub owner: Option<(u32, u32)>,
    /// Permission bits.
    pub mode: Option<u32>,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: Option<i64>,
}

impl DurableFile {
    pub(crate) fn new(fs: DurableFs, file: File, path: PathBuf) -> Self {
        Self { fs, file, path }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets owner, mode and time, in this order (a chown clears setuid bits).
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn set_meta(&self, meta: Meta) -> Result<(), FsError> {
        let fail = |op| FsError::os(op, &self.path);
        self.fs
            .before(&Op::new(OpKind::SetMeta, &self.path))
            .map_err(FsError::io("set the attributes of", &self.path))?;
        if let Some((uid, gid)) = meta.owner {
            rustix::fs::fchown(&self.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(fail("set the owner of"))?;
        }
        if let Some(mode) = meta.mode {
            rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
                .map_err(fail("set the mode of"))?;
        }
        if let Some(ns) = meta.mtime_ns {
            rustix::fs::futimens(&self.file, &mtime(ns)).map_err(fail("set the time of"))?;
        }
        Ok(())
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// If the sync fails; the content must then be given up, never synced again.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn sync(&self) -> Result<(), FsError> {
        if off() {
            return Ok(());
        }
        self.fs
            .before(&Op::new(OpKind::SyncFile, &self.path))
            .and_then(|()| Ok(rustix::fs::fsync(&self.file)?))
            .map_err(FsError::io("sync", &self.path))
    }

    /// Length so far, in bytes.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn size(&self) -> Result<u64, FsError> {
        self.file.metadata().map(|m| m.len()).map_err(FsError::io("look at", &self.path))
    }

    /// Back to the front, for reading what was written.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn into_reader(mut self) -> Result<File, FsError> {
        self.file.seek(SeekFrom::Start(0)).map_err(FsError::io("rewind", &self.path))?;
        Ok(self.file)
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let op = Op { data: bytes, ..Op::new(OpKind::Write, &self.path) };
        let written =
            self.fs.before(&op).and_then(|()| self.file.write(&bytes[..self.fs.takes(&op)]));
        // Who writes through others (a bundle, an envelope) does not know any more into which file.
        written.map_err(|e| io::Error::new(e.kind(), FsError::io("write", &self.path)(e)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Sets the modification time alone.
pub(crate) fn mtime(ns: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: ns.div_euclid(1_000_000_000),
            tv_nsec: ns.rem_euclid(1_000_000_000),
        },
    }
}
