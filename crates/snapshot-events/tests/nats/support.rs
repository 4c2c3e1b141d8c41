//! A server with a folder, and events to send to it.

use std::path::Path;
use std::time::{Duration, Instant};

use snapshot_core::{AgentId, SnapshotId, Tenant};
use snapshot_events::nats::{NatsOptions, NatsTail, Received};
use snapshot_events::{Envelope, EventId, LifecycleEvent, Message};
use snapshot_testkit::{Broker, Stored};

/// Longer than anything takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server and its folder.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) dir: tempfile::TempDir,
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

    /// A stream of everything below `test`.
    pub(crate) fn store(&self, name: &str) -> Stored {
        Stored::create(self.broker.url(), name, &["test.>"]).unwrap()
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
