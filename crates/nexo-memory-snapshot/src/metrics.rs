//! What the engine counts and times, as Prometheus text. `docs/metrics.md` names every metric.
//!
//! Invariants: no stream of requests or agents grows the set of series past a bound known here.
//! Labels are words of ours, fixed when a [`Metrics`] is made; agents have a series by name up to
//! [`MAX_AGENTS`], queues are named in the host's code. Counting takes no lock; timing takes one for
//! as long as an addition.
//!
//! ```
//! use nexo_memory_snapshot::local_fs::Engine;
//! use nexo_memory_snapshot::metrics::CONTENT_TYPE;
//!
//! # let dir = tempfile::tempdir()?;
//! # let root = dir.path();
//! let engine = Engine::builder().root(root).build()?;
//! // In the handler of `/metrics`, on a thread that may block: the header, and the body.
//! let mount = move || (CONTENT_TYPE, engine.prometheus());
//! assert!(mount().1.contains("nexo_memory_snapshot_total{outcome=\"ok\"} 0\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod scrape;
mod series;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use snapshot_core::{AgentId, ErrorKind, Tenant};
use snapshot_events::QueuedPublisher;
use tracing::Span;

pub(crate) use scrape::Facts;

use crate::engine::Engine;
use crate::error::SnapshotError;
use series::Series;

/// Agents that have a series by name; the rest share one.
pub const MAX_AGENTS: usize = 256;
/// What the text is, for the header `Content-Type` of whoever serves it.
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// Outcome of what went well.
const OK: &str = "ok";
/// Upper bounds in seconds for whole operations: from a small memory on a fast disk to hours.
const DURATION_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0];
/// Upper bounds in seconds for how long writers wait: a cut of some stores takes well below a
/// millisecond (docs/performance.md), a restore as long as keeping the present state.
const HELD_BUCKETS: [f64; 16] = [
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0,
    5.0, 30.0,
];

/// What one or several engines did, to be scraped. Clones share everything.
#[derive(Clone, Default)]
pub struct Metrics {
    inner: Arc<Inner>,
}

/// What is counted by its outcome, and timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Taking one, by whoever: also what a restore or a recovery keeps.
    Snapshot,
    /// Putting one back.
    Restore,
    /// Reading a whole bundle for its own sake.
    Verify,
    /// A retention run's turn of one agent.
    Prune,
}

struct Inner {
    /// Knows everything below but what is read at a scrape.
    registry: Registry,
    outcomes: BTreeMap<Operation, Series<1, Counter>>,
    durations: Series<1, Histogram>,
    writers_held: Series<1, Histogram>,
    bytes: Counter,
    dropped: Counter,
    outbox_failures: Counter,
    queues: Mutex<BTreeMap<&'static str, Weak<QueuedPublisher>>>,
    /// Agents that have a series by name, for the life of the process: one that is deleted makes no
    /// room, for whoever comes and goes would make new series for ever.
    named: Mutex<BTreeSet<(Tenant, AgentId)>>,
}

/// An operation under way. One that is dropped without having ended panicked.
struct Running<'m> {
    metrics: &'m Metrics,
    operation: Operation,
    span: Span,
    ended: Option<&'static str>,
}

impl Metrics {
    /// Shows a queue as long as it lives, under a name that is one of a few. A later queue of the
    /// same name takes its place.
    pub fn watch_queue(&self, name: &'static str, queue: &Arc<QueuedPublisher>) {
        self.inner.queues.lock().insert(name, Arc::downgrade(queue));
    }

    /// The text for one scrape of these engines, which share these metrics; [`Engine::prometheus`]
    /// does it for one. What cannot be read is told in the text, so that the rest is.
    #[must_use]
    pub fn prometheus(&self, engines: &[Engine]) -> String {
        // Two engines on one vault see the same agents and events.
        let vaults: BTreeMap<_, _> = engines.iter().map(|e| (e.root(), e)).collect();
        let facts: Vec<Facts> = vaults.values().map(|engine| engine.facts()).collect();
        scrape::render(self, &facts)
    }

    /// Runs `work` in `span`, and counts and times it. `failure` says what its end counts as; the
    /// span's field `outcome` says so too.
    pub(crate) fn measured<R>(
        &self,
        operation: Operation,
        span: Span,
        failure: impl FnOnce(&R) -> Option<ErrorKind>,
        work: impl FnOnce() -> R,
    ) -> R {
        let mut running = Running { metrics: self, operation, span, ended: None };
        let started = Instant::now();
        let done = running.span.in_scope(work);
        running.ended = Some(match failure(&done) {
            Some(kind) => kind.as_str(),
            None => {
                observe(&self.inner.durations, operation, started.elapsed());
                OK
            }
        });
        done
    }

    /// Counts one that ended before it was worth timing.
    pub(crate) fn failed(&self, operation: Operation, kind: ErrorKind) {
        self.count(operation, kind.as_str());
    }

    /// Writers were held so long by a snapshot or a restore.
    pub(crate) fn writers_held(&self, operation: Operation, us: u64) {
        observe(&self.inner.writers_held, operation, Duration::from_micros(us));
    }

    /// A bundle of this size was published.
    pub(crate) fn published(&self, bytes: u64) {
        self.inner.bytes.inc_by(bytes);
    }

    /// Retention deleted a bundle.
    pub(crate) fn dropped(&self) {
        self.inner.dropped.inc();
    }

    /// The outbox could not be written.
    pub(crate) fn outbox_failed(&self) {
        self.inner.outbox_failures.inc();
    }

    fn count(&self, operation: Operation, outcome: &'static str) {
        let outcomes = self.inner.outcomes.get(&operation);
        if let Some(counter) = outcomes.and_then(|outcomes| outcomes.get(outcome)) {
            counter.inc();
        }
    }
}

impl Default for Inner {
    /// Every series is there from the start: a rate sees the first failure only where it saw zero.
    fn default() -> Self {
        let words = || std::iter::once(OK).chain(ErrorKind::ALL.iter().map(|kind| kind.as_str()));
        let holders = [Operation::Snapshot, Operation::Restore].map(Operation::as_str);
        let mut inner = Self {
            registry: Registry::default(),
            outcomes: Operation::ALL
                .map(|operation| (operation, fixed("outcome", words(), Counter::default)))
                .into(),
            durations: fixed("operation", Operation::ALL.map(Operation::as_str), || {
                Histogram::new(DURATION_BUCKETS)
            }),
            writers_held: fixed("operation", holders, || Histogram::new(HELD_BUCKETS)),
            bytes: Counter::default(),
            dropped: Counter::default(),
            outbox_failures: Counter::default(),
            queues: Mutex::default(),
            named: Mutex::default(),
        };
        inner.register();
        inner
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        for (operation, outcomes) in &self.outcomes {
            let (name, help) = operation.counter();
            registry.register(name, help, outcomes.clone());
        }
        registry.register(
            "nexo_memory_snapshot_duration_seconds",
            "How long operations took that went well",
            self.durations.clone(),
        );
        registry.register(
            "nexo_memory_snapshot_writers_held_seconds",
            "How long writers of an agent's stores were held",
            self.writers_held.clone(),
        );
        let (bytes, dropped) = (self.bytes.clone(), self.dropped.clone());
        registry.register("nexo_memory_snapshot_bytes", "Bytes of bundles published", bytes);
        registry.register("nexo_memory_snapshot_gc", "Bundles that retention deleted", dropped);
        registry.register(
            "nexo_memory_snapshot_outbox_failures",
            "Failures to keep a lifecycle event for its delivery",
            self.outbox_failures.clone(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Operation {
    const ALL: [Self; 4] = [Self::Snapshot, Self::Restore, Self::Verify, Self::Prune];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::Prune => "prune",
        }
    }

    /// Name and help of its counter; the text appends `_total` to the name.
    const fn counter(self) -> (&'static str, &'static str) {
        match self {
            Self::Snapshot => ("nexo_memory_snapshot", "Snapshots by how they ended"),
            Self::Restore => ("nexo_memory_snapshot_restore", "Restores by how they ended"),
            Self::Verify => ("nexo_memory_snapshot_verify", "Bundles verified, by what was found"),
            Self::Prune => ("nexo_memory_snapshot_prune", "Agents' turns in retention runs"),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let outcome = self.ended.unwrap_or(ErrorKind::Internal.as_str());
        self.metrics.count(self.operation, outcome);
        self.span.record("outcome", outcome);
    }
}

/// The kind of the error, where there is one: what most operations count as.
pub(crate) fn failure<T>(done: &Result<T, SnapshotError>) -> Option<ErrorKind> {
    done.as_ref().err().map(SnapshotError::kind)
}

fn observe(histograms: &Series<1, Histogram>, operation: Operation, took: Duration) {
    if let Some(histogram) = histograms.get(operation.as_str()) {
        histogram.observe(took.as_secs_f64());
    }
}

/// A metric for each value of a label.
fn fixed<M>(
    label: &'static str,
    values: impl IntoIterator<Item = &'static str>,
    new: impl Fn() -> M,
) -> Series<1, M> {
    Series::new([label], values.into_iter().map(|value| ([Cow::Borrowed(value)], new())))
}
