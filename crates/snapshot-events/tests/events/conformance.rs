//! The rules of [`EventPublisher`], kept by every publisher that needs no network.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use serde_json::value::RawValue;
use snapshot_events::{
    EventPublisher, FanOut, JsonlTranscript, LIFECYCLE_SUBJECT_PREFIX, MUTATION_SUBJECT_PREFIX,
    Message, NoopPublisher, QueueOptions, QueuedPublisher, RecordingPublisher, TracingPublisher,
    Transport, TransportError,
};
use snapshot_fs::DurableFs;
use snapshot_testkit::conformance::publisher::{Subject, check, check_unheard};

use crate::support::PATIENCE;

/// Subject and bytes of what arrived.
type Arrived = Vec<(String, Vec<u8>)>;

/// Passes messages on, but not while it is shut.
struct Door<T> {
    shut: Mutex<bool>,
    opened: Condvar,
    to: T,
}

impl<T: Transport> Transport for Door<T> {
    fn send(&self, message: &Message) -> Result<(), TransportError> {
        let shut = self.shut.lock().unwrap();
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        self.to.send(message)
    }
}

/// A line of a transcript.
#[derive(serde::Deserialize)]
struct Line {
    subject: String,
    event: Box<RawValue>,
}

fn subject(
    publisher: Arc<dyn EventPublisher>,
    arrived: impl Fn() -> Arrived + 'static,
    hold: impl Fn(bool) + 'static,
) -> Subject {
    Subject {
        publisher,
        lifecycle_prefix: LIFECYCLE_SUBJECT_PREFIX.to_owned(),
        mutation_prefix: MUTATION_SUBJECT_PREFIX.to_owned(),
        arrived: Box::new(arrived),
        hold: Box::new(hold),
        patience: PATIENCE,
    }
}

/// What a recording publisher was told, as it would be sent.
fn recorded(recording: &RecordingPublisher) -> Arrived {
    let lifecycle = recording.lifecycle.lock().clone().into_iter();
    let mutation = recording.mutation.lock().clone().into_iter();
    let lifecycle = lifecycle.filter_map(|e| e.to_message(LIFECYCLE_SUBJECT_PREFIX).ok());
    let mutation = mutation.filter_map(|e| e.to_message(MUTATION_SUBJECT_PREFIX).ok());
    lifecycle.chain(mutation).map(|message| (message.subject, message.payload)).collect()
}

fn transcribed(path: &Path) -> Arrived {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    lines.map(|line| (line.subject, line.event.get().as_bytes().to_vec())).collect()
}

/// Would catch: a recording that misses what it was told, or a fan-out that leaves one out, tells one
/// twice or in another order.
#[test]
fn recordings_and_a_fan_out_keep_the_rules() {
    let recording = Arc::new(RecordingPublisher::default());
    let heard = Arc::clone(&recording);
    check(&subject(recording, move || recorded(&heard), |_| ())).unwrap();

    let ears = [(); 2].map(|()| Arc::new(RecordingPublisher::default()));
    let [one, other] = ears.clone();
    let all = FanOut::new(vec![Arc::new(NoopPublisher), one, Arc::new(TracingPublisher), other]);
    let heard = move || {
        let heard = recorded(&ears[0]);
        // Threads that tell at once may reach the two in another order.
        let sorted = [heard.clone(), recorded(&ears[1])].map(|mut all| {
            all.sort();
            all
        });
        assert_eq!(sorted[0], sorted[1]);
        heard
    };
    check(&subject(Arc::new(all), heard, |_| ())).unwrap();
}

/// Would catch: a publisher that panics where nobody listens.
#[test]
fn publishers_that_nobody_hears_harm_nobody() {
    check_unheard(&NoopPublisher).unwrap();
    check_unheard(&TracingPublisher).unwrap();
    check_unheard(&FanOut::default()).unwrap();
}

/// Would catch: a queue that changes, loses or reorders what fits into it, or waits for its transport;
/// a transcript with a line that is none.
#[test]
fn a_queue_before_a_transcript_keeps_the_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.jsonl");
    let transcript = JsonlTranscript::new(&DurableFs::default(), &path, u64::MAX, 0).unwrap();
    let (shut, opened) = (Mutex::default(), Condvar::new());
    let door = Arc::new(Door { shut, opened, to: transcript });
    let queue = Arc::new(QueuedPublisher::new(door.clone(), QueueOptions::default()).unwrap());
    let flushed = Arc::clone(&queue);
    let arrived = move || {
        assert!(flushed.flush(Instant::now() + PATIENCE));
        transcribed(&path)
    };
    let hold = move |shut: bool| {
        *door.shut.lock().unwrap() = shut;
        door.opened.notify_all();
    };
    check(&subject(queue, arrived, hold)).unwrap();
}
