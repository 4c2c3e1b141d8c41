//! What the engine tells the world: each lifecycle event once its effect is durable, and through the
//! outbox none lost.
//!
//! Invariant: telling never fails and never holds up what is told of. Where the outbox itself cannot
//! be written, the snapshot, delete or restore goes on, and the failure is kept for the caller.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use snapshot_core::mutants::{holds, off};
use snapshot_core::{
    Control, ErrorKind, PortError, RestoreReport, RetentionTickReport, SnapshotId, SnapshotMeta,
    error_chain,
};
use snapshot_events::{
    Courier, CourierOptions, Effect, Envelope, EventId, EventPublisher, Flushed,
    LIFECYCLE_SUBJECT_PREFIX, LifecycleEvent, Message, Outbox, Prepared, Settler, Stream,
    StreamKey, Transport,
};
use snapshot_vault::{AgentLock, AgentVault, Vault, VaultError};

use super::Engine;
use crate::error::SnapshotError;
use crate::metrics::Metrics;

/// Most failures kept for [`Engine::take_event_failures`].
const MAX_FAILURES: usize = 16;

/// Who is told, and how.
pub(crate) struct Events {
    vault: Vault,
    publisher: Option<Arc<dyn EventPublisher>>,
    transport: Option<Arc<dyn Transport>>,
    prefix: String,
    /// Begun with the first event, or at once where some wait: a vault that is only read is left as
    /// it is.
    delivery: Mutex<Option<Arc<Delivery>>>,
    failures: Mutex<Vec<String>>,
    metrics: Metrics,
}

/// What the builder was given.
#[derive(Default)]
pub(crate) struct EventParts {
    pub(crate) publisher: Option<Arc<dyn EventPublisher>>,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) prefix: Option<String>,
}

/// The outbox, and the thread that empties it.
struct Delivery {
    outbox: Outbox,
    courier: Courier,
}

/// Settles what dead processes prepared, by what is in the vault.
struct VaultSettler(Vault);

/// An event of which the effect is about to happen.
pub(super) struct Announced<'e> {
    events: &'e Events,
    envelope: Envelope<LifecycleEvent>,
    prepared: Option<Prepared>,
}

impl Engine {
    /// Waits until every event so far has arrived, or one did not, or `until`. None where events are
    /// not delivered anywhere.
    #[must_use]
    pub fn flush_events(&self, until: Instant) -> Option<Flushed> {
        let delivery = self.parts.events.delivery.lock().clone();
        delivery.map(|delivery| delivery.courier.flush(until))
    }

    /// Takes what kept events from the outbox; such an event was told to publishers in this process
    /// only.
    #[must_use]
    pub fn take_event_failures(&self) -> Vec<String> {
        std::mem::take(&mut *self.parts.events.failures.lock())
    }

    /// Tells that `meta` is about to be published. The caller holds the agent's lock.
    pub(super) fn announce_created(&self, lock: &AgentLock, meta: &SnapshotMeta) -> Announced<'_> {
        let effect = Effect::Created { id: meta.id };
        self.announce(lock, effect, LifecycleEvent::Created(meta.clone()))
    }

    /// Tells that `id` is about to be deleted. The caller holds the agent's lock.
    pub(super) fn announce_deleted(&self, lock: &AgentLock, id: SnapshotId) -> Announced<'_> {
        let (agent_id, tenant) = (lock.agent().agent().clone(), lock.agent().tenant().clone());
        let ts_ms = self.parts.clock.now_ms();
        let event = LifecycleEvent::Deleted { agent_id, tenant, snapshot_id: id, ts_ms };
        self.announce(lock, Effect::Deleted { id }, event)
    }

    /// Tells that everything of a restore is durable, and only its journal is left. `restore` is its
    /// id and becomes the event's: where a crash repeats the call, it is the same event again. Of what was
    /// `sealed` nothing is told that only its readers may know.
    pub(super) fn announce_restored(
        &self,
        lock: &AgentLock,
        restore: SnapshotId,
        report: RestoreReport,
        sealed: bool,
    ) -> Announced<'_> {
        let report = if sealed { report.without_contents() } else { report };
        let envelope =
            Envelope { event_id: EventId::from(restore), event: LifecycleEvent::Restored(report) };
        self.parts.events.announce(lock.agent(), Effect::Restored, envelope)
    }

    /// An id for an event, drawn only where somebody is told.
    fn next_event_id(&self) -> EventId {
        let events = &self.parts.events;
        let wanted = events.publisher.is_some() || events.transport.is_some();
        EventId::from(if wanted { self.parts.ids.next_id() } else { SnapshotId::nil() })
    }

    /// Tells that a retention run is over.
    pub(super) fn tell_gc(&self, report: RetentionTickReport) {
        let event = LifecycleEvent::Gc { ts_ms: self.parts.clock.now_ms(), report };
        let event_id = self.next_event_id();
        let (events, envelope) = (&self.parts.events, Envelope { event_id, event });
        let prepared = events.with_stream(&StreamKey::All, |stream| {
            Ok(stream.prepare(Effect::Gc, &events.render(&envelope)?)?)
        });
        Announced { events, envelope, prepared }.happened();
    }

    fn announce(&self, lock: &AgentLock, effect: Effect, event: LifecycleEvent) -> Announced<'_> {
        let event_id = self.next_event_id();
        self.parts.events.announce(lock.agent(), effect, Envelope { event_id, event })
    }
}

impl Events {
    pub(crate) fn new(vault: &Vault, parts: EventParts, metrics: Metrics) -> Self {
        let events = Self {
            vault: vault.clone(),
            publisher: parts.publisher,
            transport: parts.transport,
            prefix: parts.prefix.unwrap_or_else(|| LIFECYCLE_SUBJECT_PREFIX.to_owned()),
            delivery: Mutex::default(),
            failures: Mutex::default(),
            metrics,
        };
        let waiting = !matches!(vault.existing_outbox_dir(), Ok(None));
        if waiting && let Err(e) = events.delivery() {
            events.failed(&e);
        }
        events
    }

    /// The outbox and its courier, none where nothing is delivered.
    fn delivery(&self) -> Result<Option<Arc<Delivery>>, SnapshotError> {
        let Some(transport) = &self.transport else { return Ok(None) };
        let mut begun = self.delivery.lock();
        if begun.is_none() {
            let outbox = Outbox::new(self.vault.outbox_dir()?);
            let settler = Arc::new(VaultSettler(self.vault.clone()));
            let options = CourierOptions::default();
            let courier = Courier::spawn(outbox.clone(), Arc::clone(transport), settler, options);
            *begun = Some(Arc::new(Delivery { outbox, courier }));
        }
        Ok(begun.clone())
    }

    /// Keeps the event for delivery. The agent's lock is held.
    fn announce(
        &self,
        agent: &AgentVault,
        effect: Effect,
        envelope: Envelope<LifecycleEvent>,
    ) -> Announced<'_> {
        let (tenant, id) = (agent.tenant().clone(), agent.agent().clone());
        let prepared = self.with_stream(&StreamKey::Agent { tenant, agent: id }, |stream| {
            // Whoever prepared what lies there is dead: we hold the agent's lock.
            if !off() {
                stream.settle(&mut |effect| happened(agent, effect))?;
            }
            Ok(stream.prepare(effect, &self.render(&envelope)?)?)
        });
        Announced { events: self, envelope, prepared }
    }

    /// Forgets what waits of an agent that is erased: it would tell of what is to be gone. The agent's
    /// lock is held.
    pub(super) fn forget(&self, key: &StreamKey, until: Instant) {
        let outbox = self.vault.existing_outbox_dir().map_err(SnapshotError::from);
        let forgotten = outbox
            .and_then(|dir| dir.map_or(Ok(()), |dir| Ok(Outbox::new(dir).forget(key, until)?)));
        if let Err(e) = forgotten {
            self.failed(&e);
        }
    }

    /// Does something to a stream of the outbox; a failure is kept, and the caller goes on.
    fn with_stream<T>(
        &self,
        key: &StreamKey,
        work: impl FnOnce(&Stream) -> Result<T, SnapshotError>,
    ) -> Option<T> {
        let done = self
            .delivery()
            .and_then(|delivery| delivery.map(|d| work(&d.outbox.stream(key)?)).transpose());
        done.unwrap_or_else(|e| {
            self.failed(&e);
            None
        })
    }

    fn render(&self, envelope: &Envelope<LifecycleEvent>) -> Result<Message, SnapshotError> {
        envelope.to_message(&self.prefix).map_err(|source| SnapshotError::Render { source })
    }

    fn wake(&self) {
        if let Some(delivery) = self.delivery.lock().as_ref() {
            delivery.courier.wake();
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        let text = error_chain(error);
        tracing::error!(error = %text, "an event could not be kept for delivery");
        self.metrics.outbox_failed();
        let mut failures = self.failures.lock();
        if failures.len() < MAX_FAILURES {
            failures.push(text);
        }
    }
}

impl Announced<'_> {
    /// Its effect is durable: tell.
    pub(super) fn happened(self) {
        if let Some(prepared) = self.prepared
            && let Err(e) = prepared.commit()
        {
            // What was prepared stays; whoever next holds the agent's lock settles it.
            self.events.failed(&e);
        }
        if let Some(publisher) = &self.events.publisher {
            publisher.publish_lifecycle(&self.envelope);
        }
        self.events.wake();
    }
}

impl Settler for VaultSettler {
    fn settle(&self, key: &StreamKey, stream: &Stream) -> Result<(), PortError> {
        let fail = |kind, e: &(dyn std::error::Error + 'static)| {
            PortError::plain(kind, format!("cannot settle the events of {key}: {}", error_chain(e)))
        };
        let StreamKey::Agent { tenant, agent } = key else {
            // A run that died before its last step has not ended; but this one had.
            let settled = stream.settle(&mut |_| Some(true));
            return settled.map_err(|e| fail(e.kind(), &e));
        };
        let agent = self.0.agent(tenant, agent);
        // Where somebody is at work, what is prepared may be theirs.
        let _lock = match agent.lock(Instant::now(), &Control::default()) {
            Err(e) if e.kind() == ErrorKind::Concurrent => return Ok(()),
            locked => locked.map_err(|e| fail(e.kind(), &e))?,
        };
        stream.settle(&mut |effect| happened(&agent, effect)).map_err(|e| fail(e.kind(), &e))
    }
}

/// Whether the effect of a dead process's event exists. The agent's lock is held, so it neither
/// comes nor goes meanwhile.
fn happened(agent: &AgentVault, effect: &Effect) -> Option<bool> {
    let gone = |id| matches!(agent.meta(id), Err(VaultError::UnknownSnapshot { .. }));
    match *effect {
        Effect::Created { id } => Some(!gone(id)),
        Effect::Deleted { id } => Some(gone(id)),
        // Prepared once everything was put back; while its journal is there, its recovery tells.
        Effect::Restored => {
            let work = agent.existing_restore_dir().ok()?;
            let pending = work.as_ref().map(snapshot_stores::pending).transpose().ok()?;
            holds(pending.flatten().is_none()).then_some(true)
        }
        Effect::Gc => None,
    }
}
