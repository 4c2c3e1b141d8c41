//! The bridge from the write hook of a memory crate to mutation events.
//!
//! Invariants: a hook never fails and never waits; nothing that it is given makes an event larger
//! than a bound.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use snapshot_core::{AgentId, Clock, Sha256Digest, SystemClock, Tenant};

use crate::envelope::Envelope;
use crate::mutation::{MutationEvent, MutationOp, MutationScope};
use crate::mutation_key::bounded;
use crate::publisher::EventPublisher;

/// Makes a [`MutationEvent`] of each write that a memory crate's hook tells of. Where nothing is to
/// be published, give it a [`crate::NoopPublisher`].
///
/// ```
/// use std::sync::Arc;
/// use snapshot_events::{MemoryMutationPublisher, MutationOp, MutationScope, RecordingPublisher};
///
/// let recording = Arc::new(RecordingPublisher::default());
/// let hook = MemoryMutationPublisher::new(recording.clone());
/// hook.on_mutation_named("ana", "acme", MutationScope::SqliteLongTerm, MutationOp::Insert, "facts:17");
/// hook.on_mutation_named("../ana", "acme", MutationScope::Git, MutationOp::Update, "HEAD");
/// assert_eq!(recording.mutation.lock()[0].event.subject(), "nexo.memory.mutated.ana");
/// assert_eq!((recording.mutation.lock().len(), hook.refused()), (1, 1));
/// ```
pub struct MemoryMutationPublisher {
    publisher: Arc<dyn EventPublisher>,
    clock: Arc<dyn Clock>,
    refused: AtomicU64,
}

/// Digests of a value before and after a write, as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digests {
    /// Before it.
    pub old: Option<Sha256Digest>,
    /// After it.
    pub new: Option<Sha256Digest>,
}

impl MemoryMutationPublisher {
    /// Tells `publisher`, in the caller's thread: what takes time belongs behind a
    /// [`crate::QueuedPublisher`].
    #[must_use]
    pub fn new(publisher: Arc<dyn EventPublisher>) -> Self {
        Self { publisher, clock: Arc::new(SystemClock), refused: AtomicU64::new(0) }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// Something was written. A key of more than [`crate::MAX_KEY_BYTES`] is shortened as said there.
    pub fn on_mutation(
        &self,
        agent: &AgentId,
        tenant: &Tenant,
        scope: MutationScope,
        op: MutationOp,
        key: &str,
    ) {
        self.on_mutation_with_digests(agent, tenant, scope, op, key, Digests::default());
    }

    /// Something was written, and what it was and is has digests.
    pub fn on_mutation_with_digests(
        &self,
        agent: &AgentId,
        tenant: &Tenant,
        scope: MutationScope,
        op: MutationOp,
        key: &str,
        digests: Digests,
    ) {
        self.publisher.publish_mutation(&Envelope::new(MutationEvent {
            agent_id: agent.clone(),
            tenant: tenant.clone(),
            scope,
            op,
            key: bounded(key),
            old_hash: digests.old.map(|digest| digest.to_string()),
            new_hash: digests.new.map(|digest| digest.to_string()),
            ts_ms: self.clock.now_ms(),
        }));
    }

    /// Something was written, by an agent of a tenant that the hook knows by name only. Names that
    /// no agent and no tenant can have make no event, and are counted.
    pub fn on_mutation_named(
        &self,
        agent: &str,
        tenant: &str,
        scope: MutationScope,
        op: MutationOp,
        key: &str,
    ) {
        let (Ok(agent), Ok(tenant)) = (agent.parse(), tenant.parse()) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.on_mutation(&agent, &tenant, scope, op, key);
    }

    /// Writes that made no event because of their names.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for MemoryMutationPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryMutationPublisher")
            .field("refused", &self.refused())
            .finish_non_exhaustive()
    }
}
