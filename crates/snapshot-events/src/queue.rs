//! A publisher that hands events to a thread: bounded, and never in its caller's way.
//!
//! Invariant: what waits is bounded in number and in bytes, however large one event is.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use snapshot_core::error_chain;

use crate::envelope::{Envelope, Message};
use crate::lifecycle::{LIFECYCLE_SUBJECT_PREFIX, LifecycleEvent};
use crate::mutation::{MUTATION_SUBJECT_PREFIX, MutationEvent};
use crate::publisher::EventPublisher;
use crate::transport::Transport;

/// Events that wait, where nothing else is said: 3 MiB of those that a row of a table makes.
const DEFAULT_CAPACITY: usize = 8192;
/// Bytes that wait, where nothing else is said.
const DEFAULT_CAPACITY_BYTES: usize = 8 << 20;

/// What goes where a queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The event that comes.
    #[default]
    DropNewest,
    /// The one that waits longest.
    DropOldest,
}

/// How a queue works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueOptions {
    /// Events that wait at most.
    pub capacity: usize,
    /// Bytes that they take in memory at most. An event that alone is larger is dropped.
    pub capacity_bytes: usize,
    /// What goes where more come.
    pub overflow: Overflow,
    /// What subjects of lifecycle events begin with.
    pub lifecycle_prefix: String,
    /// What subjects of mutation events begin with.
    pub mutation_prefix: String,
}

/// Hands events to a transport by a thread of its own. Best-effort: what does not fit, or does not
/// arrive at the first try, is dropped and counted. Dropping it waits for the event under way.
pub struct QueuedPublisher {
    shared: Arc<Shared>,
    overflow: Overflow,
    capacity: usize,
    capacity_bytes: usize,
    thread: Option<JoinHandle<()>>,
}

/// What a queue did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Events that wait now.
    pub waiting: u64,
    /// Bytes that they take.
    pub waiting_bytes: u64,
    /// Events that arrived.
    pub sent: u64,
    /// Events that found no room.
    pub dropped: u64,
    /// Events that the transport did not take.
    pub failed: u64,
}

enum Event {
    Lifecycle(Box<Envelope<LifecycleEvent>>),
    Mutation(Envelope<MutationEvent>),
}

/// What waits, each event with its bytes, and the sum of those.
#[derive(Default)]
struct Waiting {
    events: VecDeque<(Event, usize)>,
    bytes: usize,
}

/// Counts what is written to it.
struct Counter(usize);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something came, or the end did.
    came: Condvar,
    /// The queue is empty and its last event is away.
    idle: Condvar,
    busy: AtomicBool,
    ended: AtomicBool,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            capacity_bytes: DEFAULT_CAPACITY_BYTES,
            overflow: Overflow::default(),
            lifecycle_prefix: LIFECYCLE_SUBJECT_PREFIX.to_owned(),
            mutation_prefix: MUTATION_SUBJECT_PREFIX.to_owned(),
        }
    }
}

impl QueuedPublisher {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there is none to be had.
    pub fn new(transport: Arc<dyn Transport>, options: QueueOptions) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let its = Arc::clone(&shared);
        let prefixes = (options.lifecycle_prefix, options.mutation_prefix);
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || its.run(transport.as_ref(), &prefixes))?;
        Ok(Self {
            shared,
            overflow: options.overflow,
            capacity: options.capacity.max(1),
            capacity_bytes: options.capacity_bytes,
            thread: Some(thread),
        })
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        let (waiting, waiting_bytes) = {
            let waiting = self.shared.waiting.lock();
            (waiting.events.len() as u64, waiting.bytes as u64)
        };
        QueueStats {
            waiting,
            waiting_bytes,
            sent: self.shared.sent.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }

    /// Waits until every event so far is away, or `until`; whether it is.
    #[must_use]
    pub fn flush(&self, until: Instant) -> bool {
        let mut waiting = self.shared.waiting.lock();
        while !waiting.events.is_empty() || self.shared.busy.load(Ordering::SeqCst) {
            if self.shared.idle.wait_until(&mut waiting, until).timed_out() {
                return false;
            }
        }
        true
    }

    fn push(&self, event: Event) {
        let bytes = event.bytes();
        let mut waiting = self.shared.waiting.lock();
        while waiting.events.len() >= self.capacity || waiting.bytes + bytes > self.capacity_bytes {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            // None is left to make room where the event alone is too large.
            let makes_room = self.overflow == Overflow::DropOldest && bytes <= self.capacity_bytes;
            if !makes_room || waiting.pop().is_none() {
                return;
            }
        }
        waiting.bytes += bytes;
        waiting.events.push_back((event, bytes));
        drop(waiting);
        self.shared.came.notify_one();
    }
}

impl EventPublisher for QueuedPublisher {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        self.push(Event::Lifecycle(Box::new(event.clone())));
    }

    fn publish_mutation(&self, event: &Envelope<MutationEvent>) {
        self.push(Event::Mutation(event.clone()));
    }
}

impl Drop for QueuedPublisher {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Under the lock, so that it comes before or after the thread's look, not between.
        drop(self.shared.waiting.lock());
        self.shared.came.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for QueuedPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedPublisher").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self, transport: &dyn Transport, prefixes: &(String, String)) {
        while let Some(event) = self.next() {
            let sent = event.render(prefixes).is_some_and(|message| {
                let sent = transport.send(&message);
                if let Err(e) = &sent {
                    tracing::debug!(error = %error_chain(e), "an event did not arrive");
                }
                sent.is_ok()
            });
            let counter = if sent { &self.sent } else { &self.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next event, or none at the end.
    fn next(&self) -> Option<Event> {
        let mut waiting = self.waiting.lock();
        self.busy.store(false, Ordering::SeqCst);
        loop {
            if self.ended.load(Ordering::SeqCst) {
                self.idle.notify_all();
                return None;
            }
            if let Some(event) = waiting.pop() {
                self.busy.store(true, Ordering::SeqCst);
                return Some(event);
            }
            self.idle.notify_all();
            self.came.wait(&mut waiting);
        }
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<Event> {
        let (event, bytes) = self.events.pop_front()?;
        self.bytes -= bytes;
        Some(event)
    }
}

impl Event {
    /// What it takes in memory: its own size, and what it points to. That is the JSON of a lifecycle
    /// event, to within what numbers and names of fields differ.
    fn bytes(&self) -> usize {
        let beyond = match self {
            Self::Lifecycle(envelope) => {
                let mut counter = Counter(0);
                // What has no JSON form is dropped by the thread; all of it that counts is counted.
                let _ = serde_json::to_writer(&mut counter, envelope);
                counter.0
            }
            Self::Mutation(envelope) => {
                let MutationEvent { agent_id, tenant, key, old_hash, new_hash, .. } =
                    &envelope.event;
                let hashes = [old_hash, new_hash].into_iter().flatten().map(String::capacity);
                agent_id.as_str().len()
                    + tenant.as_str().len()
                    + key.capacity()
                    + hashes.sum::<usize>()
            }
        };
        size_of::<(Self, usize)>() + beyond
    }

    fn render(&self, (lifecycle, mutation): &(String, String)) -> Option<Message> {
        let rendered = match self {
            Self::Lifecycle(envelope) => envelope.to_message(lifecycle),
            Self::Mutation(envelope) => envelope.to_message(mutation),
        };
        rendered.ok()
    }
}

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
