//! What publishing a mutation costs its caller: the queue behind it empties slower than it fills.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use snapshot_core::{AgentId, Tenant};
use snapshot_events::{
    Envelope, EventPublisher, Message, MutationEvent, MutationOp, MutationScope, QueueOptions,
    QueuedPublisher, Transport, TransportError,
};

struct Nowhere;

impl Transport for Nowhere {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        black_box(message);
        Ok(())
    }
}

fn publish(c: &mut Criterion) {
    let Ok(queue) = QueuedPublisher::new(Arc::new(Nowhere), QueueOptions::default()) else {
        return;
    };
    c.bench_function("publish_mutation, caller's side", |b| {
        b.iter(|| {
            queue.publish_mutation(&Envelope::new(MutationEvent {
                agent_id: AgentId::from_static("ana"),
                tenant: Tenant::default(),
                scope: MutationScope::SqliteLongTerm,
                op: MutationOp::Update,
                key: "facts:1234567".to_owned(),
                old_hash: Some("0".repeat(64)),
                new_hash: Some("1".repeat(64)),
                ts_ms: 1_700_000_000_000,
            }));
        });
    });
}

criterion_group!(benches, publish);
criterion_main!(benches);
