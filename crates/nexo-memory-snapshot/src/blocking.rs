//! The engine on tokio's blocking threads.

use std::path::PathBuf;

use async_trait::async_trait;
use snapshot_core::{
    AgentId, Control, DiffRequest, ExportRequest, Interrupted, Listing, RestoreReport,
    RestoreRequest, SnapshotDiff, SnapshotMeta, SnapshotRef, SnapshotRequest, Tenant, VerifyReport,
};

use crate::builder::EngineBuilder;
use crate::engine::Engine;
use crate::error::SnapshotError;
use crate::snapshotter::MemorySnapshotter;

/// [`MemorySnapshotter`] over a vault on the local file system. Needs a tokio runtime around it.
#[derive(Debug, Clone)]
pub struct LocalFsSnapshotter {
    engine: Engine,
}

/// Cancels its operation when dropped; of no effect once that has ended.
struct CancelOnDrop(Control);

impl LocalFsSnapshotter {
    /// Builds one, by [`EngineBuilder::build_snapshotter`].
    pub fn builder() -> EngineBuilder {
        Engine::builder()
    }

    /// The engine, for what the trait does not offer.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs `work` on a blocking thread; dropping the future cancels it.
    async fn run<T, F>(&self, work: F) -> Result<T, SnapshotError>
    where
        T: Send + 'static,
        F: FnOnce(&Engine, &Control) -> Result<T, SnapshotError> + Send + 'static,
    {
        let cancel = CancelOnDrop(Control::default());
        let (engine, control) = (self.engine.clone(), cancel.0.clone());
        // What the caller is doing is where the operation's spans belong.
        let span = tracing::Span::current();
        let work = move || span.in_scope(|| work(&engine, &control));
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and never began.
                Err(_) => Err(Interrupted::Cancelled.into()),
            },
        }
    }
}

impl From<Engine> for LocalFsSnapshotter {
    fn from(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[async_trait]
impl MemorySnapshotter for LocalFsSnapshotter {
    async fn snapshot(&self, req: SnapshotRequest) -> Result<SnapshotMeta, SnapshotError> {
        self.run(move |engine, control| engine.snapshot(&req, control)).await
    }

    async fn restore(&self, req: RestoreRequest) -> Result<RestoreReport, SnapshotError> {
        self.run(move |engine, control| engine.plan_restore(&req, control)?.apply(control)).await
    }

    async fn diff(&self, req: DiffRequest) -> Result<SnapshotDiff, SnapshotError> {
        self.run(move |engine, control| engine.diff(&req, control)).await
    }

    async fn list(&self, tenant: Tenant, agent: Option<AgentId>) -> Result<Listing, SnapshotError> {
        self.run(move |engine, _| engine.list(&tenant, agent.as_ref())).await
    }

    async fn verify(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<VerifyReport, SnapshotError> {
        self.run(move |engine, control| {
            let meta = engine.resolve(&tenant, agent.as_ref(), &which)?;
            engine.verify(&meta, control)
        })
        .await
    }

    async fn delete(
        &self,
        tenant: Tenant,
        agent: Option<AgentId>,
        which: SnapshotRef,
    ) -> Result<SnapshotMeta, SnapshotError> {
        self.run(move |engine, control| {
            engine.delete_with(&tenant, agent.as_ref(), &which, control)
        })
        .await
    }

    async fn export(&self, req: ExportRequest) -> Result<Vec<PathBuf>, SnapshotError> {
        self.run(move |engine, control| engine.export(&req, control)).await
    }
}
