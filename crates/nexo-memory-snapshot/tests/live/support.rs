//! An agent, a vault and an engine in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nexo_memory_snapshot::error::SnapshotError;
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::layout::MemoryLayout;
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder};
use nexo_memory_snapshot::manifest::BundlePath;
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::Control;
use nexo_memory_snapshot::ports::{DurableFs, PathResolver};
use nexo_memory_snapshot::report::RestoreReport;
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRef, SnapshotRequest};
use snapshot_testkit::compare::Memory;
use snapshot_testkit::{Agent, Seed};

/// What a test has.
pub(crate) struct World {
    pub(crate) tmp: tempfile::TempDir,
    pub(crate) agent: Agent,
    pub(crate) engine: Engine,
}

/// Layouts of agents below one root each.
pub(crate) struct Layouts(pub(crate) Vec<(AgentId, MemoryLayout)>);

impl PathResolver for Layouts {
    fn layout(&self, _: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        self.0.iter().find(|(id, _)| id == agent).map(|(_, layout)| layout.clone())
    }

    fn agents(&self) -> Vec<(Tenant, AgentId)> {
        self.0.iter().map(|(id, _)| (Tenant::default(), id.clone())).collect()
    }
}

impl World {
    pub(crate) fn new(seed: &Seed) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let agent = Agent::create(tmp.path(), ana(), seed).unwrap();
        let engine = engine(&tmp.path().join("vault"), agent.layout(), DurableFs::default());
        Self { tmp, agent, engine }
    }

    pub(crate) fn tiny() -> Self {
        Self::new(&Seed::tiny(7))
    }

    /// The same world in another folder.
    pub(crate) fn copy(&self) -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let from = self.tmp.path().join(".");
        let copied = std::process::Command::new("cp").arg("-a").args([&from, tmp.path()]).status();
        assert!(copied.unwrap().success());
        let agent = Agent::at(tmp.path(), ana());
        let engine = engine(&tmp.path().join("vault"), agent.layout(), DurableFs::default());
        Self { tmp, agent, engine }
    }

    /// Another engine over the same vault and agent, with this file-system layer.
    pub(crate) fn engine_with(&self, fs: DurableFs) -> Engine {
        engine(&self.vault(), self.agent.layout(), fs)
    }

    pub(crate) fn vault(&self) -> PathBuf {
        self.tmp.path().join("vault")
    }

    pub(crate) fn snapshot(&self) -> SnapshotMeta {
        take(&self.engine)
    }

    pub(crate) fn restore(&self, meta: &SnapshotMeta) -> Result<RestoreReport, SnapshotError> {
        restore(&self.engine, meta)
    }

    pub(crate) fn memory(&self) -> Memory {
        Memory::read(&self.agent.layout()).unwrap()
    }

    /// The memory differs from `expected` in nothing.
    #[track_caller]
    pub(crate) fn assert_memory(&self, expected: &Memory) {
        assert_same(expected, &self.memory());
    }

    /// Writes the artifact at `path` in the bundle to `to`.
    pub(crate) fn extract(&self, meta: &SnapshotMeta, path: &str, to: &Path) {
        let mut file = std::fs::File::create(to).unwrap();
        let path = BundlePath::parse(path).unwrap();
        self.engine.read_artifact(meta, &path, &mut file, &Control::default()).unwrap();
    }
}

pub(crate) fn ana() -> AgentId {
    AgentId::from_static("ana")
}

pub(crate) fn engine(root: &Path, layout: MemoryLayout, fs: DurableFs) -> Engine {
    builder(root, layout, fs).build().unwrap()
}

pub(crate) fn builder(root: &Path, layout: MemoryLayout, fs: DurableFs) -> EngineBuilder {
    let layouts = Arc::new(Layouts(vec![(ana(), layout)]));
    Engine::builder().root(root.to_owned()).layouts(layouts).fs(fs).threads(2)
}

pub(crate) fn take(engine: &Engine) -> SnapshotMeta {
    engine.snapshot(&SnapshotRequest::cli(ana(), Tenant::default()), &Control::default()).unwrap()
}

pub(crate) fn restore(
    engine: &Engine,
    meta: &SnapshotMeta,
) -> Result<RestoreReport, SnapshotError> {
    restore_with(engine, &RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id)))
}

pub(crate) fn restore_with(
    engine: &Engine,
    req: &RestoreRequest,
) -> Result<RestoreReport, SnapshotError> {
    let control = Control::default();
    engine.plan_restore(req, &control)?.apply(&control)
}

#[track_caller]
pub(crate) fn assert_same(expected: &Memory, found: &Memory) {
    let differences = expected.differences_after_restore(found);
    assert!(differences.is_empty(), "{differences:#?}");
}

/// How many frames of a bundle `works` needs: each is damaged in turn, and only damage to what is read
/// can be noticed.
pub(crate) fn frames_needed(bundle: &Path, works: impl Fn() -> bool) -> usize {
    let whole = std::fs::read(bundle).unwrap();
    let frames = frames(&whole);
    assert!(frames.len() > 8, "{} frames tell little", frames.len());
    let fails = |&&(at, length): &&(usize, usize)| {
        let mut damaged = whole.clone();
        // Behind the frame's header.
        damaged[at + length / 2] ^= 0xff;
        std::fs::write(bundle, &damaged).unwrap();
        !works()
    };
    let needed = frames.iter().filter(fails).count();
    std::fs::write(bundle, &whole).unwrap();
    assert!(works());
    needed
}

/// Where each data frame lies, as (offset, length), by the seek table of the zstd seekable format.
fn frames(bundle: &[u8]) -> Vec<(usize, usize)> {
    let word = |at: usize| u32::from_le_bytes(bundle[at..at + 4].try_into().unwrap()) as usize;
    let count = word(bundle.len() - 9);
    let table = bundle.len() - 9 - 8 * count;
    let mut at = 0;
    let mut frames = Vec::new();
    for entry in 0..count {
        let (length, content) = (word(table + 8 * entry), word(table + 8 * entry + 4));
        // The index is a frame without content.
        if content > 0 {
            frames.push((at, length));
        }
        at += length;
    }
    frames
}
