//! What a host makes of a configuration: the engine, the hooks, the worker's policies, the
//! publisher. The command line uses the same.

use std::path::Path;
use std::sync::Arc;

use snapshot_core::{AgentId, Control, DecryptionIdentity, Tenant};
use snapshot_retention::RetentionConfig;

use super::{ConfiguredLayouts, DEFAULT_MAX_GIT_OBJECT_BYTES, MemorySnapshotConfig};
use crate::builder::EngineBuilder;
use crate::engine::Engine;
use crate::hooks::ShellQuiesce;

impl MemorySnapshotConfig {
    /// A builder that has what the section says of places, limits and subjects, for the agents of
    /// `tenant`. `root` is the vault, for a host that has another default or a flag of its own;
    /// `hooks` those of [`MemorySnapshotConfig::hooks`], which a host keeps to ask for their failures.
    /// Delivery of events is added by [`EngineBuilder::deliver`].
    pub fn engine(
        &self,
        tenant: Tenant,
        root: &Path,
        hooks: Option<Arc<ShellQuiesce>>,
    ) -> EngineBuilder {
        let mut builder = Engine::builder()
            .root(root)
            .layouts(Arc::new(ConfiguredLayouts::new(self, tenant, root)))
            .max_git_object_bytes(
                self.max_git_object_bytes.unwrap_or(DEFAULT_MAX_GIT_OBJECT_BYTES),
            );
        builder = self.keys(builder);
        if let Some(redaction) = &self.redaction {
            builder = builder.redaction(redaction.policy());
        }
        if let Some(hooks) = hooks {
            let deadline = hooks.deadline();
            builder = builder.quiesce(hooks, deadline);
        }
        match &self.events.lifecycle_subject_prefix {
            Some(prefix) => builder.lifecycle_subject_prefix(prefix.clone()),
            None => builder,
        }
    }

    /// With its policy of encryption, its identities and its keys.
    fn keys(&self, builder: EngineBuilder) -> EngineBuilder {
        let config = self.clone();
        let builder = builder
            .encryption(Arc::new(move |_: &Tenant, agent: &AgentId| config.encryption_of(agent)))
            .trust(self.signing.trust.clone());
        let builder = self.identity_paths().into_iter().fold(builder, |builder, path| {
            builder.identity(DecryptionIdentity::AgeIdentityFile(path))
        });
        match &self.signing.key_path {
            Some(path) => builder.signing_key_file(path.clone()),
            None => builder,
        }
    }

    /// The shell hooks of all agents; none where nobody has any.
    #[must_use]
    pub fn hooks(&self, control: &Control) -> Option<Arc<ShellQuiesce>> {
        let own = self.agents.iter();
        let own = own.filter_map(|(id, own)| Some((id.clone(), own.options.hooks.clone()?)));
        let (all, own) = (self.options.hooks.clone(), own.collect());
        ShellQuiesce::new(all, own, control.clone()).map(Arc::new)
    }

    /// What the retention worker goes by, or none where nothing is to happen by itself.
    #[must_use]
    pub fn retention_worker(&self) -> Option<RetentionConfig> {
        let config = self.clone();
        let default = RetentionConfig::default();
        (self.enabled != Some(false)).then(|| RetentionConfig {
            policies: Arc::new(move |_, agent| config.policy_of(agent)),
            interval: self.retention.interval().unwrap_or(default.interval),
        })
    }
}

#[cfg(feature = "nats")]
mod nats {
    use snapshot_events::nats::{NatsError, NatsTransport};
    use snapshot_events::{EventPublisher, NoopPublisher, QueueOptions, QueuedPublisher};

    use super::{Arc, MemorySnapshotConfig};
    use crate::metrics::Metrics;

    impl MemorySnapshotConfig {
        /// The transport to the configured NATS server, for [`crate::local_fs::EngineBuilder::deliver`];
        /// none where none is configured.
        ///
        /// # Errors
        /// If a thread for it cannot be made.
        pub fn transport(&self) -> Result<Option<Arc<NatsTransport>>, NatsError> {
            let nats = self.events.server();
            nats.map(|nats| NatsTransport::new(nats.options()).map(Arc::new)).transpose()
        }

        /// Who a runtime tells of mutations: the NATS server through a bounded queue, which `metrics`
        /// shows as `mutations`; nobody where none is configured or `mutation_publish_enabled` is
        /// false.
        ///
        /// # Errors
        /// If a thread for it cannot be made.
        pub fn mutation_publisher(
            &self,
            metrics: &Metrics,
        ) -> Result<Arc<dyn EventPublisher>, NatsError> {
            let enabled = self.events.mutation_publish_enabled.unwrap_or(true);
            let Some(transport) = self.transport()?.filter(|_| enabled) else {
                return Ok(Arc::new(NoopPublisher));
            };
            let mut options = QueueOptions::default();
            if let Some(prefix) = &self.events.lifecycle_subject_prefix {
                options.lifecycle_prefix.clone_from(prefix);
            }
            if let Some(prefix) = &self.events.mutation_subject_prefix {
                options.mutation_prefix.clone_from(prefix);
            }
            let queue = Arc::new(QueuedPublisher::new(transport, options)?);
            metrics.watch_queue("mutations", &queue);
            Ok(queue)
        }
    }
}
