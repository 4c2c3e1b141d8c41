//! What an [`EventPublisher`] must keep to, seen from its caller and from who hears it.
//!
//! Invariants: few and small events wait at any time, so that nobody has to drop one; an event is known
//! by its agent, which is of one rule alone, so what earlier rules left under way is not counted.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use snapshot_core::{AgentId, SnapshotId, Tenant};
use snapshot_events::{
    Envelope, EventId, EventPublisher, LifecycleEvent, MutationEvent, MutationOp, MutationScope,
};

use super::{ConformanceError, Kept, holds, same};

/// The examples of docs/wire.md, by the end of their subject.
const LIFECYCLE: [(&str, &str); 4] = [
    ("ana.created", include_str!("../../../../fixtures/wire/event_created.json")),
    ("ana.restored", include_str!("../../../../fixtures/wire/event_restored.json")),
    ("ana.deleted", include_str!("../../../../fixtures/wire/event_deleted.json")),
    ("_all.gc", include_str!("../../../../fixtures/wire/event_gc.json")),
];
/// The same of mutations, all of whose subjects end in the agent.
const MUTATIONS: [&str; 2] = [
    include_str!("../../../../fixtures/wire/event_mutation.json"),
    include_str!("../../../../fixtures/wire/event_mutation_hashes.json"),
];

/// Keys that break what is put together by hand.
const ODD_KEYS: [&str; 6] =
    ["two\nlines\r\n", "\"quoted\" \\", "nul\0 and \u{1b}[2J", "\u{2028}\u{202e}", "%s{}*.>", ""];

/// Events in a row.
const ROW: u8 = 32;
/// Threads that publish at once.
const THREADS: u8 = 4;

/// A publisher, and who hears it.
pub struct Subject {
    /// What is checked.
    pub publisher: Arc<dyn EventPublisher>,
    /// What its subjects of lifecycle events begin with.
    pub lifecycle_prefix: String,
    /// What its subjects of mutation events begin with.
    pub mutation_prefix: String,
    /// Waits until all that was published is away, and returns subject and bytes of everything that
    /// arrived since the start, in the order of its arrival.
    pub arrived: Box<dyn Fn() -> Vec<(String, Vec<u8>)>>,
    /// `true` keeps the other side from answering, `false` lets it answer again. Does nothing where there
    /// is no other side.
    pub hold: Box<dyn Fn(bool)>,
    /// A call that takes longer has waited for the other side.
    pub patience: Duration,
}

/// One rule.
pub type Rule = super::Rule<Subject>;

/// Every rule.
pub const RULES: [Rule; 8] = [
    Rule { name: "no_event_harms_its_caller", check: no_event_harms_its_caller },
    Rule { name: "every_event_arrives_as_documented", check: every_event_arrives_as_documented },
    Rule { name: "any_key_arrives_as_it_is", check: any_key_arrives_as_it_is },
    Rule { name: "events_arrive_in_order", check: events_arrive_in_order },
    Rule { name: "events_of_all_threads_arrive", check: events_of_all_threads_arrive },
    Rule { name: "an_event_told_twice_stays_the_same", check: an_event_told_twice_stays_the_same },
    Rule {
        name: "what_has_no_json_form_stops_nothing",
        check: what_has_no_json_form_stops_nothing,
    },
    Rule { name: "a_call_waits_for_nobody", check: a_call_waits_for_nobody },
];

/// Checks every rule, to the first that is not kept.
///
/// # Errors
/// If one is not kept.
pub fn check(subject: &Subject) -> Result<(), ConformanceError> {
    RULES.iter().try_for_each(|rule| rule.check(subject))
}

/// Checks what holds even where nobody can be asked what arrived: [`RULES`]' first.
///
/// # Errors
/// If it is not kept.
pub fn check_unheard(publisher: &dyn EventPublisher) -> Result<(), ConformanceError> {
    harmless(publisher).map_err(|saw| ConformanceError { rule: RULES[0].name, saw })
}

impl Subject {
    /// What arrived for an agent: subject and bytes.
    fn arrived_for(&self, agent: &str) -> Vec<(String, Vec<u8>)> {
        let mut arrived = (self.arrived)();
        arrived.retain(|(subject, _)| subject.split('.').any(|token| token == agent));
        arrived
    }

    /// What arrived for an agent: subject and document.
    fn heard(&self, agent: &str) -> Result<Vec<(String, Value)>, String> {
        let arrived = self.arrived_for(agent).into_iter();
        arrived.map(|(subject, bytes)| Ok((subject, read(&bytes)?))).collect()
    }

    /// Keys of an agent's mutations, and times of its deletions, in the order of their arrival.
    fn heard_by_sort(&self, agent: &str) -> Result<(Vec<String>, Vec<i64>), String> {
        let (mut keys, mut times) = (Vec::new(), Vec::new());
        for (_, event) in self.heard(agent)? {
            match event["key"].as_str() {
                Some(key) => keys.push(key.to_owned()),
                None => times.push(event["ts_ms"].as_i64().unwrap_or(-1)),
            }
        }
        Ok((keys, times))
    }
}

/// No event, and no thread, makes it panic: its caller may hold locks.
fn no_event_harms_its_caller(subject: &Subject) -> Kept {
    harmless(subject.publisher.as_ref())
}

/// Each sort of event arrives once, under its subject, as the example of docs/wire.md.
fn every_event_arrives_as_documented(subject: &Subject) -> Kept {
    let mut expected = Vec::new();
    for (ends, example) in LIFECYCLE {
        subject.publisher.publish_lifecycle(&read(example.as_bytes())?);
        let its_subject = format!("{}.{ends}", subject.lifecycle_prefix);
        expected.push((its_subject, read::<Value>(example.as_bytes())?));
    }
    for example in MUTATIONS {
        subject.publisher.publish_mutation(&read(example.as_bytes())?);
        let its_subject = format!("{}.ana", subject.mutation_prefix);
        expected.push((its_subject, read(example.as_bytes())?));
    }
    let heard = [subject.heard("ana")?, subject.heard("_all")?].concat();
    for event in &expected {
        let times = heard.iter().filter(|heard| *heard == event).count();
        holds(times == 1, || format!("{event:?} arrived {times} times: {heard:?}"))?;
    }
    same("events that arrived", &heard.len(), &expected.len())
}

/// A key may hold any text; none becomes another, or a line or a document of its own.
fn any_key_arrives_as_it_is(subject: &Subject) -> Kept {
    for (n, key) in (0..).zip(ODD_KEYS) {
        subject.publisher.publish_mutation(&mutation("keys", n, key));
    }
    same("keys", &subject.heard_by_sort("keys")?.0, &ODD_KEYS.map(str::to_owned).to_vec())
}

/// Each sort of event that one thread told arrives in the order in which it was told.
fn events_arrive_in_order(subject: &Subject) -> Kept {
    for n in 0..ROW {
        subject.publisher.publish_mutation(&mutation("order", n, &n.to_string()));
        subject.publisher.publish_lifecycle(&deleted("order", n));
    }
    let (keys, times) = subject.heard_by_sort("order")?;
    same("mutations", &keys, &(0..ROW).map(|n| n.to_string()).collect())?;
    same("deletions", &times, &(0..ROW).map(i64::from).collect())
}

/// Several threads tell at once: nothing is lost or doubled, and each thread's order is kept.
fn events_of_all_threads_arrive(subject: &Subject) -> Kept {
    const AGENTS: [&str; THREADS as usize] = ["thread-0", "thread-1", "thread-2", "thread-3"];
    let publisher = subject.publisher.as_ref();
    at_once(|thread| {
        let agent = AGENTS[usize::from(thread)];
        (0..ROW).for_each(|n| publisher.publish_mutation(&mutation(agent, n, &n.to_string())));
    })?;
    AGENTS.into_iter().try_for_each(|agent| {
        let keys = subject.heard_by_sort(agent)?.0;
        same(agent, &keys, &(0..ROW).map(|n| n.to_string()).collect())
    })
}

/// An event that is told again is told as it was, by which the other side may drop it.
fn an_event_told_twice_stays_the_same(subject: &Subject) -> Kept {
    for _ in 0..2 {
        subject.publisher.publish_mutation(&mutation("twice", 0, "key"));
    }
    let arrived = subject.arrived_for("twice");
    let times = arrived.len();
    holds((1..=2).contains(&times), || format!("two tellings of an event arrived {times} times"))?;
    let text = |n: usize| arrived.get(n).map(|(_, bytes)| bytes.escape_ascii().to_string());
    same("the second", &text(times - 1), &text(0))
}

/// A path that is not text has no JSON form: its event is dropped, and those after it arrive.
fn what_has_no_json_form_stops_nothing(subject: &Subject) -> Kept {
    subject.publisher.publish_lifecycle(&without_json_form("bent")?);
    subject.publisher.publish_lifecycle(&deleted("bent", 1));
    same("events that arrived", &subject.heard_by_sort("bent")?.1, &vec![1])
}

/// Its caller may hold locks, and goes on while the other side does not answer.
fn a_call_waits_for_nobody(subject: &Subject) -> Kept {
    let publisher = Arc::clone(&subject.publisher);
    let (tell, told) = mpsc::channel();
    (subject.hold)(true);
    // A thread that is not waited for: where the rule is broken it may never end.
    thread::spawn(move || {
        for n in 0..ROW {
            publisher.publish_mutation(&mutation("held", n, "key"));
            publisher.publish_lifecycle(&deleted("held", n));
        }
        // Who waited may have given up.
        let _ = tell.send(());
    });
    let returned = told.recv_timeout(subject.patience);
    (subject.hold)(false);
    let waited =
        || format!("its caller is held up while the other side does not answer: {returned:?}");
    holds(returned.is_ok(), waited)
}

/// Every odd event, from several threads at once.
fn harmless(publisher: &dyn EventPublisher) -> Kept {
    let bent = without_json_form("harm")?;
    at_once(|thread| {
        for (n, key) in (0..).zip(ODD_KEYS) {
            publisher.publish_mutation(&mutation("harm", thread * ROW + n, key));
            publisher.publish_lifecycle(&deleted("harm", thread * ROW + n));
        }
        publisher.publish_lifecycle(&bent);
    })
}

/// Does `work` in several threads at once.
fn at_once(work: impl Fn(u8) + Sync) -> Kept {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || work(n))).collect();
        // All of them, so that none is left to panic the scope.
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join().is_ok()).collect();
        holds(!ended.contains(&false), || "a thread that publishes panicked".to_owned())
    })
}

/// The snapshot of event `n` of an agent; no two are alike.
fn id(agent: &str, n: u8) -> SnapshotId {
    let mut bytes = [n; 16];
    bytes.iter_mut().skip(1).zip(agent.bytes()).for_each(|(to, from)| *to = from);
    SnapshotId::from_random_bytes(bytes)
}

fn mutation(agent: &'static str, n: u8, key: &str) -> Envelope<MutationEvent> {
    Envelope {
        event_id: EventId::from(id(agent, n)),
        event: MutationEvent {
            agent_id: AgentId::from_static(agent),
            tenant: Tenant::default(),
            scope: MutationScope::MemoryFile,
            op: MutationOp::Update,
            key: key.to_owned(),
            old_hash: None,
            new_hash: None,
            ts_ms: i64::from(n),
        },
    }
}

/// Its number is its time; its id is no mutation's.
fn deleted(agent: &'static str, n: u8) -> Envelope<LifecycleEvent> {
    Envelope {
        event_id: EventId::from(id(agent, n | 0x80)),
        event: LifecycleEvent::Deleted {
            agent_id: AgentId::from_static(agent),
            tenant: Tenant::default(),
            snapshot_id: id(agent, n),
            ts_ms: i64::from(n),
        },
    }
}

/// A snapshot whose bundle lies at a path that is not text.
fn without_json_form(agent: &'static str) -> Result<Envelope<LifecycleEvent>, String> {
    let mut envelope: Envelope<LifecycleEvent> = read(LIFECYCLE[0].1.as_bytes())?;
    envelope.event_id = EventId::from(id(agent, 0xff));
    if let LifecycleEvent::Created(meta) = &mut envelope.event {
        meta.agent_id = AgentId::from_static(agent);
        meta.bundle_path = OsString::from_vec(b"/vault/\xff.tar.zst".to_vec()).into();
    }
    Ok(envelope)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let no_event = |e| format!("{} is not as documented: {e}", bytes.escape_ascii());
    serde_json::from_slice(bytes).map_err(no_event)
}
