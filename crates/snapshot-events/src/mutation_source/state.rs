//! What a source knows, shared by the function, the virtual table and whoever holds the source.
//!
//! Invariants: whatever comes in, nothing here fails or panics, for it runs inside somebody's write;
//! the publisher is called with nothing locked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rusqlite::functions::Context;
use rusqlite::types::ValueRef;
use snapshot_core::{AgentId, Clock, Tenant};

use crate::envelope::Envelope;
use crate::mutation::{MutationEvent, MutationOp, MutationScope};
use crate::mutation_source::pending::{Change, Pending};
use crate::mutation_source::row::{Row, Shape};
use crate::mutation_source::{MutationSourceOptions, MutationSourceStats};
use crate::publisher::EventPublisher;

/// How operations are numbered in triggers.
const OPS: [MutationOp; 3] = [MutationOp::Insert, MutationOp::Update, MutationOp::Delete];

/// Numbers sources, so that each knows its connection.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

pub(super) struct State {
    id: i64,
    agent_id: AgentId,
    tenant: Tenant,
    scope: MutationScope,
    clock: Arc<dyn Clock>,
    published: AtomicU64,
    dropped: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    /// None once the source is gone: then nothing is looked at any more.
    publisher: Option<Arc<dyn EventPublisher>>,
    shapes: Vec<Shape>,
    row: Option<Row>,
    pending: Pending,
}

impl State {
    pub(super) fn new(options: MutationSourceOptions) -> Self {
        let MutationSourceOptions { agent_id, tenant, scope, publisher, clock, .. } = options;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).cast_signed();
        let pending = Pending::new(options.max_pending, options.max_pending_bytes);
        let inner = Inner { publisher: Some(publisher), shapes: Vec::new(), row: None, pending };
        let (published, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        let inner = Mutex::new(inner);
        Self { id, agent_id, tenant, scope, clock, published, dropped, inner }
    }

    pub(super) const fn id(&self) -> i64 {
        self.id
    }

    pub(super) fn stats(&self) -> MutationSourceStats {
        MutationSourceStats {
            published: self.published.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_shapes(&self, shapes: Vec<Shape>) {
        let mut inner = self.inner.lock();
        (inner.shapes, inner.row) = (shapes, None);
    }

    /// From now on does nothing.
    pub(super) fn retire(&self) {
        let publisher = self.inner.lock().publisher.take();
        // What its drop does is its own affair, and not to be done under our lock.
        drop(publisher);
    }

    /// Our SQL function. Without arguments: the id of the source, or 0 once it is gone. Else from a
    /// trigger: table, operation, number of the first value, values. Always false.
    pub(super) fn call(&self, context: &Context<'_>) -> i64 {
        let mut inner = self.inner.lock();
        if inner.publisher.is_none() {
            return 0;
        }
        if context.is_empty() {
            return self.id;
        }
        inner.values(context);
        0
    }

    pub(super) fn begin(&self) {
        self.inner.lock().pending.begin();
    }

    pub(super) fn savepoint(&self, savepoint: i32) {
        self.inner.lock().pending.savepoint(savepoint);
    }

    pub(super) fn release(&self, savepoint: i32) {
        self.inner.lock().pending.release(savepoint);
    }

    pub(super) fn rollback_to(&self, savepoint: i32) {
        self.inner.lock().pending.rollback_to(savepoint);
    }

    pub(super) fn rollback(&self) {
        self.inner.lock().pending.rollback();
    }

    /// The transaction is durable, as far as its connection makes it so.
    pub(super) fn commit(&self) {
        let (publisher, (changes, dropped)) = {
            let mut inner = self.inner.lock();
            (inner.publisher.clone(), inner.pending.commit())
        };
        let Some(publisher) = publisher else { return };
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        if changes.is_empty() {
            return;
        }
        let all = changes.len() as u64;
        let mut told = 0;
        // A clock or a publisher that panics must not unwind into SQLite.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let ts_ms = self.clock.now_ms();
            for change in changes {
                publisher.publish_mutation(&Envelope::new(self.event(change, ts_ms)));
                told += 1;
            }
        }));
        self.published.fetch_add(told, Ordering::Relaxed);
        self.dropped.fetch_add(all - told, Ordering::Relaxed);
        if ended.is_err() {
            tracing::error!(lost = all - told, "a publisher of mutation events panicked");
        }
    }

    fn event(&self, change: Change, ts_ms: i64) -> MutationEvent {
        let op = match (&change.old, &change.new) {
            (None, _) => MutationOp::Insert,
            (_, None) => MutationOp::Delete,
            _ => MutationOp::Update,
        };
        MutationEvent {
            agent_id: self.agent_id.clone(),
            tenant: self.tenant.clone(),
            scope: self.scope,
            op,
            key: change.key,
            old_hash: change.old.map(|digest| digest.to_string()),
            new_hash: change.new.map(|digest| digest.to_string()),
            ts_ms,
        }
    }
}

impl Inner {
    /// Takes what a trigger hands over; what no trigger of ours would is ignored.
    fn values(&mut self, context: &Context<'_>) {
        let Self { shapes, row, pending, .. } = self;
        let (Some(table), Some(op), Some(at)) =
            (index(context, 0), index(context, 1), index(context, 2))
        else {
            return;
        };
        let (Some(shape), Some(&op)) = (shapes.get(table), OPS.get(op)) else { return };
        if at == 0 {
            *row = Some(Row::new(table, op));
        }
        let Some(current) = row.as_mut().filter(|row| row.goes_on(table, op, at)) else { return };
        for argument in 3..context.len() {
            if let Some(changes) = current.take(shape, context.get_raw(argument)) {
                changes.into_iter().flatten().for_each(|change| pending.push(change));
                *row = None;
                return;
            }
        }
    }
}

fn index(context: &Context<'_>, argument: usize) -> Option<usize> {
    match (argument < context.len()).then(|| context.get_raw(argument))? {
        ValueRef::Integer(n) => usize::try_from(n).ok(),
        _ => None,
    }
}
