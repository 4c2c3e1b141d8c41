//! The rules of [`EventPublisher`], kept by a queue before a real server.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use snapshot_events::nats::{NatsOptions, NatsTail, NatsTransport};
use snapshot_events::{EventPublisher, Message, QueueOptions, QueuedPublisher, Transport};
use snapshot_testkit::conformance::publisher::{Subject, check};
use snapshot_testkit::{Broker, Proxy};

use crate::support::{PATIENCE, Server, message, next};

/// A queue whose way to the server is through a proxy that goes deaf.
fn queue(server: &Server, options: NatsOptions) -> (Arc<QueuedPublisher>, Proxy) {
    let proxy = Proxy::start(server.broker.address()).unwrap();
    let transport = NatsTransport::new(NatsOptions { url: proxy.url(), ..options }).unwrap();
    let prefixes = QueueOptions {
        lifecycle_prefix: "test.done".to_owned(),
        mutation_prefix: "test.mutated".to_owned(),
        ..QueueOptions::default()
    };
    (Arc::new(QueuedPublisher::new(Arc::new(transport), prefixes).unwrap()), proxy)
}

fn subject(
    (queue, proxy): (Arc<QueuedPublisher>, Proxy),
    arrived: impl Fn() -> Vec<(String, Vec<u8>)> + 'static,
) -> Subject {
    let publisher: Arc<dyn EventPublisher> = queue.clone();
    Subject {
        publisher,
        lifecycle_prefix: "test.done".to_owned(),
        mutation_prefix: "test.mutated".to_owned(),
        arrived: Box::new(move || {
            assert!(queue.flush(Instant::now() + PATIENCE));
            arrived()
        }),
        hold: Box::new(move |hold| proxy.set_deaf(hold)),
        patience: PATIENCE,
    }
}

/// Everything that subscribers heard up to a word of our own, which is behind what the server has.
fn heard(tail: &NatsTail, word: &dyn Transport, so_far: &mut Vec<(String, Vec<u8>)>) {
    let last = Message { subject: "test.word".to_owned(), ..message("ana", 0) };
    word.send(&last).unwrap();
    loop {
        let received = next(tail);
        if received.subject == last.subject {
            return;
        }
        so_far.push((received.subject, received.payload));
    }
}

/// Would catch: an event that subscribers hear changed, twice, or behind a later one; a caller that waits
/// for a server.
#[test]
fn a_queue_before_a_server_keeps_the_rules() {
    let Some(server) = Server::start("") else { return };
    let tail = server.tail("test.>");
    let word = NatsTransport::new(server.options()).unwrap();
    let so_far = Mutex::default();
    let arrived = move || {
        let mut so_far = so_far.lock().unwrap();
        heard(&tail, &word, &mut so_far);
        so_far.clone()
    };
    check(&subject(queue(&server, server.options()), arrived)).unwrap();
}

/// Would catch: the same of what JetStream stores, which drops what is told twice.
#[test]
fn a_queue_before_jetstream_keeps_the_rules() {
    let Some(server) = Server::start(Broker::JETSTREAM) else { return };
    let stored = server.store("EVENTS");
    let options = NatsOptions { jetstream: true, ..server.options() };
    let arrived = move || {
        let messages = stored.messages().unwrap().into_iter();
        messages.map(|message| (message.subject, message.payload)).collect()
    };
    check(&subject(queue(&server, options), arrived)).unwrap();
}
