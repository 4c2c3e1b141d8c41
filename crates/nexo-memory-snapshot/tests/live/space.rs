//! What a reading puts on a disk, against what it looked for room for.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nexo_memory_snapshot::id::Tenant;
use nexo_memory_snapshot::local_fs::ImportRequest;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{Encryption, RestoreRequest, RestoreTarget, SnapshotRef};
use snapshot_fs::{Hook, Op};

use crate::support::{World, ana};

/// What a folder takes by itself, in bytes, and how many of them a small memory needs at most.
const FOLDERS: u64 = 64 * 4096;

/// Adds up what lies below a folder before each change.
struct HighWater {
    root: PathBuf,
    most: AtomicU64,
}

impl HighWater {
    fn of(root: &Path) -> Arc<Self> {
        Arc::new(Self { root: root.to_owned(), most: AtomicU64::new(size_of(root)) })
    }

    /// The most that ever lay there, and that lies there now.
    fn most(&self) -> u64 {
        self.most.fetch_max(size_of(&self.root), Ordering::SeqCst).max(size_of(&self.root))
    }
}

impl Hook for HighWater {
    fn before(&self, _: &Op<'_>) -> io::Result<()> {
        self.most.fetch_max(size_of(&self.root), Ordering::SeqCst);
        Ok(())
    }
}

/// Bytes of all files below a folder; what goes while one looks counts for nothing.
fn size_of(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Would catch: a restore that puts more on a disk than it looked for, of its staging, of what is kept before it, or of
/// what a library makes beside.
#[test]
fn a_restore_takes_no_more_room_than_it_looked_for() {
    let world = World::tiny();
    let meta = world.snapshot();
    world.agent.remember("Another", "fact").unwrap();
    let targets = [RestoreTarget::Live, RestoreTarget::Dir(world.tmp.path().join("elsewhere"))];
    for target in targets {
        let water = HighWater::of(world.tmp.path());
        let engine = world.engine_with(DurableFs::with_hook(water.clone()));
        let which = SnapshotRef::Id(meta.id);
        let mut req = RestoreRequest::new(ana(), Tenant::default(), which);
        req.target = target;
        let planned = engine.plan_restore(&req, &Control::default()).unwrap();
        let room: u64 = planned.plan().space.iter().map(|need| need.needed_bytes).sum();
        let before = size_of(world.tmp.path());
        planned.apply(&Control::default()).unwrap();
        let taken = water.most() - before;
        assert!(taken > 0 && taken <= room + FOLDERS, "{taken} bytes, and room for {room}");
    }
}

/// Would catch: an import or an extraction that writes more than its bundle, or what it declares.
#[test]
fn an_import_and_an_extraction_take_no_more_room_than_is_declared() {
    let world = World::tiny();
    // What little says and much becomes.
    std::fs::write(world.agent.memdir().join("zeros"), vec![0; 8 << 20]).unwrap();
    let meta = world.snapshot();
    let declared = world.engine.manifest(&meta).unwrap().total_bytes();
    assert!(declared > 20 * meta.bundle_size_bytes, "it is no bomb");
    let elsewhere = tempfile::tempdir().unwrap();
    let water = HighWater::of(elsewhere.path());
    let root = elsewhere.path().join("vault");
    let hooked = DurableFs::with_hook(water.clone());
    let engine = crate::support::engine(&root, world.agent.layout(), hooked);
    let (tenant, encrypt) = (Tenant::default(), Encryption::ByPolicy);
    let req = ImportRequest { tenant, agent: None, foreign: false, encrypt };
    engine.import(&req, &meta.bundle_path, &Control::default()).unwrap();
    let taken = water.most();
    assert!(taken <= meta.bundle_size_bytes + FOLDERS, "{taken} bytes of a bundle's copy");
    engine.extract(&meta, None, &elsewhere.path().join("out"), &Control::default()).unwrap();
    let taken = water.most();
    assert!(taken <= declared + meta.bundle_size_bytes + FOLDERS, "{taken} bytes of {declared}");
}
