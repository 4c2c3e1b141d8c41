//! Publishers: who is told of an event, at once and in this process.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::envelope::Envelope;
use crate::lifecycle::LifecycleEvent;
use crate::mutation::MutationEvent;

/// Told of every event. Best-effort: it must return at once, and has no way to fail its caller, who
/// may hold locks; what takes time belongs behind a [`crate::QueuedPublisher`]. What one thread tells
/// arrives in order, lifecycle and mutation events each; an event without a JSON form is dropped.
pub trait EventPublisher: Send + Sync {
    /// Something was done with snapshots.
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>);

    /// Something was written to a memory.
    fn publish_mutation(&self, event: &Envelope<MutationEvent>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoopPublisher;

/// Keeps every event, for tests.
#[derive(Debug, Default)]
pub struct RecordingPublisher {
    /// The lifecycle events so far.
    pub lifecycle: Mutex<Vec<Envelope<LifecycleEvent>>>,
    /// The mutation events so far.
    pub mutation: Mutex<Vec<Envelope<MutationEvent>>>,
}

/// Tells the log of this process, at level info (lifecycle) and debug (mutations).
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingPublisher;

/// Tells several, in order.
#[derive(Clone, Default)]
pub struct FanOut(Vec<Arc<dyn EventPublisher>>);

impl EventPublisher for NoopPublisher {
    fn publish_lifecycle(&self, _: &Envelope<LifecycleEvent>) {}

    fn publish_mutation(&self, _: &Envelope<MutationEvent>) {}
}

impl EventPublisher for RecordingPublisher {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        self.lifecycle.lock().push(event.clone());
    }

    fn publish_mutation(&self, event: &Envelope<MutationEvent>) {
        self.mutation.lock().push(event.clone());
    }
}

impl EventPublisher for TracingPublisher {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        let (event_id, subject) = (event.event_id, event.event.subject());
        tracing::info!(%event_id, subject, "memory snapshot event");
    }

    fn publish_mutation(&self, event: &Envelope<MutationEvent>) {
        let MutationEvent { agent_id, tenant, scope, op, key, .. } = &event.event;
        tracing::debug!(%agent_id, %tenant, ?scope, ?op, key, "memory mutation");
    }
}

impl FanOut {
    /// Tells these.
    #[must_use]
    pub fn new(publishers: Vec<Arc<dyn EventPublisher>>) -> Self {
        Self(publishers)
    }
}

impl EventPublisher for FanOut {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        self.0.iter().for_each(|publisher| publisher.publish_lifecycle(event));
    }

    fn publish_mutation(&self, event: &Envelope<MutationEvent>) {
        self.0.iter().for_each(|publisher| publisher.publish_mutation(event));
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FanOut").field(&self.0.len()).finish()
    }
}
