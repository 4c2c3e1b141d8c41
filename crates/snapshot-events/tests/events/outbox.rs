//! The outbox and its courier.

use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snapshot_core::{PortError, Tenant};
use snapshot_events::{
    Courier, CourierOptions, Effect, EventId, Fault, Flushed, Message, Outbox, Settler, Stream,
    StreamKey, Transport, TransportError,
};
use snapshot_fs::DurableFs;

use crate::support::{PATIENCE, Scripted, ana, id, message};

/// Settles by what a test says has happened.
struct Says(Option<bool>);

impl Settler for Says {
    fn settle(&self, _: &StreamKey, stream: &Stream) -> Result<(), PortError> {
        stream.settle(&mut |_| self.0).unwrap();
        Ok(())
    }
}

fn key() -> StreamKey {
    StreamKey::Agent { tenant: Tenant::default(), agent: ana() }
}

fn outbox(dir: &Path) -> Outbox {
    Outbox::new(DurableFs::default().open_dir(dir).unwrap())
}

fn prepare(stream: &Stream, n: u8) -> snapshot_events::Prepared {
    stream.prepare(Effect::Created { id: id(n) }, &message(n)).unwrap()
}

fn courier(outbox: &Outbox, transport: Arc<dyn Transport>, says: Option<bool>) -> Courier {
    let quick = CourierOptions {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(4),
        ..CourierOptions::default()
    };
    Courier::spawn(outbox.clone(), transport, Arc::new(Says(says)), quick)
}

fn flush(courier: &Courier) -> Flushed {
    courier.flush(Instant::now() + PATIENCE)
}

fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<EventId> {
    numbers.into_iter().map(|n| EventId::from(id(n))).collect()
}

/// Would catch: two writers of what concerns no single agent that give two events one number, of which the second
/// takes the first one's place.
#[test]
fn writers_at_once_lose_no_event_to_each_other() {
    const WRITERS: u8 = 4;
    const EACH: u8 = 60;
    let dir = tempfile::tempdir().unwrap();
    let stream = outbox(dir.path()).stream(&StreamKey::All).unwrap();
    let barrier = std::sync::Barrier::new(WRITERS.into());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stream, barrier) = (&stream, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for n in 0..EACH {
                    prepare(stream, writer * EACH + n).commit().unwrap();
                }
            });
        }
    });
    assert_eq!(stream.depth().unwrap(), u64::from(WRITERS) * u64::from(EACH));
}

/// Would catch: an event sent before its effect exists, or one that overtakes it.
#[test]
fn what_is_only_prepared_is_not_sent_and_holds_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    let stream = outbox.stream(&key()).unwrap();
    prepare(&stream, 1).commit().unwrap();
    let second = prepare(&stream, 2);
    prepare(&stream, 3).commit().unwrap();
    let transport = Scripted::new(&[]);
    let courier = courier(&outbox, transport.clone(), None);
    assert_eq!(flush(&courier).left, 2);
    assert_eq!(transport.ids(), ids([1]));
    second.commit().unwrap();
    assert_eq!(flush(&courier).left, 0);
    assert_eq!(transport.ids(), ids([1, 2, 3]));
}

/// Would catch: a death between effect and event that loses the event, or one before the effect that
/// leaves it.
#[test]
fn what_the_dead_prepared_is_settled_by_what_happened() {
    for (happened, expected) in [(Some(true), vec![1, 2]), (Some(false), vec![2])] {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path());
        let stream = outbox.stream(&key()).unwrap();
        drop(prepare(&stream, 1));
        prepare(&stream, 2).commit().unwrap();
        let transport = Scripted::new(&[]);
        assert_eq!(flush(&courier(&outbox, transport.clone(), happened)).left, 0);
        assert_eq!(transport.ids(), ids(expected));
    }
}

/// Would catch: a failure that drops an event, sends a later one first, or is not tried again.
#[test]
fn a_transport_that_fails_is_tried_again_with_the_same_event() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    let stream = outbox.stream(&key()).unwrap();
    (1..4).for_each(|n| prepare(&stream, n).commit().unwrap());
    let transport = Scripted::new(&[Fault::Unreachable; 5]);
    let courier = courier(&outbox, transport.clone(), None);
    let until = Instant::now() + PATIENCE;
    // By itself: nobody asks.
    while outbox.depth().unwrap() > 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    drop(courier);
    assert_eq!(transport.ids(), ids([1, 2, 3]));
}

/// Would catch: one agent's subject that is denied keeping the events of all others.
#[test]
fn a_denied_subject_holds_up_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    prepare(&outbox.stream(&key()).unwrap(), 1).commit().unwrap();
    prepare(&outbox.stream(&StreamKey::All).unwrap(), 2).commit().unwrap();
    let transport = Scripted::new(&[Fault::Denied]);
    let courier = courier(&outbox, transport.clone(), None);
    let until = Instant::now() + PATIENCE;
    while flush(&courier).left > 0 && Instant::now() < until {}
    // The denied one comes first, and is tried again only with the next round.
    assert_eq!(transport.ids(), ids([2, 1]));
}

/// Would catch: deletions that are forgotten with the rest, or a record that is taken for another while
/// it is on its way.
#[test]
fn what_is_forgotten_is_no_deletion_and_nothing_under_way() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    let stream = outbox.stream(&key()).unwrap();
    let created = |n| stream.prepare(Effect::Created { id: id(n) }, &message(n)).unwrap();
    created(1).commit().unwrap();
    stream.prepare(Effect::Deleted { id: id(2) }, &message(2)).unwrap().commit().unwrap();
    created(3).commit().unwrap();
    outbox.forget(&key(), Instant::now()).unwrap();
    outbox.forget(&key(), Instant::now()).unwrap();
    let transport = Scripted::new(&[]);
    assert_eq!(flush(&courier(&outbox, transport.clone(), None)).left, 0);
    assert_eq!(transport.ids(), ids([2]));

    // While somebody sends, nothing is forgotten.
    let lock = dir.path().join(key().to_string()).join("courier.lock");
    let held = std::fs::File::open(lock).unwrap();
    held.lock().unwrap();
    created(4).commit().unwrap();
    assert!(outbox.forget(&key(), Instant::now()).is_err());
    assert_eq!(outbox.depth().unwrap(), 1);
}

/// Would catch: one event that can never be sent, or a record that is none, in the way of all others.
#[test]
fn what_can_never_be_sent_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    let stream = outbox.stream(&key()).unwrap();
    (1..5).for_each(|n| prepare(&stream, n).commit().unwrap());
    let folder = dir.path().join(key().to_string());
    std::fs::write(folder.join("0000000000000002.ready"), b"{ no record").unwrap();
    std::fs::write(folder.join("000000000000000a.prepared"), b"neither").unwrap();
    std::fs::write(folder.join("note.txt"), b"not ours").unwrap();
    std::fs::create_dir(folder.join("000000000000000b.ready")).unwrap();
    std::fs::create_dir(dir.path().join("not a stream")).unwrap();
    let transport = Scripted::new(&[Fault::Refused]);
    assert_eq!(flush(&courier(&outbox, transport.clone(), None)).left, 0);
    assert_eq!(transport.ids(), ids([3, 4]));
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.retain(|name| !name.ends_with(".lock"));
    left.sort();
    let aside = ["0000000000000001.bad", "0000000000000002.bad", "000000000000000a.bad"];
    let aside = [&aside[..], &["000000000000000b.bad"]].concat();
    assert_eq!(left, [&aside[..], &["note.txt"]].concat());
}

/// Would catch: an event of a repeated recovery that is sent twice with other bytes.
#[test]
fn an_event_that_is_prepared_already_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    let stream = outbox.stream(&key()).unwrap();
    drop(prepare(&stream, 1));
    let mut again = message(1);
    again.payload = message(2).payload;
    stream.prepare(Effect::Restored, &again).unwrap().commit().unwrap();
    let transport = Scripted::new(&[]);
    assert_eq!(flush(&courier(&outbox, transport.clone(), None)).left, 0);
    assert_eq!(*transport.taken.lock().unwrap(), [message(1)]);
}

/// Would catch: a name of a stream that is read back as another one.
#[test]
fn the_name_of_a_stream_is_read_back() {
    for key in [key(), StreamKey::All] {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    for bad in ["", "_all.x", "a", "a.b.c", "../a.b", "A.b", ".b"] {
        assert!(bad.parse::<StreamKey>().is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Would catch: any interleaving of preparing, committing, cancelling and sending in which an
    /// event is lost, doubled or overtaken.
    #[test]
    fn order_holds_whatever_happens(steps in prop::collection::vec(0_u8..4, 1..24)) {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path());
        let stream = outbox.stream(&key()).unwrap();
        let transport = Scripted::new(&[]);
        let courier = courier(&outbox, transport.clone(), None);
        let (mut open, mut expected) = (Vec::new(), Vec::new());
        for (n, step) in (1..).zip(&steps) {
            match step {
                0 => open.push((n, prepare(&stream, n))),
                1 => {
                    prepare(&stream, n).commit().unwrap();
                    expected.push(n);
                }
                2 => if let Some((n, prepared)) = open.pop() {
                    prepared.commit().unwrap();
                    expected.push(n);
                },
                _ => if let Some((_, prepared)) = open.pop() {
                    prepared.cancel().unwrap();
                },
            }
            courier.wake();
        }
        for (n, prepared) in open {
            prepared.commit().unwrap();
            expected.push(n);
        }
        expected.sort_unstable();
        prop_assert_eq!(flush(&courier).left, 0);
        prop_assert_eq!(transport.ids(), ids(expected));
    }
}

/// Would catch: a process that cannot end because more waits than it has time to send.
#[test]
fn a_courier_that_is_dropped_sends_the_message_under_way_and_no_more() {
    /// As many events at most; each that is sent brings another.
    const MOST: usize = 5000;
    struct Feeding(Outbox, Mutex<usize>, Sender<()>);
    impl Transport for Feeding {
        fn send(&self, _: &Message) -> Result<(), TransportError> {
            let mut sent = self.1.lock().unwrap();
            *sent += 1;
            if *sent < MOST {
                prepare(&self.0.stream(&key()).unwrap(), 1).commit().unwrap();
            }
            let _ = self.2.send(());
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let outbox = outbox(dir.path());
    prepare(&outbox.stream(&key()).unwrap(), 1).commit().unwrap();
    let (entered, sending) = mpsc::channel();
    let feeding = Arc::new(Feeding(outbox.clone(), Mutex::default(), entered));
    let courier = courier(&outbox, feeding.clone(), None);
    sending.recv_timeout(PATIENCE).unwrap();
    drop(courier);
    assert!(*feeding.1.lock().unwrap() < MOST, "it went on to the end");
    assert_eq!(outbox.depth().unwrap(), 1, "what was not sent waits");
}
