//! What is counted, and what a scrape says of the vault.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::events::{
    Fault, Message, QueueOptions, QueuedPublisher, Transport, TransportError,
};
use nexo_memory_snapshot::id::{AgentId, Tenant};
use nexo_memory_snapshot::local_fs::{Engine, EngineBuilder, RecoveryOutcome, StatusFinding};
use nexo_memory_snapshot::metrics::{MAX_AGENTS, Metrics};
use nexo_memory_snapshot::ports::{Clock, Control, DurableFs};
use nexo_memory_snapshot::request::{RestoreRequest, SnapshotRequest};
use nexo_memory_snapshot::retention::{Policy, RetentionConfig};

use snapshot_testkit::FaultHook;

use crate::support::{CancelAt, Home, State, ana, flip, named, request};

/// A time in the life of these agents.
const NOW_MS: i64 = 1_700_000_000_000;

/// Takes everything.
struct Nowhere;

/// Takes nothing.
struct Down;

/// A clock that stands.
struct At(i64);

impl Clock for At {
    fn now_ms(&self) -> i64 {
        self.0
    }
}

impl Transport for Nowhere {
    fn send(&self, _: &Message) -> Result<(), TransportError> {
        Ok(())
    }
}

impl Transport for Down {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        let (subject, to) = (message.subject.clone(), "nobody".to_owned());
        Err(TransportError { subject, to, fault: Fault::Unreachable, source: "down".into() })
    }
}

/// The number of a series, by its name and labels as the text has them.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut found = text.lines().filter_map(|line| line.rsplit_once(' '));
    found.find(|(name, _)| *name == series).map(|(_, value)| value.parse().unwrap())
}

fn age(text: &str, tenant: &str, agent: &str) -> Option<f64> {
    let name = "nexo_memory_snapshot_last_good_age_seconds";
    value(text, &format!("{name}{{tenant=\"{tenant}\",agent=\"{agent}\"}}"))
}

fn count(text: &str, operation: &str, outcome: &str) -> f64 {
    value(text, &format!("nexo_memory_snapshot{operation}_total{{outcome=\"{outcome}\"}}")).unwrap()
}

fn finding(text: &str, word: &str) -> f64 {
    value(text, &format!("nexo_memory_snapshot_findings{{finding=\"{word}\"}}")).unwrap()
}

/// The folder of an agent that has none of the snapshots in it.
fn add_empty(home: &Home, agent: &str) {
    fs::create_dir_all(home.vault().join("tenants/default/snapshots").join(agent)).unwrap();
}

fn at(home: &Home, ms: i64) -> EngineBuilder {
    home.builder().clock(Arc::new(At(ms)))
}

/// A retention run; how much of it failed.
fn prune(engine: &Engine, keep: u32) -> u64 {
    let policy = Policy { keep_count: Some(keep), ..Policy::default() };
    let policies = Arc::new(move |_: &Tenant, _: &_| policy.clone());
    let config = RetentionConfig { policies, ..RetentionConfig::default() };
    engine.retention_worker(config).tick(&Control::default()).errors
}

/// Some of everything: what the golden text and the documentation are compared with. The engine is
/// another one that shares the metrics, an hour later.
fn history(home: &Home) -> (Engine, Arc<QueuedPublisher>) {
    let engine = at(home, NOW_MS).build().unwrap();
    let queue = Arc::new(QueuedPublisher::new(Arc::new(Nowhere), QueueOptions::default()).unwrap());
    engine.metrics().watch_queue("events", &queue);
    let control = Control::default();
    let taken: Vec<_> = (0..3).map(|_| engine.snapshot(&request(), &control).unwrap()).collect();
    let mut bad = request();
    bad.label = Some(String::new());
    assert_eq!(engine.snapshot(&bad, &control).unwrap_err().kind(), ErrorKind::Usage);
    let nobody = SnapshotRequest::cli(AgentId::from_static("nobody"), Tenant::default());
    assert_eq!(engine.snapshot(&nobody, &control).unwrap_err().kind(), ErrorKind::UnknownAgent);
    assert!(engine.verify(&taken[2], &control).unwrap().is_good());
    flip(&taken[0].bundle_path);
    assert!(!engine.verify(&taken[0], &control).unwrap().is_good());
    let restore = |from| RestoreRequest::new(ana(), Tenant::default(), named(from));
    engine.plan_restore(&restore("latest"), &control).unwrap().apply(&control).unwrap();
    let refused = engine.plan_restore(&restore("@nothing"), &control).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownSnapshot);
    assert_eq!(prune(&engine, 2), 0);
    let later = at(home, NOW_MS + 3_600_000).metrics(engine.metrics().clone());
    (later.build().unwrap(), queue)
}

/// Would catch: a metric renamed, retyped, labelled otherwise or gone; a pre-restore snapshot that
/// is not counted; damage counted as a good verification.
#[test]
fn the_text_after_a_known_history() {
    let home = Home::new();
    let (engine, _queue) = history(&home);
    let mut settings = insta::Settings::clone_current();
    // Times and sizes are the machine's and the libraries'; what was counted is ours.
    settings.add_filter(r"(?m)^(\S+_seconds_sum\S*) \S+$", "$1 [seconds]");
    settings.add_filter(r#"(?m)^(\S+_seconds_bucket\S*le="[0-9.e-]+"\}) \d+$"#, "$1 [count]");
    settings.add_filter(r"(?m)^(nexo_memory_snapshot_bytes_total) [1-9]\d*$", "$1 [bytes]");
    settings.bind(|| insta::assert_snapshot!("prometheus", engine.prometheus()));
}

/// Would catch: a metric that operators cannot look up, or documentation of one that is not there.
#[test]
fn the_documentation_names_what_there_is() {
    let home = Home::new();
    let (engine, _queue) = history(&home);
    let text = engine.prometheus();
    let rendered: BTreeSet<(&str, &str)> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let documented: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `nexo_memory_snapshot").map(|_| line))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            (cells.next().unwrap().trim_matches('`'), cells.next().unwrap())
        })
        .collect();
    assert_eq!(documented, rendered);
    for words in ErrorKind::ALL.iter().map(|kind| kind.as_str()).chain(["ok"]) {
        assert!(page.contains(&format!("`{words}`")), "the outcome {words} is not documented");
    }
}

/// Would catch: agents that come and go, and leave a monitor more series for each.
#[test]
fn no_stream_of_agents_grows_the_series() {
    let home = Home::new();
    let engine = home.engine();
    home.take();
    let (mut ever, snapshots) = (BTreeSet::new(), home.vault().join("tenants/default/snapshots"));
    for round in 0..4 {
        let agents: Vec<String> = (0..200).map(|n| format!("a{round}-{n}")).collect();
        agents.iter().for_each(|agent| add_empty(&home, agent));
        let text = engine.prometheus();
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        ever.extend(lines.map(|(series, _)| series.to_owned()).filter(|s| s.contains("agent=")));
        assert!(age(&text, "default", "ana").unwrap().is_finite());
        assert_eq!(value(&text, "nexo_memory_snapshot_agents"), Some(201.0));
        agents.iter().for_each(|agent| fs::remove_dir(snapshots.join(agent)).unwrap());
    }
    assert_eq!(ever.len(), MAX_AGENTS + 1);
}

/// Would catch: an agent past the bound that is old, or has nothing, and raises no alarm.
#[test]
fn the_rest_is_as_old_as_its_oldest() {
    let home = Home::new();
    let metrics = Metrics::default();
    (0..MAX_AGENTS).for_each(|n| add_empty(&home, &format!("a{n}")));
    let scrape = || at(&home, NOW_MS).metrics(metrics.clone()).build().unwrap().prometheus();
    assert_eq!(age(&scrape(), "*", "*"), None);
    for (agent, seconds) in [("older", 500), ("newer", 300)] {
        home.add_agent(agent);
        let request = SnapshotRequest::cli(AgentId::from_static(agent), Tenant::default());
        let engine = at(&home, NOW_MS - seconds * 1000).build().unwrap();
        engine.snapshot(&request, &Control::default()).unwrap();
    }
    assert_eq!(age(&scrape(), "default", "newer"), None);
    assert_eq!(age(&scrape(), "*", "*"), Some(500.0));
    add_empty(&home, "nothing");
    assert_eq!(age(&scrape(), "*", "*"), Some(f64::INFINITY));
}

/// Would catch: a scrape that reads bundles, so that a thousand agents cannot be watched; findings
/// of `status` that the metrics know nothing of.
#[test]
fn a_scrape_reads_what_status_reads() {
    let home = Home::new();
    let engine = home.engine();
    let meta = home.take();
    add_empty(&home, "bob");
    // Of the same size, and nobody can read it as a bundle.
    fs::write(&meta.bundle_path, vec![0; meta.bundle_size_bytes.try_into().unwrap()]).unwrap();
    let words = |engine: &Engine| {
        let status = engine.status(&Tenant::default(), None).unwrap();
        let found = status.iter().flat_map(|status| status.findings(None));
        found.map(|finding| finding.as_str()).collect::<Vec<_>>()
    };
    let text = engine.prometheus();
    assert!(age(&text, "default", "ana").unwrap().is_finite());
    assert_eq!(words(&engine), ["no_good"]);
    assert_eq!((finding(&text, "no_good"), finding(&text, "problem")), (1.0, 0.0));

    assert!(!engine.verify(&meta, &Control::default()).unwrap().is_good());
    let text = engine.prometheus();
    assert_eq!(age(&text, "default", "ana"), Some(f64::INFINITY));
    assert_eq!(words(&engine), ["no_good", "problem", "no_good"]);
    assert_eq!((finding(&text, "no_good"), finding(&text, "problem")), (2.0, 1.0));
}

/// Would catch: an age that only the command line holds against its limit, or that is not held
/// against one at all.
#[test]
fn what_is_too_old_is_a_finding() {
    let home = Home::new();
    at(&home, NOW_MS).build().unwrap().snapshot(&request(), &Control::default()).unwrap();
    let status = at(&home, NOW_MS + 1001).build().unwrap().status(&Tenant::default(), None);
    let status = &status.unwrap()[0];
    let second = std::time::Duration::from_secs(1);
    assert_eq!(status.findings(Some(second)), [StatusFinding::TooOld]);
    assert_eq!(status.findings(Some(2 * second)), []);
    assert_eq!(status.findings(None), []);
}

/// Would catch: a vault that nobody can read, and no alarm; one agent's folder that hides the rest;
/// a crafted time that ends the scrape.
#[test]
fn what_cannot_be_read_is_told_and_hides_nothing() {
    let home = Home::new();
    let engine = home.engine();
    let meta = home.take();
    home.add_agent("bob");
    let bob = AgentId::from_static("bob");
    let request = SnapshotRequest::cli(bob.clone(), Tenant::default());
    engine.snapshot(&request, &Control::default()).unwrap();
    let tenants = home.vault().join("tenants");
    let restore = tenants.join("default/restore/bob");
    fs::create_dir_all(&restore).unwrap();
    fs::write(restore.join("journal.json"), b"{").unwrap();
    let text = engine.prometheus();
    assert!(age(&text, "default", "ana").unwrap().is_finite());
    assert_eq!(age(&text, "default", "bob"), Some(f64::INFINITY));
    assert_eq!((finding(&text, "problem"), finding(&text, "unreadable")), (1.0, 0.0));
    assert_eq!(engine.status(&Tenant::default(), Some(&bob)).unwrap()[0].findings(None).len(), 2);

    let sidecar = meta.bundle_path.with_file_name(format!("{}.manifest.json", meta.id));
    let crafted = fs::read_to_string(&sidecar).unwrap();
    let crafted = crafted.replace(&meta.created_at_ms.to_string(), &i64::MIN.to_string());
    fs::write(&sidecar, crafted).unwrap();
    assert!(age(&engine.prometheus(), "default", "ana").unwrap() > 9e15);

    fs::rename(&tenants, home.vault().join("gone")).unwrap();
    fs::write(&tenants, b"no folder").unwrap();
    let text = engine.prometheus();
    assert_eq!(count(&text, "", "ok"), 1.0, "bob's, by this engine");
    assert_eq!(finding(&text, "unreadable"), 1.0);
    assert_eq!(age(&text, "*", "*"), Some(f64::INFINITY));
    assert_eq!(prune(&engine, 3), 1);
    assert_eq!(count(&engine.prometheus(), "_prune", "io"), 1.0);
}

/// Would catch: a defect, or a caller who gave up, that no counter shows; writers or durations of
/// what failed among those of what did not.
#[test]
fn a_panic_and_a_cancel_are_outcomes() {
    let home = Home::new();
    let state = Arc::new(State(|| panic!("a defect of the host")));
    let engine = home.builder().state_provider(state).build().unwrap();
    let panics = || engine.snapshot(&request(), &Control::default());
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    let text = engine.prometheus();
    assert_eq!((count(&text, "", "internal"), count(&text, "", "ok")), (1.0, 0.0));

    let engine = home.engine();
    let (_, control) = CancelAt::control(0);
    assert_eq!(engine.snapshot(&request(), &control).unwrap_err().kind(), ErrorKind::Interrupted);
    let text = engine.prometheus();
    assert_eq!((count(&text, "", "interrupted"), count(&text, "", "ok")), (1.0, 0.0));
    for times in ["duration", "writers_held"] {
        let series =
            format!("nexo_memory_snapshot_{times}_seconds_count{{operation=\"snapshot\"}}");
        assert_eq!(value(&text, &series), Some(0.0), "{times}");
    }
}

/// Would catch: a queue that is kept alive by being watched, numbers of one queue shown as another's,
/// an outbox nobody sees growing; a vault counted twice because two engines are on it.
#[test]
fn queues_and_the_outbox_are_shown() {
    let home = Home::new();
    let metrics = Metrics::default();
    let queue = |options| Arc::new(QueuedPublisher::new(Arc::new(Nowhere), options).unwrap());
    let (first, second) = (queue(QueueOptions::default()), queue(QueueOptions::default()));
    metrics.watch_queue("first", &first);
    metrics.watch_queue("second", &second);
    let build = || home.builder().metrics(metrics.clone());
    let engine = build().events(second.clone()).deliver(Arc::new(Down)).build().unwrap();
    engine.snapshot(&request(), &Control::default()).unwrap();
    assert!(second.flush(std::time::Instant::now() + std::time::Duration::from_secs(60)));
    let text = metrics.prometheus(&[engine.clone(), build().build().unwrap()]);
    let sent = |text: &str, queue: &str| {
        value(text, &format!("nexo_memory_snapshot_queue_sent_total{{queue=\"{queue}\"}}"))
    };
    assert_eq!((sent(&text, "first"), sent(&text, "second")), (Some(0.0), Some(1.0)));
    assert_eq!(value(&text, "nexo_memory_snapshot_outbox_waiting"), Some(1.0));
    assert_eq!(value(&text, "nexo_memory_snapshot_agents"), Some(1.0));
    assert_eq!(value(&text, "nexo_memory_snapshot_outbox_failures_total"), Some(0.0));
    drop(first);
    assert_eq!(sent(&engine.prometheus(), "first"), None);
}

/// Would catch: an outbox that keeps nothing, of which only a log knows.
#[test]
fn an_outbox_that_cannot_be_written_is_counted() {
    let home = Home::new();
    home.take();
    fs::write(home.vault().join("outbox"), b"no folder").unwrap();
    let engine = home.builder().deliver(Arc::new(Nowhere)).build().unwrap();
    engine.snapshot(&request(), &Control::default()).unwrap();
    let text = engine.prometheus();
    let failures = value(&text, "nexo_memory_snapshot_outbox_failures_total").unwrap();
    assert_eq!(failures, engine.take_event_failures().len() as f64);
    assert_eq!(finding(&text, "unreadable"), 1.0);
    assert!(failures > 0.0);
}

/// Would catch: a restore that a crash cut short and a recovery finished, and no counter knows of;
/// recoveries with nothing to do, counted.
#[test]
fn a_recovery_that_finishes_a_restore_counts_as_one() {
    for n in 0.. {
        let home = Home::new();
        home.take();
        let hook = Arc::new(FaultHook::dying_at(n));
        let dying = home.builder().fs(DurableFs::with_hook(hook.clone())).build().unwrap();
        let req = RestoreRequest::new(ana(), Tenant::default(), named("latest"));
        let planned = dying.plan_restore(&req, &Control::default()).unwrap();
        let _ = planned.apply(&Control::default());
        assert!(hook.fired(), "no restore was ever cut short after its journal was written");
        let engine = home.engine();
        let recovery = engine.recover(&Tenant::default(), &ana(), None, &Control::default());
        let finished = matches!(recovery.unwrap().outcome, RecoveryOutcome::RolledForward { .. });
        assert_eq!(count(&engine.prometheus(), "_restore", "ok"), f64::from(u8::from(finished)));
        if finished {
            break;
        }
    }
}
