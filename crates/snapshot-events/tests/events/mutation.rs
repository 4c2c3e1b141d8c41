//! The bridge from write hooks.

use std::sync::Arc;

use snapshot_core::{AgentId, Clock, Sha256Digest, Tenant};
use snapshot_events::{
    Digests, MAX_KEY_BYTES, MemoryMutationPublisher, MutationEvent, MutationOp, MutationScope,
    RecordingPublisher,
};

use crate::support::ana;

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> i64 {
        12
    }
}

fn hook() -> (Arc<RecordingPublisher>, MemoryMutationPublisher) {
    let recording = Arc::new(RecordingPublisher::default());
    (recording.clone(), MemoryMutationPublisher::new(recording).with_clock(Arc::new(Noon)))
}

/// Would catch: a field of the hook that goes elsewhere or nowhere, or another clock.
#[test]
fn a_hook_call_is_an_event() {
    let (recording, hook) = hook();
    let digests = Digests { old: Some(Sha256Digest::of(b"1")), new: Some(Sha256Digest::of(b"2")) };
    let tenant: Tenant = "acme".parse().unwrap();
    let (scope, op) = (MutationScope::SqliteVector, MutationOp::Delete);
    hook.on_mutation_with_digests(&ana(), &tenant, scope, op, "facts:1", digests);
    hook.on_mutation(&ana(), &tenant, MutationScope::MemoryFile, MutationOp::Update, "a/b.md");
    hook.on_mutation_named("ana", "acme", MutationScope::Git, MutationOp::Insert, "HEAD");
    let event = |scope, op, key: &str, digests: Digests| MutationEvent {
        agent_id: ana(),
        tenant: tenant.clone(),
        scope,
        op,
        key: key.to_owned(),
        old_hash: digests.old.map(|d| d.to_string()),
        new_hash: digests.new.map(|d| d.to_string()),
        ts_ms: 12,
    };
    let told: Vec<_> = recording.mutation.lock().iter().map(|e| e.event.clone()).collect();
    let expected = [
        event(scope, op, "facts:1", digests),
        event(MutationScope::MemoryFile, MutationOp::Update, "a/b.md", Digests::default()),
        event(MutationScope::Git, MutationOp::Insert, "HEAD", Digests::default()),
    ];
    assert_eq!(told, expected);
}

/// Would catch: a name that becomes another subject, a panic in somebody's write, or a name that is
/// dropped without a trace.
#[test]
fn names_that_are_none_are_counted_and_make_no_event() {
    let (recording, hook) = hook();
    let long = "a".repeat(1 << 20);
    let bad = ["", "Ana", "a.b", "a b", "*", ">", "../x", "_all", "é", "a\0", &long];
    for name in bad {
        hook.on_mutation_named(name, "acme", MutationScope::Git, MutationOp::Insert, "k");
        hook.on_mutation_named("ana", name, MutationScope::Git, MutationOp::Insert, "k");
        assert!(name.parse::<AgentId>().is_err());
    }
    assert_eq!(hook.refused(), 2 * bad.len() as u64);
    assert!(recording.mutation.lock().is_empty());
}

/// Would catch: a key of any length that waits in a queue, or one at the limit that is shortened.
#[test]
fn a_key_is_bounded() {
    let (recording, hook) = hook();
    for length in [MAX_KEY_BYTES, MAX_KEY_BYTES + 1, 1 << 20] {
        let key = "k".repeat(length);
        let tenant = Tenant::default();
        hook.on_mutation(&ana(), &tenant, MutationScope::Git, MutationOp::Insert, &key);
    }
    let keys: Vec<_> = recording.mutation.lock().iter().map(|e| e.event.key.clone()).collect();
    let lengths: Vec<_> = keys.iter().map(String::len).collect();
    assert_eq!(lengths, [MAX_KEY_BYTES, MAX_KEY_BYTES + 65, MAX_KEY_BYTES + 65]);
    assert_ne!(keys[1], keys[2]);
}
