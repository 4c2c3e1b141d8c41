//! An event with its id, and what becomes of it on the wire.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use snapshot_core::SnapshotId;
use uuid::Uuid;

use crate::lifecycle::LifecycleEvent;
use crate::mutation::MutationEvent;

/// Identifies one event, by which brokers and subscribers drop a repeated delivery. A UUID,
/// hyphenated lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

/// An event as publishers get it: its own fields and `event_id` beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<E> {
    /// The event's id.
    pub event_id: EventId,
    /// The event.
    #[serde(flatten)]
    pub event: E,
}

/// An event rendered for the wire. What is kept for later is this, so that a repeated delivery is
/// byte-exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The event's id.
    pub event_id: EventId,
    /// The subject.
    pub subject: String,
    /// The JSON document.
    pub payload: Vec<u8>,
}

impl EventId {
    /// A new random one.
    #[must_use]
    pub fn new_random() -> Self {
        Self(Uuid::new_v4())
    }
}

/// The ids of events come from where those of snapshots do, so that tests can fix them.
impl From<SnapshotId> for EventId {
    fn from(id: SnapshotId) -> Self {
        Self(Uuid::from_bytes(*id.as_bytes()))
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<E> Envelope<E> {
    /// An event with a new random id.
    #[must_use]
    pub fn new(event: E) -> Self {
        Self { event_id: EventId::new_random(), event }
    }
}

impl Envelope<LifecycleEvent> {
    /// The message under a subject prefix.
    ///
    /// # Errors
    /// A path in it that is not UTF-8 has no JSON form.
    pub fn to_message(&self, prefix: &str) -> Result<Message, serde_json::Error> {
        render(self.event_id, self.event.subject_with_prefix(prefix), self)
    }
}

impl Envelope<MutationEvent> {
    /// The message under a subject prefix.
    ///
    /// # Errors
    /// None that the fields of an event could cause.
    pub fn to_message(&self, prefix: &str) -> Result<Message, serde_json::Error> {
        render(self.event_id, self.event.subject_with_prefix(prefix), self)
    }
}

fn render(
    event_id: EventId,
    subject: String,
    event: &impl Serialize,
) -> Result<Message, serde_json::Error> {
    Ok(Message { event_id, subject, payload: serde_json::to_vec(event)? })
}
