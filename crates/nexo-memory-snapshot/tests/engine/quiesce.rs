//! The agent is paused around the cut and resumed on every way out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use nexo_memory_snapshot::error::{ErrorKind, SnapshotError};
use nexo_memory_snapshot::meta::SnapshotMeta;
use nexo_memory_snapshot::ports::{Control, PortError};

use crate::support::{Calls, Home, Pauses, State, request};

type Told = fn() -> Result<(), PortError>;

/// A snapshot whose pause and capture do as told; the calls that the host saw.
fn run(home: &Home, pause: Told, capture: Told) -> (Calls, Result<SnapshotMeta, SnapshotError>) {
    let calls = Calls::default();
    let seen = calls.clone();
    let state = State(move || {
        seen.lock().unwrap().push("capture");
        capture()
    });
    let pauses = Pauses { calls: calls.clone(), pause };
    let engine = home
        .builder()
        .state_provider(Arc::new(state))
        .quiesce(Arc::new(pauses), Duration::from_secs(5))
        .build()
        .unwrap();
    let taken = catch_unwind(AssertUnwindSafe(|| engine.snapshot(&request(), &Control::default())));
    let panicked = || Err(PortError::plain(ErrorKind::Internal, "panicked").into());
    (calls, taken.unwrap_or_else(|_| panicked()))
}

fn refused() -> Result<(), PortError> {
    Err(PortError::plain(ErrorKind::Busy, "told to"))
}

#[test]
fn the_capture_lies_between_pause_and_resume() {
    let home = Home::new();
    let (calls, taken) = run(&home, || Ok(()), || Ok(()));
    taken.unwrap();
    // State is read until two readings agree: how often is not the point here.
    let mut calls = calls.lock().unwrap().clone();
    calls.dedup();
    assert_eq!(calls, ["pause", "capture", "resume"]);
}

/// Would catch: an agent that waits for a key on a slow disk, or is held for a snapshot that cannot be signed.
#[test]
fn keys_are_read_before_anybody_is_held() {
    let (home, calls) = (Home::new(), Calls::default());
    let pauses = Pauses { calls: calls.clone(), pause: || Ok(()) };
    let builder = home.builder().quiesce(Arc::new(pauses), Duration::from_secs(5));
    let engine = builder.signing_key_file("/nowhere/signing.key").build().unwrap();
    let refused = engine.snapshot(&request(), &Control::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Encryption, "{refused}");
    assert_eq!(*calls.lock().unwrap(), [""; 0]);
}

#[test]
fn a_pause_that_fails_is_undone() {
    let home = Home::new();
    let (calls, taken) = run(&home, refused, || Ok(()));
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(*calls.lock().unwrap(), ["pause", "resume"]);
    assert_eq!(home.files(), [""; 0]);
}

#[test]
fn a_capture_that_panics_resumes_the_agent_and_leaves_nothing() {
    let home = Home::new();
    let (calls, taken) = run(&home, || Ok(()), || panic!("told to"));
    assert!(taken.is_err());
    assert_eq!(*calls.lock().unwrap(), ["pause", "capture", "resume"]);
    assert_eq!(home.files(), [""; 0]);
    home.take();
}

#[test]
fn a_capture_that_fails_resumes_the_agent() {
    let home = Home::new();
    let internal: Told = || Err(PortError::plain(ErrorKind::Internal, "told to"));
    let (calls, taken) = run(&home, || Ok(()), internal);
    assert_eq!(taken.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(calls.lock().unwrap().last(), Some(&"resume"));
    assert_eq!(home.files(), [""; 0]);
}
