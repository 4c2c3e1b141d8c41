//! A publisher that hands events to a thread: bounded, and never in its caller's way.

use std::collections::VecDeque;
use std::fmt;
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

/// Events that wait, where nothing else is said: some megabytes.
const DEFAULT_CAPACITY: usize = 8192;

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
    thread: Option<JoinHandle<()>>,
}

/// What a queue did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Events that wait now.
    pub waiting: u64,
    /// Events that arrived.
    pub sent: u64,
    /// Events that found no room.
    pub dropped: u64,
    /// Events that the transport did not take.
    pub failed: u64,
}

enum Event {
    Lifecycle(Envelope<LifecycleEvent>),
    Mutation(Envelope<MutationEvent>),
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<VecDeque<Event>>,
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
        let QueueOptions { capacity, overflow, lifecycle_prefix, mutation_prefix } = options;
        let its = Arc::clone(&shared);
        let prefixes = (lifecycle_prefix, mutation_prefix);
        let thread = thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || its.run(transport.as_ref(), &prefixes))?;
        Ok(Self { shared, overflow, capacity: capacity.max(1), thread: Some(thread) })
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            waiting: self.shared.waiting.lock().len() as u64,
            sent: self.shared.sent.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
        }
    }

    /// Waits until every event so far is away, or `until`; whether it is.
    #[must_use]
    pub fn flush(&self, until: Instant) -> bool {
        let mut waiting = self.shared.waiting.lock();
        while !waiting.is_empty() || self.shared.busy.load(Ordering::SeqCst) {
            if self.shared.idle.wait_until(&mut waiting, until).timed_out() {
                return false;
            }
        }
        true
    }

    fn push(&self, event: Event) {
        let mut waiting = self.shared.waiting.lock();
        if waiting.len() >= self.capacity {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            match self.overflow {
                Overflow::DropNewest => return,
                Overflow::DropOldest => _ = waiting.pop_front(),
            }
        }
        waiting.push_back(event);
        drop(waiting);
        self.shared.came.notify_one();
    }
}

impl EventPublisher for QueuedPublisher {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        self.push(Event::Lifecycle(event.clone()));
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
            if let Some(event) = waiting.pop_front() {
                self.busy.store(true, Ordering::SeqCst);
                return Some(event);
            }
            self.idle.notify_all();
            self.came.wait(&mut waiting);
        }
    }
}

impl Event {
    fn render(&self, (lifecycle, mutation): &(String, String)) -> Option<Message> {
        let rendered = match self {
            Self::Lifecycle(envelope) => envelope.to_message(lifecycle),
            Self::Mutation(envelope) => envelope.to_message(mutation),
        };
        rendered.ok()
    }
}
