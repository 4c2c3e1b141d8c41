//! A publisher that breaks one rule.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use snapshot_events::{
    Envelope, EventId, EventPublisher, LIFECYCLE_SUBJECT_PREFIX, LifecycleEvent,
    MUTATION_SUBJECT_PREFIX, MutationEvent, NoopPublisher,
};
use snapshot_testkit::conformance::publisher::{RULES, Subject, check, check_unheard};

/// What arrived, and whether the other side answers.
#[derive(Default)]
struct Far {
    arrived: Mutex<Vec<(String, Vec<u8>)>>,
    held: Mutex<bool>,
    let_go: Condvar,
}

/// Hands messages over at once; a good publisher but for the rule of this name.
struct Broken {
    rule: &'static str,
    far: Arc<Far>,
    home: ThreadId,
    /// One that the next overtakes.
    late: Mutex<Option<(String, Vec<u8>)>>,
}

impl Broken {
    fn breaks(&self, rule: &str) -> bool {
        self.rule == rule
    }

    fn arrive(&self, subject: String, payload: Vec<u8>) {
        self.far.arrived.lock().unwrap().push((subject, payload));
    }
}

impl EventPublisher for Broken {
    fn publish_lifecycle(&self, event: &Envelope<LifecycleEvent>) {
        match event.to_message(LIFECYCLE_SUBJECT_PREFIX) {
            Ok(message) => self.arrive(message.subject, message.payload),
            Err(_) if self.breaks("what_has_no_json_form_stops_nothing") => {
                self.arrive(event.event.subject(), b"{}".to_vec());
            }
            Err(e) => assert!(!self.breaks("no_event_harms_its_caller"), "{e}"),
        }
    }

    fn publish_mutation(&self, event: &Envelope<MutationEvent>) {
        let mut event = event.clone();
        if self.breaks("any_key_arrives_as_it_is") {
            event.event.key = event.event.key.replace('\n', " ");
        }
        if self.breaks("an_event_told_twice_stays_the_same") {
            event.event_id = EventId::new_random();
        }
        if self.breaks("events_of_all_threads_arrive") && thread::current().id() != self.home {
            return;
        }
        if self.breaks("a_call_waits_for_nobody") {
            let held = self.far.held.lock().unwrap();
            drop(self.far.let_go.wait_while(held, |held| *held).unwrap());
        }
        let message = event.to_message(MUTATION_SUBJECT_PREFIX).unwrap();
        if self.breaks("every_event_arrives_as_documented") {
            self.arrive(message.subject.clone(), message.payload.clone());
        }
        if self.breaks("events_arrive_in_order") {
            let mut late = self.late.lock().unwrap();
            let Some((subject, payload)) = late.take() else {
                *late = Some((message.subject, message.payload));
                return;
            };
            self.arrive(message.subject, message.payload);
            return self.arrive(subject, payload);
        }
        self.arrive(message.subject, message.payload);
    }
}

fn subject(rule: &'static str) -> Subject {
    let far = Arc::new(Far::default());
    let (heard, holds) = (Arc::clone(&far), Arc::clone(&far));
    let home = thread::current().id();
    Subject {
        publisher: Arc::new(Broken { rule, far, home, late: Mutex::default() }),
        lifecycle_prefix: LIFECYCLE_SUBJECT_PREFIX.to_owned(),
        mutation_prefix: MUTATION_SUBJECT_PREFIX.to_owned(),
        arrived: Box::new(move || heard.arrived.lock().unwrap().clone()),
        hold: Box::new(move |hold| {
            *holds.held.lock().unwrap() = hold;
            holds.let_go.notify_all();
        }),
        // Only one that waits for the other side takes as long, and that one for ever.
        patience: match rule {
            "a_call_waits_for_nobody" => Duration::from_millis(50),
            _ => Duration::from_secs(30),
        },
    }
}

/// Would catch: a rule that any publisher keeps, or that names another.
#[test]
fn each_rule_catches_who_breaks_it() {
    for rule in &RULES {
        let caught = rule.check(&subject(rule.name)).unwrap_err();
        assert_eq!(caught.rule, rule.name, "{caught}");
    }
    let loud = subject(RULES[0].name);
    assert_eq!(check_unheard(loud.publisher.as_ref()).unwrap_err().rule, RULES[0].name);
}

/// Would catch: a rule that a publisher without faults cannot keep.
#[test]
fn one_that_hands_everything_over_keeps_all() {
    check(&subject("none")).unwrap();
    check_unheard(&NoopPublisher).unwrap();
}
