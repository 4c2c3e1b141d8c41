//! An agent to restore over, and bundles put together by hand.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use snapshot_core::{
    AgentId, ArtifactKind, ArtifactSink as _, BundlePath, Control, FileSpec, MemoryLayout,
    SqliteInfo, StoreName, SystemClock, Tenant,
};
use snapshot_fs::{Dir, DurableFs};
use snapshot_stores::{Applied, CaptureOptions, RestoreOptions, StoresError, restore};
use snapshot_testkit::{MemoryBundle, SeqIds};

/// An agent with the store `long_term` and a memdir, neither of which is there yet.
pub(crate) struct Target {
    pub(crate) tmp: tempfile::TempDir,
}

impl Target {
    pub(crate) fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("mem")).unwrap();
        Self { tmp }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.tmp.path().join("facts.db")
    }

    pub(crate) fn mem(&self) -> PathBuf {
        self.tmp.path().join("mem")
    }

    /// Restores over it, as the engine does.
    pub(crate) fn restore(&self, bundle: &MemoryBundle) -> Result<Applied, StoresError> {
        self.restore_with(bundle, &DurableFs::default())
    }

    pub(crate) fn restore_with(
        &self,
        bundle: &MemoryBundle,
        fs: &DurableFs,
    ) -> Result<Applied, StoresError> {
        let layout = MemoryLayout {
            stores: [(StoreName::from_static("long_term"), self.store())].into(),
            memdir: Some(self.mem()),
            parts_optional: true,
            ..MemoryLayout::default()
        };
        let (agent, tenant, control) =
            (AgentId::from_static("ana"), Tenant::default(), Control::default());
        let dir = |name| fs.ensure_dir(&self.tmp.path().join(name), 0o700).unwrap();
        let (spool, work): (Dir, Dir) = (dir("spool"), dir("work"));
        let capture = CaptureOptions {
            agent: &agent,
            fs,
            spool: &spool,
            clock: &SystemClock,
            state: None,
            timeout: Duration::from_secs(60),
            control: &control,
            max_git_object_bytes: 1 << 28,
            check_integrity: false,
        };
        let opts = RestoreOptions {
            capture,
            tenant: &tenant,
            work: &work,
            restore_id: SeqIds::nth(7),
            whole_store: false,
            others: &[],
        };
        let pause = &mut || Ok(());
        let done = restore(bundle, &layout, &opts, &mut |_| Ok(None), pause, &mut |_, _| {});
        let journal = self.tmp.path().join("work/journal.json");
        assert!(!journal.exists(), "it is neither done nor refused: {done:?}");
        done
    }
}

/// A bundle of the store `long_term` with these bytes.
pub(crate) fn with_store(bytes: &[u8]) -> MemoryBundle {
    let mut bundle = MemoryBundle::new();
    let store = StoreName::from_static("long_term");
    put(&mut bundle, &store.bundle_path(), ArtifactKind::SqliteLongTerm, bytes);
    let (page_size, journal_mode) = (4096, "delete".to_owned());
    let page_count = u32::try_from(bytes.len() / 4096).unwrap();
    bundle.manifest.artifacts[0].sqlite =
        Some(SqliteInfo { store, page_size, page_count, journal_mode, integrity: "ok".to_owned() });
    bundle
}

pub(crate) fn put(bundle: &mut MemoryBundle, path: &BundlePath, kind: ArtifactKind, bytes: &[u8]) {
    let spec = FileSpec {
        path: path.clone(),
        kind,
        size_bytes: bytes.len() as u64,
        mode: Some(0o644),
        mtime_ns: None,
    };
    bundle.put_file(spec, &mut &*bytes).unwrap();
}
