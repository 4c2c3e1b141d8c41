//! A runtime's hooks: the automatic snapshot, its label and origin, and who decides.

use std::sync::Arc;

use nexo_memory_snapshot::config::MemorySnapshotConfig;
use nexo_memory_snapshot::error::ErrorKind;
use nexo_memory_snapshot::local_fs::LocalFsSnapshotter;
use nexo_memory_snapshot::snapshotter::MemorySnapshotter;
use nexo_memory_snapshot::{AutoSnapshots, PreDreamSnapshotAdapter};

use crate::support::{Home, ana};

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn snapshotter(home: &Home) -> Arc<dyn MemorySnapshotter> {
    Arc::new(LocalFsSnapshotter::from(home.engine()))
}

/// Would catch: a label that operators do not find, an origin that shares the budget of others, or a
/// run whose name makes its snapshot fail.
#[test]
fn a_dream_and_a_tool_are_preceded_by_a_snapshot_of_their_name() {
    let home = Home::new();
    let dream = PreDreamSnapshotAdapter::new(snapshotter(&home));
    let taken = run(dream.snapshot_before_dream("ana", "default", "88")).unwrap().unwrap();
    assert_eq!(taken.label.as_deref(), Some("auto:pre-dream-88"));
    assert_eq!(taken.created_by.unwrap().as_str(), "auto-pre-dream");

    let hostile = format!("forget\n\u{1b}[31m{}", "ä".repeat(300));
    let taken = run(dream.snapshot_before_tool("ana", "default", &hostile)).unwrap().unwrap();
    let label = taken.label.unwrap();
    assert!(label.starts_with("auto:pre-tool-forget__[31mää"), "{label}");
    assert!(label.len() <= 256, "{}", label.len());
    assert_eq!(taken.created_by.unwrap().as_str(), "auto-pre-mutating-tool");

    for (agent, tenant) in [("../ana", "default"), ("ana", "A B")] {
        let refused = run(dream.snapshot_before_dream(agent, tenant, "1")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Usage, "{refused}");
    }
}

/// Would catch: automatic snapshots that ship what the configuration wants redacted.
#[test]
fn redaction_is_asked_for_automatic_ones_too() {
    let home = Home::new();
    let text = "memory: { snapshot: { auto_pre_dream: true, redact_secrets_default: true } }";
    let path = std::path::Path::new("/etc/nexo/memory.yaml");
    let config = Arc::new(MemorySnapshotConfig::parse(text, path, &|_| None).unwrap());
    let auto = AutoSnapshots::configured(snapshotter(&home), config);
    let taken = run(auto.snapshot_before_dream("ana", "default", "1")).unwrap().unwrap();
    assert!(taken.redactions_applied);
}

/// Would catch: a switch that is not asked, one agent's that counts for another, or `enabled: false`
/// that is not heard.
#[test]
fn the_configuration_decides_for_whom() {
    let home = Home::new();
    home.add_agent("bob");
    let parse = |enabled: bool| {
        let text = format!(
            "memory: {{ snapshot: {{ enabled: {enabled}, auto_pre_dream: true, agents: {{ bob: \
             {{ auto_pre_dream: false, auto_pre_mutating_tool: true }} }} }} }}"
        );
        let path = std::path::Path::new("/etc/nexo/memory.yaml");
        Arc::new(MemorySnapshotConfig::parse(&text, path, &|_| None).unwrap())
    };
    let taken = |enabled, agent: &str| {
        let auto = AutoSnapshots::configured(snapshotter(&home), parse(enabled));
        let dream = run(auto.snapshot_before_dream(agent, "default", "1")).unwrap();
        let tool = run(auto.snapshot_before_tool(agent, "default", "forget")).unwrap();
        (dream.is_some(), tool.is_some())
    };
    assert_eq!(taken(true, ana().as_str()), (true, false));
    assert_eq!(taken(true, "bob"), (false, true));
    assert_eq!(taken(false, ana().as_str()), (false, false));
    assert_eq!(taken(false, "bob"), (false, false));
}
