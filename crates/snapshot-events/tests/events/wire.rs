//! The wire: every event against its golden, and subjects for any agent.

use std::path::Path;

use proptest::prelude::*;
use snapshot_core::{AgentId, Tenant};
use snapshot_events::{Envelope, LifecycleEvent, MutationEvent, MutationOp, MutationScope};

/// Would catch: a field or spelling that subscribers parse already and that changed.
#[test]
fn goldens_are_read_back_as_they_are() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/wire");
    let golden = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let same = |text: &str, back: serde_json::Value| {
        assert_eq!(serde_json::from_str::<serde_json::Value>(text).unwrap(), back);
    };
    let lifecycle = [
        ("created", "event_created.json"),
        ("created", "event_created_encrypted.json"),
        ("restored", "event_restored.json"),
        ("restored", "event_restored_encrypted.json"),
        ("deleted", "event_deleted.json"),
        ("gc", "event_gc.json"),
    ];
    for (kind, name) in lifecycle {
        let text = golden(name);
        let event: Envelope<LifecycleEvent> = serde_json::from_str(&text).unwrap();
        assert!(event.event.subject().ends_with(kind));
        same(&text, serde_json::to_value(&event).unwrap());
    }
    for name in ["event_mutation.json", "event_mutation_hashes.json"] {
        let text = golden(name);
        let event: Envelope<MutationEvent> = serde_json::from_str(&text).unwrap();
        same(&text, serde_json::to_value(&event).unwrap());
    }
}

/// Would catch: a spelling of a scope or an operation that subscribers do not know.
#[test]
fn scopes_and_operations_are_spelled_as_documented() {
    let text = |value: serde_json::Value| value.as_str().unwrap().to_owned();
    let scopes = [
        (MutationScope::SqliteLongTerm, "sqlite_long_term"),
        (MutationScope::SqliteVector, "sqlite_vector"),
        (MutationScope::SqliteConcepts, "sqlite_concepts"),
        (MutationScope::SqliteCompactions, "sqlite_compactions"),
        (MutationScope::Git, "git"),
        (MutationScope::MemoryFile, "memory_file"),
    ];
    for (scope, spelled) in scopes {
        assert_eq!(text(serde_json::to_value(scope).unwrap()), spelled);
    }
    let ops = [
        (MutationOp::Insert, "insert"),
        (MutationOp::Update, "update"),
        (MutationOp::Delete, "delete"),
    ];
    for (op, spelled) in ops {
        assert_eq!(text(serde_json::to_value(op).unwrap()), spelled);
    }
}

proptest! {
    /// Would catch: an agent whose subject has another number of tokens, or that is read back as
    /// another event.
    #[test]
    fn any_agent_has_one_token_and_any_key_comes_back(
        agent in "[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?",
        key in any::<String>(),
        ts_ms in any::<i64>(),
    ) {
        let event = MutationEvent {
            agent_id: agent.parse::<AgentId>().unwrap(),
            tenant: Tenant::default(),
            scope: MutationScope::Git,
            op: MutationOp::Update,
            key,
            old_hash: None,
            new_hash: Some("x".to_owned()),
            ts_ms,
        };
        prop_assert_eq!(event.subject_with_prefix("p.q").split('.').count(), 3);
        let envelope = Envelope::new(event);
        let text = serde_json::to_string(&envelope).unwrap();
        prop_assert_eq!(serde_json::from_str::<Envelope<MutationEvent>>(&text).unwrap(), envelope);
    }
}
