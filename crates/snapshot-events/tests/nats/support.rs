//! A server with a folder, and events to send to it.

use std::path::Path;
use std::time::{Duration, Instant};

use snapshot_core::{AgentId, SnapshotId, Tenant};
use snapshot_events::nats::{NatsOptions, NatsTail, Received};
use snapshot_events::{Envelope, EventId, LifecycleEvent, Message};
use snapshot_testkit::Broker;

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A configuration with JetStream, of which an acknowledgement outlives the server.
pub(crate) const JETSTREAM: &str =
    "jetstream { store_dir: \"./jetstream\", sync_interval: always }";

/// A server and its folder.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) dir: tempfile::TempDir,
}

/// A stream of everything below `test`.
pub(crate) struct Stored {
    url: String,
    name: String,
}

impl Stored {
    pub(crate) fn create(server: &Server, name: &str) -> Self {
        let stored = Self { url: server.broker.url(), name: name.to_owned() };
        let config = async_nats::jetstream::stream::Config {
            name: name.to_owned(),
            subjects: vec!["test.>".to_owned()],
            ..Default::default()
        };
        stored.ask(async |context| context.create_stream(config).await.unwrap());
        stored
    }

    /// Everything stored, in the order of its arrival.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        self.ask(async |context| {
            let stream = context.get_stream(&self.name).await.unwrap();
            let last = stream.get_info().await.unwrap().state.last_sequence;
            let mut payloads = Vec::new();
            for sequence in 1..=last {
                let message = stream.get_raw_message(sequence).await.unwrap();
                payloads.push(message.payload.to_vec());
            }
            payloads
        })
    }

    /// Over a connection of its own: the server may have been another one since the last.
    fn ask<T>(&self, question: impl AsyncFnOnce(async_nats::jetstream::Context) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(&self.url).await.unwrap();
            question(async_nats::jetstream::new(client)).await
        })
    }
}

impl Server {
    /// None, said aloud, where there is no server to start; in CI that is a failure.
    pub(crate) fn start(config: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, config)
    }

    pub(crate) fn start_in(dir: tempfile::TempDir, config: &str) -> Option<Self> {
        let Some(broker) = Broker::start(dir.path(), config).unwrap() else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no nats-server: `cargo xtask ci nats-server`"
            );
            println!("NOT RUN: no nats-server; `cargo xtask ci nats-server` installs one");
            return None;
        };
        Some(Self { broker, dir })
    }

    pub(crate) fn options(&self) -> NatsOptions {
        NatsOptions::new(self.broker.url())
    }

    pub(crate) fn tail(&self, subject: &str) -> NatsTail {
        NatsTail::subscribe(self.options(), vec![subject.to_owned()]).unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Event number `n` of an agent.
pub(crate) fn message(agent: &str, n: u8) -> Message {
    let mut bytes = [n; 16];
    bytes[0] = agent.as_bytes()[0];
    let id = SnapshotId::from_random_bytes(bytes);
    let envelope = Envelope {
        event_id: EventId::from(id),
        event: LifecycleEvent::Deleted {
            agent_id: agent.parse::<AgentId>().unwrap(),
            tenant: Tenant::default(),
            snapshot_id: id,
            ts_ms: i64::from(n),
        },
    };
    envelope.to_message("test").unwrap()
}

/// The next message that arrives.
pub(crate) fn next(tail: &NatsTail) -> Received {
    tail.next(PATIENCE).unwrap().expect("a message")
}

/// Repeats until it succeeds.
pub(crate) fn eventually<T, E: std::fmt::Debug>(mut work: impl FnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match work() {
            Ok(done) => return done,
            Err(e) => assert!(Instant::now() < until, "{e:?}"),
        }
    }
}
