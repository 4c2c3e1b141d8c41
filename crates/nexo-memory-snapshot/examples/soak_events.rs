//! The soak of `cargo xtask soak events`: snapshots with and without events in turn, while the NATS
//! server that the events go to is killed, restarted and made half-open.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool of developers, whose files are its own"
)]

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use nexo_memory_snapshot::events::nats::{NatsOptions, NatsTransport};
use nexo_memory_snapshot::events::{Envelope, LifecycleEvent};
use nexo_memory_snapshot::id::{AgentId, SnapshotId, Tenant};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder};
use nexo_memory_snapshot::ports::{Control, DefaultPathResolver, DurableFs};
use nexo_memory_snapshot::request::SnapshotRequest;
use parking_lot::Mutex;
use serde_json::{Value, json};
use snapshot_fs::{Hook, Op};
use snapshot_testkit::{Agent, Broker, KitError, Proxy, Random, Seed, Stored, tool};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: soak_events DIR COUNT SEED";
/// A snapshot may be held so long by its event, in microseconds.
const BOUND_US: i64 = 50_000;
/// Longest wait for the delivery of what waits at the end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longest time of one state of the server, in milliseconds.
const LONGEST_MS: usize = 400;

/// How often what happened to the server.
#[derive(Default)]
struct Troubles {
    killed: u64,
    half_open: u64,
}

/// How long snapshots took, in microseconds, in the order of their pairs.
#[derive(Default)]
struct Times {
    with: Vec<i64>,
    without: Vec<i64>,
    /// Of the one with an event: what its thread spent in the outbox.
    held: Vec<i64>,
    /// And on its own files in the vault, which it makes as durable.
    own: Vec<i64>,
}

/// Sees every change of the thread that takes the snapshots, and adds up the times from one change to
/// the next by the folder that the first was in.
struct Watch {
    thread: ThreadId,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    since: Option<(Instant, Place)>,
    held: Duration,
    own: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Outbox,
    Snapshots,
    Elsewhere,
}

impl Watch {
    fn new() -> Self {
        Self { thread: thread::current().id(), spent: Mutex::default() }
    }

    /// What was spent since the last call, in microseconds: in the outbox, on the snapshot's files.
    fn take(&self) -> (i64, i64) {
        let mut spent = std::mem::take(&mut *self.spent.lock());
        spent.pass(None);
        (micros(spent.held), micros(spent.own))
    }
}

impl Spent {
    fn pass(&mut self, place: Option<Place>) {
        if let Some((since, before)) = self.since.take() {
            match before {
                Place::Outbox => self.held += since.elapsed(),
                Place::Snapshots => self.own += since.elapsed(),
                Place::Elsewhere => {}
            }
        }
        self.since = place.map(|place| (Instant::now(), place));
    }
}

impl Hook for Watch {
    fn before(&self, op: &Op<'_>) -> std::io::Result<()> {
        if thread::current().id() == self.thread {
            let within = |name: &str| op.path.iter().any(|part| part == name);
            self.spent.lock().pass(Some(match (within("outbox"), within("snapshots")) {
                (true, _) => Place::Outbox,
                (_, true) => Place::Snapshots,
                _ => Place::Elsewhere,
            }));
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    tool::run(|args| match args {
        [dir, count, seed] => soak(Path::new(dir), count, seed),
        _ => Err(USAGE.into()),
    })
}

/// Prints one JSON document; fails if a snapshot does, or an event is lost, doubled or overtaken.
fn soak(dir: &Path, count: &str, seed: &str) -> Outcome<()> {
    let (count, seed): (u64, u64) = (count.parse()?, seed.parse()?);
    let (server, mut random) = (dir.join("server"), Random::new(seed));
    fs::create_dir_all(&server)?;
    let agent = Agent::create(dir, AgentId::from_static("ana"), &Seed::tiny(1))?;
    let broker = Broker::start(&server, Broker::JETSTREAM)?;
    let mut broker = broker.ok_or("no nats-server; `cargo xtask ci nats-server` installs one")?;
    let stored = Stored::create(broker.url(), "EVENTS", &["nexo.memory.snapshot.>"])?;
    let proxy = Proxy::start(broker.address())?;
    let options = NatsOptions { jetstream: true, ..NatsOptions::new(proxy.url()) };
    let (transport, watch) = (Arc::new(NatsTransport::new(options)?), Arc::new(Watch::new()));
    let watched = builder(&agent, &dir.join("with")).fs(DurableFs::with_hook(watch.clone()));
    let with = watched.deliver(transport).build()?;
    let without = builder(&agent, &dir.join("without")).build()?;

    let ended = AtomicBool::new(false);
    let (taken, troubles) = thread::scope(|scope| {
        let troubling = scope.spawn(|| trouble(&mut broker, &proxy, &mut random, &ended));
        let taken = take(&agent, [&with, &without], &watch, count);
        ended.store(true, Ordering::SeqCst);
        (taken, troubling.join())
    });
    let ((ids, times), troubles) = (taken?, troubles.map_err(|_| "the trouble-maker died")??);
    proxy.set_deaf(false);
    broker.restart()?;
    let waited = Instant::now();
    while with.events_waiting()? > 0 && waited.elapsed() < PATIENCE {
        let _ = with.flush_events(waited + PATIENCE);
    }
    let failures = with.take_event_failures();
    let (events, sound) = judge(&stored, &ids)?;
    let report = json!({
        "snapshots": count, "failed": 0, "seed": seed, "events": events, "not_kept": failures,
        "server": { "killed": troubles.killed, "half_open": troubles.half_open },
        "ms": times.report(),
    });
    println!("{report}");
    if sound && failures.is_empty() { Ok(()) } else { Err("events are wrong".into()) }
}

fn builder(agent: &Agent, vault: &Path) -> EngineBuilder {
    let (memdir_root, sqlite_root) = (agent.memdir_root(), agent.sqlite_root());
    let layouts = Arc::new(DefaultPathResolver { memdir_root, sqlite_root });
    Engine::builder().root(vault).layouts(layouts)
}

/// `count` pairs of snapshots, now the one first and now the other.
fn take(
    agent: &Agent,
    [with, without]: [&Engine; 2],
    watch: &Watch,
    count: u64,
) -> Result<(Vec<SnapshotId>, Times), String> {
    let timed = |engine: &Engine| {
        let request = SnapshotRequest::cli(agent.id().clone(), Tenant::default());
        let began = Instant::now();
        let meta = engine.snapshot(&request, &Control::default());
        let (spent, took) = (watch.take(), micros(began.elapsed()));
        meta.map(|meta| (meta.id, took, spent)).map_err(|e| format!("a snapshot failed: {e}"))
    };
    // The folders of the vaults are made, and the libraries warm, before anything counts.
    let (mut ids, mut times) = (vec![timed(with)?.0], Times::default());
    timed(without)?;
    for n in 0..count {
        let ((id, took, (held, own)), plain) = match n % 2 {
            0 => (timed(with)?, timed(without)?.1),
            _ => {
                let plain = timed(without)?.1;
                (timed(with)?, plain)
            }
        };
        ids.push(id);
        times.with.push(took);
        times.without.push(plain);
        times.held.push(held);
        times.own.push(own);
        if n % 100 == 99 {
            eprintln!("{} of {count} pairs", n + 1);
        }
    }
    Ok((ids, times))
}

/// Kills the server, starts it again, makes the way to it half-open, and leaves it in peace for a
/// while, each at random.
fn trouble(
    broker: &mut Broker,
    proxy: &Proxy,
    random: &mut Random,
    ended: &AtomicBool,
) -> Result<Troubles, KitError> {
    let mut troubles = Troubles::default();
    while !ended.load(Ordering::SeqCst) {
        let choice = random.below(3);
        match choice {
            0 => {
                broker.kill();
                troubles.killed += 1;
            }
            1 => {
                proxy.set_deaf(true);
                troubles.half_open += 1;
            }
            _ => {}
        }
        thread::sleep(Duration::from_millis(random.below(LONGEST_MS) as u64));
        match choice {
            0 => broker.restart()?,
            1 => proxy.set_deaf(false),
            _ => {}
        }
    }
    Ok(troubles)
}

/// What became of the events of these snapshots, and whether that is as promised.
fn judge(stored: &Stored, taken: &[SnapshotId]) -> Outcome<(Value, bool)> {
    let mut arrived = Vec::new();
    for message in stored.messages()? {
        let told: Envelope<LifecycleEvent> = serde_json::from_slice(&message.payload)?;
        let LifecycleEvent::Created(meta) = told.event else {
            return Err(format!("an event of nothing that was done: {}", message.subject).into());
        };
        arrived.push(meta.id);
    }
    let unique: BTreeSet<&SnapshotId> = arrived.iter().collect();
    let lost = taken.iter().filter(|id| !unique.contains(id)).count();
    let doubled = arrived.len() - unique.len();
    let place = |id: &SnapshotId| taken.iter().position(|taken| taken == id);
    let overtaken = arrived.windows(2).filter(|two| place(&two[0]) > place(&two[1])).count();
    let invented = arrived.iter().filter(|id| place(id).is_none()).count();
    let counts = json!({
        "arrived": arrived.len(), "lost": lost, "doubled": doubled, "overtaken": overtaken,
        "invented": invented,
    });
    Ok((counts, lost + doubled + overtaken + invented == 0))
}

impl Times {
    /// Longer is the difference within a pair, in which all that the machine does beside falls on
    /// either side; held is the event's own share, and own says what syncs cost meanwhile.
    fn report(&self) -> Value {
        let pairs = self.with.iter().zip(&self.without);
        let longer: Vec<i64> = pairs.map(|(with, without)| with - without).collect();
        let count = |over: &dyn Fn(i64) -> bool| longer.iter().filter(|us| over(**us)).count();
        json!({
            "with_events": quantiles(&self.with), "without": quantiles(&self.without),
            "longer": quantiles(&longer), "longer_by_50": count(&|us| us > BOUND_US),
            "shorter_by_50": count(&|us| us < -BOUND_US), "held": quantiles(&self.held),
            "held_over_50": self.held.iter().filter(|us| **us > BOUND_US).count(),
            "own_files": quantiles(&self.own),
            "own_files_over_50": self.own.iter().filter(|us| **us > BOUND_US).count(),
        })
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// By nearest rank, in milliseconds.
fn quantiles(us: &[i64]) -> Value {
    let mut sorted = us.to_vec();
    sorted.sort_unstable();
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).map(|us| *us as f64 / 1e3)
    };
    json!({ "p50": at(50), "p99": at(99), "max": at(100) })
}
