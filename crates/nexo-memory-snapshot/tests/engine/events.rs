//! Lifecycle events: told once their effect is durable, by every path, and none lost by a death or a
//! broker that is down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nexo_memory_snapshot::events::{
    Envelope, EventId, EventPublisher, Fault, LifecycleEvent, Message, MutationEvent,
    RecordingPublisher, Transport, TransportError,
};
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::Engine;
use nexo_memory_snapshot::ports::{Control, DurableFs};
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRef};
use nexo_memory_snapshot::retention::{Policy, RetentionConfig};
use snapshot_testkit::FaultHook;

use crate::support::{Home, ana, named, request};

/// Longer than any delivery takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keeps what arrives; while it is down, nothing does.
#[derive(Default)]
struct Broker {
    arrived: Mutex<Vec<Message>>,
    down: bool,
}

/// A broker that holds what it is sent, and says so, until its end of `held` is dropped.
struct Slow {
    broker: Broker,
    entered: mpsc::Sender<()>,
    held: Mutex<mpsc::Receiver<()>>,
}

/// Looks at the vault when it is told of something.
struct Witness(Engine, Mutex<Vec<String>>);

impl Broker {
    /// What arrived, each event once, in the order of its first arrival.
    fn events(&self) -> Vec<LifecycleEvent> {
        let mut seen: BTreeMap<EventId, Vec<u8>> = BTreeMap::new();
        let mut events = Vec::new();
        for message in self.arrived.lock().unwrap().iter() {
            if let Some(before) = seen.get(&message.event_id) {
                assert_eq!(*before, message.payload, "a repeated delivery differs");
                continue;
            }
            seen.insert(message.event_id, message.payload.clone());
            let envelope: Envelope<LifecycleEvent> =
                serde_json::from_slice(&message.payload).unwrap();
            assert_eq!(envelope.event_id, message.event_id);
            assert_eq!(message.subject, envelope.event.subject_with_prefix("test"));
            events.push(envelope.event);
        }
        events
    }

    fn created(&self) -> Vec<SnapshotId> {
        let id = |event: LifecycleEvent| match event {
            LifecycleEvent::Created(meta) => Some(meta.id),
            _ => None,
        };
        self.events().into_iter().filter_map(id).collect()
    }
}

impl Slow {
    /// One, what it says, and what to drop.
    fn new() -> (Arc<Self>, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((entered, sending), (release, held)) = (mpsc::channel(), mpsc::channel());
        let slow = Self { broker: Broker::default(), entered, held: Mutex::new(held) };
        (Arc::new(slow), sending, release)
    }
}

impl Transport for Broker {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        if self.down {
            let (subject, to) = (message.subject.clone(), "the test".to_owned());
            return Err(TransportError {
                subject,
                to,
                fault: Fault::Unreachable,
                source: "down".into(),
            });
        }
        self.arrived.lock().unwrap().push(message.clone());
        Ok(())
    }
}

impl Transport for Slow {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        let _ = self.entered.send(());
        let _ = self.held.lock().unwrap().recv();
        self.broker.send(message)
    }
}

impl EventPublisher for Witness {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        let listed = |id: &SnapshotId| {
            let listing = self.0.list(&Tenant::default(), Some(&ana())).unwrap();
            listing.snapshots.iter().any(|m| m.id == *id)
        };
        self.1.lock().unwrap().push(match &event.event {
            LifecycleEvent::Created(meta) => format!("created, listed {}", listed(&meta.id)),
            LifecycleEvent::Deleted { snapshot_id, .. } => {
                format!("deleted, listed {}", listed(snapshot_id))
            }
            LifecycleEvent::Restored(report) => format!("restored, dry {}", report.dry_run),
            LifecycleEvent::Gc { .. } => "gc".to_owned(),
        });
    }

    fn publish_mutation(&self, _: &Envelope<MutationEvent>) {}
}

fn restore(engine: &Engine, from: SnapshotRef) {
    let req = RestoreRequest::new(ana(), Tenant::default(), from);
    let control = Control::default();
    engine.plan_restore(&req, &control).unwrap().apply(&control).unwrap();
}

fn delivering(home: &Home, fs: DurableFs, broker: &Arc<impl Transport + 'static>) -> Engine {
    let builder = home.builder().fs(fs).deliver(broker.clone());
    builder.lifecycle_subject_prefix("test").build().unwrap()
}

fn flush(engine: &Engine) {
    let flushed = engine.flush_events(Instant::now() + PATIENCE).unwrap();
    assert_eq!(flushed.left, 0, "{flushed:?}");
}

fn listed(engine: &Engine) -> BTreeSet<SnapshotId> {
    let listing = engine.list(&Tenant::default(), Some(&ana())).unwrap();
    listing.snapshots.into_iter().map(|m| m.id).collect()
}

/// Would catch: a path that tells nothing, or tells before what it tells of is there.
#[test]
fn every_path_tells_once_its_effect_is_there() {
    let home = Home::new();
    let witness = Arc::new(Witness(home.engine(), Mutex::default()));
    let engine = home.builder().events(witness.clone()).build().unwrap();
    let first = engine.snapshot(&request(), &Control::default()).unwrap();
    restore(&engine, SnapshotRef::Id(first.id));
    engine.delete(&Tenant::default(), Some(&ana()), &named("latest")).unwrap();
    let told = witness.1.lock().unwrap().clone();
    let expected = [
        "created, listed true",
        "created, listed true",
        "restored, dry false",
        "deleted, listed false",
    ];
    assert_eq!(told, expected);
}

/// Would catch: events of a plan, of a restore to look at, or of a refused delete.
#[test]
fn what_changes_no_agent_is_no_event() {
    let home = Home::new();
    let recording = Arc::new(RecordingPublisher::default());
    let engine = home.builder().events(recording.clone()).build().unwrap();
    let meta = engine.snapshot(&request(), &Control::default()).unwrap();
    let mut req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(meta.id));
    drop(engine.plan_restore(&req, &Control::default()).unwrap());
    req.target = nexo_memory_snapshot::request::RestoreTarget::Dir(home.path().join("look"));
    engine.plan_restore(&req, &Control::default()).unwrap().apply(&Control::default()).unwrap();
    engine.delete(&Tenant::default(), Some(&ana()), &named("latest")).unwrap_err();
    assert_eq!(recording.lifecycle.lock().len(), 1);
}

/// Would catch: a death that loses an event, or one that leaves an event of a snapshot that never
/// was.
#[test]
fn a_death_at_any_change_of_a_snapshot_or_delete_loses_no_event_and_invents_none() {
    let mut deaths = 0;
    for n in 0.. {
        let home = Home::new();
        let broker = Arc::new(Broker::default());
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = delivering(&home, DurableFs::with_hook(hook.clone()), &broker);
        let mut acknowledged = BTreeSet::new();
        for _ in 0..2 {
            let taken = dying.snapshot(&request(), &Control::default());
            acknowledged.extend(taken.map(|meta| meta.id).ok());
        }
        let _ = dying.delete(&Tenant::default(), Some(&ana()), &named("latest"));
        drop(dying);

        let engine = delivering(&home, DurableFs::default(), &broker);
        let last = engine.snapshot(&request(), &Control::default()).unwrap();
        flush(&engine);
        let events = broker.events();
        let deleted: BTreeSet<SnapshotId> = events
            .iter()
            .filter_map(|event| match event {
                LifecycleEvent::Deleted { snapshot_id, .. } => Some(*snapshot_id),
                _ => None,
            })
            .collect();
        let created = broker.created();
        let unique: BTreeSet<SnapshotId> = created.iter().copied().collect();
        assert_eq!(unique.len(), created.len(), "change {n}: {events:?}");
        assert_eq!(&unique - &deleted, listed(&engine), "change {n}: {events:?}");
        assert!(acknowledged.is_subset(&unique), "change {n}: {events:?}");
        assert_eq!(created.last(), Some(&last.id), "change {n}: order: {events:?}");
        if !hook.fired() {
            assert_eq!((unique.len(), deleted.len()), (3, 1));
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 20, "{deaths} deaths");
}

/// Would catch: a snapshot whose maker died, which is deleted before anybody is told of it, so that nobody ever is.
#[test]
fn a_snapshot_whose_maker_died_is_told_before_its_deletion() {
    for n in 0.. {
        let home = Home::new();
        // The one that is on its way while all of this happens: what waits behind it is not looked at.
        let down = Arc::new(Broker { down: true, ..Broker::default() });
        let engine = delivering(&home, DurableFs::default(), &down);
        let first = engine.snapshot(&request(), &Control::default()).unwrap();
        assert_eq!(engine.flush_events(Instant::now()).unwrap().left, 1);
        drop(engine);
        let dying = DurableFs::with_hook(Arc::new(FaultHook::dying_at(n)));
        let dying = delivering(&home, dying, &down);
        let _ = dying.snapshot(&request(), &Control::default());
        drop(dying);
        let mut made = listed(&home.engine());
        made.remove(&first.id);
        let Some(&second) = made.first() else { continue };

        let (slow, sending, release) = Slow::new();
        let engine = delivering(&home, DurableFs::default(), &slow);
        sending.recv_timeout(PATIENCE).unwrap();
        engine.delete(&Tenant::default(), Some(&ana()), &SnapshotRef::Id(second)).unwrap();
        drop(release);
        flush(&engine);
        assert_eq!(slow.broker.created(), [first.id, second], "died at change {n}");
        break;
    }
}

/// Would catch: a restore that a crash interrupted and a recovery finished, told never or twice.
#[test]
fn a_death_at_any_change_of_a_restore_tells_it_once_if_it_was_done() {
    for n in 0.. {
        let home = Home::new();
        let taken = home.take();
        let store = home.path().join("ana/long_term.sqlite");
        let facts = || -> i64 {
            let conn = rusqlite::Connection::open(&store).unwrap();
            conn.query_row("SELECT count(*) FROM facts", [], |row| row.get(0)).unwrap()
        };
        let poison = "INSERT INTO facts VALUES ('poison')";
        rusqlite::Connection::open(&store).unwrap().execute_batch(poison).unwrap();
        let broker = Arc::new(Broker::default());
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = delivering(&home, DurableFs::with_hook(hook.clone()), &broker);
        let req = RestoreRequest::new(ana(), Tenant::default(), SnapshotRef::Id(taken.id));
        let control = Control::default();
        let _ = dying.plan_restore(&req, &control).and_then(|plan| plan.apply(&control));
        drop(dying);

        let engine = delivering(&home, DurableFs::default(), &broker);
        engine.recover_all(&control).unwrap();
        engine.snapshot(&request(), &control).unwrap();
        flush(&engine);
        let restored = |event: &&LifecycleEvent| matches!(event, LifecycleEvent::Restored(_));
        let events = broker.events();
        let told = events.iter().filter(restored).count();
        assert_eq!(told, usize::from(facts() == 1), "change {n}: {events:?}");
        if !hook.fired() {
            assert_eq!(told, 1);
            break;
        }
    }
}

/// Would catch: a deletion told twice where two runs planned it, and only one did it.
#[test]
fn a_deletion_that_another_did_is_not_told_again() {
    let home = Home::new();
    (0..3).for_each(|_| _ = home.take());
    let broker = Arc::new(Broker::default());
    let engine = delivering(&home, DurableFs::default(), &broker);
    let policies = |_: &Tenant, _: &_| Policy { keep_count: Some(1), ..Policy::default() };
    let config = RetentionConfig { policies: Arc::new(policies), ..RetentionConfig::default() };
    let (worker, control) = (engine.retention_worker(config), Control::default());
    let plan = worker.plan(&Tenant::default(), &ana(), &control).unwrap();
    let mut deleted = 0;
    for _ in 0..2 {
        worker.execute(&Tenant::default(), &ana(), &plan, &mut deleted, &control).unwrap();
    }
    assert_eq!(deleted, 2);
    engine.snapshot(&request(), &control).unwrap();
    flush(&engine);
    let told = |event: &&LifecycleEvent| matches!(event, LifecycleEvent::Deleted { .. });
    assert_eq!(broker.events().iter().filter(told).count(), 2);
}

/// Would catch: events lost or out of order where the broker was down the whole time.
#[test]
fn what_a_broker_missed_arrives_in_order_once_it_is_back() {
    let home = Home::new();
    let down = Arc::new(Broker { down: true, ..Broker::default() });
    let taken: Vec<SnapshotId> = (0..3)
        .map(|_| {
            // As the command line does: a new process each time.
            let engine = delivering(&home, DurableFs::default(), &down);
            let meta = engine.snapshot(&request(), &Control::default()).unwrap();
            assert!(engine.flush_events(Instant::now() + PATIENCE).unwrap().left > 0);
            meta.id
        })
        .collect();
    let broker = Arc::new(Broker::default());
    let engine = delivering(&home, DurableFs::default(), &broker);
    flush(&engine);
    assert_eq!(broker.created(), taken);
    drop(engine);
    let engine = delivering(&home, DurableFs::default(), &broker);
    flush(&engine);
    assert_eq!(broker.arrived.lock().unwrap().len(), 3, "what has arrived is not sent again");
}

/// Would catch: an operation that waits for the network, or for whoever sends over it.
#[test]
fn a_broker_that_never_answers_holds_up_nobody() {
    let home = Home::new();
    let (slow, sending, release) = Slow::new();
    let engine = delivering(&home, DurableFs::default(), &slow);
    let snapshot = || engine.snapshot(&request(), &Control::default()).unwrap();
    snapshot();
    // The first event is on its way from here to the end.
    sending.recv_timeout(PATIENCE).unwrap();
    (0..4).for_each(|_| _ = snapshot());
    restore(&engine, named("latest"));
    engine.delete(&Tenant::default(), Some(&ana()), &named("latest~1")).unwrap();
    let policy = Policy { keep_count: Some(1), origins: [].into(), ..Policy::default() };
    let policies = Arc::new(move |_: &Tenant, _: &_| policy.clone());
    let config = RetentionConfig { policies, ..RetentionConfig::default() };
    let report = engine.retention_worker(config).tick(&Control::default());
    assert_eq!((report.bundles_deleted, report.errors), (4, 0), "{report:?}");
    // Six snapshots, one of them kept by the restore, which is one too; five deletes, one run.
    assert_eq!(engine.events_waiting().unwrap(), 6 + 1 + 5 + 1);
    assert!(sending.try_recv().is_err(), "the first event was never answered");
    drop(release);
    flush(&engine);
}

/// Would catch: an outbox that cannot be written taking the snapshot with it, or failing unheard.
#[test]
fn an_outbox_that_cannot_be_written_costs_no_snapshot() {
    let home = Home::new();
    home.take();
    std::fs::write(home.vault().join("outbox"), b"in the way").unwrap();
    let recording = Arc::new(RecordingPublisher::default());
    let broker = Arc::new(Broker::default());
    let built = home.builder().events(recording.clone()).deliver(broker).build();
    let engine = built.unwrap();
    let meta = engine.snapshot(&request(), &Control::default()).unwrap();
    assert!(listed(&engine).contains(&meta.id));
    assert_eq!(recording.lifecycle.lock().len(), 1);
    let failures = engine.take_event_failures();
    assert!(failures.iter().any(|why| why.contains("outbox")), "{failures:?}");
}
