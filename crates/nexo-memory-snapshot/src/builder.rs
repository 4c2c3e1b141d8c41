//! Building an engine: what the host plugs in, and what is used where it plugs in nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use snapshot_core::{
    AgentId, Clock, DecryptionIdentity, IdSource, MemoryLayout, PathResolver, Quiesce, RandomIds,
    RedactionPolicy, StateProvider, SystemClock, Tenant,
};
use snapshot_events::{EventPublisher, Transport};
use snapshot_fs::DurableFs;
use snapshot_vault::Vault;

use crate::config::DEFAULT_MAX_GIT_OBJECT_BYTES;
use crate::engine::{Engine, EventParts, Events, Parts};
use crate::error::SnapshotError;
use crate::keys::{AskPassphrase, EncryptionPolicy, Keys, SigningKey, SigningSource, Trust};
use crate::metrics::Metrics;

/// The classic layout below two roots, for agents of any tenant: the memdir at
/// `<memdir_root>/<agent>`, the databases at `<sqlite_root>/<agent>/<store>.sqlite`.
#[derive(Debug, Clone)]
pub struct DefaultPathResolver {
    /// Folder of the memdirs.
    pub memdir_root: PathBuf,
    /// Folder of the folders of databases.
    pub sqlite_root: PathBuf,
}

/// The classic layout from a closure that knows an agent's two folders: `(memdir, sqlite dir)`.
/// A bare closure of that type resolves paths too; this gives it a name.
#[derive(Debug, Clone)]
pub struct ClosureResolver<F>(F);

/// Makes an [`Engine`]. Only the root is required.
#[derive(Default)]
#[must_use]
pub struct EngineBuilder {
    root: Option<PathBuf>,
    layouts: Option<Arc<dyn PathResolver>>,
    state: Option<Arc<dyn StateProvider>>,
    quiesce: Option<(Arc<dyn Quiesce>, Duration)>,
    clock: Option<Arc<dyn Clock>>,
    ids: Option<Arc<dyn IdSource>>,
    events: EventParts,
    metrics: Metrics,
    keys: Keys,
    redaction: Option<Arc<dyn RedactionPolicy>>,
    fs: DurableFs,
    threads: usize,
    max_git_object_bytes: Option<u64>,
}

impl PathResolver for DefaultPathResolver {
    fn layout(&self, _: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        Some(MemoryLayout::classic_roots(&self.memdir_root, &self.sqlite_root, agent))
    }
}

impl<F> ClosureResolver<F>
where
    F: Fn(&Tenant, &AgentId) -> Option<(PathBuf, PathBuf)> + Send + Sync,
{
    /// Wraps the closure.
    #[must_use]
    pub const fn new(folders: F) -> Self {
        Self(folders)
    }
}

impl<F> PathResolver for ClosureResolver<F>
where
    F: Fn(&Tenant, &AgentId) -> Option<(PathBuf, PathBuf)> + Send + Sync,
{
    fn layout(&self, tenant: &Tenant, agent: &AgentId) -> Option<MemoryLayout> {
        self.0.layout(tenant, agent)
    }
}

impl EngineBuilder {
    /// The folder of the vault.
    pub fn root(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = Some(root.into());
        self
    }

    /// Where agents keep their memory; by default [`DefaultPathResolver`] with both roots the
    /// vault's.
    pub fn layouts(mut self, layouts: Arc<dyn PathResolver>) -> Self {
        self.layouts = Some(layouts);
        self
    }

    /// Runtime state that the host keeps, instead of the layouts' state.
    pub fn state_provider(mut self, state: Arc<dyn StateProvider>) -> Self {
        self.state = Some(state);
        self
    }

    /// Pauses agents around the cut, each time within `deadline`.
    pub fn quiesce(mut self, quiesce: Arc<dyn Quiesce>, deadline: Duration) -> Self {
        self.quiesce = Some((quiesce, deadline));
        self
    }

    /// The clock; by default the operating system's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The ids of new snapshots; by default random.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Who is told of every lifecycle event in this process, right after its effect is durable.
    pub fn events(mut self, publisher: Arc<dyn EventPublisher>) -> Self {
        self.events.publisher = Some(publisher);
        self
    }

    /// Where every lifecycle event is delivered, through the vault's outbox: neither a crash nor
    /// another side that is down loses one. Delivery is a thread's work and holds up nobody.
    pub fn deliver(mut self, transport: Arc<dyn Transport>) -> Self {
        self.events.transport = Some(transport);
        self
    }

    /// What the subjects of delivered events begin with; by default
    /// [`snapshot_events::LIFECYCLE_SUBJECT_PREFIX`].
    pub fn lifecycle_subject_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.events.prefix = Some(prefix.into());
        self
    }

    /// What it counts into, shared with other engines; by default its own.
    pub fn metrics(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    /// For whom each agent's snapshots are encrypted where a request does not say, those that are kept before
    /// a restore among them; by default for nobody.
    pub fn encryption(mut self, policy: Arc<EncryptionPolicy>) -> Self {
        self.keys.policy = Some(policy);
        self
    }

    /// What opens encrypted bundles. Files are read once they are needed.
    pub fn identity(mut self, identity: DecryptionIdentity) -> Self {
        self.keys.identities.push(identity);
        self
    }

    /// Who is asked for the passphrase of a bundle that was encrypted with one, at most once.
    pub fn ask_passphrase(mut self, ask: Arc<AskPassphrase>) -> Self {
        self.keys.ask = Some(ask);
        self
    }

    /// What signs every snapshot that is taken; by default nothing.
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.keys.signing = Some(SigningSource::Key(Box::new(key)));
        self
    }

    /// The same with a minisign secret key without a password, which is read with the first snapshot.
    pub fn signing_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.keys.signing = Some(SigningSource::File(path.into()));
        self
    }

    /// Whose signatures count, and whether what they did not sign is refused; by default nobody's, and no.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.keys.trust = trust;
        self
    }

    /// What counts as a secret; by default the rules that come with this crate.
    pub fn redaction(mut self, policy: Arc<dyn RedactionPolicy>) -> Self {
        self.redaction = Some(policy);
        self
    }

    /// The durable file-system layer.
    pub fn fs(mut self, fs: DurableFs) -> Self {
        self.fs = fs;
        self
    }

    /// How many threads compress and verify; 0, the default, is one for each processor.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Largest git object carried, in bytes.
    pub fn max_git_object_bytes(mut self, bytes: u64) -> Self {
        self.max_git_object_bytes = Some(bytes);
        self
    }

    /// The engine behind its async edge.
    ///
    /// # Errors
    /// As [`EngineBuilder::build`].
    #[cfg(feature = "tokio")]
    pub fn build_snapshotter(self) -> Result<crate::local_fs::LocalFsSnapshotter, SnapshotError> {
        Ok(self.build()?.into())
    }

    /// The engine. Nothing is made on disk before something is written.
    ///
    /// # Errors
    /// [`SnapshotError::NoRoot`], or a root that is not a folder that we may open.
    pub fn build(self) -> Result<Engine, SnapshotError> {
        let vault = Vault::open(self.fs.clone(), &self.root.ok_or(SnapshotError::NoRoot)?)?;
        let classic = || {
            let root = vault.root().to_owned();
            Arc::new(DefaultPathResolver { memdir_root: root.clone(), sqlite_root: root }) as _
        };
        Ok(Engine::new(Parts {
            layouts: self.layouts.unwrap_or_else(classic),
            events: Events::new(&vault, self.events, self.metrics.clone()),
            metrics: self.metrics,
            keys: self.keys,
            redaction: self
                .redaction
                .unwrap_or_else(|| snapshot_bundle::redact::Rules::builtin() as _),
            vault,
            fs: self.fs,
            state: self.state,
            quiesce: self.quiesce,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            ids: self.ids.unwrap_or_else(|| Arc::new(RandomIds)),
            threads: match self.threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                threads => threads,
            },
            max_git_object_bytes: self.max_git_object_bytes.unwrap_or(DEFAULT_MAX_GIT_OBJECT_BYTES),
        }))
    }
}
