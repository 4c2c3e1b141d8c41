//! Hooks of the durable file-system layer: count, record, fail, freeze or kill at the nth change.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, getpid, kill_process};
use snapshot_fs::{Hook, Op, OpKind};

/// Counts changes and does something at the nth, from 0.
#[derive(Debug)]
pub struct FaultHook {
    seen: AtomicU64,
    at: u64,
    fault: Fault,
    failed: Mutex<Vec<Recorded>>,
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Once(i32),
    From(i32),
    Short,
}

/// Kills this process (SIGKILL) right before another library makes a change of this name.
#[derive(Debug)]
pub struct KillBefore {
    what: &'static str,
    left: AtomicU64,
}

/// Remembers every change.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Recorded>>);

/// One change that was about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Which.
    pub kind: OpKind,
    /// On what.
    pub path: PathBuf,
    /// Bytes about to be written.
    pub bytes: usize,
}

impl FaultHook {
    /// Only counts.
    #[must_use]
    pub const fn counting() -> Self {
        Self::new(u64::MAX, Fault::Once(0))
    }

    /// Change `n` and every later one fails: what an in-process death leaves, since nothing that
    /// the code does afterwards to clean up reaches the disk either.
    #[must_use]
    pub fn dying_at(n: u64) -> Self {
        Self::failing_from(n, rustix::io::Errno::IO.raw_os_error())
    }

    /// Change `n` fails with this `errno` (`ENOSPC`, `EIO`, ...), later ones work.
    #[must_use]
    pub const fn failing_at(n: u64, errno: i32) -> Self {
        Self::new(n, Fault::Once(errno))
    }

    /// Change `n` and every later one fails with this `errno`.
    #[must_use]
    pub const fn failing_from(n: u64, errno: i32) -> Self {
        Self::new(n, Fault::From(errno))
    }

    /// Change `n` writes half of its bytes, where it writes more than one, and the next change finds the disk
    /// full, later ones do not.
    #[must_use]
    pub const fn short_at(n: u64) -> Self {
        Self::new(n, Fault::Short)
    }

    /// Changes seen so far, failed ones included.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// Whether the nth change was reached.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.seen() > self.at
    }

    /// The changes that failed, in their order: where threads work side by side, the error may tell of another than
    /// the first.
    #[must_use]
    pub fn failed(&self) -> Vec<Recorded> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    const fn new(at: u64, fault: Fault) -> Self {
        Self { seen: AtomicU64::new(0), at, fault, failed: Mutex::new(Vec::new()) }
    }

    fn fail(&self, op: &Op<'_>, errno: i32) -> io::Result<()> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.push(Recorded::of(op));
        Err(io::Error::from_raw_os_error(errno))
    }
}

impl Hook for FaultHook {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        let n = self.seen.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Once(errno) if n == self.at => self.fail(op, errno),
            Fault::From(errno) if n >= self.at => self.fail(op, errno),
            Fault::Short if n == self.at.saturating_add(1) => {
                self.fail(op, rustix::io::Errno::NOSPC.raw_os_error())
            }
            _ => Ok(()),
        }
    }

    fn takes(&self, op: &Op<'_>) -> usize {
        match (self.fault, op.data.len()) {
            // It has been counted.
            (Fault::Short, bytes @ 2..) if self.seen() == self.at.saturating_add(1) => bytes / 2,
            (_, bytes) => bytes,
        }
    }
}

impl KillBefore {
    /// Before the `nth` change called `what` (from 0), as in [`OpKind::External`].
    #[must_use]
    pub const fn new(what: &'static str, nth: u64) -> Self {
        Self { what, left: AtomicU64::new(nth) }
    }
}

impl Hook for KillBefore {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        if op.kind != OpKind::External(self.what) {
            return Ok(());
        }
        match self.left.load(Ordering::SeqCst) {
            0 => die(),
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Ok(())
            }
        }
    }
}

impl Recorder {
    /// Everything so far, in order.
    #[must_use]
    pub fn changes(&self) -> Vec<Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Recorded {
    fn of(op: &Op<'_>) -> Self {
        Self { kind: op.kind, path: op.path.to_owned(), bytes: op.data.len() }
    }
}

impl Hook for Recorder {
    fn before(&self, op: &Op<'_>) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Recorded::of(op));
        Ok(())
    }
}

fn die() -> io::Result<()> {
    kill_process(getpid(), Signal::KILL)?;
    // The signal may come a moment later; nothing may happen in between.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use snapshot_fs::DurableFs;

    use super::*;

    fn write_under(hook: Arc<dyn Hook>) -> (bool, Vec<String>) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DurableFs::with_hook(hook).open_dir(tmp.path()).unwrap();
        let done = dir.write_atomic("f", b"x", 0o600).is_ok();
        let names = std::fs::read_dir(tmp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        (done, names)
    }

    /// Would catch: an atomic write that reports success though a step of it failed, or leaves a
    /// temporary file where it could still remove it.
    #[test]
    fn a_fault_at_any_change_is_no_success() {
        let counting = Arc::new(FaultHook::counting());
        assert_eq!(write_under(counting.clone()), (true, vec!["f".to_owned()]));
        let (changes, eio) = (counting.seen(), rustix::io::Errno::IO.raw_os_error());
        assert!(changes >= 5, "create, write, sync, rename, sync of the folder");
        for n in 0..changes {
            let once = Arc::new(FaultHook::failing_at(n, eio));
            let (done, names) = write_under(once.clone());
            assert!(!done && once.fired(), "change {n}");
            assert!(names.is_empty() || names == ["f"], "change {n}: {names:?}");
        }
    }

    /// Would catch: a short write that takes all, or after which the disk has room.
    #[test]
    fn half_a_write_is_followed_by_a_full_disk() {
        let tmp = tempfile::tempdir().unwrap();
        let hook = Arc::new(FaultHook::short_at(1));
        let dir = DurableFs::with_hook(hook.clone()).open_dir(tmp.path()).unwrap();
        let mut file = dir.create_new("f", 0o600).unwrap();
        let full = std::io::Write::write_all(&mut file, b"four").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(tmp.path().join("f")).unwrap(), b"fo");
        let failed = &hook.failed()[0];
        assert_eq!((failed.kind, failed.bytes), (OpKind::Write, 2));
        std::io::Write::write_all(&mut file, b"r").unwrap();
    }

    /// Would catch: a frozen layer through which a clean-up still gets.
    #[test]
    fn nothing_changes_after_death() {
        let dying = Arc::new(FaultHook::dying_at(2));
        let (done, names) = write_under(dying.clone());
        assert!(!done && dying.seen() > 3, "the clean-up was tried");
        assert!(names.len() == 1 && names[0].starts_with(snapshot_fs::TEMP_PREFIX), "{names:?}");
    }

    /// The body of the process that the next test kills.
    #[test]
    fn victim() {
        let Some(dir) = std::env::var_os("NEXO_TESTKIT_VICTIM") else { return };
        let fs = DurableFs::with_hook(Arc::new(KillBefore::new("go on", 1)));
        let dir = fs.open_dir(dir.as_ref()).unwrap();
        for name in ["first", "second", "third"] {
            dir.write_atomic(name, b"x", 0o600).unwrap();
            fs.external("go on", dir.path()).unwrap();
        }
    }

    /// Would catch: a kill that comes late, so that the change after it still happens.
    #[test]
    fn a_killed_process_makes_no_further_change() {
        use std::os::unix::process::ExitStatusExt as _;
        let tmp = tempfile::tempdir().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fault::tests::victim"])
            .env("NEXO_TESTKIT_VICTIM", tmp.path())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.signal(), Some(9));
        let names: Vec<_> = std::fs::read_dir(tmp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    /// Would catch: a write that is renamed before it is synced.
    #[test]
    fn the_recorder_keeps_the_order() {
        let recorder = Arc::new(Recorder::default());
        write_under(recorder.clone());
        let changes = recorder.changes();
        let at = |kind| changes.iter().position(|change| change.kind == kind).unwrap();
        let order =
            [OpKind::Create, OpKind::Write, OpKind::SyncFile, OpKind::Rename, OpKind::SyncDir];
        assert!(order.map(at).is_sorted_by(|a, b| a < b), "{changes:?}");
        assert_eq!(changes[at(OpKind::Write)].bytes, 1);
    }
}
