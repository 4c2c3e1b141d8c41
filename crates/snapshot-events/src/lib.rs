//! What happens to an agent's memory, on the wire: the events, the publishers that carry them, and
//! the outbox that no crash and no broker that is down can empty early.
//!
//! Invariants: a publisher never blocks and never fails its caller; what waits for delivery is the
//! rendered subject and JSON, so that a repeated delivery is byte-exact and carries the same
//! [`EventId`]; how snapshots are made is not known here. SQLite is known behind the feature `sqlite`
//! only, where `MutationSource` makes mutation events of what a connection writes.
//!
//! ```
//! use snapshot_events::{AgentId, Envelope, EventPublisher, MutationEvent, MutationOp};
//! use snapshot_events::{MutationScope, RecordingPublisher, Tenant};
//!
//! let event = MutationEvent {
//!     agent_id: AgentId::from_static("ana"),
//!     tenant: Tenant::default(),
//!     scope: MutationScope::SqliteLongTerm,
//!     op: MutationOp::Insert,
//!     key: "facts:17".to_owned(),
//!     old_hash: None,
//!     new_hash: None,
//!     ts_ms: 0,
//! };
//! assert_eq!(event.subject(), "nexo.memory.mutated.ana");
//! let publisher = RecordingPublisher::default();
//! publisher.publish_mutation(&Envelope::new(event));
//! assert_eq!(publisher.mutation.lock().len(), 1);
//! ```

mod envelope;
mod lifecycle;
mod mutation;
mod mutation_key;
mod mutation_publisher;
#[cfg(feature = "sqlite")]
mod mutation_source;
#[cfg(feature = "nats")]
pub mod nats;
mod outbox;
mod publisher;
mod queue;
mod transcript;
mod transport;

pub use envelope::{Envelope, EventId, Message};
pub use lifecycle::{LIFECYCLE_SUBJECT_PREFIX, LifecycleEvent};
pub use mutation::{MUTATION_SUBJECT_PREFIX, MutationEvent, MutationOp, MutationScope};
pub use mutation_key::MAX_KEY_BYTES;
pub use mutation_publisher::{Digests, MemoryMutationPublisher};
#[cfg(feature = "sqlite")]
pub use mutation_source::{
    MutationSource, MutationSourceError, MutationSourceOptions, MutationSourceStats, MutationTables,
};
pub use outbox::{
    Courier, CourierOptions, Effect, Flushed, Outbox, OutboxError, Prepared, Settler, Stream,
    StreamKey,
};
pub use publisher::{EventPublisher, FanOut, NoopPublisher, RecordingPublisher, TracingPublisher};
pub use queue::{Overflow, QueueOptions, QueueStats, QueuedPublisher};
pub use transcript::JsonlTranscript;
pub use transport::{Fault, Transport, TransportError};

// What events are made of, for programs that depend on this crate alone.
pub use snapshot_core::{
    AgentId, RestoreReport, RetentionTickReport, Sha256Digest, SnapshotId, SnapshotMeta, Tenant,
};
