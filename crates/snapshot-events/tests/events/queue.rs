//! The bounded queue.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use snapshot_core::RetentionTickReport;
use snapshot_events::{
    Envelope, EventId, EventPublisher, FanOut, Fault, LifecycleEvent, NoopPublisher, Overflow,
    QueueOptions, QueuedPublisher, RecordingPublisher, TracingPublisher,
};

use crate::support::{Gated, PATIENCE, Scripted, deleted, id, mutation};

fn options(capacity: usize, overflow: Overflow) -> QueueOptions {
    QueueOptions { capacity, overflow, ..QueueOptions::default() }
}

/// A queue whose thread has event 0 in hand until it is let go.
fn held(options: QueueOptions) -> (QueuedPublisher, Arc<Gated>, Sender<()>) {
    let (gated, open) = Gated::new();
    let queue = QueuedPublisher::new(gated.clone(), options).unwrap();
    queue.publish_mutation(&mutation(0));
    let until = Instant::now() + PATIENCE;
    while queue.stats().waiting > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    (queue, gated, open)
}

/// Would catch: a caller that waits for a transport that does not answer, a queue without bound, the
/// wrong end dropped, or a drop that is not counted.
#[test]
fn a_full_queue_drops_as_told_and_counts_while_its_caller_goes_on() {
    for (overflow, kept) in [
        (Overflow::DropNewest, [0, 1, 2, 3]),
        // The first is away to the transport already, or the oldest: both are seen below.
        (Overflow::DropOldest, [0, 7, 8, 9]),
    ] {
        let (queue, gated, open) = held(options(3, overflow));
        (1..10).for_each(|n| queue.publish_mutation(&mutation(n)));
        assert_eq!((queue.stats().waiting, queue.stats().dropped), (3, 6));
        drop(open);
        assert!(queue.flush(Instant::now() + PATIENCE));
        let taken = gated.taken.lock().unwrap();
        let keys: Vec<String> = taken
            .iter()
            .map(|m| serde_json::from_slice::<serde_json::Value>(&m.payload).unwrap())
            .map(|event| event["key"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(keys, kept.map(|n| format!("facts:{n}")));
        assert_eq!(queue.stats().sent, 4);
    }
}

/// Would catch: memory that grows with the length of keys, a bound that is off by one byte, or one
/// event too large for the queue that empties it.
#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let (queue, _gated, open) = held(options(9, Overflow::DropNewest));
    queue.publish_mutation(&mutation(1));
    let one = usize::try_from(queue.stats().waiting_bytes).unwrap();
    drop(open);
    for (overflow, capacity_bytes, kept) in [
        (Overflow::DropNewest, 3 * one, vec![1, 2, 3]),
        (Overflow::DropNewest, 3 * one - 1, vec![1, 2]),
        (Overflow::DropOldest, 3 * one, vec![3, 4, 5]),
        (Overflow::DropOldest, 3 * one - 1, vec![4, 5]),
    ] {
        let bounded = QueueOptions { capacity_bytes, ..options(9, overflow) };
        let (queue, gated, open) = held(bounded);
        (1..6).for_each(|n| queue.publish_mutation(&mutation(n)));
        let mut large = mutation(6);
        large.event.key = "k".repeat(capacity_bytes);
        queue.publish_mutation(&large);
        assert!(queue.stats().waiting_bytes <= capacity_bytes as u64);
        assert_eq!(queue.stats().dropped, 6 - kept.len() as u64);
        drop(open);
        assert!(queue.flush(Instant::now() + PATIENCE));
        let ids: Vec<EventId> = gated.taken.lock().unwrap().iter().map(|m| m.event_id).collect();
        assert_eq!(ids[1..], kept.into_iter().map(|n| EventId::from(id(n))).collect::<Vec<_>>());
        assert_eq!(queue.stats().waiting_bytes, 0);
    }
}

/// Would catch: a lifecycle event that counts as nothing.
#[test]
fn lifecycle_events_count_by_their_length() {
    let (queue, _gated, _open) = held(options(9, Overflow::DropNewest));
    let waiting = |n| {
        let before = queue.stats().waiting_bytes;
        let report = RetentionTickReport { failures: vec!["x".repeat(n)], ..Default::default() };
        queue.publish_lifecycle(&Envelope::new(LifecycleEvent::Gc { ts_ms: 0, report }));
        queue.stats().waiting_bytes - before
    };
    assert_eq!(waiting(2000) - waiting(1000), 1000);
}

/// Would catch: an error of the transport that ends the thread or goes uncounted.
#[test]
fn what_does_not_arrive_is_counted_and_the_rest_goes_on() {
    let transport = Scripted::new(&[Fault::Unreachable]);
    let queue = QueuedPublisher::new(transport.clone(), QueueOptions::default()).unwrap();
    queue.publish_lifecycle(&deleted(1));
    queue.publish_mutation(&mutation(2));
    assert!(queue.flush(Instant::now() + PATIENCE));
    let stats = queue.stats();
    assert_eq!((stats.failed, stats.sent, stats.dropped), (1, 1, 0));
    assert_eq!(transport.taken.lock().unwrap()[0].subject, "nexo.memory.mutated.ana");
}

/// Would catch: one of several publishers left out.
#[test]
fn a_fan_out_tells_all() {
    let recording = Arc::new(RecordingPublisher::default());
    let all = FanOut::new(vec![
        Arc::new(NoopPublisher),
        Arc::new(TracingPublisher),
        recording.clone(),
        recording.clone(),
    ]);
    all.publish_lifecycle(&deleted(1));
    all.publish_mutation(&mutation(2));
    assert_eq!((recording.lifecycle.lock().len(), recording.mutation.lock().len()), (2, 2));
}
