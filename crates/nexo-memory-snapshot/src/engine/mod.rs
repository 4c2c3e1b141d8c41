//! The engine: how the layers compose. Blocking; [`crate::snapshotter`] is its async edge.
//!
//! Invariants: an agent's lock is taken before target locks, and those before the vault's; whatever
//! stops an operation, work in progress goes with its staging folder and a paused agent is resumed.

mod beside;
mod copy;
mod delete;
mod diff;
mod doctor;
mod erase;
mod events;
mod export;
mod extract;
mod history;
mod import;
mod keys;
mod list;
mod live;
mod metrics;
mod open;
mod quiesce;
mod recover;
mod redact;
mod rekey;
mod reseal;
mod restore;
mod retention;
mod seal;
mod snapshot;
mod status;
mod v1;
mod verify;

pub use doctor::{DoctorReport, Finding, FindingKind};
pub(crate) use events::{EventParts, Events};
pub(crate) use extract::taken;
pub use extract::{Extracted, below};
pub use import::{ImportRequest, Imported};
pub use recover::{Recovery, RecoveryOutcome};
pub use redact::ScanRequest;
pub use restore::PlannedRestore;
pub use status::{AgentStatus, StatusFinding};

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use snapshot_core::{
    AgentId, Clock, IdSource, MemoryLayout, PathResolver, Quiesce, RedactionPolicy, StateProvider,
    StateSource, Tenant,
};
use snapshot_fs::DurableFs;
use snapshot_vault::Vault;

use crate::builder::EngineBuilder;
use crate::error::SnapshotError;
use crate::keys::{Identities, Keys};
use crate::metrics::Metrics;

/// How long to wait for locks where the request does not say.
const LOCK_TIMEOUT: Duration = crate::config::DEFAULT_LOCK_TIMEOUT;

/// Snapshots of agents' memory in one vault. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    parts: Arc<Parts>,
    /// What opens bundles beside what the parts have: a request's own identity.
    extra: Identities,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) vault: Vault,
    pub(crate) fs: DurableFs,
    pub(crate) layouts: Arc<dyn PathResolver>,
    pub(crate) state: Option<Arc<dyn StateProvider>>,
    pub(crate) quiesce: Option<(Arc<dyn Quiesce>, Duration)>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) events: Events,
    pub(crate) metrics: Metrics,
    pub(crate) keys: Keys,
    pub(crate) redaction: Arc<dyn RedactionPolicy>,
    pub(crate) threads: usize,
    pub(crate) max_git_object_bytes: u64,
}

impl Engine {
    /// Builds one.
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts), extra: Identities::default() }
    }

    /// The folder of the vault, as an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.parts.vault.root()
    }

    /// Whether there is anything at the root: a disk that is not mounted, or a mistyped name, has nothing.
    ///
    /// # Errors
    /// If what lies there is not a folder that we may open.
    pub fn has_vault(&self) -> Result<bool, SnapshotError> {
        Ok(self.parts.vault.exists()?)
    }

    /// Where an agent keeps its memory.
    fn layout(&self, tenant: &Tenant, agent: &AgentId) -> Result<MemoryLayout, SnapshotError> {
        let known = self.parts.layouts.layout(tenant, agent);
        let mut layout = known.ok_or_else(|| SnapshotError::UnknownAgent {
            tenant: tenant.clone(),
            agent: agent.clone(),
        })?;
        make_absolute(&mut layout)?;
        self.refuse_overlap(&layout)?;
        Ok(layout)
    }

    /// A memdir that holds the vault would hold its own snapshots, and a restore would remove them.
    fn refuse_overlap(&self, layout: &MemoryLayout) -> Result<(), SnapshotError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let root = real(self.root());
        let Some(memdir) = layout.memdir.as_deref() else { return Ok(()) };
        let own = snapshot_vault::FOLDERS.map(|name| root.join(name));
        match own.iter().any(|own| own.starts_with(real(memdir)) || real(memdir).starts_with(own)) {
            true => Err(SnapshotError::Path {
                path: memdir.to_owned(),
                why: "this memdir and the vault lie in each other",
            }),
            false => Ok(()),
        }
    }
}

/// A restore's journal holds these paths, and its recovery may run in another folder.
fn make_absolute(layout: &mut MemoryLayout) -> Result<(), SnapshotError> {
    let state = [&mut layout.state.extract_cursor, &mut layout.state.dream_run];
    let state = state.into_iter().flatten().map(|source| match source {
        StateSource::Json { json: path } | StateSource::Sqlite { sqlite: path, .. } => path,
    });
    for path in layout.memdir.iter_mut().chain(layout.stores.values_mut()).chain(state) {
        *path = absolute(path)?;
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<PathBuf, SnapshotError> {
    let why = "it cannot be made absolute";
    std::path::absolute(path).map_err(|_| SnapshotError::Path { path: path.to_owned(), why })
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("root", &self.root()).finish_non_exhaustive()
    }
}
