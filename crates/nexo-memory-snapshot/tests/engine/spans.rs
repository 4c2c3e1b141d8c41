//! What a trace says of an operation: which spans, within which, and with which ids.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::id::{SnapshotId, Tenant};
use nexo_memory_snapshot::ports::{Control, PortError};
use nexo_memory_snapshot::request::RestoreRequest;
use nexo_memory_snapshot::retention::RetentionConfig;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use crate::support::{CancelAt, Home, State, ana, named, request};

thread_local! {
    /// The spans that this thread is in.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Remembers every span.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Recorded>>>);

/// A span: what it is in (1 is the first one's number, 0 nothing), what it is, and its fields.
struct Recorded {
    parent: u64,
    metadata: &'static Metadata<'static>,
    fields: Fields,
}

#[derive(Default)]
struct Fields(String);

impl Recorder {
    /// Every span in a line, indented by how deep it lies; children below their parent.
    fn lines(&self) -> String {
        let (spans, mut text) = (self.0.lock().unwrap(), String::new());
        below(&spans, 0, 0, &mut text);
        text
    }

    /// What `work` does, traced.
    fn during<T>(work: impl FnOnce() -> T) -> (T, String) {
        let recorder = Self::default();
        let done = tracing::subscriber::with_default(recorder.clone(), work);
        (done, recorder.lines())
    }
}

fn below(spans: &[Recorded], parent: u64, depth: usize, text: &mut String) {
    for (number, span) in (1..).zip(spans).filter(|(_, span)| span.parent == parent) {
        writeln!(text, "{}{}{}", "  ".repeat(depth), span.metadata.name(), span.fields.0).unwrap();
        below(spans, number, depth + 1, text);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {field}={value}").unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let inside = INSIDE.with_borrow(|inside| inside.last().copied()).unwrap_or(0);
        let mut spans = self.0.lock().unwrap();
        spans.push(Recorded { parent: inside, metadata: span.metadata(), fields });
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let number = usize::try_from(span.into_u64()).unwrap();
        values.record(&mut self.0.lock().unwrap()[number - 1].fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, span: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(span.into_u64()));
    }

    fn exit(&self, _: &Id) {
        INSIDE.with_borrow_mut(|inside| _ = inside.pop());
    }

    fn current_span(&self) -> Current {
        let Some(number) = INSIDE.with_borrow(|inside| inside.last().copied()) else {
            return Current::none();
        };
        let metadata = self.0.lock().unwrap()[usize::try_from(number).unwrap() - 1].metadata;
        Current::new(Id::from_u64(number), metadata)
    }
}

/// Would catch: a span that is missing, outside of its operation or still open after it; a snapshot
/// whose id a trace does not tell.
#[test]
fn a_snapshot_is_captured_sealed_and_published() {
    let home = Home::new();
    let (meta, lines) = Recorder::during(|| home.take());
    let id = meta.id;
    assert_eq!(
        lines,
        format!(
            "snapshot tenant=default agent=ana outcome=ok\n  \
               capture\n  \
               seal snapshot_id={id}\n  \
               publish snapshot_id={id}\n"
        )
    );
}

/// Would catch: a failure that a trace ends before, or shows as something that went well; an id that
/// only what succeeded has.
#[test]
fn a_failed_snapshot_ends_where_it_failed() {
    let home = Home::new();
    let refuse = || Err(PortError::plain(ErrorKind::Refused, "not now"));
    let engine = home.builder().state_provider(Arc::new(State(refuse))).build().unwrap();
    let (failed, lines) =
        Recorder::during(|| engine.snapshot(&request(), &Control::default()).unwrap_err());
    let cut = format!("snapshot tenant=default agent=ana outcome={}\n  capture\n", failed.kind());
    assert_eq!(lines, cut);

    let sealing = (0..).find_map(|at| {
        let (hook, control) = CancelAt::control(at);
        let (done, lines) = Recorder::during(|| home.engine().snapshot(&request(), &control));
        assert!(hook.cancelled() && done.is_err(), "it was never cancelled while it was sealed");
        lines.contains("seal").then_some(lines)
    });
    let (head, id) = sealing.as_ref().unwrap().trim_end().rsplit_once('=').unwrap();
    assert_eq!(
        head,
        "snapshot tenant=default agent=ana outcome=interrupted\n  capture\n  seal snapshot_id"
    );
    assert!(id.parse::<SnapshotId>().is_ok(), "{id}");
}

/// Would catch: the snapshot that a restore keeps told as one of its own; a verification or a
/// retention run that is not traced; a label or a path in a trace.
#[test]
fn the_other_operations_name_what_they_work_on() {
    let home = Home::new();
    let engine = home.engine();
    let control = Control::default();
    let mut labelled = request();
    labelled.label = Some("secret".to_owned());
    let (meta, taking) = Recorder::during(|| engine.snapshot(&labelled, &control).unwrap());
    let req = RestoreRequest::new(ana(), Tenant::default(), named("latest"));
    let planned = engine.plan_restore(&req, &control).unwrap();
    let (report, restoring) = Recorder::during(|| planned.apply(&control).unwrap());
    let (id, kept) = (meta.id, report.pre_snapshot.unwrap());
    assert_eq!(
        restoring,
        format!(
            "restore tenant=default agent=ana from={id} outcome=ok\n  \
               stage\n  \
               commit\n    \
                 snapshot tenant=default agent=ana outcome=ok\n      \
                   seal snapshot_id={kept}\n      \
                   publish snapshot_id={kept}\n"
        )
    );
    let (_, verifying) = Recorder::during(|| engine.verify(&meta, &control).unwrap());
    assert_eq!(verifying, format!("verify snapshot_id={id} outcome=ok\n"));
    let worker = engine.retention_worker(RetentionConfig::default());
    let (_, pruning) = Recorder::during(|| worker.tick(&control));
    assert_eq!(pruning, "prune tenant=default agent=ana outcome=ok\n");
    let home = home.path().to_str().unwrap();
    for text in [taking, restoring, verifying, pruning] {
        assert!(!text.contains("secret") && !text.contains(home), "{text}");
    }
}

/// Would catch: the work of a request that no trace of the request shows, because it is done on
/// another thread.
#[cfg(feature = "tokio")]
#[test]
fn the_async_edge_carries_the_callers_span_along() {
    use nexo_memory_snapshot::snapshotter::MemorySnapshotter;

    let home = Home::new();
    let snapshotter = home.builder().build_snapshotter().unwrap();
    let recorder = Recorder::default();
    // The pool's threads know this one only. No other test looks at it.
    tracing::subscriber::set_global_default(recorder.clone()).unwrap();
    let span = tracing::info_span!("request");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let meta = span.in_scope(|| runtime.block_on(snapshotter.snapshot(request()))).unwrap();
    let lines = recorder.lines();
    let own = lines.split_once("request\n").unwrap().1;
    assert!(
        own.starts_with("  snapshot tenant=default agent=ana outcome=ok\n    capture\n"),
        "{own}"
    );
    assert!(own.contains(&format!("    publish snapshot_id={}\n", meta.id)), "{own}");
}
