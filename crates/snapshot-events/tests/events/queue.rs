//! The bounded queue.

use std::sync::Arc;
use std::time::Instant;

use snapshot_events::{
    EventPublisher, FanOut, NoopPublisher, Overflow, QueueOptions, QueuedPublisher,
    RecordingPublisher, TracingPublisher,
};

use crate::support::{Answer, Gated, PATIENCE, Scripted, deleted, mutation};

fn options(capacity: usize, overflow: Overflow) -> QueueOptions {
    QueueOptions { capacity, overflow, ..QueueOptions::default() }
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
        let (gated, open) = Gated::new();
        let queue = QueuedPublisher::new(gated.clone(), options(3, overflow)).unwrap();
        queue.publish_mutation(&mutation(0));
        // Until the thread has the first one in hand.
        let until = Instant::now() + PATIENCE;
        while queue.stats().waiting > 0 && Instant::now() < until {
            std::thread::yield_now();
        }
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

/// Would catch: an error of the transport that ends the thread or goes uncounted.
#[test]
fn what_does_not_arrive_is_counted_and_the_rest_goes_on() {
    let transport = Scripted::new(&[Answer::Fail]);
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
