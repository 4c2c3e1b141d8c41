//! Engines in front of a real NATS server that comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nexo_memory_snapshot::events::nats::{NatsOptions, NatsTransport};
use nexo_memory_snapshot::events::{Envelope, EventId, LifecycleEvent, RecordingPublisher};
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, IdSource};
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRef, SnapshotRequest};
use nexo_memory_snapshot::retention::{Policy, RetentionConfig};
use snapshot_testkit::{Broker, Proxy, SeqIds, Stored};

use crate::support::{Home, named};

/// Longer than any delivery takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whose memories a daemon looks after.
const AGENTS: [&str; 2] = ["ana", "bob"];
/// Label of the snapshots that are restored.
const ANCHOR: &str = "anchor";

/// One event, as a subscriber knows it.
type Told = Envelope<LifecycleEvent>;

/// A vault, its daemons, and what was told in their processes: the truth to compare with.
struct House {
    prefix: &'static str,
    home: Home,
    told: Arc<RecordingPublisher>,
    daemons: Vec<Engine>,
}

impl House {
    fn new(prefix: &'static str) -> Self {
        let home = Home::new();
        home.add_agent("bob");
        Self { prefix, home, told: Arc::default(), daemons: Vec::new() }
    }

    /// Another daemon on this vault, whose way to the server is `url`.
    fn add_daemon(&mut self, url: &str, ids: &Arc<SeqIds>) {
        let bound = Duration::from_millis(300);
        let options = NatsOptions { bound, jetstream: true, ..NatsOptions::new(url) };
        let builder = self.home.builder().lifecycle_subject_prefix(self.prefix);
        let builder = builder.ids(ids.clone() as Arc<dyn IdSource>).events(self.told.clone());
        let transport = Arc::new(NatsTransport::new(options).unwrap());
        self.daemons.push(builder.deliver(transport).build().unwrap());
    }

    fn listed(&self) -> BTreeSet<SnapshotId> {
        let listing = self.daemons[0].list(&Tenant::default(), None).unwrap();
        assert!(listing.problems.is_empty(), "{:?}", listing.problems);
        listing.snapshots.into_iter().map(|m| m.id).collect()
    }
}

/// The server, or none, said aloud, where there is no program; in CI that is a failure.
fn server(dir: &Path) -> Option<Broker> {
    let broker = Broker::start(dir, Broker::JETSTREAM).unwrap();
    if broker.is_none() {
        let how = "no nats-server; `cargo xtask ci nats-server` installs one";
        assert!(std::env::var_os("CI").is_none(), "{how}");
        println!("NOT RUN: {how}");
    }
    broker
}

/// A snapshot of each agent that nobody can delete, for every day's restores.
fn anchor(engine: &Engine) {
    let tenant = Tenant::default();
    for agent in AGENTS {
        let agent: AgentId = agent.parse().unwrap();
        let mut request = SnapshotRequest::cli(agent.clone(), tenant.clone());
        request.label = Some(ANCHOR.to_owned());
        let taken = engine.snapshot(&request, &Control::default()).unwrap();
        engine.pin(&tenant, Some(&agent), &SnapshotRef::Id(taken.id), "to be restored").unwrap();
    }
}

/// What a daemon does all day, with each of its agents. Snapshots and restores always succeed; a
/// delete may find that the other daemon of the vault was faster.
fn day(engine: &Engine) {
    let (tenant, control) = (Tenant::default(), Control::default());
    for agent in AGENTS {
        let agent: AgentId = agent.parse().unwrap();
        let request = SnapshotRequest::cli(agent.clone(), tenant.clone());
        engine.snapshot(&request, &control).unwrap();
        let anchor = SnapshotRef::Label(ANCHOR.to_owned());
        let request = RestoreRequest::new(agent.clone(), tenant.clone(), anchor);
        engine.plan_restore(&request, &control).unwrap().apply(&control).unwrap();
        engine.snapshot(&SnapshotRequest::cli(agent.clone(), tenant.clone()), &control).unwrap();
        let _ = engine.delete(&tenant, Some(&agent), &named("latest~1"));
    }
    let policies = Arc::new(|_: &Tenant, _: &AgentId| Policy {
        keep_count: Some(2),
        origins: [].into(),
        ..Policy::default()
    });
    let config = RetentionConfig { policies, ..RetentionConfig::default() };
    let _ = engine.retention_worker(config).tick(&control);
}

/// A day of all daemons at once; `meanwhile` happens to the server.
fn a_day(houses: &[House], meanwhile: impl FnOnce()) {
    thread::scope(|scope| {
        for daemon in houses.iter().flat_map(|house| &house.daemons) {
            scope.spawn(|| day(daemon));
        }
        meanwhile();
    });
}

/// Waits until nothing waits.
fn deliver_all(houses: &[House]) {
    let until = Instant::now() + PATIENCE;
    for daemon in houses.iter().flat_map(|house| &house.daemons) {
        while daemon.events_waiting().unwrap() > 0 {
            let flushed = daemon.flush_events(until);
            assert!(Instant::now() < until, "{flushed:?}");
        }
    }
}

/// The events by the agent that they are of; those of no single agent under the empty name.
fn by_agent(events: impl IntoIterator<Item = Told>) -> BTreeMap<String, Vec<Told>> {
    let mut sorted: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for told in events {
        let agent = match &told.event {
            LifecycleEvent::Created(meta) => meta.agent_id.to_string(),
            LifecycleEvent::Restored(report) => report.agent_id.to_string(),
            LifecycleEvent::Deleted { agent_id, .. } => agent_id.to_string(),
            LifecycleEvent::Gc { .. } => String::new(),
        };
        sorted.entry(agent).or_default().push(told);
    }
    sorted
}

/// Would catch: a snapshot, restore, delete or run that a server's absence fails; an event of one
/// lost, stored twice, overtaken, or under the prefix of another daemon; one that the vault knows
/// nothing of.
#[test]
fn daemons_lose_no_event_whatever_happens_to_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut broker) = server(dir.path()) else { return };
    let stored = Stored::create(broker.url(), "EVENTS", &["house.>"]).unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    // Ids of one source: two daemons never draw the same.
    let ids = Arc::new(SeqIds::default());
    let mut houses = [House::new("house.one"), House::new("house.two"), House::new("house.both")];
    broker.kill();
    for house in &mut houses {
        house.add_daemon(&proxy.url(), &ids);
    }
    // The last two share a vault, and one of them has a way of its own to the server.
    houses[2].add_daemon(&broker.url(), &ids);
    houses.iter().for_each(|house| anchor(&house.daemons[0]));

    a_day(&houses, || {});
    let waiting: u64 = houses.iter().map(|h| h.daemons[0].events_waiting().unwrap()).sum();
    assert!(waiting > 0 && stored.messages().is_err(), "nobody could take them");
    broker.restart().unwrap();
    a_day(&houses, || broker.restart().unwrap());
    a_day(&houses, || proxy.set_deaf(true));
    proxy.set_deaf(false);
    a_day(&houses, || {});
    deliver_all(&houses);

    let mut seen: BTreeSet<EventId> = BTreeSet::new();
    let mut arrived: BTreeMap<&str, Vec<Told>> = BTreeMap::new();
    for message in stored.messages().unwrap() {
        let told: Told = serde_json::from_slice(&message.payload).unwrap();
        assert!(seen.insert(told.event_id), "stored twice: {told:?}");
        let house = houses.iter().find(|house| message.subject.starts_with(house.prefix)).unwrap();
        assert_eq!(message.subject, told.event.subject_with_prefix(house.prefix));
        arrived.entry(house.prefix).or_default().push(told);
    }
    for house in &houses {
        let arrived = by_agent(arrived.remove(house.prefix).unwrap_or_default());
        let mut told = by_agent(house.told.lifecycle.lock().clone());
        let mut runs = told.remove("").unwrap();
        let mut arrived_agents = arrived.clone();
        let mut arrived_runs = arrived_agents.remove("").unwrap();
        assert_eq!(arrived_agents, told, "{}", house.prefix);
        // Runs of two daemons are no agent's: they are told under no common lock.
        for runs in [&mut runs, &mut arrived_runs] {
            runs.sort_by_key(|told| told.event_id);
        }
        assert_eq!(arrived_runs, runs, "{}", house.prefix);
        let mut there = BTreeSet::new();
        for told in arrived_agents.into_values().flatten() {
            match told.event {
                LifecycleEvent::Created(meta) => assert!(there.insert(meta.id)),
                LifecycleEvent::Deleted { snapshot_id, .. } => assert!(there.remove(&snapshot_id)),
                LifecycleEvent::Restored(_) | LifecycleEvent::Gc { .. } => {}
            }
        }
        assert_eq!(there, house.listed(), "{}", house.prefix);
    }
}
