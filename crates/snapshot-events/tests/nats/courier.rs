//! The outbox in front of a real server that comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snapshot_core::{AgentId, PortError, SnapshotId, Tenant};
use snapshot_events::nats::{NatsOptions, NatsTransport};
use snapshot_events::{
    Courier, CourierOptions, Effect, Envelope, LifecycleEvent, Outbox, Settler, Stream, StreamKey,
};
use snapshot_fs::DurableFs;
use snapshot_testkit::{Broker, Proxy};

use crate::support::{PATIENCE, Server, message};

/// Nothing is left prepared here.
struct NobodyDied;

impl Settler for NobodyDied {
    fn settle(&self, _: &StreamKey, _: &Stream) -> Result<(), PortError> {
        Ok(())
    }
}

fn outbox(dir: &std::path::Path) -> Outbox {
    Outbox::new(DurableFs::default().open_dir(dir).unwrap())
}

fn courier(outbox: &Outbox, options: NatsOptions) -> Courier {
    let transport = Arc::new(NatsTransport::new(options).unwrap());
    let quick = CourierOptions {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        look_every: Duration::from_millis(50),
    };
    Courier::spawn(outbox.clone(), transport, Arc::new(NobodyDied), quick)
}

fn keep(outbox: &Outbox, agent: &str, n: u8) {
    let (tenant, id) = (Tenant::default(), SnapshotId::from_random_bytes([n; 16]));
    let key = StreamKey::Agent { tenant, agent: agent.parse::<AgentId>().unwrap() };
    let stream = outbox.stream(&key).unwrap();
    stream.prepare(Effect::Deleted { id }, &message(agent, n)).unwrap().commit().unwrap();
}

fn until_empty(outbox: &Outbox, courier: &Courier) {
    let until = Instant::now() + PATIENCE;
    while outbox.depth().unwrap() > 0 {
        let flushed = courier.flush(until);
        assert!(Instant::now() < until, "{flushed:?}");
    }
}

/// Would catch: an event lost, overtaken or stored twice while the server is down at the start,
/// killed and restarted in mid-stream, and the way to it is half open for a while.
#[test]
fn nothing_is_lost_overtaken_or_doubled_whatever_happens_to_the_server() {
    let Some(mut server) = Server::start(Broker::JETSTREAM) else { return };
    let stored = server.store("EVENTS");
    let box_dir = tempfile::tempdir().unwrap();
    let outbox = outbox(box_dir.path());
    let proxy = Proxy::start(server.broker.address()).unwrap();
    let bound = Duration::from_millis(300);
    let options = NatsOptions { bound, jetstream: true, ..NatsOptions::new(proxy.url()) };
    let agents = ["ana", "bob"];
    let keep_both = |n: u8| agents.iter().for_each(|agent| keep(&outbox, agent, n));
    let waits = |courier: &Courier| {
        assert!(courier.flush(Instant::now() + PATIENCE).left > 0, "nobody could take them");
    };

    server.broker.kill();
    let courier = courier(&outbox, options);
    (0..5).for_each(keep_both);
    waits(&courier);
    server.broker.restart().unwrap();
    for n in 5..15 {
        keep_both(n);
        courier.wake();
        if n == 10 {
            server.broker.restart().unwrap();
        }
    }
    proxy.set_deaf(true);
    (15..20).for_each(keep_both);
    waits(&courier);
    proxy.set_deaf(false);
    (20..25).for_each(keep_both);
    until_empty(&outbox, &courier);

    let mut heard: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for message in stored.messages().unwrap() {
        let envelope: Envelope<LifecycleEvent> = serde_json::from_slice(&message.payload).unwrap();
        let LifecycleEvent::Deleted { agent_id, ts_ms, .. } = envelope.event else {
            panic!("{envelope:?}")
        };
        heard.entry(agent_id.to_string()).or_default().push(ts_ms);
    }
    for agent in agents {
        assert_eq!(heard[agent], (0..25).collect::<Vec<i64>>(), "{agent}");
    }
}

/// Would catch: two processes that send the same records at the same time.
#[test]
fn two_couriers_on_one_outbox_send_each_event_once() {
    let Some(server) = Server::start("") else { return };
    let box_dir = tempfile::tempdir().unwrap();
    let outbox = outbox(box_dir.path());
    let tail = server.tail("test.>");
    let (one, other) = (courier(&outbox, server.options()), courier(&outbox, server.options()));
    for n in 0..50 {
        keep(&outbox, ["ana", "bob", "cat"][usize::from(n % 3)], n);
        one.wake();
        other.wake();
    }
    until_empty(&outbox, &one);
    let mut heard = Vec::new();
    while heard.len() < 50 {
        heard.push(tail.next(PATIENCE).unwrap().expect("all arrive").payload);
    }
    assert_eq!(tail.next(Duration::from_millis(200)).unwrap(), None, "one came twice");
    heard.sort();
    heard.dedup();
    assert_eq!(heard.len(), 50);
}
