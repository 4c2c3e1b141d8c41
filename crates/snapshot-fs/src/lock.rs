//! Locks between processes: operating-system file locks, which die with their process.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use snapshot_core::mutants::off;
use snapshot_core::{Control, Step};

use crate::dir::Dir;
use crate::error::FsError;

/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_millis(50);

/// A held lock; dropping it releases it. Its file stays, for unlinking one would let two processes
/// hold locks on two files of the same name.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
    path: PathBuf,
}

/// Alone, or with other readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// With other holders of the same mode.
    Shared,
    /// Alone.
    Exclusive,
}

impl FileLock {
    /// Waits for the lock `name` in `dir` until `until`.
    ///
    /// # Errors
    /// [`FsError::Locked`] at `until`, [`FsError::Interrupted`] where `control` says so.
    #[cfg_attr(nexo_mutants, track_caller)]
    pub fn acquire(
        dir: &Dir,
        name: impl AsRef<OsStr>,
        mode: LockMode,
        until: Instant,
        control: &Control,
    ) -> Result<Self, FsError> {
        let file = dir.open_lock(name.as_ref())?;
        let path = dir.path().join(name.as_ref());
        if off() {
            return Ok(Self { _file: file, path });
        }
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            let tried = match mode {
                LockMode::Shared => file.try_lock_shared(),
                LockMode::Exclusive => file.try_lock(),
            };
            match tried {
                Ok(()) => return Ok(Self { _file: file, path }),
                Err(TryLockError::Error(e)) => return Err(FsError::io("lock", &path)(e)),
                Err(TryLockError::WouldBlock) => {}
            }
            control
                .check()
                .map_err(|source| FsError::Interrupted { path: path.clone(), source })?;
            if Instant::now() >= until {
                return Err(FsError::Locked { path, waited_ms: started.elapsed().as_millis() });
            }
            control.advance(Step::Wait, 0, 0);
            thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// The lock's file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::DurableFs;

    #[test]
    fn an_exclusive_lock_keeps_others_out_until_dropped() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        let now = Instant::now;
        let lock = |mode| FileLock::acquire(&dir, "l", mode, now(), &Control::default());
        let held = lock(LockMode::Exclusive).unwrap();
        assert!(matches!(lock(LockMode::Shared), Err(FsError::Locked { .. })));
        drop(held);
        let first = lock(LockMode::Shared).unwrap();
        let _second = lock(LockMode::Shared).unwrap();
        assert!(matches!(lock(LockMode::Exclusive), Err(FsError::Locked { .. })));
        drop(first);
    }

    #[test]
    fn a_cancelled_wait_ends() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::default().open_dir(tmp.path()).unwrap();
        let far = Instant::now() + Duration::from_secs(3600);
        let _held =
            FileLock::acquire(&dir, "l", LockMode::Exclusive, far, &Control::default()).unwrap();
        let control = Control::default();
        control.cancel();
        let waited = FileLock::acquire(&dir, "l", LockMode::Exclusive, far, &control);
        assert!(matches!(waited, Err(FsError::Interrupted { .. })));
    }
}
