//! An agent with one database, an engine with a clock and ids that are known beforehand.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nexo_memory_snapshot::id::{AgentId, SnapshotId, StoreName, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{
    Clock, Control, IdSource, PathResolver, PortError, Progress, Quiesce, StateKind, StateProvider,
    Step,
};
use nexo_memory_snapshot::request::{SnapshotRef, SnapshotRequest};
use snapshot_fs::{Hook, Op};

/// Agents in a temporary home; the vault is `<home>/vault`.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    clock: Arc<Ticks>,
    ids: Arc<Ids>,
}

/// A clock that goes one second on each time it is read.
#[derive(Default)]
struct Ticks(AtomicI64);

/// Ids that tests foresee: those given first, then counted ones.
#[derive(Default)]
struct Ids {
    given: Mutex<VecDeque<SnapshotId>>,
    next: AtomicUsize,
}

/// `<home>/<agent>/long_term.sqlite`, whatever the tenant.
struct Layouts(PathBuf);

/// Fails its operation number `at`, and all after it where it is for good.
pub(crate) struct Fail {
    at: usize,
    for_good: bool,
    seen: AtomicUsize,
}

/// Cancels at its call number `at`.
pub(crate) struct CancelAt {
    at: usize,
    seen: AtomicUsize,
    control: Control,
}

/// What the host's plugs were asked for, in order.
pub(crate) type Calls = Arc<Mutex<Vec<&'static str>>>;

/// A runtime state whose capture does as it is told.
pub(crate) struct State<F>(pub(crate) F);

/// Records its calls; a pause does as it is told.
pub(crate) struct Pauses<F> {
    pub(crate) calls: Calls,
    pub(crate) pause: F,
}

impl Home {
    /// A home with the agent `ana`.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Self { dir, clock: Arc::default(), ids: Arc::default() };
        home.add_agent("ana");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.path().join("vault")
    }

    pub(crate) fn add_agent(&self, agent: &str) {
        std::fs::create_dir(self.path().join(agent)).unwrap();
        rusqlite::Connection::open(self.path().join(agent).join("long_term.sqlite"))
            .unwrap()
            .execute_batch("CREATE TABLE facts (text); INSERT INTO facts VALUES ('water is wet')")
            .unwrap();
    }

    /// The next snapshots get these ids, each of one repeated byte.
    pub(crate) fn next_ids(&self, bytes: &[[u8; 2]]) {
        let id = |&[first, rest]: &[u8; 2]| {
            let mut bytes = [rest; 16];
            bytes[0] = first;
            SnapshotId::from_random_bytes(bytes)
        };
        self.ids.given.lock().unwrap().extend(bytes.iter().map(id));
    }

    pub(crate) fn builder(&self) -> EngineBuilder {
        Engine::builder()
            .root(self.vault())
            .layouts(Arc::new(Layouts(self.path().to_owned())))
            .clock(self.clock.clone())
            .ids(self.ids.clone())
            .threads(2)
    }

    pub(crate) fn engine(&self) -> Engine {
        self.builder().build().unwrap()
    }

    /// A snapshot of `ana`.
    pub(crate) fn take(&self) -> SnapshotMeta {
        self.engine().snapshot(&request(), &Control::default()).unwrap()
    }

    /// Names of all files below the vault but locks and notes.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.vault()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(path.file_name().unwrap().to_str().unwrap().to_owned()),
                }
            }
        }
        found.retain(|name| !name.ends_with(".lock") && name != "ana.json");
        found.sort();
        found
    }
}

impl Fail {
    pub(crate) fn new(at: usize, for_good: bool) -> Arc<Self> {
        Arc::new(Self { at, for_good, seen: AtomicUsize::new(0) })
    }

    pub(crate) fn failed(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.at
    }
}

impl Hook for Fail {
    fn before(&self, _: &Op<'_>) -> io::Result<()> {
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        match seen == self.at || (self.for_good && seen > self.at) {
            true => Err(io::Error::other("injected")),
            false => Ok(()),
        }
    }
}

impl CancelAt {
    /// A control that is cancelled when it is told of progress for the time number `at`.
    pub(crate) fn control(at: usize) -> (Arc<Self>, Control) {
        let control = Control::default();
        let hook = Arc::new(Self { at, seen: AtomicUsize::new(0), control: control.clone() });
        let control = control.with_progress(hook.clone());
        (hook, control)
    }

    pub(crate) fn cancelled(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.at
    }
}

impl Progress for CancelAt {
    fn advance(&self, _: Step, _: u64, _: u64) {
        if self.seen.fetch_add(1, Ordering::SeqCst) == self.at {
            self.control.cancel();
        }
    }
}

impl Clock for Ticks {
    fn now_ms(&self) -> i64 {
        1_700_000_000_000 + self.0.fetch_add(1000, Ordering::SeqCst)
    }
}

impl IdSource for Ids {
    fn next_id(&self) -> SnapshotId {
        let counted = || {
            let n = self.next.fetch_add(1, Ordering::SeqCst);
            SnapshotId::from_random_bytes((n as u128).to_be_bytes())
        };
        self.given.lock().unwrap().pop_front().unwrap_or_else(counted)
    }
}

impl PathResolver for Layouts {
    fn layout(&self, _: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        let store = self.0.join(agent.as_str()).join("long_term.sqlite");
        let stores = [(StoreName::from_static("long_term"), store)].into();
        Some(MemoryLayout { stores, ..MemoryLayout::default() })
    }
}

impl<F> StateProvider for State<F>
where
    F: Fn() -> Result<(), PortError> + Send + Sync,
{
    fn capture(&self, _: StateKind) -> Result<Option<Vec<u8>>, PortError> {
        (self.0)().map(|()| None)
    }

    fn restore(&self, _: StateKind, _: Option<&[u8]>) -> Result<(), PortError> {
        Ok(())
    }
}

impl<F> Quiesce for Pauses<F>
where
    F: Fn() -> Result<(), PortError> + Send + Sync,
{
    fn pause(&self, _: &AgentId, _: std::time::Duration) -> Result<(), PortError> {
        self.calls.lock().unwrap().push("pause");
        (self.pause)()
    }

    fn resume(&self, _: &AgentId) {
        self.calls.lock().unwrap().push("resume");
    }
}

pub(crate) fn ana() -> AgentId {
    AgentId::from_static("ana")
}

pub(crate) fn request() -> SnapshotRequest {
    SnapshotRequest::cli(ana(), Tenant::default())
}

pub(crate) fn named(text: &str) -> SnapshotRef {
    text.parse().unwrap()
}

/// Changes one byte in the middle of a file.
pub(crate) fn flip(path: &Path) {
    flip_at(path, std::fs::read(path).unwrap().len() / 2);
}

/// The byte at `at`; done twice, it is as it was.
pub(crate) fn flip_at(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
