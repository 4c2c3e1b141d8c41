//! Events, and a transport that does as it is told.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use snapshot_core::{AgentId, SnapshotId, Tenant};
use snapshot_events::{
    Envelope, EventId, Fault, LifecycleEvent, Message, MutationEvent, MutationOp, MutationScope,
    Transport, TransportError,
};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what it takes; answers as told, and takes everything once nothing more is told.
#[derive(Default)]
pub(crate) struct Scripted {
    answers: Mutex<Vec<Fault>>,
    pub(crate) taken: Mutex<Vec<Message>>,
}

/// Waits to be let go before each message.
pub(crate) struct Gated {
    gate: Mutex<Receiver<()>>,
    pub(crate) taken: Mutex<Vec<Message>>,
}

impl Scripted {
    pub(crate) fn new(answers: &[Fault]) -> Arc<Self> {
        let answers = Mutex::new(answers.iter().rev().copied().collect());
        Arc::new(Self { answers, taken: Mutex::default() })
    }

    pub(crate) fn ids(&self) -> Vec<EventId> {
        self.taken.lock().unwrap().iter().map(|m| m.event_id).collect()
    }
}

impl Transport for Scripted {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        let Some(fault) = self.answers.lock().unwrap().pop() else {
            self.taken.lock().unwrap().push(message.clone());
            return Ok(());
        };
        Err(TransportError {
            subject: message.subject.clone(),
            to: "the test".to_owned(),
            fault,
            source: "as told".into(),
        })
    }
}

impl Gated {
    pub(crate) fn new() -> (Arc<Self>, Sender<()>) {
        let (open, gate) = mpsc::channel();
        (Arc::new(Self { gate: Mutex::new(gate), taken: Mutex::default() }), open)
    }
}

impl Transport for Gated {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        // An opener that is gone leaves the gate open.
        let _ = self.gate.lock().unwrap().recv();
        self.taken.lock().unwrap().push(message.clone());
        Ok(())
    }
}

pub(crate) fn id(n: u8) -> SnapshotId {
    SnapshotId::from_random_bytes([n; 16])
}

pub(crate) fn ana() -> AgentId {
    AgentId::from_static("ana")
}

/// Event number `n`.
pub(crate) fn deleted(n: u8) -> Envelope<LifecycleEvent> {
    Envelope {
        event_id: EventId::from(id(n)),
        event: LifecycleEvent::Deleted {
            agent_id: ana(),
            tenant: Tenant::default(),
            snapshot_id: id(n),
            ts_ms: i64::from(n),
        },
    }
}

pub(crate) fn message(n: u8) -> Message {
    deleted(n).to_message("test").unwrap()
}

pub(crate) fn mutation(n: u8) -> Envelope<MutationEvent> {
    Envelope {
        event_id: EventId::from(id(n)),
        event: MutationEvent {
            agent_id: ana(),
            tenant: Tenant::default(),
            scope: MutationScope::SqliteLongTerm,
            op: MutationOp::Insert,
            key: format!("facts:{n}"),
            old_hash: None,
            new_hash: None,
            ts_ms: i64::from(n),
        },
    }
}
